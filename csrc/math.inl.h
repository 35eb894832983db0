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

/* exp(x) = 2^k (near + far): k is returned, and near + far = exp(r), |r| <= ln(2)/2, summed in pairs so that the chain
 * is short: in float64 the Taylor series; in float32 a polynomial that begins with 1 + r + r^2/2, by Remez' exchange,
 * with errors below 9e-9. Beyond the range of normal numbers the argument is clamped. (Muller et al., "Handbook of
 * floating-point arithmetic", 2018, ch. 10: additive range reduction, after Cody and Waite.) */
FGD_INLINE BITS N(split_exp)(T *near, T *far, T x)
{
    x = x > EXP_MAX ? EXP_MAX : x < EXP_MIN ? EXP_MIN : x;
    union {
        T f;
        BITS i;
    } shifted = {x * (T)1.44269504088896340736 + ROUND_SHIFT}; /* rounds to an integer in the low bits */
    const T k = shifted.f - ROUND_SHIFT;
    const T r = (x - k * LN2_HIGH) - k * LN2_LOW;
    const T r2 = r * r, r4 = r2 * r2;
#if MANTISSA_BITS > 23
    const T low = (1 + r) + r2 * ((T)(1.0 / 2) + r * (T)(1.0 / 6));
    const T mid = ((T)(1.0 / 24) + r * (T)(1.0 / 120)) + r2 * ((T)(1.0 / 720) + r * (T)(1.0 / 5040));
    const T high = ((T)(1.0 / 40320) + r * (T)(1.0 / 362880)) + r2 * ((T)(1.0 / 3628800) + r * (T)(1.0 / 39916800)) +
                   r4 * ((T)(1.0 / 479001600) + r * (T)(1.0 / 6227020800.0));
    *far = r4 * (mid + r4 * high);
#else
    const T low = (1 + r) + r2 * ((T)0.5 + r * (T)0.166664383675);
    *far = r4 * (((T)0.0416636406316 + r * (T)0.00837653318272) + r2 * (T)0.00141957308982);
#endif
    *near = low;
    return shifted.i - ROUND_SHIFT_BITS;
}

FGD_INLINE T N(exp)(T x)
{
    T near, far;
    const BITS k = N(split_exp)(&near, &far, x);
    return (near + far) * N(exp2i)(k);
}

/* a / (1 + exp(x)) = a 2^-k / (2^-k + exp(r)), where little waits for x: the next row of a training waits for this. */
FGD_INLINE T N(over_one_plus_exp)(T a, T x)
{
    T near, far;
    const T one = N(exp2i)(-N(split_exp)(&near, &far, x));
    return (a * one) / ((one + near) + far);
}

/* (exp(x) - 1) / x for |x| <= 0.35: 1 + x/2 (1 + x/3 (1 + ...)) */
FGD_INLINE T N(mean_growth_near_zero)(T x)
{
    T a = 1;
    for (int k = MANTISSA_BITS > 23 ? 13 : 8; k > 1; k--) a = 1 + a * (x * ((T)1 / (T)k));
    return a;
}

/* exp(x) - 1 */
FGD_INLINE T N(expm1)(T x)
{
    const T near = x * N(mean_growth_near_zero)(x), far = N(exp)(x) - 1;
    return x < (T)0.35 && x > (T)-0.35 ? near : far;
}

/* 1 / (1 + exp(-x)) */
FGD_INLINE T N(logistic)(T x) { return N(over_one_plus_exp)(1, -x); }

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

/* The distribution function of the standard normal, 1/2 erfc(-x / sqrt(2)), by rational functions: Cody, "Rational
 * Chebyshev approximations for the error function", Math. Comp. 23(107), 1969, of which the second is also good enough
 * beyond its range, where exp(-x^2/2) is small. */
FGD_INLINE T N(normal)(T x)
{
    const T z = x * (T)0.70710678118654752440, y = z < 0 ? -z : z, q = z * z;
    const T near_above =
        (((q * (T)1.85777706184603153e-1 + (T)3.16112374387056560e0) * q + (T)1.13864154151050156e2) * q +
         (T)3.77485237685302021e2) *
            q +
        (T)3.20937758913846947e3;
    const T near_below =
        (((q + (T)2.36012909523441209e1) * q + (T)2.44024637934444173e2) * q + (T)1.28261652607737228e3) * q +
        (T)2.84423683343917062e3;
    const T above =
        (((((((y * (T)2.15311535474403846e-8 + (T)5.64188496988670089e-1) * y + (T)8.88314979438837594e0) * y +
             (T)6.61191906371416295e1) *
                y +
            (T)2.98635138197400131e2) *
               y +
           (T)8.81952221241769090e2) *
              y +
          (T)1.71204761263407058e3) *
             y +
         (T)2.05107837782607147e3) *
            y +
        (T)1.23033935479799725e3;
    const T below =
        (((((((y + (T)1.57449261107098347e1) * y + (T)1.17693950891312499e2) * y + (T)5.37181101862009858e2) * y +
            (T)1.62138957456669019e3) *
               y +
           (T)3.29079923573345963e3) *
              y +
          (T)4.36261909014324716e3) *
             y +
         (T)3.43936767414372164e3) *
            y +
        (T)1.23033935480374942e3;
    const T near = (T)0.5 + (T)0.5 * (z * (near_above / near_below));
    const T tail = (T)0.5 * (N(exp)(-q) * (above / below));
    const T far = z < 0 ? tail : 1 - tail;
    return y <= (T)0.46875 ? near : far;
}
