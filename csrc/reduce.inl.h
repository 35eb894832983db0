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
