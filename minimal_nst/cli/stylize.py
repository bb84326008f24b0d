"""``minimal-nst stylize``: paint a content picture in the style of one or more others."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, RunError
from ..settings import Settings
from .config import PICTURES, dump, read_config
from .endings import Endings
from .options import FIELDS, INSTEAD, add_options, refuse_idle
from .output import NOTHING_PAINTED, PROGRAM, count, fail, say

if TYPE_CHECKING:
    import numpy as np

    from ..optimize import Progress
    from ..pipeline import Painting

SETTINGS = {field.name for field in dataclasses.fields(Settings)}

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
    pictures = parser.add_argument_group("pictures")
    pictures.add_argument(
        "content",
        metavar="CONTENT",
        nargs="?",
        help="picture to paint (PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF, HEIC)",
    )
    pictures.add_argument(
        "styles", metavar="STYLE", nargs="*", help="picture in the style wanted, or folder of such"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file of options; those typed beside it win"
    )
    parser.add_argument(
        "--dump-config", action="store_true", help="print what would be done as such a file"
    )
    add_options(parser)
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Paint as the options say; return the exit code."""
    typed = {name: value for name, value in vars(args).items() if name in FIELDS}
    typed |= {name: value for name in PICTURES if (value := getattr(args, name)) not in (None, [])}
    args.filed = set(FIELDS)  # what messages call by the names in a file, and not as options
    filed = read_config(args.config) if args.config else {}
    for alike in INSTEAD:
        if alike & set(typed):
            filed = {name: value for name, value in filed.items() if name not in alike}
    given = {**filed, **typed}
    args.filed = set(given) - set(typed)
    changes = {name: value for name, value in given.items() if name in SETTINGS}
    if not INSTEAD[0] & set(changes) and changes.get("scales", "auto") != "auto":
        changes["size"] = changes["scales"][-1]
    settings = Settings.preset(given.get("preset", FIELDS["preset"].default), **changes)
    refuse_idle(set(typed), settings)
    if args.dump_config:
        say("\n".join(dump(given, settings)), sys.stdout)
        return 0
    needed = {"content": "CONTENT", "styles": "STYLE", "output": "-o/--output"}
    if missing := [what for name, what in needed.items() if name not in given]:
        args.parser.error(f"the following arguments are required: {', '.join(missing)}")
    return paint(
        given["content"],
        given["styles"],
        given["output"],
        settings,
        given.get("quiet", False),
        args.after,
    )


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
    from ..sizes import settle
    from ..weights import find_weights
    from .progress import Bar

    inputs: list[Any] = [content, settings.init, find_weights(settings.weights)]
    inputs += [picture for style in styles for picture in images.folder(style)]
    target = images.check_output(output, inputs)
    settings = settle(settings, content)
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
