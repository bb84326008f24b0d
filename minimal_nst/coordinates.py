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
filters they differ little, and the inverse Hessian that `Bands` measures is flat there. Of waves
finer than f_c, of 4 pixels, the three colours move alike: so fine, an eye sees light and dark alone
(JPEG and television keep no more), the loss can do without as well, and half of the variables are
saved. Waves of less than two pixels, which are those of checkerboards, do not move at all: the
gradient of a max pooling would make screens of dots of them, which lower the loss by next to nothing.
So what moves is

.. math:: S = D^T g E E^T D

where E^T takes from the waves what may move, of those finer than f_c (red + green + blue) / sqrt(3), and
E puts it back in its place. The start loses all else. E's columns are orthonormal, so S is symmetric,
and the adjoint is the same filter. The cosine transform continues a picture beyond its borders as a
mirror does, so nothing leaks from one edge to the opposite one.

But for what does not move, neither the loss nor its minima change, only the way there: what is
steepest in z is S S^T times the gradient in x. For L-BFGS, S S^T is the first estimate of the inverse
Hessian.

All that L-BFGS knows of its variables is their inner products, and D, a rotation, leaves those as
they are. So it may as well move w = E^T D z themselves, with half of the transforms:

.. math:: x = x_0 + D^T g E w, \qquad \frac{dL}{dw} = E^T g D \frac{dL}{dx}

which are two fifths as many as the pixels' numbers, from the longest wave to the finest. So what lies
side by side in w is of about one frequency, and of about one size.

Adam has a step length for each variable; of pixels it makes better use than of waves.

Glossary::

    x      (H, W, C) picture
    z      (H, W, C) what the optimiser moves: pixels,
    w      (K, L) or amplitudes of their waves, in rows of L: of each colour up to f_c, then of all
    f      frequency of a wave in periods per pixel, at most 1/2 along an axis
    f_0    from where on the gain is the same
    f_c    from where on no colour moves by itself
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

COLOURED = 1 / 4
"""f_c, in periods per pixel."""

FINEST = 1 / 2
"""Up to where waves move: what has more periods per pixel lies across the pixels' grid."""

ROW, ROW_ON_GPU = 384, 1536
"""Numbers in a row of w. stacks.py keeps a scale for each row, on a GPU 32; on a CPU short ones are faster."""

SHARE = math.pi / 4 * (1 + 2 * (COLOURED / FINEST) ** 2) / 3
"""How many numbers w has for each of the picture's. Waves that move are a quarter of a disc in a square;
each has one, and those of a smaller disc two more, where the picture has three squares."""

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
"""M, of each number of w."""

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


def moved(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Which waves the optimiser moves, from the longest to the finest.

    Parameters
    ----------
    height, width : int
        Of the picture.

    Returns
    -------
    coloured, grey : (N,) array
        Numbers of waves, counted as in `frequencies`, whose colours move each for itself, and all alike.
        The last few do not move, and are there to fill a GPU's rows, so that a CPU has as many
        variables; if the picture is tiny, rows as long as its own.
    """
    f = frequencies(height, width).ravel()
    order = np.argsort(f, kind="stable")
    coloured, count = (np.count_nonzero(f <= most) for most in (COLOURED, FINEST))
    numbers = 2 * coloured + count
    more = -numbers % ROW_ON_GPU
    if count + more > f.size:
        more = -numbers % width
    return order[:coloured], order[coloured : count + more]


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
        How many numbers w has in a row, if the picture is not tiny.

    Attributes
    ----------
    shape : tuple of int
        Of what the optimiser moves.
    frequencies : (K, L) array or None
        f of each number of w, on the host; None where pixels move.

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
        self._pixels = exponent == 0
        self._waves = waves and not self._pixels
        self._dtype = dtype
        self._gain = backend.upload(np.repeat(gain[..., None], 3, axis=2), dtype)
        self._cosines = Cosines(height, width, dtype, backend)
        self.shape: tuple[int, ...] = (height, width, 3)
        self.frequencies = None
        coloured, grey = moved(height, width)
        self._coloured = len(coloured)
        self._numbers = 3 * len(coloured) + len(grey)
        if self._waves:
            of_each = f.ravel()[np.concatenate([np.repeat(coloured, 3), grey])]
            length = width if self._numbers % row else row
            self.frequencies = of_each.reshape(-1, length)
            self.shape = self.frequencies.shape
        order = np.concatenate([coloured, grey])
        places = np.zeros(f.size, "int64")  # of one that does not move, any
        places[order] = range(len(order))
        self._order = backend.upload(order, "int64")
        self._places = backend.upload(places.reshape(f.shape), "int64")

    def forward(self, z: Array) -> Array:
        """S z, or D^T g E w: how far the picture is from the start, (H, W, C)."""
        if self._pixels:
            return z
        z = z.astype(self._dtype, copy=False)
        w = z if self._waves else self._packed(self._cosines.forward(z))
        return self._cosines.inverse(self._gain * self._unpacked(w))

    def adjoint(self, dx: Array) -> Array:
        """S^T dx, where S is symmetric, or E^T g D dx: dL/dz or dL/dw from dL/dx."""
        if not self._waves:
            return self.forward(dx)
        return self._packed(self._gain * self._cosines.forward(dx))

    def start(self, x: np.ndarray) -> np.ndarray:
        """x_0: a picture on the host without what does not move, D^T E E^T D x."""
        if self._pixels:
            return x
        waves = self._unpacked(self._packed(fft.dctn(x, axes=(0, 1), norm="ortho")))
        kept: np.ndarray = fft.idctn((self._gain > 0) * waves, axes=(0, 1), norm="ortho")
        return kept

    def _packed(self, waves: Array) -> Array:
        """E^T: what may move of the waves of a picture, (H, W, C)."""
        taken, coloured = waves.reshape(-1, 3).take(self._order, axis=0), self._coloured
        red, green, blue = (taken[coloured:, colour] for colour in range(3))
        w = array_module(waves).empty(self._numbers, waves.dtype)
        w[: 3 * coloured] = taken[:coloured].reshape(-1)
        w[3 * coloured :] = (red + green + blue) / math.sqrt(3)
        return w.reshape(self.shape) if self._waves else w

    def _unpacked(self, w: Array) -> Array:
        """E: the same in its places, (H, W, C)."""
        coloured, w = self._coloured, w.reshape(-1)
        waves = array_module(w).empty((len(self._order), 3), w.dtype)
        waves[:coloured] = w[: 3 * coloured].reshape(-1, 3)
        waves[coloured:] = (w[3 * coloured :] / math.sqrt(3))[:, None]
        return waves.take(self._places, axis=0)


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
        Frequency of each number of w, on the host.
    dtype : str
        In which the picture is computed.

    Attributes
    ----------
    lengths : (K, L) array
        M, of each number; 1 before anything was learnt.

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
        # numbers of one band that follow each other in a row: a run
        self._starts = np.flatnonzero(np.diff(band.reshape(f.shape), axis=1, prepend=-1))
        of_runs = self._band[self._starts, None]
        self._of_band = (of_runs == range(band.max() + 1)).astype("float64")
        self._energies: Array = np.zeros((self.STEPS, 3, band.max() + 1))
        self.lengths: Array = np.ones(f.shape, dtype)

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
        Frequency of each number of w, on the host.
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
        starts = np.append(self._starts, self._band.size)
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
    """Return the metric for numbers of these frequencies that live there."""
    return Bands(f, dtype) if backend is CPU else GpuBands(f, dtype, backend)
