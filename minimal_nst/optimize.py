"""Minimisers of a callable: SciPy's L-BFGS-B, and Adam by hand, behind one interface.

Nothing here knows what is minimised. The callable takes an array and returns (loss, gradient);
whatever happens, the best point that was seen is what comes back. Arrays may be NumPy's or CuPy's,
but for SciPy's method.

Glossary::

    g      gradient at x
    m, v   Adam's running means of g and of g*g
    t      number of the step, from 1
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult, minimize as scipy_minimize

from .backend import Array, Workers, array_module
from .errors import NotFinite, UsageError
from .lbfgs import MINIMUM, NO_LOWER, Memory, Metric, lbfgs

Function = Callable[[Array], tuple[float, Array]]

WINDOW = 20
"""Evaluations over which a tolerance looks back: single ones may gain nothing on the way down."""


Callback = Callable[[Any], object]
"""Told of a `Progress`; if it returns True, the work ends there."""

Stop = Callable[[], object]
"""Asked between evaluations; if the answer is true, the work ends there."""

Report = Callable[[float, Memory], None]
"""Told of each iteration: its loss, and all that the next one depends on."""


@dataclass
class Minimum:
    """Where a minimisation came to.

    Attributes
    ----------
    x : array
        The best point that was evaluated.
    loss : float
        The loss there.
    losses : list of float
        The loss of each evaluation.
    iterations, evaluations : int
    stopped_because : str
    asked : bool
        Whether it was ended from outside: by `stop`, by the callback, or because its time is over.
    """

    x: Array
    loss: float = math.inf
    losses: list[float] = field(default_factory=list)
    iterations: int = 0
    stopped_because: str = ""
    asked: bool = False

    @property
    def evaluations(self) -> int:
        """Number of evaluations, finite or not."""
        return len(self.losses)

    @property
    def lowered(self) -> bool:
        """Whether any step has lowered the loss, so that `x` is not where it began."""
        return bool(self.losses) and self.loss < self.losses[0]


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration.

    Attributes
    ----------
    iteration, iterations : int
        How many there have been, and how many there will be at most.
    evaluations : int
    loss : float
        Of this iteration.
    minimum : Minimum
        The best so far; it goes on changing.
    """

    iteration: int
    iterations: int
    evaluations: int
    loss: float
    minimum: Minimum = field(repr=False)


class _End(Exception):
    """Ends a minimisation; its text is the reason."""

    asked = True


class _LittleGained(_End):
    """The tolerance's."""

    asked = False


class _Raised(Exception):
    """Carries a callback's StopIteration, which SciPy would take for its own, past SciPy."""

    def __init__(self, error: StopIteration) -> None:
        self.error = error


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is seen in `evaluate`
def minimize(
    function: Function,
    x0: Array,
    method: str = "lbfgs",
    iterations: int = 500,
    learning_rate: float = 2.0,
    callback: Callback | None = None,
    stop: Stop | None = None,
    tolerance: float = 0.0,
    max_seconds: float = math.inf,
    history: int = 20,
    metric: Metric | None = None,
    adam: Mapping[str, float] | None = None,
    workers: Workers | None = None,
    memory: dict[str, Any] | None = None,
) -> Minimum:
    """Minimise a function of an array.

    Parameters
    ----------
    function : callable
        x -> (loss, gradient), the gradient of the shape of x.
    x0 : array
        Where to start; not modified. Our own L-BFGS and Adam move its dtype, or the float that holds
        it; SciPy's moves float64.
    method : {'lbfgs', 'own-lbfgs', 'adam'}
        SciPy's L-BFGS-B, the one of `lbfgs`, or Adam.
    iterations : int
        Steps to take; L-BFGS may need several evaluations for one.
    learning_rate : float
        Adam's step, in the units of x.
    callback : callable, optional
        Takes a `Progress` after each iteration; if it returns True, the minimisation ends.
    stop : callable, optional
        Asked before each evaluation but the first; if it says so, the minimisation ends.
    tolerance : float
        Ends it when the best loss has fallen by less than this share over `WINDOW` evaluations.
    max_seconds : float
        Ends it before the first evaluation that would begin later than this.
    history : int
        L-BFGS' pairs of steps and gradient changes. More of them get lower, and take more memory:
        of SciPy's 16 bytes each for a variable, of our own 2 (in float64 16).
    metric : Metric, optional
        What our L-BFGS' inverse Hessian begins as; nobody else takes one.
    adam : mapping, optional
        Adam's beta1, beta2, epsilon (in the units of the gradient), decay and decay_every, where
        they are other ones than its authors': every so many steps, its step is multiplied by
        the decay.
    workers : Workers, optional
        Threads that share out what our L-BFGS asks of its pairs.
    memory : dict, optional
        Filled after each iteration with what is needed to go on from there: arrays, which the next
        ones may write to, and numbers. If it is filled already, by an earlier run on the same
        function, the work goes on from there and not from x0; `iterations` are those of both.
        Adam and our L-BFGS go on as if they had not been interrupted. SciPy's takes no pairs, and
        begins anew at the best point.

    Returns
    -------
    Minimum

    Raises
    ------
    NotFinite
        If a loss or gradient is not finite.
    BaseException
        What the function or the callback raises. Any exception, whatever it is, has the best
        point seen before it in its attribute `minimum`, a `Minimum`.
    """
    methods = {"lbfgs": _lbfgs, "own-lbfgs": _own_lbfgs, "adam": _adam}
    if method not in methods:
        raise UsageError(f"optimizer is '{method}'; it can be {', '.join(methods)}")
    for name, hook in (("callback", callback), ("stop", stop)):
        if hook is not None and not callable(hook):
            raise UsageError(f"{name} is {hook!r}; it must be callable")
    xp = array_module(x0)
    best = Minimum(xp.array(x0, dtype=np.result_type(x0.dtype, "float32")))
    begun: Memory = {}
    if memory:
        best, begun = _remembered(memory, method, best.x)

    def evaluate(x: Array) -> tuple[float, Array]:
        if best.losses and stop is not None and stop():
            raise _End("it was asked to")
        if best.losses and time.monotonic() > deadline:
            raise _End("its time is over")
        before = min(best.losses[:-WINDOW], default=math.inf)
        if best.loss > (1 - tolerance) * before:
            raise _LittleGained(
                f"the loss fell by less than {tolerance:.2g} of itself in {WINDOW} evaluations"
            )
        loss, g = function(x)
        best.losses.append(loss)
        if not math.isfinite(loss):
            raise NotFinite(f"the loss is {loss} at evaluation {best.evaluations}")
        if not math.isfinite(g.sum()):  # as soon as any number is not
            raise NotFinite(f"the gradient is not finite at evaluation {best.evaluations}")
        if loss < best.loss:
            best.x, best.loss = x, loss  # each method evaluates arrays that it won't write to again
        return loss, g

    def report(loss: float, ahead: Memory) -> None:
        best.iterations += 1
        if memory is not None:
            memory.clear()
            memory.update(_to_remember(best, method, ahead))
        if callback is None:
            return
        try:
            answer = callback(Progress(best.iterations, iterations, best.evaluations, loss, best))
        except StopIteration as error:
            raise _Raised(error) from None
        if isinstance(answer, bool | np.bool_) and answer:
            raise _End("the callback asked for it")

    deadline = time.monotonic() + max_seconds
    options = {
        "learning_rate": learning_rate,
        # all of them have room beforehand; and more, if more iterations may be asked for later
        "history": min(history, iterations) if memory is None else history,
        "metric": metric,
        "adam": adam or {},
        "workers": workers,
        "memory": begun,
    }
    left = iterations - best.iterations
    try:
        because = methods[method](evaluate, best.x, left, report, options) if left > 0 else ""
        best.stopped_because = because or _done(iterations)
    except _End as end:
        best.stopped_because, best.asked = str(end), end.asked
    except _Raised as carrier:
        error = carrier.error
        vars(error)["minimum"] = best
        raise error from error.__cause__
    except BaseException as error:
        vars(error)["minimum"] = best
        raise
    return best


def _lbfgs(
    evaluate: Function,
    x0: np.ndarray,
    iterations: int,
    report: Report,
    options: dict[str, Any],
) -> str:
    """Limited-memory BFGS by SciPy, without bounds and without tolerances.

    The tolerances would compare a loss whose scale is the user's choice with fixed numbers.

    Its very first trial has length one, which for all the pixels of a picture together is next to
    nothing, and grows but slowly. It therefore moves u, with x = x0 + sqrt(n) u: then the first
    trial's root mean square is 1 in the units of x.
    """
    unit = math.sqrt(x0.size)

    def flat(u: np.ndarray) -> tuple[float, np.ndarray]:
        loss, g = evaluate(x0 + unit * u.reshape(x0.shape))
        return loss, unit * np.ravel(g)

    def callback(intermediate_result: OptimizeResult) -> None:
        report(intermediate_result.fun, {})

    end = scipy_minimize(
        flat,
        np.zeros(x0.size),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={
            "maxcor": options["history"],
            "maxiter": iterations,
            "maxfun": 100 * iterations,
            "ftol": 0.0,
            "gtol": 0.0,
        },
    )
    if end.status == 1:
        return ""
    if end.status == 0:
        return MINIMUM
    return NO_LOWER


def _own_lbfgs(
    evaluate: Function,
    x0: Array,
    iterations: int,
    report: Report,
    options: dict[str, Any],
) -> str:
    """L-BFGS by hand, which needs no copies in float64."""
    names = "history", "metric", "workers", "memory"
    return lbfgs(evaluate, x0, iterations, report, **{name: options[name] for name in names})


def _adam(
    evaluate: Function,
    x0: Array,
    iterations: int,
    report: Report,
    options: dict[str, Any],
) -> str:
    """Adam: steps along the mean gradient, divided by its size (Kingma & Ba 2015, algorithm 1)."""
    known = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "decay": 1.0, "decay_every": 50}
    beta1, beta2, epsilon, decay, decay_every = {**known, **options["adam"]}.values()
    xp, memory = array_module(x0), options["memory"]
    if not memory:
        m, v = xp.zeros_like(x0), xp.zeros_like(x0)
        memory = {"x": x0, "m": m, "v": v, "g": evaluate(x0)[1], "t": 0}
    x, m, v, g, done = (memory[name] for name in ("x", "m", "v", "g", "t"))
    for t in range(int(done) + 1, int(done) + iterations + 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        m_hat, v_hat = m / (1 - beta1**t), v / (1 - beta2**t)
        step = options["learning_rate"] * decay ** ((t - 1) // decay_every)
        x = x - step * m_hat / (xp.sqrt(v_hat) + epsilon)
        loss, g = evaluate(x)
        report(loss, {"x": x, "m": m, "v": v, "g": g, "t": t})
    return ""


def _to_remember(best: Minimum, method: str, ahead: Memory) -> Memory:
    """All that goes on depends on, after an iteration."""
    of_best = {"best_x": best.x, "best_loss": best.loss, "losses": best.losses}
    counts = {"iterations": best.iterations, "evaluations": best.evaluations}
    return {"method": method, **of_best, **counts, **ahead}


def _remembered(memory: Memory, method: str, x0: Array) -> tuple[Minimum, Memory]:
    """The minimum that was come to, and what the method needs, where x0 is."""
    of_what = memory["method"], memory["best_x"].shape
    if of_what != (method, x0.shape):
        raise UsageError(
            f"what is remembered is of {of_what[0]} and {of_what[1]}, and not of {method} and "
            f"{x0.shape}; begin with nothing"
        )
    xp = array_module(x0)
    losses = list(memory["losses"])[
        : memory["evaluations"]
    ]  # those of half an iteration come again
    best = Minimum(xp.asarray(memory["best_x"]), memory["best_loss"], losses, memory["iterations"])
    ahead = {name: memory[name] for name in memory.keys() - _to_remember(best, method, {}).keys()}
    return best, {
        name: value if isinstance(value, int | float) else xp.asarray(value)
        for name, value in ahead.items()
    }


def _done(iterations: int) -> str:
    return "the 1 iteration is done" if iterations == 1 else f"all {iterations} iterations are done"
