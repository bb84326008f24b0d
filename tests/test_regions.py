"""Styles confined to regions, and described by means and covariances."""

from __future__ import annotations

import dataclasses

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings, gradcheck, guided, images, losses, record
from minimal_nst.errors import UsageError
from minimal_nst.memory import needed
from minimal_nst.regions import guides, union
from PIL import Image

from conftest import SHALLOW
from test_cli import CONTENT, STYLE, check_refusal, run

(REACHES,) = (
    field.metadata["choices"]
    for field in dataclasses.fields(Settings)
    if field.name == "mask_reach"
)
TAPS = ("relu1_1", "conv2_2", "pool3", "relu4_1")
H, W = 50, 67


@pytest.fixture
def mask(rng):
    """A soft blob, off the middle."""
    y, x = np.mgrid[:H, :W]
    return np.clip(1.6 - np.hypot((y - 20) / 15, (x - 25) / 20), 0, 1)


@pytest.mark.parametrize("reach", REACHES)
def test_guides_have_the_features_shapes(weights, content, mask, reach):
    features = VGG19(weights).features(content[:41, :67], TAPS)
    for tap, guide in guides(mask[:41], TAPS, reach).items():
        assert guide.shape == features[tap].shape[:2]
        assert 0 <= guide.min() <= guide.max() <= 1
    for guide in guides(np.ones((H, W)), TAPS, reach).values():
        assert (guide == 1).all()


def test_inside_is_within_simple_is_within_all(mask):
    inside, simple, whole = (guides(mask, TAPS, reach) for reach in ("inside", "simple", "all"))
    for tap in TAPS:
        assert (inside[tap] <= simple[tap]).all()
        assert (simple[tap] <= whole[tap]).all()
        assert inside[tap].sum() < simple[tap].sum() < whole[tap].sum()
        # what sees nothing but the region is what sees nothing of the rest
        np.testing.assert_allclose(inside[tap], 1 - guides(1 - mask, TAPS, "all")[tap], atol=1e-15)


def test_reach_is_what_the_network_sees(weights, rng):
    """Changes outside do not reach the inside; changes inside do not leave all that sees it."""
    vgg = VGG19(weights, dtype="float64")
    mask = np.zeros((48, 64))
    mask[4:40, 10:50] = 1
    picture = rng.integers(0, 256, (48, 64, 3))
    other = rng.integers(0, 256, (48, 64, 3))
    taps = ("relu1_2", "relu2_1", "pool2", "relu3_1")
    before = vgg.features(picture, taps)
    outside = vgg.features(np.where(mask[..., None] == 1, picture, other), taps)
    within = vgg.features(np.where(mask[..., None] == 1, other, picture), taps)
    for tap in taps:
        inside = guides(mask, [tap], "inside")[tap] == 1
        apart = guides(mask, [tap], "all")[tap] == 0
        assert inside.any()
        assert apart.any()
        np.testing.assert_allclose(outside[tap][inside], before[tap][inside], atol=1e-9)
        np.testing.assert_allclose(within[tap][apart], before[tap][apart], atol=1e-9)
        assert (outside[tap][~inside] != before[tap][~inside]).any()
        assert (within[tap][~apart] != before[tap][~apart]).any()


def test_losses_without_a_region(rng):
    """Everywhere 1 is the loss without a mask; Gram is covariance and mean together."""
    F, S = rng.standard_normal((2, 99, 5))
    one = np.ones((99, 1))
    expected = losses.style_loss(F, losses.gram_matrix(S))
    found = guided.guided_style_loss(F, guided.guided_gram_matrix(S, one), one)
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-9, atol=1e-15)
    T = rng.uniform(0, 1, (99, 1))
    C, B, mu = guided.mean_covariance(F, T)
    np.testing.assert_allclose(C + B, guided.guided_gram_matrix(F, T), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(mu[0], np.average(F, axis=0, weights=(T * T)[:, 0]))
    np.testing.assert_allclose(C, np.cov(F.T, aweights=(T * T)[:, 0], ddof=0), atol=1e-12)


def test_only_the_region_counts(rng):
    F, S = rng.standard_normal((2, 99, 5))
    T = (rng.uniform(0, 1, (99, 1)) > 0.5).astype(float)
    inside = T[:, 0] == 1
    A = guided.guided_gram_matrix(S, T)
    np.testing.assert_allclose(A, S[inside].T @ S[inside] / inside.sum())
    C, B, _ = guided.mean_covariance(S, T)
    for loss in (
        lambda F: guided.guided_style_loss(F, A, T),
        lambda F: guided.mean_covariance_loss(F, C, B, T),
    ):
        _, dF = loss(F)
        assert not dF[~inside].any()
        assert dF[inside].any()
        assert loss(np.where(T == 1, S, F))[0] < 1e-25


def make(weights, masks, dtype="float64", pictures=None, device="cpu", **changes):
    rng = np.random.default_rng(3)
    content = rng.integers(0, 256, (H, W, 3))
    styles = [rng.integers(0, 256, (37, 49, 3)), rng.integers(0, 256, (46, 41, 3))]
    content, styles = pictures or (content, styles)
    layers = {"style_layers": "relu1_1,conv2_2,relu4_1:2", "content_layers": "relu3_2"}
    settings = Settings(**layers, **changes)
    return Objective(VGG19(weights, dtype=dtype, device=device), content, styles, settings, *masks)


@pytest.mark.parametrize("statistic", ["gram", "mean-covariance"])
@pytest.mark.parametrize(
    ("masked", "reach"), [(False, "simple"), *((True, reach) for reach in REACHES)]
)
def test_gradient_of_the_objective(weights, mask, statistic, reach, masked, rng):
    style_mask = np.zeros((46, 41))
    style_mask[:, :30] = 0.7
    masks = ([mask, 1 - mask], [None, style_mask]) if masked else ()
    how = {"style_statistic": statistic, "mask_reach": reach, "style_form": "paper"}
    real = make(weights, masks, **how)
    complex_ = make(weights, masks, "complex128", **how)
    x = rng.uniform(0, 255, (H, W, 3))
    _, dx = real(x)
    assert gradcheck.complex_step(lambda x: complex_(x)[0], x, dx, rng) < 1e-10


@pytest.mark.parametrize("statistic", ["gram", "mean-covariance"])
def test_a_mask_of_everything_is_none(weights, statistic, rng):
    rng = np.random.default_rng(3)
    content, style = rng.integers(0, 256, (H, W, 3)), rng.integers(0, 256, (37, 49, 3))
    x = rng.uniform(0, 255, (H, W, 3))
    how = {"pictures": (content, [style]), "style_statistic": statistic}
    loss, dx = make(weights, (), **how)(x)
    for masks in (([np.ones((H, W))],), (None, [np.ones((37, 49))]), (None, [None])):
        found, gradient = make(weights, masks, **how)(x)
        assert found == pytest.approx(loss, rel=1e-9)
        np.testing.assert_allclose(gradient, dx, rtol=0, atol=1e-9 * np.abs(dx).max())


def test_what_a_style_mask_leaves_out_does_not_matter(weights, rng):
    """As long as nothing outside is seen."""
    mask = np.zeros((37, 49))
    mask[:, :45] = 1
    content, style = rng.integers(0, 256, (H, W, 3)), rng.integers(0, 256, (37, 49, 3))
    other = np.where(mask[..., None] == 1, style, rng.integers(0, 256, (37, 49, 3)))
    x = rng.uniform(0, 255, (H, W, 3))
    found = {
        reach: [
            make(weights, (None, [mask]), pictures=(content, [s]), mask_reach=reach)(x)[0]
            for s in (style, other)
        ]
        for reach in REACHES
    }
    assert found["inside"][0] == pytest.approx(found["inside"][1], rel=1e-12)
    assert abs(found["all"][0] / found["all"][1] - 1) > 1e-6


def test_a_region_counts_as_much_as_it_is_large(weights, rng):
    """One style in two halves is, up to their seam, that style everywhere."""
    half = np.zeros((48, 64))
    half[:, :32] = 1
    rng = np.random.default_rng(3)
    tile = rng.integers(0, 256, (48, 32, 3))
    picture = np.concatenate([tile, tile], axis=1)
    style = rng.integers(0, 256, (48, 64, 3))
    layers = {"style_layers": "relu1_1", "content_weight": 0}
    vgg = VGG19(weights, dtype="float64")
    whole = Objective(vgg, picture, [style], Settings(**layers))
    halves = Objective(vgg, picture, [style] * 2, Settings(**layers), [half, 1 - half])
    assert halves(picture)[0] == pytest.approx(whole(picture)[0], rel=0.02)


def test_a_region_without_style_stays_as_it_is(content, style):
    """To the last bit, whatever the start; at several scales, too."""
    mask = np.zeros((48, 72), "uint8")
    mask[:, :40] = 255
    mask[:, 40:48] = 128
    for changes in ({}, {"init": "noise", "scales": (36,)}, {"colors": "luminance"}):
        settings = Settings(size=72, iterations=4, **SHALLOW, **changes)
        painting = nst.stylize(content, style, settings, content_masks=[mask])
        assert (painting.image[:, 50:] == content[:, 50:]).all()
        assert (painting.image[:, :36] != content[:, :36]).mean() > 0.5


def test_a_mask_where_no_style_layer_counts(content, style):
    """It is where the painting moves, as ever."""
    mask = np.zeros((48, 72), "uint8")
    mask[:, :40] = 255
    settings = Settings(size=72, iterations=2, init="noise", style_layers="relu1_1:0")
    painting = nst.stylize(content, style, settings, content_masks=[mask])
    assert (painting.image[:, 50:] == content[:, 50:]).all()
    assert painting.lowered


def test_two_styles_in_two_regions(content):
    """Red on the left, blue on the right."""
    left = np.zeros((48, 72), "uint8")
    left[:, :36] = 255
    red, blue = (np.full((40, 40, 3), colour, "uint8") for colour in ((220, 30, 30), (30, 30, 220)))
    settings = Settings(size=72, iterations=30, content_weight=0, style_layers="relu1_1,relu2_1")
    painting = nst.stylize(content, [red, blue], settings, content_masks=[left, 255 - left])
    means = [painting.image[:, half].mean((0, 1)) for half in (slice(0, 30), slice(42, 72))]
    assert means[0][0] > means[0][2] + 80
    assert means[1][2] > means[1][0] + 80


@pytest.mark.parametrize("statistic", ["gram", "mean-covariance"])
def test_the_same_on_every_device(weights, mask, backend, statistic, rng):
    how = {"style_statistic": statistic, "pictures": None, "dtype": "float64"}
    x = rng.uniform(0, 255, (H, W, 3))
    masks = ([mask, 1 - mask],)
    loss, dx = make(weights, masks, **how)(x)
    found, gradient = make(weights, masks, **how, device=backend)(x)
    assert found == pytest.approx(loss, rel=1e-10)
    np.testing.assert_allclose(gradient, dx, rtol=0, atol=1e-10 * np.abs(dx).max())


def test_union():
    soft = np.linspace(0, 1, 5)
    np.testing.assert_allclose(union([soft, 1 - soft]), 1)
    np.testing.assert_allclose(union([soft]), soft)


@pytest.fixture
def files(tmp_path):
    """Two masks for the content, at another size, and one for a style."""
    left = np.zeros((277, 700), "uint8")
    left[:, :350] = 255
    paths = [tmp_path / f"{name}.png" for name in ("left", "right", "part")]
    Image.fromarray(left).resize((350, 138)).save(paths[0])
    Image.fromarray(255 - left).save(paths[1])
    with Image.open(STYLE) as style:
        Image.new("L", style.size, 255).save(paths[2])
    return paths


def test_masks_on_the_command_line(capsys, tmp_path, files):
    left, right, part = files
    out = tmp_path / "o.png"
    args = ["stylize", CONTENT, STYLE, STYLE, "-o", out, "--size", "64", "--iterations", "3", "-q"]
    masks = ["--content-masks", left, right, "--style-masks", "all", part, "--mask-reach", "all"]
    assert run(capsys, *args, *masks) == (0, "", "")
    found = record.read(out)
    assert [entry["name"] for entry in found["content_masks"]] == ["left.png", "right.png"]
    assert [entry and entry["name"] for entry in found["style_masks"]] == [None, "part.png"]
    again = tmp_path / "again.png"
    args = ["stylize", CONTENT, STYLE, STYLE, "-o", again, "-q", "--from", out]
    code, _, stderr = run(capsys, *args)
    assert (code, "it was painted with masks; give them with --content-masks" in stderr) == (
        2,
        True,
    )
    assert run(capsys, *args, *masks[:6]) == (0, "", "")
    assert again.read_bytes() == out.read_bytes()
    assert "# content_masks: " in run(capsys, "show", out)[1]
    config = tmp_path / "c.toml"
    config.write_text(
        f"content_masks = ['{left}', '{right}']\nstyle_masks = ['all', '{part}']\n"
        "mask_reach = 'all'\nsize = 64\niterations = 3"
    )
    args = ["stylize", CONTENT, STYLE, STYLE, "-o", again, "-q", "--config", config]
    assert run(capsys, *args) == (0, "", "")
    assert again.read_bytes() == out.read_bytes()
    code, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", left, "--content-masks", left)
    assert (code, "left.png is one of the inputs" in stderr) == (2, True)


def test_masks_that_cannot_be_used(capsys, tmp_path, files):
    folder = tmp_path / "out"
    folder.mkdir()
    black = tmp_path / "black.png"
    Image.new("L", (700, 277)).save(black)
    square = tmp_path / "square.png"
    Image.new("L", (99, 99), 255).save(square)
    args = ["stylize", CONTENT, STYLE, "-o", folder / "o.png", "--size", "64", "--iterations", "1"]
    for masks, code, message in (
        (["--content-masks", black], 2, f"the mask {black} is black; paint white"),
        (["--content-masks", square], 2, "square.png has 99x99 pixels, its picture 700x277; give"),
        (["--style-masks", square], 2, "square.png has 99x99 pixels, its picture "),
        (["--content-masks", files[0], files[1]], 2, "there are 2 content masks, but 1 style"),
        (["--style-masks", "all", "all"], 2, "there are 2 style masks, but 1 style"),
        (["--content-masks", "no.png"], 3, "no.png: no such picture"),
        (["--content-masks", ""], 3, "the path of a picture is empty"),
    ):
        check_refusal(run(capsys, *args, *masks), code, message, folder)
    config = tmp_path / "c.toml"
    for value in ("3", "[]", "[3]", "''"):
        config.write_text(f"content_masks = {value}")
        result = run(capsys, *args, "--config", config)
        check_refusal(result, 2, "names no pictures; write", folder)


def test_masks_as_arrays_are_checked(weights, mask):
    with pytest.raises(UsageError, match="there are 1 content masks, but 2 style pictures"):
        make(weights, ([mask],))
    with pytest.raises(
        UsageError, match=r"content mask 2 has shape \(3, 3\), its picture \(50, 67"
    ):
        make(weights, ([mask, np.ones((3, 3))],))
    for bad in (2 * mask, mask - 1, 0 * mask):
        with pytest.raises(UsageError, match="content mask 2 must hold 0 to 1, and not 0 every"):
            make(weights, ([mask, bad],))
    dot = np.zeros((H, W))
    dot[20, 30] = 1
    with pytest.raises(UsageError, match="of style 2's region nothing is left at any"):
        make(weights, ([mask, dot],), mask_reach="inside")


def test_memory_is_asked_for_masks_and_means():
    settings = Settings(size=256)
    shapes = (256, 256), [(256, 256)]
    plain = needed(settings, *shapes, 2)
    assert needed(settings, *shapes, 2, masked=True) > plain
    other = dataclasses.replace(settings, style_statistic="mean-covariance")
    assert needed(other, *shapes, 2) == needed(settings, *shapes, 2, masked=True)


def test_a_mask_is_how_white_a_picture_is(tmp_path):
    ramp = np.linspace(0, 255, 40, dtype="uint8")[None].repeat(20, axis=0)
    np.testing.assert_allclose(images.mask(ramp, 20, 40), ramp / 255)
    assert images.mask(ramp, 10, 20).shape == (10, 20)
    coloured = np.stack([ramp, ramp, ramp], axis=-1)
    np.testing.assert_allclose(images.mask(coloured, 20, 40), ramp / 255)


def test_means_and_covariances_paint(content, style):
    settings = Settings(size=64, iterations=12, style_statistic="mean-covariance")
    painting = nst.stylize(content, style, settings)
    assert painting.loss < 0.15 * painting.losses[0]
    assert (
        painting.losses[0] != nst.stylize(content, style, Settings(size=64, iterations=1)).losses[0]
    )
