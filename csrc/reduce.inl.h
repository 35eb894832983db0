/* Reductions over one array: a sum, and the scan for numbers that are not finite. */

/* sum of x[0..n); x is read once, in order */
static double N(sum_all)(const void *x, ptrdiff_t n)
{
    const T *restrict v = x;
    N(lanes) a = N(zero)(), b = N(zero)();
    ptrdiff_t i = 0;
    for (; i + 2 * W <= n; i += 2 * W) {
        a = N(add)(a, N(load)(v + i));
        b = N(add)(b, N(load)(v + i + W));
    }
    double rest = 0;
    for (; i < n; i++) rest += (double)v[i];
    return (double)N(sum)(N(add)(a, b)) + rest;
}

/* x - x is 0 for a finite x, else NaN */
static int N(all_finite)(const void *x, ptrdiff_t n)
{
    const T *restrict v = x;
    N(lanes) bad = N(zero)();
    ptrdiff_t i = 0;
    for (; i + W <= n; i += W) {
        const N(lanes) a = N(load)(v + i);
        bad = N(add)(bad, N(add)(a, N(scale)(a, -1)));
    }
    T rest = N(sum)(bad);
    for (; i < n; i++) rest += v[i] - v[i];
    return rest == 0;
}

/* Sums of squares are kept in double, as many partial sums as keep the adders busy, added as a tree: nothing over- or
 * underflows that is a float, and the bits are the same on every instruction set. */
enum { N(SUMS) = 32 };

/* Written out: compilers do not unroll a loop whose inner one becomes shorter. */
FGD_INLINE double N(add_up)(double *sums)
{
#define HALVE(half)                                                                                                    \
    for (int k = 0; k < (half); k++) sums[k] += sums[k + (half)]
    HALVE(N(SUMS) / 2);
    HALVE(N(SUMS) / 4);
    HALVE(N(SUMS) / 8);
    HALVE(N(SUMS) / 16);
    HALVE(N(SUMS) / 32);
#undef HALVE
    return sums[0];
}

#define SUM_OF(name, type, value)                                                                                      \
    static double N(name)(const void *array, ptrdiff_t n)                                                              \
    {                                                                                                                  \
        const type *restrict x = array;                                                                                \
        double sums[N(SUMS)] = {0};                                                                                    \
        ptrdiff_t i = 0;                                                                                               \
        for (; i + N(SUMS) <= n; i += N(SUMS))                                                                         \
            for (int k = 0; k < N(SUMS); k++) sums[k] += value(x[i + k]);                                              \
        for (int k = 0; i < n; i++, k++) sums[k] += value(x[i]);                                                       \
        return N(add_up)(sums);                                                                                        \
    }
#define WIDE(x) ((double)(x))
#define SQUARE(x) ((double)(x) * (double)(x))
SUM_OF(sum_squares, T, SQUARE)
SUM_OF(sum_wide, T, WIDE)
SUM_OF(sum_doubles, double, WIDE)
#undef SUM_OF
#undef WIDE
#undef SQUARE

#define SUM_OF_PAIRS(name, value)                                                                                      \
    static double N(name)(const T *restrict x, const T *restrict y, ptrdiff_t n)                                       \
    {                                                                                                                  \
        double sums[N(SUMS)] = {0};                                                                                    \
        ptrdiff_t i = 0;                                                                                               \
        for (; i + N(SUMS) <= n; i += N(SUMS))                                                                         \
            for (int k = 0; k < N(SUMS); k++) sums[k] += value(x[i + k], y[i + k]);                                    \
        for (int k = 0; i < n; i++, k++) sums[k] += value(x[i], y[i]);                                                 \
        return N(add_up)(sums);                                                                                        \
    }
#define PRODUCT(x, y) ((double)(x) * (double)(y))
#define SQUARED_DIFFERENCE(x, y) ((double)((x) - (y)) * (double)((x) - (y)))
SUM_OF_PAIRS(dot_wide, PRODUCT)
SUM_OF_PAIRS(sum_squared_differences, SQUARED_DIFFERENCE)
#undef SUM_OF_PAIRS
#undef PRODUCT
#undef SQUARED_DIFFERENCE
