"""The rules of the design, read from the imports: what each module may know."""

from __future__ import annotations

import ast
import inspect
import sys
from pathlib import Path

import minimal_nst
import pytest
from minimal_nst.cli import build_parser

PACKAGE = Path(minimal_nst.__file__).parent
LEAVES = {"errors", "architecture", "resources"}  # pure Python, free to all

MAY_IMPORT = {  # module: what it may import of the package, and from elsewhere
    "errors": (set(), set()),
    "architecture": ({"errors"}, set()),
    "resources": (set(), set()),
    "checks": ({"errors"}, {"numpy"}),
    "backend": ({"errors"}, {"numpy", "cupy", "threadpoolctl"}),
    "coordinates": ({"backend", "cublas"}, {"numpy", "scipy"}),
    "colors": (set(), {"numpy"}),
    "layers": ({"backend"}, set()),
    "losses": ({"backend"}, set()),
    "guided": ({"backend", "losses"}, set()),
    "regions": ({"architecture"}, {"numpy"}),
    "winograd": ({"backend"}, {"numpy"}),
    "convolution": ({"backend", "layers", "winograd"}, {"numpy"}),
    "rows": ({"backend"}, {"numpy"}),
    "engine": ({"architecture", "backend", "convolution", "layers", "rows"}, {"numpy"}),
    "cublas": ({"backend"}, {"numpy"}),
    "recording": ({"backend", "cublas"}, {"numpy"}),
    "gpu": (
        {"architecture", "backend", "convolution", "cublas", "engine", "winograd"},
        {"numpy"},
    ),
    "weights": ({*LEAVES, "saving"}, {"numpy", "h5py"}),
    "normalize": ({"architecture", "errors", "vgg"}, {"numpy"}),
    "vgg": ({*LEAVES, "backend", "checks", "engine", "gpu"}, {"numpy"}),
    "presets": ({"architecture"}, set()),
    "forms": ({"architecture", "settings"}, set()),
    "settings": ({"errors", "architecture", "presets"}, set()),
    "objective": (
        {
            *LEAVES,
            "backend",
            "checks",
            "vgg",
            "losses",
            "guided",
            "recording",
            "regions",
            "settings",
            "strips",
        },
        {"numpy"},
    ),
    "strips": ({"architecture", "backend", "losses", "rows"}, set()),
    "stacks": ({"backend"}, set()),
    "pairs": ({"backend", "cublas", "stacks"}, set()),
    "lbfgs": ({"backend", "pairs", "recording", "stacks"}, set()),
    "optimize": ({"backend", "errors", "lbfgs"}, {"numpy", "scipy"}),
    "images": ({"checks", "errors", "settings"}, {"numpy", "PIL", "pillow_heif"}),
    "saving": ({"errors", "images"}, {"numpy", "PIL"}),
    "memory": (
        {*LEAVES, "convolution", "coordinates", "engine", "gpu", "settings", "strips", "winograd"},
        set(),
    ),
    "inputs": ({"errors", "images", "objective"}, {"numpy"}),
    "sizes": ({"images", "settings"}, set()),
    "pipeline": (
        {
            "architecture",
            "backend",
            "checkpoint",
            "colors",
            "coordinates",
            "errors",
            "images",
            "inputs",
            "memory",
            "objective",
            "optimize",
            "recording",
            "regions",
            "settings",
            "sizes",
            "vgg",
            "weights",
        },
        {"numpy", "scipy"},
    ),
    "checkpoint": (
        {"__version__", "backend", "errors", "record", "saving", "settings"},
        {"numpy"},
    ),
    "reconstruction": ({"errors", "images", "optimize", "pipeline", "settings"}, set()),
    "record": ({*LEAVES, "__version__", "images", "pipeline", "settings", "weights"}, set()),
    "gradcheck.methods": (set(), {"numpy"}),
    "gradcheck.operation": ({"methods"}, {"numpy"}),
    "gradcheck.diagnosis": ({"operation"}, {"numpy"}),
    "checklist": (
        {
            "guided",
            "coordinates",
            "gradcheck",
            "layers",
            "losses",
            "objective",
            "settings",
            "vgg",
            "weights",
        },
        {"numpy"},
    ),
    "exercises.hunt": (set(), {"numpy"}),
    "exercises.catalogue": (
        {"checklist", "hunt", "layers", "losses", "lbfgs", "pairs"},
        {"numpy"},
    ),
    "exercises.stubs": ({"catalogue", "hunt"}, set()),
    "exercises.marking": ({"catalogue", "gradcheck", "mutants", "objective", "stubs"}, {"numpy"}),
    "mutants": ({"guided", "checklist", "gradcheck", "layers", "losses"}, {"numpy"}),
}


def imports(path: Path) -> tuple[set[str], set[str]]:
    """(names within the package, top-level names of others) that a file imports anywhere."""
    inside, outside = set(), set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            inside |= {name.partition(".")[0] for name in names}
        elif isinstance(node, ast.ImportFrom):
            outside.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Import):
            outside |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            outside |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    return inside, outside - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_module_knows_only_what_it_may(name):
    inside, outside = imports(PACKAGE / f"{name.replace('.', '/')}.py")
    assert inside <= MAY_IMPORT[name][0]
    assert outside <= MAY_IMPORT[name][1]


def test_every_module_has_its_rule():
    paths = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli"]
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in paths}
    modules = {name for name in modules if not name.endswith("__init__")} - {"__main__"}
    assert modules == set(MAY_IMPORT)


def test_only_the_command_line_prints_or_parses():
    for path in [path for path in PACKAGE.rglob("*.py") if path.parent.name != "cli"]:
        calls = {
            ast.unparse(node.func)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
        }
        assert "print" not in calls, path
        assert "argparse" not in path.read_text(encoding="utf-8"), path


def test_help_needs_no_numpy():
    """What makes --help start at once."""
    import subprocess

    code = (
        "import sys; from minimal_nst.cli import build_parser; build_parser().format_help(); "
        "print(sorted({'numpy', 'scipy', 'PIL', 'h5py', 'tqdm', 'threadpoolctl'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert "stylize" in build_parser().format_help()


def test_public_functions_have_numpydoc_sections():
    """Each public function with arguments says what they and its result are."""
    for name in sorted(MAY_IMPORT):
        module = __import__(f"minimal_nst.{name}", fromlist=["_"])
        for attribute, thing in vars(module).items():
            if attribute.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
                continue
            if not (inspect.isfunction(thing) or inspect.isclass(thing)):
                continue
            assert thing.__doc__, f"{name}.{attribute}"
            brief = len(inspect.getsource(thing).splitlines()) < 16
            if inspect.isfunction(thing) and not brief:
                assert "Parameters\n" in thing.__doc__, f"{name}.{attribute}"


def test_public_names():
    for name in minimal_nst.__all__:
        assert getattr(minimal_nst, name) is not None
        assert not inspect.ismodule(getattr(minimal_nst, name))
    assert set(minimal_nst.__all__) <= set(dir(minimal_nst))
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        _ = minimal_nst.paint
