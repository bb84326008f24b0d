r"""The objective: a picture in, the loss and its gradient out.

.. math:: L = \alpha \sum_l w_l C_l + \beta \sum_l w_l S_l + \gamma \, TV

One forward pass serves all the losses; one backward pass takes all their gradients along.

Glossary::

    image    (H, W, 3) RGB, 0..255, on the host
    x        the same picture in VGG space, on the network's device
    targets  P for each content layer, A for each style layer
"""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from . import regions
from .architecture import shape_of
from .backend import Array, array_module
from .checks import as_picture
from .errors import UsageError
from .guided import (
    guided_gram_matrix,
    guided_style_loss,
    mean_covariance,
    mean_covariance_loss,
)
from .losses import (
    Product,
    absolute_variation,
    content_loss,
    gram_matrix,
    keras_variation,
    out_of_range,
    style_loss,
    total_variation,
)
from .recording import recorder
from .settings import Settings
from .strips import Strip, Sums, cut, joined, placed
from .vgg import VGG19, Tape, preprocess

Masks = Sequence[np.ndarray | None] | None

Term = tuple[str, str, Any, Array]
"""('content' or 'style', tap, weighted loss, weighted dF)."""

Contract = Callable[[int, str], Product]
"""Region and tap -> what sums over the picture's places there."""


class Objective:
    """How far a picture is from the content and from the style, and which way is down.

    Parameters
    ----------
    vgg : VGG19
    content : (H, W, 3) array
        RGB, 0..255. The pictures that are evaluated have its size.
    styles : iterable of (H', W', 3) arrays
        RGB, 0..255, of any sizes. Their Gram matrices are averaged, by the settings'
        style_blend_weights, which has the same gradient as the mean of their losses.
    settings : Settings
        Its layers, weights and forms are used, and its number of strips.
    content_masks : sequence of (H, W) arrays, optional
        For each style, where it is wanted: from 0 to 1. Each then has a loss of its own there.
    style_masks : sequence of (H', W') arrays or None, optional
        For each style, what of it is taken; None is all.

    Attributes
    ----------
    terms : dict
        Each term of the last evaluation, weighted: 'content:relu4_2', 'style:relu1_1', 'tv', 'range'.

    References
    ----------
    Gatys et al. (2016), eq. 7.
    The course: :eq:`objective`.
    """

    def __init__(
        self,
        vgg: VGG19,
        content: np.ndarray,
        styles: Iterable[np.ndarray],
        settings: Settings,
        content_masks: Masks = None,
        style_masks: Masks = None,
    ) -> None:
        for name, value, wanted in (("vgg", vgg, VGG19), ("settings", settings, Settings)):
            if not isinstance(value, wanted):
                raise UsageError(f"{name} is {value!r}; pass a {wanted.__name__}")
        content = as_picture(content, "the content")
        if not isinstance(styles, Iterable):
            raise UsageError(f"styles are {styles!r}; pass a list of arrays")
        styles = [as_picture(style, f"style {k}") for k, style in enumerate(styles, start=1)]
        if not styles:
            raise UsageError("there is no style picture; name at least one")
        check_masks(content_masks, "content", [content] * len(styles))
        check_masks(style_masks, "style", styles)
        self.vgg = vgg
        self.settings = settings
        self.shape = content.shape
        self.terms: dict[str, Any] = {}
        self._names: list[str] = []
        row = (1, *content.shape[1:])  # an axis of three alone is slow in NumPy
        self._low, self._high = (
            vgg.backend.upload(preprocess(np.full(row, bound)), vgg.dtype) for bound in (0.0, 255.0)
        )
        self._content_weights = settings.content_taps
        self._style_weights = settings.style_taps
        self._taps = {**self._content_weights, **self._style_weights}
        # a Gram matrix and F (G - A) are asked for by rows; what is compared or masked is not
        plain = settings.style_statistic == "gram" and not (content_masks or style_masks)
        self._by_rows = self._style_weights.keys() - self._content_weights if plain else set()
        self._strips = cut(len(content), settings.strips, self._taps)
        self._call = recorder(vgg.backend.xp) if len(self._strips) == 1 else operator.call
        self._contents = self._look_at_content(content)
        vgg.engine.release()  # it was looked at with fewer taps, and so with larger scratch
        self._regions = list(self._describe_styles(styles, content_masks, style_masks))
        vgg.engine.release()
        for k, region in enumerate(self._regions, start=1):
            if self._style_weights and not region.targets:
                raise UsageError(
                    f"of style {k}'s region nothing is left at any of the style layers; widen its "
                    "masks, or take another mask_reach"
                )

    def _look_at_content(self, content: np.ndarray) -> dict[str, Array]:
        """Tap -> what shall be seen there, (H_l, W_l, N)."""
        if len(self._strips) == 1:
            return dict(self.vgg.see(content, self._content_weights))
        shapes = {tap: shape_of(tap, *self.shape[:2]) for tap in self._content_weights}
        xp, dtype = self.vgg.backend.xp, self.vgg.dtype
        found = {tap: xp.empty(shape, dtype) for tap, shape in shapes.items()}
        for strip in self._strips:
            for tap, features in self.vgg.see(content[strip.seen], self._content_weights):
                found[tap][strip.rows(tap)] = features[strip.inside(tap)]
        return found

    def _describe_styles(
        self, styles: list[np.ndarray], content_masks: Masks, style_masks: Masks
    ) -> Iterator[_Region]:
        """What is wanted: of all styles together, or of each in its own region."""
        masks = style_masks or [None] * len(styles)
        wanted = [
            self._look_at(style, self._guides(mask))
            for style, mask in zip(styles, masks, strict=True)
        ]
        parts = shares(self.settings, len(styles))
        if content_masks:
            for mask, part, found in zip(content_masks, parts, wanted, strict=True):
                guides = self._guides(mask)
                inside = {tap: target for tap, target in found.items() if tap in guides}
                yield _Region(inside, part * len(styles), guides)
            return
        mean: dict[str, list[Array]] = {}
        for part, found in zip(parts, wanted, strict=True):
            for tap, target in found.items():
                before = mean.get(tap, [0] * len(target))
                mean[tap] = [b + part * a for b, a in zip(before, target, strict=True)]
        if self.settings.style_statistic == "gram":
            for tap, (A,) in mean.items():
                mean[tap] = [A * self._positions(tap)]
        yield _Region(mean, 1.0, EVERYWHERE)

    def _guides(self, mask: np.ndarray | None) -> Mapping[str, _Guide]:
        """Tap -> guide, of those taps where anything is left of the region."""
        if mask is None:
            return EVERYWHERE
        found = regions.guides(mask, self._style_weights, self.settings.mask_reach)
        return {
            tap: _Guide(
                self.vgg.backend.upload(guide[..., None], self.vgg.dtype),
                float(np.mean(guide**2)),
            )
            for tap, guide in found.items()
            if guide.any()
        }

    @np.errstate(invalid="ignore")  # 0 / 0 until a strip has anything of a region
    def _look_at(
        self, style: np.ndarray, guides: Mapping[str, _Guide]
    ) -> dict[str, Sequence[Array]]:
        """Tap -> what the style is there: one layer's features are gone before the next one's come."""
        taps = [tap for tap in self._style_weights if guides is EVERYWHERE or tap in guides]
        sums = {tap: Sums(self.vgg.engine.contract) for tap in taps}
        found: dict[str, Sequence[Array]] = {}

        def describe(seen: tuple[str, Array]) -> tuple[str, Sequence[Array]]:
            tap, features = seen
            F = as_matrix(features[strip.inside(tap)])
            height, width, _ = shape_of(tap, *style.shape[:2])
            T = region_of(guides.get(tap), strip, tap)
            return tap, self._describe(F, T, height * width, sums[tap].add)

        for strip in cut(len(style), self.settings.strips, taps):
            found = dict(map(describe, self.vgg.see(style[strip.seen], taps, self._by_rows)))
        return found  # with the last strip, the sums are those of all

    def _describe(
        self, F: Array, T: Array | None, positions: int, contract: Product
    ) -> Sequence[Array]:
        """What a style is to the loss: matrices per position, of all of it or of a region."""
        if self.settings.style_statistic != "gram":
            return mean_covariance(F, everywhere(F) if T is None else T, contract)[:2]
        if T is not None:
            return (guided_gram_matrix(F, T, contract),)
        return (gram_matrix(F, contract) / positions,)

    def __call__(self, image: np.ndarray) -> tuple[Any, np.ndarray]:
        """Return the loss of a picture and its gradient.

        Parameters
        ----------
        image : (H, W, 3) array
            RGB, 0..255, as float; not clipped.

        Returns
        -------
        loss : float
        gradient : (H, W, 3) array
            dL/d(image), in the network's dtype.
        """
        image = np.asarray(image)
        if image.shape != self.shape:
            raise UsageError(f"the picture has shape {image.shape}, the content has {self.shape}")
        if image.dtype.kind not in "uifc":
            raise UsageError(f"the picture holds {image.dtype}; pass numbers")
        loss, dx = self.evaluate(preprocess(image))
        return loss, self.vgg.backend.download(dx)[..., ::-1]

    def evaluate(self, x: Array) -> tuple[Any, Array]:
        """The same as calling, for x and dL/dx in VGG space: what an optimiser moves.

        x may live on the host or on the network's device; dL/dx lives there. On a GPU the terms are
        all that crosses, and they do so together.
        """
        backend = self.vgg.backend
        numbers, dx = self._call(self._evaluate, backend.upload(x, self.vgg.dtype))
        self.terms = dict(zip(self._names, backend.download(numbers).tolist(), strict=True))
        return sum(self.terms.values()), dx

    def _evaluate(self, image: Array) -> tuple[Array, Array]:
        """The terms, of which `_names` has the names, and dL/dx: all on the device."""
        terms: dict[str, Any] = {}
        if len(self._strips) == 1:
            contract = self.vgg.engine.contract
            dx = self._pull(
                self.vgg.forward(image, self._taps, self._by_rows),
                self._strips[0],
                lambda region, tap: contract,
                terms,
            )
        else:
            dx = joined(self._strip_by_strip(image, terms), image)
        if self.settings.tv_weight:
            terms["tv"], dTV = self._variation(image)
            dx = dx + dTV
        if self.settings.range_weight:
            weight = self.settings.range_weight
            terms["range"], dR = out_of_range(image, self._low, self._high, weight)
            dx = dx + dR
        self._names = list(terms)
        dtype = "complex128" if image.dtype.kind == "c" else "float64"
        return self.vgg.backend.gather(list(terms.values()), dtype), dx

    def _strip_by_strip(self, image: Array, terms: dict[str, Any]) -> Iterator[tuple[Strip, Array]]:
        """Each strip, from below, and dL/dx of what it sees: the last goes back from where it is."""
        *others, last = self._strips
        sums, seen = self._gathered(image)
        yield last, self._pull(seen, last, sums, terms)
        del seen  # one strip's tape at a time
        for strip in reversed(others):
            again = image[strip.seen]
            found = self.vgg.forward(again, self._taps, self._by_rows)
            yield strip, self._pull(found, strip, sums, terms)

    def _pull(
        self,
        seen: tuple[dict[str, Array], Tape],
        strip: Strip,
        contract: Contract,
        terms: dict[str, Any],
    ) -> Array:
        """What the network's losses at a strip's own places make of what it sees: dL/dx.

        Their terms are added to those that there are.
        """
        features, tape = seen
        own = {tap: as_matrix(found[strip.inside(tap)]) for tap, found in features.items()}
        gradients: dict[str, Array] = {}
        for name, tap, loss, dF in chain(
            self._content(own, strip), self._style(own, strip, contract)
        ):
            term = f"{name}:{tap}"
            terms[term] = terms[term] + loss if term in terms else loss
            gradient = placed(dF, strip.inside(tap), features[tap])
            gradients[tap] = gradients[tap] + gradient if tap in gradients else gradient
        self.vgg.engine.recycle(features.values())  # their place may be taken by what comes back
        dx = self.vgg.backward(tape, gradients)
        if len(self._strips) > 1:
            self.vgg.engine.recycle(())  # the next strip may be of another height
        return dx

    @np.errstate(invalid="ignore")  # as in _look_at
    def _gathered(self, image: Array) -> tuple[Contract, tuple[dict[str, Array], Tape]]:
        """What contracts over all strips' places: all that the style terms need to know of the others.

        Of the last strip also what was seen, and its tape; of the others nothing but the sums is kept.
        """
        sums: dict[tuple[int, str], Sums] = defaultdict(lambda: Sums(self.vgg.engine.contract))

        def add(strip: Strip, tap: str, features: Array) -> None:
            F = as_matrix(features[strip.inside(tap)])
            for k, region in enumerate(self._regions):
                if tap in region.targets:
                    T = region_of(region.guides.get(tap), strip, tap)
                    self._describe(F, T, 1, sums[k, tap].add)

        *others, last = self._strips
        for strip in others:
            seen = self.vgg.walk(image[strip.seen], set(self._style_weights), None, self._by_rows)
            for tap, features in seen:
                add(strip, tap, features)
        found, tape = self.vgg.forward(image[last.seen], self._taps, self._by_rows)
        for tap, features in found.items():
            add(last, tap, features)
        return lambda region, tap: sums[region, tap].total, (found, tape)

    def _content(self, features: dict[str, Array], strip: Strip) -> Iterator[Term]:
        """The content terms: the paper's 1/2 sum, or the mean of squares."""
        for tap, weight in self._content_weights.items():
            P = self._contents[tap]
            scale = weight if self.settings.content_form == "paper" else weight * 2 / P.size
            part = as_matrix(P[strip.rows(tap)])
            F = self.vgg.engine.by_rows(features[tap])
            yield "content", tap, *content_loss(F, part, scale)

    def _style(
        self, features: dict[str, Array], strip: Strip, contract: Contract
    ) -> Iterator[Term]:
        """The style terms: the paper's E, or the mean of squares of Gram/(M N), which is 4E/N^2.

        A region's counts as much as it is large, so that a pixel is told as much in any. A strip has
        its share of a loss that is of all of them.
        """
        engine = self.vgg.engine
        for k, region in enumerate(self._regions):
            for tap, target in region.targets.items():
                F, sums = features[tap], contract(k, tap)
                share, N = len(F) / self._positions(tap), F.shape[1]
                scale = region.weight * self._style_weights[tap]
                scale *= 1 if self.settings.style_form == "paper" else 4 / N**2
                guide = region.guides.get(tap)
                if guide is None and self.settings.style_statistic == "gram":
                    scale *= share**2  # as F is taken for all of the places
                    loss, dF = style_loss(F, target[0], scale, sums, engine.transform)
                else:
                    T = everywhere(F) if guide is None else region_of(guide, strip, tap)
                    scale *= 1 if guide is None else guide.area
                    measure = LOSSES[self.settings.style_statistic]
                    loss, dF = measure(F, target, T, scale, sums, engine.multiply)
                yield "style", tap, loss if share == 1 else share * loss, dF

    def _positions(self, tap: str) -> int:
        """M, of the whole picture."""
        height, width, _ = shape_of(tap, *self.shape[:2])
        return height * width

    def _variation(self, x: Array) -> tuple[Any, Array]:
        """The total variation of the picture itself, in one of its forms."""
        form, weight = self.settings.tv_form, self.settings.tv_weight
        if form == "keras":
            return keras_variation(x, weight)
        variation = total_variation if form.endswith("squared") else absolute_variation
        return variation(x, weight, form.startswith("mean"))


def _guided(F: Array, target: Sequence[Array], *others: Any) -> tuple[Any, Array]:
    (A,) = target
    return guided_style_loss(F, A, *others)


def _mean_and_covariance(F: Array, target: Sequence[Array], *others: Any) -> tuple[Any, Array]:
    C, B = target
    return mean_covariance_loss(F, C, B, *others)


LOSSES = {"gram": _guided, "mean-covariance": _mean_and_covariance}
"""`Settings.style_statistic` -> the loss of features, targets, T, weight and product."""


class _Guide(NamedTuple):
    """T of shape (H_l, W_l, 1), and the share of the picture that it is: the mean of its squares."""

    T: Array
    area: float


EVERYWHERE: Mapping[str, _Guide] = {}
"""The guides of a region that is the whole picture."""


class _Region(NamedTuple):
    """Where which style is wanted: the targets of each tap, their weight, the guides."""

    targets: Mapping[str, Sequence[Array]]
    weight: float
    guides: Mapping[str, _Guide]


def check_number(masks: Sequence[Any], whose: str, styles: int) -> None:
    """Refuse masks that are not one for each style."""
    if len(masks) != styles:
        raise UsageError(
            f"there are {len(masks)} {whose} masks, but {styles} style pictures; give one for each"
        )


def check_masks(masks: Masks, whose: str, pictures: Sequence[np.ndarray]) -> None:
    """Refuse masks that are not one for each picture, of its size, and within 0 to 1.

    Parameters
    ----------
    masks : sequence of (H, W) arrays, or None
    whose : {'content', 'style'}
        A style's may be None.
    pictures : sequence of (H, W, 3) arrays

    Raises
    ------
    UsageError
    """
    if masks is None:
        return
    check_number(masks, whose, len(pictures))
    for k, (mask, picture) in enumerate(zip(masks, pictures, strict=True), start=1):
        if mask is None and whose == "style":
            continue
        array = np.asarray(mask)
        if array.shape != picture.shape[:2]:
            raise UsageError(
                f"{whose} mask {k} has shape {array.shape}, its picture {picture.shape[:2]}"
            )
        if not (array.min() >= 0 and 0 < array.max() <= 1):
            raise UsageError(f"{whose} mask {k} must hold 0 to 1, and not 0 everywhere")


def region_of(guide: _Guide | None, strip: Strip, tap: str) -> Array | None:
    """T of a strip's own places, (M, 1); None if there is no region."""
    return None if guide is None else as_matrix(guide.T[strip.rows(tap)])


def everywhere(F: Array) -> Array:
    """T of a region that is the whole picture."""
    ones: Array = array_module(F).ones((F.shape[0], 1), dtype=F.dtype)
    return ones


def by_kind(terms: Mapping[str, float]) -> dict[str, float]:
    """Sum an evaluation's terms over the layers: 'content', 'style', 'tv' and 'range', if any."""
    sums: dict[str, float] = {}
    for name, term in terms.items():
        kind = name.partition(":")[0]
        sums[kind] = sums.get(kind, 0.0) + term
    return sums


def shares(settings: Settings, styles: int) -> list[float]:
    """What each of so many styles counts of the whole: its blend weight, divided by their sum."""
    weights = settings.style_blend_weights or (1.0,) * styles
    if len(weights) != styles:
        raise UsageError(
            f"there are {len(weights)} style_blend_weights, but {styles} styles; give one for each"
        )
    return [weight / sum(weights) for weight in weights]


def as_matrix(features: Array) -> Array:
    """(H, W, N) features -> F of shape (M, N), one row per position."""
    return features.reshape(-1, features.shape[-1])
