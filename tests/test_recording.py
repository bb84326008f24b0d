"""What is recorded on a GPU gives the numbers that it gives otherwise; and cuBLAS' products."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from minimal_nst import VGG19, Objective, Settings, cublas, recording
from minimal_nst.recording import Recordings
from minimal_nst.vgg import preprocess

import strict
from conftest import SHALLOW


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return request.param


@pytest.mark.parametrize("a_turned", [False, True])
@pytest.mark.parametrize("b_turned", [False, True])
def test_many_products_at_a_time(rng, device, dtype, a_turned, b_turned):
    """Of factors that lie there as they are, or transposed."""
    a, b = (rng.standard_normal(shape).astype(dtype) for shape in ((4, 5, 3), (4, 3, 7)))
    there = [
        device.upload(x.transpose(0, 2, 1).copy() if turned else x, dtype)
        for x, turned in ((a, a_turned), (b, b_turned))
    ]
    out = device.xp.empty((4, 5, 7), dtype)
    cublas.multiply(*there, out, a_turned, b_turned)
    tolerance = {"float32": 1e-5, "float64": 1e-14}[dtype]
    np.testing.assert_allclose(device.download(out), a @ b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("platform", ["linux", "win32", "aix"])
def test_cublas_is_asked_by_its_name_or_else_by_cupy(rng, monkeypatch, platform):
    """The functions' arguments are numbers and addresses; a status that is none is told."""
    given = []

    def load(name):
        if name not in ("libcublas.so.13", "cublas64_13.dll"):
            raise OSError(name)
        given.append(name)
        function = ctypes.CFUNCTYPE(ctypes.c_int)
        names = "cublasSgemmStridedBatched", "cublasDgemmStridedBatched", "cublasSetStream_v2"
        return type("Library", (), {name: function(lambda: 3) for name in names})

    def check_status(status):
        raise RuntimeError(f"status {status}")

    monkeypatch.setattr(cublas, "LIBRARIES", {})
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(strict.cuda.cublas, "check_status", check_status, raising=False)
    a, out = strict.asarray(rng.standard_normal((2, 3, 3))), strict.zeros((2, 3, 3))
    if platform == "aix":
        cublas.multiply(a, a, out)
        np.testing.assert_allclose(out._host, a._host @ a._host)
        assert not given

        def function(x):
            cublas.multiply(x, x, out)
            return (out,)

        again = Recordings(strict)(function, a + a)  # which CuPy does not record
        np.testing.assert_allclose(again[0]._host, 4 * a._host @ a._host)
        return
    with pytest.raises(RuntimeError, match="status 3"):
        cublas.multiply(a, a, out)
    assert len(given) == 1


def evaluated(device, network, content, style, choice, dtype="float32"):
    """Of an objective, and of its function without a recording: the terms and the gradient of three pictures."""
    vgg = network(choice.get("pooling", "max"), dtype=dtype, device=device)
    content, style, masks = content[:35, :41], style[:37, :33], None
    if "masked" in choice:
        masks = [np.zeros(content.shape[:2]) for _ in range(2)]
        masks[0][:20] = masks[1][15:] = 1.0
    layers = SHALLOW if choice else {}
    settings = Settings(**layers, **{name: choice[name] for name in choice if name != "masked"})
    objective = Objective(vgg, content, [style, style[::-1]], settings, masks)
    found = []
    for k in range(3):
        x = device.upload(preprocess(np.roll(content, 3 * k, 1) * 0.9 + 5 * k), dtype)
        numbers, dx = objective._evaluate(x)
        loss, recorded = objective.evaluate(x)
        found.append((device.download(numbers), device.download(dx), recorded, objective.terms))
        assert loss == sum(objective.terms.values())
    assert objective._call._graphs[False] is not None
    return [
        (numbers, dx, device.download(recorded), list(terms.values()))
        for numbers, dx, recorded, terms in found  # the first are still what they were
    ]


CHOICES = [
    {},
    {"tv_weight": 2.0, "pooling": "avg", "range_weight": 0.0},
    {"style_statistic": "mean-covariance"},
    {"masked": True},
    {"masked": True, "style_statistic": "mean-covariance", "style_form": "mean"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice) or "default")
def test_the_same_bits_with_and_without(device, network, content, style, choice, dtype):
    """Of whatever an objective may be. Nothing that was returned is written to again."""
    found = evaluated(device, network, content, style, choice, dtype)
    for numbers, dx, recorded, terms in found:
        assert numbers.tolist() == terms
        assert (dx == recorded).all()
    assert found[0][3] != found[1][3]
    assert (found[0][2] != found[1][2]).any()


def test_what_cupy_does_not_record_is_called(weights, content, style):
    """The textbook's own products."""
    vgg = VGG19(weights, conv="im2col", device=strict.BACKEND)
    objective = Objective(vgg, content, [style], Settings())
    x = strict.asarray(preprocess(255.0 - content), "float32")
    (first, _), (again, _) = (objective.evaluate(x) for _ in range(2))
    assert first == again
    assert objective._call._graphs[False] is None


def test_from_the_second_time_on_it_is_one_launch(weights, content, style):
    vgg = VGG19(weights, device=strict.BACKEND)
    objective = Objective(vgg, content, [style], Settings())
    x = strict.asarray(preprocess(255.0 - content), "float32")
    objective.evaluate(x)
    with strict.counted() as counts:
        objective.evaluate(x)
        assert counts == {"down": 1}
    assert strict.LAUNCHES == {"graph": 1, "copy": 3}


def test_its_memory_goes_with_the_objective(weights, content, style):
    """At once, and of what cannot be recorded as well."""
    vgg = VGG19(weights, device=strict.BACKEND)
    vgg.features(content, ["relu5_1"])  # prepares kernels, which stay
    x = strict.asarray(preprocess(255.0 - content), "float32")
    textbook = VGG19(weights, conv="im2col", device=strict.BACKEND)
    textbook.features(content, ["relu5_1"])
    for network in (vgg, textbook):
        before = strict.MEMORY.now
        objective = Objective(network, content, [style], Settings())
        described = strict.MEMORY.now
        objective.evaluate(x)
        assert (strict.MEMORY.now > described) == (network is vgg)
        del objective
        assert strict.MEMORY.now == before


def check_recordings(rng, cublas=cublas, recording=recording):
    """Several inputs, and products of either precision: the bits of the function itself."""
    A = strict.asarray(rng.standard_normal((1, 20, 20)), "float32")
    known = cublas.LIBRARIES.setdefault(strict, strict.LIBRARY)
    assert known is strict.LIBRARY

    def function(x):
        out = strict.empty(x.shape, "float32")
        cublas.multiply(x + A, A, out)
        return out, abs(out).sum(dtype="float32")

    call = recording.Recordings(strict)
    given = []
    for k, precision in enumerate(("fp32", "fp32", "tf32", "fp32", "tf32")):
        x = k * A
        with strict.BACKEND.products(precision):
            given.append((call(function, x), function(x)))
        if precision == "fp32":
            np.testing.assert_allclose(given[-1][0][0]._host, (x + A)._host @ A._host, rtol=1e-4)
    for found, expected in given:
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours._host == theirs._host).all()
            assert ours.pool is None  # where it would be written to again


def test_a_recording_is_of_one_precision_and_any_input(rng):
    check_recordings(rng)


MUTANTS = {
    "what goes in is forgotten": ("recording", "there[...] = array", "pass"),
    "what comes out is written to again": (
        "recording",
        "tuple(output.copy() for output in self._outputs)",
        "self._outputs",
    ),
    "what came out first, too": (
        "recording",
        "tuple(result.copy() for result in found)",
        "found",
    ),
    "one precision for all": ("recording", "rounded = rounds(self._xp)", "rounded = False"),
    "others get its memory": (
        "recording",
        "using_allocator(pool.malloc), stream:\n        stream.begin",
        "using_allocator(None), stream:\n        stream.begin",
    ),
    "on the stream of all": (
        "recording",
        "pool.malloc), stream:\n        stream.begin",
        "pool.malloc):\n        stream.begin",
    ),
    "the products are on another stream": ("cublas", "xp.cuda.get_current_stream().ptr", "0"),
    "the factors change places": ("cublas", "a.data.ptr, a.shape[2]", "b.data.ptr, a.shape[2]"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_rejected(rng, name):
    which, before, after = MUTANTS[name]
    modules = {"cublas": cublas, "recording": recording}
    source = Path(modules[which].__file__).read_text(encoding="utf-8")
    assert source.count(before) == 1
    mutant = ModuleType(f"minimal_nst.{which}")
    mutant.__package__ = "minimal_nst"
    monkey = {**modules, which: mutant}
    exec(source.replace(before, after), vars(mutant))  # noqa: S102
    with pytest.raises((AssertionError, RuntimeError)):
        check_recordings(rng, **monkey)
    strict.RECORDING = None


class NotNow(Exception):
    """Raised by a function."""


REFUSED = {
    "a number that the host asks for": lambda x: (x * float(x.sum()),),
    "a number that the host sends": lambda x: (x * strict.asarray(np.ones(3)),),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_wrong_when_it_is_played_is_no_recording(name):
    """Such a function is a mistake of ours, which CUDA finds, and so does the stand-in."""
    with pytest.raises(RuntimeError, match="not permitted"):
        Recordings(strict)(REFUSED[name], strict.ones(3))
    assert strict.RECORDING is None


def test_a_function_that_raises_leaves_no_recording_behind():
    x, calls = strict.ones(3), []

    def fails(x):
        calls.append(1)
        if len(calls) in (1, 3):
            raise NotNow
        return (x + x,)

    call = Recordings(strict)
    for _ in range(2):
        with pytest.raises(NotNow):
            call(fails, x)
        assert strict.RECORDING is None
        assert strict.CURRENT is strict.DEFAULT
    assert call(fails, x)[0]._host.tolist() == [2, 2, 2]
    assert call(fails, x)[0]._host.tolist() == [2, 2, 2]
    assert len(calls) == 5
