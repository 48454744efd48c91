"""Which CCDs share a background level and a spectral shape.

Front-illuminated chips see nearly the same particle background, but their fluorescence lines and levels differ by
some per cent: each has a template and a level of its own where its blank sky holds enough counts for both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container

import numpy as np

from cpxt_hpc.science.events import detector_group


@dataclasses.dataclass(frozen=True)
class BackgroundGroup:
    """CCDs with one background level and one spectral template.

    Attributes
    ----------
    name : str
        Detector group (``FI``, ``BI5``, ``BI7``), or ``CCD0`` and so on.
    ccds : tuple of int
        CCDs whose background it describes, ascending.
    counted : tuple of int
        CCDs whose counts set level and template: these, or all of their detector group.
    """

    name: str
    ccds: tuple[int, ...]
    counted: tuple[int, ...]


def detector_groups(ccds: tuple[int, ...]) -> tuple[BackgroundGroup, ...]:
    """Front-illuminated chips together, each back-illuminated one alone; in the order of their first CCD."""
    return mixed_groups(ccds, ())


def ccd_groups(ccds: tuple[int, ...]) -> tuple[BackgroundGroup, ...]:
    """Each CCD alone."""
    return mixed_groups(ccds, ccds)


def mixed_groups(ccds: tuple[int, ...], alone: Container[int]) -> tuple[BackgroundGroup, ...]:
    """Some CCDs alone; the others take level and template of their whole detector group.

    Parameters
    ----------
    ccds : tuple of int
        CCDs in use.
    alone : container of int
        Those that suffice by themselves.

    Returns
    -------
    tuple of BackgroundGroup
        In the order of their first CCD.
    """
    whole: dict[str, tuple[int, ...]] = {}
    for ccd in sorted(ccds):
        whole[detector_group(ccd)] = (*whole.get(detector_group(ccd), ()), ccd)
    groups = []
    for name, members in whole.items():
        together = tuple(ccd for ccd in members if ccd not in alone)
        if len(members) == 1 or together == members:
            groups.append(BackgroundGroup(name, members, members))
            continue
        groups += [BackgroundGroup(f"CCD{ccd}", (ccd,), (ccd,)) for ccd in members if ccd in alone]
        if together:
            groups.append(BackgroundGroup(name, together, members))
    return tuple(sorted(groups, key=lambda group: group.ccds[0]))


def group_spectra(
    pi: np.ndarray, ccd_id: np.ndarray, weights: np.ndarray, groups: tuple[BackgroundGroup, ...], n_channels: int
) -> dict[str, np.ndarray]:
    """Weighted spectrum of the counted CCDs of each group over channels 1 to `n_channels`, at index 0 onwards."""
    spectra = {}
    for group in groups:
        own = np.isin(ccd_id, group.counted)
        counts = np.bincount(pi[own], weights=weights[own], minlength=n_channels + 1)
        spectra[group.name] = counts[1 : n_channels + 1]
    return spectra
