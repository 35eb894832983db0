/* Newton-Schulz iteration towards the nearest orthonormal matrix, X <- p(X'X) for X'X with p(A) = a + b A + c A A:
 * X <- X p(X'X). (Björck & Bowie, SIAM J. Numer. Anal. 8(2), 1971; with tuned coefficients Jordan et al., "Muon",
 * 2024.)
 *
 * All that happens to X are products with polynomials of its Gram matrix A = X'X, and these are symmetric and commute:
 * after X <- X p(A), the next Gram matrix is p(A) A p(A). Where X has many more rows than columns, up to
 * FGD_GRAM_STEPS iterations are done on the small Gram matrices alone, of which half need be worked out, and X is
 * multiplied once, by Q = p(A) p(A') ... Then the Gram matrix is formed anew: rounding errors of A grow by up to a^2 in
 * each iteration, those of X by a. (Measured against float64: three iterations a Gram matrix lose at most a digit where
 * the singular values are spread over decades, and nothing in most cases; five lose two.) */

/* where the share of a mate of the rows [0, n) begins */
static ptrdiff_t N(first_row)(ptrdiff_t n, int me, int all) { return n * me / all; }

static void N(scale_rows)(const fgd_mate *mate, T *x, ptrdiff_t rows, ptrdiff_t columns, T factor)
{
    const ptrdiff_t end = N(first_row)(rows, mate->me + 1, mate->all) * columns;
    for (ptrdiff_t i = N(first_row)(rows, mate->me, mate->all) * columns; i < end; i++) x[i] *= factor;
}

/* out (columns, rows) = in (rows, columns)' factor; mates share the rows of `in` */
static void N(turn)(const fgd_mate *mate, T *out, const T *in, ptrdiff_t rows, ptrdiff_t columns, T factor)
{
    const ptrdiff_t first = N(first_row)(rows, mate->me, mate->all);
    const ptrdiff_t end = N(first_row)(rows, mate->me + 1, mate->all);
    N(transpose)(out + first, rows, in + first * columns, columns, end - first, columns, factor);
}

/* The part below the diagonal from that above it; mates share the rows above. */
static void N(mirror)(const fgd_mate *mate, T *a, ptrdiff_t m)
{
    enum { STRIP = 16 };
    for (ptrdiff_t i = mate->me * STRIP; i < m; i += mate->all * STRIP) {
        const ptrdiff_t end = i + STRIP < m ? i + STRIP : m;
        for (ptrdiff_t r = i; r < end; r++)
            for (ptrdiff_t c = r + 1; c < end; c++) a[c * m + r] = a[r * m + c];
        N(transpose)(a + end * m + i, m, a + i * m + end, m, end - i, m - end, 1);
    }
}

/* out = left right, of two symmetric matrices that commute */
static void N(symmetric_product)(fgd_mate *mate, T *out, const T *left, const T *right, ptrdiff_t m)
{
    N(product)(mate, out, left, m, 1, right, m, m, m, 1);
    fgd_wait_for_mates(mate);
    N(mirror)(mate, out, m);
    fgd_wait_for_mates(mate);
}

/* out = p(a) */
static void N(polynomial)(fgd_mate *mate, T *restrict out, const T *restrict a, ptrdiff_t m, const fgd_iteration *p)
{
    const T p0 = (T)p->a, p1 = (T)p->b, p2 = (T)p->c;
    N(product)(mate, out, a, m, 1, a, m, m, m, 1);
    fgd_wait_for_mates(mate);
    const ptrdiff_t end = N(first_row)(m, mate->me + 1, mate->all);
    for (ptrdiff_t i = N(first_row)(m, mate->me, mate->all); i < end; i++) {
        for (ptrdiff_t j = i; j < m; j++) out[i * m + j] = p2 * out[i * m + j] + p1 * a[i * m + j];
        out[i * m + i] += p0;
    }
    fgd_wait_for_mates(mate);
    N(mirror)(mate, out, m);
    fgd_wait_for_mates(mate);
}

/* What so many iterations multiply a matrix with this Gram matrix by; gives where it is. */
static const T *N(iterate)(fgd_mate *mate, ptrdiff_t m, int steps, const fgd_iteration *p)
{
    T *a = mate->desk.grams[0], *b = mate->desk.grams[1], *pa = mate->desk.grams[2], *q = mate->desk.grams[3];
    T *room = mate->desk.grams[4], *swapped;
    N(polynomial)(mate, q, a, m, p);
    for (int k = 1; k < steps; k++) {
        const T *last = k == 1 ? q : pa;
        N(symmetric_product)(mate, b, last, a, m);
        N(symmetric_product)(mate, a, last, b, m);
        N(polynomial)(mate, pa, a, m, p);
        N(symmetric_product)(mate, room, pa, q, m);
        swapped = q, q = room, room = swapped;
    }
    return q;
}

static const void *N(orthonormalize)(fgd_mate *mate, const fgd_tensor *tensor, const fgd_iteration *iteration)
{
    double sum = 0;
    for (ptrdiff_t c = 0; c * FGD_STEP_CHUNK < tensor->size; c++) sum += mate->desk.sums[c];
    double length = sqrt(sum);
    length = (length < iteration->floor ? iteration->floor : length) + iteration->added;
    if (length == 0) length = 1; /* so is the matrix */
    const ptrdiff_t others = tensor->size / tensor->outer;
    const ptrdiff_t rows = tensor->turned ? others : tensor->outer, columns = tensor->size / rows;
    const ptrdiff_t n = rows < columns ? columns : rows, m = tensor->size / n;
    T *x = mate->desk.x, *y = mate->desk.y, *swapped;
    if (rows < columns) {
        N(turn)(mate, y, x, rows, columns, (T)(1 / length));
        swapped = x, x = y, y = swapped;
    } else {
        N(scale_rows)(mate, x, rows, columns, (T)(1 / length));
    }
    fgd_wait_for_mates(mate);
    const int most = n > m ? FGD_GRAM_STEPS : 1;
    for (int left = iteration->steps; left > 0; left -= most) {
        N(product)(mate, mate->desk.grams[0], x, 1, m, x, m, m, n, 1);
        fgd_wait_for_mates(mate);
        N(mirror)(mate, mate->desk.grams[0], m);
        fgd_wait_for_mates(mate);
        N(product)(mate, y, x, m, 1, N(iterate)(mate, m, left < most ? left : most, iteration), n, m, m, 0);
        fgd_wait_for_mates(mate);
        swapped = x, x = y, y = swapped;
    }
    if (rows < columns) {
        N(turn)(mate, y, x, columns, rows, 1);
        fgd_wait_for_mates(mate);
        x = y;
    }
    return x;
}
