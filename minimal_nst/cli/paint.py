"""Paint, and lose nothing on the way: what stylize, demo and the exercises have in common."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, RunError, UsageError
from ..settings import Settings
from .endings import Endings
from .options import Output
from .output import NOTHING_PAINTED, PROGRAM, count, fail, say, warn
from .plan import plan

if TYPE_CHECKING:
    import numpy as np

    from ..checkpoint import Checkpoint
    from ..pipeline import Painting, PaintingProgress


def paint(
    content: str,
    styles: list[str],
    settings: Settings,
    output: Output,
    before: dict[str, Any] | None = None,
    after: Any = None,
    dry_run: bool = False,
) -> int:
    """Check the output, paint, save, say so; return the exit code.

    Whatever ends the work, the best picture is saved if a step has lowered the loss; otherwise
    what is at the output stays. `before` is the record of a painting that is repeated; `after` is
    the signals' handler when all is done. A `dry_run` ends where the work would begin, with a plan.
    """
    from .. import record, saving
    from ..inputs import gather
    from ..pipeline import stylize
    from ..sizes import settle
    from ..weights import find_weights
    from .progress import Bar
    from .watch import Watch

    styles, shares = gather(styles, settings.style_blend_weights)
    inputs: list[Any] = [content, *styles, settings.init, find_weights(settings.weights)]
    masks: dict[str, Any] = output.masks
    inputs += [path for paths in masks.values() for path in paths]
    target = saving.check_output(str(output.output), inputs)
    settings = replace(settle(settings, content), style_blend_weights=shares)
    opacity = None if output.no_alpha else opacity_of(content, settings.longer, target)
    made = record.of_inputs(content, styles, settings, output.preset, masks)
    for difference in record.differences(before, made) if before else ():
        warn(f"it may not come out the same: {difference}")

    def save(painting: Painting, path: Path) -> None:
        text = "" if output.no_metadata else record.finished(made, painting)
        saving.save(painting.image, path, opacity, text)

    checkpoint = begun_at(output.checkpoint, inputs, made, settings)
    watch = Watch(output, target, inputs, save, settings.sizes, checkpoint)
    if dry_run:
        plan(content, styles, settings, masks, target, checkpoint)
        return 0
    done = 0 if checkpoint is None else checkpoint.iterations
    if done and not output.quiet:
        so_far = count(done, "iteration")
        say(f"{PROGRAM}: {output.checkpoint}: it goes on after {so_far}", sys.stderr)
    start = time.monotonic()
    with Endings(after) as endings:
        try:
            with Bar(settings.iterations * len(settings.sizes), output.quiet, done) as bar:

                def callback(progress: PaintingProgress) -> None:
                    endings.painted = True
                    bar.update(progress)
                    watch.update(progress)

                painting = stylize(
                    content,
                    styles,
                    settings,
                    callback,
                    endings.asked,
                    **masks,
                    checkpoint=checkpoint,
                )
        except BaseException as error:
            best: Painting | None = getattr(error, "painting", None)
            watch.finish(best)
            if best is not None and best.lowered:
                save_somewhere(save, best, target)
                say(f"{PROGRAM}: the best picture so far is kept in {target}", sys.stderr)
            raise
        watch.finish(painting)
        if not painting.lowered:
            if endings.asked():
                return fail(NOTHING_PAINTED, endings.exit_code)
            because = painting.stopped_because
            raise RunError(f"no step lowered the loss ({because}); {target} is not written")
        save_somewhere(save, painting, target)
        if not output.quiet:
            say(f"{target}: {summary(painting, time.monotonic() - start)}", sys.stdout)
        return endings.exit_code if endings.asked() else 0


def begun_at(
    place: str | None, inputs: list[Any], made: dict[str, Any], settings: Settings
) -> Checkpoint | None:
    """The checkpoint there, if it is of this painting; a new one if there is none there."""
    from .. import record, saving
    from ..backend import select
    from ..checkpoint import Checkpoint

    if place is None:
        return None
    path = saving.check_place(place, inputs)
    if not path.exists():
        return Checkpoint(made=made)
    checkpoint = Checkpoint.load(path)
    if others := record.other_files(checkpoint.made, made):
        raise UsageError(f"{path} was begun with another {others[0]}; choose another --checkpoint")
    checkpoint.begin(settings, select(settings.device))
    return checkpoint


def opacity_of(content: str, size: int, target: Path) -> np.ndarray | None:
    """How opaque the content is where it is painted; a JPEG, which cannot be so, is told of."""
    from .. import images

    opacity = images.opacity(content, *images.measure(content, size))
    if opacity is not None and target.suffix.lower() in (".jpg", ".jpeg"):
        warn(f"{target}: a JPEG is nowhere transparent, as {content} is; use .png or .webp")
    return opacity


def save_somewhere(
    save: Callable[[Painting, Path], None], painting: Painting, target: Path
) -> None:
    """Save the painting; if the place has become unusable meanwhile, to the temporary folder."""
    try:
        save(painting, target)
    except FileError as error:
        refuge = Path(tempfile.mkdtemp(prefix="minimal_nst-")) / f"painting{target.suffix}"
        try:
            save(painting, refuge)
        except FileError as second:
            refuge.parent.rmdir()
            raise FileError(f"{error}; nor in the temporary folder: {second}") from error
        raise FileError(f"{error}; the painting is kept in {refuge}") from error


def summary(painting: Painting, seconds: float) -> str:
    """The last line: how far it came, what it took, and why it ended."""
    scales = [*painting.coarser, painting]
    iterations = count(sum(scale.iterations for scale in scales), "iteration")
    evaluations = count(sum(scale.evaluations for scale in scales), "evaluation")
    at = f" at {count(len(scales), 'scale')}" if len(scales) > 1 else ""
    return (
        f"loss {painting.loss:.4g} after {iterations}{at} ({evaluations}, {seconds:.0f} s, "
        f"{painting.device}); stopped because {painting.stopped_because}"
    )
