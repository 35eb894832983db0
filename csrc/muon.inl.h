/* Newton-Schulz iteration towards the nearest orthonormal matrix, X <- p(X'X) for X'X with p(A) = a + b A + c A A:
 * X <- X p(X'X). (Björck & Bowie, SIAM J. Numer. Anal. 8(2), 1971; with tuned coefficients Jordan et al., "Muon",
 * 2024.)
 *
 * All that happens to X are products with polynomials of its Gram matrix A = X'X, and these are symmetric and commute:
 * after X <- X p(A), the next Gram matrix is p(A) A p(A). Where X has many more rows than columns, up to
 * FGD_GRAM_STEPS iterations are done on the small Gram matrices alone, of which half need be worked out, and X is
 * multiplied once, by Q = p(A) p(A') ... Then the Gram matrix is formed anew: rounding errors of A grow by up to a^2 in
 * each iteration, those of X by a. (Measured against float64: three iterations a Gram matrix lose at most a digit where
 * the singular values are spread over decades, and nothing in most cases; five lose two. In float32 that leaves a
 * relative error below 2e-3, a hundredth of that in bfloat16, in which the iteration is usually done, and saves a
 * tenth to a third of the work where a matrix is at least twice as long as wide: there it is five.) */

/* where the share of a mate of the rows [0, n) begins */
static ptrdiff_t N(first_row)(ptrdiff_t n, int me, int all) { return n * me / all; }

/* iterations on one Gram matrix (m, m) of a matrix (n, m) */
static int N(gram_steps)(ptrdiff_t n, ptrdiff_t m)
{
    if (n <= m) return 1;
    return sizeof(T) == sizeof(float) && n >= 2 * m ? FGD_GRAM_STEPS_LONG : FGD_GRAM_STEPS;
}

static void N(scale_rows)(const fgd_mate *mate, T *x, ptrdiff_t rows, ptrdiff_t columns, T factor)
{
    const ptrdiff_t end = N(first_row)(rows, mate->me + 1, mate->all) * columns;
    for (ptrdiff_t i = N(first_row)(rows, mate->me, mate->all) * columns; i < end; i++) x[i] *= factor;
}

enum { N(STRIP) = 16 }; /* rows of a symmetric matrix that one mate takes */

/* Of the rows [i, end), the part below the diagonal from that above it. */
static void N(mirror_strip)(T *a, ptrdiff_t m, ptrdiff_t i, ptrdiff_t end)
{
    for (ptrdiff_t r = i; r < end; r++)
        for (ptrdiff_t c = r + 1; c < end; c++) a[c * m + r] = a[r * m + c];
    N(transpose)(a + end * m + i, m, a + i * m + end, m, end - i, m - end);
}

/* a = left right, if that is symmetric */
static void N(symmetric_product)(fgd_mate *mate, T *a, const T *left, ptrdiff_t to_row, ptrdiff_t to_next,
                                 const T *right, ptrdiff_t right_row, ptrdiff_t right_next, ptrdiff_t m,
                                 ptrdiff_t depth)
{
    MATRIX_PRODUCT(mate, a, left, to_row, to_next, right, right_row, right_next, m, m, depth, 1);
    fgd_wait_for_mates(mate);
    for (ptrdiff_t i = mate->me * N(STRIP); i < m; i += mate->all * N(STRIP))
        N(mirror_strip)(a, m, i, N(least)(i + N(STRIP), m));
    fgd_wait_for_mates(mate);
}

/* out = left right, of two symmetric matrices that commute */
static void N(commuting_product)(fgd_mate *mate, T *out, const T *left, const T *right, ptrdiff_t m)
{
    N(symmetric_product)(mate, out, left, m, 1, right, m, 1, m, m);
}

/* out = p(a) */
static void N(polynomial)(fgd_mate *mate, T *restrict out, const T *restrict a, ptrdiff_t m, const fgd_iteration *p)
{
    const T p0 = (T)p->a, p1 = (T)p->b, p2 = (T)p->c;
    MATRIX_PRODUCT(mate, out, a, m, 1, a, m, 1, m, m, m, 1);
    fgd_wait_for_mates(mate);
    for (ptrdiff_t i = mate->me * N(STRIP); i < m; i += mate->all * N(STRIP)) {
        const ptrdiff_t end = N(least)(i + N(STRIP), m);
        for (ptrdiff_t r = i; r < end; r++) {
            for (ptrdiff_t c = r; c < m; c++) out[r * m + c] = p2 * out[r * m + c] + p1 * a[r * m + c];
            out[r * m + r] += p0;
        }
        N(mirror_strip)(out, m, i, end);
    }
    fgd_wait_for_mates(mate);
}

/* What so many iterations multiply a matrix with this Gram matrix by; gives where it is. There is more room for one
 * matrix like it. */
static const T *N(iterate)(fgd_mate *mate, T *room, ptrdiff_t m, int steps, const fgd_iteration *p)
{
    T *a = mate->desk.grams[0], *b = mate->desk.grams[1], *q = mate->desk.grams[2], *swapped;
    N(polynomial)(mate, q, a, m, p);
    const T *pa = q;
    for (int k = 1; k < steps; k++) {
        N(commuting_product)(mate, b, pa, a, m);
        N(commuting_product)(mate, a, pa, b, m);
        N(polynomial)(mate, room, a, m, p);
        pa = room;
        N(commuting_product)(mate, b, pa, q, m);
        swapped = q, q = b, b = swapped;
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
    const int wide = rows < columns;
    T *x = mate->desk.x, *y = mate->desk.y, *swapped;
    const ptrdiff_t n = wide ? columns : rows, m = wide ? rows : columns; /* the iteration is that of (n, m) */
    const ptrdiff_t to_row = wide ? 1 : m, to_next = wide ? n : 1;
    N(scale_rows)(mate, x, rows, columns, (T)(1 / length));
    fgd_wait_for_mates(mate);
    const int most = N(gram_steps)(n, m);
    for (int left = iteration->steps; left > 0; left -= most) {
        N(symmetric_product)(mate, mate->desk.grams[0], x, to_next, to_row, x, to_row, to_next, m, n);
        const T *q = N(iterate)(mate, y, m, left < most ? left : most, iteration);
        if (wide) /* (x q)' = q x' */
            MATRIX_PRODUCT(mate, y, q, m, 1, x, n, 1, m, n, m, 0);
        else
            MATRIX_PRODUCT(mate, y, x, m, 1, q, m, 1, n, m, m, 0);
        fgd_wait_for_mates(mate);
        swapped = x, x = y, y = swapped;
    }
    return x;
}
