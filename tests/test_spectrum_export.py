"""A region exported as OGIP files is the same spectrum elsewhere: Sherpa's own fit of the files, and our own, agree."""

import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import acis_spectra
import numpy as np
import pytest
from acis_map import acis_fit_input
from astropy.io import fits

from cpxt_hpc.cli import spectrum
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.sherpa_engine import XspecModel, xspec_model
from cpxt_hpc.fitting.xspec import child_environment
from cpxt_hpc.fitting.xspec_child import ADDITIVE_MODELS
from cpxt_hpc.io import datafiles
from cpxt_hpc.io.ogip import read_pha, read_responses
from cpxt_hpc.products.spectrum_export import RegionExport, region_facts, shown_region, write_region
from cpxt_hpc.products.spectrum_scripts import XSPEC_PARAMETERS, ExportedFit, xspec_script

SCRIPT = Path(__file__).with_name("run_sherpa_script.py")
REGION = 17

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sherpa") is None or bool(acis_spectra.why_not()),
    reason="no Sherpa with XSPEC and responses (bash jobscripts/setup.sh)",
)


@pytest.fixture(scope="module")
def fit_input():
    return acis_fit_input(3, counts=4000.0)


def exported(fit_input, folder, **settings):
    fitter = RegionFitter(fit_input, systematic=0.0, **settings)
    export = RegionExport(
        title="made-up, region 18",
        stem="made_up_18",
        fitter=fitter,
        pixels=fitter.region_runs(REGION),
        row=fitter.fit(REGION),
        model=xspec_model(fit_input, str(datafiles.apec_root())),
    )
    return export, write_region(export, folder)


def sherpas_answer(script):
    ended = subprocess.run(
        [sys.executable, SCRIPT, script], env=child_environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.rsplit("ANSWER ", 1)[1])


@pytest.mark.parametrize(
    ("statistic", "group"),
    [("cstat", 1), ("cstat", 4), ("wstat", 12), ("chi2gehrels", 1), ("chi2xspecvar", 12)],
)
def test_sherpa_gives_the_same_answer_from_the_files(fit_input, tmp_path, statistic, group):
    export, written = exported(fit_input, tmp_path, statistic=statistic, group_channels=group)
    row = export.row
    answer = sherpas_answer(next(path for path in written if path.name.endswith("_sherpa.py")))
    assert answer["statistic"] == pytest.approx(row["stat"], rel=1e-9)
    assert row["stat"] <= answer["best"] + 1e-6
    assert answer["best"] - row["stat"] < 1e-4
    sigma = 0.5 * (row["kT_hi"] - row["kT_lo"])
    # The precision of Sherpa's conf is its default, 1 %.
    for found, ours in (
        (answer["values"]["plasma1.kT"], row["kT"]),
        (answer["limits"]["plasma1.kT"][0], row["kT_lo"]),
        (answer["limits"]["plasma1.kT"][1], row["kT_hi"]),
    ):
        assert abs(found - ours) < 0.03 * sigma
    assert answer["values"]["plasma1.norm"] == pytest.approx(row["norm"], rel=1e-3)


def test_freed_parameters_and_own_norms_are_free_in_the_script_too(fit_input, tmp_path):
    export, written = exported(fit_input, tmp_path, free="abundance", norms="per_observation")
    answer = sherpas_answer(next(path for path in written if path.name.endswith("_sherpa.py")))
    assert answer["statistic"] == pytest.approx(export.row["stat"], rel=1e-9)
    assert {"plasma1.kT", "plasma1.Abundanc", "plasma1.norm", "plasma2.norm"} == set(answer["values"])
    assert answer["best"] == pytest.approx(export.row["stat"], abs=1e-3)


@pytest.mark.parametrize(("statistic", "group"), [("cstat", 1), ("wstat", 12), ("chi2gehrels", 1)])
def test_our_own_fit_of_the_files_is_that_of_the_region(fit_input, tmp_path, capsys, statistic, group):
    export, written = exported(fit_input, tmp_path, statistic=statistic, group_channels=group)
    spectra = [path for path in written if path.suffix == ".pi" and "_bg" not in path.name]
    known = statistic == "cstat"
    backgrounds = [f"{path.with_suffix('')}{'_bgmodel' if known else '_bg'}.pi" for path in spectra]
    assert spectrum.main(
        ["--pha", *map(str, spectra), "--background", *backgrounds, "--statistic", statistic,
         "--group-channels", str(group), "--nH", str(acis_spectra.NH), "--redshift", str(acis_spectra.REDSHIFT),
         "--systematic", "0", "--abundance", str(acis_spectra.ABUNDANCE), "--json", "--no-files"]
    ) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    row = export.row
    assert found["stat"] == pytest.approx(row["stat"], rel=1e-9)
    for name in ("kT", "kT_lo", "kT_hi", "norm", "norm_lo", "norm_hi"):
        # The statistic is flat there: its last digits are worth so much.
        assert found[name] == pytest.approx(row[name], rel=1e-5), name
    assert (found["dof"], found["n_obs"], found["status"]) == (row["dof"], row["n_obs"], "OK")
    assert found["net_counts"] == pytest.approx(row["net_counts"], rel=1e-9)


def test_the_files_hold_the_region(fit_input, tmp_path):
    export, written = exported(fit_input, tmp_path, statistic="wstat", group_channels=12)
    assert [path.name for path in written] == [
        *(f"made_up_18_{obsid}{ending}" for obsid in (90001, 90002)
          for ending in (".pi", "_bg.pi", "_bgmodel.pi", ".arf", ".rmf")),
        "made_up_18.xcm", "made_up_18_sherpa.py",
    ]  # fmt: skip
    spectra = export.fitter.extractor.extract(*export.pixels)
    for part, observation in zip(spectra.parts, fit_input.observations, strict=True):
        stem = tmp_path / f"made_up_18_{observation.obsid}"
        source, blank = read_pha(f"{stem}.pi"), read_pha(f"{stem}_bg.pi")
        bins = slice(spectra.start[part.position], spectra.start[part.position + 1])
        good = source.quality == 0
        assert good.sum() == observation.nodes.shape[-1]
        assert source.counts.sum() == source.counts[good].sum() == spectra.counts[bins].sum()
        assert blank.counts.sum() == spectra.blank_counts[bins].sum()
        assert source.backscal / blank.backscal == pytest.approx(spectra.blank_scale[bins][0], rel=1e-12)
        assert read_pha(f"{stem}_bgmodel.pi").counts.sum() == pytest.approx(spectra.background[bins].sum(), rel=1e-12)
        area, matrix = read_responses(f"{stem}.arf", f"{stem}.rmf")
        mean = part.response_weight @ observation.arf_area_cm2
        np.testing.assert_allclose(area.area_cm2, part.source_factor * mean, rtol=1e-12)
        assert np.array_equal(matrix.matrix.indices, observation.rmf_column)
        with fits.open(f"{stem}.pi") as hdus:
            grouping = hdus["SPECTRUM"].data["GROUPING"][good]
            assert hdus["SPECTRUM"].header["OBS_ID"] == str(observation.obsid)
        assert np.array_equal(np.flatnonzero(grouping == 1), np.arange(0, len(grouping), 12))


def test_the_commands_for_xspec_describe_the_fit(fit_input, tmp_path):
    export, _ = exported(fit_input, tmp_path)
    lines = (tmp_path / "made_up_18.xcm").read_text().splitlines()
    commands = [line for line in lines if not line.startswith(("#", "if "))]
    kt, norm = export.row["kT"], export.row["norm"]
    assert commands == [
        "query yes", "statistic pstat", "abund angr", "xsect vern",
        "data 1:1 made_up_18_90001.pi 1:2 made_up_18_90002.pi",
        "response 1 made_up_18_90001.rmf", "arf 1 made_up_18_90001.arf", "backgrnd 1 made_up_18_90001_bgmodel.pi",
        "response 2 made_up_18_90002.rmf", "arf 2 made_up_18_90002.arf", "backgrnd 2 made_up_18_90002_bgmodel.pi",
        "ignore bad", "model phabs(apec)", "0.05 -0.01", f"{kt:.10g} 0.01 0.1 0.1 64 64", "0.3 -0.01", "0.2 -0.01",
        f"{norm:.10g} {0.01 * norm:.3g} 0 0 1e20 1e24", "method leven 200 1e-8", "fit", "error 1 2 5",
    ]  # fmt: skip
    assert any("known background" in line for line in lines)
    root = datafiles.apec_root()
    assert f"if {{[file exists {{{root}_line.fits}}]}} {{ xset APECROOT {root} }}" in lines


def test_own_norms_are_data_groups_in_xspec():
    settings = FitSettings(statistic="wstat", norms="per_observation", free="abundance", delta_statistic=2.706)
    fit = ExportedFit(
        title="two", names=("a", "b"), model=XspecModel(0.2, 0.05, 0.3), settings=settings,
        values={"kT": 5.0, "abundance": 0.4, "nH": 0.05}, norms=(1e-3, 2e-3), statistic=80.0, kt_range_kev=(0.1, 64.0),
    )  # fmt: skip
    commands = xspec_script(fit).splitlines()
    assert {"statistic cstat", "data 1:1 a.pi 2:2 b.pi", "backgrnd 2 b_bg.pi", "error 2.706 2 3 5 10"} <= set(commands)
    first = commands.index("model phabs(apec)") + 1
    assert commands[first : first + 10] == [
        "0.05 -0.01", "5 0.01 0.1 0.1 64 64", "0.4 0.01", "0.2 -0.01", "0.001 1e-05 0 0 1e20 1e24",
        "= p1", "= p2", "= p3", "= p4", "0.002 2e-05 0 0 1e20 1e24",
    ]  # fmt: skip


PARAMETERS = """
import json
from sherpa.astro import xspec
pars = {name: getattr(xspec, model)().pars for name, model in MODELS.items()}
print(json.dumps({name: [each.name.lower() for each in found] for name, found in pars.items()}))
"""


def test_every_plasma_model_has_its_parameters_in_xspecs_order():
    code = f"MODELS = {ADDITIVE_MODELS!r}\n{PARAMETERS}"
    told = subprocess.run(
        [sys.executable, "-c", code], env=child_environment(), capture_output=True, text=True, check=True
    ).stdout
    other_names = {"abundance": "abundanc", "density": "nh"}
    ours = {
        plasma: [other_names.get(name, name.lower()) for name in names] for plasma, names in XSPEC_PARAMETERS.items()
    }
    assert ours == json.loads(told.splitlines()[-1])


def test_the_model_shown_is_the_one_that_was_fitted(fit_input, tmp_path):
    export, _ = exported(fit_input, tmp_path, group_channels=4)
    shown, facts = shown_region(export), region_facts(export)
    # At the best norm the statistic has no slope: sum(source (1 - counts / model)) = 0.
    slopes = [np.sum(each.source * (1.0 - each.counts / (each.source + each.background))) for each in shown]
    assert abs(sum(slopes)) < 1e-6 * sum(each.source.sum() for each in shown)
    assert [each["obsid"] for each in facts] == [90001, 90002]
    assert sum(each["counts"] for each in facts) == sum(each.counts.sum() for each in shown)
    for each in shown:
        assert each.low_kev[0] <= 0.7 < 8.0 <= each.high_kev[-1]
        np.testing.assert_allclose(each.high_kev[:-1], each.low_kev[1:], rtol=1e-6)


def test_a_region_without_exposure_exports_nothing(fit_input, tmp_path):
    blind = tuple(
        dataclasses.replace(each, exposure_fraction=np.zeros_like(each.exposure_fraction))
        for each in fit_input.observations
    )
    _, written = exported(dataclasses.replace(fit_input, observations=blind), tmp_path)
    assert written == []
