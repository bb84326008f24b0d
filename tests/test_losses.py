"""Every loss: its gradient by the complex step and by differences, oracles by hand, devices."""

from __future__ import annotations

import numpy as np
import pytest
from minimal_nst import gradcheck, guided, losses
from minimal_nst.backend import Backend
from minimal_nst.checklist import LOSSES

M, N = 9 * 11, 5


def cases(rng):
    P = rng.standard_normal((M, N))
    A = losses.gram_matrix(rng.standard_normal((M, N)))
    T = rng.uniform(0, 1, (M, 1))
    P.flags.writeable = A.flags.writeable = T.flags.writeable = False
    return {
        "guided": (lambda F: guided.guided_style_loss(F, A, T), rng.standard_normal((M, N))),
        "means": (
            lambda F: guided.mean_covariance_loss(F, A, A, T),
            rng.standard_normal((M, N)),
        ),
        "content": (lambda F: losses.content_loss(F, P), rng.standard_normal((M, N))),
        "style": (lambda F: losses.style_loss(F, A), rng.standard_normal((M, N))),
        "tv": (losses.total_variation, rng.standard_normal((9, 11, 3))),
        "absolute": (losses.absolute_variation, rng.standard_normal((9, 11, 3))),
        "keras": (losses.keras_variation, rng.standard_normal((9, 11, 3))),
        "range": (
            lambda x: losses.out_of_range(x, np.zeros((1, 1, 3)), np.ones((1, 1, 3))),
            rng.standard_normal((9, 11, 3)),
        ),
    }


NAMES = ("guided", "means", "content", "style", "tv", "absolute", "keras", "range")


@pytest.mark.parametrize("operation", LOSSES, ids=lambda operation: operation.name)
def test_gradient_by_every_method(operation, rng):
    limits = {"complex step": 1e-15, "central difference": 1e-8}
    for verdict in gradcheck.check(operation, rng):
        assert verdict.error < limits[verdict.how], verdict
    assert gradcheck.diagnose(operation) == ""


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_not_modified_and_loss_is_a_number_in_double_precision(name, rng):
    loss, x = cases(rng)[name]
    x.flags.writeable = False
    value, dx = loss(x)
    assert isinstance(value, np.float64)
    assert dx.shape == x.shape


def test_out_of_range_by_hand():
    """Within the bounds and on them nothing, outside the square of what is too much."""
    x = np.array([-3.0, 0.0, 4.0, 5.0, 7.0]).reshape(1, 5, 1)
    low, high = np.zeros((1, 1, 1)), np.full((1, 1, 1), 5.0)
    loss, dx = losses.out_of_range(x, low, high, 0.5)
    assert loss == 0.5 * (9 + 4) / 5
    np.testing.assert_allclose(dx.ravel(), [-3 / 5, 0, 0, 0, 2 / 5])


def test_content_loss_by_hand():
    F, P = np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])
    loss, dF = losses.content_loss(F, P)
    assert loss == 2.5
    assert dF.tolist() == [[1, -2]]


def test_gram_matrix_by_hand_and_blind_to_place(rng):
    F = np.array([[1.0, 2.0], [3.0, 4.0]])
    assert losses.gram_matrix(F).tolist() == [[10, 14], [14, 20]]
    F = rng.standard_normal((M, N))
    np.testing.assert_allclose(losses.gram_matrix(rng.permutation(F)), losses.gram_matrix(F))


def test_style_loss_by_hand():
    """One channel, two positions: G = 5, A = 1, E = 16 / (4 * 1 * 4), dE/dF = F * 4 / 4."""
    loss, dF = losses.style_loss(np.array([[1.0], [2.0]]), np.array([[1.0]]))
    assert loss == 1
    assert dF.tolist() == [[1], [2]]


def test_style_loss_vanishes_on_the_style_itself(rng):
    F = rng.standard_normal((M, N))
    loss, dF = losses.style_loss(F, losses.gram_matrix(F))
    assert loss == 0
    assert not dF.any()


def test_total_variation_of_a_checkerboard_counts_its_edges():
    """Each of the 3*3 + 2*4 neighbouring pairs of a 3x4 board differs by 1."""
    board = (np.indices((3, 4)).sum(axis=0) % 2).astype(float)[..., None]
    assert losses.total_variation(board)[0] == 3 * 3 + 2 * 4
    assert losses.total_variation(board, mean=True)[0] == 2
    assert losses.absolute_variation(-3 * board)[0] == 3 * (3 * 3 + 2 * 4)
    assert losses.absolute_variation(3 * board, mean=True)[0] == 6
    assert losses.keras_variation(board)[0] == pytest.approx(2 * 3 * 2**1.25)


@pytest.mark.parametrize("variation", [losses.absolute_variation, losses.keras_variation])
def test_variation_of_an_even_picture_has_no_gradient(variation):
    """Where neighbours are equal there is a kink, or a power of 0: neither may give a NaN."""
    loss, dx = variation(np.full((9, 11, 3), 7.0))
    assert loss == 0
    assert not dx.any()


def test_sums_are_double_even_for_float32():
    """2^24 + 1 does not exist in float32: a float32 sum of squares would lose the ones."""
    F = np.ones((2, 5), dtype="float32")
    F[0, 0] = 4096
    loss, dF = losses.content_loss(F, np.zeros_like(F))
    assert loss == (4096**2 + 9) / 2
    assert dF.dtype == np.float32


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_on_every_device(backend: Backend, dtype, rng):
    F, P = rng.standard_normal((2, M, N)).astype(dtype)
    x = rng.standard_normal((9, 11, 3)).astype(dtype)

    def everything(put):
        G = losses.gram_matrix(put(P))
        T = put(np.abs(P[:, :1]))
        C, B, _ = guided.mean_covariance(put(P), T)
        found = [
            losses.content_loss(put(F), put(P)),
            losses.style_loss(put(F), G),
            guided.guided_style_loss(put(F), guided.guided_gram_matrix(put(P), T), T),
            guided.mean_covariance_loss(put(F), C, B, T),
        ]
        variations = (losses.total_variation, losses.absolute_variation, losses.keras_variation)
        return [*found, *(variation(put(x)) for variation in variations)]

    tolerance = {"float64": 1e-12, "float32": 1e-5}[dtype]
    there = everything(lambda a: backend.upload(a, dtype))
    for (loss, dx), (loss0, dx0) in zip(there, everything(lambda a: a), strict=True):
        assert (loss.shape, loss.dtype, dx.dtype) == ((), "float64", dtype)
        assert loss.item() == pytest.approx(loss0, rel=tolerance)
        np.testing.assert_allclose(backend.download(dx), dx0, rtol=0, atol=10 * tolerance)
