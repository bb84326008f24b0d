"""What is taken for a picture: one check for files, networks and objectives."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from .errors import UsageError


def as_picture(picture: Any, name: str = "the picture", channels: Collection[int] = (3,)) -> Any:
    """Return a picture as an array, or say in one line why it is none.

    Parameters
    ----------
    picture : array_like
        (H, W, 3) numbers, RGB, 0..255.
    name : str
        What the message calls it.
    channels : collection of int
        What the last axis may hold; with 0 among them, there may be no such axis (grey).

    Returns
    -------
    array
        The same numbers.

    Raises
    ------
    UsageError
        If the shape is another one, or the values are not finite real numbers in 0..255.
    """
    try:
        array = np.asarray(picture)
    except (ValueError, TypeError) as error:  # ragged lists; arrays on a GPU
        raise UsageError(f"{name} is no array of numbers ({error}); pass a NumPy array") from None
    if array.ndim not in (2, 3) or (array.shape[2] if array.ndim == 3 else 0) not in channels:
        raise UsageError(f"{name} is an array of shape {array.shape}; pass (H, W, 3)")
    if array.size == 0:
        raise UsageError(f"{name} is an array of shape {array.shape}, without a pixel")
    if array.dtype.kind not in "uif":
        raise UsageError(f"{name} holds {array.dtype}; pass real numbers in 0..255")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds values that are not finite; pass numbers in 0..255")
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and 0 < high <= 1:
        raise UsageError(f"{name} has values up to {high} only; scale them to 0..255")
    if low < 0 or high > 255:
        raise UsageError(f"{name} has values from {low} to {high}; scale them to 0..255")
    return array
