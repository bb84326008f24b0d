r"""Many pictures of one shape in little memory: their inner products with another, and sums of them.

L-BFGS' steps are such a stack, and the changes of the gradient another (pairs.py). Each is one array,
which is read from end to end for the inner products of all its pictures, and once more for a weighted
sum, however many they are. On a CPU threads share out the rows, and `Stack.corrected` makes a sum and
the products with it in one pass; on a GPU each pass is one launch, and no processor has to wait for it.

Of float32 numbers 8 bits each are kept, and of each row v of a picture how large they are,

.. math:: v \approx \frac{\max |v|}{127} \, n, \qquad n \in \{-127, \ldots, 127\}

which leaves room for four times as many. (On a GPU, of each lane of a row: its thread then asks no
other.) What is kept differs by some two hundredths from what was given; all that is asked is of what
is kept. Of float64 numbers, which are there for checks, no bit is given away.

Glossary::

    place   where a picture is kept
    i       on a GPU the number of a thread
    lane    which of the 32 threads that share out a row, and lie in one warp
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .backend import LANES, Array, Workers, array_module, bands, kernel, sum_of

TOP = 2**7 - 1
"""The largest number that is kept of a row of float32 numbers."""

LEAST = 1e-30
"""A row whose largest number is smaller is kept as zeros, or nearly."""

BLOCK = 2**20
"""Bytes that a thread makes floating-point again at a time: what its own cache has room for. NumPy lets
other threads go on while it multiplies only if the products are more than 500, so a row should not have
more than a 500th of the numbers of a block."""

PUT = """
const int lane = i % 32, place = at[0];
const ptrdiff_t row = i / 32, kept = row * places + place;
T most = least;
for (int w = lane; w < width; w += 32) {
    const T size = a[row * width + w] < 0 ? -a[row * width + w] : a[row * width + w];
    most = size > most ? size : most;
}
const T scale = rounded ? most / top : 1;
scales[kept * 32 + lane] = scale;
for (int w = lane; w < width; w += 32) {
    const T n = a[row * width + w] / scale;
    numbers[kept * width + w] = rounded ? rint(n) : n;
    found[row * width + w] = scale * numbers[kept * width + w];
}
"""
"""A lane's part of a picture's row: to be kept, and as it is kept."""

ROWS = 2
"""Rows of a picture that a GPU's thread goes through for an inner product: half as many parts to add
up as with one, and no slower."""

PLACES = 4
"""Pairs that it takes along: what it reads of a and b serves them all."""

DOT = f"""
const int lane = i % 32, groups = (count + {PLACES} - 1) / {PLACES};
const int first = i / 32 % groups * {PLACES}, bundle = i / 32 / groups;
double of_a[{PLACES}], of_b[{PLACES}];
#pragma unroll
for (int k = 0; k < {PLACES}; ++k) of_a[k] = of_b[k] = 0;
for (int row = rows * bundle; row < rows * (bundle + 1) && row < height; ++row) {{
    const ptrdiff_t start = (ptrdiff_t)row * width;
    ptrdiff_t kept[{PLACES}];
    T sum_a[{PLACES}], sum_b[{PLACES}];
    #pragma unroll
    for (int k = 0; k < {PLACES}; ++k) {{
        kept[k] = (ptrdiff_t)row * places + (first + k < count ? first + k : 0);
        sum_a[k] = sum_b[k] = 0;
    }}
    for (int w = lane; w < width; w += 32) {{
        const T at_a = a[start + w], at_b = both ? b[start + w] : 0;
        #pragma unroll
        for (int k = 0; k < {PLACES}; ++k) {{
            const T number = numbers[kept[k] * width + w];
            sum_a[k] += number * at_a;
            sum_b[k] += number * at_b;
        }}
    }}
    #pragma unroll
    for (int k = 0; k < {PLACES}; ++k) {{
        of_a[k] += scales[kept[k] * 32 + lane] * sum_a[k];
        of_b[k] += scales[kept[k] * 32 + lane] * sum_b[k];
    }}
}}
const int bundles = (height + rows - 1) / rows;
#pragma unroll
for (int k = 0; k < {PLACES}; ++k) {{
    if (first + k >= count) continue;
    const ptrdiff_t at = ((ptrdiff_t)(first + k) * bundles + bundle) * 32 + lane;
    parts[at] = of_a[k];
    if (both) parts[(ptrdiff_t)count * bundles * 32 + at] = of_b[k];
}}
"""
"""A lane's part of the inner products of some rows of a few pictures with the same rows of a, and of b."""

NUMBERS = 4
"""Numbers that a GPU's thread adds up: its factors are the same for all of them."""

SUM = f"""
const int lane = i % 32, groups = (width + 32 * {NUMBERS} - 1) / (32 * {NUMBERS});
const int first = i / 32 % groups * 32 * {NUMBERS} + lane;
const ptrdiff_t row = i / 32 / groups;
T sum[{NUMBERS}];
#pragma unroll
for (int k = 0; k < {NUMBERS}; ++k) sum[k] = 0;
for (int place = 0; place < count; ++place) {{
    const ptrdiff_t kept = row * places + place;
    const T weight = (T)factors[place] * scales[kept * 32 + lane];
    #pragma unroll
    for (int k = 0; k < {NUMBERS}; ++k)
        if (first + 32 * k < width) sum[k] += weight * numbers[kept * width + first + 32 * k];
}}
#pragma unroll
for (int k = 0; k < {NUMBERS}; ++k)
    if (first + 32 * k < width) total[row * width + first + 32 * k] = sum[k];
"""
"""Some numbers of the weighted sum of all pictures."""

BODIES = {"put": PUT, "dot": DOT, "sum": SUM}

KEPT = "raw S numbers, raw T scales"
SIZES = "int32 places, int32 width, int32 count"

PARAMETERS = {
    "put": (
        "raw T a, raw int32 at, int32 places, int32 width, int32 rounded, T top, T least",
        "raw S numbers, raw T scales, raw T found",
    ),
    "dot": (
        f"{KEPT}, raw T a, raw T b, int32 both, int32 rows, int32 height, {SIZES}",
        "raw float64 parts",
    ),
    "sum": (f"{KEPT}, raw float64 factors, {SIZES}", "raw T total"),
}
"""Name of a kernel -> its inputs and outputs, as CuPy wants them declared."""


def inner(a: Array, b: Array) -> Any:
    """Inner product of two arrays of one shape; a picture's rows are summed up in float64."""
    xp = array_module(a)
    if hasattr(xp, "vecdot"):
        return sum_of(xp.vecdot(a.reshape(len(a), -1), b.reshape(len(b), -1)))
    return xp.multiply(a, b, dtype="float64").sum()  # in CuPy


def dot(a: Array, b: Array) -> float:
    """The same as a number, for which one has to wait on a GPU."""
    return float(inner(a, b))


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
    workers : Workers
        Of a CPU.
    """

    SCALES = 1
    """Of a row."""

    def __init__(self, places: int, like: Array, workers: Workers) -> None:
        xp = array_module(like)
        height, width = _rows(like).shape
        self._xp, self._shape, self._workers = xp, like.shape, workers
        self._rounded = like.dtype == "float32"
        kept = "int8" if self._rounded else like.dtype
        self._numbers = xp.zeros((height, places, width), kept)
        self._scales = xp.ones((height, places, self.SCALES), like.dtype)

    @property
    def state(self) -> tuple[Array, Array]:
        """All that is kept; may be set to what another stack has kept, and is written to then."""
        return self._numbers, self._scales

    @state.setter
    def state(self, state: tuple[Array, Array]) -> None:
        self._numbers, self._scales = state

    def put(self, place: int, a: Array) -> Array:
        """Keep an array there, and return it as it is kept."""
        rows = _rows(a)
        if not self._rounded:
            self._numbers[:, place] = rows
            return a
        found = self._xp.empty(self._shape, self._scales.dtype)
        kept = _rows(found)

        def work(some: slice) -> None:
            scale, part = self._scales[some, place], kept[some]
            scale[:, 0] = self._xp.maximum(abs(rows[some]).max(axis=1), LEAST) / TOP
            self._xp.rint(self._xp.divide(rows[some], scale, out=part), out=part)
            self._numbers[some, place] = part
            part *= scale

        self._workers.run(work, self._shares())
        return found

    def get(self, place: int) -> Array:
        """Return the array that is kept there."""
        return (self._scales[:, place] * self._numbers[:, place]).reshape(self._shape)

    def dot(self, others: Sequence[Array], count: int) -> Array:
        """Inner products of the first so many, for each of others; rows are summed up in float64."""
        asked = self._xp.stack([_rows(other) for other in others], axis=1)
        of_rows = self._xp.empty((len(asked), len(others), count), asked.dtype)

        def ask(rows: slice, block: Array) -> None:
            self._xp.matmul(asked[rows], block.mT, out=of_rows[rows])

        self._for_blocks(ask, count)
        return self._of_all(of_rows)

    def sum(self, factors: Array) -> Array:
        """The first so many, each times a factor, added up."""
        weights, total = self._weights(factors), self._xp.empty(self._shape, self._scales.dtype)
        sums = _rows(total)[:, None]

        def add(rows: slice, block: Array) -> None:
            self._xp.matmul(weights[rows], block, out=sums[rows])

        self._for_blocks(add, len(factors))
        return total

    def corrected(self, g: Array, factors: Array, lengths: Array) -> tuple[Array, Array]:
        """Return lengths * (g - sum(factors)), and that array's inner products: in one pass."""
        weights, q = self._weights(factors), self._xp.empty(self._shape, self._scales.dtype)
        of_rows = self._xp.empty((len(weights), 1, len(factors)), q.dtype)
        start, sums = _rows(g)[:, None], _rows(q)[:, None]
        lengths = _rows(self._xp.broadcast_to(lengths, self._shape))[:, None]

        def work(rows: slice, block: Array) -> None:
            part = self._xp.matmul(weights[rows], block, out=sums[rows])
            self._xp.subtract(start[rows], part, out=part)
            part *= lengths[rows]
            self._xp.matmul(part, block.mT, out=of_rows[rows])

        self._for_blocks(work, len(factors))
        return q, self._of_all(of_rows)[0]

    def _weights(self, factors: Array) -> Array:
        """Each row's, for its numbers."""
        weights = self._scales[:, : len(factors), 0] * factors.astype(self._scales.dtype)
        return weights[:, None]

    def _of_all(self, of_rows: Array) -> Array:
        """Inner products of what is kept, from those of each row's numbers."""
        of_rows *= self._scales[:, None, : of_rows.shape[2], 0]
        return of_rows.sum(axis=0, dtype="float64")

    def _shares(self) -> list[slice]:
        """Which rows are whose."""
        height = len(self._numbers)
        return bands(0, height, -(-height // self._workers.threads))

    def _for_blocks(self, function: Callable[[slice, Array], None], count: int) -> None:
        """Call it with some rows at a time, and the first so many there as floating-point numbers."""
        width, dtype = self._numbers.shape[2], self._scales.dtype
        most = max(1, BLOCK // (count * width * dtype.itemsize))

        def work(share: slice) -> None:
            block = self._xp.empty((min(most, share.stop - share.start), count, width), dtype)
            for rows in bands(share.start, share.stop, most):
                part = block[: rows.stop - rows.start]
                part[...] = self._numbers[rows, :count]
                function(rows, part)

        self._workers.run(work, self._shares())


class GpuStack(Stack):
    """The same on a GPU: no thread waits for another, and every sum has its order.

    A place to put something is an array of one number there, as the card alone knows which it is.
    """

    SCALES = LANES

    def __init__(self, places: int, like: Array, workers: Workers) -> None:
        super().__init__(places, like, workers)
        self._put, self._dot, self._sum = (
            kernel(self._xp, name, *PARAMETERS[name], BODIES[name])
            for name in ("put", "dot", "sum")
        )

    def put(self, place: Array, a: Array) -> Array:
        """See `Stack`."""
        height, places, width = self._numbers.shape
        found = self._xp.empty(self._shape, self._scales.dtype)
        self._put(
            a, place, places, width, int(self._rounded), TOP, LEAST,
            self._numbers, self._scales, found, size=height * LANES,
        )  # fmt: skip
        return found

    def get(self, place: int) -> Array:
        """See `Stack`."""
        factors = self._xp.zeros(place + 1)
        factors[place] = 1.0
        return self.sum(factors)

    def dot(self, others: Sequence[Array], count: int) -> Array:
        """See `Stack`; of one or two others."""
        height, places, width = self._numbers.shape
        bundles, groups = -(-height // ROWS), -(-count // PLACES)
        parts = self._xp.empty((len(others), count, bundles * LANES), "float64")
        self._dot(
            self._numbers, self._scales, others[0], others[-1], int(len(others) == 2), ROWS,
            height, places, width, count, parts, size=groups * bundles * LANES,
        )  # fmt: skip
        return parts.sum(axis=2)

    def sum(self, factors: Array) -> Array:
        """See `Stack`."""
        height, places, width = self._numbers.shape
        total = self._xp.empty(self._shape, self._scales.dtype)
        groups = -(-width // (LANES * NUMBERS))
        self._sum(
            self._numbers, self._scales, factors, places, width, len(factors),
            total, size=height * groups * LANES,
        )  # fmt: skip
        return total

    def corrected(self, g: Array, factors: Array, lengths: Array) -> tuple[Array, Array]:
        """See `Stack`; in two passes."""
        q = lengths * (g - self.sum(factors))
        return q, self.dot([q], len(factors))[0]
