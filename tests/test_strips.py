"""A picture in strips: the same numbers, with the memory of one strip."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings, gradcheck, pipeline, strips
from minimal_nst.architecture import LAYERS, shape_of
from minimal_nst.rows import Rows
from minimal_nst.vgg import preprocess

import strict

HEIGHT, WIDTH = 251, 19  # neither a multiple of anything; room for five strips


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(17)
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3)), [
        rng.integers(0, 256, (230, 17, 3)),
        rng.integers(0, 256, (297, 18, 3)),
    ]


def masks_of(pictures, rng):
    content, styles = pictures
    soft, hard = rng.uniform(0, 1, content.shape[:2]), np.zeros(content.shape[:2])
    hard[150:] = 1  # some strips have nothing of it
    return [soft, hard], [rng.uniform(0, 1, styles[0].shape[:2]), None]


def evaluated(network, pictures, count, masks=(None, None), dtype="float64", **changes):
    """Loss, gradient and terms on a picture of noise."""
    settings = Settings(strips=count, tv_weight=1.0, range_weight=1.0, **changes)
    vgg = network(settings.pooling, settings.conv, dtype)
    objective = Objective(vgg, *pictures, settings, *masks)
    x = np.random.default_rng(5).uniform(0, 255, (HEIGHT, WIDTH, 3))
    return *objective(x), objective.terms


MOST = {"relu1_1": 329, "pool2": 78, "relu4_1": 33, "relu5_1": 10, "conv5_4": 4}
"""Tap -> in how many strips the picture can be cut: what is between the two borders, by a row's height."""


@pytest.mark.parametrize("count", [1, 2, 3, 7, 99])
@pytest.mark.parametrize("tap", MOST)
def test_strips_are_the_picture(count, tap):
    """Their own rows are all of it, each once, in every layer; no strip sees much more than others."""
    height = 331
    found = strips.cut(height, count, [tap])
    assert len(found) == min(count, MOST[tap])
    for layer in LAYERS[: LAYERS.index(tap) + 1]:
        rows = [strip.rows(layer) for strip in found]
        here = np.concatenate([np.arange(height)[s] for s in rows])
        assert here.tolist() == list(range(shape_of(layer, height, WIDTH)[0]))
        assert all(s.stop > s.start for s in rows)
    seen = [strip.seen.stop - strip.seen.start for strip in found]
    unit = 2 ** sum(layer.startswith("pool") for layer in LAYERS[: LAYERS.index(tap) + 1])
    assert max(seen) - min(seen) < 3 * unit


@pytest.mark.parametrize("tap", ["relu1_1", "relu3_1", "pool3", "relu5_1"])
@pytest.mark.parametrize("conv", ["winograd", "im2col"])
def test_a_strip_sees_what_the_picture_has(weights, rng, tap, conv):
    """In its own rows; that a smaller border would not do, the mutants say."""
    x = rng.standard_normal((HEIGHT, WIDTH, 3))
    vgg = VGG19(weights, conv=conv, dtype="float64")
    whole = vgg.forward(x, [tap])[0][tap]
    for strip in strips.cut(HEIGHT, 3, [tap]):
        part = vgg.forward(x[strip.seen], [tap])[0][tap][strip.inside(tap)]
        np.testing.assert_allclose(part, whole[strip.rows(tap)], atol=1e-11 * np.abs(whole).max())


@pytest.mark.parametrize("tap", LAYERS)
def test_what_is_seen_is_what_is_needed(weights, tap):
    """The gradient of one row of a tap reaches as far as `cut` says, to a row of the deepest."""
    unit, reach = strips._reach([tap])
    height = 2 * reach + 3 * unit
    vgg = VGG19(weights, "avg", dtype="float64", conv="im2col")
    features, tape = vgg.forward(np.full((height, 33, 3), 9.0), [tap])
    gradient = np.zeros_like(features[tap])
    gradient[reach // unit + 1] = 1
    rows = np.flatnonzero(np.abs(vgg.backward(tape, {tap: gradient})).sum(axis=(1, 2)))
    start, stop = reach + unit, reach + 2 * unit
    assert start - reach <= rows[0] < start - reach + unit
    assert stop + reach - unit <= rows[-1] < stop + reach


@pytest.mark.parametrize(
    ("conv", "statistic", "masked"),
    [
        ("winograd", "gram", False),
        ("winograd", "gram", True),
        ("winograd", "mean-covariance", False),
        ("winograd", "mean-covariance", True),
        ("im2col", "mean-covariance", True),
    ],
)
def test_the_same_loss_and_gradient(network, pictures, conv, masked, statistic, rng):
    masks = masks_of(pictures, rng) if masked else (None, None)
    changes = {"conv": conv, "style_statistic": statistic}
    loss, dx, terms = evaluated(network, pictures, 1, masks, **changes)
    for count in (2, 99):
        loss_, dx_, terms_ = evaluated(network, pictures, count, masks, **changes)
        assert list(terms_) == list(terms)
        assert terms_ == pytest.approx(terms, rel=1e-10)
        assert loss_ == pytest.approx(loss, rel=1e-13)
        np.testing.assert_allclose(dx_, dx, rtol=0, atol=1e-12 * np.abs(dx).max())


@pytest.mark.parametrize("conv", ["winograd", "im2col"])
def test_other_layers_forms_and_pooling(network, pictures, conv):
    """The deepest layer, a tap before its ReLU, one behind a pooling, one that is content and style."""
    changes = {
        "content_layers": "relu2_1,conv4_2:0.5,pool1",
        "style_layers": "conv1_1,relu2_1,pool3,relu5_2",
        "content_form": "paper",
        "style_form": "paper",
        "pooling": "avg",
        "conv": conv,
    }
    loss, dx, terms = evaluated(network, pictures, 1, **changes)
    loss_, dx_, terms_ = evaluated(network, pictures, 4, **changes)
    assert terms_ == pytest.approx(terms, rel=1e-10)
    assert loss_ == pytest.approx(loss, rel=1e-13)
    np.testing.assert_allclose(dx_, dx, rtol=0, atol=1e-12 * np.abs(dx).max())


def test_gradient_by_complex_step(weights, rng):
    """On two strips of a picture that is hardly wider than nothing, through the deepest style layer."""
    content, style = rng.integers(0, 256, (2, 224, 17, 3))
    settings = Settings(strips=2, content_layers="relu3_1", style_layers="relu1_1,relu5_1")
    real, complex_ = (
        Objective(VGG19(weights, dtype=dtype), content, [style], settings)
        for dtype in ("float64", "complex128")
    )
    x = rng.uniform(0, 255, content.shape)
    assert len(real._strips) == 2
    _, dx = real(x)
    assert gradcheck.complex_step(lambda x: complex_(x)[0], x, dx, rng) < 1e-10


def own_sums(self, a, b):
    """The mutant: a strip knows its own Gram matrices alone, as in programs that paint by tiles."""
    return self._contract(a, b)


MUTANTS = {
    "tiles": lambda patch: patch.setattr(strips.Sums, "total", own_sums),
    "no border": lambda patch: patch.setattr(
        strips, "_reach", lambda taps, real=strips._reach: (real(taps)[0], 0)
    ),
    "a border of one unit too few": lambda patch: patch.setattr(
        strips,
        "_reach",
        lambda taps, real=strips._reach: (real(taps)[0], real(taps)[1] - real(taps)[0]),
    ),
    "gradients overwritten": lambda patch: patch.setattr(
        "minimal_nst.objective.joined",
        lambda parts, like: np.concatenate([part for _, part in parts])[: len(like)],
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_rejected(network, pictures, mutant, monkeypatch):
    loss, dx, _ = evaluated(network, pictures, 1)
    MUTANTS[mutant](monkeypatch)
    loss_, dx_, _ = evaluated(network, pictures, 2)
    assert abs(loss_ / loss - 1) > 1e-12 or np.abs(dx_ - dx).max() > 1e-9 * np.abs(dx).max()


@pytest.mark.parametrize("conv", ["winograd", "im2col"])
def test_on_a_device(weights, network, pictures, conv, device):
    """A GPU records nothing of it, and is asked once all the same."""
    loss, dx, _ = evaluated(network, pictures, 1, conv=conv)
    vgg = VGG19(weights, conv=conv, dtype="float64", device=device)
    settings = Settings(strips=3, tv_weight=1.0, range_weight=1.0, conv=conv)
    objective = Objective(vgg, *pictures, settings)
    x = np.random.default_rng(5).uniform(0, 255, (HEIGHT, WIDTH, 3))
    there = vgg.backend.upload(preprocess(x), "float64")
    with strict.counted() as counts:
        loss_, dx_ = objective.evaluate(there)
        assert counts == ({"down": 1} if device is strict.BACKEND else {})
    assert loss_ == pytest.approx(loss, rel=1e-10)
    found = vgg.backend.download(dx_)[..., ::-1]
    np.testing.assert_allclose(found, dx, rtol=0, atol=1e-10 * np.abs(dx).max())


@pytest.mark.parametrize(("conv", "share"), [("winograd", 0.35), ("im2col", 0.28)])
def test_memory_is_that_of_a_strip(weights, rng, conv, share):
    """Of what grows with the picture: kernels are there before, in either case."""
    picture = rng.integers(0, 256, (640, 96, 3))
    light = {"style_layers": "relu1_1,relu2_1", "content_layers": "relu2_1", "conv": conv}

    def peak(count):
        vgg = VGG19(weights, conv=conv, threads=1)
        objective = Objective(vgg, picture, [picture], Settings(strips=count, **light))
        x = preprocess(picture.astype("float32")).astype("float32")
        objective.evaluate(x)
        tracemalloc.start()
        try:
            objective.evaluate(x)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(8) < share * peak(1)


def test_the_last_strip_goes_forward_once(network, pictures, monkeypatch):
    """It is there when the sums are, and goes back; the others twice."""
    walked, walk = [], VGG19.walk

    def counted(vgg, x, *arguments):
        walked.append(len(x))
        return walk(vgg, x, *arguments)

    objective = Objective(network("max", "winograd", "float64"), *pictures, Settings(strips=3))
    monkeypatch.setattr(VGG19, "walk", counted)
    objective(np.zeros((HEIGHT, WIDTH, 3)))
    heights = [strip.seen.stop - strip.seen.start for strip in objective._strips]
    assert len(heights) == 3
    assert walked == [*heights, *heights[1::-1]]


def test_a_painting_in_strips_is_the_same(content, style, monkeypatch):
    """With scales, whose smaller ones have fewer strips, and a margin."""
    tall, numbers = np.tile(content[:, :40], (5, 1, 1)), []

    def cut(*arguments):
        found = strips.cut(*arguments)
        numbers.append(len(found))
        return found

    monkeypatch.setattr("minimal_nst.objective.cut", cut)
    settings = Settings(size=200, scales=(100, 200), iterations=2, dtype="float64", strips=2)
    found = pipeline.stylize(tall, style[:, :16], settings)
    assert numbers == [1, 1, 2, 2]  # content and style at either scale
    whole = pipeline.stylize(tall, style[:, :16], replace(settings, strips=1))
    np.testing.assert_allclose(found.x, whole.x, atol=1e-4)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)


def test_a_product_among_zeros(rng):
    """Any rows of it can be asked for, those around it and none."""
    a, b = rng.standard_normal((5, 3, 2)), rng.standard_normal((2, 4))
    product = (Rows.of(a) @ b).within(slice(2, 7), 10)
    dense = np.zeros((10, 3, 4))
    dense[2:7] = a @ b
    assert product.shape == dense.shape
    assert len(product) == 10
    np.testing.assert_array_equal(np.asarray(product), dense)
    for start in range(11):
        for stop in range(start, 11):
            np.testing.assert_array_equal(product[start:stop], dense[start:stop])
