"""Written spectra and responses: what is read back is what was written, by us and by Sherpa, with OGIP's keywords."""

import numpy as np
import pytest
from astropy.io import fits
from scipy.sparse import csr_array

from cpxt_hpc.errors import OutputError
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import read_arf, read_pha, read_responses, read_rmf
from cpxt_hpc.io.ogip_write import BAD_CHANNEL, write_arf, write_pha, write_rmf
from cpxt_hpc.science.response import EffectiveArea, Redistribution

CHANNEL = np.arange(1, 9)
COUNTS = np.array([0, 3, 2, 0, 7, 1, 0, 4])
DENSE = np.array(
    [
        [0.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.125, 0.0, 0.5, 0.25, 0.0, 0.0, 0.0, 0.0],  # two groups
        [0.0] * 8,  # no group at all
        [0.0, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4],  # not in single precision
    ]
)


def small_matrix(dense=DENSE, first_channel=1):
    edges = np.array([0.5, 1.0, 1.5, 2.25, 3.0])
    channel = np.arange(8) + first_channel
    bounds = 0.4 + 0.3 * np.arange(9)
    return Redistribution(edges, csr_array(dense), channel, bounds[:-1], bounds[1:])


@pytest.mark.parametrize("first_channel", [0, 1])
def test_a_matrix_is_read_back_to_the_last_bit(tmp_path, first_channel):
    written = small_matrix(first_channel=first_channel)
    write_rmf(tmp_path / "x.rmf", written)
    found = read_rmf(tmp_path / "x.rmf")
    assert np.array_equal(found.matrix.toarray(), DENSE)
    for name in ("energy_edges_kev", "channel", "channel_low_kev", "channel_high_kev"):
        assert np.array_equal(getattr(found, name), getattr(written, name)), name


def test_real_responses_are_read_back_to_the_last_bit(tmp_path):
    area, redistribution = read_responses(*datafiles.response_files())
    write_arf(tmp_path / "x.arf", area)
    write_rmf(tmp_path / "x.rmf", redistribution)
    found_area, found = read_responses(tmp_path / "x.arf", tmp_path / "x.rmf")
    assert np.array_equal(found_area.area_cm2, area.area_cm2)
    assert np.array_equal(found_area.energy_edges_kev, area.energy_edges_kev)
    assert (found.matrix != redistribution.matrix).nnz == 0
    # Single precision holds them: the standard's form.
    with fits.open(tmp_path / "x.rmf") as hdus:
        assert "PE" in str(hdus["MATRIX"].columns["MATRIX"].format)


def test_sherpa_reads_the_same_responses(tmp_path):
    sherpa_io = pytest.importorskip("sherpa.astro.io")
    matrix = small_matrix()
    area = EffectiveArea(matrix.energy_edges_kev, np.array([100.0, 200.1, 300.2, 50.3]))
    write_arf(tmp_path / "x.arf", area)
    write_rmf(tmp_path / "x.rmf", matrix)
    photons = np.array([1.0, 2.0, 3.0, 4.0])
    arf, rmf = sherpa_io.read_arf(str(tmp_path / "x.arf")), sherpa_io.read_rmf(str(tmp_path / "x.rmf"))
    np.testing.assert_allclose(rmf.apply_rmf(arf.apply_arf(photons)), (photons * area.area_cm2) @ DENSE, rtol=1e-14)
    assert rmf.detchans == 8
    assert np.array_equal(arf.specresp, area.area_cm2)
    assert np.array_equal(read_arf(tmp_path / "x.arf").area_cm2, area.area_cm2)


def write_small(path, **options):
    defaults = {
        "exposure_s": 1.25e4,
        "backscal": 2.5e-6,
        "quality": np.where(CHANNEL > 6, BAD_CHANNEL, 0),
        "grouping": np.array([1, -1, -1, 1, -1, -1, 1, 1]),
        "files": {"RESPFILE": "x.rmf", "ANCRFILE": "x.arf", "BACKFILE": "x_bg.pi"},
        "keywords": {"OBJECT": "A1", "OBS_ID": "4711"},
    }
    write_pha(path, CHANNEL, COUNTS, **{**defaults, **options})


def test_a_spectrum_is_read_back(tmp_path):
    write_small(tmp_path / "x.pi")
    found = read_pha(tmp_path / "x.pi")
    assert np.array_equal(found.counts, COUNTS)
    assert np.array_equal(found.channel, CHANNEL)
    assert np.array_equal(found.quality, np.where(CHANNEL > 6, 5, 0))
    assert (found.exposure_s, found.backscal, found.areascal) == (1.25e4, 2.5e-6, 1.0)
    assert (found.background_file, found.response_file, found.area_file) == ("x_bg.pi", "x.rmf", "x.arf")
    assert found.holds_whole_numbers


def test_expected_counts_are_no_poisson_counts(tmp_path):
    expected = 0.37 * np.arange(8)
    write_pha(tmp_path / "x.pi", CHANNEL, expected, exposure_s=10.0, poisson=False, role="BKG")
    found = read_pha(tmp_path / "x.pi")
    assert np.array_equal(found.counts, expected)
    assert not found.holds_whole_numbers
    with fits.open(tmp_path / "x.pi") as hdus:
        assert hdus["SPECTRUM"].header["POISSERR"] is False
        assert np.array_equal(hdus["SPECTRUM"].data["STAT_ERR"], np.zeros(8))


def test_the_keywords_are_those_of_the_standard(tmp_path):
    write_small(tmp_path / "x.pi")
    write_arf(tmp_path / "x.arf", EffectiveArea(np.array([1.0, 2.0]), np.array([3.0])))
    write_rmf(tmp_path / "x.rmf", small_matrix())
    with fits.open(tmp_path / "x.pi", checksum=True) as hdus:
        header = hdus["SPECTRUM"].header
        expected = {
            "HDUCLASS": "OGIP", "HDUCLAS1": "SPECTRUM", "HDUCLAS2": "TOTAL", "HDUCLAS3": "COUNT", "CHANTYPE": "PI",
            "DETCHANS": 8, "POISSERR": True, "AREASCAL": 1.0, "CORRSCAL": 0.0, "CORRFILE": "none",
            "TELESCOP": "CHANDRA", "INSTRUME": "ACIS", "OBS_ID": "4711", "TLMIN1": 1, "TLMAX1": 8,
        }  # fmt: skip
        assert {name: header[name] for name in expected} == expected
        assert "DATASUM" in header
    with fits.open(tmp_path / "x.arf") as hdus:
        assert [hdus["SPECRESP"].header[f"HDUCLAS{n}"] for n in (1, 2)] == ["RESPONSE", "SPECRESP"]
    with fits.open(tmp_path / "x.rmf") as hdus:
        assert [hdus["MATRIX"].header[f"HDUCLAS{n}"] for n in (1, 2, 3)] == ["RESPONSE", "RSP_MATRIX", "REDIST"]
        assert [hdus["EBOUNDS"].header[f"HDUCLAS{n}"] for n in (1, 2)] == ["RESPONSE", "EBOUNDS"]
        assert hdus["MATRIX"].header["TLMIN4"] == 1


def test_sherpa_reads_the_same_spectrum(tmp_path):
    sherpa_io = pytest.importorskip("sherpa.astro.io")
    write_small(tmp_path / "x.pi", files={})
    found = sherpa_io.read_pha(str(tmp_path / "x.pi"))
    assert np.array_equal(found.counts, COUNTS)
    assert (found.exposure, found.backscal) == (1.25e4, 2.5e-6)
    assert np.array_equal(found.quality, np.where(CHANNEL > 6, 5, 0))
    # Sherpa groups as the file says: three channels, three, one and one.
    assert np.array_equal(found.get_dep(filter=True), [5, 8, 0, 4])


@pytest.mark.parametrize("counts", [COUNTS + 0.5, -COUNTS])
def test_counts_that_nobody_can_observe_are_refused(tmp_path, counts):
    with pytest.raises(ValueError, match="whole numbers, none negative"):
        write_pha(tmp_path / "x.pi", CHANNEL, counts, exposure_s=1.0)
    assert not list(tmp_path.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    (tmp_path / "x").write_text("a file, no folder")
    with pytest.raises(OutputError, match="cannot be written"):
        write_small(tmp_path / "x" / "x.pi")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
