"""``minimal-nst stylize``: paint a content picture in the style of one or more others."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, RunError, UsageError
from ..presets import PRESETS
from ..settings import Settings, parse_layers, parse_scales, problem
from .endings import Endings
from .output import NOTHING_PAINTED, PROGRAM, count, fail, say

if TYPE_CHECKING:
    import numpy as np

    from ..optimize import Progress
    from ..pipeline import Painting

KINDS: dict[str, type] = {"int": int, "float": float}

IDLE: dict[str, tuple[Callable[[Settings], bool], str]] = {
    "learning_rate": (
        lambda s: s.optimizer != "adam",
        "L-BFGS finds its own steps (add --optimizer adam)",
    ),
    "seed": (
        lambda s: s.init != "noise" and s.noise_ratio == 0,
        "the start has no noise (add --init noise, or --noise-ratio 0.2)",
    ),
    "noise_ratio": (lambda s: s.init == "noise", "--init noise starts from nothing but noise"),
    "threads": (lambda s: s.conv == "im2col", "it is for --conv winograd"),
    "content_layers": (lambda s: s.content_weight == 0, "--content-weight is 0"),
    "content_form": (lambda s: s.content_weight == 0, "--content-weight is 0"),
    "style_layers": (lambda s: s.style_weight == 0, "--style-weight is 0"),
    "style_form": (lambda s: s.style_weight == 0, "--style-weight is 0"),
    "tv_form": (lambda s: s.tv_weight == 0, "--tv-weight is 0"),
    "colors": (
        lambda s: s.style_weight == 0 and s.colors in ("cholesky", "pca"),
        "--style-weight is 0",
    ),
}
"""Option -> when it would be given in vain, and why."""

EPILOG = """\
examples:
  minimal-nst stylize castle.jpg starry_night.jpg -o painting.png
  minimal-nst stylize castle.jpg starry_night.jpg -o painting.png --size 512 --style-weight 5e3
  minimal-nst stylize castle.jpg monet.jpg seurat.jpg -o mix.png --preset course

A painting that is already at OUT is replaced. Ctrl-C ends the work and keeps the best so far.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand and an option for every field of `Settings`."""
    parser = commands.add_parser(
        "stylize",
        help="paint a content picture in the style of others",
        description="Paint a content picture in the style of one or more other pictures.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "content",
        metavar="CONTENT",
        help="picture to paint (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, HEIC)",
    )
    parser.add_argument("styles", metavar="STYLE", nargs="+", help="picture in the style wanted")
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="painting: .png, .jpg, .webp or .tiff"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default=next(iter(PRESETS)),
        help="published program to follow, in which other defaults hold than those below [%(default)s]",
    )
    for field in dataclasses.fields(Settings):
        add_option(parser, field)
    parser.set_defaults(run=run, parser=parser)


def add_option(parser: argparse.ArgumentParser, field: dataclasses.Field[Any]) -> None:
    """Add the option of one field: its name, type, choices, help and default are the field's."""
    default = "" if field.default is None else f" [{format_value(field.default)}]"
    kind = KINDS.get(str(field.type).partition(" ")[0], str)
    options: dict[str, Any] = {"metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
    if "choices" in field.metadata:
        options = {"choices": field.metadata["choices"]}

    def read(text: str) -> Any:
        """Read what was typed, or say what it must be instead."""
        try:
            if field.name.endswith("_layers"):
                return parse_layers(text)
            if field.name == "scales":
                return parse_scales(text)
            value = kind(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            value = text
        if (wrong := problem(field, value)) and "choices" not in field.metadata:
            raise argparse.ArgumentTypeError(f"'{text}' cannot be used; {wrong}")
        return value

    flag = f"--{field.name.replace('_', '-')}"
    if field.type == "bool":
        help_text = field.metadata["help"]
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=help_text)
        return
    parser.add_argument(
        flag,
        type=read,
        default=argparse.SUPPRESS,
        help=field.metadata["help"].replace("%", "%%") + default,
        **options,
    )


def format_value(value: Any) -> str:
    """Write a field's value as its option takes it."""
    if isinstance(value, tuple) and isinstance(value[0], int):
        return ",".join(map(str, value))
    if isinstance(value, tuple):
        return ",".join(name if weight == 1 else f"{name}:{weight:g}" for name, weight in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def run(args: argparse.Namespace) -> int:
    """Paint as the options say; return the exit code."""
    names = {field.name for field in dataclasses.fields(Settings)}
    changes = {name: value for name, value in vars(args).items() if name in names}
    if "size" not in changes and changes.get("scales", "auto") != "auto":
        changes["size"] = changes["scales"][-1]
    settings = Settings.preset(args.preset, **changes)
    for name in changes:
        if name in IDLE and IDLE[name][0](settings):
            raise UsageError(f"--{name.replace('_', '-')} does nothing here: {IDLE[name][1]}")
    return paint(args.content, args.styles, args.output, settings, args.quiet, args.after)


def paint(
    content: str,
    styles: list[str],
    output: str,
    settings: Settings,
    quiet: bool,
    after: Any = None,
) -> int:
    """Check the output, paint, save, say so; return the exit code.

    Whatever ends the work, the best picture is saved if a step has lowered the loss; otherwise
    what is at the output stays. `after` is the signals' handler when all is done.
    """
    from .. import images
    from ..pipeline import stylize
    from ..weights import find_weights
    from .progress import Bar

    inputs: list[Any] = [content, *styles, settings.init, find_weights(settings.weights)]
    target = images.check_output(output, inputs)
    start = time.monotonic()
    with Endings(after) as endings:
        try:
            with Bar(settings.iterations * len(settings.sizes), quiet) as bar:

                def callback(progress: Progress) -> None:
                    endings.painted = True
                    bar.update(progress)

                painting = stylize(content, styles, settings, callback, endings.asked)
        except BaseException as error:
            best: Painting | None = getattr(error, "painting", None)
            if best is not None and best.lowered:
                save_somewhere(best.image, target)
                say(f"{PROGRAM}: the best picture so far is kept in {target}", sys.stderr)
            raise
        if not painting.lowered:
            if endings.asked():
                return fail(NOTHING_PAINTED, endings.exit_code)
            because = painting.stopped_because
            raise RunError(f"no step lowered the loss ({because}); {target} is not written")
        save_somewhere(painting.image, target)
        if not quiet:
            scales = [*painting.coarser, painting]
            iterations = sum(scale.iterations for scale in scales)
            evaluations = sum(scale.evaluations for scale in scales)
            at = f" at {count(len(scales), 'scale')}" if len(scales) > 1 else ""
            say(
                f"{target}: loss {painting.loss:.4g} after {count(iterations, 'iteration')}{at} "
                f"({count(evaluations, 'evaluation')}, {time.monotonic() - start:.0f} s, "
                f"{painting.device}); stopped because {painting.stopped_because}",
                sys.stdout,
            )
        return endings.exit_code if endings.asked() else 0


def save_somewhere(image: np.ndarray, target: Path) -> None:
    """Save the painting; if the place has become unusable meanwhile, to the temporary folder."""
    from .. import images

    try:
        images.save(image, target)
    except FileError as error:
        refuge = Path(tempfile.mkdtemp(prefix="minimal_nst-")) / f"painting{target.suffix}"
        try:
            images.save(image, refuge)
        except FileError as second:
            refuge.parent.rmdir()
            raise FileError(f"{error}; nor in the temporary folder: {second}") from error
        raise FileError(f"{error}; the painting is kept in {refuge}") from error
