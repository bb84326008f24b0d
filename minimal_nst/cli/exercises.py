"""``minimal-nst exercises``: a folder to fill in, and what is said of it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import FileError, UsageError
from ..resources import CASTLE, STARRY_NIGHT
from ..settings import Settings
from .options import Output
from .output import PROGRAM, say
from .paint import paint

PAINTING = Settings(size=192, iterations=60, margin=0, conv="im2col", optimizer="own-lbfgs")
"""What `paint` paints: with the textbook's layers and our own L-BFGS, so that all is used."""

TOGETHER = 4
"""Processes that mark at a time, at most: each may take a few seconds of a processor, and much memory."""

EPILOG = """\
examples:
  minimal-nst exercises new homework
  minimal-nst exercises check homework
  minimal-nst exercises check homework --only conv_backward
  minimal-nst exercises check --json submissions/*
  minimal-nst exercises paint homework

Painting needs what the program consists of, not the bug hunt (hunt.py).

Exit code of check: 0 if all is done, 1 if something is missing or wrong.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "exercises",
        help="the course's exercises: get them, and check what you have written",
        description="The course's exercises: write the program yourself, function by function, and "
        "mend what other programs got wrong.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "action",
        choices=("new", "check", "paint"),
        help="make a folder, look at some, or paint with what is in one",
    )
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="of one student")
    parser.add_argument("--only", metavar="NAME", help="look at this function only")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each folder")
    parser.set_defaults(run=run, parser=parser)


def run(args: argparse.Namespace) -> int:
    """Do what was asked for; return the exit code."""
    if args.action == "check":
        return check(args.folders, args.only, args.json)
    for option in ("only", "json"):
        if getattr(args, option):
            raise UsageError(f"--{option} does nothing here: it goes with check")
    if args.action == "paint":
        return paint_with(args.folders, args.after)
    for folder in args.folders:
        new(Path(folder))
    return 0


def new(folder: Path) -> None:
    """Write the files; nothing that is there is overwritten."""
    from ..exercises.stubs import stubs

    if folder == Path():
        raise UsageError("FOLDER is empty; name one, such as homework")
    files = stubs()
    *written, mended = files
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise FileError(f"{folder} has a {there[0]} already; choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    say(
        f"{folder}: fill in {', '.join(written)}, mend {mended}; then: {PROGRAM} exercises check {folder}",
        sys.stdout,
    )


def check(folders: list[str], only: str | None, as_json: bool, painting: bool = False) -> int:
    """Print a row for each exercise (that painting needs), or a line of JSON for each folder."""
    from ..backend import available_processors
    from ..exercises.catalogue import EXERCISES, TO_WRITE
    from ..exercises.marking import mark

    exercises = TO_WRITE if painting else EXERCISES
    chosen = [exercise for exercise in exercises if only in (None, exercise.name)]
    if not chosen:
        names = ", ".join(exercise.name for exercise in exercises)
        raise UsageError(f"there is no exercise '{only}'; there are {names}")
    everything = True
    for folder in folders:
        if not Path(folder).is_dir():
            raise FileError(f"{folder} is no folder; make one by: {PROGRAM} exercises new {folder}")
        marks = []
        with ThreadPoolExecutor(min(TOGETHER, available_processors())) as pool:
            for one in pool.map(partial(mark, Path(folder).resolve()), chosen):
                marks.append(one)
                if not as_json:
                    row = f"{one.name:18} chapter {one.chapter:2}  {one.state:8} {one.words}"
                    say(row.rstrip(), sys.stdout)
        done = sum(one.state == "done" for one in marks)
        everything &= done == len(marks)
        found = [dataclasses.asdict(one) for one in marks]
        line = json.dumps({"folder": folder, "done": done, "of": len(marks), "marks": found})
        say(line if as_json else f"{folder}: {done} of {len(marks)} done", sys.stdout)
    return 0 if everything else 1


def paint_with(folders: list[str], after: Any) -> int:
    """Paint the demo's pair by a student's own layers, losses and L-BFGS."""
    if len(folders) > 1:
        raise UsageError(f"paint takes one folder, not {len(folders)}")
    if check(folders, None, as_json=False, painting=True):
        raise UsageError("not all is done; what is missing or wrong stands above")
    from ..exercises.marking import install

    folder = Path(folders[0]).resolve()
    install(folder)
    output = Output(output=str(folder / "painting.png"))
    return paint(str(CASTLE), [str(STARRY_NIGHT)], PAINTING, output, after=after)
