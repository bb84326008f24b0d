"""The checks are checked: each must reject gradients that are wrong in the ways that occur."""

from __future__ import annotations

import numpy as np
import pytest
from minimal_nst import gradcheck, layers, losses, mutants
from minimal_nst.checklist import COORDINATES, LAYERS, LOSSES, objective
from minimal_nst.gradcheck import Operation, Verdict, adapt, check, diagnose, numeric_gradient
from minimal_nst.settings import Settings

MUTANTS = {mutant.operation.name: mutant for mutant in mutants.MUTANTS}


@pytest.mark.parametrize("operation", [LAYERS[2], LOSSES[0], COORDINATES], ids=lambda o: o.name)
def test_every_method_that_applies_is_used(operation):
    verdicts = list(check(operation))
    assert [verdict.how for verdict in verdicts][:2] == ["complex step", "central difference"]
    assert len(verdicts) == 2 + operation.linear
    assert all(verdict.passed for verdict in verdicts)
    assert diagnose(operation) == ""


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_ones_are_rejected_by_every_check(name, rng):
    mutant = MUTANTS[name]
    for verdict in check(mutant.operation, rng):
        assert not verdict.passed, verdict
        assert verdict.error > 1e-5
        assert "WRONG" in str(verdict)
    assert mutant.hint
    assert diagnose(mutant.operation, rng)


def test_every_operation_has_mutants():
    assert {mutant.of for mutant in mutants.MUTANTS} == {o.name for o in (*LAYERS, *LOSSES)}


def test_an_error_that_is_no_number_does_not_pass():
    assert not Verdict("f", "g", np.nan, 1.0).passed
    assert not Verdict("f", "g", np.inf, 1.0).passed
    assert Verdict("f", "g", 1.0, 1.0).passed


def test_ones_upstream_would_miss_what_a_random_one_finds(rng):
    """Why dy is random: with ones, a guided ReLU and a reversed dy pass."""
    x = rng.standard_normal((8, 12, 3))
    for name in ("relu: guided, dy masked too", "avg_pool: dy mirrored"):
        wrong = MUTANTS[name].operation
        ones = np.ones(wrong.forward(x).shape)
        dx = wrong.backward(ones, x)
        assert gradcheck.complex_step(wrong.forward, x, dx, rng, ones) < 1e-10


def test_a_backward_that_modifies_its_argument_is_noticed(rng):
    """The check on the layers freezes their arguments; this is the mutant that it stops."""
    dy = rng.standard_normal((9, 11, 3))
    dy.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        dy *= 2


def test_kinks_are_counted_and_avoided(rng):
    """Beside its kink, |x| has the slope -1; a difference across it is anything in between."""
    x = np.full((9, 11), -1e-3)
    choices = lambda x: [x > 0]
    f = lambda x: np.abs(x).sum()
    assert gradcheck.kinks_crossed(choices, x, -x) == 99
    assert gradcheck.kinks_crossed(choices, x, x / 2) == 0
    assert gradcheck.central_difference(f, x, np.sign(x), rng, 1e-4, None, choices) < 1e-9
    assert gradcheck.central_difference(f, x, np.sign(x), rng, 1.0) > 1e-3
    with pytest.raises(ValueError, match="crosses a kink within h = 1.0"):
        gradcheck.central_difference(f, x, np.sign(x), rng, 1.0, None, choices)


def test_taylor_rates_tell_right_from_slightly_wrong(rng):
    x, v = rng.standard_normal((2, 9, 11, 3))
    f = lambda x: np.exp(x / 3).sum()
    dx = np.exp(x / 3) / 3
    right = gradcheck.taylor_rates(f, x, dx, v, h=1e-2)
    wrong = gradcheck.taylor_rates(f, x, 1.01 * dx, v, h=1e-3)
    assert all(1.9 < rate < 2.1 for rate in right)
    assert all(rate < 1.2 for rate in wrong)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_infinitely_wrong(rng, value):
    """NaN compares as false with any tolerance; ``error > tolerance`` would let it pass."""
    x = rng.standard_normal((9, 11))
    f = lambda x: np.sum(x * x)
    bad = 2 * x
    bad[3, 4] = value
    errors = [
        gradcheck.complex_step(f, x, bad, rng),
        gradcheck.central_difference(f, x, bad, rng, 1e-4),
        gradcheck.adjoint(lambda x: x, lambda y: y * value, x, x),
    ]
    assert errors == [np.inf] * 3
    assert gradcheck.taylor_rates(f, x, bad, x, 1e-2) == [-np.inf] * 4
    assert gradcheck.taylor_rates(lambda x: value, x, 2 * x, x, 1e-2) == [-np.inf] * 4


def test_taylor_rates_of_a_linear_function(rng):
    """Its remainder is nothing but round-off if the gradient is right, of first order if not."""
    x, v, dx = rng.standard_normal((3, 9, 11))
    f = lambda x: np.sum(dx * x)
    assert gradcheck.taylor_rates(f, x, dx, v, 1e-2) == [np.inf] * 4
    assert all(rate < 1.2 for rate in gradcheck.taylor_rates(f, x, 1.001 * dx, v, 1e-2))


@pytest.mark.parametrize("h", [0, -1e-3, np.nan, np.inf])
def test_steps_that_are_none(rng, h):
    x = rng.standard_normal((9, 11))
    f = lambda x: np.sum(x * x)
    with pytest.raises(ValueError, match=f"h is {h}; a step must be above 0"):
        gradcheck.central_difference(f, x, 2 * x, rng, h)
    with pytest.raises(ValueError, match=f"h is {h}; a step must be above 0"):
        gradcheck.taylor_rates(f, x, 2 * x, x, h)


def test_a_gradient_of_another_shape(rng):
    x = rng.standard_normal((9, 11))
    f = np.sum  # whose gradient is ones: of shape (1, 1) or (9, 11), the sums are the same
    for method in (
        lambda dx: gradcheck.complex_step(f, x, dx, rng),
        lambda dx: gradcheck.central_difference(f, x, dx, rng, 1e-3),
        lambda dx: gradcheck.taylor_rates(f, x, dx, x, 1e-3),
    ):
        method(np.ones((9, 11)))
        with pytest.raises(ValueError, match=r"the gradient has shape \(1, 1\), x has \(9, 11\)"):
            method(np.ones((1, 1)))


def relu(x):
    return x * (x.real > 0)


MISTAKES = {  # backward -> what is said of it
    "a factor": (lambda dy, x: 2 * dy * (x > 0), "it is 2 times what it should be"),
    "the sign": (lambda dy, x: -dy * (x > 0), "the sign is wrong"),
    "nothing": (lambda dy, x: 0 * x, "it is zero everywhere"),
    "not finite": (lambda dy, x: np.where(x > 0, dy, np.nan), "numbers are not finite"),
    "a shape": (lambda dy, x: dy[0], "dx has the shape (11, 3); it must have x's, (9, 11, 3)"),
    "ones": (lambda dy, x: 1.0 * (x > 0), "dy is not used: it is as if dy were all ones"),
    "guided": (lambda dy, x: np.maximum(dy, 0) * (x > 0), "where dy is negative it is lost"),
    "abs": (lambda dy, x: abs(dy) * (x > 0), "the sign of dy is lost"),
    "dy upside down": (lambda dy, x: dy[::-1] * (x > 0), "dy is used upside down"),
    "dy mirrored": (lambda dy, x: dy[:, ::-1] * (x > 0), "dy is used mirrored"),
    "upside down": (lambda dy, x: (dy * (x > 0))[::-1], "dx is upside down"),
    "mirrored": (lambda dy, x: (dy * (x > 0))[:, ::-1], "dx is mirrored"),
    "BGR": (lambda dy, x: (dy * (x > 0))[..., ::-1], "the last axis of dx is reversed"),
    "no mask": (lambda dy, x: dy, "should be zero: a mask, or a winner, is missing"),
    "too little": (lambda dy, x: dy * (x > 1), "are zero that should not be"),
    "a row": (
        lambda dy, x: dy * (x > 0) * (np.arange(9) < 8)[:, None, None],
        "right but for the first or last place along axis 0",
    ),
    "a column": (
        lambda dy, x: dy * (x > 0) * (np.arange(11) > 0)[:, None],
        "right but for the first or last place along axis 1",
    ),
    "something else": (lambda dy, x: np.tanh(dy * (x > 0)), "numbers are wrong; at ["),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    backward, said = MISTAKES[name]
    assert said in diagnose(Operation("relu", relu, backward))


def test_a_border_lost_all_around():
    inside = np.zeros((9, 11, 1))
    inside[1:-1, 1:-1] = 1
    wrong = Operation("relu", relu, lambda dy, x: dy * (x > 0) * inside)
    assert diagnose(wrong) == "it is right inside, and wrong at the border"


def test_a_transposed_gradient_of_a_square():
    wrong = Operation("square", lambda x: x * x, lambda dy, x: (2 * x * dy).T, (5, 5))
    assert diagnose(wrong) == "dx is transposed"


@pytest.mark.parametrize("argument", [0, 1])
def test_arguments_that_are_written_to(argument):
    def backward(*arguments):
        arguments[argument][...] *= 2
        return arguments[0]

    wrong = Operation("relu", relu, backward)
    assert diagnose(wrong).startswith("an argument is written to")
    with pytest.raises(ValueError, match="read-only"):
        list(check(wrong))


@pytest.mark.parametrize("f", [np.linalg.norm, lambda x: np.sum(np.sqrt(x.astype(float) ** 2))])
def test_without_complex_numbers_differences_serve(f):
    """A norm takes absolute values, a cast drops the imaginary part: no complex step there."""
    right = Operation("f", f, lambda dy, x: dy * numeric_gradient(f, x))
    assert [verdict.how for verdict in check(right)] == ["central difference"]
    assert all(verdict.passed for verdict in check(right))
    assert diagnose(right) == ""


def test_numeric_gradient(rng):
    x, dy = rng.standard_normal((2, 4, 3))
    np.testing.assert_allclose(numeric_gradient(lambda x: x**3, x, dy), 3 * x**2 * dy, rtol=1e-14)
    np.testing.assert_allclose(numeric_gradient(np.linalg.norm, x), x / np.linalg.norm(x), 1e-8)


def scaled_backward(dy, scale, shape):
    assert shape == (9, 11, 3)
    return dy * scale


ADAPTED = {  # what people write: (function, of)
    "dy and x": (lambda dy, x: dy * (x > 0), relu),
    "dy and a cache": (layers.relu_backward, layers.relu_forward),
    "a cache and the shape": (layers.max_pool_backward, layers.max_pool_forward),
    "the shape": (layers.avg_pool_backward, layers.avg_pool_forward),
    "an argument": (layers.conv_backward, layers.conv_forward),
    "an argument by another order": (scaled_backward, lambda x, scale: x * scale),
    "a loss with its gradient": (losses.total_variation, None),
    "a loss, and a gradient of x": (lambda x: 3 * x**2, lambda x: np.sum(x**3)),
    "a loss, and a gradient of x and more": (
        lambda x, scale: 3 * scale * x**2,
        lambda x, scale: np.sum(scale * x**3),
    ),
    "a loss, and a backward of dy": (lambda dy, x: dy * 3 * x**2, lambda x: np.sum(x**3)),
}


@pytest.mark.parametrize("name", ADAPTED)
def test_anybodys_functions(name, rng):
    function, of = ADAPTED[name]
    arguments = {
        "kernel": rng.standard_normal((3, 3, 3, 4)),
        "bias": rng.standard_normal(4),
        "scale": rng.standard_normal(3),
    }
    operation = adapt(function, of, arguments, (9, 11, 3))
    verdicts = list(check(operation))
    assert len(verdicts) == 2
    assert all(verdict.passed for verdict in verdicts)
    assert diagnose(operation) == ""


def test_a_parameter_that_comes_from_nowhere():
    with pytest.raises(ValueError, match="conv_forward takes 'kernel'; give its shape"):
        diagnose(adapt(layers.conv_backward, layers.conv_forward, {}, (9, 11, 3)))
    with pytest.raises(ValueError, match="relu_backward takes 'mask', which relu neither"):
        diagnose(adapt(layers.relu_backward, relu, {}, (9, 11, 3)))


def test_the_objective_in_its_other_forms():
    """The default's are checked by the command's own test."""
    verdicts = list(objective("cysmith", Settings.preset("cysmith")))
    assert [verdict.how for verdict in verdicts] == ["complex step", "Taylor, from rate 2"]
    assert all(verdict.passed for verdict in verdicts)
