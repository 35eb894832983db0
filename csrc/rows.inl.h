/* Plain sgd row by row, with everything that scikit-learn's has, over dense and sparse rows alike:
 *
 *     p = w . x + b
 *     w <- max(0, 1 - lr alpha) w + step x, b <- b + decay (step - lr one_class), step = -lr l'(p)
 *     average <- average + (w - average) / number of the update, b alike
 *     w_j <- towards zero by what it has not got yet of the L1 penalty: the columns j of the row alone
 *
 * A sparse row costs its non-zeros and no more, so what changes every weight is put off: the weights are scale * w, and
 * the average is (average + a w) / b. Neither shrinking nor averaging then touches a weight (Bottou, "Stochastic
 * gradient descent tricks", 2012; Xu, "Towards optimal one pass large scale learning with averaged stochastic gradient
 * descent", 2011). The L1 penalty is cumulative (Tsuruoka, Tsujii & Ananiadou, "Stochastic gradient descent training
 * for L1-regularized log-linear models with cumulative penalty", ACL 2009): of `most`, which grows by lr l1 an update,
 * a weight gets what it has not got yet when a row has its column, and stops at zero. Dense rows shrink their weights
 * as they are added.
 *
 * Three habits of scikit-learn are kept, because its results depend on them. What the L1 penalty takes from a weight is
 * taken from all that was averaged since the average last began anew, which it does when the weights have shrunk far
 * (FGD_SHRUNK). The penalties use norms of the weights that the last update has reached. A row of zeros is no update of
 * PA-I. */
#ifndef FASTGD_ROWS_H
#define FASTGD_ROWS_H

enum { FGD_DENSE, FGD_NARROW, FGD_WIDE }; /* rows of an array, of a matrix with indices of 32 bits, of 64 */

FGD_INLINE ptrdiff_t fgd_index(const void *indices, ptrdiff_t e, int wide)
{
    return wide ? (ptrdiff_t)((const int64_t *)indices)[e] : ((const int32_t *)indices)[e];
}

/* The feature that the column of value number e stands for (Weinberger, Dasgupta, Langford, Smola & Attenberg, "Feature
 * hashing for large scale multitask learning", ICML 2009, eq. 1, without signs, as Vowpal Wabbit has it). */
FGD_INLINE ptrdiff_t fgd_column(const void *indices, ptrdiff_t e, int wide, ptrdiff_t mask)
{
    return fgd_index(indices, e, wide) & mask;
}

/* What is carried from call to call, FGD_ROWS_KEPT numbers of a stretch's `kept`. */
typedef struct {
    double squares, magnitudes; /* ||w||^2 and ||w||_1 */
    double a, b;                /* of the average; b is zero before the first row */
    double shrunk;              /* how far the weights have shrunk since the average began anew */
    double skipped;             /* rows that were no update */
} fgd_carried;
_Static_assert(sizeof(fgd_carried) == FGD_ROWS_KEPT * sizeof(double), "FGD_ROWS_KEPT counts them");

#endif

#define FGD_SHRUNK (sizeof(T) == sizeof(float) ? 1e-6 : 1e-9)

/* A row: n values and their columns; of a dense one the last vector, and no columns. */
typedef struct {
    const T *x, *last;
    const void *columns;
    ptrdiff_t n, mask;
} N(example);

FGD_INLINE N(example) N(example_at)(const N(view) *v, const fgd_rows *rows, ptrdiff_t i, int kind)
{
    if (kind == FGD_DENSE) return (N(example)){N(row)(v, i), N(last_vector)(v, i), NULL, v->n, -1};
    const ptrdiff_t first = fgd_index(rows->indptr, i, kind == FGD_WIDE),
                    end = fgd_index(rows->indptr, i + 1, kind == FGD_WIDE);
    const size_t size = kind == FGD_WIDE ? sizeof(int64_t) : sizeof(int32_t);
    return (N(example)){(const T *)rows->X + first, NULL, (const char *)rows->indices + (size_t)first * size,
                        end - first, rows->mask};
}

/* The model in training. Its arrays are of n elements: those of dense rows padded, those of sparse rows the caller's.
 */
typedef struct {
    T *w, *average;   /* NULL: not wanted */
    T *got;           /* of the L1 penalty, by each weight, */
    double *got_wide; /* for sparse rows */
    double most, scale;
    T b, average_b;
    ptrdiff_t n;
    fgd_carried kept;
} N(model);

/* ------------------------------------------------------------------------------------------------- dense rows */

FGD_INLINE T N(dot_dense)(const T *w, N(example) row, const T *far, const N(view) *v)
{
    const ptrdiff_t m = v->m;
    N(lanes) a = N(mul)(N(load)(w + m), N(load)(row.last));
    for (ptrdiff_t j = 0; j < m; j += W) {
        FGD_PREFETCH(far + j);
        a = N(add)(a, N(mul)(N(load)(w + j), N(load)(row.x + j)));
    }
    return N(sum)(a);
}

FGD_INLINE double N(squares_dense)(N(example) row, const N(view) *v)
{
    N(lanes) x = N(mul)(N(load)(v->mask), N(load)(row.last)), a = N(mul)(x, x);
    for (ptrdiff_t j = 0; j < v->m; j += W) {
        x = N(load)(row.x + j);
        a = N(add)(a, N(mul)(x, x));
    }
    return (double)N(sum)(a);
}

/* w <- shrink w + step x, average <- average - late x */
FGD_INLINE void N(add_some)(T *restrict w, T *restrict average, const T *restrict x, ptrdiff_t n, T shrink, T step,
                            T late)
{
    if (average)
        for (ptrdiff_t j = 0; j < n; j++) average[j] -= late * x[j];
    for (ptrdiff_t j = 0; j < n; j++) w[j] = shrink * w[j] + step * x[j];
}

FGD_INLINE void N(add_dense)(const N(model) *m, N(example) row, T shrink, T step, T late, const N(view) *v)
{
    T last[FGD_LANE_BYTES / sizeof(T)];
    for (ptrdiff_t k = 0; k < W; k++) last[k] = v->mask[k] * row.last[k];
    N(add_some)(m->w, m->average, row.x, v->m, shrink, step, late);
    N(add_some)(m->w + v->m, m->average ? m->average + v->m : NULL, last, W, shrink, step, late);
}

/* A weight without any penalty would be w + got. */
FGD_INLINE void N(take_l1_dense)(T *restrict w, T *restrict got, ptrdiff_t n, T most)
{
    for (ptrdiff_t j = 0; j < n; j++) {
        const T free = w[j] + got[j], raised = free < -most ? -most : free;
        got[j] = raised > most ? most : raised;
        w[j] = free - got[j];
    }
}

FGD_INLINE void N(norms_dense)(fgd_carried *kept, const T *w, ptrdiff_t n)
{
    N(lanes) squares = N(zero)(), magnitudes = squares;
    for (ptrdiff_t j = 0; j < n; j += W) {
        T size[FGD_LANE_BYTES / sizeof(T)];
        for (ptrdiff_t k = 0; k < W; k++) size[k] = w[j + k] < 0 ? -w[j + k] : w[j + k];
        const N(lanes) a = N(load)(size);
        squares = N(add)(squares, N(mul)(a, a));
        magnitudes = N(add)(magnitudes, a);
    }
    kept->squares = (double)N(sum)(squares), kept->magnitudes = (double)N(sum)(magnitudes);
}

/* ------------------------------------------------------------------------------------------------ sparse rows */

FGD_INLINE T N(dot_sparse)(const T *restrict w, const T *restrict x, const void *restrict columns, ptrdiff_t n,
                           int wide, ptrdiff_t mask)
{
    T sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    ptrdiff_t k = 0;
    for (; k + 4 <= n; k += 4) {
        FGD_ONE_BY_ONE;
        sum0 += w[fgd_column(columns, k, wide, mask)] * x[k];
        sum1 += w[fgd_column(columns, k + 1, wide, mask)] * x[k + 1];
        sum2 += w[fgd_column(columns, k + 2, wide, mask)] * x[k + 2];
        sum3 += w[fgd_column(columns, k + 3, wide, mask)] * x[k + 3];
    }
    if (n & 2) {
        sum0 += w[fgd_column(columns, k, wide, mask)] * x[k];
        sum1 += w[fgd_column(columns, k + 1, wide, mask)] * x[k + 1];
        k += 2;
    }
    if (n & 1) sum2 += w[fgd_column(columns, k, wide, mask)] * x[k];
    return (sum0 + sum2) + (sum1 + sum3);
}

/* A row to come: its values and columns. Of one that comes later, where they are. */
FGD_INLINE void N(fetch_sparse)(const fgd_rows *rows, ptrdiff_t soon, ptrdiff_t later, const N(view) *v, int kind)
{
    const ptrdiff_t size = kind == FGD_WIDE ? (ptrdiff_t)sizeof(int64_t) : (ptrdiff_t)sizeof(int32_t);
    FGD_PREFETCH((const char *)rows->indptr + later * size);
    FGD_PREFETCH((const T *)rows->y + later);
    const N(example) row = N(example_at)(v, rows, soon, kind);
    const char *x = (const char *)row.x, *columns = row.columns;
    for (ptrdiff_t k = 0; k < row.n * (ptrdiff_t)sizeof(T); k += FGD_LINE_BYTES) FGD_PREFETCH(x + k);
    for (ptrdiff_t k = 0; k < row.n * size; k += FGD_LINE_BYTES) FGD_PREFETCH(columns + k);
}

FGD_INLINE double N(squares_sparse)(N(example) row)
{
    double sum = 0;
    for (ptrdiff_t k = 0; k < row.n; k++) sum += (double)row.x[k] * (double)row.x[k];
    return sum;
}

FGD_INLINE void N(add_sparse)(T *restrict w, T *restrict average, const T *restrict x, const void *restrict columns,
                              ptrdiff_t n, T step, T late, int kind, ptrdiff_t mask)
{
    if (average)
        for (ptrdiff_t k = 0; k < n; k++) average[fgd_column(columns, k, kind == FGD_WIDE, mask)] -= late * x[k];
    for (ptrdiff_t k = 0; k < n; k++) w[fgd_column(columns, k, kind == FGD_WIDE, mask)] += step * x[k];
}

FGD_INLINE void N(take_l1_sparse)(T *restrict w, double *restrict got, const void *restrict columns, ptrdiff_t n,
                                  double most, double scale, int wide, ptrdiff_t mask)
{
    const double once = 1 / scale;
    for (ptrdiff_t k = 0; k < n; k++) {
        const ptrdiff_t j = fgd_column(columns, k, wide, mask);
        const double free = (double)w[j] * scale + got[j], raised = free < -most ? -most : free;
        got[j] = raised > most ? most : raised;
        w[j] = (T)((free - got[j]) * once);
    }
}

/* of the weights that a row has */
FGD_INLINE void N(norms_sparse)(fgd_carried *kept, const T *restrict w, N(example) row, double scale, int kind)
{
    double squares = 0, magnitudes = 0;
    for (ptrdiff_t k = 0; k < row.n; k++) {
        const double weight = (double)w[fgd_column(row.columns, k, kind == FGD_WIDE, row.mask)];
        squares += weight * weight;
        magnitudes += weight < 0 ? -weight : weight;
    }
    kept->squares = squares * scale * scale, kept->magnitudes = magnitudes * scale;
}

/* ------------------------------------------------------------------------------- what touches all of the weights */

/* scale becomes 1 */
static void N(take_in_scale)(N(model) *m)
{
    T *restrict w = m->w;
    const T scale = (T)m->scale;
    if (scale != 1)
        for (ptrdiff_t j = 0; j < m->n; j++) w[j] *= scale;
    if (m->kept.a != 0) m->kept.a /= m->scale;
    m->scale = 1;
}

/* the average becomes what it stands for, and back */
static void N(show_average)(const N(model) *m)
{
    T *restrict average = m->average;
    const T *restrict w = m->w;
    const T a = (T)m->kept.a, b = (T)m->kept.b;
    if (average && a != 0)
        for (ptrdiff_t j = 0; j < m->n; j++) average[j] = (average[j] + a * w[j]) / b;
}

static void N(hide_average)(const N(model) *m)
{
    T *restrict average = m->average;
    const T *restrict w = m->w;
    const T a = (T)m->kept.a, b = (T)m->kept.b;
    if (average && a != 0)
        for (ptrdiff_t j = 0; j < m->n; j++) average[j] = b * average[j] - a * w[j];
}

static void N(begin_anew)(N(model) *m)
{
    N(show_average)(m);
    m->kept.a = 0, m->kept.b = 1, m->kept.shrunk = 1;
}

static void N(begin)(N(model) *m, const fgd_stretch *s)
{
    memcpy(&m->kept, s->kept + FGD_MAX_KEPT + 1, sizeof m->kept);
    m->scale = 1;
    if (m->kept.b == 0) {
        m->kept.b = m->kept.shrunk = 1;
        for (ptrdiff_t j = 0; j < m->n; j++) {
            const double weight = (double)m->w[j];
            m->kept.squares += weight * weight;
            m->kept.magnitudes += weight < 0 ? -weight : weight;
        }
    }
    N(hide_average)(m);
}

static void N(end)(N(model) *m, const fgd_stretch *s)
{
    N(take_in_scale)(m);
    N(show_average)(m);
    memcpy(s->kept + FGD_MAX_KEPT + 1, &m->kept, sizeof m->kept);
}

/* ------------------------------------------------------------------------------------------------- row by row */

/* How far the weights go along x: -lr l'(p), or passive-aggressive: as far as brings the loss of this row to zero, but
 * at most lr (PA-I), or the further the more it costs (PA-II). Crammer, Dekel, Keshet, Shalev-Shwartz & Singer, "Online
 * passive-aggressive algorithms", JMLR 7, 2006, eq. 7 to 9 and figure 1. */
FGD_INLINE double N(step_of)(const N(loss_kernels) *loss, T y, T p, T e, double lr, int aggressive, double squares)
{
    const double derivative = (double)loss->slope(y, p, e);
    if (!aggressive) return -lr * derivative;
    const double value = (double)loss->value(y, p, e), down = derivative > 0 ? -1 : 1;
    if (aggressive == 2) return down * value / (squares + 0.5 / lr);
    return down * (value < lr * squares ? value / squares : lr);
}

/* Rare, and out of line with a copy of its own: what it is given may stay in registers. */
static N(model) N(shrunk_far)(N(model) m, int kind)
{
    N(begin_anew)(&m);
    if (kind != FGD_DENSE) N(take_in_scale)(&m);
    return m;
}

FGD_INLINE void N(shrink_all)(N(model) *m, double shrink, int kind)
{
    m->kept.shrunk *= shrink;
    m->kept.squares *= shrink * shrink;
    m->kept.magnitudes *= shrink;
    const int far = m->kept.shrunk < FGD_SHRUNK;
    if (kind != FGD_DENSE)
        m->scale *= shrink;
    else if (!far)
        m->kept.a /= shrink;
    if (far) *m = N(shrunk_far)(*m, kind);
}

FGD_INLINE fgd_status N(walk)(N(model) *model, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                              const fgd_rows *rows, const fgd_stretch *s, int kind)
{
    const N(loss_kernels) *loss = &N(losses)[s->loss];
    const T *Y = rows->y, *weights = rows->sample_weight;
    const T e = (T)s->loss_parameter;
    N(model) m = *model;
    fgd_cursor cursor = fgd_cursor_at_start(rows), ahead = cursor, far_ahead = cursor;
    const ptrdiff_t rows_ahead = kind == FGD_DENSE ? fgd_rows_ahead((ptrdiff_t)sizeof(T) * v->n) : FGD_SPARSE_AHEAD;
    fgd_seek(&cursor, s->start);
    fgd_seek(&ahead, s->start + rows_ahead);
    fgd_seek(&far_ahead, s->start + 2 * rows_ahead);

    for (ptrdiff_t start = s->start; start < s->stop; start += FGD_SEGMENT) {
        const ptrdiff_t length = s->stop - start < FGD_SEGMENT ? s->stop - start : FGD_SEGMENT;
        T ys[FGD_SEGMENT], ps[FGD_SEGMENT], sample_weights[FGD_SEGMENT];
        double penalties = 0;
        for (ptrdiff_t i = 0; i < length; i++) {
            const double lr = s->lr[start - s->start + i];
            const ptrdiff_t r = fgd_next_row(&cursor), far = fgd_next_row(&ahead);
            if (kind != FGD_DENSE) N(fetch_sparse)(rows, far, fgd_next_row(&far_ahead), v, kind);
            const N(example) row = N(example_at)(v, rows, r, kind);
            const T p = (kind == FGD_DENSE
                             ? N(dot_dense)(m.w, row, N(row)(v, far), v)
                             : (T)m.scale * N(dot_sparse)(m.w, row.x, row.columns, row.n, kind == FGD_WIDE, row.mask)) +
                        m.b;
            ys[i] = Y[r], ps[i] = p, sample_weights[i] = weights ? weights[r] : 1;
            if (s->penalties && !s->aggressive)
                penalties += 0.5 * s->alpha * m.kept.squares + s->l1 * m.kept.magnitudes + s->one_class * (double)m.b;

            const double squares = !s->aggressive      ? 0
                                   : kind == FGD_DENSE ? N(squares_dense)(row, v)
                                                       : N(squares_sparse)(row);
            if (s->aggressive == 1 && squares == 0) {
                m.kept.skipped++;
                continue;
            }
            const double step = N(step_of)(loss, ys[i], p, e, lr, s->aggressive, squares) * (double)sample_weights[i];
            const double keep = 1 - lr * s->alpha, shrink = keep > 0 ? keep : 0;
            if (s->alpha != 0) N(shrink_all)(&m, shrink, kind);
            const double along = step / m.scale, late = m.kept.a * along;
            if (kind == FGD_DENSE && (step != 0 || shrink != 1)) N(add_dense)(&m, row, (T)shrink, (T)step, (T)late, v);
            if (kind != FGD_DENSE && step != 0)
                N(add_sparse)(m.w, m.average, row.x, row.columns, row.n, (T)along, (T)late, kind, row.mask);
            if (s->penalties && step != 0) {
                if (kind == FGD_DENSE)
                    N(norms_dense)(&m.kept, m.w, m.n);
                else
                    N(norms_sparse)(&m.kept, m.w, row, m.scale, kind);
            }
            if (s->fit_intercept) m.b += (T)((step - lr * s->one_class) * s->intercept_decay);

            const double number = (double)(s->t + start - s->start + i + 1 - s->average_from + 1) - m.kept.skipped;
            if (m.average && number >= 1) {
                if (number > 1) m.kept.b /= 1 - 1 / number;
                m.kept.a += m.kept.b / number * m.scale;
                m.average_b += (T)((double)(m.b - m.average_b) / number);
            }
            if (s->l1 != 0) {
                m.most += lr * s->l1;
                if (kind == FGD_DENSE)
                    N(take_l1_dense)(m.w, m.got, m.n, (T)m.most);
                else
                    N(take_l1_sparse)(m.w, m.got_wide, row.columns, row.n, m.most, m.scale, kind == FGD_WIDE, row.mask);
            }
        }
        const double sum = loss->sum(ys, ps, weights ? sample_weights : NULL, length, e);
        if (!(sum - sum == 0)) {
            *failed = start + loss->first_not_finite(ys, ps, length, e);
            return FGD_DIVERGED;
        }
        *loss_sum += sum;
        if (s->penalties && weights) penalties += loss->sum(ys, ps, NULL, length, e) - sum;
        if (s->penalties) *s->penalties += penalties;
    }
    *model = m;
    return FGD_OK;
}

static fgd_status N(walk_dense)(N(model) *model, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                const fgd_rows *rows, const fgd_stretch *s)
{
    return N(walk)(model, loss_sum, failed, v, rows, s, FGD_DENSE);
}

static fgd_status N(walk_narrow)(N(model) *model, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                 const fgd_rows *rows, const fgd_stretch *s)
{
    return N(walk)(model, loss_sum, failed, v, rows, s, FGD_NARROW);
}

static fgd_status N(walk_wide)(N(model) *model, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                               const fgd_rows *rows, const fgd_stretch *s)
{
    return N(walk)(model, loss_sum, failed, v, rows, s, FGD_WIDE);
}
