"""Coarse to fine: each scale starts where the one before ended, and nothing is lost between them."""

from __future__ import annotations

import dataclasses

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import images, pipeline
from minimal_nst.coordinates import Spectrum
from minimal_nst.errors import UsageError
from minimal_nst.vgg import deprocess

from conftest import SHALLOW

FULL = (43, 64, 3)
SETTINGS = nst.Settings(size=64, scales=(32, 48), iterations=4, margin=0, **SHALLOW)


@pytest.fixture(scope="module")
def painting(content, style):
    return nst.stylize(content, style, SETTINGS)


@pytest.mark.parametrize(
    ("size", "scales", "sizes"),
    [
        (384, None, (384,)),
        (512, "128,256,512", (128, 256, 512)),
        (512, "128, 256", (128, 256, 512)),
        (512, [128, np.int64(256)], (128, 256, 512)),
        (383, "auto", (383,)),
        (384, "auto", (192, 384)),
        (1000, "auto", (250, 500, 1000)),
        (1536, "auto", (192, 384, 768, 1536)),
    ],
)
def test_sizes(size, scales, sizes):
    settings = nst.Settings(size=size, scales=scales)
    assert settings.sizes == sizes
    assert dataclasses.replace(settings) == settings


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ("", "scales are ''; write sizes such as 192,384, or auto, or none"),
        ("128,x", "scales are '128,x'; write sizes such as 192,384, or auto, or none"),
        (128.5, "scales are 128.5; write sizes"),
        ([64.5], "scales are [64.5]; write sizes"),
        ((), "scales are (); each must be larger than the one before, the first at least 16"),
        ("8,128", "scales are '8,128'; each must be larger than the one before, the first at"),
        ("256,128", "scales are '256,128'; each must be larger"),
        ("128,128", "scales are '128,128'; each must be larger"),
        ("128,1024", "scales are 128,1024, the painting's longer side is 384; none can be larger"),
    ],
)
def test_wrong_scales(scales, message):
    """What is no size, and what is not larger than the one before."""
    with pytest.raises(UsageError) as error:
        nst.Settings(scales=scales)
    assert message in str(error.value)


def test_every_scale_has_its_own_painting(painting):
    shapes = [p.x.shape for p in (*painting.coarser, painting)]
    assert shapes == [(21, 32, 3), (32, 48, 3), FULL]
    assert [p.iterations for p in (*painting.coarser, painting)] == [4, 4, 4]
    assert painting.image.shape == FULL
    assert painting.lowered


def test_each_starts_where_the_one_before_ended(painting, content, style, weights):
    """The mutant starts anew from the content, whose loss is another one."""
    vgg = nst.VGG19(weights)
    for before, after in zip(painting.coarser, [*painting.coarser[1:], painting], strict=True):
        height, width, _ = after.x.shape
        size = max(height, width)
        small = images.load(content, size)
        objective = nst.Objective(vgg, small, [images.load(style, size)], SETTINGS)
        space = Spectrum(height, width, SETTINGS.spectrum)
        start = space.start(images.resize(before.x, width, height))
        assert after.losses[0] == pytest.approx(objective(deprocess(start))[0], rel=1e-5)
        assert objective(small.astype(float))[0] > 1.2 * after.losses[0]


def test_style_pictures_shrink_with_the_painting(content, style, monkeypatch):
    sizes = []
    load = images.load

    def spy(picture, size=None, option="size", resampling="lanczos"):
        sizes.append((size, option))
        return load(picture, size, option, resampling)

    monkeypatch.setattr(images, "load", spy)
    nst.stylize(content, style, dataclasses.replace(SETTINGS, style_size=96, iterations=1))
    assert [s for s, option in sizes if option == "style_size"] == [48, 72, 96]


def test_iterations_are_counted_over_all_scales(content, style):
    told = []
    nst.stylize(content, style, SETTINGS, told.append)
    assert [p.iteration for p in told] == list(range(1, 13))
    assert {p.iterations for p in told} == {12}
    assert [p.evaluations for p in told] == sorted(p.evaluations for p in told)


def test_a_tolerance_ends_a_scale_and_time_ends_all(content, style, monkeypatch):
    settings = dataclasses.replace(SETTINGS, iterations=60, tolerance=0.9)
    told = []
    painting = nst.stylize(content, style, settings, told.append)
    assert len(painting.coarser) == 2
    assert all(p.iterations < 60 for p in (*painting.coarser, painting))
    assert told[-1].iteration == len(told) < 180
    brief = dataclasses.replace(SETTINGS, max_seconds=1e-6)
    painting = nst.stylize(content, style, brief)
    assert painting.coarser == []
    assert painting.stopped_because == "its time is over"


ENDS = {  # what ends it at iteration 6, at the second of three scales
    "callback": lambda p: p.iteration == 6,
    "exception": lambda p: 1 / (6 - p.iteration) == 0,
}


@pytest.mark.parametrize("end", ENDS)
def test_ended_at_a_coarse_scale_the_painting_has_its_full_size(content, style, end):
    try:
        painting = nst.stylize(content, style, SETTINGS, ENDS[end])
    except ZeroDivisionError as error:
        painting = error.painting
    assert len(painting.coarser) == 1
    assert painting.image.shape == FULL
    assert painting.lowered


def test_stop_is_asked_at_every_scale(content, style):
    evaluations = []
    painting = nst.stylize(
        content, style, SETTINGS, stop=lambda: evaluations.append(1) or len(evaluations) == 3
    )
    assert painting.coarser == []
    assert painting.asked
    assert painting.image.shape == FULL


@pytest.mark.parametrize("callback", [3, "text"])
def test_a_callback_that_is_none(content, style, callback):
    with pytest.raises(UsageError, match="callback is"):
        nst.stylize(content, style, SETTINGS, callback)


def test_what_fails_between_two_scales_keeps_the_smaller_painting(content, style, monkeypatch):
    """Memory may do for one scale and not for the next."""
    made = []

    def objective(*arguments):
        made.append(arguments)
        if len(made) == 2:
            raise MemoryError
        return nst.Objective(*arguments)

    monkeypatch.setattr(pipeline, "Objective", objective)
    with pytest.raises(MemoryError) as error:
        nst.stylize(content, style, SETTINGS)
    painting = error.value.painting
    assert painting.image.shape == FULL
    assert painting.lowered


def test_what_cannot_be_used_is_refused_before_anything_is_computed(content, style):
    """The smallest scale would have too few pixels."""
    told = []
    with pytest.raises(UsageError, match="would have 17x11 pixels at size 17"):
        nst.stylize(content, style, dataclasses.replace(SETTINGS, scales=(17, 32)), told.append)
    assert told == []


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_resizing_keeps_what_is_smooth(dtype):
    """A ramp stays one, away from the edges; floats beyond 0..255 are not clipped."""
    ramp = np.broadcast_to(np.linspace(0, 250, 26)[None, :, None], (20, 26, 3)).astype(dtype)
    offset = 0 if dtype == "uint8" else -200
    large = images.resize(np.ascontiguousarray(ramp + offset).astype(dtype), 52, 40)
    assert large.shape == (40, 52, 3)
    assert large.dtype == dtype
    expected = (np.arange(52) / 2 - 0.25) * 10 + offset
    assert np.abs(large[20, 8:-8, 0] - expected[8:-8]).max() < 1.01


def test_scales_on_the_command_line(capsys, tmp_path):
    """The last of the scales is the size, unless a size is given too."""
    from minimal_nst import cli

    from conftest import EXAMPLES

    pictures = [
        EXAMPLES / "content" / "chelsea.png",
        EXAMPLES / "style" / "vangogh_langlois_bridge.webp",
    ]
    for arguments, width in ((["--scales", "40,64"], 64), (["--scales=40", "--size=56"], 56)):
        out = tmp_path / f"{width}.png"
        command = ["stylize", *map(str, pictures), "-o", str(out), "--iterations", "2", *arguments]
        assert cli.main(command) == 0
        printed = capsys.readouterr()
        assert "after 4 iterations at 2 scales (" in printed.out
        assert "iteration 4/4" in printed.err
        assert images.load(out).shape[1] == width
    for scales, message in (("9,x", "'9,x'; write sizes"), ("64,40", "larger than the one before")):
        assert cli.main([*command[:5], "--scales", scales]) == 2
        assert message in capsys.readouterr().err
