"""Tables of the user's own regions: every value of a fit, its status and flags in words."""

import csv

import mapped_cluster
import numpy as np

from cpxt_hpc.fitting.results import Flag, Status
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.parallel.user_regions import table_lines, write_user_table


def made_up():
    fit_input = mapped_cluster.make_input()
    rows = mapped_cluster.fits_of(fit_input)[:2].copy()
    rows["flags"][0] = Flag.FEW_COUNTS | Flag.NH_UNBOUND
    rows["status"][0] = Status.KT_HI_UNBOUND
    rows[1] = mapped_cluster.without_values(rows[1], Status.NO_EXPOSURE)
    return fit_input.grid, rows, [("circle(1,2,3)", np.arange(5)), ("box(1,2,3,4)", np.arange(2))]


def test_the_table_holds_what_was_fitted_and_its_flags(tmp_path):
    grid, rows, pixels = made_up()
    path = write_user_table(ClusterLayout(tmp_path, "A1"), tmp_path / "my.reg", grid, pixels, rows)
    with open(path) as stream:
        first, second = csv.DictReader(stream)
    assert (first["status"], first["flags"]) == ("KT_HI_UNBOUND", "FEW_COUNTS NH_UNBOUND")
    assert (second["status"], second["flags"]) == ("NO_EXPOSURE", "")
    for name in ("abundance", "abundance_lo", "nH_hi", "kT_bkg_lo", "stat_expected", "stat_sigma", "disagreement"):
        assert float(first[name]) == rows[name][0].round(7)
        assert second[name] == "nan"


def test_the_lines_on_the_terminal_name_the_flags():
    _, rows, pixels = made_up()
    _, first, second = table_lines(pixels, rows)
    assert first.endswith("KT_HI_UNBOUND, few counts, nH unbound circle(1,2,3)")
    assert second.endswith("NO_EXPOSURE box(1,2,3,4)")
