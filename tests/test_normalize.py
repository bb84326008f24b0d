"""The paper's network: it computes what VGG-19 does, with channels that are as loud as each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from minimal_nst import images, load_weights
from minimal_nst.architecture import CONVOLUTIONS, keras_name
from minimal_nst.cli import main
from minimal_nst.cli.weights import OPTIONS
from minimal_nst.errors import UsageError
from minimal_nst.normalize import mean_activations, normalized
from minimal_nst.vgg import VGG19
from minimal_nst.weights import oddities, save_weights
from PIL import Image

from conftest import EXAMPLES, ROOT

CONTENT = str(EXAMPLES / "content" / "louvre_night.webp")
STYLE = str(EXAMPLES / "style" / "vangogh_cafe_terrace.webp")
RELUS = [name.replace("conv", "relu") for name in CONVOLUTIONS]
POOLS = [f"pool{block}" for block in range(1, 6)]


@pytest.fixture(scope="module")
def pictures():
    """Of different sizes, none of them square or even."""
    rng = np.random.default_rng(30)
    return [rng.uniform(0, 255, (*shape, 3)) for shape in ((35, 37), (49, 33))]


@pytest.fixture(scope="module")
def means(weights, pictures):
    return mean_activations(VGG19(weights, dtype="float64"), pictures)


@pytest.fixture(scope="module")
def rescaled(weights, means):
    return normalized(weights, means)


def test_means_are_over_all_places_of_all_pictures(weights, pictures, backend):
    features = [VGG19(weights, dtype="float64").features(picture, RELUS) for picture in pictures]
    means = mean_activations(VGG19(weights, dtype="float64", device=backend), pictures)
    for name, relu in zip(CONVOLUTIONS, RELUS, strict=True):
        every = np.concatenate(
            [found[relu].reshape(-1, CONVOLUTIONS[name][1]) for found in features]
        )
        wanted = every.mean(axis=0)
        np.testing.assert_allclose(means[name], wanted, rtol=0, atol=1e-10 * wanted.max())


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_features_are_the_same_divided_by_the_means(weights, rescaled, means, pooling):
    """Of a picture that was not among those; to the precision of the kernels that are stored."""
    picture = np.random.default_rng(31).uniform(0, 255, (33, 41, 3))
    before, after = (
        VGG19(kernels, pooling, dtype="float64").features(picture, [*RELUS, *POOLS])
        for kernels in (weights, rescaled)
    )
    last = {pool: [relu for relu in RELUS if relu[4] == pool[4]][-1] for pool in POOLS}
    for tap, features in before.items():
        m = means[last.get(tap, tap).replace("relu", "conv")]
        wanted = features / np.where(m > 0, m, 1)
        error = np.linalg.norm(after[tap] - wanted) / np.linalg.norm(wanted)
        assert error < 1e-5, tap


def test_each_channel_has_a_mean_of_one(rescaled, pictures, means):
    found = mean_activations(VGG19(rescaled, dtype="float64"), pictures)
    for name, m in found.items():
        np.testing.assert_allclose(m[means[name] > 0], 1, rtol=1e-4)


def test_a_channel_that_is_nowhere_stays_as_it_is(weights):
    """Its mean is 0; nothing is divided by it."""
    silent = {name: (kernel.copy(), bias.copy()) for name, (kernel, bias) in weights.items()}
    silent["block1_conv2"][1][7] = -1e6
    means = mean_activations(VGG19(silent), [np.full((16, 16, 3), 90.0)])
    assert means["conv1_2"][7] == 0
    rescaled = normalized(silent, means)
    assert rescaled["block1_conv2"][1][7] == np.float32(-1e6)
    first, here = means["conv1_1"], silent["block1_conv2"][0][..., 7]
    expected = here * np.where(first > 0, first, 1)
    np.testing.assert_allclose(rescaled["block1_conv2"][0][..., 7], expected, rtol=1e-6)
    assert all(np.isfinite(array).all() for pair in rescaled.values() for array in pair)


def test_what_is_written_is_read(rescaled, tmp_path):
    save_weights(rescaled, tmp_path / "n.h5")
    read = load_weights(tmp_path / "n.h5")
    assert read.layout == "keras"
    for name in map(keras_name, CONVOLUTIONS):
        for ours, theirs in zip(rescaled[name], read[name], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_command(capsys, tmp_path, monkeypatch):
    """From a file and a folder; the network that it writes is as it says, and paints."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / Path(STYLE).name).write_bytes(Path(STYLE).read_bytes())
    monkeypatch.setattr("minimal_nst.cli.weights.AT", (48, "the tests' size"))
    out = str(tmp_path / "n.h5")
    assert main(["weights", "normalize", CONTENT, str(tmp_path / "pictures"), "-o", out]) == 0
    told = capsys.readouterr()
    assert "a mean of 1 over 2 pictures" in told.out
    weights = load_weights(out)
    assert told.err.count("look at more pictures") == len(oddities(weights)) > 0
    seen = [images.load(picture, 48) for picture in (CONTENT, STYLE)]
    before, after = (
        mean_activations(VGG19(kernels), seen) for kernels in (load_weights(), weights)
    )
    # a channel that is nearly nowhere is mostly its layer's roundings
    for name, m in before.items():
        np.testing.assert_allclose(after[name] * m, m, rtol=0, atol=1e-5 * m.max())
    painting = str(tmp_path / "o.png")
    assert f"; with it go {OPTIONS}\n" in told.out
    given = ["--weights", out, *OPTIONS.split(), "--size", "48", "--iterations", "2", "-q"]
    assert main(["stylize", CONTENT, STYLE, "-o", painting, *given]) == 0
    assert Path(painting).exists()


def test_the_course_gives_what_goes_with_it():
    assert f"--weights normalized.h5 {OPTIONS}\n" in (ROOT / "docs/painting.md").read_text("utf-8")


def test_without_pictures_there_is_no_mean(weights, capsys, tmp_path):
    with pytest.raises(UsageError, match="no pictures to look at"):
        mean_activations(VGG19(weights), [])
    assert main(["weights", "normalize", "-o", str(tmp_path / "n.h5")]) == 2
    assert "error: there are no pictures to look at" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_narrow_picture_is_told_of_without_an_option_that_is_not_there(capsys, tmp_path):
    narrow = str(tmp_path / "narrow.png")
    Image.new("RGB", (600, 17)).save(narrow)
    assert main(["weights", "normalize", narrow, "-o", str(tmp_path / "n.h5")]) == 2
    told = capsys.readouterr().err
    assert "would have 512x15 pixels at a longer side of 512" in told
    assert "--size" not in told


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["normalize", CONTENT], 2, "there is nowhere to write to"),
        (["normalize", CONTENT, "-o", "{}/n.png"], 2, "a name that ends in .h5"),
        (["normalize", CONTENT, "-o", CONTENT], 2, "is one of the inputs"),
        (["normalize", CONTENT, "-o", "{}/no/n.h5"], 3, "there is no folder"),
        (["normalize", CONTENT, __file__, "-o", "{}/n.h5"], 3, "not a picture that can be read"),
        (["normalize", "{}", "-o", "{}/n.h5"], 3, "a folder without pictures"),
        (["normalise", CONTENT, "-o", "{}/n.h5"], 2, "invalid choice: 'normalise'"),
        (["info", "-o", "{}/n.h5"], 2, "-o/--output does nothing here: it goes with normalize"),
        (["verify", "a.h5", "b.h5"], 2, "b.h5 is one file too many; verify takes one"),
    ],
)
def test_refusals_before_the_work(capsys, tmp_path, monkeypatch, arguments, code, message):
    """Before any picture is looked at by the network."""
    monkeypatch.setattr("minimal_nst.normalize.mean_activations", None)
    assert main(["weights", *(part.replace("{}", str(tmp_path)) for part in arguments)]) == code
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())
