"""End to end: a painting comes out, better than its start, the same each time."""

from __future__ import annotations

import dataclasses
import math
import re
import signal
import threading
import time

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import images, pipeline
from minimal_nst.architecture import canvas
from minimal_nst.backend import CPU
from minimal_nst.coordinates import FINEST, frequencies
from minimal_nst.errors import FileError, RunError, UsageError
from minimal_nst.optimize import minimize
from minimal_nst.pipeline import default_optimizer, initial_picture
from minimal_nst.vgg import deprocess, preprocess
from PIL import Image
from scipy import fft

import fuzz
import strict
from conftest import EXAMPLES, SHALLOW
from test_weights import write_keras

SMALL = nst.Settings(size=64, iterations=12, margin=0, **SHALLOW)

FALLS_BELOW = {
    "default": 0.08,
    "balanced": 0.1,
    "gatys": 0.1,
    "gatys2016": 0.2,
    "johnson": 0.15,
    "neural-style-pt": 0.15,
    "anishathalye": 0.2,
    "gordic": 0.1,
    "pastiche": 0.1,
    "course": 0.4,
    "course-tf2": 0.25,
    "tensorflow": 0.25,
    "log0": 0.4,
    "cysmith": 0.15,
    "pytorch-tutorial": 0.05,
    "d2l": 0.2,
    "keras": 0.1,
    "tv": 0.1,
    "crowsonkb": 0.6,
}
"""Loss after 12 iterations over the loss at the start, at most."""


@pytest.mark.parametrize("preset", nst.PRESETS)
def test_loss_falls(preset, content, style):
    settings = nst.Settings.preset(preset, size=64, iterations=12)
    painting = nst.stylize(content, style, settings)
    assert painting.image.shape == (43, 64, 3)
    assert painting.image.dtype == np.uint8
    assert painting.image.std() > 10
    assert painting.iterations == 12
    assert painting.evaluations == len(painting.losses)
    assert painting.loss == min(painting.losses) < FALLS_BELOW[preset] * painting.losses[0]
    assert painting.stopped_because == "all 12 iterations are done"


@pytest.mark.usefixtures("every_processor")
@pytest.mark.parametrize("optimizer", ["lbfgs", "own-lbfgs", "adam"])
def test_threads_change_no_bit_of_a_painting(content, style, optimizer):
    """Those of the network, of the cosine transform, and of the pairs."""
    settings = nst.Settings(size=56, iterations=4, optimizer=optimizer)
    alone, together = (
        nst.stylize(content, style, dataclasses.replace(settings, threads=threads)).x
        for threads in (1, 3)
    )
    assert (together == alone).all()


@pytest.mark.parametrize(("optimizer", "share"), [("lbfgs", 0.75), ("adam", 0.5)])
def test_wide_structures_first_is_faster(content, style, optimizer, share):
    """The same losses in coordinates of waves, after as many evaluations: the mean of many ratios, as
    roundings move each of them by some per cent."""
    settings = nst.Settings(size=72, iterations=30, margin=0, optimizer=optimizer, **SHALLOW)
    waves = nst.stylize(content, style, settings)
    pixels = nst.stylize(content, style, dataclasses.replace(settings, spectrum=0))
    assert waves.losses[0] == pytest.approx(pixels.losses[0], rel=0.01)  # but for checkerboards
    best = [np.log(np.minimum.accumulate(painting.losses[8:30])) for painting in (waves, pixels)]
    assert math.exp(np.mean(best[0] - best[1])) < share


@pytest.mark.parametrize("optimizer", ["lbfgs", "own-lbfgs", "adam"])
def test_no_checkerboards_are_painted(content, style, optimizer):
    """Waves of less than two pixels, of which noise is full; in pixels they stay, and more come."""
    settings = dataclasses.replace(SMALL, init="noise", iterations=3, optimizer=optimizer)
    found = []
    for spectrum in (0.5, 0):
        x = nst.stylize(content, style, dataclasses.replace(settings, spectrum=spectrum)).x
        finer = frequencies(*x.shape[:2]) > FINEST
        found.append(abs(fft.dctn(x, axes=(0, 1), norm="ortho")[finer]).max())
    assert found[0] < 1e-3
    assert found[1] > 10


@pytest.mark.parametrize("optimizer", ["lbfgs", "own-lbfgs"])
def test_lbfgs_looks_as_far_back_as_it_is_told(content, style, optimizer):
    """All runs are alike until the first of them forgets a step, and those are that forget none."""
    settings = dataclasses.replace(SMALL, iterations=6, optimizer=optimizer)
    one, two, six, more = (
        nst.stylize(content, style, dataclasses.replace(settings, history=steps)).losses
        for steps in (1, 2, 6, 100)
    )
    assert one[:3] == two[:3] == six[:3]
    assert one[-1] != two[-1] != six[-1]
    assert six == more


@pytest.mark.parametrize("optimizer", ["lbfgs", "own-lbfgs", "adam"])
def test_nothing_is_made_that_only_another_optimiser_needs(content, style, optimizer, monkeypatch):
    """A picture in SciPy's precision beside the network's, and the metric of our own L-BFGS."""
    evaluate, bands, seen, metrics = nst.Objective.evaluate, pipeline.bands, set(), []
    monkeypatch.setattr(
        nst.Objective, "evaluate", lambda self, x: seen.add(x.dtype.name) or evaluate(self, x)
    )
    monkeypatch.setattr(pipeline, "bands", lambda *given: metrics.append(given) or bands(*given))
    nst.stylize(content, style, dataclasses.replace(SMALL, iterations=1, optimizer=optimizer))
    assert seen == {"float32"}
    assert len(metrics) == (optimizer == "own-lbfgs")


def test_the_returned_image_has_the_returned_loss(content, style, weights):
    """Up to rounding and clipping to 0..255, both small at this stage."""
    settings = dataclasses.replace(SMALL, iterations=3, margin=0)
    painting = nst.stylize(content, style, settings)
    small = nst.stylize(content, style, dataclasses.replace(settings, iterations=1))
    objective = nst.Objective(
        nst.VGG19(weights), images.load(content, 64), [images.load(style, 64)], settings
    )
    assert objective(painting.image.astype(float))[0] == pytest.approx(painting.loss, rel=0.1)
    assert painting.loss < small.loss


@pytest.mark.parametrize("size", [(48, 72), (43, 61), (16, 16), (33, 17)])
@pytest.mark.parametrize("margin", [0, 1, 8, 20])
def test_canvas(size, margin):
    """At least the margin, in all directions; multiples of 16; the smallest such."""
    rows, columns = canvas(*size, margin)
    for side, (before, after) in zip(size, (rows, columns), strict=True):
        if margin == 0:
            assert before == after == 0
            continue
        assert margin <= before <= after <= before + 1
        assert (side + before + after) % 16 == 0
        assert side + before + after < side + 2 * margin + 16


def test_the_margin_is_a_mirror_and_is_cut_off(content):
    added = canvas(*content.shape[:2], 8)
    wide = pipeline._mirrored(content, added)
    (above, _), (left, _) = added
    assert (pipeline._cut(wide, added) == content).all()
    assert (wide[above - 1, left:-left] == content[0]).all()
    assert (wide[above - 2, left:-left] == content[1]).all()
    assert pipeline._mirrored(content[..., 0], added).shape == wide.shape[:2]


def test_the_range_leaves_little_to_be_cut_off():
    """Below 0 and above 255, where the file has an end; this style goes far beyond.

    In float64: another processor's roundings of float32 make another painting of it, with another
    share outside.
    """
    content, style = (
        images.load(EXAMPLES / name, 64)
        for name in ("content/petra.webp", "style/vangogh_cafe_terrace.webp")
    )
    outside = []
    for weight in (0, nst.Settings().range_weight):
        own = {"optimizer": "own-lbfgs", "dtype": "float64"}
        settings = nst.Settings(size=64, iterations=30, margin=0, range_weight=weight, **own)
        x = deprocess(nst.stylize(content, style, settings).x)
        outside.append(np.mean((x - x.clip(0, 255)) ** 2))
    assert outside[1] < 0.75 * outside[0]


def test_the_margin_takes_the_lines_along_the_border_away():
    """How much darker or lighter the outermost pixels become than those two further in; strokes differ too."""
    style = images.load(EXAMPLES / "style" / "vangogh_cafe_terrace.webp", 96)
    steps = {0: [], 8: []}
    for level in (110, 140):
        content = np.full((64, 96, 3), level, "uint8")
        for margin, found in steps.items():
            settings = nst.Settings(size=96, iterations=2, margin=margin)
            grey = nst.stylize(content, style, settings).image.mean(axis=-1)
            lines = [(grey[k], grey[-1 - k], grey[:, k], grey[:, -1 - k]) for k in (0, 2)]
            edge, inside = (np.mean([line.mean() for line in four]) for four in lines)
            found.append(abs(edge - inside))
    without, with_margin = (np.mean(found) for found in steps.values())
    assert without > 5
    assert with_margin < 0.5 * without


def test_both_pictures_are_scaled_by_the_filter():
    files = EXAMPLES / "content" / "petra.webp", EXAMPLES / "style" / "vangogh_cafe_terrace.webp"
    settings = nst.Settings(size=48, style_size=64, iterations=1, resampling="nearest")
    first = nst.stylize(*files, settings).losses[0]
    scaled = [images.load(file, n, "", "nearest") for file, n in zip(files, (48, 64), strict=True)]
    assert first == nst.stylize(*scaled, settings).losses[0]
    for k in (0, 1):
        other = (
            [scaled[0], images.load(files[1], 64)] if k else [images.load(files[0], 48), scaled[1]]
        )
        assert first != nst.stylize(*other, settings).losses[0]


def test_same_seed_same_picture(content, style):
    noisy = dataclasses.replace(SMALL, iterations=3, noise_ratio=0.5)
    first, second = nst.stylize(content, style, noisy), nst.stylize(content, style, noisy)
    assert (first.image == second.image).all()
    assert first.losses == second.losses
    other = nst.stylize(content, style, dataclasses.replace(noisy, seed=1))
    assert (first.image != other.image).any()


def test_starts(content, tmp_path):
    """Content, noise, a picture of another size, and their mixtures."""
    x = preprocess(content)
    noise = initial_picture(content, nst.Settings(init="noise"))
    assert (initial_picture(content, nst.Settings()) == x).all()
    assert noise.shape == x.shape
    assert -20 <= noise.min() < -19.9 < 19.9 < noise.max() <= 20
    normal = initial_picture(content, nst.Settings(init="noise", noise="normal", noise_level=3))
    assert abs(normal).max() > 9
    assert normal.std() == pytest.approx(3, rel=0.02)
    mixed = initial_picture(content, nst.Settings(noise_ratio=0.25))
    np.testing.assert_allclose(mixed, 0.25 * noise + 0.75 * x)
    Image.new("RGB", (99, 33), (255, 0, 9)).save(tmp_path / "start.png")
    start = initial_picture(content, nst.Settings(init=str(tmp_path / "start.png")))
    np.testing.assert_allclose(start, np.broadcast_to(preprocess(np.array((255, 0, 9))), x.shape))
    Image.fromarray(content[::-1]).save(tmp_path / "turned.png")
    turned = nst.Settings(init=str(tmp_path / "turned.png"))
    start = initial_picture(content, turned, added=((3, 8), (5, 6)))
    assert (start[3:-8, 5:-6] == preprocess(content[::-1])).all()
    assert (start[2] == start[3]).all()  # as in a mirror
    grey = initial_picture(content, nst.Settings(init="grey", noise_ratio=0.5))
    np.testing.assert_allclose(grey, 0.5 * noise)
    assert not initial_picture(content, nst.Settings(init="grey")).any()
    first = np.zeros((30, 40, 3), "uint8")
    first[:, :20] = 255
    begun = deprocess(initial_picture(content, nst.Settings(init="style"), first))
    assert begun.shape == content.shape
    np.testing.assert_allclose(begun[:, :30], 255, atol=1e-9)
    np.testing.assert_allclose(begun[:, -30:], 0, atol=1e-9)
    begun = deprocess(initial_picture(content, nst.Settings(init="style"), first - 10.5))
    np.testing.assert_allclose(begun[:, :30], 244.5, rtol=1e-6)  # its colours were matched
    with pytest.raises(FileError, match="no such picture"):
        initial_picture(content, nst.Settings(init="nowhere.png"))


def test_a_start_is_not_scaled_to_the_margin(content, style, tmp_path, monkeypatch):
    Image.fromarray(content[::-1]).save(tmp_path / "turned.png")
    seen, evaluate = [], nst.Objective.evaluate

    def spy(objective, x):
        seen.append(x)
        return evaluate(objective, x)

    monkeypatch.setattr(nst.Objective, "evaluate", spy)
    turned = nst.Settings(size=72, iterations=1, spectrum=0, init=str(tmp_path / "turned.png"))
    nst.stylize(content, style, turned)
    (above, _), (left, _) = canvas(48, 72, turned.margin)
    assert seen[0].shape == (64, 96, 3)
    start = seen[0][above : above + 48, left : left + 72]
    np.testing.assert_allclose(start, preprocess(content[::-1]), atol=1e-4)


@pytest.mark.parametrize("colors", ["style", "luminance"])
def test_a_painting_goes_on_from_where_it_ended(content, style, colors, tmp_path):
    """Its file, named as the start, loses roundings; and by luminance the colours that it was given."""
    settings = nst.Settings(
        size=72, iterations=12, colors=colors, optimizer="own-lbfgs", margin=0, **SHALLOW
    )
    first = nst.stylize(content, style, settings)
    Image.fromarray(first.image).save(tmp_path / "first.png")
    again = dataclasses.replace(settings, init=str(tmp_path / "first.png"))
    second = nst.stylize(content, style, again)
    assert second.losses[0] < 1.25 * first.loss < 0.3 * first.losses[0]
    assert second.loss < 0.95 * first.loss


@pytest.mark.parametrize("colors", ["luminance", "pca", "cholesky"])
def test_a_start_from_a_style_whose_colours_are_matched(content, style, colors):
    settings = dataclasses.replace(SMALL, iterations=1, init="style", colors=colors)
    painting = nst.stylize(content, style, settings)
    assert painting.lowered
    assert painting.image.std() > 10


def test_sizes_of_content_and_style_are_independent(content, style):
    seen = []
    settings = dataclasses.replace(SMALL, size=33, style_size=81, iterations=1)
    painting = nst.stylize(content, [style, style], settings, seen.append)
    assert painting.image.shape == (22, 33, 3)
    assert seen[0].iterations == 1


def test_callback_stops(content, style):
    painting = nst.stylize(content, style, SMALL, lambda progress: progress.iteration == 2)
    assert painting.iterations == 2


def test_the_settings_that_end_it(content, style):
    settings = dataclasses.replace(SMALL, size=32, iterations=10**6)
    painting = nst.stylize(content, style, dataclasses.replace(settings, tolerance=0.2))
    assert painting.stopped_because.startswith("the loss fell by less than 0.2 of itself")
    start = time.monotonic()
    painting = nst.stylize(content, style, dataclasses.replace(settings, max_seconds=0.6))
    assert painting.stopped_because == "its time is over"
    assert 0.5 < time.monotonic() - start < 10


def test_stop_from_another_thread(content, style):
    event = threading.Event()
    painting = nst.stylize(content, style, SMALL, lambda _: event.set(), event.is_set)
    assert painting.stopped_because == "it was asked to"
    assert painting.lowered


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, StopIteration])
def test_whatever_ends_the_work_brings_the_painting_along(content, style, error):
    """And it is raised: Ctrl-C in a loop over pictures must end the loop."""

    def callback(progress):
        if progress.iteration == 2:
            raise error

    with pytest.raises(error) as caught:
        nst.stylize(content, style, SMALL, callback)
    painting = caught.value.painting
    assert painting.image.shape == (43, 64, 3)
    assert painting.loss < painting.losses[0]


def test_a_library_installs_no_handlers(content, style):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []

    def callback(_):
        seen.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
        return True

    nst.stylize(content, style, SMALL, callback)
    assert seen == before


def test_smallest_and_oddest_pictures(rng):
    tiny = rng.integers(0, 256, (16, 16, 3)).astype("uint8")
    grey = rng.integers(0, 256, (37, 19)).astype("uint8")
    for a, b in ((tiny, grey), (grey, tiny)):
        settings = nst.Settings(size=max(a.shape), style_size=max(b.shape), iterations=1)
        assert nst.stylize(a, b, settings).image.shape[:2] == a.shape[:2]


def test_a_loss_that_is_not_finite_says_whose_weights(content, style, tmp_path, weights):
    """The loss' or the network's; and a later one has another remedy."""
    with pytest.raises(RunError, match="at evaluation 1; content_weight, style_weight or tv_w"):
        nst.stylize(content, style, dataclasses.replace(SMALL, style_weight=1e308))
    huge = {name: (1e30 * kernel, bias) for name, (kernel, bias) in weights.items()}
    path = write_keras(tmp_path / "huge.h5", huge)
    with pytest.raises(RunError, match="at evaluation 1; .* the weights in the network's file"):
        nst.stylize(content, style, dataclasses.replace(SMALL, weights=str(path)))
    adam = dataclasses.replace(SMALL, optimizer="adam", learning_rate=1e30)
    with pytest.raises(RunError, match=r"at evaluation 2; learning_rate is 1e\+30, try less"):
        nst.stylize(content, style, adam)


def test_a_callbacks_own_run_error_is_left_as_it_is(content, style):
    """Only a loss that is not finite is told what to do about."""

    def callback(_):
        raise RunError("mine")

    with pytest.raises(RunError, match="^mine$"):
        nst.stylize(content, style, SMALL, callback)


def test_styles_in_any_container(content, style):
    settings = dataclasses.replace(SMALL, size=32, iterations=1)
    losses = [
        nst.stylize(content, styles, settings).losses
        for styles in ([style, style], (style for _ in range(2)), np.stack([style, style]))
    ]
    assert losses[0] == losses[1] == losses[2]


def test_bad_arguments(content, style):
    for styles, message in (([], "no style picture"), (3, "3 is no picture"), ([3], "3 is no pic")):
        with pytest.raises(UsageError, match=message):
            nst.stylize(content, styles, SMALL)
    for changes in ({"settings": {}}, {"callback": 3}, {"stop": 3}):
        with pytest.raises(UsageError, match=re.escape(str(*changes.values()))):
            nst.stylize(content, style, **{"settings": SMALL, **changes})


def test_the_default_optimizer_is_scipys_on_a_cpu_and_ours_on_a_gpu(content, style, monkeypatch):
    assert default_optimizer(CPU) == "lbfgs"
    assert default_optimizer(strict.BACKEND) == "own-lbfgs"
    seen = []

    def noting(function, x0, method, *args, **options):
        seen.append((method, x0.dtype))
        return minimize(function, x0, method, *args, **options)

    monkeypatch.setattr(pipeline, "minimize", noting)
    nst.stylize(content, style, dataclasses.replace(SMALL, iterations=1, device="cpu"))
    nst.stylize(content, style, dataclasses.replace(SMALL, iterations=1, optimizer="own-lbfgs"))
    assert seen == [("lbfgs", "float64"), ("own-lbfgs", "float32")]


@pytest.mark.parametrize("optimizer", ["own-lbfgs", "lbfgs", "adam"])
@pytest.mark.parametrize("conv", ["im2col", "winograd"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_painting_on_a_device_is_the_cpus(content, style, monkeypatch, optimizer, conv, dtype):
    """The whole run on the stand-in, with masks and at two scales."""
    mask = np.zeros(content.shape[:2], "uint8")
    mask[:, :40] = 255
    settings = dataclasses.replace(
        SMALL, size=48, iterations=3, scales=(24,), optimizer=optimizer, conv=conv, dtype=dtype
    )
    tolerance = 1e-3
    if (optimizer, dtype) == ("own-lbfgs", "float32"):
        # of a pair's 8 bits a card rounds each lane by itself: more steps lead further apart
        settings, tolerance = dataclasses.replace(settings, iterations=2), 0.01
    here = nst.stylize(content, style, settings, content_masks=[mask])
    monkeypatch.setattr(pipeline, "select", lambda device: strict.BACKEND)
    there = nst.stylize(content, style, settings, content_masks=[mask])
    assert (here.device, there.device) == ("cpu", "strict")
    assert type(there.x) is np.ndarray
    assert here.x.dtype == there.x.dtype == dtype  # no more than the network computes with
    if dtype == "float64":
        assert there.losses == pytest.approx(here.losses, rel=1e-11)
        assert np.abs(there.x - here.x).mean() < 1e-11
    else:  # a trial that went too far may differ by more, and is not taken
        assert there.loss == pytest.approx(here.loss, rel=tolerance)
        assert np.abs(there.x - here.x).mean() < 100 * tolerance


def test_settings_at_random():
    """A few; ``python tests/fuzz.py`` tries many more."""
    assert fuzz.settings(3, seed=3) == []
