"""A stand-in for CuPy: its arrays live on a pretended device and refuse whatever CuPy refuses.

As with CuPy's arrays, NumPy's functions and operands raise TypeError, conversion to NumPy must be
asked for (`asnumpy`), reductions and single elements are arrays without axes, `asarray` gives back
what already is on the device, and `empty` is full of rubbish. NumPy's scalars, with which CuPy would
compute in their precision, are refused as well. Counted are the functions that are started on the
device, and what CuPy would have to wait for. `BACKEND` is what `device=` takes. The module itself is
the array module: `strict.zeros`, `strict.where`, ...
"""

from __future__ import annotations

import math
import operator
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from minimal_nst.backend import Backend

import compiled

FUNCTIONS = (
    "zeros",
    "ones",
    "array",
    "zeros_like",
    "where",
    "exp",
    "multiply",
    "matmul",
    "ascontiguousarray",
    "stack",
    "isfinite",
    "sqrt",
    "sign",
    "minimum",
    "maximum",
    "rint",
)

VIEWS = ("reshape", "ravel", "transpose")

COUNTS: Counter[str] = Counter()
"""'up' and 'down': transfers; 'wait': values that the host asked for."""

LAUNCHES: Counter[str] = Counter()
"""Functions that were started on the device, by name."""

COMPILED: set[tuple[Any, ...]] = set()
"""Of our kernels, those that CuPy would have compiled: name, and each array's dtype and number of axes."""


class Memory:
    """Bytes of the arrays that are on the device, now and at most."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self.now = self.most = 0

    def see(self, array: np.ndarray) -> None:
        """Take note of an array, or of the one that it is a view of, until it is gone."""
        while isinstance(array.base, np.ndarray):
            array = array.base
        if id(array) not in self._seen:
            self._seen.add(id(array))
            self.now += array.nbytes
            self.most = max(self.most, self.now)
            weakref.finalize(array, self._forget, id(array), array.nbytes).atexit = False

    def _forget(self, number: int, size: int) -> None:
        self._seen.discard(number)
        self.now -= size


MEMORY = Memory()

CARD = 2**34
"""Bytes of the pretended device."""

PRODUCTS = {"compute_type": 1, "mode": 0}
"""As CuPy and cuBLAS have been told to multiply matrices."""


def _gemm(dtype: str) -> Any:
    """cuBLAS' batched product, on addresses; matrices lie there column by column."""

    def gemm(
        handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, A: int, lda: int, strideA: int, B: int, ldb: int, strideB: int,
        beta: int, C: int, ldc: int, strideC: int, batch: int,
    ) -> None:  # fmt: skip
        LAUNCHES["gemm"] += 1
        assert (transa, transb, lda, ldb, ldc) == (0, 0, m, k, m)
        assert (strideA, strideB, strideC) == (m * k, k * n, m * n)
        number = np.ctypeslib.as_ctypes_type(dtype)

        def at(address: int, *shape: int) -> np.ndarray:
            size = math.prod(shape)
            return np.ctypeslib.as_array((number * size).from_address(address)).reshape(shape)

        a, b = at(B, batch, n, k), at(A, batch, k, m)  # as rows: (A B)^T = B^T A^T
        at(C, batch, n, m)[...] = at(alpha, 1) * _product(a, b, PRODUCTS["mode"] == 3)
        assert at(beta, 1) == 0

    return gemm


def _product(a: np.ndarray, b: np.ndarray, tf32: bool) -> np.ndarray:
    """a @ b; with factors that are rounded to TF32's 10 bits of a mantissa, if they are float32."""
    if tf32 and a.dtype == b.dtype == np.float32:
        bits = (np.ascontiguousarray(x).view("uint32") for x in (a, b))
        a, b = (((x + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("float32") for x in bits)
    product: np.ndarray = a @ b
    return product


_core = SimpleNamespace(
    get_compute_type=lambda dtype: PRODUCTS["compute_type"],
    set_compute_type=lambda dtype, value: PRODUCTS.update(compute_type=value),
)
cuda = SimpleNamespace(
    runtime=SimpleNamespace(memGetInfo=lambda: (CARD - MEMORY.now, CARD)),
    device=SimpleNamespace(get_cublas_handle=lambda: 1),
    cublas=SimpleNamespace(
        getMathMode=lambda handle: PRODUCTS["mode"],
        setMathMode=lambda handle, value: PRODUCTS.update(mode=value),
        sgemmStridedBatched=_gemm("float32"),
        dgemmStridedBatched=_gemm("float64"),
    ),
)


def get_default_memory_pool() -> SimpleNamespace:
    """One that keeps nothing."""
    return SimpleNamespace(free_all_blocks=lambda: None, free_bytes=lambda: 0)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count from here on."""
    COUNTS.clear()
    LAUNCHES.clear()
    COMPILED.clear()
    yield COUNTS


class StrictArray:
    """A NumPy array behind a fence."""

    __array_ufunc__ = None  # NumPy's operators and ufuncs give up, and ours refuse
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: np.ndarray) -> None:
        self._host = np.asarray(host)
        MEMORY.see(self._host)

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError("implicit conversion to a NumPy array is not allowed; use asnumpy")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} was called on a device array")

    def __getitem__(self, key: Any) -> StrictArray:
        key = _inner(key, within_index=True)
        found = self._host[key]
        if not isinstance(found, np.ndarray):  # a view of the one element
            found = self._host[(*key, ...) if isinstance(key, tuple) else (key, ...)]
        return StrictArray(found)

    def __setitem__(self, key: Any, value: Any) -> None:
        if isinstance(key, StrictArray) and key.dtype == bool:
            COUNTS["wait"] += 1  # how many of them are to be written?
        LAUNCHES["copy"] += 1
        self._host[_inner(key, within_index=True)] = _inner(value)

    def __len__(self) -> int:
        return len(self._host)

    def __float__(self) -> float:
        return float(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())  # a ValueError if there are several

    def __iter__(self) -> Iterator[StrictArray]:
        return (self[i] for i in range(len(self)))

    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    dtype = property(lambda self: self._host.dtype)
    size = property(lambda self: self._host.size)
    T = property(lambda self: StrictArray(self._host.T))
    real = property(lambda self: StrictArray(self._host.real))
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))

    def item(self) -> Any:
        COUNTS["wait"] += 1
        return self._host.item()

    def tolist(self) -> Any:
        COUNTS["wait"] += 1
        return self._host.tolist()


def _inner(value: Any, within_index: bool = False) -> Any:
    """Take the fence off device arrays; let numbers through, in an index slices; refuse all else."""
    if isinstance(value, StrictArray):
        return value._host
    if isinstance(value, tuple) and within_index:
        return tuple(_inner(item, within_index) for item in value)
    if type(value) in (int, float, complex, bool):
        return value
    if within_index and (value is None or value is ... or isinstance(value, slice)):
        return value
    raise TypeError(f"{type(value).__name__} mixed with a device array")


def _operator(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, *others: Any) -> StrictArray:
        LAUNCHES[name] += 1
        return StrictArray(function(self._host, *[_inner(other) for other in others]))

    return method


def _reflected(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        LAUNCHES[name] += 1
        return StrictArray(function(_inner(other), self._host))

    return method


def _in_place(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        LAUNCHES[name] += 1
        function(self._host, _inner(other))
        return self

    return method


def _method(name: str) -> Any:
    def method(self: StrictArray, *args: Any, **options: Any) -> StrictArray:
        if name == "sum" and options.get("dtype", self.dtype) != self.dtype:
            raise TypeError("CuPy would compile this sum, for seconds; use sum_of")
        LAUNCHES[name] += name not in VIEWS
        return StrictArray(getattr(self._host, name)(*map(_fenced, args), **options))

    return method


for _name in ("add", "sub", "mul", "truediv", "pow", "neg", "abs", "invert", "and_", "lshift",
              "gt", "ge", "lt", "le", "eq", "ne"):  # fmt: skip
    setattr(StrictArray, f"__{_name.strip('_')}__", _operator(_name))


def _matmul(self: StrictArray, other: Any) -> StrictArray:
    LAUNCHES["matmul"] += 1
    return StrictArray(_product(self._host, _inner(other), PRODUCTS["compute_type"] == 7))


StrictArray.__matmul__ = _matmul  # type: ignore[attr-defined]
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(StrictArray, f"__r{_name}__", _reflected(_name))
for _name in ("iadd", "isub", "imul", "itruediv", "ior"):
    setattr(StrictArray, f"__{_name}__", _in_place(_name))
for _name in (
    "reshape",
    "ravel",
    "sum",
    "astype",
    "copy",
    "transpose",
    "take",
):
    setattr(StrictArray, _name, _method(_name))


def _fenced(value: Any) -> Any:
    """As `_inner`, for a function's argument: shapes, dtypes and sequences of arrays as well."""
    if isinstance(value, list | tuple):
        return type(value)(_fenced(item) for item in value)
    return value if value is None or isinstance(value, str | type | np.dtype) else _inner(value)


def _function(name: str) -> Any:
    function = getattr(np, name)

    def wrapped(*args: Any, **options: Any) -> StrictArray:
        LAUNCHES[name] += 1
        named = {name: _fenced(value) for name, value in options.items()}
        result = function(*[_fenced(arg) for arg in args], **named)
        return options["out"] if "out" in options else StrictArray(result)

    return wrapped


for _name in FUNCTIONS:
    globals()[_name] = _function(_name)


def empty(shape: Any, dtype: Any = float) -> StrictArray:
    """Memory as it comes: anything may be in it."""
    host = np.empty(shape, dtype)
    host.view("uint8").fill(0xFF)  # not a number
    return StrictArray(host)


def empty_like(x: StrictArray) -> StrictArray:
    return empty(x.shape, x.dtype)


def asarray(x: Any, dtype: str | None = None) -> StrictArray:
    """Upload: a copy, as to a device; what is there already stays what it is."""
    if isinstance(x, StrictArray):
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)
    COUNTS["up"] += 1
    return StrictArray(np.array(x, dtype=dtype))


def asnumpy(x: StrictArray) -> np.ndarray:
    """Download: a copy, as from a device, for which one has to wait."""
    COUNTS["down"] += 1
    return x._host.copy()


class ElementwiseKernel(compiled.ElementwiseKernel):
    """As CuPy's, for parameters that are raw arrays or numbers."""

    def __call__(self, *arguments: Any, size: int) -> None:
        LAUNCHES[self.name] += 1
        arrays = (a for a in arguments if isinstance(a, StrictArray))
        COMPILED.add((self.name, *((a.dtype.name, a.ndim) for a in arrays)))
        fenceless = [a._host if isinstance(a, StrictArray) else a for a in arguments]
        super().__call__(*fenceless, size=size)


BACKEND = Backend(sys.modules[__name__], "strict")
