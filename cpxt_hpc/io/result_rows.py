"""Rows of fits: put together so that each region is there once, and compared."""

from __future__ import annotations

import logging

import numpy as np

from cpxt_hpc.fitting.results import RESULT_DTYPE

log = logging.getLogger(__name__)


def merged_rows(first: np.ndarray, second: np.ndarray, source: object = "") -> np.ndarray:
    """Both sets of rows, ascending by region; of two rows of a region the first one stays.

    Warns in the log where two rows of a region differ in anything but ``seconds``.
    """
    if len(second) == 0:
        return first
    rows = np.concatenate([first, second])
    order = np.argsort(rows["region"], kind="stable")
    rows = rows[order]
    double = np.zeros(len(rows), dtype=bool)
    double[1:] = rows["region"][1:] == rows["region"][:-1]
    if double.any():
        kept = np.maximum.accumulate(np.where(double, 0, np.arange(len(rows))))[double]
        differing = [
            int(row["region"])
            for row, stays in zip(rows[double], rows[kept], strict=True)
            if bytes_without_seconds(row) != bytes_without_seconds(stays)
        ]
        if differing:
            log.warning(
                "%s: %d regions were fitted twice with different values, first %s; the first fit stays",
                source, len(differing), differing[:5],
            )  # fmt: skip
    return rows[~double]


def rows_of_new_regions(rows: np.ndarray, known: set[int]) -> np.ndarray:
    """The rows whose region number is not among those known."""
    return rows[np.fromiter((region not in known for region in rows["region"].tolist()), bool, len(rows))]


def bytes_without_seconds(rows: np.ndarray) -> bytes:
    """Every column that must be the same in every run, as bytes."""
    rows = np.array(rows, dtype=RESULT_DTYPE)
    rows["seconds"] = 0.0
    return rows.tobytes()
