"""How much faster 3 ranks (two workers) are than 2 (one worker), with tasks that compute for long, on two cores.

Hold the machine free for it: whoever else computes takes more from two workers than from one. --json prints one object.
"""

from __future__ import annotations

import argparse
import json

from environment import environment
from overhead import run_ranks, show


def measure(tasks: int, seconds: float, repeats: int) -> dict:
    """Throughputs [1/s] of one and two workers in turn, and the best ratio of neighbours with their median."""
    ratios, rates = [], {1: [], 2: []}
    for _ in range(repeats):
        for workers in (1, 2):
            answer = run_ranks(
                workers + 1, by="ours", tasks=tasks * workers, seconds=seconds, expected_s=seconds, burn=True
            )
            rates[workers].append(tasks * workers / answer["makespan_s"])
        ratios.append(rates[2][-1] / rates[1][-1])
    return {
        "one_worker_tasks_per_s": max(rates[1]),
        "two_workers_tasks_per_s": max(rates[2]),
        "two_workers": sorted(ratios)[len(ratios) // 2],
        "ratios": ratios,
    }


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=30, help="of each worker")
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1, help="no figure depends on it: the tasks are all alike")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = {**measure(options.tasks, options.seconds, options.repeats), "environment": environment()}
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
