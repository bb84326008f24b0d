"""Pictures of every kind come in right, wrong ones with one clear line."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from minimal_nst import images, saving
from minimal_nst.errors import FileError, NSTError, UsageError
from minimal_nst.settings import FILTERS
from PIL import Image, ImageCms

import fuzz
from conftest import EXAMPLES, ROOT, posix


@pytest.mark.parametrize("suffix", [*saving.WRITABLE, ".bmp"])
def test_every_format_is_read(picture, tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    Image.fromarray(picture).save(path)
    loaded = images.load(path)
    assert loaded.dtype == np.uint8
    tolerance = 12 if suffix in (".jpg", ".jpeg", ".webp") else 0
    assert np.abs(loaded.astype(int) - picture).max() <= tolerance


def test_all_examples_load():
    paths = sorted(p for folder in ("content", "style") for p in (EXAMPLES / folder).iterdir())
    assert len(paths) == 11
    for path in paths:
        assert max(images.load(path, 64).shape) == 64


def test_exif_orientation(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path, exif=exif)
    assert (images.load(path) == np.rot90(picture, -1)).all()


def test_grey_bilevel_palette_and_cmyk(picture, tmp_path):
    image = Image.fromarray(picture)
    for mode in ("L", "1", "P"):
        converted = image.convert(mode)
        converted.save(tmp_path / "a.png")
        assert (images.load(tmp_path / "a.png") == np.array(converted.convert("RGB"))).all()
    image.convert("CMYK").save(tmp_path / "a.tiff")
    assert np.abs(images.load(tmp_path / "a.tiff").astype(int) - picture).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB+key"])
def test_transparency_is_composited_on_white(mode, tmp_path):
    """Left half opaque red (or grey), right half fully transparent black."""
    array = np.zeros((16, 16, 4), "uint8")
    array[:, :8] = (204, 0, 0, 255)  # a colour of the web palette
    image, options = Image.fromarray(array), {}
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":
        image, options = image.convert("RGB").convert("P"), {}
        options = {"transparency": int(np.asarray(image)[0, 15])}
    elif mode == "RGB+key":
        image, options = image.convert("RGB"), {"transparency": (0, 0, 0)}
    image.save(tmp_path / "a.png", **options)
    loaded = images.load(tmp_path / "a.png")
    assert (loaded[:, 8:] == 255).all()
    assert (loaded[:, :8] == (61 if mode == "LA" else (204, 0, 0))).all()


def test_half_transparent_black_on_white_is_grey(tmp_path):
    Image.fromarray(np.full((16, 16, 4), (0, 0, 0, 128), "uint8")).save(tmp_path / "a.png")
    assert (images.load(tmp_path / "a.png") == 127).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 256).astype("uint16").reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / f"a{suffix}")
    loaded = images.load(tmp_path / f"a{suffix}")
    assert (loaded[..., 0].ravel() == np.arange(256)).all()
    assert (loaded == loaded[..., :1]).all()


def test_16_bit_rgb_png_is_scaled(tmp_path):
    """Written by hand, as Pillow writes none: 300/65535 is 1/255, and 65535 is white."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    row = b"\0" + struct.pack(">3H", 300, 0, 65535) * 16
    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    png += chunk(b"IDAT", zlib.compress(row * 16)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    assert (images.load(tmp_path / "a.png") == (1, 0, 255)).all()


def test_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("#c80000", "#0000c8")]
    for suffix in (".png", ".webp", ".tiff"):
        path = tmp_path / f"a{suffix}"
        options = {"lossless": True} if suffix == ".webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert (images.load(path) == (200, 0, 0)).all()


def linear_profile() -> bytes:
    """sRGB's primaries with gamma 1: an ICC profile whose curve entries are replaced."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    for i in range(struct.unpack(">I", data[128:132])[0]):
        tag, offset, _ = struct.unpack(">4sII", data[132 + 12 * i : 144 + 12 * i])
        if tag in (b"rTRC", b"gTRC", b"bTRC"):
            data[offset : offset + 16] = b"curv\0\0\0\0" + struct.pack(">IH", 0, 0) + b"\0\0"
    return bytes(data)


def test_colour_profile_is_applied(tmp_path):
    """Linear 55/255 = 0.2157 is 128/255 in sRGB."""
    Image.new("RGB", (16, 16), (55, 55, 55)).save(tmp_path / "a.png", icc_profile=linear_profile())
    assert np.abs(images.load(tmp_path / "a.png").astype(int) - 128).max() <= 1
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (16, 16), (55, 5, 99)).save(tmp_path / "b.png", icc_profile=srgb)
    assert np.abs(images.load(tmp_path / "b.png").astype(int) - (55, 5, 99)).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_broken_or_unfitting_profile_is_ignored(tmp_path, mode):
    path = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    for profile in (b"not a profile" * 20, linear_profile()):
        Image.new(mode, (16, 16), 0).save(path, icc_profile=profile)
        assert images.load(path).shape == (16, 16, 3)


def test_size_is_the_longer_side_and_the_aspect_is_kept(picture):
    assert images.load(picture, 48).shape == (40, 48, 3)
    assert images.load(picture.transpose(1, 0, 2), 48).shape == (48, 40, 3)
    assert (images.load(picture, 24) == picture).all()
    assert np.abs(images.load(picture, 96).mean((0, 1)) - picture.mean((0, 1))).max() < 1


def test_filters():
    """Shrinking, all but `nearest` average; growing, only the two longest go beyond what was."""
    stripes, step = np.full((2, 32, 32, 3), 100, "uint8")
    stripes[:, ::2] = 150
    step[:, 16:] = 150
    beyond = {}
    for name in FILTERS:
        shrunk, grown = (images.load(stripes, 16, resampling=name), images.load(step, 96, "", name))
        assert np.ptp(shrunk[:, 4:-4]) == 0
        assert (shrunk[8, 8, 0] == 125) == (name != "nearest")
        beyond[name] = 100 - int(grown.min())
        assert set(np.unique(grown)) == {100, 150} or name not in ("nearest", "box")
    assert [beyond[name] for name in ("nearest", "box", "bilinear")] == [0, 0, 0]
    assert 0 < beyond["bicubic"] < beyond["lanczos"]
    with pytest.raises(UsageError, match="no filter 'cubic'; there are nearest, box, bilinear"):
        images.load(step, resampling="cubic")


def test_paths_images_and_arrays_are_the_same(picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "a.png")
    for source in (
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        Image.fromarray(picture),
        picture.astype(float) + 0.3,
    ):
        assert (images.load(source) == picture).all()
    assert (images.load(picture[..., 0])[..., 2] == picture[..., 0]).all()


BAD_ARRAYS = {
    "the array is an array of shape (3, 4, 2); pass (H, W, 3)": np.zeros((3, 4, 2)),
    "is an array of shape (9,); pass (H, W, 3)": np.zeros(9),
    "is an array of shape (0, 9, 3), without a pixel": np.zeros((0, 9, 3)),
    "has values from 0.0 to 256.0; scale them": np.eye(20) * 256,
    "has values up to 0.5 only; scale them to 0..255": np.full((20, 20, 3), 0.5),
    "holds values that are not finite": np.full((20, 20), np.nan),
    "holds complex128; pass real numbers": np.full((20, 20), 9j),
    "array has 15x16 pixels; each side needs 16": np.zeros((16, 15, 3)),
}


@pytest.mark.parametrize("message", BAD_ARRAYS)
def test_bad_arrays(message):
    with pytest.raises(UsageError) as error:
        images.load(BAD_ARRAYS[message])
    assert message in str(error.value)


def test_a_picture_that_becomes_too_thin():
    with pytest.raises(
        UsageError, match=r"\(400x16\) would have 100x4 pixels at size 100, .* size 400 or"
    ):
        images.load(np.zeros((16, 400, 3)), 100)


def bad_files(folder: Path) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 50).convert("RGB").save(buffer, "PNG")
    png = buffer.getvalue()
    pcx = io.BytesIO()
    Image.new("L", (20, 20)).save(pcx, "PCX")
    floats = io.BytesIO()
    Image.new("F", (20, 20)).save(floats, "TIFF")
    bomb = bytearray(png)
    bomb[16:24] = struct.pack(">II", 30000, 30000)
    bomb[29:33] = struct.pack(">I", zlib.crc32(bytes(bomb[12:29])))
    return {
        "empty.png": b"",
        "text.jpg": b"hello",
        "cut.png": png[: len(png) // 2],
        "header.png": png[:20],
        "allowed-not.pcx": pcx.getvalue(),
        "cut.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        "float.tiff": floats.getvalue(),
        "bomb.png": bytes(bomb),
    }


def test_bad_files_are_one_clear_line(tmp_path):
    for name, data in bad_files(tmp_path).items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(NSTError) as error:
            images.load(path)
        assert isinstance(error.value, FileError)
        assert str(error.value).startswith(str(path))
        assert "\n" not in str(error.value)
    check_refused("", "is empty")
    with pytest.raises(UsageError, match="None is no picture"):
        images.load(None)
    for path, reason in ((tmp_path / "none.png", "no such picture"), (tmp_path, "is a folder")):
        with pytest.raises(FileError, match=reason):
            images.load(path)


def check_refused(path, reason):
    with pytest.raises(FileError, match=reason):
        images.load(path)
    with pytest.raises(FileError, match=reason):
        images.measure(path)
    with pytest.raises(FileError, match=reason.replace("read", "written")):
        saving.check_output(path)


@posix
def test_pipes_and_loops(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(FileError, match="is no plain file"):
        images.load(tmp_path / "pipe.png")
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    check_refused(loop, r"loop.png: cannot be read \(Too many")


@pytest.mark.parametrize(
    "error", [TypeError("'IFDRational' object"), struct.error("unpack"), ZeroDivisionError()]
)
def test_whatever_a_decoder_raises_is_a_damaged_picture(monkeypatch, tmp_path, picture, error):
    def load(_):
        raise error

    path = tmp_path / "a.tiff"
    Image.fromarray(picture).save(path)
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile.load", load)
    with pytest.raises(FileError, match="damaged picture"):
        images.load(path)


def test_a_folder_that_may_not_be_entered_is_said_so(monkeypatch, tmp_path):
    def exists(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", exists)
    with pytest.raises(FileError, match=r"a.png: cannot be read \(Permission denied\)"):
        images.load(tmp_path / "a.png")


def test_libtiff_prints_nothing(monkeypatch, capfd, tmp_path):
    """It writes to descriptor 2 without asking Python; the mutant lets it."""
    data = bytearray(fuzz.seeds()["deflate.tiff"])
    at = data.index(b"\x78")  # the head of the deflated strip
    data[at : at + 40] = bytes(40)
    path = tmp_path / "a.tiff"
    path.write_bytes(data)
    with pytest.raises(FileError, match="damaged picture"):
        images.load(path)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr(images, "_silence", contextlib.nullcontext)
    with pytest.raises(FileError, match="damaged picture"):
        images.load(path)
    assert capfd.readouterr().err != ""


def test_pillow_prints_nothing(tmp_path):
    """In a process of its own, as pytest listens to what is logged."""
    data = fuzz.seeds()["tiff"]
    three = b"\x15\x01\x03\x00\x01\x00\x00\x00\x03\x00"  # samples of a pixel (tag 277)
    assert data.count(three) == 1
    path = tmp_path / "a.tiff"
    path.write_bytes(data.replace(three, three[:-2] + b"\x52\x00"))
    command = [sys.executable, "-m", "minimal_nst", "show", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1, done.stderr


def test_damaged_pictures_at_random():
    """A few; ``python tests/fuzz.py`` tries many more."""
    assert fuzz.pictures(400, seed=3) == []


def test_measuring_is_loading_without_the_pixels(tmp_path, picture):
    """The same sides and the same refusals, for files, arrays and images."""
    path = tmp_path / "a.png"
    Image.fromarray(picture).save(path)
    for source in (path, picture, Image.fromarray(picture)):
        for size in (None, 20, 99):
            assert images.measure(source, size) == images.load(source, size).shape[:2]
    thin = np.zeros((16, 400, 3))
    for function in (images.load, images.measure):
        with pytest.raises(UsageError, match="at style_size 100, .* choose style_size 400 or more"):
            function(thin, 100, "style_size")
        with pytest.raises(FileError, match="no such picture"):
            function(tmp_path / "none.png")


def test_covering_crops_the_middle():
    """Left and right are dropped from a picture that is too wide; nothing is stretched."""
    wide = np.zeros((20, 60, 3), "uint8")
    wide[:, 20:40] = 200
    assert (images.cover(wide, 20, 20) == 200).all()
    assert images.cover(wide, 30, 10).shape == (10, 30, 3)
    recoloured = images.cover(wide + 100.5, 20, 20)  # which may leave 0..255
    assert recoloured.dtype == np.float64
    np.testing.assert_allclose(recoloured, 300.5)


def test_gif_gives_its_first_frame(tmp_path):
    first, second = Image.new("RGB", (20, 30), "red"), Image.new("RGB", (20, 30), "blue")
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    image = images.load(tmp_path / "two.gif")
    assert image.shape == (30, 20, 3)
    assert (image == [255, 0, 0]).all()


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_avif_and_heic_are_read_as_they_were(tmp_path, kind):
    if kind == "HEIF":
        pillow_heif.register_heif_opener()
    across, down = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
    picture = np.stack([across, down, 255 - across], axis=-1).astype(np.uint8)
    path = tmp_path / f"picture.{kind.lower()}"
    Image.fromarray(picture).save(path, kind, quality=95)
    assert images.measure(path) == (48, 64)
    assert np.abs(images.load(path).astype(float) - picture).mean() < 4


def test_heic_without_its_package(tmp_path, monkeypatch):
    pillow_heif.register_heif_opener()
    Image.new("RGB", (20, 20)).save(tmp_path / "a.heic", "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(FileError, match=r"a.heic: is a HEIC picture.*minimal_nst\[heif\]"):
        images.load(tmp_path / "a.heic")
