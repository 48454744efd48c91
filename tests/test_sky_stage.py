"""The sky fit of stage 5 on a drawn field: its norms, the expected background, a cluster that fills the field."""

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "benchmarks"))

from field_scene import (
    BLANK_NORMS,
    DEC_DEG,
    OBSIDS,
    RA_DEG,
    TrueExpectation,
    make_scene,
    pointing_of,
    write_field,
)

from cpxt_hpc.config import BackgroundSection, CleanSection, ClusterConfig, ClusterSection, ResponseSection
from cpxt_hpc.fitting import nodes
from cpxt_hpc.io.background_model import read_background_model
from cpxt_hpc.io.images import read_image, read_images
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import part_of
from cpxt_hpc.science.vignetting import between, off_axis_angles_arcmin
from cpxt_hpc.stages import clean, crop, merge, respond
from cpxt_hpc.stages.base import StageContext
from cpxt_hpc.stages.fold import fold_field
from cpxt_hpc.stages.sky import fit_sky_background

SKY_NORMS = (1.0e-5, 1.1e-6)
EXPOSURE_S, BLANK_S = 20_000.0, 100_000.0


def prepare(folder, *, core_arcmin):
    """A field after stages 1 to 4, with few events: an isothermal beta model without end, cropped to 3 arcmin."""
    layout = ClusterLayout(folder, "field")
    scene = make_scene(
        [6.0], source_over_background=2.0, edge_arcmin=30.0, sky_norms=SKY_NORMS, core_arcmin=core_arcmin
    )
    write_field(layout, scene, np.random.default_rng(4), exposure_s=EXPOSURE_S, blank_s=BLANK_S)
    for name, shape in (
        ("sources.reg", f'circle({RA_DEG + 0.3},{DEC_DEG},1")'),
        ("exclude.reg", f'circle({RA_DEG},{DEC_DEG},60")'),
        ("master_crop-ciaowcs.reg", f'circle({RA_DEG},{DEC_DEG},180")'),
    ):
        (folder / name).write_text(f"fk5\n{shape}\n")
    cluster = ClusterSection("field", OBSIDS, hydrogen_column_density=0.05, redshift=0.2, abundance=0.3)
    config = ClusterConfig(
        layout.ini, cluster, clean=CleanSection(method="none"), background=BackgroundSection(sky="fit"),
        response=ResponseSection(arf_off_axis_arcmin=0.0),
    )  # fmt: skip
    context = StageContext(config, layout)
    for stage in (merge.STAGE, clean.STAGE, respond.STAGE, crop.STAGE):
        stage.run(context)
    return context, scene


def fit(context):
    image, grid, _ = read_image(context.layout.mask)
    folded = fold_field(context, grid, image > 0)
    return fit_sky_background(context, grid, image > 0, folded), grid, image > 0, folded


def with_background(context, **changes):
    background = dataclasses.replace(context.config.background, **changes)
    return dataclasses.replace(context, config=dataclasses.replace(context.config, background=background))


@pytest.fixture(scope="module", autouse=True)
def _few_nodes():
    """Two temperatures: the sky does not depend on the cluster's model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nodes, "node_temperatures_kev", lambda root=None: np.array([5.0, 8.0]))
        yield


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """The cluster's light reaches far beyond the crop: it must not be taken for sky."""
    return prepare(tmp_path_factory.mktemp("field"), core_arcmin=1.5)


@pytest.fixture(scope="module")
def fitted(field):
    return fit(field[0])


def sky_table(context):
    with open(context.layout.sky_table, encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_norms_are_what_the_sky_has_beside_the_blank_sky(field, fitted):
    rows = sky_table(field[0])
    assert [row["component"] for row in rows] == ["sky 0.2 keV", "sky power law"]
    for row, own, blank in zip(rows, SKY_NORMS, BLANK_NORMS, strict=True):
        # The levels of the particles, by which the blank sky's own sky is scaled, are 0.93 to 1.10.
        found, error = float(row["norm_per_arcmin2"]), float(row["norm_error"])
        assert found == pytest.approx(own - blank, abs=3.5 * error + 0.03 * blank)
        assert error < 0.5 * (own - blank)
    assert float(rows[0]["tail_counts"]) > 0.0


def test_the_expected_background_of_the_map_is_the_true_one(field, fitted):
    context, scene = field
    skies, grid, mask, folded = fitted
    ratios = []
    for obsid, sky in zip(OBSIDS, skies, strict=True):
        images, full, _ = read_images(context.layout.observation(obsid).clean_exposure)
        part = part_of(full, grid)
        look = pointing_of(obsid)
        truth = TrueExpectation(
            obsid, {ccd: np.where(mask, images[f"CCD{ccd}"][part], 0.0).astype(float) for ccd in range(4)},
            *between(hrma_vignetting().off_axis_arcmin, off_axis_angles_arcmin(grid, look.ra_deg, look.dec_deg)),
            off_axis_angles_arcmin(grid, RA_DEG, DEC_DEG), grid.pixel_area_arcmin2,
        ).background(scene, mask)[folded.channel - 1]  # fmt: skip
        model = read_background_model(context.layout.observation(obsid).background_model)
        blank = sum(image.sum(dtype=float) for image in model.images.values())
        ratios.append([blank / truth.sum(), (blank + sky.images.sum()) / truth.sum()])
    without, with_sky = np.mean(ratios, axis=0)
    # 2 % from 9000 counts off the cluster, doubled by the tail that is told from the sky.
    assert without < 0.85
    assert with_sky == pytest.approx(1.0, abs=0.1)


def test_the_groups_are_ready_for_the_fit(fitted):
    skies, grid, mask, folded = fitted
    for sky in skies:
        assert sky.images.shape == (2, *grid.shape)
        assert not sky.images[:, ~mask].any()
        assert sky.templates.shape == (2, len(folded.channel))
        assert np.all(sky.templates > 0.0)
        np.testing.assert_allclose(sky.templates.sum(axis=1), 1.0, rtol=1e-9)
        assert np.all((sky.scale_error > 0.0) & (sky.scale_error < 1.0))


def test_none_adds_nothing(field):
    context = with_background(field[0], sky="none")
    assert fit_sky_background(context, None, None, None) == (None, None)


def test_a_local_background_has_the_sky_of_the_observation(field):
    context = with_background(field[0], source="local", local_region="l.reg")
    assert fit_sky_background(context, None, None, None) == (None, None)


def test_the_light_of_a_cluster_that_fills_the_field_is_not_subtracted(tmp_path, caplog):
    context, _ = prepare(tmp_path, core_arcmin=5.0)
    skies, *_ = fit(context)
    assert skies == (None, None)
    assert "is more than the whole extragalactic background" in caplog.text
    assert sky_table(context) == []
