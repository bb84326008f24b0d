"""Parts of a picture, layer by layer: which places of a feature map belong to a mask.

Glossary::

    mask    (H, W) how much each pixel of a picture belongs to a region, 0 to 1
    guide   (H_l, W_l) the same of a layer's places
    reach   what a place belongs to that sees more than one pixel
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .architecture import LAYERS, canonical, depth_of


def guides(mask: np.ndarray, taps: Iterable[str], reach: str = "simple") -> dict[str, np.ndarray]:
    """Carry a mask through the network as far as it is looked at.

    A convolution lets each place see its eight neighbours, a pooling four places as one. With
    'all', a place belongs to the region as soon as it sees any of it; with 'inside', if it sees
    nothing else; with 'simple' it belongs where it stands, by its share of the region.

    Parameters
    ----------
    mask : (H, W) array
        0 to 1; what lies between belongs in part.
    taps : iterable of str
        Members of `architecture.LAYERS`.
    reach : {'simple', 'all', 'inside'}

    Returns
    -------
    dict
        Tap -> (H_l, W_l) array.

    References
    ----------
    Gatys et al. (2017), "Controlling Perceptual Factors in Neural Style Transfer", section 4, and the
    three ways of its program.
    """
    taps = {canonical(tap) for tap in taps}
    join: Any = {"simple": np.mean, "all": np.max, "inside": np.min}[reach]
    guide = np.asarray(mask, dtype=np.float64)
    found = {}
    for layer in LAYERS[: depth_of(taps)]:
        if layer.startswith("conv") and reach != "simple":
            guide = join(sliding_window_view(np.pad(guide, 1, "edge"), (3, 3)), axis=(2, 3))
        elif layer.startswith("pool"):
            H, W = guide.shape[0] // 2, guide.shape[1] // 2
            guide = join(guide[: 2 * H, : 2 * W].reshape(H, 2, W, 2), axis=(1, 3))
        if layer in taps:
            found[layer] = guide
    return found


def union(masks: Iterable[np.ndarray]) -> np.ndarray:
    """What belongs to any of the masks; of parts that meet softly, all."""
    return np.minimum(sum(masks), 1.0)
