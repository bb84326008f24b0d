"""Options made of dataclass fields: name, type, choices, limits, default and help are the field's.

`Settings` says what is computed; `Output`, here, what else `stylize` is told. A file of options
(`config.py`) has the same names, and is held to the same limits.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..presets import PRESETS
from ..settings import Settings, option, problem

KINDS: dict[str, type] = {"int": int, "float": float}


ALL = "all"
"""A style's mask, where all of it is meant."""


def parse_paths(value: Any) -> Any:
    """Read one path or several."""
    paths = [value] if isinstance(value, str) else value
    good = isinstance(paths, list) and paths and all(isinstance(path, str) for path in paths)
    if not good or "" in paths:
        raise UsageError(f'{value!r} names no pictures; write "a.png", or ["a.png", "b.png"]')
    return paths


@dataclass(frozen=True)
class Output:
    """What `stylize` is told besides the pictures and the `Settings`."""

    preset: str = option(
        next(iter(PRESETS)),
        "published program to follow, in which other defaults hold than those below",
        choices=tuple(PRESETS),
    )
    content_masks: tuple[str, ...] | None = option(
        None,
        "for each STYLE, where it is wanted: pictures that are white there; what is black in all "
        "of them stays as it is",
        group="masks",
        parse=parse_paths,
        nargs="+",
        metavar="MASK",
    )
    style_masks: tuple[str, ...] | None = option(
        None,
        f"for each STYLE, what of it is taken: pictures that are white there, or '{ALL}'",
        parse=parse_paths,
        nargs="+",
        metavar="MASK",
    )
    output: str | None = option(
        None, "painting: .png, .jpg, .webp or .tiff", group="output", short="-o", metavar="OUT"
    )
    save_every: int | None = option(
        None, "save the best so far every N iterations, as OUT-00050.png, ...", least=1
    )
    preview: str | None = option(
        None, "picture to be rewritten every few seconds with the best so far", metavar="FILE"
    )
    log: str | None = option(
        None, "each evaluation's losses, as it goes: .csv or .jsonl", metavar="FILE"
    )
    checkpoint: str | None = option(
        None,
        "keep here what is needed to go on, every minute and at the end; if FILE is there, the same "
        "command goes on from it",
        metavar="FILE",
    )
    no_alpha: bool = option(False, "paint all of a content that is transparent in places")
    no_metadata: bool = option(
        False, "leave out the record of how it was painted, which show prints and --from repeats"
    )
    quiet: bool = option(False, "print nothing but errors", short="-q")

    @property
    def masks(self) -> dict[str, list[str | None]]:
        """Those that are given, as `pipeline.stylize` takes them."""
        masks: dict[str, list[str | None]] = {}
        if self.content_masks:
            masks["content_masks"] = list(self.content_masks)
        if self.style_masks:
            masks["style_masks"] = [None if path == ALL else path for path in self.style_masks]
        return masks


FIELDS = {
    field.name: field for field in (*dataclasses.fields(Output), *dataclasses.fields(Settings))
}
"""Name -> field of every option that has a default."""

INSTEAD = (
    frozenset({"size", "size_pixels", "width", "height"}),
    frozenset({"style_size", "style_scale"}),
)
"""Options that are ways to say the same: one that is typed replaces all of them in a file."""

IDLE: dict[str, tuple[Callable[[Settings], bool], str]] = {
    "size": (
        lambda s: bool(s.size_pixels or s.width or s.height),
        "--size-pixels, --width or --height says how large",
    ),
    "size_pixels": (lambda s: bool(s.width or s.height), "--width or --height says how large"),
    "style_scale": (lambda s: s.style_size is not None, "--style-size says how large"),
    "style_blend_weights": (lambda s: s.style_weight == 0, "the weight of the style is 0"),
    "style_statistic": (lambda s: s.style_weight == 0, "the weight of the style is 0"),
    "history": (lambda s: s.optimizer == "adam", "it is L-BFGS'"),
    "learning_rate": (
        lambda s: s.optimizer != "adam",
        "L-BFGS finds its own steps (add --optimizer adam)",
    ),
    **{
        name: (lambda s: s.optimizer != "adam", "it is adam's (add --optimizer adam)")
        for name in ("beta1", "beta2", "epsilon", "decay")
    },
    "decay_every": (
        lambda s: s.optimizer != "adam" or s.decay == 1,
        "adam's step does not decay (add --optimizer adam --decay 0.8)",
    ),
    **{
        name: (
            lambda s: s.init != "noise" and s.noise_ratio == 0,
            "the start has no noise (add --init noise, or --noise-ratio 0.2)",
        )
        for name in ("seed", "noise", "noise_level")
    },
    "noise_ratio": (lambda s: s.init == "noise", "--init noise starts from nothing but noise"),
    "precision": (
        lambda s: s.precision == "tf32" and (s.device == "cpu" or s.dtype == "float64"),
        "it is for --dtype float32 on a GPU",
    ),
    "threads": (lambda s: s.conv == "im2col", "it is for --conv winograd"),
    "content_layers": (lambda s: s.content_weight == 0, "the weight of the content is 0"),
    "content_form": (lambda s: s.content_weight == 0, "the weight of the content is 0"),
    "style_layers": (lambda s: s.style_weight == 0, "the weight of the style is 0"),
    "style_form": (lambda s: s.style_weight == 0, "the weight of the style is 0"),
    "tv_form": (lambda s: s.tv_weight == 0, "--tv-weight is 0"),
    "colors": (
        lambda s: s.style_weight == 0 and s.colors in ("cholesky", "pca"),
        "the weight of the style is 0",
    ),
}
"""Option -> when it would be given in vain, and why."""


def flag(name: str) -> str:
    """'style_size' -> '--style-size'."""
    return f"--{name.replace('_', '-')}"


def add_options(parser: argparse.ArgumentParser, names: Collection[str] = FIELDS) -> None:
    """Add options of these fields, under the headings of their groups; none has a default."""
    group: argparse._ActionsContainer = parser
    for field in FIELDS.values():
        if "group" in field.metadata:
            group = parser.add_argument_group(field.metadata["group"])
        if field.name in names:
            add_option(group, field)


def add_option(
    parser: argparse._ActionsContainer, field: dataclasses.Field[Any], with_default: bool = True
) -> None:
    """Add the option of one field; its help has the default, if that holds."""
    limits = field.metadata
    names = [*([limits["short"]] if "short" in limits else []), flag(field.name)]
    common: dict[str, Any] = {"dest": field.name, "default": argparse.SUPPRESS}
    text = limits["help"].replace("%", "%%")
    if "nargs" in limits:
        parser.add_argument(
            *names, nargs=limits["nargs"], metavar=limits["metavar"], help=text, **common
        )
        return
    if field.type == "bool":
        parser.add_argument(*names, action="store_true", help=text, **common)
        return
    shown = with_default and field.default is not None
    default = f" [{format_value(field.default)}]" if shown else ""
    if "choices" in limits:
        common["choices"] = limits["choices"]
    else:
        common["metavar"] = limits.get("metavar", {int: "N", float: "X"}.get(kind(field), "TEXT"))

    def read(text: str) -> Any:
        """Read what was typed, or say what it must be instead."""
        try:
            if "parse" in limits:
                return limits["parse"](text)
            value = kind(field)(text)
        except UsageError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            value = text
        if (wrong := problem(field, value)) and "choices" not in limits:
            raise argparse.ArgumentTypeError(f"'{text}' cannot be used; {wrong}")
        return value

    parser.add_argument(*names, type=read, help=text + default, **common)


def kind(field: dataclasses.Field[Any]) -> type:
    """What a field's value is made of: int, float or str."""
    return KINDS.get(str(field.type).partition(" ")[0], str)


def format_value(value: Any) -> str:
    """Write a field's value as its option takes it."""
    if isinstance(value, tuple) and all(isinstance(item, int | float) for item in value):
        return ",".join(map(format_value, value))
    if isinstance(value, tuple):
        pairs = ((name, format_value(weight)) for name, weight in value)
        return ",".join(name if weight == "1" else f"{name}:{weight}" for name, weight in pairs)
    return str(value).removesuffix(".0")  # all digits that it has


def refuse_idle(names: set[str], settings: Settings) -> None:
    """Refuse options that would do nothing with these settings."""
    for name in sorted(names & set(IDLE)):
        idle, reason = IDLE[name]
        if idle(settings):
            raise UsageError(f"{flag(name)} does nothing here: {reason}")
