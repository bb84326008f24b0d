"""The whole program against pastiche, from the command to the file: seconds, memory, loss.

    pip install ".[reference]"
    pip install --no-deps pastiche==1.6.0
    python benchmarks/program.py --size 320 --iterations 120

Each contestant is a process of its own, in turn; nothing else should run meanwhile. The paintings
are judged by one evaluator, pastiche's loss as our preset has it, from their files. Ours are therefore
painted without a margin and with its filter, both of which change what is minimised; apart from that
by our defaults. A step of theirs is one evaluation, one of ours sometimes two.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import describe, prepare

ROOT = Path(__file__).parents[1]
CONTENT = ROOT / "examples" / "content" / "neuschwanstein.webp"
STYLE = ROOT / "examples" / "style" / "vangogh_starry_night_cropped.jpg"


def commands(size, iterations):
    """Contestant -> its command, but for the output."""
    ours = [sys.executable, "-m", "minimal_nst", "stylize", CONTENT, STYLE, "-q"]
    ours += ["--size", size, "--iterations", iterations, "--margin", 0, "--resampling", "bilinear"]
    theirs = [sys.executable, "-m", "pastiche", "-c", CONTENT, "--no-verbose"]
    theirs += ["--size", size, "--style-size", size]  # else the style has the content's area
    return {
        "stylize": [*ours, "-o"],
        "stylize, own-lbfgs": [*ours, "--optimizer", "own-lbfgs", "-o"],
        "pastiche": [*theirs, "--num-steps", iterations, "-s", STYLE, "-o"],
    }


def run(command):
    """Seconds that a command takes, and bytes at its peak."""
    start = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[2]} has failed")
    return time.perf_counter() - start, 1024 * usage.ru_maxrss


def evaluator(size):
    """Path of a painting -> its loss."""
    sys.path.insert(0, str(ROOT))
    import minimal_nst as nst
    from minimal_nst import images

    settings = nst.Settings.preset("pastiche")
    content, style = (
        images.load(path, size, resampling=settings.resampling) for path in (CONTENT, STYLE)
    )
    objective = nst.Objective(nst.VGG19(nst.load_weights()), content, [style], settings)
    return lambda path: objective(images.load(path).astype("float64"))[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=320, help="[%(default)s]")
    parser.add_argument("--iterations", type=int, default=120, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="for everybody [%(default)s]")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
    options = parser.parse_args()
    prepare(options.threads, options.isa)
    print(f"{describe(options.threads, options.isa)}, {options.rounds} rounds")
    print(f"{options.size} px, {options.iterations} iterations")
    loss = evaluator(options.size)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for name, command in commands(options.size, options.iterations).items():
                out = Path(folder) / "painting.png"
                figures.setdefault(name, []).append((*run([*command, out]), loss(out)))
    reference = np.median([seconds for seconds, *_ in figures["pastiche"]])
    for name, rows in figures.items():
        seconds, peak, loss_ = np.median(rows, axis=0)
        print(
            f"  {name:20} {seconds:6.1f} s  pastiche / this: {reference / seconds:5.2f}   "
            f"{peak / 2**20:5.0f} MiB   loss {loss_:.4g}",
            flush=True,
        )
