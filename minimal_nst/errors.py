"""The program's own errors: one clear line each, and the exit code that goes with it."""

from __future__ import annotations

from typing import ClassVar


class NSTError(Exception):
    """What went wrong, with the offending value, the limit and what to do, in one line.

    Attributes
    ----------
    exit_code : int
        What the command line returns for it.
    """

    exit_code: ClassVar[int] = 1


class RunError(NSTError):
    """The computation itself failed (exit code 1)."""


class NotFinite(RunError):
    """A loss or gradient that is not a finite number."""


class UsageError(NSTError, ValueError):
    """An option or argument that cannot be used (exit code 2)."""

    exit_code = 2


class FileError(NSTError, OSError):
    """A file that cannot be read or written, or that holds something else (exit code 3)."""

    exit_code = 3


class OutOfMemory(NSTError, MemoryError):
    """The computation does not fit into memory (exit code 4)."""

    exit_code = 4


class NSTWarning(UserWarning):
    """What goes on, but otherwise than one may expect."""
