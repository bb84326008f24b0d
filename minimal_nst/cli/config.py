"""Files of options: TOML, with the names of the command line's."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import FileError, UsageError
from ..presets import PRESETS
from ..settings import Settings, problem
from .options import FIELDS, format_value

PICTURES = ("content", "styles")
DUMPED = "minimal-nst stylize --config FILE; what begins with # is as the preset has it"


def read_config(path: str) -> dict[str, Any]:
    """Read a file of options.

    Parameters
    ----------
    path : str

    Returns
    -------
    dict
        Fields of `Output` and `Settings`, 'content' and 'styles', of those that the file has.

    Raises
    ------
    FileError
        If it cannot be read.
    UsageError
        If it is no TOML, or has an unknown key or a value that cannot be used.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Windows' editors begin it with a mark
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not a file of options: its text is not UTF-8") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not a file of options in TOML: {error}") from None
    return {key.replace("-", "_"): read_value(path, key, value) for key, value in table.items()}


def read_value(path: str, key: str, value: Any) -> Any:
    """Hold a value that a file has for a key against its field; return it as the field has it."""
    name = key.replace("-", "_")
    if name in PICTURES:
        pictures = value if name == "styles" and isinstance(value, list) else [value]
        if not pictures or not all(isinstance(item, str) for item in pictures):
            raise UsageError(
                f'{path}: {key} is {value!r}; write "photo.jpg", or ["a.jpg", "b.jpg"]'
            )
        return pictures if name == "styles" else value
    if name not in FIELDS:
        (near,) = difflib.get_close_matches(name, [*FIELDS, *PICTURES], n=1, cutoff=0)
        raise UsageError(f"{path}: there is no '{key}'; did you mean {near}?")
    field = FIELDS[name]
    if "parse" in field.metadata:
        try:
            return field.metadata["parse"](value)
        except UsageError as error:
            raise UsageError(f"{path}: {key}: {error}") from None
    if wrong := problem(field, value):
        raise UsageError(f"{path}: {key} is {value!r}; {wrong}")
    return value


def dump(given: Mapping[str, Any], settings: Settings, title: str = DUMPED) -> Iterator[str]:
    """Write what a run would do as a file of options.

    Parameters
    ----------
    given : mapping
        As from `read_config`, what was said on the command line included.
    settings : Settings
        What they come to.
    title : str
        The first line, without its '#'.

    Yields
    ------
    str
        Lines. What is as the preset has it is a comment; what differs is not.
    """
    defaults = {name: field.default for name, field in FIELDS.items()}
    preset = given.get("preset", defaults["preset"])
    defaults |= dataclasses.asdict(Settings(**PRESETS[preset].settings))
    values = {**defaults, **given, **dataclasses.asdict(settings)}
    yield f"# {title}"
    for name in PICTURES:
        if name in given:
            yield f"{name} = {_toml(given[name])}"
    for name, field in FIELDS.items():
        if "group" in field.metadata:
            yield f"\n# {field.metadata['group']}"
        mark = "" if name in given or values[name] != defaults[name] else "# "
        value = values[name]
        if value is None and not mark:
            value = "none"  # of scales, which a preset has
        yield f"{mark}{name} =" + ("" if value is None else f" {_toml(value)}")


def _toml(value: Any) -> str:
    """A value as TOML has it, in ASCII, which no console changes; JSON's lists are TOML's."""
    if isinstance(value, tuple):
        value = format_value(value) or []  # no layers at all
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"[^\x00-\x7e]", lambda m: f"\\U{ord(m[0]):08x}", text)
