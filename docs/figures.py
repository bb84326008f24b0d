"""The course's figures that take too long for each build: paint them, and write docs/figures/.

python docs/figures.py              # about twenty minutes on two cores
python docs/figures.py --only weights --size 128 --iterations 40
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import minimal_nst as nst
from minimal_nst import images
from minimal_nst.cli import main
from minimal_nst.cli.weights import GOES_WITH_IT
from minimal_nst.resources import CASTLE, STARRY_NIGHT

EXAMPLES = HERE.parent / "examples"
PETRA = EXAMPLES / "content" / "petra.webp"
SKY, GROUND = (EXAMPLES / "masks" / f"neuschwanstein_{part}.png" for part in ("sky", "ground"))
BRIDGE, CHURCH = (
    EXAMPLES / "style" / f"vangogh_{name}.webp" for name in ("langlois_bridge", "church_at_auvers")
)
TEMPORARY = tempfile.TemporaryDirectory()
CUT_OUT = Image.open(CASTLE).convert("RGB")
CUT_OUT.putalpha(Image.open(GROUND).convert("L").resize(CUT_OUT.size))

Row = dict[str, dict[str, object]]
"""Title of each picture -> the settings in which it differs; also its preset, content, and style."""

FIRSTS = [f"relu{block}_1" for block in range(1, 6)]
SECONDS = [f"relu{block}_2" for block in range(1, 6)]
ALONE = {"init": "noise"}

FIGURES: dict[str, list[Row]] = {
    "weights": [
        {f"--style-weight {w:g}": {"style_weight": w} for w in (1, 30, 1e3, 3e4, 1e6)},
        {f"--tv-weight {w:g}": {"tv_weight": w} for w in (0, 0.1, 1, 10, 100)},
        {
            f"{form}, weight {weight:g}": {"tv_form": form, "tv_weight": weight}
            for form, weight in (
                ("squared", 3),
                ("mean-squared", 2e5),
                ("absolute", 100),
                ("mean-absolute", 5e6),
                ("keras", 0.2),
            )
        },
        {f"--noise-ratio {r:g}": {"noise_ratio": r} for r in (0, 0.25, 0.5, 0.75, 1)},
    ],
    "choices": [
        {
            "--pooling max": {},
            "--pooling avg": {"pooling": "avg"},
            "--spectrum 0": {"spectrum": 0},
            "--optimizer adam": {"optimizer": "adam"},
            "own-lbfgs": {"optimizer": "own-lbfgs"},
        },
        {f"style in {tap}": {"style_layers": tap} for tap in FIRSTS},
    ],
    "presets": [
        {name: {"preset": name} for name in list(nst.PRESETS)[start : start + 5]}
        for start in range(0, len(nst.PRESETS), 5)
    ],
    "styles": [
        {
            f"--style-blend-weights {w}": {
                "style": [STARRY_NIGHT, BRIDGE],
                "style_blend_weights": w,
            }
            for w in ("1,0", "3,1", "1,1", "1,3", "0,1")
        },
        {f"--style-scale {scale:g}": {"style_scale": scale} for scale in (0.25, 0.5, 1, 2, 4)},
        {
            f"--colors {form}": {"content": PETRA, "style": BRIDGE, "colors": form}
            for form in ("style", "luminance", "cholesky", "pca")
        },
    ],
    "starts": [
        {
            **{
                f"--init {start}": {"init": start}
                for start in ("content", "style", "grey", "noise")
            },
            "--noise-ratio 0.5": {"noise_ratio": 0.5},
        },
        {
            f"adam, --beta1 {beta1:g}": {"optimizer": "adam", "beta1": beta1}
            for beta1 in (0, 0.5, 0.9, 0.99, 0.999)
        },
        {
            **{
                f"adam, --learning-rate {rate:g}": {"optimizer": "adam", "learning_rate": rate}
                for rate in (0.2, 8)
            },
            "8, --decay 0.5 in 25 steps": {
                "optimizer": "adam",
                "learning_rate": 8,
                "decay": 0.5,
                "decay_every": 25,
            },
            "adam, --epsilon 1e4": {"optimizer": "adam", "epsilon": 1e4},
            "lbfgs, --history 1": {"history": 1, "spectrum": 0},
        },
        {
            **{
                f"normal, --noise-level {level}": {
                    "noise": "normal",
                    "noise_level": level,
                    "noise_ratio": 0.3,
                    "iterations": 30,
                }
                for level in (5, 50, 200)
            },
            **{
                f"--resampling {name}": {"resampling": name, "iterations": 30, "crop": (24, 32)}
                for name in ("nearest", "lanczos")
            },
        },
    ],
    "alpha": [
        {
            "transparent above": {"content": CUT_OUT, "alpha": True},
            "--no-alpha": {"content": CUT_OUT},
        },
    ],
    "borders": [
        {
            f"--margin {margin}{', its corner' * corner}": {
                "style": BRIDGE,
                "margin": margin,
                "crop": (0, -48) if corner else None,
            }
            for corner in (False, True)
            for margin in (0, 8)
        },
    ],
    "masks": [
        {
            "the sky alone": {"content_masks": [SKY]},
            "the ground alone": {"content_masks": [GROUND]},
            **{
                f"sky and ground, {reach}": {
                    "style": [STARRY_NIGHT, BRIDGE],
                    "content_masks": [SKY, GROUND],
                    "mask_reach": reach,
                }
                for reach in ("simple", "all", "inside")
            },
        },
        {
            f"{statistic}, {name}": {"style": style, "style_statistic": statistic}
            for name, style in (("night", STARRY_NIGHT), ("bridge", BRIDGE))
            for statistic in ("gram", "mean-covariance")
        },
    ],
    "normalized": [
        {
            title: {"content": content, "style": style, **changes}
            for title, changes in (
                ("as trained", {}),
                ("--preset balanced", {"preset": "balanced"}),
                ("normalized", {"normalized": True}),
            )
        }
        for content, style in (
            (CASTLE, STARRY_NIGHT),
            (EXAMPLES / "content" / "astronaut.png", CHURCH),
        )
    ],
    "content": [
        {
            f"{tap}, weight {w:g}": {**ALONE, "content_layers": tap, "content_weight": w}
            for tap, w in zip(SECONDS, (3e3, 1e3, 1e3, 1e3, 3e4), strict=True)
        },
    ],
}


@functools.cache
def rescaled() -> dict[str, object]:
    """The settings of a painting by the network whose channels are all alike."""
    file = str(Path(TEMPORARY.name) / "normalized.h5")
    pictures = [str(EXAMPLES / folder) for folder in ("content", "style")]
    main(["weights", "normalize", *pictures, "-o", file])
    return {"weights": file, **GOES_WITH_IT}


def cropped(image: np.ndarray, top: int, left: int) -> np.ndarray:
    """A detail of 32 rows and 48 columns; from the right, if left is negative."""
    return image[top : top + 32, left % image.shape[1] :][:, :48]


def paint(rows: list[Row], size: int, iterations: int) -> plt.Figure:
    """A sheet with a picture for each entry."""
    columns = max(map(len, rows))
    figure, axes = plt.subplots(
        len(rows), columns, squeeze=False, figsize=(2.4 * columns, 1.9 * len(rows))
    )
    for axis in axes.ravel():
        axis.axis("off")
    for place, row in zip(axes, rows, strict=True):
        for axis, (title, changes) in zip(place, row.items(), strict=False):
            given = {"preset": "default", "size": size, "iterations": iterations, **changes}
            content, style = given.pop("content", CASTLE), given.pop("style", STARRY_NIGHT)
            crop = given.pop("crop", None)
            masks = {name: given.pop(name) for name in list(given) if name.endswith("_masks")}
            transparent = given.pop("alpha", False)
            if given.pop("normalized", False):
                given.update(rescaled())
            settings = nst.Settings.preset(given.pop("preset"), **given)
            painting = nst.stylize(content, style, settings, **masks)
            image = painting.image
            if transparent:
                image = np.dstack([image, images.opacity(content, *image.shape[:2])])
            print(f"{title}: loss {painting.loss:.4g}", flush=True)
            axis.imshow(cropped(image, *crop) if crop else image)
            axis.set_title(title, fontsize=10)
    figure.tight_layout(pad=0.4)
    return figure


parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--only", choices=FIGURES, help="one of them")
parser.add_argument("--size", type=int, default=160, help="[%(default)s]")
parser.add_argument("--iterations", type=int, default=100, help="[%(default)s]")
options = parser.parse_args()
(HERE / "figures").mkdir(exist_ok=True)
for name in [options.only] if options.only else FIGURES:
    sheet = paint(FIGURES[name], options.size, options.iterations)
    sheet.savefig(
        HERE / "figures" / f"{name}.jpg", dpi=100, bbox_inches="tight", pil_kwargs={"quality": 88}
    )
