"""The network: taps, names, depth, injection of gradients, dtypes, devices."""

from __future__ import annotations

import re
import weakref

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings
from minimal_nst.architecture import CONVOLUTIONS, LAYERS, canonical
from minimal_nst.backend import Backend
from minimal_nst.errors import UsageError
from minimal_nst.vgg import deprocess, preprocess

import strict


def test_architecture_is_vgg19():
    assert len(CONVOLUTIONS) == 16
    assert len(LAYERS) == 16 * 2 + 5
    assert sum(9 * i * o + o for i, o in CONVOLUTIONS.values()) == 20_024_384  # Keras' count
    assert LAYERS[:5] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1"]
    assert LAYERS[-2:] == ["relu5_4", "pool5"]


def test_names():
    assert canonical("block4_conv2") == "relu4_2"
    assert canonical("block4_pool") == "pool4"
    assert canonical(" conv3_4 ") == "conv3_4"
    with pytest.raises(UsageError, match="'relu4_5'; did you mean relu4_"):
        canonical("relu4_5")
    assert canonical("RELU4_2") == "relu4_2"
    with pytest.raises(UsageError, match="conv1_1, relu4_2, pool3"):
        canonical("fc7")


def test_preprocessing_is_bgr_minus_mean_and_back():
    red = np.array([[[255, 0, 0]]], dtype="uint8")
    np.testing.assert_allclose(preprocess(red)[0, 0], [-103.939, -116.779, 255 - 123.68])
    np.testing.assert_allclose(deprocess(preprocess(red)), red, atol=1e-12)


def test_taps_have_their_shapes_and_keras_names_have_the_relu_inside(weights, content):
    vgg = VGG19(weights)
    taps = ["conv1_1", "block1_conv1", "relu1_1", "pool1", "block3_conv2", "pool5"]
    features = vgg.features(content, taps)
    assert list(features) == taps
    H, W, _ = content.shape
    shapes = {tap: array.shape for tap, array in features.items()}
    assert shapes["conv1_1"] == (H, W, 64)
    assert shapes["pool1"] == (H // 2, W // 2, 64)
    assert shapes["block3_conv2"] == (H // 4, W // 4, 256)
    assert shapes["pool5"] == (H // 32, W // 32, 512)
    assert features["conv1_1"].min() < 0
    assert (features["block1_conv1"] == features["relu1_1"]).all()
    assert (features["relu1_1"] == np.maximum(features["conv1_1"], 0)).all()


def test_of_features_no_masks_are_kept(weights, content, monkeypatch):
    """Only a backward needs them: one step's are there at a time."""
    vgg = VGG19(weights, threads=1)  # others may hold on a little longer
    forward, masks, most = vgg.engine.forward, [], [0]

    def spy(step, x, kept, by_rows):
        y, (gates, x) = forward(step, x, kept, by_rows)
        if step[0] != "conv1_1":  # whose mask is computed again
            masks.append(weakref.ref(gates))
        most[0] = max(most[0], sum(mask() is not None for mask in masks))
        return y, (gates, x)

    monkeypatch.setattr(vgg.engine, "forward", spy)
    vgg.features(content, ["relu4_1"])
    assert most == [1]
    most[0] = 0
    masks.clear()
    _, tape = vgg.forward(preprocess(content), ["relu4_1"])
    assert most == [len(masks)] == [len(tape) - 1]


class Spy(dict):
    """Weights that remember which layers were asked for."""

    def __getitem__(self, name):
        self.asked = {*getattr(self, "asked", ()), name}
        return super().__getitem__(name)


@pytest.mark.parametrize("conv", ["im2col", "winograd"])
def test_computes_no_deeper_than_the_deepest_tap(weights, content, conv):
    spy = Spy(weights)
    vgg = VGG19(spy, conv=conv)
    _, tape = vgg.forward(preprocess(content).astype("float32"), ["pool1", "relu1_1"])
    assert [layer for step, _ in tape for layer in step] == LAYERS[:5]
    assert spy.asked == {"block1_conv1", "block1_conv2"}


def test_only_the_injected_taps_contribute_and_gradients_add(weights, content, rng):
    """The backward pass is linear in what is injected: two taps at once, or one by one."""
    vgg = VGG19(weights, dtype="float64")
    taps = ["relu1_2", "conv2_1", "pool2"]
    features, tape = vgg.forward(preprocess(content), taps)
    gradients = {tap: rng.standard_normal(features[tap].shape) for tap in taps}
    for gradient in gradients.values():
        gradient.flags.writeable = False
    together = vgg.backward(tape, gradients)
    one_by_one = sum(vgg.backward(tape, {tap: gradient}) for tap, gradient in gradients.items())
    np.testing.assert_allclose(together, one_by_one, rtol=0, atol=1e-9 * abs(together).max())


def test_average_pooling_differs_from_maximum(weights, content):
    high, mean = (
        VGG19(weights, pooling=p).features(content, ["pool1", "relu1_2"]) for p in ("max", "avg")
    )
    assert (high["relu1_2"] == mean["relu1_2"]).all()
    assert (high["pool1"] >= mean["pool1"]).all()
    assert high["pool1"].mean() > 1.05 * mean["pool1"].mean()


@pytest.mark.parametrize(("conv", "tolerance"), [("im2col", 1e-4), ("winograd", 1e-3)])
def test_float32_agrees_with_float64(weights, content, conv, tolerance, rng):
    """Winograd rounds a little more, so a few more maxima and signs fall the other way."""
    single, double = (VGG19(weights, conv=conv, dtype=dtype) for dtype in ("float32", "float64"))
    x, tap = preprocess(content), "relu5_1"
    features, tape = double.forward(x, [tap])
    features32, tape32 = single.forward(x.astype("float32"), [tap])
    dy = rng.standard_normal(features[tap].shape)
    dx, dx32 = double.backward(tape, {tap: dy}), single.backward(tape32, {tap: dy.astype("f4")})
    assert features32[tap].dtype == dx32.dtype == np.float32
    assert distance(features32[tap], features[tap]) < 1e-5
    assert distance(dx32, dx) < tolerance


def distance(a, b):
    """Relative, in the 2-norm."""
    return np.linalg.norm(a - b) / np.linalg.norm(b)


@pytest.mark.parametrize("pooling", ["max", "avg"])
def test_same_on_every_device(backend: Backend, weights, content, pooling, rng):
    here = VGG19(weights, pooling, dtype="float64")
    there = VGG19(weights, pooling, dtype="float64", device=backend)
    x = preprocess(content)
    taps = ["relu1_1", "conv3_1", "pool3"]
    features, tape = here.forward(x, taps)
    on_device, device_tape = there.forward(backend.upload(x, "float64"), taps)
    gradients = {tap: rng.standard_normal(features[tap].shape) for tap in taps}
    uploaded = {tap: backend.upload(g, "float64") for tap, g in gradients.items()}
    dx, device_dx = here.backward(tape, gradients), there.backward(device_tape, uploaded)
    for mine, theirs in [*((features[t], on_device[t]) for t in taps), (dx, device_dx)]:
        assert type(theirs) is type(backend.upload(x, "float64"))
        scale = np.abs(mine).max()
        np.testing.assert_allclose(backend.download(theirs), mine, rtol=0, atol=1e-10 * scale)


def test_the_stand_in_is_strict(rng):
    """Otherwise the tests on it would prove nothing: everything that CuPy refuses, it refuses."""
    host = rng.standard_normal((3, 3))
    device = strict.BACKEND.upload(host, "float64")
    offences = [
        lambda: device + host,
        lambda: host + device,
        lambda: host @ device,
        lambda: device * np.float64(2),
        lambda: np.exp(device),
        lambda: np.sum(device),
        lambda: np.asarray(device),
        lambda: np.concatenate([device, device]),
        lambda: device.__setitem__(0, host[0]),
        lambda: strict.where(host > 0, device, 0),
        lambda: device * [1.0, 2.0, 3.0],
        lambda: strict.multiply(device, device, out=host),
        lambda: hash(device),
        lambda: device.astype("float32").sum(dtype="float64"),
    ]
    for offence in offences:
        with pytest.raises(TypeError):
            offence()
    with pytest.raises(ValueError, match="size 1"):
        bool(device)
    with strict.counted() as counts:
        assert bool((device != strict.asarray(host))[1, 2]) is False
        float(device[0, 0])
        device[device > 0] = 0.0
        strict.asnumpy(strict.asarray(host))
        assert counts == {"wait": 3, "up": 2, "down": 1}
    element = device[1, 1]
    element += 5.0  # a view
    element /= 2.0
    assert strict.asnumpy(device)[1, 1] == (min(host[1, 1], 0) + 5) / 2
    assert strict.asarray(device) is device
    assert np.isnan(strict.asnumpy(strict.empty((2, 3), "float32"))).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "l2"}, {"pooling": 3}, {"dtype": "float16"}, {"conv": "fft"},
        {"conv": ["im2col"]}, {"device": "tpu"}, {"device": 3}, {"threads": 0},
        {"threads": 1.5}, {"threads": 0, "conv": "im2col"},
    ],
)  # fmt: skip
def test_bad_options(weights, wrong):
    with pytest.raises(UsageError, match=re.escape(repr(next(iter(wrong.values()))))):
        VGG19(weights, **wrong)


def test_bad_weights(weights):
    for wrong, message in (({}, "hold no block1_conv1"), (3, "weights are 3")):
        with pytest.raises(UsageError, match=message):
            VGG19(wrong)
    kernel, bias = weights["block1_conv1"]
    turned = {**weights, "block1_conv1": (kernel.transpose(3, 2, 0, 1), bias)}
    with pytest.raises(UsageError, match=r"block1_conv1 have the shapes \(64, 3, 3, 3\) and"):
        VGG19(turned).features(np.zeros((20, 16, 3)), ["relu1_1"])


BAD_PICTURES = {
    r"shape \(20, 16\)": np.zeros((20, 16)),
    r"shape \(20, 16, 4\)": np.zeros((20, 16, 4)),
    r"holds complex128": np.full((20, 16, 3), 9j),
    r"not finite": np.full((20, 16, 3), np.nan),
    r"values up to 0.5 only": np.full((20, 16, 3), 0.5),
    r"from -1.0 to -1.0": np.full((20, 16, 3), -1.0),
    r"from 256 to 256": np.full((20, 16, 3), 256),
    r"holds <U3|holds object|no array": [["red", "blue"], ["green"]],
    r"shape \(\)": None,
}


@pytest.mark.parametrize("message", BAD_PICTURES)
def test_bad_pictures(weights, message):
    """The same that `stylize` refuses, from the network and from the objective."""
    vgg, picture, fine = VGG19(weights), BAD_PICTURES[message], np.zeros((20, 16, 3))
    with pytest.raises(UsageError, match=message):
        vgg.features(picture, ["relu1_1"])
    with pytest.raises(UsageError, match=f"the content .*{message}|{message}"):
        Objective(vgg, picture, [fine], Settings())
    with pytest.raises(UsageError, match="style 2"):
        Objective(vgg, fine, [fine, picture], Settings())


def test_bad_taps_and_sizes(weights):
    vgg = VGG19(weights)
    with pytest.raises(UsageError, match="16x20 pixels is too small for pool5"):
        vgg.features(np.zeros((20, 16, 3)), ["pool5"])
    for taps, message in (([3], "3 is no name of a layer"), (3, "taps are 3"), ("fc7", "'fc7'")):
        with pytest.raises(UsageError, match=message):
            vgg.features(np.zeros((20, 16, 3)), taps)
    assert vgg.features(np.zeros((20, 16, 3)), []) == {}
