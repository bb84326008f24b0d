"""``minimal-nst weights``: what a weight file is, and whether it can be used."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from .output import say


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "weights",
        help="inspect or verify a file of VGG-19 weights",
        description="Inspect or verify a file of VGG-19 weights (HDF5, Keras' layout or ours).",
        allow_abbrev=False,
    )
    parser.add_argument(
        "action", choices=("info", "verify"), help="print what it is, or only check it"
    )
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="[$MINIMAL_NST_WEIGHTS, else the embedded file]"
    )
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Read the whole file; print about it; return the exit code."""
    from ..weights import identify, load_weights, oddities

    weights = load_weights(args.path)
    path = weights.path
    sha256, md5, what = identify(path)
    odd = [f"odd: {oddity}" for oddity in oddities(weights)]
    if args.action == "verify":
        valid = f"{path}: valid VGG-19 weights, all values finite ({what})"
        say("\n".join([valid, *odd]), sys.stdout)
        return 0
    lines = [
        f"file     {path}",
        f"what     {what}",
        f"size     {path.stat().st_size} bytes",
        f"SHA-256  {sha256}",
        f"MD5      {md5}",
        f"layout   {weights.layout}",
    ]
    lines += [
        f"{name:13} kernel {kernel.shape!s:18} bias {bias.shape!s:7} "
        f"|w| max {abs(kernel).max():.3f}"
        for name, (kernel, bias) in weights.items()
    ]
    say("\n".join(lines + odd), sys.stdout)
    return 0
