"""A run that can be gone on with: all that it depends on where it is, in memory and as a file.

The file is NumPy's archive of arrays, and of one text, JSON, for what is no array. It holds pixels and
not pictures: whoever goes on brings the same pictures and settings again.
"""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from . import __version__, saving
from .backend import Backend, array_module
from .errors import FileError, UsageError
from .record import OF_A_MACHINE
from .settings import Settings

FREE = (*OF_A_MACHINE, "iterations", "tolerance", "max_seconds")
"""Settings that may be others when a run is gone on with: where it is computed, and how far."""

NO_CHECKPOINT = (
    AttributeError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What a file that is none, or half of one, can bring about."""


@dataclass
class Checkpoint:
    """What `stylize` needs to go on; it fills a new one, and goes on from one that is filled.

    Attributes
    ----------
    memory : dict
        What `optimize.minimize` has to remember, at the scale that is painted.
    terms : list of dict
        `Painting.terms` there.
    coarser : list of dict
        Of each scale that is done, the fields of its `Painting`.
    settings : dict
        Those that must be the same.
    made : dict
        What the painting is made of, for whoever wants to know: the command line keeps
        `record.of_inputs` here.
    """

    memory: dict[str, Any] = field(default_factory=dict)
    terms: list[dict[str, float]] = field(default_factory=list)
    coarser: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluations(self) -> list[int]:
        """How many there have been, at each scale that was begun."""
        here = [self.memory["evaluations"]] if self.memory else []
        return [*(len(scale["losses"]) for scale in self.coarser), *here]

    @property
    def iterations(self) -> int:
        """How many there have been, at all scales."""
        done = sum(scale["iterations"] for scale in self.coarser)
        return int(done + self.memory.get("iterations", 0))

    def begin(self, settings: Settings, backend: Backend) -> None:
        """Hold the settings against those that it was begun with, if it was.

        Parameters
        ----------
        settings : Settings
        backend : Backend
            On which it is painted.

        Raises
        ------
        UsageError
            If one differs that must not.
        """
        known = dataclasses.asdict(settings).items()
        here = {
            "device": backend.name,
            **{name: value for name, value in known if name not in FREE},
        }
        here = json.loads(json.dumps(here, default=os.fspath))
        for name, value in here.items() if self.evaluations else ():
            if (before := self.settings.get(name)) != value:
                raise UsageError(
                    f"{name} is {value}, and was {before} when the checkpoint was begun; leave it as "
                    "it was, or begin another"
                )
        self.settings = here

    def next_scale(self, painting: Any) -> None:
        """A scale is done: its painting is kept, and nothing else of it is needed."""
        self.coarser.append(vars(painting))
        self.memory.clear()
        self.terms = []

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file, as `saving.replace` does.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileError
            If it cannot be written; what was there before is untouched.
        """
        arrays = {f"coarser {k}": scale["x"] for k, scale in enumerate(self.coarser)}
        plain = {}
        for name, value in self.memory.items():
            if isinstance(value, str | int | float | list):
                plain[name] = value
            else:
                on_host = getattr(array_module(value), "asnumpy", np.asarray)
                arrays[f"memory {name}"] = on_host(value)
        text = {
            "program": f"minimal_nst {__version__}",
            "memory": plain,
            "terms": self.terms,
            "coarser": [{**scale, "x": None} for scale in self.coarser],
            "settings": self.settings,
            "made": self.made,
        }
        arrays["text"] = np.array(json.dumps(text))
        saving.replace(path, lambda file: np.savez(file, allow_pickle=False, **arrays))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` has written.

        Parameters
        ----------
        path : path

        Raises
        ------
        FileError
            If it cannot be read, or is no checkpoint, or one of another version of this program.
        """
        try:
            with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
                text = json.loads(str(file["text"]))
                if text["program"] != f"minimal_nst {__version__}":
                    raise FileError(
                        f"{path} is a checkpoint of {text['program']}, this is {__version__}; choose "
                        "another name"
                    )
                arrays = {name: file[name] for name in file.files if name.startswith("memory ")}
                memory = {name.removeprefix("memory "): array for name, array in arrays.items()}
                coarser = [
                    {**scale, "x": file[f"coarser {k}"]} for k, scale in enumerate(text["coarser"])
                ]
            memory.update(text["memory"])
            return cls(memory, text["terms"], coarser, text["settings"], text["made"])
        except NO_CHECKPOINT:
            raise FileError(
                f"{path} is no checkpoint, or a damaged one; choose another name"
            ) from None
        except OSError as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"{path}: cannot be read ({error.strerror or error})") from None
