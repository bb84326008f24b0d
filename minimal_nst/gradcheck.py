r"""Four ways to catch a wrong gradient. They check callables and know nothing of networks.

Each returns a number to be held against a tolerance, so that a failure says how wrong it is.

Glossary::

    f      a function of an array
    x      where its derivative is checked
    v      a random direction, of the shape of x
    dy     a random upstream gradient, of the shape of f(x)
    h      a step

A random upstream gradient matters: with ones in its place, anything that permutes dy, or depends
on its sign, goes unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], Any]
Choices = Callable[[np.ndarray], Iterable[np.ndarray]]
Rng = np.random.Generator


def complex_step(
    f: Function, x: np.ndarray, dx: np.ndarray, rng: Rng, dy: np.ndarray | None = None
) -> float:
    r"""Error of a gradient by the complex step, along one random direction.

    .. math:: \langle dx, v \rangle = \mathrm{Im}\, \langle dy, f(x + ihv) \rangle / h + O(h^2)

    There is no difference of nearly equal numbers, so h can be 1e-30 and the result is exact to
    round-off; and no kink is ever crossed, as comparisons look at the real part.

    Parameters
    ----------
    f : callable
        Takes complex128 arrays; returns an array, or a number if `dy` is None.
    x : array of float64
    dx : array
        The gradient to check: of f, or of <dy, f> if `dy` is given.
    rng : numpy.random.Generator
        Draws the direction.
    dy : array, optional
        Upstream gradient.

    Returns
    -------
    float
        abs(<dx, v> - numeric) / (norm(dx) norm(v)): about 1e-16 if right.

    References
    ----------
    Martins, Sturdza & Alonso (2003), "The Complex-Step Derivative Approximation".
    """
    h = 1e-30
    v = rng.standard_normal(x.shape)
    y = f(x + 1j * h * v)
    numeric = np.imag(np.sum(y if dy is None else dy * y)) / h
    return _relative(np.sum(dx * v) - numeric, dx, v)


def central_difference(
    f: Function,
    x: np.ndarray,
    dx: np.ndarray,
    rng: Rng,
    h: float,
    dy: np.ndarray | None = None,
    choices: Choices | None = None,
) -> float:
    r"""Error of a gradient by central differences, along one random direction.

    .. math:: \langle dx, v \rangle = \langle dy, f(x + hv) - f(x - hv) \rangle / 2h + O(h^2)

    What h is best depends on f: too small a step loses digits, too large a one crosses kinks,
    where a ReLU or a maximum changes its mind and the difference means nothing.

    Parameters
    ----------
    f, x, dx, rng, dy
        As for `complex_step`, but f takes real arrays.
    h : float
        The step, in the units of x, as the largest change of any element.
    choices : callable, optional
        As for `kinks_crossed`; a direction that crosses a kink is drawn again.

    Returns
    -------
    float
        Relative error as in `complex_step`.

    Raises
    ------
    ValueError
        If each of twenty directions crosses a kink: h is too large.
    """
    for _ in range(20):
        v = rng.standard_normal(x.shape)
        v /= np.abs(v).max()
        if choices is None or kinks_crossed(choices, x - h * v, x + h * v) == 0:
            break
    else:
        raise ValueError(f"every direction crosses a kink within h = {h}; make h smaller")
    difference = np.asarray(f(x + h * v)) - np.asarray(f(x - h * v))
    numeric = np.sum(difference if dy is None else dy * difference) / (2 * h)
    return _relative(np.sum(dx * v) - numeric, dx, v)


def kinks_crossed(choices: Choices, a: np.ndarray, b: np.ndarray) -> int:
    """Count the discrete choices of a function that differ between two points.

    Parameters
    ----------
    choices : callable
        Takes an array; returns arrays of what was chosen there: ReLU masks, pooling winners.
    a, b : arrays

    Returns
    -------
    int
    """
    pairs = zip(choices(a), choices(b), strict=True)
    return sum(int(np.count_nonzero(here != there)) for here, there in pairs)


def adjoint(forward: Function, backward: Function, x: np.ndarray, y: np.ndarray) -> float:
    r"""Error of the identity that defines the adjoint of a linear map.

    .. math:: \langle A x, y \rangle = \langle x, A^T y \rangle

    Parameters
    ----------
    forward, backward : callables
        A and its supposed adjoint.
    x, y : arrays
        Random; of the shapes of A's input and output.

    Returns
    -------
    float
        abs(difference) / (norm(A x) norm(y)): about 1e-17 if right.

    References
    ----------
    Claerbout (1992), "Earth Soundings Analysis", chapter 5, the dot-product test.
    """
    Ax = forward(x)
    return _relative(np.sum(Ax * y) - np.sum(x * backward(y)), Ax, y)


def taylor_rates(
    f: Callable[[np.ndarray], float], x: np.ndarray, dx: np.ndarray, v: np.ndarray, h: float
) -> list[float]:
    r"""How fast the remainder of the first-order Taylor expansion shrinks as the step halves.

    .. math:: | f(x + hv) - f(x) - h \langle dx, v \rangle | = O(h^2)

    Parameters
    ----------
    f : callable
        Returns a float.
    x, dx, v : arrays
        The point, the gradient there, and a direction.
    h : float
        The first of five steps, each half of the one before.

    Returns
    -------
    list of float
        Four rates: 2 for a right gradient, 1 for a wrong one.

    References
    ----------
    Farrell et al. (2013), "Automated derivation of the adjoint of high-level transient finite
    element programs", section 5.
    """
    steps = [h / 2**i for i in range(5)]
    slope, y = np.sum(dx * v), f(x)
    remainders = [abs(f(x + step * v) - y - step * slope) for step in steps]
    return [float(np.log2(larger / smaller)) for larger, smaller in pairwise(remainders)]


def _relative(error: Any, a: np.ndarray, b: np.ndarray) -> float:
    """Scale by the norms: an inner product that cancels by accident must not blow the error up."""
    return float(abs(error) / (np.linalg.norm(np.ravel(a)) * np.linalg.norm(np.ravel(b)) + 1e-300))
