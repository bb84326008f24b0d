r"""A picture in strips of rows, one after the other: the same loss and gradient in less memory.

What a layer has at one place depends on a window of the picture and on nothing beyond. So a strip
that is gone through with as many rows above and below as the deepest layer's windows reach has, in
its own rows, the features of the whole picture; what is wrong is what stands at a border that the
picture does not have, and all of that is in the rows around it.

A content loss is a sum over places, and each strip has its share. A style loss is none. But what it
asks of a picture are sums over places, of which the Gram matrix is the one that everybody knows:

.. math:: G = \sum_s F_s^T F_s, \qquad \frac{\partial E}{\partial F_s} = \frac{1}{N^2 M^2} F_s (G - A)

The sums are gathered first, strip by strip. With the sums of all, the last strip then goes back from
where it is, and the others are gone through again, forward and back. Nothing is left out, so the
results differ by roundings.

Glossary::

    own     the rows of the picture that belong to a strip
    seen    these and the rows around them that the network looks at for their sake
    total   a sum over the places of all strips
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, NamedTuple

from .architecture import LAYERS, depth_of, shape_of
from .backend import Array, array_module
from .losses import Product as Multiply
from .rows import Rows


class Strip(NamedTuple):
    """Some rows of a picture, and what the network looks at for them; both are slices.

    Where a strip is all of the picture they are the same.
    """

    own: slice
    seen: slice

    def rows(self, tap: str) -> slice:
        """Its own rows of a tap, in the whole picture's output."""
        return slice(_height(tap, self.own.start), _height(tap, self.own.stop))

    def inside(self, tap: str) -> slice:
        """The same rows in the output that the network has of what is seen."""
        above, rows = _height(tap, self.seen.start), self.rows(tap)
        return slice(rows.start - above, rows.stop - above)


def cut(height: int, count: int, taps: Iterable[str]) -> list[Strip]:
    """Cut a picture into strips so that as much is seen of each: the outer ones are higher.

    Parameters
    ----------
    height : int
        Of the picture.
    count : int
        How many there shall be; there are fewer if not all of them would have a row of the deepest
        tap for themselves.
    taps : iterable of str
        Members of `architecture.LAYERS`; what the network is asked for.

    Returns
    -------
    list of Strip
        From above; their own rows are the picture's, each once.

    References
    ----------
    The course: :eq:`strips`.
    """
    unit, reach = _reach(taps)
    inner = (height - 2 * reach) // unit
    count = max(1, min(count, inner))
    borders = [0, *(reach + inner * k // count * unit for k in range(1, count)), height]
    return [
        Strip(slice(start, stop), slice(max(0, start - reach), min(height, stop + reach)))
        for start, stop in pairwise(borders)
    ]


def _reach(taps: Iterable[str]) -> tuple[int, int]:
    """Rows of the picture that make one of the deepest tap's, and how far around them it sees.

    Each 3x3 convolution sees one row more on either side, of as many of the picture's rows as the
    poolings before it have made one. A strip begins where a row of the deepest tap does, and so does
    what it sees: otherwise poolings would join other rows than they do in the picture.
    """
    unit = seen = 1
    for layer in LAYERS[: depth_of(taps)]:
        if layer.startswith("conv"):
            seen += unit
        elif layer.startswith("pool"):
            unit *= 2
    return unit, -(-(seen - 1) // unit) * unit


def _height(tap: str, row: int) -> int:
    return shape_of(tap, row, 0)[0]


class Sums:
    """Sums over places that are gathered strip by strip, for what describes a style or measures it.

    Parameters
    ----------
    contract : callable
        Multiplies two matrices, summing over the places of a strip: `Engine.contract`.
    """

    def __init__(self, contract: Multiply) -> None:
        self._contract = contract
        self._totals: dict[tuple[int, int], Array] = {}

    def add(self, a: Array, b: Array) -> Array:
        """Return a @ b, with what was asked for in the strips before: of one shape, one thing."""
        shape = a.shape[0], b.shape[1]
        here = self._contract(a, b)
        self._totals[shape] = here if shape not in self._totals else self._totals[shape] + here
        return self._totals[shape]

    def total(self, a: Array, b: Array) -> Array:
        """Return what a @ b has come to, whichever strip a and b are of."""
        return self._totals[a.shape[0], b.shape[1]]


def placed(part: Array, rows: slice, like: Array) -> Array:
    """Put a gradient where it belongs in what was seen; around it there is none.

    Parameters
    ----------
    part : (M, N) array, or what has one's shape and rows
    rows : slice
        Its rows.
    like : (H, W, N) array
        The output that it belongs to.

    Returns
    -------
    (H, W, N) array
    """
    part = part.reshape(rows.stop - rows.start, *like.shape[1:])
    if part.shape == like.shape:
        return part
    if isinstance(part, Rows):
        return part.within(rows, len(like))
    whole: Array = array_module(like).zeros_like(like)
    whole[rows] = part
    return whole


def joined(parts: Iterable[tuple[Strip, Any]], like: Array) -> Array:
    """Add the gradients of what each strip saw.

    Parameters
    ----------
    parts : iterable of (Strip, array)
    like : (H, W, 3) array
        The picture.

    Returns
    -------
    (H, W, 3) array
    """
    whole: Array = array_module(like).zeros_like(like)
    for strip, part in parts:
        whole[strip.seen] += part
    return whole
