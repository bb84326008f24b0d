r"""What L-BFGS remembers: many pairs in little memory, and their inner products all at once.

`lbfgs.direction` asks of the pictures nothing but inner products with all steps or all changes, and
weighted sums of them. So these are kept as one array each, which is read from end
to end for either: two passes over the steps and two over the changes, however many pairs there are.
On a CPU the two over the changes are made as one, and threads share out the rows; on a GPU each pass
is one launch, and nothing is asked that a processor would have to wait for.

Of float32 numbers 8 bits each are kept, and of each row v of a picture how large they are,

.. math:: v \approx \frac{\max |v|}{127} \, n, \qquad n \in \{-127, \ldots, 127\}

which leaves room for four times as many. (On a GPU, of each lane of a row: its thread then asks no
other.) All inner products are those of the pairs as they are kept, so B is right, but for pairs that
differ by some two hundredths from those that were met; the Hessian has changed by more since, and
losses are as low. Of float64 numbers, which are there for checks, no bit is
given away.

Glossary::

    s, y    a step and the change of the gradient along it
    R       inner products of the steps with the changes no older than they are, <s_i, y_j> for
            i <= j: triangular, if the pairs are in the order of their age
    place   where a pair is kept: that of the oldest, when there are too many
    i       on a GPU the number of a thread
    lane    which of the 32 threads that share out a row, and lie in one warp
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .backend import LANES, Array, Workers, array_module, bands, kernel, sum_of
from .cublas import multiply

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

TABLE = """
const int place = at[0];
const double curvature = products[place];
double sum = 0;
for (int j = 0; j < places; ++j) {
    sum += inverse[i * places + j] * products[j];
    if (i == place) inverse[i * places + j] = 0;
}
inverse[i * places + place] = curvature > 0 ? (i == place ? 1 : -sum) / curvature : 0;
if (i == place) diagonal[i] = curvature;
"""
"""A row of R's inverse, when a pair comes to a place."""

BODIES = {"put": PUT, "dot": DOT, "sum": SUM, "table": TABLE}

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
    "table": (
        "raw float64 products, raw int32 at, int32 places",
        "raw float64 inverse, raw float64 diagonal",
    ),
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


class Table:
    """The inverse of R, and R's diagonal, by the pairs' places.

    A pair more is a column more, and that of an inverse is known: with r the products of the older
    steps with the new change, and rho that of the new step,

        [R  r  ]^-1   [R^-1  -R^-1 r / rho]
        [0  rho]    = [0      1 / rho     ]

    Without its oldest pair R has lost its first row and column, and so has its inverse.

    Parameters
    ----------
    places : int
        For so many pairs.
    like : array
        Of the module that the table's arrays shall belong to.

    Attributes
    ----------
    inverse : (places, places) array
    diagonal : (places,) array
        Each float64.
    """

    def __init__(self, places: int, like: Array) -> None:
        self._xp = array_module(like)
        self.inverse = self._xp.zeros((places, places))
        self.diagonal = self._xp.zeros(places)

    def put(self, place: int, products: Array) -> None:
        """A pair comes there: its change's products with all steps, its own among them.

        If its own is not positive, it is as if it were not there: B would not be positive.
        """
        inverse, curvature = self.inverse[: len(products), : len(products)], products[place]
        inverse[place] = inverse[:, place] = 0.0
        column = inverse @ products
        column[place] = -1.0
        inverse[:, place] = -column / curvature if curvature > 0 else 0.0
        self.diagonal[place] = curvature

    def solve(self, products: Array, turned: bool) -> Array:
        """R^-1 times as many numbers as there are pairs, or R^-T."""
        inverse = self.inverse[: len(products), : len(products)]
        return (inverse.T if turned else inverse) @ products

    def clear(self) -> None:
        """Forget what was put there."""
        self.inverse[...] = 0.0
        self.diagonal[...] = 0.0


class GpuTable(Table):
    """The same on a GPU, in one launch."""

    def __init__(self, places: int, like: Array) -> None:
        super().__init__(places, like)
        self._put = kernel(self._xp, "table", *PARAMETERS["table"], BODIES["table"])

    def put(self, place: Array, products: Array) -> None:
        """See `Table`."""
        places = len(self.diagonal)
        self._put(products, place, places, self.inverse, self.diagonal, size=places)

    def solve(self, products: Array, turned: bool) -> Array:
        """See `Table`."""
        found = self._xp.empty(len(products), "float64")
        multiply(self.inverse[None], products[None, :, None], found[None, :, None], turned)
        return found


@dataclass(frozen=True)
class Pair:
    """A step, and the change of the gradient along it."""

    s: Array
    y: Array


class Pairs:
    """The last steps, and the changes of the gradient along them.

    What is asked of all of them comes, and is given, in the order of their places.

    Parameters
    ----------
    history : int
        How many are remembered.
    like : array
        Of the shape and dtype of each.
    workers : Workers, optional
        Who share out what is asked; by default one thread.
    """

    def __init__(self, history: int, like: Array, workers: Workers | None = None) -> None:
        xp = array_module(like)
        on_gpu = hasattr(xp, "ElementwiseKernel")
        kind, table = (GpuStack, GpuTable) if on_gpu else (Stack, Table)
        workers = workers or Workers(1)
        self._history = history
        self._added = xp.zeros(1, "int32") if on_gpu else 0
        self._s, self._y = kind(history, like, workers), kind(history, like, workers)
        self._table = table(history, like)
        self._known: tuple[Array, Array] = None, None

    def __len__(self) -> int:
        """How many; on a GPU, which is not asked, all that there is a place for: zeros where none is."""
        return min(self._added, self._history) if isinstance(self._added, int) else self._history

    def __iter__(self) -> Iterator[Pair]:
        """From the oldest to the youngest, those that count."""
        added = self._added if isinstance(self._added, int) else self._added.item()
        for number in range(added - len(self), added):
            place = number % self._history
            if self.diagonal[place] > 0:
                yield Pair(self._s.get(place), self._y.get(place))

    @property
    def inverse(self) -> Array:
        """R^-1, of so many rows and columns as there are pairs."""
        return self._table.inverse[: len(self), : len(self)]

    @property
    def diagonal(self) -> Array:
        """R's: of each pair <s, y>."""
        return self._table.diagonal[: len(self)]

    def clear(self) -> None:
        """Forget them all."""
        self._added *= 0
        self._table.clear()

    def add(self, s: Array, y: Array, g: Array = None) -> None:
        """Remember a pair, in the place of the oldest if there are too many.

        Parameters
        ----------
        s, y : array
        g : array, optional
            Of which `dot_s` will be asked next: both need a pass over the steps, and share it.
        """
        self._known = None, None
        place = self._added % self._history
        self._added += 1
        self._s.put(place, s)
        others = [self._y.put(place, y)] + ([] if g is None else [g])
        products, *of_g = self._s.dot(others, len(self))
        self._table.put(place, products)
        if of_g:
            self._known = g, of_g[0]

    def solve(self, products: Array, turned: bool = False) -> Array:
        """R^-1 times inner products with all pairs; or, turned, R^-T times those."""
        return self._table.solve(products, turned)

    def dot_s(self, a: Array) -> Array:
        """Inner products of all steps with an array."""
        known, products = self._known
        self._known = None, None  # or they would outlive a recording
        return products if a is known else self._s.dot([a], len(self))[0]

    def corrected(self, g: Array, alpha: Array, lengths: Array) -> tuple[Array, Array]:
        """Return q = lengths * (g - Y alpha), and the inner products of all changes with it.

        Both need a pass over the changes; on a CPU they share it, row by row.

        Parameters
        ----------
        g : array
        alpha : array
            For each change, how much of it is taken away.
        lengths : array
            What spreads to the shape of g.
        """
        return self._y.corrected(g, alpha, lengths)

    def sum_s(self, factors: Array) -> Array:
        """All steps, each times a factor, added up."""
        return self._s.sum(factors)
