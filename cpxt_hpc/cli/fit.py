"""``cpxt-fit``: fit the regions of a map, under mpiexec, alone, or one by one."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpxt_hpc.cli.command import EXIT_STOPPED, add_logging_options, run_command, setup_logging
from cpxt_hpc.errors import ConfigError, ToolError

if TYPE_CHECKING:
    from cpxt_hpc.config import ClusterConfig
    from cpxt_hpc.fitting.model import FitInput
    from cpxt_hpc.layout import ClusterLayout
    from cpxt_hpc.parallel.plan import FitPlan
    from cpxt_hpc.parallel.stop import StopRequest
    from cpxt_hpc.parallel.transport import Link

EXIT_SOME_FAILED = 5
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
"""The ranks share the cores; threads of the libraries below would fight for them."""

log = logging.getLogger("cpxt_hpc.fit")


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``cpxt-fit``; returns its exit code."""
    for name in ONE_THREAD:
        os.environ[name] = "1"
    return run_command(_fit, argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpxt-fit",
        description="Fit the regions of a map. It always continues from its checkpoint acb/<name>_fits.h5. "
        "Many processes: mpiexec -n 4 cpxt-fit cluster.ini (one of them hands out the work). "
        "USR1, TERM or Ctrl-C: it keeps what is ready and ends with exit code 75.",
        allow_abbrev=False,
    )
    parser.add_argument("ini", nargs="?", default="cluster.ini", metavar="cluster.ini", help="default: ./cluster.ini")
    parser.add_argument(
        "--resolution", type=int, choices=(1, 2, 3),
        help="1: every 5th pixel, 2: every 3rd, 3: every one; default: 2, with --commands all of the list",
    )  # fmt: skip
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--continue", action="store_true", dest="resume", help="continue (as it always does)")
    again.add_argument("--restart", action="store_true", help="start afresh; the fits so far are kept aside")
    again.add_argument(
        "--retry-failed", action="store_true", help="continue, and fit again what crashed, timed out or gave NaN"
    )
    parser.add_argument(
        "--break-lock", action="store_true", help="take over from a job on another machine that is surely dead"
    )
    parser.add_argument("--num_cpus", "--num-cpus", type=int, default=1, metavar="N", help="local workers; default: 1")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--region", type=int, metavar="N", help="fit this region only; any number of such at once")
    what.add_argument("--commands", type=Path, metavar="FILE", help="fit the regions of this piece of the command list")
    what.add_argument("--regions", type=Path, metavar="FILE", help="fit the shapes of this DS9 or CIAO region file")
    add_logging_options(parser)
    return parser


def _fit(argv: Sequence[str]) -> int:
    from cpxt_hpc.parallel.launcher import RootFailed, launched, launched_rank, refuse_many
    from cpxt_hpc.parallel.stop import StopRequest
    from cpxt_hpc.parallel.transport import connect

    rank = launched_rank()
    options = _options(argv, silent=rank > 0)
    quiet = options.quiet or rank > 0
    setup_logging(quiet=quiet, verbose=options.verbose and not quiet, log_file=None if rank else options.log_file)
    stop = StopRequest()
    try:
        if options.region is not None:
            refuse_many(f"--region {options.region}")
            return _fit_one_region(options)
        if options.regions is not None:
            # A handful of fits: one process does them.
            return 0 if rank else _fit_user_regions(options)
        if options.num_cpus > 1 and not launched():
            _start_processes(argv, options.num_cpus)
        stop.install()
        with connect() as link:
            return _fit_map(link, options, stop)
    except RootFailed as failed:
        return failed.exit_code


def _options(argv: Sequence[str], *, silent: bool) -> argparse.Namespace:
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.ExitStack() as stack:
        if silent:
            stack.enter_context(contextlib.redirect_stderr(nowhere))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        parser = _parser()
        options = parser.parse_args(argv)
        if options.num_cpus < 1:
            parser.error(f"argument --num_cpus: {options.num_cpus}: expected 1 or more")
        if options.region is not None and not 1 <= options.region < 2**31:
            parser.error(f"argument --region: {options.region}: expected a number from 1 on")
        for name in ("region", "commands", "regions"):
            if getattr(options, name) is not None and options.restart:
                parser.error(f"argument --{name}: not allowed with --restart, which starts the whole map afresh")
            if getattr(options, name) is not None and options.retry_failed:
                parser.error(f"argument --{name}: not allowed with --retry-failed, which takes the whole map")
        for name in ("region", "regions"):
            if getattr(options, name) is not None and options.resolution is not None:
                parser.error(f"argument --{name}: not allowed with --resolution")
    return options


def _start_processes(argv: Sequence[str], num_cpus: int) -> None:
    """Become mpiexec, with this many workers and a master, which needs no core of its own."""
    beside = Path(sys.prefix, "bin", "mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise ToolError("--num_cpus: there is no mpiexec. Run bash jobscripts/setup.sh, or leave --num_cpus out.")
    sys.stdout.flush()
    sys.stderr.flush()
    command = [mpiexec, "-n", str(num_cpus + 1), sys.executable, "-m", "cpxt_hpc.cli.fit", *argv]
    os.execv(mpiexec, command)


@dataclasses.dataclass(frozen=True)
class _Inputs:
    """What every way of fitting reads first."""

    config: ClusterConfig
    layout: ClusterLayout
    fit_input: FitInput
    nodes: Path | None
    identity: str

    def plan(self, positions: object) -> FitPlan:
        """What to do at these places of the region table."""
        from cpxt_hpc.parallel.plan import FitPlan, fit_settings

        return FitPlan(
            self.layout.fit_input,
            self.nodes,
            self.identity,
            self.fit_input.abundance,
            fit_settings(self.config),
            positions,
        )


def _read_inputs(options: argparse.Namespace) -> _Inputs:
    from cpxt_hpc.io.fit_input import read_fit_input
    from cpxt_hpc.io.ini import read_config
    from cpxt_hpc.layout import ClusterLayout
    from cpxt_hpc.parallel.chosen_model import with_chosen_model
    from cpxt_hpc.parallel.plan import check_against_fit_input, input_identity

    config = read_config(Path(options.ini).absolute())
    layout = ClusterLayout(config.path.parent, config.name, config.fit.label)
    fit_input = read_fit_input(layout.fit_input)
    check_against_fit_input(config, fit_input, layout.fit_input)
    # That of the file: with another model chosen its settings are no longer those that the other ranks will read.
    return _Inputs(config, layout, *with_chosen_model(config, layout, fit_input), input_identity(fit_input))


def _fit_map(link: Link, options: argparse.Namespace, stop: StopRequest) -> int:
    """Fit a map, or a piece of it, on all ranks; the exit code counts on rank 0."""
    import numpy as np

    from cpxt_hpc.fitting.results import RESULT_DTYPE
    from cpxt_hpc.io.checkpoint import Checkpoint
    from cpxt_hpc.io.fit_input import verify_fit_input
    from cpxt_hpc.io.piece import Piece
    from cpxt_hpc.parallel.compile_cache import use_node_cache
    from cpxt_hpc.parallel.job import run_fits
    from cpxt_hpc.parallel.plan import check_rows, fit_provenance, read_planned_input, selected_positions
    from cpxt_hpc.parallel.progress import Progress, local_time

    sink = progress = inputs = None
    selected = np.zeros(0, dtype=np.int64)
    with contextlib.ExitStack() as stack:

        def prepare() -> FitPlan:
            nonlocal sink, progress, inputs, selected
            inputs = _read_inputs(options)
            layout, regions = inputs.layout, inputs.fit_input.regions
            verify_fit_input(layout.fit_input)
            selected = selected_positions(layout, regions, options.resolution, options.commands)
            provenance = fit_provenance(inputs.config, inputs.fit_input)
            if options.commands is not None:
                sink = stack.enter_context(Piece(layout.fits, provenance))
            else:
                checkpoint = Checkpoint(
                    layout.fits,
                    provenance,
                    restart=options.restart,
                    retry_failed=options.retry_failed,
                    break_lock=options.break_lock,
                )
                sink = stack.enter_context(checkpoint)
            rows = sink.all_results()
            check_rows(layout.fits, regions, rows)
            before = rows[np.isin(rows["region"], regions.number[selected])]
            positions = selected[~np.isin(regions.number[selected], before["region"])]
            workers = max(link.size - 1, 1)
            about = {
                "ranks": link.size, "workers": workers, "done_at_start": len(rows), "to_do": len(positions),
                "regions": len(selected),
            }  # fmt: skip
            sink.tell(about)
            progress = Progress(
                len(selected), before, workers, on_begin=lambda: sink.tell({**about, "fitting_since": local_time()})
            )
            log.info("%d regions to fit, %d of %d done before", len(positions), len(before), len(selected))
            plan = inputs.plan(positions)
            _tell_idle_ranks(link, inputs.fit_input, plan)
            return plan

        plan = link.on_root(prepare)
        use_node_cache(link)
        fit_input = inputs.fit_input if inputs else read_planned_input(plan)
        lost = run_fits(
            link, fit_input, _fitter_maker(plan), plan.positions, sink, stop, progress,
            longest_fit_s=plan.settings.longest_silence_s,
        )  # fmt: skip
        if link.rank > 0:
            return 0
        rows = sink.all_results()
    rows = rows[np.isin(rows["region"], inputs.fit_input.regions.number[selected])].astype(RESULT_DTYPE)
    code = _report(inputs, options, rows, len(selected), stop)
    if set(lost) - link.dead:
        # A rank that fell silent never comes to the common end; of one known to be dead MPI expects nothing.
        link.abort(code)
    return code


def _tell_idle_ranks(link: Link, fit_input: FitInput, plan: FitPlan) -> None:
    from cpxt_hpc.fitting.estimate import estimated_seconds
    from cpxt_hpc.parallel.advice import advice_line, advise

    advice = advise(estimated_seconds(fit_input, plan.settings, plan.positions))
    if advice.regions and link.size > advice.useful_ranks:
        log.info("%d ranks, but %s", link.size, advice_line(advice))


def _fitter_maker(plan: FitPlan):
    def make(fit_input: FitInput):
        from cpxt_hpc.fitting.regions import RegionFitter

        return RegionFitter(fit_input, plan.settings)

    return make


def _report(inputs: _Inputs, options: argparse.Namespace, rows, total: int, stop: StopRequest) -> int:
    """Say how it went and what comes next; returns the exit code."""
    from cpxt_hpc.parallel.progress import failed_regions, summary

    for line in summary(rows, total):
        log.info("%s", line)
    ini = shlex.quote(str(inputs.config.path))
    if len(rows) < total and not stop:
        log.error(
            "%d of %d regions could not be fitted: memory, disk or a tool failed, as the warnings above say. The rest "
            "are done and kept. Run the same command again, with fewer ranks on a machine.",
            total - len(rows), total,
        )  # fmt: skip
        return ToolError.exit_code
    if len(rows) < total:
        print(f"Stopped by {stop.reason} with {len(rows)} of {total} regions done. The same command continues.")
        return EXIT_STOPPED
    chosen = f" --resolution {options.resolution}" if options.resolution else ""
    print(f"All {total} regions are done: {inputs.layout.fits}. Next: cpxt-maps {ini}{chosen}")
    return EXIT_SOME_FAILED if failed_regions(rows) else 0


def _fit_one_region(options: argparse.Namespace) -> int:
    """Fit one region into the spool, beside any number of others."""
    import numpy as np

    from cpxt_hpc.fitting.results import FAILURES
    from cpxt_hpc.fitting.time_limit import watching_time
    from cpxt_hpc.io.piece import find_single, keep_single
    from cpxt_hpc.parallel.compile_cache import use_node_cache
    from cpxt_hpc.parallel.plan import check_rows, fit_provenance
    from cpxt_hpc.parallel.transport import LocalLink
    from cpxt_hpc.parallel.work import positions_of
    from cpxt_hpc.parallel.worker import UNDONE, fit_region

    use_node_cache(LocalLink())
    inputs = _read_inputs(options)
    layout, regions = inputs.layout, inputs.fit_input.regions
    positions, unknown = positions_of(regions, np.array([options.region]))
    if len(unknown):
        raise ConfigError(
            f"--region {options.region}: {layout.fit_input.name} has no such region"
            + (f"; its numbers are {regions.number[0]} to {regions.number[-1]}." if len(regions) else "s at all.")
        )
    provenance = fit_provenance(inputs.config, inputs.fit_input)
    row = find_single(layout.fits, provenance, options.region)
    if row is not None:
        check_rows(layout.fits, regions, row.reshape(1))
        log.info("region %d was done before", options.region)
    else:
        plan = inputs.plan(positions)
        fitter = _fitter_maker(plan)(inputs.fit_input)
        with watching_time():
            row = fit_region(fitter, regions, int(positions[0]))
        if row["status"] == UNDONE:
            raise ToolError(f"--region {options.region}: nothing is kept of it. Run it again where the cause is gone.")
        keep_single(layout.fits, provenance, row)
    print(_row_line(row))
    return EXIT_SOME_FAILED if row["status"] in FAILURES else 0


def _row_line(row) -> str:
    from cpxt_hpc.fitting.results import Status

    return (
        f"region {row['region']}: kT {row['kT']:.3f} keV ({row['kT_lo']:.3f} to {row['kT_hi']:.3f}), "
        f"norm {row['norm']:.4g}, {row['net_counts']:.0f} net counts, {Status(int(row['status'])).name}"
    )


def _fit_user_regions(options: argparse.Namespace) -> int:
    """Fit the shapes of a region file; their table goes to a file and to the screen."""
    from cpxt_hpc.fitting.time_limit import watching_time
    from cpxt_hpc.io.images import read_image
    from cpxt_hpc.parallel.compile_cache import use_node_cache
    from cpxt_hpc.parallel.progress import failed_regions
    from cpxt_hpc.parallel.transport import LocalLink
    from cpxt_hpc.parallel.user_regions import fit_user_regions, table_lines, user_region_pixels, write_user_table

    use_node_cache(LocalLink())
    inputs = _read_inputs(options)
    layout, grid = inputs.layout, inputs.fit_input.grid
    full_grid = read_image(layout.broad_flux)[1] if layout.broad_flux.is_file() else None
    pixels = user_region_pixels(options.regions, grid, image_grid=full_grid)
    plan = inputs.plan(())
    fitter = _fitter_maker(plan)(inputs.fit_input)
    with watching_time():
        rows = fit_user_regions(fitter, pixels)
    path = write_user_table(layout, options.regions, grid, pixels, rows)
    print("\n".join(table_lines(pixels, rows)))
    print(f"Table: {path}")
    return EXIT_SOME_FAILED if failed_regions(rows) else 0


if __name__ == "__main__":
    sys.exit(main())
