"""Regions by number: where they stand in the table, and whether fits belong to them."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.model import RegionTable


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
