"""``--dry-run``: the plan is what would be done, and nothing is done."""

from __future__ import annotations

import pytest
from minimal_nst import Settings, cli, images, memory
from minimal_nst.cli import plan
from PIL import Image

from test_cli import CONTENT, STYLE, run

LINE = ["stylize", CONTENT, STYLE, "--size", "64", "--style-scale", "1.5", "--threads", "1"]


def planned(capsys, *arguments):
    """Label -> what is said."""
    code, stdout, stderr = run(capsys, *arguments, "--dry-run")
    assert (code, stderr) == (0, "")
    return {text[:11].strip(): text[11:] for text in stdout.splitlines()}


def test_what_would_be_done(capsys, tmp_path, monkeypatch):
    out = tmp_path / "out.png"
    monkeypatch.setattr(memory, "available", lambda: 2 * 10**10)
    monkeypatch.setattr(plan, "seconds_of_evaluation", lambda *_: 2.0)
    said = planned(capsys, *LINE, "-o", out, "--iterations", "60", "--scales", "32,48")
    shape, seen = images.measure(CONTENT, 64), images.measure(STYLE, 96)
    with Image.open(CONTENT) as picture:
        whole = " x ".join(map(str, picture.size))
    assert said["content"] == f"{CONTENT}, {whole}, painted at 64 x {shape[0]}"
    assert said["style"].endswith(f", seen at {seen[1]} x {seen[0]}")
    assert said["scales"] == "32, 48, 64"
    assert said["optimizer"] == "lbfgs, 60 iterations at each scale"
    assert said["device"] == "cpu, 1 thread"
    need = memory.needed(Settings(size=64), shape, [seen], 1)
    assert said["memory"] == f"about {need / 1e9:.3g} GB, of 20 GB that are free"
    seconds = 60 * 2.0 * (1 + 0.75**2 + 0.5**2)
    assert said["time"] == f"about {seconds / 60:.3g} min; 2 s an evaluation"
    assert said["output"] == str(out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ([], None),
        (["--strips", "3", "--style-layers", "relu1_1", "--content-layers", "relu1_1"], "3"),
        (["--strips", "3"], "1; it is too low for 3"),
        (
            ["--strips", "9", "--style-layers", "pool2", "--content-layers", "relu3_1"],
            "6; it is too low for 9",
        ),
    ],
)
def test_strips_are_those_that_there_would_be(capsys, tmp_path, monkeypatch, more, text):
    """relu3_1 sees 12 rows around each four of the 48 that there are with the margin: room for six."""
    monkeypatch.setattr(plan, "seconds_of_evaluation", lambda *_: 2.0)
    said = planned(capsys, *LINE, "-o", tmp_path / "out.png", *more)
    assert said.get("strips") == text


def test_what_is_there_stays(capsys, tmp_path):
    """The painting, the log and the checkpoint, which the plan speaks of."""
    out, log, kept = (tmp_path / name for name in ("out.png", "run.csv", "run.ckpt"))
    line = [*LINE, "-o", out, "--log", log, "--checkpoint", kept, "--preview", tmp_path / "now.png"]
    assert run(capsys, *line, "--iterations", "3", "-q")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    said = planned(capsys, *line, "--iterations", "7", "--max-seconds", "100")
    assert said["output"] == f"{out}, which is there and would be replaced"
    assert said["checkpoint"] == "3 iterations of 7 are done"
    assert ", at most 1.67 min; " in said["time"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-o", CONTENT], 2, "is one of the inputs"),
        (["-o", "nowhere/out.png"], 3, "there is no folder"),
        (["-o", "out.png", "--size", "60000"], 4, "--size 60000 needs about"),
        (["-o", "out.png", "--content-masks", STYLE, STYLE], 2, "masks"),
        (["-o", "out.png", "--style-weight", "0"], 1, "nothing would be painted: a minimum"),
    ],
)
def test_what_would_be_refused_is(capsys, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    before = "--range-weight", "0", "--margin", "0", "--spectrum", "0"
    result = run(capsys, *LINE, *before, *arguments, "--dry-run")
    assert result[0] == code
    assert message in result[2]
    assert result[2].count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_will_not_fit_is_refused_as_the_run_is(capsys, tmp_path, monkeypatch):
    """What is timed is a few iterations, of which less is remembered: there is room for these."""
    out = tmp_path / "out.png"
    shapes = images.measure(CONTENT, 64), [images.measure(STYLE, 96)], 1
    few, whole = (memory.needed(Settings(size=64, iterations=n), *shapes) for n in (8, 500))
    assert few < whole
    monkeypatch.setattr(memory, "available", lambda: (few + whole) // 2)
    refused = run(capsys, *LINE, "-o", out, "--dry-run")
    assert "--size 64 needs about" in refused[2]
    assert refused[::2] == run(capsys, *LINE, "-o", out)[::2]
    assert refused[0] == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (89.4, "89.4 s"), (90, "1.5 min"), (330, "5.5 min"), (5400, "1.5 h")],
)
def test_durations(seconds, text):
    assert plan.duration(seconds) == text


def test_it_is_no_setting(capsys, tmp_path):
    """A file of options does not ask for it."""
    config = tmp_path / "run.toml"
    config.write_text("dry-run = true\n")
    assert cli.main(["stylize", "--config", str(config)]) == 2
    assert "there is no 'dry-run'" in capsys.readouterr().err
