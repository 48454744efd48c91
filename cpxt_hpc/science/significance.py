"""The probability of a chi-square, told as Gaussian sigma: right far into the tail, where probabilities underflow."""

from __future__ import annotations

import math

from cpxt_hpc.science.compiled import compiled

MAX_CHI_SQUARE = 1e8
"""Beyond this, 10,000 sigma, the answer stays the same."""
_ASYMPTOTIC_FROM = 5.0
"""From here on 40 terms of the continued fraction are exact to the last digit, and erfc is far from underflow below."""


@compiled(part=True)
def _scaled_erfc(x: float) -> float:
    """The complementary error function times exp(x^2), for x >= 0."""
    if x < _ASYMPTOTIC_FROM:
        return math.exp(x * x) * math.erfc(x)
    fraction = x  # Abramowitz & Stegun 7.1.14
    for n in range(40, 0, -1):
        fraction = x + 0.5 * n / fraction
    return 1.0 / (fraction * math.sqrt(math.pi))


@compiled
def gaussian_sigma(chi_square: float, dof: int) -> float:
    """Deviation of a Gaussian, to either side, that is as unlikely as a chi-square of this size or larger.

    Parameters
    ----------
    chi_square : float
        Values below 0, which rounding may give, count as 0.
    dof : int
        Degrees of freedom.

    Returns
    -------
    float
        For one degree of freedom the square root of chi_square. NaN where dof is 0 or chi_square is NaN.

    Notes
    -----
    The tail of chi-square is a finite sum: exp(-y) sum(y^i / i!), y = chi_square / 2, for an even number of degrees of
    freedom; with half-integer powers and erfc(sqrt(y)) for an odd one (Abramowitz & Stegun 26.4.4 and 26.4.5).
    """
    if dof < 1 or math.isnan(chi_square):
        return math.nan
    y = 0.5 * min(max(chi_square, 0.0), MAX_CHI_SQUARE)
    if dof % 2 == 0:
        term, tail = 1.0, 1.0
        for i in range(1, dof // 2):
            term *= y / i
            tail += term
    else:
        tail = _scaled_erfc(math.sqrt(y))
        term = 2.0 * math.sqrt(y / math.pi)
        for i in range(1, (dof + 1) // 2):
            tail += term
            term *= y / (i + 0.5)
    # Solve erfc(z / sqrt 2) = tail exp(-y): its logarithm is concave, Newton's method closes in from above.
    target = y - math.log(tail)
    if not target > 0.0:
        return 0.0
    z = math.sqrt(2.0 * target)
    for _ in range(60):
        scaled = _scaled_erfc(z * math.sqrt(0.5))
        step = (0.5 * z * z - math.log(scaled) - target) * scaled * math.sqrt(0.5 * math.pi)
        z -= step
        if abs(step) <= 1e-12 * z:
            break
    return max(z, 0.0)
