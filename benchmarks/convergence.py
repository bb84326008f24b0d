"""How far down after how many evaluations: ways of walking, on four pairs of pictures.

    python benchmarks/convergence.py --size 256 --evaluations 25,50,100

Losses are the best until then, in units of 1e6, all of the same objective (the preset gatys). The
last column: after how many evaluations the loss is as low as the first way's is in the end.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import minimal_nst as nst

PAIRS = {
    "Neuschwanstein x Starry Night": ("neuschwanstein.webp", "vangogh_starry_night_cropped.jpg"),
    "Louvre x Cafe Terrace": ("louvre_night.webp", "vangogh_cafe_terrace.webp"),
    "astronaut x Church at Auvers": ("astronaut.png", "vangogh_church_at_auvers.webp"),
    "chelsea x Langlois Bridge": ("chelsea.png", "vangogh_langlois_bridge.webp"),
}
WAYS = {
    "lbfgs, pixels": {"spectrum": 0},
    "lbfgs, spectrum 0.25": {"spectrum": 0.25},
    "lbfgs, spectrum 0.5": {"spectrum": 0.5},
    "lbfgs, spectrum 0.75": {"spectrum": 0.75},
    "lbfgs, pixels, from noise": {"spectrum": 0, "init": "noise"},
    "lbfgs, spectrum 0.5, from noise": {"spectrum": 0.5, "init": "noise"},
    "adam, pixels": {"spectrum": 0, "optimizer": "adam"},
    "adam, spectrum 0.5": {"spectrum": 0.5, "optimizer": "adam"},
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=256, help="[%(default)s]")
parser.add_argument("--evaluations", default="25,50,100", help="[%(default)s]")
parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many [%(default)s]")
options = parser.parse_args()


def course(content, style, most, **changes):
    """The lowest loss until each evaluation."""
    done = []
    settings = nst.Settings(size=options.size, iterations=10**6, **changes)
    painting = nst.stylize(
        ROOT / "examples/content" / content,
        ROOT / "examples/style" / style,
        settings,
        stop=lambda: done.append(1) or len(done) >= most,
    )
    return np.minimum.accumulate(painting.losses)


evaluations = [int(count) for count in options.evaluations.split(",")]
for title, (content, style) in list(PAIRS.items())[: options.pairs]:
    head = "".join(f"{count:9}" for count in evaluations)
    print(f"{title + f', {options.size} px':47}{head}     as low")
    goal = None
    for name, changes in WAYS.items():
        losses = course(content, style, max(evaluations), **changes)
        row = "".join(f"{losses[count - 1] / 1e6:9.3f}" for count in evaluations)
        goal = losses[-1] if goal is None else goal
        below = np.flatnonzero(losses <= goal)
        print(f"  {name:45}{row}{below[0] + 1 if below.size else '-':>11}", flush=True)
