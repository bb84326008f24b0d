"""How a wrong gradient is wrong, in words: the mistakes that everybody makes leave their marks.

The right gradient is found number by number; then one mistake after the other is tried on it (or
on the upstream gradient, before it) until it looks like the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .operation import SEED, STEP, Operation, is_analytic

Make = Callable[[np.ndarray], np.ndarray]

UPSTREAM: dict[str, Make] = {
    "dy is not used: it is as if dy were all ones": np.ones_like,
    "where dy is negative it is lost: the mask must be made of x alone": lambda dy: dy * (dy > 0),
    "the sign of dy is lost": np.abs,
    "dy is used upside down (its first axis is reversed)": lambda dy: dy[::-1],
    "dy is used mirrored (its second axis is reversed)": lambda dy: dy[:, ::-1],
}
"""What may have happened to dy -> what then takes its place."""

RESULT: dict[str, Make] = {
    "dx is upside down (its first axis is reversed)": lambda dx: dx[::-1],
    "dx is mirrored (its second axis is reversed)": lambda dx: dx[:, ::-1],
    "the last axis of dx is reversed (RGB and BGR?)": lambda dx: dx[..., ::-1],
    "dx is transposed": lambda dx: dx.swapaxes(0, 1) if dx.ndim > 1 else dx,
}
"""What may have happened to dx -> what then takes its place."""


def numeric_gradient(forward: Callable[[Any], Any], x: np.ndarray, dy: Any = 1.0) -> np.ndarray:
    """Gradient of <dy, forward(x)>, number by number: slow, and beyond doubt.

    Parameters
    ----------
    forward : callable
        x -> y, an array or a number.
    x : array of float64
    dy : array
        Of the shape of y.

    Returns
    -------
    array
        Of the shape of x; by the complex step if `forward` lets it through, else by central
        differences.
    """
    complex_, h = is_analytic(forward, x), STEP
    dx = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        e = np.zeros(x.shape)
        e[index] = 1
        if complex_:
            slope = np.imag(forward(x + 1e-30j * e)) / 1e-30
        else:
            slope = (np.asarray(forward(x + h * e)) - np.asarray(forward(x - h * e))) / (2 * h)
        dx[index] = np.sum(dy * slope)
    return dx


def diagnose(operation: Operation, rng: np.random.Generator | None = None) -> str:
    """Say how a backward pass is wrong.

    Parameters
    ----------
    operation : Operation
    rng : numpy.random.Generator, optional
        Draws x and dy; by default one that always draws the same.

    Returns
    -------
    str
        The likely mistake, in one line; '' if dx is right.
    """
    x, dy = operation.draw(np.random.default_rng(SEED) if rng is None else rng)
    try:
        dx = np.asarray(operation.backward(dy, x))
    except ValueError as error:
        if "read-only" not in str(error):
            raise
        return "an argument is written to; somebody else may still need it: work on a copy"
    if dx.shape != x.shape:
        return f"dx has the shape {dx.shape}; it must have x's, {x.shape}"
    if not np.isfinite(dx).all():
        return f"{np.count_nonzero(~np.isfinite(dx))} of {dx.size} numbers are not finite"
    right = numeric_gradient(operation.forward, x, dy)
    if _same(dx, right):
        return ""
    return next(_mistakes(operation, x, dy, dx, right))


def _mistakes(
    operation: Operation, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, right: np.ndarray
) -> Iterator[str]:
    """The mistakes that explain dx, the likeliest first; the last explains nothing."""
    if not dx.any():
        yield "it is zero everywhere"
    factor = np.sum(dx * right) / np.sum(right * right)
    if _same(dx, factor * right) and factor:
        yield (
            "the sign is wrong"
            if np.isclose(factor, -1)
            else f"it is {factor:.6g} times what it should be"
        )
    for mistake, make in RESULT.items():
        if (wrong := make(right)).shape == dx.shape and _same(dx, wrong):
            yield mistake
    if dy.ndim > 1:
        for mistake, make in UPSTREAM.items():
            if _same(dx, numeric_gradient(operation.forward, x, make(dy))):
                yield mistake
    wrong_ones = ~np.isclose(dx, right, rtol=1e-4, atol=1e-6 * np.abs(right).max())
    count = f"{np.count_nonzero(wrong_ones)} of {dx.size} numbers"
    for axis in range(min(dx.ndim, 2)):
        inside = np.moveaxis(wrong_ones, axis, 0)[1:-1]
        if len(inside) and not inside.any():
            yield f"it is right but for the first or last place along axis {axis} (the border)"
    inside = wrong_ones[1:-1, 1:-1] if dx.ndim > 1 else wrong_ones
    if inside.size and not inside.any():
        yield "it is right inside, and wrong at the border"
    if not dx[wrong_ones].any():
        yield f"{count} are zero that should not be"
    if not np.abs(right[wrong_ones]).max() > 1e-6 * np.abs(right).max():
        yield f"{count} should be zero: a mask, or a winner, is missing"
    worst = np.unravel_index(np.argmax(np.abs(dx - right)), dx.shape)
    place = ", ".join(str(int(index)) for index in worst)
    yield f"{count} are wrong; at [{place}] it is {dx[worst]:.6g}, and should be {right[worst]:.6g}"


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two gradients are equal but for what central differences cannot tell."""
    return bool(np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b))
