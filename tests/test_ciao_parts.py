"""Parts of the CIAO toolchain by themselves: what is found, what is ours, where regions and tiles lie."""

import dataclasses
import logging
import os
import threading

import numpy as np
import pytest
from acis_events import observation, pointing
from astropy.io import fits

from cpxt_hpc.errors import DataError, MissingInput, OutputError
from cpxt_hpc.io.region_files import read_region_file, sky_shapes
from cpxt_hpc.layout import ClusterLayout, ObservationLayout
from cpxt_hpc.science.chip_tiles import chip_tiles
from cpxt_hpc.science.exposure import fit_chip_geometry
from cpxt_hpc.science.grid import PixelGrid, sky_wcs
from cpxt_hpc.science.masks import Shape
from cpxt_hpc.toolchain import ciao
from cpxt_hpc.toolchain.ciao_child import complaint
from cpxt_hpc.toolchain.ciao_inputs import find_support_files, working_folder
from cpxt_hpc.toolchain.ciao_process import run_all
from cpxt_hpc.toolchain.ciao_products import Product, install, must_be_made, note_made, note_unfinished
from cpxt_hpc.toolchain.ciao_regions import moved_shape, plane_change, write_ciao_region
from cpxt_hpc.toolchain.ciao_steps import Limits, ccd_filter

# --- aspect solutions, bad pixels, mask


@pytest.fixture
def each(tmp_path):
    return ObservationLayout(tmp_path / "7", 7)


def put_events(each, folder="repro", name="acisf00007_repro_evt2.fits", **keywords):
    path = each.folder / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    table = fits.BinTableHDU.from_columns([fits.Column("time", "D", array=np.zeros(3))], name="EVENTS")
    table.header.update(keywords)
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)
    return path


def touch(each, *names):
    for name in names:
        path = each.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names_of(found):
    return [f"{path.parent.name}/{path.name}" for path in (*found.aspect, found.bad_pixels, found.mask)]


def test_an_aspect_file_that_lies_in_two_folders_counts_once(each):
    events = put_events(each, ASOLFILE="a_asol1.fits,b_asol1.fits,a_asol1.fits")
    for folder in ("repro", "primary"):
        touch(each, f"{folder}/a_asol1.fits", f"{folder}/b_asol1.fits.gz")
    touch(each, "repro/x_bpix1.fits", "secondary/x_msk1.fits.gz")
    assert names_of(find_support_files(each, events)) == [
        "repro/a_asol1.fits", "repro/b_asol1.fits.gz", "repro/x_bpix1.fits", "secondary/x_msk1.fits.gz",
    ]  # fmt: skip


def test_without_names_in_the_header_the_reprocessed_files_come_first(each):
    events = put_events(each, BPIXFILE="NONE")
    touch(each, "repro/pcadf00007_repro_asol1.fits", "repro/pcadf00007_000N001_asol1.fits")
    touch(each, "repro/acisf00007_repro_bpix1.fits", "primary/acisf00007_000N001_bpix1.fits", "secondary/a_msk1.fits")
    assert names_of(find_support_files(each, events)) == [
        "repro/pcadf00007_repro_asol1.fits", "repro/acisf00007_repro_bpix1.fits", "secondary/a_msk1.fits",
    ]  # fmt: skip


def test_archived_events_find_what_lies_in_primary_and_secondary(each):
    events = put_events(each, "primary", "acisf00007N002_evt2.fits", ASOLFILE="gone_asol1.fits")
    touch(each, "primary/pcadf2_asol1.fits", "primary/pcadf1_asol1.fits.gz", "primary/pcadf1_asol1.fits")
    touch(each, "primary/a_bpix1.fits.gz", "secondary/a_msk1.fits.gz")
    assert names_of(find_support_files(each, events)) == [
        "primary/pcadf1_asol1.fits", "primary/pcadf2_asol1.fits", "primary/a_bpix1.fits.gz", "secondary/a_msk1.fits.gz",
    ]  # fmt: skip


def test_of_several_masks_the_header_must_name_one(each):
    events = put_events(each)
    touch(each, "repro/p_asol1.fits", "repro/pcadf_asol1.fits", "repro/b_bpix1.fits", "repro/a_msk1.fits")
    touch(each, "repro/b_msk1.fits")
    with pytest.raises(DataError, match=r"ObsID 7: 2 mask files \(a_msk1\.fits, b_msk1\.fits\) and no MASKFILE in"):
        find_support_files(each, events)


# --- what is ours


@pytest.fixture
def product(tmp_path):
    (tmp_path / "input").write_text("in")
    return Product(tmp_path / "ciao" / "a.json", (tmp_path / "a", tmp_path / "b"), (tmp_path / "input",), {"s": "1"})


def make(product):
    for path in product.outputs:
        path.write_text("made")
    note_made(product)


def test_a_product_is_made_once(product):
    assert must_be_made(product)
    make(product)
    assert not must_be_made(product)


def test_a_file_without_a_record_is_the_users(product):
    product.outputs[0].write_text("drawn by hand")
    assert not must_be_made(product)


def test_a_packed_file_is_there_too(product):
    product.outputs[0].with_name("a.gz").write_text("packed by hand")
    assert not must_be_made(product)


def test_a_file_of_ours_that_was_replaced_is_the_users(product):
    make(product)
    product.outputs[0].write_text("mine!")
    assert not must_be_made(dataclasses.replace(product, settings={"s": "2"}))


def test_changed_inputs_and_settings_and_lost_files_make_it_anew(product):
    make(product)
    assert must_be_made(dataclasses.replace(product, settings={"s": "2"}))
    assert must_be_made(dataclasses.replace(product, inputs=()))
    product.outputs[1].unlink()
    assert must_be_made(product)
    make(product)
    product.inputs[0].write_text("IN")
    assert must_be_made(product)


def test_a_new_time_stamp_alone_changes_nothing(product):
    make(product)
    for path in (*product.inputs, *product.outputs):
        os.utime(path, (1e9, 1e9))
    assert not must_be_made(product)


def test_a_broken_installation_is_made_anew(product):
    note_unfinished(product)
    product.outputs[0].write_text("half of it")
    assert must_be_made(product)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 0, "unfinished": true}', '"unfinished"'])
def test_a_record_that_cannot_be_read_is_none(product, text):
    make(product)
    product.record.write_text(text)
    assert not must_be_made(product)


def test_files_are_installed_whole_and_links_are_followed(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "far").write_text("content")
    (tmp_path / "work" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "work" / "file").write_text("own")
    install({tmp_path / "x" / "a": tmp_path / "work" / "link", tmp_path / "x" / "b": tmp_path / "work" / "file"})
    assert {path.name: path.read_text() for path in (tmp_path / "x").iterdir()} == {"a": "content", "b": "own"}
    assert not (tmp_path / "x" / "a").is_symlink() and (tmp_path / "far").exists()


# --- calls


@pytest.mark.parametrize(
    ("ccds", "text"), [((0, 1, 2, 3), "0:3"), ((7,), "7"), ((5, 6, 8), "5:6,8"), ((3, 0, 2), "0,2:3")]
)
def test_ccds_are_chosen_by_ranges(ccds, text):
    assert ccd_filter(ccds) == f"[ccd_id={text}]"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("# dmcopy (CIAO 4.17): ERROR: no such file", True),
        ("fine so far\nERROR the calibration is missing", True),
        ("Traceback (most recent call last):\n  ...", True),
        ("WARNING: TERROR is no error", False),
        ("0 errors found", False),
        ("position error: 0.1 arcsec", False),
    ],
)
def test_complaints_are_told_from_other_words(said, found):
    assert (complaint(said) is not None) == found


def test_the_first_error_ends_the_other_jobs():
    ended, all_run = [], threading.Barrier(3)

    def fails(stop):
        all_run.wait(60.0)
        raise MissingInput("first")

    def waits(stop):
        all_run.wait(60.0)
        ended.append(stop.wait(60.0))

    with pytest.raises(MissingInput, match="first"):
        run_all([waits, fails, waits], 3)
    assert ended == [True, True]


def test_no_more_jobs_than_processes_run_at_once():
    lock, running, most = threading.Lock(), [0], [0]
    gate = threading.Barrier(2)

    def job(stop):
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        gate.wait(60.0)
        with lock:
            running[0] -= 1

    run_all([job] * 6, 2)
    assert most[0] == 2


def test_a_path_with_blanks_is_kept_from_the_tools(tmp_path):
    with working_folder(tmp_path / "My clusters, new" / "ciao") as folder:
        assert not set(str(folder)) & set(" ,[]()@")
    assert not folder.exists()
    with working_folder(tmp_path / "plain") as folder:
        assert folder.parent == (tmp_path / "plain").resolve()


def test_a_working_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "ciao").write_text("a file in the way")
    with pytest.raises(OutputError, match="no working folder can be made"), working_folder(tmp_path / "ciao"):
        pass


# --- regions and tiles

COMMON, OWN = (150.0, 80.0), (150.4, 80.05)


def sky_of(plane, x, y):
    return np.array(sky_wcs(*plane).all_pix2world(x, y, 1))


def to_own(x, y):
    return plane_change(*COMMON, *OWN, (4096.5, 4096.5), (-0.492 / 3600, 0.492 / 3600))(x, y)


def test_a_moved_shape_covers_the_same_sky():
    # 0.4 degrees of right ascension at declination 80 turn the axes by 0.4 degrees.
    for shape in (
        Shape("circle", (4300.0, 3900.0, 100.0)),
        Shape("box", (4300.0, 3900.0, 400.0, 100.0, 20.0)),
        Shape("ellipse", (4300.0, 3900.0, 200.0, 50.0, 65.0)),
        Shape("pie", (4300.0, 3900.0, 20.0, 200.0, 10.0, 100.0)),
        Shape("polygon", (4200.0, 3800.0, 4500.0, 3850.0, 4300.0, 4100.0)),
        Shape("annulus", (4300.0, 3900.0, 50.0, 200.0), include=False),
    ):
        moved = moved_shape(shape, to_own)
        rng = np.random.default_rng(1)
        x, y = rng.uniform(4000.0, 4600.0, 20_000), rng.uniform(3600.0, 4200.0, 20_000)
        ra, dec = sky_of(COMMON, x, y)
        own = sky_wcs(*OWN).all_world2pix(ra, dec, 1)
        assert moved.include == shape.include
        assert np.mean(shape.contains(x, y) != moved.contains(*own)) < 5e-4
    assert moved_shape(Shape("field", ()), to_own) == Shape("field", ())


def test_regions_for_ciao_read_back_as_the_same_shapes(tmp_path):
    shapes = [
        Shape("circle", (4300.0, 3900.0, 100.0)),
        Shape("box", (4300.0, 3900.0, 400.0, 100.0, 20.0)),
        Shape("polygon", (4200.0, 3800.0, 4500.0, 3850.0, 4300.0, 4100.0)),
        Shape("pie", (4300.0, 3900.0, 20.0, 200.0, 10.0, 100.0)),
        Shape("ellipse", (4300.0, 3900.0, 200.0, 50.0, 65.0), include=False),
    ]
    path = tmp_path / "r.reg"
    write_ciao_region(path, [*shapes, Shape("point", (1.0, 2.0))], path)
    assert path.read_text().splitlines()[0] == "circle(4300.0000,3900.0000,100.0000)"
    assert path.read_text().splitlines()[-1].startswith("-ellipse(")
    assert sky_shapes(read_region_file(path), PixelGrid(*OWN, 3000.5, 3000.5, 500, 500)) == shapes


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "holds no shape with an area"),
        ([Shape("point", (1.0, 2.0))], "holds no shape with an area"),
        ([Shape("circle", (1.0, 2.0, 3.0), include=False)], "holds no shape with an area"),
        ([Shape("box_annulus", (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0))], "the shape box_annulus cannot be handed to CIAO"),
    ],
)
def test_regions_that_ciao_cannot_use_are_refused(tmp_path, shapes, message):
    with pytest.raises(DataError, match=f"a.reg: {message}"):
        write_ciao_region(tmp_path / "r.reg", shapes, tmp_path / "a.reg")


def tiles_of(events, ccd=3, **options):
    own = events["ccd_id"] == ccd
    geometry, _ = fit_chip_geometry(*(events[name][own] for name in ("x", "y", "chipx", "chipy")))
    return geometry, chip_tiles(geometry, events["chipx"][own], events["chipy"][own], **options)


def test_tiles_cover_a_ccd_once():
    events = observation(np.random.default_rng(3), n=40_000, look=pointing(roll=77.0))
    geometry, tiles = tiles_of(events)
    assert [(tile.row, tile.column) for tile in tiles] == [(row, column) for row in range(4) for column in range(4)]
    assert sum(tile.n_events for tile in tiles) == np.count_nonzero(events["ccd_id"] == 3)
    assert all(tile.n_events == pytest.approx(40_000 / 64, abs=5 * 25) for tile in tiles)
    shapes = [Shape("polygon", tuple(tile.corners.ravel())) for tile in tiles]
    rng = np.random.default_rng(4)
    chip = rng.uniform(geometry.low, geometry.high, (5000, 2))
    x, y = np.linalg.solve(geometry.matrix, (chip - geometry.offset).T)
    inside = np.array([shape.contains(x, y) for shape in shapes])
    assert np.mean(inside.sum(axis=0) == 1) > 0.999
    for tile, own in zip(tiles, inside, strict=True):
        expected = (chip[:, 0] // 256 == tile.column) & (chip[:, 1] // 256 == tile.row)
        assert np.mean(own != expected) < 0.01  # the active part begins at pixel 2


def test_a_sub_array_has_fewer_tiles():
    events = observation(np.random.default_rng(3), n=40_000)
    rows = (events["chipy"] > 385) & (events["chipy"] <= 640)
    _, tiles = tiles_of(events.select(rows))
    assert {tile.row for tile in tiles} == {0} and len(tiles) == 4


# --- which toolchain


def test_data_that_were_prepared_without_ciao_need_none_of_its_tools(tmp_path, caplog):
    layout = ClusterLayout(tmp_path / "a", "a")
    each = layout.observation(7)
    put_events(each)
    touch(each, "repro/blanksky_7.fits", "repro/7.arf", "repro/7.rmf")
    tools = ciao.CiaoToolchain(Limits())
    with caplog.at_level(logging.WARNING):
        tools.make_events(layout, (7,), blank_sky=True)
        tools.make_responses(layout, (7,))
        assert tools.find_sources(layout, (7,)) is None
    assert "Without it wavdetect cannot run: the program's own search is used." in caplog.text
    assert not each.tool_records.exists()


def test_archived_events_without_level_1_are_taken_with_a_warning(tmp_path, caplog):
    layout = ClusterLayout(tmp_path / "a", "a")
    each = layout.observation(7)
    put_events(each, "primary", "acisf00007N002_evt2.fits")
    with caplog.at_level(logging.WARNING):
        ciao.CiaoToolchain(Limits()).make_events(layout, (7,), blank_sky=False)
    assert "ObsID 7: no level-1 events in" in caplog.text
