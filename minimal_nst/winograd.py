r"""The fast convolution: Winograd's F(4x4, 3x3), with the signatures of `layers`.

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
memory, so B^T times them transforms a whole row of tiles along the one axis; cut into tiles, they
are transformed along the other axis by a second product. On the way out the same two steps go
backwards, and the last product writes four rows of the result. Channels are contiguous throughout.

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
from numpy.lib.stride_tricks import as_strided

TAPS = 3


@dataclass(frozen=True)
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
"""F(4x4, 3x3), with the points whose rounding errors were the least of the sets we tried.

F(6x6, 3x3) works just as well, but was faster for layers of 128 channels only, and its transformed
kernels are 1.8 times as large."""

TURNED = F4.turned()
"""The same for the backward pass."""


def transform_kernel(kernel: np.ndarray, transform: Transform = F4) -> np.ndarray:
    """Return U = G g G^T of every pair of channels.

    Parameters
    ----------
    kernel : (3, 3, C_in, C_out) array
    transform : Transform

    Returns
    -------
    (n*n, C_in, C_out) array
    """
    _, _, C_in, C_out = kernel.shape
    G, n = transform.G, transform.n
    U = np.empty((n, n, C_in, C_out), kernel.dtype)
    for c in range(C_in):  # in float64: a rounded G would be wrong in the same way everywhere
        rows = (G @ kernel[:, :, c].reshape(TAPS, -1)).reshape(n, TAPS, C_out)  # (n i, 3, C_out)
        U[:, :, c] = np.matmul(G, rows).swapaxes(0, 1)  # (n j, n i, C_out)
    return U.reshape(n * n, C_in, C_out)


def workspace_size(shape: tuple[int, ...], C_out: int, transform: Transform = F4) -> int:
    """Return how many numbers the buffer of `convolve` has to hold, for an output (h, W, C_in)."""
    m, n = transform.m, transform.n
    down, across = (-(-side // m) for side in shape[:2])
    return n * (2 * n * down * across + m * across + 2) * max(shape[2], C_out)


def convolve(
    x: np.ndarray,
    above: int,
    U: np.ndarray,
    bias: np.ndarray | None,
    transform: Transform,
    buffer: np.ndarray,
    y: np.ndarray,
) -> None:
    """Convolve a band of the picture.

    Parameters
    ----------
    x : (above + h + below, W, C_in) array
        The rows of the band, and those next to it: above and below are 1, or 0 where the picture
        ends, beyond which there are zeros.
    above : {0, 1}
    U : (n*n, C_in, C_out) array
        From `transform_kernel`; for the backward pass with its last axes swapped.
    bias : (C_out,) array or None
    transform : Transform
        For the backward pass, `turned`.
    buffer : (size,) array
        Of `workspace_size` or more. Two parts of it take turns: each step reads one of them and
        writes the other; the third holds a row of tiles that is not yet, or no more, cut.
    y : (h, W, C_out) array
        Is written.

    References
    ----------
    The course: :eq:`winograd`.
    """
    m, n = transform.m, transform.n
    A, B = transform.A_T.astype(x.dtype), transform.B_T.astype(x.dtype)
    (h, W, C_out), C_in = y.shape, x.shape[2]
    down, across = -(-h // m), -(-W // m)
    tiles = down * across
    part = n * n * tiles * max(C_in, C_out)
    here, there, strip = buffer[:part], buffer[part : 2 * part], buffer[2 * part :]

    d = _take(here, n, n, down, across, C_in)
    uncut = _take(strip, n, m * across + 2, C_in)
    uncut[:, 0] = uncut[:, W + 1 :] = 0
    for t in range(down):
        top = m * t - 1 + above
        inside = slice(max(top, 0), min(top + n, len(x)))  # outside of the picture: zeros
        i = slice(inside.start - top, inside.stop - top)
        np.matmul(B[:, i], _as_rows(x[inside]), out=_as_rows(uncut[:, 1 : W + 1]))  # B^T d
        for j in range(n):
            d[j, :, t] = uncut[:, j : j + m * across - m + 1 : m]
    V = _take(there, n * n, tiles, C_in)
    np.matmul(B, d.reshape(n, -1), out=V.reshape(n, -1))  # B^T d B
    Z = _take(here, n * n, tiles, C_out)
    np.matmul(V, U, out=Z)
    if bias is not None:
        Z[n + 1] += bias  # A^T of the point (1, 1) is all ones: it reaches all outputs
    outputs = _take(there, m, n, down, across, C_out)
    np.matmul(A, Z.reshape(n, -1), out=outputs.reshape(m, -1))  # Z A
    joined = _take(strip, n, W, C_out)
    for t in range(down):
        for j in range(m):
            whole = -(-(W - j) // m)  # the last tile may hang over the edge
            joined[:, j::m] = outputs[j, :, t, :whole]
        rows = y[m * t : m * (t + 1)]
        np.matmul(A[: len(rows)], _as_rows(joined), out=_as_rows(rows))  # A^T Z A


def _take(buffer: np.ndarray, *shape: int) -> np.ndarray:
    """The beginning of a buffer, as an array of this shape."""
    return buffer[: math.prod(shape)].reshape(shape)


def _as_rows(x: np.ndarray) -> np.ndarray:
    """(n, W, C), where (W, C) is contiguous -> (n, W*C), without a copy."""
    n, W, C = x.shape
    rows: np.ndarray = as_strided(x, (n, W * C), (x.strides[0], x.itemsize))
    return rows


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
    return _whole(dy, transform_kernel(kernel).transpose(0, 2, 1), None, TURNED)


def _whole(
    x: np.ndarray, U: np.ndarray, bias: np.ndarray | None, transform: Transform
) -> np.ndarray:
    y = np.empty((*x.shape[:2], U.shape[2]), x.dtype)
    buffer = np.empty(workspace_size(x.shape, U.shape[2], transform), x.dtype)
    convolve(np.ascontiguousarray(x), 0, U, bias, transform, buffer, y)
    return y
