"""The fit of a spectrum as JSON and as lines for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

import cpxt_hpc
from cpxt_hpc.fitting.results import RESULT_DTYPE, Flag, Status

PLACE_COLUMNS = ("region", "iy", "ix", "radius", "observations_used")
"""Columns that say where on a map a region lies; spectra of files have no such place."""


def result_values(row: np.ndarray, *, with_place: bool = True) -> dict[str, object]:
    """A row of results as JSON has it: the columns of ``/results``, status and flags by name, NaN as null.

    Parameters
    ----------
    row : ndarray of RESULT_DTYPE, shape ()
    with_place : bool
        With the columns that say where on a map the region lies.

    Returns
    -------
    dict
        ``status`` is the name, ``status_code`` the number that ``/results`` holds; ``flags`` is a list of names,
        ``flag_bits`` the number.
    """
    names = [name for name in RESULT_DTYPE.names if with_place or name not in PLACE_COLUMNS]
    values = {name: _finite(row[name].item()) for name in names}
    values["status_code"], values["status"] = values["status"], Status(values["status"]).name
    values["flag_bits"], values["flags"] = values["flags"], [flag.name for flag in Flag if flag & values["flags"]]
    return values


def report(
    results: Mapping[str, dict[str, object]],
    observations: Sequence[dict[str, object]],
    settings: Mapping[str, object],
    versions: Mapping[str, str],
) -> dict[str, object]:
    """Everything about a fit, ready for `json.dump`.

    Parameters
    ----------
    results : mapping of str to dict
        `result_values` by engine; those of the first one stand at the top.
    observations : sequence of dict
        What is to be said of each spectrum.
    settings, versions : mapping

    Returns
    -------
    dict
    """
    first = next(iter(results))
    return {
        **results[first],
        "engine": first,
        **({"engines": dict(results)} if len(results) > 1 else {}),
        "observations": list(observations),
        "settings": dict(settings),
        "versions": {"cpxt_hpc": cpxt_hpc.__version__, **versions},
    }


def result_lines(values: Mapping[str, object], free: str = "none") -> list[str]:
    """A fit as a person reads it.

    Parameters
    ----------
    values : mapping
        As `result_values` gives them.
    free : str
        Which of abundance and nH are free, comma separated.

    Returns
    -------
    list of str
        The parameters; how good the fit is.
    """
    first = (
        f"kT {_number(values['kT'], '.3f')} keV ({_interval(values, 'kT', '.3f')}), "
        f"norm {_number(values['norm'], '.4g')} ({_interval(values, 'norm', '.4g')})"
    )
    units = {"abundance": "solar", "nH": "10^22 cm^-2"}
    further = [
        f"{name} {_number(values[name], '.3g')} {unit} ({_interval(values, name, '.3g')})"
        for name, unit in units.items()
        if name in free.split(",")
    ]
    last = (
        f"statistic {_number(values['stat'], '.2f')} for {values['dof']} degrees of freedom"
        + _expectation(values)
        + f", {_number(values['net_counts'], '.0f')} net counts, {values['status']}"
        + (f" ({', '.join(values['flags'])})" if values["flags"] else "")
    )
    return [", ".join([first, *further]), last]


def _expectation(values: Mapping[str, object]) -> str:
    if values["stat_expected"] is None or values["stat_sigma"] is None:
        return ""
    return f" (expected {values['stat_expected']:.1f} +- {values['stat_sigma']:.1f})"


def _interval(values: Mapping[str, object], name: str, form: str) -> str:
    return f"{_number(values[f'{name}_lo'], form)} to {_number(values[f'{name}_hi'], form)}"


def _number(value: object, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _finite(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value
