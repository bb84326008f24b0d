"""NVIDIA's compiler for kernels, which needs no GPU: `pip install nvidia-cuda-nvrtc-cu12`."""

from __future__ import annotations

import ctypes
import importlib.util
from pathlib import Path
from typing import Any

from compiled import declared

HEAD = """
typedef {T} T; typedef short S; typedef unsigned char uint8; typedef int int32; typedef double float64; typedef float float32;
extern "C" __global__ void run(ptrdiff_t threads, {parameters}) {{
    ptrdiff_t i = (ptrdiff_t)blockIdx.x * blockDim.x + threadIdx.x;
    for (; i < threads; i += (ptrdiff_t)blockDim.x * gridDim.x) {{ {body} }}
}}
"""


def find() -> Any:
    """The library, or None."""
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        return None
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    found = [path for folder in folders for path in folder.glob("lib/libnvrtc.so.*")]
    return ctypes.CDLL(str(found[0])) if found else None


LIBRARY = find()


def source(parameters: tuple[str, str], body: str, T: str) -> str:
    """CUDA for the body of an elementwise kernel."""
    inputs, outputs = parameters
    heads = [
        f"const {kind}* {name}" if raw else f"{kind} {name}" for raw, kind, name in declared(inputs)
    ]
    heads += [f"{kind}* {name}" for _, kind, name in declared(outputs)]
    return HEAD.format(T=T, parameters=", ".join(heads), body=body)


def compiled(text: str, card: int) -> str:
    """What the compiler says; a SyntaxError if it does not compile."""
    program, size = ctypes.c_void_p(), ctypes.c_size_t()
    made = LIBRARY.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"k.cu", 0, None, None)
    assert made == 0
    options = [f"--gpu-architecture=sm_{card}".encode(), b"--ptxas-options=-v"]
    result = LIBRARY.nvrtcCompileProgram(program, 2, (ctypes.c_char_p * 2)(*options))
    LIBRARY.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    LIBRARY.nvrtcGetProgramLog(program, log)
    LIBRARY.nvrtcDestroyProgram(ctypes.byref(program))
    if result:
        raise SyntaxError(log.value.decode())
    return log.value.decode()
