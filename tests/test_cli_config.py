"""Files of options: the same names, limits and messages as on the command line."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest
from minimal_nst import PRESETS, Settings, cli, images, pipeline
from minimal_nst.cli.config import read_config
from minimal_nst.errors import OutOfMemory

import fuzz
from test_cli import CONTENT, QUICK, STYLE, check_refusal, run


@pytest.fixture
def seen(monkeypatch):
    """What the pipeline is called with."""
    calls = []

    def stylize(content, styles, settings, *_, **__):
        calls.append((content, styles, settings))
        raise OutOfMemory("enough")

    monkeypatch.setattr(pipeline, "stylize", stylize)
    return calls


def write(folder, text):
    path = folder / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_as_good_as_options(seen, tmp_path):
    config = write(
        tmp_path,
        f"""
        content = '{CONTENT}'
        styles = ['{STYLE}', '{CONTENT}']
        output = '{tmp_path / "o.png"}'
        preset = "course"
        size = 99
        style-weight = 7          # with a dash, as it is typed
        style_layers = "relu1_1,relu2_1:0.5"
        style_blend_weights = [2, 1]
        scales = [20, 40]
        force = true
        """,
    )
    assert cli.main(["stylize", "--config", str(config)]) == 4
    expected = Settings.preset(
        "course",
        size=99,
        style_weight=7,
        style_layers={"relu1_1": 1, "relu2_1": 0.5},
        style_blend_weights=(2, 1),
        scales=(20, 40),
        force=True,
    )
    assert seen == [(CONTENT, [STYLE, CONTENT], expected)]


def test_what_is_typed_wins(seen, tmp_path):
    config = write(
        tmp_path, f"size = 99\nstyle_size = 55\nseed = 3\noutput = '{tmp_path}/no/o.png'"
    )
    args = ["stylize", CONTENT, STYLE, "--config", config, "-o", tmp_path / "o.png"]
    assert cli.main([*map(str, args), "--width", "80", "--style-scale", "2"]) == 4
    assert seen[0][2] == Settings(size=80, style_scale=2, seed=3)
    assert cli.main([*map(str, args), "--preset", "course", "--size", "50"]) == 4
    assert seen[1][2] == Settings.preset("course", size=50, style_size=55, seed=3)


def test_what_has_no_effect_may_stand_in_a_file_but_is_not_typed(capsys, seen, tmp_path):
    config = write(tmp_path, "seed = 3\nlearning_rate = 5")
    args = ["stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", "--config", config]
    assert run(capsys, *args)[0] == 4
    code, _, stderr = run(capsys, *args, "--seed", "4")
    assert (code, "--seed does nothing here" in stderr) == (2, True)


@pytest.mark.parametrize("preset", PRESETS)
def test_dump_and_read_again(capsys, seen, tmp_path, preset):
    args = ["--preset", preset, "--width", "96", "--style-layers", "relu1_1:0.5,conv2_1"]
    pictures = [CONTENT, STYLE, STYLE, "-o", str(tmp_path / 'a "b" \\ \x7f é 🎨.png')]
    code, text, stderr = run(capsys, "stylize", *pictures, *args, "--dump-config")
    assert (code, stderr, seen, text.isascii()) == (0, "", [], True)
    config = write(tmp_path, text)
    assert cli.main(["stylize", *pictures, *args]) == 4
    assert cli.main(["stylize", "--config", str(config)]) == 4
    assert seen[0] == seen[1]
    assert set(tomllib.loads(text)) == {
        *("content", "styles", "output", "preset", "width", "style_layers")
    }
    # uncommented, everything is there and still the same
    whole = [line.removeprefix("# ") for line in text.splitlines()[1:] if "=" in line]
    config = write(tmp_path, "\n".join(line for line in whole if not line.endswith("=")))
    assert cli.main(["stylize", "--config", str(config)]) == 4
    assert seen[2] == seen[0]
    assert {line.partition(" =")[0] for line in whole} >= {
        field.name for field in dataclasses.fields(Settings)
    }


def test_no_digit_is_lost(capsys, seen, tmp_path):
    given = ["--style-layers", f"relu1_1:{1 / 3}", "--style-blend-weights", f"1,{2 / 3}"]
    args = ["stylize", CONTENT, STYLE, STYLE, "-o", str(tmp_path / "o.png"), *given]
    config = write(tmp_path, run(capsys, *args, "--tv-weight", 0.1 + 0.2, "--dump-config")[1])
    assert cli.main(["stylize", "--config", str(config)]) == 4
    assert seen[0][2] == Settings(
        style_layers={"relu1_1": 1 / 3}, style_blend_weights=(1, 2 / 3), tv_weight=0.1 + 0.2
    )


def test_no_layers_at_all(capsys, tmp_path):
    """An empty list may be given in Python, and stand in a file; as it is printed it can be read again."""
    config = write(tmp_path, "style_layers = []")
    code, text, _ = run(capsys, "stylize", "--config", config, "--dump-config")
    assert (code, tomllib.loads(text)) == (0, {"style_layers": []})


def test_an_editors_mark_at_the_beginning(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("size = 99", encoding="utf-8-sig")
    assert read_config(str(path)) == {"size": 99}


def test_a_painting_by_file(capsys, tmp_path):
    config = write(tmp_path, f"output = '{tmp_path}/o.png'\nquiet = true")
    assert run(capsys, "stylize", CONTENT, STYLE, *QUICK, "--config", config) == (0, "", "")
    assert images.load(tmp_path / "o.png").shape == (25, 64, 3)


WRONG = {
    "there is no 'sice'; did you mean size?": "sice = 3",
    "there is no 'Style-Weigth'; did you mean style_weight?": "Style-Weigth = 3",
    "size is 8; it must be a whole number, between 16": "size = 8",
    "size is 'big'; it must be": 'size = "big"',
    "size is True; it must be": "size = true",
    "style-size is 1.5; it must be": "style-size = 1.5",
    "pooling is 'l2'; it can be max, avg": 'pooling = "l2"',
    "preset is 'monet'; it can be default, balanced, gatys": 'preset = "monet"',
    "style_layers: VGG-19 has no layer 'relu9_1'": 'style_layers = "relu9_1"',
    "scales: scales are [3]; each": "scales = [3]",
    "content is 3; write": "content = 3",
    "styles is []; write": "styles = []",
    "styles is [3]; write": "styles = [3]",
    "quiet is 'yes'; it must be True or False": 'quiet = "yes"',
    "not a file of options in TOML: ": "size 3",
    "in TOML: Cannot overwrite a value": "size = 99\nsize = 99",
    "there is no 'size'; did": None,
}


@pytest.mark.parametrize("message", WRONG)
def test_a_file_that_cannot_be_used(capsys, tmp_path, message):
    folder = tmp_path / "out"
    folder.mkdir()
    text = WRONG[message]
    if text is None:
        message, text = "size is {'a': 3}; it must be", "[size]\na = 3"
    config = write(tmp_path, text)
    args = ["stylize", CONTENT, STYLE, "-o", folder / "o.png", "--config", config]
    result = run(capsys, *args)
    check_refusal(result, 2, message, folder)
    assert f"error: {config}: " in result[2]


def test_a_file_that_cannot_be_read(capsys, tmp_path):
    for path, code, message in (
        (tmp_path / "none.toml", 3, "none.toml: cannot be read (No such file"),
        (tmp_path, 3, "cannot be read (Is a directory)"),
        (STYLE, 2, "not a file of options: its text is not UTF-8"),
    ):
        found, _, stderr = run(capsys, "stylize", "--config", path)
        assert (found, message in stderr, stderr.count("\n")) == (code, True, 1)


def test_later_messages_have_the_names_of_the_file(capsys, tmp_path):
    """What is only seen beside the pictures: their number, their form."""
    config = write(tmp_path, "style_blend_weights = [1, 2]")
    args = ["stylize", CONTENT, STYLE, "-o", tmp_path / "o.png"]
    assert "error: style_blend_weights are 1,2, for 1" in run(capsys, *args, "--config", config)[2]
    typed = run(capsys, *args, "--style-blend-weights", "1,2")[2]
    assert "error: --style-blend-weights are 1,2, for 1" in typed


def test_files_at_random():
    """A few; ``python tests/fuzz.py`` tries many more."""
    assert fuzz.options(150, seed=6) == []


def test_keys_with_dashes_are_the_same(tmp_path):
    assert read_config(str(write(tmp_path, "style-size = 55"))) == {"style_size": 55}
