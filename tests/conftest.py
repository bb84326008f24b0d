"""What the tests share: seeded numbers, the weights, small real pictures, and the array modules."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

PROCESSORS = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER:  # one of several processes, so BLAS has one thread in each:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # idle ones spin, and wait for each other
if WORKER and PROCESSORS:  # and each has its share of the processors, for all that it starts
    count = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.sched_setaffinity(0, sorted(PROCESSORS)[int(WORKER[2:]) :: count] or PROCESSORS)
for name in ("COLUMNS", "LINES", "MINIMAL_NST_WEIGHTS"):  # what somebody set up for other work
    os.environ.pop(name, None)

import minimal_nst as nst
import numpy as np
import pytest
from minimal_nst import VGG19, images, pipeline
from minimal_nst.backend import CPU, Backend, select
from minimal_nst.cli.options import flag
from minimal_nst.errors import UsageError
from minimal_nst.weights import Weights, find_weights

import compiled
import strict

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

SHALLOW = {"content_layers": "relu2_2", "style_layers": "relu1_1,relu2_1"}
"""Layers for what does not depend on how deep they lie: an evaluation of a tiny picture takes a fraction
of the time, most of which goes into reading the deep layers' kernels."""

SHALLOW_OPTIONS = [part for name in SHALLOW for part in (flag(name), SHALLOW[name])]


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows: its signals and files differ")


def gpu() -> Backend | None:
    """The GPU, where one works."""
    try:
        return select("cuda")
    except UsageError:
        return None


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20161)


@pytest.fixture(
    params=["numpy", "strict", pytest.param("cuda", marks=pytest.mark.gpu)],
)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Every kind of array that the layers must work on."""
    if request.param == "cuda" and (device := gpu()):
        return device
    return {"numpy": CPU, "strict": strict.BACKEND}[request.param]


@pytest.fixture(
    params=[
        "strict",
        pytest.param("cuda", marks=pytest.mark.gpu),
    ]
)
def device(request: pytest.FixtureRequest) -> Backend:
    """A GPU, and what stands in for one and runs its kernels."""
    return strict.BACKEND if request.param == "strict" else select("cuda")


@pytest.fixture
def xp(backend: Backend) -> ModuleType:
    return backend.xp


@pytest.fixture(scope="module")
def every_processor() -> Iterator[None]:
    """Threads can be in each other's way, as on one processor alone they seldom are."""
    if not PROCESSORS:
        yield
        return
    mine = os.sched_getaffinity(0)
    os.sched_setaffinity(0, PROCESSORS)
    yield
    os.sched_setaffinity(0, mine)


@pytest.fixture(scope="session")
def weights() -> Weights:
    return nst.load_weights()


@pytest.fixture(scope="session", autouse=True)
def one_network(weights: Weights) -> Iterator[None]:
    """Paintings of one process share the embedded weights and, set up alike, the network.

    It is half a second less for each of some two hundred, and besides a network must be none the
    worse for what was painted with it before.
    """
    path = find_weights(None)
    share = functools.lru_cache(maxsize=2)(functools.partial(VGG19, weights))

    def load(given: str | None = None) -> Weights:
        return weights if find_weights(given) == path else nst.load_weights(given)

    def network(given: Weights, pooling, conv, dtype, device, threads) -> VGG19:
        make = share if given is weights else functools.partial(VGG19, given)
        return make(pooling, conv, dtype, select(device), threads)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "load_weights", load)
        patch.setattr(pipeline, "VGG19", network)
        yield


@pytest.fixture(scope="module")
def network(weights: Weights) -> Callable[..., VGG19]:
    """`VGG19` of these weights, each kind once: to prepare one takes longer than to evaluate it."""
    return functools.cache(functools.partial(VGG19, weights))


@pytest.fixture(scope="session")
def content() -> np.ndarray:
    """Part of Neuschwanstein at 72x48, as (48, 72, 3) uint8."""
    return images.load(EXAMPLES / "content" / "neuschwanstein.webp", 72)


@pytest.fixture(scope="session")
def style() -> np.ndarray:
    """The Starry Night at another size than the content, both sides odd."""
    return images.load(EXAMPLES / "style" / "vangogh_starry_night_cropped.jpg", 61)


@pytest.fixture
def picture() -> np.ndarray:
    """A smooth 20x24 RGB picture, so that lossy formats come close."""
    i, j = np.mgrid[:20, :24] / 24
    return np.uint8(np.dstack([i * 200 + 20, j * 200 + 20, (i + j) * 100 + 20]))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a painting goes."""
    return tmp_path / "out.png"


def projections(array: np.ndarray) -> list[float]:
    """Three numbers that say, to the last digit, whether an array is another one."""
    flat = np.asarray(array, dtype="float64").ravel()
    return [float(flat @ np.cos(k * np.arange(flat.size) + k)) for k in (0.01, 0.5, 2.0)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; everything else runs everywhere.

    (What needs a compiler skips itself: `compiled`.) Where one is expected, REQUIRE_GPU=1 or
    REQUIRE_COMPILER=1 says so, and without it nothing passes.
    """
    if os.environ.get("REQUIRE_GPU") == "1":
        try:
            select("cuda")
        except UsageError as error:
            raise pytest.UsageError(f"REQUIRE_GPU=1, but {error}") from error
    elif gpu() is None:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU that CuPy can use"))
    if compiled.COMPILER is None and os.environ.get("REQUIRE_COMPILER") == "1":
        raise pytest.UsageError("REQUIRE_COMPILER=1, but there is no C++ compiler")


def fitting(preset, *pictures):
    """The pictures that a preset is compared on.

    Keras' examples take a layer's places to be a power of 4 fewer than the picture's, which sides
    that are multiples of 16 have.
    """
    if preset not in ("keras", "tv"):
        return pictures
    height, width = (side // 16 * 16 for side in pictures[0].shape[:2])
    return [picture[:height, :width] for picture in pictures]


def transcribed(preset, **changes):
    """Settings of a preset as its reference computes it.

    neural-style's total variation is not in the loss that it prints.
    """
    if preset == "johnson":
        changes["tv_weight"] = 0.0
    return nst.Settings.preset(preset, **changes)
