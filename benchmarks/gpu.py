"""One evaluation and one run on a GPU, against PyTorch on the same card.

    pip install ".[cuda13,reference]" (and a PyTorch for CUDA)
    python benchmarks/gpu.py --sizes 256,512,1024

In each round every contestant has a turn, in a process of its own: some evaluations warm it up, the
next ones count, each until its loss is on the host. Medians of all rounds, ratios of medians, the most
that its arrays took on the card. Then a run, in two processes one after the other, since of the first
on a machine some goes into compiling CuPy's functions. An iteration beside an evaluation is what the
optimiser takes; the same input must give the same bits, and nearly the CPU's painting. On a machine
without a GPU, --device cpu shows that the benchmark works, and no more.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import besides, describe, watch_evaluations

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

OURS = {"ours, fp32": "fp32", "ours, tf32": "tf32"}
PYTORCH = {  # whether its convolutions may use TF32, as they do by default, and its layout
    "PyTorch, fp32": {"tf32": False},
    "PyTorch, fp32, channels_last": {"tf32": False, "channels_last": True},
    "PyTorch, default (TF32)": {"tf32": True},
}
WARM, COUNTED = 5, 20
CONTENT = ROOT / "examples/content/neuschwanstein.webp"
STYLE = ROOT / "examples/style/vangogh_starry_night_cropped.jpg"


def turn(name, size, device):
    """The milliseconds of each evaluation, its loss, and the most bytes on the card."""
    import minimal_nst as nst
    from minimal_nst import images
    from minimal_nst.backend import select
    from minimal_nst.vgg import preprocess

    content, style = (images.resize(images.load(path), size, size) for path in (CONTENT, STYLE))
    image = 0.7 * content + 0.3 * style
    if name in OURS:
        backend = select(device)
        free = lambda: 0 if device == "cpu" else backend.xp.cuda.runtime.memGetInfo()[0]
        at_first = free()
        vgg = nst.VGG19(nst.load_weights(), device=backend)
        with backend.products(OURS[name]):
            objective = nst.Objective(vgg, content, [style], nst.Settings.preset("gatys"))
        described = at_first - free()
        x = backend.upload(preprocess(image), "float32")

        def evaluate():
            with backend.products(OURS[name]):
                return objective.evaluate(x)[0]

        most = lambda: max(described, at_first - free())
    else:
        import torch
        from torch_gatys import Torch

        options = dict(PYTORCH[name])
        torch.backends.cudnn.allow_tf32 = options.pop("tf32")
        torch.backends.cudnn.benchmark = True
        theirs = Torch(nst.load_weights(), content, style, device=device, **options)
        x = theirs.upload(image)
        evaluate = lambda: theirs.at(x)[0]
        most = lambda: torch.cuda.max_memory_allocated() if device == "cuda" else 0
    times = []
    for _ in range(WARM + COUNTED if device == "cuda" else 2):
        start = time.perf_counter()
        loss = evaluate()
        times.append(1000 * (time.perf_counter() - start))
    return times[WARM if device == "cuda" else 1 :], loss, most()


def paint(size, iterations, device):
    """When each iteration was done, and the painting."""
    import minimal_nst as nst

    moments = []
    given = {"size": size, "iterations": iterations, "optimizer": "own-lbfgs"}
    painting = nst.stylize(
        CONTENT,
        STYLE,
        nst.Settings(**given, device=device),
        lambda progress: moments.append(time.perf_counter()),
    )
    return moments, painting


def whole(size, iterations, device):
    """Seconds of a run: CuPy's import, weights, pictures, targets, and the start of the card."""
    start = time.perf_counter()
    paint(size, iterations, device)
    return time.perf_counter() - start


def run(size, iterations, device):
    """Seconds of each iteration but the first, share of all else, same bits?, PSNR to the CPU's.

    The painting that is compared with the CPU's has 20 iterations at 128 pixels, or as few as the run.
    """
    evaluations = watch_evaluations()
    moments, first = paint(size, iterations, device)
    share = besides(evaluations, moments)
    _, again = paint(size, iterations, device)
    here, there = (
        paint(min(size, 128), min(iterations, 20), where)[1].x for where in ("cpu", device)
    )
    error = float(np.mean((here - there) ** 2))
    psnr = 10 * np.log10(255**2 / error) if error else np.inf
    same = bool((first.x == again.x).all())
    return np.diff(moments).tolist(), share, same, psnr


def pytorch_run(size, iterations, device):
    """Seconds of PyTorch's L-BFGS for so many iterations, as neural-style-pt has it: a whole run's."""
    import minimal_nst  # noqa: F401
    import torch  # noqa: F401
    from convergence import pytorch

    start = time.time()
    stamps, _ = pytorch(str(CONTENT), str(STYLE), size, iterations, 2, None, device)
    return stamps[-1] - start


def card():
    """Its name, and CuPy's version."""
    import cupy

    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return f"{name}, CuPy {cupy.__version__}"


def ask(call):
    """What a function of this file returns, in a process of its own."""
    code = f"import gpu, json; print(json.dumps(gpu.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def evaluations(size, options):
    """Print a row for each contestant at one size."""
    everybody = (*OURS, *PYTORCH) if options.device == "cuda" else ("ours, fp32", "PyTorch, fp32")
    times = {name: [] for name in everybody}
    losses, most = {}, {}
    for _ in range(options.rounds):
        for name, found in times.items():
            seconds, losses[name], most[name] = ask(f"turn({name!r}, {size}, {options.device!r})")
            found += seconds
    reference = statistics.median(times["PyTorch, fp32"])
    print(f"\n{size} x {size}")
    for name, found in times.items():
        median = statistics.median(found)
        print(
            f"  {name:29} {median:8.2f} ms  PyTorch fp32 / this: {reference / median:5.2f}   "
            f"{most[name] / 2**20:6.0f} MiB   loss {losses[name]:.6g}",
            flush=True,
        )


def runs(options):
    """Print what a run takes, and whether it can be repeated."""
    size, iterations, device = options.run, options.iterations, options.device
    first, second = (ask(f"whole({size}, {iterations}, {device!r})") for _ in range(2))
    seconds, share, same, psnr = ask(f"run({size}, {iterations}, {device!r})")
    theirs = ask(f"pytorch_run({size}, {iterations}, {device!r})")
    print(f"\na run at {size} px, {iterations} iterations")
    print(
        f"  ours {first:.1f} s, and when it is compiled {second:.1f} s; PyTorch's LBFGS {theirs:.1f} s;"
    )
    print("    all from the weights on, ours with the import of CuPy, PyTorch's without its own")
    print(f"  ours: {1000 * statistics.median(seconds):.2f} ms an iteration")
    print(f"  all but the evaluations: {100 * share:.0f} % (second half of the run)")
    print(f"  same input, same bits: {'yes' if same else 'NO'}")
    print(f"  PSNR of the GPU's and the CPU's painting, 20 iterations at 128 px: {psnr:.1f} dB")
    sys.stdout.flush()


def numbers(text):
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=numbers, default="256,512,1024", help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="[%(default)s]")
    parser.add_argument("--run", type=int, default=512, help="size of a run; 0: none [%(default)s]")
    parser.add_argument("--iterations", type=int, default=500, help="of a run [%(default)s]")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="[%(default)s]")
    options = parser.parse_args()
    where = ask("card()") if options.device == "cuda" else "cpu"
    print(f"{describe(2, 'native')}, {where}, {options.rounds} rounds, float32", flush=True)
    if options.run:
        runs(options)
    for size in options.sizes:
        evaluations(size, options)
