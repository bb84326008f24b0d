r"""The GPU's engine: Winograd's convolution in three steps, of which the middle one is cuBLAS'.

A GPU wants few launches, each of which does much for every byte that it moves. So a step of the
network is three of them, forward or backward, and what would be passes of their own happens where
its numbers are in registers anyway:

* `enter`  one thread reads one n x n tile of one channel and writes B^T d B. On the way back it also
  undoes the pooling and the ReLU: it reads dL/dy through the gates;
* n*n matrix products, (tiles, C_in) @ (C_in, C_out), in one call;
* `leave`  one thread reads the n*n numbers of one tile and one channel and writes A^T Z A: with the
  bias, rectified, pooled and with the gates that the way back will need; or, on the way back, with
  the gradient that the layer's own tap adds.

The bodies of the two kernels are C++; their matrices are printed into them from `winograd`, so there
is one derivation. Neighbouring threads have neighbouring channels, and so neighbouring addresses.
Every number has one thread that writes it, so that the same input gives the same bits.

Glossary::

    i        number of the thread: of the channel, and then of the tile
    half     1 if the step ends with a pooling: dL/dy and the gates are half as wide and high; else 0
    gates    a byte for each number of y. Bit k is set if place k of the pooling's window receives
             the gradient; without a pooling, bit 0 if the ReLU lets it through
    first    tiles are computed some rows of them at a time; this is the first one
    tiles    how many there are at a time, 'across' of them side by side

References
----------
Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks"; `winograd`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import numpy as np

from .architecture import Step, fused
from .backend import Array, Backend, bands, kernel
from .cublas import multiply, rounds
from .engine import Parameters, Textbook
from .winograd import F4, F6, Transform, transform_kernel

TILES_BYTES = 2**29
"""What the tiles of a layer may take at a time, before and after the products. On an H100 less was
slower at 512 and 1024 pixels, for want of work in a launch, and more no faster."""


def combination(coefficients: np.ndarray, names: Sequence[str]) -> str:
    """C++ for a sum of products: ([1, 0, -1.5], 'abc') -> 'a - T(1.5) * c'.

    Parameters
    ----------
    coefficients : (n,) array
    names : n texts
        What they are multiplied by.

    Returns
    -------
    str
    """
    text = ""
    for coefficient, name in zip(coefficients.tolist(), names, strict=True):
        if coefficient:
            size = abs(coefficient)
            sign = "-" if coefficient < 0 else "+" if text else ""
            text += f" {sign} {name}" if size == 1 else f" {sign} T({size!r}) * {name}"
    return text.strip()


def _times(matrix: np.ndarray, source: str, target: str) -> str:
    """C++ for target = matrix @ source; both are patterns with a place for the index."""
    names = [source.format(k) for k in range(matrix.shape[1])]
    return "\n".join(
        f"    {target.format(k)} = {combination(row, names)};" for k, row in enumerate(matrix)
    )


def _enter(transform: Transform) -> str:
    """The way in: V = B^T d B. `share` is what a pooling's place receives of the gradient."""
    m, n = transform.m, transform.n
    return f"""
const int c = i % C;
const ptrdiff_t tile = i / C;
const int top = {m} * (first + (int)(tile / across)) - 1, left = {m} * (int)(tile % across) - 1;
T d[{n}][{n}], t[{n}][{n}];
#pragma unroll
for (int q = 0; q < {n}; ++q) {{
    #pragma unroll
    for (int r = 0; r < {n}; ++r) {{
        const int h = top + (turned ? {n} - 1 - r : r), w = left + (turned ? {n} - 1 - q : q);
        const bool inside = h >= 0 && w >= 0 && h >> half < H >> half && w >> half < W >> half;
        const ptrdiff_t there = ((ptrdiff_t)(h >> half) * (W >> half) + (w >> half)) * C + c;
        const ptrdiff_t at = inside ? there : c;  // read anyway: no number waits for another
        const int place = half * (2 * (h & 1) + (w & 1));
        const int open = gated ? gates[at] >> place & 1 : 1;
        const T value = share * x[at];
        d[r][q] = inside && open ? value : 0;
    }}
{_times(transform.B_T, "d[{}][q]", "t[{}][q]")}
}}
#pragma unroll
for (int r = 0; r < {n}; ++r) {{
    T v[{n}];
{_times(transform.B_T, "t[r][{}]", "v[{}]")}
    #pragma unroll
    for (int q = 0; q < {n}; ++q) V[((ptrdiff_t)({n} * q + r) * tiles + tile) * C + c] = v[q];
}}
"""


def _leave(transform: Transform) -> str:
    """The way out: y = A^T Z A, and what else a step does."""
    m, n = transform.m, transform.n
    return f"""
const int c = i % C;
const ptrdiff_t tile = i / C;
const int top = {m} * (first + (int)(tile / across)), left = {m} * (int)(tile % across);
T s[{m}][{n}], v[{m}][{m}];
#pragma unroll
for (int q = 0; q < {n}; ++q) {{
    T z[{n}];
    #pragma unroll
    for (int r = 0; r < {n}; ++r) z[r] = Z[((ptrdiff_t)({n} * q + r) * tiles + tile) * C + c];
{_times(transform.A_T, "z[{}]", "s[{}][q]")}
}}
#pragma unroll
for (int r = 0; r < {m}; ++r) {{
{_times(transform.A_T, "s[r][{}]", "v[r][{}]")}
    #pragma unroll
    for (int q = 0; q < {m}; ++q) {{
        if (biased) v[r][q] += bias[c];
        if (rectified && v[r][q] < 0) v[r][q] = 0;  // a NaN stays
    }}
}}
#pragma unroll
for (int r = 0; r < {m}; ++r) {{
    #pragma unroll
    for (int q = 0; q < {m}; ++q) {{
        if (half && (r & 1 || q & 1)) continue;
        const int h = top + (turned ? {m} - 1 - r : r), w = left + (turned ? {m} - 1 - q : q);
        if (h >> half >= H >> half || w >> half >= W >> half) continue;
        const ptrdiff_t at = ((ptrdiff_t)(h >> half) * (W >> half) + (w >> half)) * C + c;
        T best = v[r][q], sum = 0;
        int winner = 0, open = 0;
        #pragma unroll
        for (int k = 0; k < 4; ++k) {{
            if (k && !half) continue;
            const T a = v[(r + k / 2) % {m}][(q + k % 2) % {m}];
            if (a > best || a != a) best = a, winner = k;
            sum += a;
            open |= (a > 0) << k;
        }}
        if (half && average) best = sum / 4;
        else open = (best > 0) << winner;
        y[at] = added ? best + gradient[at] : best;
        if (rectified) gates[at] = open;
    }}
}}
"""


Place = tuple[int, int, int, int]
"""Channels, and of a band: 'across', 'first' and 'tiles'."""

COMMON = (
    "int32 H, int32 W, int32 C, int32 across, int32 first, int32 tiles, int32 turned, int32 half"
)

HOW = "int32 biased, int32 rectified, int32 average, int32 added"

_ENTER = f"raw T x, raw uint8 gates, {COMMON}, int32 gated, T share", "raw T V"
_LEAVE = f"raw T Z, raw T bias, raw T gradient, {COMMON}, {HOW}", "raw T y, raw uint8 gates"

PARAMETERS = {"enter_4": _ENTER, "leave_4": _LEAVE, "enter_6": _ENTER, "leave_6": _LEAVE}
"""Name of a kernel -> its inputs and outputs, as CuPy wants them declared."""

BODIES = {
    "enter_4": _enter(F4),
    "leave_4": _leave(F4),
    "enter_6": _enter(F6),
    "leave_6": _leave(F6),
}


class Gpu(Textbook):
    """Winograd's convolution on a GPU; a step is one with the ReLU and the pooling after it.

    What stands alone behind a tap is done as in the textbook.

    Parameters
    ----------
    parameters, pooling
        As for `Textbook`; float32 or float64.
    backend : Backend
    """

    def __init__(self, parameters: Parameters, pooling: str, backend: Backend) -> None:
        super().__init__(parameters, pooling)
        self._average = pooling == "avg"
        self._xp = backend.xp
        self._prepared = cache(lambda layer, transform: _prepare(*parameters(layer), transform))
        self._kernels = {
            name: kernel(backend.xp, name, *PARAMETERS[name], BODIES[name]) for name in BODIES
        }
        self._no_gates = backend.xp.empty((1, 1, 1), "uint8")

    def steps(self, path: Sequence[str], taps: Collection[str]) -> list[Step]:
        """See `Engine`."""
        return fused(path, taps)

    def forward(self, step: Step, x: Array, kept: bool, by_rows: bool = False) -> tuple[Array, Any]:
        """See `Engine`."""
        if not step[0].startswith("conv"):
            return super().forward(step, x, kept)
        transform = transform_of(x.dtype.name, rounds(self._xp))
        U, bias = self._prepared(step[0], transform)
        (H, W, _), half, rectified = x.shape, len(step) // 3, len(step) > 1
        y = self._xp.empty((H >> half, W >> half, U.shape[2]), x.dtype)
        gates = self._xp.empty(y.shape, "uint8") if rectified else self._no_gates

        def enter(place: Place, V: Array) -> None:
            self._kernels[f"enter_{transform.m}"](
                x, self._no_gates, H, W, *place, 0, 0, 0, 1.0, V, size=V.size // len(V)
            )

        def leave(place: Place, Z: Array) -> None:
            self._kernels[f"leave_{transform.m}"](
                Z, bias, bias, H, W, *place, 0, half, 1, int(rectified), int(self._average), 0,
                y, gates, size=Z.size // len(Z),
            )  # fmt: skip

        self._convolve(x, U, False, transform, enter, leave)
        return y, (gates, x.shape, transform)

    def backward(self, step: Step, dy: Array, cache: Any, gradient: Array = None) -> Array:
        """See `Engine`."""
        if not step[0].startswith("conv"):
            return super().backward(step, dy, cache, gradient)
        gates, (H, W, C), transform = cache
        U, bias = self._prepared(step[0], transform)
        half, gated = len(step) // 3, int(len(step) > 1)
        share = 0.25 if half and self._average else 1.0
        dx = self._xp.empty((H, W, C), dy.dtype)
        added = bias if gradient is None else gradient

        def enter(place: Place, V: Array) -> None:
            self._kernels[f"enter_{transform.m}"](
                dy, gates, H, W, *place, 1, half, gated, share, V, size=V.size // len(V)
            )

        def leave(place: Place, Z: Array) -> None:
            self._kernels[f"leave_{transform.m}"](
                Z, bias, added, H, W, *place, 1, 0, 0, 0, 0, int(gradient is not None),
                dx, self._no_gates, size=Z.size // len(Z),
            )  # fmt: skip

        self._convolve(dx, U, True, transform, enter, leave)
        return dx

    def contract(self, a: Array, b: Array) -> Array:
        """See `Engine`. The first is a view: before it was turned, each position had a row."""
        out = self._xp.empty((len(a), b.shape[1]), a.dtype)
        multiply(a.T[None], b[None], out[None], a_turned=True)
        return out

    def multiply(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        out = self._xp.empty((len(a), b.shape[1]), a.dtype)
        multiply(a[None], b[None], out[None])
        return out

    def _convolve(
        self,
        x: Array,
        U: Array,
        turned: bool,
        transform: Transform,
        enter: Callable[[Place, Array], None],
        leave: Callable[[Place, Array], None],
    ) -> None:
        """The three launches, for some rows of tiles at a time; x tells height and width."""
        (H, W, _), points = x.shape, len(U)
        C_in, C_out = U.shape[:0:-1] if turned else U.shape[1:]
        down, across = -(-H // transform.m), -(-W // transform.m)
        row = points * across * (C_in + C_out) * x.dtype.itemsize
        for rows in bands(0, down, max(1, TILES_BYTES // row)):
            tiles = across * (rows.stop - rows.start)
            V = self._xp.empty((points, tiles, C_in), x.dtype)
            enter((C_in, across, rows.start, tiles), V)
            Z = self._xp.empty((points, tiles, C_out), x.dtype)
            multiply(V, U, Z, b_turned=turned)
            leave((C_out, across, rows.start, tiles), Z)


def transform_of(dtype: str, tf32: bool) -> Transform:
    """F(6x6), unless its rounding errors would count: those of TF32, or where one checks.

    Parameters
    ----------
    dtype : {'float32', 'float64'}
    tf32 : bool
        Whether the products' factors are rounded so.

    Returns
    -------
    Transform
    """
    return F6 if dtype == "float32" and not tf32 else F4


def _prepare(kernel: Array, bias: Array, transform: Transform) -> tuple[Array, Array]:
    """U, and the bias with as many axes as a picture has: CuPy compiles for each number of them."""
    return transform_kernel(kernel, transform, len(kernel[0, 0])), bias.reshape(1, 1, -1)
