"""The pipeline: pictures in, a painting out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import images
from .errors import UsageError
from .images import Picture
from .objective import Objective
from .optimize import Callback, minimize
from .settings import Settings
from .vgg import VGG19, deprocess, preprocess
from .weights import load_weights

NOISE = 20.0
"""Uniform noise reaches from -20 to 20 in VGG space, as in the course's and cysmith's programs."""


@dataclass(frozen=True)
class Painting:
    """What `stylize` returns.

    Attributes
    ----------
    image : (H, W, 3) array of uint8
        The best picture seen, RGB.
    loss : float
        Its loss, before clipping to 0..255.
    losses : list of float
        The loss of each evaluation.
    iterations, evaluations : int
    stopped_because : str
    interruption : KeyboardInterrupt or None
        What stopped it, if somebody did (Ctrl-C).
    failed : bool
        Whether a loss that is not a finite number ended it; the image is the last good one.
    """

    image: np.ndarray
    loss: float
    losses: list[float]
    iterations: int
    evaluations: int
    stopped_because: str
    interruption: KeyboardInterrupt | None
    failed: bool


def stylize(
    content: Picture,
    style: Picture | Sequence[Picture],
    settings: Settings | None = None,
    callback: Callback | None = None,
) -> Painting:
    """Paint the content in the style.

    Parameters
    ----------
    content : path, PIL image or array
    style : path, PIL image or array, or a sequence of them
        Several styles share the weight equally.
    settings : Settings, optional
    callback : callable, optional
        Takes a `Progress` after each iteration; if it returns True, the painting ends there.

    Returns
    -------
    Painting

    Raises
    ------
    FileError, UsageError
        If a picture, the weights or a setting cannot be used; nothing has been computed then.
    RunError
        If the loss of the start is not finite.

    References
    ----------
    Gatys, Ecker & Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks".
    """
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise UsageError(f"settings are {settings!r}; pass a Settings, such as Settings(size=256)")
    style_size = settings.style_size or settings.size
    pictures: list[Any] = list(style) if isinstance(style, list | tuple) else [style]
    content_image = images.load(content, settings.size)
    style_images = [images.load(picture, style_size) for picture in pictures]
    start = initial_picture(content_image, settings)
    weights = load_weights(settings.weights)
    vgg = VGG19(
        weights,
        settings.pooling,
        settings.conv,
        settings.dtype,
        settings.device,
        settings.threads,
    )
    objective = Objective(vgg, content_image, style_images, settings)
    end = minimize(
        objective.evaluate,
        start,
        settings.optimizer,
        settings.iterations,
        settings.learning_rate,
        callback,
    )
    return Painting(
        image=np.clip(np.round(deprocess(end.x)), 0, 255).astype(np.uint8),
        loss=end.loss,
        losses=end.losses,
        iterations=end.iterations,
        evaluations=end.evaluations,
        stopped_because=end.stopped_because,
        interruption=end.interruption,
        failed=end.failed,
    )


def initial_picture(content: np.ndarray, settings: Settings) -> np.ndarray:
    """Return where the optimiser starts: the content, noise or a picture, mixed with noise.

    The noise is drawn by NumPy whatever the device, so that CPU and GPU start alike.

    Parameters
    ----------
    content : (H, W, 3) array of uint8
    settings : Settings
        Its init, noise_ratio and seed are used.

    Returns
    -------
    (H, W, 3) array
        In VGG space, float64.
    """
    height, width, _ = content.shape
    noise = np.random.default_rng(settings.seed).uniform(-NOISE, NOISE, content.shape)
    if settings.init == "noise":
        return noise
    if settings.init != "content":
        content = images.resize(images.load(settings.init), width, height)
    return settings.noise_ratio * noise + (1 - settings.noise_ratio) * preprocess(content)
