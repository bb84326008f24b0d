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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from minimal_nst import cublas
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
    """Bytes on the device, now and at most: those of arrays, and what recordings keep for theirs."""

    def __init__(self) -> None:
        self._holders: Counter[int] = Counter()
        self.now = self.most = 0

    def see(self, array: StrictArray) -> None:
        """Take note of an array, or of the one that it is a view of, until it is gone."""
        host = array._host
        while isinstance(host.base, np.ndarray):
            host = host.base
        pool = array.pool
        self._holders[id(host)] += 1
        if self._holders[id(host)] == 1:
            self._grow(host.nbytes, pool)
        finalizer = weakref.finalize(array, self._forget, id(host), host.nbytes, pool)
        finalizer.atexit = False

    def _forget(self, number: int, size: int, pool: Pool | None) -> None:
        self._holders[number] -= 1
        if not self._holders[number]:
            self._grow(-size, pool)

    def _grow(self, size: int, pool: Pool | None) -> None:
        if pool is not None:
            pool.used += size
            size = max(0, pool.used - pool.size)
            pool.size += size
        self.now += size
        self.most = max(self.most, self.now)


class Pool:
    """Memory for some arrays only, which it keeps when they are gone."""

    used = size = 0

    def malloc(self, size: int) -> None:
        """What CuPy would be given to allocate by."""

    def free_all_blocks(self) -> None:
        """Give back what is not used; without this it is kept, though the pool be forgotten."""
        MEMORY.now -= self.size - self.used
        self.size = self.used


MEMORY = Memory()

CARD = 2**34
"""Bytes of the pretended device."""

PRODUCTS = {"compute_type": 1, "mode": 0}
"""As CuPy and cuBLAS have been told to multiply matrices."""


RECORDING: list[Callable[[], object]] | None = None
"""While launches are recorded, what has been so far: each is called when they are played."""


def _launch(name: str, compute: Callable[[], Any]) -> Any:
    """Start a function on the device, or record that it is to be; return what it computes."""
    if RECORDING is None:
        LAUNCHES[name] += 1
        return compute()
    with np.errstate(all="ignore"):
        found = np.asarray(compute())  # of this shape and dtype
    RECORDING.append(lambda: found.__setitem__(..., compute()))
    return found


def _write(name: str, compute: Callable[[], object]) -> None:
    """The same for a function that writes to arrays which are there."""
    if RECORDING is not None:
        RECORDING.append(compute)
        return
    LAUNCHES[name] += 1
    compute()


def _wait(what: str) -> None:
    """The host wants to know something of the device, or sends something there."""
    if RECORDING is not None:
        raise RuntimeError("cudaErrorStreamCaptureUnsupported: operation not permitted")
    COUNTS[what] += 1


class Stream:
    """That of a recording, which is none of those that wait for one another."""

    ptr = 7

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking, "CUDA records no other"

    def __enter__(self) -> None:
        global CURRENT
        CURRENT = self

    def __exit__(self, *_: object) -> None:
        global CURRENT
        CURRENT = DEFAULT

    def synchronize(self) -> None:
        assert RECORDING is None

    def begin_capture(self) -> None:
        global RECORDING
        assert self is CURRENT, "nothing else is recorded"
        assert any(ALLOCATORS), "others would get the recording's memory"
        RECORDING = []

    def end_capture(self) -> SimpleNamespace:
        global RECORDING
        recorded, RECORDING = RECORDING, None

        def launch() -> None:
            LAUNCHES["graph"] += 1
            for function in recorded or ():
                function()

        return SimpleNamespace(launch=launch)


DEFAULT = CURRENT = SimpleNamespace(ptr=0, synchronize=lambda: None)
"""Streams: what is started on one is done one after the other."""

ALLOCATORS: list[Any] = []
"""Whose memory arrays are in, the innermost last."""


@contextmanager
def _using_allocator(malloc: Any) -> Iterator[None]:
    ALLOCATORS.append(malloc)
    try:
        yield
    finally:
        ALLOCATORS.pop()


def _gemm(dtype: str, cupys: bool = False) -> Any:
    """cuBLAS' batched product, on addresses; matrices lie there column by column."""

    def gemm(
        handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, A: int, lda: int, strideA: int, B: int, ldb: int, strideB: int,
        beta: int, C: int, ldc: int, strideC: int, batch: int,
    ) -> int:  # fmt: skip
        if cupys:
            _refuse_to_record()
        elif CURRENT.ptr != LIBRARY.stream:
            raise RuntimeError("cuBLAS works on another stream")
        number = np.ctypeslib.as_ctypes_type(dtype)

        def at(address: int, *shape: int) -> np.ndarray:
            size = math.prod(shape)
            return np.ctypeslib.as_array((number * size).from_address(address)).reshape(shape)

        def factor(address: int, turned: int, rows: int, columns: int, ld: int, stride: int) -> Any:
            assert ld == (columns if turned else rows)
            assert stride == rows * columns
            there = at(address, batch, rows if turned else columns, ld)  # as rows: its transpose
            return there if turned else there.transpose(0, 2, 1)

        a, b = factor(A, transa, m, k, lda, strideA), factor(B, transb, k, n, ldb, strideB)
        c, one = at(C, batch, n, m), at(alpha, 1)[0]
        assert (at(beta, 1)[0], ldc, strideC) == (0, m, m * n)
        tf32 = PRODUCTS["mode"] == 3

        def compute() -> None:
            c[...] = one * _product(a, b, tf32).transpose(0, 2, 1)

        _write("gemm", compute)
        return 0

    return gemm


def _refuse_to_record() -> None:
    """As CuPy does for its ways to cuBLAS."""
    if RECORDING is not None:
        raise NotImplementedError("calling cuBLAS API during stream capture is unsupported")


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
LIBRARY = SimpleNamespace(
    float32=_gemm("float32"),
    float64=_gemm("float64"),
    set_stream=lambda handle, stream: vars(LIBRARY).update(stream=stream),
)
"""cuBLAS, without CuPy."""

cuda = SimpleNamespace(
    MemoryPool=Pool,
    Stream=Stream,
    get_current_stream=lambda: CURRENT,
    using_allocator=_using_allocator,
    runtime=SimpleNamespace(memGetInfo=lambda: (CARD - MEMORY.now, CARD)),
    device=SimpleNamespace(get_cublas_handle=lambda: 1),
    cublas=SimpleNamespace(
        getVersion=lambda handle: 130100,
        getMathMode=lambda handle: PRODUCTS["mode"],
        setMathMode=lambda handle, value: PRODUCTS.update(mode=value),
        sgemmStridedBatched=_gemm("float32", cupys=True),
        dgemmStridedBatched=_gemm("float64", cupys=True),
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
        self.pool = ALLOCATORS[-1].__self__ if ALLOCATORS else None  # that it was made in
        MEMORY.see(self)
        if RECORDING is not None:  # and will write there when the array is long gone
            RECORDING.append(lambda memory=self._host: memory)

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
            _wait("wait")  # how many of them are to be written?
        host, key, value = self._host, _inner(key, within_index=True), _inner(value)
        _write("copy", lambda: host.__setitem__(key, value))

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
        _wait("wait")
        return self._host.item()

    def tolist(self) -> Any:
        _wait("wait")
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
        arguments = self._host, *[_inner(other) for other in others]
        return StrictArray(_launch(name, lambda: function(*arguments)))

    return method


def _reflected(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        arguments = _inner(other), self._host
        return StrictArray(_launch(name, lambda: function(*arguments)))

    return method


def _in_place(name: str) -> Any:
    function = getattr(operator, name)

    def method(self: StrictArray, other: Any) -> StrictArray:
        arguments = self._host, _inner(other)
        _write(name, lambda: function(*arguments))
        return self

    return method


def _method(name: str) -> Any:
    def method(self: StrictArray, *args: Any, **options: Any) -> StrictArray:
        if name == "sum" and options.get("dtype", self.dtype) != self.dtype:
            raise TypeError("CuPy would compile this sum, for seconds; use sum_of")
        function, args = getattr(self._host, name), [_fenced(arg) for arg in args]
        if name in VIEWS and np.may_share_memory(view := function(*args, **options), self._host):
            return StrictArray(view)
        return StrictArray(_launch(name, lambda: function(*args, **options)))

    return method


for _name in ("add", "sub", "mul", "truediv", "mod", "pow", "neg", "abs", "invert", "and_", "lshift",
              "gt", "ge", "lt", "le", "eq", "ne"):  # fmt: skip
    setattr(StrictArray, f"__{_name.strip('_')}__", _operator(_name))


def _matmul(self: StrictArray, other: Any) -> StrictArray:
    _refuse_to_record()
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
        if name in ("matmul", "stack", "array"):  # of the latter the host sends what they need
            _refuse_to_record()
        named = {name: _fenced(value) for name, value in options.items()}
        unnamed = [_fenced(arg) for arg in args]
        if "out" in options:
            _write(name, lambda: function(*unnamed, **named))
            return options["out"]
        return StrictArray(_launch(name, lambda: function(*unnamed, **named)))

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
    _wait("up")
    return StrictArray(np.array(x, dtype=dtype))


def asnumpy(x: StrictArray) -> np.ndarray:
    """Download: a copy, as from a device, for which one has to wait."""
    _wait("down")
    return x._host.copy()


class ElementwiseKernel(compiled.ElementwiseKernel):
    """As CuPy's, for parameters that are raw arrays or numbers."""

    def __call__(self, *arguments: Any, size: int) -> None:
        arrays = (a for a in arguments if isinstance(a, StrictArray))
        COMPILED.add((self.name, *((a.dtype.name, a.ndim) for a in arrays)))
        fenceless = [a._host if isinstance(a, StrictArray) else a for a in arguments]
        run = super().__call__
        _write(self.name, lambda: run(*fenceless, size=size))


BACKEND = Backend(sys.modules[__name__], "strict")
cublas.LIBRARIES[BACKEND.xp] = LIBRARY
