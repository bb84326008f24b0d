"""What is written while it is painted: numbered pictures, one that is rewritten, a log, a checkpoint."""

from __future__ import annotations

import csv
import glob
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from .. import saving
from ..checkpoint import Checkpoint
from ..errors import FileError, UsageError
from ..objective import by_kind
from ..pipeline import Painting, PaintingProgress
from .options import Output
from .output import warn

SECONDS_BETWEEN_PREVIEWS = 2.0
SECONDS_BETWEEN_CHECKPOINTS = 60.0

SHARE_OF_CHECKPOINTS = 0.02
"""Of the time, at most."""

Save = Callable[[Painting, Path], None]


class Watch:
    """Writes what was asked for after each iteration.

    A place that cannot be written to is told of once, and the painting goes on. A picture is tried
    again: whoever looks at it may have held it (as on Windows) just then. A log would have gaps.

    Parameters
    ----------
    output : Output
        Its save_every, preview, log and checkpoint are used.
    target : Path
        The painting, whose name the numbered ones have.
    inputs : list
        What must not be overwritten.
    save : callable
        Writes a painting to a path.
    sizes : sequence of int
        The longer side at each scale.
    checkpoint : Checkpoint, optional
        To be kept. If it is not empty, the log is gone on with as well.

    Raises
    ------
    FileError, UsageError
        If a place cannot be written to, or is an input.
    """

    def __init__(
        self,
        output: Output,
        target: Path,
        inputs: list[Any],
        save: Save,
        sizes: Sequence[int],
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self.every = output.save_every
        self.target = target
        self.save = save
        self.preview = saving.check_output(output.preview, inputs) if output.preview else None
        self.sizes = sizes
        self.checkpoint, self.kept = checkpoint, Path(output.checkpoint or "")
        written = zip(sizes, checkpoint.evaluations if checkpoint else [], strict=False)
        self.log = Log(output.log, inputs, dict(written)) if output.log else None
        places = {
            "the painting": target,
            "the preview": self.preview,
            "the log": self.log.path if self.log else None,
            "the checkpoint": self.kept if checkpoint else None,
        }
        whose: dict[Path, str] = {}
        for what, path in places.items():
            if path and (other := whose.setdefault(path.resolve(), what)) != what:
                raise UsageError(f"{path} is {other} and {what}; choose another name")
        if self.every:
            for frame in target.parent.glob(f"{glob.escape(target.stem)}-*{target.suffix}"):
                saving.check_output(frame, inputs)
        self.last = -SECONDS_BETWEEN_PREVIEWS
        self.next_checkpoint = time.monotonic() + SECONDS_BETWEEN_CHECKPOINTS
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
        if now >= self.next_checkpoint:
            self._keep()
            took = time.monotonic() - now
            pause = max(SECONDS_BETWEEN_CHECKPOINTS, took / SHARE_OF_CHECKPOINTS)
            self.next_checkpoint = time.monotonic() + pause

    def finish(self, painting: Painting | None) -> None:
        """Write the checkpoint and what is left of the log, whatever has ended the work."""
        self._keep()
        if painting is None:
            return
        for scale, size in zip([*painting.coarser, painting], self.sizes, strict=False):
            if self.log:
                self._write("log", self.log.write, size, scale.terms)

    def _keep(self) -> None:
        if self.checkpoint and self.checkpoint.evaluations:
            self._write("checkpoint", self.checkpoint.save, self.kept)

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
    written : mapping
        Size -> how many evaluations an earlier run has written, if one is gone on with: its log gets
        more rows then.
    """

    def __init__(self, path: str, inputs: list[Any], written: Mapping[int, int]) -> None:
        self.path = saving.check_place(path, inputs)
        if self.path.suffix.lower() not in (".csv", ".jsonl"):
            raise UsageError(f"{path}: a log is a .csv or a .jsonl; choose one of these")
        self.start = time.monotonic()
        self.written = dict(written)
        self.rows = sum(self.written.values())

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
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
