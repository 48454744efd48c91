"""``cpxt-status``: what of a map is fitted, what is left, and who is at work; also while a job runs."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.errors import MissingInput

if TYPE_CHECKING:
    from cpxt_hpc.fitting.settings import FitSettings
    from cpxt_hpc.io.lock import Owner
    from cpxt_hpc.layout import ClusterLayout


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-status``; returns its exit code."""
    return run_command(_status, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-status",
        description="What of a map is fitted, what is left, and who is at work. It takes no lock and disturbs no job.",
        allow_abbrev=False,
    )
    parser.add_argument("ini", nargs="?", default="cluster.ini", metavar="cluster.ini", help="default: ./cluster.ini")
    parser.add_argument("--json", action="store_true", help="one JSON object; with --watch one a line")
    parser.add_argument(
        "--watch", action="store_true", help="again and again, until the run is complete or Ctrl-C is pressed"
    )
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="with --watch; default: 5")
    parser.add_argument(
        "--resolution", type=int, choices=(1, 2, 3), default=2,
        help="what is to be done where no job at work says it; default: 2",
    )  # fmt: skip
    return parser


def _status(argv: Sequence[str]) -> None:
    from cpxt_hpc.io.ini import read_config
    from cpxt_hpc.layout import ClusterLayout
    from cpxt_hpc.parallel.plan import fit_settings

    parser = _parser()
    options = parser.parse_args(argv)
    if not 0.1 <= options.every <= 86400.0:
        parser.error(f"argument --every: {options.every:g}: expected 0.1 to 86400 seconds")
    config = read_config(Path(options.ini).absolute())
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)

    def read() -> dict[str, Any]:
        return fit_status(layout, resolution=options.resolution, settings=fit_settings(config))

    if options.watch:
        from cpxt_hpc.cli.watch import watch

        watch(read, as_json=options.json, every_s=options.every)
        return
    status = read()
    print(json.dumps(status, indent=2) if options.json else "\n".join(status_lines(status)))


def fit_status(layout: ClusterLayout, *, resolution: int = 2, settings: FitSettings | None = None) -> dict[str, Any]:
    """State of the fits of a cluster.

    Parameters
    ----------
    layout : ClusterLayout
    resolution : int
        What is to be done where no job at work says it.
    settings : FitSettings, optional
        How it is to be fitted, for the advice.

    Returns
    -------
    dict
        ``checkpoint``; ``regions``, ``done``, ``left``; ``resolutions`` with the same by resolution; ``by_status``,
        ``flags`` (number of fits by flag), ``median_disagreement`` (sigma, or null where joint fits are few),
        ``failed`` (region numbers by status); ``last_written`` (ISO time or null); ``job`` (null, or host, pid, job,
        since, ranks, workers, regions_per_s, seconds_left); ``run_regions`` and ``run_left``, of the job at work or of
        the resolution; ``regions_per_s``, ``seconds_left`` (null where not known); ``advice`` for what is left of the
        resolution (null where nothing is: regions, core_seconds, sensible_ranks, useful_ranks, shortest_s).

    Raises
    ------
    MissingInput, DataError
        The fit input or the checkpoint cannot be read. Fits that are not there yet are no error.
    """
    import numpy as np

    from cpxt_hpc.fitting.estimate import estimated_seconds
    from cpxt_hpc.fitting.flags import count_flags, median_disagreement
    from cpxt_hpc.fitting.results import RESULT_DTYPE
    from cpxt_hpc.fitting.settings import FitSettings
    from cpxt_hpc.io.checkpoint import job_at_work, read_checkpoint
    from cpxt_hpc.io.fit_input import read_fit_input
    from cpxt_hpc.parallel.advice import advise
    from cpxt_hpc.parallel.progress import count_by_status, failed_regions
    from cpxt_hpc.science.maps import BLOCK_SIDE, belongs_to_resolution

    fit_input = read_fit_input(layout.fit_input)
    regions = fit_input.regions
    results, last_written = np.zeros(0, dtype=RESULT_DTYPE), None
    with contextlib.suppress(MissingInput):
        content = read_checkpoint(layout.fits)
        results, last_written = content.results, datetime.datetime.fromtimestamp(content.last_written).astimezone()
    done = np.isin(regions.number, results["region"])
    resolutions = {}
    for each in BLOCK_SIDE:
        wanted = belongs_to_resolution(regions.iy, regions.ix, each)
        resolutions[str(each)] = _counts(int(wanted.sum()), int((wanted & done).sum()))
    left = np.flatnonzero(belongs_to_resolution(regions.iy, regions.ix, resolution) & ~done)
    job = _job(job_at_work(layout.fits), len(results))
    return {
        "name": layout.name,
        "checkpoint": str(layout.fits),
        **_counts(len(regions), int(done.sum())),
        "resolutions": resolutions,
        "by_status": count_by_status(results),
        "flags": count_flags(results),
        "median_disagreement": median_disagreement(results),
        "failed": failed_regions(results),
        "last_written": last_written.isoformat(timespec="seconds") if last_written else None,
        "job": job,
        **_run(job, resolutions[str(resolution)]),
        "advice": dataclasses.asdict(advise(estimated_seconds(fit_input, settings or FitSettings(), left)))
        if len(left)
        else None,
    }


def _counts(regions: int, done: int) -> dict[str, int]:
    return {"regions": regions, "done": done, "left": regions - done}


def _run(job: dict[str, Any] | None, of_resolution: dict[str, int]) -> dict[str, Any]:
    """What the job at work has to do, or where there is none what is left of a resolution."""
    rate = left_s = None
    total, left = of_resolution["regions"], of_resolution["left"]
    if job is not None and "left" in job:
        total, left = job.get("regions", job["to_do"]), job["left"]
        rate, left_s = job["regions_per_s"], job["seconds_left"]
    return {"run_regions": total, "run_left": left, "regions_per_s": rate, "seconds_left": left_s}


def _job(owner: Owner | None, done: int) -> dict[str, Any] | None:
    """The job that holds the lock, with its rate since it began."""
    if owner is None:
        return None
    job = {"host": owner.host, "pid": owner.pid, "job": owner.job, "since": owner.since, **owner.about}
    with contextlib.suppress(KeyError, ValueError):
        elapsed_s = datetime.datetime.now().astimezone().timestamp()
        # Before the first fit functions are compiled and ranks find each other.
        elapsed_s -= datetime.datetime.fromisoformat(owner.about.get("fitting_since", owner.since)).timestamp()
        fresh = done - owner.about["done_at_start"]
        rate = fresh / max(elapsed_s, 1.0)
        job["left"] = max(owner.about["to_do"] - fresh, 0)
        job["regions_per_s"] = rate
        job["seconds_left"] = job["left"] / rate if rate > 0 else None
    return job


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same as a person reads it."""
    from cpxt_hpc.fitting.flags import disagreement_line, flags_line
    from cpxt_hpc.parallel.advice import Advice, advice_line
    from cpxt_hpc.parallel.progress import duration

    lines = [f"{status['name']}: {status['done']:,} of {status['regions']:,} regions fitted, {status['checkpoint']}"]
    for resolution, counts in status["resolutions"].items():
        lines.append(
            f"  resolution {resolution}: {counts['done']:,} of {counts['regions']:,} done, {counts['left']:,} left"
        )
    lines += [f"  {number:9,}  {name}" for name, number in status["by_status"].items()]
    told = flags_line(status["flags"]), disagreement_line(status["median_disagreement"])
    lines += [f"  {line}" for line in told if line]
    for name, regions in status["failed"].items():
        lines.append(f"  {name}: regions {', '.join(map(str, regions[:20]))}{', ...' if len(regions) > 20 else ''}")
    lines.append(f"  last written: {status['last_written'] or 'never'}")
    job = status["job"]
    if job is None:
        lines.append("  no job is at work")
        if status["advice"]:
            lines.append(f"  left: {advice_line(Advice(**status['advice']))}")
    else:
        name = f"job {job['job']}, " if job["job"] else ""
        lines.append(f"  at work: {name}process {job['pid']} on {job['host']} since {job['since']}")
        if "workers" in job:
            left = f", about {duration(status['seconds_left'])} left" if status["seconds_left"] is not None else ""
            ranks = f"{job['ranks']} rank{'' if job['ranks'] == 1 else 's'}, " if "ranks" in job else ""
            workers = f"{job['workers']} worker{'' if job['workers'] == 1 else 's'}"
            lines.append(f"  {ranks}{workers}, {status['regions_per_s'] or 0.0:,.1f}/s{left}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
