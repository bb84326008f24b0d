"""The notebooks behind the download buttons: the chapters, for Jupyter as it is anywhere.

MyST-NB's own copies have the directives of the pages in them, which only Sphinx understands. Here
equations become plain ones, shown code is put in, solutions fold away, and figures come along. The
cells of code are those that the build has executed, each page in an empty folder; if one were not,
the build fails. A first cell installs what they need, where it is not there.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import nbformat
from code_of import find, shown
from myst_nb.sphinx_ext import OUTPUT_FOLDER
from nbformat import v4
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

INSTALL = """\
# In a notebook in the cloud this installs what the other cells need.
import importlib.util

if importlib.util.find_spec("minimal_nst") is None:
    %pip install --quiet minimal_nst matplotlib"""

FRONT = re.compile(r"\A---\n.*?^---\n+", re.MULTILINE | re.DOTALL)
CELL = re.compile(r"^```\{code-cell\} python\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
OPTIONS = re.compile(r"\A(?:---\n.*?^---\n|(?::\S+: [^\n]*\n)+)\n*", re.MULTILINE | re.DOTALL)
DIRECTIVE = re.compile(
    r"^(```+)\{(?P<name>[a-z-]+)\} *(?P<argument>[^\n]*)\n(?P<body>.*?)^\1$",
    re.MULTILINE | re.DOTALL,
)
ROLE = re.compile(r"\{eq\}`(.*?)`")
LINK = re.compile(r"\[\]\((\w+)\.md\)")


def options(body: str) -> tuple[dict[str, str], str]:
    """A directive's options, and what follows them."""
    found = re.match(r"(?::\S+:.*\n)*", body)
    head = found.group() if found else ""
    return dict(re.findall(r":(\S+): *(.*)\n", head)), body[len(head) :].strip()


def equation(argument: str, body: str, attachments: dict[str, Path]) -> str:
    """An equation with its name for a number."""
    given, text = options(body)
    tag = f" \\tag{{{given['label']}}}" if "label" in given else ""
    return f"$$\n{text}{tag}\n$$"


def code(argument: str, body: str, attachments: dict[str, Path]) -> str:
    """Code from the source."""
    text, where = shown(find(argument))
    return f"`{where}`\n\n```python\n{text}\n```"


def exercise(argument: str, body: str, attachments: dict[str, Path]) -> str:
    """An exercise under its title."""
    return f"### Exercise: {argument}\n\n{options(body)[1]}"


def solution(argument: str, body: str, attachments: dict[str, Path]) -> str:
    """A solution, folded away."""
    return f"<details><summary>Solution</summary>\n\n{options(body)[1]}\n\n</details>"


def figure(argument: str, body: str, attachments: dict[str, Path]) -> str:
    """A picture that is carried inside the notebook."""
    given, caption = options(body)
    name = Path(argument).name
    attachments[name] = Path(argument)
    return f"![{given['alt']}](attachment:{name})\n\n{caption}"


DIRECTIVES: dict[str, Callable[[str, str, dict[str, Path]], str]] = {
    "math": equation,
    "code-of": code,
    "exercise": exercise,
    "solution": solution,
    "figure": figure,
}


def prose(text: str, titles: dict[str, str], folder: Path) -> nbformat.NotebookNode:
    """A cell of text; a directive that is not known here is an error."""
    attachments: dict[str, Path] = {}
    text = DIRECTIVE.sub(
        lambda d: DIRECTIVES[d["name"]](d["argument"], d["body"], attachments), text
    )
    text = ROLE.sub(r"(\1)", text)
    text = LINK.sub(lambda link: f"[{titles[link[1]]}]({link[1]}.ipynb)", text)
    cell = v4.new_markdown_cell(text.strip())
    for name, path in attachments.items():
        data = base64.b64encode((folder / path).read_bytes()).decode()
        cell.setdefault("attachments", {})[name] = {"image/jpeg": data}
    return cell


def notebook(text: str, titles: dict[str, str], folder: Path) -> nbformat.NotebookNode:
    """A chapter as a notebook."""
    cells = [v4.new_code_cell(INSTALL)]
    # text and code in turns
    for k, part in enumerate(CELL.split(FRONT.sub("", text))):
        if k % 2:
            cells.append(v4.new_code_cell(OPTIONS.sub("", part).strip()))
        elif part.strip():
            cells.append(prose(part, titles, folder))
    for k, cell in enumerate(cells):
        cell["id"] = f"cell-{k}"  # the same each time
    made = v4.new_notebook(cells=cells)
    nbformat.validate(made)
    return made


def code_cells(made: nbformat.NotebookNode) -> list[str]:
    """What is executed."""
    return [cell["source"].strip() for cell in made.cells if cell["cell_type"] == "code"]


def write(app: Sphinx, error: Exception | None) -> None:
    """Put them in the place of MyST-NB's."""
    if error:
        return
    folder = Path(app.srcdir)
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    titles = {name: FRONT.sub("", text).partition("\n")[0][2:] for name, text in texts.items()}
    for name, text in texts.items():
        if CELL.search(text):
            made = notebook(text, titles, folder)
            executed = nbformat.read(Path(app.outdir).parent / OUTPUT_FOLDER / f"{name}.ipynb", 4)
            if code_cells(made) != [INSTALL, *code_cells(executed)]:
                raise ExtensionError(f"{name}: the notebook's cells are not those of the page")
            nbformat.write(made, Path(app.outdir) / "_sources" / f"{name}.ipynb")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write them when everything else is done."""
    app.connect("build-finished", write, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
