# Fill in the functions that raise NotImplementedError; what they do is in their docstrings, and in the
# chapter of the course. Then, in the folder above:  python -m minimal_nst exercises check FOLDER
r"""The three losses, each returned together with its exact gradient.

Glossary::

    H, W    height and width of a picture or a feature map
    M, N    positions (H*W) and channels of a layer, the paper's M_l and N_l
    F       (M, N) features of the generated picture, one row per position
    P       (M, N) features of the content picture
    G, A    (N, N) Gram matrices of the generated and of the style picture
    dF      dL/dF, of the shape of F

Each loss takes the weight that it has in the objective, so that scaling costs nothing, and
`style_loss` takes the functions by which matrices are multiplied, so that they can be faster ones.
Losses are summed in float64 (or complex128) whatever the features' dtype. They are numbers without
axes that lie where the features do: on a GPU, asking for their values is left to whoever needs them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from minimal_nst.backend import Array, array_module, sum_of

Product = Callable[[Array, Array], Array]


def content_loss(F: Array, P: Array, weight: float = 1.0) -> tuple[Any, Array]:
    r"""Half the squared distance between two feature maps, and its gradient.

    .. math:: E = \tfrac12 \sum_{ij} (F_{ij} - P_{ij})^2, \qquad
              \frac{\partial E}{\partial F} = F - P

    Parameters
    ----------
    F : (M, N) array
        Features of the generated picture.
    P : (M, N) array
        Features of the content picture.
    weight : float
        Factor of both results.

    Returns
    -------
    loss : float
    dF : (M, N) array

    References
    ----------
    Gatys et al. (2016), eqs. 1 and 2.
    The course: :eq:`content`, :eq:`dcontent`.
    """
    raise NotImplementedError("exercise: content_loss, chapter 6")


def gram_matrix(F: Array, contract: Product = operator.matmul) -> Array:
    r"""Correlations between the channels, summed over all positions.

    .. math:: G_{ij} = \sum_m F_{mi} F_{mj}

    Parameters
    ----------
    F : (M, N) array
        Features, one row per position.
    contract : callable
        Multiplies two matrices.

    Returns
    -------
    (N, N) array

    References
    ----------
    Gatys et al. (2016), eq. 3.
    The course: :eq:`gram`.
    """
    raise NotImplementedError("exercise: gram_matrix, chapter 7")


def style_loss(
    F: Array,
    A: Array,
    weight: float = 1.0,
    contract: Product = operator.matmul,
    transform: Product = operator.matmul,
) -> tuple[Any, Array]:
    r"""Squared distance between two Gram matrices, and its gradient.

    .. math:: E = \frac{1}{4 N^2 M^2} \sum_{ij} (G_{ij} - A_{ij})^2, \qquad
              \frac{\partial E}{\partial F} = \frac{1}{N^2 M^2} F (G - A)

    Parameters
    ----------
    F : (M, N) array
        Features of the generated picture, one row per position.
    A : (N, N) array
        Gram matrix of the style picture at the same layer. It is symmetric. Where the style
        picture has another number of positions M', A is its Gram matrix times M / M'.
    weight : float
        Factor of both results.
    contract, transform : callable
        Multiply two matrices: the one for G, the other for dF.

    Returns
    -------
    loss : float
    dF : (M, N) array

    References
    ----------
    Gatys et al. (2016), eqs. 4 and 6.
    The course: :eq:`style`, :eq:`dstyle`.
    """
    raise NotImplementedError("exercise: style_loss, chapter 7")


def total_variation(x: Array, weight: float = 1.0, mean: bool = False) -> tuple[Any, Array]:
    r"""Squared differences between neighbouring pixels, and their gradient.

    .. math:: E = \sum_{hwc} (x_{h+1,w,c} - x_{hwc})^2 + (x_{h,w+1,c} - x_{hwc})^2

    Parameters
    ----------
    x : (H, W, C) array
        The picture.
    weight : float
        Factor of both results.
    mean : bool
        Take the mean of each of the two kinds of differences, in the place of the sum.

    Returns
    -------
    loss : float
    dx : (H, W, C) array

    References
    ----------
    Mahendran & Vedaldi (2015), section 2, with exponent beta = 2.
    The course: :eq:`tv`, :eq:`dtv`.
    """
    raise NotImplementedError("exercise: total_variation, chapter 8")


def absolute_variation(x: Array, weight: float = 1.0, mean: bool = False) -> tuple[Any, Array]:
    r"""Absolute differences between neighbouring pixels, and their gradient: edges may stay.

    .. math:: E = \sum_{hwc} |x_{h+1,w,c} - x_{hwc}| + |x_{h,w+1,c} - x_{hwc}|

    Where two neighbours are equal the derivative is taken to be 0.

    Parameters
    ----------
    x : (H, W, C) array
        The picture.
    weight : float
        Factor of both results.
    mean : bool
        Take the mean of each of the two kinds of differences, in the place of the sum.

    Returns
    -------
    loss : float
    dx : (H, W, C) array

    References
    ----------
    Rudin, Osher & Fatemi (1992), "Nonlinear Total Variation Based Noise Removal Algorithms", in the
    form that has the two directions apart.
    """
    xp = array_module(x)
    down = x[1:] - x[:-1]
    right = x[:, 1:] - x[:, :-1]
    v, h = (weight / down.size, weight / right.size) if mean else (weight, weight)
    below, beside = xp.sign(down.real), xp.sign(right.real)  # |d| = sign(d) d, also for complex d
    dx = xp.zeros_like(x)
    dx[1:] += v * below
    dx[:-1] -= v * below
    dx[:, 1:] += h * beside
    dx[:, :-1] -= h * beside
    return v * sum_of(below * down) + h * sum_of(beside * right), dx


def keras_variation(x: Array, weight: float = 1.0) -> tuple[Any, Array]:
    r"""A power between the two, as Keras' example has it, and its gradient.

    .. math:: E = \sum_{hwc} \left[ (x_{h+1,w,c} - x_{hwc})^2 + (x_{h,w+1,c} - x_{hwc})^2
              \right]^{1.25}

    Parameters
    ----------
    x : (H, W, C) array
        The picture; pixels of the last row and column are the neighbours of others only.
    weight : float
        Factor of both results.

    Returns
    -------
    loss : float
    dx : (H, W, C) array

    References
    ----------
    Mahendran & Vedaldi (2015), section 2, with exponent beta = 2.5.
    """
    down = x[1:, :-1] - x[:-1, :-1]
    right = x[:-1, 1:] - x[:-1, :-1]
    square = down * down + right * right
    slope = 2.5 * weight * square**0.25
    dx = array_module(x).zeros_like(x)
    dx[1:, :-1] += slope * down
    dx[:-1, 1:] += slope * right
    dx[:-1, :-1] -= slope * (down + right)
    return weight * sum_of(square**1.25), dx


def out_of_range(x: Array, low: Array, high: Array, weight: float = 1.0) -> tuple[Any, Array]:
    r"""Mean squared distance to the nearest picture that a file can hold, and its gradient.

    .. math:: E = \frac{1}{HWC} \sum_{hwc} (x_{hwc} - c(x_{hwc}))^2, \qquad
              \frac{\partial E}{\partial x} = \frac{2}{HWC} (x - c(x))

    c clips to what is between the bounds: inside it is x itself, outside a constant.

    Parameters
    ----------
    x : (H, W, C) array
        The picture.
    low, high : (1, W, C) or (1, 1, C) arrays
        The bounds.
    weight : float
        Factor of both results.

    Returns
    -------
    loss : float
    dx : (H, W, C) array

    References
    ----------
    The course: :eq:`range`.
    """
    xp = array_module(x)
    over = x - xp.minimum(xp.maximum(x, low), high)
    scale = weight / x.size
    return scale * sum_of(over * over), 2 * scale * over
