"""One evaluation (loss and gradient of the preset gatys) against PyTorch, interleaved in one run.

    pip install ".[reference]"
    python benchmarks/evaluation.py --sizes 256,512,1024

Each round evaluates every contestant once, in turn; medians and ratios of medians are printed,
with the peak of sgemm measured in the same rounds. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from machine import describe, prepare

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--sizes", default="256,512", help="side of the square pictures [%(default)s]")
parser.add_argument("--threads", type=int, default=2, help="for everybody [%(default)s]")
parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
parser.add_argument("--best", action="store_true", help="also PyTorch's other ways of doing it")
parser.add_argument("--layers", action="store_true", help="also our convolutions one by one")
parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
options = parser.parse_args()
prepare(options.threads, options.isa)

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import minimal_nst as nst
from minimal_nst import images
from minimal_nst.architecture import CONVOLUTIONS
from torch_gatys import Torch

torch.set_num_threads(options.threads)


def sgemm_peak():
    """GFLOP/s of a matrix product of 2048 x 2048, by all threads."""
    a = np.ones((2048, 2048), "float32")
    start = time.perf_counter()
    a @ a
    return 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def picture(name, size):
    return images.resize(images.load(ROOT / "examples" / name), size, size)


def compare(size):
    """Print a row for each contestant at one size."""
    content = picture("content/neuschwanstein.webp", size)
    style = picture("style/vangogh_starry_night_cropped.jpg", size)
    image = (0.7 * content + 0.3 * style).astype("float64")
    weights, settings = nst.load_weights(), nst.Settings()
    contestants = {
        "ours, winograd": ("winograd",),
        "ours, im2col (textbook)": ("im2col",),
    }
    contestants = {
        name: nst.Objective(
            nst.VGG19(weights, conv=conv, threads=options.threads), content, [style], settings
        )
        for name, (conv,) in contestants.items()
    }
    contestants["PyTorch, default layout"] = Torch(weights, content, style)
    if options.best:
        contestants["PyTorch, channels_last"] = Torch(weights, content, style, channels_last=True)
        contestants["PyTorch, torch.compile"] = Torch(weights, content, style, True, True)
    times = {name: [] for name in contestants}
    peaks, losses = [], {}
    for round_ in range(options.rounds + 1):
        peaks.append(sgemm_peak())
        for name, evaluate in contestants.items():
            time.sleep(0.5)  # until the last one's idle threads have stopped spinning
            start = time.perf_counter()
            losses[name], _ = evaluate(image)
            if round_:  # the first warms up
                times[name].append(time.perf_counter() - start)
    reference = np.median(times["PyTorch, default layout"])
    print(f"\n{size} x {size}, sgemm {np.median(peaks):.0f} GFLOP/s (median, same rounds)")
    for name, seconds in times.items():
        median = np.median(seconds)
        print(
            f"  {name:26} {median:7.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})  "
            f"PyTorch default / this: {reference / median:5.2f}   loss {losses[name]:.6g}"
        )


def each_layer(size):
    """Print the effective GFLOP/s (of a direct convolution) of each convolution."""
    engine = nst.VGG19(nst.load_weights(), threads=options.threads).engine
    rng = np.random.default_rng(0)
    print(f"\nconvolutions at {size} x {size}: effective GFLOP/s forward, backward")
    for name, (C_in, C_out) in list(CONVOLUTIONS.items())[:13]:
        side = size >> (int(name[4]) - 1)
        x = rng.uniform(0, 1, (side, side, C_in)).astype("float32")
        dy = rng.uniform(-1, 1, (side, side, C_out)).astype("float32")
        work = 2 * 9 * C_in * C_out * side**2 / 1e9
        rates = []
        for call in (
            lambda name=name, x=x: engine.forward((name,), x, False),
            lambda name=name, x=x, dy=dy: engine.backward((name,), dy, (None, x.shape)),
        ):
            seconds = []
            for _ in range(options.rounds + 1):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            rates.append(work / np.median(seconds[1:]))
        print(f"  {name}  {side:4} px  {C_in:3} -> {C_out:3}  {rates[0]:5.0f}  {rates[1]:5.0f}")


if __name__ == "__main__":
    print(f"{describe(options.threads, options.isa)}, {options.rounds} rounds, float32")
    for side in options.sizes.split(","):
        compare(int(side))
    if options.layers:
        each_layer(int(options.sizes.split(",")[-1]))
