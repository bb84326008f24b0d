"""What the preset crowsonkb weighs: Wasserstein distances of style over squared ones.

    python benchmarks/wasserstein.py --size 192

crowsonkb/style-transfer-pytorch measures a layer's style by the Wasserstein distance of two normal
distributions, which have the features' means and covariances; ours by squared distances of both
(`guided.mean_covariance_loss`). Printed is the median, over all pairs of the example pictures, of
the first over the second, from the content to the style: where an optimiser begins. Between
brackets are the quartiles.
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
from minimal_nst import guided, images

TAPS = [f"relu{block}_1" for block in range(1, 6)]

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=192, help="longer side [%(default)s]")
parser.add_argument("--pairs", type=int, help="the first so many [all]")
options = parser.parse_args()


def root(C: np.ndarray) -> np.ndarray:
    """The square root of a symmetric matrix that is nowhere negative, but for rounding."""
    values, vectors = np.linalg.eigh(C)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def wasserstein(F: np.ndarray, S: np.ndarray) -> float:
    """|m - m'|^2 + tr(C + C' - 2 (C'^1/2 C C'^1/2)^1/2), over the number of channels."""
    (C, _, m), (C_s, _, m_s) = (guided.mean_covariance(x, np.ones((len(x), 1))) for x in (F, S))
    half = root(C_s)
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(half @ C @ half), 0)).sum()
    return (np.sum((m - m_s) ** 2) + np.trace(C) + np.trace(C_s) - 2 * cross) / m.size


def squared(F: np.ndarray, S: np.ndarray) -> float:
    """What `Settings.style_statistic` 'mean-covariance' compares, in the form of the paper."""
    C, B, _ = guided.mean_covariance(S, np.ones((len(S), 1)))
    return guided.mean_covariance_loss(F, C, B, np.ones((len(F), 1)))[0]


vgg = nst.VGG19(nst.load_weights())
contents, styles = (
    [
        vgg.features(images.load(path, options.size), TAPS)
        for path in images.folder(ROOT / "examples" / kind)
    ]
    for kind in ("content", "style")
)
for tap in TAPS:
    ratios = []
    for pair in itertools.islice(itertools.product(contents, styles), options.pairs):
        F, S = (x[tap].reshape(-1, x[tap].shape[-1]).astype("float64") for x in pair)
        ratios.append(wasserstein(F, S) / squared(F, S))
    low, middle, high = np.percentile(ratios, [25, 50, 75])
    print(f"{tap}  {middle:.2e}  [{low:.2e}, {high:.2e}]  over {len(ratios)} pairs", flush=True)
