"""One evaluation (loss and gradient of the preset gatys) against PyTorch, interleaved in one run.

    pip install ".[reference]"
    python benchmarks/evaluation.py --sizes 256,512,1024

Each round evaluates every contestant once, in turn; medians and ratios of medians are printed,
with the peak of sgemm measured in the same rounds. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--sizes", default="256,512", help="side of the square pictures [%(default)s]")
parser.add_argument("--threads", type=int, default=2, help="for everybody [%(default)s]")
parser.add_argument("--rounds", type=int, default=5, help="[%(default)s]")
parser.add_argument("--best", action="store_true", help="also PyTorch's other ways of doing it")
parser.add_argument("--layers", action="store_true", help="also our convolutions one by one")
options = parser.parse_args()
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(options.threads)

import numpy as np
import torch
import torch.nn.functional as nnf

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import minimal_nst as nst
from minimal_nst import images
from minimal_nst.architecture import CONVOLUTIONS

torch.set_num_threads(options.threads)
STYLE_TAPS = {"conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"}


class Torch:
    """The same objective as the preset gatys, by autograd."""

    def __init__(self, weights, content, style, channels_last=False, compiled=False):
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.parameters = []
        for name in list(CONVOLUTIONS)[:13]:
            kernel, bias = weights[name.replace("conv", "block").replace("_", "_conv")]
            kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous()
            bias = torch.from_numpy(bias.copy())
            self.parameters.append((name, kernel.to(memory_format=self.format), bias))
        with torch.no_grad():
            self.content = self.features(self.upload(content))[0].clone()
            self.grams = [self.gram(F) for F in self.features(self.upload(style))[1]]
        self.evaluate = torch.compile(self.loss) if compiled else self.loss

    def upload(self, image):
        x = image.astype("float32")[..., ::-1] - np.float32([103.939, 116.779, 123.68])
        x = torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1)))[None]
        return x.contiguous(memory_format=self.format)

    def features(self, x):
        styles, content = [], None
        for name, kernel, bias in self.parameters:
            if name.endswith("_1") and name != "conv1_1":
                x = nnf.max_pool2d(x, 2)
            x = nnf.relu(nnf.conv2d(x, kernel, bias, padding=1))
            if name in STYLE_TAPS:
                styles.append(x)
            if name == "conv4_2":
                content = x
        return content, styles

    @staticmethod
    def gram(F):
        F = F.reshape(F.shape[1], -1)
        return F @ F.T / F.shape[1]

    def loss(self, x):
        content, styles = self.features(x)
        loss = nnf.mse_loss(content, self.content)
        for F, A in zip(styles, self.grams, strict=True):
            loss = loss + 1e3 / F.shape[1] ** 2 * nnf.mse_loss(self.gram(F), A)
        return loss

    def __call__(self, image):
        x = self.upload(image).requires_grad_()
        loss = self.evaluate(x)
        loss.backward()
        return loss.item(), x.grad


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
    print(
        f"{platform.machine()}, {options.threads} threads, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, PyTorch {torch.__version__}, {options.rounds} rounds, float32"
    )
    for side in options.sizes.split(","):
        compare(int(side))
    if options.layers:
        each_layer(int(options.sizes.split(",")[-1]))
