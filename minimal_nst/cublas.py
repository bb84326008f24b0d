r"""Products of matrices on a GPU: cuBLAS itself is asked.

CuPy's `matmul` takes longer to look at its arguments than a small layer's products take. And it does
not work while launches are recorded (`recording`), though cuBLAS does. So cuBLAS is called without
it: the library that CuPy has loaded, with CuPy's handle and on CuPy's stream.

cuBLAS has columns where we have rows: what is a matrix to us is its transpose to cuBLAS, which is
told, therefore, that out^T = b^T a^T.

Glossary::

    handle   what cuBLAS keeps of its caller: whether factors are rounded to TF32, for instance
    turned   whether a factor's transpose is meant; in memory it lies as it is
"""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np

from .backend import TF32, Array, array_module

NAMES = {"linux": "libcublas.so.{}", "win32": "cublas64_{}.dll"}
"""What the library is called there, but for its major version."""

LIBRARIES: dict[Any, Any] = {}
"""Array module -> its cuBLAS."""

_ONE_AND_ZERO = {dtype: (np.ones(1, dtype), np.zeros(1, dtype)) for dtype in ("float32", "float64")}

_FACTORS = {
    dtype: (one.ctypes.data, zero.ctypes.data) for dtype, (one, zero) in _ONE_AND_ZERO.items()
}
"""Where lies what a product is multiplied by, and what was in its place; cuBLAS reads the host's."""


def multiply(
    a: Array, b: Array, out: Array, a_turned: bool = False, b_turned: bool = False
) -> None:
    """Many products of matrices at a time, out[k] = a[k] @ b[k].

    Parameters
    ----------
    a : (K, L, M) array
        If it is turned, (K, M, L).
    b : (K, M, N) array
        If it is turned, (K, N, M).
    out : (K, L, N) array
        Like the others contiguous, and all float32 or all float64.
    a_turned, b_turned : bool
    """
    xp = array_module(a)
    K, L, N = out.shape
    M = a.shape[1 if a_turned else 2]
    library, handle = _library(xp), xp.cuda.device.get_cublas_handle()
    gemm = library.float32 if out.dtype == "float32" else library.float64
    one, zero = _FACTORS[out.dtype.name]
    library.set_stream(handle, xp.cuda.get_current_stream().ptr)
    gemm(
        handle, int(b_turned), int(a_turned), N, L, M, one, b.data.ptr, b.shape[2], M * N,
        a.data.ptr, a.shape[2], L * M, zero, out.data.ptr, N, L * N, K,
    )  # fmt: skip


def rounds(xp: Any) -> bool:
    """Whether products of float32 matrices are 'tf32' just now (`Backend.products`)."""
    mode: int = xp.cuda.cublas.getMathMode(xp.cuda.device.get_cublas_handle())
    return mode == TF32


def _library(xp: Any) -> Any:
    """The functions that are needed, found when they first are."""
    if xp not in LIBRARIES:
        LIBRARIES[xp] = _load(xp)
    return LIBRARIES[xp]


def _load(xp: Any) -> Any:
    """The library's; if it has another name here, CuPy's ways to them."""
    theirs = xp.cuda.cublas
    major = theirs.getVersion(xp.cuda.device.get_cublas_handle()) // 10000
    try:
        library = ctypes.CDLL(NAMES[sys.platform].format(major))
    except (KeyError, OSError):
        return SimpleNamespace(
            float32=theirs.sgemmStridedBatched,
            float64=theirs.dgemmStridedBatched,
            set_stream=lambda handle, stream: None,  # they do that
        )
    address, number, stride = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
    matrix = (address, number, stride)
    product = (address, *5 * (number,), address, *matrix, *matrix, address, *matrix, number)
    found = {
        "float32": (library.cublasSgemmStridedBatched, product),
        "float64": (library.cublasDgemmStridedBatched, product),
        "set_stream": (library.cublasSetStream_v2, (address, address)),
    }
    for function, arguments in found.values():
        function.argtypes = arguments
        function.errcheck = lambda status, *_: theirs.check_status(status)
    return SimpleNamespace(**{name: function for name, (function, _) in found.items()})
