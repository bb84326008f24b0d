# Each function here does not do what its docstring says: find out why, and mend it. Then, in the
# folder above:  python -m minimal_nst exercises check FOLDER
"""A bug hunt: functions as public style transfer programs have them, each with its defect.

All of these defects were found by reading well-known programs, some of which have been used for years;
each still paints something. Every docstring says what the function should do, and what is noticed.
A line that ends in a comment ``was:`` stands here as it should; a student gets what was there.

Glossary::

    F, P    (M, N) features of the generated and of the content picture, one row per position
    A       (N, N) Gram matrix of the style picture, summed over positions
    dF, dx  gradients, of the shapes of F and x
"""

from __future__ import annotations

import numpy as np


def smooth_content(x: np.ndarray, target: np.ndarray, weight: float) -> tuple[float, np.ndarray]:
    """Half the squared distance from a target, plus weight * squared differences of neighbours.

    Symptom: the picture does get smoother with a larger weight, the printed loss hardly changes.

    Parameters
    ----------
    x, target : (H, W) arrays
    weight : float

    Returns
    -------
    loss : float
    dx : (H, W) array
    """
    down, right = np.diff(x, axis=0), np.diff(x, axis=1)
    dx = x - target
    dx[1:] += 2 * weight * down
    dx[:-1] -= 2 * weight * down
    dx[:, 1:] += 2 * weight * right
    dx[:, :-1] -= 2 * weight * right
    loss = np.sum((x - target) ** 2) / 2
    return loss, dx


def style_layer(F: np.ndarray, A: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of the squared differences of two Gram matrices, and its gradient.

    Symptom: paintings need twice the style weight that others need.

    Parameters
    ----------
    F : (M, N) array
    A : (N, N) array

    Returns
    -------
    loss : float
    dF : (M, N) array
    """
    D = F.T @ F - A
    loss = np.mean(D**2)
    dF = 2 / D.size * F @ D
    return loss, dF


def style_backward(F: np.ndarray, style: np.ndarray) -> np.ndarray:
    """The gradient of sum((G - A)^2) / 4 with G = F'F, A = style'style.

    Symptom: the loss falls for some hundred steps, and then rises beyond all limits.

    Parameters
    ----------
    F, style : (M, N) arrays
        Features of the generated and of the style picture, of one size.

    Returns
    -------
    (M, N) array
    """
    D = F.T @ F - style.T @ style
    dF: np.ndarray = style @ D
    return dF


def within_range(x: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the squared distance of the picture as it will be shown, cut to 0..255, from a target.

    Symptom: far from its minimum, the loss falls by less than the gradient promises.

    Parameters
    ----------
    x, target : (H, W) arrays

    Returns
    -------
    loss : float
    dx : (H, W) array
        Where x lies outside of 0..255 the loss does not depend on it.
    """
    inside = (x.real >= 0) & (x.real <= 255)
    shown = np.where(inside, x, np.clip(x.real, 0, 255))
    dx = shown - target
    return np.sum((shown - target) ** 2) / 2, dx


def normalised(dF: np.ndarray, strength: float) -> np.ndarray:
    """A gradient brought to a size of its own: divided by the sum of its absolute values.

    Symptom: with the option the layers weigh as differently as without it.

    Parameters
    ----------
    dF : (M, N) array
    strength : float
        A factor of the result.

    Returns
    -------
    (M, N) array
    """
    size = 1 / strength
    scaled: np.ndarray = strength / size * dF
    return scaled


def paper_style(F: np.ndarray, A: np.ndarray) -> tuple[float, np.ndarray]:
    """Equation 4 of the paper, sum((G - A)^2) / (4 N^2 M^2), and its gradient.

    Symptom: the deep layers hardly matter, and a gradient check finds nothing.

    Parameters
    ----------
    F : (M, N) array
    A : (N, N) array

    Returns
    -------
    loss : float
    dF : (M, N) array
    """
    M, N = 400 * 600, 3  # rows and columns of the picture, its channels
    D = F.T @ F - A
    return np.sum(D**2) / (4 * N**2 * M**2), F @ D / (N**2 * M**2)


def total_style(losses: list[float], weights: list[float]) -> float:
    """The weighted sum of the layers' style losses; the weights, such as 1/5 each, sum to 1.

    Symptom: taking one more layer makes the painting less stylised.

    Parameters
    ----------
    losses, weights : lists of float

    Returns
    -------
    float
    """
    total = np.dot(weights, losses)
    return float(total) / len(losses)


def read_kernel(stored: np.ndarray) -> np.ndarray:
    """A kernel from a file in which it is stored as rows, columns, inputs, outputs.

    Symptom: everything works; features differ a little from what others report.

    Parameters
    ----------
    stored : (3, 3, C_in, C_out) array

    Returns
    -------
    (3, 3, C_in, C_out) array
        First axis down, second to the right.
    """
    return stored.transpose(1, 0, 2, 3)


def to_vgg_space(image: np.ndarray) -> np.ndarray:
    """RGB from 0 to 1 -> what VGG-19 was trained on: BGR from 0 to 255 without its mean.

    Symptom: nothing, for years.

    Parameters
    ----------
    image : (H, W, 3) array

    Returns
    -------
    (H, W, 3) array
    """
    mean = np.array([103.939, 116.779, 123.68])
    full_range = 256
    x: np.ndarray = full_range * image[..., ::-1] - mean
    return x
