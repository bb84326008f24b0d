"""VGG-19's weights from HDF5: found, distrusted, read; and written.

Two layouts are read, recognised by their names:

* the embedded file: per layer ``codes`` (uint8), ``palette`` (256 float32), ``bias`` (float32);
* Keras' own files, with or without the classifier on top: a kernel and a bias per layer.

An HDF5 file can point to other files of the machine and can declare sizes that it does not have.
As it is known exactly what a VGG-19 file holds, everything else is refused before it is read.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from .architecture import CONVOLUTIONS, keras_name
from .errors import FileError
from .resources import bundled
from .saving import replace

ENVIRONMENT: Final = "MINIMAL_NST_WEIGHTS"
EMBEDDED_SHA256: Final = "fc2ebd2b4b110c8d0f91d951165269ef78bde3de7eb9e259e2810a76b9ae3c28"
KERAS_MD5: Final = {
    "253f8cb515780f3b799900260a226db6": "Keras' official VGG-19 without top",
    "cbe5617147190e668d6c5d5026f83318": "Keras' official VGG-19 with top",
}
LARGEST_FILE: Final = 2 * 1024**3  # the official file with top has 0.6 GB
HARMLESS_FILTERS: Final = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE}


@dataclass(frozen=True)
class _Layer:
    """One convolution as stored; ``palette`` is None where the kernel is stored in full."""

    kernel: np.ndarray
    palette: np.ndarray | None
    bias: np.ndarray


class Weights(Mapping[str, tuple[np.ndarray, np.ndarray]]):
    """Keras' name of a convolution -> its (kernel, bias).

    A kernel is (3, 3, C_in, C_out) float32, a bias (C_out,) float32. Palettes are decoded at
    each look-up, so that only the 20 MB of codes stay in memory.

    Attributes
    ----------
    path : Path
        The file.
    layout : str
        'palette' or 'keras'.
    """

    def __init__(self, path: Path, layout: str, layers: dict[str, _Layer]) -> None:
        self.path = path
        self.layout = layout
        self._layers = layers

    def __getitem__(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        layer = self._layers[name]
        kernel = layer.kernel if layer.palette is None else layer.palette[layer.kernel]
        return kernel, layer.bias

    def __contains__(self, name: object) -> bool:  # Mapping's own decodes what it looks for
        return name in self._layers

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)


def find_weights(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the weight file to use: the given one, $MINIMAL_NST_WEIGHTS, or the embedded one.

    Parameters
    ----------
    path : path, optional

    Raises
    ------
    FileError
        If that file does not exist. There is no falling back from a file that was asked for.
    """
    return _locate(path)[0]


def _locate(path: str | os.PathLike[str] | None) -> tuple[Path, str]:
    """The file to use, and what messages call it: where it comes from, if not from the caller."""
    source = ""
    if path is None and os.environ.get(ENVIRONMENT):
        path, source = os.environ[ENVIRONMENT], f" (from ${ENVIRONMENT})"
    if path is None:
        path, source = bundled("weights/vgg19.h5"), " (embedded)"
    if not isinstance(path, str | os.PathLike) or os.fspath(path) == "":
        raise FileError(f"{path!r} is no path of a weight file; leave it out for the embedded one")
    path = Path(path)
    try:
        what = "" if stat.S_ISREG(path.stat().st_mode) else "not a file"
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last, of a name with a NUL
        what = "no such weight file"
    except OSError as error:  # a folder that may not be entered, a name too long
        what = f"cannot be read ({error.strerror})"
    if what:
        raise FileError(f"{path}{source}: {what}; leave it out for the embedded one")
    return path, f"{path}{source}"


def load_weights(path: str | os.PathLike[str] | None = None) -> Weights:
    """Read and check VGG-19's 16 convolution layers.

    Parameters
    ----------
    path : path, optional
        An HDF5 file in Keras' layout or this project's; by default as `find_weights` says.

    Returns
    -------
    Weights

    Raises
    ------
    FileError
        If the file is missing, truncated, no HDF5, of another network, or holds anything that a
        VGG-19 file has no need of (external storage, soft links, other filters, wrong shapes).
    """
    path, name = _locate(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise FileError("larger than 2 GB, so not VGG-19's weights")
        if not h5py.is_hdf5(path):
            path.open("rb").close()  # which says so if it cannot be read at all
            raise FileError("not an HDF5 file; expected VGG-19's weights (.h5)")
        with h5py.File(path, "r", locking=False) as file:
            root = _child(file, "model_weights", h5py.Group) or file
            first = _child(root, keras_name("conv1_1"), h5py.Group)
            layout = "palette" if first is not None and "codes" in first else "keras"
            layers = {keras_name(c): _read_layer(root, c, layout) for c in CONVOLUTIONS}
    except FileError as error:
        raise FileError(f"{name}: {error}") from None
    except PermissionError as error:
        raise FileError(f"{name}: cannot be read ({error.strerror})") from None
    except Exception as error:  # whatever HDF5 raises, the file is not what it should be
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(f"{name}: damaged or truncated HDF5 file ({reason})") from error
    return Weights(path, layout, layers)


def save_weights(
    weights: Mapping[str, tuple[np.ndarray, np.ndarray]], path: str | os.PathLike[str]
) -> None:
    """Write VGG-19's convolutions to a file that `load_weights` reads, in Keras' layout.

    Parameters
    ----------
    weights : mapping
        Keras' name of a convolution -> its (kernel, bias).
    path : path

    Raises
    ------
    FileError
        If it cannot be written; what was there before is untouched.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, (kernel, bias) in weights.items():
            group = file.create_group(name)
            group["kernel"], group["bias"] = kernel, bias
    replace(path, lambda file: file.write(buffer.getbuffer()))


def identify(path: Path) -> tuple[str, str, str]:
    """Return (SHA-256, MD5, what the file is known as) of a weight file."""
    data = path.read_bytes()
    sha256, md5 = hashlib.sha256(data).hexdigest(), hashlib.md5(data).hexdigest()
    if sha256 == EMBEDDED_SHA256:
        return sha256, md5, "the embedded VGG-19"
    return sha256, md5, KERAS_MD5.get(md5, "not a published file")


def oddities(weights: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> list[str]:
    """Name what can be read and computed with, but is not what a trained network looks like.

    Parameters
    ----------
    weights : mapping
        Keras' name of a convolution -> its (kernel, bias).

    Returns
    -------
    list of str
        Empty for a trained VGG-19, whose kernels' largest values lie between 0.1 and 10.
    """
    found = []
    for name, (kernel, bias) in weights.items():
        largest = float(abs(kernel).max())
        if largest == 0:
            found.append(f"{name}: all of the kernel is 0")
        elif not 1e-3 < largest < 1e2:
            found.append(f"{name}: the kernel's largest value is {largest:.2g}")
        if not bias.any():
            found.append(f"{name}: all biases are 0")
    return found


def _child(group: Any, name: str, kind: type) -> Any:
    """Return a member reached by a hard link and of the given kind, or None."""
    if name not in group:
        return None
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        raise FileError(f"'{name}' is a link to elsewhere; only plain files are read")
    return group[name] if group.get(name, getclass=True) is kind else None


def _read_layer(root: Any, name: str, layout: str) -> _Layer:
    """Read one convolution after checking everything that the file declares about it."""
    layer = keras_name(name)
    C_in, C_out = CONVOLUTIONS[name]
    group = _child(root, layer, h5py.Group)
    if group is None:
        other = "; it looks like VGG-16" if layer == "block3_conv4" else ""
        raise FileError(f"no layer {layer}{other}; VGG-19's weights are needed")
    if layout == "palette":
        codes = _read(group, ["codes"], (3, 3, C_in, C_out), "u1")
        palette = _read(group, ["palette"], (256,), "f4")
        return _Layer(codes, palette, _read(group, ["bias"], (C_out,), "f4"))
    group = _child(group, layer, h5py.Group) or group  # Keras 2 nests each group once more
    kernel = _read(group, [f"{layer}_W_1:0", "kernel:0", "kernel"], (3, 3, C_in, C_out))
    return _Layer(kernel, None, _read(group, [f"{layer}_b_1:0", "bias:0", "bias"], (C_out,)))


def _read(group: Any, names: list[str], shape: tuple[int, ...], dtype: str = "") -> np.ndarray:
    """Read the dataset of one of these names if it is what it has to be."""
    found = [data for name in names if (data := _child(group, name, h5py.Dataset)) is not None]
    if not found:
        raise FileError(f"{group.name} has no dataset {' or '.join(names)}")
    data = found[0]
    if data.shape != shape:
        raise FileError(f"{data.name} has shape {data.shape}, but VGG-19's is {shape}")
    allowed = [dtype] if dtype else ["f2", "f4", "f8"]
    if data.dtype.str.lstrip("<>|=") not in allowed:
        raise FileError(f"{data.name} holds {data.dtype}, expected {' or '.join(allowed)}")
    if data.external is not None or data.is_virtual:
        raise FileError(f"{data.name} keeps its data in other files; only plain files are read")
    plist = data.id.get_create_plist()
    if not {plist.get_filter(i)[0] for i in range(plist.get_nfilters())} <= HARMLESS_FILTERS:
        raise FileError(f"{data.name} is packed by a filter other than gzip")
    if data.chunks and any(c > n for c, n in zip(data.chunks, shape, strict=True)):
        raise FileError(f"{data.name} declares chunks larger than itself")
    array: np.ndarray = data[()]
    if dtype != "u1":
        with np.errstate(over="ignore"):
            array = array.astype("f4")
        if not np.isfinite(array).all():
            raise FileError(f"{data.name} holds values that are not finite in float32")
    return array
