"""The checks are checked: each must reject gradients that are wrong in the ways that occur."""

from __future__ import annotations

import numpy as np
import pytest
from minimal_nst import gradcheck, layers, losses

rng0 = np.random.default_rng(7)
KERNEL = rng0.standard_normal((3, 3, 3, 4))
BIAS = rng0.standard_normal(4)
P = rng0.standard_normal((99, 5))
A = losses.gram_matrix(rng0.standard_normal((99, 5)))


def conv(x):
    return layers.conv_forward(x, KERNEL, BIAS)


def relu(x):
    return layers.relu_forward(x)[0]


def max_pool(x):
    return layers.max_pool_forward(x)[0]


def winners(x):
    return layers.max_pool_forward(x)[1]


def col2im_overwriting(cols, shape):
    H, W, C = shape
    padded = np.zeros((H + 2, W + 2, C))
    for k, (i, j) in enumerate(layers.OFFSETS):
        padded[i : i + H, j : j + W] = cols.reshape(H, W, 9, C)[:, :, k]
    return padded[1:-1, 1:-1]


def without_left_border(dx):
    dx = dx.copy()
    dx[:, 0] = 0
    return dx


LAYER_MUTANTS = {  # name: (forward, wrong backward of dy and x)
    "conv: kernel flipped": (conv, lambda dy, x: layers.conv_backward(dy, KERNEL[::-1, ::-1])),
    "conv: rows and columns swapped": (
        conv,
        lambda dy, x: layers.conv_backward(dy, KERNEL.transpose(1, 0, 2, 3)),
    ),
    "conv: dy upside down": (conv, lambda dy, x: layers.conv_backward(dy[::-1], KERNEL)),
    "conv: col2im overwrites": (
        conv,
        lambda dy, x: col2im_overwriting(dy.reshape(-1, 4) @ KERNEL.reshape(27, 4).T, x.shape),
    ),
    "conv: left border lost": (
        conv,
        lambda dy, x: without_left_border(layers.conv_backward(dy, KERNEL)),
    ),
    "conv: scaled by 255/256": (
        conv,
        lambda dy, x: layers.conv_backward(dy, KERNEL) * 255 / 256,
    ),
    "relu: mask ignored": (relu, lambda dy, x: dy),
    "relu: guided, dy masked too": (relu, lambda dy, x: dy * (x > 0) * (dy > 0)),
    "relu: mask of x < 0": (relu, lambda dy, x: dy * (x < 0)),
    "max pool: last of the window wins": (
        max_pool,
        lambda dy, x: layers.max_pool_backward(dy, np.full_like(winners(x), 3), x.shape),
    ),
    "max pool: everybody wins": (
        max_pool,
        lambda dy, x: layers.avg_pool_backward(4 * dy, x.shape),
    ),
    "average pool: half, not a quarter": (
        layers.avg_pool_forward,
        lambda dy, x: 2 * layers.avg_pool_backward(dy, x.shape),
    ),
    "average pool: dy reversed": (
        layers.avg_pool_forward,
        lambda dy, x: layers.avg_pool_backward(dy[:, ::-1], x.shape),
    ),
}

LOSS_MUTANTS = {  # name: (loss, wrong gradient)
    "content: half forgotten": (losses.content_loss, P, lambda F: 2 * (F - P)),
    "content: masked by F > 0": (losses.content_loss, P, lambda F: (F - P) * (F > 0)),
    "style: target added": (losses.style_loss, A, lambda F: F @ (F.T @ F + A) / (25 * 99**2)),
    "style: 1/4 kept": (losses.style_loss, A, lambda F: losses.style_loss(F, A)[1] / 4),
    "style: M for M squared": (losses.style_loss, A, lambda F: losses.style_loss(F, A)[1] * 99),
    "style: only the diagonal": (
        losses.style_loss,
        A,
        lambda F: F @ np.diag(np.diag(F.T @ F - A)) / (25 * 99**2),
    ),
}


@pytest.mark.parametrize("name", LAYER_MUTANTS)
def test_complex_step_rejects_wrong_layers(name, rng):
    forward, wrong = LAYER_MUTANTS[name]
    x = rng.standard_normal((9, 11, 3))
    dy = rng.standard_normal(forward(x).shape)
    assert gradcheck.complex_step(forward, x, wrong(dy, x), rng, dy) > 1e-6


@pytest.mark.parametrize("name", LAYER_MUTANTS)
def test_central_differences_reject_wrong_layers(name, rng):
    forward, wrong = LAYER_MUTANTS[name]
    x = rng.permutation(np.arange(9 * 11 * 3) - 148.5).reshape(9, 11, 3)
    dy = rng.standard_normal(forward(x).shape)
    assert gradcheck.central_difference(forward, x, wrong(dy, x), rng, 1e-3, dy) > 1e-6


@pytest.mark.parametrize("name", LOSS_MUTANTS)
def test_complex_step_rejects_wrong_losses(name, rng):
    loss, target, wrong = LOSS_MUTANTS[name]
    F = rng.standard_normal((99, 5))
    assert gradcheck.complex_step(lambda F: loss(F, target)[0], F, wrong(F), rng) > 1e-6


def test_complex_step_rejects_a_total_variation_without_its_border(rng):
    x = rng.standard_normal((9, 11, 3))
    dx = losses.total_variation(x)[1]
    f = lambda x: losses.total_variation(x)[0]
    assert gradcheck.complex_step(f, x, dx, rng) < 1e-10
    assert gradcheck.complex_step(f, x, without_left_border(dx), rng) > 1e-6


LINEAR = {
    name: pair for name, pair in LAYER_MUTANTS.items() if name.startswith(("conv", "average"))
}


@pytest.mark.parametrize("name", LINEAR)
def test_adjoint_rejects_wrong_linear_layers(name, rng):
    forward, wrong = LINEAR[name]
    zero = forward(np.zeros((9, 11, 3)))
    x = rng.standard_normal((9, 11, 3))
    y = rng.standard_normal(zero.shape)
    assert gradcheck.adjoint(lambda x: forward(x) - zero, lambda y: wrong(y, x), x, y) > 1e-6


def test_ones_upstream_would_miss_what_a_random_one_finds(rng):
    """Why dy is random: with ones, a guided ReLU and a reversed dy pass."""
    x = rng.standard_normal((8, 12, 3))
    for name in ("relu: guided, dy masked too", "average pool: dy reversed"):
        forward, wrong = LAYER_MUTANTS[name]
        ones = np.ones(forward(x).shape)
        assert gradcheck.complex_step(forward, x, wrong(ones, x), rng, ones) < 1e-10


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
    for check in (
        lambda dx: gradcheck.complex_step(f, x, dx, rng),
        lambda dx: gradcheck.central_difference(f, x, dx, rng, 1e-3),
        lambda dx: gradcheck.taylor_rates(f, x, dx, x, 1e-3),
    ):
        check(np.ones((9, 11)))
        with pytest.raises(ValueError, match=r"the gradient has shape \(1, 1\), x has \(9, 11\)"):
            check(np.ones((1, 1)))
