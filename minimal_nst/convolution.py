"""The fast engine's convolutions: who computes what, on which thread, in which buffer.

Winograd's is three stages: the tiles are transformed, multiplied, and transformed back. For a
narrow layer each thread takes a band of the picture through all three while it lies in the cache.
For a wide one that would be dear: each band reads all 36 transformed kernels, 38 MB for 512
channels, more than the numbers of the picture. There all threads share one band. In the first stage
and in the last they divide its rows of tiles among them, in between the 36 products; so each kernel
is read once, and the matrices that it is multiplied by are as tall as can be.

Glossary::

    band    some rows of the picture, and their numbers in the buffers
    V, Z    a band's transformed input and output; each stage reads from the one before it
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import layers, winograd
from .backend import Array, Workers, bands
from .winograd import F2, F4, F6, Transform

BAND_BYTES = {64: 3 * 2**19, 128: 3 * 2**20, 256: 3 * 2**21, 512: 2**25}
"""Wider side of a convolution, in channels -> bytes of a buffer of a band: what was fastest.

Narrow layers are bound by memory and want buffers that stay in a cache; wide ones are bound by
their matrix products and want tall matrices. And between two calls of NumPy one thread may have to
wait for the other: fewer bands, fewer calls."""

SHARED_FROM = 512
"""Channels of the wider side from which all threads share a band."""

COPIED_UP_TO = 128
"""Channels of the wider side up to which the transformed kernels are kept twice, for the way back
transposed: with AVX-512, OpenBLAS is up to twice as fast if it need not read them so. Those of the
wider layers would be dear, and the tall matrices gain less."""

PART = 2**7
"""Positions of a shared band that a thread transforms at a time, at least."""

POINTS = 3
"""Of the 36 products, how many a thread takes at a time."""

FEW_POSITIONS = 2**8
"""In so small a picture a layer whose bands are shared has more kernels to read than tiles: it is
done by F(2x2), whose kernels are less than half as many."""

MANY_POSITIONS = {256: 2**14, 512: 2**13}
"""Wider side of a convolution, in channels -> positions from which on F(6x6) was faster: it has less
to multiply and to move, but more of the kernels to read, for every band."""

DIRECT_BAND = 2**13
"""Positions in a band of the first convolution."""


Buffer: TypeAlias = Callable[[str, tuple[int, ...], Any], Array]
"""Name, shape, dtype -> the calling thread's memory of this name."""


@dataclass(frozen=True)
class Job:
    """A convolution of one picture, as its engine wants it done.

    Attributes
    ----------
    shape : (int, int)
        Height and width.
    dtype : dtype
    read : callable
        Rows -> the input's rows with, above and below, one more where there is one; and how many
        there are above. It is asked on the thread that needs them, and may use its buffers.
    place : callable
        Rows -> where the output's are to be written: (h, W, C_out).
    finish : callable
        Rows, output -> None; is called once for each band that has been written.
    buffer : Buffer
    workers : Workers
    """

    shape: tuple[int, int]
    dtype: Any
    read: Callable[[slice], tuple[Array, int]]
    place: Callable[[slice], Array]
    finish: Callable[[slice, Array], None]
    buffer: Buffer
    workers: Workers


@dataclass(frozen=True)
class Winograd:
    """A convolution by `winograd`'s three stages.

    Attributes
    ----------
    U : (n*n, C_in, C_out) array
        From `winograd.transform_kernel`.
    bias : (C_out,) array or None
    transform : Transform
    """

    U: Array
    bias: Array | None
    transform: Transform

    @property
    def channels(self) -> tuple[int, int]:
        """(C_in, C_out)."""
        _, C_in, C_out = self.U.shape
        return C_in, C_out

    def suits(self, shape: tuple[int, int]) -> bool:
        """Whether `prepare` would do the same for a picture of this height and width."""
        return self.transform is transform_for(self.channels, shape)

    def forward(self, job: Job) -> None:
        """Convolve, and add the bias."""
        self._convolve(job)

    def backward(self, job: Job) -> None:
        """Carry the gradient back: the input is dL/dy, the output dL/dx."""
        self._turned._convolve(job)

    @cached_property
    def _turned(self) -> Winograd:
        """With the kernel turned by 180 degrees, and the channels exchanged."""
        U = self.U.transpose(0, 2, 1)
        if max(self.channels) <= COPIED_UP_TO:
            U = np.ascontiguousarray(U)
        return Winograd(U, None, self.transform.turned())

    def _convolve(self, job: Job) -> None:
        found = bands_for(self.channels, job.shape, self.transform, np.dtype(job.dtype).itemsize)
        if max(self.channels) < SHARED_FROM:
            job.workers.run(
                lambda band: _stages(job, self, band, [band], [slice(None)], _in_turn), found
            )
            return
        m = self.transform.m
        points = bands(0, len(self.U), POINTS)
        for band in found:
            rows = bands(band.start, band.stop, m * -(-PART // (m * job.shape[1])))
            _stages(job, self, band, rows, points, job.workers.run)


def _stages(
    job: Job,
    convolution: Winograd,
    band: slice,
    parts: list[slice],
    points: list[slice],
    run: Callable[[Callable[[slice], None], Iterable[slice]], Any],
) -> None:
    """Take a band through the three stages: `run` over its parts, the points, and the parts."""
    U, bias, transform = convolution.U, convolution.bias, convolution.transform
    m, n = transform.m, transform.n
    _, C_in, C_out = U.shape
    C = max(C_in, C_out)
    down, across = -(-(band.stop - band.start) // m), -(-job.shape[1] // m)
    V = job.buffer("V", (n, n, down, across, C_in), job.dtype)
    Z = job.buffer("Z", (n, n, down, across, C_out), job.dtype)

    def part(rows: slice) -> tuple[slice, Array]:
        """Of some rows: which tiles, and a buffer to work in."""
        tiles = slice((rows.start - band.start) // m, -(-(rows.stop - band.start) // m))
        number = (tiles.stop - tiles.start) * n * (m * across + 2) * C
        return tiles, job.buffer("strip", (number,), job.dtype)

    def enter(rows: slice) -> None:
        tiles, strip = part(rows)
        x, above = job.read(rows)
        winograd.transform_input(x, above, transform, strip, V[:, :, tiles])

    def multiply(points: slice) -> None:
        inputs, outputs = V.reshape(n * n, -1, C_in), Z.reshape(n * n, -1, C_out)
        np.matmul(inputs[points], U[points], out=outputs[points])

    def leave(rows: slice) -> None:
        tiles, strip = part(rows)
        y = job.place(rows)
        winograd.transform_output(Z[:, :, tiles], bias, transform, strip, y)
        job.finish(rows, y)

    run(enter, parts)
    run(multiply, points)
    run(leave, parts)


def _in_turn(function: Callable[[slice], None], items: Iterable[slice]) -> None:
    for item in items:
        function(item)


@dataclass(frozen=True)
class Direct:
    """The first convolution, as in `layers` but with buffers: for three channels, tiles are a waste.

    Attributes
    ----------
    kernel : (3, 3, 3, C_out) array
    bias : (C_out,) array
    """

    kernel: Array
    bias: Array

    def forward(self, padded: Array, rows: slice, buffer: Buffer) -> Array:
        """Some rows of the output: `layers.im2col`, three rows of nine numbers a position.

        Parameters
        ----------
        padded : (H + 2, W + 2, 3) array
            The picture within zeros.
        rows : slice
        buffer : callable
            As in `Job`; the output lies in one.

        Returns
        -------
        (h, W, C_out) array
        """
        h, W, C_out = rows.stop - rows.start, padded.shape[1] - 2, len(self.bias)
        down, right, item = padded.strides
        cols = buffer("columns", (h, W, 3, 9), padded.dtype)
        cols[...] = as_strided(padded[rows.start :], cols.shape, (down, right, down, item))
        y = buffer("first", (h, W, C_out), padded.dtype)
        np.matmul(cols.reshape(-1, 27), self.kernel.reshape(27, -1), out=y.reshape(-1, C_out))
        y += self.bias
        return y

    def backward(self, dy: Array, buffer: Buffer) -> Array:
        """What some rows' gradient comes to in the picture: `layers.col2im`.

        Parameters
        ----------
        dy : (h, W, C_out) array
        buffer : callable
            As in `Job`.

        Returns
        -------
        (3, h + 2, W + 2) array
            With the rows and columns next to them, of which others have a part.
        """
        h, W, C_out = dy.shape
        dcols = buffer("columns", (27, h * W), dy.dtype)
        np.matmul(self.kernel.reshape(27, C_out), dy.reshape(-1, C_out).T, out=dcols)
        dx = np.zeros((3, h + 2, W + 2), dy.dtype)
        for (i, j), part in zip(layers.OFFSETS, dcols.reshape(9, 3, h, W), strict=True):
            dx[:, i : i + h, j : j + W] += part
        return dx

    @staticmethod
    def bands(H: int, W: int) -> list[slice]:
        """Cut the rows of a picture into bands of about `DIRECT_BAND` positions."""
        return bands(0, H, 2 * -(-DIRECT_BAND // (2 * W)))


def prepare(kernel: Array, bias: Array, shape: tuple[int, int]) -> Winograd:
    """The way to convolve maps of this height and width that is the fastest."""
    transform = transform_for(kernel.shape[2:], shape)
    return Winograd(winograd.transform_kernel(kernel, transform), bias, transform)


def transform_for(channels: tuple[int, int], shape: tuple[int, int]) -> Transform:
    """Which tiles a convolution of a picture of this height and width is done in."""
    width, positions = max(channels), math.prod(shape)
    if width >= SHARED_FROM and positions <= FEW_POSITIONS:
        return F2
    return F6 if positions >= _up_to(width, MANY_POSITIONS) else F4


def bands_for(
    channels: tuple[int, int], shape: tuple[int, int], transform: Transform, item: int
) -> list[slice]:
    """Cut the rows into bands of about `BAND_BYTES`; where each has one thread, an even number.

    Their heights differ by one row of tiles at most, so that two threads are done together. They do
    not depend on the threads, because BLAS rounds differently for matrices of other heights.

    Parameters
    ----------
    channels : (int, int)
        (C_in, C_out).
    shape : (int, int)
        Height and width of the picture.
    transform : Transform
        Which tiles it is cut into.
    item : int
        How many bytes a number has.

    Returns
    -------
    list of slice
        The rows of the bands, from the first to the last.
    """
    width, m = max(channels), transform.m
    down, across = (-(-side // m) for side in shape)
    size = transform.n**2 * down * across * width * item
    number = -(-size // _up_to(width, BAND_BYTES))
    tallest = -(-down // number)
    number = -(-down // tallest)
    if width < SHARED_FROM:
        number = min(number + number % 2, down)
    cuts = [m * (k * down // number) for k in range(number)]
    return [slice(start, stop) for start, stop in pairwise([*cuts, shape[0]])]


def _up_to(width: int, table: dict[int, int]) -> int:
    """The entry for so many channels."""
    return next(entry for channels, entry in table.items() if width <= channels)
