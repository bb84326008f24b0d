"""``bench``: what it says of a machine."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from minimal_nst import Settings, cli, images, memory
from minimal_nst.cli import bench, plan
from minimal_nst.resources import CASTLE, STARRY_NIGHT


def test_a_row_for_each_size(capsys):
    assert cli.main(["bench", "--sizes", "32,48", "--threads", "1", "--conv", "winograd"]) == 0
    head, titles, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith(", 1 thread, cpu")
    assert titles.split() == ["size", "evaluation", "500", "iterations", "memory"]
    for row, size in zip(rows, (32, 48), strict=True):
        width, _, height, seconds, _, minutes, _, need, _ = row.split()
        assert (int(height), int(width)) == images.measure(CASTLE, size)
        assert 0 < float(seconds) < 10
        assert float(minutes) == pytest.approx(500 * float(seconds) / 60, abs=0.06)
        shapes = images.measure(CASTLE, size), [images.measure(STARRY_NIGHT, size)]
        assert int(need) == round(memory.needed(Settings(size=size), *shapes, 1) / 2**20)


def test_an_evaluation_is_the_median_and_not_the_first(monkeypatch, capsys):
    """The first iteration has the start in it; one may take several evaluations."""
    moments = iter([9.0, 10.0, 12.0, 13.0, 99.0])

    def painted(content, style, settings, callback):
        assert settings.iterations == bench.MEASURED
        for evaluations in (2, 3, 5, 6, 7):
            callback(SimpleNamespace(evaluations=evaluations))

    monkeypatch.setattr("minimal_nst.pipeline.stylize", painted)
    monkeypatch.setattr(plan, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    assert cli.main(["bench", "--sizes", "32"]) == 0
    assert " 1.000 s " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--sizes", "32,x"], 2, "argument --sizes: '32,x' cannot be used; write sizes such as"),
        (["--sizes", "32,3"], 2, "size is 3; it must be a whole number, between 16"),
        (["--sizes", "40000"], 4, "size 40000 needs about .* choose size"),
        (["--sizes", "32", "--optimizer", "adam", "--history", "3"], 2, "--history does nothing"),
    ],
)
def test_what_it_refuses_it_refuses_before_the_work(capsys, args, code, message):
    assert cli.main(["bench", *args]) == code
    out, err = capsys.readouterr()
    assert " s " not in out
    assert err.count("\n") == 1
    assert re.search(message, err)


def test_the_memory_that_is_asked_for_is_that_of_all_iterations(monkeypatch, capsys):
    """L-BFGS remembers less in the few that are timed: they would fit."""
    shapes = images.measure(CASTLE, 32), [images.measure(STARRY_NIGHT, 32)]
    need = memory.needed(Settings(size=32), *shapes, 1)
    assert memory.needed(Settings(size=32, iterations=bench.MEASURED), *shapes, 1) < need
    for free, code in ((need - 1, 4), (need, 0)):
        monkeypatch.setattr("minimal_nst.memory.available", lambda free=free: free)
        assert cli.main(["bench", "--sizes", "32", "--threads", "1"]) == code
        assert ("size 32 needs" in capsys.readouterr().err) == (code == 4)
