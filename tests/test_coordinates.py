"""The optimiser's coordinates: their adjoint, what they do to waves; wrong ones are rejected."""

from __future__ import annotations

import math

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import coordinates, gradcheck, stacks
from minimal_nst.coordinates import (
    COLOURED,
    FINE,
    FINEST,
    SHARE,
    Bands,
    Spectrum,
    bands,
    frequencies,
    moved,
)
from scipy import fft

import strict

H, W = 9, 11


@pytest.fixture(params=[False, True], ids=["pixels", "waves"])
def space(request):
    return Spectrum(H, W, 0.5, "float64", waves=request.param)


def test_adjoint(space, rng):
    z, x = rng.standard_normal(space.shape), rng.standard_normal((H, W, 3))
    assert gradcheck.adjoint(space.forward, space.adjoint, z, x) < 1e-15


def picked(x):
    """What may move of a picture's waves, found one by one: (K * L,)."""
    coloured, grey = moved(H, W)
    every = waves(x).reshape(-1, 3)
    of_each = [every[number, colour] for number in coloured for colour in range(3)]
    return np.array(of_each + [every[number].sum() / np.sqrt(3) for number in grey])


def test_waves_are_the_same_coordinates_turned(rng):
    """D turns the one into the other: lengths and angles are kept, and so is what is painted."""
    pixels, turned = (Spectrum(H, W, 0.5, "float64", waves=waves) for waves in (False, True))
    z, dx = rng.standard_normal((2, H, W, 3))
    w = picked(z).reshape(turned.shape)
    np.testing.assert_allclose(turned.forward(w), pixels.forward(z), atol=1e-13)
    np.testing.assert_allclose(turned.adjoint(dx).ravel(), picked(pixels.adjoint(dx)), atol=1e-13)


@pytest.mark.parametrize("row", [coordinates.ROW, coordinates.ROW_ON_GPU])
@pytest.mark.parametrize(
    "shape", [(H, W), (32, 48), (16, 17), (6, 640), (129, 1), (64, 47), (341, 512)]
)
def test_what_moves_is_each_wave_that_may_from_the_longest_to_the_finest(shape, row):
    f, (coloured, grey) = frequencies(*shape).ravel(), moved(*shape)
    order = np.concatenate([coloured, grey])
    assert len(set(order)) == order.size
    assert (np.diff(f[order]) >= 0).all()
    assert sorted(coloured) == np.flatnonzero(f <= COLOURED).tolist()
    may = f[order] <= FINEST
    assert may.sum() == (f <= FINEST).sum()
    assert order.size - may.sum() < max(coordinates.ROW_ON_GPU, shape[1])
    space = Spectrum(*shape, 0.5, waves=True, row=row)
    assert space.shape == space.frequencies.shape
    assert space.shape[1] in (row, shape[1])
    assert space.shape[1] == row or f.size < 4500
    numbers = 3 * len(coloured) + len(grey)
    assert space.frequencies.size == numbers  # on a GPU as many, so that its first step is as long
    np.testing.assert_array_equal(space.frequencies.ravel()[: 3 * len(coloured) : 3], f[coloured])
    np.testing.assert_array_equal(space.frequencies.ravel()[3 * len(coloured) :], f[grey])
    if min(shape) > 100:
        assert numbers == pytest.approx(SHARE * 3 * f.size, rel=0.01)


def test_a_row_is_short_enough_for_threads_to_go_on_beside_each_other():
    """See `stacks.BLOCK`."""
    assert stacks.BLOCK // 4 // coordinates.ROW > 500


@pytest.mark.parametrize("exponent", [0.0, 0.5])
def test_pixels_all_move(exponent):
    for space in (Spectrum(H, W, exponent), Spectrum(H, W, 0.0, waves=True)):
        assert space.shape == (H, W, 3)
        assert space.frequencies is None


def test_symmetric(rng):
    space, x = Spectrum(H, W, 0.5, "float64"), rng.standard_normal((H, W, 3))
    np.testing.assert_allclose(space.forward(x), space.adjoint(x), atol=1e-14)


def test_gradient_through_it_by_complex_step(rng):
    """A function of the picture, and its gradient, as the optimiser sees them."""
    real, complex_ = Spectrum(H, W, 0.5, "float64"), Spectrum(H, W, 0.5, "complex128")
    z = rng.standard_normal((H, W, 3))
    x = real.forward(z)
    dz = real.adjoint(3 * x**2)
    f = lambda z: np.sum(complex_.forward(z) ** 3)
    assert gradcheck.complex_step(f, z, dz, rng) < 1e-14


def test_the_whole_objective_through_it_by_complex_step(weights, content, style, rng):
    settings = nst.Settings(style_layers="relu1_1,relu3_1", content_layers="relu2_2", tv_weight=1.0)
    image = content[:17, :23]
    found = {}
    for dtype in ("float64", "complex128"):
        objective = nst.Objective(nst.VGG19(weights, dtype=dtype), image, [style], settings)
        found[dtype] = objective, Spectrum(17, 23, 0.5, dtype)
    z = 30 * rng.standard_normal(image.shape)
    objective, space = found["float64"]
    dz = space.adjoint(objective.evaluate(space.forward(z))[1])
    check, space = found["complex128"]
    assert gradcheck.complex_step(lambda z: check.evaluate(space.forward(z))[0], z, dz, rng) < 1e-10


SPACE = Spectrum(H, W, 0.5, "float64")
gain, moving = SPACE._gain, lambda waves: SPACE._unpacked(SPACE._packed(waves))
MUTANTS = {
    "the gradient in pixels": lambda dx: dx,
    "the inverse in place of the adjoint": lambda dx: Spectrum(H, W, -0.5, "float64").adjoint(dx),
    "the gain twice": lambda dx: Spectrum(H, W, 1.0, "float64").adjoint(dx),
    "the inverse transform first": lambda dx: fft.dctn(
        gain * moving(fft.idctn(dx, axes=(0, 1), norm="ortho")), axes=(0, 1), norm="ortho"
    ),
    "one axis only": lambda dx: fft.idctn(
        gain * moving(fft.dctn(dx, axes=(0,), norm="ortho")), axes=(0,), norm="ortho"
    ),
    "a transform that is not orthonormal": lambda dx: fft.dctn(
        gain * moving(fft.dctn(dx, axes=(0, 1))), axes=(0, 1)
    ),
    "fine colours too": lambda dx: fft.idctn(gain * waves(dx), axes=(0, 1), norm="ortho"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_wrong_adjoints_are_rejected(name, rng):
    x, y = rng.standard_normal((2, H, W, 3))
    assert gradcheck.adjoint(SPACE.forward, MUTANTS[name], x, y) > 1e-6


def times_of_grey(space, factor):
    return np.where(space.frequencies > COLOURED, factor, 1)


PACKING_MUTANTS = {
    "another order": lambda space: setattr(space, "_order", space._order[::-1]),
    "other places": lambda space: setattr(space, "_places", space._places.T.reshape(H, W)),
    "one wave twice": lambda space: setattr(space, "_order", np.maximum(space._order, 1)),
    "grey is a sum": lambda space: setattr(
        space,
        "_packed",
        lambda waves: times_of_grey(space, math.sqrt(3)) * Spectrum._packed(space, waves),
    ),
    "grey is a mean": lambda space: setattr(
        space,
        "_packed",
        lambda waves: times_of_grey(space, 1 / math.sqrt(3)) * Spectrum._packed(space, waves),
    ),
}


@pytest.mark.parametrize("name", PACKING_MUTANTS)
def test_waves_in_wrong_places_are_rejected(name, rng):
    space = Spectrum(H, W, 0.5, "float64", waves=True)
    PACKING_MUTANTS[name](space)
    z, x = rng.standard_normal(space.shape), rng.standard_normal((H, W, 3))
    assert gradcheck.adjoint(space.forward, space.adjoint, z, x) > 1e-6


@pytest.mark.parametrize("exponent", [0.5, 1.0])
def test_a_wave_is_multiplied_by_a_power_of_its_frequency(exponent):
    """Of twice the frequency, it comes out 2^-a as high, along either axis and across; up to 1/8."""
    space = Spectrum(32, 48, exponent, "float64")
    h, w = np.arange(32)[:, None, None] + 0.5, np.arange(48)[None, :, None] + 0.5
    factors = {}
    for k, l in ((4, 0), (8, 0), (0, 6), (0, 12), (2, 3), (4, 6), (8, 12), (31, 0), (31, 47)):
        wave = np.cos(np.pi * k * h / 32) * np.cos(np.pi * l * w / 48) * np.ones(3)
        out = space.forward(wave)
        factors[k, l] = (out * wave).sum() / (wave * wave).sum()
        np.testing.assert_allclose(out, factors[k, l] * wave, atol=1e-13)
    for one, octave in (((4, 0), (8, 0)), ((0, 6), (0, 12)), ((2, 3), (4, 6))):
        assert factors[octave] / factors[one] == pytest.approx(2**-exponent)
    assert factors[4, 0] == pytest.approx(factors[0, 6])  # both have 1/16 period a pixel
    for fine in ((0, 12), (8, 12), (31, 0)):
        assert factors[fine] == pytest.approx(factors[8, 0])
    assert abs(factors[31, 47]) < 1e-14


def test_checkerboards_neither_move_nor_stay(space, rng):
    """They pull at nothing, are not painted, and leave the start, of which all else is kept."""
    x, z = rng.standard_normal((H, W, 3)), rng.standard_normal(space.shape)
    x = x.mean(axis=2, keepdims=True) * np.ones(3)  # has no colours that would be left out
    finer = frequencies(H, W) > FINEST
    assert 0 < finer.sum() < finer.size / 4
    for picture in (space.forward(z), space.start(x)):
        assert abs(waves(picture)[finer]).max() < 1e-14
    np.testing.assert_allclose(waves(space.start(x))[~finer], waves(x)[~finer], atol=1e-14)
    pulled = space.adjoint(x)
    if space.frequencies is None:
        pulled, pulls = waves(pulled), ~finer
    else:
        pulls = space.frequencies <= FINEST
    assert abs(pulled[~pulls]).max() < 1e-14
    assert abs(pulled[pulls]).min() > 0
    assert Spectrum(H, W, 0).start(x) is x


def test_fine_colours_neither_move_nor_stay(space, rng):
    """Waves of less than four pixels are those of a grey picture, and longer ones of any."""
    x, z = rng.standard_normal((H, W, 3)), rng.standard_normal(space.shape)
    fine = (frequencies(H, W) > COLOURED) & (frequencies(H, W) <= FINEST)
    coloured = frequencies(H, W) <= COLOURED
    assert fine.sum() > coloured.sum() > 0
    for picture in (space.forward(z), space.start(x)):
        assert np.ptp(waves(picture)[fine], axis=1).max() < 1e-14
        assert np.ptp(waves(picture)[coloured], axis=1).min() > 1e-3
    kept = waves(space.start(x))
    np.testing.assert_allclose(kept[coloured], waves(x)[coloured], atol=1e-14)
    grey = waves(x)[fine].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(kept[fine], np.repeat(grey, 3, axis=1), atol=1e-14)
    np.testing.assert_allclose(space.start(space.start(x)), space.start(x), atol=1e-13)
    shades = x - x.mean(axis=2, keepdims=True)
    pulled = space.adjoint(shades)
    if space.frequencies is None:
        assert abs(waves(pulled)[fine]).max() < 1e-14
    else:
        assert abs(pulled[space.frequencies > COLOURED]).max() < 1e-14


def test_frequencies_and_gain():
    f = frequencies(30, 40)
    assert f.shape == (30, 40)
    assert f[0, 0] == f.min() == 1 / 40
    assert f[0, 20] == 20 / 80
    assert f[15, 0] == 15 / 60
    assert f.max() < np.sqrt(0.5)
    for exponent in (0, 0.5, 2):
        assert np.mean(Spectrum(30, 40, exponent, "float64")._gain ** 2) == pytest.approx(1)


def test_nothing_leaks_to_the_opposite_edge():
    """As a Fourier transform would have it: its picture is a ring."""
    dot = np.zeros((1, 64, 3))
    dot[0, 0] = 1
    out = abs(Spectrum(1, 64, 1.0, "float64").forward(dot))[0, :, 0]
    f = np.clip(abs(np.fft.fftfreq(64)), 1 / 64, FINE)
    ring = abs(np.fft.ifft(np.fft.fft(dot[0, :, 0]) / f))
    assert out[-1] < 0.1 * out[1]
    assert ring[-1] > 0.99 * ring[1]


def test_without_an_exponent_nothing_is_touched(rng):
    x = rng.standard_normal((H, W, 3))
    space = Spectrum(H, W, 0.0)
    assert space.forward(x) is space.adjoint(x) is x


def test_dtypes(rng):
    """The network's, whatever the optimiser's."""
    space, x = Spectrum(H, W, 0.5), rng.standard_normal((H, W, 3))
    assert space.forward(x).dtype == np.float32
    assert space.adjoint(x.astype("float32")).dtype == np.float32


@pytest.mark.parametrize("turned", [False, True])
def test_same_on_a_device(backend, turned, rng):
    """By products of matrices, what a CPU does by Fourier transforms."""
    here = Spectrum(H, W, 0.5, "float64", waves=turned)
    there = Spectrum(H, W, 0.5, "float64", backend, turned)
    z, x = rng.standard_normal(here.shape), rng.standard_normal((H, W, 3))
    for name, array in (("forward", z), ("adjoint", x)):
        result = backend.download(getattr(there, name)(backend.upload(array, "float64")))
        np.testing.assert_allclose(result, getattr(here, name)(array), atol=1e-13)


def waves(x):
    return fft.dctn(x, axes=(0, 1), norm="ortho")


def numbers(height, width):
    """Frequencies of a picture's waves, of each colour's."""
    return np.repeat(frequencies(height, width), 3, axis=1)


def anisotropic(exponent, height=24, width=36):
    """A quadratic whose curvature is f^exponent: amplitudes of waves -> (loss, gradient)."""
    curvature = numbers(height, width) ** exponent

    def function(x):
        g = curvature * x
        return float((g * x).sum()) / 2, g

    return function


def test_bands_are_positive_and_each_has_its_own_length(rng):
    bands = Bands(numbers(H, W))
    assert (bands.lengths == 1).all()
    assert bands.lengths.shape == (H, 3 * W)
    for _ in range(5):
        s = rng.standard_normal((H, 3 * W))
        y = anisotropic(1.5, H, W)(s)[1]
        bands.learn(s, y)
    assert (bands.lengths > 0).all()
    assert len(np.unique(bands.lengths)) == bands._band.max() + 1


def test_bands_go_further_than_the_last_pair_did(rng):
    """<y, M y> is between <s, y>, which would be right for the pair, and the most that it could be."""
    bands = Bands(numbers(H, W), "float64")
    s = rng.standard_normal((H, 3 * W))
    y = anisotropic(3, H, W)(s)[1]
    bands.learn(s, y)
    length = lambda x: np.sqrt(np.bincount(bands._band, (x**2).ravel()))
    right, most = (s * y).sum(), length(s) @ length(y)
    assert right < 0.99 * most
    assert (y * bands.lengths * y).sum() == pytest.approx(np.sqrt(right * most), rel=1e-9)


def test_bands_find_a_power_of_the_frequency(rng):
    """Of a curvature of f^1.5 the inverse, within what half an octave leaves open."""
    bands = Bands(numbers(24, 36))
    for _ in range(3):
        s = rng.standard_normal((24, 108))
        bands.learn(s, anisotropic(1.5)(s)[1])
    ratio = bands.lengths / numbers(24, 36) ** -1.5
    assert ratio.max() / ratio.min() < 2 ** (1.5 / Bands.PER_OCTAVE) * 1.5


def test_bands_that_were_not_moved_say_nothing():
    bands = Bands(numbers(H, W))
    s = np.zeros((H, 3 * W))
    s[0, 0] = 1  # one wave of all
    bands.learn(s, 2 * s)
    assert np.isfinite(bands.lengths).all()


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_bands_walk_faster(rng, exponent):
    from minimal_nst.optimize import minimize

    function, x = anisotropic(exponent), rng.standard_normal((24, 108))
    plain = minimize(function, x, "own-lbfgs", 25)
    banded = minimize(function, x, "own-lbfgs", 25, metric=Bands(numbers(24, 36)))
    assert banded.loss < 0.1 * plain.loss


def check_bands(backend, rng, dtype="float64"):
    """As on a CPU, as long as there were few steps and after there were many; unasked."""
    there, here = bands(numbers(H, W), dtype, backend), Bands(numbers(H, W), dtype)
    put = lambda x: backend.upload(x, dtype)
    tolerance = 1e-13 if dtype == "float64" else 1e-5
    lengths = there.lengths
    assert (backend.download(lengths) == 1).all()
    for _ in range(5):
        s, y = rng.standard_normal((2, H, 3 * W)).astype(dtype)
        s *= 1 + 9 * rng.uniform(size=(H, 3 * W)).astype(dtype)
        y = 2 * s + y / 2  # so that there is some curvature in any band
        here.learn(s, y)
        there.learn(put(s), put(y))
        result = backend.download(there.lengths)
        assert result.dtype == here.lengths.dtype == dtype
        np.testing.assert_allclose(result, here.lengths, rtol=tolerance)
    assert there.lengths is lengths  # as it must be in a recording


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bands_on_a_device(backend, rng, dtype):
    check_bands(backend, rng, dtype)


def test_bands_ask_a_device_for_nothing(rng):
    metric = bands(numbers(H, W), "float32", strict.BACKEND)
    s, y = (strict.BACKEND.upload(x, "float32") for x in rng.standard_normal((2, H, 3 * W)))
    with strict.counted() as counts:
        metric.learn(s, y)
    assert not counts


def test_bands_that_were_not_moved_say_nothing_on_a_device(backend):
    metric = bands(numbers(H, W), "float64", backend)
    s = np.zeros((H, 3 * W))
    s[0, 0] = 1
    there = backend.upload(s, "float64")
    metric.learn(there, 2 * there)
    here = Bands(numbers(H, W), "float64")
    here.learn(s, 2 * s)
    np.testing.assert_allclose(backend.download(metric.lengths), here.lengths, rtol=1e-12)


KERNEL_MUTANTS = {
    "a lane is left out": ("+ lane; k", "+ lane + 1; k"),
    "a lane goes beyond": ("k < starts", "k <= starts"),
    "another run's": ("run = i / 32;", "run = 0;"),
    "the last is left out": ("starts[run + 1]", "starts[run + 1] - 1"),
    "the steps alone": ("sy += s[k] * y[k]", "sy += s[k] * s[k]"),
    "the last step counts alone": ("k < steps", "k < 1"),
    "the wrong step is the last": ("3 * last + 1", "1"),
    "its products are the first's": ("3 * last + 2", "2"),
    "changes are taken for steps": ("(3 * k + 1)", "(3 * k + 0)"),
    "a band is left out": ("band = 0", "band = 1"),
    "kappa is not its root": ("sqrt(both / of_gamma)", "(both / of_gamma)"),
    "no kappa": ("sqrt(both / of_gamma) *", ""),
    "the same for all bands": ("if (band == i) own", "own"),
    "another length": ("(T)lengths[band", "(T)lengths[0 * band"),
    "another wave's": ("lengths[band[i]]", "lengths[band[i / 3]]"),
}


@pytest.mark.parametrize("name", KERNEL_MUTANTS)
def test_mutants_of_the_kernels_are_rejected(monkeypatch, rng, name):
    before, after = KERNEL_MUTANTS[name]
    mutants = {kernel: body.replace(before, after) for kernel, body in coordinates.BODIES.items()}
    assert mutants != coordinates.BODIES
    monkeypatch.setattr(coordinates, "BODIES", mutants)
    with pytest.raises((AssertionError, IndexError)):
        check_bands(strict.BACKEND, rng)
