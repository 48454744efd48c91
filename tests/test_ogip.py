"""OGIP responses and spectra: every layout of the standard, Sherpa's numbers, and what must be refused."""

import gzip
import shutil

import numpy as np
import pytest
from astropy.io import fits

from cpxt_hpc.errors import DataError, MissingInput
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import LOWEST_ENERGY_KEV, read_arf, read_pha, read_responses, read_rmf
from cpxt_hpc.science.response import channels_in_band, fold, same_energy_grid

N_ENERGIES, N_CHANNELS = 6, 8
LOW = 0.5 + 0.25 * np.arange(N_ENERGIES)
DENSE = np.zeros((N_ENERGIES, N_CHANNELS))
for _row in range(N_ENERGIES):
    DENSE[_row, _row : _row + 3] = 0.2, 0.5, 0.1
DENSE[3, 6:8] = 0.1  # touches the group before: two groups side by side
DENSE[5, 0] = 0.05  # a second group away from the first
GROUPS = [[(0, 3)], [(1, 3)], [(2, 3)], [(3, 3), (6, 2)], [(4, 3)], [(0, 1), (5, 3)]]


def arf_block(low=LOW, area=None, name="SPECRESP", column="SPECRESP"):
    area = np.linspace(100.0, 400.0, len(low)) if area is None else area
    columns = [
        fits.Column("ENERG_LO", "E", array=low, unit="keV"),
        fits.Column("ENERG_HI", "E", array=np.append(low[1:], low[-1] + 0.25), unit="keV"),
        fits.Column(column, "E", array=area, unit="cm**2"),
    ]
    return fits.BinTableHDU.from_columns(columns, name=name)


def rmf_blocks(layout="variable", first_channel=1, name="MATRIX"):
    values = [np.concatenate([DENSE[row, a : a + n] for a, n in GROUPS[row]]) for row in range(N_ENERGIES)]
    starts = [np.array([a + first_channel for a, _ in groups], np.int16) for groups in GROUPS]
    lengths = [np.array([n for _, n in groups], np.int16) for groups in GROUPS]
    counts = np.array([len(groups) for groups in GROUPS], np.int16)

    def objects(arrays):
        out = np.empty(len(arrays), dtype=object)
        out[:] = arrays
        return out

    def padded(arrays, width):
        return np.array([np.pad(array, (0, width - len(array))) for array in arrays])

    if layout == "variable":
        formats = ("PI(2)", "PI(2)", "PE(5)")
        arrays = (objects(starts), objects(lengths), objects([v.astype(np.float32) for v in values]))
    elif layout == "fixed":
        formats = ("2I", "2I", "5E")
        arrays = (padded(starts, 2), padded(lengths, 2), padded(values, 5))
    else:  # dense: one group a row with all channels
        counts = np.ones(N_ENERGIES, np.int16)
        formats = ("I", "I", f"{N_CHANNELS}E")
        arrays = (np.full(N_ENERGIES, first_channel), np.full(N_ENERGIES, N_CHANNELS), DENSE)
    columns = [
        fits.Column("ENERG_LO", "E", array=LOW),
        fits.Column("ENERG_HI", "E", array=LOW + 0.25),
        fits.Column("N_GRP", "I", array=counts),
        *(
            fits.Column(key, form, array=array)
            for key, form, array in zip(("F_CHAN", "N_CHAN", "MATRIX"), formats, arrays, strict=True)
        ),
    ]
    matrix = fits.BinTableHDU.from_columns(columns, name=name)
    matrix.header["TLMIN4"] = first_channel
    edges = 0.4 + 0.25 * np.arange(N_CHANNELS + 1)
    bounds = fits.BinTableHDU.from_columns(
        [
            fits.Column("CHANNEL", "J", array=np.arange(N_CHANNELS) + first_channel),
            fits.Column("E_MIN", "E", array=edges[:-1]),
            fits.Column("E_MAX", "E", array=edges[1:]),
        ],
        name="EBOUNDS",
    )
    return matrix, bounds


def save(path, *blocks):
    fits.HDUList([fits.PrimaryHDU(), *blocks]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize("name", ["MATRIX", "SPECRESP MATRIX"])
@pytest.mark.parametrize("first_channel", [0, 1])
@pytest.mark.parametrize("layout", ["variable", "fixed", "dense"])
def test_every_layout_of_a_matrix_is_the_same_matrix(tmp_path, layout, first_channel, name):
    found = read_rmf(save(tmp_path / "x.rmf", *rmf_blocks(layout, first_channel, name)))
    # Files hold single precision.
    np.testing.assert_allclose(found.matrix.toarray(), DENSE, rtol=1e-7, atol=1e-9)
    assert found.channel.tolist() == list(range(first_channel, first_channel + N_CHANNELS))


def test_a_missing_tlmin_means_channels_from_one(tmp_path):
    matrix, bounds = rmf_blocks()
    del matrix.header["TLMIN4"]
    found = read_rmf(save(tmp_path / "x.rmf", matrix, bounds))
    np.testing.assert_allclose(found.matrix.toarray(), DENSE, rtol=1e-7, atol=1e-9)


def test_gzipped_files_are_read_like_plain_ones(tmp_path):
    plain = save(tmp_path / "x.rmf", *rmf_blocks())
    with open(plain, "rb") as source, gzip.open(tmp_path / "x.rmf.gz", "wb") as target:
        shutil.copyfileobj(source, target)
    assert np.array_equal(read_rmf(plain).matrix.toarray(), read_rmf(tmp_path / "x.rmf.gz").matrix.toarray())


def test_folding_is_the_matrix_product(tmp_path):
    area, redistribution = read_responses(
        save(tmp_path / "x.arf", arf_block()), save(tmp_path / "x.rmf", *rmf_blocks())
    )
    photons = np.random.default_rng(1).random((2, 3, N_ENERGIES))
    expected = (photons * area.area_cm2) @ redistribution.matrix.toarray()
    np.testing.assert_allclose(fold(photons, area, redistribution), expected, rtol=1e-14)
    assert fold(photons[0, 0], area, redistribution).shape == (N_CHANNELS,)
    with pytest.raises(ValueError, match="spectra of 5 energy bins"):
        fold(photons[..., :5], area, redistribution)


def test_a_lower_edge_of_zero_is_made_positive(tmp_path):
    area = read_arf(save(tmp_path / "x.arf", arf_block(low=0.25 * np.arange(4))))
    assert area.energy_edges_kev[0] == LOWEST_ENERGY_KEV
    np.testing.assert_allclose(area.energy_edges_kev[1:], 0.25 * np.arange(1, 5))


@pytest.fixture(scope="module")
def real_responses():
    arf, rmf = datafiles.response_files()
    return arf, rmf, *read_responses(arf, rmf)


def test_folding_agrees_with_sherpa(real_responses):
    sherpa_io = pytest.importorskip("sherpa.astro.io")
    arf, rmf, area, redistribution = real_responses
    sherpa_arf, sherpa_rmf = sherpa_io.read_arf(str(arf)), sherpa_io.read_rmf(str(rmf))
    photons = np.random.default_rng(2).random((3, len(area.area_cm2)))
    expected = np.array([sherpa_rmf.apply_rmf(sherpa_arf.apply_arf(spectrum)) for spectrum in photons])
    # The same products, summed in another order.
    np.testing.assert_allclose(fold(photons, area, redistribution), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("band", [(0.7, 8.0), (0.5, 7.0), (2.0, 10.0), (0.7008, 7.9935), (0.1, 12.0)])
def test_the_channels_of_a_band_are_those_that_sherpa_notices(real_responses, band):
    sherpa_io = pytest.importorskip("sherpa.astro.io")
    from sherpa.astro.data import DataPHA

    _, rmf, _, redistribution = real_responses
    data = DataPHA("x", redistribution.channel, np.zeros(len(redistribution.channel)))
    data.set_rmf(sherpa_io.read_rmf(str(rmf)))
    data.units = "energy"
    data.notice(*band)
    assert np.array_equal(data.mask, channels_in_band(redistribution, *band))


def test_bands_without_channels_are_refused(real_responses):
    redistribution = real_responses[3]
    with pytest.raises(ValueError, match=r"band 3\.0 to 2\.0 keV is empty"):
        channels_in_band(redistribution, 3.0, 2.0)
    with pytest.raises(ValueError, match=r"no channel lies in the band 20.* to 30"):
        channels_in_band(redistribution, 20.0, 30.0)


def test_energy_grids_are_compared_up_to_single_precision():
    edges = np.linspace(0.3, 11.0, 1071)
    assert same_energy_grid(edges, edges.astype(np.float32).astype(float))
    assert not same_energy_grid(edges, edges + 0.002)
    assert not same_energy_grid(edges, edges[:-1])


def negative_area():
    return [arf_block(area=np.append(np.ones(N_ENERGIES - 1), -1.0))]


def area_not_a_number():
    return [arf_block(area=np.append(np.ones(N_ENERGIES - 1), np.nan))]


def no_area():
    return [arf_block(area=np.zeros(N_ENERGIES))]


def energies_out_of_order():
    return [arf_block(low=LOW[::-1].copy())]


def energies_with_a_gap():
    block = arf_block()
    block.data["ENERG_HI"][2] -= 0.1
    return [block]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (negative_area, "SPECRESP runs from -1 to 1 cm.2"),
        (area_not_a_number, "SPECRESP runs from nan"),
        (no_area, "not all zero"),
        (energies_out_of_order, "energy bins with ENERG_LO not below ENERG_HI"),
        (energies_with_a_gap, "gaps, overlap"),
        (lambda: [arf_block(name="OTHER")], "has no table extension SPECRESP; it has: OTHER"),
        (lambda: [arf_block(column="AREA")], "extension SPECRESP has no column SPECRESP"),
        (list, "it has: none"),
    ],
)
def test_an_effective_area_that_cannot_be_right_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        read_arf(save(tmp_path / "x.arf", *make()))


def negative_matrix():
    matrix, bounds = rmf_blocks("fixed")
    matrix.data["MATRIX"][1, 1] = -0.1
    return matrix, bounds


def too_few_values():
    matrix, bounds = rmf_blocks("fixed")
    matrix.data["N_CHAN"][2, 0] = 7
    return matrix, bounds


def beyond_the_channels():
    matrix, bounds = rmf_blocks("fixed")
    matrix.data["F_CHAN"][2, 0] = 7
    return matrix, bounds


def other_first_channel():
    matrix, bounds = rmf_blocks()
    matrix.header["TLMIN4"] = 0
    return matrix, bounds


def channels_with_a_gap():
    matrix, bounds = rmf_blocks()
    bounds.data["CHANNEL"][4:] += 1
    return matrix, bounds


def inverted_bounds():
    matrix, bounds = rmf_blocks()
    bounds.data["E_MAX"][0] = 0.1
    return matrix, bounds


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (negative_matrix, "MATRIX has values that are negative"),
        (too_few_values, "row 3 of MATRIX lists more channels than it has values"),
        (beyond_the_channels, "row 3 of MATRIX reaches beyond the 8 channels"),
        (other_first_channel, "F_CHAN counts channels from 0 .TLMIN., EBOUNDS from 1"),
        (channels_with_a_gap, "not consecutive whole numbers"),
        (inverted_bounds, "E_MIN not below E_MAX"),
        (lambda: rmf_blocks()[:1], "has no table extension EBOUNDS"),
        (lambda: rmf_blocks()[1:], "has no table extension MATRIX or SPECRESP MATRIX"),
    ],
)
def test_a_matrix_that_cannot_be_right_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message):
        read_rmf(save(tmp_path / "x.rmf", *make()))


def test_a_damaged_channel_column_is_numbered_by_its_legal_range(tmp_path, caplog):
    matrix, bounds = rmf_blocks()
    bounds.data["CHANNEL"][:] = np.arange(N_CHANNELS) % 4 * 16384
    bounds.header["TLMIN1"], bounds.header["TLMAX1"] = 1, N_CHANNELS
    found = read_rmf(save(tmp_path / "x.rmf", matrix, bounds))
    assert found.channel.tolist() == list(range(1, N_CHANNELS + 1))
    assert "CHANNEL column of EBOUNDS is damaged" in caplog.text


def test_an_area_and_a_matrix_of_other_energies_do_not_belong_together(tmp_path):
    arf = save(tmp_path / "x.arf", arf_block(low=LOW[:-1]))
    with pytest.raises(DataError, match=r"5 energy bins from 0.5 to 1.75 keV.*has 6.*do not belong together"):
        read_responses(arf, save(tmp_path / "x.rmf", *rmf_blocks()))


def test_a_missing_response_is_a_missing_input(tmp_path):
    with pytest.raises(MissingInput, match=r"no\.arf: this ARF does not exist"):
        read_arf(tmp_path / "no.arf")


def test_a_truncated_response_is_refused(tmp_path):
    path = save(tmp_path / "x.rmf", *rmf_blocks())
    with open(path, "rb+") as stream:
        stream.truncate(path.stat().st_size - 2880)
    with pytest.raises(DataError, match=r"x\.rmf.*truncated"):
        read_rmf(path)


def spectrum_block(column="COUNTS", values=(3, 0, 5), **keywords):
    block = fits.BinTableHDU.from_columns(
        [
            fits.Column("CHANNEL", "J", array=np.arange(1, 4)),
            fits.Column(column, "D", array=np.array(values, dtype=float)),
        ],
        name="SPECTRUM",
    )
    for key, value in ({"EXPOSURE": 100.0, "BACKSCAL": 0.25} | keywords).items():
        if value is not None:
            block.header[key] = value
    return block


def test_a_spectrum_is_read_with_its_scales_and_companions(tmp_path):
    block = spectrum_block(BACKFILE="b.pi", RESPFILE="NONE", ANCRFILE=" a.arf ")
    found = read_pha(save(tmp_path / "x.pi", block))
    assert found.counts.tolist() == [3, 0, 5] and found.channel.tolist() == [1, 2, 3]
    assert (found.exposure_s, found.backscal, found.areascal) == (100.0, 0.25, 1.0)
    assert (found.background_file, found.response_file, found.area_file) == ("b.pi", "", "a.arf")


def test_a_spectrum_of_rates_is_turned_into_counts(tmp_path):
    found = read_pha(save(tmp_path / "x.pi", spectrum_block("RATE", (0.03, 0.0, 0.05))))
    np.testing.assert_allclose(found.counts, [3, 0, 5], rtol=1e-12)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (spectrum_block(values=(1, -1, 0)), "counts that are negative"),
        (spectrum_block("FLUX"), "no column RATE"),
        (spectrum_block(EXPOSURE=None), "EXPOSURE is None"),
        (spectrum_block(EXPOSURE=0.0), "EXPOSURE is 0"),
        (spectrum_block(BACKSCAL=-1.0), "BACKSCAL has values that are negative"),
    ],
)
def test_a_spectrum_that_cannot_be_right_is_refused(tmp_path, block, message):
    with pytest.raises(DataError, match=message):
        read_pha(save(tmp_path / "x.pi", block))
