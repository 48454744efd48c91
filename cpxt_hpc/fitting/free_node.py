"""With the temperature at a node: the minimum over abundance and one norm, and what it tells of other temperatures."""

from __future__ import annotations

import numpy as np

from cpxt_hpc.fitting.free_problem import ABUNDANCE, LOWER, NORM, UPPER, Problem, is_poisson, row_rates
from cpxt_hpc.fitting.statistics import CSTAT, dot, value_of_model, weigh_model
from cpxt_hpc.science.compiled import REASSOCIATE, compiled

MAX_STEPS = 300
CONVERGED = 1e-9
"""Squared decrement of the last step: what is left after it is of the order of the square."""


@compiled(part=True)
def node_minimum(problem: Problem, column: int, k: int, place: np.ndarray) -> tuple[float, float, float]:
    """Minimise over the norm, one for all groups, and the abundance if it is free.

    Parameters
    ----------
    problem : Problem
    column, k : int
        Folded hydrogen column and temperature node.
    place : ndarray of float64, shape (n_parameters,)
        Where to start; gets the abundance and the norms.

    Returns
    -------
    value : float
        The statistic.
    dual, pulled : float
        At the model M that was weighed last: the statistic minus the derivative along M, and sum(pull M).

    Notes
    -----
    Newton's method in the amplitudes p, q >= 0 of the vectors at the lowest and the highest abundance. A step is halved
    while the slope along it has turned upwards at its end by more than half: by convexity, the statistic then goes
    down.
    """
    row = 2 * column * problem.box.n_nodes + k
    plain, metals = row_rates(problem, row), row_rates(problem, row + problem.box.n_nodes)
    total_plain = total_metals = 0.0
    for g in range(len(problem.box.share)):
        total_plain += problem.totals[g, row]
        total_metals += problem.totals[g, row + problem.box.n_nodes]
    low, high = problem.box.bounds[LOWER, ABUNDANCE], problem.box.bounds[UPPER, ABUNDANCE]
    both = high > low
    q = place[NORM] * (place[ABUNDANCE] - low) / (high - low) if both else 0.0
    p = place[NORM] - q
    from_p, from_q, step_p, step_q, length, decrement = p, q, 0.0, 0.0, 0.0, 0.0
    zero_seen = False
    value = dual = pulled = np.nan
    for _ in range(MAX_STEPS):
        on_metals = p * low + q * high
        on_plain = p + q - on_metals
        tp, tm, pp, pm, mm = _weigh_two(problem.spectra, problem.model, on_plain, on_metals, plain, metals)
        slope_plain, slope_metals = 2.0 * (total_plain - tp), 2.0 * (total_metals - tm)
        slope_p = (1.0 - low) * slope_plain + low * slope_metals
        slope_q = (1.0 - high) * slope_plain + high * slope_metals
        at_zero = p + q == 0.0
        nothing = at_zero and slope_p >= 0.0 and (slope_q >= 0.0 or not both)
        turned = slope_p * step_p + slope_q * step_q < -0.5 * decrement
        if not nothing and length > 1e-9 and (turned or at_zero):
            zero_seen = zero_seen or at_zero
            length *= 0.5
            p, q = from_p - length * step_p, from_q - length * step_q
            continue
        hpp, hpq, hqq = (
            _product(pp, pm, mm, low, low),
            _product(pp, pm, mm, low, high),
            _product(pp, pm, mm, high, high),
        )
        step_p, step_q = _step(p, q, slope_p, slope_q, hpp, hpq, hqq, both)
        decrement = slope_p * step_p + slope_q * step_q
        length = 1.0
        ends_p, ends_q = step_p > p, False
        if ends_p:
            length = p / step_p
        if step_q * length > q:
            length, ends_p, ends_q = q / step_q, False, True
        done = nothing or not decrement > CONVERGED
        if done:
            here = value_of_model(problem.spectra, on_plain * total_plain + on_metals * total_metals)
            along = p * slope_p + q * slope_q
            dual, pulled = here - along, on_plain * tp + on_metals * tm
            value = here - length * decrement * (1.0 - 0.5 * length)
        from_p, from_q = p, q
        p = 0.0 if ends_p else p - length * step_p
        q = 0.0 if ends_q else q - length * step_q
        if done:
            break
        if p + q == 0.0 and zero_seen:
            length *= 0.9
            p, q = from_p - length * step_p, from_q - length * step_q
    for i in range(NORM, len(place)):
        place[i] = p + q
    if p + q > 0.0 and both:
        place[ABUNDANCE] = low + (high - low) * (q / (p + q))
    return value, dual, pulled


@compiled(part=True)
def raise_bounds(
    problem: Problem, k: int, place: np.ndarray, dual: float, pulled: float, direction: int, bound: np.ndarray
) -> tuple[float, float]:
    """What the pulls at a node's minimum tell of other temperatures.

    Parameters
    ----------
    problem : Problem
        As `node_minimum` left it at node k, with no free parameters but temperature, abundance and one norm.
    k : int
        Node.
    place : ndarray of float64, shape (n_parameters,)
        The minimum there.
    dual, pulled : float
        From `node_minimum`.
    direction : int
        1 or -1 to look at all nodes on this side as well, 0 for the two neighbours alone.
    bound : ndarray of float64, shape (n_nodes - 1,)
        Lower bounds of the statistic in the intervals, which are raised where there is a bound: for cstat and wstat.

    Returns
    -------
    down, up : float
        Derivatives of the statistic in the part of the next lower and the next higher node; 0 at the ends.

    Notes
    -----
    Fenchel's dual of the Poisson likelihood. With the pulls t = S / mu, s t for any 0 < s <= 1 gives

        C(model) >= C_0 + 2 N ln s + 2 (1 - s) sum(t background),  C_0 = C - sum(M dC/dM),

    for every model made of vectors F whose expected counts are at least s sum(t F), N counts in all: ln(x) <= x - 1 in
    every channel, and the sum over the model is not negative. The vectors are those of a node at the lowest and at the
    highest abundance. wstat, less than whose bound this is without the last term, has it by the same reasoning.
    """
    n = problem.box.n_nodes
    counts = 0.0
    bounded = is_poisson(problem.statistic)
    if bounded:
        for observed in problem.spectra.observed:
            counts += observed
    slack = counts - pulled if problem.statistic == CSTAT else 0.0
    pull, totals, bounds = problem.spectra.pull, problem.totals[0], problem.box.bounds[:, ABUNDANCE]
    rows, present = problem.rows, problem.present
    own_part = _reach(pull, rows[k], rows[k + n], totals[k], totals[k + n], bounds, place)[0]
    down = up = 0.0
    for side in range(2):
        step = 2 * side - 1
        last = own_part
        m = k + step
        while 0 <= m < n and (abs(m - k) == 1 or direction == step):
            if not (present[m] and present[m + n]):
                row_rates(problem, m)
                row_rates(problem, m + n)
            part, slope = _reach(pull, rows[m], rows[m + n], totals[m], totals[m + n], bounds, place)
            if m == k - 1:
                down = slope
            elif m == k + 1:
                up = slope
            if bounded:
                s = min(part, last)
                interval = min(m, m - step)
                here = dual + 2.0 * (counts * np.log(s) + (1.0 - s) * slack) if s > 0.0 else -np.inf
                bound[interval] = max(bound[interval], here)
            last = part
            m += step
    return down, up


@compiled(part=True)
def _reach(pull, plain, metals, total_plain, total_metals, bounds, place):
    """The greatest s <= 1 for the two vectors of a node, and the slope of the statistic towards it."""
    pulled_plain, pulled_metals = dot(pull, plain), dot(pull, metals)
    s = 1.0
    for end in range(2):
        abundance = bounds[end]
        total = (1.0 - abundance) * total_plain + abundance * total_metals
        pulled = (1.0 - abundance) * pulled_plain + abundance * pulled_metals
        if pulled > total:
            s = min(s, max(total, 0.0) / pulled)
    slope_plain, slope_metals = 2.0 * (total_plain - pulled_plain), 2.0 * (total_metals - pulled_metals)
    abundance = place[ABUNDANCE]
    return s, place[NORM] * ((1.0 - abundance) * slope_plain + abundance * slope_metals)


@compiled(part=True)
def _step(p, q, slope_p, slope_q, hpp, hpq, hqq, both):
    """Newton's step in the amplitudes that are not held at 0."""
    moves_p = not (p == 0.0 and slope_p >= 0.0) and hpp > 0.0
    moves_q = both and not (q == 0.0 and slope_q >= 0.0) and hqq > 0.0
    if moves_p and moves_q:
        determinant = hpp * hqq - hpq * hpq
        if determinant > 1e-13 * hpp * hqq:
            step_p, step_q = (
                (hqq * slope_p - hpq * slope_q) / determinant,
                (hpp * slope_q - hpq * slope_p) / determinant,
            )
            if not (p == 0.0 and step_p > 0.0) and not (q == 0.0 and step_q > 0.0):
                return step_p, step_q
            moves_p, moves_q = p > 0.0, q > 0.0
        else:  # hardly any difference between the two: let the one that helps more do it
            moves_p = slope_p * slope_p * hqq >= slope_q * slope_q * hpp
            moves_q = not moves_p
    if moves_p:
        return slope_p / hpp, 0.0
    if moves_q:
        return 0.0, slope_q / hqq
    return 0.0, 0.0


@compiled(part=True)
def _product(pp, pm, mm, first, second):
    """Second derivative in the amplitudes of two abundances."""
    return 2.0 * ((1.0 - first) * (1.0 - second) * pp + (first + second - 2.0 * first * second) * pm
                  + first * second * mm)  # fmt: skip


@compiled(fastmath=REASSOCIATE, part=True)
def _weigh_two(spectra, model, on_plain, on_metals, plain, metals):
    """Weigh a mixture of two vectors: sums of the pulls times each, and of the weights times their products."""
    for i in range(len(model)):
        model[i] = on_plain * plain[i] + on_metals * metals[i]
    weigh_model(spectra, model)
    pull, weight = spectra.pull, spectra.weight
    pull_plain = pull_metals = pp = pm = mm = 0.0
    for i in range(len(model)):
        pull_plain += pull[i] * plain[i]
        pull_metals += pull[i] * metals[i]
        weighted = weight[i] * plain[i]
        pp += weighted * plain[i]
        pm += weighted * metals[i]
        mm += weight[i] * metals[i] * metals[i]
    return pull_plain, pull_metals, pp, pm, mm
