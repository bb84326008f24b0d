"""What is given to paint with: style pictures, gathered from files and folders, and masks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from . import images
from .errors import UsageError
from .images import Picture
from .objective import check_number


def gather(style: Any, weights: Sequence[float] | None = None) -> tuple[list[Any], Any]:
    """Return the style pictures, those of a folder one by one, and how much each counts.

    Parameters
    ----------
    style : path, PIL image or array, or several of them
        What is neither is passed on, and refused where it is opened.
    weights : sequence of float, optional
        `Settings.style_blend_weights`: one for each; the pictures of a folder share its weight.

    Returns
    -------
    pictures : list
    weights : list of float or None
        Of each picture; None if all are alike.

    Raises
    ------
    FileError, UsageError
        If a folder has no pictures, or there are more or fewer weights than styles.
    """
    one = isinstance(style, str | os.PathLike) or (isinstance(style, np.ndarray) and style.ndim < 4)
    groups = [
        images.folder(item) if isinstance(item, str | os.PathLike) else [item]
        for item in ([style] if one or not isinstance(style, Iterable) else style)
    ]
    if weights is not None:
        if len(weights) != len(groups):
            raise UsageError(
                f"style_blend_weights are {','.join(f'{w:g}' for w in weights)}, for "
                f"{len(groups)} style pictures; give one for each"
            )
        pairs = zip(groups, weights, strict=True)
        weights = [weight / len(group) for group, weight in pairs for _ in group]
    return [picture for group in groups for picture in group], weights


class Masks:
    """The masks' pictures, at whatever size they are wanted; what cannot be used is refused."""

    def __init__(
        self,
        content: Picture,
        styles: list[Any],
        content_masks: Iterable[Picture] | None,
        style_masks: Iterable[Picture | None] | None,
    ) -> None:
        self._wanted = None if content_masks is None else list(content_masks)
        self._taken = None if style_masks is None else list(style_masks)
        for whose, masks in (("content", self._wanted), ("style", self._taken)):
            if masks is not None:
                check_number(masks, whose, len(styles))
        pairs: list[tuple[Any, Any]] = [(mask, content) for mask in self._wanted or []]
        pairs += [(mask, style) for mask, style in zip(self._taken or [], styles, strict=False)]
        for mask, picture in pairs:
            if mask is not None:
                sides = images.measure(picture)
                images.mask(mask, *sides, sides)

    @property
    def given(self) -> bool:
        """Whether there are any."""
        return bool(self._wanted or self._taken)

    def of(
        self, content: np.ndarray, styles: list[np.ndarray]
    ) -> tuple[list[np.ndarray] | None, list[np.ndarray | None] | None]:
        """Those of the content and of the styles, of the sizes that these have."""
        wanted = taken = None
        if self._wanted is not None:
            wanted = [images.mask(mask, *content.shape[:2]) for mask in self._wanted]
        if self._taken is not None:
            taken = [
                None if mask is None else images.mask(mask, *style.shape[:2])
                for mask, style in zip(self._taken, styles, strict=True)
            ]
        return wanted, taken
