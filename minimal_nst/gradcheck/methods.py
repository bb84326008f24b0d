r"""Four ways to catch a wrong gradient. They check callables and know nothing of networks.

Each returns a number to be held against a tolerance, so that a failure says how wrong it is.
Where something is not finite, the error is infinite, so that it passes no comparison.

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
    The course: :eq:`claim`.
    """
    _same_shape(x, dx)
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
        If each of twenty directions crosses a kink: h is too large; or h is not above 0.
    """
    _same_shape(x, dx)
    _positive(h)
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
        Four rates: 2 for a right gradient, 1 for a wrong one. Infinity where the smaller step's
        remainder is lost in round-off, as those of a linear function are; minus infinity where
        something is not finite.

    Raises
    ------
    ValueError
        If h is not above 0.

    References
    ----------
    Farrell et al. (2013), "Automated derivation of the adjoint of high-level transient finite
    element programs", section 5.
    """
    _same_shape(x, dx)
    _positive(h)
    slope, y = float(np.sum(dx * v)), float(f(x))
    remainders, noise = [], []
    for step in (h / 2**i for i in range(5)):
        there, change = float(f(x + step * v)), step * slope
        remainders.append(abs(there - y - change))
        noise.append(ROUND_OFF * max(abs(there), abs(y), abs(change)))
    return [_rate(*pair, noise[i + 1]) for i, pair in enumerate(pairwise(remainders))]


ROUND_OFF = 4 * np.finfo(float).eps
"""A difference of numbers that is smaller than this, relative to them, says nothing."""


def _rate(larger: float, smaller: float, noise: float) -> float:
    """The power of the step with which a remainder shrinks as the step halves."""
    if not (np.isfinite(larger) and np.isfinite(smaller)):
        return -np.inf
    return np.inf if smaller <= noise else float(np.log2(larger / smaller))


def _relative(error: Any, a: np.ndarray, b: np.ndarray) -> float:
    """Scale by the norms: an inner product that cancels by accident must not blow the error up."""
    scaled = float(abs(error)) / float(
        np.linalg.norm(np.ravel(a)) * np.linalg.norm(np.ravel(b)) + 1e-300
    )
    return scaled if np.isfinite(scaled) else np.inf


def _same_shape(x: np.ndarray, dx: np.ndarray) -> None:
    """A gradient of another shape would be stretched to fit, and might look right."""
    if np.shape(dx) != np.shape(x):
        raise ValueError(f"the gradient has shape {np.shape(dx)}, x has {np.shape(x)}")


def _positive(h: float) -> None:
    if not 0 < h < np.inf:
        raise ValueError(f"h is {h}; a step must be above 0")
