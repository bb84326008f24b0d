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
from collections.abc import Callable
from typing import Any

from .backend import CPU, Array, Backend

Function = Callable[[Array], tuple[Array, ...]]

Recorder = Callable[[Function, Array], tuple[Array, ...]]
"""Calls a function, always the same one."""


def recorder(backend: Backend) -> Recorder:
    """Return what calls one function many times with arrays of one shape; on a CPU it just does."""
    return operator.call if backend is CPU else Recordings(backend)


class Recordings:
    """Calls a function of an array on a GPU, of which the launches are recorded the first time.

    What cannot be recorded is called as it is. The same numbers come out, to the last bit.

    Parameters
    ----------
    backend : Backend
        The GPU's.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._graphs: dict[bool, _Graph | None] = {}

    def __call__(self, function: Function, x: Array) -> tuple[Array, ...]:
        """Return what the function returns, in new arrays.

        Parameters
        ----------
        function : callable
            Always the same one. Takes an array, returns a tuple of arrays; what else it reads stays
            where it is.
        x : array
            Always of one shape and dtype.
        """
        rounds = self._backend.rounds  # of which a recording has its products
        if rounds not in self._graphs:
            self._graphs[rounds] = _Graph.of(function, x, self._backend.xp)
        graph = self._graphs[rounds]
        return function(x) if graph is None else graph.play(x)


class _Graph:
    """A recording, and the memory that it needs, which is given back with it."""

    def __init__(self, pool: Any, graph: Any, x: Array, results: tuple[Array, ...]) -> None:
        self._pool, self._graph = pool, graph
        self._x, self._results = x, results

    @classmethod
    def of(cls, function: Function, x: Array, xp: Any) -> _Graph | None:
        """Make one; None if CuPy refuses."""
        pool, stream = xp.cuda.MemoryPool(), xp.cuda.Stream(non_blocking=True)
        xp.cuda.get_current_stream().synchronize()  # what is read is computed on that one
        xp.get_default_memory_pool().free_all_blocks()  # it has another from here on
        with xp.cuda.using_allocator(pool.malloc), stream:
            x = x.copy()
            function(x)  # compiles what is not compiled, and the pool gets what it needs
            stream.synchronize()
            stream.begin_capture()
            try:
                results = function(x)
            except NotImplementedError:
                results = ()
            finally:
                graph = stream.end_capture()
        made = cls(pool, graph, x, results)
        return made if results else None

    def play(self, x: Array) -> tuple[Array, ...]:
        """Once more, with these numbers."""
        self._x[...] = x
        self._graph.launch()
        return tuple(result.copy() for result in self._results)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            del self._graph, self._x, self._results
            self._pool.free_all_blocks()
