"""``minimal-nst bench``: how long a painting takes here, and how much memory."""

from __future__ import annotations

import argparse
import platform
import sys
from typing import Any

from ..resources import CASTLE, STARRY_NIGHT
from ..settings import Settings
from .options import FIELDS, add_options, refuse_idle
from .output import count, say
from .plan import seconds_of_evaluation, sides

MEASURED = 8
"""Iterations that are timed, at each size."""

CHOICES = {
    *("optimizer", "history", "device", "threads", "strips", "conv", "dtype", "precision"),
    *("weights", "force"),
}
"""Options of `stylize` that time and memory depend on, besides the size."""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "bench",
        help="say how long a painting takes on this machine",
        description=f"Paint the demo's pair for {MEASURED} iterations at each size, and say how long "
        f"and with how much memory a painting of {FIELDS['iterations'].default} would take.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sizes",
        type=read_sizes,
        default=(128, 256, 512, 1024),
        metavar="N,...",
        help="longer sides of the paintings [128,256,512,1024]",
    )
    add_options(parser, CHOICES)
    parser.set_defaults(run=run, parser=parser, filed={"size"})  # which is an option of others


def read_sizes(text: str) -> tuple[int, ...]:
    """'256,512' -> (256, 512); whether they can be painted, `Settings` says."""
    try:
        return tuple(map(int, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"'{text}' cannot be used; write sizes such as 256,512"
        ) from None


def run(args: argparse.Namespace) -> int:
    """Print a row for each size; return the exit code."""
    given = {name: value for name, value in vars(args).items() if name in CHOICES}
    runs = [Settings(**given, size=size) for size in args.sizes]
    refuse_idle(set(given), runs[0])
    for number, settings in enumerate(runs):
        row(settings, with_head=number == 0)
    return 0


def row(settings: Settings, with_head: bool) -> None:
    """Print what a painting takes, below what it is painted by."""
    from .. import images, memory
    from ..vgg import VGG19
    from ..weights import load_weights

    vgg = VGG19(load_weights(settings.weights), device=settings.device, threads=settings.threads)
    if with_head:
        threads = count(vgg.workers.threads, "thread")
        say(f"{platform.machine()}, {threads}, {vgg.backend.name}", sys.stdout)
        iterations = count(settings.iterations, "iteration")
        say(f"{'size':>11} {'evaluation':>12} {iterations:>16} {'memory':>11}", sys.stdout)
    shape = images.measure(CASTLE, settings.longer)
    seen = shape, [images.measure(STARRY_NIGHT, settings.longer)], vgg.workers.threads
    card = vgg.backend.free()
    memory.check(settings, *seen, card=card)
    need = f"{memory.needed(settings, *seen, gpu=card is not None) / 2**20:.0f} MiB"
    seconds = seconds_of_evaluation(CASTLE, STARRY_NIGHT, settings, {}, MEASURED)
    minutes = f"{settings.iterations * seconds / 60:.1f} min"
    say(f"{sides(shape):>11} {seconds:10.3f} s {minutes:>16} {need:>11}", sys.stdout)
