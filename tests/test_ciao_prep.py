"""The whole preprocessing with CIAO's stand-in: download to the input of the fit, resumed, up to a few fits."""

import numpy as np
import pytest
from astropy.io import fits
from ciao_observatory import OBSIDS, new_cluster, stand_in_is_here

from cpxt_hpc.cli import fit, prep
from cpxt_hpc.io.checkpoint import read_results
from cpxt_hpc.io.events import read_events
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.images import read_image
from cpxt_hpc.io.ini import read_config
from cpxt_hpc.io.region_files import read_region_file
from cpxt_hpc.toolchain import ciao_responses
from cpxt_hpc.toolchain.choice import choose_toolchain

pytestmark = [stand_in_is_here(), pytest.mark.usefixtures("process_as_before")]


def test_all_stages_run_from_a_name_and_obsids(ciao_cluster):
    layout, ciao = ciao_cluster
    order = [call["tool"] for call in ciao.calls()]
    assert order[:5] == ["download_chandra_obsid", "chandra_repro", "chandra_repro", "blanksky", "blanksky"]
    assert order[5:7] == ["merge_obs", "wavdetect"]
    assert set(order[7:]) == {"specextract"} and len(order[7:]) == 2 * (1 + 4)
    assert all(call["rc"] == 0 for call in ciao.calls())
    assert len(read_fit_input(layout.fit_input).regions) > 0


def test_products_lie_where_the_builtin_toolchain_looks_for_them(ciao_cluster):
    layout, _ = ciao_cluster
    for obsid in OBSIDS:
        repro = layout.observation(obsid).repro
        names = {path.name for path in repro.iterdir()}
        assert {f"blanksky_{obsid}.fits", f"{obsid}.arf", f"{obsid}.rmf"} < names
        assert {f"acisf{obsid}_repro_{kind}.fits" for kind in ("evt2", "bpix1", "fov1")} < names
        tiles = {path.name for path in (repro / "tiles").iterdir()}
        assert tiles == {f"ccd{ccd}_00.{kind}" for ccd in range(4) for kind in ("arf", "reg")}


def test_nothing_is_left_of_the_working_folders(ciao_cluster):
    layout, _ = ciao_cluster
    assert [path for path in layout.folder.rglob("*") if path.name.startswith(".call-") or ".tmp" in path.name] == []
    assert not (layout.folder / ".download_ciao").exists()


def test_each_call_has_a_parameter_folder_of_its_own_and_the_users_stays_empty(ciao_cluster):
    _, ciao = ciao_cluster
    folders = [call["pfiles"].split(";")[0] for call in ciao.calls() if call["tool"] != "download_chandra_obsid"]
    # merge_obs and wavdetect, and every other call, run in processes of their own.
    assert len(set(folders)) == len(folders) > 10
    assert not any(str(ciao.folder / "pfiles") in folder for folder in folders)
    assert list((ciao.folder / "pfiles").iterdir()) == []


def test_every_log_is_kept_and_tells_the_call(ciao_cluster):
    layout, _ = ciao_cluster
    for obsid in OBSIDS:
        logs = {path.name: path.read_text() for path in layout.observation(obsid).tool_records.glob("*.log")}
        assert {"chandra_repro.log", "blanksky.log", "response.log", "tile_ccd3_00.log"} < set(logs)
        assert f"ObsID {obsid}: chandra_repro" in logs["chandra_repro.log"]
        assert "The data have been reprocessed." in logs["chandra_repro.log"]
        assert "infile = clean.fits[ccd_id=3][sky=region(region.reg)]" in logs["tile_ccd3_00.log"]
    assert {"download.log", "image.log", "wavdetect.log"} <= {path.name for path in layout.tool_records.iterdir()}


def test_support_files_are_handed_on_to_every_tool_that_needs_them(ciao_cluster):
    _, ciao = ciao_cluster
    for call in ciao.calls("specextract"):
        params = call["params"]
        assert params["asp"] in [f"pcadf{obsid}_000N001_asol1.fits" for obsid in OBSIDS]
        assert (params["badpixfile"], params["mskfile"]) == ("bpix1.fits", "msk1.fits")
    for call in ciao.calls("blanksky"):
        assert call["params"]["asolfile"] == f"pcadf{call['params']['random']}_000N001_asol1.fits"
    (merged,) = ciao.calls("merge_obs")
    assert [merged["params"][key] for key in ("asolfiles", "badpixfiles", "maskfiles")] == [
        "@asolfiles.lis", "@badpixfiles.lis", "@maskfiles.lis",
    ]  # fmt: skip


def test_wavdetects_sources_are_masked(ciao_cluster):
    layout, _ = ciao_cluster
    kept, grid, _ = read_image(layout.source_mask)
    shapes = read_region_file(layout.sources)
    assert "wavdetect" in layout.sources.read_text()
    assert [shape.kind for shape in shapes] == ["ellipse", "ellipse"]
    for shape in shapes:
        column, row = grid.image_from_sky(*shape.positions[0][1:])
        assert kept[round(float(row)), round(float(column))] == 0


def test_tile_regions_cover_the_exposed_field_once(ciao_cluster):
    layout, _ = ciao_cluster
    exposure, grid, _ = read_image(layout.observation(90001).exposure)
    tiles = [
        ciao_responses.sky_shapes(read_region_file(path), grid)[0]
        for path in sorted((layout.observation(90001).repro / "tiles").glob("*.reg"))
    ]
    iy, ix = np.nonzero(exposure > 0.9 * exposure.max())
    x, y = grid.sky_from_image(ix, iy)
    inside = np.sum([tile.contains(x, y) for tile in tiles], axis=0)
    assert np.mean(inside == 1) > 0.98 and inside.max() <= 1


def test_a_second_run_calls_no_tool_and_changes_nothing(ciao_cluster, started):
    layout, _ = ciao_cluster
    before = {path: path.stat().st_mtime_ns for path in layout.folder.rglob("*.fits")}
    assert prep.main([str(layout.ini), "--auto"]) == 0
    assert started.calls() == []
    assert {path: path.stat().st_mtime_ns for path in layout.folder.rglob("*.fits")} == before


def test_without_ciao_the_prepared_cluster_goes_on(ciao_cluster):
    assert prep.main([str(ciao_cluster[0].ini), "--auto"]) == 0


def test_a_few_regions_are_fitted(ciao_cluster):
    layout, _ = ciao_cluster
    numbers = read_fit_input(layout.fit_input).regions.number[:3]
    for number in numbers:
        assert fit.main([str(layout.ini), "--region", str(number)]) == 0
    rows = read_results(layout.fits)
    assert sorted(rows["region"]) == sorted(numbers)
    assert np.all((rows["kT"] > 1.0) & (rows["kT"] < 20.0))


def test_specextract_sees_the_cleaned_times_and_all_columns(ciao_cluster, tmp_path):
    layout, _ = ciao_cluster
    observation = layout.observation(90001)
    source = observation.repro / "acisf90001_repro_evt2.fits"
    clean = read_events(observation.clean_events)
    kept = ciao_responses.write_cleaned_copy(tmp_path / "copy.fits", source, clean)
    with fits.open(source) as before, fits.open(tmp_path / "copy.fits") as after:
        assert after["EVENTS"].columns.names == before["EVENTS"].columns.names
        assert {"tdetx", "tdety"} < set(after["EVENTS"].columns.names)
        assert [block.header.get("HDUNAME") for block in after[2:]] == ["GTI3", "GTI0", "GTI1", "GTI2"]
        assert after["EVENTS"].header["EXPOSURE"] == pytest.approx(clean.exposure_s[3])
        assert len(after["EVENTS"].data) == kept
    again = read_events(tmp_path / "copy.fits")
    for ccd, intervals in clean.good_times.items():
        assert np.allclose(again.good_times[ccd], intervals)
    # Every event that stage 2 kept is there; beside them only those of point sources and outside 0.05-12.1 keV.
    assert set(clean["time"]) <= set(again["time"])


def test_a_single_observation_in_a_folder_with_blanks(tmp_path, started):
    layout = new_cluster(tmp_path / "My clusters, new [1]", OBSIDS[:1])
    assert prep.main([str(layout.ini), "--stage", "1", "--quiet"]) == 0
    found = choose_toolchain(read_config(layout.ini)).find_sources(layout, OBSIDS[:1])
    tools = [call["tool"] for call in started.calls()]
    assert tools == ["download_chandra_obsid", "chandra_repro", "blanksky", "fluximage", "mkpsfmap", "wavdetect"]
    assert len(found.shapes) == 2
    for call in started.calls()[1:]:
        assert not set(call["cwd"]) & set(" ,[]")
    # Files of the archive stay as they were: chandra_repro unpacks what it is given.
    names = {path.name for path in layout.observation(90001).primary.iterdir()}
    assert "pcadf90001_000N001_asol1.fits" in names


def test_another_way_of_reprocessing_remakes_what_was_ours(ciao_copy, started):
    layout = ciao_copy()
    text = layout.ini.read_text()
    layout.ini.write_text(text.replace("vfaint_cleaning = no", "vfaint_cleaning = yes"))
    assert layout.ini.read_text() != text
    choose_toolchain(read_config(layout.ini), processes=2).make_events(layout, OBSIDS, blank_sky=True)
    assert [call["params"]["check_vf_pha"] for call in started.calls("chandra_repro")] == [True, True]


def test_files_of_the_user_are_neither_made_nor_replaced(ciao_copy, started):
    layout = ciao_copy()
    first, second = (layout.observation(obsid) for obsid in OBSIDS)
    for name in ("response.json", "blanksky.json"):
        (first.tool_records / name).unlink()
    with open(second.repro / "blanksky_90002.fits", "ab") as stream:
        stream.write(bytes(2880))
    before = {path: path.stat().st_mtime_ns for path in layout.folder.rglob("*.[afr][irm][tf]*")}
    toolchain = choose_toolchain(read_config(layout.ini))
    toolchain.make_events(layout, OBSIDS, blank_sky=True)
    toolchain.make_responses(layout, OBSIDS)
    assert started.calls() == []
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_response_region_that_a_person_draws_is_used(ciao_copy, started):
    layout = ciao_copy()
    region = layout.observation(90001).arf_region
    assert "made by cpxt-prep" in region.read_text()
    region.write_text('fk5\nbox(194.95,27.98,100",60",30)\n-circle(194.95,27.98,5")\n')
    choose_toolchain(read_config(layout.ini)).make_responses(layout, OBSIDS)
    (call,) = started.calls("specextract")
    assert call["params"]["infile"] == "clean.fits[sky=region(region.reg)]"
    assert region.read_text().startswith("fk5\nbox(")


def test_a_moved_cluster_needs_no_tool_again(ciao_copy, started):
    layout = ciao_copy()
    for path in layout.folder.rglob("*"):
        if path.is_file():
            path.touch()  # as cp -r leaves it
    assert prep.main([str(layout.ini), "--auto", "--quiet"]) == 0
    assert started.calls() == []
