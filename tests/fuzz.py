"""Damage pictures and weight files at random: what comes out must be an array or one clear line.

python tests/fuzz.py --pictures 20000 --weights 500
"""

from __future__ import annotations

import argparse
import io
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from minimal_nst import images
from minimal_nst.errors import NSTError
from minimal_nst.resources import bundled
from minimal_nst.weights import load_weights
from PIL import Image

FORMATS = {
    "png": {}, "jpg": {}, "webp": {}, "bmp": {}, "tiff": {}, "lzw.tiff": {"compression": "tiff_lzw"},
    "deflate.tiff": {"compression": "tiff_adobe_deflate"}, "jpeg.tiff": {"compression": "jpeg"},
}  # fmt: skip


def seeds() -> dict[str, bytes]:
    """A whole picture of each format, with EXIF data."""
    image = Image.effect_noise((40, 30), 60).convert("RGB")
    exif = Image.Exif()
    exif[0x0112], exif[0x011A] = 6, 72.0
    found = {}
    for suffix, options in FORMATS.items():
        buffer = io.BytesIO()
        kind = suffix.rpartition(".")[2].replace("jpg", "jpeg")
        image.save(buffer, kind, **options, **({} if kind == "bmp" else {"exif": exif}))
        found[suffix] = buffer.getvalue()
    return found


def damaged(data: bytes, generator: random.Random) -> bytes:
    """Change, cut or repeat something, more often near the beginning and the end."""
    broken = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        reach = generator.choice((32, 300, 3000, len(broken)))
        place = min(generator.randrange(reach), len(broken) - 1)
        place = generator.choice((place, len(broken) - 1 - place))
        kind = generator.randrange(5)
        if kind == 0:
            broken[place] = generator.randrange(256)
        elif kind == 1:
            broken[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            broken[place : place + 4] = generator.choice((b"\0" * 4, b"\xff" * 4, b"\x7f" * 4))
        elif kind == 3:
            del broken[place : place + generator.randrange(1, 9)]
        else:
            broken[place:place] = broken[place : place + generator.randrange(1, 9)]
        if not broken:
            return b""
    return bytes(broken)


def try_all(
    load: Callable[[Path], object], data: dict[str, bytes], count: int, generator: random.Random
) -> list[str]:
    """Load damaged files; return what was raised, other than the program's own errors."""
    wrong = []
    names = list(data)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error")  # nor may anything be printed
        for k in range(count):
            name = names[k % len(names)]
            path = Path(folder) / f"damaged.{name}"
            path.write_bytes(damaged(data[name], generator))
            try:
                load(path)
            except NSTError as error:
                if "\n" in str(error) or str(path) not in str(error):
                    wrong.append(f"{name}: {error!r}")
            except Exception as error:  # noqa: BLE001 - which is what is looked for
                wrong.append(f"{name}: {type(error).__name__}: {error}")
    return wrong


def pictures(count: int, seed: int) -> list[str]:
    """Damage pictures."""
    return try_all(images.load, seeds(), count, random.Random(seed))


def weights(count: int, seed: int) -> list[str]:
    """Damage the embedded weights; whatever is still read must be finite."""

    def load(path: Path) -> None:
        for kernel, bias in load_weights(path).values():
            assert np.isfinite(kernel.sum()), path
            assert np.isfinite(bias.sum()), path

    data = {"h5": bundled("weights/vgg19.h5").read_bytes()}
    return try_all(load, data, count, random.Random(seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20000, help="[%(default)s]")
    parser.add_argument("--weights", type=int, default=500, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    options = parser.parse_args()
    found = pictures(options.pictures, options.seed) + weights(options.weights, options.seed)
    print("\n".join(found) or "nothing but arrays and clear lines")
    sys.exit(bool(found))
