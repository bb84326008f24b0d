"""``minimal-nst show``: how a painting was made, as its file says."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import Any

from ..settings import Settings
from .config import dump
from .output import say
from .stylize import read_record


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "show",
        help="print how a painting was made",
        description="Print the record that a painting carries, as a file of options which stylize "
        "--config takes.",
        allow_abbrev=False,
    )
    parser.add_argument("painting", metavar="PAINTING", help="picture that stylize has written")
    parser.add_argument("--json", action="store_true", help="print the record as it is")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Print the record; return the exit code."""
    record, options = read_record(args.painting)
    if args.json:
        say(json.dumps(record, indent=2), sys.stdout)
        return 0
    names = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{name: options[name] for name in names & set(options)})
    files = {"content": [record["content"]], "style": record["styles"]}
    for what in ("init", "content_masks", "style_masks", "weights"):
        if what in record:
            files[what] = record[what] if isinstance(record[what], list) else [record[what]]
    say(f"# {json.dumps(args.painting, ensure_ascii=False)}", sys.stdout)
    for what, value in record["result"].items():
        say(f"# {what}: {json.dumps(value)}", sys.stdout)
    say(f"# versions: {json.dumps(record['versions'])}", sys.stdout)
    for what, entries in files.items():
        for entry in entries:
            say(f"# {what}: {json.dumps(entry)}", sys.stdout)
    say("\n".join(dump({"preset": options["preset"]}, settings, title="")), sys.stdout)
    return 0
