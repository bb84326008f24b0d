"""The GPU's engine against the textbook: its kernels run on the processor at hand, or on a real GPU.

The kernels' bodies are compiled as C++ (`compiled.py`) where there is a compiler, and, where NVRTC is
installed, as CUDA for cards of several generations, which needs no card.
"""

from __future__ import annotations

import os
import re

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings, coordinates, gpu, pairs, stacks
from minimal_nst.engine import Textbook
from minimal_nst.gpu import Gpu, combination
from minimal_nst.vgg import preprocess
from minimal_nst.winograd import F4, F6

import compiled
import nvrtc
import strict
from test_engine import SIZES, TAPS

STEPS = [("conv1_1",), ("conv1_1", "relu1_1"), ("conv1_1", "relu1_1", "pool1")]


def differences(device, H, W, step, pooling="max", dtype="float64", added=True):
    """How far a step's output and gradient are from the textbook's, relative to the largest."""
    rng = np.random.default_rng(H * 100 + W)
    x, kernel, bias = (
        rng.standard_normal(shape).astype(dtype) for shape in ((H, W, 5), (3, 3, 5, 7), 7)
    )
    up = lambda a: device.upload(a, dtype)
    engine = Gpu(lambda _: (up(kernel), up(bias)), pooling, device)
    textbook = Textbook(lambda _: (kernel, bias), pooling)
    y, cache = engine.forward(step, up(x), True)
    expected, tape = x, []
    for layer in step:
        expected, kept = textbook.forward((layer,), expected, True)
        tape.append((layer, kept))
    found = [(device.download(y), expected)]
    dy = rng.standard_normal(expected.shape).astype(dtype)
    own = rng.standard_normal(x.shape).astype(dtype) if added else None
    dx = engine.backward(step, up(dy), cache, up(own) if added else None)
    for layer, kept in reversed(tape):
        dy = textbook.backward((layer,), dy, kept)
    found.append((device.download(dx), dy + own if added else dy))
    assert all(ours.dtype == theirs.dtype == dtype for ours, theirs in found)
    return [np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in found]


@pytest.mark.parametrize(("H", "W"), SIZES)
@pytest.mark.parametrize("step", STEPS, ids=len)
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 3e-5)])
def test_a_step_is_the_textbooks(device, H, W, step, pooling, dtype, tolerance):
    if len(step) == 3:
        H, W = H + 1, W + 1  # a pooling leaves nothing of less than 2
    for added in (True, False):
        assert max(differences(device, H, W, step, pooling, dtype, added)) < tolerance


@pytest.mark.parametrize("limit", [1, 30_000])
def test_in_bands_of_tiles(device, monkeypatch, limit):
    monkeypatch.setattr(gpu, "TILES_BYTES", limit)
    assert max(differences(device, 21, 11, STEPS[2])) < 1e-13


MUTANTS = {  # with the tile's sides
    "the tile is not turned": ("turned ? {n} - 1 - r : r", "r"),
    "the tile is turned about one axis": ("turned ? {n} - 1 - q : q", "q"),
    "what is written is not turned": ("turned ? {m} - 1 - q : q", "q"),
    "no zeros around the picture": ("h >= 0 && w >= 0", "true"),
    "an odd last row gets a gradient": ("h >> half < H >> half", "h < H"),
    "the gates are not asked": ("gates[at] >> place & 1", "true"),
    "the window's places are mixed up": ("2 * (h & 1) + (w & 1)", "(h & 1) + 2 * (w & 1)"),
    "a mean's share is the whole": ("share * x[at]", "x[at]"),
    "a column too far to the left": (
        "{m} * (int)(tile % across) - 1",
        "{m} * (int)(tile % across)",
    ),
    "the band is forgotten": ("first + ", ""),
    "no bias": ("if (biased) v[r][q] += bias[c];", ""),
    "not rectified": ("rectified && v[r][q] < 0", "false"),
    "the mean is the sum": ("sum / 4", "sum"),
    "the loser wins": ("a > best", "a < best"),
    "the gate is open at 0": ("best > 0", "best >= 0"),
    "the tap's gradient is lost": ("added ? best + gradient[at] : best", "best"),
}


@pytest.mark.parametrize(
    ("transform", "dtype"), [(F4, "float64"), (F6, "float32")], ids=["F4", "F6"]
)
@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_of_the_kernels_are_rejected(monkeypatch, name, transform, dtype):
    """By a wrong number, or by a read beyond an array."""
    before, after = (text.format(m=transform.m, n=transform.n) for text in MUTANTS[name])
    bodies = {
        key: body.replace(before, after) if key.endswith(str(transform.m)) else body
        for key, body in gpu.BODIES.items()
    }
    assert bodies != gpu.BODIES
    monkeypatch.setattr(gpu, "BODIES", bodies)
    monkeypatch.setattr(gpu, "TILES_BYTES", 1)
    try:
        found = [
            error
            for step in STEPS
            for pooling in ("max", "avg")
            for error in differences(strict.BACKEND, 9, 11, step, pooling, dtype)
        ]
    except IndexError:
        return
    assert not max(found) < 1e-3


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_network_is_the_textbooks(device, weights, rng, taps, pooling):
    x = preprocess(rng.uniform(0, 255, (39, 51, 3)))
    found = []
    for where, conv in (("cpu", "im2col"), (device, "winograd")):
        vgg = VGG19(weights, pooling, conv, "float64", where)
        features, tape = vgg.forward(vgg.backend.upload(x, "float64"), taps)
        down = vgg.backend.download
        features = {tap: down(F) for tap, F in features.items()}
        gradients = {tap: vgg.backend.upload(np.cos(F), "float64") for tap, F in features.items()}
        found.append((features, down(vgg.backward(tape, gradients))))
    (theirs, their_dx), (ours, our_dx) = found
    for tap in theirs:
        scale = 1e-12 * np.abs(theirs[tap]).max()
        np.testing.assert_allclose(ours[tap], theirs[tap], rtol=0, atol=scale, err_msg=tap)
    np.testing.assert_allclose(our_dx, their_dx, rtol=0, atol=1e-10 * np.abs(their_dx).max())


def test_nan_is_not_hidden_and_the_same_input_gives_the_same_bits(device, weights, content):
    vgg = VGG19(weights, device=device)
    first, again = (
        device.download(vgg.features(content, ["relu5_1"])["relu5_1"]) for _ in range(2)
    )
    assert (first == again).all()
    x = preprocess(content)
    x[20, 30] = np.nan
    features, _ = vgg.forward(device.upload(x, "float32"), ["relu5_1"])
    assert np.isnan(device.download(features["relu5_1"])).any()


def test_few_launches_and_one_question(weights, content, style):
    """Three for a convolution with its ReLU and pooling, and a few for each loss."""
    vgg = VGG19(weights, device=strict.BACKEND)
    objective = Objective(vgg, content, [style], Settings())
    x = vgg.backend.upload(preprocess(255.0 - content), "float32")
    with strict.counted() as counts:
        objective.evaluate(x)
        assert counts == {"down": 1}
    launches = strict.LAUNCHES
    convolutions = 13  # up to relu5_1
    assert launches["minimal_nst_enter_6"] == launches["minimal_nst_leave_6"] == 2 * convolutions
    assert launches.total() < 150
    assert len(strict.COMPILED) == 2
    textbook = VGG19(weights, conv="im2col", device=strict.BACKEND)
    with strict.counted():
        Objective(textbook, content, [style], Settings()).evaluate(x)
        assert strict.LAUNCHES.total() > 5 * 150


def test_tf32_costs_winograd_no_more_than_im2col(weights, content, style, monkeypatch):
    """With factors that are rounded as such a card does, to 10 bits of a mantissa."""
    x = preprocess(0.7 * content + 0.3 * np.roll(content, 7, 1))
    settings = Settings(style_layers="relu1_1,relu3_1", content_layers="relu3_2")

    def evaluate(conv, dtype):
        vgg = VGG19(weights, conv=conv, dtype=dtype, device=strict.BACKEND)
        with strict.BACKEND.products("tf32"):
            _, dx = Objective(vgg, content, [style], settings).evaluate(x)
        return strict.asnumpy(dx)

    exact = evaluate("im2col", "float64")
    error = lambda conv: np.linalg.norm(evaluate(conv, "float32") - exact) / np.linalg.norm(exact)
    im2col, by_f4 = error("im2col"), error("winograd")
    assert 1e-4 < im2col < 0.1
    assert by_f4 < 1.5 * im2col
    monkeypatch.setattr(gpu, "rounds", lambda xp: False)
    assert error("winograd") > 1.2 * by_f4  # by F(6x6)


def test_sums_are_written_as_one_would():
    assert combination(np.array([1.0, 0.0, -1.5]), "abc") == "a - T(1.5) * c"
    assert combination(np.array([-1.0, 1.0, 0.25]), "abc") == "- a + b + T(0.25) * c"


BODIES = gpu.BODIES | stacks.BODIES | pairs.BODIES | coordinates.BODIES
PARAMETERS = gpu.PARAMETERS | stacks.PARAMETERS | pairs.PARAMETERS | coordinates.PARAMETERS


@pytest.mark.skipif(
    nvrtc.LIBRARY is None and os.environ.get("REQUIRE_COMPILER") != "1",
    reason="nvidia-cuda-nvrtc-cu12 is not installed",
)
@pytest.mark.parametrize(
    ("T", "name"),
    [("float", name) for name in BODIES]
    + [("double", name) for name in BODIES if not name.endswith("_6")],  # double is F(4x4)'s
)
@pytest.mark.parametrize("card", [70, 80, 90, 100])
def test_kernels_compile_for_cards_of_all_ages(T, name, card):
    """All of a thread's numbers stay in registers."""
    log = nvrtc.compiled(nvrtc.source(PARAMETERS[name], BODIES[name], T), card)
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log
    (registers,) = re.findall(r"Used (\d+) registers", log)
    most = 144 if name == "enter_6" else 128  # of 65536, for 384 and 512 threads at a time
    assert int(registers) <= most
    with pytest.raises(SyntaxError, match="undefined"):
        nvrtc.compiled(nvrtc.source(PARAMETERS[name], "T x = there_is_none;", T), card)


def test_where_nothing_compiles_tests_are_skipped(monkeypatch):
    monkeypatch.setattr(compiled, "COMPILER", None)
    with pytest.raises(pytest.skip.Exception, match="needs a C.. compiler"):
        compiled.library("that was never asked for before")
