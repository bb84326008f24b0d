"""``minimal-nst stylize``: paint a content picture in the style of one or more others."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import FileError, NSTWarning, RunError, UsageError
from ..settings import Settings
from .config import PICTURES, dump, read_config, read_value
from .endings import Endings
from .options import FIELDS, INSTEAD, Output, add_options, refuse_idle
from .output import NOTHING_PAINTED, PROGRAM, count, fail, say

if TYPE_CHECKING:
    from ..optimize import Progress
    from ..pipeline import Painting

OUTPUT = {field.name for field in dataclasses.fields(Output)}
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
        "--from",
        metavar="PAINTING",
        dest="repeat",
        help="repeat how that was painted; what is typed, or in a file of options, wins",
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
    before = None
    if args.repeat is not None:
        if "preset" in {**filed, **typed}:
            raise UsageError("a preset and --from both say what is painted; leave one of them out")
        before, recorded = read_record(args.repeat, typed.get("init", filed.get("init")))
        filed = {**recorded, **filed}
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
    output = Output(**{name: given[name] for name in OUTPUT if name in given})
    return paint(given["content"], given["styles"], settings, output, before, args.after)


def read_record(painting: str, init: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a painting's record, and what it asks for as a file of options would."""
    from .. import record

    before = record.read(painting)
    asked = {"preset": before.get("preset"), **record.to_repeat(before, painting, init)}
    return before, {name: read_value(painting, name, value) for name, value in asked.items()}


def paint(
    content: str,
    styles: list[str],
    settings: Settings,
    output: Output,
    before: dict[str, Any] | None = None,
    after: Any = None,
) -> int:
    """Check the output, paint, save, say so; return the exit code.

    Whatever ends the work, the best picture is saved if a step has lowered the loss; otherwise
    what is at the output stays. `before` is the record of a painting that is repeated; `after` is
    the signals' handler when all is done.
    """
    from .. import images, record
    from ..pipeline import gather, stylize
    from ..sizes import settle
    from ..weights import find_weights
    from .progress import Bar

    styles, shares = gather(styles, settings.style_blend_weights)
    inputs: list[Any] = [content, *styles, settings.init, find_weights(settings.weights)]
    target = images.check_output(str(output.output), inputs)
    settings = replace(settle(settings, content), style_blend_weights=shares)
    opacity = None
    if not output.no_alpha:
        opacity = images.opacity(content, *images.measure(content, settings.longer))
    if opacity is not None and target.suffix.lower() in (".jpg", ".jpeg"):
        warn(f"{target}: a JPEG is nowhere transparent, as {content} is; use .png or .webp")
    made = record.of_inputs(content, styles, settings, output.preset)
    for difference in record.differences(before, made) if before else ():
        warn(f"it may not come out the same: {difference}")

    def keep(painting: Painting) -> None:
        text = "" if output.no_metadata else record.finished(made, painting)
        save_somewhere(target, painting.image, opacity, text)

    start = time.monotonic()
    with Endings(after) as endings:
        try:
            with Bar(settings.iterations * len(settings.sizes), output.quiet) as bar:

                def callback(progress: Progress) -> None:
                    endings.painted = True
                    bar.update(progress)

                painting = stylize(content, styles, settings, callback, endings.asked)
        except BaseException as error:
            best: Painting | None = getattr(error, "painting", None)
            if best is not None and best.lowered:
                keep(best)
                say(f"{PROGRAM}: the best picture so far is kept in {target}", sys.stderr)
            raise
        if not painting.lowered:
            if endings.asked():
                return fail(NOTHING_PAINTED, endings.exit_code)
            because = painting.stopped_because
            raise RunError(f"no step lowered the loss ({because}); {target} is not written")
        keep(painting)
        if not output.quiet:
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


def warn(text: str) -> None:
    """Warn, in the way that the command line shows."""
    warnings.warn(text, NSTWarning, stacklevel=2)


def save_somewhere(target: Path, *picture: Any) -> None:
    """Save the painting; if the place has become unusable meanwhile, to the temporary folder.

    `picture` is what `images.save` takes besides the path.
    """
    from .. import images

    image, *others = picture
    try:
        images.save(image, target, *others)
    except FileError as error:
        refuge = Path(tempfile.mkdtemp(prefix="minimal_nst-")) / f"painting{target.suffix}"
        try:
            images.save(image, refuge, *others)
        except FileError as second:
            refuge.parent.rmdir()
            raise FileError(f"{error}; nor in the temporary folder: {second}") from error
        raise FileError(f"{error}; the painting is kept in {refuge}") from error
