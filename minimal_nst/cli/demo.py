"""``minimal-nst demo``: paint a bundled pair of pictures into the current folder."""

from __future__ import annotations

import argparse
from typing import Any

from ..resources import CASTLE, STARRY_NIGHT
from ..settings import Settings
from .options import Output
from .paint import paint


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "demo",
        help="paint a bundled pair of pictures, in a minute or so",
        description="Paint Neuschwanstein Castle in the style of Van Gogh's Starry Night.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", default="minimal_nst_demo.png", help="[%(default)s]"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Paint the pair small and briefly, so that it is done while one watches."""
    settings = Settings(size=320, iterations=100)
    output = Output(output=args.output, quiet=args.quiet)
    return paint(str(CASTLE), [str(STARRY_NIGHT)], settings, output, after=args.after)
