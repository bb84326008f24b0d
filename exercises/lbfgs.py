# Fill in the functions that raise NotImplementedError; what they do is in their docstrings, and in the
# chapter of the course. Then, in the folder above:  python -m minimal_nst exercises check FOLDER
r"""L-BFGS by hand: Newton's method with an inverse Hessian that is made of the last few steps.

Each step s and the change y of the gradient along it say what the Hessian does to s: H s = y. The
estimate B of the inverse Hessian begins as a multiple of the identity and is corrected by each pair
in turn, so that B y = s:

.. math:: B \leftarrow (I - \rho s y^T) B (I - \rho y s^T) + \rho s s^T, \qquad \rho = 1/\langle s, y\rangle

B is never written down: `direction` applies the corrections to a gradient, from the youngest to the
oldest and back again. How far to go along the direction, `line_search` finds out. In the place of
the identity, to which the corrections are added, may stand a `Metric` that knows better.

Arrays may be NumPy's or CuPy's. How the pairs are kept is said in pairs.py and stacks.py.

Glossary::

    x, g    a point and the gradient there
    d       the direction in which the next step is taken
    t       how far, in units of d
    phi     the loss along d, as a function of t; phi' its slope, <g, d>
    s, y    a step and the change of the gradient along it

References
----------
Nocedal & Wright (2006), "Numerical Optimization": algorithm 7.4 (two loops), equations 3.6
(Wolfe conditions), 7.20 (scaling) and 3.59 (cubic interpolation). Lewis & Overton (2013), "Nonsmooth
optimization via quasi-Newton methods", algorithm 2.6 (line search).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from minimal_nst.backend import Array, Workers, array_module
from minimal_nst.pairs import Pairs
from minimal_nst.recording import recorder
from minimal_nst.stacks import dot, inner

Function = Callable[[Array], tuple[float, Array]]

Memory = Mapping[str, Any]
"""Name -> array or number."""

DECREASE, CURVATURE = 1e-4, 0.9
"""The Wolfe conditions: how much of the first slope's promise a step must keep, and how much of
that slope may be left at its end."""

TRIALS = 20
"""Evaluations after which a line search gives up."""

MINIMUM = "a minimum is reached: no step lowers the loss"
NO_LOWER = "the line search finds no lower loss (the precision of the network is reached)"
"""Why it may end before its iterations are done."""


class Metric(Protocol):
    """What B begins as: a diagonal matrix, positive, and of about the size of the inverse Hessian.

    Attributes
    ----------
    lengths : array
        The diagonal, or what spreads to a point's shape: how far to go for a gradient of 1. Always
        the same array, whatever is learnt.
    """

    lengths: Array

    @property
    def state(self) -> dict[str, Array]:
        """What was learnt, by name; always the same arrays."""

    def learn(self, s: Array, y: Array) -> None:
        """Take note of a step and the change of the gradient along it."""


class Scaled:
    """A multiple of the identity, at first 1: Nocedal & Wright (2006), equation 7.20."""

    def __init__(self, like: Array) -> None:
        self.lengths = array_module(like).ones(1, like.dtype)

    @property
    def state(self) -> dict[str, Array]:
        """The multiple."""
        return {"lengths": self.lengths}

    def learn(self, s: Array, y: Array) -> None:
        """Set the multiple."""
        self.lengths[...] = inner(s, y) / inner(y, y)


def direction(g: Array, pairs: Pairs, metric: Metric) -> Array:
    """Return -B g, the way down that the pairs suggest.

    The first loop takes from q, which is g at first, alpha_i y_i for one pair after the other, from
    the youngest to the oldest, with

        <s_i, y_i> alpha_i = <s_i, q> = <s_i, g> - sum_{j > i} <s_i, y_j> alpha_j

    That is a triangular system, R alpha = S^T g, solved by substitution; S has the steps as columns
    and R the inner products <s_i, y_j>, j >= i. So the pictures are asked once, for all <s_i, g>.
    The second loop adds delta_i s_i, from the oldest to the youngest, and likewise is a system,
    R^T delta = D alpha - Y^T q, D being R's diagonal.

    Parameters
    ----------
    g : array
        The gradient.
    pairs : Pairs
        What is remembered. May be asked for products and sums of all, as here, or one by one:
        ``for pair in pairs`` gives ``pair.s`` and ``pair.y``, from the oldest to the youngest.
    metric : Metric
        What their corrections are added to.

    Returns
    -------
    array
        Of g's shape and dtype.

    References
    ----------
    Nocedal & Wright (2006), algorithm 7.4; Byrd, Nocedal & Schnabel (1994), "Representations of
    quasi-Newton matrices and their use in limited memory methods", for R.
    The course: :eq:`secant`, :eq:`bfgs`, :eq:`loops`.
    """
    raise NotImplementedError("exercise: direction, chapter 11")


@dataclass(frozen=True)
class Trial:
    """What is known at one place of a line: t, phi(t), phi'(t), the step, and x and g there."""

    t: float
    loss: float
    slope: float
    s: Array = None
    x: Array = None
    g: Array = None


def line_search(phi: Callable[[float], Trial], start: Trial, t: float) -> Trial:
    """Find a step for which the Wolfe conditions hold.

    A step may end beyond the minimum, where the slope rises, if it is low enough there: it says as
    much about the Hessian, and the next step, which is wiser, mostly gains more than a second trial.

    Parameters
    ----------
    phi : callable
        Evaluates a t.
    start : Trial
        At t = 0; its slope is negative.
    t : float
        To try first.

    Returns
    -------
    Trial
        One that fulfils the conditions; the lowest, perhaps the start, after `TRIALS` evaluations
        or when the interval has shrunk to nothing, as at a jump.

    References
    ----------
    Lewis & Overton (2013), algorithm 2.6; halving there is a cubic's minimum here.
    """
    lower = best = start  # from where it goes down
    upper: Trial | None = None  # where it has been too far, once it was
    for _ in range(TRIALS):
        trial = phi(t)
        best = min(best, trial, key=lambda trial: trial.loss)
        too_high = trial.loss > start.loss + DECREASE * trial.t * start.slope
        if too_high or trial.loss >= lower.loss:
            upper = trial
        elif trial.slope >= CURVATURE * start.slope:
            return trial
        else:
            lower = trial
        t = 4 * t if upper is None else _between(lower, upper)
        if upper is not None and t in (lower.t, upper.t):  # no number is left between them
            break
    return best


def _between(a: Trial, b: Trial) -> float:
    """The minimum of the cubic through two places and slopes, but not close to either (eq. 3.59)."""
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    middle = (a.t + b.t) / 2
    if not 0 <= square < math.inf:
        return middle
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    denominator = b.slope - a.slope + 2 * d2
    t = b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator if denominator else middle
    margin = 0.1 * abs(b.t - a.t)
    return min(max(t, min(a.t, b.t) + margin), max(a.t, b.t) - margin)


def lbfgs(
    evaluate: Function,
    x: Array,
    iterations: int,
    report: Callable[[float, Memory], Any],
    history: int,
    first_step: float = 1.0,
    metric: Metric | None = None,
    workers: Workers | None = None,
    memory: Memory | None = None,
) -> str:
    """Minimise by L-BFGS.

    Parameters
    ----------
    evaluate : callable
        x -> (loss, gradient); raises what ends the work.
    x : array
        Where to start; not modified.
    iterations : int
    report : callable
        Is told after each iteration the loss, and all that the next one depends on: arrays, some of
        which will be written to again.
    history : int
        How many pairs are remembered.
    first_step : float
        Length of the first trial, and of the first after the pairs were forgotten, in the units of x
        (root mean square).
    metric : Metric, optional
        What the inverse Hessian begins as; by default a multiple of the identity.
    workers : Workers, optional
        Who share out what is asked of the pairs; by default one thread.
    memory : mapping, optional
        What an earlier run of the same history, metric and dtype reported last: to go on from there.

    Returns
    -------
    str
        Why it ended early; '' if all iterations are done.
    """
    if not memory:
        loss, g = evaluate(x)
        memory = {"x": x, "loss": loss, "g": g}
    x, loss, g = memory["x"], float(memory["loss"]), memory["g"]
    d: Array = memory.get("d")  # None: nothing is remembered
    slope: Array = memory.get("slope")
    metric = metric or Scaled(g)
    pairs = Pairs(history, g, workers, memory if "added" in memory else None)
    for name, array in metric.state.items():
        array[...] = memory.get(name, array)
    call = recorder(array_module(x))

    def learn(s: Array, y: Array, g: Array) -> tuple[Array, Array]:
        """Remember a step; where to go from its end, and the slope there. Nothing is asked."""
        pairs.add(s, y, g)
        metric.learn(s, y)
        d = direction(g, pairs, metric)
        return d, inner(g, d)

    for _ in range(iterations):
        anew = d is None
        if anew:
            d = -metric.lengths * g
            square = dot(d, d)
            if square == 0:
                return MINIMUM
            d = d * (first_step * math.sqrt(d.size / square))
            slope = inner(g, d)
        start = Trial(0.0, loss, float(slope))

        def phi(t: float, x: Array = x, d: Array = d) -> Trial:
            s = d if t == 1 else t * d
            there = x + s
            loss, g = evaluate(there)
            return Trial(t, loss, dot(g, d), s, there, g)

        found = line_search(phi, start, 1.0) if start.slope < 0 else start
        if found is start:
            if anew:
                return NO_LOWER
            pairs.clear()  # what they remember may be wrong here
            d = None
            continue
        x, loss, g, before = found.x, found.loss, found.g, g
        if found.slope > start.slope:  # which differ by <s, y> / t
            d, slope = call(learn, found.s.astype(g.dtype, copy=False), g - before, g)
        elif anew:
            d = None
        else:
            d = direction(g, pairs, metric)
            slope = inner(g, d)
        ahead = {} if d is None else {"d": d, "slope": slope}
        report(loss, {"x": x, "loss": loss, "g": g, **ahead, **pairs.state, **metric.state})
    return ""
