"""``minimal-nst reconstruct``: what layers know of a picture; and the paper's Figure 1."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import RunError, UsageError
from ..settings import Settings
from .endings import Endings
from .options import FIELDS, Output, add_option, add_options, flag, refuse_idle
from .output import NOTHING_PAINTED, PROGRAM, fail, say
from .paint import paint, save_somewhere
from .plan import add_dry_run

if TYPE_CHECKING:
    from ..pipeline import Painting, PaintingProgress

LAYERS = ("content_layers", "style_layers")

LEFT_OUT = {
    *("preset", "content_masks", "style_masks", "mask_reach", "init", "noise_ratio"),
    *("style_size", "style_scale", "style_blend_weights", "style_weight"),
    *("content_weight", "range_weight", "colors"),
}
"""Options of `stylize` that mean nothing with one picture, one loss and a start from noise."""

OF_ONE = {"save_every", "preview", "log", "checkpoint", "no_alpha", "no_metadata", "dry_run"}
"""Options that Figure 1, of which there are ten paintings, does not have."""

SMALL = {"size": 192, "iterations": 200}
"""Defaults of Figure 1, that it takes minutes."""

EPILOG = """\
examples:
  minimal-nst reconstruct castle.jpg -o castle4.png --content-layers relu4_2
  minimal-nst reconstruct starry_night.jpg -o texture.png --style-layers relu1_1,relu2_1,relu3_1
  minimal-nst reconstruct castle.jpg -o figure1.png --figure1
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand, with the options of `stylize` that it has."""
    parser = commands.add_parser(
        "reconstruct",
        help="rebuild a picture from what some layers know of it",
        description="Rebuild a picture from its features at some layers (--content-layers), or "
        "paint a texture that has its Gram matrices (--style-layers), starting from noise.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("picture", metavar="PICTURE")
    what = parser.add_argument_group("what is known of it, one of these")
    one = what.add_mutually_exclusive_group(required=True)
    for name in LAYERS:
        add_option(one, FIELDS[name], with_default=False)
    small = " ".join(f"{flag(name)} {value}" for name, value in SMALL.items())
    one.add_argument(
        "--figure1",
        action="store_true",
        help=f"ten reconstructions on one sheet, as in the paper's Figure 1 [{small}]",
    )
    add_dry_run(parser)
    add_options(parser, FIELDS.keys() - LAYERS - LEFT_OUT)
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Reconstruct; return the exit code."""
    from ..reconstruction import by_one_loss

    given = {name: value for name, value in vars(args).items() if name in FIELDS}
    layers = {name: given.pop(name, None) for name in LAYERS}
    fields = {field.name for field in dataclasses.fields(Output)} & set(given)
    output = Output(**{name: given.pop(name) for name in fields})
    if output.output is None:
        args.parser.error("the following arguments are required: -o/--output")
    if not args.figure1:
        settings = by_one_loss(Settings(**{"init": "noise", **given}), **layers)
        refuse_idle(set(given), settings)
        if settings.style_taps:  # a texture, in which everything may be anywhere
            output = replace(output, no_alpha=True)
        pictures = args.picture, [args.picture]
        return paint(*pictures, settings, output, after=args.after, dry_run=args.dry_run)
    asked = {*fields, "dry_run"} if args.dry_run else fields
    if taken := sorted(OF_ONE & asked):
        raise UsageError(f"{flag(taken[0])} does nothing here: --figure1 is a sheet")
    settings = Settings(**{"init": "noise", **SMALL, **given})
    refuse_idle(set(given), settings)
    return figure1(args.picture, settings, output, args.after)


def figure1(picture: str, settings: Settings, output: Output, after: Any) -> int:
    """Paint the ten, and save the sheet after each; return the exit code."""
    from .. import images, saving
    from ..pipeline import stylize
    from ..reconstruction import figure_1
    from ..sizes import settle
    from ..weights import find_weights
    from .progress import Bar
    from .sheet import Sheet

    target = saving.check_output(str(output.output), [picture, find_weights(settings.weights)])
    settings = settle(settings, picture)
    sheet = Sheet(images.load(picture, settings.longer, resampling=settings.resampling))
    runs = list(figure_1(settings))
    start, painted, done, left = time.monotonic(), 0, 0, len(runs)

    def keep(painting: Painting | None, row: str, layers: str) -> None:
        nonlocal painted
        if painting is not None and painting.lowered:
            sheet.add(row, layers, painting.image)
            save_somewhere(lambda _, path: saving.save(sheet.array, path), painting, target)
            painted += 1

    with Endings(after) as endings, Bar(len(runs) * settings.iterations, output.quiet) as bar:

        def callback(progress: PaintingProgress) -> None:
            endings.painted = True
            total = done + progress.iterations * left
            bar.update(replace(progress, iteration=done + progress.iteration, iterations=total))

        for row, layers, its in runs:
            if settings.max_seconds is not None:  # those that are left share what is left
                seconds = settings.max_seconds - (time.monotonic() - start)
                its = replace(its, max_seconds=max(seconds / left, 1e-3))
            try:
                painting = stylize(picture, [picture], its, callback, endings.asked)
            except BaseException as error:
                keep(getattr(error, "painting", None), row, layers)
                if painted:
                    say(f"{PROGRAM}: the sheet so far is kept in {target}", sys.stderr)
                raise
            keep(painting, row, layers)
            done, left = done + painting.iterations, left - 1
            if endings.asked():
                break
        if not painted:
            if endings.asked():
                return fail(NOTHING_PAINTED, endings.exit_code)
            raise RunError(f"no step lowered a loss; {target} is not written")
    if not output.quiet:
        seconds = time.monotonic() - start
        say(f"{target}: {painted} of {len(runs)} reconstructions ({seconds:.0f} s)", sys.stdout)
    return endings.exit_code if endings.asked() else 0
