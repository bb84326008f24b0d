"""What a benchmark runs on, and how a processor with AVX-512 stands in for one without."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from importlib import metadata
from pathlib import Path

AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def prepare(threads, isa):
    """Set what libraries read when they are loaded: call this before NumPy is imported."""
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)
    if isa == "avx2":
        os.environ.update(AVX2)


def describe(threads, isa):
    """A line for the head of a table; a library that is not installed is left out."""
    held = ", held to AVX2" if isa == "avx2" else ""
    versions = [f"Python {platform.python_version()}"]
    for name, library in (("NumPy", "numpy"), ("PyTorch", "torch")):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(library)}")
    return f"{platform.machine()}{held}, {threads} threads, {', '.join(versions)}"


def watch_evaluations():
    """From now on, a list of when each evaluation of ours began, and its seconds.

    An evaluation waits for its loss, and so for all that is computed before it, on a GPU too.
    """
    import minimal_nst as nst

    evaluate, found = nst.Objective.evaluate, []

    def timed(objective, x):
        start = time.perf_counter()
        result = evaluate(objective, x)
        found.append((start, time.perf_counter() - start))
        return result

    nst.Objective.evaluate = timed
    return found


def besides(evaluations, moments):
    """Share of all but the evaluations in the second half of a run, in which L-BFGS' pairs are there.

    The moments are those after each iteration, of two or more.
    """
    since = moments[(len(moments) - 1) // 2]
    evaluated = sum(seconds for begun, seconds in evaluations if since < begun < moments[-1])
    return 1 - evaluated / (moments[-1] - since)


def peak():
    """Bytes that the process has had at most; unlike getrusage's, not its parent's."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell a process its peak")
