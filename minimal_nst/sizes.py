"""How large: from what was asked for, and what the pictures are, the sizes that are painted.

Everything is derived from one number, the longer side of the painting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from . import images
from .images import Picture
from .settings import SMALLEST, Settings


def settle(settings: Settings, content: Picture) -> Settings:
    """Return the settings with `size` as a number, whichever way it was asked for.

    Parameters
    ----------
    settings : Settings
        Its size, size_pixels, width and height are used; the last two, and then the number of
        pixels, are before the size. All keep the content's aspect.
    content : path, PIL image or array

    Returns
    -------
    Settings

    Raises
    ------
    FileError, UsageError
        If the content cannot be read, or would be too small or too large.
    """
    width, height, pixels = settings.width, settings.height, settings.size_pixels
    if settings.size != "original" and not (width or height or pixels):
        return settings
    high, wide = images.measure(content)
    scale = 1.0
    if width or height:
        scale = min((width or math.inf) / wide, (height or math.inf) / high)
    elif pixels:
        scale = math.sqrt(pixels / (wide * high))
    size = max(SMALLEST, round(scale * max(wide, high)))
    return replace(settings, size=size, size_pixels=None, width=None, height=None)


def style_size(settings: Settings) -> tuple[int, str]:
    """The style pictures' longer side, and which option says so."""
    if settings.style_size:
        return settings.style_size, "style_size"
    size = max(SMALLEST, round(settings.style_scale * settings.longer))
    return size, "size" if settings.style_scale == 1 else "style_scale"


def each_scale(settings: Settings) -> Iterator[Settings]:
    """The settings of each scale, from the smallest: style pictures shrink as the painting does."""
    for size in settings.sizes:
        smaller = settings.style_size
        if smaller:
            smaller = max(SMALLEST, round(smaller * size / settings.longer))
        yield replace(settings, size=size, style_size=smaller, scales=None)
