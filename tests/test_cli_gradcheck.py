"""``minimal-nst gradcheck``: its table, its exit codes, somebody's functions, and bad input."""

from __future__ import annotations

import sys

import pytest
from minimal_nst import checklist, layers
from minimal_nst.cli import main
from minimal_nst.gradcheck import Operation

HOMEWORK = """
import numpy as np

def relu_forward(x):
    mask = x > 0
    return x * mask, mask

def relu_backward(dy, mask):
    return dy * mask

def guided(dy, mask):
    return dy * mask * (dy > 0)

def conv(x, kernel, bias):
    H, W, _ = x.shape
    padded = np.zeros((H + 2, W + 2, x.shape[2]))
    padded[1:-1, 1:-1] = x
    parts = (padded[i : i + H, j : j + W] @ kernel[i, j] for i in range(3) for j in range(3))
    return sum(parts) + bias

def conv_backward(dy, kernel):
    H, W, _ = dy.shape
    padded = np.zeros((H + 2, W + 2, kernel.shape[2]))
    for i in range(3):
        for j in range(3):
            padded[i : i + H, j : j + W] += dy @ kernel[i, j].T
    return padded[1:-1, 1:-1]

def loss(F, P):
    return np.sum((F - P) ** 2) / 2, 2 * (F - P)

def style(F, A):
    D = F.T @ F - A
    return np.sum(D * D), 4 * F @ D

def half_style(F, A):
    loss, dF = style(F, A)
    return loss, dF / 2

def crash(dy, mask):
    return dy[99 if len(mask) == 9 and mask.dtype == bool else 0]

number = 3
"""


@pytest.fixture
def gradcheck(capsys, monkeypatch, tmp_path):
    (tmp_path / "homework.py").write_text(HOMEWORK)
    (tmp_path / "broken.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "homework", raising=False)

    def run(*arguments):
        code = main(["gradcheck", *arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


@pytest.mark.parametrize(
    ("group", "rows"), [("layers", 13), ("losses", 20), ("objective", 7), ("all", 40)]
)
def test_everything_is_right(gradcheck, group, rows):
    code, out, err = gradcheck(group)
    *table, last = out.splitlines()
    assert code == 0
    assert not err
    assert last == "all gradients are right"
    assert len(table) == rows
    assert all(row.endswith(" ok") for row in table)


def test_preset_and_pooling(gradcheck):
    code, out, _ = gradcheck("objective", "--preset", "course", "--pooling", "max")
    assert code == 0
    assert [row[:40] for row in out.splitlines() if row.startswith("objective")] == [
        f"{'objective, course, max pooling':40}"
    ] * 2


def test_a_wrong_gradient_is_exit_code_1(gradcheck, monkeypatch):
    wrong = Operation("relu", lambda x: layers.relu_forward(x)[0], lambda dy, x: dy)
    monkeypatch.setattr(checklist, "LAYERS", (wrong, *checklist.LAYERS[:2]))
    code, out, _ = gradcheck("layers")
    assert code == 1
    assert out.count("WRONG") == 2
    assert out.splitlines()[-1] == "2 checks failed"


def test_mutants_are_rejected(gradcheck):
    code, out, _ = gradcheck("--mutants")
    *table, last = out.splitlines()
    assert code == 0
    assert last == "32 wrong gradients, each found by every check"
    assert all(row.endswith("WRONG") for row in table)


def test_a_mutant_that_passes_is_exit_code_1(gradcheck, monkeypatch):
    """The mutants' own mutant: a right gradient among the wrong ones."""
    from minimal_nst import mutants

    right = mutants.Mutant("relu", "none", "", mutants.OPERATIONS["relu"].backward)
    monkeypatch.setattr(mutants, "MUTANTS", (right, *mutants.MUTANTS[:2]))
    code, out, _ = gradcheck("--mutants", "layers")
    assert code == 1
    assert out.splitlines()[-1] == "3 wrong gradients, 2 checks let one pass"


OWN = {  # arguments -> exit code, what is printed
    "right": (["relu_backward", "--of", "homework:relu_forward"], 0, "ok"),
    "wrong": (["guided", "--of", "homework:relu_forward"], 1, "WRONG: where dy is negative"),
    "a loss": (["loss", "--shape", "99,5", "--shape", "P=99,5"], 1, "is WRONG: it is 2 times"),
    "another seed": (["relu_backward", "--of", "homework:relu_forward", "--seed", "7"], 0, "ok"),
    "arguments": (
        [
            "conv_backward",
            "--of",
            "homework:conv",
            "--shape",
            "kernel=3,3,3,4",
            "--shape",
            "bias=4",
        ],
        0,
        "central difference",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_own_functions(gradcheck, name):
    (function, *more), code, said = OWN[name]
    assert gradcheck("--function", f"homework:{function}", *more)[0] == code
    assert said in gradcheck("--function", f"homework:{function}", *more)[1]


BAD = {
    "homework": "'homework' names no function; write MODULE:NAME",
    ":f": "':f' names no function",
    "homework:nothing": "'homework:nothing' cannot be imported: AttributeError: module 'homework'",
    "nowhere:f": "'nowhere:f' cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
    "broken:f": "'broken:f' cannot be imported: SyntaxError: invalid syntax",
    "homework:number": "'homework:number' is 3, which is no function",
}


@pytest.mark.parametrize("name", BAD)
def test_functions_that_are_none(gradcheck, name):
    code, out, err = gradcheck("--function", name)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert BAD[name] in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["homework:crash", "--of", "homework:relu_forward"], "IndexError: index 99 is out of"),
        (["homework:crash", "--shape", "mask=9,11,3"], "crash must return (loss, gradient), or"),
        (["homework:conv_backward", "--of", "homework:conv"], "takes 'kernel'; give its shape"),
    ],
)
def test_functions_that_fail(gradcheck, arguments, message):
    code, out, err = gradcheck("--function", *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"{arguments[0]} cannot be checked: " in err
    assert message in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "9,x"], "'9,x' is no shape; write whole numbers above 0, such as 9,11,3"),
        (["--shape", "kernel=0,3"], "'kernel=0,3' is no shape"),
        (["--shape", "9,11"], "--shape does nothing here: it goes with --function"),
        (["--of", "a:b"], "--of does nothing here: it goes with --function"),
        (["--symmetric", "A"], "--symmetric does nothing here: it goes with --function"),
        (
            ["--function", "homework:style", "--shape", "A=5,4", "--symmetric", "A"],
            "--symmetric A needs a square --shape A=N,N",
        ),
        (["--seed", "3"], "--seed does nothing here: it goes with --function"),
        (["--seed", "-1", "--function", "homework:loss"], "'-1' is no seed"),
        (["layers", "--preset", "course"], "--preset does nothing here: it is for the objective"),
        (["--mutants", "--pooling", "max"], "--pooling does nothing here: it is for the objective"),
        (["--mutants", "--function", "a:b"], "--mutants does nothing here"),
        (["--mutants", "objective"], "--mutants has none for the objective; choose all, layers"),
        (["everything"], "invalid choice: 'everything'"),
    ],
)
def test_bad_usage(gradcheck, arguments, message):
    code, out, err = gradcheck(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_a_symmetric_argument(gradcheck):
    """A Gram matrix is symmetric, and what is right for it need not be for others."""
    style = ["--function", "homework:style", "--shape", "99,5", "--shape", "A=5,5"]
    code, out, _ = gradcheck(*style)
    assert code == 1
    assert out.endswith("where it is given symmetric matrices it is right: add --symmetric A\n")
    code, out, _ = gradcheck(*style, "--symmetric", "A")
    assert code == 0
    assert out.count(" ok\n") == 2
    style[1] = "homework:half_style"
    for more in ([], ["--symmetric", "A"]):
        code, out, _ = gradcheck(*style, *more)
        assert code == 1
        assert "add --symmetric" not in out
    assert out == "homework:half_style is WRONG: it is 0.5 times what it should be\n"
