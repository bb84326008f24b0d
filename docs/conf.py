"""Sphinx: the course, built offline; every cell is executed each time.

python -m sphinx -n -W --keep-going -E docs docs/_build/html
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]
os.environ["PYTHONPATH"] = str(HERE.parent)  # the cells run the code that the pages show

import minimal_nst

project = "minimal_nst"
author = "the authors of minimal_nst"
release = minimal_nst.__version__
extensions = [
    "code_of",
    "myst_nb",
    "notebooks",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "sphinx_exercise",
    "sphinx_togglebutton",
]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_preserve_defaults = True  # as the source has them, not as this machine prints them
autodoc_typehints = "none"  # the docstrings say more: shapes
napoleon_google_docstring = False
napoleon_use_rtype = False
# "(H, W, 3) array" is a type to a reader, and no name of a class
nitpick_ignore_regex = [("py:class", r"(?!minimal_nst).*")]
exclude_patterns = ["_build"]

html_theme = "sphinx_book_theme"
html_title = "Neural style transfer, read as code"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_copy_source = True

mathjax_path = "mathjax/tex-svg.js"  # our own copy: the site needs no network
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath", "deflist"]
math_number_all = False
math_numfig = True
numfig = True

# "cache" would look at the page's text, not at the package that the page runs
nb_execution_mode = "force"
nb_execution_in_temp = True  # where a notebook that was downloaded runs: with nothing beside it
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_merge_streams = True


def leave_constants_alone(app, what, name, obj, options, lines):
    """Napoleon takes what stands before a colon in a constant's docstring for its type.

    It looks at the first line only, so an empty comment goes there.
    """
    if what in {"data", "attribute", "property"}:
        lines[:0] = ["..", ""]


def setup(app):
    """Before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", leave_constants_alone, priority=400)
