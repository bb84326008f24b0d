"""Coarse to fine against the full size only, at the same cost: evaluations weighted by pixels.

    python benchmarks/scales.py --size 768 --iterations 50

The iterations are those of each scale; the full size alone then gets as many as cost as much.
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
    "Hawa Mahal x Cafe Terrace": ("hawa_mahal.webp", "vangogh_cafe_terrace.webp"),
}

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=768, help="[%(default)s]")
parser.add_argument("--iterations", type=int, default=50, help="[%(default)s]")
parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many [%(default)s]")
options = parser.parse_args()

cost = 0.0
for title, (content, style) in list(PAIRS.items())[: options.pairs]:
    print(f"{title}, {options.size} px: cost so far, in evaluations at full size, and best loss")
    pictures = ROOT / "examples/content" / content, ROOT / "examples/style" / style
    for scales in ("auto", None):
        settings = nst.Settings(
            size=options.size, margin=0, scales=scales, iterations=options.iterations
        )
        if scales is None:
            settings = nst.Settings(size=options.size, margin=0, iterations=round(cost))
        painting = nst.stylize(*pictures, settings)
        full = painting.x.size
        before = sum(p.evaluations * p.x.size / full for p in painting.coarser)
        cost = before + painting.evaluations
        best = np.minimum.accumulate(painting.losses)
        points = [len(best) * k // 4 for k in (1, 2, 3, 4)]
        sizes = ", ".join(map(str, settings.sizes))
        row = "".join(f"{before + k:8.0f}: {best[k - 1] / 1e6:7.3f}" for k in points)
        print(f"  {sizes:16}{row}", flush=True)
