/* Mini-batches over the rows of a CSR matrix, for one output or the classes of a softmax.
 *
 * A batch is done in parts, between which the threads meet:
 *   1. rows     predictions and derivatives of the batch's rows, a chunk of rows at a time
 *   2. columns  sum over the rows of derivative times value, column by column
 *   3. weights  the update, of all weights; not with plain sgd, which has updated the batch's columns in part 2, unless
 *               there is a penalty on groups of them
 *
 * In part 2 each column belongs to one thread, or two threads would add to one number. The values are dealt out: a
 * thread takes a chunk of them and sorts it by range of columns, and whoever takes a range adds up what all chunks have
 * for it, in order. So every value is looked at twice, however many threads there are, and memory does not grow with
 * them. Where there are fewer than FGD_DEAL_FROM threads, one adds the values as they come. Both add up a column in the
 * order of the rows: the bits are the same.
 *
 * Plain sgd touches the batch's columns and no others: the weights are scale * w, where `scale` shrinks (Bottou,
 * "Stochastic gradient descent tricks", 2012, sec. 5.1), and what the L1 penalty takes from all weights in a step is
 * added to `due`; a weight gets what it has not got yet when its column comes (Duchi & Singer, "Efficient online and
 * batch learning using forward backward splitting", JMLR 10, 2009, sec. 5.3). That is exact: shrinking by a and then by
 * b, towards zero and not beyond, is shrinking by a + b. Weights that are to be `positive` become so in the same way:
 * whoever reads one takes it for zero if it is less, and where a column comes for the first time in a batch it becomes
 * zero. That is exact, too: what shrinks does not become negative. */

#ifndef FASTGD_SPARSE_H
#define FASTGD_SPARSE_H

#define FGD_SMALL_SCALE 1e-6 /* below, the weights are multiplied out: float32 could lose them */

/* what weights are late with: nothing, what the L1 penalty takes, to be positive, or both */
enum { FGD_PROMPT = 0, FGD_OWING = 1, FGD_WAITING = 2 };

#endif

/* A value on its way to its column. */
typedef struct {
    int64_t column;
    T value;
    int32_t row; /* of the batch */
} N(entry);

typedef struct {
    T *params;
    void *const *state;
    const fgd_rows *rows;
    const fgd_stretch *stretch;
    ptrdiff_t n, outputs, n_batches;
    int plain; /* sgd that updates a batch's columns alone */
    /* scratch: (n, outputs) each, one feature's numbers side by side; with one output `w` is `params` */
    T *w, *sums;
    T *gradient;         /* as the parameters lie */
    double *got;         /* (n,) of `due` by each weight */
    int64_t *met;        /* (n,) number of the batch that each column was last in, from 1 on */
    T *derivatives;      /* (batch_size, outputs) */
    int64_t *begins;     /* (batch_size + 1,) where a row's values begin among those of the batch */
    int64_t *offsets;    /* (batch_size,) and from there to where they lie in X */
    double *losses;      /* (row chunks,) */
    T *sums_b;           /* (row chunks, outputs) */
    T *scores;           /* (row chunks, outputs, FGD_CLASS_ROWS) for a softmax */
    N(entry) *entries;   /* (FGD_WAVE, FGD_VALUES) */
    int32_t *range_ends; /* (FGD_WAVE, FGD_RANGES) */
    size_t bytes;
    /* of the batch that is worked on */
    ptrdiff_t start, length, n_values;
    int64_t number; /* from 1 on */
    double scale, due;
    T factor; /* what a sum is multiplied with as it is added to `target` */
    T *target;
    fgd_coef coef;
    double loss_sum;
    ptrdiff_t failed;
    fgd_status status;
    fgd_meeting meeting;
    _Alignas(FGD_LANE_BYTES) fgd_atomic next; /* chunk, range or block that nobody has taken */
} N(sparse_job);

static ptrdiff_t N(row_chunks)(ptrdiff_t rows) { return (rows + FGD_SPARSE_ROWS - 1) / FGD_SPARSE_ROWS; }

static N(sparse_job) N(lay_out_sparse)(void *memory, const fgd_rows *rows, ptrdiff_t outputs, ptrdiff_t batch)
{
    N(sparse_job) j = {.n = rows->n_features, .outputs = outputs, .rows = rows};
    const ptrdiff_t chunks = N(row_chunks)(batch), size = (ptrdiff_t)sizeof(T), all = j.n * outputs;
    const ptrdiff_t of_softmax = outputs > 1 ? size : 0;
    j.w = N(place)(&j.bytes, memory, all * of_softmax);
    j.sums = N(place)(&j.bytes, memory, all * of_softmax);
    j.gradient = N(place)(&j.bytes, memory, (all + outputs) * size);
    j.got = N(place)(&j.bytes, memory, j.n * (ptrdiff_t)sizeof(double));
    j.met = N(place)(&j.bytes, memory, j.n * (ptrdiff_t)sizeof(int64_t));
    j.derivatives = N(place)(&j.bytes, memory, chunks * FGD_SPARSE_ROWS * outputs * size);
    j.begins = N(place)(&j.bytes, memory, (batch + 1) * (ptrdiff_t)sizeof(int64_t));
    j.offsets = N(place)(&j.bytes, memory, batch * (ptrdiff_t)sizeof(int64_t));
    j.losses = N(place)(&j.bytes, memory, chunks * (ptrdiff_t)sizeof(double));
    j.sums_b = N(place)(&j.bytes, memory, chunks * outputs * size);
    j.scores = N(place)(&j.bytes, memory, chunks * outputs * FGD_CLASS_ROWS * of_softmax);
    j.entries = N(place)(&j.bytes, memory, FGD_WAVE * FGD_VALUES * (ptrdiff_t)sizeof(N(entry)));
    j.range_ends = N(place)(&j.bytes, memory, FGD_WAVE * FGD_RANGES * (ptrdiff_t)sizeof(int32_t));
    return j;
}

/* ------------------------------------------------------------------------------------------------ 1. the rows */

/* The feature of value number e. */
FGD_INLINE ptrdiff_t N(feature_at)(const N(sparse_job) *j, ptrdiff_t e, int wide)
{
    return fgd_column(j->rows->indices, e, wide, j->rows->mask);
}

/* What the weights of feature f have not got yet of the L1 penalty. */
FGD_INLINE T N(still_due)(const N(sparse_job) *j, ptrdiff_t f, int lazy)
{
    return lazy & FGD_OWING ? (T)(j->due - j->got[f]) : 0;
}

/* What a weight is without being late, if so much is due. */
FGD_INLINE T N(caught_up)(T w, T by, int lazy)
{
    if (lazy & FGD_WAITING) w = N(not_negative)(w);
    return lazy & FGD_OWING ? N(shrink_by)(w, by) : w;
}

FGD_INLINE T N(weight_of)(const N(sparse_job) *j, ptrdiff_t f, ptrdiff_t k, ptrdiff_t outputs, int lazy)
{
    return N(caught_up)(j->w[f * outputs + k], N(still_due)(j, f, lazy), lazy);
}

/* The product of values [first, end) with the weights of one output, without scale. */
FGD_INLINE T N(product_of_one)(const N(sparse_job) *j, ptrdiff_t first, ptrdiff_t end, int lazy, int wide)
{
    const T *X = j->rows->X;
    T parts[4] = {0};
    ptrdiff_t e = first;
    for (; e + 4 <= end; e += 4)
        for (int i = 0; i < 4; i++) parts[i] += N(weight_of)(j, N(feature_at)(j, e + i, wide), 0, 1, lazy) * X[e + i];
    T rest = 0;
    for (; e < end; e++) rest += N(weight_of)(j, N(feature_at)(j, e, wide), 0, 1, lazy) * X[e];
    return ((parts[0] + parts[2]) + (parts[1] + parts[3])) + rest;
}

/* p[0..outputs) = the same of each output */
FGD_INLINE void N(products)(T *restrict p, const N(sparse_job) *j, ptrdiff_t first, ptrdiff_t end, ptrdiff_t outputs,
                            int lazy, int wide)
{
    if (outputs == 1) {
        *p = N(product_of_one)(j, first, end, lazy, wide);
        return;
    }
    memset(p, 0, (size_t)outputs * sizeof(T));
    for (ptrdiff_t e = first; e < end; e++) {
        const ptrdiff_t f = N(feature_at)(j, e, wide);
        const T value = ((const T *)j->rows->X)[e];
        for (ptrdiff_t k = 0; k < outputs; k++) p[k] += N(weight_of)(j, f, k, outputs, lazy) * value;
    }
}

/* The rows of a chunk, their places in X, and their first values on the way to the cache. */
static ptrdiff_t N(find_rows)(const N(sparse_job) *j, fgd_cursor *cursor, ptrdiff_t *row, ptrdiff_t c)
{
    const ptrdiff_t first = c * FGD_SPARSE_ROWS, left = j->length - first;
    const ptrdiff_t length = left < FGD_SPARSE_ROWS ? left : FGD_SPARSE_ROWS;
    const int wide = j->rows->wide;
    fgd_seek(cursor, j->start + first);
    fgd_next_rows(cursor, row, length);
    for (ptrdiff_t i = 0; i < length; i++) {
        j->offsets[first + i] = fgd_index(j->rows->indptr, row[i], wide);
        j->begins[first + i] = fgd_index(j->rows->indptr, row[i] + 1, wide) - j->offsets[first + i];
    }
    return length;
}

/* The first lines of a row; where there are more, the processor sees what is wanted. */
FGD_INLINE void N(fetch_row)(const N(sparse_job) *j, ptrdiff_t i)
{
    const size_t index = j->rows->wide ? sizeof(int64_t) : sizeof(int32_t);
    const char *values = (const char *)((const T *)j->rows->X + j->offsets[i]);
    const char *columns = (const char *)j->rows->indices + (size_t)j->offsets[i] * index;
    for (int line = 0; line < 4; line++) {
        FGD_PREFETCH(values + line * FGD_LANE_BYTES);
        FGD_PREFETCH(columns + line * FGD_LANE_BYTES);
    }
}

/* Derivatives of the rows of a chunk, the sum of their losses, and those of the derivatives. */
FGD_INLINE void N(do_rows)(N(sparse_job) *j, fgd_cursor *cursor, ptrdiff_t c, ptrdiff_t outputs, int lazy, int wide)
{
    ptrdiff_t row[FGD_SPARSE_ROWS];
    const ptrdiff_t length = N(find_rows)(j, cursor, row, c), first = c * FGD_SPARSE_ROWS;
    const T *Y = j->rows->y, *weights = j->rows->sample_weight;
    T *d = j->derivatives + first * outputs;
    T y[FGD_SPARSE_ROWS] = {0}, sample_weight[FGD_SPARSE_ROWS];
    for (ptrdiff_t i = 0; i < length && i < FGD_SPARSE_AHEAD; i++) N(fetch_row)(j, first + i);
    for (ptrdiff_t i = 0; i < length; i++) {
        if (i + FGD_SPARSE_AHEAD < length) N(fetch_row)(j, first + i + FGD_SPARSE_AHEAD);
        y[i] = Y[row[i]], sample_weight[i] = weights ? weights[row[i]] : 1;
        const ptrdiff_t begin = (ptrdiff_t)j->offsets[first + i];
        N(products)(d + i * outputs, j, begin, begin + (ptrdiff_t)j->begins[first + i], outputs, lazy, wide);
    }
    const T scale = (T)j->scale, *b = j->params + j->n * outputs;
    j->losses[c] = 0;
    if (outputs > 1) {
        N(softmax_of_rows)(d, j->sums_b + c * outputs, j->losses + c, j->scores + c * outputs * FGD_CLASS_ROWS, y,
                           sample_weight, b, scale, length, outputs);
        return;
    }
    const N(loss_kernels) *kernels = N(losses) + j->stretch->loss;
    const T e = (T)j->stretch->loss_parameter;
    T p[FGD_SPARSE_ROWS], sum_b = 0;
    for (ptrdiff_t i = 0; i < length; i++) p[i] = scale * d[i] + *b;
    kernels->derive(d, y, p, sample_weight, length, e);
    for (ptrdiff_t i = 0; i < length; i++) sum_b += d[i];
    j->sums_b[c] = sum_b;
    j->losses[c] = kernels->sum(y, p, weights ? sample_weight : NULL, length, e);
}

/* --------------------------------------------------------------------------------------------- 2. the columns */

/* target[column] += factor * derivative * value, after what the weights still owe */
FGD_INLINE void N(add_value)(const N(sparse_job) *j, T *restrict target, ptrdiff_t f, const T *d, T value,
                             ptrdiff_t outputs, int lazy)
{
    T *restrict t = target + f * outputs;
    if (lazy == FGD_OWING || (lazy && j->met[f] != j->number)) {
        const T by = N(still_due)(j, f, lazy);
        for (ptrdiff_t k = 0; k < outputs; k++) t[k] = N(caught_up)(t[k], by, lazy);
        if (lazy & FGD_OWING) j->got[f] = j->due;
        if (lazy & FGD_WAITING) j->met[f] = j->number;
    }
    for (ptrdiff_t k = 0; k < outputs; k++) t[k] += d[k] * value;
}

/* by one thread: as the values come */
FGD_INLINE void N(add_rows)(const N(sparse_job) *j, ptrdiff_t outputs, int lazy, int wide)
{
    const T *X = j->rows->X;
    for (ptrdiff_t i = 0; i < j->length; i++) {
        const ptrdiff_t first = (ptrdiff_t)j->offsets[i], end = first + (ptrdiff_t)(j->begins[i + 1] - j->begins[i]);
        for (ptrdiff_t e = first; e < end; e++)
            N(add_value)(j, j->target, N(feature_at)(j, e, wide), j->derivatives + i * outputs, X[e], outputs, lazy);
    }
}

/* Neighbouring columns share a cache line and a range; the lines are dealt out in turn, as low columns are often the
 * frequent ones. */
FGD_INLINE ptrdiff_t N(range_of)(ptrdiff_t column, ptrdiff_t ranges) { return column / W & (ranges - 1); }

/* the row of the batch that value number e belongs to */
static ptrdiff_t N(row_with)(const N(sparse_job) *j, ptrdiff_t e)
{
    ptrdiff_t low = 0, high = j->length; /* begins[low] <= e < begins[high] */
    while (high - low > 1) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (j->begins[middle] <= e)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Sorts chunk c of a wave that begins with value `first`: its entries by range, in order within one. */
FGD_INLINE void N(deal_out)(N(sparse_job) *j, ptrdiff_t first, ptrdiff_t c, ptrdiff_t ranges, int wide)
{
    const T *X = j->rows->X;
    const ptrdiff_t begin = first + c * FGD_VALUES, left = j->n_values - begin;
    const ptrdiff_t end = begin + (left < FGD_VALUES ? left : FGD_VALUES), first_row = N(row_with)(j, begin);
    int32_t *ends = j->range_ends + c * FGD_RANGES, total = 0;
    N(entry) *entries = j->entries + c * FGD_VALUES;
    memset(ends, 0, (size_t)ranges * sizeof *ends);
    for (int counting = 1; counting >= 0; counting--) { /* how many each range has, then where it begins */
        ptrdiff_t i = first_row;
        for (ptrdiff_t e = begin; e < end; i++) {
            const ptrdiff_t stop = j->begins[i + 1] < end ? (ptrdiff_t)j->begins[i + 1] : end;
            const ptrdiff_t shift = (ptrdiff_t)(j->offsets[i] - j->begins[i]);
            for (; e < stop; e++) {
                const ptrdiff_t column = N(feature_at)(j, e + shift, wide);
                int32_t *place = ends + N(range_of)(column, ranges);
                if (!counting) entries[*place] = (N(entry)){column, X[e + shift], (int32_t)i};
                ++*place;
            }
        }
        for (ptrdiff_t r = 0; counting && r < ranges; r++) {
            const int32_t n = ends[r];
            ends[r] = total;
            total += n;
        }
    }
}

/* Adds up one range of a wave of chunks. */
FGD_INLINE void N(add_range)(const N(sparse_job) *j, ptrdiff_t chunks, ptrdiff_t r, ptrdiff_t outputs, int lazy)
{
    for (ptrdiff_t c = 0; c < chunks; c++) {
        const int32_t *ends = j->range_ends + c * FGD_RANGES;
        const N(entry) *entries = j->entries + c * FGD_VALUES;
        for (ptrdiff_t e = r ? ends[r - 1] : 0; e < ends[r]; e++)
            N(add_value)(j, j->target, (ptrdiff_t)entries[e].column, j->derivatives + entries[e].row * outputs,
                         entries[e].value, outputs, lazy);
    }
}

/* ------------------------------------------------------------------------------- what depends on the kind of job */

typedef struct {
    void (*do_rows)(N(sparse_job) *j, fgd_cursor *cursor, ptrdiff_t c);
    void (*add_rows)(const N(sparse_job) *j);
    void (*deal_out)(N(sparse_job) *j, ptrdiff_t first, ptrdiff_t c, ptrdiff_t ranges);
    void (*add_range)(const N(sparse_job) *j, ptrdiff_t chunks, ptrdiff_t r);
} N(sparse_kind);

static int N(laziness)(const N(sparse_job) *j)
{
    if (!j->plain) return FGD_PROMPT;
    return (j->stretch->l1 > 0 ? FGD_OWING : 0) | (j->stretch->positive ? FGD_WAITING : 0);
}

#define KIND(name, outputs, lazy, wide)                                                                                \
    static void N(do_rows_##name)(N(sparse_job) *j, fgd_cursor * cursor, ptrdiff_t c)                                  \
    {                                                                                                                  \
        N(do_rows)(j, cursor, c, outputs, lazy, wide);                                                                 \
    }                                                                                                                  \
    static void N(add_rows_##name)(const N(sparse_job) *j) { N(add_rows)(j, outputs, lazy, wide); }                    \
    static void N(deal_out_##name)(N(sparse_job) *j, ptrdiff_t first, ptrdiff_t c, ptrdiff_t ranges)                   \
    {                                                                                                                  \
        N(deal_out)(j, first, c, ranges, wide);                                                                        \
    }                                                                                                                  \
    static void N(add_range_##name)(const N(sparse_job) *j, ptrdiff_t chunks, ptrdiff_t r)                             \
    {                                                                                                                  \
        N(add_range)(j, chunks, r, outputs, lazy);                                                                     \
    }                                                                                                                  \
    static const N(sparse_kind)                                                                                        \
        N(kind_##name) = {N(do_rows_##name), N(add_rows_##name), N(deal_out_##name), N(add_range_##name)};
KIND(prompt_narrow, 1, FGD_PROMPT, 0)
KIND(prompt_wide, 1, FGD_PROMPT, 1)
KIND(owing_narrow, 1, FGD_OWING, 0)
KIND(owing_wide, 1, FGD_OWING, 1)
KIND(waiting_narrow, 1, FGD_WAITING, 0)
KIND(waiting_wide, 1, FGD_WAITING, 1)
KIND(both_narrow, 1, FGD_OWING | FGD_WAITING, 0)
KIND(both_wide, 1, FGD_OWING | FGD_WAITING, 1)
KIND(softmax_narrow, j->outputs, N(laziness)(j), 0)
KIND(softmax_wide, j->outputs, N(laziness)(j), 1)
#undef KIND

static const N(sparse_kind) *N(kind_of)(const N(sparse_job) *j)
{
    static const N(sparse_kind) *const of_one[][2] = {
        [FGD_PROMPT] = {&N(kind_prompt_narrow), &N(kind_prompt_wide)},
        [FGD_OWING] = {&N(kind_owing_narrow), &N(kind_owing_wide)},
        [FGD_WAITING] = {&N(kind_waiting_narrow), &N(kind_waiting_wide)},
        [FGD_OWING | FGD_WAITING] = {&N(kind_both_narrow), &N(kind_both_wide)}};
    const int wide = j->rows->wide != 0;
    if (j->outputs > 1) return wide ? &N(kind_softmax_wide) : &N(kind_softmax_narrow);
    return of_one[N(laziness)(j)][wide];
}

/* Is the update done to all weights together? */
static int N(updates_whole)(const N(sparse_job) *j) { return j->stretch->group > 0 || !N(is_elementwise)(j->stretch); }

/* --------------------------------------------------------------------------------------------- between the parts */

/* Multiplies out the weights of all features, which then owe nothing. */
static void N(settle)(N(sparse_job) *j)
{
    const T scale = (T)j->scale;
    const ptrdiff_t outputs = j->outputs;
    const int lazy = N(laziness)(j);
    for (ptrdiff_t f = 0; lazy && f < j->n; f++)
        for (ptrdiff_t k = 0; k < outputs; k++) j->w[f * outputs + k] = N(weight_of)(j, f, k, outputs, lazy);
    if (lazy & FGD_OWING) memset(j->got, 0, (size_t)j->n * sizeof *j->got);
    if (scale != 1)
        for (ptrdiff_t i = 0; i < j->n * outputs; i++) j->w[i] *= scale;
    j->scale = 1;
    j->due = 0;
}

static void N(plan_plain)(N(sparse_job) *j, double lr)
{
    const double shrink = 1 - lr * j->stretch->alpha;
    if (shrink <= 0 || j->scale * shrink < FGD_SMALL_SCALE) N(settle)(j);
    if (shrink <= 0)
        memset(j->w, 0, (size_t)(j->n * j->outputs) * sizeof(T));
    else
        j->scale *= shrink;
    j->factor = (T)(-lr / (double)j->length / j->scale);
}

/* The losses and the intercepts' gradients are summed chunk by chunk, and it is worked out what a derivative weighs in
 * the sums of the columns. */
static void N(after_rows)(N(sparse_job) *j, ptrdiff_t batch)
{
    const fgd_stretch *s = j->stretch;
    const ptrdiff_t chunks = N(row_chunks)(j->length);
    T *b = j->params + j->n * j->outputs, *gradient_b = j->gradient + j->n * j->outputs;
    double loss = 0;
    for (ptrdiff_t c = 0; c < chunks; c++) loss += j->losses[c];
    if (!(loss - loss == 0)) {
        j->status = FGD_DIVERGED;
        j->failed = j->start + j->length - 1;
        return;
    }
    j->loss_sum += loss;
    ptrdiff_t total = 0;
    for (ptrdiff_t i = 0; i < j->length; i++) {
        const ptrdiff_t n = (ptrdiff_t)j->begins[i];
        j->begins[i] = total;
        total += n;
    }
    j->begins[j->length] = j->n_values = total;
    if (j->plain) N(plan_plain)(j, s->lr[batch]);
    for (ptrdiff_t k = 0; k < j->outputs; k++) {
        double sum = 0;
        for (ptrdiff_t c = 0; c < chunks; c++) sum += (double)j->sums_b[c * j->outputs + k];
        gradient_b[k] = s->fit_intercept ? (T)(sum / (double)j->length + s->one_class) : 0;
        if (j->plain) b[k] -= (T)s->lr[batch] * gradient_b[k];
    }
    for (ptrdiff_t i = 0; i < j->length * j->outputs; i++) j->derivatives[i] *= j->factor;
}

/* ------------------------------------------------------------------------------------------------ 3. the weights */

/* dst (columns, rows) = src (rows, columns), of the rows [first, end) */
static void N(turn)(T *restrict dst, const T *restrict src, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t first,
                    ptrdiff_t end)
{
    for (ptrdiff_t k = 0; k < columns; k++)
        for (ptrdiff_t i = first; i < end; i++) dst[k * rows + i] = src[i * columns + k];
}

/* and back */
static void N(turn_back)(T *restrict dst, const T *restrict src, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t first,
                         ptrdiff_t end)
{
    for (ptrdiff_t i = first; i < end; i++)
        for (ptrdiff_t k = 0; k < columns; k++) dst[i * columns + k] = src[k * rows + i];
}

/* A rule's step of `n` parameters from number i on. */
static void N(step_range)(const N(sparse_job) *j, ptrdiff_t i, ptrdiff_t n)
{
    void *state[FGD_MAX_STATES];
    for (int k = 0; k < FGD_MAX_STATES; k++) state[k] = j->state[k] ? (T *)j->state[k] + i : NULL;
    N(step)[j->stretch->rule](&j->coef, j->params + i, j->gradient + i, state, n);
}

/* The features [first, end) of a rule that does each element by itself. */
static void N(update_features)(const N(sparse_job) *j, double lr, ptrdiff_t first, ptrdiff_t end)
{
    const ptrdiff_t n = j->n, outputs = j->outputs;
    if (outputs > 1) N(turn)(j->gradient, j->sums, n, outputs, first, end);
    for (ptrdiff_t k = 0; k < outputs; k++) {
        N(add_l2)(j->gradient + k * n + first, j->params + k * n + first, j->stretch, end - first);
        N(step_range)(j, k * n + first, end - first);
        const T *sum = j->state[0] ? (const T *)j->state[0] + k * n + first : NULL;
        N(constrain)(j->params + k * n + first, sum, &j->coef, lr, j->stretch, end - first);
    }
    if (outputs > 1) N(turn_back)(j->w, j->params, n, outputs, first, end);
    memset(j->target + first * outputs, 0, (size_t)((end - first) * outputs) * sizeof(T));
}

/* All of them together. */
static void N(update_whole)(const N(sparse_job) *j, ptrdiff_t batch)
{
    const fgd_stretch *s = j->stretch;
    const ptrdiff_t n = j->n, outputs = j->outputs;
    if (outputs > 1) N(turn)(j->gradient, j->sums, n, outputs, 0, n);
    N(update_params)(j->params, j->gradient, j->state, s->lr[batch], s->t + batch + 1, s, n * outputs, outputs);
    if (outputs > 1) N(turn_back)(j->w, j->params, n, outputs, 0, n);
    memset(j->target, 0, (size_t)(n * outputs) * sizeof(T));
}

/* ------------------------------------------------------------------------------------------------------ the team */

static ptrdiff_t N(take_next)(N(sparse_job) *j) { return (ptrdiff_t)FGD_ADD(j->next, 1); }

/* Ranges for a team: a power of two, and enough to share them out evenly. */
static ptrdiff_t N(ranges_for)(int team)
{
    ptrdiff_t ranges = 1;
    while (ranges < team) ranges *= 2;
    ranges *= ranges == team ? 1 : 4;
    return ranges < FGD_RANGES ? ranges : FGD_RANGES;
}

/* Who comes last does `action`, then all go on. */
#define MEET(job, n_threads, action)                                                                                   \
    if (fgd_arrive(&(job)->meeting, n_threads)) {                                                                      \
        action;                                                                                                        \
        FGD_SET((job)->next, 0);                                                                                       \
        fgd_leave(&(job)->meeting);                                                                                    \
    }

static void N(open_batch)(N(sparse_job) *j, ptrdiff_t batch)
{
    const fgd_stretch *s = j->stretch;
    j->number = batch + 1;
    j->start = s->start + batch * s->batch_size;
    j->length = s->stop - j->start < s->batch_size ? s->stop - j->start : s->batch_size;
    if (!j->plain) j->factor = (T)1 / (T)j->length;
}

static void N(after_columns)(N(sparse_job) *j, ptrdiff_t batch)
{
    const fgd_stretch *s = j->stretch;
    if (j->plain) {
        j->due += s->lr[batch] * s->l1 / j->scale;
        N(open_batch)(j, batch + 1);
    } else if (!N(updates_whole)(j)) {
        j->coef = N(prepare_rule)(s, s->lr[batch], s->t + batch + 1);
    }
}

static void N(after_weights)(N(sparse_job) *j, ptrdiff_t batch)
{
    const ptrdiff_t all = j->n * j->outputs;
    if (N(updates_whole)(j))
        N(update_whole)(j, batch);
    else if (j->stretch->fit_intercept)
        N(step_range)(j, all, j->outputs);
    N(open_batch)(j, batch + 1);
}

static void N(sum_batch)(N(sparse_job) *j, const N(sparse_kind) *kind, ptrdiff_t batch, int n_threads)
{
    if (n_threads < FGD_DEAL_FROM) {
        MEET(j, n_threads, kind->add_rows(j); N(after_columns)(j, batch))
        return;
    }
    const ptrdiff_t ranges = N(ranges_for)(n_threads), wave = FGD_WAVE * FGD_VALUES;
    ptrdiff_t first = 0;
    do {
        const ptrdiff_t left = j->n_values - first;
        const ptrdiff_t chunks = left < wave ? (left + FGD_VALUES - 1) / FGD_VALUES : FGD_WAVE;
        for (ptrdiff_t c; (c = N(take_next)(j)) < chunks;) kind->deal_out(j, first, c, ranges);
        MEET(j, n_threads, (void)0)
        for (ptrdiff_t r; (r = N(take_next)(j)) < ranges;) kind->add_range(j, chunks, r);
        MEET(j, n_threads, if (left <= wave) N(after_columns)(j, batch))
        first += left <= wave ? left : wave;
    } while (first < j->n_values);
}

static void N(update_weights)(N(sparse_job) *j, ptrdiff_t batch, int n_threads)
{
    const ptrdiff_t block = FGD_STEP_CHUNK / j->outputs + 1;
    const double lr = j->stretch->lr[batch];
    if (!N(updates_whole)(j))
        for (ptrdiff_t i; (i = N(take_next)(j)) * block < j->n;)
            N(update_features)(j, lr, i * block, (i + 1) * block < j->n ? (i + 1) * block : j->n);
    MEET(j, n_threads, N(after_weights)(j, batch))
}

/* What each thread of a team does. */
static void N(work_sparse)(N(sparse_job) *j, int n_threads)
{
    const N(sparse_kind) *kind = N(kind_of)(j);
    fgd_cursor cursor = fgd_cursor_at_start(j->rows);
    for (ptrdiff_t batch = 0; batch < j->n_batches; batch++) {
        for (ptrdiff_t c; (c = N(take_next)(j)) < N(row_chunks)(j->length);) kind->do_rows(j, &cursor, c);
        MEET(j, n_threads, N(after_rows)(j, batch))
        if (j->status != FGD_OK) return;
        N(sum_batch)(j, kind, batch, n_threads);
        if (!j->plain) N(update_weights)(j, batch, n_threads);
    }
}
#undef MEET

/* How many threads a batch of average rows is worth. */
static int N(sparse_team)(const N(sparse_job) *j, int threads)
{
    const fgd_rows *rows = j->rows;
    if (j->length > INT32_MAX) return 1; /* more rows than entries can tell apart */
    const double n_values = (double)fgd_index(rows->indptr, rows->n_rows, rows->wide) / (double)rows->n_rows;
    const double work = 2 * n_values * (double)j->length + (j->plain ? 0 : (double)j->n);
    const int team = fgd_team(threads, work * (double)j->outputs, FGD_SERIAL_BATCH);
    return team < FGD_RANGES ? team : FGD_RANGES;
}

static fgd_status N(train_sparse)(T *params, void *const *state, double *loss_sum, ptrdiff_t *failed, void *scratch,
                                  const fgd_rows *rows, const fgd_stretch *s, int threads)
{
    N(sparse_job) j = N(lay_out_sparse)(scratch, rows, s->outputs, s->batch_size);
    const ptrdiff_t all = j.n * j.outputs;
    j.params = params, j.state = state, j.stretch = s, j.scale = 1;
    j.plain = fgd_is_plain_sgd(s) && s->group == 0;
    j.n_batches = (s->stop - s->start + s->batch_size - 1) / s->batch_size;
    if (j.outputs == 1)
        j.w = params, j.sums = j.gradient;
    else
        N(turn_back)(j.w, params, j.n, j.outputs, 0, j.n);
    j.target = j.plain ? j.w : j.sums;
    if (!j.plain) memset(j.sums, 0, (size_t)all * sizeof(T));
    if (N(laziness)(&j) & FGD_OWING) memset(j.got, 0, (size_t)j.n * sizeof *j.got);
    if (N(laziness)(&j) & FGD_WAITING) memset(j.met, 0, (size_t)j.n * sizeof *j.met);
    N(open_batch)(&j, 0);
    const int team = N(sparse_team)(&j, threads);
    if (team > 1) {
        FGD_PARALLEL(team)
        N(work_sparse)(&j, FGD_TEAM);
    } else {
        N(work_sparse)(&j, 1);
    }
    N(settle)(&j);
    if (j.outputs > 1) N(turn)(params, j.w, j.n, j.outputs, 0, j.n);
    *loss_sum += j.loss_sum;
    *failed = j.failed;
    return j.status;
}
