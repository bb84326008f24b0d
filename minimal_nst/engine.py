"""Who carries the layers' operations out: the network is written once, against an `Engine`.

`Textbook` calls the functions of `layers` as they stand, on any kind of array. `Fast` computes the
same on a CPU in bands of rows: by Winograd's convolution, on all threads, in buffers that it uses
again. Its buffers never show: a tap's output, and what a backward needs, are arrays of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from . import layers, winograd
from .backend import Array, Workers
from .winograd import F4, TURNED

Parameters = Callable[[str], tuple[Array, Array]]
"""Name of a convolution -> (kernel, bias)."""


class Engine(Protocol):
    """What the network needs."""

    def forward(self, layer: str, x: Array, taps: Collection[str]) -> tuple[Array, Any]:
        """Return a layer's output and what its backward will need.

        Parameters
        ----------
        layer : str
            A member of `architecture.LAYERS`.
        x : (H, W, C) array
        taps : collection of str
            The layers whose outputs the caller will keep. Of a convolution that is not among
            them, the engine may return the output already rectified.

        Returns
        -------
        y : array
            (H, W, C_out), or (H//2, W//2, C) after a pooling.
        cache : object
            For `backward` only.
        """

    def backward(self, layer: str, dy: Array, cache: Any) -> Array:
        """Return dL/dx of a layer from dL/dy and what its forward had kept."""

    def add(self, dx: Array, gradient: Array) -> Array:
        """Return dx + gradient, where dx may be what `backward` returned last."""

    def matmul(self, a: Array, b: Array) -> Array:
        """Return a @ b for matrices of which one dimension is long."""


class Textbook:
    """The layers exactly as `layers` defines them.

    Parameters
    ----------
    parameters : callable
        Name of a convolution -> its (kernel, bias) on the device, in the network's dtype.
    pooling : {'max', 'avg'}
    """

    def __init__(self, parameters: Parameters, pooling: str) -> None:
        self._parameters = cache(parameters)
        self._pooling = pooling

    def forward(self, layer: str, x: Array, taps: Collection[str]) -> tuple[Array, Any]:
        """See `Engine`."""
        if layer.startswith("conv"):
            return layers.conv_forward(x, *self._parameters(layer)), None
        if layer.startswith("relu"):
            return layers.relu_forward(x)
        if self._pooling == "avg":
            return layers.avg_pool_forward(x), x.shape
        y, winners = layers.max_pool_forward(x)
        return y, (winners, x.shape)

    def backward(self, layer: str, dy: Array, cache: Any) -> Array:
        """See `Engine`."""
        if layer.startswith("conv"):
            kernel, _ = self._parameters(layer)
            return layers.conv_backward(dy, kernel)
        if layer.startswith("relu"):
            return layers.relu_backward(dy, cache)
        if self._pooling == "avg":
            return layers.avg_pool_backward(dy, cache)
        return layers.max_pool_backward(dy, *cache)

    def add(self, dx: Array, gradient: Array) -> Array:
        """See `Engine`."""
        return dx + gradient

    def matmul(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        return a @ b


BAND_BYTES = {128: 2**20, 256: 2**22, 512: 2**24}
"""Wider side of a convolution, in channels -> bytes of its buffers: what was fastest.

Narrow layers are bound by memory and want buffers that stay in the second-level cache; wide ones
are bound by their matrix products and want tall matrices."""


WORTH_A_CALL = 2**16
"""Numbers that take about as long to pass over as it takes to hand work to a thread."""


class Fast:
    """The same in bands of rows, by Winograd's convolution, on all threads, reusing buffers.

    Two scratch arrays take turns: every operation reads what the last one wrote into the one, and
    writes into the other.

    Parameters
    ----------
    parameters, pooling
        As for `Textbook`; float32 or float64 NumPy arrays.
    workers : Workers
    """

    def __init__(self, parameters: Parameters, pooling: str, workers: Workers) -> None:
        self._pooling = pooling
        self._workers = workers
        self._kernel = cache(partial(_prepared, parameters))
        self._scratch = [np.empty(0, "uint8"), np.empty(0, "uint8")]
        self._latest: Array = None  # what was last written into scratch
        self._rectified: Array = None  # what a convolution last returned with the ReLU in it
        self._thread = threading.local()

    def forward(self, layer: str, x: Array, taps: Collection[str]) -> tuple[Array, Any]:
        """See `Engine`."""
        if layer.startswith("conv"):
            return self._conv(layer, x, taps), None
        if layer.startswith("relu"):
            if x is not self._rectified:
                return layers.relu_forward(x)
            return x, (x if layer in taps else self._positive(x))
        shape = (x.shape[0] // 2, x.shape[1] // 2, x.shape[2])
        y = self._output(shape, x.dtype, layer in taps)
        if self._pooling == "avg":
            self._over_rows(y, lambda b: _avg_pool(x[_twice(b)], y[b]))
            return y, x.shape
        winners = np.empty(shape, "uint8")
        self._over_rows(y, lambda b: _max_pool(x[_twice(b)], y[b], winners[b]))
        return y, (winners, x.shape)

    def backward(self, layer: str, dy: Array, cache: Any) -> Array:
        """See `Engine`."""
        if layer.startswith("conv"):
            return self._conv_backward(layer, dy)
        if layer.startswith("relu"):
            dx = dy if dy is self._latest else self._output(dy.shape, dy.dtype)
            self._over_rows(dy, lambda b: np.multiply(dy[b], _mask_of(cache[b]), out=dx[b]))
            return dx
        shape = cache if self._pooling == "avg" else cache[1]
        dx = self._output(shape, dy.dtype)
        dx[2 * len(dy) :] = 0
        dx[:, 2 * dy.shape[1] :] = 0
        if self._pooling == "avg":
            self._over_rows(dy, lambda b: _avg_pool_backward(dy[b], dx[_twice(b)]))
        else:
            winners = cache[0]
            self._over_rows(dy, lambda b: _max_pool_backward(dy[b], winners[b], dx[_twice(b)]))
        return dx

    def add(self, dx: Array, gradient: Array) -> Array:
        """See `Engine`."""
        total = dx if dx is self._latest else self._output(dx.shape, dx.dtype)
        self._over_rows(dx, lambda b: np.add(dx[b], gradient[b], out=total[b]))
        return total

    def matmul(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        height = 4 * b.shape[1]  # below that, a product is not worth its call
        if a.shape[0] >= a.shape[1]:
            y = np.empty((a.shape[0], b.shape[1]), a.dtype)
            self._over_rows(a, lambda band: np.matmul(a[band], b, out=y[band]), height)
            return y
        return sum(self._over_rows(b, lambda band: a[:, band] @ b[band], height))

    def _conv(self, layer: str, x: Array, taps: Collection[str]) -> Array:
        """Convolve, add the bias and, unless the plain output is tapped, rectify."""
        U, bias = self._kernel(layer)
        H, W, _ = x.shape
        relu = layer.replace("conv", "relu")
        y = self._output((H, W, len(bias)), x.dtype, layer in taps or relu in taps)
        self._rectified = y if layer not in taps else None

        def rectify(band: Array) -> None:
            if y is self._rectified:
                np.maximum(band, 0, out=band)

        def band(rows: range) -> None:
            winograd.convolve(x, U, bias, rows, F4, self._workspace(x, U, rows), y)
            rectify(y[F4.m * rows.start : F4.m * rows.stop])

        def textbook_band(b: slice) -> None:
            y[b] = _with_halo(lambda x: layers.conv_forward(x, U, bias), x, b)
            rectify(y[b])

        if U.ndim == 3:
            self._workers.run(band, self._bands(x, U))
        else:
            self._over_rows(y, textbook_band)
        return y

    def _conv_backward(self, layer: str, dy: Array) -> Array:
        U, _ = self._kernel(layer)
        H, W, _ = dy.shape
        if U.ndim == 4:
            dx = np.empty((H, W, U.shape[2]), dy.dtype)

            def textbook_band(b: slice) -> None:
                dx[b] = _with_halo(lambda dy: layers.conv_backward(dy, U), dy, b)

            self._over_rows(dy, textbook_band)
            return dx
        U = U.transpose(0, 2, 1)
        dx = self._output((H, W, U.shape[2]), dy.dtype)

        def band(rows: range) -> None:
            winograd.convolve(dy, U, None, rows, TURNED, self._workspace(dy, U, rows), dx)

        self._workers.run(band, self._bands(dy, U))
        return dx

    def _bands(self, x: Array, U: Array) -> list[range]:
        """Cut the rows of tiles into an even number of bands of about `BAND_BYTES`.

        Each band of a wide layer reads all of U, so they should be few. Their number does not
        depend on the threads, because BLAS rounds differently for matrices of other heights.
        """
        widest = max(U.shape[1:])
        down, across = (-(-side // F4.m) for side in x.shape[:2])
        limit = next(size for width, size in BAND_BYTES.items() if widest <= width)
        number = -(-len(U) * down * across * widest * x.itemsize // limit)
        number = -(-number // 2) * 2
        height = -(-down // number)
        return [range(i, min(i + height, down)) for i in range(0, down, height)]

    def _workspace(self, x: Array, U: Array, rows: range) -> Array:
        """The calling thread's buffer for a band."""
        needed = winograd.workspace_size(x.shape, U.shape[2], rows, F4)
        buffer: Array = getattr(self._thread, "buffer", None)
        if buffer is None or buffer.size < needed:
            buffer = self._thread.buffer = np.empty(needed, x.dtype)
        return buffer

    def _output(self, shape: tuple[int, ...], dtype: Any, kept: bool = False) -> Array:
        """An array to write to: a new one if it is to be kept, else the scratch whose turn it is."""
        if kept:
            return np.empty(shape, dtype)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._scratch.reverse()
        if self._scratch[0].size < size:
            self._scratch[0] = np.empty(size, "uint8")
        self._latest = self._scratch[0][:size].view(dtype).reshape(shape)
        return self._latest

    def _positive(self, x: Array) -> Array:
        """Where x > 0."""
        mask = np.empty(x.shape, bool)
        self._over_rows(x, lambda b: np.greater(x[b], 0, out=mask[b]))
        return mask

    def _over_rows(self, x: Array, function: Callable[[slice], Any], least: int = 1) -> list[Any]:
        """Share out the rows of x, in slices that no number of threads changes.

        They are at most 32, of at least `least` rows and of as many numbers as are worth a call.
        """
        length = len(x)
        height = max(least, -(-length // 32), -(-WORTH_A_CALL * length // x.size))
        bands = [slice(i, min(i + height, length)) for i in range(0, length, height)]
        return self._workers.run(function, bands)


def _prepared(parameters: Parameters, layer: str) -> tuple[Array, Array]:
    """(U, bias) of a convolution; the kernel itself where three channels make tiles a waste."""
    kernel, bias = parameters(layer)
    return (kernel if kernel.shape[2] == 3 else winograd.transform_kernel(kernel)), bias


def _mask_of(kept: Array) -> Array:
    """The mask of a ReLU, from what was kept: itself, or the output."""
    return kept if kept.dtype == bool else kept > 0


def _twice(band: slice) -> slice:
    """The rows that a band of pooled rows comes from."""
    return slice(2 * band.start, 2 * band.stop)


def _with_halo(function: Callable[[Array], Array], x: Array, band: slice) -> Array:
    """Apply a 3x3 operation to a band of rows: with the row above and below, which then go."""
    above, below = min(band.start, 1), min(len(x) - band.stop, 1)
    y = function(x[band.start - above : band.stop + below])
    return y[above : above + band.stop - band.start]


def _max_pool(x: Array, y: Array, winners: Array) -> None:
    """As `layers.max_pool_forward`: the winner is the number of earlier places that are smaller."""
    a, b, c, d = layers.quarters(x)
    np.maximum(a, b, out=y)
    np.maximum(y, c, out=y)
    np.maximum(y, d, out=y)
    lost = a < y
    winners[...] = lost
    for quarter in (b, c):
        lost &= quarter < y
        winners += lost


def _max_pool_backward(dy: Array, winners: Array, dx: Array) -> None:
    for k, quarter in enumerate(layers.quarters(dx)):
        np.multiply(dy, winners == k, out=quarter)


def _avg_pool(x: Array, y: Array) -> None:
    y[...] = layers.avg_pool_forward(x)


def _avg_pool_backward(dy: Array, dx: Array) -> None:
    for quarter in layers.quarters(dx):
        np.multiply(dy, 0.25, out=quarter)
