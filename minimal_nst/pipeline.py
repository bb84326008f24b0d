"""The pipeline: pictures in, a painting out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from . import images, memory
from .backend import CPU
from .coordinates import Spectrum
from .errors import NotFinite, UsageError
from .images import Picture
from .objective import Objective
from .optimize import Callback, Minimum, Stop, minimize
from .settings import Settings
from .vgg import VGG19, deprocess, preprocess
from .weights import load_weights

NOISE = 20.0
"""Uniform noise reaches from -20 to 20 in VGG space, as in the course's and cysmith's programs."""


@dataclass
class Painting(Minimum):
    """What `stylize` returns: a `Minimum` whose x is a picture in VGG space.

    Attributes
    ----------
    device : str
        What computed it: 'cpu', 'cuda:0', ...
    """

    device: str = "cpu"

    @property
    def image(self) -> np.ndarray:
        """The best picture seen, clipped to 0..255: (H, W, 3) array of uint8, RGB."""
        image: np.ndarray = np.clip(np.round(deprocess(self.x)), 0, 255).astype(np.uint8)
        return image


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is told, not warned of
def stylize(
    content: Picture,
    style: Picture | Iterable[Picture],
    settings: Settings | None = None,
    callback: Callback | None = None,
    stop: Stop | None = None,
) -> Painting:
    """Paint the content in the style.

    Parameters
    ----------
    content : path, PIL image or array
    style : path, PIL image or array, or several of them
        Several styles share the weight equally.
    settings : Settings, optional
    callback : callable, optional
        Takes a `Progress` after each iteration; if it returns True, the painting ends there.
    stop : callable, optional
        Asked between evaluations; if it returns something true, the painting ends there. A
        `threading.Event().is_set` lets another thread or a signal handler end the work.

    Returns
    -------
    Painting

    Raises
    ------
    FileError, UsageError
        If a picture, the weights or a setting cannot be used; nothing has been computed then.
    OutOfMemory
        If the machine has not as much as will be needed; nothing has been computed then.
    NotFinite
        If a loss or gradient is not finite.
    BaseException
        What else ends the work: a callback's own exception, Ctrl-C, want of memory. Whatever it
        is, once a picture has been evaluated the best one is in its attribute `painting`.

    References
    ----------
    Gatys, Ecker & Bethge (2016), "Image Style Transfer Using Convolutional Neural Networks".
    """
    settings = Settings() if settings is None else settings
    if not isinstance(settings, Settings):
        raise UsageError(f"settings are {settings!r}; pass a Settings, such as Settings(size=256)")
    started = time.monotonic()
    style_size = settings.style_size or settings.size
    option = "style_size" if settings.style_size else "size"
    pictures = _pictures(style)
    content_shape = images.measure(content, settings.size)
    style_shapes = [images.measure(picture, style_size, option) for picture in pictures]
    vgg = VGG19(
        load_weights(settings.weights),
        settings.pooling,
        settings.conv,
        settings.dtype,
        settings.device,
        settings.threads,
    )
    if vgg.backend is CPU and pictures:
        memory.check(settings, content_shape, style_shapes, vgg.threads)
    content_image = images.load(content, settings.size)
    style_images = [images.load(picture, style_size, option) for picture in pictures]
    start = initial_picture(content_image, settings)
    objective = Objective(vgg, content_image, style_images, settings)
    height, width, _ = start.shape
    space = Spectrum(height, width, settings.spectrum, settings.dtype)

    def function(z: np.ndarray) -> tuple[float, np.ndarray]:
        loss, dx = objective.evaluate(start + space.forward(z))
        return loss, space.adjoint(dx)

    def painted(end: Minimum) -> Painting:
        return Painting(**{**vars(end), "x": start + space.forward(end.x)}, device=vgg.backend.name)

    try:
        with scipy.fft.set_workers(vgg.threads):
            end = minimize(
                function,
                np.zeros_like(start),
                settings.optimizer,
                settings.iterations,
                settings.learning_rate,
                callback,
                stop,
                settings.tolerance,
                (settings.max_seconds or math.inf) - (time.monotonic() - started),
            )
    except BaseException as error:
        best: Minimum = vars(error).get("minimum", Minimum(start))
        if best.losses:
            vars(error)["painting"] = painted(best)
        if isinstance(error, NotFinite):
            hint = _remedy(objective, content_image, best.evaluations)
            error.args = (f"{error}; {hint}",)
        raise
    return painted(end)


def _pictures(style: Any) -> list[Any]:
    """One picture (or something that is none at all) or several -> a list."""
    one = isinstance(style, str) or (isinstance(style, np.ndarray) and style.ndim < 4)
    return [style] if one or not isinstance(style, Iterable) else list(style)


def _remedy(objective: Objective, content: np.ndarray, evaluations: int) -> str:
    """What to do about a loss that is not finite."""
    settings = objective.settings
    if evaluations > 1:
        if settings.optimizer == "adam":
            return f"learning_rate is {settings.learning_rate:g}, try less"
        return "try another dtype or smaller weights"
    taps = {**settings.content_taps, **settings.style_taps}
    features = objective.vgg.features(content, taps).values()
    if all(math.isfinite(F.sum(dtype="float64").item()) for F in features):
        return "content_weight, style_weight or tv_weight is too large"
    return "the features are not finite: the weights in the network's file are too large"


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
        content = images.cover(images.load(settings.init), width, height)
    return settings.noise_ratio * noise + (1 - settings.noise_ratio) * preprocess(content)
