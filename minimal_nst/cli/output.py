"""Printing that never spoils the work: it may be that nobody listens, or cannot read it."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Final, TextIO

from ..errors import NSTWarning

PROGRAM: Final = "minimal-nst"
NOTHING_PAINTED: Final = "stopped before anything was painted"


def say(text: str, stream: TextIO | None) -> None:
    """Print a line; if the stream is closed, full, or ends in a pipe that nobody reads, do not."""
    if stream is None:
        return
    encoding = stream.encoding or "utf-8"
    line = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(line, file=stream, flush=True)
    except OSError:
        # what is left in the stream's buffer would be complained about at exit
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def warn(text: str) -> None:
    """Warn, in the way that the command line shows."""
    warnings.warn(text, NSTWarning, stacklevel=2)


def count(number: int, noun: str) -> str:
    """'1 iteration', '2 iterations'."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def fail(message: str, code: int) -> int:
    """Say on standard error, in one line, what is wrong; return the exit code."""
    say(f"{PROGRAM}: error: {' '.join(message.split())}", sys.stderr)
    return code
