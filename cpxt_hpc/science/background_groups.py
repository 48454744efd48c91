"""Which CCDs share a background level and a spectral shape.

Front-illuminated chips see nearly the same particle background, but their fluorescence lines and levels differ by
some per cent: each has a level of its own, and a template of its own, where its counts suffice.
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
    level_ccds, shape_ccds : tuple of int
        CCDs whose counts set the level, and those that set the template: these, or all of their detector group.
    """

    name: str
    ccds: tuple[int, ...]
    level_ccds: tuple[int, ...]
    shape_ccds: tuple[int, ...]


def detector_groups(ccds: tuple[int, ...]) -> tuple[BackgroundGroup, ...]:
    """Front-illuminated chips together, each back-illuminated one alone; in the order of their first CCD."""
    return mixed_groups(ccds, (), ())


def ccd_groups(ccds: tuple[int, ...]) -> tuple[BackgroundGroup, ...]:
    """Each CCD alone."""
    return mixed_groups(ccds, ccds, ccds)


def mixed_groups(
    ccds: tuple[int, ...], own_level: Container[int], own_shape: Container[int]
) -> tuple[BackgroundGroup, ...]:
    """CCDs alone where their counts suffice for a level; what does not suffice is that of the whole detector group.

    Parameters
    ----------
    ccds : tuple of int
        CCDs in use.
    own_level, own_shape : container of int
        Those with counts enough for a level of their own, and for a template.

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
        together = tuple(ccd for ccd in members if ccd not in own_level)
        if len(members) == 1 or together == members:
            groups.append(BackgroundGroup(name, members, members, members))
            continue
        groups += [
            BackgroundGroup(f"CCD{ccd}", (ccd,), (ccd,), (ccd,) if ccd in own_shape else members)
            for ccd in members
            if ccd in own_level
        ]
        if together:
            groups.append(BackgroundGroup(name, together, members, members))
    return tuple(sorted(groups, key=lambda group: group.ccds[0]))


def group_spectra(
    pi: np.ndarray, ccd_id: np.ndarray, weights: np.ndarray, groups: tuple[BackgroundGroup, ...], n_channels: int
) -> dict[str, np.ndarray]:
    """Weighted spectrum of the CCDs that shape each group over channels 1 to `n_channels`, at index 0 onwards."""
    spectra = {}
    for group in groups:
        own = np.isin(ccd_id, group.shape_ccds)
        counts = np.bincount(pi[own], weights=weights[own], minlength=n_channels + 1)
        spectra[group.name] = counts[1 : n_channels + 1]
    return spectra
