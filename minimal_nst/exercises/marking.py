"""What is said of a student's functions: done, missing, or wrong, and then how.

Each function is looked at in a process of its own, which may take so long and so much memory, and
by itself: whatever else it calls of the exercises is this program's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import subprocess
import sys
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import objective
from ..gradcheck import diagnose
from ..mutants import MUTANTS, OPERATIONS
from .catalogue import EXERCISES, TO_WRITE, Exercise
from .stubs import spoilt

SECONDS = 20
MEMORY = 4 * 2**30
SEED = 20161


@dataclass(frozen=True)
class Mark:
    """What is said of one exercise.

    Attributes
    ----------
    name : str
    chapter : int
    state : str
        'done', 'missing' or 'wrong'.
    words : str
        What was expected, what came, and a hint; '' if it is done.
    """

    name: str
    chapter: int
    state: str
    words: str = ""


def mark(folder: Path, exercise: Exercise) -> Mark:
    """Mark one exercise of a folder, in a process of its own.

    Parameters
    ----------
    folder : Path
        With the student's files.
    exercise : Exercise

    Returns
    -------
    Mark
    """
    blank = Mark(exercise.name, exercise.chapter, "wrong")
    code = f"from minimal_nst.exercises import marking; marking.child({exercise.name!r})"
    try:
        done = subprocess.run(
            [sys.executable, "-X", "utf8", "-c", code, str(folder)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return replace(blank, words=f"it takes longer than {SECONDS} seconds")
    *_, last = done.stdout.splitlines() or [""]
    try:
        return Mark(**json.loads(last))
    except (ValueError, TypeError):
        return replace(blank, words=f"it ended the process (exit code {done.returncode})")


def child(name: str) -> None:
    """Look at one function, in this process; write the mark as a line of JSON."""
    (exercise,) = (exercise for exercise in EXERCISES if exercise.name == name)
    _limit_memory()
    found = look(Path(sys.argv[1]), exercise)
    sys.stdout.write(f"\n{json.dumps(asdict(found))}\n")


def _limit_memory() -> None:
    """Let this process have no more than `MEMORY`, if the system can see to it."""
    with contextlib.suppress(ImportError, ValueError):  # on Windows, on macOS
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        least = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
        resource.setrlimit(resource.RLIMIT_AS, (least, hard))


def look(folder: Path, exercise: Exercise) -> Mark:
    """Look at one function of a folder, in this process.

    Parameters
    ----------
    folder : Path
    exercise : Exercise

    Returns
    -------
    Mark
    """
    blank = Mark(exercise.name, exercise.chapter, "missing")
    path = folder / exercise.file
    if not path.exists():
        return replace(blank, words=f"there is no {exercise.file}")
    try:
        function = load(path, exercise)
        if function is None:
            return replace(blank, words=f"{exercise.file} has no function {exercise.name}")
        words = wrong(function, exercise)
    except NotImplementedError:
        return replace(blank, words="not yet written")
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a student's code raises
        return replace(blank, state="wrong", words=told(error, path))
    if words and exercise.mends and not wrong(function, exercise, as_found(exercise)):
        return replace(blank, words=f"not yet mended: {words}")
    return replace(blank, state="wrong" if words else "done", words=words)


def as_found(exercise: Exercise) -> Any:
    """A function with the defect that a student gets it with."""
    names: dict[str, Any] = {}
    exec(spoilt(inspect.getsource(exercise.module)), names)  # noqa: S102 - our own source
    return names[exercise.name]


def load(path: Path, exercise: Exercise) -> Any:
    """The student's function, with this program's own in the place of the other exercises."""
    module = read(path)
    for other in EXERCISES:
        if other.module is exercise.module and other.name != exercise.name:
            setattr(module, other.name, getattr(other.module, other.name))
    return getattr(module, exercise.name, None)


def read(path: Path) -> ModuleType:
    """Run a student's file; return what it has made."""
    spec = importlib.util.spec_from_file_location(f"student_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def install(folder: Path) -> None:
    """Put a student's functions in the place of this program's own, for the rest of the process.

    Parameters
    ----------
    folder : Path
        In which all of the program's functions are written.
    """
    files = {exercise.file: read(folder / exercise.file) for exercise in TO_WRITE}
    for exercise in TO_WRITE:
        for user in (exercise.module, objective):  # which has imported the losses by their names
            if hasattr(user, exercise.name):
                setattr(user, exercise.name, getattr(files[exercise.file], exercise.name))


def wrong(function: Any, exercise: Exercise, right: Any = None) -> str:
    """How a function differs from this program's own, or another one; '' if it does not."""
    arguments = exercise.arguments(np.random.default_rng(SEED))
    expected = (right or getattr(exercise.module, exercise.name))(*arguments)
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            argument.flags.writeable = False
    difference = compare(expected, function(*arguments))
    hint = difference and hints(function, exercise)
    return f"{difference}; hint: {hint}" if hint else difference


def compare(expected: Any, came: Any) -> str:
    """Say what differs between two results.

    Parameters
    ----------
    expected, came : array, number or tuple of such
        This program's and the student's.

    Returns
    -------
    str
        The first difference, and how many there are; '' if there is none.
    """
    if came is None:
        return "it returns nothing; is there a return?"
    if isinstance(expected, tuple):
        if not isinstance(came, tuple) or len(came) != len(expected):
            return f"it must return {len(expected)} things"
        parts = [compare(*pair) for pair in zip(expected, came, strict=True)]
        ordinals = ("the first result: ", "the second result: ", "the third result: ")
        return next((o + p for o, p in zip(ordinals, parts, strict=False) if p), "")
    expected, came = np.asarray(expected), np.asarray(came)
    if came.shape != expected.shape:
        return f"its shape is {came.shape}, {expected.shape} was expected"
    if came.dtype.kind not in "biufc":
        return f"it holds {came.dtype}, numbers were expected"
    scale = np.abs(expected.astype(float)).max() if expected.size else 0
    same = np.isclose(came, expected, rtol=1e-9, atol=1e-9 * scale)
    if same.all():
        return ""
    index = tuple(int(i) for i in np.argwhere(~same)[0])
    place = f"at {list(index)} " if index else ""
    count = f"{np.count_nonzero(~same)} of {same.size} numbers differ: " if index else ""
    return f"{count}{place}it is {came[index]:.6g}, {expected[index]:.6g} was expected"


def hints(function: Any, exercise: Exercise) -> str:
    """What is known of a mistake.

    Parameters
    ----------
    function : callable
        The student's.
    exercise : Exercise

    Returns
    -------
    str
        The hint of the mutant that it equals, or else how it looks; '' if nothing is known.
    """
    if exercise.adapt is None:
        return ""
    right = OPERATIONS[exercise.operation]
    backward = exercise.adapt(function)
    x, dy = right.draw(np.random.default_rng(SEED))
    try:
        dx = np.asarray(backward(dy, x))
        known = [mutant for mutant in MUTANTS if mutant.of == exercise.operation]
        for mutant in known if dx.shape == x.shape else ():
            if np.allclose(dx, mutant.backward(dy, x), rtol=1e-9, atol=1e-12):
                return mutant.hint
        return diagnose(replace(right, backward=backward))
    except Exception:  # noqa: BLE001 - the student's own; the difference has been said
        return ""


def told(error: BaseException, path: Path) -> str:
    """An exception in one line, with the line of the student's file that it came from."""
    if isinstance(error, SyntaxError):
        return f"{path.name} is no Python: {error.msg}, line {error.lineno}"
    if isinstance(error, ValueError) and "read-only" in str(error):
        return "it writes to one of its arguments, which somebody else may still need"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    where = f" (line {frames[-1].lineno} of {path.name})" if frames else ""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"it raises {text}{where}"
