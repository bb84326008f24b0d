"""A stand-in for CuPy: its arrays live on a pretended device and refuse whatever CuPy refuses.

As with CuPy's arrays, NumPy's functions and operands raise TypeError, conversion to NumPy must be
asked for (`asnumpy`), and reductions give arrays without axes. `BACKEND` is what `device=` takes.
The module itself is the array module: `strict.zeros`, `strict.where`, ...
"""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np
from minimal_nst.backend import Backend
from scipy import fft

FUNCTIONS = (
    "zeros",
    "ones",
    "empty",
    "zeros_like",
    "where",
    "exp",
    "bincount",
    "multiply",
    "empty_like",
    "einsum",
    "sign",
)


class StrictArray:
    """A NumPy array behind a fence."""

    __array_ufunc__ = None  # NumPy's operators and ufuncs give up, and ours refuse

    def __init__(self, host: np.ndarray) -> None:
        self._host = host

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use asnumpy")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a device array")

    def __getitem__(self, key: Any) -> StrictArray:
        return StrictArray(self._host[_inner(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_inner(key)] = _inner(value)

    def __len__(self) -> int:
        return len(self._host)

    def __float__(self) -> float:
        return float(self._host)

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    T = property(lambda self: StrictArray(self._host.T))
    real = property(lambda self: StrictArray(self._host.real))

    def reshape(self, *shape: Any) -> StrictArray:
        return StrictArray(self._host.reshape(*shape))

    def ravel(self) -> StrictArray:
        return StrictArray(self._host.ravel())

    def sum(self, dtype: Any = None) -> StrictArray:
        return StrictArray(np.asarray(self._host.sum(dtype=dtype)))

    def max(self) -> StrictArray:
        return StrictArray(np.asarray(self._host.max()))

    def astype(self, dtype: Any) -> StrictArray:
        return StrictArray(self._host.astype(dtype))

    def item(self) -> Any:
        return self._host.item()


def _inner(value: Any) -> Any:
    """Take the fence off device arrays; let numbers and slices through; refuse NumPy's arrays."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, tuple):
        return tuple(_inner(item) for item in value)
    if isinstance(value, np.ndarray | np.generic):
        raise TypeError(f"{type(value).__name__} mixed with a device array")
    return value


def _operator(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, *others: Any) -> StrictArray:
        return StrictArray(function(self._host, *[_inner(other) for other in others]))

    return method


def _reflected(name: str) -> Any:
    function = getattr(operator, name)
    return lambda self, other: StrictArray(function(_inner(other), self._host))


for _name in ("add", "sub", "mul", "truediv", "matmul", "gt", "lt", "eq", "neg", "pow"):
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(StrictArray, f"__r{_name}__", _reflected(f"__{_name}__"))
for _name in ("iadd", "isub", "imul"):
    setattr(StrictArray, f"__{_name}__", _operator(f"__{_name}__"))


def _function(name: str) -> Any:
    function = getattr(np, name)

    def wrapped(*args: Any, **kwargs: Any) -> StrictArray:
        named = {name: _inner(value) for name, value in kwargs.items()}
        result = function(*[_inner(arg) for arg in args], **named)
        return kwargs.get("out", StrictArray(result))

    return wrapped


for _name in FUNCTIONS:
    globals()[_name] = _function(_name)


def asarray(x: np.ndarray, dtype: str | None = None) -> StrictArray:
    """Upload: a copy, as to a device."""
    return StrictArray(np.array(x._host if isinstance(x, StrictArray) else x, dtype=dtype))


def asnumpy(x: StrictArray) -> np.ndarray:
    """Download: a copy, as from a device."""
    return x._host.copy()


def dctn(x: StrictArray, **options: Any) -> StrictArray:
    return StrictArray(fft.dctn(_inner(x), **options))


def idctn(x: StrictArray, **options: Any) -> StrictArray:
    return StrictArray(fft.idctn(_inner(x), **options))


BACKEND = Backend(sys.modules[__name__], "strict", fft_name=__name__)
