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
from collections.abc import Callable
from typing import Any

import numpy as np

from .backend import Array


class Product:
    """The matrix a @ b, of which those rows are computed that are asked for.

    Parameters
    ----------
    a : (..., K) array, or an `Again`
        The product has its shape but for the last axis.
    b : (K, N) array
    around : (int, int)
        Rows of zeros above the product and below.
    """

    def __init__(self, a: Array, b: Array, around: tuple[int, int] = (0, 0)) -> None:
        self.a, self.b, self.around = a, b, around
        self.shape: tuple[int, ...] = (len(a) + sum(around), *a.shape[1:-1], b.shape[1])
        self.dtype = a.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> Array:
        first, last, _ = rows.indices(len(self))
        above = self.around[0]
        start, stop = max(first - above, 0), max(last - above, 0)
        a = np.asarray(self.a[start:stop])
        product = (a.reshape(-1, a.shape[-1]) @ self.b).reshape(len(a), *self.shape[1:])
        if len(product) == last - first:
            return product
        found = np.zeros((last - first, *self.shape[1:]), self.dtype)
        found[start + above - first :][: len(product)] = product
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def reshape(self, shape: tuple[int, ...]) -> Product:
        """The same rows, arranged otherwise; their length stays."""
        return Product(self.a.reshape(*shape[:-1], -1), self.b)

    def within(self, rows: slice, length: int) -> Product:
        """The same as some rows of so many, of which all others are zeros."""
        return Product(self.a, self.b, (rows.start, length - rows.stop))


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
