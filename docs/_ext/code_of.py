"""``{code-of} minimal_nst.losses.gram_matrix``: a function as it is in the source.

Without its docstring, which would bury three lines of mathematics under twenty, and with its file
and line. A name that no longer exists fails the build.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def find(name: str) -> Any:
    """The object that a dotted name names."""
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError:
        return getattr(find(module), attribute)


def without_docstring(source: str) -> str:
    """A function's or class's source without its docstring, dedented."""
    source = textwrap.dedent(source)
    (definition,) = ast.parse(source).body
    lines = source.splitlines()
    if ast.get_docstring(definition) is not None:
        docstring = definition.body[0]
        del lines[docstring.lineno - 1 : docstring.end_lineno]
    return "\n".join(lines)


def shown(thing: Any) -> tuple[str, str]:
    """Its source as it is shown, and where that stands: a file and a line."""
    source, line = inspect.getsource(thing), inspect.getsourcelines(thing)[1]
    path = Path(inspect.getsourcefile(thing) or "")
    where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name
    return without_docstring(source), f"{where}:{line}"


class CodeOf(SphinxDirective):
    """The directive."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """A literal block, and a caption that says where it stands."""
        (name,) = self.arguments
        try:
            thing = find(name)
            code, where = shown(thing)
        except (ImportError, AttributeError, TypeError, OSError) as error:
            raise self.error(f"there is no source of {name}: {error}") from None
        block = nodes.literal_block(code, code, language="python")
        place: nodes.Node = nodes.literal("", where)
        if "._" not in name:  # what is private has no entry in the reference
            link = {"refdomain": "py", "reftype": "obj", "reftarget": name, "refwarn": True}
            place = pending_xref("", place, refexplicit=True, refdoc=self.env.docname, **link)
        caption = nodes.caption("", "", place)
        container = nodes.container("", caption, block, literal_block=True)
        container["classes"] = ["literal-block-wrapper"]
        self.env.note_dependency(str(inspect.getsourcefile(thing)))
        return [container]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("code-of", CodeOf)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
