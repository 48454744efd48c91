"""Scripts that fit exported spectra in XSPEC and in Sherpa as they were fitted here."""

from __future__ import annotations

import dataclasses

import numpy as np

import cpxt_hpc
from cpxt_hpc.fitting.settings import FitSettings
from cpxt_hpc.fitting.sherpa_engine import XspecModel

XSPEC_PARAMETERS = {
    "apec": ("kT", "abundance", "redshift", "norm"),
    "nlapec": ("kT", "abundance", "redshift", "norm"),
    "raymond": ("kT", "abundance", "redshift", "norm"),
    "equil": ("kT", "abundance", "redshift", "norm"),
    "bapec": ("kT", "abundance", "redshift", "velocity", "norm"),
    "mekal": ("kT", "density", "abundance", "redshift", "switch", "norm"),
    "zbremss": ("kT", "redshift", "norm"),
}
"""Parameters of the plasma models in XSPEC's order."""

FIXED_VALUES = {"velocity": 0.0, "density": 1.0, "switch": 1.0}

XSPEC_STATISTICS = {
    "cstat": ("statistic pstat", "Poisson data with a known background: the expected one, *_bgmodel.pi."),
    "wstat": ("statistic cstat", "With a background file this is XSPEC's W statistic."),
    "chi2gehrels": (
        "statistic chi\nweight gehrels",
        "XSPEC may weigh the background otherwise than 1 + sqrt(B + 0.75), as the fit here did: small differences.",
    ),
    "chi2datavar": ("statistic chi\nweight standard", "Bins without counts have no error: group the channels."),
    "chi2xspecvar": ("statistic chi\nweight standard", "Bins without counts get the error that XSPEC gives them."),
}
"""Commands for each statistic, and what is to be known of them."""

SHERPA_NAMES = {"abundance": "Abundanc"}


@dataclasses.dataclass(frozen=True)
class ExportedFit:
    """What the scripts are written from.

    Attributes
    ----------
    title : str
        What the spectra are of.
    names : tuple of str
        File names of the spectra without endings; ``.pi``, ``.arf``, ``.rmf``, ``_bg.pi``, ``_bgmodel.pi`` follow.
    model : XspecModel
    settings : FitSettings
    values : dict of str to float
        Best ``kT``, ``abundance``, ``nH`` (finite ones to start from where the fit has none).
    norms : tuple of float
        Norm of each spectrum.
    statistic : float
        At these values.
    kt_range_kev : (float, float)
    """

    title: str
    names: tuple[str, ...]
    model: XspecModel
    settings: FitSettings
    values: dict[str, float]
    norms: tuple[float, ...]
    statistic: float
    kt_range_kev: tuple[float, float]

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        free = [name for name, is_free in (("nH", self.settings.free_nh), ("abundance", self.settings.free_abundance))
                if is_free]  # fmt: skip
        return ("kT", *free, "norm")


def xspec_script(fit: ExportedFit) -> str:
    """Commands for XSPEC: ``xspec - FILE.xcm`` in the folder of the spectra."""
    commands, remark = XSPEC_STATISTICS[fit.settings.statistic]
    ending = "_bgmodel.pi" if fit.settings.statistic == "cstat" else "_bg.pi"
    own_norms = fit.settings.norms_per_observation and len(fit.names) > 1
    groups = [number if own_norms else 1 for number in range(1, len(fit.names) + 1)]
    lines = [
        f"# {fit.title}: for XSPEC 12, started in this folder. Written by cpxt_hpc {cpxt_hpc.__version__}.",
        f"# The fit here: {_found(fit)}",
        f"# {fit.settings.statistic}: {remark}",
        "# Channels outside the fitted band have QUALITY 5 and no counts: they are not in the fit input.",
        "query yes",
        *commands.split("\n"),
        f"abund {fit.model.abundance_table}",
        f"xsect {fit.model.cross_sections}",
        *_xspec_tables(fit.model.apec_root),
        "data "
        + " ".join(
            f"{group}:{number} {name}.pi" for number, (group, name) in enumerate(zip(groups, fit.names, strict=True), 1)
        ),
    ]
    for number, name in enumerate(fit.names, 1):
        lines += [f"response {number} {name}.rmf", f"arf {number} {name}.arf", f"backgrnd {number} {name}{ending}"]
    lines += ["ignore bad", f"model {fit.model.absorption}({fit.model.plasma})"]
    names = ("nH", *XSPEC_PARAMETERS[fit.model.plasma])
    lines += [_xspec_parameter(fit, name, fit.norms[0]) for name in names]
    free = [number for number, name in enumerate(names, 1) if name in fit.free]
    for group, norm in enumerate(fit.norms[1:] if own_norms else (), 1):
        lines += [
            _xspec_parameter(fit, name, norm) if name == "norm" else f"= p{number}"
            for number, name in enumerate(names, 1)
        ]
        free.append((group + 1) * len(names))
    lines += ["method leven 200 1e-8", "fit", f"error {fit.settings.delta_statistic:g} {' '.join(map(str, free))}"]
    return "\n".join(lines) + "\n"


def _xspec_parameter(fit: ExportedFit, name: str, norm: float) -> str:
    """Value, step (negative: frozen) and limits of a parameter, as XSPEC asks for them."""
    if name == "kT":
        low, high = fit.kt_range_kev
        return f"{fit.values['kT']:.10g} 0.01 {low:g} {low:g} {high:g} {high:g}"
    if name == "norm":
        return f"{norm:.10g} {max(0.01 * norm, 1e-12):.3g} 0 0 1e20 1e24"
    fixed = {**FIXED_VALUES, "redshift": fit.model.redshift, **fit.values}
    step = 0.01 if name in fit.free else -0.01
    return f"{fixed[name]:.10g} {step:g}"


def sherpa_script(fit: ExportedFit) -> str:
    """A Python script for Sherpa: ``python FILE.py`` in the folder of the spectra."""
    plasma = {name: value for name, value in {**FIXED_VALUES, "redshift": fit.model.redshift, **fit.values}.items()
              if name in XSPEC_PARAMETERS[fit.model.plasma] and name not in FIXED_VALUES}  # fmt: skip
    own_norms = fit.settings.norms_per_observation and len(fit.names) > 1
    plasmas = [f"plasma{number}" for number in range(1, len(fit.names) + 1)] if own_norms else ["plasma1"]
    lines = [
        f'"""{fit.title}: for Sherpa, started in this folder. Written by cpxt_hpc {cpxt_hpc.__version__}.',
        "",
        f"The fit here: {_found(fit)}",
        '"""',
        "",
        "from pathlib import Path",
        "",
        "from sherpa.astro import ui",
        "",
        f"NAMES = {list(fit.names)!r}",
        "",
        f'ui.set_xsabund("{fit.model.abundance_table}")',
        f'ui.set_xsxsect("{fit.model.cross_sections}")',
        *_sherpa_tables(fit.model.apec_root),
        f'absorption = ui.create_model_component("xs{fit.model.absorption}", "absorption")',
        f"absorption.nH = {fit.values['nH']!r}",
        *([] if fit.settings.free_nh else ["absorption.nH.freeze()"]),
    ]
    for number, name in enumerate(plasmas):
        lines += [f'{name} = ui.create_model_component("xs{fit.model.plasma}", "{name}")']
        if number:
            lines += [f"{name}.{SHERPA_NAMES.get(par, par)} = plasma1.{SHERPA_NAMES.get(par, par)}" for par in plasma]
        else:
            low, high = fit.kt_range_kev
            lines += [f"{name}.kT.min, {name}.kT.max = {low!r}, {high!r}"]
            lines += [f"{name}.{SHERPA_NAMES.get(par, par)} = {value!r}" for par, value in plasma.items()]
            lines += [
                f"{name}.{SHERPA_NAMES.get(par, par)}.{'thaw' if par in fit.free else 'freeze'}()" for par in plasma
            ]
        lines += [f"{name}.norm = {fit.norms[number]!r}"]
    lines += ["", f'ui.set_stat("{fit.settings.statistic}")', f"plasmas = [{', '.join(plasmas)}]"]
    lines += _SHERPA_DATA[_kind(fit.settings.statistic)]
    lines += [
        "",
        f'print(f"statistic at the values found here: {{ui.calc_stat():.10g}}, here it was {fit.statistic:.10g}")',
        "",
        'if __name__ == "__main__":',
        '    ui.set_method("levmar")',
        "    ui.fit()",
        f'    ui.set_conf_opt("sigma", {float(np.sqrt(fit.settings.delta_statistic))!r})',
        "    ui.conf()",
    ]
    return "\n".join(lines) + "\n"


_LOAD = [
    "for number, name in enumerate(NAMES, start=1):",
    '    ui.load_pha(number, f"{name}.pi")  # with the ARF, the RMF and the background that its header names',
    "    ui.ignore_bad(number)",
    "    source = absorption * plasmas[(number - 1) % len(plasmas)]",
]

_SHERPA_DATA = {
    "known": [
        "",
        "",
        "def known_background(name, number):",
        '    """The expected background counts as a model of channels, with a scale that may be thawed."""',
        '    counts = ui.unpack_pha(f"{name}_bgmodel.pi").counts',
        "    # Of all channels, noticed or not: so does the folded source.",
        '    ui.load_user_model(lambda p, *grid: p[0] * counts, f"background{number}")',
        '    ui.add_user_pars(f"background{number}", ["scale"], [1.0], parfrozen=[True])',
        '    return ui.get_model_component(f"background{number}")',
        "",
        "",
        *_LOAD,
        "    folded = ui.get_response(number)(source)",
        "    ui.set_full_model(number, folded + known_background(name, number))",
    ],
    "subtracted": [*_LOAD, "    ui.set_source(number, source)", "    ui.subtract(number)"],
    "profiled": [*_LOAD, "    ui.set_source(number, source)"],
}
"""How the spectra are loaded: with an expected background, with a subtracted one, with one that wstat profiles."""


def _xspec_tables(apec_root: str) -> list[str]:
    """The AtomDB of the fit, where its tables are at hand; XSPEC's own ones elsewhere."""
    if not apec_root:
        return []
    return [f"if {{[file exists {{{apec_root}_line.fits}}]}} {{ xset APECROOT {apec_root} }}"]


def _sherpa_tables(apec_root: str) -> list[str]:
    """As `_xspec_tables`."""
    if not apec_root:
        return []
    return [
        f"if Path({apec_root + '_line.fits'!r}).is_file():  # else XSPEC's own tables",
        f'    ui.set_xsxset("APECROOT", {apec_root!r})',
    ]


def _kind(statistic: str) -> str:
    return {"cstat": "known", "wstat": "profiled"}.get(statistic, "subtracted")


def _found(fit: ExportedFit) -> str:
    values = ", ".join(f"{name} = {fit.values[name]:.6g}" for name in fit.free if name in fit.values)
    norms = ", ".join(f"{norm:.6g}" for norm in fit.norms)
    return f"{values}, norm = {norms}, {fit.settings.statistic} = {fit.statistic:.8g}"
