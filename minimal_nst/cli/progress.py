"""How far the painting is: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from ..objective import by_kind
from ..pipeline import PaintingProgress
from .output import say

SECONDS_BETWEEN_LINES = 10.0


class Bar:
    """Shows a run's iterations, losses and time left on standard error; use it in a ``with``.

    Parameters
    ----------
    iterations : int
        How many there will be.
    quiet : bool
        Show nothing.
    begun : int
        How many there have been, if an earlier run is gone on with.
    """

    def __init__(self, iterations: int, quiet: bool, begun: int = 0) -> None:
        self.quiet = quiet
        self.last = time.monotonic()
        self.first: tuple[float, int] | None = None
        shown = not quiet and sys.stderr is not None and sys.stderr.isatty()
        columns, rows = shutil.get_terminal_size()  # 80 and 24 where the terminal says 0
        self.bar = tqdm(
            total=iterations,
            initial=begun,
            disable=not shown,
            unit="it",
            ncols=columns,
            nrows=rows,
        )

    def update(self, progress: PaintingProgress) -> None:
        """Take note of one more iteration: the callback of the optimiser."""
        self.bar.total = progress.iterations  # a scale may have ended early
        kinds = by_kind(progress.terms[-1])
        apart = ", ".join(f"{kind} {_short(term)}" for kind, term in kinds.items())
        self.bar.set_postfix_str(apart, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.first is None:  # what was before it, a GPU's compiler for one, happens once
            self.first = now, progress.iteration
        last = progress.iteration == progress.iterations
        if (
            self.bar.disable
            and not self.quiet
            and (now - self.last > SECONDS_BETWEEN_LINES or last)
        ):
            self.last = now
            since, done = now - self.first[0], progress.iteration - self.first[1]
            to_come = progress.iterations - progress.iteration
            left = f", {since / done * to_come:.0f} s left" if done else ""
            say(
                f"iteration {progress.iteration}/{progress.iterations}, "
                f"loss {progress.loss:.4g} ({apart}){left}",
                sys.stderr,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.close()


def _short(number: float) -> str:
    """'1.2e6', since a line has eighty columns."""
    digits, _, exponent = f"{number:.1e}".partition("e")
    return f"{digits}e{int(exponent)}"
