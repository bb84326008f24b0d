"""What can be watched while it is painted: numbered pictures, one that is rewritten, a log."""

from __future__ import annotations

import csv
import glob
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from .. import saving
from ..errors import FileError, UsageError
from ..objective import by_kind
from ..pipeline import Painting, PaintingProgress
from .options import Output
from .output import warn

SECONDS_BETWEEN_PREVIEWS = 2.0

Save = Callable[[Painting, Path], None]


class Watch:
    """Writes what was asked for after each iteration.

    A place that cannot be written to is told of once, and the painting goes on. A picture is tried
    again: whoever looks at it may have held it (as on Windows) just then. A log would have gaps.

    Parameters
    ----------
    output : Output
        Its save_every, preview and log are used.
    target : Path
        The painting, whose name the numbered ones have.
    inputs : list
        What must not be overwritten.
    save : callable
        Writes a painting to a path.

    Raises
    ------
    FileError, UsageError
        If a place cannot be written to, or is an input.
    """

    def __init__(self, output: Output, target: Path, inputs: list[Any], save: Save) -> None:
        self.every = output.save_every
        self.target = target
        self.save = save
        self.preview = saving.check_output(output.preview, inputs) if output.preview else None
        self.log = Log(output.log, inputs) if output.log else None
        if self.preview and self.preview.resolve() == target.resolve():
            raise UsageError(f"{target} is the painting and the preview; choose another name")
        if self.every:
            for frame in target.parent.glob(f"{glob.escape(target.stem)}-*{target.suffix}"):
                saving.check_output(frame, inputs)
        self.last = -SECONDS_BETWEEN_PREVIEWS
        self.told: set[str] = set()

    def update(self, progress: PaintingProgress) -> None:
        """Take note of one more iteration."""
        if self.log:
            self._write("log", self.log.write, progress.size, progress.terms)
        if self.every and progress.iteration % self.every == 0:
            name = f"{self.target.stem}-{progress.iteration:05d}{self.target.suffix}"
            frame = self.target.with_name(name)
            self._write("every", self.save, progress.painting, frame)
        now = time.monotonic()
        if self.preview and now - self.last >= SECONDS_BETWEEN_PREVIEWS:
            self._write("preview", self.save, progress.painting, self.preview)
            self.last = time.monotonic()

    def finish(self, painting: Painting | None, sizes: Iterable[int]) -> None:
        """Write what is left of the log, whatever has ended the work."""
        if painting is None:
            return
        for scale, size in zip([*painting.coarser, painting], sizes, strict=False):
            if self.log:
                self._write("log", self.log.write, size, scale.terms)

    def _write(self, what: str, write: Callable[..., None], *arguments: Any) -> None:
        try:
            write(*arguments)
        except FileError as error:
            then = "without" if what == "log" else "and tried again"
            if what not in self.told:
                warn(f"{error}; it is painted on {then}")
            self.told.add(what)
            if what == "log":
                self.log = None


class Log:
    """A row for each evaluation: its number, size, seconds, loss, and what that is made of.

    The file is begun with the first row, so that what fails before leaves an old one as it is.

    Parameters
    ----------
    path : str
        With the suffix .csv or .jsonl.
    inputs : list
        What must not be overwritten.
    """

    def __init__(self, path: str, inputs: list[Any]) -> None:
        self.path = saving.check_place(path, inputs)
        if self.path.suffix.lower() not in (".csv", ".jsonl"):
            raise UsageError(f"{path}: a log is a .csv or a .jsonl; choose one of these")
        self.start = time.monotonic()
        self.rows = 0
        self.written: dict[int, int] = {}

    def write(self, size: int, terms: list[dict[str, float]]) -> None:
        """Write the evaluations at this size that are not written yet."""
        first, self.written[size] = self.written.get(size, 0), len(terms)
        try:
            with open(self.path, "a" if self.rows else "w", encoding="utf-8", newline="") as file:
                for made_of in terms[first:]:
                    self.rows += 1
                    self._row(file, size, made_of)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written ({error.strerror or error})") from None

    def _row(self, file: TextIO, size: int, made_of: dict[str, float]) -> None:
        row = {
            "evaluation": self.rows,
            "size": size,
            "seconds": round(time.monotonic() - self.start, 3),
            "loss": sum(made_of.values()),
            "content": 0.0,
            "style": 0.0,
            "tv": 0.0,
            "range": 0.0,
            **by_kind(made_of),
            **{name: term for name, term in made_of.items() if ":" in name},
        }
        if self.path.suffix.lower() == ".jsonl":
            file.write(json.dumps(row) + "\n")
            return
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        if self.rows == 1:
            writer.writeheader()
        writer.writerow(row)
