"""VGG-19 as data: which layers there are, in which order, and what they are called.

Glossary::

    layer  'conv4_2', 'relu4_2' or 'pool4', the names of the literature
    tap    a layer whose output is asked for
    block  the four or five layers between two poolings, 'block4' in Keras
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from .errors import UsageError

Step = tuple[str, ...]
"""Consecutive layers that are computed in one go."""

CHANNELS: Final = ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4)
"""Output channels of each convolution, block by block (Simonyan & Zisserman 2015, table 1, E)."""

CONVOLUTIONS: dict[str, tuple[int, int]] = {}
"""Name of each convolution -> (C_in, C_out); its kernel is (3, 3, C_in, C_out)."""

LAYERS: list[str] = []
"""Every layer in the order of computation: conv1_1, relu1_1, conv1_2, relu1_2, pool1, ..."""

HALVED = 16
"""What four poolings divide by: block 5 sees a picture whose sides are multiples of it whole."""

_channels = 3
for _block, _widths in enumerate(CHANNELS, start=1):
    for _index, _width in enumerate(_widths, start=1):
        CONVOLUTIONS[f"conv{_block}_{_index}"] = (_channels, _width)
        LAYERS += [f"conv{_block}_{_index}", f"relu{_block}_{_index}"]
        _channels = _width
    LAYERS.append(f"pool{_block}")


def keras_name(convolution: str) -> str:
    """What Keras (and the weight files) call a convolution: 'conv4_2' -> 'block4_conv2'."""
    return re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", convolution)


def canonical(tap: str) -> str:
    """Return the literature's name of a tap.

    Keras' ``block4_conv2`` has the ReLU inside, so it is another name of ``relu4_2``;
    ``block4_pool`` is ``pool4``.

    Parameters
    ----------
    tap : str
        A name in either form.

    Returns
    -------
    str
        A member of `LAYERS`.

    Raises
    ------
    UsageError
        If VGG-19 has no such layer; the message names the nearest one.
    """
    if not isinstance(tap, str):
        raise UsageError(f"{tap!r} is no name of a layer; they are called conv1_1, relu4_2, pool3")
    name = re.sub(r"^block(\d)_conv(\d)$", r"relu\1_\2", tap.strip().lower())
    name = re.sub(r"^block(\d)_pool$", r"pool\1", name)
    if name not in LAYERS:
        near = difflib.get_close_matches(name, LAYERS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "they are called conv1_1, relu4_2, pool3"
        raise UsageError(f"VGG-19 has no layer '{tap}'; {hint}")
    return name


def depth_of(taps: Iterable[str]) -> int:
    """Return how many of `LAYERS` must be computed to reach the deepest of `taps`; of none, 0."""
    return max((LAYERS.index(tap) + 1 for tap in taps), default=0)


def fused(path: Sequence[str], taps: Collection[str]) -> list[Step]:
    """Steps of a convolution with the ReLU and the pooling after it, up to the first tap.

    What comes behind such a tap is a step by itself.

    Parameters
    ----------
    path : sequence of str
        Consecutive layers.
    taps : collection of str

    Returns
    -------
    list of tuples of str
    """
    steps: list[Step] = []
    for layer in path:
        last = steps[-1] if steps else ("",)
        joins = not layer.startswith("conv") and last[0].startswith("conv")
        if joins and last[-1] not in taps:
            steps[-1] = (*last, layer)
        else:
            steps.append((layer,))
    return steps


def shape_of(tap: str, height: int, width: int) -> tuple[int, int, int]:
    """Return the shape of a layer's output.

    Parameters
    ----------
    tap : str
        A member of `LAYERS`.
    height, width : int
        Of the picture.

    Returns
    -------
    (H_l, W_l, C_l)
        Every pooling halves both sides, and leaves an odd rest out.
    """
    block = next(int(character) for character in tap if character.isdigit())
    halvings = block if tap.startswith("pool") else block - 1
    return height >> halvings, width >> halvings, CHANNELS[block - 1][-1]


def canvas(height: int, width: int, margin: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return how many pixels are added above and below, left and right of a picture.

    The network pads with zeros, so what stands at the border sees darkness; and where a side is
    no multiple of 16, its last pixels fall out of a pooling, and the deep layers hardly see them.

    Parameters
    ----------
    height, width : int
        Of the picture.
    margin : int
        How many are needed on each side; with 0, nothing is added.

    Returns
    -------
    ((int, int), (int, int))
        At least the margin, and such that both sides become multiples of 16.
    """
    if margin == 0:
        return (0, 0), (0, 0)
    added = [-(-(side + 2 * margin) // HALVED) * HALVED - side for side in (height, width)]
    (above, left) = (total // 2 for total in added)
    return (above, added[0] - above), (left, added[1] - left)
