"""What a run needs is predicted, compared with what there is, and refused before the work."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
from pathlib import Path

import numpy as np
import pytest
from minimal_nst import VGG19, Settings, cli, images, memory, pipeline, stylize, winograd
from minimal_nst.architecture import CONVOLUTIONS
from minimal_nst.errors import OutOfMemory

import strict
from conftest import EXAMPLES, ROOT, SHALLOW

CONTENT = str(EXAMPLES / "content" / "louvre_night.webp")
STYLE = str(EXAMPLES / "style" / "vangogh_cafe_terrace.webp")
GIB = 2**30


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "benchmarks")
        spec = importlib.util.spec_from_file_location("peaks", ROOT / "benchmarks" / "memory.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak there")
@pytest.mark.parametrize(
    "choice",
    [
        {"iterations": 8, "history": 6},  # two more than there are pairs
        {"iterations": 1, "optimizer": "adam", "conv": "im2col", "style_size": 300},
        {"iterations": 1, "optimizer": "adam", "style_size": 512, "pooling": "avg"},
        {"iterations": 1, "optimizer": "adam", "threads": 8},
        {"iterations": 1, "optimizer": "adam", "strips": 4, **SHALLOW},
    ],
)
def test_prediction_is_within_a_seventh_of_the_peak(benchmark, choice):
    """At 256 pixels; ``python benchmarks/memory.py`` does it up to 1024."""
    predicted, measured = benchmark.measure(256, **choice)
    assert predicted == pytest.approx(measured, rel=1 / 7)


def test_kernels_are_those_of_the_picture_that_is_looked_at(monkeypatch):
    """A large style has larger tiles than a smaller content, and so larger kernels."""
    settings = Settings(size=300, optimizer="adam", style_layers="relu4_1,relu5_1")
    shapes = (300, 300), [(1024, 1024)]
    large = memory.needed(settings, *shapes, threads=2)
    monkeypatch.setattr(memory, "transform_for", lambda channels, shape: winograd.F4)
    assert large - memory.needed(settings, *shapes, threads=2) > 100 * 2**20


def test_layers_of_a_style_are_described_one_by_one():
    """Deeper ones need no room beside the first of a large style, and what it is pooled to.

    That one is there for all that is not a Gram matrix; for those it is gone through in bands.
    """
    pixels = 1500**2

    def need(layers, styles=1, statistic="mean-covariance", **changes):
        changes = {"optimizer": "adam", "style_statistic": statistic, **changes}
        settings = Settings(size=64, style_layers=layers, **changes)
        return memory.needed(settings, (64, 64), styles * [(1500, 1500)], threads=2)

    first = need("relu1_1")
    assert need("relu1_1,relu2_1") == need("relu1_1,relu2_1,relu3_1,relu4_1,relu5_1")
    pooled = need("relu1_1,relu2_1") - first  # a quarter, and of its windows a byte each
    assert pooled == pytest.approx(memory.BETWEEN * 64 * pixels / 4 * 5, rel=0.1)
    assert first - need("relu1_1", statistic="gram") > 64 * pixels * 4
    assert need("relu1_1", statistic="gram") < 64 * pixels * 4
    # the rooms that one style has left are there while the next one's first layer is, and so it is
    # with strips, of which the second finds them, whether there is another style or not
    again = need("relu1_1,relu2_1", styles=2) - need("relu1_1,relu2_1")
    assert again == pytest.approx(memory.BETWEEN * 64 * pixels / 4 * 4, rel=0.1)
    one, two = (need("relu1_1,relu2_1", styles, strips=2) for styles in (1, 2))
    assert one == two


def test_kernels_are_counted_as_the_engine_keeps_them(weights, rng):
    """Numbers of each convolution's, those for the way back among them where they are copies."""
    vgg, shape = VGG19(weights), (40, 43)
    features, tape = vgg.forward(rng.standard_normal((*shape, 3)).astype("float32"), ["relu5_1"])
    vgg.backward(tape, features)
    counted = 0
    for layer, convolution in vgg.engine._prepared.items():
        there, back = convolution.U, convolution._turned.U
        kept = there.size if np.shares_memory(there, back) else there.size + back.size
        _, n = memory._tile(layer, shape)
        assert memory._copies(layer) * n * n * np.prod(CONVOLUTIONS[layer]) == kept
        counted += 1
    assert counted == 12


@pytest.mark.parametrize("shape", [(64, 64), (197, 256), (300, 901), (768, 768)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_buffers_of_a_thread_are_counted_as_it_takes_them(weights, rng, shape, dtype):
    """By the layers whose bands each thread has to itself."""
    tap = "relu3_1"
    vgg = VGG19(weights, threads=1, dtype=dtype)
    features, tape = vgg.forward(rng.standard_normal((*shape, 3)).astype(dtype), [tap])
    vgg.backward(tape, {tap: features[tap].copy()})  # with itself, a mask would need no room
    taken = sum(room._bytes.nbytes for room in vgg.engine._memory.buffers.values())
    settings = Settings(style_layers=tap, content_layers=tap, dtype=dtype, margin=0)

    def need(threads):
        return memory.needed(settings, shape, [shape], threads)

    assert need(2) - need(1) == pytest.approx(taken, rel=0.1)


FIRST = {"style_layers": "relu1_1", "content_layers": "relu1_1"}
"""In strips, the optimiser takes most there."""


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"iterations": 12},
        {"optimizer": "adam", "pooling": "avg"},
        {"optimizer": "lbfgs"},
        {"style_size": 300},
        {"dtype": "float64"},
        {"conv": "im2col"},
        {"conv": "im2col", "style_size": 300},
        {"strips": 3},
        {"strips": 3, "conv": "im2col"},
        {"strips": 8, **FIRST},
        {"strips": 8, **FIRST, "spectrum": 0},
        {"strips": 8, **FIRST, "optimizer": "adam"},
        {"strips": 8, **FIRST, "optimizer": "lbfgs"},
    ],
)
def test_prediction_for_a_gpu_is_what_lies_on_the_stand_in(monkeypatch, choice):
    """Its arrays are counted at their peak; without the deep layers, whose weights would be nearly all."""
    size, layers = 160, SHALLOW
    settings = Settings(**{"size": size, "iterations": 2, **layers, **choice})
    monkeypatch.setattr(pipeline, "select", lambda device: strict.BACKEND)
    monkeypatch.setattr(pipeline, "VGG19", VGG19)  # not one that others have warmed up
    before = strict.MEMORY.most = strict.MEMORY.now
    stylize(CONTENT, [STYLE, STYLE], settings)  # while the first is seen, not all weights are there
    measured = strict.MEMORY.most - before
    shapes = images.measure(CONTENT, size), [images.measure(STYLE, settings.style_size or size)] * 2
    predicted = memory.needed(settings, *shapes, 2, gpu=True)
    assert predicted == pytest.approx(measured, rel=0.06)


def test_of_a_card_too_the_size_that_fits_is_named(monkeypatch):
    monkeypatch.setattr(pipeline, "select", lambda device: strict.BACKEND)
    monkeypatch.setattr(strict, "CARD", 2 * GIB + strict.MEMORY.now)
    with pytest.raises(OutOfMemory, match=r"of the GPU's memory, of which 2.15 GB are") as caught:
        stylize(CONTENT, STYLE, Settings(size=4000))
    size = int(str(caught.value).partition("choose size ")[2].split()[0])
    assert 700 < size < 1400
    shapes = images.measure(CONTENT, size), [images.measure(STYLE, size)]
    assert memory.needed(Settings(size=size), *shapes, 2, gpu=True) <= 2 * GIB


@pytest.fixture
def small(monkeypatch):
    """A machine with 1 GiB to spare."""
    monkeypatch.setattr(memory, "available", lambda: GIB)


@pytest.mark.parametrize("style_size", [None, 300])
def test_the_size_that_is_named_fits_and_the_next_does_not(small, style_size):
    settings = Settings(size=4000, style_size=style_size)
    with pytest.raises(OutOfMemory, match="size 4000 needs about .* GB .* are free") as caught:
        memory.check(settings, (3000, 4000), [(225, 300) if style_size else (3000, 4000)], 2)
    size = int(str(caught.value).partition("choose size ")[2].split()[0])
    assert 400 < size < 1200
    for smaller, fits in ((size, True), (size + 1, False)):
        content = (round(3000 * smaller / 4000), smaller)
        style = (225, 300) if style_size else content
        assert (memory.needed(settings, content, [style], 2) <= GIB) == fits


def test_a_style_that_is_too_large_is_named(small):
    """And not the painting, which would fit."""
    settings = Settings(size=384, style_size=30000)
    content, style = (288, 384), (22500, 30000)
    with pytest.raises(OutOfMemory, match="^style_size 30000 needs about") as caught:
        memory.check(settings, content, [style], 2)
    size = int(str(caught.value).partition("choose style_size ")[2].split()[0])
    assert 384 < size < 3000
    for side, fits in ((size, True), (size + 1, False)):
        smaller = round(22500 * side / 30000), side
        assert (memory.needed(settings, content, [smaller], 2) <= GIB) == fits
    with pytest.raises(OutOfMemory, match="^size 4000 needs about .*; free some memory"):
        memory.check(Settings(size=4000, style_size=5000), (3000, 4000), [(3750, 5000)], 2)


def test_strips_that_would_fit_are_named(small):
    """The fewest; and what would not fit in any number of them is not said to."""
    settings, shapes = Settings(size=1100, optimizer="adam"), ((825, 1100), [(825, 1100)])
    with pytest.raises(
        OutOfMemory, match=r"or choose strips \d+ \(which take longer\), or"
    ) as caught:
        memory.check(settings, *shapes, 2)
    strips = int(str(caught.value).partition("choose strips ")[2].split()[0])
    assert 2 < strips < 20
    for count, fits in ((strips, True), (strips - 1, False)):
        cut_up = dataclasses.replace(settings, strips=count)
        assert (memory.needed(cut_up, *shapes, 2) <= GIB) == fits
    memory.check(dataclasses.replace(settings, strips=strips), *shapes, 2)
    with pytest.raises(OutOfMemory, match=r"choose size \d+ or less, or try it all the same"):
        memory.check(Settings(size=4000), (3000, 4000), [(3000, 4000)], 2)


@pytest.mark.parametrize(("size", "needs_strips"), [(900, False), (1200, True)])
@pytest.mark.parametrize(("asked", "history"), [(None, 20), (10, 10), (30, 20)])
def test_an_optimiser_that_would_fit_is_named(small, size, needs_strips, asked, history):
    """With the fewest strips, or none; it is not asked to remember more than the other."""
    settings = Settings(size=size, history=asked)
    shapes = (size * 3 // 4, size), [(size * 3 // 4, size)]
    with pytest.raises(OutOfMemory) as caught:
        memory.check(settings, *shapes, 2)
    _, _, advice = str(caught.value).partition("or choose ")
    how, _, strips = advice.partition(", or try")[0].partition(", strips ")
    assert how == f"optimizer own-lbfgs, history {history}"
    by_hand = dataclasses.replace(settings, optimizer="own-lbfgs", history=history)
    if needs_strips:
        count, _, rest = strips.partition(" ")
        assert rest == "(which take longer)"
        for strips, fits in ((int(count), True), (int(count) - 1, False)):
            cut_up = dataclasses.replace(by_hand, strips=strips)
            assert (memory.needed(cut_up, *shapes, 2) <= GIB) == fits
        in_most = dataclasses.replace(settings, strips=memory.MOST_STRIPS)
        assert memory.needed(in_most, *shapes, 2) > GIB
    else:
        assert strips == ""
        memory.check(by_hand, *shapes, 2)


def test_an_optimiser_that_was_chosen_for_its_memory_is_kept(small):
    """And so is its memory, if it was asked to remember much."""
    settings = Settings(size=1100, optimizer="own-lbfgs", history=400)
    shapes = (825, 1100), [(825, 1100)]
    memory.check(dataclasses.replace(settings, history=20, strips=8), *shapes, 2)
    with pytest.raises(OutOfMemory, match=r"choose size \d+ or less, or try it all the same"):
        memory.check(settings, *shapes, 2)


def test_a_gpu_is_not_told_of_the_optimiser_that_it_has():
    """Where nothing is chosen, it is our own there already."""
    settings, shapes = Settings(size=1100, history=400), ((825, 1100), [(825, 1100)])
    with pytest.raises(OutOfMemory) as caught:
        memory.check(settings, *shapes, 2, card=2 * GIB)
    assert "of the GPU's memory" in str(caught.value)
    assert "optimizer" not in str(caught.value)


def test_force_and_not_knowing_go_on(small, monkeypatch):
    memory.check(Settings(size=4000, force=True), (3000, 4000), [(3000, 4000)], 2)
    monkeypatch.setattr(memory, "available", lambda: None)
    memory.check(Settings(size=4000), (3000, 4000), [(3000, 4000)], 2)


def test_nothing_fits(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(OutOfMemory, match="; free some memory, or try it all the same with force"):
        stylize(np.zeros((16, 16, 3)), np.zeros((16, 16, 3)), Settings(size=16))


def test_absurd_sizes_are_refused_at_once(capsys, tmp_path):
    out = tmp_path / "o.png"
    start = time.monotonic()
    code = cli.main(["stylize", CONTENT, STYLE, "-o", str(out), "--size", "60000"])
    assert code == 4
    assert time.monotonic() - start < 10
    assert "size 60000 needs about" in capsys.readouterr().err
    assert not out.exists()


def test_more_of_anything_needs_more():
    """Pixels, style pixels, layers, digits, threads; and nothing is needed for what weighs 0."""

    def need(content=(200, 300), style=(200, 300), threads=2, **changes):
        return memory.needed(Settings(**changes), content, [style], threads)

    least = need()
    assert need(content=(300, 300)) > least
    assert need(style=(2000, 3000)) > least
    assert need(threads=3) > least
    assert need(dtype="float64") > 1.5 * (least - memory.CODES)
    assert need(style_layers="relu1_1") < least
    assert need(style_weight=0) == need(style_weight=0, style_layers="relu5_4") < least
    assert need(style_layers="relu1_1,relu5_4:0") == need(style_layers="relu1_1")
    assert need(optimizer="adam") == need(optimizer="adam", spectrum=0) < least < need(spectrum=0)
    assert need(history=19) < least == need(history=20) < need(history=21)
    own = need(optimizer="own-lbfgs")
    assert need(history=20, optimizer="own-lbfgs") < own == need(history=80, optimizer="own-lbfgs")
    assert own < least  # its 80 pairs are no larger, and it needs fewer other arrays
    assert need(history=100, iterations=20) == least  # there are no more steps to remember


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


MEMINFO = "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 8000 kB\n"


def test_what_is_available(tmp_path):
    """The least of the machine, the control group and the groups around it (both versions)."""
    assert memory.available(tmp_path) is None
    write(tmp_path, {"proc/meminfo": MEMINFO})
    assert memory.available(tmp_path) == 8000 * 1024
    group = "sys/fs/cgroup/outer"
    files = {
        "proc/self/cgroup": "0::/outer/inner\n",
        f"{group}/inner/memory.max": "max\n",
        f"{group}/memory.max": "5000000\n",
        f"{group}/memory.current": "2000000\n",
        f"{group}/memory.stat": "anon 1\ninactive_file 500000\n",
    }
    write(tmp_path, files)
    assert memory.available(tmp_path) == 3_500_000
    group = "sys/fs/cgroup/memory/a"
    files = {
        "proc/self/cgroup": "5:cpu,memory:/a\n4:pids:/\n",
        f"{group}/memory.limit_in_bytes": "3000000\n",
        f"{group}/memory.usage_in_bytes": "4000000\n",
        f"{group}/memory.stat": "cache 1\n",
    }
    write(tmp_path, files)
    assert memory.available(tmp_path) == 0


def test_ulimit_counts(monkeypatch, tmp_path):
    resource = pytest.importorskip("resource")
    write(tmp_path, {"proc/self/statm": "1000 500 1 1 0 1 0\n", "proc/meminfo": MEMINFO})
    page = resource.getpagesize()
    limit = 1000 * page + 4096
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    assert memory.available(tmp_path) == 4096
