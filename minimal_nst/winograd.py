r"""The fast convolution: Winograd's F(4x4, 3x3), and others of its kind.

Four neighbouring outputs of a filter with three taps are y_k = sum_i d_{k+i} g_i for k = 0..3, with
six inputs d. Done directly that takes 4 * 3 = 12 products. Read d, g and y as polynomials: by
transposing the Toom-Cook product of polynomials of degree 3 and 2, which multiplies their *values*
at six points, the same y takes 6 products:

.. math:: y = A^T \left[ (G g) \odot (B^T d) \right]

The points are small numbers and infinity. For p_i one of the finite ones:

* row i of G evaluates the filter: (1, p_i, p_i^2) / f_i with f_i = prod_{j != i} (p_i - p_j);
* column i of A^T is (1, p_i, p_i^2, p_i^3);
* row i of B^T has the coefficients of prod_{j != i} (t - p_j);
* infinity takes the leading coefficients: (0, 0, 1), (0, 0, 0, 1), and prod_j (t - p_j).

In two dimensions each matrix is applied along both axes, Y = A^T [(G g G^T) * (B^T d B)] A, with 36
products instead of 144 for each 4x4 outputs and each pair of channels. Over all channels and all
tiles, each of the 36 products is one matrix product, (tiles, C_in) @ (C_in, C_out).

The transforms are matrix products too. Six rows of the picture are a matrix (6, W*C) as they lie in
memory, so B^T times them transforms a whole row of tiles along the one axis. Six neighbouring
places of a row are a matrix (6, C), and B^T times each of these transforms along the other axis:
tiles overlap, but nothing is copied to cut them. On the way out the same two steps go backwards,
and the last product writes four rows of the result. Channels are contiguous throughout. Each step
is one call for all the rows of tiles of a band: other threads can work while NumPy computes, but
not while Python is on its way from one call to the next.

The backward pass is a convolution with the kernel turned by 180 degrees. Turning kernel, input and
output all together changes nothing, so it needs no transform of its own: the same U serves, if B^T
reads its tile, and A^T writes its tile, back to front.

Glossary::

    tile     m x m outputs, for which n x n inputs are needed, n = m + 2; inputs overlap by two
    band     some rows of the picture, for the buffers to stay small; it begins with a tile
    i, j     place in a tile, along its rows and along its columns; the tile's own axes are (j, i)
    U        (n*n, C_in, C_out) transformed kernel
    V, Z     (n*n, tiles, C_in) and (n*n, tiles, C_out) transformed input and output

References
----------
Lavin & Gray (2016), "Fast Algorithms for Convolutional Neural Networks"; Barabasz et al. (2020),
"Error Analysis and Improving the Accuracy of Winograd Convolution", on the choice of points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .backend import Array, array_module

TAPS = 3


@dataclass(frozen=True, eq=False)
class Transform:
    """The matrices of one algorithm F(m x m, 3 x 3).

    Attributes
    ----------
    A_T, G, B_T : (m, n), (n, 3) and (n, n) arrays
        As in the text above.
    """

    A_T: np.ndarray
    G: np.ndarray
    B_T: np.ndarray

    @property
    def m(self) -> int:
        """Side of a tile of outputs."""
        return len(self.A_T)

    @property
    def n(self) -> int:
        """Side of a tile of inputs, and number of points."""
        return len(self.B_T)

    def turned(self) -> Transform:
        """The same for the kernel turned by 180 degrees, as the backward pass needs it."""
        return Transform(self.A_T[::-1], self.G[:, ::-1], self.B_T[:, ::-1])


def toom_cook(points: tuple[float, ...]) -> Transform:
    """Return the matrices for these finite points, of which the second is 1, and infinity."""
    n = len(points) + 1
    m = n - TAPS + 1
    A_T, G, B_T = np.zeros((m, n)), np.zeros((n, TAPS)), np.zeros((n, n))
    for i, p in enumerate(points):
        others = points[:i] + points[i + 1 :]
        A_T[:, i] = p ** np.arange(m)
        G[i] = p ** np.arange(TAPS) / np.prod([p - q for q in others])
        B_T[i, : n - 1] = np.poly(others)[::-1]
    A_T[-1, -1] = G[-1, -1] = 1
    B_T[-1] = np.poly(points)[::-1]
    return Transform(A_T, G, B_T)


F4 = toom_cook((0.0, 1.0, -1.0, -2.0, 0.5))
"""F(4x4, 3x3), with the points whose rounding errors were the least of the sets we tried."""

F6 = toom_cook((0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5))
"""F(6x6, 3x3): a fifth fewer products, and less to write and read; but its transformed kernels are
1.8 times as large, and its rounding errors larger too. The points were chosen in the same way."""

F2 = toom_cook((0.0, 1.0, -1.0))
"""F(2x2, 3x3): 16 products for 4 outputs; its transformed kernels are less than half as large."""


SMALL = 10**6
"""Multiplications of a product up to which OpenBLAS, where there is AVX-512, reads the factors as
they lie. Larger ones it packs, which is worth it for a product of large sides: not for these."""


def transform_kernel(kernel: Array, transform: Transform = F4, at_a_time: int = 1) -> Array:
    """Return U = G g G^T of every pair of channels.

    Parameters
    ----------
    kernel : (3, 3, C_in, C_out) array
        On either array module.
    transform : Transform
    at_a_time : int
        Input channels that are transformed in one go: many take more memory, and fewer calls.

    Returns
    -------
    (n*n, C_in, C_out) array
    """
    xp = array_module(kernel)
    _, _, C_in, C_out = kernel.shape
    G, n = xp.asarray(transform.G), transform.n
    U = xp.empty((n, n, C_in, C_out), kernel.dtype)
    for c in range(0, C_in, at_a_time):  # in float64: a rounded G would be wrong everywhere
        part = kernel[:, :, c : c + at_a_time].reshape(TAPS, -1)
        rows = (G @ part).reshape(n, TAPS, -1)  # (n i, 3, channels)
        columns = xp.matmul(G, rows).reshape(n, n, -1, C_out)  # (n i, n j, C, C_out)
        U[:, :, c : c + at_a_time] = columns.transpose(1, 0, 2, 3)
    return U.reshape(n * n, C_in, C_out)


def transform_input(
    x: np.ndarray, above: int, transform: Transform, strip: np.ndarray, V: np.ndarray
) -> None:
    """Transform some rows of the picture, tile by tile: V = B^T d B.

    Parameters
    ----------
    x : (above + h + below, W, C_in) array
        The rows, and those next to them: above and below are 1, or 0 where the picture ends,
        beyond which there are zeros.
    above : {0, 1}
    transform : Transform
        For the backward pass, `turned`.
    strip : (down * n * (m * across + 2) * C_in,) array
        Or more, to work in: it is for B^T d, in which tiles still overlap.
    V : (n, n, down, across, C_in) array
        Is written. It may be a part of a larger one, of some rows of tiles: its last two axes are
        contiguous.

    References
    ----------
    The course: :eq:`winograd`.
    """
    m, n = transform.m, transform.n
    B = transform.B_T.astype(x.dtype)
    (down, across, C_in), W = V.shape[2:], x.shape[1]
    halfway = _take(strip, down, n, m * across + 2, C_in)
    halfway[:, :, 0] = halfway[:, :, W + 1 :] = 0
    rows = halfway[:, :, 1 : W + 1]
    whole = range(1 - above, (len(x) - above - 1) // m)  # of these tiles, all rows are in x
    if whole:
        inputs = _windows(x[m * whole.start - 1 + above :], len(whole), n, m)
        _apply(B, inputs, _as_rows(rows[whole.start : whole.stop]))  # B^T d
    for t in {0, down - 1}.difference(whole):
        top = m * t - 1 + above
        inside = slice(max(top, 0), min(top + n, len(x)))  # outside of the picture: zeros
        i = slice(inside.start - top, inside.stop - top)
        _apply(B[:, i], _as_rows(x[inside]), _as_rows(rows[t]))
    tile_row, row, column, channel = halfway.strides
    strides = (tile_row, row, m * column, column, channel)  # tiles overlap by two
    tiles = np.ndarray((down, n, across, n, C_in), x.dtype, halfway, 0, strides)
    np.matmul(B, tiles, out=_tile_by_tile(V))  # B^T d B


def transform_output(
    Z: np.ndarray,
    bias: np.ndarray | None,
    transform: Transform,
    strip: np.ndarray,
    y: np.ndarray,
) -> None:
    """Transform the products back, tile by tile: y = A^T Z A, and the bias.

    Parameters
    ----------
    Z : (n, n, down, across, C_out) array
        A part of a larger one, as V; the bias is added to it.
    bias : (C_out,) array or None
    transform : Transform
        The one of `transform_input`.
    strip : (down * n * m * across * C_out,) array
        Or more, to work in: it is for Z A.
    y : (h, W, C_out) array
        Is written.

    References
    ----------
    The course: :eq:`winograd`.
    """
    m, n = transform.m, transform.n
    A = transform.A_T.astype(y.dtype)
    (down, across, C_out), (h, W, _) = Z.shape[2:], y.shape
    if bias is not None:
        Z[1, 1] += bias  # A^T of the point (1, 1) is all ones: it reaches all outputs
    halfway = _take(strip, down, n, m * across, C_out)
    np.matmul(A, _tile_by_tile(Z), out=halfway.reshape(down, n, across, m, C_out))  # Z A
    rows = halfway[:, :, :W]  # the last tile may hang over the edge, on the right and below
    full, rest = divmod(h, m)
    tall = y[: m * full].reshape(full, m, W, C_out)
    _apply(A, _as_rows(rows[:full]), _as_rows(tall))  # A^T Z A
    if rest:
        _apply(A[:rest], _as_rows(rows[full]), _as_rows(y[m * full :]))


def _take(buffer: np.ndarray, *shape: int) -> np.ndarray:
    """The beginning of a buffer, as an array of this shape."""
    return buffer[: math.prod(shape)].reshape(shape)


def _apply(matrix: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """Write matrix @ x, for wide (..., n, N) x, in pieces of columns that make `SMALL` products."""
    N, pieces = x.shape[-1], 1
    while matrix.size * N > pieces * SMALL and N % (2 * pieces) == 0:
        pieces *= 2

    def cut(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:-1], pieces, N // pieces).swapaxes(-2, -3)

    np.matmul(matrix, cut(x), out=cut(out))


def _as_rows(x: np.ndarray) -> np.ndarray:
    """(..., n, W, C), where (W, C) is contiguous -> (..., n, W*C), without a copy."""
    *rest, W, C = x.shape
    return x.reshape(*rest, W * C)


def _windows(x: np.ndarray, count: int, n: int, m: int) -> np.ndarray:
    """(H, W, C) -> (count, n, W*C): n rows at a time, beginning m rows apart, without a copy."""
    row = x.strides[0]
    return np.ndarray((count, n, row // x.itemsize), x.dtype, x, 0, (m * row, row, x.itemsize))


def _tile_by_tile(V: np.ndarray) -> np.ndarray:
    """(j, i, down, across, C) -> (down, i, across, j, C): for each row of a tile, a matrix."""
    return V.transpose(2, 1, 3, 0, 4)


def conv_forward(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Convolve with 3x3 kernels: what `layers.conv_forward` does, in one band.

    Parameters
    ----------
    x : (H, W, C_in) array
    kernel : (3, 3, C_in, C_out) array
    bias : (C_out,) array

    Returns
    -------
    (H, W, C_out) array
    """
    return _whole(x, transform_kernel(kernel), bias, F4)


def conv_backward(dy: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Gradient with respect to x: what `layers.conv_backward` does, in one band.

    Parameters
    ----------
    dy : (H, W, C_out) array
    kernel : (3, 3, C_in, C_out) array

    Returns
    -------
    (H, W, C_in) array
    """
    return _whole(dy, transform_kernel(kernel).transpose(0, 2, 1), None, F4.turned())


def _whole(
    x: np.ndarray, U: np.ndarray, bias: np.ndarray | None, transform: Transform
) -> np.ndarray:
    (H, W, C_in), C_out = x.shape, U.shape[2]
    m, n = transform.m, transform.n
    down, across = -(-H // m), -(-W // m)
    V = np.empty((n, n, down, across, C_in), x.dtype)
    Z = np.empty((n, n, down, across, C_out), x.dtype)
    y = np.empty((H, W, C_out), x.dtype)
    strip = np.empty(down * n * (m * across + 2) * max(C_in, C_out), x.dtype)
    transform_input(np.ascontiguousarray(x), 0, transform, strip, V)
    np.matmul(V.reshape(n * n, -1, C_in), U, out=Z.reshape(n * n, -1, C_out))
    transform_output(Z, bias, transform, strip, y)
    return y
