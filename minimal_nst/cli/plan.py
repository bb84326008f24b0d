"""``--dry-run``: what would be painted, and what it would take."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..settings import Settings
from .output import count, say

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint
    from ..pipeline import PaintingProgress

MEASURED = 4
"""Iterations that are timed."""


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Add the option that asks for a plan, and for nothing else."""
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say how large it would be, how much memory and time it would take, and paint nothing",
    )


def plan(
    content: str,
    styles: list[str],
    settings: Settings,
    masks: dict[str, Any],
    target: Path,
    checkpoint: Checkpoint | None,
) -> None:
    """Print the pictures' sizes, memory, time, and what would be written; a line each."""
    from .. import images, memory
    from ..backend import Workers, select
    from ..pipeline import default_optimizer
    from ..sizes import style_size

    backend, threads = select(settings.device), Workers(settings.threads).threads
    shape = images.measure(content, settings.longer)
    seen = [images.measure(style, *style_size(settings)) for style in styles]
    line("content", f"{content}, {sides(images.measure(content))}, painted at {sides(shape)}")
    for style, at in zip(styles, seen, strict=True) if settings.style_taps else ():
        line("style", f"{style}, {sides(images.measure(style))}, seen at {sides(at)}")
    if len(settings.sizes) > 1:
        line("scales", ", ".join(map(str, settings.sizes)))
    each = " at each scale" if len(settings.sizes) > 1 else ""
    optimizer = settings.optimizer or default_optimizer(backend)
    line("optimizer", f"{optimizer}, {count(settings.iterations, 'iteration')}{each}")
    line("device", f"{backend.name}, {count(threads, 'thread')}")
    card = backend.free()
    run = settings, shape, seen, threads, bool(masks)
    need = memory.needed(*run, card is not None)
    free = memory.available() if card is None else card
    of = "" if free is None else f", of {free / 1e9:.3g} GB that are free"
    line("memory", f"about {need / 1e9:.3g} GB{of}")
    if settings.strips > 1:
        line("strips", strips_of(shape, settings))
    memory.check(*run, card)  # all of it: what is timed remembers fewer steps
    seconds = seconds_of_evaluation(content, styles, settings, masks, MEASURED)
    whole = settings.iterations * seconds
    of_scales = [whole * (size / settings.longer) ** 2 for size in settings.sizes]
    most = "" if settings.max_seconds is None else f", at most {duration(settings.max_seconds)}"
    line("time", f"about {duration(sum(of_scales))}{most}; {seconds:.3g} s an evaluation")
    line("output", f"{target}{', which is there and would be replaced' if target.exists() else ''}")
    if checkpoint is not None and checkpoint.iterations:
        done = count(checkpoint.iterations, "iteration")
        line("checkpoint", f"{done} of {settings.iterations * len(settings.sizes)} are done")


def seconds_of_evaluation(
    content: Any, styles: Any, settings: Settings, masks: dict[str, Any], iterations: int
) -> float:
    """Paint for some iterations, and keep nothing; return the median, with the optimiser's share."""
    from ..pipeline import stylize

    moments: list[tuple[float, int]] = []

    def note(progress: PaintingProgress) -> None:
        moments.append((time.perf_counter(), progress.evaluations))

    few = replace(settings, scales=None, iterations=iterations, tolerance=0.0, max_seconds=None)
    painting = stylize(content, styles, few, note, **masks)
    if len(moments) < 2:
        raise RunError(f"nothing would be painted: {painting.stopped_because}")
    return median(
        (end - start) / (more - evaluations)
        for (start, evaluations), (end, more) in pairwise(moments)
    )


def strips_of(shape: tuple[int, int], settings: Settings) -> str:
    """How many strips there would be, and if they are fewer than were asked for, why."""
    from ..architecture import canvas
    from ..strips import cut

    (above, below), _ = canvas(*shape, settings.margin)
    taps = {**settings.content_taps, **settings.style_taps}
    number = len(cut(above + shape[0] + below, settings.strips, taps))
    asked = settings.strips
    return f"{number}; it is too low for {asked}" if number < asked else str(number)


def line(what: str, text: str) -> None:
    """Print it in its column."""
    say(f"{what:<11}{text}", sys.stdout)


def sides(shape: tuple[int, int]) -> str:
    """(341, 512) -> '512 x 341'."""
    return f"{shape[1]} x {shape[0]}"


def duration(seconds: float) -> str:
    """'50 s', '5.5 min', '2.3 h'."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
