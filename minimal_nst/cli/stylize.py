"""``minimal-nst stylize``: paint a content picture in the style of one or more others."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Collection
from typing import Any

from ..errors import UsageError
from ..settings import Settings
from .config import PICTURES, dump, read_config, read_value
from .options import FIELDS, INSTEAD, Output, add_options, refuse_idle
from .output import say
from .paint import paint
from .plan import add_dry_run

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
    add_dry_run(parser)
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
        before, recorded = read_record(args.repeat, {**filed, **typed})
        filed = {**recorded, **filed}
    for alike in INSTEAD:
        if alike & set(typed):
            filed = {name: value for name, value in filed.items() if name not in alike}
    given = {**filed, **typed}
    args.filed = set(given) - set(typed)
    changes = {name: value for name, value in given.items() if name in SETTINGS}
    if not INSTEAD[0] & set(changes) and isinstance(scales := changes.get("scales"), tuple):
        changes["size"] = scales[-1]
    settings = Settings.preset(given.get("preset", FIELDS["preset"].default), **changes)
    refuse_idle(set(typed), settings)
    if "mask_reach" in typed and not {"content_masks", "style_masks"} & set(given):
        raise UsageError("--mask-reach does nothing here: there is no mask (add --content-masks)")
    if args.dump_config:
        say("\n".join(dump(given, settings)), sys.stdout)
        return 0
    needed = {"content": "CONTENT", "styles": "STYLE", "output": "-o/--output"}
    if missing := [what for name, what in needed.items() if name not in given]:
        args.parser.error(f"the following arguments are required: {', '.join(missing)}")
    output = Output(**{name: given[name] for name in OUTPUT if name in given})
    pictures = given["content"], given["styles"]
    return paint(*pictures, settings, output, before, args.after, args.dry_run)


def read_record(
    painting: str, given: Collection[str] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a painting's record, and what it asks for as a file of options would.

    `given` are the options that were given besides; by default it is not to be repeated.
    """
    from .. import record

    before = record.read(painting)
    asked = {"preset": before.get("preset"), **record.to_repeat(before, painting, given)}
    return before, {name: read_value(painting, name, value) for name, value in asked.items()}
