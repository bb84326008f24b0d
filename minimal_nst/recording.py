r"""What a GPU is told once, and from then on only to do again.

To start a function takes a processor some ten microseconds; most of an evaluation's hundred and more
are done sooner, so that a card waits for its processor. But it is the same functions each time, at
the same addresses. So they are recorded, as what CUDA calls a graph, and then started all at once.

A recording needs three things:

* the same memory each time. While it is made, arrays come from a pool that is the recording's own,
  so that nobody else writes where it will; what goes in is copied to where it was, and what comes
  out from where it is;
* nothing that a host has to do in between: no number that is asked for, and none that is sent;
* nothing that CuPy refuses to record, such as its own products of matrices (`cublas`).
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backend import Array
from .cublas import rounds

Function = Callable[..., tuple[Array, ...]]

Recorder = Callable[..., tuple[Array, ...]]
"""A function, and arrays -> what it returns of them."""


def recorder(xp: Any) -> Recorder:
    """Return what calls one function many times with arrays of one shape; on a CPU it just does."""
    return operator.call if xp is np else Recordings(xp)


class Recordings:
    """Calls a function of arrays on a GPU, of which the launches are recorded the first time.

    What cannot be recorded is called as it is. The same numbers come out, to the last bit.

    Parameters
    ----------
    xp : module
        The GPU's.
    """

    def __init__(self, xp: Any) -> None:
        self._xp = xp
        self._graphs: dict[bool, _Graph | None] = {}

    def __call__(self, function: Function, *arrays: Array) -> tuple[Array, ...]:
        """Return what the function returns, in new arrays.

        Parameters
        ----------
        function : callable
            Always the same one. Takes arrays, and returns a tuple of arrays; what else it reads or
            writes are arrays as well, which stay where they are.
        *arrays : array
            Always of the same shapes and dtypes.
        """
        rounded = rounds(self._xp)  # as a recording's products are, or are not
        if rounded not in self._graphs:
            results, self._graphs[rounded] = _recorded(function, arrays, self._xp)
            return results
        graph = self._graphs[rounded]
        return function(*arrays) if graph is None else graph.play(arrays)


def _recorded(
    function: Function, arrays: Sequence[Array], xp: Any
) -> tuple[tuple[Array, ...], _Graph | None]:
    """Call a function, and record what that is; None if CuPy refuses."""
    pool, stream = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True)
    xp.cuda.get_current_stream().synchronize()  # what is read is computed on that one
    xp.get_default_memory_pool().free_all_blocks()  # it has another from here on
    with xp.cuda.using_allocator(pool.malloc), stream:
        inputs = [array.copy() for array in arrays]
        found = function(*inputs)  # compiles what is not compiled, and the pool gets what it needs
        stream.synchronize()
    results = tuple(result.copy() for result in found)
    del found
    with xp.cuda.using_allocator(pool.malloc), stream:
        stream.begin_capture()
        try:
            outputs = function(*inputs)
        except NotImplementedError:
            outputs = ()
        finally:
            graph = stream.end_capture()
    made = _Graph(pool, graph, inputs, outputs)
    return results, made if outputs else None


class _Graph:
    """A recording, and the memory that it needs, which is given back with it."""

    def __init__(
        self, pool: Any, graph: Any, inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> None:
        self._pool, self._graph = pool, graph
        self._inputs, self._outputs = inputs, outputs

    def play(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Once more, with these numbers."""
        for there, array in zip(self._inputs, arrays, strict=True):
            there[...] = array
        self._graph.launch()
        return tuple(output.copy() for output in self._outputs)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            del self._graph, self._inputs, self._outputs
            self._pool.free_all_blocks()
