r"""The layers of VGG-19, as the textbook has them: each backward stands below its forward.

Weights are frozen, so a backward pass computes dL/dx only. What it needs is what its forward
returned, and the least that will do: a convolution caches nothing, a ReLU its mask, a max-pool
its winners. No function modifies its arguments. All of them work in float32, float64 and (for
the complex-step check) complex128, where a comparison looks at the real part.

Glossary::

    H, W, C   height, width and channels of a feature map: x is (H, W, C)
    kernel    (3, 3, C_in, C_out), as the weight file has it
    cols      (H*W, 9*C), one row per position: its 3x3 neighbourhood, offset by offset
    dx        dL/dx, the gradient of the loss with respect to x, of the shape of x
"""

from __future__ import annotations

from .backend import Array, array_module

OFFSETS = [(i, j) for i in range(3) for j in range(3)]
"""The nine places of a 3x3 neighbourhood, row by row."""


def im2col(x: Array) -> Array:
    """Lay the 3x3 neighbourhood of every position out as a row.

    Outside of the picture there are zeros (padding 1), so there are as many rows as positions.

    Parameters
    ----------
    x : (H, W, C) array

    Returns
    -------
    (H*W, 9*C) array

    References
    ----------
    Chellapilla, Puri & Simard (2006), "High Performance Convolutional Neural Networks for
    Document Processing", section 2.
    """
    xp = array_module(x)
    H, W, C = x.shape
    padded = xp.zeros((H + 2, W + 2, C), dtype=x.dtype)
    padded[1:-1, 1:-1] = x
    cols = xp.empty((H, W, 9, C), dtype=x.dtype)
    for k, (i, j) in enumerate(OFFSETS):
        cols[:, :, k] = padded[i : i + H, j : j + W]
    return cols.reshape(H * W, 9 * C)


def col2im(cols: Array, shape: tuple[int, int, int]) -> Array:
    """Add every row's neighbourhood back to where it came from: the adjoint of `im2col`.

    For all x and cols, ``<im2col(x), cols> = <x, col2im(cols)>``.

    Parameters
    ----------
    cols : (H*W, 9*C) array
    shape : (H, W, C)

    Returns
    -------
    (H, W, C) array
    """
    xp = array_module(cols)
    H, W, C = shape
    cols = cols.reshape(H, W, 9, C)
    padded = xp.zeros((H + 2, W + 2, C), dtype=cols.dtype)
    for k, (i, j) in enumerate(OFFSETS):
        padded[i : i + H, j : j + W] += cols[:, :, k]
    return padded[1:-1, 1:-1]


def conv_forward(x: Array, kernel: Array, bias: Array) -> Array:
    r"""Convolve with 3x3 kernels, zero padding 1: a matrix product after `im2col`.

    .. math:: y_{hwd} = b_d + \sum_{ijc} k_{ijcd}\, x_{h+i-1,\,w+j-1,\,c}

    Parameters
    ----------
    x : (H, W, C_in) array
    kernel : (3, 3, C_in, C_out) array
    bias : (C_out,) array

    Returns
    -------
    (H, W, C_out) array

    References
    ----------
    Simonyan & Zisserman (2015), section 2.1.
    The course: :eq:`conv`.
    """
    H, W, C_in = x.shape
    y = im2col(x) @ kernel.reshape(9 * C_in, -1) + bias  # (H*W, C_out)
    return y.reshape(H, W, -1)


def conv_backward(dy: Array, kernel: Array) -> Array:
    """Gradient of `conv_forward` with respect to x: the transposed product, then `col2im`.

    Parameters
    ----------
    dy : (H, W, C_out) array
    kernel : (3, 3, C_in, C_out) array

    Returns
    -------
    (H, W, C_in) array

    References
    ----------
    The course: :eq:`back`.
    """
    H, W, C_out = dy.shape
    C_in = kernel.shape[2]
    dcols = dy.reshape(H * W, C_out) @ kernel.reshape(9 * C_in, C_out).T  # (H*W, 9*C_in)
    return col2im(dcols, (H, W, C_in))


def relu_forward(x: Array) -> tuple[Array, Array]:
    """Rectify: max(0, x).

    The product with the mask, unlike a selection, lets a NaN through, so that it is noticed.

    Parameters
    ----------
    x : (...) array

    Returns
    -------
    y : (...) array
    mask : (...) array of bool
        Where x > 0.

    References
    ----------
    The course: :eq:`relu`.
    """
    mask = x.real > 0
    return x * mask, mask


def relu_backward(dy: Array, mask: Array) -> Array:
    """Gradient of `relu_forward`. The derivative at 0 is taken to be 0.

    Parameters
    ----------
    dy : (...) array
    mask : (...) array of bool

    Returns
    -------
    (...) array

    References
    ----------
    Bertoin et al. (2021), "Numerical influence of ReLU'(0) on backpropagation".
    The course: :eq:`drelu`.
    """
    return dy * mask


def quarters(x: Array) -> list[Array]:
    """Views of x at the four places of the 2x2 windows, row by row; an odd rest is left out."""
    h, w = x.shape[0] // 2, x.shape[1] // 2
    return [x[i : 2 * h : 2, j : 2 * w : 2] for i in (0, 1) for j in (0, 1)]


def max_pool_forward(x: Array) -> tuple[Array, Array]:
    """Take the maximum of each 2x2 window; an odd last row or column is dropped, as in VGG.

    Parameters
    ----------
    x : (H, W, C) array

    Returns
    -------
    y : (H//2, W//2, C) array
    winners : (H//2, W//2, C) array of uint8
        Which of the four (row by row) was the maximum; among equals the first.
    """
    xp = array_module(x)
    first, *others = quarters(x)
    y, winners = first, xp.zeros(first.shape, dtype="uint8")
    for k, quarter in enumerate(others, start=1):
        larger = quarter.real > y.real
        y = xp.where(larger, quarter, y)
        winners = xp.where(larger, k, winners)
    return y, winners


def max_pool_backward(dy: Array, winners: Array, shape: tuple[int, int, int]) -> Array:
    """Gradient of `max_pool_forward`: each window's gradient goes to its winner.

    Parameters
    ----------
    dy : (H//2, W//2, C) array
    winners : (H//2, W//2, C) array of uint8
    shape : (H, W, C)

    Returns
    -------
    (H, W, C) array
    """
    dx = array_module(dy).zeros(shape, dtype=dy.dtype)
    for k, quarter in enumerate(quarters(dx)):
        quarter[...] = dy * (winners == k)
    return dx


def avg_pool_forward(x: Array) -> Array:
    """Take the mean of each 2x2 window; an odd last row or column is dropped.

    Parameters
    ----------
    x : (H, W, C) array

    Returns
    -------
    (H//2, W//2, C) array

    References
    ----------
    Gatys et al. (2016), section 2: "replacing the maximum pooling operation by average pooling
    yields slightly more appealing results".
    """
    a, b, c, d = quarters(x)
    return (a + b + c + d) / 4


def avg_pool_backward(dy: Array, shape: tuple[int, int, int]) -> Array:
    """Gradient of `avg_pool_forward`: a quarter to each of the four.

    Parameters
    ----------
    dy : (H//2, W//2, C) array
    shape : (H, W, C)

    Returns
    -------
    (H, W, C) array
    """
    dx = array_module(dy).zeros(shape, dtype=dy.dtype)
    for quarter in quarters(dx):
        quarter[...] = dy / 4
    return dx
