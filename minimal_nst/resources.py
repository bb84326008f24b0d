"""Files that come with the program: the embedded weights and a pair of pictures."""

from __future__ import annotations

from pathlib import Path


def bundled(name: str) -> Path:
    """Return the path of a bundled file, e.g. 'weights/vgg19.h5'.

    A wheel carries it inside the package, under ``data``; in a source tree (and so in an editable
    install) it lies beside the package.
    """
    package = Path(__file__).parent
    inside = package / "data" / name
    return inside if inside.exists() else package.parent / name


CASTLE = bundled("examples/content/neuschwanstein.webp")
STARRY_NIGHT = bundled("examples/style/vangogh_starry_night_cropped.jpg")
"""The pair of pictures that the demo and the course paint."""
