"""Send signals to the program at random moments, from its start to after its end.

    python tests/signals.py --moments 50

Whenever they come, there must be a whole painting or the untouched old file at OUT, nothing else
in its folder, no traceback, and the exit code that belongs to it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
OLD = b"what was here before"
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
COMMAND = (
    *(sys.executable, "-m", "minimal_nst", "stylize"),
    str(ROOT / "examples/content/louvre_night.webp"),
    str(ROOT / "examples/style/vangogh_cafe_terrace.webp"),
    *("--size", "96", "--optimizer", "adam", "--iterations", "60", "--preset", "gatys"),
    *("--content-layers", "relu1_1", "--style-layers", "relu1_1"),
)


def with_default_signals() -> None:
    """For a new process: none of them ignored, as under nohup or in a shell's background."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)


def start(out: Path, command: tuple[str, ...] = COMMAND, **streams: object) -> subprocess.Popen:
    """Begin to paint. Whoever does it kills the process in a ``finally``."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = (*command, "-o", str(out))
    return subprocess.Popen(
        command, text=True, cwd=ROOT, preexec_fn=with_default_signals, **streams
    )


def outcome(number: int, moment: float, times: int = 1) -> str:
    """Paint over an old file, send a signal so many seconds after the start, and say what is wrong.

    Parameters
    ----------
    number : int
    moment : float
    times : int
        How often it is sent, at intervals of 5 ms.

    Returns
    -------
    str
        'old' or 'painting', which is right; or what is wrong.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.png"
        out.write_bytes(OLD)
        process = start(out)
        try:
            time.sleep(moment)
            for _ in range(times):
                process.send_signal(number)
                time.sleep(0.005)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        code, kept = process.returncode, out.read_bytes() == OLD
        if kept and "KeyboardInterrupt" in stderr and "__main__.py" not in stderr:
            return "old"  # Python's own start, before the program's first line: some 30 ms
        if "Traceback" in stderr or "report it" in stderr:
            return f"standard error: {stderr}"
        if os.listdir(folder) != [out.name]:
            return f"left behind: {os.listdir(folder)}"
        if code not in ((-number, 128 + number) if kept else (0, 128 + number)):
            return f"exit code {code}, the old file is {'there' if kept else 'replaced'}: {stderr}"
        if kept:
            return "old"
        with Image.open(out) as image:
            image.load()
            return "painting" if image.size == (96, 38) else f"a picture of {image.size}"


def duration() -> float:
    """Seconds that the program takes undisturbed."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.monotonic()
        process = start(Path(folder) / "out.png")
        try:
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0
        return time.monotonic() - begin


def try_all(moments: int, seed: int) -> dict[str, int]:
    """Try each signal, and Ctrl-C held down, at random moments; return how often what came out."""
    generator, seconds = random.Random(seed), duration()
    found: dict[str, int] = {}
    for number, times in [*((number, 1) for number in SIGNALS), (signal.SIGINT, 40)]:
        for _ in range(moments):
            result = outcome(number, generator.uniform(0, 1.1 * seconds), times)
            found[result] = found.get(result, 0) + 1
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=50, help="for each signal [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="[%(default)s]")
    options = parser.parse_args()
    results = try_all(options.moments, options.seed)
    for result, count in results.items():
        print(f"{count:5}  {result}")
    sys.exit(int(not set(results) <= {"old", "painting"}))
