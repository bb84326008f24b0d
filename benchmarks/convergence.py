"""How far down after how many evaluations and seconds: ways of walking, on four pairs of pictures.

    pip install ".[reference]"
    python benchmarks/convergence.py --ways programs --size 384 --evaluations 150,300

Every way has a process of its own, whose seconds begin before Python does; all of them minimise the
objective of the preset gatys, unless --preset has ours minimise another. Losses are the best until
then. What was measured is kept in --curves, so that a benchmark goes on where it was ended; --plot
draws it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from machine import describe, prepare

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

PAIRS = {
    "Neuschwanstein x Starry Night": ("neuschwanstein.webp", "vangogh_starry_night_cropped.jpg"),
    "Louvre x Cafe Terrace": ("louvre_night.webp", "vangogh_cafe_terrace.webp"),
    "astronaut x Church at Auvers": ("astronaut.png", "vangogh_church_at_auvers.webp"),
    "chelsea x Langlois Bridge": ("chelsea.png", "vangogh_langlois_bridge.webp"),
}
PYTORCH = {
    "PyTorch, LBFGS": {"search": None},
    "PyTorch, LBFGS, strong Wolfe": {"search": "strong_wolfe"},
}
WAYS = {
    "programs": {
        **PYTORCH,
        "ours": {},
        "ours, own L-BFGS": {"optimizer": "own-lbfgs"},
        "ours, pixels": {"spectrum": 0},
    },
    "coordinates": {
        "lbfgs, pixels": {"spectrum": 0, "optimizer": "lbfgs"},
        "lbfgs, spectrum 0.25": {"spectrum": 0.25, "optimizer": "lbfgs"},
        "lbfgs, spectrum 0.5": {"spectrum": 0.5, "optimizer": "lbfgs"},
        "lbfgs, spectrum 0.75": {"spectrum": 0.75, "optimizer": "lbfgs"},
        "lbfgs, pixels, from noise": {"spectrum": 0, "optimizer": "lbfgs", "init": "noise"},
        "lbfgs, spectrum 0.5, from noise": {"spectrum": 0.5, "optimizer": "lbfgs", "init": "noise"},
        "adam, pixels": {"spectrum": 0, "optimizer": "adam"},
        "adam, spectrum 0.5": {"spectrum": 0.5, "optimizer": "adam"},
    },
}


def ours(content, style, size, most, threads, preset="default", **changes):
    """When each evaluation was done, and its loss."""
    import minimal_nst as nst

    stamps = []
    given = {
        "size": size,
        "margin": 0,
        "range_weight": 0,
        "iterations": 10**6,
        "threads": threads,
        **changes,
    }
    settings = nst.Settings.preset(preset, **given)
    painting = nst.stylize(
        content, style, settings, stop=lambda: stamps.append(time.time()) or len(stamps) >= most
    )
    return stamps, painting.losses


def pytorch(content, style, size, most, threads, search, device="cpu"):
    """The same by PyTorch's LBFGS with its 100 pairs, in one step so that nothing is done twice."""
    import minimal_nst as nst
    import torch
    from minimal_nst import images
    from torch_gatys import Torch

    torch.set_num_threads(threads)
    content, style = images.load(content, size), images.load(style, size)
    objective = Torch(nst.load_weights(), content, style, device=device)
    x = objective.upload(content).requires_grad_()
    stamps, losses = [], []
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=10**6,
        max_eval=most,
        tolerance_grad=0,
        tolerance_change=0,
        line_search_fn=search,
    )

    def closure():
        optimizer.zero_grad()
        loss = objective.loss(x)
        loss.backward()
        losses.append(loss.item())
        stamps.append(time.time())
        return loss

    optimizer.step(closure)
    return stamps, losses


def pictures(title):
    """The paths of a pair."""
    content, style = PAIRS[title]
    return str(ROOT / "examples/content" / content), str(ROOT / "examples/style" / style)


def in_a_process(module, call):
    """When it was started, and what a call of a benchmark returns in a process of its own."""
    started = time.time()
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}, json; print(json.dumps({module}.{call}))"],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return started, json.loads(done.stdout)


def course(title, way, changes, options):
    """Seconds since the start and loss, of each evaluation, in a process of its own."""
    program = "pytorch" if way in PYTORCH else "ours"
    changes = changes if way in PYTORCH else {**changes, "preset": options.preset}
    arguments = (*pictures(title), options.size, max(options.evaluations), options.threads)
    started, (stamps, losses) = in_a_process("convergence", f"{program}(*{arguments}, **{changes})")
    return [stamp - started for stamp in stamps], losses


def until(curve, goal):
    """Evaluations and seconds until the loss is as low as the goal; infinite if it never is."""
    seconds, losses = curve
    below = np.flatnonzero(np.asarray(losses) <= goal)
    return np.array([below[0] + 1, seconds[below[0]]]) if below.size else np.full(2, np.inf)


def table(title, curves, rivals, options):
    """Print how low each way is, and what it needs to be as low as the best rival.

    Returns the shares of the rival's evaluations and seconds: way -> (counts, 2) array.
    """
    print(f"\n{f'{title}, {options.size} px':40}", end="")
    for count in options.evaluations:
        print(
            f"{f'loss at {count}':>12}   {'as low':>7}{'share':>7}{'seconds':>8}{'share':>7}",
            end="",
        )
    shares = {}
    for way, (_, losses) in curves.items():
        print(f"\n  {way:38}", end="")
        shares[way] = []
        for count in options.evaluations:
            goal = min(min(curves[name][1][:count]) for name in rivals)
            best = min((until(curves[name], goal) for name in rivals), key=tuple)
            needed = until(curves[way], goal)
            shares[way].append(needed / best)
            cells = f"{needed[0]:7.0f}{needed[0] / best[0]:7.2f}{needed[1]:8.0f}{needed[1] / best[1]:7.2f}"
            print(
                f"{min(losses[:count]) / 1e6:12.3f}   {cells.replace('inf', '  -')}",
                end="",
                flush=True,
            )
    print()
    return shares


def draw(file, found, options):
    """The courses as a picture, a panel for each pair."""
    from matplotlib import pyplot

    _, axes = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3.6), squeeze=False)
    for axis, (title, curves) in zip(axes[0], found.items(), strict=True):
        for way, (_, losses) in curves.items():
            best = np.minimum.accumulate(losses) / 1e6
            axis.semilogy(np.arange(len(best)) + 1, best, label=way)
        axis.set(title=title, xlabel="evaluations", ylim=(best[-1] / 1.5, 15 * best[-1]))
    axes[0, 0].set_ylabel(f"best loss (millions), {options.size} px")
    axes[0, 0].legend(fontsize="small")
    pyplot.tight_layout()
    pyplot.savefig(file, dpi=80)


def numbers(text):
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ways", choices=WAYS, default="coordinates", help="[%(default)s]")
    parser.add_argument("--only", nargs="+", metavar="WAY", help="some of the ways, by name")
    parser.add_argument("--preset", default="default", help="of ours [%(default)s]")
    parser.add_argument("--size", type=int, default=256, help="[%(default)s]")
    parser.add_argument("--evaluations", type=numbers, default="25,50,100", help="[%(default)s]")
    parser.add_argument(
        "--pairs", type=int, default=len(PAIRS), help="the first so many [%(default)s]"
    )
    parser.add_argument("--threads", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
    parser.add_argument("--curves", type=Path, help="file (JSON) to keep what was measured in")
    parser.add_argument("--plot", type=Path, help="file for a picture of it")
    options = parser.parse_args()
    prepare(options.threads, options.isa)
    kept = (
        json.loads(options.curves.read_text()) if options.curves and options.curves.exists() else {}
    )
    print(describe(options.threads, options.isa))
    ways, found, shares = WAYS[options.ways], {}, []
    if unknown := set(options.only or ()) - set(ways):
        parser.error(f"--only: there is no way {min(unknown)!r}; there are {list(ways)}")
    ways = {way: ways[way] for way in options.only or ways}
    rivals = [way for way in ways if way in PYTORCH] or list(ways)[:1]
    for title in list(PAIRS)[: options.pairs]:
        found[title] = {}
        for way, changes in ways.items():
            key = f"{title}, {options.size} px, {options.isa}, {options.threads} threads: {way}"
            if key not in kept:
                kept[key] = course(title, way, changes, options)
                if options.curves:
                    options.curves.write_text(json.dumps(kept))
            found[title][way] = kept[key]
        shares.append(table(title, found[title], rivals, options))
    print("\nmedian share of the best rival's evaluations, and of its seconds")
    for way in ways:
        median = np.median([pair[way] for pair in shares], axis=0)
        print(f"  {way:38}" + "".join(f"{row[0]:12.2f}{row[1]:8.2f}" for row in median))
    if options.plot:
        draw(options.plot, found, options)
