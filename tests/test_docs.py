"""The course's form: what each chapter has, and that its solutions are right."""

from __future__ import annotations

import re

import numpy as np
import pytest
from minimal_nst import layers
from minimal_nst.gradcheck import Operation, adapt, adjoint, check

from conftest import ROOT

DOCS = ROOT / "docs"
CHAPTERS = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted(DOCS.glob("*.md"))
    if path.stem not in ("index", "notation")
}


def prose(text):
    """What is read: without front matter, code, figures and their options."""
    return re.sub(r"^(```+|---).*?^\1\n", "", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_its_parts(name):
    text = CHAPTERS[name]
    assert "**You will learn**" in text
    assert "**You need**" in text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[-2:] == ["Exercises", "Further reading"]
    assert 800 < len(prose(text).split()) < 2000
    assert "```{code-of} minimal_nst." in text
    assert "assert " in text
    exercises = re.findall(r"\{exercise\}.*\n:label: (\S+)", text)
    assert len(exercises) >= 3
    assert re.findall(r"\{solution\} (\S+)", text) == exercises
    assert text.count("plt.") == 0 or text.count("    alt: ") >= 1


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for name in [*CHAPTERS, "notation"]:
        assert f"\n{name}\n" in index


def solution(chapter, label):
    """The functions that a solution defines."""
    (text,) = re.findall(
        rf"\{{solution\}} {label}\n.*?```python\n(.*?)```", CHAPTERS[chapter], re.DOTALL
    )
    names = {"np": np, "layers": layers}
    exec(text, names)  # noqa: S102
    return names


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_solution_conv_in_bands(rows, rng):
    x = rng.standard_normal((9, 11, 3))
    kernel, bias = rng.standard_normal((3, 3, 3, 4)), rng.standard_normal(4)
    y = solution("convolution", "conv-bands")["conv_in_bands"](x, kernel, bias, rows)
    np.testing.assert_allclose(y, layers.conv_forward(x, kernel, bias), rtol=0, atol=1e-13)


def test_solution_covariance_loss(rng):
    loss = solution("style", "style-covariance")["covariance_loss"]
    arguments = {"A": rng.standard_normal((5, 5))}
    assert all(verdict.passed for verdict in check(adapt(loss, None, arguments, (99, 5))))


def test_solution_length(rng):
    length = solution("gradients", "gradients-norm")["length"]
    gradient = lambda dy, x: dy * x / length(x)
    assert next(check(Operation("length", length, gradient))).how == "complex step"
    assert all(verdict.passed for verdict in check(Operation("length", length, gradient)))


def test_solution_reflect(rng):
    names = solution("adjoint", "adjoint-border")
    x, y = rng.standard_normal((9, 11, 3)), rng.standard_normal((11, 13, 3))
    assert adjoint(names["reflect"], names["reflect_back"], x, y) < 1e-15
