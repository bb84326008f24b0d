"""A painting's record: what its file says of how it was made, so that it can be made again.

It is a line of JSON that stands in the picture: in a PNG as a text named ``minimal_nst``, elsewhere
as EXIF's description of the picture. Files are called by their names, without the folders, and told
by their hashes. Nothing in it depends on when or how fast the painting was made.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from . import __version__, images
from .errors import FileError, UsageError
from .settings import STARTS, Settings
from .weights import find_weights

if TYPE_CHECKING:
    from .pipeline import Painting

OF_A_MACHINE = ("device", "threads", "strips", "weights", "force")
"""Settings that say where something is computed, and from which files; they are not repeated."""

PARTS: dict[str, type] = {
    "settings": dict,
    "content": dict,
    "styles": list,
    "versions": dict,
    "result": dict,
}
"""Without which a record is none."""


def of_inputs(
    content: str,
    styles: Sequence[str],
    settings: Settings,
    preset: str,
    masks: Mapping[str, Sequence[str | None]] | None = None,
) -> dict[str, Any]:
    """Record what a painting is made of; to be asked for before the work.

    Parameters
    ----------
    content, styles : paths
    settings : Settings
    preset : str
        Whose defaults they began with.
    masks : mapping, optional
        'content_masks' and 'style_masks', if any.

    Returns
    -------
    dict
        For `finished`.

    Raises
    ------
    FileError
        If a file cannot be read.
    """
    kept = dataclasses.asdict(settings)
    record: dict[str, Any] = {
        "program": "minimal_nst",
        "versions": {
            "minimal_nst": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy", "pillow")},
        },
        "content": _file(content),
        "styles": [_file(style) for style in styles],
        "weights": _file(find_weights(settings.weights)),
        "preset": preset,
        "settings": {name: kept[name] for name in kept if name not in OF_A_MACHINE},
    }
    for name, paths in (masks or {}).items():
        record[name] = [path and _file(path) for path in paths]
    if settings.init not in STARTS:
        record["init"] = _file(settings.init)
        record["settings"]["init"] = record["init"]["name"]
    return record


def finished(record: dict[str, Any], painting: Painting) -> str:
    """Add what came of it; return the line that the picture carries.

    Parameters
    ----------
    record : dict
        From `of_inputs`.
    painting : Painting
    """
    result = {
        "device": painting.device,
        "loss": painting.loss,
        "iterations": painting.iterations,
        "evaluations": painting.evaluations,
        "stopped_because": painting.stopped_because,
    }
    return json.dumps({**record, "result": result})


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a painting's record.

    Parameters
    ----------
    path : path

    Returns
    -------
    dict
        The same as was written. Its settings are a stranger's: they have yet to be checked.

    Raises
    ------
    FileError
        If the picture cannot be read, or has no record.
    """
    text = images.description(path)
    try:
        record = json.loads(text)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict) or any(
        not isinstance(record.get(part), kind) for part, kind in PARTS.items()
    ):
        raise FileError(
            f"{path}: has no record of how it was painted (other programs may have removed it)"
        )
    return record


def to_repeat(record: dict[str, Any], path: str, given: Collection[str] | None) -> dict[str, Any]:
    """Return the settings that a record asks for.

    Parameters
    ----------
    record : dict
        From `read`.
    path : str
        Of the painting, for messages.
    given : collection of str or None
        What is given anew; None if it will not be painted.

    Raises
    ------
    UsageError
        If the painting began from a picture or had masks, of which a record has the names alone;
        or if there is a setting that a record does not have.
    """
    settings: dict[str, Any] = record["settings"]
    known = {field.name for field in dataclasses.fields(Settings)} - set(OF_A_MACHINE)
    for name in set(settings) - known:
        raise UsageError(f"{path}: its record has '{name}', which this program does not know")
    if given is not None:
        start = settings.get("init")
        if start not in STARTS and "init" not in given:
            raise UsageError(f"{path}: it began from the picture {start!r}; give that with --init")
        for name in ("content_masks", "style_masks"):
            if record.get(name) and name not in given:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{path}: it was painted with masks; give them with {option}")
    # a preset may have scales, and a painting after it none
    return {
        name: value for name, value in settings.items() if value is not None or name == "scales"
    }


def differences(record: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Say in which files and versions two records differ.

    Parameters
    ----------
    record : dict
        From `read`: what was.
    other : dict
        From `of_inputs`: what is.

    Returns
    -------
    list of str
        Of each, a line; empty if none.
    """
    others = [what for what in other_files(record, other) if what in record]  # not what is added
    lines = [f"{what}: another file than the record's" for what in others]
    for name, here in other["versions"].items():
        if (there := record["versions"].get(name)) != here:
            lines.append(f"{name} {here} instead of {there}")
    return lines


def other_files(record: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return of which kinds two records, as in `differences`, have other files."""
    kinds = "content", "styles", "weights", "init", "content_masks", "style_masks"
    known = (what for what in kinds if what in record or what in other)
    return [what for what in known if _hashes(record, what) != _hashes(other, what)]


def _hashes(record: dict[str, Any], what: str) -> list[Any]:
    files = record.get(what)
    return [
        file.get("sha256") if isinstance(file, dict) else None
        for file in (files if isinstance(files, list) else [files])
    ]


def _file(path: str | os.PathLike[str]) -> dict[str, str]:
    """The name of a file without its folders, and its hash."""
    try:
        with open(path, "rb") as file:
            return {
                "name": os.path.basename(path),
                "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            }
    except FileNotFoundError:
        raise FileError(f"{path}: no such picture") from None
    except IsADirectoryError:
        raise FileError(f"{path} is a folder, not a picture") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
