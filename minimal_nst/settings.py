"""Settings: the one place where a default is written.

The command line is built from the fields of `Settings`, so an option, its meaning and its default
stand here and nowhere else. The objective that they describe is

    L = content_weight * sum_l w_l C_l  +  style_weight * sum_l w_l S_l  +  tv_weight * TV
        + range_weight * R

with C_l and S_l in one of two forms each, in which every published weighting can be written; R keeps
the picture within what a file can hold.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import operator
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from .architecture import canonical, depth_of
from .errors import UsageError
from .presets import PRESETS, LayerWeights

STARTS = ("content", "style", "noise", "grey")
"""What `Settings.init` can be, if no picture."""

FILTERS = ("nearest", "box", "bilinear", "bicubic", "lanczos")
"""By the number of neighbours that each looks at; all but the first average where they shrink."""

SMALLEST = 16
"""Pixels that each side of a picture needs: VGG-19 halves it four times up to block 5."""

LARGEST = 2**16

HISTORY = {"lbfgs": 20, "own-lbfgs": 80, "adam": 0}
"""How many steps an optimiser remembers unless told: SciPy's in 64 bits, our own in 8 (stacks.py)."""

COARSEST = 192
"""Longer side of the smallest scale that is chosen by itself: what the deepest layers see at once
is as wide as most of the picture then."""


def option(default: Any, text: str, **metadata: Any) -> Any:
    """Return a dataclass field with what its option has: a help text, and whatever of these it needs.

    ``choices``; limits ``least``, ``above``, ``most``; ``words`` that are no number and allowed all
    the same; a function ``parse`` that reads it; and ``group``, a heading of the help, for this
    field and those behind it.
    """
    return field(default=default, metadata={"help": text, **metadata})


def parse_layers(
    value: str | Mapping[str, float] | Iterable[str] | Iterable[tuple[str, float]],
) -> LayerWeights:
    """Read a list of layers with weights.

    Parameters
    ----------
    value : str, mapping or iterable
        'relu1_1,relu2_1:0.5'; or {name: weight}; or names, or (name, weight) pairs. A missing
        weight is 1.

    Returns
    -------
    tuple of (str, float)
        Names in the literature's form.

    Raises
    ------
    UsageError
        For an unknown or repeated layer, or a weight that is not a number >= 0.
    """
    if isinstance(value, str | Mapping):
        value = value.split(",") if isinstance(value, str) else value.items()
    try:
        pairs = [_pair(item) for item in value]
    except (TypeError, ValueError):
        raise UsageError(f"{value!r} is no list of layers; write relu1_1,relu2_1:0.5") from None
    weights: dict[str, float] = {}
    for name, weight in pairs:
        tap = canonical(name)
        if tap in weights:
            raise UsageError(f"layer {tap} is named twice")
        try:
            weights[tap] = float(weight)
        except (ValueError, TypeError):
            raise UsageError(f"layer {tap} has the weight '{weight}', not a number") from None
        except OverflowError:
            weights[tap] = math.inf
        if not (math.isfinite(weights[tap]) and weights[tap] >= 0):
            raise UsageError(
                f"layer {tap} has the weight {weight}; it must be a finite number, 0 or more"
            )
    return tuple(weights.items())


def parse_scales(value: Any) -> tuple[int, ...] | str | None:
    """Read the sizes that are painted one after the other.

    Parameters
    ----------
    value : str, iterable of int or None
        '192,384', [192, 384], 'auto', or 'none', which is None as an option has it.

    Returns
    -------
    tuple of int, 'auto' or None

    Raises
    ------
    UsageError
        For what is no size, or is not larger than the one before.
    """
    if value is None or value in ("auto", "none"):
        return "auto" if value == "auto" else None
    try:
        items = value.split(",") if isinstance(value, str) else [operator.index(n) for n in value]
        scales = tuple(int(item) for item in items)
    except (TypeError, ValueError):
        raise UsageError(
            f"scales are {value!r}; write sizes such as 192,384, or auto, or none"
        ) from None
    if not scales or min(scales) < SMALLEST or any(a >= b for a, b in pairwise(scales)):
        raise UsageError(
            f"scales are {value!r}; each must be larger than the one before, the first at least "
            f"{SMALLEST}"
        )
    return scales


def parse_weights(value: Any) -> tuple[float, ...] | None:
    """Read how much each of several things counts.

    Parameters
    ----------
    value : str, iterable of float or None
        '2,1' or [2, 1].

    Returns
    -------
    tuple of float or None

    Raises
    ------
    UsageError
        For what is no number of 0 or more; or if all of them are 0.
    """
    if value is None:
        return None
    try:
        weights = tuple(map(float, value.split(",") if isinstance(value, str) else value))
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{value!r} are no weights; write numbers such as 2,1") from None
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise UsageError(
            f"{value!r} are no weights; each must be a finite number, 0 or more, and one above 0"
        )
    return weights


def _pair(item: Any) -> tuple[str, Any]:
    """'relu1_1:0.5', 'relu1_1' or ('relu1_1', 0.5) -> name and weight."""
    if isinstance(item, str):
        name, colon, text = item.partition(":")
        return name, text if colon else 1.0
    name, weight = item
    return name, weight


@dataclass(frozen=True)
class Settings:
    """What to compute. Frozen: `dataclasses.replace` makes a changed copy.

    The defaults are the preset ``default``. Every field is an option of ``stylize --help``, which
    says what it means; layers may be given as `parse_layers` takes them.

    Raises
    ------
    UsageError
        If a value is out of its range, or there is no such field; the message names it, the limit
        and what to do.
    """

    size: int | str = option(
        384,
        "longer side of the painting, in pixels; or 'original': that of the content",
        group="size and start",
        least=SMALLEST,
        most=LARGEST,
        words=("original",),
    )
    size_pixels: int | None = option(
        None,
        "number of pixels of the painting, in the place of --size",
        least=SMALLEST**2,
        most=LARGEST**2,
    )
    width: int | None = option(
        None,
        "width of the painting, in the place of --size; with --height it fits into both",
        least=SMALLEST,
        most=LARGEST,
    )
    height: int | None = option(
        None, "height of the painting, in the place of --size", least=SMALLEST, most=LARGEST
    )
    scales: tuple[int, ...] | str | None = option(
        None,
        "smaller sizes to paint first, each the start of the next: 192,384 or auto (half of the "
        "size, half of that, ... down to 192); the larger the painting, the more it gains [none]",
        parse=parse_scales,
    )
    margin: int = option(
        8,
        "mirrored pixels around the content, or a few more up to a multiple of 16, which are painted "
        "too and cut off: without, a painting has dark lines along its border",
        least=0,
        most=256,
    )
    resampling: str = option(
        "lanczos",
        "filter by which the pictures are scaled; programs differ, and so do their first losses",
        choices=FILTERS,
    )
    init: str = option(
        "content",
        "start: content, style (the first), noise, grey, or the path of a picture, of which the "
        "middle is taken",
    )
    noise_ratio: float = option(0.0, "share of noise mixed into the start", least=0, most=1)
    noise: str = option("uniform", "how the noise is distributed", choices=("uniform", "normal"))
    noise_level: float = option(
        20.0,
        "uniform noise reaches from -X to X, normal noise deviates by X, in grey levels",
        above=0,
        most=1000,
    )
    seed: int = option(0, "seed of the noise", least=0)
    style_size: int | None = option(
        None,
        "longer side of the style pictures [as --size]",
        group="style",
        least=SMALLEST,
        most=LARGEST,
    )
    style_scale: float = option(
        1.0,
        "how much larger than the painting the style pictures are: more is broader strokes",
        above=0,
        most=100,
    )
    style_blend_weights: tuple[float, ...] | None = option(
        None,
        "how much each STYLE counts, such as 2,1; the pictures of a folder share its weight "
        "[all alike]",
        parse=parse_weights,
    )
    style_weight: float = option(1e3, "weight of the style loss", least=0)
    style_layers: LayerWeights = option(
        tuple((f"relu{block}_1", 1.0) for block in range(1, 6)),
        "layers whose Gram matrices are compared with the style, name[:weight],...",
        parse=parse_layers,
    )
    style_form: str = option(
        "mean",
        "a layer's style loss: mean of squares of Gram/(M N), or the paper's sum/(4 N^2 M^2)",
        choices=("mean", "paper"),
    )
    style_statistic: str = option(
        "gram",
        "what is compared of a style: Gram matrices, or means and covariances, each by itself",
        choices=("gram", "mean-covariance"),
    )
    mask_reach: str = option(
        "simple",
        "which places of a layer belong to a masked region: by its share of their place, those "
        "that see any of it, or those that see nothing else",
        choices=("simple", "all", "inside"),
    )
    colors: str = option(
        "style",
        "whose colours: the style's, or the content's, either by painting light and dark only "
        "(luminance), or by giving the style pictures the content's colours before, by one of two "
        "linear maps",
        choices=("style", "luminance", "cholesky", "pca"),
    )
    content_weight: float = option(1.0, "weight of the content loss", group="losses", least=0)
    content_layers: LayerWeights = option(
        (("relu4_2", 1.0),),
        "layers compared with the content, name[:weight],...",
        parse=parse_layers,
    )
    content_form: str = option(
        "mean",
        "a layer's content loss: mean of squares, or the paper's half sum of squares",
        choices=("mean", "paper"),
    )
    tv_weight: float = option(0.0, "weight of the total variation: more is smoother", least=0)
    tv_form: str = option(
        "squared",
        "total variation: sum or mean of squared or absolute differences of neighbours, or Keras' sum "
        "of their squares to the power of 1.25",
        choices=("squared", "mean-squared", "absolute", "mean-absolute", "keras"),
    )
    range_weight: float = option(
        1e5,
        "weight of the mean square of what is below 0 or above 255, and lost when the painting is saved",
        least=0,
    )
    pooling: str = option("max", "how the network halves its pictures", choices=("max", "avg"))
    iterations: int = option(
        500, "steps of the optimiser, at each scale", group="optimiser", least=1, most=10**9
    )
    tolerance: float = option(
        0.0,
        "end when the loss has fallen by less than this share over the last 20 evaluations",
        least=0,
        most=1,
    )
    max_seconds: float | None = option(
        None, "end after so long, counted from the start [no limit]", above=0
    )
    optimizer: str | None = option(
        None,
        "how the loss is minimised: SciPy's L-BFGS-B, the one by hand, or Adam [SciPy's on a CPU, "
        "the one by hand on a GPU]",
        choices=("lbfgs", "own-lbfgs", "adam"),
    )
    history: int | None = option(
        None,
        "how many steps back L-BFGS looks: more get lower, and take more memory [20; 80 of the one by "
        "hand, which are no larger]",
        least=1,
        most=1000,
    )
    learning_rate: float = option(
        2.0, "step of adam, in grey levels of 0..255 (lbfgs finds its own)", above=0
    )
    beta1: float = option(0.9, "adam's memory of the gradient", least=0, most=0.999999)
    beta2: float = option(0.999, "adam's memory of the gradient's square", least=0, most=0.999999)
    epsilon: float = option(
        1e-8, "added to the gradient's size by adam, in the loss per grey level", above=0
    )
    decay: float = option(
        1.0, "what adam's step is multiplied by every --decay-every steps", above=0, most=1
    )
    decay_every: int = option(50, "steps between two of adam's decays", least=1)
    spectrum: float = option(
        0.5,
        "how much longer the steps of wide structures are: a wave of length L, from 8 pixels on, moves "
        "as L^X; 0: all pixels alike",
        least=0,
        most=4,
    )
    device: str = option("auto", "cpu, cuda, or auto: a GPU if one works", group="machine")
    threads: int | None = option(
        None, "threads of the fast convolution [processors, up to 8]", least=1
    )
    strips: int = option(
        1,
        "strips in which the picture is gone through, one after the other: the same painting in less "
        "memory and more time",
        least=1,
        most=LARGEST,
    )
    conv: str = option(
        "winograd",
        "convolutions: fast, or as the textbook has them",
        choices=("winograd", "im2col"),
    )
    dtype: str = option("float32", "precision of the network", choices=("float32", "float64"))
    precision: str = option(
        "fp32",
        "a GPU's matrix products in float32: as they are, or faster and with 10 bits of a mantissa",
        choices=("fp32", "tf32"),
    )
    weights: str | None = option(None, "VGG-19 weight file [embedded]")
    force: bool = option(False, "start even where memory is not expected to suffice")

    def __new__(cls, *positional: Any, **values: Any) -> Self:
        """Refuse what the generated `__init__` would answer with a TypeError."""
        names = [item.name for item in dataclasses.fields(cls)]
        if positional:
            raise UsageError(f"{positional[0]!r} has no name; write Settings(size=256), ...")
        for name in values:
            if name not in names:
                near = difflib.get_close_matches(name, names, n=1, cutoff=0) or names
                raise UsageError(f"there is no setting '{name}'; did you mean {near[0]}?")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if "parse" in item.metadata:
                value = item.metadata["parse"](value)
            elif wrong := problem(item, value):
                raise UsageError(f"{item.name} is {value!r}; {wrong}")
            elif isinstance(value, numbers.Real) and item.type != "bool":
                # a NumPy scalar would promote float32 arrays
                value = int(value) if isinstance(value, numbers.Integral) else float(value)
            object.__setattr__(self, item.name, value)
        known = isinstance(self.size, int) and not (self.size_pixels or self.width or self.height)
        if isinstance(self.scales, tuple) and known and max(self.scales) > self.longer:
            raise UsageError(
                f"scales are {','.join(map(str, self.scales))}, the painting's longer side is "
                f"{self.size}; none can be larger"
            )
        if not (self.content_taps or self.style_taps):
            raise UsageError(
                "there is nothing to paint: no layer of content or style has a weight above 0; "
                "give one"
            )

    @property
    def longer(self) -> int:
        """`size` as the number that it is once `sizes.settle` has been asked."""
        return int(self.size)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The longer side at each scale, from the smallest to `size`."""
        sizes: tuple[int, ...] = (self.longer,)
        if isinstance(self.scales, tuple):
            return *(scale for scale in self.scales if scale < self.longer), *sizes
        while self.scales == "auto" and sizes[0] >= 2 * COARSEST:
            sizes = sizes[0] // 2, *sizes
        return sizes

    @property
    def content_taps(self) -> dict[str, float]:
        """Content layer -> its whole weight; those that weigh nothing are left out."""
        return _active(self.content_layers, self.content_weight)

    @property
    def style_taps(self) -> dict[str, float]:
        """Style layer -> its whole weight; those that weigh nothing are left out."""
        return _active(self.style_layers, self.style_weight)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Settings:
        """Return the settings of a preset, with some of them changed.

        Parameters
        ----------
        name : str
            A key of `PRESETS`.
        **changes
            Fields of `Settings`.

        Raises
        ------
        UsageError
            If there is no such preset, or a value is out of its range.
        """
        if not isinstance(name, str) or name not in PRESETS:
            raise UsageError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
        return cls(**{**PRESETS[name].settings, **changes})


def _active(layers: LayerWeights, weight: float) -> dict[str, float]:
    """Layer -> its whole weight, in the order of the network."""
    weights = {tap: weight * share for tap, share in layers if weight * share}
    return dict(sorted(weights.items(), key=lambda item: depth_of([item[0]])))


def problem(item: dataclasses.Field[Any], value: Any) -> str:
    """Hold a value against the type, choices and limits of its field.

    Parameters
    ----------
    item : dataclasses.Field
        Of `Settings`.
    value : object

    Returns
    -------
    str
        What it must be instead; '' if nothing is wrong.
    """
    limits, kind = item.metadata, str(item.type)
    if value is None and item.default is None:
        return ""
    if isinstance(value, str) and value in limits.get("words", ()):
        return ""
    if kind.startswith("str"):
        if not isinstance(value, str | os.PathLike):
            return "it must be text"
        if "choices" in limits and value not in limits["choices"]:
            return f"it can be {', '.join(limits['choices'])}"
        return "" if str(value) else "it must not be empty"
    if kind == "bool":
        return "" if isinstance(value, bool) else "it must be True or False"
    whole = kind.startswith("int")
    low, above = limits.get("least"), limits.get("above")
    high = limits.get("most", math.inf if whole else sys.float_info.max)
    text = f"above {above}" if low is None else f"{low} or more"
    text = f"between {low} and {high}" if "most" in limits else text
    text = f"it must be a {'whole' if whole else 'finite'} number, {text}"
    text = ", or ".join([text, *limits.get("words", ())])
    if isinstance(value, bool) or not isinstance(
        value, numbers.Integral if whole else numbers.Real
    ):
        return text
    number: Any = value
    inside = number <= high and (number > above if low is None else number >= low)
    return "" if inside else text
