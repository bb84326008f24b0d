r"""What L-BFGS remembers: many pairs in little memory, and their inner products all at once.

The two loops of `lbfgs.direction` ask of the pictures nothing but inner products with all steps or
all changes, and weighted sums of them. So these are kept as one array each, which is read from end
to end for either: two passes over the steps and two over the changes, however many pairs there are.
On a GPU a pass is one launch.

Of float32 numbers 16 bits each are kept, and of each row v of a picture how large they are,

.. math:: v \approx \frac{\max |v|}{32767} \, n, \qquad n \in \{-32767, \ldots, 32767\}

which leaves room for twice as many. All inner products are those of the pairs as they are kept, so B
is right, but for pairs that differ by a hundred-thousandth from those that were met; the Hessian has
changed by more since. Of float64 numbers, which are there for checks, no bit is given away.

Glossary::

    s, y    a step and the change of the gradient along it
    sy      sy[i][j - i] is <s_i, y_j>, of a step and a change no older than it
    i       on a GPU the number of a thread
    lane    which of the 32 threads that share out a row, and lie in one warp
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from .backend import Array, array_module, kernel

TOP = 2**15 - 1
"""The largest number that is kept of a row of float32 numbers."""

LEAST = 1e-30
"""A row whose largest number is smaller is kept as zeros, or nearly."""

BLOCK = 2**23
"""Bytes that are made floating-point again at a time: what a CPU's cache has room for."""

LANES = 32

DOT = """
const int lane = i % 32, row = i / 32 % height, place = i / 32 / height;
const ptrdiff_t kept = (ptrdiff_t)row * places + place;
T sum = 0;
for (int w = lane; w < width; w += 32) sum += numbers[kept * width + w] * a[(ptrdiff_t)row * width + w];
parts[i] = scales[kept] * sum;
"""
"""A lane's part of the inner product of a row of one picture with the same row of a."""

SUM = """
const ptrdiff_t row = i / width * places;
T sum = 0;
for (int place = 0; place < count; ++place)
    sum += factors[place] * scales[row + place] * numbers[(row + place) * width + i % width];
total[i] = sum;
"""
"""One number of the weighted sum of all pictures."""

BODIES = {"dot": DOT, "sum": SUM}

PARAMETERS = {
    "dot": (
        "raw S numbers, raw T scales, raw T a, int32 height, int32 places, int32 width",
        "raw T parts",
    ),
    "sum": (
        "raw S numbers, raw T scales, raw T factors, int32 places, int32 width, int32 count",
        "raw T total",
    ),
}
"""Name of a kernel -> its inputs and outputs, as CuPy wants them declared."""


def dot(a: Array, b: Array) -> float:
    """Inner product of two arrays of one shape; a picture's rows are summed up in float64."""
    xp = array_module(a)
    if hasattr(xp, "vecdot"):
        rows = xp.vecdot(a.reshape(len(a), -1), b.reshape(len(b), -1))
    else:  # in CuPy
        rows = a * b
    return float(rows.sum(dtype="float64"))


def _rows(a: Array) -> Array:
    """A picture's rows; a vector is one."""
    return a.reshape(len(a) if a.ndim > 1 else 1, -1)


class Stack:
    """Arrays of one shape, of which one asks something of all.

    Parameters
    ----------
    places : int
        For so many.
    like : array
        Of their shape and dtype.
    """

    def __init__(self, places: int, like: Array) -> None:
        xp = array_module(like)
        height, width = _rows(like).shape
        self._xp, self._shape = xp, like.shape
        self._rounded = like.dtype == "float32"
        kept = "int16" if self._rounded else like.dtype
        self._numbers = xp.empty((height, places, width), kept)
        self._scales = xp.ones((height, places, 1), like.dtype)

    def put(self, place: int, a: Array) -> None:
        """Keep an array there."""
        rows = _rows(a)
        if self._rounded:
            most = abs(rows).max(axis=1)
            self._scales[:, place, 0] = self._xp.maximum(most, LEAST) / TOP
            rows = rows / self._scales[:, place]
            rows = self._xp.rint(rows, out=rows)
        self._numbers[:, place] = rows

    def get(self, place: int) -> Array:
        """Return the array that is kept there."""
        return (self._scales[:, place] * self._numbers[:, place]).reshape(self._shape)

    def dot(self, a: Array, count: int) -> list[float]:
        """Inner products of the first so many with another; rows are summed up in float64."""
        a = _rows(a)[..., None]
        total = sum(
            (self._scales[rows, :count] * self._xp.matmul(block, a[rows])).sum(0, dtype="float64")
            for rows, block in self._blocks(count)
        )
        products: list[float] = total[:, 0].tolist()
        return products

    def sum(self, factors: list[float]) -> Array:
        """The first so many, each times a factor, added up."""
        height, _, width = self._numbers.shape
        total = self._xp.empty((height, 1, width), self._scales.dtype)
        weights = self._xp.asarray(factors, self._scales.dtype)
        for rows, block in self._blocks(len(factors)):
            scales = self._scales[rows, : len(factors), 0]
            total[rows] = self._xp.matmul((scales * weights)[:, None], block)
        return total.reshape(self._shape)

    def _blocks(self, count: int) -> Iterator[tuple[slice, Array]]:
        """Some rows of the first so many at a time, as floating-point numbers."""
        height, _, width = self._numbers.shape
        dtype = self._scales.dtype
        most = BLOCK // (count * width * dtype.itemsize)
        block = self._xp.empty((min(max(1, most), height), count, width), dtype)
        for first in range(0, height, len(block)):
            rows = slice(first, min(first + len(block), height))
            part = block[: rows.stop - first]
            part[...] = self._numbers[rows, :count]
            yield rows, part


class GpuStack(Stack):
    """The same on a GPU: no thread waits for another, and every sum has its order."""

    def __init__(self, places: int, like: Array) -> None:
        super().__init__(places, like)
        self._dot, self._sum = (
            kernel(self._xp, name, *PARAMETERS[name], BODIES[name]) for name in ("dot", "sum")
        )

    def dot(self, a: Array, count: int) -> list[float]:
        """See `Stack`."""
        height, places, width = self._numbers.shape
        parts = self._xp.empty((count, height * LANES), self._scales.dtype)
        self._dot(self._numbers, self._scales, a, height, places, width, parts, size=parts.size)
        products: list[float] = parts.sum(axis=1, dtype="float64").tolist()
        return products

    def sum(self, factors: list[float]) -> Array:
        """See `Stack`."""
        _, places, width = self._numbers.shape
        total = self._xp.empty(self._shape, self._scales.dtype)
        weights = self._xp.asarray(factors, total.dtype)
        self._sum(
            self._numbers, self._scales, weights, places, width, len(factors),
            total, size=total.size,
        )  # fmt: skip
        return total


@dataclass(frozen=True)
class Pair:
    """A step, and the change of the gradient along it."""

    s: Array
    y: Array


class Pairs:
    """The last steps, from the oldest to the youngest, and the changes of the gradient along them.

    Parameters
    ----------
    history : int
        How many are remembered.
    like : array
        Of the shape and dtype of each.

    Attributes
    ----------
    sy : list of lists of float
        sy[i][j - i] is the inner product of the i-th step and the j-th change, for j >= i.
    """

    def __init__(self, history: int, like: Array) -> None:
        self._history = history
        self._places: deque[int] = deque()
        kind = GpuStack if hasattr(array_module(like), "ElementwiseKernel") else Stack
        self._s, self._y = kind(history, like), kind(history, like)
        self.sy: list[list[float]] = []

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Pair]:
        for place in self._places:
            yield Pair(self._s.get(place), self._y.get(place))

    def clear(self) -> None:
        """Forget them all."""
        self._places.clear()
        self.sy.clear()

    def add(self, s: Array, y: Array) -> None:
        """Remember a pair, in the place of the oldest if there are too many.

        But not one whose curvature, <s, y>, is not positive as it is kept: B would not be.
        """
        if len(self) == self._history:
            self._places.popleft()
            del self.sy[0]
        place = min(set(range(self._history)) - set(self._places))
        self._s.put(place, s)
        self._y.put(place, y)
        self._places.append(place)
        products = self.dot_s(self._y.get(place))
        if products[-1] <= 0:
            self._places.pop()
            return
        self.sy.append([])
        for row, product in zip(self.sy, products, strict=True):
            row.append(product)

    def dot_s(self, a: Array) -> list[float]:
        """Inner products of all steps with an array."""
        return self._dot(self._s, a)

    def dot_y(self, a: Array) -> list[float]:
        """Inner products of all changes with an array."""
        return self._dot(self._y, a)

    def sum_s(self, factors: list[float]) -> Array:
        """All steps, each times a factor, added up."""
        return self._sum(self._s, factors)

    def sum_y(self, factors: list[float]) -> Array:
        """All changes, each times a factor, added up."""
        return self._sum(self._y, factors)

    def _dot(self, stack: Stack, a: Array) -> list[float]:
        products = stack.dot(a, max(self._places) + 1)
        return [products[place] for place in self._places]

    def _sum(self, stack: Stack, factors: list[float]) -> Array:
        placed = [0.0] * (max(self._places) + 1)
        for place, factor in zip(self._places, factors, strict=True):
            placed[place] = factor
        return stack.sum(placed)
