"""The array module: NumPy on a CPU, CuPy on a GPU; and threads. The only file that names CuPy.

The layers and losses never choose: they ask an array which module it belongs to
(`array_module`) and compute there. What crosses from host to device goes through a `Backend`.

Glossary::

    xp       the array module, `numpy` or `cupy`
    device   'cpu', 'cuda' or 'auto'
    Array    an array of either module
"""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from threadpoolctl import OpenBLASController, ThreadpoolController

from .errors import NSTWarning, UsageError

Array: TypeAlias = Any
"""An array of NumPy's or CuPy's; CuPy has no complete type stubs, hence ``Any``."""


def array_module(x: Array) -> Any:
    """Return the module whose functions work on `x`.

    It is the package that defines the type of `x`, which needs no import of CuPy to find out.

    Parameters
    ----------
    x : Array
        An array of any shape.

    Returns
    -------
    module
        `numpy` or `cupy`.
    """
    return sys.modules[type(x).__module__.partition(".")[0]]


def sum_of(x: Array) -> Any:
    """Sum in double precision: a NumPy number; on a GPU an array without axes.

    CuPy comes with a sum of numbers that have its precision already. One that converts them on the
    way it would have to compile first, which takes seconds.
    """
    dtype = "complex128" if x.dtype.kind == "c" else "float64"
    return x.sum(dtype=dtype) if array_module(x) is np else x.astype(dtype).sum()


@dataclass(frozen=True)
class Backend:
    """Where arrays live, and how they get there and back.

    Attributes
    ----------
    xp : module
        `numpy` or `cupy`.
    name : str
        'cpu' or 'cuda', for messages.
    """

    xp: Any
    name: str

    def upload(self, x: np.ndarray, dtype: str) -> Array:
        """Copy a NumPy array onto the device as `dtype` (on a CPU: only if that changes it)."""
        return self.xp.asarray(x, dtype=dtype)

    def download(self, x: Array) -> np.ndarray:
        """Copy an array of this device to NumPy (on a CPU: no copy)."""
        to_host = getattr(self.xp, "asnumpy", np.asarray)
        host: np.ndarray = to_host(x)
        return host

    def gather(self, numbers: Sequence[Array], dtype: str) -> Array:
        """One array of arrays without axes, so that they are downloaded together.

        One by one: `stack` would ask the host where they are, and could not be recorded.
        """
        found = self.xp.empty(len(numbers), dtype)
        for k, number in enumerate(numbers):
            found[k] = number
        return found

    def free(self) -> int | None:
        """Bytes that are free on a GPU, with those that CuPy has and does not use; None for a CPU."""
        if not hasattr(self.xp, "cuda"):
            return None
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return int(free + self.xp.get_default_memory_pool().free_bytes())

    @contextmanager
    def products(self, precision: str) -> Iterator[None]:
        """While inside, a GPU's products of float32 matrices are 'fp32' or 'tf32'.

        Without this it would be for $CUPY_TF32 to say, and for those of several matrices at a time
        for nobody. A CPU has no 'tf32'.
        """
        on_gpu = hasattr(self.xp, "cuda")
        if precision != "fp32" and not on_gpu:
            raise UsageError(f"precision is {precision}, which a GPU has; the device is a CPU")
        if not on_gpu or (precision == "fp32" and os.environ.get("CUPY_TF32") != "1"):
            yield
            return
        core, cublas = self.xp._core, self.xp.cuda.cublas
        handle = self.xp.cuda.device.get_cublas_handle()
        before = core.get_compute_type("float32"), cublas.getMathMode(handle)

        def choose(compute_type: int, mode: int) -> None:
            core.set_compute_type("float32", compute_type)
            cublas.setMathMode(handle, mode)

        choose(*_PRODUCTS[precision])
        try:
            yield
        finally:
            choose(*before)

    @contextmanager
    def working(self) -> Iterator[None]:
        """While inside, what a GPU's libraries call its want of memory is a `MemoryError`.

        Afterwards the memory that CuPy keeps for the next array is given back to the others who
        share the card.
        """
        try:
            yield
        except Exception as error:
            if isinstance(error, MemoryError) or not _WANT_OF_MEMORY.search(str(error)):
                raise
            want = MemoryError(str(error))
            vars(want).update(vars(error))
            raise want from error
        finally:
            if hasattr(self.xp, "cuda"):
                self.xp.get_default_memory_pool().free_all_blocks()

    def __reduce__(self) -> tuple[Any, ...]:
        return select, (self.name,)


CPU = Backend(np, "cpu")


LANES = 32
"""Threads of a GPU that lie in one warp: they read neighbouring numbers at the same time."""


@cache
def kernel(xp: Any, name: str, inputs: str, outputs: str, body: str) -> Callable[..., Any]:
    """A function of our own for a GPU, which is compiled when it is first used.

    Parameters
    ----------
    xp : module
    name : str
        Of the function, as a profiler shows it.
    inputs, outputs : str
        As CuPy wants them declared.
    body : str
        C++, run by the thread with number ``i``.

    Returns
    -------
    callable
        Takes the inputs, the outputs, and ``size``: how many threads.
    """
    found: Callable[..., Any] = xp.ElementwiseKernel(inputs, outputs, body, f"minimal_nst_{name}")
    return found


_WANT_OF_MEMORY = re.compile("ALLOC_FAILED|OUT_OF_MEMORY|out of memory", re.IGNORECASE)
"""As cuBLAS, the driver and the runtime have it: memory outside of CuPy's own."""

TF32 = 3
"""cuBLAS' mode in which the factors of products are rounded to 10 bits of a mantissa."""

_PRODUCTS = {"fp32": (1, 0), "tf32": (7, TF32)}
"""CuPy's type of computation, for two matrices, and cuBLAS' mode, for several at a time."""

SLOW_START = 3.0
"""Seconds after which it is told what the GPU is waited for."""


def select(device: str | Backend) -> Backend:
    """Return the backend for a device.

    Parameters
    ----------
    device : {'cpu', 'cuda', 'auto'} or Backend
        'cuda' is the first GPU that the process sees: $CUDA_VISIBLE_DEVICES chooses among several.
        'auto' is the GPU where one works, else the CPU (with a warning that says why, if CuPy is
        installed). A `Backend` is returned as it is.

    Returns
    -------
    Backend

    Raises
    ------
    UsageError
        If the device is unknown, or a GPU is asked for and cannot be used; the message says why.
    """
    if isinstance(device, Backend):
        return device
    if device == "cpu":
        return CPU
    if isinstance(device, str) and device.startswith("cuda:"):
        number = device.partition(":")[2]
        raise UsageError(
            f"unknown device '{device}'; use cuda, and choose the card in the environment, such as "
            f"CUDA_VISIBLE_DEVICES={number or 0}"
        )
    if device not in ("cuda", "auto"):
        raise UsageError(f"unknown device {device!r}; use cpu, cuda or auto")
    try:
        return _connect_to_gpu()
    except Exception as error:  # whatever CuPy or the driver raise, it means: no GPU here
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if device == "auto":
            if not isinstance(error.__cause__, ModuleNotFoundError):
                note = f"the CPU computes, because CuPy is installed but has no GPU: {reason}"
                warnings.warn(note, NSTWarning, stacklevel=2)
            return CPU
        raise UsageError(
            f"device 'cuda' cannot be used: {reason}; use --device cpu, or auto to fall back"
        ) from error


def _connect_to_gpu() -> Backend:
    """Import CuPy and try all that is needed of it.

    A product needs cuBLAS, an elementwise kernel NVRTC, and a sum CUB, with which CuPy was built.
    """
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        raise UsageError(
            'CuPy is not installed (pip install "minimal_nst[cuda13]", or cuda12 for a driver '
            "before 580)"
        ) from error
    if not cupy.cuda.runtime.getDeviceCount():  # or it raises, and says why
        raise UsageError("CuPy finds no GPU")
    start = time.monotonic()
    x = cupy.ones((300, 2), dtype="float32")
    if float(sum_of(x @ x.T + x[:, :1])) != 3 * 300**2:
        raise UsageError("the GPU computes 1 + 1 wrongly")
    seconds = time.monotonic() - start
    if seconds > SLOW_START:
        note = (
            f"the GPU took {seconds:.0f} s to get ready, and will take some more while it begins: "
            "CuPy compiles what it has not compiled before, and keeps it"
        )
        warnings.warn(note, NSTWarning, stacklevel=3)
    return Backend(cupy, "cuda")


class _OneThread:
    """While anybody is inside this context, BLAS uses one thread; afterwards as many as before.

    The setting is the process', and so is the count of those inside.
    """

    def __init__(self) -> None:
        self._blas = ThreadpoolController()
        self.begin()

    def begin(self) -> None:
        """Nobody is inside: so it is at first, and in the child of a fork."""
        self._lock = threading.Lock()
        self._inside = 0

    def look_again(self) -> None:
        """Include a BLAS that was loaded meanwhile, such as SciPy's own."""
        with self._lock:
            if self._inside == 0:
                self._blas = ThreadpoolController()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                _nobody_controls_blas()
                self._limits = self._blas.limit(limits=1, user_api="blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                _nobody_controls_blas()
                self._limits.restore_original_limits()
                _nobody_controls_blas()


def _nobody_controls_blas() -> None:
    """Let the next thread that asks set BLAS' threads.

    From 3.8 on threadpoolctl listens to one thread only: whoever asked first, until it says that it
    is done. Here the last thread that leaves may be another one than the first that entered.
    """
    if hasattr(OpenBLASController, "clear_controlling_thread"):
        OpenBLASController.clear_controlling_thread(force=True)


_one_blas_thread = _OneThread()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_blas_thread.begin)


USEFUL = 8
"""Threads of which more are in each other's way: the interpreter serves one at a time."""


class Workers:
    """Threads that share out work, each with BLAS to itself.

    NumPy's functions let other threads run while they compute, but use one thread each; BLAS
    would use all of them for every product. So while these threads work, BLAS is limited to one
    thread. Several threads may call `run` at once, and after a fork the child has its own workers.

    Parameters
    ----------
    threads : int, optional
        By default $OMP_NUM_THREADS, or else as many as the process may use, up to `USEFUL`.

    Raises
    ------
    UsageError
        If `threads` is not a whole number, 1 or more.
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is None:
            wanted = os.environ.get("OMP_NUM_THREADS", "")
            most = min(available_processors(), USEFUL)
            threads = int(wanted) if wanted.isdecimal() and int(wanted) else most
        if not isinstance(threads, int | np.integer) or threads < 1:
            raise UsageError(f"threads is {threads!r}; it must be a whole number, 1 or more")
        self.threads = int(threads)
        self._begin()

    def _begin(self) -> None:
        """Helpers for a caller, who works along."""
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1))

    def run(self, function: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Call `function` with each of `items`; return the results in their order.

        Each call sees the caller's context, in which NumPy keeps its `errstate`. The caller is one
        of the threads, and none of them waits: who is done takes the next item.
        """
        if self._process != os.getpid():  # no thread survives a fork
            self._begin()
        queue = deque(enumerate(items))
        results: list[Any] = [None] * len(queue)

        def work() -> None:
            while True:
                try:
                    i, item = queue.popleft()
                except IndexError:
                    return
                try:
                    results[i] = function(item)
                except BaseException:
                    queue.clear()  # nobody begins anything new
                    raise

        others = min(self.threads, len(queue)) - 1
        with _one_blas_thread:
            helpers = [self._pool.submit(copy_context().run, work) for _ in range(others)]
            try:
                work()
            finally:
                wait([helper for helper in helpers if not helper.cancel()])
        for helper in helpers:
            if not helper.cancelled():
                helper.result()
        return results

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While inside, BLAS is limited between the calls of `run` as well, and SciPy's with it.

        What an optimiser computes between two evaluations is too little for several threads; and
        those of BLAS, when they are done, wait for more in a loop that takes a processor from ours.
        """
        _one_blas_thread.look_again()
        with _one_blas_thread:
            yield


def bands(start: int, stop: int, height: int) -> list[slice]:
    """Cut rows into bands of this height."""
    return [slice(i, min(i + height, stop)) for i in range(start, stop, height)]


_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
"""glibc's numbers of the sizes from which on it asks the system for an array, and gives memory back; and
of how many arenas it may have."""


def keep_freed_memory() -> bool:
    """Have this process keep the memory of arrays that it frees; return whether it does.

    By default glibc, the C library of most Linux systems, gives large arrays back at once; the
    system clears each page before it hands it out anew, which costs the textbook a fifth of its
    time or more. With another library, or an old glibc, which refuses, nothing changes.
    """
    most = 2**31 - 1
    return _told(_MMAP_THRESHOLD, most) and _told(_TRIM_THRESHOLD, most)


def share_freed_memory() -> bool:
    """Have this process' threads take the memory that any of them has freed; return whether they do.

    By default glibc has an arena for each, so that none waits for another, and what is free in one is
    lost to the others. NumPy asks for memory while it holds the interpreter, and nobody waits. A thread
    that has an arena already keeps it.
    """
    return _told(_ARENA_MAX, 1)


def _told(option: int, value: int) -> bool:
    """Whether glibc was told, and takes it."""
    if sys.platform != "linux" or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return False
    return bool(ctypes.CDLL(None).mallopt(option, value))


def available_processors() -> int:
    """Return the number of processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
