/* Multinomial logistic regression: one output a class, p_k = x . w_k + b_k, and the loss
 *     log(sum_k exp(p_k)) - p_y,  whose derivative with respect to p_k is exp(p_k) / sum - [k = y]
 * (Bishop, "Pattern recognition and machine learning", 2006, eq. 4.104-4.109). Rows are read once for all classes. */

/* Predictions of FGD_CLASS_ROWS rows, class by class: (classes, FGD_CLASS_ROWS), without the intercepts. They become
 * the derivatives, and `values` the losses; neither is finite if a prediction is not. y is the number of a class, which
 * is expected with probability 1 - smoothing, and else any (Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the
 * Inception architecture for computer vision", CVPR 2016, section 7). */
static void N(softmax_rows)(T *restrict p, T *restrict values, const T *restrict y, const T *restrict b,
                            ptrdiff_t classes, T smoothing)
{
    enum { R = FGD_CLASS_ROWS };
    const T right = 1 - smoothing, any = smoothing / (T)classes;
    T largest[R], of_y[R], of_any[R], sum[R];
    for (int r = 0; r < R; r++) largest[r] = p[r] + b[0], of_y[r] = 0, of_any[r] = 0, sum[r] = 0;
    for (ptrdiff_t k = 0; k < classes; k++)
        for (int r = 0; r < R; r++) {
            const T score = p[k * R + r] + b[k];
            p[k * R + r] = score;
            largest[r] = score > largest[r] ? score : largest[r];
        }
    for (ptrdiff_t k = 0; k < classes; k++)
        for (int r = 0; r < R; r++) {
            const T score = p[k * R + r] - largest[r]; /* NaN if both are infinite */
            of_y[r] = y[r] == (T)k ? score : of_y[r];
            of_any[r] += any * score;
            p[k * R + r] = N(exp)(score);
            sum[r] += p[k * R + r];
        }
    for (int r = 0; r < R; r++) values[r] = N(log)(sum[r]) - (right * of_y[r] + of_any[r]) + (sum[r] - sum[r]);
    for (ptrdiff_t k = 0; k < classes; k++)
        for (int r = 0; r < R; r++) p[k * R + r] = p[k * R + r] / sum[r] - (any + (y[r] == (T)k ? right : 0));
}

/* Weighs derivatives and losses of `length` rows, clears those of the others, and adds up: *loss, and gradient_b of
 * each class. */
static void N(sum_softmax)(T *gradient_b, double *loss, T *p, const T *values, const T *sample_weight, ptrdiff_t length,
                           ptrdiff_t classes)
{
    enum { R = FGD_CLASS_ROWS };
    T weight[R];
    for (ptrdiff_t r = 0; r < R; r++) weight[r] = r < length ? sample_weight[r] : 0;
    for (ptrdiff_t k = 0; k < classes; k++) {
        T total = 0;
        for (int r = 0; r < R; r++) p[k * R + r] *= weight[r];
        for (ptrdiff_t r = 0; r < length; r++) total += p[k * R + r];
        gradient_b[k] += total;
    }
    for (ptrdiff_t r = 0; r < length; r++) *loss += (double)(values[r] * weight[r]);
}

/* The same of at most FGD_SPARSE_ROWS rows that lie the other way, d (length, classes), in place; b is to be added to
 * scale times d. Sets gradient_b. */
static void N(softmax_of_rows)(T *restrict d, T *gradient_b, double *loss, T *restrict p, const T *y,
                               const T *sample_weight, const T *b, T scale, ptrdiff_t length, ptrdiff_t classes)
{
    enum { R = FGD_CLASS_ROWS };
    T values[R];
    for (ptrdiff_t k = 0; k < classes; k++) gradient_b[k] = 0;
    for (ptrdiff_t first = 0; first < length; first += R) {
        const ptrdiff_t rows = length - first < R ? length - first : R;
        memset(p, 0, (size_t)(classes * R) * sizeof(T));
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t k = 0; k < classes; k++) p[k * R + r] = scale * d[(first + r) * classes + k];
        N(softmax_rows)(p, values, y + first, b, classes, 0);
        N(sum_softmax)(gradient_b, loss, p, values, sample_weight + first, rows, classes);
        for (ptrdiff_t r = 0; r < rows; r++)
            for (ptrdiff_t k = 0; k < classes; k++) d[(first + r) * classes + k] = p[k * R + r];
    }
}

/* Adds to `gradient` (padded, a class after the other) and gradient_b the sum over the rows of their gradients, and to
 * *loss the sum of their losses. p holds classes * FGD_CLASS_ROWS numbers. */
static void N(add_softmax_gradient)(T *gradient, T *gradient_b, double *loss, T *p, const N(batch_part) *part,
                                    ptrdiff_t padded, ptrdiff_t classes)
{
    enum { R = FGD_CLASS_ROWS };
    const N(view) *v = part->view;
    const ptrdiff_t group = N(group_rows)(v->n, classes);
    T y[R], weight[R], values[R];
    N(row_group) g;
    g.y = y, g.sample_weight = weight;
    for (ptrdiff_t left = part->n_rows; left > 0; left -= group) {
        N(next_group)(&g, part, left < group ? left : group);
        for (ptrdiff_t i = g.length; i < R; i++) g.y[i] = 0;
        if (g.whole < R) memset(p, 0, (size_t)(classes * R) * sizeof(T));
        for (ptrdiff_t i = 0; i < g.whole; i += 4) N(dot4)(p + i, part->w, g.x + i, g.last + i, g.far + i, v);
        for (ptrdiff_t k = 1; k < classes; k++)
            for (ptrdiff_t i = 0; i < g.whole; i += 4)
                N(dot4)(p + k * R + i, part->w + k * padded, g.x + i, g.last + i, NULL, v);
        N(softmax_rows)(p, values, g.y, part->b, classes, 0);
        N(sum_softmax)(gradient_b, loss, p, values, g.sample_weight, g.length, classes);
        for (ptrdiff_t i = 0; i < g.whole; i += 4) N(add4)(gradient, p + i, g.x + i, g.last + i, g.far + i, v);
        for (ptrdiff_t k = 1; k < classes; k++)
            for (ptrdiff_t i = 0; i < g.whole; i += 4)
                N(add4)(gradient + k * padded, p + k * R + i, g.x + i, g.last + i, NULL, v);
    }
}
