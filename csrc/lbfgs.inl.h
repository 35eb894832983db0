/* What L-BFGS and a line search do to whole vectors: each pass a loop over some neighbouring elements of them, which
 * gives up to two sums. An update of a vector and the next product with it are one pass: every vector of the history is
 * read once on each way of the recursion. Products are taken and summed in double, in the order of sum_squares. */

/* x . z */
static double N(dot_range)(const T *restrict x, const T *restrict z, ptrdiff_t n)
{
    double sums[N(SUMS)] = {0};
    ptrdiff_t i = 0;
    for (; i + N(SUMS) <= n; i += N(SUMS))
        for (int k = 0; k < N(SUMS); k++) sums[k] += (double)x[i + k] * (double)z[i + k];
    for (int k = 0; i < n; i++, k++) sums[k] += (double)x[i] * (double)z[i];
    return N(add_up)(sums);
}

/* q = -g; q . z */
static double N(negate_range)(T *restrict q, const T *restrict g, const T *restrict z, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) q[i] = -g[i];
    return N(dot_range)(q, z, n);
}

/* q = scale * (q + a * x); q . z */
static double N(advance_range)(T *restrict q, const T *restrict x, const T *restrict z, T a, T scale, ptrdiff_t n)
{
    double sums[N(SUMS)] = {0};
    ptrdiff_t i = 0;
    for (; i + N(SUMS) <= n; i += N(SUMS)) {
        for (int k = 0; k < N(SUMS); k++) q[i + k] = (q[i + k] + a * x[i + k]) * scale;
        for (int k = 0; k < N(SUMS); k++) sums[k] += (double)q[i + k] * (double)z[i + k];
    }
    for (int k = 0; i < n; i++, k++) {
        q[i] = (q[i] + a * x[i]) * scale;
        sums[k] += (double)q[i] * (double)z[i];
    }
    return N(add_up)(sums);
}

/* s = t * d, y = g - before */
static void N(pair_range)(T *restrict s, T *restrict y, const T *restrict d, const T *restrict g,
                          const T *restrict before, T t, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        s[i] = t * d[i];
        y[i] = g[i] - before[i];
    }
}

/* out = x + t * d */
static void N(move_range)(T *restrict out, const T *restrict x, const T *restrict d, T t, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = x[i] + t * d[i];
}

/* max |x| and sum |x|; the sum is NaN if any number is */
static void N(magnitudes_range)(double *results, const T *restrict x, ptrdiff_t n)
{
    double sums[N(SUMS)] = {0};
    T most[N(SUMS)] = {0};
    ptrdiff_t i = 0;
    for (; i + N(SUMS) <= n; i += N(SUMS))
        for (int k = 0; k < N(SUMS); k++) {
            const T a = x[i + k] < 0 ? -x[i + k] : x[i + k];
            most[k] = a > most[k] ? a : most[k];
            sums[k] += (double)a;
        }
    for (int k = 0; i < n; i++, k++) {
        const T a = x[i] < 0 ? -x[i] : x[i];
        most[k] = a > most[k] ? a : most[k];
        sums[k] += (double)a;
    }
    for (int k = 1; k < N(SUMS); k++) most[0] = most[k] > most[0] ? most[k] : most[0];
    results[0] = (double)most[0];
    results[1] = N(add_up)(sums);
}

/* The elements [first, first + n) of a pass. */
static void N(vectors)(double *results, const fgd_vectors *v, ptrdiff_t first, ptrdiff_t n)
{
    T *const out = (T *)v->out + first;
    const T *const x = (const T *)v->x + first, *const z = (const T *)v->z + first;
    switch (v->op) {
    case FGD_DOT:
        results[0] = N(dot_range)(x, z, n);
        break;
    case FGD_MAGNITUDES:
        N(magnitudes_range)(results, x, n);
        break;
    case FGD_MOVE:
        N(move_range)(out, x, z, (T)v->a, n);
        break;
    case FGD_PAIR:
        N(pair_range)(out, (T *)v->out2 + first, x, z, (const T *)v->z2 + first, (T)v->a, n);
        results[0] = N(dot_range)((T *)v->out2 + first, out, n);
        results[1] = N(sum_squares)((T *)v->out2 + first, n);
        break;
    case FGD_NEGATE:
        results[0] = N(negate_range)(out, x, z, n);
        break;
    case FGD_ADVANCE:
        results[0] = N(advance_range)(out, x, z, (T)v->a, (T)v->scale, n);
        break;
    }
}
