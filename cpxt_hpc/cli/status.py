"""``cpxt-status``: what of a map is fitted, what is left, and who is at work; also while a job runs."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpxt_hpc.cli.command import run_command
from cpxt_hpc.errors import MissingInput

if TYPE_CHECKING:
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
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    return parser


def _status(argv: Sequence[str]) -> None:
    from cpxt_hpc.io.ini import read_config
    from cpxt_hpc.layout import ClusterLayout

    options = _parser().parse_args(argv)
    config = read_config(Path(options.ini).absolute())
    status = fit_status(ClusterLayout(config.path.parent, config.name, config.fit.label))
    print(json.dumps(status, indent=2) if options.json else "\n".join(status_lines(status)))


def fit_status(layout: ClusterLayout) -> dict[str, Any]:
    """State of the fits of a cluster.

    Parameters
    ----------
    layout : ClusterLayout

    Returns
    -------
    dict
        ``checkpoint``; ``regions``, ``done``, ``left``; ``resolutions`` with the same by resolution; ``by_status``,
        ``flags`` (number of fits by flag), ``median_disagreement`` (sigma, or null where joint fits are few),
        ``failed`` (region numbers by status); ``last_written`` (ISO time or null); ``job`` (null, or host, pid, job,
        since, workers, regions_per_s, seconds_left).

    Raises
    ------
    MissingInput, DataError
        The fit input or the checkpoint cannot be read. Fits that are not there yet are no error.
    """
    import numpy as np

    from cpxt_hpc.fitting.flags import count_flags, median_disagreement
    from cpxt_hpc.fitting.results import RESULT_DTYPE
    from cpxt_hpc.io.checkpoint import job_at_work, read_checkpoint
    from cpxt_hpc.io.fit_input import read_fit_input
    from cpxt_hpc.parallel.progress import count_by_status, failed_regions
    from cpxt_hpc.science.maps import BLOCK_SIDE, belongs_to_resolution

    regions = read_fit_input(layout.fit_input).regions
    results, last_written = np.zeros(0, dtype=RESULT_DTYPE), None
    with contextlib.suppress(MissingInput):
        content = read_checkpoint(layout.fits)
        results, last_written = content.results, datetime.datetime.fromtimestamp(content.last_written).astimezone()
    done = np.isin(regions.number, results["region"])
    resolutions = {}
    for resolution in BLOCK_SIDE:
        wanted = belongs_to_resolution(regions.iy, regions.ix, resolution)
        resolutions[str(resolution)] = _counts(int(wanted.sum()), int((wanted & done).sum()))
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
        "job": _job(job_at_work(layout.fits), len(results)),
    }


def _counts(regions: int, done: int) -> dict[str, int]:
    return {"regions": regions, "done": done, "left": regions - done}


def _job(owner: Owner | None, done: int) -> dict[str, Any] | None:
    """The job that holds the lock, with its rate since it began."""
    if owner is None:
        return None
    job = {"host": owner.host, "pid": owner.pid, "job": owner.job, "since": owner.since, **owner.about}
    with contextlib.suppress(KeyError, ValueError):
        elapsed_s = datetime.datetime.now().astimezone().timestamp()
        elapsed_s -= datetime.datetime.fromisoformat(owner.since).timestamp()
        rate = (done - owner.about["done_at_start"]) / max(elapsed_s, 1.0)
        left = owner.about["to_do"] - (done - owner.about["done_at_start"])
        job["regions_per_s"] = rate
        job["seconds_left"] = max(left, 0) / rate if rate > 0 else None
    return job


def status_lines(status: dict[str, Any]) -> list[str]:
    """The same as a person reads it."""
    from cpxt_hpc.fitting.flags import disagreement_line, flags_line
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
    else:
        name = f"job {job['job']}, " if job["job"] else ""
        lines.append(f"  at work: {name}process {job['pid']} on {job['host']} since {job['since']}")
        if "workers" in job:
            left = f", about {duration(job['seconds_left'])} left" if job.get("seconds_left") is not None else ""
            workers = f"{job['workers']} worker{'' if job['workers'] == 1 else 's'}"
            lines.append(f"  {workers}, {job.get('regions_per_s', 0.0):,.1f}/s{left}")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
