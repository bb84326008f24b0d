"""Ctrl-C, SIGTERM and SIGHUP while something is painted: noted, and obeyed when it is safe."""

from __future__ import annotations

import contextlib
import os
import signal
from types import FrameType
from typing import Any, Self

from .output import NOTHING_PAINTED, PROGRAM

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Endings:
    """Handlers that only take a note, for use in a ``with``.

    The note is looked at between evaluations, so the painting can be lost at no moment, however
    many signals arrive. Only while there is nothing to keep does a signal end the process at
    once. A signal that the process ignores (as under nohup) stays ignored.

    Parameters
    ----------
    after : signal handler, optional
        What follows the ``with``; by default what was before it.

    Attributes
    ----------
    painted : bool
        Whether there may be something to keep. To be set by whoever paints.
    """

    def __init__(self, after: Any = None) -> None:
        self.painted = False
        self._number = 0
        self._after = after
        self._before: dict[int, Any] = {}

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self._number > 0

    @property
    def exit_code(self) -> int:
        """What a shell calls a process that the signal has ended."""
        return 128 + self._number

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._number = self._number or number
        if not self.painted:
            with contextlib.suppress(OSError):  # print is not allowed here, nor a closed stream
                os.write(2, f"\n{PROGRAM}: error: {NOTHING_PAINTED}\n".encode())
            os._exit(self.exit_code)

    def __enter__(self) -> Self:
        for name in NAMES:
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before if self._after is None else self._after)
