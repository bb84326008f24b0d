"""What a run was predicted to take, and what it took at its peak.

    python benchmarks/memory.py --sizes 256,512,1024

Each run has a process of its own. 25 iterations of SciPy's L-BFGS and 85 of our own fill its memory,
and so reach the peak. Beyond the interpreter and its libraries, as the prediction is meant.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from machine import peak

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
MIB = 2**20


def run(size, square, options):
    """Paint; print the prediction and the peak, in bytes."""
    import minimal_nst as nst
    from minimal_nst import images, memory, pipeline

    content = ROOT / "examples/content" / ("astronaut.png" if square else "neuschwanstein.webp")
    style = ROOT / "examples/style/vangogh_starry_night_cropped.jpg"
    margin = {} if square else {"margin": 0}
    settings = nst.Settings(size=size, **margin, **options)
    shapes = images.measure(content, size), [images.measure(style, settings.style_size or size)]
    before = peak()
    threads = settings.threads or pipeline.VGG19(nst.load_weights()).workers.threads
    nst.stylize(content, style, settings)
    print(memory.needed(settings, *shapes, threads), peak() - before)


def measure(size, square=False, **options):
    """The prediction and the peak of a run in a process of its own."""
    code = f"import memory; memory.run({size}, {square}, {options})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, check=True
    )
    predicted, measured = done.stdout.split()
    return int(predicted), int(measured)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="256,512,1024", help="[%(default)s]")
    parser.add_argument(
        "--square",
        action="store_true",
        help="a square picture, with the margin that it has by default",
    )
    options = parser.parse_args()
    for size in map(int, options.sizes.split(",")):
        for choice in (
            {"iterations": 25},
            {"iterations": 85, "optimizer": "own-lbfgs"},
            {"iterations": 2, "optimizer": "adam"},
            {"iterations": 2, "optimizer": "adam", "conv": "im2col"},
            {"iterations": 2, "optimizer": "adam", "dtype": "float64"},
            {"iterations": 2, "optimizer": "adam", "style_size": 2 * size},
            {"iterations": 2, "optimizer": "adam", "strips": 4},
        ):
            predicted, measured = measure(size, options.square, **choice)
            name = ", ".join(f"{k}={v}" for k, v in choice.items())
            print(
                f"{size:5} px  predicted {predicted / MIB:6.0f} MiB, measured {measured / MIB:6.0f}, "
                f"{predicted / measured - 1:+4.0%}  {name}",
                flush=True,
            )
