"""Regions by number: where they stand in the table, whether fits belong to them, and how they are shared out."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.model import RegionTable
from cpxt_hpc.science.maps import belongs_to_resolution


def positions_of(regions: RegionTable, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of regions in the table.

    Parameters
    ----------
    regions : RegionTable
    numbers : ndarray of int
        Region numbers, in any order.

    Returns
    -------
    positions : ndarray of int64
        In the order of ``numbers``, without those unknown.
    unknown : ndarray of int
        Numbers that no region has.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    order = np.argsort(regions.number, kind="stable")
    ascending = np.asarray(regions.number)[order].astype(np.int64)
    place = np.searchsorted(ascending, numbers)
    known = place < len(ascending)
    known[known] = ascending[place[known]] == numbers[known]
    return order[place[known]].astype(np.int64), numbers[~known]


def foreign_rows(regions: RegionTable, rows: np.ndarray) -> np.ndarray:
    """Rows that do not belong to these regions: another number, pixel or radius.

    Returns
    -------
    ndarray of bool, shape of rows
    """
    foreign = np.ones(len(rows), dtype=bool)
    number = np.asarray(regions.number)
    order = np.argsort(number, kind="stable")
    place = np.minimum(np.searchsorted(number[order], rows["region"]), max(len(number) - 1, 0))
    if len(number) == 0:
        return foreign
    place = order[place]
    for column, values in (("region", number), ("iy", regions.iy), ("ix", regions.ix), ("radius", regions.radius)):
        same = rows[column] == np.asarray(values)[place]
        foreign = ~same if column == "region" else foreign | ~same
    return foreign


def share_of(regions: RegionTable, positions: np.ndarray, share: int, shares: int) -> np.ndarray:
    """One of several shares of the work: every region is in one of them.

    Of each resolution all shares hold as many regions, give or take one; they come from all over the map, because
    the time of a fit varies from place to place.

    Parameters
    ----------
    regions : RegionTable
    positions : ndarray of int, shape (n,)
        All that is to be shared out.
    share, shares : int
        Which of how many, from 1 on.

    Returns
    -------
    ndarray of int
    """
    positions = np.asarray(positions, dtype=np.int64)
    iy, ix = np.asarray(regions.iy)[positions], np.asarray(regions.ix)[positions]
    coarse, middle = belongs_to_resolution(iy, ix, 1), belongs_to_resolution(iy, ix, 2)
    # Coarse ones, those of both, middle ones, the rest: each resolution is one stretch of this order.
    kind = np.where(coarse, np.where(middle, 1, 0), np.where(middle, 2, 3))
    return positions[np.argsort(kind, kind="stable")][share - 1 :: shares]
