"""How many pairs should L-BFGS remember? Loss and time against memory, for SciPy's and for ours.

    python benchmarks/history.py --size 384 --evaluations 150,300

Every run has a process of its own, on the objective of the preset gatys. Losses are the best until
then. All else is what of its second half was no evaluation. The memory is what is predicted of a
whole run, at --size on a square. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np
from convergence import PAIRS, ROOT, in_a_process, numbers, pictures
from machine import besides, describe, prepare, watch_evaluations

sys.path.insert(0, str(ROOT))


def run(content, style, size, most, threads, **changes):
    """The loss of each evaluation, the share of all else, and the bytes predicted for a square."""
    import minimal_nst as nst
    from minimal_nst import memory

    given = {"size": size, "margin": 0, "range_weight": 0, "threads": threads}
    settings = nst.Settings(**given, iterations=10**6, **changes)
    evaluations, moments = watch_evaluations(), [time.perf_counter()]

    def done(progress):
        moments.append(time.perf_counter())
        return progress.minimum.evaluations >= most

    painting = nst.stylize(content, style, settings, done)
    square = size, size
    needed = memory.needed(settings, square, [square], threads)
    return painting.losses, besides(evaluations, moments), needed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="[%(default)s]")
    parser.add_argument("--evaluations", type=numbers, default="150,300", help="[%(default)s]")
    parser.add_argument("--lbfgs", type=numbers, default="10,20,40", help="SciPy's [%(default)s]")
    parser.add_argument("--own-lbfgs", type=numbers, default="40,80,160", help="[%(default)s]")
    parser.add_argument(
        "--pairs", type=int, default=len(PAIRS), help="of pictures, the first so many [%(default)s]"
    )
    parser.add_argument("--threads", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--isa", choices=["native", "avx2"], default="native", help="[%(default)s]")
    options = parser.parse_args()
    prepare(options.threads, options.isa)
    print(describe(options.threads, options.isa))
    remembered = {"lbfgs": options.lbfgs, "own-lbfgs": options.own_lbfgs}
    for title in list(PAIRS)[: options.pairs]:
        print(f"\n{f'{title}, {options.size} px':40}", end="")
        print("".join(f"{f'loss at {count}':>13}" for count in options.evaluations))
        for optimizer, histories in remembered.items():
            for history in histories:
                arguments = (*pictures(title), options.size, max(options.evaluations))
                changes = {"optimizer": optimizer, "history": history}
                call = f"run(*{arguments}, {options.threads}, **{changes})"
                _, (losses, share, needed) = in_a_process("history", call)
                best = np.minimum.accumulate(losses) / 1e6
                lowest = "".join(f"{best[count - 1]:13.3f}" for count in options.evaluations)
                print(
                    f"  {f'{optimizer}, {history} pairs':38}{lowest}"
                    f"   all else {100 * share:4.1f} %   {needed / 2**20:5.0f} MiB",
                    flush=True,
                )
