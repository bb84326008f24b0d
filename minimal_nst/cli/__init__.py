"""The command line: one module for each subcommand. Only here is anything printed.

Exit codes: 0 done, 1 the computation failed, 2 usage, 3 a file, 4 memory, 130 Ctrl-C (what was
painted so far is saved), 143 and 129 the same for a termination signal and a closed terminal.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from .. import __version__
from ..errors import NSTError, NSTWarning
from ..settings import Settings
from . import bench, demo, exercises, gradcheck, presets, reconstruct, show, stylize, weights
from .options import flag
from .output import NOTHING_PAINTED, PROGRAM, fail, say


class Parser(argparse.ArgumentParser):
    """argparse, but an error is one line that names the help."""

    def error(self, message: str) -> NoReturn:
        """Print the one line; end with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """The same for arguments that nobody knows; with the option that may have been meant."""
        option = next((text for text in unknown if text.startswith("--")), "").partition("=")[0]
        near = get_close_matches(option, self._option_string_actions, 1, cutoff=0.75)
        hint = f"; did you mean {near[0]}?" if near else ""
        if option in near:  # it stands before the command
            hint = "; options belong behind the command"
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog=PROGRAM,
        description="Neural style transfer from scratch: paint a picture in the style of another.",
        epilog=f"Try '{PROGRAM} demo' first.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (stylize, reconstruct, demo, show, presets, gradcheck, exercises, weights, bench):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None, after: Any = None) -> int:
    """Run the program.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; by default those of the process.
    after : signal handler, optional
        For Ctrl-C and the like once a painting is done; by default what it was.

    Returns
    -------
    int
        The exit code.
    """
    try:
        args, unknown = build_parser().parse_known_args(argv)
        if unknown:  # told by the subcommand's own parser, whose --help has what there is
            args.parser.refuse(unknown)
    except SystemExit as end:  # argparse ends the process itself
        return int(end.code or 0)
    args.after = after
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("always", category=NSTWarning)
            warnings.showwarning = _show
            return int(args.run(args))
    except SystemExit as end:  # a subcommand's parser found something missing
        return int(end.code or 0)
    except NSTError as error:
        return fail(_as_typed(str(error), getattr(args, "filed", set())), error.exit_code)
    except KeyboardInterrupt:
        return fail(NOTHING_PAINTED, 130)
    except MemoryError:
        return fail("not enough memory; choose a smaller --size or --style-size", 4)
    except OSError as error:
        return fail(f"{error.filename or 'a file'}: {error.strerror or error}", 3)
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m minimal_nst ...
            raise
        message = f"unexpected {type(error).__name__}: {error}".splitlines()[0]
        return fail(f"{message}; please report it (python -X dev shows where)", 1)


def _as_typed(message: str, filed: set[str]) -> str:
    """Call settings by their options: 'style_size' -> '--style-size'; but not those of a file.

    A name of one word may be a word like any other: it is taken for a setting where its value follows.
    """
    names = [field.name for field in dataclasses.fields(Settings)]
    several = rf"(?<![\w/.-])({'|'.join(name for name in names if '_' in name)})(?![\w/.-])"
    single = rf"(^|(?<=, )|(?<=choose )|(?<=with ))({'|'.join(names)})(?= is | are | own-| \d|$)"
    for pattern in (several, single):
        message = re.sub(pattern, lambda m: m[0] if m[0] in filed else flag(m[0]), message)
    return message


def _show(message: Warning | str, *_: Any, **__: Any) -> None:
    say(f"{PROGRAM}: warning: {message}", sys.stderr)
