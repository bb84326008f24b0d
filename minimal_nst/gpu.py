r"""The GPU's engine: Winograd's convolution in three steps, of which the middle one is cuBLAS'.

A GPU wants few launches, each of which does much for every byte that it moves. So a step of the
network is three of them, forward or backward, and what would be passes of their own happens where
its numbers are in registers anyway:

* `ENTER`  one thread reads one 6x6 tile of one channel and writes B^T d B. On the way back it also
  undoes the pooling and the ReLU: it reads dL/dy through the gates;
* 36 matrix products, (tiles, C_in) @ (C_in, C_out), in one call;
* `LEAVE`  one thread reads the 36 numbers of one tile and one channel and writes A^T Z A: with the
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

from . import winograd
from .architecture import Step, fused
from .backend import Array, Backend, kernel
from .convolution import bands
from .engine import Parameters, Textbook
from .winograd import F4

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


ENTER = f"""
const int c = i % C;
const ptrdiff_t tile = i / C;
const int top = 4 * (first + (int)(tile / across)) - 1, left = 4 * (int)(tile % across) - 1;
T d[6][6], t[6][6];
#pragma unroll
for (int r = 0; r < 6; ++r) {{
    #pragma unroll
    for (int q = 0; q < 6; ++q) {{
        const int h = top + (turned ? 5 - r : r), w = left + (turned ? 5 - q : q);
        const bool inside = h >= 0 && w >= 0 && h >> half < H >> half && w >> half < W >> half;
        const ptrdiff_t there = ((ptrdiff_t)(h >> half) * (W >> half) + (w >> half)) * C + c;
        const ptrdiff_t at = inside ? there : c;  // read anyway: no number waits for another
        const int place = half * (2 * (h & 1) + (w & 1));
        const int open = gated ? gates[at] >> place & 1 : 1;
        const T value = share * x[at];
        d[r][q] = inside && open ? value : 0;
    }}
}}
#pragma unroll
for (int q = 0; q < 6; ++q) {{
{_times(F4.B_T, "d[{}][q]", "t[{}][q]")}
}}
#pragma unroll
for (int r = 0; r < 6; ++r) {{
    T v[6];
{_times(F4.B_T, "t[r][{}]", "v[{}]")}
    #pragma unroll
    for (int q = 0; q < 6; ++q) V[((ptrdiff_t)(6 * q + r) * tiles + tile) * C + c] = v[q];
}}
"""
"""V = B^T d B. `share` is what a pooling's place receives of the gradient."""

LEAVE = f"""
const int c = i % C;
const ptrdiff_t tile = i / C;
const int top = 4 * (first + (int)(tile / across)), left = 4 * (int)(tile % across);
T s[4][6], v[4][4];
#pragma unroll
for (int q = 0; q < 6; ++q) {{
    T z[6];
    #pragma unroll
    for (int r = 0; r < 6; ++r) z[r] = Z[((ptrdiff_t)(6 * q + r) * tiles + tile) * C + c];
{_times(F4.A_T, "z[{}]", "s[{}][q]")}
}}
#pragma unroll
for (int r = 0; r < 4; ++r) {{
{_times(F4.A_T, "s[r][{}]", "v[r][{}]")}
    #pragma unroll
    for (int q = 0; q < 4; ++q) {{
        if (biased) v[r][q] += bias[c];
        if (rectified && v[r][q] < 0) v[r][q] = 0;  // a NaN stays
    }}
}}
#pragma unroll
for (int r = 0; r < 4; ++r) {{
    #pragma unroll
    for (int q = 0; q < 4; ++q) {{
        if (half && (r & 1 || q & 1)) continue;
        const int h = top + (turned ? 3 - r : r), w = left + (turned ? 3 - q : q);
        if (h >> half >= H >> half || w >> half >= W >> half) continue;
        const ptrdiff_t at = ((ptrdiff_t)(h >> half) * (W >> half) + (w >> half)) * C + c;
        T best = v[r][q], sum = 0;
        int winner = 0, open = 0;
        #pragma unroll
        for (int k = 0; k < 4; ++k) {{
            if (k && !half) continue;
            const T a = v[(r + k / 2) & 3][(q + k % 2) & 3];
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
"""y = A^T Z A, and what else a step does."""

Place = tuple[int, int, int, int]
"""Channels, and of a band: 'across', 'first' and 'tiles'."""

COMMON = (
    "int32 H, int32 W, int32 C, int32 across, int32 first, int32 tiles, int32 turned, int32 half"
)

HOW = "int32 biased, int32 rectified, int32 average, int32 added"

PARAMETERS = {
    "enter": (f"raw T x, raw uint8 gates, {COMMON}, int32 gated, T share", "raw T V"),
    "leave": (
        f"raw T Z, raw T bias, raw T gradient, {COMMON}, {HOW}",
        "raw T y, raw uint8 gates",
    ),
}
"""Name of a kernel -> its inputs and outputs, as CuPy wants them declared."""

BODIES = {"enter": ENTER, "leave": LEAVE}


class Gpu(Textbook):
    """Winograd's convolution on a GPU; a step is one with the ReLU and the pooling after it.

    What stands alone behind a tap is done as in the textbook, and so are the losses' products.

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
        self._prepared = cache(lambda layer: prepared(*parameters(layer), backend))
        self._enter, self._leave = (
            kernel(backend.xp, name, *PARAMETERS[name], BODIES[name]) for name in ("enter", "leave")
        )
        self._no_gates = backend.xp.empty((1, 1, 1), "uint8")

    def steps(self, path: Sequence[str], taps: Collection[str]) -> list[Step]:
        """See `Engine`."""
        return fused(path, taps)

    def forward(self, step: Step, x: Array, kept: bool) -> tuple[Array, Any]:
        """See `Engine`."""
        if not step[0].startswith("conv"):
            return super().forward(step, x, kept)
        U, _, bias = self._prepared(step[0])
        (H, W, _), half, rectified = x.shape, len(step) // 3, len(step) > 1
        y = self._xp.empty((H >> half, W >> half, U.shape[2]), x.dtype)
        gates = self._xp.empty(y.shape, "uint8") if rectified else self._no_gates

        def enter(place: Place, V: Array) -> None:
            self._enter(x, self._no_gates, H, W, *place, 0, 0, 0, 1.0, V, size=V.size // 36)

        def leave(place: Place, Z: Array) -> None:
            self._leave(
                Z, bias, bias, H, W, *place, 0, half, 1, int(rectified), int(self._average), 0,
                y, gates, size=Z.size // 36,
            )  # fmt: skip

        self._convolve(x, U, enter, leave)
        return y, (gates, x.shape)

    def backward(self, step: Step, dy: Array, cache: Any, gradient: Array = None) -> Array:
        """See `Engine`."""
        if not step[0].startswith("conv"):
            return super().backward(step, dy, cache, gradient)
        _, U, bias = self._prepared(step[0])
        gates, (H, W, C) = cache
        half, gated = len(step) // 3, int(len(step) > 1)
        share = 0.25 if half and self._average else 1.0
        dx = self._xp.empty((H, W, C), dy.dtype)
        added = bias if gradient is None else gradient

        def enter(place: Place, V: Array) -> None:
            self._enter(dy, gates, H, W, *place, 1, half, gated, share, V, size=V.size // 36)

        def leave(place: Place, Z: Array) -> None:
            self._leave(
                Z, bias, added, H, W, *place, 1, 0, 0, 0, 0, int(gradient is not None),
                dx, self._no_gates, size=Z.size // 36,
            )  # fmt: skip

        self._convolve(dx, U, enter, leave)
        return dx

    def _convolve(
        self,
        x: Array,
        U: Array,
        enter: Callable[[Place, Array], None],
        leave: Callable[[Place, Array], None],
    ) -> None:
        """The three launches, for some rows of tiles at a time; x tells height and width."""
        (H, W, _), (_, C_in, C_out) = x.shape, U.shape
        down, across = -(-H // F4.m), -(-W // F4.m)
        row = 36 * across * (C_in + C_out) * x.dtype.itemsize
        for rows in bands(0, down, max(1, TILES_BYTES // row)):
            tiles = across * (rows.stop - rows.start)
            V = self._xp.empty((36, tiles, C_in), x.dtype)
            enter((C_in, across, rows.start, tiles), V)
            Z = self._xp.empty((36, tiles, C_out), x.dtype)
            self._xp.matmul(V, U, out=Z)
            leave((C_out, across, rows.start, tiles), Z)


def prepared(kernel: Array, bias: Array, backend: Backend) -> tuple[Array, Array, Array]:
    """U, the same for the way back, and the bias.

    The second is a copy of the first, transposed: of a view, every product would make one.

    Parameters
    ----------
    kernel : (3, 3, C_in, C_out) array
    bias : (C_out,) array
    backend : Backend

    Returns
    -------
    (36, C_in, C_out), (36, C_out, C_in) and (1, 1, C_out) arrays
        On the device. As many axes as a picture has, since CuPy compiles for each number of them.
    """
    U = winograd.transform_kernel(backend.download(kernel))
    back = np.ascontiguousarray(U.transpose(0, 2, 1))
    return (
        backend.upload(U, U.dtype.name),
        backend.upload(back, U.dtype.name),
        bias.reshape(1, 1, -1),
    )
