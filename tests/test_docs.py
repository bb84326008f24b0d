"""The course's form: what each chapter has, and that its solutions are right."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from minimal_nst import layers, losses, winograd
from minimal_nst.backend import array_module
from minimal_nst.cli import build_parser
from minimal_nst.exercises.catalogue import EXERCISES
from minimal_nst.gradcheck import Operation, adapt, adjoint, check
from minimal_nst.lbfgs import Scaled, direction
from minimal_nst.pairs import Pairs

from conftest import ROOT
from test_structure import MAY_IMPORT

DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(DOCS.glob("*.md"))}
OTHERS = ("index", "notation", "controls", "deviations", "solutions")
CHAPTERS = {name: text for name, text in PAGES.items() if name not in OTHERS}


def read(text):
    """What is read: without front matter, cells and figures."""
    return re.sub(
        r"^(```\{(?:code|fig)\S+|---).*?^(---|```)\n", "", text, flags=re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_its_parts(name):
    text = CHAPTERS[name]
    assert "**You will learn**" in text
    assert "**You need**" in text
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[-2:] == ["Exercises", "Further reading"]
    assert 1200 <= len(read(text).split()) <= 2000
    assert "```{code-of} minimal_nst." in text
    assert "assert " in text
    exercises = re.findall(r"\{exercise\}.*\n:label: (\S+)", text)
    assert len(exercises) >= 3
    assert re.findall(r"\{solution\} (\S+)", text) == exercises
    assert text.count("plt.") == 0 or text.count("    alt: ") >= 1


def test_no_line_of_code_is_cut_off():
    """A page shows 100 characters of code (course.css); the source's own lines are no longer."""
    for name, text in PAGES.items():
        cells = r"^```(?:\{code-cell\} )?python\n(.*?)^```"
        for code in re.findall(cells, text, re.MULTILINE | re.DOTALL):
            lines = [line for line in code.splitlines() if not line.startswith("    alt: ")]
            assert max(map(len, lines)) <= 100, name


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for name in set(PAGES) - {"index"}:
        assert f"\n{name}\n" in index


def test_every_exercise_is_shown_solved():
    shown = re.findall(r"\{code-of\} (\S+)", PAGES["solutions"])
    assert shown == [f"{exercise.module.__name__}.{exercise.name}" for exercise in EXERCISES]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_an_exercises_chapter_speaks_of_it(exercise):
    (text,) = (text for text in PAGES.values() if f"\n# {exercise.chapter} " in text)
    assert exercise.name in text


def test_figures_exist_with_their_command():
    figures = [
        hit
        for text in PAGES.values()
        for hit in re.findall(
            r"\{figure\} (\S+)\n:alt: \S.*\n\n.*Made by `python (?:-m )?(\S+).*`", text
        )
    ]
    assert len(figures) == sum(text.count("{figure}") for text in PAGES.values()) >= 4
    for picture, program in figures:
        assert (DOCS / picture).exists()
        assert (ROOT / program).exists()


def test_every_equation_is_cited_and_every_citation_has_its_equation():
    chapters = "".join(PAGES.values())
    labels = re.findall(r"\{math\}\n:label: (\S+)", chapters)
    cited = re.findall(r"\{eq\}`(\S+?)`", chapters)
    for path in (ROOT / "minimal_nst").rglob("*.py"):
        cited += re.findall(r":eq:`(\S+?)`", path.read_text(encoding="utf-8"))
    assert len(set(labels)) == len(labels) >= 20
    assert set(cited) == set(labels)


def test_every_module_is_in_the_reference():
    pages = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    documented = re.findall(r"automodule:: minimal_nst\.(\S+)", pages)
    private = {"resources", "exercises", "gradcheck"}  # their parts are there
    for name in MAY_IMPORT:
        if not name.startswith("cli") and name not in private:
            assert name in documented, name


COURSE = "".join(PAGES.values())
README = (ROOT / "README.md").read_text(encoding="utf-8")  # whose commands are read in test_readme
COMMANDS = re.findall(
    r"(?:python -m minimal_nst|minimal-nst) ([a-z][^`#>\n]*)", COURSE.replace("\\\n", "")
)
OPTIONS = re.findall(r"`(--[a-z][^`]*)`", (COURSE + README).replace("--preset NAME", ""))


def understood(arguments):
    """Whether the command line takes these; what ends with help is all right, too."""
    try:
        return bool(build_parser().parse_args(arguments))
    except SystemExit as end:
        return end.code == 0


def test_every_command_is_understood(capsys):
    assert len(COMMANDS) > 40
    for command in COMMANDS:
        assert understood(shlex.split(command)), (command, capsys.readouterr().err)


def test_every_option_is_understood(capsys):
    """With the value that the text gives it, by one of the commands; `--scales none` was not."""
    commands = (["stylize"], ["reconstruct", "a.png"], ["gradcheck"], ["bench"])
    names = {name for command in commands for name in options_of(command[0])}
    assert len(OPTIONS) > 80
    for option in OPTIONS:
        name, *value = shlex.split(option)
        if value:
            assert any(understood([*command, name, *value]) for command in commands), option
        else:
            assert name in names, option


def options_of(command):
    """The names of its options."""
    (commands,) = (a for a in build_parser()._actions if isinstance(a.choices, dict))
    return commands.choices[command]._option_string_actions


def solution(chapter, label):
    """The functions that a solution defines."""
    (text,) = re.findall(
        rf"\{{solution\}} {label}\n.*?```python\n(.*?)```", CHAPTERS[chapter], re.DOTALL
    )
    names = {"np": np, "layers": layers, "losses": losses, "array_module": array_module}
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


def passes(function, shape=(9, 11, 3), **arguments):
    return all(verdict.passed for verdict in check(adapt(function, None, arguments, shape)))


def test_solution_normalise(rng):
    names = solution("pictures", "pictures-torch")
    m, s = rng.uniform(0.2, 0.8, (2, 3))
    forward = lambda x: names["normalise"](x, m, s)
    backward = lambda dy, x: names["normalise_back"](dy, m, s)
    assert all(v.passed for v in check(Operation("normalise", forward, backward, (9, 11, 3))))


def test_solution_leaky():
    names = solution("kinks", "kinks-leak")
    leaky = Operation("leaky", names["leaky"], names["leaky_back"], (9, 11, 3))
    assert all(verdict.passed for verdict in check(leaky))


def test_solution_huber_loss(rng):
    huber = solution("content", "content-huber")["huber_loss"]
    assert passes(huber, (99, 5), P=rng.standard_normal((99, 5)))
    for d in (0.5, -0.5, 3.0, -3.0):
        loss = min(d * d / 2, abs(d) - 0.5) if abs(d) > 1 else d * d / 2
        assert huber(np.array([d]), np.zeros(1))[0] == pytest.approx(loss)


def test_solution_soft_variation():
    assert passes(solution("variation", "variation-smooth")["soft_variation"])


def test_solution_two_layers(rng):
    K1, K2 = rng.standard_normal((3, 3, 3, 4)), rng.standard_normal((3, 3, 4, 2))
    two_layers = solution("chain", "chain-small")["two_layers"]
    assert passes(two_layers, K1=K1, K2=K2, P=rng.standard_normal((9, 11, 2)))


def test_solution_inverse_hessian(rng):
    root, steps = rng.standard_normal((6, 6)), rng.standard_normal((4, 6))
    pairs = [(s, (root @ root.T + np.eye(6)) @ s) for s in steps]
    B = solution("descent", "descent-matrix")["inverse_hessian"](pairs, 0.7)

    g = rng.standard_normal(6)
    metric = Scaled(g)
    metric.learn(0.7 * g, g)
    memory = Pairs(4, g)
    for s, y in pairs:
        memory.add(s, y)
    d = direction(g, memory, metric)
    np.testing.assert_allclose(d, -B @ g, rtol=1e-10)


def test_solution_keep_colours(rng):
    keep = solution("painting", "painting-colour")["keep_colours"]
    painting, content = rng.uniform(0, 255, (2, 9, 11, 3))
    weights = [0.299, 0.587, 0.114]
    np.testing.assert_allclose(keep(painting, content) @ weights, painting @ weights)
    np.testing.assert_allclose(keep(content, content), content)


def test_solution_two_outputs(rng):
    d, g = rng.standard_normal(4), rng.standard_normal(3)
    y = solution("speed", "speed-hand")["two_outputs"](d, g)
    np.testing.assert_allclose(y, np.correlate(d, g), rtol=1e-12)
    F2 = winograd.toom_cook((0.0, 1.0, -1.0))
    np.testing.assert_allclose(y, F2.A_T @ ((F2.G @ g) * (F2.B_T @ d)), rtol=1e-12)


def test_solution_softplus():
    softplus = solution("gpu", "gpu-module")["softplus"]
    x = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0])
    expected = [0, np.log1p(np.exp(-1)), np.log(2), 1 + np.log1p(np.exp(-1)), 1000]
    np.testing.assert_allclose(softplus(x), expected)
