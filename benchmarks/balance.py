"""What the preset balanced weighs: how hard each layer's style loss pulls at the picture.

    python benchmarks/balance.py --size 256

Printed is, for each layer, the length of relu4_1's gradient in the picture over that of its own: the
median over all pairs of the example pictures, from the content to the style, where an optimiser
begins. With these weights all layers pull as hard there. Between brackets are the quartiles.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import minimal_nst as nst
from minimal_nst import images

TAPS = [f"relu{block}_1" for block in range(1, 6)]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=256, help="longer side [%(default)s]")
parser.add_argument("--pairs", type=int, help="the first so many [all]")
options = parser.parse_args()


def pull(content: np.ndarray, style: np.ndarray, tap: str) -> float:
    """The length of the gradient of one layer's style loss, in the content picture."""
    settings = nst.Settings(style_layers=tap, style_weight=1, content_weight=0, range_weight=0)
    _, gradient = nst.Objective(vgg, content, [style], settings)(content)
    return np.linalg.norm(gradient.astype("float64"))


vgg = nst.VGG19(nst.load_weights())
contents, styles = (
    [images.load(path, options.size) for path in images.folder(ROOT / "examples" / kind)]
    for kind in ("content", "style")
)
pairs = list(itertools.islice(itertools.product(contents, styles), options.pairs))
pulls = np.array([[pull(*pair, tap) for tap in TAPS] for pair in pairs])
ratios = pulls[:, [TAPS.index("relu4_1")]] / pulls
quartiles = np.percentile(ratios, [25, 50, 75], axis=0).T
for tap, (low, middle, high) in zip(TAPS, quartiles, strict=True):
    print(f"{tap}  {middle:7.0f}  [{low:.0f}, {high:.0f}]  over {len(pairs)} pairs")
