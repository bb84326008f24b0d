"""A run that is ended anywhere, and gone on with, is the run that was never ended."""

from __future__ import annotations

import csv
import itertools
import json
import pickle

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import checkpoint as module, cli, images, pipeline
from minimal_nst.backend import CPU
from minimal_nst.checkpoint import Checkpoint
from minimal_nst.cli import watch
from minimal_nst.coordinates import bands, frequencies
from minimal_nst.errors import FileError, UsageError
from minimal_nst.optimize import minimize

from conftest import SHALLOW, SHALLOW_OPTIONS
from test_cli import CONTENT, STYLE, run
from test_optimize import quadratic, rosenbrock

OF_ALL = ("best_x", "best_loss", "losses", "iterations", "evaluations")
EXACT = ("own-lbfgs", "adam")
SMALL = nst.Settings(size=48, iterations=9, margin=4, optimizer="own-lbfgs", history=4, **SHALLOW)

DEEP = {name: getattr(nst.Settings(), name) for name in SHALLOW} | {"iterations": 7}


def rough(x):
    """Of many valleys, so that line searches need several trials."""
    loss, g = quadratic(x)
    wave = 40 * np.cos(3 * x)
    return float(loss + wave.sum()), g - 120 * np.sin(3 * x)


def ended_and_gone_on_with(f, x0, evaluations, **options):
    """The end of a run that was stopped after so many evaluations, and begun again."""
    memory, asked = {}, itertools.count(1)
    minimize(f, x0, stop=lambda: next(asked) >= evaluations, memory=memory, **options)
    return minimize(f, x0, memory=memory, **options)


def same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    assert one.loss == other.loss
    assert one.losses == other.losses
    assert one.iterations == other.iterations
    assert one.stopped_because == other.stopped_because


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("f", [quadratic, rough, rosenbrock])
def test_to_the_last_bit_wherever_it_was_ended(method, f):
    """Between any two evaluations: within line searches, before pairs are forgotten, at the end."""
    x0 = np.linspace(-1.2, 1, 2 if f is rosenbrock else 30)
    options = {"method": method, "iterations": 25, "history": 5, "learning_rate": 0.3}
    whole = minimize(f, x0, **options)
    for evaluations in range(1, whole.evaluations + 2):
        same(ended_and_gone_on_with(f, x0, evaluations, **options), whole)


def test_what_the_metric_has_learnt_goes_on_too(rng):
    """Of waves, in float32, of which pairs are kept in 8 bits."""
    f = np.sort(frequencies(9, 16).ravel()).reshape(-1, 16)
    scale = rng.uniform(1, 50, f.shape)

    def function(x):
        return float((scale * (x - 3) ** 2).sum()), (2 * scale * (x - 3)).astype("float32")

    zeros = np.zeros(scale.shape)
    run = lambda **more: minimize(
        function, zeros, "own-lbfgs", 12, metric=bands(f, "float32", CPU), **more
    )
    whole = run()
    for evaluations in range(2, whole.evaluations):
        memory, asked = {}, itertools.count(1)
        run(memory=memory, stop=lambda asked=asked, last=evaluations: next(asked) >= last)
        same(run(memory=memory), whole)


@pytest.mark.parametrize("method", EXACT)
def test_more_iterations_than_were_asked_for_first(method):
    memory = {}
    first = minimize(rough, np.zeros(20), method, 4, memory=memory)
    assert (first.iterations, memory["iterations"]) == (4, 4)
    again = minimize(rough, np.zeros(20), method, 4, memory=dict(memory))
    assert (again.evaluations, again.stopped_because) == (
        first.evaluations,
        "all 4 iterations are done",
    )
    further = minimize(rough, np.zeros(20), method, 10, memory=memory)
    same(further, minimize(rough, np.zeros(20), method, 10, memory={}))


def test_scipys_begins_anew_where_it_was():
    """It takes no pairs; the best, the losses and the number of iterations are kept."""
    memory, points = {}, []

    def f(x):
        points.append(x.copy())
        return quadratic(x)

    first = minimize(f, np.zeros(30), "lbfgs", 6, memory=memory)
    assert set(memory) == {"method", *OF_ALL}
    told = []
    end = minimize(f, np.zeros(30), "lbfgs", 40, callback=told.append, memory=memory)
    np.testing.assert_array_equal(points[first.evaluations], first.x)
    assert end.losses[: first.evaluations] == first.losses
    assert told[0].iteration == 7
    assert end.loss < 1e-3 * first.loss


def test_what_is_remembered_of_adam():
    """An array that a memory holds would live on; without one, none does."""
    memory = {}
    minimize(quadratic, np.zeros(5), "adam", 3, memory=memory)
    assert set(memory) == {"method", *OF_ALL, "x", "m", "v", "g", "t"}


def test_pairs_are_taken_over():
    """A copy would take as much memory once more."""
    memory = {}
    minimize(rough, np.zeros(30), "own-lbfgs", 4, memory=memory)
    before = dict(memory)
    minimize(rough, np.zeros(30), "own-lbfgs", 8, memory=memory)
    for name in ("s", "y", "s_scales", "y_scales", "inverse", "diagonal", "added"):
        assert memory[name] is before[name]


@pytest.mark.parametrize(
    ("method", "x0"), [("adam", np.zeros(5)), ("own-lbfgs", np.zeros(6))], ids=["method", "shape"]
)
def test_a_memory_of_something_else(method, x0):
    memory = {}
    minimize(quadratic, np.zeros(5), "own-lbfgs", 3, memory=memory)
    with pytest.raises(UsageError, match="what is remembered is of own-lbfgs"):
        minimize(quadratic, x0, method, 3, memory=memory)


def paint(content, style, settings, evaluations=None, path=None, checkpoint=None):
    """Paint, perhaps up to so many evaluations, and send the checkpoint through a file."""
    checkpoint = checkpoint or Checkpoint()
    asked = itertools.count(1)
    stop = None if evaluations is None else lambda: next(asked) >= evaluations
    painting = nst.stylize(content, style, settings, stop=stop, checkpoint=checkpoint)
    if path is None:
        return painting, checkpoint
    checkpoint.save(path)
    return painting, Checkpoint.load(path)


def alike(one, other):
    same(one, other)
    assert one.terms == other.terms
    assert len(one.coarser) == len(other.coarser)
    for a, b in zip(one.coarser, other.coarser, strict=True):
        alike(a, b)


@pytest.mark.parametrize(
    "changes",
    [
        DEEP,
        {"optimizer": "adam"},
        {"scales": (32,), "iterations": 5},
        {"colors": "luminance", "spectrum": 0.0},
        {"size": 32, "init": "noise", "dtype": "float64", "conv": "im2col", "iterations": 6},
    ],
    ids=["deep", "adam", "scales", "pixels", "float64"],
)
def test_a_painting_is_the_same_to_the_last_bit(content, style, tmp_path, changes):
    settings = nst.Settings(**{**vars(SMALL), **changes})
    whole = nst.stylize(content, style, settings)
    for evaluations in (1, 2, 7):
        _, kept = paint(content, style, settings, evaluations, tmp_path / "run.ckpt")
        alike(paint(content, style, settings, checkpoint=kept)[0], whole)


def test_interrupted_many_times(content, style, tmp_path):
    settings = nst.Settings(**{**vars(SMALL), "scales": (32,), "iterations": 4})
    kept = None
    for _ in range(12):  # each of two scales' four iterations, and a few more
        painting, kept = paint(content, style, settings, 3, tmp_path / "run.ckpt", kept)
    alike(painting, nst.stylize(content, style, settings))


def test_a_painting_of_scipys_goes_on(content, style, tmp_path):
    """A few evaluations later than without the end."""
    settings = nst.Settings(size=48, iterations=30, **SHALLOW)
    whole = nst.stylize(content, style, settings)
    first, kept = paint(content, style, settings, 20, tmp_path / "run.ckpt")
    end = paint(content, style, settings, checkpoint=kept)[0]
    assert end.losses[:10] == first.losses[:10] == whole.losses[:10]
    assert end.iterations == whole.iterations
    assert whole.losses[-9] > end.loss


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whatever_ends_it(content, style, error):
    """The checkpoint is in the caller's hands, whatever was raised."""
    kept = Checkpoint()

    def callback(progress):
        assert kept.iterations == progress.iteration
        if progress.iteration == 4:
            raise error

    with pytest.raises(error):
        nst.stylize(content, style, SMALL, callback, checkpoint=kept)
    alike(nst.stylize(content, style, SMALL, checkpoint=kept), nst.stylize(content, style, SMALL))


@pytest.mark.parametrize("optimizer", EXACT)
def test_on_a_device(content, style, tmp_path, monkeypatch, device, optimizer):
    """What is remembered there is downloaded to be saved, and uploaded again."""
    settings = nst.Settings(size=32, iterations=5, optimizer=optimizer, **SHALLOW)
    monkeypatch.setattr(pipeline, "select", lambda _: device)
    whole = nst.stylize(content, style, settings)
    _, kept = paint(content, style, settings, 4, tmp_path / "run.ckpt")
    assert all(isinstance(kept.memory[name], np.ndarray) for name in ("x", "best_x", "g"))
    alike(paint(content, style, settings, checkpoint=kept)[0], whole)
    monkeypatch.setattr(pipeline, "select", lambda _: CPU)
    with pytest.raises(UsageError, match=f"device is cpu, and was {device.name}"):
        paint(content, style, settings, checkpoint=kept)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"style_weight": 5.0},
            "style_weight is 5.0, and was 1000.0 when the checkpoint was begun",
        ),
        ({"size": 64}, "size is 64, and was 48"),
        ({"history": 5}, "history is 5, and was 4"),
        ({"optimizer": "adam"}, "optimizer is adam, and was own-lbfgs"),
        ({"content_layers": "relu4_2:2"}, "content_layers"),
    ],
)
def test_other_settings(content, style, tmp_path, changes, message):
    _, kept = paint(content, style, SMALL, 3, tmp_path / "run.ckpt")
    with pytest.raises(UsageError, match=message):
        paint(content, style, nst.Settings(**{**vars(SMALL), **changes}), checkpoint=kept)
    free = {
        "iterations": 4,
        "tolerance": 1e-9,
        "max_seconds": 100.0,
        "threads": 1,
        "strips": 2,
        "force": True,
    }
    painting, _ = paint(content, style, nst.Settings(**{**vars(SMALL), **free}), checkpoint=kept)
    assert painting.iterations == 4


def test_a_picture_of_another_shape(content, style):
    _, kept = paint(content, style, SMALL, 3)
    with pytest.raises(UsageError, match="what is remembered is of own-lbfgs"):
        paint(content[:30], style, SMALL, checkpoint=kept)


# ---- files

LINE = [
    *("stylize", CONTENT, STYLE, "--size", "64", "--optimizer", "own-lbfgs", "--margin", "4"),
    *("--iterations", "6", "--scales", "48"),
    *SHALLOW_OPTIONS,
]


def refused(capsys, code, message, *arguments):
    """In one line, with nothing on standard output."""
    result = run(capsys, *arguments)
    assert (result[0], result[1], result[2].count("\n")) == (code, "", 1)
    assert message in result[2]


def contents(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def archive(path, **arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)


def other_version(path):
    arrays = contents(path)
    text = json.loads(str(arrays["text"]))
    text["program"] = "minimal_nst 99"
    archive(path, **{**arrays, "text": np.array(json.dumps(text))})


def a_pickle(path):
    path.write_bytes(pickle.dumps({"text": 1}))


def pickled_objects(path):
    archive(path, text=np.array([{}], dtype=object))


def without_text(path):
    archive(path, x=np.zeros(3))


def one_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def a_bit(path):
    there = bytearray(path.read_bytes())
    there[len(there) // 2] ^= 4
    path.write_bytes(there)


SPOILT = {
    "another version": (other_version, "is a checkpoint of minimal_nst 99"),
    "half": (half, "is no checkpoint, or a damaged one"),
    "a bit": (a_bit, "is no checkpoint, or a damaged one"),
    "nothing": (lambda path: path.write_bytes(b""), "is no checkpoint"),
    "text": (lambda path: path.write_text("notes of mine"), "is no checkpoint"),
    "pickle": (a_pickle, "is no checkpoint"),
    "objects": (pickled_objects, "is no checkpoint"),
    "other arrays": (without_text, "is no checkpoint"),
    "one array": (one_array, "is no checkpoint"),
}


@pytest.mark.parametrize("spoil", SPOILT)
def test_files_that_are_none(capsys, content, style, tmp_path, spoil):
    """One line, and the file stays as it is."""
    path, out = tmp_path / "run.ckpt", tmp_path / "out.png"
    paint(content, style, SMALL, 3, path)
    change, message = SPOILT[spoil]
    change(path)
    before = path.read_bytes()
    with pytest.raises(FileError, match=message):
        Checkpoint.load(path)
    refused(capsys, 3, message, *LINE, "-o", out, "--checkpoint", path)
    assert path.read_bytes() == before
    assert not out.exists()


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        Checkpoint.load(tmp_path / "nowhere")


# ---- the command line


def stopping(monkeypatch, iteration):
    """The next painting ends as by a kill: nothing is written after this iteration."""

    class Killed(BaseException):
        pass

    update = watch.Watch.update

    def and_kill(self, progress):
        update(self, progress)
        if progress.iteration == iteration:
            monkeypatch.setattr(watch.Watch, "finish", lambda *_: None)
            raise Killed

    monkeypatch.setattr(watch.Watch, "update", and_kill)
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(watch, "SHARE_OF_CHECKPOINTS", np.inf)
    return Killed


@pytest.mark.parametrize("iteration", [2, 6, 9])
def test_the_same_command_goes_on(capsys, tmp_path, monkeypatch, iteration):
    """The painting has the bytes of one that was never ended, and the log a row for each evaluation."""
    whole, out, kept = (tmp_path / name for name in ("whole.png", "out.png", "run.ckpt"))
    logs = tmp_path / "whole.csv", tmp_path / "out.csv"
    assert run(capsys, *LINE, "-o", whole, "--log", logs[0])[0] == 0
    line = [*LINE, "-o", out, "--checkpoint", kept, "--log", logs[1]]
    with monkeypatch.context() as patch:
        killed = stopping(patch, iteration)
        with pytest.raises(killed):
            cli.main([*map(str, line)])
    assert kept.exists()
    code, _, stderr = run(capsys, *line)
    assert code == 0
    assert f"run.ckpt: it goes on after {iteration} iterations" in stderr
    assert out.read_bytes() == whole.read_bytes()
    rows = [list(csv.DictReader(log.read_text().splitlines())) for log in logs]
    for a, b in zip(*rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}
    # once more: nothing is left to do
    code, stdout, stderr = run(capsys, *line)
    assert (code, "12 iterations" in stderr, "12 iterations" in stdout) == (0, True, True)
    assert out.read_bytes() == whole.read_bytes()
    # and further, at the last size
    code, stdout, _ = run(capsys, *line, "--iterations", "8")
    assert (code, "after 14 iterations at 2 scales" in stdout) == (0, True)
    assert (images.load(out) != images.load(whole)).any()


def test_what_does_not_belong_together(capsys, tmp_path):
    kept, out = tmp_path / "run.ckpt", tmp_path / "out.png"
    line = [*LINE, "-o", out, "--checkpoint", kept]
    assert run(capsys, *line)[0] == 0
    before = kept.read_bytes(), out.read_bytes()
    swapped = [*LINE[:1], STYLE, CONTENT, *LINE[3:], "-o", out, "--checkpoint", kept]
    refused(capsys, 2, "run.ckpt was begun with another content", *swapped)
    refused(capsys, 2, "--style-weight is 3.0, and was 1000.0", *line, "--style-weight", "3")
    assert (kept.read_bytes(), out.read_bytes()) == before


@pytest.mark.parametrize(
    ("place", "code", "message"),
    [
        (CONTENT, 2, "is one of the inputs"),
        ("out.png", 2, "is the painting and the checkpoint"),
        ("run.csv", 2, "is the log and the checkpoint"),
        ("..", 3, "is a folder"),
        ("nowhere/run.ckpt", 3, "there is no folder"),
        ("", 2, "it must not be empty"),
    ],
)
def test_bad_places(capsys, tmp_path, monkeypatch, place, code, message):
    monkeypatch.chdir(tmp_path)
    line = [*LINE, "-o", "out.png", "--log", "run.csv", "--checkpoint", place]
    refused(capsys, code, message, *line)


def test_a_place_that_becomes_unusable(capsys, tmp_path, monkeypatch):
    """It is told once, and the painting is saved."""
    folder, out = tmp_path / "there", tmp_path / "out.png"
    folder.mkdir()
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    update = watch.Watch.update

    def and_remove(self, progress):
        if progress.iteration == 2:
            (folder / "run.ckpt").unlink()
            folder.rmdir()
        update(self, progress)

    monkeypatch.setattr(watch.Watch, "update", and_remove)
    code, _, stderr = run(capsys, *LINE, "-o", out, "--checkpoint", folder / "run.ckpt")
    assert code == 0
    assert stderr.count("run.ckpt: cannot be written") == 1
    assert out.exists()


def test_how_often(monkeypatch, tmp_path, content, style):
    """Every minute; less often if it takes long."""
    clock, saved = [0.0], []
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    output = watch.Output(checkpoint=str(tmp_path / "run.ckpt"))
    kept = Checkpoint(memory={"evaluations": 1})

    def save(self, path):
        saved.append(clock[0])
        clock[0] += 0.5 if len(saved) < 3 else 10

    monkeypatch.setattr(module.Checkpoint, "save", save)
    looking = watch.Watch(output, tmp_path / "out.png", [], lambda *_: None, [48], kept)
    while clock[0] < 800:
        clock[0] += 1
        looking.update(None)
    assert saved == [60, 120.5, 181, 691]
