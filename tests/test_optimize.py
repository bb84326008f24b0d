"""The minimisers: they reach minima, report, stop, and always give back the best point seen."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from minimal_nst.errors import RunError, UsageError
from minimal_nst.optimize import WINDOW, minimize

METHODS = ("lbfgs", "own-lbfgs", "adam")


def quadratic(x):
    scale = np.arange(1.0, x.size + 1).reshape(x.shape)
    return float((scale * (x - 3) ** 2).sum()), 2 * scale * (x - 3)


def rosenbrock(x):
    a, b = x
    loss = (1 - a) ** 2 + 100 * (b - a * a) ** 2
    return float(loss), np.array([-2 * (1 - a) - 400 * a * (b - a * a), 200 * (b - a * a)])


@pytest.mark.parametrize(
    ("method", "iterations"), [("lbfgs", 40), ("own-lbfgs", 40), ("adam", 1500)]
)
def test_reaches_the_minimum_of_a_quadratic(method, iterations):
    end = minimize(quadratic, np.zeros((2, 3)), method, iterations, learning_rate=0.1)
    np.testing.assert_allclose(end.x, 3, atol=1e-4)
    assert end.x.shape == (2, 3)
    assert end.loss == quadratic(end.x)[0] == min(end.losses)


def test_lbfgs_reaches_rosenbrocks_minimum_and_says_so():
    end = minimize(rosenbrock, np.array([-1.2, 1.0]), "lbfgs", 200)
    np.testing.assert_allclose(end.x, 1, atol=1e-6)
    assert end.iterations < 60
    assert end.stopped_because.startswith(("a minimum is reached", "the line search"))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_lbfgs_does_not_depend_on_the_scale_of_the_loss(scale):
    """SciPy's own tolerances would stop the small one at once."""
    end = minimize(lambda x: tuple(scale * v for v in rosenbrock(x)), np.array([-1.2, 1.0]))
    np.testing.assert_allclose(end.x, 1, atol=1e-4)


@pytest.mark.parametrize("method", ["lbfgs", "own-lbfgs"])
@pytest.mark.parametrize("shape", [(2,), (9, 11, 3)])
def test_the_first_trial_is_as_long_whatever_the_size_and_the_loss(method, shape):
    """SciPy's own has length 1 in all: a root mean square of 1/sqrt(n), almost no step."""
    for scale in (1e-9, 1e9):
        points = []

        def flat(x, scale=scale, points=points):
            points.append(x.copy())
            return float(scale * ((x - 900) ** 2).sum()), 2 * scale * (x - 900)

        minimize(flat, np.full(shape, 7.0), method, 5)
        assert (points[0] == 7).all()
        assert np.sqrt(np.mean((points[1] - 7) ** 2)) == pytest.approx(1)


def test_adam_takes_the_steps_of_the_paper():
    """The first step is the learning rate against the sign of g; the second by the equations."""
    seen = []

    def f(x):
        seen.append(x.copy())
        return quadratic(x)

    minimize(f, np.array([0.0, 9.0]), "adam", 2, learning_rate=0.5)
    np.testing.assert_allclose(seen[1], [0.5, 8.5], atol=1e-7)
    g = [quadratic(x)[1] for x in seen]
    m = (0.9 * 0.1 * g[0] + 0.1 * g[1]) / (1 - 0.9**2)
    v = (0.999 * 0.001 * g[0] ** 2 + 0.001 * g[1] ** 2) / (1 - 0.999**2)
    np.testing.assert_allclose(seen[2], seen[1] - 0.5 * m / (np.sqrt(v) + 1e-8), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_progress_is_reported_and_the_number_of_iterations_kept(method):
    told = []
    end = minimize(quadratic, np.zeros(50), method, 7, 0.1, told.append)
    assert [p.iteration for p in told] == list(range(1, 8))
    assert all(p.iterations == 7 for p in told)
    assert end.iterations == 7
    assert end.evaluations == len(end.losses) >= 8
    assert end.stopped_because == "all 7 iterations are done"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("true", [True, np.True_])
def test_callback_can_stop(method, true):
    end = minimize(quadratic, np.zeros(50), method, 100, 0.1, lambda p: p.iteration == 3 and true)
    assert end.iterations == 3
    assert "callback" in end.stopped_because


@pytest.mark.parametrize("method", METHODS)
def test_stop_is_asked_between_evaluations(method):
    """Before each but the first; what was best until then is what comes back."""
    answers = iter([False, False, True])
    end = minimize(quadratic, np.zeros(50), method, 100, 0.1, stop=lambda: next(answers))
    assert end.evaluations == 3
    assert end.stopped_because == "it was asked to"
    assert end.loss == quadratic(end.x)[0] == min(end.losses)


@pytest.mark.parametrize("method", METHODS)
def test_a_tolerance_ends_it_when_little_is_gained(method):
    """Not before the window is full; and the last WINDOW evaluations did gain less than that."""

    def raised(x):  # so that the loss does not fall to 0, of which any step is a large share
        loss, g = quadratic(x)
        return loss + 1000, g

    end = minimize(raised, np.zeros(50), method, 5000, 0.1, tolerance=0.01)
    assert end.stopped_because == "the loss fell by less than 0.01 of itself in 20 evaluations"
    best = np.minimum.accumulate(end.losses)
    gains = 1 - best[WINDOW:] / best[:-WINDOW]
    assert gains[-1] < 0.01
    assert (gains[:-1] >= 0.01).all()


def test_without_a_tolerance_a_flat_stretch_does_not_end_it():
    flat = lambda x: (1.0, np.full_like(x, 1e-3))
    end = minimize(flat, np.zeros(5), "adam", 60, 0.1)
    assert end.iterations == 60


@pytest.mark.parametrize("method", METHODS)
def test_max_seconds(monkeypatch, method):
    """A clock that a function's evaluation moves by a second."""
    now = [100.0]
    monkeypatch.setattr("minimal_nst.optimize.time.monotonic", lambda: now[0])

    def f(x):
        now[0] += 1
        return quadratic(x)

    end = minimize(f, np.zeros(50), method, 100, 0.1, max_seconds=4.5)
    assert end.evaluations == 5
    assert end.stopped_because == "its time is over"
    assert end.lowered
    none = minimize(f, np.zeros(50), method, 100, 0.1, max_seconds=-1)  # already over
    assert none.evaluations == 1


def failing_after(calls, failure):
    count = 0

    def f(x):
        nonlocal count
        count += 1
        return failure(x) if count > calls else quadratic(x)

    return f


def raising(error):
    def f(_):
        raise error

    return f


FAILURES = {
    "the loss is nan at evaluation 6": lambda x: (np.nan, np.zeros_like(x)),
    "the loss is inf at evaluation 6": lambda x: (np.inf, np.zeros_like(x)),
    "the gradient is not finite at evaluation 6": lambda x: (0.0, np.full_like(x, np.nan)),
    "out of memory": raising(MemoryError("out of memory")),
    "Ctrl-C": raising(KeyboardInterrupt("Ctrl-C")),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reason", FAILURES)
def test_failure_ends_at_once_and_brings_the_best_so_far(method, reason):
    f = failing_after(5, FAILURES[reason])
    with pytest.raises((RunError, MemoryError, KeyboardInterrupt), match=reason) as caught:
        minimize(f, np.zeros(50), method, 100, 0.1)
    best = caught.value.minimum
    assert best.evaluations <= 6
    assert best.lowered
    assert best.loss == quadratic(best.x)[0] == min(best.losses[:5])


@pytest.mark.parametrize("wrong", [[0, np.nan], [np.inf, -np.inf], [1, -np.inf]])
def test_one_number_that_is_not_finite_is_enough(wrong):
    with pytest.raises(RunError, match="the gradient is not finite at evaluation 1"):
        minimize(lambda x: (0.0, np.array([7.0, *wrong, -9.0])), np.zeros(4))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_single_precision_is_moved_as_it_is_but_by_scipy(method, dtype):
    """Where the gradient is of that precision, too; whole numbers become floats that hold them."""
    seen = set()

    def function(x):
        seen.add(x.dtype.name)
        loss, g = quadratic(x)
        return loss, g.astype(x.dtype)

    end = minimize(function, np.zeros((2, 3), dtype), method, 3)
    single = dtype == "float32" and method != "lbfgs"
    assert seen == {end.x.dtype.name} == {"float32" if single else "float64"}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("error", [StopIteration, ZeroDivisionError, KeyboardInterrupt])
def test_what_a_callback_raises_comes_through(method, error):
    """SciPy takes a StopIteration for its own and ends as if all were well."""
    failure = error("mine")
    failure.__cause__ = cause = ValueError("which has a cause of its own")
    with pytest.raises(error, match="mine") as caught:
        minimize(quadratic, np.zeros(50), method, 100, 0.1, raising(failure))
    assert caught.value is failure
    assert failure.__cause__ is cause
    assert failure.minimum.iterations == 1


@pytest.mark.parametrize("method", METHODS)
def test_nothing_to_start_from(method):
    with pytest.raises(RunError, match="the loss is nan at evaluation 1") as caught:
        minimize(lambda x: (np.nan, x), np.zeros(5), method)
    assert not caught.value.minimum.lowered


@pytest.mark.filterwarnings("error")
def test_steps_of_absurd_length_warn_of_nothing():
    with pytest.raises(RunError, match="evaluation 2"):
        minimize(quadratic, np.zeros(5), "adam", learning_rate=1e308)


def test_adam_is_pytorchs_with_any_constants():
    """Its memories, what it adds, and how its steps decay, against an implementation of others."""
    torch = pytest.importorskip("torch")
    points = []

    def noting(x):
        points.append(x.copy())
        return quadratic(x)

    adam = {"beta1": 0.8, "beta2": 0.95, "epsilon": 0.25, "decay": 0.75, "decay_every": 3}
    minimize(noting, np.array([0.0, 9.0, 2.0]), "adam", 12, learning_rate=0.5, adam=adam)
    x = torch.tensor([0.0, 9.0, 2.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.5, betas=(0.8, 0.95), eps=0.25)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.75)
    for point in points:
        np.testing.assert_allclose(point, x.detach().numpy(), rtol=1e-12)
        x.grad = torch.tensor(quadratic(x.detach().numpy())[1])
        optimizer.step()
        schedule.step()
    assert len(points) == 13


def test_best_is_kept_although_adam_overshoots():
    end = minimize(quadratic, np.array([2.9]), "adam", 20, learning_rate=1.0)
    assert end.loss == min(end.losses) < end.losses[-1]
    assert end.loss == quadratic(end.x)[0]


@pytest.mark.parametrize("method", METHODS)
def test_the_start_is_not_modified(method):
    x0 = np.zeros(5)
    x0.flags.writeable = False
    minimize(quadratic, x0, method, 3, 0.1)
    assert not x0.any()


def test_unknown_method():
    with pytest.raises(UsageError, match="'sgd'; it can be lbfgs, own-lbfgs, adam"):
        minimize(quadratic, np.zeros(2), "sgd")


def test_no_more_room_is_made_than_there_are_iterations(monkeypatch):
    """SciPy makes room for all pairs beforehand: hundreds of pictures, for a run of three."""
    made = []

    def noting(*args, **kwargs):
        made.append(kwargs["options"]["maxcor"])
        return scipy.optimize.minimize(*args, **kwargs)

    monkeypatch.setattr("minimal_nst.optimize.scipy_minimize", noting)
    for history in (2, 3, 100):
        minimize(quadratic, np.zeros(5), "lbfgs", 3, history=history)
    assert made == [2, 3, 3]


@pytest.mark.parametrize("method", ["lbfgs", "own-lbfgs", "adam"])
def test_what_was_evaluated_is_never_written_to(method):
    """So the best needs no copy of its own."""

    def f(x):
        x.flags.writeable = False
        return quadratic(x)

    end = minimize(f, np.zeros(3), method, 10)
    assert end.evaluations >= 10 or end.loss < 1e-12
    assert quadratic(end.x)[0] == end.loss
