r"""The coordinates in which an optimiser moves: wide structures with longer steps than fine ones.

A gradient says how the loss changes with each pixel by itself. What paints a picture is wider: a
brush stroke, a star, a shadow, and to all the pixels of one of those a step along the gradient does
little. The optimiser therefore moves z, not the picture x, away from where it starts, x_0:

.. math:: x = x_0 + S z, \qquad \frac{dL}{dz} = S^T \frac{dL}{dx}

S is a linear filter. It takes a picture apart into cosine waves, multiplies each by a gain that
grows with its length, and puts them together again:

.. math:: S = D^T g D, \qquad g(f) \propto \min(f, f_0)^{-a}

with D the orthonormal cosine transform along both axes, for which D^T is the inverse, and f the
number of waves per pixel. Waves finer than f_0, of 8 pixels, move alike: to a network of 3 x 3
filters they differ little, and the inverse Hessian that `Bands` measures is flat there. S is
symmetric, so the adjoint is the same filter. The cosine transform continues a picture beyond its borders as a mirror does, so nothing
leaks from one edge to the opposite one.

This changes neither the loss nor its minima, only the way there: what is steepest in z is S S^T
times the gradient in x. For L-BFGS, S S^T is the first estimate of the inverse Hessian.

Glossary::

    x      (H, W, C) picture
    z      (H, W, C) what the optimiser moves
    f      frequency of a wave in periods per pixel: (H, W), at most 1/2 along an axis
    f_0    from where on the gain is the same
    gain   (H, W, 1), with a mean square of 1, so that a step in z is as long in x

References
----------
Mordvintsev, Pezzotti, Schubert & Olah (2018), "Differentiable Image Parameterizations", whose
"decorrelated space" has a = 1, a Fourier transform, and colours of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from .backend import CPU, Array, Backend

FINE = 1 / 8
"""f_0, in periods per pixel."""


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

    References
    ----------
    The course: :eq:`eigen`.
    """
    down, right = np.arange(height) / (2 * height), np.arange(width) / (2 * width)
    f: np.ndarray = np.maximum(np.hypot(down[:, None], right), 1 / max(height, width))
    return f


class Spectrum:
    """S, the filter that multiplies each frequency f, up to `FINE`, by f^-a.

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

    References
    ----------
    The course: :eq:`coordinates`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        exponent: float,
        dtype: str = "float32",
        backend: Backend = CPU,
    ) -> None:
        gain = np.minimum(frequencies(height, width), FINE)[..., None] ** -exponent
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


class Bands:
    r"""An inverse Hessian by bands of frequencies, as the last few steps have it.

    A power of the frequency is a guess, and the same for every picture and all the way down. What
    the loss does can be measured: along a step s the gradient changes by y, and in a band b of
    frequencies the inverse Hessian is about as large as

    .. math:: \gamma_b^2 = \sum_{f \in b} |(D s)_f|^2 \Big/ \sum_{f \in b} |(D y)_f|^2

    with both sums taken over the last steps: the geometric mean of the two step lengths of Barzilai
    and Borwein, band by band. The metric is

    .. math::
        M = \sqrt\kappa \, D^T \gamma D, \qquad
        \kappa = \langle s, y\rangle / \langle y, D^T \gamma D y\rangle

    kappa itself would make the last step right, <y, M y> = <s, y>, and is the shorter of their two
    lengths; without it the steps are too long. Between the two, L-BFGS goes down faster than with
    either. M is a `Metric` of our L-BFGS, and comes on top of the coordinates z.

    Parameters
    ----------
    height, width : int
        Of the picture.
    backend : Backend
        Where the arrays live.

    References
    ----------
    Barzilai & Borwein (1988), "Two-point step size gradient methods".
    """

    PER_OCTAVE = 2
    STEPS = 3
    ROW = 1024

    def __init__(self, height: int, width: int, backend: Backend = CPU) -> None:
        f = frequencies(height, width)
        octaves = np.floor(self.PER_OCTAVE * np.log2(f / f.min()) + 1e-9)
        _, bands = np.unique(octaves.ravel(), return_inverse=True)
        rows = [row for band in range(bands.max() + 1) for row in self._rows(bands == band)]
        places, inside = (np.stack(found) for found in zip(*rows, strict=True))
        of_band = np.arange(bands.max() + 1)[:, None] == bands[places[:, 0]]
        self._backend = backend
        self._band = backend.upload(bands, "int64")
        self._places = backend.upload(places, "int64")
        self._inside = backend.upload(inside, "float64")
        self._of_band = backend.upload(of_band, "float64")
        self._energies: deque[tuple[Array, Array]] = deque(maxlen=self.STEPS)
        self._gamma: Array = None

    def learn(self, s: Array, y: Array) -> None:
        """Take note of a step and the change of the gradient along it."""
        waves_s, waves_y = self._waves(s), self._waves(y)
        self._energies.append((self._energy(waves_s, waves_s), self._energy(waves_y, waves_y)))
        of_s, of_y = (sum(energies) for energies in zip(*self._energies, strict=True))
        least = 1e-12  # where a band has next to nothing, it says nothing
        gamma = ((of_s + least * of_s.max()) / (of_y + least * of_y.max())) ** 0.5
        kappa = self._energy(waves_s, waves_y).sum() / (gamma * self._energies[-1][1]).sum()
        self._gamma = kappa**0.5 * gamma

    def apply(self, q: Array) -> Array:
        """M q; q itself before anything was learnt."""
        if self._gamma is None:
            return q
        gamma = self._gamma.astype(q.dtype)[self._band].reshape(q.shape[0], q.shape[1], 1)
        return self._backend.fft.idctn(gamma * self._waves(q), axes=(0, 1), norm="ortho")

    def _rows(self, of_band: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where a band's waves are, so many at a time, and which of them count: the rest is filled up."""
        found = np.flatnonzero(of_band)
        for start in range(0, len(found), self.ROW):
            part = found[start : start + self.ROW]
            filled = np.full(self.ROW, part[0])
            filled[: len(part)] = part
            yield filled, np.arange(self.ROW) < len(part)

    def _waves(self, x: Array) -> Array:
        """D x."""
        return self._backend.fft.dctn(x, axes=(0, 1), norm="ortho")

    def _energy(self, a: Array, b: Array) -> Array:
        """Inner product of two pictures' waves in each band, summed in float64.

        In rows, as each sum then has an order; a histogram's has none on a GPU.
        """
        blue, green, red = (a[..., c] * b[..., c] for c in range(3))
        products = (blue + green + red).ravel()
        return self._of_band @ (self._inside * products[self._places]).sum(axis=1)
