"""The switch between CPU and GPU, with CuPy absent, broken, without a GPU, or (marked) working."""

from __future__ import annotations

import os
import subprocess
import sys
import types

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import backend, pipeline
from minimal_nst.backend import CPU, array_module, select
from minimal_nst.errors import NSTWarning, UsageError

import strict


def fake_cupy(count=1, why=None, broken=None):
    """A module that answers as CuPy does on a machine without a working GPU."""
    cupy = types.ModuleType("cupy")

    def get_device_count():
        if why:
            raise RuntimeError(why)
        return count

    def ones(shape, dtype):
        if broken:
            raise RuntimeError(broken)
        return np.ones(shape, dtype)

    cupy.cuda = types.SimpleNamespace(
        runtime=types.SimpleNamespace(getDeviceCount=get_device_count)
    )
    cupy.ones = ones
    return cupy


REFUSALS = {
    r'CuPy is not installed (pip install "minimal_nst[cuda13]", or cuda12': None,
    "CuPy finds no GPU": fake_cupy(count=0),
    "CUDA driver version is insufficient": fake_cupy(why="CUDA driver version is insufficient"),
    "libnvrtc.so.13 not found": fake_cupy(broken="libnvrtc.so.13 not found\nsecond line"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_cuda_is_refused_with_the_reason_and_auto_falls_back(reason, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", REFUSALS[reason])
    with pytest.raises(UsageError) as error:
        select("cuda")
    assert reason in str(error.value)
    assert "use --device cpu" in str(error.value)
    assert "\n" not in str(error.value)
    if REFUSALS[reason] is None:  # not installed: nobody expects a GPU
        assert select("auto") is CPU
    else:
        with pytest.warns(NSTWarning, match=f"CuPy is installed but has no GPU: {reason}"):
            assert select("auto") is CPU


def test_a_broken_cupy_says_what_is_broken(monkeypatch):
    def fails(name):
        raise ImportError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(backend.importlib, "import_module", fails)
    with pytest.raises(UsageError, match="'cuda' cannot be used: libcuda.so.1: cannot open"):
        select("cuda")
    with pytest.warns(NSTWarning, match="CuPy is installed but has no GPU: libcuda.so.1"):
        assert select("auto") is CPU


def test_a_working_cupy_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert select("auto").name == select("cuda").name == "cuda"
    with pytest.raises(UsageError, match="choose the card .* CUDA_VISIBLE_DEVICES=7"):
        select("cuda:7")
    monkeypatch.setattr(backend, "SLOW_START", -1.0)
    with pytest.warns(NSTWarning, match="the GPU took 0 s to get ready"):
        select("auto")


def test_a_gpu_that_computes_wrongly_is_not_taken(monkeypatch):
    cupy = fake_cupy()
    monkeypatch.setattr(cupy, "ones", lambda shape, dtype: np.full(shape, 1.01, dtype))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(UsageError, match="computes 1 \\+ 1 wrongly"):
        select("cuda")


@pytest.mark.parametrize(
    "message",
    [
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "cudaErrorMemoryAllocation: out of memory",
    ],
)
def test_want_of_memory_outside_of_cupys_pool_is_a_memory_error(message):
    """And what the error carries, such as a painting, goes on with it."""
    error = RuntimeError(message)
    error.painting = "the best so far"
    with pytest.raises(MemoryError) as caught, CPU.working():
        raise error
    assert caught.value.painting == "the best so far"
    with pytest.raises(RuntimeError, match="CUBLAS_STATUS_NOT_SUPPORTED"), CPU.working():
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")


def test_the_pool_is_given_back(monkeypatch, content, style):
    """After a painting, and after one that failed."""
    given = []
    started = strict.LAUNCHES.total
    give = lambda: given.append(started())
    pool = types.SimpleNamespace(free_all_blocks=give, free_bytes=lambda: 7)
    monkeypatch.setattr(strict, "get_default_memory_pool", lambda: pool)
    assert strict.BACKEND.free() == strict.CARD - strict.MEMORY.now + 7
    assert CPU.free() is None
    monkeypatch.setattr(pipeline, "select", lambda device: strict.BACKEND)
    nst.stylize(content, style, nst.Settings(size=32, iterations=1, conv="im2col"))
    assert given[-1] == started()  # when all is done
    given.clear()
    with pytest.raises(nst.errors.FileError):
        nst.stylize("there-is-none.png", style)
    assert given == [started()]


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", "", "cpu:0", 3, None])
def test_unknown_devices(device):
    with pytest.raises(UsageError, match="unknown device .*; use c"):
        select(device)


def test_cpu_and_backends_pass_through():
    assert select("cpu") is CPU
    assert select(strict.BACKEND) is strict.BACKEND
    x = np.ones((2, 3))
    assert CPU.upload(x, "float64") is x
    assert CPU.download(x) is x
    assert array_module(x) is np
    assert array_module(strict.BACKEND.upload(x, "float32")) is strict


@pytest.mark.parametrize(
    ("precision", "variable", "inside"),
    [("fp32", "", (1, 0)), ("fp32", "1", (1, 0)), ("tf32", "", (7, 3)), ("tf32", "1", (7, 3))],
)
def test_the_precision_of_products_is_the_settings(monkeypatch, precision, variable, inside):
    """Not CUPY_TF32's; and afterwards it is what it was, whatever ends the work."""
    told = {"compute_type": 7 if variable else 1, "mode": 0}
    monkeypatch.setattr(strict, "PRODUCTS", told)
    monkeypatch.setenv("CUPY_TF32", variable)
    before = dict(told)

    def fails():
        assert tuple(told.values()) == inside
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), strict.BACKEND.products(precision):
        fails()
    assert told == before
    monkeypatch.setattr(pipeline, "select", lambda device: CPU)
    with CPU.products("fp32"):
        pass
    with pytest.raises(UsageError, match="precision is tf32, which a GPU has"):
        nst.stylize("a.png", "b.png", nst.Settings(precision="tf32"))


def test_numbers_are_gathered_and_fetched_together(backend):
    numbers = [backend.xp.ones(3).sum(), backend.xp.ones((2, 2)).sum()]
    with strict.counted() as counts:
        assert backend.download(backend.gather(numbers, "float64")).tolist() == [3.0, 4.0]
        assert not counts or counts == {"down": 1}
    assert backend.download(backend.gather([], "float64")).tolist() == []
    found = CPU.gather([np.complex128(1j)], "complex128")
    assert found == [1j]


@pytest.mark.gpu
def test_a_real_gpu():
    backend = select("cuda")
    x = backend.upload(np.arange(6.0).reshape(2, 3), "float32")
    assert array_module(x) is backend.xp
    assert (backend.download(x @ x.T) == [[5, 14], [14, 50]]).all()


FAULTS = """
import resource
import numpy as np
import minimal_nst as nst
from minimal_nst.backend import keep_freed_memory

vgg = nst.VGG19(nst.load_weights(), conv={conv!r})
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**24, "float32")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(keep_freed_memory()))
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="it is glibc's"
)
def test_the_textbooks_arrays_are_not_given_back_to_the_system():
    """A page that the system hands out is a fault, of 4 kB or, where it has large ones, 2 MB."""

    def faults(conv):
        command = [sys.executable, "-c", FAULTS.format(conv=conv)]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return [int(line) for line in printed.split()]

    *anew, _ = faults("winograd")
    first, *again, kept = faults("im2col")
    assert min(first, *anew) > 8
    assert max(again) <= 8 if kept else min(again) > 8  # an old glibc refuses


ARENAS = """
import ctypes
import numpy as np
import minimal_nst as nst

nst.VGG19(nst.load_weights(), threads=4).features(
    np.zeros((256, 256, 3), "uint8"), ["relu1_2"]
)
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, file)
libc.fflush(file)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="it is glibc's"
)
def test_the_fast_engines_threads_share_what_memory_they_have_freed():
    """glibc has one arena for all of them; else each begins one of its own."""
    command = [sys.executable, "-c", ARENAS]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.count("<heap nr=") == 1
