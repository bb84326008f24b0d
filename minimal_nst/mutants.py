"""Wrong gradients, one for each mistake that people make, which every check must reject.

A check that has rejected nothing has shown nothing. The mistakes were collected from public
programs and from courses; each has a hint for whoever has made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import guided, layers, losses
from .checklist import BOUNDS, C_IN, C_OUT, KERNEL, LAYERS, LOSSES, A, M, N, P, T
from .gradcheck import Operation

OPERATIONS = {operation.name: operation for operation in (*LAYERS, *LOSSES)}


@dataclass(frozen=True)
class Mutant:
    """A wrong backward pass.

    Attributes
    ----------
    of : str
        Name of the operation.
    mistake : str
        What is wrong, in a word or two.
    hint : str
        What to think about.
    backward : callable
        (dy, x) -> a wrong dx.
    """

    of: str
    mistake: str
    hint: str
    backward: Callable[[Any, Any], Any]

    @property
    def operation(self) -> Operation:
        """The operation with this backward pass in the place of its own."""
        name = f"{self.of}: {self.mistake}"
        return replace(OPERATIONS[self.of], name=name, backward=self.backward)


def _overwriting(cols: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """`col2im` with = in the place of +=."""
    H, W, C = shape
    padded = np.zeros((H + 2, W + 2, C))
    for k, (i, j) in enumerate(layers.OFFSETS):
        padded[i : i + H, j : j + W] = cols.reshape(H, W, 9, C)[:, :, k]
    return padded[1:-1, 1:-1]


def _without_border(dx: np.ndarray) -> np.ndarray:
    """The first column lost."""
    dx = dx.copy()
    dx[:, 0] = 0
    return dx


def _conv(dy: np.ndarray, kernel: np.ndarray = KERNEL) -> np.ndarray:
    """The right one."""
    dx: np.ndarray = layers.conv_backward(dy, kernel)
    return dx


def _style(F: np.ndarray) -> np.ndarray:
    """The right one."""
    dF: np.ndarray = losses.style_loss(F, A)[1]
    return dF


def _mean_covariance(F: np.ndarray) -> np.ndarray:
    """The right one."""
    dF: np.ndarray = guided.mean_covariance_loss(F, A, A / 2, T)[1]
    return dF


def _mean(F: np.ndarray) -> np.ndarray:
    mu: np.ndarray = guided.mean_covariance(F, T)[2]
    return mu


def _covariance_error(F: np.ndarray) -> np.ndarray:
    """C - A, as it is in the gradient."""
    error: np.ndarray = (guided.mean_covariance(F, T)[0] - A) / (N**2 * np.sum(T * T))
    return error


def _products_error(F: np.ndarray) -> np.ndarray:
    """B - A/2, as it is in the gradient."""
    error: np.ndarray = (guided.mean_covariance(F, T)[1] - A / 2) / (N**2 * np.sum(T * T))
    return error


def _one_sided(x: np.ndarray) -> np.ndarray:
    """Of each difference only the pixel that it is subtracted from."""
    dx = np.zeros_like(x)
    dx[:-1] -= 2 * (x[1:] - x[:-1])
    dx[:, :-1] -= 2 * (x[:, 1:] - x[:, :-1])
    return dx


MUTANTS = (
    Mutant(
        "im2col",
        "overwrites",
        "neighbourhoods overlap: each place gets up to nine contributions, which are added (+=)",
        lambda dy, x: _overwriting(dy, x.shape),
    ),
    Mutant(
        "conv",
        "kernel flipped",
        "with im2col the transposed product flips the kernel by itself; do not flip it again",
        lambda dy, x: _conv(dy, KERNEL[::-1, ::-1]),
    ),
    Mutant(
        "conv",
        "rows and columns swapped",
        "the kernel's first axis goes down, its second to the right, as im2col's offsets do",
        lambda dy, x: _conv(dy, KERNEL.transpose(1, 0, 2, 3)),
    ),
    Mutant(
        "conv",
        "dy upside down",
        "row h of dy belongs to row h of y",
        lambda dy, x: _conv(dy[::-1]),
    ),
    Mutant(
        "conv",
        "col2im overwrites",
        "neighbourhoods overlap: each place gets up to nine contributions, which are added (+=)",
        lambda dy, x: _overwriting(
            dy.reshape(-1, C_OUT) @ KERNEL.reshape(9 * C_IN, C_OUT).T, x.shape
        ),
    ),
    Mutant(
        "conv",
        "left border lost",
        "padding is cut off after the sums are complete, one row and column on each side",
        lambda dy, x: _without_border(_conv(dy)),
    ),
    Mutant(
        "conv",
        "scaled by 255/256",
        "a gradient is scaled by nothing that the forward pass is not scaled by",
        lambda dy, x: _conv(dy) * 255 / 256,
    ),
    Mutant(
        "relu",
        "mask ignored",
        "where x was not above 0 the output does not move, and nothing flows back",
        lambda dy, x: dy,
    ),
    Mutant(
        "relu",
        "guided, dy masked too",
        "the mask is x > 0, whatever the sign of dy; masking dy too is 'guided backpropagation'",
        lambda dy, x: dy * (x > 0) * (dy > 0),
    ),
    Mutant(
        "relu",
        "mask of x < 0",
        "the other half of the inputs passes through",
        lambda dy, x: dy * (x < 0),
    ),
    Mutant(
        "max_pool",
        "last of the window wins",
        "the gradient goes to where the maximum was, which forward has to remember",
        lambda dy, x: layers.max_pool_backward(dy, np.full(dy.shape, 3, dtype="uint8"), x.shape),
    ),
    Mutant(
        "max_pool",
        "everybody wins",
        "only the maximum of a window moves the output; the other three get 0",
        lambda dy, x: layers.avg_pool_backward(4 * dy, x.shape),
    ),
    Mutant(
        "avg_pool",
        "half, not a quarter",
        "each of the four inputs moves the mean by a quarter",
        lambda dy, x: 2 * layers.avg_pool_backward(dy, x.shape),
    ),
    Mutant(
        "avg_pool",
        "dy mirrored",
        "column w of dy belongs to columns 2w and 2w + 1 of x",
        lambda dy, x: layers.avg_pool_backward(dy[:, ::-1], x.shape),
    ),
    Mutant(
        "content_loss",
        "half forgotten",
        "the 1/2 of the loss is there to cancel the 2 of the square's derivative",
        lambda dy, F: dy * 2 * (F - P),
    ),
    Mutant(
        "content_loss",
        "masked by F > 0",
        "the ReLU's own backward masks; if the loss does it too, it is no longer its gradient",
        lambda dy, F: dy * (F - P) * (F > 0),
    ),
    Mutant(
        "style_loss",
        "target added",
        "G - A: what is too correlated must become less so",
        lambda dy, F: dy * F @ (F.T @ F + A) / (N**2 * M**2),
    ),
    Mutant(
        "style_loss",
        "1/4 kept",
        "the 4 of the differential (2 of the square, 2 of the product F'F) cancels the 1/4",
        lambda dy, F: dy * _style(F) / 4,
    ),
    Mutant(
        "style_loss",
        "M for M squared",
        "the loss has 1/(4 N^2 M^2): both are squared",
        lambda dy, F: dy * _style(F) * M,
    ),
    Mutant(
        "style_loss",
        "only the diagonal",
        "the channels' correlations with each other count as well as their own sizes",
        lambda dy, F: dy * F @ np.diag(np.diag(F.T @ F - A)) / (N**2 * M**2),
    ),
    Mutant(
        "guided_style_loss",
        "mask once",
        "the mask is in both of the F that are multiplied, so its square is in the gradient",
        lambda dy, F: dy * guided.guided_style_loss(F, A, T)[1] / T,
    ),
    Mutant(
        "guided_style_loss",
        "all positions counted",
        "the region has P positions, the sum of the squared mask, and not M",
        lambda dy, F: dy * guided.guided_style_loss(F, A, T)[1] * np.sum(T * T) / M,
    ),
    Mutant(
        "mean_covariance_loss",
        "not centred",
        "the covariance is of F - mu, and so is its gradient",
        lambda dy, F: dy * (_mean_covariance(F) + T * T * _mean(F) @ _covariance_error(F)),
    ),
    Mutant(
        "mean_covariance_loss",
        "the mean's part lost",
        "each position moves the mean as well",
        lambda dy, F: dy * (_mean_covariance(F) - T * T * (_mean(F) @ _products_error(F))),
    ),
    Mutant(
        "total_variation",
        "left border lost",
        "the first column has neighbours too: one, on its right",
        lambda dy, x: dy * _without_border(losses.total_variation(x)[1]),
    ),
    Mutant(
        "total_variation",
        "only one of the two neighbours",
        "each difference pulls at both of its pixels, with opposite signs",
        lambda dy, x: dy * _one_sided(x),
    ),
    Mutant(
        "absolute_variation",
        "the difference for its sign",
        "the slope of |d| is 1 or -1, however large d is",
        lambda dy, x: dy * losses.total_variation(x)[1] / 2,
    ),
    Mutant(
        "keras_variation",
        "inner derivative lost",
        "the squares within the power give a 2 of their own",
        lambda dy, x: dy * losses.keras_variation(x)[1] / 2,
    ),
    Mutant(
        "total_variation, mean",
        "the sum's gradient",
        "a mean is divided by the number of differences, and so is its gradient",
        lambda dy, x: dy * losses.total_variation(x)[1],
    ),
    Mutant(
        "absolute_variation, mean",
        "the sum's gradient",
        "a mean is divided by the number of differences, and so is its gradient",
        lambda dy, x: dy * losses.absolute_variation(x)[1],
    ),
    Mutant(
        "out_of_range",
        "too bright only",
        "what is too dark is out of range too",
        lambda dy, x: dy * np.maximum(losses.out_of_range(x, *BOUNDS)[1], 0),
    ),
    Mutant(
        "out_of_range",
        "the picture's own square",
        "it is the distance from the bound that is squared",
        lambda dy, x: dy * 2 * x * (losses.out_of_range(x, *BOUNDS)[1] != 0),
    ),
)
