"""A painting says how it was made, is made again from that, and keeps what is transparent."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from minimal_nst import __version__, cli, images, record, saving
from minimal_nst.errors import FileError, NSTWarning
from PIL import Image

from test_cli import CONTENT, QUICK, STYLE, run

SUFFIXES = ["png", "jpg", "webp", "tiff"]


def paint(*args):
    assert cli.main(["stylize", *map(str, args), "-q"]) == 0


@pytest.fixture
def painting(tmp_path):
    path = tmp_path / "first.png"
    paint(CONTENT, STYLE, "-o", path, *QUICK, "--preset", "course", "--seed", "5")
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_painting_says_how_it_was_made(capsys, tmp_path, suffix):
    secret = tmp_path / "secret folder"
    secret.mkdir()
    style = Path(shutil.copy(STYLE, secret / "é style.webp"))
    path = tmp_path / f"o.{suffix}"
    paint(CONTENT, STYLE, style, "-o", path, *QUICK, "--style-blend-weights", "3,1")
    code, text, stderr = run(capsys, "show", path, "--json")
    assert (code, stderr) == (0, "")
    found = json.loads(text)
    assert found["settings"]["size"] == 64
    assert found["settings"]["style_blend_weights"] == [3, 1]
    assert found["preset"] == "default"
    assert found["versions"]["minimal_nst"] == __version__
    assert [entry["name"] for entry in found["styles"]] == [Path(STYLE).name, "é style.webp"]
    digest = hashlib.sha256(Path(CONTENT).read_bytes()).hexdigest()
    assert found["content"] == {"name": Path(CONTENT).name, "sha256": digest}
    assert found["result"]["iterations"] == 2
    assert found["result"]["evaluations"] >= 3
    raw = path.read_bytes()
    for private in (b"secret folder", str(tmp_path).encode(), os.path.expanduser("~/").encode()):
        assert private not in raw
    code, text, _ = run(capsys, "show", path)
    assert '\nstyle_blend_weights = "3,1"\n' in text
    assert "\n# style_weight = 1000.0\n" in text
    config = tmp_path / "c.toml"
    config.write_text(text, encoding="utf-8")
    again = tmp_path / f"again.{suffix}"
    paint(CONTENT, STYLE, style, "-o", again, "--config", config)
    assert again.read_bytes() == raw


SCALED = ["--scales", "48,64", "--noise-ratio", "0.3", "--seed", "7"]


@pytest.mark.parametrize(
    ("suffix", "how"), [("png", SCALED), *((suffix, ["--preset", "course"]) for suffix in SUFFIXES)]
)
def test_from_a_painting_the_same_painting(tmp_path, suffix, how):
    first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
    paint(CONTENT, STYLE, "-o", first, *QUICK, *how)
    paint(CONTENT, STYLE, "-o", second, "--from", first)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_typed_wins_over_a_record(capsys, painting, tmp_path):
    second = tmp_path / "second.png"
    paint(CONTENT, STYLE, "-o", second, "--from", painting, "--width", "48", "--iterations", "1")
    assert images.load(second).shape[1] == 48
    settings = record.read(second)["settings"]
    assert (settings["optimizer"], settings["seed"], settings["iterations"]) == ("adam", 5, 1)
    args = ["stylize", CONTENT, STYLE, "-o", second, "--from", painting, "--preset", "gatys"]
    code, _, stderr = run(capsys, *args)
    assert (code, "a preset and --from both say what is painted" in stderr) == (2, True)


def test_other_pictures_or_versions_are_told(capsys, painting, tmp_path, monkeypatch):
    second = tmp_path / "second.png"
    args = ["stylize", CONTENT, CONTENT, "-o", second, "--from", painting, "-q"]
    monkeypatch.setattr(record, "__version__", "9.9")
    code, _, stderr = run(capsys, *args)
    lines = stderr.splitlines()
    assert code == 0
    assert [line.partition("same: ")[2] for line in lines] == [
        "styles: another file than the record's",
        f"minimal_nst 9.9 instead of {__version__}",
    ]


def test_a_start_that_is_added_is_meant(capsys, painting, tmp_path):
    """A painting that goes on begins with itself, of which its record knows nothing."""
    second = tmp_path / "second.png"
    args = ["stylize", CONTENT, STYLE, "-q", "--from"]
    assert run(capsys, *args, painting, "--init", painting, "-o", second) == (0, "", "")
    code, _, stderr = run(capsys, *args, second, "--init", second, "-o", tmp_path / "third.png")
    assert (code, stderr.count("init: another file than the record's")) == (0, 1)


def test_without_a_record(capsys, tmp_path):
    path = tmp_path / "o.png"
    paint(CONTENT, STYLE, "-o", path, *QUICK, "--no-metadata")
    assert b"minimal_nst" not in path.read_bytes()
    for args in (["show", path], ["stylize", CONTENT, STYLE, "-o", path, "--from", CONTENT]):
        code, _, stderr = run(capsys, *args)
        assert code == 3
        assert "has no record of how it was painted" in stderr
        assert stderr.count("\n") == 1
    assert run(capsys, "show", "no.png")[0] == 3
    assert run(capsys, "show", __file__)[0] == 3


def test_a_start_that_is_a_picture_has_to_be_given_again(capsys, tmp_path):
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    paint(CONTENT, STYLE, "-o", first, *QUICK, "--init", STYLE)
    found = record.read(first)
    assert found["settings"]["init"] == found["init"]["name"] == Path(STYLE).name
    args = ["stylize", CONTENT, STYLE, "-o", second, "--from", first]
    code, _, stderr = run(capsys, *args)
    assert code == 2
    assert f"it began from the picture '{Path(STYLE).name}'; give that with --init" in stderr
    paint(*args[1:], "--init", STYLE)
    assert first.read_bytes() == second.read_bytes()
    assert run(capsys, "show", first)[0] == 0


def test_an_unfinished_painting_has_a_record_too(capsys, monkeypatch, out):
    def fail_at_the_second(bar, progress):
        if progress.iteration == 2:
            raise MemoryError

    monkeypatch.setattr("minimal_nst.cli.progress.Bar.update", fail_at_the_second)
    code, _, _ = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK)
    assert code == 4
    assert record.read(out)["result"]["iterations"] == 2


def test_scales_that_a_preset_has_and_the_painting_not(capsys, tmp_path):
    """'none' can be typed, is repeated, and stands in a file of options as it is read."""
    first, second, third = (tmp_path / f"{k}.png" for k in range(3))
    size = ["--size", "40", "--iterations", "9"]
    paint(CONTENT, STYLE, "-o", first, "--preset", "crowsonkb", "--scales", "none", *size)
    paint(CONTENT, STYLE, "-o", second, "--from", first)
    _, shown, _ = run(capsys, "show", first)
    assert '\nscales = "none"\n' in shown
    options = tmp_path / "shown.toml"
    options.write_text(shown, encoding="utf-8")
    paint(CONTENT, STYLE, "-o", third, "--config", options)
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    _, dumped, _ = run(capsys, "stylize", "--preset", "crowsonkb", "--dump-config")
    assert '\n# scales = "auto"\n' in dumped


def written(path, text):
    saving.save(np.zeros((20, 20, 3), "uint8"), path, None, text)
    return path


RESULT = '{"settings": {}, "content": {}, "styles": [], "versions": {}, "result": []}'
HOSTILE = {
    "has no record": ["", "{", "[]", "3", '{"settings": 3}', RESULT, "[" * 10**5],
    "which this program does not know": ["output", "weights", "device", "force", "no_such"],
    "it began from the picture": [("init", "/etc/passwd"), ("init", 3)],
    "size is 10000": [("size", 10**6)],
    "pooling is": [("pooling", "\x1b[31m"), ("pooling", None)],
    "style_layers: ": [("style_layers", "relu9_9"), ("style_layers", {"a": []})],
    "style_weight is ": [("style_weight", float("nan")), ("style_weight", "1")],
}


@pytest.mark.parametrize("message", HOSTILE)
def test_a_record_is_a_strangers(capsys, painting, tmp_path, message):
    good = json.loads(images.description(painting))
    target = tmp_path / "o.png"
    for case in HOSTILE[message]:
        name, value = case if isinstance(case, tuple) else (case, "x")
        text = name
        if message != "has no record":
            text = json.dumps({**good, "settings": {**good["settings"], name: value}})
        picture = written(tmp_path / "bad.png", text)
        args = ["stylize", CONTENT, STYLE, "-o", target, "--from", picture, "--iterations", "1"]
        code, _, stderr = run(capsys, *args)
        if value is None:  # as if it were not there
            assert code == 0
            target.unlink()
            continue
        assert code in (2, 3)
        assert message in stderr
        assert stderr.count("\n") == 1
        assert "\x1b" not in stderr
        assert not target.exists()


def test_a_preset_that_is_not_known(capsys, painting, tmp_path):
    good = json.loads(images.description(painting))
    for preset in ("monet", None, ["x"]):
        picture = written(tmp_path / "bad.png", json.dumps({**good, "preset": preset}))
        code, _, stderr = run(capsys, "show", picture)
        assert (code, "bad.png: preset is" in stderr, stderr.count("\n")) == (2, True, 1)


def test_a_record_that_is_too_long_for_a_jpeg_costs_no_painting(tmp_path):
    image = np.zeros((20, 20, 3), "uint8")
    for suffix in SUFFIXES:
        path = tmp_path / f"o.{suffix}"
        if suffix == "jpg":
            with pytest.warns(NSTWarning, match="no room for a record of 70000 characters"):
                saving.save(image, path, None, "x" * 70_000)
            assert images.description(path) == ""
            saving.save(image, path, None, "x" * saving.JPEG_TEXT)
            assert len(images.description(path)) == saving.JPEG_TEXT
        else:
            saving.save(image, path, None, "x" * 70_000)
            assert len(images.description(path)) == 70_000


def test_a_description_of_another_program(tmp_path):
    for suffix in SUFFIXES:
        path = written(tmp_path / f"o.{suffix}", "a castle")
        assert images.description(path) == "a castle"
        with pytest.raises(FileError, match="has no record"):
            record.read(path)


@pytest.fixture
def leaf(tmp_path):
    """A picture that is opaque on the left, half transparent in the middle, and then nothing."""
    alpha = np.zeros((30, 60), "uint8")
    alpha[:, :20], alpha[:, 20:40] = 255, 128
    image = Image.open(CONTENT).convert("RGB").resize((60, 30))
    image.putalpha(Image.fromarray(alpha))
    image.save(tmp_path / "leaf.png")
    return tmp_path / "leaf.png"


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_what_is_transparent_stays_so(leaf, tmp_path, suffix):
    path = tmp_path / f"o.{suffix}"
    paint(leaf, STYLE, "-o", path, "--size", "120", "--iterations", "1")
    with Image.open(path) as image:
        assert image.mode == "RGBA"
        alpha = np.asarray(image.getchannel("A"))
    assert alpha.shape == (60, 120)
    for columns, value in ((slice(0, 30), 255), (slice(50, 70), 128), (slice(90, 120), 0)):
        np.testing.assert_allclose(alpha[:, columns], value, atol=1)
    paint(leaf, STYLE, "-o", path, "--size", "60", "--iterations", "1", "--no-alpha")
    with Image.open(path) as image:
        assert image.mode == "RGB"


def test_a_jpeg_cannot_be_transparent_and_says_so(capsys, leaf, tmp_path):
    args = ["stylize", leaf, STYLE, "-o", tmp_path / "o.jpg", "--size", "60", "--iterations", "1"]
    code, _, stderr = run(capsys, *args, "-q")
    assert code == 0
    assert "o.jpg: a JPEG is nowhere transparent, as " in stderr
    assert run(capsys, *args, "-q", "--no-alpha") == (0, "", "")


def test_opacity_of_any_picture(leaf, tmp_path):
    with Image.open(leaf) as image:
        image.load()
    expected = images.opacity(leaf, 15, 30)
    assert expected.shape == (15, 30)
    np.testing.assert_array_equal(images.opacity(image, 15, 30), expected)
    np.testing.assert_array_equal(images.opacity(np.asarray(image), 15, 30), expected)
    assert images.opacity(np.zeros((20, 20)), 20, 20) is None
    assert images.opacity(CONTENT, 15, 30) is None
    opaque = image.copy()
    opaque.putalpha(255)
    assert images.opacity(opaque, 15, 30) is None
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    image.save(tmp_path / "turned.png", exif=exif)
    turned = images.opacity(tmp_path / "turned.png", 30, 15)
    np.testing.assert_array_equal(turned, np.rot90(expected, -1))
    palette = image.convert("P")
    palette.info["transparency"] = 0
    palette.save(tmp_path / "palette.png")
    assert images.opacity(tmp_path / "palette.png", 15, 30) is not None
