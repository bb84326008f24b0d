"""The fast engine and Winograd's convolution against the textbook; buffers that never show."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from minimal_nst import (
    VGG19,
    Objective,
    Settings,
    backend,
    convolution,
    engine,
    gradcheck,
    layers,
    stylize,
    winograd,
)
from minimal_nst.architecture import LAYERS
from minimal_nst.backend import CPU, Workers, available_processors
from minimal_nst.engine import _POOL, Fast, Textbook, _Room
from minimal_nst.vgg import preprocess
from threadpoolctl import threadpool_info, threadpool_limits

from conftest import posix

pytestmark = pytest.mark.usefixtures("every_processor")

SIZES = [(1, 1), (2, 30), (3, 5), (4, 4), (5, 6), (9, 11), (13, 8), (16, 16)]


def test_the_transform_computes_the_filter():
    """One dimension, as in the module's text: y = A^T [(G g) * (B^T d)]."""
    rng = np.random.default_rng(1)
    t, g, d = winograd.F4, rng.standard_normal(3), rng.standard_normal(6)
    y = t.A_T @ ((t.G @ g) * (t.B_T @ d))
    np.testing.assert_allclose(y, [d[k : k + 3] @ g for k in range(4)], atol=1e-13)
    turned = t.turned()
    y = turned.A_T @ ((t.G @ g) * (turned.B_T @ d))
    np.testing.assert_allclose(y, [d[k : k + 3] @ g[::-1] for k in range(4)], atol=1e-13)


def test_other_points_make_other_algorithms():
    """F(2, 3) and F(6, 3) come from the same construction."""
    rng = np.random.default_rng(1)
    for t, m in ((winograd.F2, 2), (winograd.F6, 6)):
        assert (t.m, t.n) == (m, m + 2)
        g, d = rng.standard_normal(3), rng.standard_normal(t.n)
        y = t.A_T @ ((t.G @ g) * (t.B_T @ d))
        np.testing.assert_allclose(y, [d[k : k + 3] @ g for k in range(t.m)], atol=1e-11)


@pytest.mark.parametrize(("H", "W"), SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-13), ("float32", 1e-5)])
def test_convolution_is_the_textbooks(H, W, dtype, tolerance, rng):
    kernel = rng.standard_normal((3, 3, 5, 7)).astype(dtype)
    bias = rng.standard_normal(7).astype(dtype)
    x = rng.standard_normal((H, W, 5)).astype(dtype)
    dy = rng.standard_normal((H, W, 7)).astype(dtype)
    for array in (kernel, bias, x, dy):
        array.flags.writeable = False
    for ours, theirs in (
        (winograd.conv_forward(x, kernel, bias), layers.conv_forward(x, kernel, bias)),
        (winograd.conv_backward(dy, kernel), layers.conv_backward(dy, kernel)),
    ):
        assert ours.dtype == dtype
        assert np.linalg.norm(ours - theirs) < tolerance * np.linalg.norm(theirs)


def test_backward_is_the_adjoint(rng):
    kernel, zero = rng.standard_normal((3, 3, 5, 7)), np.zeros(7)
    x, y = rng.standard_normal((9, 11, 5)), rng.standard_normal((9, 11, 7))
    error = gradcheck.adjoint(
        lambda x: winograd.conv_forward(x, kernel, zero),
        lambda y: winograd.conv_backward(y, kernel),
        x,
        y,
    )
    assert error < 1e-15


def test_a_kernel_that_is_not_turned_is_noticed(rng):
    """The mutant: the backward pass with the forward's matrices."""
    kernel, zero = rng.standard_normal((3, 3, 5, 7)), np.zeros(7)
    x, y = rng.standard_normal((9, 11, 5)), rng.standard_normal((9, 11, 7))
    U = winograd.transform_kernel(kernel).transpose(0, 2, 1)
    error = gradcheck.adjoint(
        lambda x: winograd.conv_forward(x, kernel, zero),
        lambda y: winograd._whole(y, U, None, winograd.F4),
        x,
        y,
    )
    assert error > 1e-3


TAPS = [
    ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1", "relu4_2"],
    ["conv1_1", "relu1_2", "pool1", "conv2_2", "relu2_2", "pool2", "conv4_1"],
    ["pool3"],
    LAYERS,
]


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
@pytest.mark.parametrize("threads", [1, 3])
def test_network_is_the_textbooks(weights, rng, taps, pooling, threads):
    """Features, and the backward pass with all taps injected, on sides that nothing divides."""
    x = preprocess(rng.uniform(0, 255, (39, 51, 3)))
    found = []
    for options in ({"conv": "im2col"}, {"conv": "winograd", "threads": threads}):
        vgg = VGG19(weights, pooling, dtype="float64", **options)
        features, tape = vgg.forward(x, taps)
        gradients = {tap: np.cos(F) for tap, F in features.items()}
        found.append((features, vgg.backward(tape, gradients)))
    (theirs, their_dx), (ours, our_dx) = found
    assert set(ours) == set(theirs)
    for tap in ours:
        scale = 1e-12 * np.abs(theirs[tap]).max()
        np.testing.assert_allclose(ours[tap], theirs[tap], rtol=0, atol=scale, err_msg=tap)
    np.testing.assert_allclose(our_dx, their_dx, rtol=0, atol=1e-10 * np.abs(their_dx).max())


@pytest.mark.parametrize("shared_from", [0, 128, 1000])
@pytest.mark.parametrize("band", [1, 2**18, 2**30])
@pytest.mark.parametrize(("m", "small", "copied"), [(2, 10**6, 512), (4, 2000, 0), (6, 50, 128)])
def test_however_it_is_cut(weights, rng, monkeypatch, shared_from, band, m, small, copied):
    """Bands of a row of tiles, of a few, of all; each a thread's own or shared by all.

    And the transforms in one product or in many, with kernels that are transposed or copied.
    """
    monkeypatch.setattr(winograd, "SMALL", small)
    monkeypatch.setattr(convolution, "COPIED_UP_TO", copied)
    monkeypatch.setattr(convolution, "BAND_BYTES", {512: band})
    monkeypatch.setattr(convolution, "SHARED_FROM", shared_from)
    tiles = {2: winograd.F2, 4: winograd.F4, 6: winograd.F6}[m]
    monkeypatch.setattr(convolution, "transform_for", lambda channels, shape: tiles)
    x = preprocess(rng.uniform(0, 255, (43, 27, 3)))
    found = []
    for conv in ("im2col", "winograd"):
        vgg = VGG19(weights, conv=conv, dtype="float64", threads=3)
        features, tape = vgg.forward(x, ["relu2_2", "relu4_2"])
        gradients = {tap: np.cos(F) for tap, F in features.items()}
        found.append([*features.values(), vgg.backward(tape, gradients)])
    for theirs, ours in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


@pytest.mark.parametrize("shape", [(9, 11), (63, 47), (129, 256), (384, 512), (1023, 1000)])
@pytest.mark.parametrize("width", [64, 128, 256, 512])
def test_bands_share_the_work_evenly(shape, width):
    """Two threads have as many, which are as tall, but for one row of tiles; and of about one size."""
    tiles = convolution.transform_for((width, width), shape)
    found = convolution.bands_for((width, width), shape, tiles, 4)
    assert found[0].start == 0
    assert found[-1].stop == shape[0]
    assert all(one.stop == other.start for one, other in pairwise(found))
    heights = [-(-(band.stop - band.start) // tiles.m) for band in found]
    assert max(heights) <= min(heights) + 1
    assert all(band.start % tiles.m == 0 for band in found)
    down, across = (-(-side // tiles.m) for side in shape)
    assert sum(heights) == down
    if width < convolution.SHARED_FROM:
        assert len(found) % 2 == 0 or len(found) == down
    row = 4 * width * across * tiles.n**2
    wanted = convolution._up_to(width, convolution.BAND_BYTES)
    assert max(heights) * row < wanted + row
    assert len(found) <= 2 or max(heights) == 1 or (max(heights) + 1) * row > wanted
    assert len(found) <= -(-down // max(heights)) + 1


def test_small_pictures_have_smaller_tiles_and_a_network_serves_all_sizes(weights, rng):
    """Kernels are transformed for one size and, when another one comes, anew."""
    images = [rng.uniform(0, 255, (size, size + 3, 3)) for size in (40, 180, 40)]
    one = VGG19(weights)
    for image, m in zip(images, (2, 4, 2), strict=True):
        ours = one.features(image, ["relu4_1"])["relu4_1"]
        fresh = VGG19(weights)
        assert (ours == fresh.features(image, ["relu4_1"])["relu4_1"]).all()
        for vgg in (one, fresh):
            assert vgg.engine._convolution("conv4_1", ours.shape[:2]).transform.m == m
            assert vgg.engine._convolution("conv2_1", ours.shape[:2]).transform.m == 4


def test_kernels_for_one_size_go_before_others_come(weights, monkeypatch):
    """Or both would be there at a time: of a layer of 512 channels 38 and 67 MB."""
    vgg, old, alive = VGG19(weights), [], []

    def noting(kernel, bias, shape):
        alive.append([kept() is not None for kept in old])
        found = convolution.prepare(kernel, bias, shape)
        if kernel.shape[2:] == (256, 512):  # conv4_1
            old.append(weakref.ref(found))
        return found

    monkeypatch.setattr(engine, "prepare", noting)
    for side in (40, 180):
        vgg.features(np.zeros((side, side, 3)), ["relu4_1"])
    assert len(old) == 2
    assert alive[-1] == [False]


@pytest.mark.parametrize(("width", "copied"), [(8, True), (128, True), (129, False)])
def test_narrow_layers_keep_their_kernels_twice(rng, width, copied):
    """Transposed in memory for the way back, once and for all; of the wide ones it is a view."""
    kernels = rng.standard_normal((16, 3, width))
    there = convolution.Winograd(kernels, None, winograd.F2)
    back = there._turned
    assert back is there._turned
    assert np.array_equal(back.U, kernels.transpose(0, 2, 1))
    assert back.U.flags.c_contiguous == copied
    assert np.shares_memory(back.U, kernels) != copied


@pytest.mark.parametrize("N", [1, 7, 64, 96, 99, 2**12])
def test_products_in_pieces(rng, N, monkeypatch):
    """None has more multiplications than is said, where the width can be halved so often."""
    asked = []
    matmul = np.matmul
    spy = lambda a, b, out: asked.append(b.shape) or matmul(a, b, out=out)
    monkeypatch.setattr(winograd, "SMALL", 24 * 64)
    matrix, x = rng.standard_normal((4, 6)), rng.standard_normal((3, 6, N + 5))[..., :N]
    out = np.zeros((3, 4, N + 2))
    with monkeypatch.context() as patch:
        patch.setattr(winograd.np, "matmul", spy)
        winograd._apply(matrix, x, out[..., :N])
    np.testing.assert_allclose(out[..., :N], matrix @ x, rtol=1e-13, atol=1e-13)
    assert not out[..., N:].any()
    assert [shape[-1] for shape in asked] == [{1: 1, 7: 7, 96: 48, 99: 99}.get(N, 64)]


@pytest.mark.parametrize(
    ("channels", "side", "m"),
    [
        ((64, 64), 128, 6),
        ((64, 64), 127, 4),
        ((64, 128), 127, 4),
        ((64, 128), 128, 6),
        ((128, 256), 127, 4),
        ((256, 256), 128, 6),
        ((256, 512), 64, 4),
        ((512, 512), 128, 6),
        ((512, 512), 16, 2),
        ((256, 256), 16, 4),
    ],
)
def test_tiles_are_as_large_as_pays(channels, side, m):
    assert convolution.transform_for(channels, (side, side)).m == m
    assert convolution.transform_for(channels, (4 * side, side // 4)).m == m


def test_a_large_picture_in_large_tiles_is_the_textbooks(weights, rng):
    """A layer's features and the gradient from it, in float32 against the textbook's in float64."""
    x = preprocess(rng.uniform(0, 255, (131, 137, 3)))
    found = []
    for options in ({"conv": "im2col", "dtype": "float64"}, {}):
        vgg = VGG19(weights, **options)
        features, tape = vgg.forward(vgg.backend.upload(x, vgg.dtype), ["relu2_2"])
        found.append((features["relu2_2"], vgg.backward(tape, {"relu2_2": features["relu2_2"]})))
    assert vgg.engine._convolution("conv1_2", x.shape[:2]).transform is winograd.F6
    for theirs, ours in zip(*found, strict=True):
        assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_same_bits_whatever_the_number_of_threads(weights, content, style, dtype):
    found = []
    for threads in (1, 2, 5):
        vgg = VGG19(weights, dtype=dtype, threads=threads)
        objective = Objective(vgg, content, [style], Settings())
        found.append(objective(255.0 - content))
    for loss, dx in found[1:]:
        assert loss == found[0][0]
        assert (dx == found[0][1]).all()


def test_what_leaves_the_network_is_the_callers_own(weights, content, rng):
    """Neither later evaluations nor a second tape change features, gradients or a first tape."""
    vgg = VGG19(weights)
    x = preprocess(content).astype("float32")
    taps = ["relu1_2", "pool1", "relu2_2"]
    features, tape = vgg.forward(x, taps)
    gradients = {tap: np.sin(F) for tap, F in features.items()}
    dx = vgg.backward(tape, gradients)
    before = [a.copy() for a in (dx, *features.values(), *gradients.values())]
    other, _ = vgg.forward(-x, [*taps, "relu3_4"])
    again = vgg.backward(tape, gradients)
    for array, kept in zip((dx, *features.values(), *gradients.values()), before, strict=True):
        assert (array == kept).all()
    assert (again == dx).all()
    assert (other["relu1_2"] != features["relu1_2"]).any()


@pytest.mark.parametrize("deepest", ["conv3_1", "relu3_1", "pool3", "pool4"])
def test_style_may_be_the_deepest_layer_of_any_kind(weights, content, style, deepest):
    settings = Settings(style_layers=deepest, content_layers="relu1_2")
    (loss, dx), (expected, their_dx) = (
        Objective(VGG19(weights, conv=conv, dtype="float64"), content, [style], settings)(
            255 - content
        )
        for conv in ("winograd", "im2col")
    )
    assert loss == pytest.approx(expected)
    np.testing.assert_allclose(dx, their_dx, rtol=0, atol=1e-10 * np.abs(their_dx).max())


@pytest.mark.parametrize("taps", TAPS)
@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_the_way_back_may_be_over_what_nobody_looks_at_any_more(weights, rng, taps, pooling):
    """Not a bit is another, though the gradients are made of the outputs, row by row."""
    vgg = VGG19(weights, pooling, dtype="float64", threads=3)
    x = preprocess(rng.uniform(0, 255, (39, 51, 3)))
    mixed = {C: rng.standard_normal((C, C)) for C in (64, 128, 256, 512)}
    found = []
    for recycled in (False, True):
        features, tape = vgg.forward(x, taps)
        before = {tap: F.copy() for tap, F in features.items()}
        gradients = {tap: vgg.engine.transform(F, mixed[F.shape[2]]) for tap, F in features.items()}
        if recycled:
            vgg.engine.recycle(features.values())
        found.append(vgg.backward(tape, gradients))
        overwritten = {tap for tap, F in features.items() if (before[tap] != F).any()}
        inputs = {LAYERS[LAYERS.index(step[0]) - 1] for step, _ in tape[1:] if "conv" in step[0]}
        assert overwritten == (inputs & set(taps) if recycled else set())
    assert (found[0] == found[1]).all()


def test_scratch_is_as_large_as_the_largest_map_between_taps(weights, content, style):
    """What the pictures took that were described before, the content and a larger style, is back."""
    vgg = VGG19(weights)
    objective = Objective(vgg, content, [np.tile(style, (3, 3, 1))], Settings())
    objective(content)
    H, W, _ = content.shape
    largest = 4 * (H // 4) * (W // 4) * 256  # after pool1, and between relu3_1 and relu4_1
    assert [room.take((0,), "uint8").base.nbytes for room in vgg.engine._memory.scratch] == [
        largest
    ] * 2


@pytest.mark.parametrize("conv", ["im2col", "winograd"])
def test_a_network_that_is_dropped_gives_its_memory_back_at_once(weights, content, conv):
    """Hundreds of megabytes must not wait for the garbage collector."""
    gc.disable()
    try:
        vgg = VGG19(weights, conv=conv)
        vgg.features(content, ["relu1_2"])
        watched = weakref.ref(vgg), weakref.ref(vgg.engine)
        del vgg
        assert [watch() for watch in watched] == [None, None]
    finally:
        gc.enable()


def test_a_room_gives_what_was_asked_for_in_the_same_memory():
    room = _Room()
    first = room.take((3, 4), "float64")
    again = room.take((3, 4), np.dtype("float64"))
    smaller = room.take((3, 4), "float32")
    assert (first.dtype, again.dtype, smaller.dtype) == ("float64", "float64", "float32")
    assert np.shares_memory(first, again)
    assert np.shares_memory(first, smaller)
    assert room.take((5, 4), "float32").shape == (5, 4)


def test_threads_share_a_network(weights, rng):
    """Two at once, on pictures of two sizes, compute what they compute alone; BLAS is as before."""
    before = blas_threads()
    images = [rng.uniform(0, 255, size) for size in ((40, 56, 3), (64, 33, 3))]
    vgg = VGG19(weights, threads=2)
    objectives = [Objective(vgg, image, [255 - image], Settings()) for image in images]
    alone = [objective(image[::-1]) for objective, image in zip(objectives, images, strict=True)]

    def evaluate(k):
        return [objectives[k % 2](images[k % 2][::-1]) for _ in range(5)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(evaluate, range(4)))
    for k, results in enumerate(found):
        for loss, dx in results:
            assert loss == alone[k % 2][0]
            assert (dx == alone[k % 2][1]).all()
    assert blas_threads() == before


@pytest.mark.parametrize("conv", ["im2col", "winograd"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_networks_and_objectives_are_copied_and_pickled(weights, content, style, conv, copied):
    vgg = VGG19(weights, "avg", conv, threads=2)
    objective = Objective(vgg, content, [style], Settings(pooling="avg"))
    loss, dx = objective(255.0 - content)
    twin = copied(objective)
    assert twin.vgg is not vgg
    loss2, dx2 = twin(255.0 - content)
    assert loss2 == loss
    assert (dx2 == dx).all()
    assert twin.vgg.backend is CPU


@posix
def test_a_network_works_after_a_fork():
    """In a process of its own, because pytest's has threads that a fork would not take along."""
    code = """
import os, numpy as np, minimal_nst as nst
vgg = nst.VGG19(nst.load_weights(), threads=2)
image = np.random.default_rng(1).uniform(0, 255, (40, 40, 3))
before = vgg.features(image, "relu3_1")["relu3_1"]
child = os.fork()
if child == 0:
    os._exit(int((vgg.features(image, "relu3_1")["relu3_1"] != before).any()))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "0\n", done.stderr


def test_pictures_of_changing_sizes(weights, rng):
    """Buffers grow, and a smaller picture after a larger one is computed as if it were first."""
    vgg, fresh = VGG19(weights), VGG19(weights)
    for side in (40, 64, 17):
        image = rng.uniform(0, 255, (side, side + 3, 3))
        last = vgg.features(image, ["relu3_1"])["relu3_1"]
    assert (last == fresh.features(image, ["relu3_1"])["relu3_1"]).all()


@pytest.mark.parametrize(("H", "counted"), [(4, 1), (9, 3), (13, 4)])
def test_the_textbooks_bands_leave_no_seams(H, counted, monkeypatch, rng):
    """Both ways, with bands as low as they get; the rows around a band are there and go again."""
    monkeypatch.setattr(engine, "COLUMNS_BYTES", 1)
    x, dy = rng.standard_normal((H, 11, 3)), rng.standard_normal((H, 11, 5))
    kernel, bias = rng.standard_normal((3, 3, 3, 5)), rng.standard_normal(5)
    expected = layers.conv_forward(x, kernel, bias), layers.conv_backward(dy, kernel)
    called, columns = [], layers.im2col
    monkeypatch.setattr(layers, "im2col", lambda x: called.append(x.shape) or columns(x))
    textbook = Textbook(lambda _: (kernel, bias), "max")
    np.testing.assert_allclose(textbook.forward(("conv1_1",), x, True)[0], expected[0], atol=1e-13)
    assert len(called) == counted
    np.testing.assert_allclose(textbook.backward(("conv1_1",), dy, None), expected[1], atol=1e-13)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_poolings_conventions_hold_in_the_fast_one(pooling, rng):
    """Ties go to the first in row-major order; nothing goes where the ReLU is closed."""
    x = rng.integers(0, 3, (9, 11, 4)).astype(float)
    y = np.empty((4, 5, 4))
    gates = np.empty(y.shape, "uint8")
    _POOL[pooling](x, y, gates)
    textbook = Textbook(lambda _: None, pooling)
    expected, cache = textbook.forward(("pool1",), x, True)
    assert (y == expected).all()
    dx = textbook.backward(("pool1",), np.ones(y.shape), cache) * (x > 0)
    assert 0 < np.count_nonzero(dx) < np.count_nonzero(x)
    for k, quarter in enumerate(layers.quarters(dx)):
        assert ((gates & (1 << k) != 0) == (quarter != 0)).all()


def test_of_a_relu_a_bit_is_kept_for_each_number(weights, content):
    """And no more, where nobody looks at its output; of a pooling a byte."""
    _, tape = VGG19(weights).forward(preprocess(content), ["relu3_4"])
    gates = {step[-1]: cache[0] for step, cache in tape}
    H, W, _ = content.shape
    wanted = {"relu2_1": H // 2 * (W // 2) * 128 / 8, "relu3_3": H // 4 * (W // 4) * 256 / 8}
    wanted["pool1"] = H // 2 * (W // 2) * 64
    assert {layer: gates[layer].nbytes for layer in wanted} == wanted


def test_who_computes_what(weights):
    assert isinstance(VGG19(weights).engine, Fast)
    assert isinstance(VGG19(weights, conv="im2col").engine, Textbook)
    assert isinstance(VGG19(weights, dtype="complex128").engine, Textbook)


def test_nan_is_not_hidden(weights, content):
    x = preprocess(content).astype("float32")
    x[20, 30] = np.nan
    for conv in ("im2col", "winograd"):
        features, _ = VGG19(weights, conv=conv).forward(x, ["relu5_1"])
        assert np.isnan(features["relu5_1"]).any()


def blas_threads():
    """Of NumPy's BLAS; SciPy's wheels bring another one, which the network does not use."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return [pool["num_threads"] for pool in pools if "scipy.libs" not in pool["filepath"]]


@pytest.fixture
def two_of_blas():
    """So that one is not as many as before, in whatever way the tests are run."""
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.usefixtures("two_of_blas")
def test_threads(monkeypatch):
    before = blas_threads()
    assert set(before) == {2}
    inside = Workers(2).run(lambda _: blas_threads(), range(4))
    assert all(set(threads) == {1} for threads in inside)  # and there is a BLAS
    assert blas_threads() == before
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Workers().threads == 3
    for unusable in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert Workers().threads == min(available_processors(), 8)
    monkeypatch.setattr(backend, "available_processors", lambda: 64)
    assert Workers().threads == 8
    assert Workers(64).threads == 64


def test_threads_of_another_thread_than_the_first():
    """Whoever asked threadpoolctl first, be it the user: BLAS has one thread inside, and then as before."""
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as pool:
        before = blas_threads()
        inside = pool.submit(Workers(2).run, lambda _: blas_threads(), range(4)).result()
        assert all(threads == 1 for found in inside for threads in found)
        assert pool.submit(blas_threads).result() == blas_threads() == before
    assert Workers(2).run(lambda _: blas_threads(), [1]) == [[1] * len(before)]


def all_blas_threads():
    """Of every BLAS that is loaded."""
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_alone(weights, content, style):
    """While a painting is made, no BLAS has threads but one; nor has SciPy's, loaded or not before."""
    with threadpool_limits(2, user_api="blas"):
        before = all_blas_threads()
        assert set(before) == {2}
        with Workers(2).alone():
            assert set(all_blas_threads()) == {1}
            Workers(2).run(lambda x: x, [1])
            assert set(all_blas_threads()) == {1}  # not given back by those inside
        assert all_blas_threads() == before
        with VGG19(weights, conv="im2col").engine.alone():  # whose products are BLAS'
            assert all_blas_threads() == before
        seen = []
        settings = Settings(size=32, iterations=2)
        stylize(content, style, settings, lambda progress: seen.extend(all_blas_threads()))
        assert set(seen) == {1}
        assert all_blas_threads() == before


def test_the_callers_errstate_holds_in_the_threads():
    zero = np.zeros(1)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        Workers(2).run(lambda x: 1 / x, [zero, zero])
    with np.errstate(divide="ignore"):
        assert Workers(2).run(lambda x: (1 / x).item(), [zero]) == [np.inf]


@pytest.mark.usefixtures("two_of_blas")
@pytest.mark.parametrize("threads", [1, 2])  # the caller is one of them
def test_errors_in_a_thread_reach_the_caller(threads):
    before = blas_threads()
    with pytest.raises(ZeroDivisionError):
        Workers(threads).run(lambda n: 1 / n, [1, 0])
    assert blas_threads() == before


def test_all_items_are_done_once_by_several_threads_and_in_order():
    both = threading.Barrier(2)

    def wait_for_the_other(n):
        if n < 2:
            both.wait(timeout=20)  # breaks if one thread has to do both
        return n, threading.get_ident()

    found = Workers(2).run(wait_for_the_other, iter(range(50)))
    assert [n for n, _ in found] == list(range(50))
    assert len({thread for _, thread in found}) == 2
    assert threading.get_ident() in {thread for _, thread in found}
    assert Workers(3).run(str, []) == []


@pytest.mark.parametrize("fails", ["the caller", "the other"])
def test_after_an_error_nothing_is_begun_and_nothing_goes_on(fails):
    """Or else a thread would write into buffers that the caller has taken for something else."""
    both, begun, done = threading.Barrier(2), [], []
    caller = threading.get_ident()

    def work(n):
        begun.append(n)
        if n < 2:
            both.wait(timeout=20)
            if (threading.get_ident() == caller) == (fails == "the caller"):
                raise ZeroDivisionError
        time.sleep(0.2)
        done.append(n)

    with pytest.raises(ZeroDivisionError):
        Workers(2).run(work, range(50))
    assert len(begun) == 2
    assert len(done) == 1
