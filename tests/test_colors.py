"""Whose colours: means and covariances, luminance, grey pictures."""

import numpy as np
import pytest
from minimal_nst import Settings, images, stylize
from minimal_nst.colors import (
    LEAST_VARIANCE,
    grey,
    luminance,
    match_colors,
    match_luminance,
    with_luminance,
)
from minimal_nst.resources import CASTLE, STARRY_NIGHT

from conftest import SHALLOW

FORMS = ("cholesky", "pca")


def picture(seed, shape=(9, 11, 3)):
    """Correlated channels in the middle of 0..255, so that nothing is clipped."""
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal(shape) @ rng.uniform(-1, 1, (3, 3))
    return 128 + 12 * mixed + rng.uniform(-9, 9, 3)


def moments(image):
    x = image.reshape(-1, 3)
    return x.mean(axis=0), np.cov(x.T, bias=True)


@pytest.mark.parametrize("form", FORMS)
def test_matched_colours_have_the_moments_of_the_other_picture(form, monkeypatch):
    monkeypatch.setattr("minimal_nst.colors.LEAST_VARIANCE", 0.0)
    other = picture(1, (7, 5, 3))
    for found, wanted in zip(
        moments(match_colors(picture(0), other, form)), moments(other), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_a_picture_matched_with_itself_stays(form):
    np.testing.assert_allclose(match_colors(picture(0), picture(0), form), picture(0), atol=1e-9)


def test_the_two_forms_are_two():
    x, y = picture(0), picture(1)
    assert np.abs(match_colors(x, y, "pca") - match_colors(x, y, "cholesky")).max() > 1


@pytest.mark.parametrize("form", FORMS)
def test_no_colours_are_made_of_the_noise_in_a_grey_style(form, monkeypatch):
    """Of an error of half a grey level in each channel, as files have; without a floor they are."""
    rng = np.random.default_rng(0)
    Y = rng.uniform(60, 190, (40, 50))
    style, content = grey(Y) + rng.uniform(-0.5, 0.5, (40, 50, 3)), picture(1)

    def noise():
        """Deviation of what is no linear function of light and dark."""
        x = match_colors(style, content, form).reshape(-1, 3)
        linear = np.stack([Y.ravel(), np.ones(Y.size)], axis=1)
        return (x - linear @ np.linalg.lstsq(linear, x, rcond=None)[0]).std()

    calm = noise()
    assert calm < 3
    monkeypatch.setattr("minimal_nst.colors.LEAST_VARIANCE", 1e-9)
    assert noise() > 2.5 * calm


@pytest.mark.parametrize("form", FORMS)
def test_a_flat_style_and_a_grey_content(form):
    flat, content = np.full((9, 11, 3), 70.0), picture(1)
    matched = match_colors(flat, content, form)
    np.testing.assert_allclose(matched, np.broadcast_to(content.mean((0, 1)), flat.shape))
    dull = match_colors(picture(0), grey(content[..., 0]), form)
    assert np.ptp(dull, axis=-1).mean() < 3


def test_luminance_is_replaced_and_the_colour_differences_stay():
    image, Y = picture(0), np.random.default_rng(1).uniform(0, 255, (9, 11))
    changed = with_luminance(image, Y)
    np.testing.assert_allclose(luminance(changed), Y)
    for channel in (0, 2):  # R - Y and B - Y
        np.testing.assert_allclose(
            changed[..., channel] - Y, image[..., channel] - luminance(image)
        )


def test_matched_luminance_has_mean_and_deviation():
    other = picture(1, (7, 5, 3))
    matched = match_luminance(picture(0), other)
    assert (matched == matched[..., :1]).all()
    for found, wanted in (
        (matched[..., 0].mean(), luminance(other).mean()),
        (matched[..., 0].var(), luminance(other).var()),
    ):
        assert found == pytest.approx(wanted, rel=2 * LEAST_VARIANCE / luminance(other).var())
    flat = match_luminance(np.full((9, 11, 3), 70), other)
    np.testing.assert_allclose(flat, luminance(other).mean())


@pytest.mark.parametrize("scales", [None, (32, 64)])
def test_a_painting_in_luminance_has_the_colours_of_the_content(scales):
    """Where nothing had to be clipped; and it is not the content."""
    settings = Settings(size=64, iterations=4, colors="luminance", scales=scales, **SHALLOW)
    painting = stylize(CASTLE, STARRY_NIGHT, settings)
    content, image = images.load(CASTLE, 64).astype(float), painting.image.astype(float)
    inside = ((image > 0) & (image < 255)).all(axis=-1)
    assert inside.mean() > 0.8
    difference = image - content
    # the same in R, G and B, but for rounding
    assert np.ptp(difference, axis=-1)[inside].max() <= 1
    assert np.abs(difference[..., 0]).max() > 10


@pytest.mark.parametrize("form", FORMS)
def test_a_painting_with_matched_colours_is_that_of_the_matched_style(form):
    settings = Settings(size=64, iterations=3, colors=form, **SHALLOW)
    content, style = images.load(CASTLE, 64), images.load(STARRY_NIGHT, 64)
    by_hand = stylize(
        content, match_colors(style, content, form), Settings(size=64, iterations=3, **SHALLOW)
    )
    # an array that is passed in is rounded to whole grey levels
    assert stylize(CASTLE, STARRY_NIGHT, settings).loss == pytest.approx(by_hand.loss, rel=0.005)
    plain = stylize(CASTLE, STARRY_NIGHT, Settings(size=64, iterations=3, **SHALLOW))
    assert plain.loss != pytest.approx(by_hand.loss, rel=0.2)
