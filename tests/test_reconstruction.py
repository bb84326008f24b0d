"""Reconstructions: what comes back from features, from Gram matrices, and on one sheet."""

from __future__ import annotations

import dataclasses
import signal

import numpy as np
import pytest
from minimal_nst import Settings, images, pipeline
from minimal_nst.cli import plan
from minimal_nst.cli.options import Output
from minimal_nst.cli.reconstruct import LEFT_OUT, OF_ONE
from minimal_nst.cli.sheet import GAP, Sheet
from minimal_nst.errors import UsageError
from minimal_nst.losses import gram_matrix
from minimal_nst.reconstruction import FIGURE_1, by_one_loss, figure_1, reconstruct
from minimal_nst.vgg import VGG19, preprocess
from PIL import Image

from conftest import EXAMPLES
from test_cli import check_refusal, run

PICTURE = str(EXAMPLES / "content" / "neuschwanstein.webp")

SMALL = Settings(size=48, iterations=40, margin=0)
QUICK = ["--size", "48", "--iterations", "2", "--margin", "0", "-q"]


def likeness(image, other):
    """Correlation of two pictures, but for their mean colours: 1 the same, 0 nothing in common."""
    a, b = (np.ravel(picture - picture.mean((0, 1))) for picture in (image, other))
    return np.corrcoef(a, b)[0, 1]


def test_a_picture_comes_back_from_features_the_less_the_deeper(content):
    """From noise, which is like it in nothing, and the first layer's features: the picture."""
    small = images.resize(content, 48, 32)
    alike = [
        likeness(reconstruct(small, tap, settings=SMALL).image, small)
        for tap in ("relu1_1", "relu4_1")
    ]
    assert alike[0] > 0.99
    assert 0.3 < alike[1] < 0.97


def test_a_texture_has_the_gram_matrix_and_not_the_picture(content, weights):
    """As far as its values between 0 and 255, to which it is cut off, allow."""
    small = images.resize(content, 48, 32)
    painting = reconstruct(small, style_layers="relu1_1", settings=SMALL)
    assert painting.loss < 1e-3 * painting.losses[0]
    texture = painting.image
    assert abs(likeness(texture, small)) < 0.3
    vgg = VGG19(weights)
    found, wanted = (
        gram_matrix(vgg.features(picture, ["relu1_1"])["relu1_1"].reshape(-1, 64))
        for picture in (texture, small)
    )
    assert np.linalg.norm(found - wanted) < 0.2 * np.linalg.norm(wanted)


def test_one_loss_alone():
    with pytest.raises(UsageError, match="either of the content or of the style; give content_lay"):
        by_one_loss(Settings(), "relu1_1", "relu1_1")
    with pytest.raises(UsageError, match="either of the content or of the style"):
        reconstruct("any.png")
    settings = by_one_loss(Settings(), {"conv3_1": 2}, None)
    assert (settings.content_taps, settings.style_taps) == ({"conv3_1": 2.0}, {})
    settings = by_one_loss(Settings(style_weight=3), None, ["relu1_1"])
    assert (settings.content_taps, settings.style_taps) == ({}, {"relu1_1": 3.0})


def test_the_layers_of_figure_1():
    """Gatys, Ecker & Bethge (2016), Figure 1: one more style layer each, content in one."""
    runs = list(figure_1(Settings(iterations=7)))
    assert [layers for row, layers, _ in runs if row == "style"][::-1] == FIGURE_1["style"]
    assert [layers for row, layers, _ in runs if row == "content"][::-1] == FIGURE_1["content"]
    for row, layers, settings in runs:
        taps = {"style": settings.style_taps, "content": settings.content_taps}
        assert list(taps.pop(row)) == layers.split(",")
        assert taps.popitem()[1] == {}
        assert settings.iterations == 7
    assert [len(layers.split(",")) for layers in FIGURE_1["style"]] == [1, 2, 3, 4, 5]
    assert {runs[0][1][-7:], runs[1][1]} == {"relu5_1", "relu5_2"}


def test_command(capsys, out):
    """Its record repeats it: to the program it is a painting like any other."""
    args = ["reconstruct", PICTURE, "-o", out, *QUICK, "--seed", "3"]
    assert run(capsys, *args, "--style-layers", "relu1_1") == (0, "", "")
    again = out.with_name("again.png")
    assert run(capsys, "stylize", PICTURE, PICTURE, "-o", again, "--from", out, "-q")[0] == 0
    assert again.read_bytes() == out.read_bytes()
    assert run(capsys, *args, "--content-layers", "relu1_1") == (0, "", "")
    assert again.read_bytes() != out.read_bytes()


@pytest.mark.parametrize(("kind", "seen"), [("--content-layers", 0), ("--style-layers", 1)])
def test_it_can_be_planned(capsys, out, monkeypatch, kind, seen):
    """As a painting can; of what only the content's layers know no style is told."""
    monkeypatch.setattr(plan, "seconds_of_evaluation", lambda *_: 2.0)
    line = ["reconstruct", PICTURE, "-o", out, kind, "relu1_1", "--size", "48", "--dry-run"]
    code, stdout, stderr = run(capsys, *line, "--iterations", "30")
    assert (code, stderr) == (0, "")
    assert f"{PICTURE}, 1024 x 683, painted at 48 x 32" in stdout
    assert stdout.count("seen at 48 x 32") == seen
    assert "about 60 s; 2 s an evaluation" in stdout
    assert not out.exists()


def test_a_texture_is_opaque(capsys, out, tmp_path):
    """Where a picture is transparent is where something is, of which a texture knows nothing."""
    picture = tmp_path / "half.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 4), "uint8")).save(picture)
    for layers, mode in (("--content-layers", "RGBA"), ("--style-layers", "RGB")):
        assert run(capsys, "reconstruct", picture, "-o", out, *QUICK, layers, "relu1_1")[0] == 0
        with Image.open(out) as image:
            assert image.mode == mode


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "one of the arguments --content-layers --style-layers --figure1 is required"),
        (["--figure1", "--style-layers", "relu1_1"], "not allowed with argument --figure1"),
        (["--figure1", "--log", "l.csv"], "--log does nothing here: --figure1 is a sheet"),
        (
            ["--figure1", "--checkpoint", "c"],
            "--checkpoint does nothing here: --figure1 is a sheet",
        ),
        (["--figure1", "--dry-run"], "--dry-run does nothing here: --figure1 is a sheet"),
        (["--style-layers", "relu1_1", "--content-form", "paper"], "weight of the content is 0"),
        (["--content-layers", "relu1_1:0"], "no layer of content or style has a weight above 0"),
        (["--content-layers", "relu6_1"], "VGG-19 has no layer 'relu6_1'"),
        (["--figure1", "--init", "content"], "unrecognized arguments: --init content"),
        (["--figure1", "--learning-rate", "3"], "L-BFGS finds its own steps"),
    ],
)
def test_bad_usage(capsys, out, tmp_path, args, message):
    check_refusal(run(capsys, "reconstruct", PICTURE, "-o", out, *args), 2, message, tmp_path)


def test_a_sheet_takes_or_refuses_each_option():
    """What is added to the options of a painting must not be left aside in silence."""
    fields = {field.name for field in dataclasses.fields(Output)}
    assert fields - LEFT_OUT - OF_ONE == {"output", "quiet"}


def test_output_is_needed(capsys, tmp_path):
    result = run(capsys, "reconstruct", PICTURE, "--figure1")
    check_refusal(result, 2, "the following arguments are required: -o/--output", tmp_path)


def test_sheet():
    picture = np.zeros((20, 30, 3), np.uint8)
    sheet = Sheet(picture)
    blank = sheet.array
    assert blank.shape == (2 * (20 + 2 * sheet.text), 6 * (30 + GAP) - GAP, 3)
    sheet.add("content", "relu3_2", picture + 100)
    rows, columns = np.nonzero((sheet.array == 100).all(axis=-1))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 30)
    assert (rows.min(), columns.min()) == (20 + 2 * sheet.text, 3 * (30 + GAP))


class Ten:
    """Stands in for `stylize`: paints the k-th picture with the grey 10 k, until something happens."""

    def __init__(self):
        self.seen = []
        self.then = {}

    def __call__(self, picture, styles, settings, callback, stop):
        assert styles == [picture]
        self.seen.append(settings)
        number = len(self.seen)
        x = preprocess(np.full((32, 48, 3), 10.0 * number))
        painting = pipeline.Painting(x, 1.0, [2.0, 1.0], iterations=2)
        callback(pipeline.PaintingProgress(2, 2, 2, 1.0, painting, 48, [{"style:a": 1.0}], None))
        if happens := self.then.get(number):
            happens(painting)
        return painting


@pytest.fixture
def ten(monkeypatch):
    ten = Ten()
    monkeypatch.setattr("minimal_nst.pipeline.stylize", ten)
    return ten


FIGURE = ["reconstruct", PICTURE, "--figure1", "--size", "48", "--iterations", "2"]


def greys(path):
    """The ten's numbers, by where they are on the sheet; 0 where nothing is yet."""
    with Image.open(path) as image:
        sheet, size = np.array(image), 32 + 2 * 10
    found = [[sheet[r * size + 16, (1 + c) * (48 + GAP) + 24, 0] for c in range(5)] for r in (0, 1)]
    return [[0 if value == 255 else value // 10 for value in row] for row in found]


def test_figure_1(capsys, out, ten):
    code, stdout, stderr = run(capsys, *FIGURE, "-o", out, "--max-seconds", "1000")
    assert code == 0
    assert stdout.startswith(f"{out}: 10 of 10 reconstructions (")
    assert "iteration 20/20, loss 1 (style 1.0e0)" in stderr.splitlines()[-1]
    assert greys(out) == [[9, 7, 5, 3, 1], [10, 8, 6, 4, 2]]
    given = [settings.max_seconds for settings in ten.seen]
    assert given == pytest.approx(
        [100, 1000 / 9, 125, 1000 / 7, 1000 / 6, 200, 250, 1000 / 3, 500, 1000], rel=0.01
    )
    assert {settings.init for settings in ten.seen} == {"noise"}


@pytest.fixture
def heard():
    """Ctrl-C is not ignored, as it is under nohup and in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
def test_an_unfinished_figure_1_is_kept(capsys, out, ten):
    """Want of memory in the third, after a step; then Ctrl-C in the second."""

    def full(painting):
        error = MemoryError()
        error.painting = painting
        raise error

    ten.then = {3: full}
    code, _, stderr = run(capsys, *FIGURE, "-o", out)
    assert code == 4
    assert f"the sheet so far is kept in {out}\n" in stderr
    assert greys(out) == [[0, 0, 0, 3, 1], [0, 0, 0, 0, 2]]
    ten.seen.clear()
    ten.then = {2: lambda _: signal.raise_signal(signal.SIGINT)}
    code, stdout, _ = run(capsys, *FIGURE, "-o", out)
    assert code == 130
    assert stdout.startswith(f"{out}: 2 of 10 reconstructions (")
    assert greys(out) == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 2]]


def test_a_figure_1_of_nothing_leaves_what_is_there(capsys, out, ten):
    out.write_text("an older one")
    ten.then = dict.fromkeys(range(1, 11), lambda painting: setattr(painting, "loss", 2.0))
    result = run(capsys, *FIGURE, "-q", "-o", out)
    assert result == (1, "", f"minimal-nst: error: no step lowered a loss; {out} is not written\n")
    assert out.read_text() == "an older one"
