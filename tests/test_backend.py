"""The switch between CPU and GPU, with CuPy absent, broken, without a GPU, or (marked) working."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from minimal_nst.backend import CPU, array_module, select
from minimal_nst.errors import NSTWarning, UsageError

import strict


def fake_cupy(available=True, broken=None):
    """A module that answers as CuPy does on a machine without a working GPU."""
    cupy = types.ModuleType("cupy")

    class Device:
        def __init__(self, number):
            if number > 0:
                raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")

        def use(self):
            pass

    cupy.cuda = types.SimpleNamespace(is_available=lambda: available, Device=Device)

    def ones(shape, dtype):
        if broken:
            raise RuntimeError(broken)
        return np.ones(shape, dtype)

    cupy.ones = ones
    return cupy


REFUSALS = {
    "CuPy is not installed or broken": None,
    "CuPy finds no GPU": fake_cupy(available=False),
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


def test_a_working_cupy_is_taken(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy())
    assert select("auto").name == select("cuda").name == select("cuda:0").name == "cuda:0"
    with pytest.raises(UsageError, match="'cuda:7' cannot be used: cudaErrorInvalidDevice"):
        select("cuda:7")


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:-1", "", "cpu:0"])
def test_unknown_devices(device):
    with pytest.raises(UsageError, match="use cpu, cuda, cuda:N or auto"):
        select(device)


def test_cpu_and_backends_pass_through():
    assert select("cpu") is CPU
    assert select(strict.BACKEND) is strict.BACKEND
    x = np.ones((2, 3))
    assert CPU.upload(x, "float64") is x
    assert CPU.download(x) is x
    assert array_module(x) is np
    assert array_module(strict.BACKEND.upload(x, "float32")) is strict


@pytest.mark.gpu
def test_a_real_gpu():
    backend = select("cuda")
    x = backend.upload(np.arange(6.0).reshape(2, 3), "float32")
    assert array_module(x) is backend.xp
    assert (backend.download(x @ x.T) == [[5, 14], [14, 50]]).all()
