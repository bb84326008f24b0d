"""What a run needs and what there is, in bytes: asked before the work, not found out by it.

Glossary::

    shape    (height, width) of a picture at the size at which it is painted
    values   numbers in an array, whatever their dtype
    kept     outputs of the tapped layers
    gates    which values a ReLU or a pooling lets through: a byte for each, or a bit
"""

from __future__ import annotations

import contextlib
import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

from .architecture import CONVOLUTIONS, LAYERS, canvas, depth_of, fused, shape_of
from .convolution import (
    BAND_BYTES,
    COPIED_UP_TO,
    DIRECT_BAND,
    SHARED_FROM,
    bands_for,
    transform_for,
)
from .coordinates import SHARE
from .engine import COLUMNS_BYTES
from .errors import OutOfMemory
from .gpu import TILES_BYTES, transform_of
from .settings import HISTORY, SMALLEST, Settings
from .strips import cut
from .winograd import Transform

Shape: TypeAlias = tuple[int, int]

VECTORS = {"lbfgs": (5, 17, 2, 0), "own-lbfgs": (9, 6, 0, 2), "adam": (10, 0, 0, 0)}
"""Optimiser -> arrays, as measured: of the picture's size, and of all the variables', of SciPy's in float64;
and of these for each step that L-BFGS remembers, in float64 and as stacks.py keeps them."""

VECTORS_ON_GPU = {"lbfgs": (1, 0, 0, 0), "own-lbfgs": (17, 10, 0, 2), "adam": (30, 0, 0, 0)}
"""The same, of a GPU's memory: there each recording has a room of its own. SciPy's are the host's."""

MOST_STRIPS = 64
"""That are advised: with more, nearly all that is seen is seen for other strips' sake."""

BETWEEN = 1.06
"""A CPU's memory over what its arrays hold, as measured: libraries keep some, and gaps are left."""

CODES = 24 * 2**20
"""The embedded weights, as they stay in memory."""


def needed(
    settings: Settings,
    content: Shape,
    styles: Sequence[Shape],
    threads: int,
    masked: bool = False,
    gpu: bool = False,
) -> int:
    """Predict how much memory `stylize` will take at its peak, on a CPU or of a GPU.

    Parameters
    ----------
    settings : Settings
    content : (int, int)
        Height and width at which the content is painted, without the margin.
    styles : sequence of (int, int)
    threads : int
        Of the fast engine.
    masked : bool
        Whether styles are confined to regions.
    gpu : bool
        Whether the GPU's memory is meant.

    Returns
    -------
    int
        Bytes, beyond the interpreter, its libraries and the pictures' files.
    """
    rows, columns = canvas(*content, settings.margin)
    content = content[0] + sum(rows), content[1] + sum(columns)
    every = {*settings.content_taps, *settings.style_taps}
    path = LAYERS[: depth_of(every)]
    shapes = [
        _tallest(content, settings.strips, every),
        *(_tallest(shape, settings.strips, settings.style_taps) for shape in styles),
    ]
    here, *there = (dict(_values(shape, path)) for shape in shapes)
    whole = dict(_values(content, list(settings.content_taps)))
    plain = settings.style_statistic == "gram" and not masked
    in_whole = {"conv1_1", *settings.content_taps} if plain else every
    again = not every & in_whole & {"conv1_1", "relu1_1"}
    run = _Run(
        settings, every, path, shapes, [here, *there], sum(whole.values()), threads, gpu, again
    )
    engine = _textbook if settings.conv == "im2col" else _on_gpu if gpu else _fast
    fixed, painting, describing = engine(run)
    if shapes[0] != content:  # the gradient of all strips, and one that is put among zeros
        painting += 3 * math.prod(content) + max(here[tap] for tap in every)
    if not plain:
        # a layer's features times the mask, less their mean, and the gradient of either
        painting += 4 * max((here[tap] for tap in settings.style_taps), default=0)
        describing += 2 * run.seen
    painting = run.item * painting + _optimiser(settings, 3 * math.prod(content), gpu)
    arrays = run.item * fixed + max(painting, run.item * describing)
    return int(arrays if gpu else BETWEEN * arrays)


@dataclass(frozen=True)
class _Run:
    """What an engine's memory depends on.

    Attributes
    ----------
    settings : Settings
    every : set of str
        The taps.
    path : sequence of str
        The layers up to the deepest.
    shapes : list of (int, int)
        Of the content as it is painted, and of the styles: of what is seen at once of each.
    values : list of dict
        For each of these, layer -> how many numbers its output has.
    targets : int
        Numbers that the content's taps shall have.
    threads : int
    gpu : bool
    again : bool
        Whether the fast engine computes the first layer wherever it is read.
    """

    settings: Settings
    every: Collection[str]
    path: Sequence[str]
    shapes: Sequence[Shape]
    values: Sequence[dict[str, int]]
    targets: int
    threads: int
    gpu: bool
    again: bool

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return {"float32": 4, "float64": 8}[self.settings.dtype]

    @property
    def kept(self) -> int:
        """Numbers of the taps' outputs."""
        return sum(self.values[0][tap] for tap in self.every)

    @property
    def seen(self) -> int:
        """Numbers of a style's largest tap: they are described one by one."""
        there, taps = self.values[1:], self.settings.style_taps
        return max((values[tap] for values in there for tap in taps), default=0)

    def kernels(self, numbers: Callable[[str], int], taps: Collection[str]) -> int:
        """Numbers of all kernels up to these taps, of which a layer has so many for each pair of channels."""
        layers = (layer for layer in self.path[: depth_of(taps)] if layer in CONVOLUTIONS)
        return sum(math.prod(CONVOLUTIONS[layer]) * numbers(layer) for layer in layers)


Needs: TypeAlias = tuple[float, float, float]
"""Numbers that an engine needs all the time; besides, while it paints; besides, while it describes a
style."""


def _textbook(run: _Run) -> Needs:
    """Of `engine.Textbook`, on either device."""
    here, *there = run.values
    gates = sum(here[layer] for layer in run.path if layer.startswith("relu")) / run.item
    fixed = run.kernels(lambda layer: 9, run.every) + run.targets
    largest, described = max(here.values()), max(max(values.values()) for values in there)

    def columns(most: int) -> int:  # nine of each channel, which a CPU has in bands
        return 9 * most if run.gpu else min(9 * most, COLUMNS_BYTES // run.item)

    # a convolution's input and output, and on a CPU the like of the band
    maps = (3, 1) if run.gpu else (4, 1.5)
    painting = 2 * run.kept + maps[0] * largest + columns(largest) + gates
    describing = run.seen + maps[1] * described + columns(described)
    return fixed + (0 if run.gpu else CODES / run.item), painting, describing


def _fast(run: _Run) -> Needs:
    """Of `engine.Fast`."""
    here = {layer: n for layer, n in run.values[0].items() if not _again(layer, run)}
    wide = [layer for layer in run.path if layer[:5] in ("conv4", "conv5")]
    tiles = [
        values[layer] * n**2 // m**2
        for values, shape in zip(run.values, run.shapes, strict=True)
        for layer in wide
        for m, n in [_tile(layer, shape)]
    ]

    def kernels(shape: Shape, taps: Collection[str]) -> int:  # of the picture that is looked at
        return run.kernels(lambda layer: _tile(layer, shape)[1] ** 2 * _copies(layer), taps)

    # the two buffers of a band that all threads share
    fixed: float = run.targets + 2 * min(BAND_BYTES[512] // run.item, max(tiles, default=0))
    # a ReLU is in one step with its convolution, and with the pooling after it
    steps = [layer for layer in here if layer.startswith("relu") and layer not in run.every]
    between = [_pool_after(layer, run.path) or layer for layer in steps]
    scratch = 2 * max((here[layer] for layer in between), default=0)
    gates = sum(_gates(layer, here[layer]) for layer in between) / run.item
    kept = sum(here.get(tap, 0) for tap in run.every)
    painting = kernels(run.shapes[0], run.every) + kept + scratch + gates
    fixed += CODES / run.item + _buffers(run) * run.threads
    return fixed, painting, _looking(run, kernels)


def _looking(run: _Run, kernels: Callable[[Shape, Collection[str]], int]) -> float:
    """Most numbers that are there while the styles are looked at, the kernels up to there among them.

    A tap has an array of its own, which goes when the next step has read it; all else is written to
    two rooms in turn, which stay for the next strip and the next style.
    """
    taps, path = run.settings.style_taps, run.path[: depth_of(run.settings.style_taps)]
    prepared = kernels(run.shapes[0], run.settings.content_taps)
    most: float = prepared
    rooms = [0, 0]
    for shape, values in zip(run.shapes[1:], run.values[1:], strict=True):
        for _ in range(min(run.settings.strips, 2)):  # the third is as the second
            before = 0.0
            for step in fused(path, taps):
                output, tapped = values[step[-1]], step[-1] in taps
                if _again(step[-1], run):
                    continue
                if not tapped:
                    rooms = [max(output, rooms[1]), rooms[0]]
                prepared = max(prepared, kernels(shape, [step[-1]]))
                now: float = output if tapped else _gates(step[-1], output) / run.item
                most = max(most, prepared + before + now + sum(rooms))
                before = output if tapped else 0.0
    return most


def _buffers(run: _Run) -> int:
    """Numbers in the buffers of one of the fast engine's threads, which grow to the largest band.

    Those of `convolution`'s stages, of a band's rows before a pooling or behind a mask, and of the
    first layer's with their columns; not the bands that all threads share.
    """
    tiles, strip, rows, first = 0, 0, 0, 0
    if "relu1_1" in run.every or not run.again:  # it is gone through by itself
        first = min(DIRECT_BAND, max(map(math.prod, run.shapes)))
    narrow = [
        layer
        for layer, pair in CONVOLUTIONS.items()
        if layer in run.path and 3 not in pair and max(pair) < SHARED_FROM
    ]
    for shape, layer in product(run.shapes, narrow):
        height, width, _ = shape_of(layer, *shape)
        channels = CONVOLUTIONS[layer]
        transform = transform_for(channels, (height, width))
        m, n = transform.m, transform.n
        found = bands_for(channels, (height, width), transform, run.item)
        tallest = max(band.stop - band.start for band in found)
        down, across, C = -(-tallest // m), -(-width // m), max(channels)
        tiles = max(tiles, n**2 * down * across * C)
        strip = max(strip, n * down * (m * across + 2) * C)
        rows = max(rows, (tallest + 2) * width * C)
        if layer == "conv1_2":
            first = max(first, (tallest + 2) * width)
    return 2 * tiles + strip + rows + (27 + 64) * first


def _on_gpu(run: _Run) -> Needs:
    """Of `gpu.Gpu`."""
    here, *there = run.values
    transform = transform_of(run.settings.dtype, run.settings.precision == "tf32")
    fixed = run.kernels(lambda layer: transform.n**2, run.every) + run.targets
    outputs = {step[-1] for step in fused(run.path, run.every)}
    gates = sum(here[layer] for layer in outputs) / run.item
    tiles = [
        min(TILES_BYTES // run.item, _tiles(shape, run.path, transform)) for shape in run.shapes
    ]
    # of the gradients of the taps, and of the largest map and the one behind a pooling
    painting = 2 * run.kept + max(here.values()) * 5 // 4 + gates + tiles[0]
    outputs -= run.settings.style_taps.keys()
    largest = max((values[layer] for values in there for layer in outputs), default=0)
    return fixed, painting, run.seen + (1 + 1 / run.item) * largest + max(tiles)


def _optimiser(settings: Settings, numbers: int, gpu: bool) -> int:
    """Bytes of an optimiser for a picture of so many numbers."""
    optimizer = settings.optimizer or ("own-lbfgs" if gpu else "lbfgs")
    of_picture, of_variables, doubles, by_hand = (VECTORS_ON_GPU if gpu else VECTORS)[optimizer]
    pairs = min(settings.history or HISTORY[optimizer], settings.iterations)
    moved = "float64" if optimizer == "lbfgs" else settings.dtype
    item, kept = {"float32": 4, "float64": 8}[moved], 1 if settings.dtype == "float32" else 8
    variables = SHARE * numbers if settings.spectrum else numbers
    of_variable = item * of_variables + (8 * doubles + kept * by_hand) * pairs
    return int(item * of_picture * numbers + of_variable * variables)


def _tallest(shape: Shape, strips: int, taps: Collection[str]) -> Shape:
    """What the network sees at once of a picture that is cut into so many strips."""
    seen = (strip.seen for strip in cut(shape[0], strips, taps))
    return max(rows.stop - rows.start for rows in seen), shape[1]


def _values(shape: Shape, path: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Layer -> how many numbers its output has."""
    for layer in path:
        yield layer, math.prod(shape_of(layer, *shape))


def _tile(layer: str, shape: Shape) -> tuple[int, int]:
    """The sides of the fast engine's tiles, of outputs and of inputs, in a convolution."""
    height, width, _ = shape_of(layer, *shape)
    transform = transform_for(CONVOLUTIONS[layer], (height, width))
    return transform.m, transform.n


def _copies(layer: str) -> int:
    """How often the fast engine keeps a convolution's transformed kernels: some for the way back, too."""
    return 2 if max(CONVOLUTIONS[layer]) <= COPIED_UP_TO else 1


def _tiles(shape: Shape, path: Sequence[str], transform: Transform) -> int:
    """How many numbers a convolution's tiles have, before and after the products, at most."""
    m, n = transform.m, transform.n
    found = 0
    for layer in (layer for layer in path if layer in CONVOLUTIONS):
        height, width, _ = shape_of(layer, *shape)
        found = max(found, n**2 * -(-height // m) * -(-width // m) * sum(CONVOLUTIONS[layer]))
    return found


def _gates(layer: str, values: int) -> float:
    """Bytes of a step's gates in the fast engine: of a pooling, one for each value; of a ReLU, a bit."""
    return values if layer.startswith("pool") else values / 8


def _again(layer: str, run: _Run) -> bool:
    """Whether the output of a layer is not kept by the fast engine."""
    return run.again and layer in ("conv1_1", "relu1_1")


def _pool_after(layer: str, path: Sequence[str]) -> str:
    """The pooling that comes next after a layer; '' if another layer does."""
    after = path[path.index(layer) + 1 :]
    return after[0] if after and after[0].startswith("pool") else ""


def check(
    settings: Settings,
    content: Shape,
    styles: Sequence[Shape],
    threads: int,
    masked: bool = False,
    card: int | None = None,
) -> None:
    """Refuse a run that would not fit; name the size that does, and how this one might.

    Parameters
    ----------
    settings, content, styles, threads, masked
        As for `needed`.
    card : int, optional
        Bytes that are free on the GPU, if it is one that computes.

    Raises
    ------
    OutOfMemory
        If less is available than is needed. Where nothing says how much there is, all is well.
    """
    gpu = card is not None
    free = card if gpu else available()
    need = needed(settings, content, styles, threads, masked, gpu)
    if settings.force or free is None or need <= free:
        return

    def fits(size: float, style_size: float) -> bool:  # as shares of what was asked for
        smaller = [_scaled(style, style_size) for style in styles]
        return needed(settings, _scaled(content, size), smaller, threads, masked, gpu) <= free

    def largest(size: int, enough: Callable[[float], bool]) -> int:  # below it; 0 if none is
        return bisect_left(range(1, size), True, key=lambda less: not enough(less / size))

    name, asked, of_styles = "size", settings.longer, settings.style_size
    most = largest(asked, lambda share: fits(share, 1 if of_styles else share))
    if of_styles and of_styles > asked:  # the larger ones should be smaller, if that is enough
        smaller_styles = largest(of_styles, lambda share: fits(1, share))
        if smaller_styles >= SMALLEST:
            name, asked, most = "style_size", of_styles, smaller_styles
    advice = f"choose {name} {most} or less" if most >= SMALLEST else "free some memory"
    for how, other in _with_less(settings, gpu):
        if needed(other, content, styles, threads, masked, gpu) <= free:
            advice += f", or choose {how}"
            break
    whose = "the GPU's memory" if gpu else "memory"
    raise OutOfMemory(
        f"{name} {asked} needs about {need / 1e9:.3g} GB of {whose}, of which "
        f"{free / 1e9:.3g} GB are free; {advice}, or try it all the same with force"
    )


def _with_less(settings: Settings, gpu: bool) -> Iterator[tuple[str, Settings]]:
    """How to ask for less memory, and the settings then: first what takes no longer."""
    counts = range(settings.strips + 1, MOST_STRIPS + 1)
    in_strips = [(f"strips {n} (which take longer)", replace(settings, strips=n)) for n in counts]
    if gpu or settings.optimizer not in (None, "lbfgs"):
        yield from in_strips
        return
    history = min(HISTORY["lbfgs"], settings.history or HISTORY["lbfgs"])
    how = f"optimizer own-lbfgs, history {history}"
    own = replace(settings, optimizer="own-lbfgs", history=history)
    yield how, own
    yield from in_strips
    for in_so_many, cut_up in in_strips:
        yield f"{how}, {in_so_many}", replace(own, strips=cut_up.strips)


def _scaled(shape: Shape, scale: float) -> Shape:
    height, width = (max(SMALLEST, round(side * scale)) for side in shape)
    return height, width


def available(root: Path = Path("/")) -> int | None:
    """Return how many bytes a process can still have: of the machine and of its control groups.

    Parameters
    ----------
    root : Path
        Where the system's folders ``proc`` and ``sys`` lie.

    Returns
    -------
    int or None
        None where nothing says so, as on systems other than Linux.

    References
    ----------
    Linux' manual pages proc_meminfo(5) and cgroups(7).
    """
    found = [*_of_machine(root), *_of_groups(root), *_of_process(root)]
    return max(0, min(found)) if found else None


def _of_machine(root: Path) -> Iterator[int]:
    for line in _read(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024


def _of_groups(root: Path) -> Iterator[int]:
    """What each control group around the process has left; cached files could be dropped."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        limit, usage = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        if not controllers:
            limit, usage = ("memory.max", "memory.current")
        inside = Path(group.strip("/"))
        for folder in (top / part for part in (inside, *inside.parents)):
            most, used = _read(folder / limit).strip(), _read(folder / usage).strip()
            if most.isdecimal() and used.isdecimal():
                statistics = dict(
                    line.split() for line in _read(folder / "memory.stat").splitlines()
                )
                yield int(most) - int(used) + int(statistics.get("inactive_file", 0))


def _of_process(root: Path) -> Iterator[int]:
    """What the shell's `ulimit -v` leaves."""
    with contextlib.suppress(ImportError):  # Windows
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = _read(root / "proc/self/statm").split()
        if most != resource.RLIM_INFINITY and pages:
            yield most - int(pages[0]) * resource.getpagesize()


def _read(path: Path) -> str:
    """The text of a file; '' if there is none."""
    try:
        return path.read_text()
    except OSError:
        return ""
