"""The scheduler at the size of a large machine, simulated, and on this machine, measured.

Simulated: a million regions of 100 ms and more on 4,095 workers, with the time that the master needs for messages and
results, judged by makespan / max(total / workers, longest region): times as engine sherpa has them, all alike, and with
estimates that are wrong by a third. Measured: everything of overhead.py. --json prints one object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from environment import environment
from overhead import add_options, measure, show

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from job_simulation import Play, bound


def simulated(seed: int, regions: int, workers: int) -> dict:
    """Makespan over its bound, for each kind of work."""
    rng = np.random.default_rng(seed)
    skewed = 0.1 + 0.2 * np.exp(0.5 * rng.normal(size=regions))
    cases = {
        "simulated_4095": (skewed, skewed),
        "simulated_4095_alike": (np.full(regions, 0.1), np.full(regions, 0.1)),
        "simulated_4095_wrong_estimates": (skewed, skewed * np.exp(0.3 * rng.normal(size=regions))),
    }
    result = {}
    for name, (true_s, estimated_s) in cases.items():
        began = time.process_time()
        play = Play(true_s, estimated_s, workers).run()
        if not (play.count == 1).all():
            raise SystemExit(f"{name}: some regions were done twice or never")
        result[name] = play.last_result / bound(true_s, workers)
        result[f"{name}_master_busy"] = play.master_busy_s / play.last_result
        result[f"{name}_cpu_s"] = time.process_time() - began
    return result


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--regions", type=int, default=1_000_000, help="simulated")
    parser.add_argument("--workers", type=int, default=4095, help="simulated")
    options = parser.parse_args()
    result = simulated(options.seed, options.regions, options.workers)
    result |= measure(options.ranks, options.tasks, options.seconds, options.empty, options.peers)
    result["environment"] = environment()
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
