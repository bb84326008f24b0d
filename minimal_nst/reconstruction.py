"""Reconstructions: what of a picture is still in a layer's features, or in its Gram matrices.

A picture is painted from noise by one of the two losses alone. By the content's, at one layer, it
shows what is where as far as that layer knows; by the style's, it becomes a texture, in which what
was near stays near, and everything may be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from .errors import UsageError
from .images import Picture
from .optimize import Callback, Stop
from .pipeline import Painting, stylize
from .settings import Settings, parse_layers

FIGURE_1 = {
    "style": [",".join(f"relu{b}_1" for b in range(1, last + 1)) for last in range(1, 6)],
    "content": [f"relu{block}_2" for block in range(1, 6)],
}
"""Row -> layers of each of its five pictures: Gatys, Ecker & Bethge (2016), Figure 1."""


def reconstruct(
    picture: Picture,
    content_layers: Any = None,
    style_layers: Any = None,
    settings: Settings | None = None,
    callback: Callback | None = None,
    stop: Stop | None = None,
) -> Painting:
    """Rebuild a picture from its features, or a texture from its Gram matrices.

    Parameters
    ----------
    picture : path, PIL image or array
    content_layers, style_layers : str, mapping or iterable
        One of the two, as `settings.parse_layers` takes them.
    settings : Settings, optional
        All but its layers and its start hold; the start is noise.
    callback, stop : callable, optional
        As for `pipeline.stylize`.

    Returns
    -------
    Painting

    Raises
    ------
    UsageError
        If there are layers of both kinds, or of neither.
    NSTError
        As for `pipeline.stylize`.

    References
    ----------
    Mahendran & Vedaldi (2015), "Understanding Deep Image Representations by Inverting Them".
    Gatys, Ecker & Bethge (2015), "Texture Synthesis Using Convolutional Neural Networks".
    """
    settings = Settings() if settings is None else settings
    alone = by_one_loss(replace(settings, init="noise"), content_layers, style_layers)
    return stylize(picture, [picture], alone, callback, stop)


def by_one_loss(
    settings: Settings, content_layers: Any = None, style_layers: Any = None
) -> Settings:
    """Return settings in which the layers of one kind have all the weight, and the range none.

    Parameters
    ----------
    settings : Settings
    content_layers, style_layers : str, mapping or iterable
        One of the two.

    Raises
    ------
    UsageError
        If there are layers of both kinds, or of neither.
    """
    if (content_layers is None) == (style_layers is None):
        raise UsageError(
            "a reconstruction is made either of the content or of the style; give content_layers "
            "or style_layers"
        )
    settings = replace(settings, range_weight=0.0)
    if style_layers is None:
        return replace(settings, content_layers=parse_layers(content_layers), style_weight=0.0)
    return replace(settings, style_layers=parse_layers(style_layers), content_weight=0.0)


def figure_1(settings: Settings) -> Iterator[tuple[str, str, Settings]]:
    """The paper's Figure 1: row, layers and settings of each picture, the deepest first.

    What needs most memory and time comes first, so that what is refused is refused at once.

    Parameters
    ----------
    settings : Settings
    """
    for column in reversed(range(5)):
        for row, layers in FIGURE_1.items():
            chosen = layers[column]
            yield row, chosen, by_one_loss(settings, **{f"{row}_layers": chosen})
