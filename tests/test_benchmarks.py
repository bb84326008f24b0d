"""Each benchmark runs, on pictures so small that its figures mean nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"

RUNS = {  # benchmark -> arguments, what it needs, what it prints
    "convergence": (
        ["--size", "48", "--evaluations", "2,3", "--pairs", "1", "--only", "lbfgs, spectrum 0.5"],
        "",
        "48 px",
    ),
    "evaluation": (["--sizes", "32", "--rounds", "1", "--layers"], "torch", "ours, winograd"),
    "gpu": (
        ["--device", "cpu", "--sizes", "32", "--rounds", "1", "--run", "32", "--iterations", "4"],
        "torch",
        "same input, same bits: yes",
    ),
    "history": (
        [
            "--size",
            "48",
            "--evaluations",
            "2,3",
            "--lbfgs",
            "2",
            "--own-lbfgs",
            "3",
            "--pairs",
            "1",
        ],
        "",
        "own-lbfgs, 3 pairs",
    ),
    "program": (["--size", "32", "--iterations", "1", "--rounds", "1"], "pastiche", "  stylize  "),
    "scales": (["--size", "48", "--iterations", "2", "--pairs", "1"], "", "48 px: cost so far"),
    "time_to_loss": (
        ["--size", "48", "--evaluations", "2", "--pairs", "1"],
        "torch",
        "ours, own L-BFGS",
    ),
    "balance": (["--size", "48", "--pairs", "1"], "", "relu1_1"),
    "wasserstein": (["--size", "48", "--pairs", "1"], "", "relu1_1"),
}


def test_every_benchmark_is_run_here_or_elsewhere():
    others = {"machine", "torch_gatys", "memory"}  # the last is run by test_memory
    assert set(RUNS) | others == {path.stem for path in FOLDER.glob("*.py")}


@pytest.mark.parametrize("name", RUNS)
def test_it_runs_and_prints_its_figures(name):
    arguments, needed, wanted = RUNS[name]
    if needed:
        pytest.importorskip(needed)
    done = subprocess.run(
        [sys.executable, FOLDER / f"{name}.py", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(FOLDER.parent)},
    )
    assert done.returncode == 0, done.stderr
    assert wanted in done.stdout
    assert "nan" not in done.stdout
