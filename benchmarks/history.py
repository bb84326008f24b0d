"""How many pairs should L-BFGS remember? Final loss against memory.

    python benchmarks/history.py --size 192 --iterations 150

The memory is what SciPy's L-BFGS-B takes, (2 m + 5) vectors of float64, for a picture of 512x512.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
import minimal_nst as nst
from minimal_nst import images
from minimal_nst.optimize import minimize
from minimal_nst.pipeline import initial_picture

PAIRS = {
    "Neuschwanstein x Starry Night": ("neuschwanstein.webp", "vangogh_starry_night_cropped.jpg"),
    "Louvre x Cafe Terrace": ("louvre_night.webp", "vangogh_cafe_terrace.webp"),
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=192, help="[%(default)s]")
parser.add_argument("--iterations", type=int, default=150, help="[%(default)s]")
parser.add_argument("--pairs", default="5,10,20,40", help="[%(default)s]")
options = parser.parse_args()

vgg = nst.VGG19(nst.load_weights())
for title, (content, style) in PAIRS.items():
    pictures = [
        images.load(ROOT / "examples" / folder / name, options.size)
        for folder, name in (("content", content), ("style", style))
    ]
    objective = nst.Objective(vgg, pictures[0], pictures[1:], nst.Settings.preset("gatys"))
    start = initial_picture(pictures[0], nst.Settings.preset("gatys"))
    print(f"{title}, {options.size} px, preset gatys")
    for pairs in map(int, options.pairs.split(",")):
        end = minimize(objective.evaluate, start, iterations=options.iterations, history=pairs)
        megabytes = (2 * pairs + 5) * 512 * 512 * 3 * 8 / 2**20
        print(
            f"  {pairs:3} pairs: loss {end.loss:.4g} after {end.iterations} iterations, "
            f"{end.evaluations} evaluations; {megabytes:.0f} MB at 512x512",
            flush=True,
        )
