"""Flags of fits, counted and put into words."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.results import FIRST_STATUS_WITHOUT_VALUES, Flag, Status

CHANCE_DISAGREEMENT = 0.67
"""Median of the disagreement of consistent observations: half of a Gaussian lies within so many sigma."""
SUSPECT_DISAGREEMENT = 1.3
"""A median above this, over many regions, tells of a bad observation before single regions are flagged. Simulated for
one bad of two or three, 2500 counts a region: a background 30 % too low gives 2.3 to 3.1 where it is half of the counts
but 0.9, as good as nothing, where it is a tenth; 15 % of effective area 1.5 to 3.1; 5 % of gain 0.8 to 1.6."""
FEWEST_JOINT_FITS = 20
"""Fits of several observations that a median is taken of."""


def flag_text(flag: Flag) -> str:
    """A flag in words: ``few counts``, ``nH at bound``."""
    return flag.name.replace("_", " ").lower().replace("arf", "ARF").replace("nh ", "nH ")


def is_flagged(rows: np.ndarray) -> np.ndarray:
    """Whether each fit has a status other than OK, or a flag; bool, shape (n,)."""
    return (rows["status"] != Status.OK) | (rows["flags"] != 0)


def count_flags(rows: np.ndarray) -> dict[str, int]:
    """Number of rows with each flag that any row has, by the flag's name, in the order of the bits."""
    numbers = {flag.name: int(np.count_nonzero(rows["flags"] & flag.value)) for flag in Flag if flag}
    return {name: number for name, number in numbers.items() if number}


def flags_line(counted: dict[str, int]) -> str:
    """From `count_flags` ``flagged: 12 few counts, 3 observations disagree``; empty where there are none."""
    told = [f"{number:,} {flag_text(Flag[name])}" for name, number in counted.items()]
    return f"flagged: {', '.join(told)}" if told else ""


def median_disagreement(rows: np.ndarray) -> float | None:
    """Median disagreement of the joint fits with values [sigma]; None where there are too few to tell."""
    values = rows["disagreement"][rows["status"] < FIRST_STATUS_WITHOUT_VALUES]
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) >= FEWEST_JOINT_FITS else None


def disagreement_line(median: float | None) -> str:
    """What the disagreements of all joint fits together tell, from `median_disagreement`; empty where it is None."""
    if median is None:
        return ""
    verdict = " One of them may be bad: see the map disagreement." if median > SUSPECT_DISAGREEMENT else ""
    return f"observations disagree by {median:.1f} sigma in the median ({CHANCE_DISAGREEMENT:.1f} by chance).{verdict}"
