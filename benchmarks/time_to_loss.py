"""Seconds until a run is as low as PyTorch's L-BFGS is after 300 evaluations.

    pip install ".[reference]"
    python benchmarks/time_to_loss.py --size 512 --pairs 3

Every way has a process of its own, whose seconds begin before Python does, on the objective of the
preset gatys. PyTorch's time is that of its lowest evaluation; ours ends with the iteration after
which it is as low. All else is what of its second half was no evaluation. What was measured is kept
in --curves, so that a benchmark goes on where it was ended. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

from convergence import PAIRS, PYTORCH, ROOT, course, in_a_process, pictures, until
from machine import besides, describe, prepare, watch_evaluations

sys.path.insert(0, str(ROOT))

RIVAL = "PyTorch, LBFGS"
WAYS = {
    "ours": {},
    "ours, own L-BFGS": {"optimizer": "own-lbfgs"},
}


def reach(content, style, size, goal, threads, **changes):
    """When a run was as low as the goal, after how many evaluations, and the share of all else."""
    import minimal_nst as nst

    given = {
        "size": size,
        "margin": 0,
        "range_weight": 0,
        "iterations": 10**4,
        "threads": threads,
        **changes,
    }
    reached, moments, evaluations = [], [time.perf_counter()], watch_evaluations()

    def done(progress):
        moments.append(time.perf_counter())
        if progress.loss <= goal:
            reached.append((time.time(), progress.minimum.evaluations))
        return bool(reached)

    nst.stylize(content, style, nst.Settings(**given), done)
    return reached, besides(evaluations, moments)


def ours(title, changes, goal, options):
    """Seconds and evaluations until the goal, infinite if it was not reached; the share of all else."""
    arguments = (*pictures(title), options.size, goal, options.threads)
    started, (reached, share) = in_a_process("time_to_loss", f"reach(*{arguments}, **{changes})")
    if not reached:
        return math.inf, math.inf, share
    ((stamp, evaluations),) = reached
    return stamp - started, evaluations, share


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="[%(default)s]")
    parser.add_argument("--evaluations", type=int, default=300, help="PyTorch's [%(default)s]")
    parser.add_argument("--pairs", type=int, default=3, help="the first so many [%(default)s]")
    parser.add_argument("--threads", type=int, default=2, help="for everybody [%(default)s]")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
    parser.add_argument("--curves", type=Path, help="file (JSON) to keep what was measured in")
    options = parser.parse_args()
    prepare(options.threads, options.isa)
    kept = {}
    if options.curves and options.curves.exists():
        kept = json.loads(options.curves.read_text())

    def once(key, function, *arguments):
        """What was kept under this key, or else is measured now."""
        key = f"{key}, {options.size} px, {options.isa}, {options.threads} threads"
        if key not in kept:
            kept[key] = function(*arguments)
            if options.curves:
                options.curves.write_text(json.dumps(kept))
        return kept[key]

    print(describe(options.threads, options.isa))
    ratios = {way: [] for way in WAYS}
    for title in list(PAIRS)[: options.pairs]:
        rival = argparse.Namespace(**{**vars(options), "evaluations": [options.evaluations]})
        curve = once(f"{title}: {RIVAL}", course, title, RIVAL, PYTORCH[RIVAL], rival)
        goal = min(curve[1])
        evaluations, seconds = until(curve, goal)
        print(f"\n{title}, {options.size} px: loss {goal / 1e6:.3f}")
        print(f"  {RIVAL:22} {seconds:7.1f} s  {evaluations:4.0f} evaluations")
        for way, changes in WAYS.items():
            mine, count, share = once(f"{title}: {way}", ours, title, changes, goal, options)
            ratios[way].append(seconds / mine)
            figures = f"{mine:7.1f} s  {count:4.0f} evaluations"
            if math.isinf(mine):
                figures = f"{'not reached':32}"
            ratio = f"PyTorch / this: {seconds / mine:5.2f}"
            print(f"  {way:22} {figures}   {ratio}   all else {100 * share:4.1f} %", flush=True)
    print("\nmedian of PyTorch's time over ours")
    for way, values in ratios.items():
        print(f"  {way:22} {statistics.median(values):5.2f}")
