r"""The coordinates in which an optimiser moves: wide structures with longer steps than fine ones.

A gradient says how the loss changes with each pixel by itself. What paints a picture is wider: a
brush stroke, a star, a shadow, and to all the pixels of one of those a step along the gradient does
little. The optimiser therefore moves z, not the picture x, away from where it starts, x_0:

.. math:: x = x_0 + S z, \qquad \frac{dL}{dz} = S^T \frac{dL}{dx}

S is a linear filter. It takes a picture apart into cosine waves, multiplies each by a gain that
grows with its length, and puts them together again:

.. math:: S = D^T g D, \qquad g(f) \propto f^{-a}

with D the orthonormal cosine transform along both axes, for which D^T is the inverse, and f the
number of waves per pixel. S is symmetric, so the adjoint is the same filter. The cosine transform continues a picture beyond its borders as a mirror does, so nothing
leaks from one edge to the opposite one.

This changes neither the loss nor its minima, only the way there: what is steepest in z is S S^T
times the gradient in x. For L-BFGS, S S^T is the first estimate of the inverse Hessian.

Glossary::

    x      (H, W, C) picture
    z      (H, W, C) what the optimiser moves
    f      frequency of a wave in periods per pixel: (H, W), at most 1/2 along an axis
    gain   (H, W, 1), with a mean square of 1, so that a step in z is as long in x

References
----------
Mordvintsev, Pezzotti, Schubert & Olah (2018), "Differentiable Image Parameterizations", whose
"decorrelated space" has a = 1, a Fourier transform, and colours of its own.
"""

from __future__ import annotations

import numpy as np

from .backend import CPU, Array, Backend


def frequencies(height: int, width: int) -> np.ndarray:
    """How many periods per pixel each wave of the cosine transform has.

    Wave k along an axis of N pixels is cos(pi k (n + 1/2) / N): k half periods.

    Parameters
    ----------
    height, width : int

    Returns
    -------
    (H, W) array
        The constant one has that of a wave as long as the longer side, in place of 0.
    """
    down, right = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    f: np.ndarray = np.maximum(np.hypot(down[:, None], right), 1 / max(height, width))
    return f


class Spectrum:
    """S, the filter that multiplies each frequency f by f^-a.

    Parameters
    ----------
    height, width : int
        Of the picture.
    exponent : float
        a. With 0 the coordinates are the pixels, untouched to the last bit.
    dtype : str
        In which pictures are computed. The optimiser's own arrays may have another.
    backend : Backend
        Where the arrays live.
    """

    def __init__(
        self,
        height: int,
        width: int,
        exponent: float,
        dtype: str = "float32",
        backend: Backend = CPU,
    ) -> None:
        gain = frequencies(height, width)[..., None] ** -exponent
        gain /= np.sqrt(np.mean(gain**2))
        self._pixels = exponent == 0
        self._dtype = dtype
        self._backend = backend
        self._gain = backend.upload(gain, dtype)

    def forward(self, z: Array) -> Array:
        """S z: how far the picture is from the start at z, (H, W, C)."""
        return z if self._pixels else self._filtered(z.astype(self._dtype))

    def adjoint(self, dx: Array) -> Array:
        """S^T dx: dL/dz from dL/dx, (H, W, C). S is symmetric."""
        return dx if self._pixels else self._filtered(dx)

    def _filtered(self, x: Array) -> Array:
        """D^T gain D x."""
        fft = self._backend.fft
        waves = fft.dctn(x, axes=(0, 1), norm="ortho")
        return fft.idctn(self._gain * waves, axes=(0, 1), norm="ortho")
