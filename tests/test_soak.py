"""Real fits that are killed 20 times, and many processes with one region each; longer: tests/benchmarks/soak.py."""

import numpy as np
import pytest
from fit_job import ready_to_fit, run_fit
from killing import PARALLEL_KINDS, SERIAL_KINDS, run_regions_at_once, soak

from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.result_rows import bytes_without_seconds


@pytest.mark.timeout(900)
def test_20_kills_of_jobs_ranks_and_at_write_calls_lose_no_acknowledged_fit(tmp_path):
    kinds = np.random.default_rng(4).permutation([*SERIAL_KINDS * 8, *PARALLEL_KINDS]).tolist()
    told = soak(tmp_path, kinds, seed=4)
    assert sum(told["kills"].values()) == 20
    assert set(told["kills"]) == {*SERIAL_KINDS, *PARALLEL_KINDS}
    assert told["acknowledged"] >= 200


def test_12_processes_with_one_region_each_at_once_leave_every_fit_once(tmp_path):
    layout, alone = ready_to_fit(tmp_path / "at once" / "made_up"), ready_to_fit(tmp_path / "alone" / "made_up")
    numbers = list(range(7, 300, 25))
    assert run_regions_at_once(layout, numbers) == [0] * 12
    assert run_fit(alone, "--resolution", "3").returncode == 0
    expected = read_results(alone.fits)
    rows = read_results(layout.fits)
    assert rows["region"].tolist() == numbers
    assert bytes_without_seconds(rows) == bytes_without_seconds(expected[np.isin(expected["region"], numbers)])
    assert run_fit(layout, "--resolution", "3").returncode == 0
    assert bytes_without_seconds(read_results(layout.fits)) == bytes_without_seconds(expected)
