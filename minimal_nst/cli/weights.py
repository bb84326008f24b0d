"""``minimal-nst weights``: what a weight file is, whether it can be used; and the paper's network."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

from ..errors import UsageError
from .options import flag
from .output import count, say, warn

AT = 512, "a longer side of"
"""Size in pixels of the pictures that tell how loud a channel is, and what messages call it."""

GOES_WITH_IT = {"style_form": "paper", "style_weight": 800, "range_weight": 1}
"""Settings for such a network. Its losses are smaller by far; the ratio of style to content is that of
its authors' own program, NeuralImageSynthesis: 1e9 / 5 for means, which are 4 E, to 1e6."""

OPTIONS = " ".join(f"{flag(name)} {value}" for name, value in GOES_WITH_IT.items())

EPILOG = f"""\
examples:
  minimal-nst weights info
  minimal-nst weights verify vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5
  minimal-nst weights normalize photos/ paintings/ -o normalized.h5

With such a file losses are smaller by far, and other weights go with it:
  --weights normalized.h5 {OPTIONS}
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "weights",
        help="inspect or verify a file of VGG-19 weights; make the paper's network",
        description="Inspect or verify a file of VGG-19 weights (HDF5, Keras' layout or ours); or "
        "make one whose channels all have a mean of 1, as the paper's network has, over some "
        "pictures: the more there are, and the less alike, the better.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "action",
        choices=("info", "verify", "normalize"),
        help="print what it is, only check it, or make the paper's",
    )
    parser.add_argument(
        "paths",
        metavar="PATH",
        nargs="*",
        help="a file of weights [$MINIMAL_NST_WEIGHTS, else the embedded file]; for normalize, "
        "pictures, or folders of them",
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="for normalize: the file to write, .h5"
    )
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for; return the exit code."""
    if args.action == "normalize":
        return normalize(args.paths, args.output)
    if args.output is not None:
        raise UsageError("-o/--output does nothing here: it goes with normalize")
    if len(args.paths) > 1:
        raise UsageError(f"{args.paths[1]} is one file too many; {args.action} takes one")
    return inspect(next(iter(args.paths), None), args.action == "verify")


def inspect(path: str | None, briefly: bool) -> int:
    """Read the whole file; print about it."""
    from ..weights import identify, load_weights, oddities

    weights = load_weights(path)
    sha256, md5, what = identify(weights.path)
    odd = [f"odd: {oddity}" for oddity in oddities(weights)]
    if briefly:
        valid = f"{weights.path}: valid VGG-19 weights, all values finite ({what})"
        say("\n".join([valid, *odd]), sys.stdout)
        return 0
    lines = [
        f"file     {weights.path}",
        f"what     {what}",
        f"size     {weights.path.stat().st_size} bytes",
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


def normalize(paths: list[str], output: str | None) -> int:
    """Look at all pictures, and write a network whose channels have a mean of 1 over them."""
    from .. import images, saving
    from ..normalize import mean_activations, normalized
    from ..vgg import VGG19
    from ..weights import load_weights, oddities, save_weights

    if output is None:
        raise UsageError("there is nowhere to write to; give -o OUT, such as -o normalized.h5")
    pictures = [picture for path in paths for picture in images.folder(path)]
    weights = load_weights()
    target = saving.check_place(output, [*pictures, weights.path])
    if target.suffix.lower() != ".h5":
        raise UsageError(f"{target}: weights are written as HDF5; give it a name that ends in .h5")
    for picture in pictures:  # before minutes of work
        images.measure(picture, *AT)
    vgg = VGG19(weights, device="auto")
    with vgg.backend.working():
        means = mean_activations(vgg, _loaded(pictures))
    if silent := sum(int((m == 0).sum()) for m in means.values()):
        warn(f"channels that are 0 in all of them, and stay as they are: {silent}")
    rescaled = normalized(weights, means)
    for oddity in oddities(rescaled):  # a channel that is nearly nowhere
        warn(f"{oddity}; look at more pictures")
    save_weights(rescaled, target)
    looked_at = count(len(pictures), "picture")
    made = f"{target}: VGG-19 whose channels have a mean of 1 over {looked_at}"
    say(f"{made}; with it go {OPTIONS}", sys.stdout)
    return 0


def _loaded(pictures: list[str | os.PathLike[str]]) -> Iterator[Any]:
    """One after the other; on a terminal one sees how many there are."""
    from tqdm import tqdm

    from .. import images

    shown = sys.stderr is not None and sys.stderr.isatty()
    for picture in tqdm(pictures, unit="picture", leave=False, disable=not shown):
        yield images.load(picture, *AT)
