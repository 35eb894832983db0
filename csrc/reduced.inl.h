/* Steps of single rows whose variance is reduced: SAG, SAGA and SVRG.
 *
 * Row i's gradient is d x_i. `memory` holds a derivative d for each row, and `mean` the mean of all rows' gradients
 * with those; with the derivative of now, e, and the step s the row moves the weights by SAG    mean += (e - d) x_i /
 * n, d = e;  w -= s mean SAGA   w -= s ((e - d) x_i + mean);  mean += (e - d) x_i / n, d = e SVRG   w -= s ((e - d) x_i
 * + mean) to which come the penalties: w -= s l2 w, and then each weight moves by s l1 towards zero (Schmidt, Le Roux &
 * Bach, Math. Program. 162, 2017, algorithm 1; Defazio, Bach & Lacoste-Julien, NIPS 2014, eq. (1); Johnson & Zhang,
 * NIPS 2013, fig. 1; the shrinking is the proximal step of SAGA's eq. (2)).
 *
 * Of sparse rows, what happens to a column that a row does not have is always the same and waits until a row has it:
 * k steps at once (Schmidt et al., section 4.1, "just-in-time"). Weights, means and memory are double. */

/* shrink^k and (1 - shrink^k) / (1 - shrink), k steps' worth of decay and of what each step adds */
typedef struct {
    double decay, sum;
} N(stretch_of);

static N(stretch_of) N(stretch_of_steps)(double shrink, ptrdiff_t k)
{
    if (shrink == 1) return (N(stretch_of)){1, (double)k};
    const double decay = pow(shrink, (double)k);
    return (N(stretch_of)){decay, (1 - decay) / (1 - shrink)};
}

/* w after k steps w <- shrink w - moved, after each of which it moves by `toward` towards zero, but not across.
 * Between changes of sign the steps are affine, and w is monotone: where it would cross zero is found by bisection. */
static double N(after_steps)(double w, double shrink, double moved, double toward, ptrdiff_t k)
{
    while (k > 0) {
        if (toward == 0) {
            const N(stretch_of) all = N(stretch_of_steps)(shrink, k);
            return all.decay * w - moved * all.sum;
        }
        if (w == 0) {
            const double beyond = fabs(moved) - toward; /* of the first step, if it gets away from zero */
            if (beyond <= 0) return 0;
            w = moved > 0 ? -beyond : beyond;
            k--;
            continue;
        }
        const double by = moved + (w > 0 ? toward : -toward);
        ptrdiff_t low = 0, high = k;
        N(stretch_of) s = N(stretch_of_steps)(shrink, k);
        double end = s.decay * w - by * s.sum;
        if ((end > 0) == (w > 0) && end != 0) return end;
        while (high - low > 1) { /* the last step before it would reach zero */
            const ptrdiff_t middle = low + (high - low) / 2;
            s = N(stretch_of_steps)(shrink, middle);
            end = s.decay * w - by * s.sum;
            if ((end > 0) == (w > 0) && end != 0)
                low = middle;
            else
                high = middle;
        }
        s = N(stretch_of_steps)(shrink, low);
        end = shrink * (s.decay * w - by * s.sum) - moved; /* the step that reaches it */
        w = end > toward ? end - toward : end < -toward ? end + toward : 0;
        k -= low + 1;
    }
    return w;
}

/* the derivatives of a row's weighted loss with respect to its predictions, in their place */
static void N(row_derivatives)(T *p, const fgd_rows *rows, const fgd_reduction *r, ptrdiff_t row)
{
    const T *y = (const T *)rows->y + row;
    const T weight = rows->sample_weight ? ((const T *)rows->sample_weight)[row] : 1;
    if (r->n_outputs > 1) {
        (void)N(group_softmax)(p, y, &weight, r->zeros, 1, r->n_outputs);
        return;
    }
    T value, derivative;
    N(losses)[r->loss].evaluate(&value, &derivative, y, p, 1, (T)r->loss_parameter);
    *p = weight * derivative;
}

/* One column's weights in the step of a row that has it with value x: `change` is e - d of each output. */
FGD_INLINE void N(move_column)(double *w, double *mean, const double *change, double x, const fgd_reduction *r,
                               int penalised)
{
    const double shrink = penalised ? 1 - r->step * r->l2 : 1, toward = penalised ? r->step * r->l1 : 0;
    for (ptrdiff_t o = 0; o < r->n_outputs; o++) {
        const double new = change[o] * x;
        if (r->kind == FGD_SAG) mean[o] += new / r->total;
        const double moved = mean[o] + (r->kind == FGD_SAG ? 0 : new * r->scale);
        const double end = shrink * w[o] - r->step * moved;
        w[o] = end > toward ? end - toward : end < -toward ? end + toward : 0;
        if (r->kind == FGD_SAGA) mean[o] += new / r->total;
    }
}

static void N(reduce_variance)(const fgd_reduction *r, const fgd_rows *rows)
{
    const ptrdiff_t n = rows->n_features, outputs = r->n_outputs;
    const T *X = rows->X;
    const int wide = rows->wide, sparse = rows->indptr != NULL;
    const double shrink = 1 - r->step * r->l2, toward = r->step * r->l1;
    T *p = r->scratch;
    for (ptrdiff_t t = 0; t < r->n_steps; t++) {
        const ptrdiff_t row = (ptrdiff_t)r->order[t];
        const ptrdiff_t from = sparse ? fgd_index(rows->indptr, row, wide) : row * n;
        const ptrdiff_t to = sparse ? fgd_index(rows->indptr, row + 1, wide) : from + n;
        double *remembered = r->memory + row * outputs, *b = r->w + n * outputs;
        for (ptrdiff_t o = 0; o < outputs; o++) r->sums[o] = b[o];
        for (ptrdiff_t k = from; k < to; k++) {
            const ptrdiff_t j = sparse ? fgd_column(rows->indices, k, wide, rows->mask) : k - from;
            double *w = r->w + j * outputs;
            if (sparse && r->since[j] < t) { /* the steps that it has missed */
                for (ptrdiff_t o = 0; o < outputs; o++)
                    w[o] = N(after_steps)(w[o], shrink, r->step * r->mean[j * outputs + o], toward, t - r->since[j]);
                r->since[j] = t;
            }
            for (ptrdiff_t o = 0; o < outputs; o++) r->sums[o] += (double)X[k] * w[o];
        }
        for (ptrdiff_t o = 0; o < outputs; o++) p[o * FGD_CLASS_ROWS] = (T)r->sums[o];
        N(row_derivatives)(p, rows, r, row);
        for (ptrdiff_t o = 0; o < outputs; o++) {
            r->sums[o] = (double)p[o * FGD_CLASS_ROWS] - remembered[o];
            if (r->kind != FGD_SVRG) remembered[o] = (double)p[o * FGD_CLASS_ROWS];
        }
        for (ptrdiff_t k = from; k < to; k++) {
            const ptrdiff_t j = sparse ? fgd_column(rows->indices, k, wide, rows->mask) : k - from;
            N(move_column)(r->w + j * outputs, r->mean + j * outputs, r->sums, (double)X[k], r, 1);
            if (sparse) r->since[j] = t + 1;
        }
        if (r->fit_intercept) N(move_column)(b, r->mean + n * outputs, r->sums, 1, r, 0);
    }
    for (ptrdiff_t j = 0; sparse && j < n; j++) {
        for (ptrdiff_t o = 0; o < outputs; o++)
            r->w[j * outputs + o] = N(after_steps)(r->w[j * outputs + o], shrink, r->step * r->mean[j * outputs + o],
                                                   toward, r->n_steps - r->since[j]);
        r->since[j] = 0;
    }
}

/* the largest weighted square of a row's length */
static double N(longest_row)(const fgd_rows *rows)
{
    const T *X = rows->X, *weights = rows->sample_weight;
    const int wide = rows->wide;
    double longest = 0;
    for (ptrdiff_t i = 0; i < rows->n_rows; i++) {
        const ptrdiff_t from = rows->indptr ? fgd_index(rows->indptr, i, wide) : i * rows->n_features;
        const ptrdiff_t to = rows->indptr ? fgd_index(rows->indptr, i + 1, wide) : from + rows->n_features;
        const double square = N(sum_squares)(X + from, to - from) * (weights ? (double)weights[i] : 1);
        longest = square > longest ? square : longest;
    }
    return longest;
}
