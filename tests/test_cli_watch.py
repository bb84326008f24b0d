"""What can be watched: the losses apart, a log, numbered pictures, a preview."""

from __future__ import annotations

import csv
import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from minimal_nst import Settings, cli, images, record, saving, stylize
from minimal_nst.cli import progress, watch
from minimal_nst.objective import by_kind

from conftest import SHALLOW
from test_cli import CONTENT, QUICK, STYLE, check_refusal, run

LONGER = [*QUICK, "--iterations", "6"]


def test_time_left_is_told_from_the_second_iteration_on(monkeypatch, capsys):
    """What comes before the first, as a GPU's compiler does, happens once, and says nothing of the next."""
    clock = iter([0, 100, 115, 130])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = progress.Bar(5, quiet=False)
    for iteration in (1, 2, 3):
        bar.update(
            SimpleNamespace(iteration=iteration, iterations=5, loss=1.5, terms=[{"tv": 1.5}])
        )
    assert capsys.readouterr().err.splitlines() == [
        "iteration 1/5, loss 1.5 (tv 1.5e0)",
        "iteration 2/5, loss 1.5 (tv 1.5e0), 45 s left",
        "iteration 3/5, loss 1.5 (tv 1.5e0), 30 s left",
    ]


def test_what_a_callback_is_told(content, style):
    """The terms of each evaluation, at each scale, and the painting as it would be returned now."""
    seen = []

    def callback(progress):
        assert sum(progress.terms[-1].values()) >= progress.minimum.loss
        seen.append((progress.iteration, progress.size, len(progress.terms), progress.painting))

    settings = Settings(
        size=64, scales=(32,), iterations=3, tv_weight=1, colors="luminance", **SHALLOW
    )
    painting = stylize(content, style, settings, callback)
    assert [(number, size) for number, size, *_ in seen] == [
        *((1, 32), (2, 32), (3, 32), (4, 64), (5, 64), (6, 64)),
    ]
    assert all(so_far.image.shape == (43, 64, 3) for *_, so_far in seen)
    np.testing.assert_array_equal(seen[-1][3].image, painting.image)
    assert (seen[0][3].image != painting.image).any()
    for scale in (*painting.coarser, painting):
        assert [sum(terms.values()) for terms in scale.terms] == scale.losses
    assert set(by_kind(painting.terms[0])) == {"content", "style", "tv", "range"}
    assert sum(by_kind(painting.terms[3]).values()) == pytest.approx(painting.losses[3])


def test_the_losses_are_shown_apart(capsys, out):
    _, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK, "--tv-weight", "1")
    (line,) = stderr.splitlines()
    terms = [term.split() for term in line.partition("(")[2].partition(")")[0].split(", ")]
    assert [kind for kind, _ in terms] == ["content", "style", "tv", "range"]
    total = float(line.partition("loss ")[2].partition(" ")[0])
    assert sum(float(loss) for _, loss in terms) == pytest.approx(total, rel=0.1)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_log(tmp_path, suffix):
    log, picture = tmp_path / f"log.{suffix}", tmp_path / "o.png"
    log.write_text("an older one")
    args = ["stylize", CONTENT, STYLE, "-o", picture, *LONGER, "--scales", "48", "-q"]
    assert cli.main([*map(str, args), "--tv-weight", "0.5", "--log", str(log)]) == 0
    with open(log, encoding="utf-8", newline="") as file:
        if suffix == "csv":
            rows = [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)
            ]
        else:
            rows = [json.loads(line) for line in file]
    names = ["evaluation", "size", "seconds", "loss", "content", "style", "tv", "range"]
    assert list(rows[0])[:9] == [*names, "content:relu2_2"]
    assert [row["evaluation"] for row in rows] == list(range(1, len(rows) + 1))
    assert [row["size"] for row in rows] == sorted(row["size"] for row in rows)
    at = [[row for row in rows if row["size"] == size] for size in (48, 64)]
    assert len(at[1]) == record.read(picture)["result"]["evaluations"]
    assert min(row["loss"] for row in at[1]) == record.read(picture)["result"]["loss"]
    for row in rows:
        layers = [value for name, value in row.items() if name.startswith("style:")]
        assert len(layers) == 2
        assert sum(layers) == pytest.approx(row["style"])
        kinds = [row[kind] for kind in ("content", "style", "tv", "range")]
        assert sum(kinds) == pytest.approx(row["loss"])


def test_a_log_is_written_as_it_goes_and_to_its_end(tmp_path, monkeypatch):
    """After each iteration all evaluations so far are in the file; an error takes none away."""
    log = tmp_path / "log.jsonl"
    lines = []

    def callback(bar, progress):
        lines.append(len(log.read_text().splitlines()) if log.exists() else 0)
        if progress.iteration == 3:
            raise MemoryError

    monkeypatch.setattr("minimal_nst.cli.progress.Bar.update", callback)
    args = ["stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", *LONGER, "-q", "--log", log]
    assert cli.main([str(arg) for arg in args]) == 4
    assert 0 == lines[0] < 2 <= lines[1] < lines[2] < len(log.read_text().splitlines())


def test_numbered_pictures(tmp_path):
    picture = tmp_path / "o.png"
    args = ["stylize", CONTENT, STYLE, "-o", picture, *LONGER, "-q", "--save-every", "2"]
    assert cli.main([str(arg) for arg in args]) == 0
    assert sorted(os.listdir(tmp_path)) == [
        *("o-00002.png", "o-00004.png", "o-00006.png", "o.png"),
    ]
    two, four, six, last = (images.load(path) for path in sorted(tmp_path.iterdir()))
    np.testing.assert_array_equal(six, last)
    assert (two != four).any()
    assert (four != six).any()
    assert record.read(tmp_path / "o-00004.png")["result"]["iterations"] == 4


def test_preview(tmp_path, monkeypatch):
    """Rewritten in place, but not more often than one would look."""
    preview = tmp_path / "now.jpg"
    args = ["stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", *LONGER, "-q"]
    args = [*map(str, args), "--preview", str(preview)]
    saved = []
    save = saving.save
    monkeypatch.setattr(saving, "save", lambda i, path, *a: saved.append(path) or save(i, path, *a))
    for pause, times in ((10**6, 1), (0, 6)):
        saved.clear()
        monkeypatch.setattr(watch, "SECONDS_BETWEEN_PREVIEWS", pause)
        assert cli.main(args) == 0
        assert saved.count(preview) == times
    assert images.load(preview).shape == (25, 64, 3)
    assert not list(tmp_path.glob(".*"))


def test_a_place_that_becomes_unusable_does_not_end_the_painting(capsys, tmp_path, monkeypatch):
    """It is told once for each; the painting is whole, and the preview comes back with its place."""
    folder = tmp_path / "watched"
    folder.mkdir()
    update = watch.Watch.update

    def and_remove(self, progress):
        if progress.iteration == 2:
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
        if progress.iteration == 5:
            folder.mkdir()
        update(self, progress)

    monkeypatch.setattr(watch.Watch, "update", and_remove)
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_PREVIEWS", 0)
    args = ["stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", *LONGER, "-q"]
    places = ["--preview", folder / "p.png", "--log", folder / "l.csv"]
    code, _, stderr = run(capsys, *args, *places)
    assert code == 0
    lines = stderr.splitlines()
    assert [line.rpartition("; ")[2] for line in lines] == [
        "it is painted on without",
        "it is painted on and tried again",
    ]
    assert [path.name for path in folder.iterdir()] == ["p.png"]
    assert images.load(tmp_path / "o.png").shape == (25, 64, 3)


BAD = {
    "a log is a .csv or a .jsonl": ["--log", "{}/l.txt"],
    "there is no folder": ["--log", "{}/no/l.csv"],
    "cannot write '.gif'": ["--preview", "{}/p.gif"],
    "is one of the inputs": ["--preview", STYLE],
    "o.png is the painting and the preview": ["--preview", "{}/o.png"],
    "--save-every: '0' cannot be used; it must be a whole number, 1 or more": ["--save-every", "0"],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_places(capsys, tmp_path, message):
    args = [arg.format(tmp_path) for arg in BAD[message]]
    result = run(capsys, "stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", *QUICK, *args)
    check_refusal(result, 3 if "folder" in message else 2, message, tmp_path)


def test_numbered_pictures_replace_no_input(capsys, tmp_path):
    for name in ("o", "[o]"):
        style = tmp_path / f"{name}-00002.png"
        saving.save(images.load(STYLE, 64), style)
        before = style.read_bytes()
        painting = tmp_path / f"{name}.png"
        code, _, stderr = run(
            capsys, "stylize", CONTENT, style, "-o", painting, *QUICK, "--save-every", "1"
        )
        assert (code, f"{name}-00002.png is one of the inputs" in stderr) == (2, True)
        assert style.read_bytes() == before
