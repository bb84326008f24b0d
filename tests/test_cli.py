"""The command line as its users see it: what it prints, writes and returns; never a traceback."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from minimal_nst import Settings, cli, images, pipeline, saving
from minimal_nst.cli.endings import Endings
from minimal_nst.cli.options import format_value
from minimal_nst.errors import NSTError, OutOfMemory, RunError
from minimal_nst.sizes import settle
from PIL import Image

import signals
import strict
from conftest import EXAMPLES, SHALLOW_OPTIONS, posix
from test_backend import fake_cupy

CONTENT = str(EXAMPLES / "content" / "louvre_night.webp")
STYLE = str(EXAMPLES / "style" / "vangogh_cafe_terrace.webp")
QUICK = ["--size", "64", "--iterations", "2", "--margin", "0", *SHALLOW_OPTIONS]


def run(capsys, *args):
    """Exit code, standard output and standard error of a command."""
    code = cli.main([str(arg) for arg in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_stylize_paints_and_says_so(capsys, out):
    code, stdout, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK)
    assert code == 0
    assert images.load(out).shape == (25, 64, 3)
    (line,) = stdout.splitlines()
    assert line.startswith(f"{out}: loss ")
    assert "after 2 iterations" in line
    assert line.endswith("stopped because all 2 iterations are done")
    assert stderr.startswith("iteration 2/2, loss ")


def test_the_last_line_counts_and_names_the_device(capsys, out):
    args = ["stylize", CONTENT, STYLE, "-o", out, "--size", "64", "--iterations", "1"]
    _, stdout, _ = run(capsys, *args, "--optimizer", "adam", "--device", "cpu")
    assert "after 1 iteration (2 evaluations, " in stdout
    assert stdout.endswith(" s, cpu); stopped because the 1 iteration is done\n")


def test_auto_says_once_why_it_is_not_a_gpu(capsys, monkeypatch, out):
    """Where CuPy is installed, somebody expects one."""
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(count=0))
    code, stdout, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK)
    assert (code, stderr.count("minimal-nst: warning: the CPU computes, because CuPy")) == (0, 1)
    assert " s, cpu); stopped" in stdout


def test_what_a_gpus_libraries_lack_in_memory_costs_no_painting(capsys, monkeypatch, out):
    """cuBLAS does not raise a MemoryError, and says it in its own words."""
    monkeypatch.setattr(pipeline, "select", lambda device: strict.BACKEND)
    multiply, calls = strict.StrictArray.__matmul__, []

    def matmul(self, other):
        calls.append(1)
        if len(calls) > 300:
            raise RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")
        return multiply(self, other)

    monkeypatch.setattr(strict.StrictArray, "__matmul__", matmul)
    args = ["--size", "48", "--iterations", "99", "--conv", "im2col"]
    code, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *args)
    assert code == 4
    assert f"the best picture so far is kept in {out}" in stderr
    assert "error: not enough memory; choose a smaller --size" in stderr
    assert images.load(out).shape[1] == 48


def test_messages_name_what_was_typed(capsys, monkeypatch, out, tmp_path):
    """Options, not fields; the variable; but files as they are called."""
    code, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, "--style-size", "16")
    assert code == 2
    assert "pixels at --style-size 16" in stderr
    assert "choose --style-size" in stderr
    code, _, stderr = run(capsys, "stylize", "style_size.png", STYLE, "-o", out)
    assert (code, "error: style_size.png: no such picture" in stderr) == (3, True)
    monkeypatch.setenv("MINIMAL_NST_WEIGHTS", __file__)
    for command in (["stylize", CONTENT, STYLE, "-o", out], ["weights", "verify"]):
        code, _, stderr = run(capsys, *command)
        assert (code, "(from $MINIMAL_NST_WEIGHTS): not an HDF5 file" in stderr) == (3, True)


def test_memory_that_does_not_suffice(capsys, monkeypatch, out):
    """For so many threads: each has buffers of its own."""
    monkeypatch.setattr("minimal_nst.memory.available", lambda: 302 * 10**6)
    args = ["stylize", CONTENT, STYLE, "-o", out, "--size", "300", "--iterations", "1", "-q"]
    args += ["--threads", "2"]
    code, _, stderr = run(capsys, *args)
    assert code == 4
    assert "--size 300 needs about 0.323 GB of memory, of which 0.302 GB" in stderr
    assert re.search(
        r"choose --size \d+ or less, or choose --optimizer own-lbfgs, --history 20, --strips \d+ "
        r"\(which take longer\), or try it all the same with --force$",
        stderr.strip(),
    )
    assert not out.exists()
    assert run(capsys, *args, "--force") == (0, "", "")
    assert out.exists()


def test_the_help_is_in_groups(capsys):
    """Each option stands in one, and none is left under argparse's own heading but --help."""
    _, stdout, _ = run(capsys, "stylize", "--help")
    _, *groups = stdout.split("\n\n")
    titles = [group.partition(":\n")[0] for group in groups]
    wanted = [
        "options",
        "pictures",
        "output",
        "size and start",
        "style",
        "losses",
        "optimiser",
        "machine",
    ]
    assert [title for title in titles if title in wanted] == wanted
    options = groups[titles.index("options")]
    assert [line.split()[0] for line in options.splitlines() if "  -" in line[:4]] == [
        *("-h,", "--config", "--from", "--dump-config", "--dry-run", "--preset"),
    ]


def test_a_folder_of_styles(capsys, out, tmp_path):
    """It stands for its pictures, which are inputs: they share its weight and are not replaced."""
    folder = tmp_path / "styles"
    folder.mkdir()
    shutil.copy(STYLE, folder / "a.webp")
    shutil.copy(CONTENT, folder / "b.WEBP")
    (folder / "notes.txt").touch()
    (folder / ".hidden.png").touch()
    args = ["stylize", CONTENT, folder, STYLE, "-o", out, *QUICK, "-q"]
    assert run(capsys, *args, "--style-blend-weights", "1,3") == (0, "", "")
    alone = tmp_path / "alone.png"
    styles = [folder / "a.webp", folder / "b.WEBP", STYLE]
    weights = ["--style-blend-weights", "0.5,0.5,3"]
    run(capsys, "stylize", CONTENT, *styles, "-o", alone, *QUICK, "-q", *weights)
    assert out.read_bytes() == alone.read_bytes()
    inside = folder / "c.png"
    shutil.copy(STYLE, inside)
    code, _, stderr = run(capsys, "stylize", CONTENT, folder, "-o", inside, *QUICK)
    assert (code, "c.png is one of the inputs" in stderr) == (2, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    code, _, stderr = run(capsys, "stylize", CONTENT, empty, "-o", out, *QUICK)
    assert (code, "empty is a folder without pictures (.png, .jpg" in stderr) == (3, True)


def test_quiet_prints_nothing(capsys, out):
    args = ["stylize", CONTENT, STYLE, "-o", out, *QUICK, "--quiet"]
    assert run(capsys, *args) == (0, "", "")
    assert out.exists()


def test_every_setting_is_an_option_with_its_own_value(monkeypatch, out):
    """Each option reaches the field of its name, and nothing else does."""
    for name in ("w.h5", "start.png"):
        (out.parent / name).touch()
    monkeypatch.chdir(out.parent)
    given = {
        "size": 77, "margin": 5, "resampling": "box", "size_pixels": 5000, "width": 99, "height": 88, "style_size": 55,
        "style_scale": 1.5, "style_blend_weights": (2.0, 1.0),
        "iterations": 3, "optimizer": "adam", "learning_rate": 0.5,
        "history": 9, "beta1": 0.8, "beta2": 0.95, "epsilon": 0.25, "decay": 0.75, "decay_every": 7,
        "content_weight": 7.0, "style_weight": 8.0, "tv_weight": 9.0,
        "tv_form": "keras", "range_weight": 0.7, "colors": "pca", "style_statistic": "mean-covariance",
        "mask_reach": "inside",
        "content_layers": (("relu3_1", 0.5),), "style_layers": (("pool1", 1.0), ("conv2_1", 2.0)),
        "content_form": "paper", "style_form": "paper", "pooling": "avg", "init": "start.png",
        "noise_ratio": 0.5, "noise": "normal", "noise_level": 9.0, "seed": 11, "weights": "w.h5", "conv": "winograd", "dtype": "float64",
        "precision": "tf32",
        "device": "cpu", "threads": 3, "force": True, "spectrum": 1.5,
        "tolerance": 0.01, "max_seconds": 99.0, "scales": (20, 40, 77), "strips": 3,
    }  # fmt: skip
    assert set(given) == {field.name for field in dataclasses.fields(Settings)}
    seen = []

    def stylize(content, styles, settings, callback, stop, **masks):
        seen.append((content, styles, settings))
        raise OutOfMemory("enough")

    monkeypatch.setattr(pipeline, "stylize", stylize)
    monkeypatch.setattr("minimal_nst.cli.options.IDLE", {})  # not all at once would have effect
    flags = {f"--{name.replace('_', '-')}": value for name, value in given.items()}
    options = [k if v is True else f"{k}={format_value(v)}" for k, v in flags.items()]
    options += ["--style-masks", "all", "all"]  # for --mask-reach
    assert cli.main(["stylize", CONTENT, STYLE, STYLE, "-o", str(out), *options]) == 4
    assert cli.main(["stylize", CONTENT, STYLE, "-o", str(out), "--preset", "course"]) == 4
    assert seen[0] == (CONTENT, [STYLE, STYLE], settle(Settings(**given), CONTENT))
    assert seen[1][2] == Settings.preset("course")


WHOLE = "it must be a whole number, between 16 and 65536"
SIZE = f"{WHOLE}, or original"
BAD_USAGE = {
    f"argument --size: '8' cannot be used; {SIZE}": ["--size", "8"],
    f"argument --size: 'big' cannot be used; {SIZE}": ["--size", "big"],
    f"argument --style-size: '1e3' cannot be used; {WHOLE}": ["--style-size", "1e3"],
    f"--size: '99999999999999999999' cannot be used; {SIZE}": ["--size", "9" * 20],
    f"argument --width: '0' cannot be used; {WHOLE}": ["--width", "0"],
    "argument --size-pixels: '9' cannot be used; it must be a whole number, between 256 and": [
        *("--size-pixels", "9"),
    ],
    "would have 17x7 pixels at size 17": ["--width", "17"],
    "--scales are 64,128, the painting's longer side is 100": [
        "--scales",
        "64,128",
        "--width",
        "100",
    ],
    "--size does nothing here: --size-pixels, --width or": ["--size", "64", "--height", "64"],
    "--size-pixels does nothing here: --width or --h": ["--size-pixels", "999", "--height", "64"],
    "--style-scale does nothing here: --style-size": ["--style-scale", "2", "--style-size", "64"],
    "argument --style-blend-weights: 'x' are no weights; write": ["--style-blend-weights", "x"],
    "'0,0' are no weights; each must be a finite number": ["--style-blend-weights", "0,0"],
    "--style-blend-weights are 2,1, for 1 style": ["--style-blend-weights", "2,1"],
    "--style-blend-weights does nothing here: the weight of the style is 0": [
        *("--style-blend-weights", "1", "--style-weight", "0"),
    ],
    "--precision does nothing here: it is for --dtype float32 on a GPU": [
        *("--precision", "tf32", "--dtype", "float64"),
    ],
    "precision is tf32, which a GPU has; the device is a CPU": ["--precision", "tf32"],
    "--pooling: invalid choice: 'l2'": ["--pooling", "l2"],
    "--preset: invalid choice: 'monet'": ["--preset", "monet"],
    "minimal-nst stylize: error: unrecognized arguments: --sice 3; did you mean --size? (see minimal-nst": [
        *("--sice", "3"),
    ],
    "unrecognized arguments: --content_weight=3; did you mean --content-weight? (see": [
        "--content_weight=3"
    ],
    "unrecognized arguments: --outptu=a.png; did you mean --output? (see": ["--outptu=a.png"],
    "unrecognized arguments: --init-image a.png (see": ["--init-image", "a.png"],
    "argument --style-layers: VGG-19 has no layer 'relu9_1'": ["--style-layers", "relu9_1"],
    "--iterations: '0' cannot be used; it must be a whole number, between 1": ["--iterations", "0"],
    "'2' cannot be used; it must be a finite number, between 0 and 1": ["--noise-ratio", "2"],
    "'1e999' cannot be used; it must be a finite number, 0 or more": ["--style-weight", "1e999"],
    "argument --init: '' cannot be used; it must not be empty": ["--init", ""],
    "argument --max-seconds: '0' cannot be used; it must be a finite number, above 0": [
        *("--max-seconds", "0"),
    ],
    "argument --tolerance: '2' cannot be used": ["--tolerance", "2"],
    "nothing to paint": ["--content-weight", "0", "--style-weight", "0"],
    "unknown device 'tpu'": ["--device", "tpu"],
    "--learning-rate does nothing here: L-BFGS finds its own": ["--learning-rate", "3"],
    "--history does nothing here: it is L-BFGS'": ["--optimizer", "adam", "--history", "5"],
    "--range-weight: '-1' cannot be used; it must be a finite number, 0 or more": [
        "--range-weight",
        "-1",
    ],
    "--history: '0' cannot be used; it must be a whole number, between 1": ["--history", "0"],
    "--beta1 does nothing here: it is adam's": ["--beta1", "0.5"],
    "--decay-every does nothing here: adam's step": ["--optimizer", "adam", "--decay-every", "9"],
    "argument --beta2: '1' cannot be used; it must be": ["--beta2", "1"],
    "--seed does nothing here: the start has no noise": ["--seed", "3"],
    "--noise-level does nothing here: the start has no noise": ["--noise-level", "3"],
    "--noise-ratio does nothing here: --init": ["--noise-ratio", "0.5", "--init", "noise"],
    "--threads does nothing here": ["--threads", "2", "--conv", "im2col"],
    "--content-layers does nothing": ["--content-weight", "0", "--content-layers", "relu1_1"],
    "--content-form does nothing": ["--content-weight", "0", "--content-form", "paper"],
    "--style-layers does nothing": ["--style-weight", "0", "--style-layers", "relu1_1"],
    "--tv-form does nothing here: --tv-weight is 0": ["--tv-form", "keras"],
    "--colors does nothing here: the weight of the style is 0": [
        "--style-weight",
        "0",
        "--colors",
        "pca",
    ],
    "--mask-reach does nothing here: there is no mask": ["--mask-reach", "all"],
    "there are 2 content masks, but 1 style pictures": ["--content-masks", CONTENT, CONTENT],
    "--style-statistic does nothing here": [
        *("--style-statistic", "mean-covariance", "--style-weight", "0"),
    ],
    "--colors: invalid choice: 'lum'": ["--colors", "lum"],
    "--style-form does nothing": ["--style-weight", "0", "--style-form", "paper"],
    "would have 16x6 pixels at size 16": ["--size", "16"],
}


def check_refusal(result, code, message, folder):
    """One line on standard error, the right code, and nothing was written."""
    assert result[0] == code
    assert result[1] == ""
    assert result[2].startswith("minimal-nst")
    assert message in result[2]
    assert result[2].count("\n") == 1
    assert os.listdir(folder) == []


def test_an_option_that_has_something_to_do_is_taken(capsys, out):
    """What the refusals above must not catch: noise that comes with a preset."""
    args = ["stylize", CONTENT, STYLE, "-o", out, *QUICK, "--preset", "course", "-q"]
    assert run(capsys, *args, "--seed", "3", "--learning-rate", "3") == (0, "", "")


@pytest.mark.parametrize("message", BAD_USAGE)
def test_bad_usage(capsys, out, message, tmp_path):
    args = ["stylize", CONTENT, STYLE, "-o", out, *BAD_USAGE[message]]
    check_refusal(run(capsys, *args), 2, message, tmp_path)


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "arguments are required: COMMAND"),
        (["paint"], 2, "invalid choice: 'paint'"),
        (["--quiet", "demo"], 2, "arguments: --quiet; options belong behind the command (see"),
        (["stylize", CONTENT, "-o", "{}/o.png"], 2, "arguments are required: STYLE"),
        (["stylize", CONTENT, STYLE], 2, "arguments are required: -o"),
        (["stylize", "", STYLE, "-o", "{}/o.png"], 3, "the path of a picture is empty"),
        (
            ["stylize", CONTENT, STYLE, "-o", ""],
            2,
            "-o/--output: '' cannot be used; it must not be",
        ),
        (["stylize", "no.png", STYLE, "-o", "{}/o.png"], 3, "no.png: no such picture"),
        (["stylize", CONTENT, "no.png", "-o", "{}/o.png"], 3, "no.png: no such picture"),
        (["stylize", CONTENT, __file__, "-o", "{}/o.png"], 3, "not a picture"),
        (["stylize", CONTENT, STYLE, "-o", "{}/no/o.png"], 3, "there is no folder"),
        (["stylize", CONTENT, STYLE, "-o", "{}"], 3, "is a folder"),
        (["stylize", CONTENT, STYLE, "-o", "{}/o.gif"], 2, "cannot write '.gif'"),
        (["stylize", CONTENT, STYLE, "-o", CONTENT], 2, "is one of the inputs"),
        (["stylize", CONTENT, STYLE, "-o", "{}/o.png", "--init", "no"], 3, "no: no such picture"),
        (["stylize", CONTENT, STYLE, "-o", "{}/o.png", "--weights", "n.h5"], 3, "no such weight"),
        (["stylize", CONTENT, STYLE, "-o", "{}/o.png", "--weights", STYLE], 3, "not an HDF5 file"),
        (["weights", "verify", __file__], 3, "not an HDF5 file"),
        (["weights", "destroy"], 2, "invalid choice: 'destroy'"),
        (["demo", "-o", "{}/o.gif"], 2, "cannot write '.gif'"),
    ],
)
def test_bad_arguments_and_files(capsys, tmp_path, args, code, message):
    before = os.stat(CONTENT).st_mtime_ns
    args = [arg.format(tmp_path) if arg.startswith("{}") else arg for arg in args]
    check_refusal(run(capsys, *args), code, message, tmp_path)
    assert os.stat(CONTENT).st_mtime_ns == before


@pytest.mark.parametrize("option", ["--weights", "--init", "embedded"])
@pytest.mark.parametrize("link", [pytest.param(os.symlink, marks=posix), os.link])
def test_no_input_is_overwritten_under_another_name(capsys, monkeypatch, tmp_path, option, link):
    """A link would lead the painting to the file itself."""
    source = tmp_path / "source"
    source.write_bytes(b"precious")
    link(source, tmp_path / "o.png")
    if option == "embedded":
        monkeypatch.setattr("minimal_nst.weights.bundled", lambda _: source)
    args = [] if option == "embedded" else [option, source]
    code, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", tmp_path / "o.png", *args)
    assert code == 2
    assert "o.png is one of the inputs; choose another output name" in stderr
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (NSTError("the loss is nan"), 1, "the loss is nan"),
        (MemoryError(), 4, "not enough memory; choose a smaller --size"),
        (KeyboardInterrupt(), 130, "stopped before anything was painted"),
        (PermissionError(13, "Permission denied", "x"), 3, "error: x: Permission denied"),
        (ZeroDivisionError("by\nzero"), 1, "unexpected ZeroDivisionError: by; please report"),
    ],
)
def test_failures_are_one_line_each(capsys, monkeypatch, out, tmp_path, failure, code, message):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(pipeline, "stylize", fail)
    check_refusal(run(capsys, "stylize", CONTENT, STYLE, "-o", out), code, message, tmp_path)


def test_a_place_that_vanishes_during_the_work_loses_nothing(capsys, monkeypatch, tmp_path):
    folder, refuge = tmp_path / "gone", tmp_path / "tmp"
    folder.mkdir()
    refuge.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(refuge))
    stylize = pipeline.stylize

    def and_remove(*args, **named):
        painting = stylize(*args, **named)
        folder.rmdir()
        return painting

    monkeypatch.setattr(pipeline, "stylize", and_remove)
    args = ["stylize", CONTENT, STYLE, "-o", folder / "o.png", *QUICK, "-q"]
    code, _, stderr = run(capsys, *args)
    (kept,) = refuge.glob("*/painting.png")
    assert code == 3
    assert f"the painting is kept in {kept}" in stderr
    assert images.load(kept).shape == (25, 64, 3)


def test_nowhere_to_save_leaves_no_folders_and_says_it_all(capsys, monkeypatch, out, tmp_path):
    refuge = tmp_path / "tmp"
    refuge.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(refuge))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, _, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK, "-q")
    assert code == 3
    assert stderr.startswith(f"minimal-nst: error: {out}: cannot be written (No space left")
    assert "nor in the temporary folder" in stderr
    assert os.listdir(refuge) == []
    assert not out.exists()


@pytest.mark.parametrize("rate", ["1e20", "1e308"])
def test_a_run_that_fails_before_its_first_step_leaves_the_old_file(capsys, out, rate):
    out.write_bytes(b"old")
    args = ["stylize", CONTENT, STYLE, "-o", out, *QUICK, "--optimizer", "adam", "--quiet"]
    code, stdout, stderr = run(capsys, *args, "--learning-rate", rate)
    assert (code, stdout, stderr.count("\n")) == (1, "", 1)
    assert stderr.startswith("minimal-nst: error: ")
    assert out.read_bytes() == b"old"


def test_a_run_without_a_better_picture_leaves_the_old_file(capsys, out):
    """Of the content alone, started from its very pixels: nothing can be lower."""
    out.write_bytes(b"old")
    args = ["stylize", CONTENT, STYLE, "-o", out, "--size", "64", "--margin", "0"]
    code, _, stderr = run(capsys, *args, "--style-weight", "0", "--spectrum", "0")
    assert code == 1
    assert (
        f"no step lowered the loss (a minimum is reached: no step lowers the loss); {out}" in stderr
    )
    assert out.read_bytes() == b"old"


@pytest.mark.parametrize(
    ("failure", "code"), [(MemoryError(), 4), (RunError("nan"), 1), (KeyboardInterrupt(), 130)]
)
def test_an_error_after_the_first_step_keeps_the_best_picture(
    capsys, monkeypatch, out, failure, code
):
    def fail_at_the_second(bar, progress):
        if progress.iteration == 2:
            raise failure

    monkeypatch.setattr("minimal_nst.cli.progress.Bar.update", fail_at_the_second)
    found, stdout, stderr = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK, "--quiet")
    assert (found, stdout) == (code, "")
    kept, error = stderr.splitlines()
    assert kept == f"minimal-nst: the best picture so far is kept in {out}"
    assert error.startswith("minimal-nst: error: ")
    assert images.load(out).shape == (25, 64, 3)


@pytest.fixture
def default_signals():
    """As in a terminal, whatever pytest was started with; under nohup, SIGHUP is ignored."""
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    signals.with_default_signals()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("sent", signals.SIGNALS)
def test_forty_signals_while_the_painting_is_saved(capsys, monkeypatch, out, default_signals, sent):
    save = saving.save

    def save_with_interruptions(*args):
        for _ in range(40):
            signal.raise_signal(sent)
        save(*args)

    monkeypatch.setattr(saving, "save", save_with_interruptions)
    code, stdout, _ = run(capsys, "stylize", CONTENT, STYLE, "-o", out, *QUICK)
    assert code == 128 + sent
    assert stdout.startswith(f"{out}: loss")
    assert images.load(out).shape == (25, 64, 3)
    assert all(signal.getsignal(number) is signal.SIG_DFL for number in signals.SIGNALS)


def test_a_signal_that_is_ignored_stays_ignored(capsys, out, default_signals):
    number = signals.SIGNALS[-1]
    signal.signal(number, signal.SIG_IGN)
    with Endings() as endings:
        signal.raise_signal(number)
        assert not endings.asked()
    assert signal.getsignal(number) is signal.SIG_IGN


@posix
def test_signals_at_random_moments():
    """A few; ``python tests/signals.py`` tries many more."""
    found = signals.try_all(moments=3, seed=7)
    assert set(found) <= {"old", "painting"}


ENDLESS = (
    *(sys.executable, "-m", "minimal_nst", "stylize", CONTENT, STYLE),
    *("--size", "64", "--iterations", "100000"),
)


@posix
@pytest.mark.parametrize("sent", signals.SIGNALS)
def test_ctrl_c_keeps_the_best_so_far(out, sent):
    """On a terminal: the bar shows when the work has begun, and what it says."""
    controller, terminal = pytest.importorskip("pty").openpty()
    process = signals.start(out, ENDLESS, stderr=terminal)
    os.close(terminal)
    seen = []
    reader = threading.Thread(target=watch, args=[controller, seen], daemon=True)
    reader.start()
    try:
        wait_until(lambda: "style " in "".join(seen))
        process.send_signal(sent)
        wait_until(lambda: process.poll() is not None or not process.send_signal(sent))
        stdout, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + sent
    assert "stopped because it was asked to" in stdout
    assert images.load(out).shape == (25, 64, 3)
    assert "/100000 [" in "".join(seen)


def watch(descriptor, seen):
    """Note what appears on a terminal until its other end is closed."""
    with contextlib.suppress(OSError):
        while text := os.read(descriptor, 1000):
            seen.append(text.decode(errors="replace"))


def wait_until(condition, seconds=60):
    """Wait for something to happen; fail if it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def test_demo_and_weights(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "minimal_nst.cli.demo.Settings", lambda **_: Settings(size=64, iterations=1)
    )
    code, stdout, _ = run(capsys, "demo")
    assert code == 0
    assert stdout.startswith("minimal_nst_demo.png: loss")
    assert np.asarray(Image.open("minimal_nst_demo.png")).shape == (43, 64, 3)
    code, stdout, _ = run(capsys, "weights", "verify")
    assert (code, stdout.count("\n")) == (0, 1)
    assert stdout.endswith("all values finite (the embedded VGG-19)\n")
    code, stdout, _ = run(capsys, "weights", "info")
    assert code == 0
    assert "layout   palette" in stdout
    assert stdout.count("kernel (3, 3, ") == 16


def test_help_and_version_in_a_process_of_their_own():
    for args, text in (
        (["--help"], "stylize"),
        (["stylize", "--help"], "--noise-ratio X"),
        (["--version"], "minimal-nst 0."),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "minimal_nst", *args], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert text in done.stdout


@posix
@pytest.mark.parametrize("imported", ["minimal_nst.errors", "numpy.linalg", "scipy.optimize"])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_it_silently(out, imported, sent):
    """Python tells on standard error what it imports; that says when to interrupt."""
    command = (ENDLESS[0], "-X", "importtime", *ENDLESS[1:])
    process = signals.start(out, command)
    try:
        seen = next(line for line in process.stderr if imported in line)
        process.send_signal(sent)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert imported in seen
    assert process.returncode == -sent
    assert "Traceback" not in rest
    assert "report it" not in rest
