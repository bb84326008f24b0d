"""How large a painting becomes, whichever way it is asked for."""

from __future__ import annotations

import dataclasses

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import images
from minimal_nst.errors import UsageError
from minimal_nst.sizes import each_scale, settle, style_size
from PIL import Image


def painted(content, **how):
    """Height and width of the painting."""
    return images.measure(content, settle(nst.Settings(**how), content).longer)


@pytest.mark.parametrize(
    ("how", "shape"),
    [
        ({}, (256, 384)),
        ({"size": 100}, (67, 100)),
        ({"size": "original"}, (402, 603)),
        ({"width": 300}, (200, 300)),
        ({"height": 300}, (300, 450)),
        ({"width": 300, "height": 300}, (200, 300)),
        ({"width": 300, "height": 100}, (100, 150)),
        ({"size_pixels": 150_000}, (316, 474)),
        ({"size_pixels": 150_000, "size": 50}, (316, 474)),
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_every_way_of_saying_how_large(how, shape, turned):
    content = np.zeros((402, 603, 3), "uint8")
    if turned:
        content = content.transpose(1, 0, 2)
        swap = {"width": "height", "height": "width"}
        how = {swap.get(name, name): value for name, value in how.items()}
        shape = shape[::-1]
    assert painted(content, **how) == shape


@pytest.mark.parametrize("seed", range(20))
def test_the_side_that_was_asked_for_is_met_exactly(seed):
    rng = np.random.default_rng(seed)
    content = Image.new("RGB", tuple(int(side) for side in rng.integers(100, 2000, 2)))
    wanted = int(rng.integers(400, 900))
    assert painted(content, width=wanted)[1] == wanted
    assert painted(content, height=wanted)[0] == wanted


def test_a_telephones_picture_lies_on_its_side_in_the_file(tmp_path):
    """Its width is what one sees, measured or loaded."""
    image = Image.new("RGB", (300, 200))
    for orientation, shape in ((1, (200, 300)), (3, (200, 300)), (6, (300, 200)), (8, (300, 200))):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix in ("jpg", "png", "webp", "tiff"):
            path = tmp_path / f"{orientation}.{suffix}"
            image.save(path, exif=exif)
            assert images.measure(path) == images.load(path).shape[:2] == shape
            assert painted(path, width=100)[1] == 100


def test_style_pictures_follow_the_painting():
    settings = nst.Settings(size=200, style_scale=0.5, scales=(50, 100))
    assert [style_size(scale) for scale in each_scale(settings)] == [
        *((25, "style_scale"), (50, "style_scale"), (100, "style_scale")),
    ]
    sized = dataclasses.replace(settings, style_size=80)
    assert [style_size(scale)[0] for scale in each_scale(sized)] == [20, 40, 80]
    assert style_size(nst.Settings(size=200)) == (200, "size")
    assert style_size(nst.Settings(size=20, style_scale=0.1))[0] == 16


def test_it_is_painted_so(content, style):
    painting = nst.stylize(content, style, nst.Settings(height=32, iterations=1))
    assert painting.image.shape == (32, 48, 3)
    original = nst.Settings(size="original", scales=(24, 36), iterations=1)
    assert nst.stylize(content, style, original).image.shape == content.shape
    with pytest.raises(
        UsageError, match="scales are 24,99, the painting's longer side is 72; none can be larger"
    ):
        nst.stylize(content, style, dataclasses.replace(original, scales=(24, 99)))


def test_broader_strokes_from_larger_style_pictures(content, style):
    """--style-scale 2 is --style-size twice the size."""
    settings = nst.Settings(size=40, iterations=1)
    scaled = nst.stylize(content, style, dataclasses.replace(settings, style_scale=2))
    sized = nst.stylize(content, style, dataclasses.replace(settings, style_size=80))
    assert scaled.losses == sized.losses
    assert scaled.losses != nst.stylize(content, style, settings).losses
