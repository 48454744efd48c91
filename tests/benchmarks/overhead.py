"""What handing out work costs: tasks handed out a second, and the share of their time that workers are without work.

Beside our scheduler, transport and checkpoint, in the same run and on the same tasks: mpi4py.futures.MPICommExecutor
(the better of chunks of 1 and 16) and schwimmbad's MPIPool. schwimmbad is no dependency of the package; either of

    pip install schwimmbad
    pip install --target /tmp/peers schwimmbad      and then --peers /tmp/peers

makes it known; without it its figures are null. Tasks of 5 ms sleep, so that the ranks may outnumber the cores as if
each had its own; what is idle is the time from the first task to the last result that a worker spends outside tasks.
--json prints one object.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from environment import environment

HERE = Path(__file__).resolve().parent
LAUNCHER_VARIABLES = ("PMI", "PMIX", "OMPI", "SLURM", "MPI_LOCAL")


def run_ranks(n_ranks: int, peers: Path | None = None, **request: object) -> dict | None:
    """Run `overhead_ranks.py` on so many ranks; None where the peer that is asked for is not installed."""
    request = {"tasks": 1, "seconds": 0.0, "burn": False, "chunk": 1, "expected_s": 1e-4, **request}
    environ = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)}
    paths = [str(HERE.parents[1]), *([str(peers)] if peers else []), *filter(None, [environ.get("PYTHONPATH")])]
    environ |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [str(Path(sys.prefix, "bin", "mpiexec")), "-n", str(n_ranks), sys.executable,
               str(HERE / "overhead_ranks.py"), json.dumps(request)]  # fmt: skip
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=1200)
    if "No module named 'schwimmbad'" in ended.stderr:
        return None
    answers = [text[7:] for text in ended.stdout.splitlines() if text.startswith("ANSWER ")]
    # schwimmbad's ranks may be killed at their end, when all is done.
    if len(answers) != 1 or (ended.returncode and request["by"] == "ours"):
        raise SystemExit(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stderr[-3000:]}")
    return json.loads(answers[0])


def idle(answer: dict | None) -> float | None:
    """Share of the workers' time outside tasks."""
    return None if answer is None else 1.0 - answer["in_tasks_s"] / (answer["workers"] * answer["makespan_s"])


def lost(answer: dict | None, tasks: int, seconds: float) -> float | None:
    """Share of the workers' time that is not the nominal time of tasks: late awakening counts, too."""
    return None if answer is None else 1.0 - tasks * seconds / (answer["workers"] * answer["makespan_s"])


def measure(n_ranks: int, tasks: int, seconds: float, empty: int, peers: Path | None) -> dict:
    """All figures of this benchmark."""
    result = {"tasks_per_s": empty / run_ranks(4, by="ours", tasks=empty)["makespan_s"]}
    for chunk in (1, 16):
        answer = run_ranks(4, by="executor", tasks=empty // 10, chunk=chunk)
        result[f"mpicommexecutor_tasks_per_s_chunk_{chunk}"] = (empty // 10) / answer["makespan_s"]
    answer = run_ranks(4, peers, by="schwimmbad", tasks=empty // 10)
    result["schwimmbad_tasks_per_s"] = None if answer is None else (empty // 10) / answer["makespan_s"]
    same = {"tasks": tasks, "seconds": seconds, "expected_s": seconds}
    mine = run_ranks(n_ranks, by="ours", **same)
    result["idle"], result["lost"] = idle(mine), lost(mine, tasks, seconds)
    theirs = [run_ranks(n_ranks, by="executor", chunk=chunk, **same) for chunk in (1, 16)]
    best = min(theirs, key=lambda each: each["makespan_s"])
    result["idle_mpicommexecutor"], result["lost_mpicommexecutor"] = idle(best), lost(best, tasks, seconds)
    theirs = run_ranks(n_ranks, peers, by="schwimmbad", **same)
    result["idle_schwimmbad"], result["lost_schwimmbad"] = idle(theirs), lost(theirs, tasks, seconds)
    return result


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=10_000, help="of --seconds each")
    parser.add_argument("--seconds", type=float, default=0.005)
    parser.add_argument("--empty", type=int, default=200_000, help="empty tasks")
    parser.add_argument("--peers", type=Path, help="folder in which schwimmbad is installed")
    parser.add_argument("--seed", type=int, default=1, help="no figure depends on it: the tasks are all alike")
    parser.add_argument("--json", action="store_true")


def show(result: dict) -> None:
    """Print figures, a line each."""
    for name, value in result.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    options = parser.parse_args()
    result = measure(options.ranks, options.tasks, options.seconds, options.empty, options.peers)
    result["environment"] = environment()
    if options.json:
        print(json.dumps(result))
    else:
        show(result)


if __name__ == "__main__":
    main()
