"""One evaluation (loss and gradient of the preset gatys) against PyTorch, interleaved in one run.

    pip install ".[reference]"
    python benchmarks/evaluation.py --sizes 256,512,1024 --best

In each round every contestant has a turn, in a process of its own, since together they would not
fit in the memory of a small machine: one evaluation warms it up, the next two count. Medians of all
rounds and ratios of medians are printed, with the peak of each process' memory beyond its
libraries, and the speed of sgemm, which has its turn too. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import describe, peak, prepare

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

OURS = {
    "ours, winograd": {"conv": "winograd"},
    "ours, im2col (textbook)": {"conv": "im2col"},
}
DEFAULT = "PyTorch, default layout"
BEST = {
    "PyTorch, channels_last": {"channels_last": True},
    "PyTorch, torch.compile": {"channels_last": True, "compiled": True},
}
WARM, COUNTED = 1, 2


def contestant(name, size, threads):
    """A function of a picture, and the picture."""
    import minimal_nst as nst
    from minimal_nst import images

    def picture(name):
        return images.resize(images.load(ROOT / "examples" / name), size, size)

    content = picture("content/neuschwanstein.webp")
    style = picture("style/vangogh_starry_night_cropped.jpg")
    image = (0.7 * content + 0.3 * style).astype("float64")
    if name in OURS:
        vgg = nst.VGG19(nst.load_weights(), threads=threads, **OURS[name])
        return nst.Objective(vgg, content, [style], nst.Settings.preset("gatys")), image
    import torch
    from torch_gatys import Torch

    torch.set_num_threads(threads)
    return Torch(nst.load_weights(), content, style, **BEST.get(name, {})), image


def turn(name, size, threads):
    """Print the seconds of each evaluation, the loss and the peak of memory in bytes."""
    import minimal_nst  # noqa: F401

    if name not in OURS:
        import torch_gatys  # noqa: F401
    before = peak()  # with the libraries
    evaluate, image = contestant(name, size, threads)
    seconds = []
    for _ in range(WARM + COUNTED):
        start = time.perf_counter()
        loss, _ = evaluate(image)
        seconds.append(time.perf_counter() - start)
    print(json.dumps([seconds[WARM:], loss, peak() - before]))


def sgemm():
    """Print the GFLOP/s of matrix products of 2048 x 2048, by all threads."""
    import numpy as np

    a = np.ones((2048, 2048), "float32")
    rates = []
    for _ in range(WARM + COUNTED):
        start = time.perf_counter()
        a @ a
        rates.append(2 * 2048**3 / (time.perf_counter() - start) / 1e9)
    print(json.dumps(rates[WARM:]))


def ask(call):
    """What a function of this file prints, in a process of its own."""
    code = f"import evaluation; evaluation.{call}"
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def compare(size, threads, options):
    """Print a row for each contestant at one size."""
    names = [*OURS, DEFAULT, *(BEST if options.best else ())]
    rates, times, losses, peaks = [], {name: [] for name in names}, {}, {}
    for _ in range(options.rounds):
        rates += json.loads(ask("sgemm()"))
        for name in list(times):
            try:
                found = json.loads(ask(f"turn({name!r}, {size}, {threads})"))
            except subprocess.CalledProcessError:  # its traceback has been printed
                del times[name]
                continue
            seconds, losses[name], peaks[name] = found
            times[name] += seconds
    reference = statistics.median(times[DEFAULT])
    print(f"\n{size} x {size}, sgemm {statistics.median(rates):.0f} GFLOP/s (median, same rounds)")
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"  {name:26} {median:7.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})  "
            f"PyTorch default / this: {reference / median:5.2f}   {peaks[name] / 2**20:5.0f} MiB   "
            f"loss {losses[name]:.6g}",
            flush=True,
        )


def each_layer(size, threads, rounds):
    """Print the effective GFLOP/s (of a direct convolution) of each convolution."""
    import minimal_nst as nst
    import numpy as np
    from minimal_nst.architecture import CONVOLUTIONS

    engine = nst.VGG19(nst.load_weights(), threads=threads).engine
    rng = np.random.default_rng(0)
    print(f"\nconvolutions at {size} x {size}: effective GFLOP/s forward, backward")
    for name, (C_in, C_out) in list(CONVOLUTIONS.items())[:13]:
        side = size >> (int(name[4]) - 1)
        x = rng.uniform(0, 1, (side, side, C_in)).astype("float32")
        dy = rng.uniform(-1, 1, (side, side, C_out)).astype("float32")
        work = 2 * 9 * C_in * C_out * side**2 / 1e9
        rates = []
        for call in (
            lambda name=name, x=x: engine.forward((name,), x, name == "conv1_1"),
            lambda name=name, x=x, dy=dy: engine.backward((name,), dy, (None, x)),
        ):
            seconds = []
            for _ in range(WARM + rounds):
                start = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - start)
            rates.append(work / statistics.median(seconds[WARM:]))
        print(f"  {name}  {side:4} px  {C_in:3} -> {C_out:3}  {rates[0]:5.0f}  {rates[1]:5.0f}")


def numbers(text):
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=numbers, default="256,512", help="[%(default)s]")
    parser.add_argument("--threads", type=numbers, default="2", help="for everybody [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--best", action="store_true", help="also PyTorch's other ways of doing it")
    parser.add_argument("--layers", action="store_true", help="also our convolutions one by one")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
    options = parser.parse_args()
    for threads in options.threads:
        prepare(threads, options.isa)
        print(f"{describe(threads, options.isa)}, {options.rounds} rounds, float32")
        for size in options.sizes:
            compare(size, threads, options)
        if options.layers:
            print(ask(f"each_layer({options.sizes[-1]}, {threads}, {options.rounds})"), end="")
