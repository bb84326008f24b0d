"""Weight files: ours and Keras' are read; everything strange is refused before it is read."""

from __future__ import annotations

import hashlib

import h5py
import numpy as np
import pytest
from minimal_nst import load_weights
from minimal_nst.architecture import CONVOLUTIONS, keras_name
from minimal_nst.errors import FileError
from minimal_nst.weights import (
    EMBEDDED_SHA256,
    ENVIRONMENT,
    Weights,
    find_weights,
    identify,
    oddities,
)

import fuzz
from conftest import ROOT

EMBEDDED = ROOT / "weights" / "vgg19.h5"


def write_keras(path, weights, style="notop", skip=()):
    """A file in the layout of Keras' official ones, of Keras 2, or of Keras 3."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if style == "model" else file
        names = [name for name in weights if name not in skip]
        root.attrs["layer_names"] = np.array([n.encode() for n in ["input_1", *names]])
        root.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
        for name in names:
            kernel, bias = weights[name]
            group = root.create_group(name)
            if style in ("notop", "top"):
                group[f"{name}_W_1:0"], group[f"{name}_b_1:0"] = kernel, bias
            else:
                inner = group.create_group(name)
                colon = "" if style == "keras3" else ":0"
                inner[f"kernel{colon}"], inner[f"bias{colon}"] = kernel, bias
        if style == "top":
            root.create_group("fc1")["fc1_W_1:0"] = np.zeros((4, 4), "f4")
    return path


def test_the_embedded_file(weights):
    assert weights.path == EMBEDDED
    assert weights.layout == "palette"
    assert list(weights) == [keras_name(name) for name in CONVOLUTIONS]
    for name, (C_in, C_out) in CONVOLUTIONS.items():
        kernel, bias = weights[keras_name(name)]
        assert (kernel.shape, bias.shape) == ((3, 3, C_in, C_out), (C_out,))
        assert kernel.dtype == bias.dtype == np.float32
        assert len(np.unique(kernel)) <= 256
    assert hashlib.sha256(EMBEDDED.read_bytes()).hexdigest() == EMBEDDED_SHA256
    assert EMBEDDED_SHA256 in (ROOT / "weights" / "README.md").read_text(encoding="utf-8")
    assert identify(EMBEDDED)[2] == "the embedded VGG-19"


@pytest.mark.parametrize("style", ["notop", "top", "keras2", "keras3", "model"])
def test_keras_layouts_are_read_without_a_flag(weights, tmp_path, style):
    loaded = load_weights(write_keras(tmp_path / "w.h5", weights, style))
    assert loaded.layout == "keras"
    for name in weights:
        for ours, theirs in zip(weights[name], loaded[name], strict=True):
            assert (ours == theirs).all()


def test_asking_whether_there_is_a_layer_decodes_none(weights, monkeypatch):
    monkeypatch.setattr(Weights, "__getitem__", None)
    assert "block5_conv4" in weights
    assert "fc1" not in weights


def test_other_float_types_become_float32(weights, tmp_path):
    doubled = {name: tuple(a.astype("f8") for a in pair) for name, pair in weights.items()}
    loaded = load_weights(write_keras(tmp_path / "w.h5", doubled))
    assert loaded["block1_conv1"][0].dtype == np.float32


def test_order_explicit_environment_embedded(weights, tmp_path, monkeypatch):
    mine = write_keras(tmp_path / "mine.h5", weights)
    other = tmp_path / "other.h5"
    other.write_bytes(b"")
    assert find_weights() == EMBEDDED
    monkeypatch.setenv(ENVIRONMENT, str(mine))
    assert find_weights() == mine
    assert find_weights(other) == other
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "gone.h5"))
    with pytest.raises(FileError, match=r"gone.h5 \(from \$MINIMAL_NST_WEIGHTS\): no such weight"):
        load_weights()


def damage(tmp_path, weights, name):
    """Write a file that is wrong in one way; return its path."""
    path = tmp_path / "bad.h5"
    first, last = "block1_conv1", "block5_conv4"
    if name == "vgg16":
        skip = [f"block{b}_conv4" for b in (3, 4, 5)]
        return write_keras(path, weights, skip=skip)
    if name == "text":
        path.write_text("these are not weights" * 99)
        return path
    if name == "empty":
        path.write_bytes(b"")
        return path
    if name == "truncated":
        path.write_bytes(EMBEDDED.read_bytes()[:-1000])
        return path
    if name == "flipped":
        data = bytearray(EMBEDDED.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 4000] = b"\xff" * 4000
        path.write_bytes(data)
        return path
    write_keras(path, weights)
    kernel, bias = weights[first]
    with h5py.File(path, "r+") as file:
        group, k, b = file[first], f"{first}_W_1:0", f"{first}_b_1:0"
        if name == "missing":
            del file[last]
        elif name == "no bias":
            del group[b]
        elif name == "shape":
            del group[k]
            group[k] = kernel.transpose(3, 2, 0, 1)
        elif name == "huge":
            del group[k]
            group.create_dataset(k, (2**16, 2**16, 2**4), "f4", chunks=(1, 1, 16))
        elif name == "dtype":
            del group[k]
            group[k] = kernel.astype("i4")
        elif name == "string":
            del group[b]
            group.create_dataset(b, (64,), h5py.string_dtype())
        elif name == "beyond float32":
            del group[b]
            group[b] = np.full(64, 1e300)
        elif name == "nan":
            group[b][3] = np.nan
        elif name == "external":
            del group[b]
            group.create_dataset(b, (64,), "f4", external=[("/etc/passwd", 0, 256)])
        elif name == "virtual":
            del group[b]
            layout = h5py.VirtualLayout((64,), "f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", (64,))
            group.create_virtual_dataset(b, layout)
        elif name == "soft link":
            del group[b]
            group[b] = h5py.SoftLink("/block1_conv2/block1_conv2_b_1:0")
        elif name == "external link":
            del file[first]
            file[first] = h5py.ExternalLink(str(EMBEDDED), f"/{first}")
        elif name == "filter":
            del group[b]
            group.create_dataset(b, data=bias, compression="lzf")
        elif name == "chunks":
            del group[b]
            group.create_dataset(b, (64,), "f4", maxshape=(None,), chunks=(2**28,))
    return path


DAMAGES = {
    "vgg16": "no layer block3_conv4; it looks like VGG-16",
    "text": "not an HDF5 file",
    "empty": "not an HDF5 file",
    "truncated": "damaged or truncated",
    "flipped": "damaged or truncated",
    "missing": "no layer block5_conv4",
    "no bias": "has no dataset block1_conv1_b_1:0 or bias",
    "shape": "has shape (64, 3, 3, 3), but VGG-19's is (3, 3, 3, 64)",
    "huge": "has shape (65536, 65536, 16)",
    "dtype": "holds int32, expected f2 or f4 or f8",
    "string": "holds object",
    "nan": "values that are not finite",
    "beyond float32": "values that are not finite in float32",
    "external": "keeps its data in other files",
    "virtual": "keeps its data in other files",
    "soft link": "is a link to elsewhere",
    "external link": "is a link to elsewhere",
    "filter": "packed by a filter other than gzip",
    "chunks": "chunks larger than itself",
}


@pytest.mark.parametrize("name", DAMAGES)
def test_wrong_files_get_one_clear_line(weights, tmp_path, name):
    path = damage(tmp_path, weights, name)
    with pytest.raises(FileError) as error:
        load_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert DAMAGES[name] in str(error.value)
    assert "\n" not in str(error.value)


def test_oddities_are_named(weights, tmp_path):
    """Legal values of which nothing good comes, also where float16 has hardly any digits left."""
    assert oddities(weights) == []
    changed = dict(weights)
    for name, factors in (("block1_conv1", (0, 1)), ("block2_conv1", (1, 0))):
        changed[name] = tuple(f * a for f, a in zip(factors, weights[name], strict=True))
    kernel, bias = weights["block3_conv1"]
    changed["block3_conv1"] = (1e-6 * kernel).astype("f2"), bias
    loaded = load_weights(write_keras(tmp_path / "odd.h5", changed))
    assert oddities(loaded) == [
        "block1_conv1: all of the kernel is 0",
        "block2_conv1: all biases are 0",
        "block3_conv1: the kernel's largest value is 6e-07",
    ]


def test_damaged_weights_at_random():
    """A few; ``python tests/fuzz.py`` tries many more."""
    assert fuzz.weights(12, seed=3) == []


def test_a_bad_file_from_the_environment_names_the_variable(tmp_path, monkeypatch):
    bad = tmp_path / "bad.h5"
    bad.write_text("no weights")
    monkeypatch.setenv(ENVIRONMENT, str(bad))
    with pytest.raises(FileError, match=r"bad.h5 \(from \$MINIMAL_NST_WEIGHTS\): not an HDF5"):
        load_weights()
    for path, reason in (("", "'' is no path"), ("x" * 999, "cannot be read .File name too long")):
        with pytest.raises(FileError, match=reason):
            load_weights(path)


def test_folders_and_missing_files(tmp_path):
    with pytest.raises(FileError, match="3 is no path"):
        load_weights(3)
    missing = [tmp_path / "no.h5", tmp_path / "no\0.h5", ROOT / "README.md" / "no.h5"]
    for path, what in (
        (tmp_path, "not a file"),
        *((path, "no such weight file") for path in missing),
    ):
        with pytest.raises(FileError, match=what):
            load_weights(path)
