"""Which regions a job does, and which fits belong to them."""

import dataclasses

import numpy as np
import pytest
from fit_job import ready_to_fit

from cpxt_hpc.errors import CheckpointMismatch, ConfigError, DataError
from cpxt_hpc.fitting.results import RESULT_DTYPE
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.io.fit_input import read_fit_input, write_fit_input
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.parallel.chosen_model import with_chosen_model
from cpxt_hpc.parallel.plan import (
    FitPlan,
    check_against_fit_input,
    check_rows,
    fit_provenance,
    input_identity,
    read_planned_input,
    selected_positions,
)
from cpxt_hpc.parallel.work import foreign_rows, positions_of, share_of


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    return ready_to_fit(tmp_path_factory.mktemp("plan") / "made_up", n_regions=200)


@pytest.fixture(scope="module")
def regions(layout):
    return read_fit_input(layout.fit_input).regions


def rows_like(regions):
    rows = np.zeros(len(regions), dtype=RESULT_DTYPE)
    rows["region"] = regions.number
    for name in ("iy", "ix", "radius"):
        rows[name] = getattr(regions, name)
    return rows


@pytest.mark.parametrize(("resolution", "step"), [(1, 5), (2, 3), (3, 1), (None, 3)])
def test_a_resolution_takes_pixels_whose_indices_are_multiples(layout, regions, resolution, step):
    positions = selected_positions(layout, regions, resolution, None)
    expected = [i for i in range(200) if regions.iy[i] % step == 0 and regions.ix[i] % step == 0]
    assert positions.tolist() == expected
    assert len(expected) > 3


def test_a_piece_of_the_list_is_done_as_it_stands_unless_a_resolution_is_named(layout, regions, tmp_path):
    piece = tmp_path / "piece.lis"
    piece.write_text("x --region 12\n# x --region 13\n\nx --region 3\r\nx --region 12\n")
    assert regions.number[selected_positions(layout, regions, None, piece)].tolist() == [12, 3]
    some = selected_positions(layout, regions, 2, piece)
    assert set(some) == {i for i in (2, 11) if regions.iy[i] % 3 == 0 and regions.ix[i] % 3 == 0}


def test_a_list_with_unknown_regions_is_refused(layout, regions, tmp_path):
    piece = tmp_path / "piece.lis"
    piece.write_text("x --region 12\nx --region 201\nx --region 0\n")
    with pytest.raises(DataError, match=r"names 2 regions .* does not have \(the first: 201\)"):
        selected_positions(layout, regions, None, piece)


def test_regions_are_found_by_number_in_any_order(regions):
    backwards = dataclasses.replace(regions, **{f: getattr(regions, f)[::-1] for f in ("number", "iy", "ix", "radius")})
    positions, unknown = positions_of(backwards, np.array([200, 7, 999, -1]))
    assert backwards.number[positions].tolist() == [200, 7]
    assert unknown.tolist() == [999, -1]
    assert not foreign_rows(backwards, rows_like(regions)).any()


@pytest.mark.parametrize("column", ["region", "iy", "ix", "radius"])
def test_a_fit_at_another_place_or_of_another_size_does_not_belong(regions, column):
    rows = rows_like(regions)
    rows[column][5] += 1000
    assert np.flatnonzero(foreign_rows(regions, rows)).tolist() == [5]
    with pytest.raises(CheckpointMismatch, match="a_file: 1 fits, first region"):
        check_rows("a_file", regions, rows)


def test_no_fit_belongs_to_no_regions(regions):
    nothing = dataclasses.replace(regions, **{f: getattr(regions, f)[:0] for f in ("number", "iy", "ix", "radius")})
    assert foreign_rows(nothing, rows_like(regions)).all()


def test_what_differs_from_the_fit_input_is_named_with_both_values(layout):
    fit_input = read_fit_input(layout.fit_input)
    config = read_config(layout.ini)
    check_against_fit_input(config, fit_input, layout.fit_input)
    cluster = dataclasses.replace(config.cluster, redshift=0.3, abundance=0.5)
    fit = dataclasses.replace(config.fit, energy_max_kev=7.0, energy_min_kev=0.7)
    with pytest.raises(ConfigError) as refused:
        check_against_fit_input(dataclasses.replace(config, cluster=cluster, fit=fit), fit_input, layout.fit_input)
    message = str(refused.value)
    for part in (
        "energy_max_kev 8.0, in cluster.ini 7.0",
        f"cpxt-prep {layout.ini} --stage 5",
    ):
        assert part in message
    assert "energy_min" not in message
    assert "redshift" not in message and "abundance" not in message


def test_the_same_column_density_in_other_units_is_the_same(layout):
    config = read_config(layout.ini)
    cluster = dataclasses.replace(config.cluster, hydrogen_column_density=5e20)
    fit_input = read_fit_input(layout.fit_input)
    assert with_chosen_model(dataclasses.replace(config, cluster=cluster), layout, fit_input)[1] is None


def test_settings_of_the_fit_itself_belong_to_the_provenance(layout):
    provenance = fit_provenance(read_config(layout.ini), read_fit_input(layout.fit_input))
    assert provenance.settings["statistic"] == "cstat"
    assert provenance.settings["min_exposure_fraction"] == 0.09
    assert provenance.settings["redshift"] == 0.2


def test_a_fit_input_that_was_replaced_since_the_plan_is_refused(layout, tmp_path):
    fit_input = read_fit_input(layout.fit_input)
    plan = FitPlan(layout.fit_input, None, input_identity(fit_input), 0.7, FitSettings(), ())
    assert read_planned_input(plan).abundance == 0.7
    other = ready_to_fit(tmp_path / "other", n_regions=200, seed=9)
    with pytest.raises(DataError, match="was replaced while the job started"):
        read_planned_input(dataclasses.replace(plan, fit_input=other.fit_input))


def test_a_fit_input_whose_model_alone_was_folded_anew_since_the_plan_is_refused(tmp_path):
    layout = ready_to_fit(tmp_path / "made_up")
    fit_input = read_fit_input(layout.fit_input)
    plan = FitPlan(layout.fit_input, None, input_identity(fit_input), 0.3, FitSettings(), ())
    # As cpxt-prep --stage 5 leaves it after another redshift was set: same events, same circles.
    write_fit_input(layout.fit_input, dataclasses.replace(fit_input, settings={**fit_input.settings, "redshift": 0.3}))
    with pytest.raises(DataError, match="was replaced while the job started"):
        read_planned_input(plan)


@pytest.mark.parametrize("shares", [1, 3, 5, 20, 300])
def test_shares_hold_every_region_once_and_equally_many_of_each_resolution(regions, shares):
    positions = np.arange(len(regions))
    parts = [share_of(regions, positions, share, shares) for share in range(1, shares + 1)]
    assert sorted(np.concatenate(parts).tolist()) == positions.tolist()
    for step in (5, 3, 1):
        numbers = [int(((regions.iy[part] % step == 0) & (regions.ix[part] % step == 0)).sum()) for part in parts]
        assert max(numbers) - min(numbers) <= 1
