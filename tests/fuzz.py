"""Files damaged, settings and options drawn at random: what comes out is right, or one clear line.

python tests/fuzz.py --pictures 20000 --weights 500 --settings 500 --options 2000
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import logging
import random
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from minimal_nst import cli, images, stylize
from minimal_nst.architecture import LAYERS
from minimal_nst.backend import select
from minimal_nst.cli.config import PICTURES
from minimal_nst.cli.options import FIELDS
from minimal_nst.errors import NSTError
from minimal_nst.pipeline import default_optimizer
from minimal_nst.resources import bundled
from minimal_nst.settings import Settings
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


class Printed(logging.Handler):
    """What is logged and nobody listens to would be printed."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"printed: {record.getMessage()}")


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


NUMBERS = {
    "style_size": (32, 45, 60),
    "scales": (None, "auto", "32"),
    "resampling": ("bilinear", "lanczos"),  # others make pixels alike, and so ties
    "margin": (0, 3, 8),
    "init": ("content", "style", "noise"),  # grey is nothing but ties of poolings
    "noise_ratio": (0.0, 0.3),
    "style_blend_weights": (None, "2,1"),
    "tv_weight": (0.0, 1e-3),
    "range_weight": (0.0, 1e5),
    "history": (None, 1),
    "spectrum": (0.0, 0.5),
    "threads": (1, 2, 3),
}
FIXED = {"conv", "dtype", "precision"}


def drawn(generator: random.Random) -> dict[str, object]:
    """Some settings, of all kinds."""
    found: dict[str, object] = {"size": generator.choice((33, 40, 47))}
    for item in dataclasses.fields(Settings):
        choices = NUMBERS.get(item.name) or item.metadata.get("choices")
        if choices and item.name not in FIXED and generator.random() < 0.4:
            found[item.name] = generator.choice(choices)
    seen = LAYERS[: LAYERS.index(generator.choice(("pool3", "pool5")))]  # deep ones allow no strips
    for what in ("content", "style"):
        layers = generator.sample(seen, generator.randint(1, 3))
        found[f"{what}_layers"] = [(layer, generator.choice((1.0, 0.5, 0.0))) for layer in layers]
    return found


def settings(count: int, seed: int, device: str = "cpu") -> list[str]:
    """Paint with settings at random, perhaps in strips: the losses must be the textbook's.

    The textbook paints in one piece, on a CPU.
    """
    generator, numbers = random.Random(seed), np.random.default_rng(seed)
    content, *styles = numbers.uniform(0, 255, (3, 40, 56, 3))
    masks = [numbers.integers(0, 2, (40, 56)) * 255.0 for _ in range(4)]
    both = {"dtype": "float64", "iterations": 2, "optimizer": default_optimizer(select(device))}
    wrong = []
    for _ in range(count):
        chosen, masked = drawn(generator), generator.random() < 0.3
        given = {"content_masks": masks[:2], "style_masks": masks[2:]} if masked else {}
        losses = []
        try:
            ours = {"conv": "winograd", "strips": generator.choice((1, 2, 5)), "device": device}
            for way in (ours, {"conv": "im2col", "device": "cpu"}):
                wanted = Settings(**{**both, **chosen, **way})
                losses.append(stylize(content, styles, wanted, **given).losses)
            at_minimum = losses[0][0] < 1e-12  # from which roundings alone can lead
            if not at_minimum and not np.allclose(*losses, rtol=1e-6):
                wrong.append(f"{chosen}, masked {masked}: {losses}")
        except NSTError as error:
            if "\n" in str(error) or losses:
                wrong.append(f"{chosen}, masked {masked}: {error!r}")
        except Exception as error:  # noqa: BLE001 - which is what is looked for
            wrong.append(f"{chosen}, masked {masked}: {type(error).__name__}: {error}")
    return wrong


VALUES = (
    *("true", "0", "-1", "2", "1.5", "1e400", "-inf", "nan", "9" * 400, "1979-05-27", "[", "{}"),
    *("[]", "[[]]", "[1, 2]", '["a"]', '[["relu1_1", 1]]', '[["relu1_1"]]', "{ relu1_1 = 2 }"),
    *('""', '"x"', '"1,2"', '"32,48"', '"auto"', '"relu1_1:0"', '"relu1_1:-1"', '"noise"'),
    *('"cuda:99"', r'"\u0000"', r'"\u001b[31m\n"', r'"\U0001f3a8"', '"%s"', "'''a\nb'''"),
)
"""Values in TOML, of all kinds."""


def told(*arguments: object) -> tuple[int, str, str]:
    """What the command line answers: exit code, standard output and error."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        return cli.main(list(map(str, arguments))), out.getvalue(), error.getvalue()


def options(count: int, seed: int) -> list[str]:
    """Files of options at random: one clear line, or what is printed of them says the same."""
    generator = random.Random(seed)
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "options.toml", Path(folder) / "again.toml"
        for _ in range(count):
            names = generator.sample([*FIELDS, *PICTURES, "new"], generator.choice((1, 1, 2, 4)))
            text = "\n".join(f"{name} = {generator.choice(VALUES)}" for name in names)
            path.write_text(text, encoding="utf-8")
            code, found, error = told("stylize", "--config", path, "--dump-config")
            if code:
                good = code in (2, 3) and error.count("\n") == 1
            else:
                again.write_text(found, encoding="utf-8")
                good = told("stylize", "--config", again, "--dump-config") == (0, found, error)
            if not good:
                wrong.append(f"{text!r}: {code} {error}")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20000, help="[%(default)s]")
    parser.add_argument("--weights", type=int, default=500, help="[%(default)s]")
    parser.add_argument("--settings", type=int, default=500, help="[%(default)s]")
    parser.add_argument("--options", type=int, default=2000, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    parser.add_argument("--device", default="cpu", help="that settings paint on [%(default)s]")
    given = parser.parse_args()
    logging.lastResort = printed = Printed()
    found = [
        *pictures(given.pictures, given.seed),
        *weights(given.weights, given.seed),
        *settings(given.settings, given.seed, given.device),
        *options(given.options, given.seed),
        *printed.lines,
    ]
    print("\n".join(found) or "nothing but what is right, and clear lines")
    sys.exit(bool(found))
