"""Which functions students write, and what they are tried on.

A case is the arguments of a call. What comes back is held against what this program's own function
returns, which the test suite in turn holds against derivatives and an independent reference.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import layers, lbfgs, losses
from ..checklist import BIAS, KERNEL, A, P
from ..pairs import Pairs
from . import hunt

Function = Callable[..., Any]
Backward = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exercise:
    """A function to write or to mend.

    Attributes
    ----------
    name : str
        Of the function.
    module : module
        Where this program has its own.
    chapter : int
        Of the course.
    arguments : callable
        rng -> the arguments that it is tried with.
    operation : str
        Of `checklist`, if the function is its backward pass: wrong gradients are known there.
    adapt : callable, optional
        Makes (dy, x) -> dx of the function.
    """

    name: str
    module: Any
    chapter: int
    arguments: Callable[[np.random.Generator], tuple[Any, ...]]
    operation: str = ""
    adapt: Callable[[Function], Backward] | None = None

    @property
    def mends(self) -> bool:
        """Whether the student gets the function whole, but with a defect."""
        return self.module is hunt

    @property
    def file(self) -> str:
        """Of the student's folder."""
        return f"{self.module.__name__.rpartition('.')[2]}.py"


def _x(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((9, 11, 3))


def _pairs(rng: np.random.Generator) -> tuple[Any, ...]:
    """A gradient, four pairs of a quadratic, and the plain metric."""
    root = rng.standard_normal((7, 7))
    steps = rng.standard_normal((4, 7))
    pairs, metric = Pairs(4, root[0]), lbfgs.Scaled(root[0])
    for s, y in zip(steps, steps @ (root @ root.T + np.eye(7)), strict=True):
        pairs.add(s, y)
        metric.learn(s, y)
    return rng.standard_normal(7), pairs, metric


TO_WRITE = (
    Exercise("im2col", layers, 2, lambda rng: (_x(rng),)),
    Exercise("conv_forward", layers, 2, lambda rng: (_x(rng), KERNEL, BIAS)),
    Exercise(
        "col2im",
        layers,
        3,
        lambda rng: (rng.standard_normal((99, 27)), (9, 11, 3)),
        "im2col",
        lambda f: lambda dy, x: f(dy, x.shape),
    ),
    Exercise(
        "conv_backward",
        layers,
        3,
        lambda rng: (rng.standard_normal((9, 11, 4)), KERNEL),
        "conv",
        lambda f: lambda dy, x: f(dy, KERNEL),
    ),
    Exercise("relu_forward", layers, 4, lambda rng: (_x(rng),)),
    Exercise(
        "relu_backward",
        layers,
        4,
        lambda rng: (_x(rng), _x(rng) > 0),
        "relu",
        lambda f: lambda dy, x: f(dy, x > 0),
    ),
    Exercise("max_pool_forward", layers, 4, lambda rng: (_x(rng),)),
    Exercise(
        "max_pool_backward",
        layers,
        4,
        lambda rng: (
            rng.standard_normal((4, 5, 3)),
            layers.max_pool_forward(_x(rng))[1],
            (9, 11, 3),
        ),
        "max_pool",
        lambda f: lambda dy, x: f(dy, layers.max_pool_forward(x)[1], x.shape),
    ),
    Exercise("avg_pool_forward", layers, 4, lambda rng: (_x(rng),)),
    Exercise(
        "avg_pool_backward",
        layers,
        4,
        lambda rng: (rng.standard_normal((4, 5, 3)), (9, 11, 3)),
        "avg_pool",
        lambda f: lambda dy, x: f(dy, x.shape),
    ),
    Exercise(
        "content_loss",
        losses,
        6,
        lambda rng: (rng.standard_normal((99, 5)), P, 0.7),
        "content_loss",
        lambda f: lambda dy, F: dy * f(F, P)[1],
    ),
    Exercise("gram_matrix", losses, 7, lambda rng: (rng.standard_normal((99, 5)),)),
    Exercise(
        "style_loss",
        losses,
        7,
        lambda rng: (rng.standard_normal((99, 5)), A, 0.7),
        "style_loss",
        lambda f: lambda dy, F: dy * f(F, A)[1],
    ),
    Exercise(
        "total_variation",
        losses,
        8,
        lambda rng: (_x(rng), 0.7),
        "total_variation",
        lambda f: lambda dy, x: dy * f(x)[1],
    ),
    Exercise("direction", lbfgs, 11, _pairs),
)
"""What a student writes: with all of them done, the program paints."""

TO_MEND = (
    Exercise("smooth_content", hunt, 13, lambda rng: (*rng.standard_normal((2, 9, 11)), 0.3)),
    Exercise("style_layer", hunt, 13, lambda rng: (rng.standard_normal((99, 5)), A)),
    Exercise("style_backward", hunt, 13, lambda rng: tuple(rng.standard_normal((2, 99, 5)))),
    Exercise("within_range", hunt, 13, lambda rng: tuple(rng.uniform(-100, 355, (2, 9, 11)))),
    Exercise("normalised", hunt, 13, lambda rng: (rng.standard_normal((99, 5)), 0.7)),
    Exercise("paper_style", hunt, 13, lambda rng: (rng.standard_normal((99, 5)), A)),
    Exercise("total_style", hunt, 13, lambda rng: ([4.0, 1.0, 2.0], [0.5, 0.25, 0.25])),
    Exercise("read_kernel", hunt, 13, lambda rng: (rng.standard_normal((3, 3, 4, 5)),)),
    Exercise("to_vgg_space", hunt, 13, lambda rng: (rng.uniform(0, 1, (9, 11, 3)),)),
)
"""What a student mends."""

EXERCISES = TO_WRITE + TO_MEND
