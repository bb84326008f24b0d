r"""Whose colours a painting has: two ways to keep the content's.

Either the style pictures are given the content's colours beforehand, by the linear map of all their
pixels that makes mean and covariance those of the content. Or only light and dark are painted, and
the content's colours are put back at the end.

Glossary::

    x, y       (n, 3) pixels of the picture that is changed, and of the one that it shall resemble
    m, C       (3,) mean of the pixels, (3, 3) covariance, with a square grey level on its diagonal
    Y          (H, W) luminance

References
----------
Gatys, Bethge, Hertzmann & Shechtman (2016), "Preserving Color in Neural Artistic Style Transfer".
Gatys, Ecker, Bethge, Hertzmann & Shechtman (2017), "Controlling Perceptual Factors in Neural Style
Transfer", on colour.
"""

from __future__ import annotations

import numpy as np

RGB_TO_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, the Y of JPEG's YCbCr: what the programs that keep colours take."""

LEAST_VARIANCE = 1.0
"""Square of a grey level, added to each variance: in a grey picture there is but noise across the
grey axis, and no map shall make colours of that."""


def luminance(image: np.ndarray) -> np.ndarray:
    """Light and dark of an (H, W, 3) RGB picture: (H, W), in the units of the picture."""
    Y: np.ndarray = image @ RGB_TO_LUMINANCE
    return Y


def with_luminance(image: np.ndarray, Y: np.ndarray) -> np.ndarray:
    r"""Give a picture another luminance and keep its colours.

    The same amount is added to R, G and B of a pixel, which leaves R - Y and B - Y, the colour
    differences of YUV and YCbCr, as they are.

    Parameters
    ----------
    image : (H, W, 3) array
        RGB.
    Y : (H, W) array

    Returns
    -------
    (H, W, 3) array
        RGB, not clipped.
    """
    changed: np.ndarray = image + (Y - luminance(image))[..., None]
    return changed


def match_luminance(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    r"""Make a grey picture whose luminance has mean and deviation of another's.

    .. math:: Y' = \frac{\sigma_r}{\sigma} (Y - \mu) + \mu_r

    To both variances a square grey level is added, lest a flat picture divide by 0.

    Parameters
    ----------
    image : (H, W, 3) array
        RGB, 0..255.
    reference : (H', W', 3) array
        RGB, 0..255.

    Returns
    -------
    (H, W, 3) array
        With three equal channels, clipped to 0..255.

    References
    ----------
    Gatys et al. (2016), "Preserving Color", on transfer in luminance only.
    """
    Y, Y_r = luminance(image), luminance(reference)
    gain = np.sqrt((Y_r.var() + LEAST_VARIANCE) / (Y.var() + LEAST_VARIANCE))
    return grey(gain * (Y - Y.mean()) + Y_r.mean())


def grey(Y: np.ndarray) -> np.ndarray:
    """The picture of a luminance: (H, W) -> (H, W, 3), clipped to 0..255."""
    return np.repeat(np.clip(Y, 0, 255)[..., None], 3, axis=-1)


def match_colors(image: np.ndarray, reference: np.ndarray, form: str) -> np.ndarray:
    r"""Map a picture's colours linearly, so that their mean and covariance are those of another.

    .. math:: x' = A (x - m_x) + m_y, \qquad A\, C_x A^T = C_y

    Two of the matrices that do so are

    .. math:: A_{\text{cholesky}} = L_y L_x^{-1}, \quad C = L L^T, \qquad
              A_{\text{pca}} = C_y^{1/2} C_x^{-1/2}

    Parameters
    ----------
    image : (H, W, 3) array
        RGB, 0..255.
    reference : (H', W', 3) array
        RGB, 0..255.
    form : {'cholesky', 'pca'}

    Returns
    -------
    (H, W, 3) array
        RGB, clipped to 0..255.

    References
    ----------
    Gatys et al. (2016), "Preserving Color", on colour transfer: Cholesky's, and that of the image
    analogies.
    """
    root = np.linalg.cholesky if form == "cholesky" else _square_root
    (m_x, C_x), (m_y, C_y) = _moments(image), _moments(reference)
    A = root(C_y) @ np.linalg.inv(root(C_x))
    mapped: np.ndarray = np.clip((image - m_x) @ A.T + m_y, 0, 255)
    return mapped


def _moments(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the pixels."""
    x = image.reshape(-1, 3).astype("float64")
    return x.mean(axis=0), np.cov(x.T, bias=True) + LEAST_VARIANCE * np.eye(3)


def _square_root(C: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(C)
    root: np.ndarray = (vectors * np.sqrt(values)) @ vectors.T
    return root
