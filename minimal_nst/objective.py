r"""The objective: a picture in, the loss and its gradient out.

.. math:: L = \alpha \sum_l w_l C_l + \beta \sum_l w_l S_l + \gamma \, TV

One forward pass serves all the losses; one backward pass takes all their gradients along.

Glossary::

    image    (H, W, 3) RGB, 0..255, on the host
    x        the same picture in VGG space, on the network's device
    targets  P for each content layer, A for each style layer
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np

from .backend import Array
from .checks import as_picture
from .errors import UsageError
from .losses import (
    absolute_variation,
    content_loss,
    gram_matrix,
    keras_variation,
    style_loss,
    total_variation,
)
from .settings import Settings
from .vgg import VGG19, preprocess

Term = tuple[str, str, Any, Array]
"""('content' or 'style', tap, weighted loss, weighted dF)."""


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
        Its layers, weights and forms are used.

    Attributes
    ----------
    terms : dict
        Each term of the last evaluation, weighted: 'content:relu4_2', 'style:relu1_1', 'tv'.

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
        self.vgg = vgg
        self.settings = settings
        self.shape = content.shape
        self.terms: dict[str, Any] = {}
        self._content_weights = settings.content_taps
        self._style_weights = settings.style_taps
        self._contents = {
            tap: as_matrix(features)
            for tap, features in vgg.features(content, self._content_weights).items()
        }
        self._grams: dict[str, Array] = {}
        for style, share in zip(styles, shares(settings, len(styles)), strict=True):
            for tap, features in vgg.features(style, self._style_weights).items():
                F = as_matrix(features)
                per_position = gram_matrix(F, vgg.engine.contract) * (share / F.shape[0])
                self._grams[tap] = self._grams.get(tap, 0) + per_position

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
        return loss, dx[..., ::-1]

    def evaluate(self, x: np.ndarray) -> tuple[Any, np.ndarray]:
        """The same as calling, for x and dL/dx in VGG space: what an optimiser moves."""
        backend = self.vgg.backend
        image = backend.upload(x, self.vgg.dtype)
        features, tape = self.vgg.forward(image, {**self._content_weights, **self._style_weights})
        terms: dict[str, Any] = {}
        gradients: dict[str, Array] = {}
        for name, tap, loss, dF in chain(self._content(features), self._style(features)):
            terms[f"{name}:{tap}"] = loss
            gradient = dF.reshape(features[tap].shape)
            gradients[tap] = gradients[tap] + gradient if tap in gradients else gradient
        dx = self.vgg.backward(tape, gradients)
        self.vgg.engine.recycle(features.values())
        if self.settings.tv_weight:
            terms["tv"], dTV = self._variation(image)
            dx = dx + dTV
        self.terms = terms
        return sum(terms.values()), backend.download(dx)

    def _content(self, features: dict[str, Array]) -> Iterator[Term]:
        """The content terms: the paper's 1/2 sum, or the mean of squares."""
        for tap, weight in self._content_weights.items():
            F = as_matrix(features[tap])
            scale = weight if self.settings.content_form == "paper" else weight * 2 / F.size
            yield "content", tap, *content_loss(F, self._contents[tap], scale)

    def _style(self, features: dict[str, Array]) -> Iterator[Term]:
        """The style terms: the paper's E, or the mean of squares of Gram/(M N), which is 4E/N^2."""
        for tap, weight in self._style_weights.items():
            F = as_matrix(features[tap])
            M, N = F.shape
            scale = weight if self.settings.style_form == "paper" else weight * 4 / N**2
            A, engine = self._grams[tap] * M, self.vgg.engine
            yield "style", tap, *style_loss(F, A, scale, engine.contract, engine.transform)

    def _variation(self, x: Array) -> tuple[Any, Array]:
        """The total variation of the picture itself, in one of its forms."""
        form, weight = self.settings.tv_form, self.settings.tv_weight
        if form == "keras":
            return keras_variation(x, weight)
        variation = total_variation if form.endswith("squared") else absolute_variation
        return variation(x, weight, form.startswith("mean"))


def by_kind(terms: Mapping[str, float]) -> dict[str, float]:
    """Sum the terms of an evaluation over the layers: 'content', 'style' and 'tv', where there is any."""
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
