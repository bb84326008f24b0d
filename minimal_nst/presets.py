"""Published programs as data: their losses, start and optimiser in this program's words.

Every loss is brought to the form of `settings`. What a program divides by is in the layers' weights;
the comments say how. A preset moves the pixels as its program does (spectrum 0), so that its course can
be compared; the default does what paints best. What cannot be followed stands in `deviations`: most
often that the program's network has weights of its own, for which its loss weights were chosen.

Glossary::

    MSE     a mean of squares; over the N*N entries of a Gram matrix, or over all features
    mean    of style: MSE of Gram/(M N); of content: MSE of the features
    paper   of style: sum of squares / (4 N^2 M^2); of content: half the sum of squares
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .architecture import CHANNELS

LayerWeights = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Preset:
    """A published program.

    Attributes
    ----------
    summary : str
        What it is.
    source : str
        Where its numbers stand.
    settings : mapping
        Fields of `Settings`.
    deviations : tuple of str
        What is not followed.
    defect : str
        A mistake of the original, not repeated here unless it says so; '' if none is known.

    References
    ----------
    The course: :eq:`common`, :eq:`mean-form`.
    """

    summary: str
    source: str
    settings: Mapping[str, Any]
    deviations: tuple[str, ...] = ()
    defect: str = ""


def firsts(*weights: float) -> LayerWeights:
    """The first layer of each block, with these weights."""
    return tuple((f"relu{block}_1", weight) for block, weight in enumerate(weights, start=1))


PIXELS: dict[str, Any] = {"margin": 0, "spectrum": 0.0, "range_weight": 0.0}
"""The picture itself is moved, nothing around it, all its pixels alike, and as far as they like."""

TORCH: dict[str, Any] = {**PIXELS, "history": 100}
"""The same by Torch's L-BFGS or PyTorch's, which look so far back unless they are told otherwise."""

SCIPY: dict[str, Any] = {**PIXELS, "history": 10}
"""The same by SciPy's, likewise."""

OF_THREE = tuple(N**2 / (9 * 16**k) / 5 for k, (N, *_) in enumerate(CHANNELS))
"""Keras' examples divide a Gram matrix of N channels as if there were 3, and as if each layer were as
large as the picture; a pooling quarters the places, so 1/(4 9 M1^2) is this times 1/(4 N^2 M^2), where
the sides are multiples of 16."""

WASSERSTEIN = (3.25e-3, 1.76e-4, 2.06e-4, 1.19e-5, 1.36e-3)
"""How large a layer's Wasserstein distance of means and covariances is, where ours of squares is 1: the
median over the example pictures' pairs, by benchmarks/wasserstein.py."""

PULLS = (12300.0, 104.0, 113.0, 1.0, 1500.0)
"""By how much a layer's gradient in the picture is shorter than that of relu4_1, at the start: the median
over the example pictures' pairs, by benchmarks/balance.py."""

TORCHVISION = "its weights are torchvision's, trained on other numbers than 0 to 255"
MATCONVNET = "its weights are MatConvNet's copy of Oxford's"
POINTS = "its filter, shrinking, looks at a few pixels and not at all of them"
STRETCHED = "its style picture is stretched to the content's shape, whose rows are 400"
CHANNELS_OF_THREE = "it takes every layer to have 3 channels, and the picture's size (followed exactly where sides are multiples of 16)"
NO_SEARCH = "its L-BFGS takes steps of length 1 without a line search"

PRESETS: dict[str, Preset] = {
    "default": Preset(
        summary="what paints best here: the losses of `gatys` and the range, minimised in coordinates of our own",
        source="coordinates.py",
        settings={},
    ),
    "balanced": Preset(
        summary="the default with layers that pull as hard as each other: larger forms, truer colours, more style",
        source="benchmarks/balance.py",
        settings={"style_layers": firsts(*PULLS), "style_weight": 200.0},
    ),
    "gatys": Preset(
        summary="Leon Gatys' own PyTorch notebook: content picture as start, L-BFGS",
        source="github.com/leongatys/PytorchNeuralStyleTransfer be6c8e2, NeuralStyleTransfer.ipynb, cells 2-8",
        settings={**TORCH, "resampling": "bilinear"},
        deviations=("its size is that of the shorter side", NO_SEARCH),
    ),
    "gatys2016": Preset(
        summary="the paper: sums, mean pooling, start from noise; its balance depends on the size",
        source="Gatys, Ecker & Bethge (2016), eqs. 1-7, alpha / beta = 1e-3",
        settings={
            **PIXELS,
            "content_form": "paper",
            "content_weight": 1e-3,
            "style_form": "paper",
            "style_layers": firsts(0.2, 0.2, 0.2, 0.2, 0.2),
            "style_weight": 1.0,
            "pooling": "avg",
            "init": "noise",
        },
        deviations=(
            "its weights are scaled so that each channel's mean activation is 1, as `weights normalize` does",
        ),
    ),
    "johnson": Preset(
        summary="neural-style, the best known of all: content picture and style by means, a little TV",
        source="github.com/jcjohnson/neural-style 07c4b82, neural_style.lua 12-49, 464, 534-544, 582",
        settings={
            **TORCH,
            "resampling": "box",
            "content_weight": 5.0,
            "style_weight": 100.0,
            "tv_weight": 5e-4,  # the gradient of half of the squares, weighted by 1e-3
            "init": "noise",
            "noise": "normal",
            "noise_level": 1e-3,
            "iterations": 1000,
        },
        deviations=(NO_SEARCH, "its pictures go from 0 to 256"),
        defect="the total variation is in its gradient and not in its loss",
    ),
    "neural-style-pt": Preset(
        summary="neural-style in PyTorch: the same, with absolute values in the total variation",
        source="github.com/ProGamerGov/neural-style-pt 7251405, neural_style.py 14-51, 461-487",
        settings={
            **TORCH,
            "resampling": "bilinear",
            "content_weight": 5.0,
            "style_weight": 100.0,
            "tv_weight": 1e-3,
            "tv_form": "absolute",
            "init": "noise",
            "noise": "normal",
            "noise_level": 1e-3,
            "iterations": 1000,
        },
        deviations=(NO_SEARCH,),
        defect="its -normalize_gradients multiplies gradients by a constant and normalises nothing",
    ),
    "anishathalye": Preset(
        summary="neural-style in TensorFlow: Adam with a large step, a mean of squares as TV",
        source="github.com/anishathalye/neural-style d0a1148, neural_style.py 15-27, stylize.py 129-165",
        settings={
            **PIXELS,
            "resampling": "bicubic",
            "content_weight": 5.0,
            "style_layers": firsts(0.2, 0.2, 0.2, 0.2, 0.2),
            "style_weight": 500.0,
            "tv_weight": 100.0,
            "tv_form": "mean-squared",
            "init": "noise",
            "noise": "normal",
            "noise_level": 0.256,
            "optimizer": "adam",
            "learning_rate": 10.0,
            "iterations": 1000,
        },
        deviations=(MATCONVNET,),
        defect="it transposes the kernels of its file, which has them in order already",
    ),
    "gordic": Preset(
        summary="pytorch-neural-style-transfer: sums over Gram matrices, so deep layers count more",
        source="github.com/gordicaleksa/pytorch-neural-style-transfer a244dc6, neural_style_transfer.py 12-25, 143-154",
        settings={
            **TORCH,
            "resampling": "bicubic",
            "content_weight": 1e5,
            # the sum of squares of Gram/(M N), which is N^2 means, over the five layers
            "style_layers": firsts(*(N**2 / 5 for N, *_ in CHANNELS)),
            "style_weight": 3e4,
            "tv_weight": 1.0,
            "tv_form": "absolute",
            "iterations": 1000,
        },
        deviations=(TORCHVISION, POINTS),
    ),
    "pastiche": Preset(
        summary="pastiche: the losses of `gatys`, a hundredth of them, and 8-bit weights",
        source="github.com/dstein64/pastiche 8bed732, pastiche.py 49-60, 127-133, 284-318",
        settings={
            **TORCH,
            "resampling": "bilinear",
            "content_weight": 0.01,
            "style_weight": 10.0,
            "iterations": 1000,
        },
        deviations=("its size is a number of pixels", NO_SEARCH),
    ),
    "course": Preset(
        summary="deeplearning.ai's assignment (TensorFlow 1): start of 60 % noise, Adam",
        source="'Art Generation with Neural Style Transfer', course 4 week 4, TF1 version",
        settings={
            **PIXELS,
            "content_layers": (("relu4_2", 0.25),),  # the assignment's 1/4 before alpha = 10
            "content_weight": 10.0,
            "style_form": "paper",
            "style_layers": firsts(0.2, 0.2, 0.2, 0.2, 0.2),
            "style_weight": 40.0,
            "pooling": "avg",
            "noise_ratio": 0.6,
            "optimizer": "adam",
            "learning_rate": 2.0,
            "iterations": 200,
        },
        deviations=(MATCONVNET,),
    ),
    "course-tf2": Preset(
        summary="the same assignment in TensorFlow 2: content deep in block 5, small steps",
        source="'Art Generation with Neural Style Transfer', course 4 week 4, TF2 version",
        settings={
            **PIXELS,
            "resampling": "bicubic",
            "content_layers": (("relu5_4", 0.25),),
            "content_weight": 10.0,
            "style_form": "paper",
            "style_layers": firsts(0.2, 0.2, 0.2, 0.2, 0.2),
            "style_weight": 40.0,
            "optimizer": "adam",
            "learning_rate": 2.55,  # 0.01 where pictures go from 0 to 1
            "iterations": 2500,
        },
        deviations=("it adds noise of 64 grey levels to the start, and cuts off after each step",),
        defect="its network is fed with 0 to 1 in RGB, where it was trained on 0 to 255 without mean",
    ),
    "tensorflow": Preset(
        summary="TensorFlow's tutorial: Gram matrices by means, content in block 5, absolute TV",
        source="github.com/tensorflow/docs 7c36502, style_transfer.ipynb",
        settings={
            **PIXELS,
            "resampling": "bilinear",
            "content_layers": (("relu5_2", 1.0),),
            "content_weight": 1e4,
            # MSE of Gram/M, which is N^2 means, over the five layers
            "style_layers": firsts(*(N**2 / 5 for N, *_ in CHANNELS)),
            "style_weight": 1e-2,
            "tv_weight": 30 / 255,  # of pictures that go from 0 to 1
            "tv_form": "absolute",
            "optimizer": "adam",
            "learning_rate": 5.1,  # 0.02 where pictures go from 0 to 1
            "beta1": 0.99,
            "epsilon": 0.1 / 255,
            "iterations": 1000,
        },
        deviations=("it cuts off after each step", POINTS),
    ),
    "log0": Preset(
        summary="neural-style-painting: the assignment's ancestor, deeper layers weigh more",
        source="github.com/log0/neural-style-painting 71ce484, art.py 25-63, 223-302",
        settings={
            **PIXELS,
            "content_layers": (("relu4_2", 0.25),),  # its sum of squares / (4 N M)
            "content_weight": 5.0,
            "style_form": "paper",
            "style_layers": firsts(0.5, 1.0, 1.5, 3.0, 4.0),
            "style_weight": 100.0,
            "pooling": "avg",
            "noise_ratio": 0.6,
            "optimizer": "adam",
            "learning_rate": 2.0,
            "iterations": 5000,
        },
        deviations=(MATCONVNET,),
    ),
    "cysmith": Preset(
        summary="the neural-style-tf lineage: conv5_2, plain sum of squares, L-BFGS",
        source="github.com/cysmith/neural-style-tf a2c374f, neural_style.py 14-212, 347-367, 417",
        settings={
            **SCIPY,
            "resampling": "box",
            "content_layers": (("conv5_2", 1.0),),
            "content_form": "paper",
            "content_weight": 5.0,
            "style_form": "paper",
            "style_layers": tuple((f"conv{block}_1", 0.04) for block in range(1, 6)),
            # The project that this follows publishes no weights. With neural-style-tf's own 1e4
            # nothing of the content is left at conv5_2; 20 balances the two at 256 to 512 pixels.
            "style_weight": 20.0,
            "pooling": "avg",
            "noise_ratio": 0.2,
        },
        deviations=(
            MATCONVNET,
            "its style weight is 1e4, with which nothing of the content is left at conv5_2",
        ),
        defect="its style weight is divided by the number of layers twice (followed here: 0.04)",
    ),
    "pytorch-tutorial": Preset(
        summary="PyTorch's tutorial: the first five convolutions, before their ReLU",
        source="github.com/pytorch/tutorials 0a7e686, advanced_source/neural_style_tutorial.py",
        settings={
            **TORCH,
            "resampling": "bilinear",
            "content_layers": (("conv2_2", 1.0),),
            "content_weight": 1.0,
            "style_layers": tuple(
                (name, 1.0) for name in ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
            ),
            "style_weight": 1e6,
            "iterations": 300,
        },
        deviations=(TORCHVISION, NO_SEARCH),
        defect="it cuts the picture off within the function that L-BFGS minimises",
    ),
    "d2l": Preset(
        summary="'Dive into Deep Learning': convolutions before their ReLU, Adam, a mean as TV",
        source="github.com/d2l-ai/d2l-en 23d7a5a, chapter_computer-vision/neural-style.md",
        settings={
            **PIXELS,
            "resampling": "bilinear",
            "content_layers": (("conv4_4", 1.0),),
            "content_weight": 1.0,
            "style_layers": tuple((f"conv{block}_1", 1.0) for block in range(1, 6)),
            "style_weight": 1e4,
            # its weight of 10, and its half of the two means, of pictures divided by 255 * 0.226
            "tv_weight": 5 / (255 * 0.226),
            "tv_form": "mean-absolute",
            "optimizer": "adam",
            "learning_rate": 17.0,  # 0.3 there
            "decay": 0.8,
            "decay_every": 50,
            "iterations": 500,
        },
        deviations=(TORCHVISION,),
    ),
    "keras": Preset(
        summary="Keras' example of today: the losses of `tv`, a millionth of them",
        source="github.com/keras-team/keras-io 0896b2e, examples/generative/neural_style_transfer.py 53-159",
        settings={
            **PIXELS,
            "resampling": "nearest",
            "content_layers": (("relu5_2", 1.0),),
            "content_form": "paper",
            "content_weight": 5e-8,  # of half the sum of squares; 2.5e-8 of the whole
            "style_form": "paper",
            "style_layers": firsts(*OF_THREE),
            "style_weight": 1e-6,
            "tv_weight": 1e-6,
            "tv_form": "keras",
        },
        deviations=(STRETCHED, "it takes 4000 steps of gradient descent, here 500 of L-BFGS"),
        defect=CHANNELS_OF_THREE,
    ),
    "tv": Preset(
        summary="Keras' first example: three weights, content in block 5, its own total variation",
        source="github.com/keras-team/keras, examples/neural_style_transfer.py since pull request 6877",
        settings={
            **SCIPY,
            "resampling": "nearest",
            "content_layers": (("relu5_2", 1.0),),
            "content_form": "paper",
            "content_weight": 0.05,  # of half the sum of squares; 0.025 of the whole
            "style_form": "paper",
            "style_layers": firsts(*OF_THREE),
            "style_weight": 1.0,
            "tv_weight": 1.0,
            "tv_form": "keras",
            "iterations": 200,
        },
        deviations=(STRETCHED,),
        defect=f"{CHANNELS_OF_THREE}; and its L-BFGS forgets all every 20 evaluations, which ours does not",
    ),
    "crowsonkb": Preset(
        summary="style-transfer-pytorch: means and covariances, shallow layers weigh more, several scales",
        source="github.com/crowsonkb/style-transfer-pytorch e7e2c71, style_transfer.py 149-195, 316-363",
        settings={
            "spectrum": 0.0,
            "resampling": "bicubic",
            "scales": "auto",
            "content_weight": 0.015,
            "style_statistic": "mean-covariance",
            "style_form": "paper",
            "style_layers": firsts(
                *(w / 341 * k for w, k in zip((256, 64, 16, 4, 1), WASSERSTEIN, strict=True))
            ),
            "style_weight": 1.0,
            # of pictures that go from 0 to 1, by a network that takes them divided by 0.226
            "tv_weight": 2 * 0.226**2,
            "tv_form": "mean-squared",
            "optimizer": "adam",
            "learning_rate": 5.1,  # 0.02 where pictures go from 0 to 1
            "beta2": 0.99,
        },
        deviations=(
            "its style loss is a Wasserstein distance, here of squares, as large at the start",
            "its sizes grow from 128 by the square root of 2, and Adam's memory with them",
            "it cuts off after each step, and shows the mean of the last steps",
            "it repeats the border's pixels, here is a margin",
            "its total variation looks at diagonals too",
            TORCHVISION,
        ),
    ),
}
