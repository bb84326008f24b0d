"""Every layer: its backward against the complex step, differences and its adjoint; conventions;
and the same on a device whose arrays do not mix with NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from minimal_nst import gradcheck, layers
from minimal_nst.backend import Backend
from minimal_nst.checklist import LAYERS

H, W, C_IN, C_OUT = 9, 11, 3, 4
LIMITS = {"complex step": 1e-15, "central difference": 1e-8, "adjoint": 1e-15}


def draw(rng, dtype="float64"):
    kernel = rng.standard_normal((3, 3, C_IN, C_OUT)).astype(dtype)
    bias = rng.standard_normal(C_OUT).astype(dtype)
    kernel.flags.writeable = bias.flags.writeable = False
    return kernel, bias


@pytest.mark.parametrize("operation", LAYERS, ids=lambda operation: operation.name)
def test_backward_by_every_method(operation, rng):
    """`check` lets no argument be written to."""
    for verdict in gradcheck.check(operation, rng):
        assert verdict.error < LIMITS[verdict.how], verdict
    assert gradcheck.diagnose(operation) == ""


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 1e-6)])
def test_adjoint_of_im2col(dtype, tolerance, rng):
    x = rng.standard_normal((H, W, C_IN)).astype(dtype)
    cols = rng.standard_normal((H * W, 9 * C_IN)).astype(dtype)
    assert (
        gradcheck.adjoint(layers.im2col, lambda y: layers.col2im(y, x.shape), x, cols) < tolerance
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-15), ("float32", 1e-6)])
def test_adjoint_of_conv(dtype, tolerance, rng):
    kernel, _ = draw(rng, dtype)
    x = rng.standard_normal((H, W, C_IN)).astype(dtype)
    y = rng.standard_normal((H, W, C_OUT)).astype(dtype)
    zero = np.zeros(C_OUT, dtype)
    error = gradcheck.adjoint(
        lambda x: layers.conv_forward(x, kernel, zero),
        lambda y: layers.conv_backward(y, kernel),
        x,
        y,
    )
    assert error < tolerance


def test_adjoint_of_pooling_and_relu_with_their_choices_frozen(rng):
    x0, x = rng.standard_normal((2, H, W, C_IN))
    y = rng.standard_normal((H // 2, W // 2, C_IN))
    assert (
        gradcheck.adjoint(
            layers.avg_pool_forward, lambda y: layers.avg_pool_backward(y, x.shape), x, y
        )
        < 1e-15
    )
    _, winners = layers.max_pool_forward(x0)
    chosen = np.stack(
        [x[i : 2 * (H // 2) : 2, j : 2 * (W // 2) : 2] for i in (0, 1) for j in (0, 1)]
    )

    def take(x):
        return np.take_along_axis(chosen, winners[None].astype(int), axis=0)[0]

    assert (
        gradcheck.adjoint(take, lambda y: layers.max_pool_backward(y, winners, x.shape), x, y)
        < 1e-15
    )
    _, mask = layers.relu_forward(x0)
    dy = rng.standard_normal(x.shape)
    assert (
        gradcheck.adjoint(lambda x: x * mask, lambda dy: layers.relu_backward(dy, mask), x, dy)
        < 1e-15
    )


def test_conv_is_the_sum_in_its_docstring(rng):
    """Nine loops, straight from the equation."""
    kernel, bias = draw(rng)
    x = rng.standard_normal((5, 4, C_IN))
    y = np.zeros((5, 4, C_OUT)) + bias
    for h, w, i, j, c, d in np.ndindex(5, 4, 3, 3, C_IN, C_OUT):
        if 0 <= h + i - 1 < 5 and 0 <= w + j - 1 < 4:
            y[h, w, d] += kernel[i, j, c, d] * x[h + i - 1, w + j - 1, c]
    np.testing.assert_allclose(layers.conv_forward(x, kernel, bias), y, rtol=0, atol=1e-12)


def test_derivative_of_relu_at_zero_is_zero():
    y, mask = layers.relu_forward(np.array([-1.0, 0.0, -0.0, 2.0]))
    assert (y == [0, 0, 0, 2]).all()
    assert (layers.relu_backward(np.full(4, 5.0), mask) == [0, 0, 0, 5]).all()


def test_relu_lets_nan_through():
    assert np.isnan(layers.relu_forward(np.array([np.nan]))[0]).all()


def test_first_maximum_in_row_major_order_wins():
    ties = {  # a window, row by row -> its winner
        (1, 1, 1, 1): 0,
        (0, 1, 1, 1): 1,
        (0, 0, 1, 1): 2,
        (0, 0, 0, 1): 3,
        (2, 1, 2, 1): 0,
    }
    for window, winner in ties.items():
        x = np.array(window, dtype=float).reshape(2, 2, 1)
        y, winners = layers.max_pool_forward(x)
        dx = layers.max_pool_backward(np.ones((1, 1, 1)), winners, x.shape)
        assert y.item() == max(window)
        assert dx.ravel().tolist() == [float(k == winner) for k in range(4)]


@pytest.mark.parametrize("pool", [lambda x: layers.max_pool_forward(x)[0], layers.avg_pool_forward])
def test_odd_last_row_and_column_are_dropped(pool, rng):
    x = rng.standard_normal((5, 7, 2))
    assert pool(x).shape == (2, 3, 2)
    assert (pool(x) == pool(x[:4, :6])).all()


def test_pooling_by_hand():
    x = np.array([[1.0, 2.0, 0.0], [3.0, 6.0, 9.0]])[..., None]
    assert layers.max_pool_forward(x)[0].item() == 6
    assert layers.avg_pool_forward(x).item() == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_on_every_device(backend: Backend, dtype, rng):
    """Nothing mixes host and device arrays, the dtype is kept, and the numbers are NumPy's."""
    kernel, bias = draw(rng, dtype)
    x = rng.standard_normal((H, W, C_IN)).astype(dtype)
    dy = rng.standard_normal((H, W, C_OUT)).astype(dtype)
    dpool = rng.standard_normal((H // 2, W // 2, C_IN)).astype(dtype)

    def everything(put):
        X, DY, DP, K, B = put(x), put(dy), put(dpool), put(kernel), put(bias)
        y, mask = layers.relu_forward(X)
        pooled, winners = layers.max_pool_forward(X)
        return [
            layers.conv_forward(X, K, B),
            layers.conv_backward(DY, K),
            y,
            layers.relu_backward(X, mask),
            pooled,
            layers.max_pool_backward(DP, winners, X.shape),
            layers.avg_pool_forward(X),
            layers.avg_pool_backward(DP, X.shape),
        ]

    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    there = everything(lambda a: backend.upload(a, dtype))
    for device, host in zip(there, everything(lambda a: a), strict=True):
        assert type(device) is type(backend.upload(x, dtype))
        assert device.dtype == dtype
        np.testing.assert_allclose(backend.download(device), host, rtol=0, atol=tolerance * 10)
