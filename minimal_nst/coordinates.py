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
filters they differ little, and the inverse Hessian that `Bands` measures is flat there. Waves of
less than two pixels, which are those of checkerboards, do not move at all, and the start loses its
own: the gradient of a max pooling would make screens of dots of them, which lower the loss by next
to nothing. S is symmetric, so the adjoint is the same filter. The cosine transform continues a
picture beyond its borders as a mirror does, so nothing leaks from one edge to the opposite one.

But for these, neither the loss nor its minima change, only the way there: what is steepest in z is
S S^T times the gradient in x. For L-BFGS, S S^T is the first estimate of the inverse Hessian.

All that L-BFGS knows of its variables is their inner products, and D, a rotation, leaves those as
they are. So it may as well move the waves w = D z themselves, with half of the transforms:

.. math:: x = x_0 + D^T g w, \qquad \frac{dL}{dw} = g D \frac{dL}{dx}

and only those that move, four fifths of all, from the longest to the finest. So what lies side by
side in w is of about one frequency, and of about one size.

Adam has a step length for each variable; of pixels it makes better use than of waves.

Glossary::

    x      (H, W, C) picture
    z      (H, W, C) what the optimiser moves: pixels,
    w      (K, L, C) or the amplitudes of their waves, in rows of L
    f      frequency of a wave in periods per pixel, at most 1/2 along an axis
    f_0    from where on the gain is the same
    gain   (H, W, C), with a mean square of 1, so that a step in z is as long in x; of all colours the
           same, but rows of one number for three are slow in NumPy

References
----------
Mordvintsev, Pezzotti, Schubert & Olah (2018), "Differentiable Image Parameterizations", whose
"decorrelated space" has a = 1, a Fourier transform, and colours of its own.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import fft

from .backend import CPU, LANES, Array, Backend, array_module, kernel
from .cublas import multiply

FINE = 1 / 8
"""f_0, in periods per pixel."""

FINEST = 1 / 2
"""Up to where waves move: what has more periods per pixel lies across the pixels' grid."""

ROW, ROW_ON_GPU = 128, 512
"""Waves in a row of w. stacks.py keeps a scale for each row, on a GPU 32; on a CPU short ones are faster."""

SHARE = math.pi / 4
"""How many of the waves those are: a quarter of a disc in a square, but for what pixels are whole."""

MULTIPLY = """
const int lane = i % 32, run = i / 32;
T ss = 0, yy = 0, sy = 0;
for (int k = starts[run] + lane; k < starts[run + 1]; k += 32) {
    ss += s[k] * s[k];
    yy += y[k] * y[k];
    sy += s[k] * y[k];
}
parts[i] = ss;
parts[lanes + i] = yy;
parts[2 * lanes + i] = sy;
"""
"""A lane's part of a run's inner products."""

LENGTHS = """
const int last = steps - 1;
double most_s = 0, most_y = 0, both = 0, of_gamma = 0, own = 0;
for (int pass = 0; pass < 2; ++pass) {
    for (int band = 0; band < bands; ++band) {
        double of_s = 0, of_y = 0;
        for (int k = 0; k < steps; ++k) {
            of_s += energies[(3 * k + 0) * bands + band];
            of_y += energies[(3 * k + 1) * bands + band];
        }
        if (pass == 0) {
            most_s = of_s > most_s ? of_s : most_s;
            most_y = of_y > most_y ? of_y : most_y;
            continue;
        }
        const double gamma = sqrt((of_s + least * most_s) / (of_y + least * most_y));
        both += energies[(3 * last + 2) * bands + band];
        of_gamma += gamma * energies[(3 * last + 1) * bands + band];
        if (band == i) own = gamma;
    }
}
lengths[i] = sqrt(both / of_gamma) * own;
"""
"""M in band i. All need kappa, and each finds it out: it is a few numbers."""

SPREAD = "spread[i] = (T)lengths[band[i]];"
"""M, of each wave."""

BODIES = {"multiply": MULTIPLY, "lengths": LENGTHS, "spread": SPREAD}

PARAMETERS = {
    "multiply": (
        "raw T s, raw T y, raw int32 starts, int32 lanes",
        "raw float64 parts",
    ),
    "lengths": (
        "raw float64 energies, int32 bands, int32 steps, float64 least",
        "raw float64 lengths",
    ),
    "spread": ("raw float64 lengths, raw int32 band", "raw T spread"),
}
"""Name of a kernel -> its inputs and outputs, as CuPy wants them declared."""

NOTHING = 1e-12
"""Share of the most below which what a band has says nothing."""


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


def moved(height: int, width: int, row: int = ROW) -> np.ndarray:
    """Which waves the optimiser moves, from the longest to the finest.

    Parameters
    ----------
    height, width : int
        Of the picture.
    row : int
        How many lie in a row; if the picture is tiny, as many as in one of its own.

    Returns
    -------
    (K, L) array
        Numbers of waves, counted as in `frequencies`. The last few do not move, and are there to fill
        a GPU's rows, so that a CPU has as many variables.
    """
    f = frequencies(height, width).ravel()
    count = np.count_nonzero(f <= FINEST)
    most = ROW_ON_GPU
    if -(-count // most) * most > f.size:
        row = most = width
    order: np.ndarray = np.argsort(f, kind="stable")
    return order[: -(-count // most) * most].reshape(-1, row)


class Cosines:
    """D, the orthonormal cosine transform of a picture along both axes, and D^T, its inverse.

    On a CPU a fast Fourier transform; on a GPU two products of matrices, which take more operations
    and less time, as the fast way has many short steps.

    Parameters
    ----------
    height, width : int
        Of the picture.
    dtype : str
    backend : Backend
        Where the arrays live.
    """

    def __init__(self, height: int, width: int, dtype: str, backend: Backend) -> None:
        self._fast = backend is CPU
        if not self._fast:
            self._down, self._across = (
                backend.upload(fft.dct(np.eye(n), axis=0, norm="ortho")[None], dtype)
                for n in (height, width)
            )

    def forward(self, x: Array) -> Array:
        """D x: the amplitude of each wave, (H, W, C)."""
        if self._fast:
            return fft.dctn(x, axes=(0, 1), norm="ortho")
        return self._products(x, False)

    def inverse(self, waves: Array) -> Array:
        """D^T: the picture that is made of them, (H, W, C)."""
        if self._fast:
            return fft.idctn(waves, axes=(0, 1), norm="ortho")
        return self._products(waves, True)

    def _products(self, x: Array, turned: bool) -> Array:
        """Down @ x @ across^T of each colour; or, turned, down^T @ x @ across."""
        xp, (H, W, C) = array_module(x), x.shape
        rows = xp.ascontiguousarray(x.transpose(0, 2, 1)).reshape(1, H * C, W)
        product, result = xp.empty((1, H * C, W), x.dtype), xp.empty((1, H, C * W), x.dtype)
        multiply(rows, self._across, product, b_turned=not turned)
        multiply(self._down, product.reshape(1, H, C * W), result, a_turned=turned)
        return xp.ascontiguousarray(result.reshape(H, C, W).transpose(0, 2, 1))


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
    waves : bool
        Whether the optimiser moves w; otherwise it moves z.
    row : int
        How many waves w has in a row.

    Attributes
    ----------
    frequencies : array
        f of each of its variables, but for the colours; of pixels, which have none, of as many.

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
        waves: bool = False,
        row: int = ROW,
    ) -> None:
        f = frequencies(height, width)
        gain = np.where(f <= FINEST, np.minimum(f, FINE) ** -exponent, 0)
        gain /= np.sqrt(np.mean(gain**2))
        self._finer = f[..., None] > FINEST
        self._pixels = exponent == 0
        self._waves = waves and not self._pixels
        self._dtype = dtype
        self._gain = backend.upload(np.repeat(gain[..., None], 3, axis=2), dtype)
        self._cosines = Cosines(height, width, dtype, backend)
        self.frequencies = f
        if self._waves:
            order = moved(height, width, row)
            places = np.zeros(f.size, "int64")  # of one that does not move, any
            places[order] = np.arange(order.size).reshape(order.shape)
            self.frequencies = f.ravel()[order]
            self._order = backend.upload(order, "int64")
            self._places = backend.upload(places.reshape(f.shape), "int64")

    def forward(self, z: Array) -> Array:
        """S z, or D^T g w: how far the picture is from the start, (H, W, C)."""
        if self._pixels:
            return z
        z = z.astype(self._dtype, copy=False)
        waves = _taken(z, self._places) if self._waves else self._cosines.forward(z)
        return self._cosines.inverse(self._gain * waves)

    def adjoint(self, dx: Array) -> Array:
        """S^T dx, where S is symmetric, or g D dx: dL/dz or dL/dw from dL/dx."""
        if self._pixels:
            return dx
        waves = self._gain * self._cosines.forward(dx)
        return _taken(waves, self._order) if self._waves else self._cosines.inverse(waves)

    def start(self, x: np.ndarray) -> np.ndarray:
        """x_0: a picture on the host without the waves that do not move."""
        if self._pixels:
            return x
        waves = self._finer * fft.dctn(x, axes=(0, 1), norm="ortho")
        kept: np.ndarray = x - fft.idctn(waves, axes=(0, 1), norm="ortho")
        return kept


def _taken(waves: Array, numbers: Array) -> Array:
    """The waves of these numbers, each of all colours."""
    return waves.reshape(-1, waves.shape[-1]).take(numbers, axis=0)


class Bands:
    r"""An inverse Hessian by bands of frequencies, as the last few steps have it.

    A power of the frequency is a guess, and the same for every picture and all the way down. What
    the loss does can be measured: along a step s the gradient changes by y, and in a band b of
    frequencies the inverse Hessian is about as large as

    .. math:: \gamma_b^2 = \sum_{f \in b} s_f^2 \Big/ \sum_{f \in b} y_f^2

    with both sums taken over the last steps: the geometric mean of the two step lengths of Barzilai
    and Borwein, band by band. The metric is

    .. math::
        M = \sqrt\kappa \, \gamma, \qquad
        \kappa = \langle s, y\rangle / \langle y, \gamma y\rangle

    kappa itself would make the last step right, <y, M y> = <s, y>, and is the shorter of their two
    lengths; without it the steps are too long. Between the two, L-BFGS goes down faster than with
    either. M is a `Metric` of our L-BFGS, of which w are the variables.

    Parameters
    ----------
    f : (K, L) array
        Frequencies of the waves, on the host.
    dtype : str
        In which the picture is computed.

    Attributes
    ----------
    lengths : (K, L, 1) array
        M, of each wave; 1 before anything was learnt.

    References
    ----------
    Barzilai & Borwein (1988), "Two-point step size gradient methods".
    """

    PER_OCTAVE = 2
    STEPS = 3

    def __init__(self, f: np.ndarray, dtype: str = "float32") -> None:
        octaves = np.floor(self.PER_OCTAVE * np.log2(f / f.min()) + 1e-9)
        _, band = np.unique(octaves, return_inverse=True)
        self._band = band.ravel()
        # waves of one band that follow each other in a row, as numbers: a run
        starts = np.flatnonzero(np.diff(band.reshape(f.shape), axis=1, prepend=-1))
        self._starts = 3 * starts
        self._of_band = (self._band[starts, None] == range(band.max() + 1)).astype("float64")
        self._energies: Array = np.zeros((self.STEPS, 3, band.max() + 1))
        self.lengths: Array = np.ones((*f.shape, 1), dtype)

    @property
    def state(self) -> dict[str, Array]:
        """What was learnt, by name; with other numbers in these arrays, something else was."""
        return {"energies": self._energies, "lengths": self.lengths}

    def learn(self, s: Array, y: Array) -> None:
        """Take note of a step and the change of the gradient along it."""
        self._energies[:-1] = self._energies[1:]
        self._energies[-1] = self._sums(s, y)
        of_s, of_y, _ = self._energies.sum(axis=0)
        gamma = ((of_s + NOTHING * of_s.max()) / (of_y + NOTHING * of_y.max())) ** 0.5
        _, of_y, of_both = self._energies[-1]
        kappa = of_both.sum() / (gamma * of_y).sum()
        lengths = (kappa**0.5 * gamma).astype(self.lengths.dtype)
        np.take(lengths, self._band, out=self.lengths.reshape(-1), mode="clip")  # checks nothing

    def _sums(self, s: Array, y: Array) -> np.ndarray:
        """<s, s>, <y, y> and <s, y> in each band; of runs in float32, of those in float64.

        In runs, as each sum then has an order, which a histogram's would not have on a GPU.
        """
        runs = [np.add.reduceat((a * b).ravel(), self._starts) for a, b in ((s, s), (y, y), (s, y))]
        sums: np.ndarray = np.stack(runs).astype("float64") @ self._of_band
        return sums


class GpuBands(Bands):
    """The same on a GPU, which is asked for nothing.

    Parameters
    ----------
    f : (K, L) array
        Frequencies of the waves, on the host.
    dtype : str
        In which the picture is computed.
    backend : Backend
        Where the arrays live.
    """

    def __init__(self, f: np.ndarray, dtype: str, backend: Backend) -> None:
        super().__init__(f, dtype)
        self._multiply, self._lengths, self._spread = (
            kernel(backend.xp, name, *PARAMETERS[name], BODIES[name]) for name in BODIES
        )
        bands = self._of_band.shape[1]
        self._xp = backend.xp
        starts = np.append(self._starts, self._band.size * 3)
        self._band, self._starts = (backend.upload(x, "int32") for x in (self._band, starts))
        self._of_band = backend.upload(self._of_band, "float64")
        self._energies = self._xp.zeros((self.STEPS, 3, bands))
        self._of_bands = self._xp.ones(bands, "float64")
        self.lengths = backend.upload(self.lengths, dtype)

    def learn(self, s: Array, y: Array) -> None:
        """See `Bands`."""
        steps, _, bands = self._energies.shape
        last = self._xp.empty(self._energies.shape, "float64")
        last[:-1] = self._energies[1:]
        multiply(self._sums(s, y)[None], self._of_band[None], last[steps - 1 :])
        self._energies[...] = last
        self._lengths(last, bands, steps, NOTHING, self._of_bands, size=bands)
        self._spread(self._of_bands, self._band, self.lengths, size=self.lengths.size)

    def _sums(self, s: Array, y: Array) -> Array:
        """See `Bands`."""
        lanes = (len(self._starts) - 1) * LANES
        parts = self._xp.empty((3, lanes // LANES, LANES), "float64")
        self._multiply(s, y, self._starts, lanes, parts, size=lanes)
        return parts.sum(axis=2)


def bands(f: np.ndarray, dtype: str, backend: Backend) -> Bands:
    """Return the metric for waves of these frequencies whose amplitudes live there."""
    return Bands(f, dtype) if backend is CPU else GpuBands(f, dtype, backend)
