"""What L-BFGS remembers: its last steps, and the changes of the gradient along them.

`lbfgs.direction` asks of the pictures nothing but inner products with all steps or all changes, and
weighted sums of them. So each of the two is a `Stack`, and a direction is two passes over the steps and
two over the changes (on a CPU these two are one), however many pairs there are. All inner products are
those of the pairs as they are kept, so B is right, but for pairs that differ a little from those that
were met; the Hessian has changed by more since, and losses are as low.

Glossary::

    s, y    a step and the change of the gradient along it
    R       inner products of the steps with the changes no older than they are, <s_i, y_j> for
            i <= j: triangular, if the pairs are in the order of their age
    place   where a pair is kept: that of the oldest, when there are too many
    i       on a GPU the number of a thread
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .backend import Array, Workers, array_module, kernel
from .cublas import multiply
from .stacks import GpuStack, Stack

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

BODIES = {"table": TABLE}

PARAMETERS = {
    "table": (
        "raw float64 products, raw int32 at, int32 places",
        "raw float64 inverse, raw float64 diagonal",
    ),
}
"""As in stacks.py."""


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
    state : mapping, optional
        What others of the same history have remembered: their `state`, which is theirs no more.
    """

    def __init__(
        self,
        history: int,
        like: Array,
        workers: Workers | None = None,
        state: Mapping[str, Array] | None = None,
    ) -> None:
        xp = array_module(like)
        on_gpu = hasattr(xp, "ElementwiseKernel")
        kind, table = (GpuStack, GpuTable) if on_gpu else (Stack, Table)
        workers = workers or Workers(1)
        self._history, self._on_gpu = history, on_gpu
        self._added = xp.zeros(1, "int32")
        self._s, self._y = kind(history, like, workers), kind(history, like, workers)
        self._table = table(history, like)
        self._known: tuple[Array, Array] = None, None
        if state:
            self._added = state["added"]
            self._table.inverse, self._table.diagonal = state["inverse"], state["diagonal"]
            self._s.state = state["s"], state["s_scales"]
            self._y.state = state["y"], state["y_scales"]

    def __len__(self) -> int:
        """How many; on a GPU, which is not asked, all that there is a place for: zeros where none is."""
        return self._history if self._on_gpu else min(self._added.item(), self._history)

    def __iter__(self) -> Iterator[Pair]:
        """From the oldest to the youngest, those that count."""
        added = self._added.item()
        for number in range(added - len(self), added):
            place = number % self._history
            if self.diagonal[place] > 0:
                yield Pair(self._s.get(place), self._y.get(place))

    @property
    def state(self) -> dict[str, Array]:
        """All that is remembered, by name."""
        table = {"inverse": self._table.inverse, "diagonal": self._table.diagonal}
        s = dict(zip(("s", "s_scales"), self._s.state, strict=True))
        y = dict(zip(("y", "y_scales"), self._y.state, strict=True))
        return {"added": self._added, **table, **s, **y}

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
        place = (self._added if self._on_gpu else self._added.item()) % self._history
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
