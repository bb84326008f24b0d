"""L-BFGS by hand: the two loops against the matrix that they stand for, the line search, SciPy."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from minimal_nst import lbfgs, pairs as pairs_module, stacks
from minimal_nst.backend import CPU, Workers
from minimal_nst.coordinates import bands, frequencies
from minimal_nst.errors import RunError
from minimal_nst.lbfgs import CURVATURE, DECREASE, Scaled, Trial, direction, line_search
from minimal_nst.optimize import minimize
from minimal_nst.pairs import Pair, Pairs
from minimal_nst.stacks import TOP, dot

import strict
from test_optimize import quadratic, rosenbrock

pytestmark = pytest.mark.usefixtures("every_processor")


def remembered(pairs, history=None, threads=1):
    """What L-BFGS remembers, of a list."""
    memory = Pairs(history or len(pairs), pairs[0].s, Workers(threads))
    for pair in pairs:
        memory.add(pair.s, pair.y)
    return memory


def pairs_of(rng, n=7, count=4):
    """Steps on a quadratic, and the changes of its gradient."""
    root = rng.standard_normal((n, n))
    steps = rng.standard_normal((count, n))
    changes = steps @ (root @ root.T + np.eye(n))
    return [Pair(s, y) for s, y in zip(steps, changes, strict=True)]


def inverse_hessian(pairs, n=7):
    """B, written down: the update of the module's text, pair by pair."""
    s, y = pairs[-1].s, pairs[-1].y
    B = np.eye(n) * (s @ y) / (y @ y)
    for pair in pairs:
        rho = 1 / (pair.s @ pair.y)
        left = np.eye(n) - rho * np.outer(pair.s, pair.y)
        B = left @ B @ left.T + rho * np.outer(pair.s, pair.s)
    return B


def scaled(pairs):
    metric = Scaled(pairs[-1].s)
    metric.learn(pairs[-1].s, pairs[-1].y)
    return metric


def test_two_loops_are_the_matrix(rng):
    pairs, g = pairs_of(rng), rng.standard_normal(7)
    metric, B = scaled(pairs), inverse_hessian(pairs)
    np.testing.assert_allclose(direction(g, remembered(pairs), metric), -B @ g, rtol=1e-10)
    youngest = direction(pairs[-1].y, remembered(pairs), metric)
    np.testing.assert_allclose(youngest, -pairs[-1].s, rtol=1e-10)
    assert (direction(g, Pairs(4, g), Scaled(g)) == -g).all()


def test_pair_by_pair_it_is_the_same(rng):
    """The two loops as the book has them, over pictures: what a student may write."""
    pairs, g = remembered(pairs_of(rng)), rng.standard_normal(7)
    metric = scaled(list(pairs))
    q, alphas = g.copy(), []
    for pair in reversed(list(pairs)):
        alphas.append((pair.s @ q) / (pair.s @ pair.y))
        q -= alphas[-1] * pair.y
    q *= metric.lengths
    for pair, alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - (pair.y @ q) / (pair.s @ pair.y)) * pair.s
    np.testing.assert_allclose(direction(g, pairs, metric), -q, rtol=1e-10)


def test_only_the_last_are_remembered(rng):
    """Nine, in three places: the first six are forgotten, whatever place they had."""
    pairs, g = pairs_of(rng, count=9), rng.standard_normal(7)
    memory = remembered(pairs, history=3)
    assert len(memory) == 3
    for kept, pair in zip(memory, pairs[6:], strict=True):
        assert (kept.s == pair.s).all()
        assert (kept.y == pair.y).all()
    expected = -inverse_hessian(pairs[6:]) @ g
    np.testing.assert_allclose(direction(g, memory, scaled(pairs)), expected, rtol=1e-10)
    memory.clear()
    assert (direction(g, memory, Scaled(g)) == -g).all()
    memory.add(*vars(pairs[0]).values())
    d = direction(g, memory, scaled(pairs[:1]))
    np.testing.assert_allclose(d, -inverse_hessian(pairs[:1]) @ g, rtol=1e-10)


def test_of_float32_eight_bits_are_kept(rng):
    """B is made of the pairs as they are kept, to the last digit, and these are not far off."""
    pairs = [Pair(*(1e-10 * v.astype("f4") for v in vars(pair).values())) for pair in pairs_of(rng)]
    memory, g = remembered(pairs), rng.standard_normal(7).astype("f4")
    assert memory._s._numbers.itemsize == memory._y._numbers.itemsize == 1
    for kept, pair in zip(memory, pairs, strict=True):
        for name in "sy":
            here, there = getattr(kept, name), getattr(pair, name)
            assert here.dtype == np.float32
            assert 0 < np.abs(here - there).max() <= 0.501 * np.abs(there).max() / TOP
    kept = [Pair(*(v.astype("f8") for v in vars(pair).values())) for pair in memory]
    d = direction(g, memory, scaled(kept))
    expected = -inverse_hessian(kept) @ g
    assert np.linalg.norm(d - expected) < 1e-5 * np.linalg.norm(expected)
    exactly = -inverse_hessian(pairs) @ g
    assert 1e-5 < np.linalg.norm(expected - exactly) / np.linalg.norm(exactly) < 0.01


def test_each_row_is_rounded_by_its_own_largest_number(rng):
    """What is next to nothing beside another row is still there; nothing stays nothing."""
    s = (
        rng.standard_normal((4, 5, 3)).astype("f4")
        * np.array([1, 1e-6, 0, 1e4], "f4")[:, None, None]
    )
    (kept,) = remembered([Pair(s, s)])
    most = np.abs(s).max(axis=(1, 2), keepdims=True)
    assert (np.abs(kept.s - s) <= 0.501 * most / TOP).all()
    assert (kept.s[2] == 0).all()


def check_a_pair_without_curvature(rng, backend):
    """As rounding may leave a pair, when there is room and when there is none."""
    pairs = [Pair(*(v.astype("f4") for v in vars(pair).values())) for pair in pairs_of(rng)]
    up = lambda pair: [backend.upload(v, "float32") for v in vars(pair).values()]
    memory = Pairs(5, up(pairs[0])[0])
    s, y = np.eye(7, dtype="f4")[:2]
    for pair, change in zip(pairs, (y, -s, -s, y), strict=True):
        memory.add(*up(pair))
        memory.add(*up(Pair(s, change)))
    kept = [Pair(*(backend.download(v).astype("f8") for v in vars(p).values())) for p in memory]
    assert len(kept) == 2  # of five places
    last = pairs[-1].s
    assert np.abs(kept[-1].s - last).max() <= 0.501 * np.abs(last).max() / TOP
    g = pairs[0].s
    metric = scaled([Pair(*up(kept[-1]))])
    found = backend.download(direction(backend.upload(g, "float32"), memory, metric))
    np.testing.assert_allclose(found, -inverse_hessian(kept) @ g, rtol=1e-3)


def test_a_pair_without_curvature_does_not_count(rng):
    check_a_pair_without_curvature(rng, CPU)


def test_a_pair_without_curvature_does_not_count_on_a_device(rng, device):
    check_a_pair_without_curvature(rng, device)


def by_place(memory, backend=CPU):
    """Steps and changes as they are kept, in the order in which all answers come."""
    stacks = memory._s, memory._y
    return [
        np.array([backend.download(stack.get(k)).astype("f8") for k in range(len(memory))])
        for stack in stacks
    ]


@pytest.mark.parametrize("history", [1, 2, 4])
def test_products_that_are_known_are_forgotten_in_time(rng, history):
    """Whatever has happened meanwhile, dot_s is that of the steps that are there."""
    memory, (g, other) = Pairs(history, np.ones(7)), rng.standard_normal((2, 7))
    for pair in pairs_of(rng):
        for y in (pair.y, -pair.y):
            memory.add(pair.s, y, g)
            for a in (g, other, g):
                np.testing.assert_allclose(memory.dot_s(a), by_place(memory)[0] @ a)
    memory.add(pair.s, pair.y)
    np.testing.assert_allclose(memory.dot_s(g), by_place(memory)[0] @ g)
    memory.clear()
    memory.add(pair.s, pair.y)
    np.testing.assert_allclose(memory.dot_s(g), [pair.s @ g])


def check_the_table(rng, backend, history):
    """After as many pairs as there are places and more, and after all were forgotten."""
    memory = Pairs(history, backend.upload(np.ones(7), "float64"))
    for cleared in (False, True):
        for number, pair in enumerate(pairs_of(rng, count=7)):
            memory.add(*(backend.upload(v, "float64") for v in vars(pair).values()))
            s, y = by_place(memory, backend)
            there = min(number + 1, history)
            age = np.argsort([(k - number - 1) % history for k in range(there)])
            if number < history:
                age = np.arange(number + 1)
            R = np.triu((s @ y.T)[np.ix_(age, age)])
            inverse, diagonal = map(backend.download, (memory.inverse, memory.diagonal))
            assert len(inverse) == len(diagonal) == len(memory)
            for nobody in (inverse[there:], inverse[:, there:], diagonal[there:]):
                assert not nobody.any()
            np.testing.assert_allclose(inverse[np.ix_(age, age)] @ R, np.eye(len(R)), atol=1e-9)
            np.testing.assert_allclose(diagonal[age], R.diagonal(), err_msg=str(cleared))
            products = rng.standard_normal(len(memory))
            for turned, matrix in ((False, inverse), (True, inverse.T)):
                found = memory.solve(backend.upload(products, "float64"), turned)
                np.testing.assert_allclose(backend.download(found), matrix @ products, rtol=1e-9)
        memory.clear()
        assert not list(memory)


@pytest.mark.parametrize("history", [1, 2, 3, 9])
def test_the_table_is_the_inverse(rng, history):
    check_the_table(rng, CPU, history)


@pytest.mark.parametrize("history", [1, 2, 3, 9])
def test_the_table_is_the_inverse_on_a_device(rng, device, history):
    check_the_table(rng, device, history)


def check_products_and_sums(rng, backend, threads=None):
    """Of pictures."""
    for dtype in ("float32", "float64"):
        s, y = rng.standard_normal((2, 5, 9, 47, 3)).astype(dtype)
        y += s  # so that each has its curvature
        up = lambda x, dtype=dtype: backend.upload(x, dtype)
        a, memory = s[0] + y[1], Pairs(5, up(s[0]), Workers(threads or 1))
        there = up(a)
        for pair in zip(s, y, strict=True):
            memory.add(*map(up, pair), there)
        kept = [Pair(*map(backend.download, vars(pair).values())) for pair in memory]
        assert len(kept) == 5
        unit = np.abs([s, y]).max(axis=(3, 4), keepdims=True) / TOP  # at most half of one is lost
        lost = np.abs([s, y] - np.stack([[pair.s for pair in kept], [pair.y for pair in kept]]))
        assert (lost <= (0.501 * unit if dtype == "float32" else 0)).all()
        place = 4 if backend is CPU else backend.upload(np.array([4]), "int32")
        again = memory._y.put(place, up(y[4]))
        assert (backend.download(again) == kept[4].y).all()
        factors = rng.standard_normal(5)
        tolerance = {"rtol": 0, "atol": 1e-4 if dtype == "float32" else 1e-11}
        given = backend.upload(factors, "float64")
        steps, changes = ([getattr(pair, x).astype("f8") for pair in kept] for x in "sy")
        for asked in (there, up(a)):  # those of the first are known
            products = backend.download(memory.dot_s(asked))
            assert products.dtype == np.float64
            check_products(products, steps, a)
        total = sum(factor * b for factor, b in zip(factors, steps, strict=True))
        found = backend.download(memory.sum_s(given))
        np.testing.assert_allclose(found, total, **tolerance)
        for lengths in (np.array([0.7]), rng.uniform(0.5, 1, (9, 47, 1))):
            q, products = map(backend.download, memory.corrected(there, given, up(lengths)))
            left = a - sum(factor * b for factor, b in zip(factors, changes, strict=True))
            np.testing.assert_allclose(q, lengths * left, **tolerance)
            assert (q.dtype, products.dtype) == (dtype, "float64")
            check_products(products, changes, q)


def check_products(products, kept, a):
    """To a few roundings of a's numbers, for whatever is summed up is no larger than |b| |a|."""
    expected = [np.vdot(b, a.astype("f8")) for b in kept]
    limit = 4 * np.finfo(a.dtype).eps * max(map(np.linalg.norm, kept)) * np.linalg.norm(a)
    np.testing.assert_allclose(products, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("threads", [1, 2, 4, 16])
def test_inner_products_and_sums_are_those_of_each(rng, monkeypatch, threads):
    """In blocks of a few rows, of which no thread, or the last, may have fewer."""
    monkeypatch.setattr(stacks, "BLOCK", 2000)
    check_products_and_sums(rng, CPU, threads)


def test_threads_change_no_bit(rng):
    """Neither of an inner product nor of a sum."""
    pictures = rng.standard_normal((6, 9, 11, 3)).astype("f4")
    pairs = [Pair(s, s + 0.1 * y) for s, y in zip(pictures, pictures[::-1], strict=True)]
    one, *others = (remembered(pairs, 6, threads) for threads in (1, 2, 5))
    for other in others:
        assert (other.inverse == one.inverse).all()
        factors, lengths = np.full(6, 0.3), np.array([0.7], "f4")
        assert (other.dot_s(pictures[0]) == one.dot_s(pictures[0])).all()
        assert (other.sum_s(factors) == one.sum_s(factors)).all()
        there, here = (pairs.corrected(pictures[0], factors, lengths) for pairs in (other, one))
        assert all((a == b).all() for a, b in zip(there, here, strict=True))


def test_inner_products_and_sums_on_a_device(rng, device):
    check_products_and_sums(rng, device)


MUTANTS = {
    "not rounded": ("rint(n)", "n"),
    "a lane is not kept": ("rounded ? most", "rounded && lane ? most"),
    "kept in the row below": ("row = i / 32, kept", "row = i / 32 + 1, kept"),
    "kept elsewhere": ("row * places + place;", "row * places;"),
    "only what is positive counts": ("? -a[row * width + w] :", "? 0 :"),
    "not as it is kept": ("found[row * width + w] = scale *", "found[row * width + w] ="),
    "another lane's scale": ("[place] * scales[kept * 32 + lane]", "[place] * scales[kept * 32]"),
    "a lane is left out": ("w = lane;", "w = lane + 1;"),
    "a lane goes beyond": ("w < width;", "w <= width;"),
    "another picture's row": ("row * places + (first", "bundle * places + (first"),
    "not scaled": ("scales[kept[k] * 32 + lane] * sum_a[k]", "sum_a[k]"),
    "the other not scaled": ("scales[kept[k] * 32 + lane] * sum_b[k]", "sum_b[k]"),
    "of the first alone": ("number * at_b", "number * at_a"),
    "a bundle's first row alone": ("of_a[k] += ", "of_a[k] = "),
    "the same pair four times": ("? first + k :", "? first :"),
    "pairs that are not there": ("(first + k < count ? first + k : 0)", "(first + k)"),
    "written where there is no pair": ("if (first + k >= count) continue;", ""),
    "a row too many": ("&& row < height", ""),
    "the last row is left out": ("bundles = (height + rows - 1)", "bundles = height"),
    "the youngest is left out": ("place < count", "place + 1 < count"),
    "the first's scale": (
        "(T)factors[place] * scales[kept * 32",
        "(T)factors[place] * scales[row * 32",
    ),
    "always the same factor": ("factors[place]", "factors[0]"),
    "numbers are left out": ("32 * 4", "32 * 5"),
    "a row's end is not seen": ("if (first + 32 * k < width) sum", "sum"),
}


TABLE_MUTANTS = {
    "what was there is not forgotten": ("if (i == place) inverse", "if (false) inverse"),
    "the oldest are left out": ("j = 0", "j = 1"),
    "with the wrong sign": ("1 : -sum", "1 : sum"),
    "not divided": (": -sum) / curvature", ": -sum)"),
    "without curvature it counts": ("curvature > 0 ? (i", "true ? (i"),
    "the diagonal is the first's": ("diagonal[i] =", "diagonal[0] ="),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_of_the_kernels_are_rejected(monkeypatch, rng, name):
    before, after = MUTANTS[name]
    bodies = {key: body.replace(before, after) for key, body in stacks.BODIES.items()}
    assert bodies != stacks.BODIES
    monkeypatch.setattr(stacks, "BODIES", bodies)
    with pytest.raises((AssertionError, IndexError)):
        check_products_and_sums(rng, strict.BACKEND)


@pytest.mark.parametrize("name", TABLE_MUTANTS)
def test_mutants_of_the_table_are_rejected(monkeypatch, rng, name):
    before, after = TABLE_MUTANTS[name]
    assert before in pairs_module.TABLE
    body = pairs_module.TABLE.replace(before, after)
    monkeypatch.setattr(pairs_module, "BODIES", {"table": body})
    try:
        check_the_table(rng, strict.BACKEND, 3)
        check_a_pair_without_curvature(rng, strict.BACKEND)
    except (AssertionError, RuntimeWarning):
        return
    pytest.fail("the mutant passes")


def test_a_step_asks_a_device_for_nothing(rng):
    """Neither when a pair is added nor for the direction; and nothing is sent."""
    up = lambda x: strict.BACKEND.upload(x, "float32")
    pairs = [Pair(up(pair.s), up(pair.y)) for pair in pairs_of(rng, count=9)]
    memory, g = remembered(pairs[:8]), up(rng.standard_normal(7))
    metric = scaled(pairs)
    with strict.counted() as counts:
        memory.add(pairs[8].s, pairs[8].y)
        direction(g, memory, metric)
    assert not counts


def test_an_iteration_asks_a_device_three_numbers(rng):
    """Whether the gradient is finite, and the slopes at both ends of the step."""
    waits = []

    def f(x):
        waits.append(strict.COUNTS["wait"])
        loss = float(np.sum(x._host**2))  # which asks nothing
        return loss, 2 * x

    x = strict.BACKEND.upload(rng.standard_normal((3, 4)), "float64")
    metric = bands(frequencies(3, 4), "float64", strict.BACKEND)
    with strict.counted():
        end = minimize(f, x, "own-lbfgs", 4, metric=metric)
    assert end.evaluations == len(waits)
    assert set(np.diff(waits)[1:].tolist()) == {3}


def test_the_arguments_of_the_two_loops_are_not_modified(rng):
    pairs, g = pairs_of(rng), rng.standard_normal(7)
    for array in (g, *(pair.s for pair in pairs), *(pair.y for pair in pairs)):
        array.flags.writeable = False
    direction(g, remembered(pairs), scaled(pairs))


class Diagonal:
    """A metric that knows the Hessian's diagonal."""

    def __init__(self, diagonal):
        self.lengths = 1 / diagonal
        self.learnt = 0
        self.state = {"lengths": self.lengths}

    def learn(self, s, y):
        self.learnt += 1


def test_a_metric_that_knows_the_hessian_needs_one_step(rng):
    scale = np.logspace(0, 5, 40)
    function = lambda x: (float((scale * x * x).sum()) / 2, scale * x)
    x = rng.standard_normal(40)
    plain = minimize(function, x, "own-lbfgs", 20, history=3)
    knows = Diagonal(scale)
    known = minimize(function, x, "own-lbfgs", 20, history=3, metric=knows)
    assert known.loss < 1e-12 * plain.loss
    assert 0 < knows.learnt <= known.iterations


def test_the_first_trial_is_the_metrics_too(rng):
    """Where nothing is remembered, as at the start and after a restart, the way is -M g."""
    scale, points = np.logspace(0, 3, 40), []

    def function(x):
        points.append(x)
        return float((scale * x * x).sum()) / 2, scale * x

    x = rng.standard_normal(40)
    minimize(function, x, "own-lbfgs", 1, metric=Diagonal(scale))
    first = points[1] - points[0]
    np.testing.assert_allclose(first, -x / np.sqrt(np.mean(x**2)), rtol=1e-9)  # M g is x here


def test_loops_in_the_wrong_order_are_rejected(rng):
    pairs, g = pairs_of(rng), rng.standard_normal(7)
    expected = -inverse_hessian(pairs) @ g
    halved, apart, full = (remembered(pairs) for _ in range(3))
    halved.diagonal[...] /= 2
    apart.inverse[...] = np.diag(apart.inverse.diagonal())
    full.inverse[...] = np.linalg.inv([[s.s @ y.y for y in pairs] for s in pairs])
    for wrong in (remembered(pairs[::-1]), remembered(pairs[1:]), halved, apart, full):
        assert np.linalg.norm(
            direction(g, wrong, scaled(pairs)) - expected
        ) > 1e-3 * np.linalg.norm(expected)


FUNCTIONS = {  # phi and its slope at t; the first slope is negative
    "parabola": (lambda t: (t - 3) ** 2, lambda t: 2 * (t - 3)),
    "minimum close by": (lambda t: (t - 1e-3) ** 2, lambda t: 2 * (t - 1e-3)),
    "minimum far away": (lambda t: (t - 900) ** 2, lambda t: 2 * (t - 900)),
    "quartic": (lambda t: t**4 - 2 * t, lambda t: 4 * t**3 - 2),
    "wave": (lambda t: -np.sin(5 * t), lambda t: -5 * np.cos(5 * t)),
    "two valleys": (
        lambda t: (t - 1) ** 2 * (t - 3) ** 2 - t,
        lambda t: 2 * (t - 1) * (t - 3) * (2 * t - 4) - 1,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("first", [1e-4, 1.0, 50.0])
def test_line_search_fulfils_the_wolfe_conditions(name, first):
    f, slope = FUNCTIONS[name]
    tried = []

    def phi(t):
        tried.append(t)
        return Trial(t, f(t), slope(t))

    start = Trial(0.0, f(0.0), slope(0.0))
    end = line_search(phi, start, first)
    assert end.t > 0
    assert end.loss <= start.loss + DECREASE * end.t * start.slope
    assert end.slope >= CURVATURE * start.slope
    assert len(tried) <= 16


@pytest.mark.parametrize(("minimum", "trials"), [(0.49, 2), (0.52, 1), (9.0, 1), (11.0, 2)])
def test_a_step_may_end_beyond_the_minimum_but_not_far_before_it(minimum, trials):
    """Of a parabola: at twice the way to the minimum it is as high as at the start."""
    tried = []

    def phi(t):
        tried.append(t)
        return Trial(t, (t - minimum) ** 2, 2 * (t - minimum))

    line_search(phi, phi(0.0), 1.0)
    assert len(tried[1:]) == trials


def test_line_search_returns_the_start_if_nothing_is_lower():
    """As where rounding has taken the descent away."""
    start = Trial(0.0, 1.0, -1e-9)
    assert line_search(lambda t: Trial(t, 1.0 + t, 1.0), start, 1.0) is start


def test_a_step_that_changes_nothing_is_not_taken():
    """Where what the slope promises is less than the loss' last digit."""
    start = Trial(0.0, 1.0, -1e-20)
    assert line_search(lambda t: Trial(t, 1.0, -1e-20 / (1 + t)), start, 1.0) is start


def ill_conditioned(x):
    scale = np.logspace(0, 6, x.size)
    return float((scale * x * x).sum()), 2 * scale * x


def kinked(x):
    return float((np.abs(x) + x * x).sum()), np.sign(x) + 2 * x


@pytest.mark.parametrize("function", [rosenbrock, ill_conditioned, kinked])
def test_is_about_as_good_as_scipys(function, rng):
    x0 = np.array([-1.2, 1.0]) if function is rosenbrock else rng.standard_normal(50)
    ours, scipys = (minimize(function, x0, method, 100) for method in ("own-lbfgs", "lbfgs"))
    assert ours.evaluations < 1.5 * scipys.evaluations + 5
    assert ours.loss < max(1e-9, 4 * scipys.loss)


def test_a_second_evaluation_is_seldom_needed(rng):
    """Near a quadratic's minimum the step of 1 is right: what Newton's method is for."""
    end = minimize(ill_conditioned, rng.standard_normal(50), "own-lbfgs", 200)
    assert end.evaluations < 1.15 * end.iterations


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_does_not_depend_on_the_scale_of_the_loss(scale):
    scaled = lambda x: tuple(scale * v for v in rosenbrock(x))
    plain, other = (
        minimize(f, np.array([-1.2, 1.0]), "own-lbfgs", 30) for f in (rosenbrock, scaled)
    )
    np.testing.assert_allclose(other.x, plain.x, rtol=1e-6)


def test_a_function_that_turns_nan():
    """The line search may step where there is nothing; that ends it, with the best so far."""

    def f(x):
        loss, g = quadratic(x)
        return (loss if x.max() < 2 else np.nan), g

    with pytest.raises(RunError, match="the loss is nan") as caught:
        minimize(f, np.zeros(3), "own-lbfgs", 50)
    assert caught.value.minimum.lowered
    assert caught.value.minimum.x.max() < 2


def test_first_step_and_dtypes():
    """The first trial is one unit long; pairs and directions have the gradient's dtype."""
    seen = []

    def f(x):
        seen.append(x.copy())
        loss, g = quadratic(x)
        return loss, g.astype("float32")

    lbfgs.lbfgs(f, np.zeros(50), 2, lambda *_: None, 5)
    assert np.sqrt(np.mean((seen[1] - seen[0]) ** 2)) == pytest.approx(1, rel=1e-6)
    g = np.ones(4, "float32")
    pair = Pair(g, 2 * g)
    assert direction(g, remembered([pair]), scaled([pair])).dtype == np.float32


@pytest.mark.parametrize("backend", [CPU, strict.BACKEND], ids=["cpu", "device"])
def test_rows_of_inner_products_are_summed_in_float64(backend):
    """Each of the rows is next to nothing beside the first."""
    a = np.ones((2**16, 2, 1), "float32")
    a[0] = 2**14
    there = backend.upload(a, "float32")
    assert dot(there, there) == 2**29 + 2**17 - 2
    assert np.cumsum((a * a).sum(axis=(1, 2)))[-1] == 2**29  # what float32 would make of it


def test_same_on_a_device(rng):
    """Nothing but what CuPy's arrays can do, to the same numbers."""
    pairs, g = pairs_of(rng), rng.standard_normal(7)
    up = lambda x: strict.BACKEND.upload(x, "float64")
    there = [Pair(up(p.s), up(p.y)) for p in pairs]
    d = strict.BACKEND.download(direction(up(g), remembered(there), scaled(there)))
    np.testing.assert_allclose(d, direction(g, remembered(pairs), scaled(pairs)), rtol=1e-13)
    losses = []
    for send in (lambda x: x, up):
        seen = []

        def f(x, seen=seen):
            g = 2 * (x - 3)
            seen.append(dot(x - 3, x - 3))
            return seen[-1], g

        lbfgs.lbfgs(f, send(np.arange(5.0)), 4, lambda *_: None, 5)
        losses.append(seen)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-12, atol=1e-25)


def test_after_a_line_search_that_failed_it_begins_anew():
    """The pairs are forgotten, so the next trial has the first one's length, not the metric's."""
    points = []

    def f(x):
        points.append(x.copy())
        failing = 2 < len(points) <= 2 + lbfgs.TRIALS
        return 1e6 * float(x @ x) + 1e12 * failing, 2e6 * x

    lbfgs.lbfgs(f, np.linspace(1, 2, 30), 3, lambda *_: None, 5)
    restart = points[2 + lbfgs.TRIALS]
    assert np.sqrt(np.mean((restart - points[1]) ** 2)) == pytest.approx(1)


def test_a_jump_ends_the_line_search():
    """The interval around it shrinks until its ends are neighbouring numbers."""
    jump = lambda t: (t - 900) ** 2 + 1e12 * (t > 4)
    phi = lambda t: Trial(t, jump(t), 2 * (t - 900))
    end = line_search(phi, phi(0.0), 1.0)
    assert end.t == 4


@pytest.mark.parametrize("metric", ["scaled", "bands"])
def test_from_the_second_step_on_a_device_does_as_it_was_told(rng, metric):
    """One launch for the pair, the metric and the direction, with what goes in and comes out."""
    launches = []

    def f(x):
        launches.append(strict.LAUNCHES.copy())
        return float(np.sum(x._host**4)), 4 * x * x * x

    def run(iterations, history):
        before = strict.MEMORY.now
        x = strict.asarray(np.linspace(1, 2, 12).reshape(3, 4))
        made = bands(frequencies(3, 4), "float64", strict.BACKEND) if metric == "bands" else None
        with strict.counted():
            losses = minimize(f, x, "own-lbfgs", iterations, history=history, metric=made).losses
        del x, made
        assert strict.MEMORY.now == before  # the recording's, too
        return losses

    here = minimize(
        lambda x: (float(np.sum(x**4)), 4 * x * x * x),
        np.linspace(1, 2, 12).reshape(3, 4),
        "own-lbfgs",
        12,
        history=4,
        metric=bands(frequencies(3, 4), "float64", CPU) if metric == "bands" else None,
    )
    assert run(12, 4) == pytest.approx(here.losses, rel=1e-9)
    between = [after - before for before, after in itertools.pairwise(launches)]
    steps = between[3:]
    assert all(step["graph"] == 1 for step in steps)
    assert max(step.total() for step in steps) < 25
