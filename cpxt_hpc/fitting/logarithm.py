"""Logarithms in vector instructions, of which numba's own logarithm makes no use.

The statistic's logarithms take much of the time of a fit. A logarithm is taken apart as in every C library:
x = 2^e m with sqrt(1/2) <= m < sqrt(2), and ln m = 2 artanh(f), f = (m - 1) / (m + 1), by a polynomial in f^2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from cpxt_hpc.science.compiled import REASSOCIATE, compiled

LN_2 = 0.6931471805599453
MANTISSA_BITS, EXPONENT_BIAS = 52, 1023
TO_ONE = 0x3FF0000000000000 - 0x3FE6A09E667F3BCD
"""Difference of the bits of 1 and of sqrt(1/2): added to those of a number, it splits them at m = sqrt(1/2)."""


@intrinsic
def _exponent(_context: Any, _x: Any) -> tuple:
    """The exponent e of a positive number, as a double."""

    def generate(_, builder, __, arguments):
        shifted = builder.lshr(_shifted_bits(builder, arguments[0]), ir.Constant(ir.IntType(64), MANTISSA_BITS))
        narrow = ir.IntType(32)  # AVX2 turns 32-bit integers into doubles, but not 64-bit ones
        exponent = builder.sub(builder.trunc(shifted, narrow), ir.Constant(narrow, EXPONENT_BIAS))
        return builder.sitofp(exponent, ir.DoubleType())

    return types.float64(types.float64), generate


@intrinsic
def _mantissa(_context: Any, _x: Any) -> tuple:
    """The mantissa m of a positive number."""

    def generate(_, builder, __, arguments):
        wide = ir.IntType(64)
        of_power = ir.Constant(wide, (1 << 64) - (1 << MANTISSA_BITS))
        power = builder.and_(_shifted_bits(builder, arguments[0]), of_power)
        beyond_one = builder.sub(power, ir.Constant(wide, EXPONENT_BIAS << MANTISSA_BITS))
        return builder.bitcast(builder.sub(builder.bitcast(arguments[0], wide), beyond_one), ir.DoubleType())

    return types.float64(types.float64), generate


def _shifted_bits(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    wide = ir.IntType(64)
    return builder.add(builder.bitcast(x, wide), ir.Constant(wide, TO_ONE))


@compiled(fastmath=REASSOCIATE, part=True)
def vector_log(x: float) -> float:
    """ln(x) for loops that the compiler is to turn into vector instructions.

    Parameters
    ----------
    x : float
        Positive, not below the smallest normal number, 2e-308; not checked, but what comes out is finite.

    Returns
    -------
    float
        Good to 2e-16 of the larger of itself and 1.

    Notes
    -----
    The coefficients are those of the interpolation of (ln m / f - 2) / f^2 at the 7 Chebyshev points of
    0 <= f^2 <= (sqrt(2) - 1)^4.
    """
    m = _mantissa(x)
    f = (m - 1.0) / (m + 1.0)
    f2 = f * f
    series = 0.14616449820782476
    series = series * f2 + 0.15331721589574307
    series = series * f2 + 0.181828891255921
    series = series * f2 + 0.22222211134790545
    series = series * f2 + 0.28571428625975515
    series = series * f2 + 0.39999999999899505
    series = series * f2 + 0.666666666666667
    return _exponent(x) * LN_2 + f * (series * f2 + 2.0)


@compiled(fastmath=REASSOCIATE, part=True)
def weighted_log_sum(weight: np.ndarray, x: np.ndarray) -> float:
    """Sum of weight ln(x).

    Parameters
    ----------
    weight : ndarray of float64, shape (n,)
    x : ndarray of float64, shape (n,)
        Positive, not below the smallest normal number, 2e-308, where the weight is not 0; not checked.

    Returns
    -------
    float
        NaN or infinity where the sum of x is so.
    """
    total = plain_sum = 0.0
    for i in range(len(x)):
        total += weight[i] * vector_log(x[i])
        plain_sum += x[i]
    return total if np.isfinite(plain_sum) else plain_sum
