"""The statistic and its derivatives at any temperature, abundance, hydrogen column and norms.

In a group of channels the model is

    norm [(1 - u) ((1 - Z) F_0k + Z F_1k) + u ((1 - Z) F_0(k+1) + Z F_1(k+1))],

F_0k and F_1k the folded node k at abundance 0 and 1, at the hydrogen column.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from cpxt_hpc.fitting.free_nh import column_weights
from cpxt_hpc.fitting.free_problem import (
    ABUNDANCE,
    BEND,
    EXPECTED,
    KT,
    NH,
    NORM,
    SLOPE,
    Problem,
    group_norm,
    row_rates,
)
from cpxt_hpc.fitting.statistics import value_of_model, weigh_model
from cpxt_hpc.science.compiled import REASSOCIATE, compiled


@compiled(part=True)
def statistic_here(problem: Problem, total: float) -> float:
    """The statistic at the point that `evaluate` saw last, which returned `total`."""
    return value_of_model(problem.spectra, total)


@compiled(part=True)
def evaluate(problem: Problem, k: int, place: np.ndarray) -> float:
    """Weigh the model at a point in interval k, and set ``problem.box.steps[SLOPE]`` and ``problem.box.squares`` there.

    Returns
    -------
    float
        What `statistic_here` wants: the sum of the terms that are linear in the model.
    """
    u, metals = place[KT] - k, place[ABUNDANCE]
    a, b, c, d = corners(problem, k, place)
    corner_totals = problem.corner_totals
    slope, expected, bend = problem.box.steps[SLOPE], problem.box.squares[EXPECTED], problem.box.squares[BEND]
    for i in range(len(place)):
        slope[i] = 0.0
        for j in range(len(place)):
            expected[i, j] = bend[i, j] = 0.0
    total = 0.0
    for g in range(len(problem.box.share)):
        norm = group_norm(problem.box, place, g)
        t, own = corner_totals[0, g], slice(problem.start[g], problem.start[g + 1])
        _set_model(problem.model[own], norm, u, metals, a[own], b[own], c[own], d[own])
        total += norm * _mixed(t[0], t[1], t[2], t[3], u, metals)[0]
    weigh_model(problem.spectra, problem.model)
    pull, weight = problem.spectra.pull, problem.spectra.weight
    for g in range(len(problem.box.share)):
        norm = group_norm(problem.box, place, g)
        t, own = corner_totals[0, g], slice(problem.start[g], problem.start[g + 1])
        pulled, weighted = _mixture_sums(pull[own], weight[own], u, metals, a[own], b[own], c[own], d[own])
        shape, by_u, by_metals, by_both = _mixed(t[0], t[1], t[2], t[3], u, metals)
        slope_u, slope_metals = 2.0 * (by_u - pulled[1]), 2.0 * (by_metals - pulled[2])
        slope[KT] += norm * slope_u
        slope[ABUNDANCE] += norm * slope_metals
        twice, square = 2.0 * norm, 2.0 * norm * norm
        expected[KT, KT] += square * weighted[3]
        expected[KT, ABUNDANCE] += square * weighted[4]
        expected[ABUNDANCE, ABUNDANCE] += square * weighted[5]
        bend[KT, ABUNDANCE] += twice * (by_both - pulled[3])
        own_slope = 2.0 * (shape - pulled[0])
        own_norm, mixed_u, mixed_metals = 2.0 * weighted[0], twice * weighted[1], twice * weighted[2]
        slope_h, mixed_h = add_column(problem, g, u, metals, norm)
        for i in range(NORM, len(place)):
            lever = _lever(problem, g, i)
            if lever != 0.0:
                slope[i] += lever * own_slope
                expected[KT, i] += lever * mixed_u
                expected[ABUNDANCE, i] += lever * mixed_metals
                expected[NH, i] += lever * mixed_h
                bend[KT, i] += lever * slope_u
                bend[ABUNDANCE, i] += lever * slope_metals
                bend[NH, i] += lever * slope_h
                for j in range(i, len(place)):
                    expected[i, j] += lever * _lever(problem, g, j) * own_norm
    for i in range(len(place)):
        for j in range(i):
            expected[i, j], bend[i, j] = expected[j, i], bend[j, i]
    return total


@compiled(part=True)
def _lever(problem, g, i):
    """By how much the norm of a group moves with parameter i, one of the norms."""
    if len(problem.box.share) == 1:
        return 1.0
    if g != problem.box.leading:
        return 1.0 if i == NORM + g + (g < problem.box.leading) else 0.0
    if i == NORM:
        return 1.0 / problem.box.share[g]
    other = i - NORM - 1
    other += other >= g
    return -problem.box.share[other] / problem.box.share[g]


@compiled(part=True)
def _mixed(a, b, c, d, u, metals):
    """A mixture of four values, and its derivatives in u, in the abundance and in both."""
    low, high = a + metals * (b - a), c + metals * (d - c)
    by_u, by_both = high - low, (d - c) - (b - a)
    return low + u * by_u, by_u, (b - a) + u * by_both, by_both


@compiled(fastmath=REASSOCIATE, part=True)
def _set_model(model, norm, u, metals, a, b, c, d):
    part_a, part_b = norm * (1.0 - u) * (1.0 - metals), norm * (1.0 - u) * metals
    part_c, part_d = norm * u * (1.0 - metals), norm * u * metals
    for i in range(len(model)):
        model[i] = part_a * a[i] + part_b * b[i] + part_c * c[i] + part_d * d[i]


@compiled(fastmath=REASSOCIATE, part=True)
def _mixture_sums(pull, weight, u, metals, a, b, c, d):
    """Sums over channels of the pull times the mixture and its derivatives, and of the weight times their products."""
    pull_f = pull_u = pull_z = pull_uz = 0.0
    ff = fu = fz = uu = uz = zz = 0.0
    for i in range(len(pull)):
        metals_low, metals_high = b[i] - a[i], d[i] - c[i]
        low = a[i] + metals * metals_low
        by_u = c[i] + metals * metals_high - low
        by_both = metals_high - metals_low
        f, by_z = low + u * by_u, metals_low + u * by_both
        pull_f += pull[i] * f
        pull_u += pull[i] * by_u
        pull_z += pull[i] * by_z
        pull_uz += pull[i] * by_both
        weighted_f, weighted_u = weight[i] * f, weight[i] * by_u
        ff += weighted_f * f
        fu += weighted_f * by_u
        fz += weighted_f * by_z
        uu += weighted_u * by_u
        uz += weighted_u * by_z
        zz += weight[i] * by_z * by_z
    return (pull_f, pull_u, pull_z, pull_uz), (ff, fu, fz, uu, uz, zz)


def corners(problem, k, place):
    """Vectors of an interval: nodes k and k + 1 with abundances 0 and 1, at the hydrogen column; sets their totals."""
    raise NotImplementedError("only compiled functions call this one")


def add_column(problem, g, u, metals, norm):
    """Add a group's part to the derivatives in the hydrogen column; return those that concern the group's norm."""
    raise NotImplementedError("only compiled functions call this one")


def _is_frozen(problem: types.Type) -> bool:
    return isinstance(problem.types[problem.fields.index("vectors")], types.NoneType)


@overload(corners, inline="always")
def _corners_of(problem, k, place):
    kernel = _folded_corners if _is_frozen(problem) else _corners_between_columns
    return lambda problem, k, place: kernel(problem, k, place)


@overload(add_column, inline="always")
def _add_column_of(problem, g, u, metals, norm):
    if _is_frozen(problem):
        return lambda problem, g, u, metals, norm: (0.0, 0.0)
    return lambda problem, g, u, metals, norm: _add_column(problem, g, u, metals, norm)


@compiled(part=True)
def _folded_corners(problem, k, place):
    n_nodes, present, rows = problem.box.n_nodes, problem.present, problem.rows
    if not (present[k] and present[n_nodes + k] and present[k + 1] and present[n_nodes + k + 1]):
        for corner in range(4):
            row_rates(problem, (corner % 2) * n_nodes + k + corner // 2)
    totals, of_rows = problem.corner_totals, problem.totals
    for g in range(len(of_rows)):
        for corner in range(4):
            totals[0, g, corner] = of_rows[g, (corner % 2) * n_nodes + k + corner // 2]
    return rows[k], rows[n_nodes + k], rows[k + 1], rows[n_nodes + k + 1]


@compiled(part=True)
def _corners_between_columns(problem, k, place):
    first, weights = column_weights(problem.nh_nodes, place[NH])
    totals = problem.corner_totals
    totals[:] = 0.0
    vectors = problem.vectors
    for corner in range(4):
        for i in range(weights.shape[1]):
            row = ((first + i) * 2 + corner % 2) * problem.box.n_nodes + k + corner // 2
            rates = row_rates(problem, row)
            for order in range(3):
                _accumulate(vectors[order, corner], weights[order, i], rates, i == 0)
                for g in range(len(problem.box.share)):
                    totals[order, g, corner] += weights[order, i] * problem.totals[g, row]
    return vectors[0, 0], vectors[0, 1], vectors[0, 2], vectors[0, 3]


@compiled(part=True)
def _accumulate(target, weight, row, is_first):
    if is_first:
        for i in range(len(row)):
            target[i] = weight * row[i]
    else:
        for i in range(len(row)):
            target[i] += weight * row[i]


@compiled(part=True)
def _add_column(problem, g, u, metals, norm):
    spectra, vectors = problem.spectra, problem.vectors
    own = slice(problem.start[g], problem.start[g + 1])
    pulled, weighted = _column_sums(
        spectra.pull[own], spectra.weight[own], u, metals, vectors[0, :, own], vectors[1, :, own], vectors[2, :, own]
    )
    t, s = problem.corner_totals[1, g], problem.corner_totals[2, g]
    by_h, by_uh, by_zh, _ = _mixed(t[0], t[1], t[2], t[3], u, metals)
    by_hh = _mixed(s[0], s[1], s[2], s[3], u, metals)[0]
    slope, expected, bend = problem.box.steps[SLOPE], problem.box.squares[EXPECTED], problem.box.squares[BEND]
    slope_h, twice, square = 2.0 * (by_h - pulled[0]), 2.0 * norm, 2.0 * norm * norm
    slope[NH] += norm * slope_h
    expected[KT, NH] += square * weighted[1]
    expected[ABUNDANCE, NH] += square * weighted[2]
    expected[NH, NH] += square * weighted[3]
    bend[KT, NH] += twice * (by_uh - pulled[1])
    bend[ABUNDANCE, NH] += twice * (by_zh - pulled[2])
    bend[NH, NH] += twice * (by_hh - pulled[3])
    return slope_h, twice * weighted[0]


@compiled(fastmath=REASSOCIATE, part=True)
def _column_sums(pull, weight, u, metals, plain, first, second):
    """As `_mixture_sums`, for the derivatives in the hydrogen column."""
    pull_h = pull_uh = pull_zh = pull_hh = 0.0
    fh = uh = zh = hh = 0.0
    for i in range(len(pull)):
        f, by_u, by_z, _ = _mixed(plain[0, i], plain[1, i], plain[2, i], plain[3, i], u, metals)
        by_h, by_uh, by_zh, _ = _mixed(first[0, i], first[1, i], first[2, i], first[3, i], u, metals)
        by_hh = _mixed(second[0, i], second[1, i], second[2, i], second[3, i], u, metals)[0]
        pull_h += pull[i] * by_h
        pull_uh += pull[i] * by_uh
        pull_zh += pull[i] * by_zh
        pull_hh += pull[i] * by_hh
        weighted = weight[i] * by_h
        fh += weighted * f
        uh += weighted * by_u
        zh += weighted * by_z
        hh += weighted * by_h
    return (pull_h, pull_uh, pull_zh, pull_hh), (fh, uh, zh, hh)
