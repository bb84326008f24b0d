"""The files that students fill in: this program's own, with holes where the exercises are.

And one to mend, in which each function has a defect.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterable
from typing import Any

from . import hunt
from .catalogue import TO_MEND, TO_WRITE, Exercise

HEAD = """\
# Fill in the functions that raise NotImplementedError; what they do is in their docstrings, and in the
# chapter of the course. Then, in the folder above:  python -m minimal_nst exercises check FOLDER
"""


HEAD_OF_HUNT = """\
# Each function here does not do what its docstring says: find out why, and mend it. Then, in the
# folder above:  python -m minimal_nst exercises check FOLDER
"""


def stubs() -> dict[str, str]:
    """Make the files of a student's folder.

    Returns
    -------
    dict
        Name of each file -> its text.
    """
    modules = {exercise.file: exercise.module for exercise in TO_WRITE}
    files = {
        file: HEAD + hollow(inspect.getsource(module), by_file(file))
        for file, module in modules.items()
    }
    return {**files, TO_MEND[0].file: HEAD_OF_HUNT + spoilt(inspect.getsource(hunt))}


def by_file(file: str) -> list[Exercise]:
    """The exercises of a file, in the order of the course."""
    return [exercise for exercise in TO_WRITE if exercise.file == file]


def spoilt(source: str) -> str:
    """Put the defects back that a source tells of.

    Parameters
    ----------
    source : str
        In which a line that ends in ``# was: ...`` is right, and the comment is the line as it was
        found; if it is empty, there was none.

    Returns
    -------
    str
        The source with the lines as they were found.
    """
    source = re.sub(r"^.*  # was:\n", "", source, flags=re.MULTILINE)
    return re.sub(r"^( *).*?  # was: (.*)$", r"\1\2", source, flags=re.MULTILINE)


def hollow(source: str, exercises: Iterable[Exercise]) -> str:
    """Replace the bodies of functions by what says that they are missing.

    Parameters
    ----------
    source : str
        Of a module of this package.
    exercises : iterable of Exercise
        Whose functions are emptied, but for their docstrings.

    Returns
    -------
    str
        Python that can be imported from anywhere.
    """
    wanted = {exercise.name: exercise for exercise in exercises}
    lines = source.splitlines()
    functions: list[Any] = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name in wanted
    ]
    for node in reversed(functions):
        exercise = wanted[node.name]
        says = f'    raise NotImplementedError("exercise: {exercise.name}, chapter {exercise.chapter}")'
        lines[node.body[0].end_lineno : node.end_lineno] = [says]  # the first is the docstring
    text = "\n".join(lines) + "\n"
    text = re.sub(r"^from \.(\w*)", r"from minimal_nst.\1", text, flags=re.MULTILINE)
    return text.replace("\nfrom minimal_nst", "\nimport numpy as np\nfrom minimal_nst", 1)
