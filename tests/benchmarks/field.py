"""Bias of kT in a field with an awkward background: vignetting, levels and lines that differ by CCD, another sky.

Each field is drawn as events and goes through stages 1 to 5; every setting makes its own background and responses.
Then the circles of a regular grid are given spectra of known temperature: the exact expectation, which shows the bias
of background and response alone, and Poisson draws of it, which show the median and the coverage that a map has.
--json prints one object with the rows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from environment import environment
from field_scene import (
    ABUNDANCE,
    BLANK_NORMS,
    CORE_ARCMIN,
    DEC_DEG,
    NH_1E22,
    OBSIDS,
    RA_DEG,
    REDSHIFT,
    SKY_NORMS,
    Scene,
    TrueExpectation,
    make_scene,
    pointing_of,
    write_field,
)

from cpxt_hpc.config import (
    BackgroundSection,
    CleanSection,
    ClusterConfig,
    ClusterSection,
    FitSection,
    ResponseSection,
)
from cpxt_hpc.fitting import nodes
from cpxt_hpc.fitting.model import FitInput
from cpxt_hpc.fitting.regions import RegionFitter
from cpxt_hpc.fitting.results import Status, empty_result
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.spectrum_fit import fit_spectra
from cpxt_hpc.io.fit_input import read_fit_input
from cpxt_hpc.io.images import read_image, read_images
from cpxt_hpc.io.vignetting_table import hrma_vignetting
from cpxt_hpc.layout import ClusterLayout
from cpxt_hpc.science.grid import part_of
from cpxt_hpc.science.region_pixels import circle_pixel_count, circle_runs
from cpxt_hpc.science.vignetting import between, off_axis_angles_arcmin
from cpxt_hpc.stages import bin as binning
from cpxt_hpc.stages import clean, crop, merge, respond, sky
from cpxt_hpc.stages.base import StageContext

VARIANTS: dict[str, dict[str, object]] = {
    "defaults": {},
    "sky = none": {"background.sky": "none"},
    "groups = detector": {"background.groups": "detector"},
    "groups = ccd": {"background.groups": "ccd"},
    "vignetting = none": {"response.vignetting": "none"},
    "all three off": {"background.sky": "none", "background.groups": "detector", "response.vignetting": "none"},
}


def settings_of(layout: ClusterLayout, changes: dict[str, object]) -> StageContext:
    """The context of a variant."""
    sections = {
        "background": BackgroundSection(),
        "response": ResponseSection(arf_off_axis_arcmin=0.0),
        "fit": FitSection(),
        "clean": CleanSection(method="none"),
        "cluster": ClusterSection(
            "field", OBSIDS, hydrogen_column_density=NH_1E22, redshift=REDSHIFT, abundance=ABUNDANCE,
            signal_to_noise=20.0,
        ),
    }  # fmt: skip
    for name, value in changes.items():
        section, _, key = name.partition(".")
        sections[section] = dataclasses.replace(sections[section], **{key: value})
    return StageContext(ClusterConfig(layout.ini, **sections), layout)


def remember_xspec() -> None:
    """Every variant asks XSPEC for the same spectra."""
    original, answers = nodes.evaluate_additive, {}

    def remembered(edges, kt, **settings):
        key = (np.asarray(edges).tobytes(), np.asarray(kt, dtype=float).tobytes(), repr(settings))
        if key not in answers:
            answers[key] = original(edges, kt, **settings)
        return answers[key]

    nodes.evaluate_additive = sky.evaluate_additive = remembered


def truth_of(context: StageContext, fit_input: FitInput) -> list[TrueExpectation]:
    """Exact expectation of both observations on the map."""
    grid, expectations = fit_input.grid, []
    for obsid in OBSIDS:
        images, full_grid, _ = read_images(context.layout.observation(obsid).clean_exposure)
        part = part_of(full_grid, grid)
        mask = read_image(context.layout.mask)[0] > 0
        by_ccd = {ccd: np.where(mask, images[f"CCD{ccd}"][part], 0.0).astype(float) for ccd in range(4)}
        look = pointing_of(obsid)
        angles = off_axis_angles_arcmin(grid, look.ra_deg, look.dec_deg)
        expectations.append(
            TrueExpectation(
                obsid, by_ccd, *between(hrma_vignetting().off_axis_arcmin, angles),
                off_axis_angles_arcmin(grid, RA_DEG, DEC_DEG), grid.pixel_area_arcmin2,
            )
        )  # fmt: skip
    return expectations


def circle_centres(fit_input: FitInput, radius: float, mask: np.ndarray) -> list[tuple[int, int]]:
    """Centres of circles that touch each other and lie wholly in the map."""
    ny, nx = fit_input.grid.shape
    step = int(np.ceil(2.0 * radius + 1.0))
    reach = int(np.ceil(radius))
    return [
        (iy, ix)
        for iy in range(reach, ny - reach, step)
        for ix in range(reach, nx - reach, step)
        if mask[iy - reach : iy + reach + 1, ix - reach : ix + reach + 1].mean() > 0.97
    ]


def fit_variant(
    context: StageContext, scene: Scene, temperatures: list[float], arguments: argparse.Namespace, seed: int
) -> list[dict]:
    """Fit all circles of one field with one set of settings; one record a temperature and circle."""
    crop.STAGE.run(context)
    binning.STAGE.run(context)
    fit_input = read_fit_input(context.layout.fit_input)
    fitter = RegionFitter(fit_input, FitSettings())
    truth, channel = truth_of(context, fit_input), fit_input.observations[0].first_channel - 1
    mask = read_image(context.layout.mask)[0] > 0
    radius = arguments.circle_arcsec / fit_input.grid.pixel_arcsec
    iy_image, ix_image = np.indices(mask.shape)
    records, rng = [], np.random.default_rng([seed, 9])
    for iy, ix in circle_centres(fit_input, radius, mask):
        pixels = (iy_image - iy) ** 2 + (ix_image - ix) ** 2 <= radius**2
        runs = circle_runs(iy, ix, radius, mask.shape)
        spectra = fitter.extractor.extract(*runs, circle_pixel_count(radius))
        fitted = slice(channel, channel + int(fitter.extractor.start[1]))
        background = [each.background(scene, pixels)[fitted] for each in truth]
        for kt in temperatures:
            source = [each.source(scene, kt, pixels)[fitted] for each in truth]
            expected = np.concatenate([s + b for s, b in zip(source, background, strict=True)])
            used = [part.position for part in spectra.parts]
            for position in range(len(truth)):
                if position not in used:
                    expected[fitter.extractor.start[position] : fitter.extractor.start[position + 1]] = 0.0
            exact = fitted_row(fitter, spectra._replace(counts=expected))
            drawn = [
                fitted_row(fitter, spectra._replace(counts=rng.poisson(expected).astype(float)))
                for _ in range(arguments.draws)
            ]
            records.append(
                {
                    "kt": kt,
                    "exact": float(exact["kT"]),
                    "drawn": [float(row["kT"]) for row in drawn],
                    "held": [bool(row["kT_lo"] <= kt <= row["kT_hi"]) for row in drawn],
                    "held_with_background": [with_background_error(row, kt) for row in drawn],
                    "counts": float(expected.sum()),
                    "share": float(sum(map(np.sum, background)) / expected.sum()),
                    "background_error": float(spectra.background.sum() / sum(map(np.sum, background)) - 1.0),
                }
            )
    return records


def with_background_error(row: np.ndarray, kt: float) -> bool:
    """Whether the truth lies within the statistical and the background's error, added in quadrature."""
    best = float(row["kT"])
    below = np.hypot(best - row["kT_lo"], best - row["kT_bkg_lo"])
    above = np.hypot(row["kT_hi"] - best, row["kT_bkg_hi"] - best)
    return bool(best - below <= kt <= best + above)


def fitted_row(fitter: RegionFitter, spectra) -> np.ndarray:
    """Fit spectra as a map's are fitted."""
    row = empty_result(1, 0, 0, 0.0, Status.NO_EXPOSURE)
    fit_spectra(row, spectra, fitter.model, fitter.settings)
    return row


def summarise(variant: str, fields: list[list[dict]], temperatures: list[float]) -> list[dict]:
    """One row a temperature."""
    rows = []
    for kt in temperatures:
        chosen = [[record for record in field if record["kt"] == kt] for field in fields]
        medians = [100.0 * (np.median([record["exact"] for record in field]) / kt - 1.0) for field in chosen]
        drawn = np.concatenate([record["drawn"] for field in chosen for record in field] or [[]])
        held, held_with = (
            np.concatenate([record[name] for field in chosen for record in field] or [[]])
            for name in ("held", "held_with_background")
        )
        everything = [record for field in chosen for record in field]
        rows.append(
            {
                "variant": variant,
                "kt_kev": kt,
                "circles": len(everything),
                "counts": float(np.median([record["counts"] for record in everything])),
                "background_share": float(np.median([record["share"] for record in everything])),
                "background_error_percent": 100.0 * float(np.mean([r["background_error"] for r in everything])),
                "bias_percent": float(np.mean(medians)),
                "bias_error_percent": float(np.std(medians, ddof=1) / np.sqrt(len(medians)))
                if len(medians) > 1
                else None,
                "circle_scatter_percent": 100.0 * float(np.std([r["exact"] / kt for r in everything])),
                "drawn_median_bias_percent": 100.0 * float(np.nanmedian(drawn) / kt - 1.0) if len(drawn) else None,
                "coverage": float(np.mean(held)) if len(held) else None,
                "coverage_with_background_error": float(np.mean(held_with)) if len(held) else None,
            }
        )
    return rows


def markdown(rows: list[dict]) -> str:
    """The table."""
    lines = [
        "| settings | kT (keV) | counts, background | background off by | expected spectra: median bias "
        "| from circle to circle | drawn spectra: median bias | 68 % interval holds | with the background's error |",
        "|---" * 9 + "|",
    ]
    for row in rows:
        error = "" if row["bias_error_percent"] is None else f" ± {row['bias_error_percent']:.1f}"
        cells = [
            row["variant"],
            f"{row['kt_kev']:g}",
            f"{row['counts']:.0f}, {row['background_share']:.0%}",
            f"{row['background_error_percent']:+.1f} %",
            f"{row['bias_percent']:+.1f}{error} %",
            f"{row['circle_scatter_percent']:.1f} %",
            "" if row["coverage"] is None else f"{row['drawn_median_bias_percent']:+.1f} %",
            "" if row["coverage"] is None else f"{row['coverage']:.2f}",
            "" if row["coverage"] is None else f"{row['coverage_with_background_error']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def one_field(seed: int, scene: Scene, arguments: argparse.Namespace) -> dict[str, list[dict]]:
    """All variants of one field."""
    with tempfile.TemporaryDirectory() as folder:
        layout = ClusterLayout(Path(folder), "field")
        write_field(
            layout, scene, np.random.default_rng([seed, 1]),
            exposure_s=1e3 * arguments.exposure_ks, blank_s=1e3 * arguments.blank_ks,
        )  # fmt: skip
        crop_radius = 60.0 * arguments.crop_arcmin
        for name, shape in (
            ("sources.reg", f'circle({RA_DEG + 0.3},{DEC_DEG},1")'),
            ("exclude.reg", f'circle({RA_DEG},{DEC_DEG},60")'),
            ("master_crop-ciaowcs.reg", f'circle({RA_DEG},{DEC_DEG},{crop_radius}")'),
        ):
            (layout.folder / name).write_text(f"fk5\n{shape}\n")
        context = settings_of(layout, {})
        for stage in (merge.STAGE, clean.STAGE, respond.STAGE):
            stage.run(context)
        return {
            variant: fit_variant(settings_of(layout, VARIANTS[variant]), scene, arguments.kt, arguments, seed)
            for variant in arguments.variants
        }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", type=int, default=3, help="fields drawn [%(default)s]")
    parser.add_argument("--kt", type=float, nargs="+", default=[4.0, 6.0, 9.0], metavar="KEV")
    parser.add_argument("--draws", type=int, default=3, help="Poisson draws of each circle [%(default)s]")
    parser.add_argument("--exposure-ks", type=float, default=100.0, help="of each observation [%(default)s]")
    parser.add_argument("--blank-ks", type=float, default=1000.0, help="of each blank sky [%(default)s]")
    parser.add_argument("--source-over-background", type=float, default=2.0, help="at the core radius [%(default)s]")
    parser.add_argument("--circle-arcsec", type=float, default=40.0, help="radius of the circles [%(default)s]")
    parser.add_argument("--crop-arcmin", type=float, default=7.5, help="radius of the map [%(default)s]")
    parser.add_argument("--core-arcmin", type=float, default=CORE_ARCMIN, help="of the beta model [%(default)s]")
    parser.add_argument("--edge-arcmin", type=float, default=7.5, help="where the cluster ends [%(default)s]")
    parser.add_argument(
        "--sky-norms", type=float, nargs=2, default=list(SKY_NORMS),
        help="plasma and power law per arcmin2 of the observations' sky; the blank sky's: "
        f"{BLANK_NORMS[0]:g} {BLANK_NORMS[1]:g} [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="log what the stages say")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    level = logging.INFO if arguments.verbose else logging.ERROR
    logging.basicConfig(level=level, stream=sys.stderr, format="%(message)s")
    remember_xspec()
    began = time.perf_counter()
    scene = make_scene(
        arguments.kt, source_over_background=arguments.source_over_background, edge_arcmin=arguments.edge_arcmin,
        sky_norms=tuple(arguments.sky_norms), core_arcmin=arguments.core_arcmin,
    )  # fmt: skip
    fields = []
    for seed in range(arguments.seed, arguments.seed + arguments.fields):
        fields.append(one_field(seed, scene, arguments))
        print(f"field {seed} done, {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    rows = [
        row
        for variant in arguments.variants
        for row in summarise(variant, [field[variant] for field in fields], arguments.kt)
    ]
    result = {
        "bias": rows, "seed": arguments.seed, "fields": arguments.fields, "seconds": time.perf_counter() - began,
        **environment(),
    }  # fmt: skip
    if arguments.json:
        print(json.dumps(result))
        return
    print(", ".join(f"{key} {value}" for key, value in environment().items()), "\n")
    print(markdown(rows))
    circles = f"{rows[0]['circles']} circles, {arguments.draws} draws each"
    print(f"\n{arguments.fields} fields from seed {arguments.seed}, {circles}; {result['seconds']:.0f} s")


if __name__ == "__main__":
    main()
