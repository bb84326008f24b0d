"""Paint five presets on three pairs of pictures, and lay them out on one sheet.

    python examples/paint.py            # about ten minutes on two cores
    python examples/paint.py --size 128 --iterations 50

Writes examples/paintings/{preset}_{content}.jpg and examples/paintings/presets.jpg.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import minimal_nst as nst
from minimal_nst import images, saving

PAIRS = {
    "neuschwanstein": ("neuschwanstein.webp", "vangogh_starry_night_cropped.jpg"),
    "louvre": ("louvre_night.webp", "vangogh_cafe_terrace.webp"),
    "astronaut": ("astronaut.png", "vangogh_church_at_auvers.webp"),
}
ROW = 200  # height of the sheet's rows in pixels

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--size", type=int, default=320, help="[%(default)s]")
parser.add_argument("--iterations", type=int, default=120, help="[%(default)s]")
options = parser.parse_args()

rows = []
for preset in ("default", "balanced", "gatys", "course", "cysmith"):
    row = []
    for name, (content, style) in PAIRS.items():
        settings = nst.Settings.preset(preset, size=options.size, iterations=options.iterations)
        painting = nst.stylize(HERE / "content" / content, HERE / "style" / style, settings)
        saving.save(painting.image, HERE / "paintings" / f"{preset}_{name}.jpg")
        print(f"{preset} {name}: loss {painting.losses[0]:.4g} -> {painting.loss:.4g}", flush=True)
        height, width, _ = painting.image.shape
        row.append(images.resize(painting.image, round(width * ROW / height), ROW))
    rows.append(row)
sheet = Image.new("RGB", (sum(image.shape[1] for image in rows[0]), ROW * len(rows)))
for down, row in enumerate(rows):
    left = 0
    for image in row:
        sheet.paste(Image.fromarray(image), (left, ROW * down))
        left += image.shape[1]
sheet.save(HERE / "paintings" / "presets.jpg", quality=92)
