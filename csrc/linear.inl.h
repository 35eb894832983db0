/* Mini-batch gradients and single-example steps of linear models over dense rows: p = x . w + b.
 *
 * How a row is read. The kernels work in whole vectors (lanes). A row of n features is m = W * ((n - 1) / W) features
 * in full vectors, and one last vector that ENDS at the row's end: it reads some features twice (or, of a row shorter
 * than a vector, the end of the row before), so no scalar remainder is left and nothing past the row is touched.
 * Weights and gradients are held `padded` to match: m features, then the last vector, in which the lanes that do not
 * count are zero for ever (`mask`). X is finite, so zero times it is zero. */

typedef struct {
    const T *X;
    ptrdiff_t n, m;                     /* features of a row; those in full vectors */
    ptrdiff_t n_copied;                 /* rows at the very start of X before which there is nothing to read: */
    const T *copied;                    /* their last vectors, zeros in front */
    T mask[FGD_LANE_BYTES / sizeof(T)]; /* 1 in the lanes of the last vector that count */
} N(view);

static N(view) N(make_view)(const fgd_rows *rows, T *copied)
{
    N(view) v = {rows->X, rows->n_features, (rows->n_features - 1) / W * W, 0, copied, {0}};
    for (ptrdiff_t k = 0; k < W; k++) v.mask[k] = v.n - W + k >= v.m ? 1 : 0;
    for (; v.n_copied < rows->n_rows && (v.n_copied + 1) * v.n < W; v.n_copied++)
        for (ptrdiff_t k = 0; k < W; k++)
            copied[v.n_copied * W + k] = v.mask[k] != 0 ? v.X[(v.n_copied + 1) * v.n - W + k] : 0;
    return v;
}

FGD_INLINE const T *N(row)(const N(view) *v, ptrdiff_t i) { return v->X + i * v->n; }

FGD_INLINE const T *N(last_vector)(const N(view) *v, ptrdiff_t i)
{
    return i < v->n_copied ? v->copied + i * W : v->X + (i + 1) * v->n - W;
}

/* padded <- plain, and back: padded[j] for j < m, then the lanes that count */
static void N(pad)(T *restrict padded, const T *restrict plain, const N(view) *v)
{
    memcpy(padded, plain, (size_t)v->m * sizeof(T));
    for (ptrdiff_t k = 0; k < W; k++) padded[v->m + k] = v->mask[k] != 0 ? plain[v->n - W + k] : 0;
}

static void N(unpad)(T *restrict plain, const T *restrict padded, const N(view) *v)
{
    memcpy(plain, padded, (size_t)v->m * sizeof(T));
    for (ptrdiff_t k = 0; k < W; k++)
        if (v->mask[k] != 0) plain[v->n - W + k] = padded[v->m + k];
}

/* ------------------------------------------------------------------------------------------ losses of many rows */

typedef T N(pointwise)(T y, T p, T e);

/* The sum of the losses of n predictions, in double; not finite if a prediction is not. */
FGD_INLINE double N(sum_losses)(const T *restrict y, const T *restrict p, const T *restrict weight, ptrdiff_t n, T e,
                                N(pointwise) *value)
{
    double sums[8] = {0};
    for (ptrdiff_t i = 0; i < n; i += 256) {
        T v[256];
        const ptrdiff_t length = n - i < 256 ? n - i : 256;
        if (weight)
            for (ptrdiff_t k = i; k < i + length; k++) v[k - i] = (value(y[k], p[k], e) + (p[k] - p[k])) * weight[k];
        else
            for (ptrdiff_t k = i; k < i + length; k++) v[k - i] = value(y[k], p[k], e) + (p[k] - p[k]);
        for (ptrdiff_t k = length; k % 8; k++) v[k] = 0;
        for (ptrdiff_t k = 0; k < length; k += 8)
            for (int lane = 0; lane < 8; lane++) sums[lane] += (double)v[k + lane];
    }
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* The first row whose prediction or loss is not finite. */
FGD_INLINE ptrdiff_t N(first_not_finite)(const T *y, const T *p, ptrdiff_t n, T e, N(pointwise) *value)
{
    ptrdiff_t i = 0;
    while (i < n - 1 && value(y[i], p[i], e) * 0 + p[i] * 0 == 0) i++;
    return i;
}

/* A derivative may not throw the weights out of the finite numbers at once: it is cut off where scikit-learn does. */
FGD_INLINE T N(cut_off)(T derivative)
{
    const T most = (T)1e12;
    return derivative > most ? most : derivative < -most ? -most : derivative;
}

/* ----------------------------------------------------------------------------------------- one row, one update */

FGD_INLINE T N(dot)(const T *w, const T *x, const T *x_last, const N(view) *v)
{
    N(lanes) a = N(mul)(N(load)(w + v->m), N(load)(x_last));
    for (ptrdiff_t j = 0; j < v->m; j += W) a = N(add)(a, N(mul)(N(load)(w + j), N(load)(x + j)));
    return N(sum)(a);
}

/* An update that is known but not yet carried out: w <- shrink * w + step * x. */
typedef struct {
    T shrink, step;
    const T *x, *x_last;
} N(update);

FGD_INLINE void N(carry_out)(T *w, N(update) u, const N(view) *v)
{
    const N(lanes) last = N(mul)(N(load)(v->mask), N(load)(u.x_last));
    N(store)(w + v->m, N(add)(N(scale)(N(load)(w + v->m), u.shrink), N(scale)(last, u.step)));
    for (ptrdiff_t j = 0; j < v->m; j += W)
        N(store)(w + j, N(add)(N(scale)(N(load)(w + j), u.shrink), N(scale)(N(load)(u.x + j), u.step)));
}

/* Stochastic gradient descent, one row an update: w <- max(0, 1 - lr alpha) w - lr l'(p) x  (Robbins & Monro, Ann.
 * Math. Statist. 22, 1951; with weight decay as Bottou, "Large-scale machine learning with SGD", COMPSTAT 2010).
 *
 * Taken literally, each row waits for the one before: product, sum over lanes, exp, division, update, store, load. So
 * we look one row ahead. While row t's derivative is being worked out, one pass over the columns carries out the update
 * of row t-1 and forms w_t . x_{t+1} and x_t . x_{t+1}; then
 *     p_{t+1} = (shrink_t (w_t . x_{t+1}) + b_t) + step_t (x_t . x_{t+1} + 1).
 * The weights are read and written once a row, and only three operations and the derivative stay in the chain. Rows
 * further ahead are prefetched column by column along the same pass (a burst of prefetches would stall).
 * If penalties are wanted, those of the weights before each row's update are summed, and what sample weights take from
 * its loss.
 * Measured against the literal loop: 1.5 x at 20 and 50 features; 1.0 x in order and 1.6 x shuffled at 784. */
FGD_INLINE fgd_status N(sgd_rows)(T *restrict w, T *intercept, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                  const fgd_rows *rows, const fgd_stretch *s, N(pointwise) *value, N(pointwise) *slope,
                                  int penalties)
{
    const T *Y = rows->y, *weights = rows->sample_weight;
    const T e = (T)s->loss_parameter, fit_intercept = s->fit_intercept ? (T)s->intercept_decay : 0;
    const ptrdiff_t n = v->n, m = v->m; /* copies, which no store to w can change */
    const N(lanes) mask = N(load)(v->mask);
    T b = *intercept;
    fgd_cursor cursor = fgd_cursor_at_start(rows), ahead = cursor;
    fgd_seek(&cursor, s->start);
    fgd_seek(&ahead, s->start + fgd_rows_ahead((ptrdiff_t)sizeof(T) * n));

    ptrdiff_t row = fgd_next_row(&cursor);
    N(update) previous = {1, 0, N(row)(v, row), N(last_vector)(v, row)}, now = previous;
    T p = N(dot)(w, now.x, now.x_last, v) + b;

    for (ptrdiff_t start = s->start; start < s->stop; start += FGD_SEGMENT) {
        const ptrdiff_t length = s->stop - start < FGD_SEGMENT ? s->stop - start : FGD_SEGMENT;
        const double *lr = s->lr + (start - s->start);
        T ys[FGD_SEGMENT], ps[FGD_SEGMENT], sample_weights[FGD_SEGMENT];
        double squares = 0;
        for (ptrdiff_t i = 0; i < length; i++) {
            const T y = Y[row], sample_weight = weights ? weights[row] : 1, rate = (T)lr[i] * sample_weight;
            const T decay = (T)(1 - lr[i] * s->alpha);
            ys[i] = y, ps[i] = p, sample_weights[i] = sample_weight;
            now.shrink = decay > 0 ? decay : 0;
            now.step = -rate * slope(y, p, e);

            row = fgd_next_row(&cursor);
            const T *next = N(row)(v, row), *next_last = N(last_vector)(v, row);
            const ptrdiff_t far_row = fgd_next_row(&ahead);
            const T *far = N(row)(v, far_row);
            FGD_PREFETCH(Y + far_row);
            FGD_PREFETCH(far + n - 1);
            N(lanes) weight = N(add)(N(scale)(N(load)(w + m), previous.shrink),
                                     N(scale)(N(mul)(mask, N(load)(previous.x_last)), previous.step));
            N(store)(w + m, weight);
            N(lanes) x = N(load)(next_last);
            N(lanes) wx = N(mul)(weight, x), xx = N(mul)(N(mul)(mask, N(load)(now.x_last)), x);
            N(lanes) ww = N(mul)(weight, weight);
            for (ptrdiff_t j = 0; j < m; j += W) {
                FGD_PREFETCH(far + j);
                weight =
                    N(add)(N(scale)(N(load)(w + j), previous.shrink), N(scale)(N(load)(previous.x + j), previous.step));
                N(store)(w + j, weight);
                x = N(load)(next + j);
                wx = N(add)(wx, N(mul)(weight, x));
                xx = N(add)(xx, N(mul)(N(load)(now.x + j), x));
                if (penalties) ww = N(add)(ww, N(mul)(weight, weight));
            }
            if (penalties) squares += (double)N(sum)(ww);
            p = (now.shrink * N(sum)(wx) + b) + now.step * (N(sum)(xx) + fit_intercept);
            b += fit_intercept * now.step;
            previous = now;
            now.x = next, now.x_last = next_last;
        }
        const double loss = N(sum_losses)(ys, ps, weights ? sample_weights : NULL, length, e, value);
        if (!(loss - loss == 0)) {
            *failed = start + N(first_not_finite)(ys, ps, length, e, value);
            return FGD_DIVERGED;
        }
        *loss_sum += loss;
        if (penalties) *s->penalties += 0.5 * s->alpha * squares;
        if (penalties && weights) *s->penalties += N(sum_losses)(ys, ps, NULL, length, e, value) - loss;
    }
    N(carry_out)(w, previous, v);
    *intercept = b;
    return FGD_OK;
}

/* ------------------------------------------------------------------ one set of kernels a loss, from its row */

typedef struct {
    N(pointwise) *value, *slope; /* the derivative, cut off */
    double (*sum)(const T *y, const T *p, const T *weight, ptrdiff_t n, T e);
    ptrdiff_t (*first_not_finite)(const T *y, const T *p, ptrdiff_t n, T e);
    fgd_status (*sgd_rows)(T *w, T *intercept, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                           const fgd_rows *rows, const fgd_stretch *s);
    /* many rows: their slopes, weighed; values and derivatives as they are */
    void (*derive)(T *d, const T *y, const T *p, const T *weight, ptrdiff_t n, T e);
    void (*evaluate)(T *value, T *derivative, const T *y, const T *p, ptrdiff_t n, T e);
} N(loss_kernels);

#define LOSS(name, task, parameter, standard, domain, targets, link, bounded)                                          \
    static T N(name##_slope)(T y, T p, T e)                                                                            \
    {                                                                                                                  \
        const T d = N(name##_derivative)(y, p, e);                                                                     \
        return bounded ? d : N(cut_off)(d);                                                                            \
    }                                                                                                                  \
    static double N(sum_##name)(const T *y, const T *p, const T *weight, ptrdiff_t n, T e)                             \
    {                                                                                                                  \
        return N(sum_losses)(y, p, weight, n, e, N(name##_value));                                                     \
    }                                                                                                                  \
    static ptrdiff_t N(first_not_finite_##name)(const T *y, const T *p, ptrdiff_t n, T e)                              \
    {                                                                                                                  \
        return N(first_not_finite)(y, p, n, e, N(name##_value));                                                       \
    }                                                                                                                  \
    static fgd_status N(sgd_rows_##name)(T * w, T * intercept, double *loss_sum, ptrdiff_t *failed, const N(view) *v,  \
                                         const fgd_rows *rows, const fgd_stretch *s)                                   \
    {                                                                                                                  \
        if (s->penalties)                                                                                              \
            return N(sgd_rows)(w, intercept, loss_sum, failed, v, rows, s, N(name##_value), N(name##_slope), 1);       \
        return N(sgd_rows)(w, intercept, loss_sum, failed, v, rows, s, N(name##_value), N(name##_slope), 0);           \
    }                                                                                                                  \
    static void N(derive_##name)(T *restrict d, const T *restrict y, const T *restrict p, const T *restrict weight,    \
                                 ptrdiff_t n, T e)                                                                     \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) d[i] = N(name##_slope)(y[i], p[i], e) * weight[i];                           \
    }                                                                                                                  \
    static void N(evaluate_##name)(T *restrict value, T *restrict derivative, const T *restrict y,                     \
                                   const T *restrict p, ptrdiff_t n, T e)                                              \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) value[i] = N(name##_value)(y[i], p[i], e);                                   \
        for (ptrdiff_t i = 0; i < n; i++) derivative[i] = N(name##_derivative)(y[i], p[i], e);                         \
    }
FGD_LOSS_RULES(LOSS)
#undef LOSS

static const N(loss_kernels) N(losses)[] = {
#define LOSS(name, ...)                                                                                                \
    {N(name##_value),    N(name##_slope),  N(sum_##name),     N(first_not_finite_##name),                              \
     N(sgd_rows_##name), N(derive_##name), N(evaluate_##name)},
    FGD_LOSS_RULES(LOSS)
#undef LOSS
};

static void N(evaluate)(void *value, void *derivative, const void *y, const void *p, int loss, double parameter,
                        ptrdiff_t n)
{
    N(losses)[loss].evaluate(value, derivative, y, p, n, (T)parameter);
}

/* ------------------------------------------------------------------------------------- the gradient of many rows */

/* Prefetches what a loop over columns leaves of four rows. */
FGD_INLINE void N(fetch_ends)(const T *const *far_rows, const N(view) *v)
{
    for (int r = 0; far_rows && r < 4; r++) {
        FGD_PREFETCH(far_rows[r] + v->m);
        FGD_PREFETCH(far_rows[r] + v->n - 1);
    }
}

/* p[0..4) = the products of four rows with w, the last columns at the end: they are fetched last. Prefetches four rows
 * further ahead, none where far_rows is NULL, and add4 prefetches them again: processors drop prefetches while memory
 * is busy (measured, 100,000 x 784: 10.0 ms an epoch against 10.9 where each took two of the rows). */
FGD_INLINE void N(dot4)(T *p, const T *w, const T *const *rows, const T *const *last, const T *const *far_rows,
                        const N(view) *v)
{
    const ptrdiff_t m = v->m;
    const T *const x[4] = {rows[0], rows[1], rows[2], rows[3]};
    const T *far[4] = {NULL};
    for (int r = 0; far_rows && r < 4; r++) far[r] = far_rows[r];
    N(lanes) a[4] = {N(zero)(), N(zero)(), N(zero)(), N(zero)()}, weight;
    N(fetch_ends)(far_rows, v);
    for (ptrdiff_t j = 0; j < m; j += W) {
        weight = N(load)(w + j);
        for (int r = 0; far_rows && r < 4; r++) FGD_PREFETCH(far[r] + j);
        for (int r = 0; r < 4; r++) a[r] = N(add)(a[r], N(mul)(weight, N(load)(x[r] + j)));
    }
    weight = N(load)(w + m);
    for (int r = 0; r < 4; r++) p[r] = N(sum)(N(add)(a[r], N(mul)(weight, N(load)(last[r]))));
}

/* gradient += scale[0] row[0] + ... + scale[3] row[3] */
FGD_INLINE void N(add4)(T *gradient, const T *scales, const T *const *rows, const T *const *last,
                        const T *const *far_rows, const N(view) *v)
{
    const ptrdiff_t m = v->m;
    const T *const x[4] = {rows[0], rows[1], rows[2], rows[3]};
    const T *far[4] = {NULL};
    for (int r = 0; far_rows && r < 4; r++) far[r] = far_rows[r];
    const T d[4] = {scales[0], scales[1], scales[2], scales[3]};
    N(lanes) a = N(scale)(N(load)(last[0]), d[0]);
    for (int r = 1; r < 4; r++) a = N(add)(a, N(scale)(N(load)(last[r]), d[r]));
    N(store)(gradient + m, N(add)(N(load)(gradient + m), N(mul)(N(load)(v->mask), a)));
    for (ptrdiff_t j = 0; j < m; j += W) {
        for (int r = 0; far_rows && r < 4; r++) FGD_PREFETCH(far[r] + j);
        a = N(scale)(N(load)(x[0] + j), d[0]);
        for (int r = 1; r < 4; r++) a = N(add)(a, N(scale)(N(load)(x[r] + j), d[r]));
        N(store)(gradient + j, N(add)(N(load)(gradient + j), a));
    }
}

/* The rows of a chunk that is being summed, and the model that predicts them. */
typedef struct {
    fgd_cursor *cursor;
    fgd_scout *scout;
    const N(view) *view;
    ptrdiff_t n_rows;
    const T *w, *b; /* padded weights and the intercept, of each output */
} N(batch_part);

/* Rows that stay in the first-level cache between the products with the weights and the addition to the gradient. The
 * last four are filled up with rows that count zero. */
typedef struct {
    ptrdiff_t length, whole;
    const T *x[FGD_GROUP_MAX], *last[FGD_GROUP_MAX], *far[FGD_GROUP_MAX];
    T *y, *sample_weight;
} N(row_group);

static ptrdiff_t N(group_rows)(ptrdiff_t n_features, ptrdiff_t outputs)
{
    const ptrdiff_t bytes = outputs > 1 ? FGD_CLASS_BYTES : FGD_GROUP_BYTES;
    const ptrdiff_t most = outputs > 1 ? FGD_CLASS_ROWS : FGD_GROUP_MAX;
    const ptrdiff_t fitting = bytes / ((ptrdiff_t)sizeof(T) * n_features) / 4 * 4;
    return fitting < 4 ? 4 : fitting > most ? most : fitting;
}

FGD_INLINE void N(next_group)(N(row_group) *g, const N(batch_part) *part, ptrdiff_t length)
{
    const N(view) *v = part->view;
    const T *Y = part->cursor->rows->y, *weights = part->cursor->rows->sample_weight;
    ptrdiff_t row[FGD_GROUP_MAX], far_row[FGD_GROUP_MAX];
    g->length = length;
    g->whole = (length + 3) / 4 * 4;
    fgd_next_rows(part->cursor, row, length);
    fgd_scout_rows(part->scout, far_row, length);
    for (ptrdiff_t i = 0; i < length; i++) {
        g->x[i] = N(row)(v, row[i]), g->last[i] = N(last_vector)(v, row[i]), g->far[i] = N(row)(v, far_row[i]);
        g->y[i] = Y[row[i]], g->sample_weight[i] = weights ? weights[row[i]] : 1;
        FGD_PREFETCH(Y + far_row[i]);
    }
    for (ptrdiff_t i = length; i < g->whole; i++) g->x[i] = g->x[0], g->last[i] = g->last[0], g->far[i] = g->x[0];
}

/* Adds to `gradient` (padded) and *gradient_b the sum over the rows of sample_weight l'(y, x.w + b) x, and to *loss the
 * sum of their losses, which are worked out for many groups together. */
static void N(add_gradient)(T *restrict gradient, T *gradient_b, double *loss, const N(batch_part) *part, T e,
                            const N(loss_kernels) *kernels)
{
    const N(view) *v = part->view;
    const ptrdiff_t group = N(group_rows)(v->n, 1);
    T y[FGD_SEGMENT], p[FGD_SEGMENT], weight[FGD_SEGMENT], d[FGD_GROUP_MAX];
    const T *weights = part->cursor->rows->sample_weight ? weight : NULL;
    N(row_group) g;
    T sum_b = 0;
    ptrdiff_t held = 0;
    for (ptrdiff_t left = part->n_rows; left > 0; left -= group) {
        if (held + group > FGD_SEGMENT) {
            *loss += kernels->sum(y, p, weights, held, e);
            held = 0;
        }
        g.y = y + held, g.sample_weight = weight + held;
        N(next_group)(&g, part, left < group ? left : group);
        T *scores = p + held;
        for (ptrdiff_t i = 0; i < g.whole; i += 4) N(dot4)(scores + i, part->w, g.x + i, g.last + i, g.far + i, v);
        for (ptrdiff_t i = 0; i < g.length; i++) scores[i] += *part->b;
        kernels->derive(d, g.y, scores, g.sample_weight, g.length, e);
        for (ptrdiff_t i = g.length; i < g.whole; i++) d[i] = 0;
        for (ptrdiff_t i = 0; i < g.whole; i += 4) N(add4)(gradient, d + i, g.x + i, g.last + i, g.far + i, v);
        for (ptrdiff_t i = 0; i < g.length; i++) sum_b += d[i];
        held += g.length;
    }
    *loss += kernels->sum(y, p, weights, held, e);
    *gradient_b += sum_b;
}
