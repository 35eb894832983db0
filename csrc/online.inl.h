/* Vowpal Wabbit's update, row by row: each feature has its own rate, and the step knows how far it may go.
 *
 * With the row's weight h and g = l'(p), of each feature that is not zero
 *     sum <- sum + h g^2 x^2, rate = sum^-power_t                  if `adaptive`: Duchi, Hazan & Singer, "Adaptive
 *         subgradient methods", JMLR 12, 2011, figure 1; McMahan & Streeter, "Adaptive bound optimization", COLT 2010
 *     largest <- max(largest, |x|), rate <- rate largest^(2 q - 2)   if `normalized`: Ross, Mineiro & Langford,
 *         "Normalized online learning", UAI 2013, algorithm 2; q is power_t, but zero if not `adaptive` (algorithm 1)
 *     w <- shrink w + step rate x, step = factor * path              if `invariant`: invariant.inl.h; else -lr h g
 * where factor, if `normalized`, is (mean over the rows of the sum of (x / largest)^2)^(q - 1). Where `largest` grows,
 * the weight first becomes what it would be, had it been so before. Not `adaptive`, lr is divided by (sum of the rows'
 * weights)^power_t. The intercept is a feature of value 1, and does not shrink. Rows without gradient or weight change
 * nothing else. Of a column that stands twice in a sparse row, each value is a feature of that weight.
 *
 * The powers, and that a row is predicted before its weights are rescaled, are those of vowpalwabbit 9.11, gd.cc. It
 * differs in this: its squared error is twice ours; it keeps predictions within the range of the labels; without
 * `adaptive`, and with a power_t that is not 1/2, it takes q = power_t. */
#ifndef FASTGD_ONLINE_H
#define FASTGD_ONLINE_H

enum {
    FGD_PIECE = 256, /* features whose rates are worked out together: whole vectors */
    /* how the rates fall with the sums: not at all, with their square roots, with any power of them */
    FGD_LEVEL = 0,
    FGD_ROOTS = 1,
    FGD_POWERS = 2
};

#endif

/* What the hyper-parameters say. */
typedef struct {
    int fall, normalized, invariant; /* fall: FGD_LEVEL if not `adaptive` */
    T power_t;
} N(manner);

/* Features: their weights, what is remembered of them (NULL: nothing), and rate times value of a row's. */
typedef struct {
    T *w, *sum, *largest, *along;
} N(features);

/* The model in training. */
typedef struct {
    N(features) weights;   /* of dense rows padded, of sparse rows the caller's */
    N(features) intercept; /* the first of one vector; the others are zero */
    N(manner) manner;
    double scale;   /* the weights of sparse rows are scale * w */
    T shrink, step; /* of dense rows: the update that is known, but not yet carried out */
    vw_kept kept;
} N(learner);

FGD_INLINE T N(power)(T x, T exponent) { return N(exp)(exponent * N(log)(x)); }

/* ---------------------------------------------------------------------------------- some features of a row */

/* a weight, as if its feature had always been as large as now */
FGD_INLINE void N(grow)(T *w, T *largest, T size, const N(manner) *manner)
{
    const T ratio = *largest / size;
    if (ratio > 0)
        *w *= manner->fall == FGD_LEVEL   ? ratio * ratio
              : manner->fall == FGD_ROOTS ? ratio
                                          : N(power)(ratio, 2 - 2 * manner->power_t);
    *largest = size;
}

/* what is remembered moves on, by h g^2 = `square` */
FGD_INLINE void N(remember)(const N(features) *f, const T *restrict x, ptrdiff_t n, T square, const N(manner) *manner)
{
    T *restrict sum = f->sum, *restrict largest = f->largest;
    if (manner->fall != FGD_LEVEL)
        for (ptrdiff_t j = 0; j < n; j++) sum[j] += square * (x[j] * x[j]);
    if (!manner->normalized) return;
    int larger = 0;
    for (ptrdiff_t j = 0; j < n; j++) larger |= (x[j] < 0 ? -x[j] : x[j]) > largest[j];
    for (ptrdiff_t j = 0; larger && j < n; j++) {
        const T size = x[j] < 0 ? -x[j] : x[j];
        if (size > largest[j]) N(grow)(f->w + j, largest + j, size, manner);
    }
}

/* along <- rate x, units <- x / largest. Where a sum is no normal number the rate is zero. */
FGD_INLINE void N(rate_some)(T *restrict along, T *restrict units, const T *restrict x, const T *restrict sum,
                             const T *restrict largest, ptrdiff_t n, int fall, int normalized, T power_t)
{
    const T tiny = N(exp2i)(1 - EXPONENT_BIAS); /* the smallest normal number */
    for (ptrdiff_t j = 0; j < n; j++) {
        const T size = normalized && largest[j] > 0 ? largest[j] : 1;
        if (fall == FGD_LEVEL) {
            units[j] = x[j] / size;
            along[j] = units[j] / size;
            continue;
        }
        const T total = sum[j] >= tiny ? sum[j] : 1;
        T rated;
        if (fall == FGD_ROOTS) {
            const T root = SQRT(total);
            rated = x[j] / (size * root); /* one division for both */
            units[j] = rated * root;
        } else {
            units[j] = x[j] / size;
            rated = units[j] * N(exp)((2 * power_t - 1) * N(log)(size) - power_t * N(log)(total));
        }
        along[j] = sum[j] >= tiny ? rated : 0;
    }
}

/* The same for all features of a row; adds to *moved the sum of rate x^2, and to *norm that of (x / largest)^2.
 * n is a multiple of W. */
static void N(rate)(N(lanes) *moved, N(lanes) *norm, const N(features) *f, const T *x, ptrdiff_t n,
                    const N(manner) *manner)
{
    const T q = manner->power_t;
    for (ptrdiff_t first = 0; first < n; first += FGD_PIECE) {
        const ptrdiff_t length = n - first < FGD_PIECE ? n - first : FGD_PIECE;
        T units[FGD_PIECE], *along = f->along + first;
        const T *here = x + first, *sum = f->sum + first, *largest = f->largest + first;
        switch (2 * manner->fall + manner->normalized) {
        case 2 * FGD_LEVEL:
            N(rate_some)(along, units, here, sum, largest, length, FGD_LEVEL, 0, q);
            break;
        case 2 * FGD_LEVEL + 1:
            N(rate_some)(along, units, here, sum, largest, length, FGD_LEVEL, 1, q);
            break;
        case 2 * FGD_ROOTS:
            N(rate_some)(along, units, here, sum, largest, length, FGD_ROOTS, 0, q);
            break;
        case 2 * FGD_ROOTS + 1:
            N(rate_some)(along, units, here, sum, largest, length, FGD_ROOTS, 1, q);
            break;
        case 2 * FGD_POWERS:
            N(rate_some)(along, units, here, sum, largest, length, FGD_POWERS, 0, q);
            break;
        default:
            N(rate_some)(along, units, here, sum, largest, length, FGD_POWERS, 1, q);
            break;
        }
        for (ptrdiff_t j = 0; j < length; j += W) {
            const N(lanes) unit = N(load)(units + j);
            *moved = N(add)(*moved, N(mul)(N(load)(along + j), N(load)(here + j)));
            *norm = N(add)(*norm, N(mul)(unit, unit));
        }
    }
}

/* ------------------------------------------------------------------------------------------------- dense rows */

/* A row in whole vectors: its last one without what does not count. */
typedef struct {
    const T *x;
    T last[FGD_LANE_BYTES / sizeof(T)];
} N(whole);

FGD_INLINE N(whole) N(whole_row)(N(example) row, const N(view) *v)
{
    N(whole) whole = {row.x, {0}};
    for (ptrdiff_t k = 0; k < W; k++) whole.last[k] = v->mask[k] * row.last[k];
    return whole;
}

FGD_INLINE N(features) N(from)(N(features) f, ptrdiff_t j)
{
    return (N(features)){f.w + j, f.sum ? f.sum + j : NULL, f.largest ? f.largest + j : NULL, f.along + j};
}

/* w <- shrink w + step along; gives lanes + w x */
FGD_INLINE N(lanes)
    N(move)(T *restrict w, const T *restrict along, const T *x, const T *far, ptrdiff_t n, T shrink, T step, N(lanes) a)
{
    for (ptrdiff_t j = 0; j < n; j += W) {
        if (far) FGD_PREFETCH(far + j);
        const N(lanes) weight = N(add)(N(scale)(N(load)(w + j), shrink), N(scale)(N(load)(along + j), step));
        N(store)(w + j, weight);
        a = N(add)(a, N(mul)(weight, N(load)(x + j)));
    }
    return a;
}

/* Carries out the update that waits, and gives w . x, in one pass over the weights. */
FGD_INLINE T N(predict_dense)(const N(learner) *m, const N(whole) *row, const T *far, const N(view) *v)
{
    const N(features) *f = &m->weights;
    const N(lanes) a = N(move)(f->w, f->along, row->x, far, v->m, m->shrink, m->step, N(zero)());
    return N(sum)(N(move)(f->w + v->m, f->along + v->m, row->last, NULL, W, m->shrink, m->step, a));
}

FGD_INLINE void N(rate_dense)(N(lanes) *moved, N(lanes) *norm, const N(learner) *m, const N(whole) *row, T square,
                              const N(view) *v)
{
    const N(features) end = N(from)(m->weights, v->m);
    N(remember)(&m->weights, row->x, v->m, square, &m->manner);
    N(remember)(&end, row->last, W, square, &m->manner);
    N(rate)(moved, norm, &m->weights, row->x, v->m, &m->manner);
    N(rate)(moved, norm, &end, row->last, W, &m->manner);
}

/* ------------------------------------------------------------------------------------------------ sparse rows */

/* Some of a row's features, side by side, and zeros behind them up to whole vectors. */
typedef struct {
    T x[FGD_PIECE], sum[FGD_PIECE], largest[FGD_PIECE], along[FGD_PIECE];
    ptrdiff_t n;
} N(piece);

static void N(rate_piece)(N(piece) *piece, N(lanes) *moved, N(lanes) *norm, const N(learner) *m, N(example) row,
                          ptrdiff_t first, int kind)
{
    const N(features) *f = &m->weights, side_by_side = {NULL, piece->sum, piece->largest, piece->along};
    piece->n = row.n - first < FGD_PIECE ? row.n - first : FGD_PIECE;
    for (ptrdiff_t k = 0; k < piece->n; k++) {
        const ptrdiff_t j = fgd_column(row.columns, first + k, kind == FGD_WIDE, row.mask);
        piece->x[k] = row.x[first + k];
        piece->sum[k] = m->manner.fall != FGD_LEVEL ? f->sum[j] : 0;
        piece->largest[k] = m->manner.normalized ? f->largest[j] : 0;
    }
    const ptrdiff_t whole = (piece->n + W - 1) / W * W;
    for (ptrdiff_t k = piece->n; k < whole; k++) piece->x[k] = piece->sum[k] = piece->largest[k] = 0;
    N(rate)(moved, norm, &side_by_side, piece->x, whole, &m->manner);
}

FGD_INLINE void N(rate_sparse)(N(piece) *piece, N(lanes) *moved, N(lanes) *norm, const N(learner) *m, N(example) row,
                               T square, int kind)
{
    const N(features) *f = &m->weights;
    for (ptrdiff_t k = 0; k < row.n; k++) {
        const ptrdiff_t j = fgd_column(row.columns, k, kind == FGD_WIDE, row.mask);
        const T x = row.x[k], size = x < 0 ? -x : x;
        if (m->manner.fall != FGD_LEVEL) f->sum[j] += square * (x * x);
        if (m->manner.normalized && size > f->largest[j]) N(grow)(f->w + j, f->largest + j, size, &m->manner);
    }
    for (ptrdiff_t first = 0; first < row.n; first += FGD_PIECE) N(rate_piece)(piece, moved, norm, m, row, first, kind);
}

/* w <- w + step along; a row of several pieces is rated anew, the piece at hand was its last */
FGD_INLINE void N(move_sparse)(N(piece) *piece, const N(learner) *m, N(example) row, T step, int kind)
{
    N(lanes) unused = N(zero)();
    for (ptrdiff_t first = 0; first < row.n; first += FGD_PIECE) {
        if (row.n > FGD_PIECE) N(rate_piece)(piece, &unused, &unused, m, row, first, kind);
        for (ptrdiff_t k = 0; k < piece->n; k++)
            m->weights.w[fgd_column(row.columns, first + k, kind == FGD_WIDE, row.mask)] += step * piece->along[k];
    }
}

/* scale becomes 1 */
static void N(scale_weights)(N(learner) *m, ptrdiff_t n)
{
    T *restrict w = m->weights.w;
    const T scale = (T)m->scale;
    if (scale != 1)
        for (ptrdiff_t j = 0; j < n; j++) w[j] *= scale;
    m->scale = 1;
}

/* ------------------------------------------------------------------------------------------------- row by row */

/* the factor of all rates, after a row of importance h */
FGD_INLINE T N(count_norm)(vw_kept *kept, T norm, T h, const N(manner) *manner)
{
    if (!manner->normalized) return 1;
    kept->learned += (double)h;
    kept->norm += (double)h * (double)norm;
    const double mean = kept->norm / kept->learned;
    if (mean == 0) return 0;
    return manner->fall == FGD_LEVEL   ? (T)(1 / mean)
           : manner->fall == FGD_ROOTS ? (T)(1 / sqrt(mean))
                                       : N(power)((T)mean, manner->power_t - 1);
}

/* A row on its way: its values, whole vectors of them if it is dense, its target and prediction, its importance. */
typedef struct {
    N(example) example;
    N(whole) whole;
    N(piece) *piece;
    T y, p, h, one[FGD_LANE_BYTES / sizeof(T)]; /* one: the value of the intercept */
} N(lesson);

FGD_INLINE T N(predict)(const N(learner) *m, const N(lesson) *row, const T *far, const N(view) *v, int kind)
{
    const T b = m->intercept.w[0];
    if (kind == FGD_DENSE) return N(predict_dense)(m, &row->whole, far, v) + b;
    const N(example) *x = &row->example;
    return (T)m->scale * N(dot_sparse)(m->weights.w, x->x, x->columns, x->n, kind == FGD_WIDE, x->mask) + b;
}

/* Counts the row, shrinks the weights, and gives the learning rate. */
FGD_INLINE T N(count_row)(N(learner) *m, const N(lesson) *row, double lr, double alpha, ptrdiff_t n, int kind)
{
    m->kept.seen += (double)row->h;
    if (m->manner.fall == FGD_LEVEL && m->kept.seen > 0) lr *= (double)N(power)((T)m->kept.seen, -m->manner.power_t);
    const double keep = 1 - lr * alpha, shrink = keep > 0 ? keep : 0;
    m->shrink = (T)shrink, m->step = 0;
    if (kind != FGD_DENSE && (m->scale *= shrink) < FGD_SHRUNK) N(scale_weights)(m, n);
    return (T)lr;
}

/* Goes the row's step, d being the derivative of its loss: at once, or for dense rows with the next prediction. */
FGD_INLINE void N(teach)(N(learner) *m, const N(lesson) *row, T d, T lr, T e, N(path) *path, const N(view) *v, int kind)
{
    const T square = row->h * (d * d);
    N(lanes) moved = N(zero)(), norm = moved;
    if (kind == FGD_DENSE)
        N(rate_dense)(&moved, &norm, m, &row->whole, square, v);
    else
        N(rate_sparse)(row->piece, &moved, &norm, m, row->example, square, kind);
    N(remember)(&m->intercept, row->one, W, square, &m->manner);
    N(rate)(&moved, &norm, &m->intercept, row->one, W, &m->manner);

    const T factor = N(count_norm)(&m->kept, N(sum)(norm), row->h, &m->manner), h = lr * row->h;
    const T reach = factor * N(sum)(moved);
    const int bends = m->manner.invariant && reach > 0 && h > 0;
    m->step = factor * (bends ? path(row->y, row->p, e, d, h, reach) : -h * d);
    if (kind != FGD_DENSE) N(move_sparse)(row->piece, m, row->example, (T)((double)m->step / m->scale), kind);
    m->intercept.w[0] += m->step * m->intercept.along[0];
}

FGD_INLINE fgd_status N(learn)(N(learner) *learner, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                               const fgd_rows *rows, const fgd_stretch *s, int kind)
{
    const N(loss_kernels) *loss = &N(losses)[s->loss];
    const T *Y = rows->y, *weights = rows->sample_weight;
    const T e = (T)s->loss_parameter;
    N(learner) m = *learner;
    N(piece) piece;
    N(lesson) row = {.piece = &piece, .one = {s->fit_intercept ? 1 : 0}};
    fgd_cursor cursor = fgd_cursor_at_start(rows), ahead = cursor, far_ahead = cursor;
    const ptrdiff_t rows_ahead = kind == FGD_DENSE ? fgd_rows_ahead((ptrdiff_t)sizeof(T) * v->n) : FGD_SPARSE_AHEAD;
    fgd_seek(&cursor, s->start);
    fgd_seek(&ahead, s->start + rows_ahead);
    fgd_seek(&far_ahead, s->start + 2 * rows_ahead);

    for (ptrdiff_t start = s->start; start < s->stop; start += FGD_SEGMENT) {
        const ptrdiff_t length = s->stop - start < FGD_SEGMENT ? s->stop - start : FGD_SEGMENT;
        T ys[FGD_SEGMENT], ps[FGD_SEGMENT], sample_weights[FGD_SEGMENT];
        for (ptrdiff_t i = 0; i < length; i++) {
            const ptrdiff_t r = fgd_next_row(&cursor), far = fgd_next_row(&ahead);
            if (kind != FGD_DENSE) N(fetch_sparse)(rows, far, fgd_next_row(&far_ahead), v, kind);
            row.example = N(example_at)(v, rows, r, kind);
            if (kind == FGD_DENSE) row.whole = N(whole_row)(row.example, v);
            row.y = ys[i] = Y[r], row.h = sample_weights[i] = weights ? weights[r] : 1;
            row.p = ps[i] = N(predict)(&m, &row, kind == FGD_DENSE ? N(row)(v, far) : NULL, v, kind);
            const T lr = N(count_row)(&m, &row, s->lr[start - s->start + i], s->alpha, v->n, kind);
            const T d = loss->slope(row.y, row.p, e);
            if (d != 0 && row.h != 0) N(teach)(&m, &row, d, lr, e, N(paths)[s->loss], v, kind);
        }
        const double sum = loss->sum(ys, ps, weights ? sample_weights : NULL, length, e);
        if (!(sum - sum == 0)) {
            *failed = start + loss->first_not_finite(ys, ps, length, e);
            return FGD_DIVERGED;
        }
        *loss_sum += sum;
    }
    if (kind == FGD_DENSE)
        (void)N(move)(m.weights.w, m.weights.along, m.weights.along, NULL, v->m + W, m.shrink, m.step, N(zero)());
    else
        N(scale_weights)(&m, v->n);
    *learner = m;
    return FGD_OK;
}

static fgd_status N(learn_dense)(N(learner) *m, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                 const fgd_rows *rows, const fgd_stretch *s)
{
    memset(m->weights.along, 0, (size_t)(v->m + W) * sizeof(T)); /* of no row before the first */
    return N(learn)(m, loss_sum, failed, v, rows, s, FGD_DENSE);
}

static fgd_status N(learn_narrow)(N(learner) *m, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                  const fgd_rows *rows, const fgd_stretch *s)
{
    return N(learn)(m, loss_sum, failed, v, rows, s, FGD_NARROW);
}

static fgd_status N(learn_wide)(N(learner) *m, double *loss_sum, ptrdiff_t *failed, const N(view) *v,
                                const fgd_rows *rows, const fgd_stretch *s)
{
    return N(learn)(m, loss_sum, failed, v, rows, s, FGD_WIDE);
}

static N(learner) N(make_learner)(const fgd_stretch *s)
{
    vw_hypers h;
    N(learner) m = {.scale = 1, .shrink = 1};
    memcpy(&h, s->hypers, sizeof h);
    memcpy(&m.kept, s->kept, sizeof m.kept);
    m.manner.fall = h.adaptive == 0 ? FGD_LEVEL : h.power_t == 0.5 ? FGD_ROOTS : FGD_POWERS;
    m.manner.normalized = h.normalized != 0, m.manner.invariant = h.invariant != 0;
    m.manner.power_t = (T)h.power_t;
    return m;
}
