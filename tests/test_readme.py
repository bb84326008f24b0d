"""What the README says holds: its commands, its files, its Python, its table of presets."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
from minimal_nst import PRESETS, Settings, memory
from minimal_nst.cli import build_parser
from minimal_nst.mutants import MUTANTS
from minimal_nst.settings import HISTORY

from conftest import EXAMPLES, ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
PAIRS = ("Neuschwanstein", "Louvre", "astronaut", "chelsea")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    part.strip()
    for language, block in BLOCKS
    if not language
    for line in block.splitlines()
    for part in line.split("&&")
]


def test_the_two_commands_are_there():
    assert COMMANDS[:2] == ["python -m pip install .", "python -m minimal_nst demo"]
    assert COMMANDS[2:4] == ['python -m pip install ".[test]"', "python -m pytest -n 2"]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "minimal_nst " in c])
def test_every_command_is_understood(command):
    program, arguments = shlex.split(command)[:3], shlex.split(command)[3:]
    assert program == ["python", "-m", "minimal_nst"]
    if "--help" in arguments:
        with pytest.raises(SystemExit, match="0"):
            build_parser().parse_args(arguments)
    else:
        assert build_parser().parse_args(arguments).run


def test_every_link_leads_to_a_file():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_presets_are_those_that_exist():
    for name, preset in PRESETS.items():
        assert f"| `{name}` | {preset.summary}; {preset.source} |" in README


def test_the_number_of_mutants():
    assert f"{len(MUTANTS)} wrong gradients" in README


def ratios(size, section):
    """PyTorch's time over ours in the tables of a section."""
    table = rf"^{size} x {size}, .*?\n  ours, winograd .*?this: +([\d.]+)"
    return [float(ratio) for ratio in re.findall(table, section, re.MULTILINE)]


def column(way, position, section):
    """A number of each row of a way, in a section of the benchmarks."""
    rows = re.findall(rf"^  {re.escape(way)}  +(.*)$", section, re.MULTILINE)
    return [row.split()[position] for row in rows]


def test_the_figures_are_those_of_the_benchmarks():
    newer, _, others = BENCHMARKS.partition("How they compare depends on the processor.")
    for size, claim in (
        (128, r"at 128 ([\d.]+) times"),
        (256, r"at 256 ([\d.]+) times"),
        (512, r"take ([\d.]+) times as long"),
        (1024, r"at 1024 ([\d.]+) times"),
    ):
        assert 0 <= min(ratios(size, newer)) - float(re.search(claim, README).group(1)) < 0.1
    older = others.partition("On the older EPYC")[0]
    said = re.search(
        r"([\d.]+) and ([\d.]+)\sthere at 128 and 256 px, one of 512 px alone ([\d.]+)", older
    )
    small, middle, large = (
        min(*ratios(size, older), float(ratio))
        for size, ratio in zip((128, 256, 512), said.groups(), strict=True)
    )
    (largest,) = ratios(1024, older)
    claims = re.search(
        r"on an older one, without\sAVX-512, ([\d.]+), ([\d.]+), ([\d.]+) and ([\d.]+) times",
        README,
    )
    for ratio, claim in zip((large, largest, middle, small), claims.groups(), strict=True):
        assert 0 <= ratio - float(claim) < 0.1
    intel = others.partition("An Intel Xeon (Emerald Rapids)")[2].partition("Held to AVX2")[0]
    claims = re.search(r"Xeon ([\d.]+), ([\d.]+), ([\d.]+) and ([\d.]+) times", README)
    disturbed = float(re.search(r"tests ran, it had ([\d.]+)", intel).group(1))
    for size, claim in zip((512, 1024, 256, 128), claims.groups(), strict=True):
        (ratio,) = ratios(size, intel)
        least = min(ratio, disturbed) if size == 128 else ratio
        assert 0 <= least - float(claim) < 0.1
    rows = re.findall(
        r"^  512 px .* measured +(\d+), .* iterations=(?:25|85)(.*)$", BENCHMARKS, re.MULTILINE
    )
    assert [options for _, options in rows] == 2 * ["", ", optimizer=own-lbfgs"]
    scipys, own, scipys_square, own_square = (int(measured) for measured, _ in rows)
    assert own <= scipys
    assert own_square <= scipys_square <= 700e6 / 2**20
    assert "four times as many steps in half the memory" in README
    steps, by_hand = (
        memory._optimiser(Settings(optimizer=name, spectrum=0), 1, False)
        - item * sum(memory.VECTORS[name][:2])
        for name, item in (("lbfgs", 8), ("own-lbfgs", 4))
    )
    assert 2 * by_hand == steps
    assert HISTORY["own-lbfgs"] == 4 * HISTORY["lbfgs"]
    strips = BENCHMARKS.partition("### In strips")[2].partition("\n## ")[0]
    (seconds, before), *_, (longer, after) = re.findall(
        r"^\| \d \|.* ([\d.]+) s \| (\d+) MiB \|$", strips, re.MULTILINE
    )
    less = f"{int(after) / 1024:.1f} GiB in the place of {int(before) / 1024:.1f}"
    more = f"{float(longer) / float(seconds):.1f} times as long"
    assert f"{less}, and {more}" in README
    coordinates = BENCHMARKS.partition("## What the optimiser moves")[2].partition("\n###")[0]
    needed = [int(count) for count in column("lbfgs, spectrum 0.5", 3, coordinates)]
    assert f"{min(needed)} to {max(needed)} evaluations for what pixels take 100" in README
    programs = BENCHMARKS.partition("## Against PyTorch's optimiser")[2].partition("\n## ")[0]
    shares = [column(way, 0, programs)[len(PAIRS)] for way in ("ours", "ours, own L-BFGS")]
    assert "evaluations in {} and {} of them".format(*shares) in README
    for place, sentence in (
        (len(PAIRS), "in {} and {} of the seconds on an Intel Xeon"),
        (-1, "{} and {} on an AMD EPYC (AVX2"),
    ):
        seconds = [column(way, 1, programs)[place] for way in ("ours", "ours, own L-BFGS")]
        assert sentence.format(*seconds) in README


def test_the_figures_of_a_gpu_are_those_of_the_benchmarks():
    section = BENCHMARKS.partition("## On a GPU")[2].partition("\n## ")[0]
    table = section.partition("1024 x 1024\n")[2]
    ours, best, default, with_tf32 = (
        float(column(way, 0, table)[0])
        for way in ("ours, fp32", "PyTorch, fp32", "PyTorch, default (TF32)", "ours, tf32")
    )
    assert (
        f"at 1024 px takes {ours:.1f} ms, PyTorch's {best:.1f} in the same precision and "
        f"{default:.1f} in its default, TF32; with `--precision tf32` ours takes {with_tf32:.1f}"
    ) in README.replace("\n", " ")
    whole = r"  ours ([\d.]+) s, and when it is compiled ([\d.]+) s; PyTorch's LBFGS ([\d.]+) s;"
    first, second, theirs = map(float, re.search(whole, section).groups())
    assert (
        f"A painting of 500 iterations at 512 px takes {second} s, PyTorch's LBFGS {theirs}; "
        f"the first one on a machine takes {first - second:.0f} s more"
    ) in README.replace("\n", " ")


def test_the_python_runs(tmp_path):
    (code,) = [block for language, block in BLOCKS if language == "python"]
    code = code.replace("size=256, iterations=100", "size=40, iterations=1")
    photo, painting = EXAMPLES / "content" / "chelsea.png", EXAMPLES / "style"
    code = code.replace("photo.jpg", photo.as_posix())
    code = code.replace("painting.jpg", (painting / "vangogh_langlois_bridge.webp").as_posix())
    code = code.replace('"pool5"', '"pool4"')  # 40 pixels are too few for five poolings
    code += "\nassert painting.image.shape == (27, 40, 3) and len(features) == 3\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
