/* exp, log1p and log from +, *, / and integer shifts alone: they vectorise, and give the same bits on every instruction
 * set and with every C library. Errors are below 2 units in the last place over the ranges that the losses use. */

/* 2^k, for k of a normal number */
FGD_INLINE T N(exp2i)(BITS k)
{
    union {
        BITS i;
        T f;
    } u;
    u.i = (BITS)((UBITS)(k + EXPONENT_BIAS) << MANTISSA_BITS); /* k of a NaN is anything */
    return u.f;
}

/* exp(x) = 2^k exp(r), |r| <= ln(2)/2, and the Taylor series of exp(r), summed in pairs so that the chain is short.
 * Beyond the range of normal numbers the argument is clamped. (Muller et al., "Handbook of floating-point
 * arithmetic", 2018, ch. 10: additive range reduction, after Cody and Waite.) */
FGD_INLINE T N(exp)(T x)
{
    x = x > EXP_MAX ? EXP_MAX : x < EXP_MIN ? EXP_MIN : x;
    union {
        T f;
        BITS i;
    } shifted = {x * (T)1.44269504088896340736 + ROUND_SHIFT}; /* rounds to an integer in the low bits */
    const T k = shifted.f - ROUND_SHIFT;
    const T r = (x - k * LN2_HIGH) - k * LN2_LOW;
    const T r2 = r * r, r4 = r2 * r2;
    const T low = (1 + r) + r2 * ((T)(1.0 / 2) + r * (T)(1.0 / 6));
    const T mid = ((T)(1.0 / 24) + r * (T)(1.0 / 120)) + r2 * ((T)(1.0 / 720) + r * (T)(1.0 / 5040));
#if MANTISSA_BITS > 23
    const T high = ((T)(1.0 / 40320) + r * (T)(1.0 / 362880)) + r2 * ((T)(1.0 / 3628800) + r * (T)(1.0 / 39916800)) +
                   r4 * ((T)(1.0 / 479001600) + r * (T)(1.0 / 6227020800.0));
    const T e = low + r4 * (mid + r4 * high);
#else
    const T e = low + r4 * mid;
#endif
    return e * N(exp2i)(shifted.i - ROUND_SHIFT_BITS);
}

/* log(1 + u) for 0 <= u <= 1: 2 artanh(s), s = u / (2 + u) <= 1/3, by its series. */
FGD_INLINE T N(log1p)(T u)
{
    const T s = u / (2 + u), q = s * s;
    T a = 0;
    for (int k = LOG1P_TERMS; k >= 0; k--) a = a * q + (T)1 / (T)(2 * k + 1);
    return 2 * s * a;
}

/* log(x) of a normal x > 0: k ln(2) + log(m), x = 2^k m with sqrt(1/2) <= m < sqrt(2), by the series of log1p with
 * s = (m - 1) / (m + 1). The exponent is taken and converted without what 256-bit registers lack. */
FGD_INLINE T N(log)(T x)
{
    union {
        T f;
        BITS i;
    } u = {x}, exponent;
    const UBITS above = (UBITS)u.i - ROOT_HALF_BITS + ((UBITS)EXPONENT_BIAS << MANTISSA_BITS);
    const BITS biased = (BITS)(above >> MANTISSA_BITS); /* k + EXPONENT_BIAS */
    exponent.i = biased - EXPONENT_BIAS + ROUND_SHIFT_BITS;
    const T k = exponent.f - ROUND_SHIFT;
    u.i -= (BITS)((UBITS)(biased - EXPONENT_BIAS) << MANTISSA_BITS);
    const T s = (u.f - 1) / (u.f + 1), q = s * s;
    T a = 0;
    for (int i = LOG_TERMS; i >= 0; i--) a = a * q + (T)1 / (T)(2 * i + 1);
    return k * LN2_HIGH + (k * LN2_LOW + 2 * s * a);
}
