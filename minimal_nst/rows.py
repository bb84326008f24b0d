"""Arrays that are not kept: those rows are computed that are asked for.

What is cheap to compute and large to keep is computed where it is read, a band of rows at a time,
while that lies in a processor's cache.

Glossary::

    maps      (H, W, N), as a layer has them
    matrix    the same as (H*W, N), a row for each place
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import Array, bands

AT_A_TIME = 2**16
"""Numbers that are summed up at a time: they lie in a cache, and are worth a call."""


class Rows:
    """What a function makes of matrices row by row, as if it was an array; `numpy.asarray` makes it one.

    Differences, products and other shapes compute nothing: they are of this class, too. A sum is an array.

    Parameters
    ----------
    function : callable
        Takes some rows of each of the operands, (M, K), and returns as many, (M, N).
    operands : sequence of (..., K) arrays, or `Again`
        The result has the shape of each but for the last axis.
    columns : int
        N.
    around : (int, int)
        Rows of zeros above the result and below.
    """

    __array_ufunc__ = None  # NumPy leaves arithmetic with it to it

    def __init__(
        self,
        function: Callable[..., Array],
        operands: Sequence[Any],
        columns: int,
        around: tuple[int, int] = (0, 0),
    ) -> None:
        self._function, self._operands, self._around = function, operands, around
        first = operands[0]
        self.shape: tuple[int, ...] = (len(first) + sum(around), *first.shape[1:-1], columns)
        self.dtype = first.dtype

    @classmethod
    def of(cls, a: Any) -> Rows:
        """An array, or an `Again`: of what is made of it, a row waits until it is asked for."""
        return cls(lambda rows: rows, (a,), a.shape[-1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        first, last, _ = rows.indices(len(self))
        above = self._around[0]
        start, stop = max(first - above, 0), max(last - above, 0)
        parts = [np.asarray(operand[start:stop]) for operand in self._operands]
        made = self._function(*(part.reshape(-1, part.shape[-1]) for part in parts))
        made = made.reshape(len(parts[0]), *self.shape[1:])
        if len(made) == last - first:
            return made
        found = np.zeros((last - first, *self.shape[1:]), self.dtype)
        found[start + above - first :][: len(made)] = made
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def __sub__(self, other: Any) -> Rows:
        return self._then(operator.sub, other)

    def __mul__(self, other: Any) -> Rows:
        return self._then(operator.mul, other)

    def __rmul__(self, factor: float) -> Rows:
        return self._then(lambda rows: factor * rows)

    def __matmul__(self, b: Array) -> Rows:
        return self._then(lambda rows: rows @ b, columns=b.shape[1])

    def __add__(self, other: Any) -> Array:
        return np.asarray(self) + np.asarray(other)

    __radd__ = __add__

    def _then(self, operation: Callable[..., Array], *others: Any, columns: int = 0) -> Rows:
        """What an operation makes of its rows, and of those of other arrays of its shape."""
        count = len(self._operands)
        return Rows(
            lambda *rows: operation(self._function(*rows[:count]), *rows[count:]),
            (*self._operands, *others),
            columns or self.shape[-1],
        )

    def astype(self, dtype: Any) -> Rows:
        """The same in another precision."""
        return self._then(lambda rows: rows.astype(dtype))

    def sum(self) -> Any:
        """The sum of all numbers: some rows' at a time."""
        height = -(-AT_A_TIME * len(self) // math.prod(self.shape))
        return sum(self[rows].sum() for rows in bands(0, len(self), height))

    def reshape(self, *shape: int) -> Rows:
        """The same rows, arranged otherwise; their length stays."""
        operands = [operand.reshape(*shape[:-1], operand.shape[-1]) for operand in self._operands]
        return Rows(self._function, operands, self.shape[-1])

    def within(self, rows: slice, length: int) -> Rows:
        """The same as some rows of so many, of which all others are zeros."""
        around = rows.start, length - rows.stop
        return Rows(self._function, self._operands, self.shape[-1], around)


class Again:
    """Maps that are computed again wherever they are read; `numpy.asarray` does it.

    What it returns may lie where the same thread's next rows will be: whoever keeps it, copies it.
    Some rows of the maps, and the matrix that they are, compute nothing: they are of this class, too.

    Parameters
    ----------
    compute : callable
        Rows -> those of the maps, which the calling thread's next call may overwrite.
    shape : (int, int, int)
        Of the maps.
    dtype : dtype
    described : bool
        Whether F^T F will be asked for, of the matrix F of all rows.
    """

    def __init__(
        self,
        compute: Callable[[slice], Array],
        shape: tuple[int, int, int],
        dtype: Any,
        described: bool,
    ) -> None:
        self._compute = compute
        self._all = self._rows = slice(0, shape[0])
        self._described = described
        self._squares: dict[int, Array] = {}
        self.shape: tuple[int, ...] = shape
        self.dtype = dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        if len(self.shape) != 3:
            return np.asarray(self)[rows]
        first, last, _ = rows.indices(len(self))
        part = self._as((last - first, *self.shape[1:]))
        part._rows = slice(self._rows.start + first, self._rows.start + last)
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        rows = self._compute(self._rows).reshape(self.shape)
        return np.array(rows, dtype, copy=copy)

    def reshape(self, *shape: int) -> Again:
        """The matrix of the maps, or the maps of the matrix."""
        rest = math.prod(self.shape) // abs(math.prod(shape))
        return self._as(tuple(rest if side == -1 else side for side in shape))

    @property
    def T(self) -> Again:  # noqa: N802
        """Of a matrix F, what is asked for F^T F with."""
        return self._as(self.shape[::-1])

    def _as(self, shape: tuple[int, ...]) -> Again:
        other = copy.copy(self)
        other.shape = shape
        return other

    @property
    def maps(self) -> Again:
        """What the matrix is one of."""
        return self.reshape(self._rows.stop - self._rows.start, -1, self.shape[-1])

    def show(self, rows: slice, part: Array) -> None:
        """Tell what some rows are while they are there, each once: F^T F then needs no others."""
        if self._described:
            self._squares[rows.start] = square(part)

    def shown(self) -> Array | None:
        """F^T F; None if nothing was shown, or if this is not all of the rows."""
        if self._rows != self._all or not self._squares:
            return None
        return sum(self._squares[start] for start in sorted(self._squares))


def square(maps: Array) -> Array:
    """F^T F of the matrix F of these maps."""
    F = maps.reshape(-1, maps.shape[-1])
    return F.T @ F
