import csv

import mapped_cluster
import numpy as np
import pytest

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.fitting.results import Status
from cpxt_hpc.io.tables import COLUMNS, read_fits_csv, select_fits, write_fits_csv


@pytest.fixture
def rows():
    rows = mapped_cluster.fits_of(mapped_cluster.make_input())[:9].copy()
    rows["status"] = [0, 1, 2, 3, 4, 5, 0, 0, 0]
    rows[7] = mapped_cluster.without_values(rows[7], Status.CRASHED)
    rows["observations_used"][6] = 0b10
    return rows


def clusterpyxt_temperatures(path):
    """ClusterPyXT's ``temperature_fits`` (cluster.py): DictReader and float on each column."""
    with open(path) as stream:
        return [[float(row[name]) for name in ("T", "T_err_+", "T_err_-")] for row in csv.DictReader(stream)]


def test_the_worst_table_holds_the_fits_without_an_upper_limit_and_all_holds_both(rows):
    regions = {kind: select_fits(rows, kind)["region"].tolist() for kind in (
        "spectral_fits", "worst_spectral_fits", "all_spectral_fits")}  # fmt: skip
    assert regions["worst_spectral_fits"] == rows["region"][[2, 4, 5]].tolist()
    assert regions["spectral_fits"] == rows["region"][[0, 1, 3, 6, 8]].tolist()
    assert regions["all_spectral_fits"] == rows["region"][[0, 1, 2, 3, 4, 5, 6, 8]].tolist()
    with pytest.raises(ValueError, match="best_fits"):
        select_fits(rows, "best_fits")


def test_a_table_reads_back_with_signed_errors(rows, tmp_path):
    path = tmp_path / "t.csv"
    chosen = select_fits(rows, "all_spectral_fits")
    write_fits_csv(path, chosen, (90001, 90002))
    table = read_fits_csv(path)
    np.testing.assert_array_equal(table["region"], chosen["region"])
    np.testing.assert_array_equal(table["T"], chosen["kT"])
    np.testing.assert_allclose(table["T_err_+"], [0.5, 0.5, np.nan, 0.5, np.nan, np.nan, 0.5, 0.5])
    np.testing.assert_allclose(table["T_err_-"], [-0.25, np.nan, -0.25, np.nan, -0.25, np.nan, -0.25, -0.25])
    np.testing.assert_allclose(table["Norm_err_-"], -0.02 * chosen["norm"])
    np.testing.assert_allclose(table["Norm_err_+"], 0.04 * chosen["norm"])
    np.testing.assert_allclose(table["reduced_x2"], 1.1)
    assert table["obs_id"][0] == (90001, 90002)
    assert table["obs_id"][6] == (90002,)


def test_clusterpyxts_reader_takes_the_table(rows, tmp_path):
    path = tmp_path / "t.csv"
    chosen = select_fits(rows, "spectral_fits")
    write_fits_csv(path, chosen, (90001, 90002))
    assert path.read_text().splitlines()[0] == "region,T,T_err_+,T_err_-,Norm,Norm_err_+,Norm_err_-,reduced_x2,obs_id"
    read = np.array(clusterpyxt_temperatures(path))
    np.testing.assert_array_equal(read[:, 0], chosen["kT"])
    np.testing.assert_array_equal(read[:, 1], chosen["kT_hi"] - chosen["kT"])


def test_clusterpyxts_own_table_is_read(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text(
        ",".join(COLUMNS) + "\r\n"
        '12,6.5,0.4,-0.3,0.0002,1e-05,-1e-05,0.98,"80101,80102"\r\n'
        "13,9.1,,-1.2,0.0001,,,1.02,80101\r\n"
    )
    table = read_fits_csv(path)
    assert table["region"].tolist() == [12, 13]
    assert table["obs_id"].tolist() == [(80101, 80102), (80101,)]
    assert np.isnan(table["T_err_+"][1])


def test_an_empty_table_reads_back_empty(tmp_path):
    write_fits_csv(tmp_path / "e.csv", mapped_cluster.fits_of(mapped_cluster.make_input())[:0], (1,))
    assert len(read_fits_csv(tmp_path / "e.csv")) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("region,T\n1,2\n", "no column T_err_\\+"),
        (",".join(COLUMNS) + "\n1,hot,0,0,0,0,0,1,5\n", "line 2: cannot be read .*hot"),
        (",".join(COLUMNS) + "\n1,2,0\n", "line 2: cannot be read"),
        ("", "no column region"),
    ],
)
def test_a_table_that_cannot_be_read_is_a_clear_error(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_fits_csv(tmp_path / "bad.csv")


def test_a_missing_table_names_the_command_that_writes_it(tmp_path):
    with pytest.raises(MissingInput, match="Run cpxt-maps"):
        read_fits_csv(tmp_path / "none.csv")
