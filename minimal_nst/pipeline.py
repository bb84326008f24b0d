"""The pipeline: pictures in, a painting out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.fft

from . import colors, images, memory, regions
from .architecture import canvas
from .backend import CPU, Array, Backend, select, sum_of
from .checkpoint import Checkpoint
from .coordinates import ROW, ROW_ON_GPU, Spectrum, bands
from .errors import NotFinite, UsageError
from .images import Picture
from .inputs import Masks, gather
from .memory import Shape
from .objective import Objective
from .optimize import Callback, Minimum, Progress, Stop, minimize
from .recording import recorder
from .settings import HISTORY, STARTS, Settings
from .sizes import each_scale, settle, style_size
from .vgg import VGG19, deprocess, preprocess
from .weights import load_weights

ADAM = ("beta1", "beta2", "epsilon", "decay", "decay_every")
"""Fields of `Settings` that are Adam's alone."""

Tell = Callable[[Progress, list[dict[str, float]], Callable[[Minimum], "Painting"]], object]
"""Told of an iteration, the terms of all evaluations, and how to make a painting of a minimum."""

Added = tuple[tuple[int, int], tuple[int, int]]
"""What `architecture.canvas` says."""


@dataclass
class Painting(Minimum):
    """What `stylize` returns: a `Minimum` whose x is a picture in VGG space.

    It is the finished one: where light and dark alone were painted, x has the content's colours, and
    `loss` is that of the grey picture which the optimiser had.

    Attributes
    ----------
    device : str
        What computed it: 'cpu', 'cuda:0', ...
    terms : list of dict
        What the loss of each evaluation is made of: `Objective.terms`.
    coarser : list of Painting
        Those at the smaller scales, the first of them the first. Losses of different sizes do not
        compare; those of this one are of the last scale that was reached.
    """

    device: str = "cpu"
    terms: list[dict[str, float]] = field(default_factory=list, repr=False)
    coarser: list[Painting] = field(default_factory=list)

    @property
    def image(self) -> np.ndarray:
        """The best picture seen, clipped to 0..255: (H, W, 3) array of uint8, RGB."""
        image: np.ndarray = np.clip(np.round(deprocess(self.x)), 0, 255).astype(np.uint8)
        return image

    @property
    def lowered(self) -> bool:
        """Whether any step, at any scale, has lowered the loss."""
        return super().lowered or any(painting.lowered for painting in self.coarser)


@dataclass(frozen=True)
class PaintingProgress(Progress):
    """What `stylize` tells its callback after each iteration, counted over all scales.

    Attributes
    ----------
    size : int
        Longer side of the scale that is painted.
    terms : list of dict
        What the loss of each evaluation at this scale is made of; it goes on growing.
    """

    size: int
    terms: list[dict[str, float]] = field(repr=False)
    finish: Callable[[], Painting] = field(repr=False)

    @property
    def painting(self) -> Painting:
        """The best so far, as `stylize` would return it now: of full size, in its colours."""
        return self.finish()


@np.errstate(over="ignore", invalid="ignore")  # what is not finite is told, not warned of
def stylize(
    content: Picture,
    style: Picture | Iterable[Picture],
    settings: Settings | None = None,
    callback: Callback | None = None,
    stop: Stop | None = None,
    content_masks: Iterable[Picture] | None = None,
    style_masks: Iterable[Picture | None] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Painting:
    """Paint the content in the style.

    Parameters
    ----------
    content : path, PIL image or array
    style : path, PIL image or array, or several of them
        Several styles share the weight, equally or as `Settings.style_blend_weights` say. A folder
        stands for the pictures in it.
    settings : Settings, optional
    callback : callable, optional
        Takes a `PaintingProgress` after each iteration; if it returns True, the painting ends
        there.
    stop : callable, optional
        Asked between evaluations; if it returns something true, the painting ends there. A
        `threading.Event().is_set` lets another thread or a signal handler end the work.
    content_masks : pictures, optional
        For each style, where it is wanted: white. What is black in all of them stays as it is.
    style_masks : pictures, optional
        For each style, what of it is taken: white. None is all of it.
    checkpoint : Checkpoint, optional
        Filled as it is painted, so that at every moment, in a callback or after whatever end, it can
        be saved or given again; if it is filled already, the painting goes on from there. The pictures
        and masks must be the same; `Settings.iterations` are those of before as well.

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
    backend = select(settings.device)
    with backend.working(), backend.products(settings.precision):
        return _stylize(
            content,
            style,
            settings,
            backend,
            callback,
            stop,
            (content_masks, style_masks),
            checkpoint,
        )


def _stylize(
    content: Picture,
    style: Picture | Iterable[Picture],
    settings: Settings,
    backend: Backend,
    callback: Callback | None,
    stop: Stop | None,
    given_masks: tuple[Any, Any],
    checkpoint: Checkpoint | None,
) -> Painting:
    deadline = time.monotonic() + (settings.max_seconds or math.inf)
    pictures, shares = gather(style, settings.style_blend_weights)
    settings = replace(settle(settings, content), style_blend_weights=shares)
    if checkpoint is not None:
        checkpoint.begin(settings, backend)
    masks = Masks(content, pictures, *given_masks)
    scales = list(each_scale(settings))
    shapes = [_measure(content, pictures, scale) for scale in scales]
    vgg = VGG19(
        load_weights(settings.weights),
        settings.pooling,
        settings.conv,
        settings.dtype,
        backend,
        settings.threads,
    )
    if pictures:
        memory.check(settings, *shapes[-1], vgg.workers.threads, masks.given, backend.free())
    full = _load(content, settings)
    done = [] if checkpoint is None else [Painting(**scale) for scale in checkpoint.coarser]
    try:
        for scale in scales[len(done) :]:
            image = full if scale.size == settings.size else _load(content, scale)
            problem = _posed(vgg, image, pictures, scale, masks, done)
            tell = _telling(callback, done, full, settings, scale.longer)
            seconds = deadline - time.monotonic()
            done.append(_paint(*problem, tell, stop, seconds, checkpoint))
            if done[-1].asked:
                break
            if checkpoint is not None and scale is not scales[-1]:
                checkpoint.next_scale(done[-1])
    except BaseException as error:
        if "painting" in vars(error):
            done.append(vars(error)["painting"])
        if done:
            vars(error)["painting"] = _finished(done, full, settings)
        raise
    return _finished(done, full, settings)


def _posed(
    vgg: VGG19,
    content: np.ndarray,
    pictures: list[Any],
    scale: Settings,
    masks: Masks,
    done: list[Painting],
) -> tuple[Objective, np.ndarray, np.ndarray, np.ndarray | None, Added]:
    """What there is to paint at one scale: objective, content, start, region and margin."""
    image, styles = _recolored(content, _styles(pictures, scale), scale.colors)
    wanted, taken = masks.of(image, styles)
    added = canvas(image.shape[0], image.shape[1], scale.margin)
    margined = _mirrored(image, added)
    if wanted is not None:
        wanted = [_mirrored(mask, added) for mask in wanted]
    if done:
        start = _mirrored(images.resize(done[-1].x, image.shape[1], image.shape[0]), added)
    else:
        start = initial_picture(image, scale, next(iter(styles), None), added)
    start, where = start.astype(vgg.dtype), None
    if wanted is not None:
        where = regions.union(wanted)[..., None].astype(vgg.dtype)
        start = where * start + (1 - where) * preprocess(margined).astype(vgg.dtype)
    objective = Objective(vgg, margined, styles, scale, wanted, taken)
    return objective, margined, start, where, added


def _measure(content: Picture, styles: list[Any], settings: Settings) -> tuple[Shape, list[Shape]]:
    """Heights and widths that the pictures will have; what cannot be used is refused."""
    content_shape = images.measure(content, settings.longer)
    return content_shape, [images.measure(style, *style_size(settings)) for style in styles]


def _load(content: Picture, settings: Settings) -> np.ndarray:
    return images.load(content, settings.longer, resampling=settings.resampling)


def _styles(styles: list[Any], settings: Settings) -> list[np.ndarray]:
    return [images.load(style, *style_size(settings), settings.resampling) for style in styles]


def _telling(
    callback: Callback | None, done: list[Painting], full: np.ndarray, settings: Settings, size: int
) -> Tell | None:
    """What tells the callback of the iterations at all scales, past and to come."""
    if callback is None:
        return None
    if not callable(callback):
        raise UsageError(f"callback is {callback!r}; it must be callable")
    before = list(done)  # to which this scale's painting will be added, once it is done
    iterations = sum(painting.iterations for painting in before)
    evaluations = sum(painting.evaluations for painting in before)
    after = settings.iterations * (len(settings.sizes) - len(before) - 1)

    def tell(
        progress: Progress, terms: list[dict[str, float]], painted: Callable[[Minimum], Painting]
    ) -> object:
        return callback(
            PaintingProgress(
                iterations + progress.iteration,
                iterations + progress.iterations + after,
                evaluations + progress.evaluations,
                progress.loss,
                progress.minimum,
                size,
                terms,
                lambda: _finished([*before, painted(progress.minimum)], full, settings),
            )
        )

    return tell


def _mirrored(picture: np.ndarray, added: Added) -> np.ndarray:
    """A picture or mask with a margin in which it goes on as in a mirror."""
    return np.pad(picture, [*added, (0, 0)][: picture.ndim], mode="symmetric")


def _cut(picture: np.ndarray, added: Added) -> np.ndarray:
    """The inverse of `_mirrored`."""
    (above, below), (left, right) = added
    return picture[above : picture.shape[0] - below, left : picture.shape[1] - right]


def _recolored(
    content: np.ndarray, styles: list[np.ndarray], form: str
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The content and the styles, in the colours in which they are compared with the painting."""
    if form == "luminance":
        grey = [colors.match_luminance(style, content) for style in styles]
        return colors.grey(colors.luminance(content)), grey
    if form != "style":
        styles = [colors.match_colors(style, content, form) for style in styles]
    return content, styles


def _finished(done: list[Painting], full: np.ndarray, settings: Settings) -> Painting:
    """The last painting, as large as the one that was asked for, with its colours put back."""
    *coarser, last = done
    x = last.x
    if x.shape != full.shape:
        x = images.resize(x, full.shape[1], full.shape[0])
    if settings.colors == "luminance":
        x = preprocess(colors.with_luminance(full, colors.luminance(deprocess(x))))
    return replace(last, x=x, coarser=coarser)


def _paint(
    objective: Objective,
    content: np.ndarray,
    start: np.ndarray,
    where: np.ndarray | None,
    added: Added,
    tell: Tell | None,
    stop: Stop | None,
    seconds: float,
    checkpoint: Checkpoint | None,
) -> Painting:
    """Paint at one scale; whatever ends it is raised with the best picture in `painting`.

    The optimiser moves z, and with it x = origin + region * S z, S the filter of `coordinates`: where
    the network is, unless it is SciPy's. To L-BFGS, z are waves.
    """
    settings, vgg = objective.settings, objective.vgg
    optimizer = settings.optimizer or default_optimizer(vgg.backend)
    home = CPU if optimizer == "lbfgs" else vgg.backend
    height, width, _ = start.shape
    of_picture = height, width, settings.spectrum, settings.dtype
    row = ROW if home is CPU else ROW_ON_GPU
    coordinates = partial(Spectrum, *of_picture, waves=optimizer != "adam", row=row)
    space = coordinates(backend=home)
    f = space.frequencies if optimizer == "own-lbfgs" else None
    here = space if home is CPU else coordinates(backend=CPU)
    kept = here.start(start)
    if where is not None:
        kept = _moved(start, where, kept - start)
    start[...] = kept  # the caller holds its memory
    dtype = "float64" if optimizer == "lbfgs" else vgg.dtype
    origin = home.upload(start, vgg.dtype)
    region = None if where is None else home.upload(where, vgg.dtype)
    terms: list[dict[str, float]] = []
    if checkpoint is not None:
        known = checkpoint.memory.get("evaluations", 0)  # those of half an iteration come again
        terms = checkpoint.terms = checkpoint.terms[:known]

    def picture(z: Array) -> tuple[Array]:
        return (_moved(origin, region, space.forward(z)).astype(vgg.dtype, copy=False),)

    def gradient(dx: Array) -> tuple[Array]:
        return (space.adjoint(dx if region is None else region * dx),)

    there, back = recorder(home.xp), recorder(home.xp)

    def function(z: Array) -> tuple[float, Array]:
        loss, dx = objective.evaluate(*there(picture, z))
        terms.append(objective.terms)
        if home is not vgg.backend:
            dx = vgg.backend.download(dx)
        return loss, *back(gradient, dx)

    def painted(end: Minimum) -> Painting:
        """On the host: it may be for want of a GPU's memory that the work ends."""
        x = _cut(_moved(start, where, here.forward(home.download(end.x))), added)
        return Painting(**{**vars(end), "x": x}, device=vgg.backend.name, terms=terms)

    def report(progress: Progress) -> object:
        return None if tell is None else tell(progress, terms, painted)

    try:
        with scipy.fft.set_workers(vgg.workers.threads), vgg.engine.alone():
            end = minimize(
                function,
                home.xp.zeros(space.shape, dtype),
                optimizer,
                settings.iterations,
                settings.learning_rate,
                report,
                stop,
                settings.tolerance,
                seconds,
                settings.history or HISTORY[optimizer],
                metric=None if f is None else bands(f, vgg.dtype, home),
                adam={name: getattr(settings, name) for name in ADAM},
                workers=vgg.workers,
                memory=None if checkpoint is None else checkpoint.memory,
            )
    except BaseException as error:
        best: Minimum = vars(error).get("minimum", Minimum(start))
        if best.losses:
            vars(error)["painting"] = painted(best)
        if isinstance(error, NotFinite):
            error.args = (f"{error}; {_remedy(objective, content, best.evaluations)}",)
        raise
    return painted(end)


def _moved(origin: Array, region: Array, by: Array) -> Array:
    """A picture that was moved, everywhere or in a region."""
    return origin + (by if region is None else region * by)


def default_optimizer(backend: Backend) -> str:
    """Return SciPy's L-BFGS on a CPU, and on a GPU ours, whose arrays may live there.

    Parameters
    ----------
    backend : Backend
        Of the network.

    Returns
    -------
    str
        A choice of `Settings.optimizer`.
    """
    return "lbfgs" if backend is CPU else "own-lbfgs"


def _remedy(objective: Objective, content: np.ndarray, evaluations: int) -> str:
    """What to do about a loss that is not finite."""
    settings = objective.settings
    if evaluations > 1:
        if settings.optimizer == "adam":
            return f"learning_rate is {settings.learning_rate:g}, try less"
        return "try another dtype or smaller weights"
    taps = {**settings.content_taps, **settings.style_taps}
    features = objective.vgg.features(content, taps).values()
    if all(math.isfinite(sum_of(F)) for F in features):
        return "content_weight, style_weight or tv_weight is too large"
    return "the features are not finite: the weights in the network's file are too large"


def initial_picture(
    content: np.ndarray,
    settings: Settings,
    style: np.ndarray | None = None,
    added: Added = ((0, 0), (0, 0)),
) -> np.ndarray:
    """Return where the optimiser starts: one of the pictures, grey or noise, mixed with noise.

    The noise is drawn by NumPy whatever the device, so that CPU and GPU start alike. A painting that
    is named as the start lies where it was: it has no margin, and is given one as the content is.

    Parameters
    ----------
    content : (H, W, 3) array of uint8
    settings : Settings
        Its init, noise_ratio, noise, noise_level, seed and colors are used.
    style : (H', W', 3) array of uint8, optional
        For the start from a style.
    added : pair of (int, int), optional
        Pixels of a margin, before and behind, vertically and horizontally.

    Returns
    -------
    (H, W, 3) array
        In VGG space, float64; with the margin.
    """
    height, width, _ = content.shape
    rng = np.random.default_rng(settings.seed)
    level, shape = settings.noise_level, _mirrored(content, added).shape
    normal = settings.noise == "normal"
    noise = rng.normal(0, level, shape) if normal else rng.uniform(-level, level, shape)
    if settings.init == "noise":
        return noise
    if settings.init == "grey":  # the mean colour of ImageNet, 0 in VGG space
        return settings.noise_ratio * noise
    if settings.init == "style" and style is not None:
        content = images.cover(style, width, height)
    elif settings.init not in STARTS:
        content = images.cover(images.load(settings.init), width, height)
        if settings.colors == "luminance":
            content = colors.grey(colors.luminance(content))
    picture = preprocess(_mirrored(content, added))
    return settings.noise_ratio * noise + (1 - settings.noise_ratio) * picture
