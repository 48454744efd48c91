"""What cpxt-status tells of fits with flags."""

import json

import mapped_cluster
import numpy as np
import pytest

from cpxt_hpc.cli.status import main
from cpxt_hpc.fitting.results import Flag


@pytest.fixture(scope="module")
def fit_input():
    return mapped_cluster.make_input()


@pytest.fixture
def rows(fit_input):
    rows = mapped_cluster.fits_of(fit_input)
    rows["flags"][:12] = Flag.FEW_COUNTS
    rows["flags"][10:13] += np.uint32(Flag.OBSERVATIONS_DISAGREE)
    return rows


def test_flags_are_told(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert main([str(layout.ini)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  flagged: 12 few counts, 3 observations disagree" in lines
    assert "  observations disagree by 0.6 sigma in the median (0.7 by chance)." in lines


def test_json_holds_the_number_of_fits_by_flag(tmp_path, fit_input, rows, capsys):
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, rows)
    assert main([str(layout.ini), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["flags"] == {"FEW_COUNTS": 12, "OBSERVATIONS_DISAGREE": 3}
    assert status["median_disagreement"] == pytest.approx(0.6)


def test_without_flags_nothing_is_told_of_them(tmp_path, fit_input, rows, capsys):
    rows["flags"] = 0
    layout = mapped_cluster.write_cluster(tmp_path, fit_input, mapped_cluster.frozen(rows))
    assert main([str(layout.ini), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["flags"] == {}
    assert status["median_disagreement"] is None
    assert main([str(layout.ini)]) == 0
    out = capsys.readouterr().out
    assert "flagged" not in out
    assert "disagree" not in out
