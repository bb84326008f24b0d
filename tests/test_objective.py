"""The whole objective, through VGG-19's full depth with its real weights."""

from __future__ import annotations

import dataclasses
import weakref

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings, gradcheck, losses
from minimal_nst.backend import Backend
from minimal_nst.errors import UsageError
from minimal_nst.presets import PRESETS
from minimal_nst.vgg import LAYERS, preprocess

import strict
from test_vgg import Spy

TINY = 33, 47  # height and width of the derivative checks


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    content = rng.integers(0, 256, (*TINY, 3))
    styles = [rng.integers(0, 256, (37, 29, 3)), rng.integers(0, 256, (26, 41, 3))]
    return content, styles


def make(weights, pictures, dtype, **changes):
    content, styles = pictures
    changes = {"tv_weight": 1.0, **changes}
    settings = Settings(
        content_layers="relu4_2,conv5_4:0.5",
        style_layers="relu1_1,conv2_2,pool3,relu4_1,relu5_1:2",
        **changes,
    )
    vgg = VGG19(weights, settings.pooling, settings.conv, dtype)
    return Objective(vgg, content, styles, settings)


@pytest.mark.parametrize("conv", ["im2col", "winograd"])
@pytest.mark.parametrize("statistic", ["gram", "mean-covariance"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_style_is_described_layer_by_layer(
    weights, pictures, conv, statistic, masked, monkeypatch
):
    """All the layers of a large one would take twice the memory of the first; the content stays."""
    content, styles = pictures
    vgg = VGG19(weights, conv=conv, threads=1)  # others may hold on a little longer
    forward, tapped, most = vgg.engine.forward, [], []

    def spy(step, x, kept, by_rows):
        y, cache = forward(step, x, kept, by_rows)
        if kept:
            tapped.append(weakref.ref(y))
            most.append(sum(found() is not None for found in tapped))
        return y, cache

    monkeypatch.setattr(vgg.engine, "forward", spy)
    masks = [np.ones(style.shape[:2]) for style in styles] if masked else None
    inside = [np.ones(TINY)] * 2 if masked else None
    settings = Settings(style_layers="relu1_1,relu2_1,relu3_1", style_statistic=statistic)
    Objective(vgg, content, styles, settings, inside, masks)
    assert most == [1, *[2] * 6]
    most.clear()
    vgg.features(styles[0], settings.style_taps)
    assert most == [1, 2, 3]


@pytest.mark.parametrize("conv", ["im2col", "winograd"])
@pytest.mark.parametrize(("pooling", "form"), [("max", "mean"), ("avg", "paper")])
def test_gradient_by_complex_step(weights, pictures, pooling, form, conv, rng):
    options = {"pooling": pooling, "style_form": form, "content_form": form, "conv": conv}
    real = make(weights, pictures, "float64", **options)
    complex_ = make(weights, pictures, "complex128", **options)
    x = rng.uniform(0, 255, (*TINY, 3))
    x.flags.writeable = False
    loss, dx = real(x)
    assert type(loss) is float
    assert dx.shape == x.shape
    assert gradcheck.complex_step(lambda x: complex_(x)[0], x, dx, rng) < 1e-10


TV_FORMS = {
    "squared": losses.total_variation,
    "mean-squared": lambda x, weight: losses.total_variation(x, weight, mean=True),
    "absolute": losses.absolute_variation,
    "mean-absolute": lambda x, weight: losses.absolute_variation(x, weight, mean=True),
    "keras": losses.keras_variation,
}


def test_every_form_of_the_total_variation_is_known_here():
    (field,) = (field for field in dataclasses.fields(Settings) if field.name == "tv_form")
    assert tuple(TV_FORMS) == field.metadata["choices"]


def test_what_no_file_can_hold_counts(weights, pictures, rng):
    """Below 0 and above 255, in any channel; and it has nothing to do with the network."""
    content, styles = pictures
    settings = Settings(style_layers="relu1_1", content_layers="relu1_1", range_weight=7e4)
    vgg = VGG19(weights, dtype="float64")
    objective = Objective(vgg, content, styles, settings)
    without = Objective(vgg, content, styles, dataclasses.replace(settings, range_weight=0))
    image = rng.uniform(-50, 305, (*TINY, 3))
    outside = image - image.clip(0, 255)
    loss, dx = objective(image)
    loss0, dx0 = without(image)
    assert "range" not in without.terms
    assert objective.terms["range"] == pytest.approx(7e4 * (outside**2).mean())
    assert loss == pytest.approx(loss0 + objective.terms["range"])
    np.testing.assert_allclose(
        dx, dx0 + 14e4 * outside / outside.size, atol=1e-12 * np.abs(dx).max()
    )
    objective(image.clip(0, 255))
    assert objective.terms["range"] == 0


@pytest.mark.parametrize("form", TV_FORMS)
def test_forms_of_the_total_variation(weights, pictures, form, rng):
    content, styles = pictures
    light = {"style_layers": "relu1_1", "content_layers": "relu1_1"}
    image = rng.uniform(0, 255, (*TINY, 3))
    without = Objective(VGG19(weights, dtype="float64"), content, styles, Settings(**light))
    settings = Settings(**light, tv_weight=0.7, tv_form=form)
    objective = Objective(VGG19(weights, dtype="float64"), content, styles, settings)
    loss, dx = objective(image)
    loss0, dx0 = without(image)
    tv, dtv = TV_FORMS[form](preprocess(image), 0.7)
    assert objective.terms["tv"] == tv > 0
    assert loss == pytest.approx(loss0 + tv)
    np.testing.assert_allclose(dx, dx0 + dtv[..., ::-1], atol=1e-12 * np.abs(dx).max())


def test_blend_weights_are_shares(weights, pictures, rng):
    """2,1 is the first style twice and the second once; only their ratio counts; 0 is without."""
    content, (first, second) = pictures
    light = {"style_layers": "relu1_1,relu2_1", "content_layers": "relu1_1"}
    image = rng.uniform(0, 255, (*TINY, 3))
    vgg = VGG19(weights, dtype="float64")

    def loss(styles, blend=None):
        settings = Settings(**light, style_blend_weights=blend)
        return Objective(vgg, content, styles, settings)(image)[0]

    blended = loss([first, second], "2,1")
    assert blended == pytest.approx(loss([first, first, second]), rel=1e-12)
    assert blended == pytest.approx(loss([first, second], (0.5, 0.25)), rel=1e-12)
    assert abs(blended / loss([first, second]) - 1) > 1e-4
    assert loss([first, second], [0, 3]) == pytest.approx(loss([second]), rel=1e-12)
    with pytest.raises(UsageError, match="are 3 style_blend_weights, but 2 styles; give one for"):
        loss([first, second], "1,2,3")


def discrete_choices(objective):
    """The ReLUs' masks and the poolings' winners on the way to the deepest tap."""

    def choices(x):
        taps = {**objective._content_weights, **objective._style_weights}
        _, tape = objective.vgg.forward(preprocess(x), taps)
        masks = [cache for (layer,), cache in tape if layer.startswith("relu")]
        return masks + [cache[0] for (layer,), cache in tape if layer.startswith("pool")]

    return choices


def test_gradient_by_central_differences(weights, pictures, rng):
    """With max pooling, at a step that crosses no kink; one that must cross some is refused."""
    objective = make(weights, pictures, "float64", conv="im2col")
    x = rng.uniform(0, 255, (*TINY, 3))
    _, dx = objective(x)
    choices = discrete_choices(objective)

    def error(h):
        return gradcheck.central_difference(lambda x: objective(x)[0], x, dx, rng, h, None, choices)

    assert error(1e-4) < 1e-6
    with pytest.raises(ValueError, match="crosses a kink within h = 3.0; make h smaller"):
        error(3.0)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_taylor_remainder(weights, pictures, pooling, rng):
    """Second order in the step, below the steps at which kinks are crossed."""
    objective = make(weights, pictures, "float64", pooling=pooling)
    x = rng.uniform(0, 255, (*TINY, 3))
    _, dx = objective(x)
    v = dx / np.abs(dx).max()

    def f(x):
        return objective(x)[0]

    assert all(1.9 < rate < 2.1 for rate in gradcheck.taylor_rates(f, x, dx, v, h=1e-3))
    assert all(rate < 1.2 for rate in gradcheck.taylor_rates(f, x, 1.001 * dx, v, h=1e-4))


class Replacing(VGG19):
    """The mutant: a tap's gradient replaces, instead of joins, what comes from above it."""

    def backward(self, tape, gradients):
        dx = None
        for step, cache in reversed(tape):
            dx = gradients.get(step[-1], dx)
            dx = self.engine.backward(step, dx, cache)
        return dx


def test_a_backward_pass_that_forgets_gradients_is_rejected(weights, pictures, rng):
    content, styles = pictures
    settings = Settings(style_layers="relu1_1,relu2_1,relu3_1", content_layers="relu2_2")
    x = rng.uniform(0, 255, (*TINY, 3))

    def error(network):
        _, dx = Objective(network(weights, dtype="float64"), content, styles, settings)(x)
        check = Objective(VGG19(weights, dtype="complex128"), content, styles, settings)
        return gradcheck.complex_step(lambda x: check(x)[0], x, dx, np.random.default_rng(5))

    assert error(VGG19) < 1e-10
    assert error(Replacing) > 1e-6


def test_terms_add_up_and_are_named(weights, pictures):
    objective = make(weights, pictures, "float64")
    loss, _ = objective(np.linspace(0, 255, 3 * 33 * 47).reshape(*TINY, 3))
    assert list(objective.terms) == [
        "content:relu4_2",
        "content:conv5_4",
        "style:relu1_1",
        "style:conv2_2",
        "style:pool3",
        "style:relu4_1",
        "style:relu5_1",
        "tv",
        "range",
    ]
    assert sum(objective.terms.values()) == loss


def test_zero_where_content_and_style_are_met(weights, content):
    objective = Objective(VGG19(weights, dtype="float64"), content, [content], Settings())
    loss, dx = objective(content.astype(float))
    scale = Objective(VGG19(weights, dtype="float64"), 255 - content, [content], Settings())
    assert loss < 1e-20 * scale(content.astype(float))[0]
    assert np.abs(dx).max() < 1e-6


def test_style_of_another_size_is_compared_per_position(weights, content):
    """The content, tiled twice, is the style: but for the seam its statistics are the content's.

    Were the Gram matrices not scaled, A would be 2 G, and the loss as large as black's."""
    vgg = VGG19(weights, dtype="float64")
    settings = Settings(content_weight=0, style_layers="relu1_1,relu2_1")
    tiled = Objective(vgg, content, [np.tile(content, (2, 1, 1))], settings)
    black = Objective(vgg, content, [np.zeros_like(content)], settings)
    x = content.astype(float)
    assert tiled(x)[0] < 0.1 * black(x)[0]


def test_several_styles_share_the_weight_equally(weights, content, style):
    vgg = VGG19(weights, dtype="float64")
    other = 255 - style
    settings = Settings(content_weight=0)
    x = content.astype(float)
    gradients = [Objective(vgg, content, [s], settings)(x)[1] for s in (style, other)]
    _, both = Objective(vgg, content, [style, other], settings)(x)
    mean = sum(gradients) / 2
    np.testing.assert_allclose(both, mean, rtol=0, atol=1e-9 * np.abs(mean).max())


def test_weights_of_zero_are_not_computed(weights, content, style):
    spy = Spy(weights)
    settings = Settings(content_weight=0, style_layers="relu1_1,relu5_4:0")
    objective = Objective(VGG19(spy), content, [style], settings)
    objective(content.astype(float))
    assert list(objective.terms) == ["style:relu1_1", "range"]
    assert spy.asked == {"block1_conv1"}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_run_at_the_smallest_size(weights, preset, rng):
    small = rng.integers(0, 256, (16, 17, 3))
    settings = Settings.preset(preset)
    vgg = VGG19(weights, settings.pooling)
    loss, dx = Objective(vgg, small, [small], settings)(255.0 - small)
    assert np.isfinite(loss)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("tap", LAYERS)
def test_every_layer_can_be_content_or_style(weights, tap):
    rng = np.random.default_rng(1)
    content, style = rng.integers(0, 256, (2, 33, 35, 3))
    settings = Settings(content_layers=[tap], style_layers=[tap], style_weight=1.0)
    objective = Objective(VGG19(weights), content, [style], settings)
    loss, dx = objective((content + style) / 2)
    assert set(objective.terms) == {f"content:{tap}", f"style:{tap}", "range"}
    assert loss > 0
    assert np.isfinite(dx).all()


def test_same_on_every_device(backend: Backend, weights, content, style):
    settings = Settings(tv_weight=1.0)
    x = 255.0 - content
    loss, dx = Objective(VGG19(weights, dtype="float64"), content, [style], settings)(x)
    vgg = VGG19(weights, conv="im2col", dtype="float64", device=backend)
    loss2, dx2 = Objective(vgg, content, [style, style], settings)(x)
    assert loss2 == pytest.approx(loss, rel=1e-10)
    assert isinstance(dx2, np.ndarray)
    np.testing.assert_allclose(dx2, dx, rtol=0, atol=1e-10 * np.abs(dx).max())


def test_an_evaluation_on_a_device_waits_once(weights, content, style, monkeypatch):
    """All terms cross together, and nothing else does; a loss that asks for its value is noticed."""
    vgg = VGG19(weights, conv="im2col", device=strict.BACKEND)
    objective = Objective(vgg, content, [style], Settings(tv_weight=1.0))
    x = vgg.backend.upload(preprocess(255.0 - content), "float32")
    with strict.counted() as counts:
        loss, dx = objective.evaluate(x)
        assert counts == {"down": 1}
    assert isinstance(dx, strict.StrictArray)
    assert type(loss) is float
    assert len(objective.terms) == 8

    def asks(*args):
        loss, dF = losses.content_loss(*args)
        assert loss.item() >= 0
        return loss, dF

    monkeypatch.setattr("minimal_nst.objective.content_loss", asks)
    with strict.counted() as counts:
        objective.evaluate(x)
        assert counts == {"down": 1, "wait": 1}


def test_pictures_in_any_container(weights, content, style):
    """Lists, a generator, an array of styles: the same numbers."""
    vgg, settings = VGG19(weights), Settings(style_layers="relu2_1", content_layers="relu1_2")
    x = 255.0 - content
    loss, _ = Objective(vgg, content, [style, style], settings)(x)
    for styles in ([style.tolist()] * 2, (style for _ in range(2)), np.stack([style, style])):
        assert Objective(vgg, content.tolist(), styles, settings)(x.tolist())[0] == loss


def test_bad_pictures(weights, content, style):
    with pytest.raises(UsageError, match="no style picture"):
        Objective(VGG19(weights), content, [], Settings())
    for arguments, message in (
        ((3, content, [style], Settings()), "vgg is 3; pass a VGG19"),
        ((VGG19(weights), content, [style], {}), r"settings is {}; pass a Settings"),
        ((VGG19(weights), content, 3, Settings()), "styles are 3; pass a list of arrays"),
        ((VGG19(weights), content, style, Settings()), "style 1 is an array of shape"),
    ):
        with pytest.raises(UsageError, match=message):
            Objective(*arguments)
    objective = Objective(VGG19(weights), content, [style], Settings(style_layers="relu1_1"))
    with pytest.raises(UsageError, match="holds <U1"):
        objective(np.full(content.shape, "a"))
    with pytest.raises(UsageError, match=r"shape \(48, 71, 3\), the content has \(48, 72, 3\)"):
        objective(content[:, 1:].astype(float))
