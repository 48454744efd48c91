"""Flags in words and numbers."""

import numpy as np

from cpxt_hpc.fitting.flags import (
    FEWEST_JOINT_FITS,
    count_flags,
    disagreement_line,
    flag_text,
    flags_line,
    is_flagged,
    median_disagreement,
)
from cpxt_hpc.fitting.results import RESULT_DTYPE, Flag, Status


def rows_of(n, disagreement=np.nan):
    rows = np.zeros(n, dtype=RESULT_DTYPE)
    rows["disagreement"] = disagreement
    return rows


def test_each_flag_has_a_bit_of_its_own():
    bits = [flag.value for flag in Flag if flag]
    assert np.bitwise_or.reduce(bits) == sum(bits)


def test_flags_are_counted_by_bit():
    rows = rows_of(4)
    rows["flags"] = [0, Flag.FEW_COUNTS, Flag.FEW_COUNTS | Flag.POOR_FIT, Flag.NH_UNBOUND]
    assert count_flags(rows) == {"FEW_COUNTS": 2, "POOR_FIT": 1, "NH_UNBOUND": 1}
    assert flags_line(count_flags(rows)) == "flagged: 2 few counts, 1 poor fit, 1 nH unbound"
    assert flags_line(count_flags(rows[:1])) == ""


def test_a_fit_is_flagged_by_its_status_or_a_bit():
    rows = rows_of(3)
    rows["status"][1] = Status.KT_HI_UNBOUND
    rows["flags"][2] = Flag.FEW_COUNTS
    assert is_flagged(rows).tolist() == [False, True, True]


def test_words_keep_the_case_of_names():
    assert flag_text(Flag.FAR_FROM_ARF) == "far from ARF"
    assert flag_text(Flag.NH_AT_BOUND) == "nH at bound"


def test_the_median_needs_enough_joint_fits_with_values():
    rows = rows_of(FEWEST_JOINT_FITS, 2.0)
    assert median_disagreement(rows) == 2.0
    rows["status"][0] = Status.CRASHED
    assert median_disagreement(rows) is None
    assert disagreement_line(None) == ""


def test_a_bad_observation_is_told_by_the_median_of_many_regions():
    assert disagreement_line(0.72) == "observations disagree by 0.7 sigma in the median (0.7 by chance)."
    assert "One of them may be bad" in disagreement_line(1.6)
