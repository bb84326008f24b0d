"""What this program checks of itself: every layer, every loss, the whole objective.

The numbers are drawn once, from a seeded generator, on pictures of 9x11 pixels: neither square nor
even, so that exchanged axes and dropped rows show.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from . import guided, layers, losses
from .coordinates import Spectrum
from .gradcheck import EXACT, Operation, Verdict, complex_step, taylor_rates
from .objective import Objective
from .settings import Settings
from .vgg import VGG19
from .weights import load_weights

H, W, C_IN, C_OUT, M, N = 9, 11, 3, 4, 99, 5

_rng = np.random.default_rng(7)
KERNEL = _rng.standard_normal((3, 3, C_IN, C_OUT))
BIAS = _rng.standard_normal(C_OUT)
P = _rng.standard_normal((M, N))
A = losses.gram_matrix(_rng.standard_normal((M, N)))
T = _rng.uniform(0, 1, (M, 1))
BOUNDS = np.full((1, 1, 3), -0.5), np.full((1, 1, 3), 0.7)
for _constant in (KERNEL, BIAS, P, A, T, *BOUNDS):
    _constant.flags.writeable = False
_space = Spectrum(H, W, 0.5, "float64"), Spectrum(H, W, 0.5, "complex128")

LAYERS = (
    Operation("im2col", layers.im2col, lambda dy, x: layers.col2im(dy, x.shape), linear=True),
    Operation(
        "conv",
        lambda x: layers.conv_forward(x, KERNEL, BIAS),
        lambda dy, x: layers.conv_backward(dy, KERNEL),
        linear=True,
    ),
    Operation(
        "relu",
        lambda x: layers.relu_forward(x)[0],
        lambda dy, x: layers.relu_backward(dy, layers.relu_forward(x)[1]),
    ),
    Operation(
        "max_pool",
        lambda x: layers.max_pool_forward(x)[0],
        lambda dy, x: layers.max_pool_backward(dy, layers.max_pool_forward(x)[1], x.shape),
    ),
    Operation(
        "avg_pool",
        layers.avg_pool_forward,
        lambda dy, x: layers.avg_pool_backward(dy, x.shape),
        linear=True,
    ),
)

LOSSES = (
    Operation(
        "content_loss",
        lambda F: losses.content_loss(F, P)[0],
        lambda dy, F: dy * losses.content_loss(F, P)[1],
        (M, N),
    ),
    Operation(
        "style_loss",
        lambda F: losses.style_loss(F, A)[0],
        lambda dy, F: dy * losses.style_loss(F, A)[1],
        (M, N),
    ),
    Operation(
        "guided_style_loss",
        lambda F: guided.guided_style_loss(F, A, T)[0],
        lambda dy, F: dy * guided.guided_style_loss(F, A, T)[1],
        (M, N),
    ),
    Operation(
        "mean_covariance_loss",
        lambda F: guided.mean_covariance_loss(F, A, A / 2, T)[0],
        lambda dy, F: dy * guided.mean_covariance_loss(F, A, A / 2, T)[1],
        (M, N),
    ),
    Operation(
        "total_variation",
        lambda x: losses.total_variation(x)[0],
        lambda dy, x: dy * losses.total_variation(x)[1],
    ),
    Operation(
        "total_variation, mean",
        lambda x: losses.total_variation(x, mean=True)[0],
        lambda dy, x: dy * losses.total_variation(x, mean=True)[1],
    ),
    Operation(
        "absolute_variation",
        lambda x: losses.absolute_variation(x)[0],
        lambda dy, x: dy * losses.absolute_variation(x)[1],
    ),
    Operation(
        "absolute_variation, mean",
        lambda x: losses.absolute_variation(x, mean=True)[0],
        lambda dy, x: dy * losses.absolute_variation(x, mean=True)[1],
    ),
    Operation(
        "keras_variation",
        lambda x: losses.keras_variation(x)[0],
        lambda dy, x: dy * losses.keras_variation(x)[1],
    ),
    Operation(
        "out_of_range",
        lambda x: losses.out_of_range(x, *BOUNDS)[0],
        lambda dy, x: dy * losses.out_of_range(x, *BOUNDS)[1],
    ),
)

COORDINATES = Operation(
    "coordinates (spectrum 0.5)",
    lambda z: _space[z.dtype.kind == "c"].forward(z),
    lambda dx, z: _space[0].adjoint(dx),
    linear=True,
)

SIZE = 33, 47
"""Height and width of the picture that the objective is checked on: four poolings fit."""


def objective(name: str, settings: Settings) -> Iterator[Verdict]:
    """Check the gradient of the whole objective, through VGG-19's full depth.

    Parameters
    ----------
    name : str
        What to call it.
    settings : Settings
        Its layers, weights, forms and pooling are used.

    Yields
    ------
    Verdict
        By the complex step; and how far the Taylor remainder's rates are from 2.
    """
    rng = np.random.default_rng(3)
    content, style = rng.integers(0, 256, (*SIZE, 3)), rng.integers(0, 256, (37, 29, 3))
    weights = load_weights(settings.weights)
    real, complex_ = (
        Objective(
            VGG19(weights, settings.pooling, settings.conv, dtype), content, [style], settings
        )
        for dtype in ("float64", "complex128")
    )
    x = rng.uniform(0, 255, (*SIZE, 3))
    _, dx = real(x)
    error = complex_step(lambda x: complex_(x)[0], x, dx, rng)
    yield Verdict(name, "complex step", error, EXACT)
    v = dx / np.abs(dx).max()
    rates = taylor_rates(lambda x: real(x)[0], x, dx, v, h=1e-3)
    yield Verdict(name, "Taylor, from rate 2", max(abs(rate - 2) for rate in rates), 0.1)
