"""The exercises: their files, and what is said of right, wrong, missing and hostile solutions."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import sys
import textwrap
import threading
import time

import pytest
from minimal_nst import cli, objective
from minimal_nst.cli.exercises import PAINTING
from minimal_nst.exercises import marking
from minimal_nst.exercises.catalogue import EXERCISES, TO_MEND, TO_WRITE
from minimal_nst.exercises.stubs import stubs
from minimal_nst.gradcheck import adapt, check

from conftest import ROOT

BY_NAME = {exercise.name: exercise for exercise in EXERCISES}
WRITTEN = [exercise.name for exercise in TO_WRITE]
MENDED = [exercise.name for exercise in TO_MEND]


def solved():
    """This program's own files, as a student would have them."""
    return {
        exercise.file: re.sub(
            r"^from \.", "from minimal_nst.", inspect.getsource(exercise.module), flags=re.MULTILINE
        )
        for exercise in EXERCISES
    }


def with_body(name, body):
    """A student's file in which one function has another body."""
    exercise = BY_NAME[name]
    text = stubs()[exercise.file]
    says = f'    raise NotImplementedError("exercise: {name}, chapter {exercise.chapter}")'
    assert says in text
    return text.replace(says, textwrap.indent(inspect.cleandoc(body), "    "))


def look(folder, name, text):
    (folder / BY_NAME[name].file).write_text(text, encoding="utf-8")
    return marking.look(folder, BY_NAME[name])


def test_the_committed_files_are_what_is_made_of_the_source():
    for name, text in stubs().items():
        assert (ROOT / "exercises" / name).read_text(encoding="utf-8") == text, (
            f"run: rm exercises/{name} && python -m minimal_nst exercises new exercises"
        )


def test_stubs_have_their_docstrings_and_no_solution():
    holes = 0
    for text in stubs().values():
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name in WRITTEN:
                holes += 1
                assert ast.get_docstring(node) == inspect.getdoc(
                    getattr(BY_NAME[node.name].module, node.name)
                )
                assert len(node.body) == 2
                assert isinstance(node.body[1], ast.Raise)
        assert "from ." not in text
    assert holes == len(TO_WRITE) >= 12


@pytest.mark.parametrize("name", BY_NAME)
def test_missing_and_done(name, tmp_path):
    exercise = BY_NAME[name]
    assert marking.look(tmp_path, exercise).state == "missing"
    mark = look(tmp_path, name, stubs()[exercise.file])
    assert mark.state == "missing"
    if exercise.mends:
        assert mark.words.startswith("not yet mended: ")
    else:
        assert mark.words == "not yet written"
    mark = look(tmp_path, name, solved()[exercise.file])
    assert (mark.state, mark.words) == ("done", "")


@pytest.mark.parametrize("name", MENDED)
def test_the_hunted_are_mended_by_their_own_lines_only(name, tmp_path):
    """The defect is one line, no line of another function, and another wrong line is wrong."""
    right = inspect.getsource(getattr(BY_NAME[name].module, name))
    (line,) = [row for row in right.splitlines() if "# was:" in row]
    found = inspect.cleandoc(line.partition("# was:")[2])
    text = stubs()["hunt.py"]
    if found:
        assert text.count(found) == 1
        mark = look(tmp_path, name, text.replace(found, "return None"))
        assert mark.state == "wrong"
    assert "# was" not in text


HUNTED = {  # function: (its signature's shapes, whether a gradient check finds the defect)
    "smooth_content": ({"target": (9, 11), "weight": ()}, True),
    "within_range": ({"target": (9, 11)}, True),
    "style_layer": ({"A": (5, 5)}, True),
    "paper_style": ({"A": (5, 5)}, False),
}


@pytest.mark.parametrize("name", HUNTED)
def test_what_a_gradient_check_finds(name, rng):
    shapes, findable = HUNTED[name]
    arguments = {key: rng.standard_normal(shape) for key, shape in shapes.items()}
    if "A" in arguments:
        arguments["A"] = arguments["A"] @ arguments["A"].T
    if name == "within_range":
        arguments["target"] = rng.uniform(0, 255, (9, 11))
    shape = (99, 5) if "A" in arguments else (9, 11)
    as_it_should_be = getattr(BY_NAME[name].module, name)
    as_it_was = marking.as_found(BY_NAME[name])
    if name == "within_range":  # so that some numbers are outside
        wide = lambda f: lambda x, target: _scaled(f(1000 * x, target), 1000)
        as_it_should_be, as_it_was = wide(as_it_should_be), wide(as_it_was)
    difference = lambda f: [v.passed for v in check(adapt(f, None, arguments, shape))]
    assert all(difference(as_it_should_be))
    assert all(difference(as_it_was)) != findable


def _scaled(result, factor):
    loss, gradient = result
    return loss, factor * gradient


def test_each_is_judged_by_itself(tmp_path):
    """conv_forward calls im2col, which is not yet written."""
    body = """
        H, W, C_in = x.shape
        y = im2col(x) @ kernel.reshape(9 * C_in, -1) + bias
        return y.reshape(H, W, -1)
    """
    assert look(tmp_path, "conv_forward", with_body("conv_forward", body)).state == "done"


WRONG = {  # function: (body, what is said)
    "relu_backward": ("return dy * mask * (dy > 0)", "hint: the mask is x > 0, whatever the sign"),
    "avg_pool_backward": (
        """
        dx = array_module(dy).zeros(shape, dtype=dy.dtype)
        for quarter in quarters(dx):
            quarter[...] = dy / 2
        return dx
        """,
        "hint: each of the four inputs moves the mean by a quarter",
    ),
    "col2im": (
        """
        H, W, C = shape
        cols = cols.reshape(H, W, 9, C)
        padded = array_module(cols).zeros((H + 2, W + 2, C), dtype=cols.dtype)
        for k, (i, j) in enumerate(OFFSETS):
            padded[i : i + H, j : j + W] = cols[:, :, k]
        return padded[1:-1, 1:-1]
        """,
        "hint: neighbourhoods overlap",
    ),
    "conv_backward": (
        "return 3 * conv_forward(dy, kernel[::-1, ::-1].transpose(0, 1, 3, 2), dy.dtype.type(0))",
        "hint: it is 3 times what it should be",
    ),
    "content_loss": (
        "return weight * sum_of((F - P) ** 2) / 2, 2 * weight * (F - P)",
        "the second result: 495 of 495 numbers differ: at [0, 0] it is",
    ),
    "style_loss": ("return 0.0, F", "the first result: it is 0, "),
    "im2col": ("return x", "its shape is (9, 11, 3), (99, 27) was expected"),
    "gram_matrix": ("F.T @ F", "it returns nothing; is there a return?"),
    "max_pool_forward": ("return x[::2, ::2]", "it must return 2 things"),
    "relu_forward": (
        "return x.nonsense",
        "AttributeError: 'numpy.ndarray' object has no attribute",
    ),
    "avg_pool_forward": ("return 'mean'", "its shape is (), (4, 5, 3) was expected"),
    "total_variation": ("x *= 2\n return 0.0, x", "it writes to one of its arguments"),
    "max_pool_backward": ("exit()", "it raises SystemExit"),
    "direction": ("return -g", "7 of 7 numbers differ: at [0] it is"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong(name, tmp_path):
    body, said = WRONG[name]
    mark = look(tmp_path, name, with_body(name, body))
    assert mark.state == "wrong"
    assert said in mark.words
    assert "\n" not in mark.words


def test_an_exception_names_the_line_of_the_students_file(tmp_path):
    text = with_body("relu_forward", "return x.nonsense")
    line = next(i for i, row in enumerate(text.splitlines(), 1) if "nonsense" in row)
    assert f"(line {line} of layers.py)" in look(tmp_path, "relu_forward", text).words


def test_a_file_that_is_no_python(tmp_path):
    mark = look(tmp_path, "relu_forward", "def relu_forward(x:\n")
    assert mark.state == "wrong"
    assert "layers.py is no Python: " in mark.words
    assert (
        look(tmp_path, "relu_forward", "x = 1\n").words == "layers.py has no function relu_forward"
    )


HOSTILE = {
    "while True: pass": "it takes longer than 2 seconds",
    "import os; os._exit(0)": "it ended the process (exit code 0)",
    "return array_module(x).ones(10**10), x": "MemoryError: ",
    "print('{}'); return x": "it must return 2 things",
    "import sys; sys.stdout.buffer.write(b'\\xff'); print('\\u2202L')": "it returns nothing",
}


@pytest.mark.parametrize("body", HOSTILE)
def test_nothing_that_a_solution_does_stops_the_marking(body, tmp_path, monkeypatch):
    if "ones" in body and sys.platform == "darwin":
        pytest.skip("macOS limits no memory")
    monkeypatch.setattr(marking, "SECONDS", 2 if "while" in body else 20)
    (tmp_path / "layers.py").write_text(with_body("relu_forward", body), encoding="utf-8")
    mark = marking.mark(tmp_path, BY_NAME["relu_forward"])
    assert mark.state == "wrong"
    assert HOSTILE[body] in mark.words


def test_a_system_that_refuses_the_limit_has_none(monkeypatch):
    """macOS, whose processes have more than the limit as they begin."""
    resource = pytest.importorskip("resource")
    asked = []

    def refuse(*limit):
        asked.append(limit)
        raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "setrlimit", refuse)
    marking._limit_memory()
    assert len(asked) == 1


def test_on_the_command_line(capsys, tmp_path):
    folder = tmp_path / "homework"
    assert cli.main(["exercises", "new", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == set(stubs())
    assert cli.main(["exercises", "new", str(folder)]) == 3
    assert "homework has a layers.py already; choose another folder" in capsys.readouterr().err
    only = ["--only", "gram_matrix"]
    assert cli.main(["exercises", "check", str(folder), *only]) == 1
    out = capsys.readouterr().out
    assert "gram_matrix        chapter  7  missing  not yet written\n" in out
    assert out.endswith("homework: 0 of 1 done\n")
    (folder / "losses.py").write_text(solved()["losses.py"], encoding="utf-8")
    assert cli.main(["exercises", "check", str(folder), *only, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["done"], found["of"], found["marks"][0]["state"]) == (1, 1, "done")


def test_they_are_marked_together_and_told_in_order(capsys, monkeypatch, tmp_path):
    both = threading.Barrier(2)

    def mark(folder, exercise):
        if exercise in EXERCISES[:2]:
            both.wait(timeout=20)  # breaks if one is marked after the other
        if exercise is EXERCISES[0]:
            time.sleep(0.2)  # the second is done first
        return marking.Mark(exercise.name, exercise.chapter, "done")

    monkeypatch.setattr(marking, "mark", mark)
    monkeypatch.setattr("minimal_nst.backend.available_processors", lambda: 2)
    assert cli.main(["exercises", "check", str(tmp_path)]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == [exercise.name for exercise in EXERCISES]
    assert last.endswith(f": {len(EXERCISES)} of {len(EXERCISES)} done")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["check", "nowhere"], 3, "nowhere is no folder; make one by: minimal-nst exercises new"),
        (["check", ".", "--only", "conv"], 2, "there is no exercise 'conv'; there are im2col, "),
        (["new", ""], 2, "FOLDER is empty; name one, such as homework"),
        (["new", "a", "--json"], 2, "--json does nothing here: it goes with check"),
        (["solve", "a"], 2, "invalid choice: 'solve'"),
    ],
)
def test_bad_usage(capsys, monkeypatch, tmp_path, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["exercises", *arguments]) == code
    assert message in capsys.readouterr().err


COUNTING = """
CALLS = []

def counted(name, function):
    def call(*args):
        CALLS.append(name)
        return function(*args)
    return call

for name in {names}:
    globals()[name] = counted(name, globals()[name])
"""


@pytest.fixture
def marked_here(monkeypatch):
    """No process for each exercise: that they are, other tests see."""
    monkeypatch.setattr(marking, "mark", marking.look)
    monkeypatch.setattr(cli.exercises, "TOGETHER", 1)  # they would share the student's modules


@pytest.mark.usefixtures("marked_here")
def test_paint_uses_the_students_functions(capsys, monkeypatch, tmp_path):
    for exercise in TO_WRITE:  # so that they are put back afterwards
        for user in (exercise.module, objective):
            if hasattr(user, exercise.name):
                monkeypatch.setattr(user, exercise.name, getattr(user, exercise.name))
    for name, text in solved().items():
        names = [exercise.name for exercise in EXERCISES if exercise.file == name]
        (tmp_path / name).write_text(text + COUNTING.format(names=names), encoding="utf-8")
    small = dataclasses.replace(PAINTING, size=48, iterations=3)
    monkeypatch.setattr(cli.exercises, "PAINTING", dataclasses.replace(small, tv_weight=1e-3))
    assert cli.main(["exercises", "paint", str(tmp_path)]) == 0
    assert "15 of 15 done" in capsys.readouterr().out
    assert (tmp_path / "painting.png").exists()
    called = {
        name for m in ("layers", "losses", "lbfgs") for name in sys.modules[f"student_{m}"].CALLS
    }
    assert set(WRITTEN) - called == {"avg_pool_forward", "avg_pool_backward"}


@pytest.mark.usefixtures("marked_here")
def test_paint_wants_all_of_them(capsys, tmp_path):
    assert cli.main(["exercises", "new", str(tmp_path / "a")]) == 0
    assert cli.main(["exercises", "paint", str(tmp_path / "a")]) == 2
    assert "not all is done; what is missing or wrong stands above" in capsys.readouterr().err
    assert cli.main(["exercises", "paint", str(tmp_path), str(tmp_path)]) == 2
