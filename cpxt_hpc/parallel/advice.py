"""How many processes make sense for a job: a model of its duration, checked against the simulated scheduler."""

from __future__ import annotations

import dataclasses

import numpy as np

from cpxt_hpc.parallel.progress import duration
from cpxt_hpc.parallel.scheduler import HAND_OUT_S, LONGEST_CHUNK_S, LONGEST_ROUNDS

COLLECT_S = 5e-6
"""What a result costs the master, the chunk that it comes in aside: it is decoded, noted and written to the journal."""

START_S = 5.0
"""From the launch to the first fit, where compiled functions are in the cache: interpreter, libraries, MPI."""

NOTHING = 0.05
"""Relative gain of time that is none ..."""

NOTHING_S = 1.0
"""... and the absolute one [s]."""

STEPS_PER_DECADE = 60


@dataclasses.dataclass(frozen=True)
class Advice:
    """How many ranks to ask for.

    Attributes
    ----------
    regions : int
    core_seconds : float
        Estimated time of all fits on one core.
    sensible_ranks : int
        With so many the fits take no longer than their start, or more would gain nothing.
    useful_ranks : int
        Beyond them nothing is gained: the one that hands out cannot feed more, or the longest fit is waited for.
    shortest_s : float
        Estimated time of the fits with ``useful_ranks``.
    """

    regions: int
    core_seconds: float
    sensible_ranks: int
    useful_ranks: int
    shortest_s: float


def duration_s(n_regions: int, core_seconds: float, longest_s: float, workers: np.ndarray) -> np.ndarray:
    """Time from the first fit to the last result [s].

    Parameters
    ----------
    n_regions : int
    core_seconds : float
        Time of all fits on one core [s].
    longest_s : float
        Of the longest one [s].
    workers : ndarray of int

    Returns
    -------
    ndarray of float64, shape of workers
        The longest of three: the workers' share in whole regions, the longest fit, and the master's work for chunks and
        results; and the round in which every worker gets its first chunk.
    """
    workers = np.asarray(workers, dtype=float)
    chunk_s = np.maximum(LONGEST_CHUNK_S, LONGEST_ROUNDS * HAND_OUT_S * workers)
    chunks = np.minimum(core_seconds / chunk_s + workers, n_regions)
    master_s = COLLECT_S * n_regions + HAND_OUT_S * chunks
    work_s = np.maximum(np.ceil(n_regions / workers) * (core_seconds / n_regions), longest_s)
    return np.maximum(work_s, master_s) + HAND_OUT_S * np.minimum(workers, n_regions)


def advise(estimated_seconds: np.ndarray) -> Advice:
    """How many ranks make sense for regions of these estimated times [s].

    Parameters
    ----------
    estimated_seconds : ndarray of float64, shape (n_regions,)
    """
    n_regions = len(estimated_seconds)
    if n_regions == 0:
        return Advice(0, 0.0, 1, 1, 0.0)
    core_seconds, longest_s = float(np.sum(estimated_seconds)), float(np.max(estimated_seconds))
    decades = np.log10(n_regions)
    workers = np.unique(np.rint(np.logspace(0.0, decades, int(STEPS_PER_DECADE * decades) + 1)).astype(np.int64))
    times = duration_s(n_regions, core_seconds, longest_s, workers)
    shortest = float(times.min())
    useful = _first(workers, times <= shortest + max(NOTHING * shortest, NOTHING_S))
    sensible = min(_first(workers, times <= max(START_S, shortest) * (1.0 + NOTHING)), useful)
    useful_s = float(duration_s(n_regions, core_seconds, longest_s, np.array([useful]))[0])
    return Advice(n_regions, core_seconds, _ranks(sensible), _ranks(useful), useful_s)


def advice_line(advice: Advice) -> str:
    """For example ``90,000 regions are about 25 s of fits on one core: 6 ranks make sense, beyond 8 nothing is
    gained``.

    The times are those of fits; starting comes on top.
    """
    ranks = f"{advice.sensible_ranks:,} rank{' makes' if advice.sensible_ranks == 1 else 's make'} sense"
    regions = f"{advice.regions:,} region{' is' if advice.regions == 1 else 's are'}"
    return (
        f"{regions} about {duration(advice.core_seconds)} of fits on one core: {ranks}, "
        f"beyond {advice.useful_ranks:,} nothing is gained"
    )


def _first(workers: np.ndarray, enough: np.ndarray) -> int:
    return int(workers[np.argmax(enough)])


def _ranks(workers: int) -> int:
    """One worker needs nobody who hands out."""
    return workers + 1 if workers > 1 else 1
