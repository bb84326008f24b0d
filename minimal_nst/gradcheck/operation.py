r"""A function with its backward pass, and what the checks say about the two.

Glossary::

    forward    x -> y: an array, or a number for a loss
    backward   dy, x -> dx, with dy of the shape of y, and dx of the shape of x
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .methods import adjoint, central_difference, complex_step

EXACT = 1e-10
"""What the complex step and the adjoint allow: round-off, and nothing else."""

ROUGH = 1e-6
"""What central differences allow, which lose half of the digits."""

STEP = 1e-5
"""Of central differences, for numbers of about 1."""

SEED = 20161
"""Of the numbers drawn where no generator is given; not 0, which a target may be drawn by too."""


@dataclass(frozen=True)
class Operation:
    """A function and its supposed backward pass.

    Attributes
    ----------
    name : str
    forward : callable
        x -> y, an array or a number.
    backward : callable
        (dy, x) -> dx.
    shape : tuple of int
        Of the x that it is checked at.
    linear : bool
        Whether forward is linear, so that the adjoint identity holds.
    """

    name: str
    forward: Callable[[Any], Any]
    backward: Callable[[Any, Any], Any]
    shape: tuple[int, ...] = (9, 11, 3)
    linear: bool = False

    def draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw an x and an upstream gradient dy for it; neither can be written to."""
        x = rng.standard_normal(self.shape)
        dy = np.asarray(rng.standard_normal(np.shape(self.forward(x.copy()))))
        x.flags.writeable = dy.flags.writeable = False
        return x, dy


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    Attributes
    ----------
    what, how : str
        What was checked, and by which method.
    error, tolerance : float
        How wrong it is, and how wrong it may be.
    """

    what: str
    how: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance. One that is not a number is not."""
        return bool(self.error <= self.tolerance)

    def row(self, width: int = 20) -> str:
        """A line of a table whose first column is that wide."""
        verdict = "ok" if self.passed else "WRONG"
        numbers = f"{self.error:8.1e} {self.tolerance:8.0e}"
        return f"{self.what:{width}} {self.how:20} {numbers}  {verdict}"

    def __str__(self) -> str:
        return self.row()


def check(operation: Operation, rng: np.random.Generator | None = None) -> Iterator[Verdict]:
    """Check a backward pass by every method that applies.

    The complex step is used where the function keeps the imaginary part that is put into it, and
    central differences everywhere; a linear function is held to the adjoint identity too.

    Parameters
    ----------
    operation : Operation
    rng : numpy.random.Generator, optional
        Draws x, dy and directions; by default one that always draws the same.

    Yields
    ------
    Verdict

    Raises
    ------
    ValueError
        If dx has another shape than x, or an argument is written to.
    """
    rng = np.random.default_rng(SEED) if rng is None else rng
    x, dy = operation.draw(rng)
    forward, dx = operation.forward, np.asarray(operation.backward(dy, x))
    if is_analytic(forward, x):
        error = complex_step(forward, x, dx, rng, dy)
        yield Verdict(operation.name, "complex step", error, EXACT)
    error = central_difference(forward, x, dx, rng, STEP, dy)
    yield Verdict(operation.name, "central difference", error, ROUGH)
    if operation.linear:
        zero = forward(np.zeros_like(x))  # a bias is no part of the linear map
        error = adjoint(lambda x: forward(x) - zero, lambda y: operation.backward(y, x), x, dy)
        yield Verdict(operation.name, "adjoint", error, EXACT)


def is_analytic(forward: Callable[[Any], Any], x: np.ndarray) -> bool:
    """Whether the complex step works on a function: whether it agrees with a plain difference.

    `abs`, a norm, or a cast to float drops the imaginary part.
    """
    v = np.random.default_rng(1).standard_normal(x.shape)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of an imaginary part that is dropped
            slope = np.imag(forward(x + 1e-30j * v)) / 1e-30
    except (TypeError, ValueError):
        return False
    difference = (np.asarray(forward(x + STEP * v)) - np.asarray(forward(x - STEP * v))) / 2 / STEP
    return bool(np.linalg.norm(slope - difference) <= 1e-3 * np.linalg.norm(difference))


def adapt(
    function: Callable[..., Any],
    of: Callable[..., Any] | None,
    arguments: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
) -> Operation:
    """Make an operation of somebody's functions, whatever they return and take besides x and dy.

    * ``function(x) -> (loss, gradient)``, with `of` None;
    * ``of(x, ...) -> loss`` and ``function(x, ...) -> gradient``;
    * ``of(x, ...) -> y`` and ``function(dy, x)``;
    * ``of(x, ...) -> (y, cache, ...)`` and ``function(dy, cache, ...)``.

    Further parameters get the array of their name in `arguments`, then what `of` got or x's shape
    under that name (x, shape), and the others what `of` returned after y, in this order.

    Parameters
    ----------
    function : callable
        The backward pass, or a loss that returns its gradient too.
    of : callable, optional
        The forward pass.
    arguments : mapping of str to array
        For parameters beyond the first.
    shape : tuple of int
        Of x.

    Returns
    -------
    Operation

    Raises
    ------
    ValueError
        If a parameter has nothing that it could get, or a loss by itself returns no gradient.
    """
    name = getattr(function, "__name__", "function")
    if of is None:

        def both(x: Any) -> Any:
            result = function(x, **_named(function, arguments))
            if not (isinstance(result, tuple) and len(result) == 2):
                raise ValueError(f"{name} must return (loss, gradient), or name what it belongs to")
            return result

        return Operation(name, lambda x: both(x)[0], lambda dy, x: dy * both(x)[1], shape)
    forward, own = of, _parameters(of)[0]

    def run(x: Any) -> tuple[Any, ...]:
        result = forward(x, **_named(forward, arguments))
        return result if isinstance(result, tuple) else (result,)

    def backward(dy: Any, x: Any) -> Any:
        y, *caches = run(x)
        first, *others = _parameters(function)
        if np.ndim(y) == 0 and (first == own or not others):
            return dy * function(x, **_named(function, arguments))
        known = {**arguments, own: x, "x": x, "shape": x.shape}
        values = []
        for parameter in others:
            if parameter in known:
                values.append(known[parameter])
            elif caches:
                values.append(caches.pop(0))
            else:
                raise ValueError(
                    f"{name} takes '{parameter}', which {forward.__name__} neither takes nor "
                    "returns; give its shape"
                )
        return function(dy, *values)

    return Operation(name, lambda x: run(x)[0], backward, shape)


def _parameters(function: Callable[..., Any]) -> list[str]:
    """Names of the parameters that have no default."""
    parameters = inspect.signature(function).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]


def _named(
    function: Callable[..., Any], arguments: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The arguments that a function wants after its first."""
    wanted = _parameters(function)[1:]
    for name in wanted:
        if name not in arguments:
            raise ValueError(f"{function.__name__} takes '{name}'; give its shape")
    return {name: arguments[name] for name in wanted}
