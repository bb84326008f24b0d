"""Who carries the layers' operations out: the network is written once, against an `Engine`.

`Textbook` calls the functions of `layers` as they stand, on any kind of array. `Fast` computes the
same on a CPU in bands of rows: by Winograd's convolution, on all threads, in buffers that it uses
again. Its buffers never show: a tap's output, and what a backward needs, are arrays of their own.
The first layer's output would be half of all that is kept, and is half a percent of the work: it
is computed again, band by band, wherever it is read.

Glossary::

    step     layers that are computed in one go; only the last one's output can be seen
    band     some rows of the picture, as many as fit in a processor's cache
    z, dz    what a convolution returns before its ReLU, and dL/dz
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, cached_property, partial
from typing import Any, Protocol

import numpy as np

from . import layers
from .architecture import Step, fused
from .backend import Array, Workers, array_module, bands
from .convolution import Direct, Job, Winograd, prepare
from .rows import Again, Rows, square

Parameters = Callable[[str], tuple[Array, Array]]
"""Name of a convolution -> (kernel, bias)."""


class Engine(Protocol):
    """What the network needs."""

    def steps(self, path: Sequence[str], taps: Collection[str]) -> list[Step]:
        """Divide consecutive layers into steps; each tap is the last layer of one."""

    def forward(self, step: Step, x: Array, kept: bool, by_rows: bool = False) -> tuple[Array, Any]:
        """Return a step's output and what its backward will need.

        Parameters
        ----------
        step : tuple of str
            Members of `architecture.LAYERS`.
        x : (H, W, C) array
        kept : bool
            Whether the caller will use the output after the next step.
        by_rows : bool
            Whether one will do of which those rows are computed that are asked for, `rows.Again`.

        Returns
        -------
        y : array
            (H, W, C_out), or (H//2, W//2, C_out) after a pooling.
        cache : object
            For `backward` only.
        """

    def backward(self, step: Step, dy: Array, cache: Any, gradient: Array = None) -> Array:
        """Return dL/dx of a step from dL/dy and what its forward had kept.

        What else the loss gains from x directly, if x is tapped, is added: `gradient`, (H, W, C).
        Of any step but the first it may be something else that this engine's next backward takes.
        """

    def contract(self, a: Array, b: Array) -> Array:
        """Return a @ b, a sum over many positions: (N, M) @ (M, N)."""

    def multiply(self, a: Array, b: Array) -> Array:
        """Return a @ b, which is each position on its own: (M, N) @ (N, N)."""

    def transform(self, a: Array, b: Array) -> Array:
        """The same, but perhaps a row is not computed before it is asked for."""

    def by_rows(self, a: Array) -> Array:
        """Return a, or what stands for it: of a - b, too, a row may wait until it is asked for."""

    def recycle(self, arrays: Iterable[Array]) -> None:
        """Be told that nobody will look at these outputs any more: the way back may be one over them."""

    def release(self) -> None:
        """Give back what is kept for the next picture: it will need less, or be of another size."""

    def alone(self) -> AbstractContextManager[None]:
        """While inside, other libraries' threads keep out of the way: for many evaluations."""


class Textbook:
    """The layers exactly as `layers` defines them, one by one.

    Parameters
    ----------
    parameters : callable
        Name of a convolution -> its (kernel, bias) on the device, in the network's dtype.
    pooling : {'max', 'avg'}
    """

    def __init__(self, parameters: Parameters, pooling: str) -> None:
        self._parameters = cache(parameters)
        self._pooling = pooling

    def steps(self, path: Sequence[str], taps: Collection[str]) -> list[Step]:
        """See `Engine`."""
        return [(layer,) for layer in path]

    def forward(self, step: Step, x: Array, kept: bool, by_rows: bool = False) -> tuple[Array, Any]:
        """See `Engine`."""
        (layer,) = step
        if layer.startswith("conv"):
            kernel, bias = self._parameters(layer)
            return _by_bands(lambda x: layers.conv_forward(x, kernel, bias), x, kernel), None
        if layer.startswith("relu"):
            return layers.relu_forward(x)
        if self._pooling == "avg":
            return layers.avg_pool_forward(x), x.shape
        y, winners = layers.max_pool_forward(x)
        return y, (winners, x.shape)

    def backward(self, step: Step, dy: Array, cache: Any, gradient: Array = None) -> Array:
        """See `Engine`."""
        (layer,) = step
        dx = self._backward(layer, dy, cache)
        return dx if gradient is None else dx + gradient

    def _backward(self, layer: str, dy: Array, cache: Any) -> Array:
        if layer.startswith("conv"):
            kernel, _ = self._parameters(layer)
            return _by_bands(lambda dy: layers.conv_backward(dy, kernel), dy, kernel)
        if layer.startswith("relu"):
            return layers.relu_backward(dy, cache)
        if self._pooling == "avg":
            return layers.avg_pool_backward(dy, cache)
        return layers.max_pool_backward(dy, *cache)

    def contract(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        return a @ b

    def multiply(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        return a @ b

    def transform(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        return self.multiply(a, b)

    def by_rows(self, a: Array) -> Array:
        """See `Engine`."""
        return a

    def recycle(self, arrays: Iterable[Array]) -> None:
        """See `Engine`."""

    def release(self) -> None:
        """See `Engine`."""

    def alone(self) -> AbstractContextManager[None]:
        """See `Engine`. BLAS' threads are all that there are."""
        return nullcontext()


COLUMNS_BYTES = 2**25
"""What `im2col` may take at a time: less would mean more rows that two bands have in common."""


def _by_bands(convolve: Callable[[Array], Array], x: Array, kernel: Array) -> Array:
    """Apply a 3x3 operation to bands of rows, each with the row above and below, which then go.

    A GPU wants few launches: there it is one band.
    """
    H, W, _ = x.shape
    height = max(4, COLUMNS_BYTES // (9 * kernel.shape[2] * W * x.dtype.itemsize) - 2)
    if height >= H or array_module(x) is not np:
        return convolve(x)
    y = None
    for rows in bands(0, H, -(-H // -(-H // height))):
        above = min(rows.start, 1)
        band = convolve(x[rows.start - above : rows.stop + 1])
        if y is None:
            y = np.empty((H, W, band.shape[2]), x.dtype)
        y[rows] = band[above : above + rows.stop - rows.start]
    return y


WORTH_A_CALL = 2**16
"""Numbers that take about as long to pass over as it takes to hand work to a thread."""


class Fast:
    """The same in bands of rows, by Winograd's convolution, on all threads, reusing buffers.

    A step is a convolution with the ReLU and the pooling after it, up to the first tap: a band is
    convolved, rectified and pooled while it lies in the cache, and so is its gradient on the way
    back. Two scratch arrays take turns: each step reads what the last one wrote into the one, and
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
        self._parameters = parameters
        self._prepared: dict[str, Winograd] = {}
        self._alone = Textbook(parameters, pooling)
        self._memory = _Memory()

    def steps(self, path: Sequence[str], taps: Collection[str]) -> list[Step]:
        """See `Engine`."""
        return fused(path, taps)

    def forward(self, step: Step, x: Array, kept: bool, by_rows: bool = False) -> tuple[Array, Any]:
        """See `Engine`."""
        if step[0] == "conv1_1":
            return self._from_picture(step, x, kept, by_rows)
        if not step[0].startswith("conv"):  # behind a tap: too rare to be worth code of its own
            return self._alone.forward(step, x, kept)
        H, W, _ = x.shape
        convolution = self._convolution(step[0], (H, W))
        C = convolution.channels[1]
        if len(step) == 3:
            y = self._output((H // 2, W // 2, C), x.dtype, kept)
            gates = np.empty(y.shape, "uint8")
        else:
            y = self._output((H, W, C), x.dtype, kept)
            gates = y if kept or len(step) == 1 else np.empty((H, W, C // 8), "uint8")

        def read(rows: slice) -> tuple[Array, int]:
            halo, above = _with_halo(rows, H)
            part = np.asarray(x[halo])
            if isinstance(x, Again):
                x.show(rows, part[above : above + rows.stop - rows.start])
            return part, above

        def place(rows: slice) -> Array:
            if len(step) < 3:
                return y[rows]
            return self._buffer("rows", (rows.stop - rows.start, W, C), x.dtype)

        def finish(rows: slice, z: Array) -> None:
            if len(step) > 1:
                np.maximum(z, 0, out=z)
            if len(step) == 3:
                half = slice(rows.start // 2, rows.stop // 2)
                _POOL[self._pooling](z, y[half], gates[half])
            elif gates is not y:
                gates[rows] = np.packbits(z > 0, axis=2)

        convolution.forward(Job((H, W), x.dtype, read, place, finish, self._buffer, self._workers))
        return y, (gates, x)

    def backward(self, step: Step, dy: Array, cache: Any, gradient: Array = None) -> Array:
        """See `Engine`."""
        if step[0] == "conv1_1":
            return self._to_picture(step, dy, cache)
        if not step[0].startswith("conv"):
            return self._alone.backward(step, np.asarray(dy), cache, gradient)
        gates, x = cache
        H, W, C = x.shape
        convolution = self._convolution(step[0], (H, W))

        def read(rows: slice) -> tuple[Array, int]:
            halo, above = _with_halo(rows, H)
            return self._dz(step, dy, gates, halo, W), above

        def band(rows: slice) -> Array:
            return self._buffer("rows", (rows.stop - rows.start, W, C), dy.dtype)

        def run(place: Callable[[slice], Array], finish: Callable[[slice, Array], None]) -> None:
            def add(rows: slice, part: Array) -> None:
                if gradient is not None:
                    part += gradient[rows]  # which may be made of x
                finish(rows, part)

            job = Job((H, W), dy.dtype, read, place, add, self._buffer, self._workers)
            convolution.backward(job)

        if isinstance(x, Again):  # a band goes on to the picture while it is there
            return partial(run, band)
        if any(x is array for array in self._memory.recycled):  # then dx goes where x was

            def over(rows: slice, part: Array) -> None:
                # x was rectified: the mask, which would go with it, is applied now
                np.multiply(part, x[rows] > 0, out=x[rows])

            run(band, over)
            return x
        dx = self._output(x.shape, dy.dtype, kept=False)
        run(dx.__getitem__, lambda rows, part: None)
        return dx

    def _from_picture(self, step: Step, x: Array, kept: bool, by_rows: bool) -> tuple[Array, Any]:
        """The first convolution: of all the cheapest, with the largest output, which is not kept."""
        H, W, _ = x.shape
        padded = np.zeros((H + 2, W + 2, 3), x.dtype)
        padded[1:-1, 1:-1] = x
        whose = object()

        def compute(rows: slice) -> Array:
            if self._memory.first[:2] != (whose, rows):
                self._memory.first = (None,)  # its memory is written to
                y = self._direct.forward(padded, rows, self._buffer)
                if len(step) > 1:
                    np.maximum(y, 0, out=y)
                self._memory.first = whose, rows, y
            return self._memory.first[2]

        again = Again(compute, (H, W, len(self._direct.bias)), x.dtype, described=kept)
        if len(step) > 1 and (by_rows or not kept):
            return again, (again, again)
        y = self._output(again.shape, x.dtype, kept=True)

        def write(rows: slice) -> None:
            y[rows] = again[rows]

        self._workers.run(write, Direct.bands(H, W))
        return y, (y, y)

    def _to_picture(self, step: Step, dy: Any, cache: Any) -> Array:
        """Back through the first convolution, from dy or from what brings its bands one by one."""
        gates, x = cache
        H, W, _ = x.shape
        parts: dict[int, Array] = {}

        def carry(rows: slice, dz: Array) -> None:
            parts[rows.start] = self._direct.backward(dz, self._buffer)

        def mask(rows: slice, part: Array) -> None:
            np.multiply(part, np.asarray(gates[rows]) > 0, out=part)
            carry(rows, part)

        def fetch(rows: slice) -> None:
            carry(rows, self._dz(step, dy, gates, rows, W))

        if callable(dy):
            dy(mask)
        else:
            self._workers.run(fetch, Direct.bands(H, W))
        padded = np.zeros((3, H + 2, W + 2), x.dtype)
        for start, part in sorted(parts.items()):
            padded[:, start : start + part.shape[1]] += part
        return np.ascontiguousarray(padded[:, 1:-1, 1:-1].transpose(1, 2, 0))

    @cached_property
    def _direct(self) -> Direct:
        return Direct(*self._parameters("conv1_1"))

    def _convolution(self, layer: str, shape: tuple[int, int]) -> Winograd:
        """A convolution, prepared; kept until it is asked for a size that it does not suit."""
        found = self._prepared.get(layer)
        if found is None or not found.suits(shape):
            found = None  # its kernels go before others come
            self._prepared.pop(layer, None)
            found = self._prepared[layer] = prepare(*self._parameters(layer), shape)
        return found

    def _dz(self, step: Step, dy: Array, gates: Array, rows: slice, W: int) -> Array:
        """Some rows of dL/dz: back through the pooling and the ReLU, if the step has them."""
        if len(step) == 1 or gates is dy:  # in the place of the output is its gradient, masked
            return dy[rows]
        C = dy.shape[2]
        if len(step) == 2:
            dz = self._buffer("rows", (rows.stop - rows.start, W, C), dy.dtype)
            np.multiply(dy[rows], _mask_of(np.asarray(gates[rows])), out=dz)
            return dz
        pooled = slice(rows.start // 2, min(-(-rows.stop // 2), len(dy)))
        first, last = 2 * pooled.start, 2 * pooled.stop
        dz = self._buffer("rows", (max(last, rows.stop) - first, W, C), dy.dtype)
        dz[last - first :] = 0  # an odd last row or column was dropped
        dz[:, 2 * dy.shape[1] :] = 0
        upstream = dy[pooled] if self._pooling == "max" else dy[pooled] / 4
        for k, quarter in enumerate(layers.quarters(dz)):
            np.multiply(upstream, gates[pooled] & (1 << k) != 0, out=quarter)
        return dz[rows.start - first : rows.stop - first]

    def contract(self, a: Array, b: Array) -> Array:
        """See `Engine`. The slices do not depend on the number of threads, nor do the bits."""
        if isinstance(b, Again):  # a is its matrix, transposed
            return self._squares(b)
        height = max(4 * b.shape[1], -(-WORTH_A_CALL // b.shape[1]), -(-len(b) // 32))
        return sum(self._workers.run(lambda s: a[:, s] @ b[s], bands(0, len(b), height)))

    def _squares(self, F: Again) -> Array:
        """F^T F, as the next convolution has shown it, or of rows that are computed for its sake."""
        shown = F.shown()
        if shown is not None:
            return shown
        height, width, _ = F.maps.shape
        parts = (F.maps[rows] for rows in Direct.bands(height, width))
        return sum(self._workers.run(lambda part: square(np.asarray(part)), parts))

    def multiply(self, a: Array, b: Array) -> Array:
        """See `Engine`."""
        return a @ b

    def transform(self, a: Array, b: Array) -> Array:
        """See `Engine`. The rows are computed when the backward pass asks for them."""
        return Rows.of(a) @ b

    def by_rows(self, a: Array) -> Rows:
        """See `Engine`."""
        return Rows.of(a)

    def recycle(self, arrays: Iterable[Array]) -> None:
        """See `Engine`. Memory that the system has to provide anew costs more than to fill it."""
        self._memory.recycled = [array for array in arrays if not isinstance(array, Again)]

    def release(self) -> None:
        """See `Engine`."""
        self._memory.scratch = [_Room(), _Room()]
        self._memory.recycled = []

    def alone(self) -> AbstractContextManager[None]:
        """See `Engine`."""
        return self._workers.alone()

    def _output(self, shape: tuple[int, ...], dtype: Any, kept: bool) -> Array:
        """An array to write to: one of its own if it is to be kept, else the scratch in turn."""
        if not kept:
            self._memory.scratch.reverse()
            return self._memory.scratch[0].take(shape, dtype)
        for i, array in enumerate(self._memory.recycled):
            if array.shape == shape and array.dtype == dtype:
                return self._memory.recycled.pop(i)
        return np.empty(shape, dtype)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """The calling thread's buffer of this name; what was in it is lost."""
        return self._memory.buffers[name].take(shape, dtype)


class _Room:
    """Memory that grows to the largest array that was ever asked of it."""

    def __init__(self) -> None:
        self._bytes = self._array = np.empty(0, "uint8")

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array in this memory; the one that was taken last is lost."""
        if self._array.shape != shape or self._array.dtype != dtype:
            size = math.prod(shape) * np.dtype(dtype).itemsize
            if self._bytes.size < size:
                self._bytes = np.empty(size, "uint8")
            self._array = self._bytes[:size].view(dtype).reshape(shape)
        return self._array


class _Memory(threading.local):
    """What an engine writes to, for each thread its own, so that networks can be shared.

    Attributes
    ----------
    scratch : two rooms
        Of a thread that evaluates: what one step leaves for the next. They take turns.
    recycled : list of arrays
        Of a thread that evaluates: its last outputs, which nobody looks at any more.
    buffers : dict
        Of a worker: name -> room, within a band.
    first : (object, slice, array)
        Of a worker: of which picture's first layer it has computed which rows last, and these.
    """

    def __init__(self) -> None:
        self.scratch = [_Room(), _Room()]
        self.recycled: list[Array] = []
        self.first: tuple[Any, ...] = (None,)
        self.buffers: defaultdict[str, _Room] = defaultdict(_Room)


def _with_halo(rows: slice, length: int) -> tuple[slice, int]:
    """A band with the row above and below, if there is one; and how many there are above."""
    above = min(rows.start, 1)
    return slice(rows.start - above, min(rows.stop + 1, length)), above


def _mask_of(gates: Array) -> Array:
    """The mask of a ReLU, from what was kept: its bits, or the output."""
    return np.unpackbits(gates, axis=2).view(bool) if gates.dtype == "uint8" else gates > 0


def _max_pool(z: Array, y: Array, gates: Array) -> None:
    """Pool what a ReLU has rectified.

    Bit k of a gate is set if place k of the window will receive the gradient: the first of the
    largest, if it is not zero.
    """
    a, b, c, d = layers.quarters(z)
    upper, lower = np.maximum(a, b), np.maximum(c, d)
    np.maximum(upper, lower, out=y)
    in_upper, in_lower, below = (
        (first < second).view("uint8") for first, second in ((a, b), (c, d), (upper, lower))
    )
    k = in_upper + below * (2 + in_lower - in_upper)
    np.left_shift((y > 0).view("uint8"), k, out=gates)


def _avg_pool(z: Array, y: Array, gates: Array) -> None:
    """The same for averages: all places that are not zero receive a part."""
    y[...] = layers.avg_pool_forward(z)
    gates[...] = 0
    for k, quarter in enumerate(layers.quarters(z)):
        gates |= (quarter > 0).view("uint8") << k


_POOL = {"max": _max_pool, "avg": _avg_pool}
