"""A sum of weighted logarithms in vector instructions, of which numba's own logarithm makes no use.

The statistic's logarithms take most of the time of a fit. A logarithm is taken apart as in fdlibm's e_log.c:
x = 2^e m with sqrt(1/2) < m < sqrt(2), and ln m = 2 artanh(f), f = (m - 1) / (m + 1), by its series.
"""

from __future__ import annotations

import numpy as np

from cpxt_hpc.science.compiled import REASSOCIATE, compiled

LN_2 = 0.6931471805599453
MANTISSA = np.int64(0x000FFFFFFFFFFFFF)
ONE = np.int64(0x3FF0000000000000)
TWO_TO_52 = np.int64(0x4330000000000000)
EXPONENT_OFFSET = 4503599627370496.0 + 1023.0
"""2^52, which turns an integer in the low bits into a double, and the offset of a double's exponent."""


@compiled(fastmath=REASSOCIATE, part=True)
def weighted_log_sum(weight: np.ndarray, x: np.ndarray) -> float:
    """Sum of weight ln(x).

    Parameters
    ----------
    weight : ndarray of float64, shape (n,)
    x : ndarray of float64, shape (n,)
        Positive, not below the smallest normal number, 2e-308; contiguous. Not checked, but for the next line.

    Returns
    -------
    float
        NaN or infinity where the sum of x is so. Each logarithm is good to 2e-16 of the larger of itself and 1.
    """
    n = len(x)
    exponent = np.empty(n)
    mantissa = np.empty(n)
    bits = x.view(np.int64)
    exponent_bits = exponent.view(np.int64)
    mantissa_bits = mantissa.view(np.int64)
    plain_sum = 0.0
    for i in range(n):
        plain_sum += x[i]
        exponent_bits[i] = (bits[i] >> 52) | TWO_TO_52
        mantissa_bits[i] = (bits[i] & MANTISSA) | ONE
    if not np.isfinite(plain_sum):
        return plain_sum
    total = 0.0
    for i in range(n):
        large = mantissa[i] > 1.4142135623730951
        m = mantissa[i] * 0.5 if large else mantissa[i]
        e = exponent[i] - EXPONENT_OFFSET + (1.0 if large else 0.0)
        f = (m - 1.0) / (m + 1.0)
        f2 = f * f
        series = 1.0 / 21.0
        series = series * f2 + 1.0 / 19.0
        series = series * f2 + 1.0 / 17.0
        series = series * f2 + 1.0 / 15.0
        series = series * f2 + 1.0 / 13.0
        series = series * f2 + 1.0 / 11.0
        series = series * f2 + 1.0 / 9.0
        series = series * f2 + 1.0 / 7.0
        series = series * f2 + 0.2
        series = series * f2 + 1.0 / 3.0
        series = series * f2 + 1.0
        total += weight[i] * (e * LN_2 + 2.0 * f * series)
    return total
