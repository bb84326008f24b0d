"""Rows that are computed when they are asked for: they are those of the array that is not there."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings
from minimal_nst.backend import sum_of
from minimal_nst.convolution import Direct
from minimal_nst.losses import gram_matrix
from minimal_nst.rows import Again, Rows, square
from minimal_nst.vgg import preprocess

FIRST = ["relu1_1"]


@pytest.fixture
def maps(rng):
    return rng.standard_normal((9, 11, 5))


@pytest.fixture
def asked():
    """Which rows were computed."""
    return []


@pytest.fixture
def again(maps, asked):
    def compute(rows):
        asked.append(rows)
        return maps[rows]

    return Again(compute, maps.shape, maps.dtype, described=True)


def test_parts_and_matrices_compute_nothing(again, maps, asked):
    F, part = again.reshape(-1, 5), again[2:][1:4]
    assert (again.shape, part.shape) == ((9, 11, 5), (3, 11, 5))
    assert (F.shape, F.T.shape) == ((99, 5), (5, 99))
    assert (len(F), len(part), F.maps.shape) == (99, 3, maps.shape)
    assert again.dtype == F.dtype == maps.dtype
    assert part.reshape(-1, 5).maps.shape == part.shape
    assert asked == []
    np.testing.assert_array_equal(part, maps[3:6])
    np.testing.assert_array_equal(part.reshape(-1, 5), maps[3:6].reshape(-1, 5))
    np.testing.assert_array_equal(F[7:30], maps.reshape(-1, 5)[7:30])
    assert asked == [slice(3, 6), slice(3, 6), slice(0, 9)]


def test_a_product_computes_the_rows_that_are_asked_for(again, maps, asked, rng):
    b = rng.standard_normal((5, 4))
    product = (Rows.of(again.reshape(-1, 5)) @ b).reshape(9, 11, 4)
    assert product.shape == (9, 11, 4)
    np.testing.assert_allclose(product[2:5], maps[2:5] @ b, atol=1e-13)
    assert asked == [slice(2, 5)]
    strip = (Rows.of(again[4:].reshape(-1, 5)) @ b).reshape(5, 11, 4).within(slice(2, 7), 8)
    expected = np.zeros((8, 11, 4))
    expected[2:7] = maps[4:] @ b
    np.testing.assert_allclose(strip[1:8], expected[1:8], atol=1e-13)


def test_arithmetic_computes_nothing_before_it_is_asked_for(maps, rng):
    """It is that of arrays, on either side of one, and of places and of maps."""
    F, P, b = maps.reshape(-1, 5), rng.standard_normal((99, 5)), rng.standard_normal((5, 4))
    calls = []

    def spied(rows):
        calls.append(len(rows))
        return rows

    rows = Rows(spied, (F,), 5)
    D = rows - P
    made = {
        "difference": (D, F - P),
        "square": (D * D, (F - P) ** 2),
        "multiple": (np.float64(0.3) * D, 0.3 * (F - P)),
        "product": (D @ b, (F - P) @ b),
        "precision": (D.astype("float32"), (F - P).astype("float32")),
    }
    assert calls == []
    for name, (found, expected) in made.items():
        assert isinstance(found, Rows), name
        assert found.shape == expected.shape
        np.testing.assert_allclose(found[7:30], expected[7:30], atol=1e-14, err_msg=name)
        assert np.asarray(found).dtype == expected.dtype
    assert set(calls) == {23, 99}
    np.testing.assert_array_equal(P + D, D + P)
    np.testing.assert_allclose(D + rows, 2 * F - P, atol=1e-14)
    np.testing.assert_array_equal(D.reshape(9, 11, 5)[2:4], (F - P).reshape(maps.shape)[2:4])


def test_a_sum_is_of_some_rows_at_a_time(maps, monkeypatch):
    monkeypatch.setattr("minimal_nst.rows.AT_A_TIME", 50)
    calls = []
    rows = Rows(lambda part: calls.append(len(part)) or part, (maps.reshape(-1, 5),), 5)
    assert sum_of(rows * rows) == pytest.approx(np.sum(maps**2), rel=1e-14)
    assert set(calls) == {9, 10}
    assert sum(calls) == 2 * 99


def test_what_was_shown_need_not_be_computed(again, maps, asked):
    assert again.shown() is None
    for rows in (slice(6, 9), slice(0, 4), slice(4, 6)):
        again.show(rows, maps[rows])
    np.testing.assert_allclose(again.reshape(-1, 5).shown(), square(maps), atol=1e-12)
    assert again[1:].shown() is None
    assert asked == []


@pytest.mark.parametrize("shape", [(1, 5), (2, 2), (39, 51), (64, 33)])
@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_layer_is_what_it_is_as_an_array(weights, rng, shape, threads):
    """Itself, what is made of it, and the way back: from it alone, and with others behind it."""
    vgg = VGG19(weights, dtype="float64", threads=threads)
    x = preprocess(rng.uniform(0, 255, (*shape, 3)))
    A, found = rng.standard_normal((64, 64)), []
    for taps in (FIRST, ["relu1_1", "relu1_2"]):
        for by_rows in ((), FIRST):
            features, tape = vgg.forward(x, taps, by_rows)
            assert isinstance(features["relu1_1"], Again) == bool(by_rows)
            F = features["relu1_1"].reshape(-1, 64)
            G = gram_matrix(F, vgg.engine.contract)
            dF = vgg.engine.transform(F, A).reshape(*features["relu1_1"].shape)
            gradients = {"relu1_1": dF, "relu1_2": np.cos(features.get("relu1_2", 0))}
            found.append((np.array(features["relu1_1"]), G, vgg.backward(tape, gradients)))
    for theirs, ours in (found[:2], found[2:]):
        np.testing.assert_array_equal(ours[0], theirs[0])
        for a, b in zip(ours[1:], theirs[1:], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


def test_it_is_of_the_picture_as_it_was(weights, rng):
    """Whatever becomes of that; and of each of two, whose rows are asked for in turn."""
    vgg = VGG19(weights, dtype="float64", threads=1)
    pictures = preprocess(rng.uniform(0, 255, (2, 24, 31, 3)))
    wanted = [vgg.forward(x, FIRST)[0]["relu1_1"] for x in pictures]
    first, second = (vgg.forward(x, FIRST, FIRST)[0]["relu1_1"] for x in pictures)
    pictures[:] = 0
    for rows in (slice(0, 8), slice(8, 16)):
        for found, expected in ((first, wanted[0]), (second, wanted[1]), (first, wanted[0])):
            np.testing.assert_array_equal(found[rows], expected[rows])


def test_rows_of_an_interrupted_evaluation_are_not_taken_for_others(weights, rng, monkeypatch):
    vgg = VGG19(weights, dtype="float64", threads=1)
    x = preprocess(rng.uniform(0, 255, (24, 31, 3)))
    wanted = vgg.forward(x, FIRST)[0]["relu1_1"]
    found = vgg.forward(x, FIRST, FIRST)[0]["relu1_1"]
    np.testing.assert_array_equal(found[:8], wanted[:8])
    forward = Direct.forward

    def interrupted(self, *arguments):
        forward(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Direct, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            np.asarray(found[8:16])
    np.testing.assert_array_equal(found[:8], wanted[:8])


@pytest.mark.parametrize("strips", [1, 2])
def test_each_row_is_computed_twice(weights, rng, strips, monkeypatch):
    """On the way there, where it is summed up as well, and on the way back, for gradient and mask.

    In strips, the sums are of a strip's own rows: they take a time for themselves.
    """
    content = rng.uniform(0, 255, (240, 41, 3))
    settings = Settings(style_layers="relu1_1,relu1_2", content_layers="relu1_2", strips=strips)
    objective = Objective(VGG19(weights), content, [content], settings)
    rows, forward = [], Direct.forward

    def count(self, padded, part, buffer):
        rows.append(part.stop - part.start)
        return forward(self, padded, part, buffer)

    monkeypatch.setattr(Direct, "forward", count)
    loss, gradient = objective(255 - content)
    seen = 240 if strips == 1 else 3 * 120
    halos = 2 * len(rows)
    assert 2 * seen <= sum(rows) <= (2 if strips == 1 else 3) * seen + halos
    again = objective(255 - content)  # what the first one leaves is no room for the other
    assert (again[0], again[1].tolist()) == (loss, gradient.tolist())


@pytest.mark.parametrize("strips", [1, 2])
def test_an_evaluation_has_no_room_for_it(weights, rng, strips):
    """Not for itself, nor for its gradient; unless it is compared with the content's."""
    content = rng.uniform(0, 255, (512, 320, 3))

    def peak(**changes):
        settings = Settings(style_layers="relu1_1", strips=strips, **changes)
        objective = Objective(VGG19(weights, threads=1), content, [content], settings)
        x = content.astype("float32")
        tracemalloc.start()
        objective.evaluate(x)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    size = 4 * 64 * 512 * 320 // strips
    assert peak(content_weight=0) < 2 / 3 * size
    assert peak(content_layers="relu1_1") > size


def test_a_difference_from_the_content_has_no_room(weights, rng):
    """Nor have its squares, nor its multiple: they are made row by row, where they are read."""
    content = rng.uniform(0, 255, (256, 160, 3))

    def peak(**changes):
        settings = Settings(style_layers="relu1_2", content_layers="relu1_2", **changes)
        objective = Objective(VGG19(weights, threads=1), content, [content], settings)
        x = content.astype("float32")
        objective.evaluate(x)
        tracemalloc.start()
        objective.evaluate(x)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    size = 4 * 64 * 256 * 160
    only_style, only_content = peak(content_weight=0), peak(style_weight=0)
    assert only_content < only_style + size / 4
    assert peak() > only_style + size / 2  # both at one layer are added up
