"""The bodies of CuPy's elementwise kernels, compiled for the processor at hand.

`ElementwiseKernel` has CuPy's signature. Its body is C++ that sees the thread's number `i`, and so
it does here, in a loop. Arrays know their ends: who reads or writes beyond one is told.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

COMPILER = shutil.which(os.environ.get("CXX", "c++"))

C_TYPES = {
    "float32": "float",
    "float64": "double",
    "uint8": "unsigned char",
    "int32": "int",
    "int8": "signed char",
}

HEAD = """
#include <cmath>
#include <cstddef>
{typedefs}
typedef unsigned char uint8;
typedef int int32;
typedef double float64;
typedef float float32;
static ptrdiff_t beyond;
template <typename A> struct Raw {{
    A* data; ptrdiff_t size;
    A& operator[](ptrdiff_t k) const {{
        if (k < 0 || k >= size) {{ ++beyond; return data[0]; }}
        return data[k];
    }}
}};
extern "C" ptrdiff_t run(ptrdiff_t threads, {parameters}) {{
    beyond = 0;
    {raws}
    for (ptrdiff_t i = 0; i < threads; ++i) {{ {body} }}
    return beyond;
}}
"""


def declared(parameters: str) -> list[tuple[bool, str, str]]:
    """'raw T x, int32 H' -> [(True, 'T', 'x'), (False, 'int32', 'H')]."""
    words = [parameter.split() for parameter in parameters.split(",")]
    return [(word[0] == "raw", word[-2], word[-1]) for word in words]


@functools.cache
def library(source: str) -> Any:
    """Compile, once for every source; where nothing compiles, the test is skipped.

    Which tests come here is not always said by their names. Where a compiler is expected,
    REQUIRE_COMPILER=1 says so, and without one nothing passes (`conftest`).
    """
    if COMPILER is None:
        pytest.skip("needs a C++ compiler, which $CXX may name")
    folder = Path(tempfile.mkdtemp(prefix="minimal_nst-kernels-"))
    name = hashlib.sha256(source.encode()).hexdigest()[:16]
    (folder / f"{name}.cpp").write_text(source)
    target = folder / f"{name}.so"
    command = [COMPILER, "-O1", "-shared", "-fPIC", "-o", target, folder / f"{name}.cpp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    found.run.restype = ctypes.c_ssize_t
    return found


class ElementwiseKernel:
    """As CuPy's, for parameters that are raw arrays or numbers."""

    def __init__(self, inputs: str, outputs: str, body: str, name: str) -> None:
        self.parameters = declared(f"{inputs}, {outputs}")
        self.body = body
        self.name = name

    def __call__(self, *arguments: Any, size: int) -> None:
        assert len(arguments) == len(self.parameters)
        types = {
            kind: argument.dtype.name
            for argument, (raw, kind, _) in zip(arguments, self.parameters, strict=True)
            if raw and len(kind) == 1
        }
        heads, raws, values = [], [], []
        for argument, (raw, kind, name) in zip(arguments, self.parameters, strict=True):
            dtype = types.get(kind, kind)
            if not raw:
                assert type(argument) in (int, float), name
                heads.append(f"{kind} {name}")
                values.append(np.ctypeslib.as_ctypes_type(dtype)(argument))
                continue
            assert argument.dtype == dtype, name
            assert argument.flags.c_contiguous, name  # CuPy would divide for every index
            heads.append(f"{kind}* {name}_, ptrdiff_t {name}_size")
            raws.append(f"Raw<{kind}> {name} = {{{name}_, {name}_size}};")
            values += [ctypes.c_void_p(argument.ctypes.data), ctypes.c_ssize_t(argument.size)]
        text = HEAD.format(
            typedefs=" ".join(f"typedef {C_TYPES[name]} {kind};" for kind, name in types.items()),
            parameters=", ".join(heads),
            raws=" ".join(raws),
            body=self.body,
        )
        beyond = library(text).run(ctypes.c_ssize_t(size), *values)
        if beyond:
            raise IndexError(f"{beyond} reads or writes beyond an array")
