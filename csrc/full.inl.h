/* What solvers that look at all rows ask of a linear model: loss and gradient in one read of X, weighted products of
 * its columns, and the factors of a preconditioner.
 *
 * Rows are cut into chunks whose number depends on the sizes alone; one thread sums a chunk, and the chunks are added
 * in order: the same bits for any number of threads. In a chunk, rows are taken in groups that stay in the first-level
 * cache between the product with the weights and the addition to the gradient. Sums are kept in T for some rows, and
 * added up in double: so a gradient of float32 rows is as good as the rows' predictions. */

/* ------------------------------------------------------------------------------------------- losses of a group */

/* The sum of weighted losses that are known, as sum_losses. The arrays have room for a multiple of eight, and are
 * filled up with zeros. */
static double N(sum_values)(T *restrict values, T *restrict p, T *restrict weight, ptrdiff_t n)
{
    double sums[8] = {0};
    for (ptrdiff_t k = n; k % 8; k++) values[k] = p[k] = weight[k] = 0;
    for (ptrdiff_t k = 0; k < n; k += 8)
        for (ptrdiff_t i = k; i < k + 8; i++) sums[i - k] += (double)((values[i] + (p[i] - p[i])) * weight[i]);
    return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

/* d = weight l'(y, p); gives the sum of the weighted losses */
static double N(group_loss)(T *restrict d, const T *y, T *p, T *weight, ptrdiff_t n, int loss, double e)
{
    T values[FGD_GROUP_MAX];
    N(losses)[loss].evaluate(values, d, y, p, n, (T)e);
    for (ptrdiff_t i = 0; i < n; i++) d[i] *= weight[i];
    return N(sum_values)(values, p, weight, n);
}

/* The same for several outputs, in place: p of FGD_CLASS_ROWS rows, class by class, without the intercepts b. */
static double N(group_softmax)(T *p, const T *y, const T *weight, const T *b, ptrdiff_t n, ptrdiff_t outputs)
{
    T values[FGD_CLASS_ROWS], padded[FGD_CLASS_ROWS] = {0};
    memcpy(padded, y, (size_t)n * sizeof(T));
    N(softmax_rows)(p, values, padded, b, outputs, 0);
    double loss = 0;
    for (ptrdiff_t i = 0; i < n; i++) loss += (double)(values[i] * weight[i]);
    for (ptrdiff_t k = 0; k < outputs; k++)
        for (ptrdiff_t i = 0; i < n; i++) p[k * FGD_CLASS_ROWS + i] *= weight[i];
    return loss;
}

/* ---------------------------------------------------------------------------------------------- chunks of rows */

typedef struct {
    double *totals; /* of the weights and the intercept of each output */
    T *sums;        /* of each output padded weights, then a vector for its intercept; sparse: see there */
    T *p, *d;       /* of a group; several outputs: the same place, (n_outputs, FGD_CLASS_ROWS) */
    double loss;
} N(full_chunk);

typedef struct {
    const fgd_rows *rows;
    const fgd_point *point;
    N(view) view;
    T *copied, *w, *b; /* dense: padded weights of each output; intercepts */
    ptrdiff_t n_chunks, padded;
    char *chunks;
    size_t chunk_bytes, bytes;
    fgd_atomic taken, arrived;
} N(full_job);

static ptrdiff_t N(elements)(const fgd_rows *rows)
{
    if (!rows->indptr) return rows->n_rows * rows->n_features;
    return rows->wide ? (ptrdiff_t)(((const int64_t *)rows->indptr)[rows->n_rows] - *(const int64_t *)rows->indptr)
                      : ((const int32_t *)rows->indptr)[rows->n_rows] - *(const int32_t *)rows->indptr;
}

/* A power of two, which most teams share evenly. */
static ptrdiff_t N(full_chunks)(const fgd_rows *rows, ptrdiff_t n_sums)
{
    const double elements = (double)N(elements)(rows), sums = (double)n_sums;
    const double least = rows->indptr ? FGD_FULL_SPARSE * sums : 0; /* so that adding up chunks costs little, */
    ptrdiff_t n = 1;
    while (n < FGD_FULL_CHUNKS && 2 * n * FGD_CHUNK_ROWS <= rows->n_rows &&
           (2 * n <= 4 || 2 * (double)n * least <= elements) && 2 * (double)n * FGD_FULL_ELEMENTS <= elements &&
           2 * (double)n * sums <= FGD_FULL_SUMS)
        n *= 2;
    return n;
}

static N(full_chunk) N(full_chunk_at)(N(full_job) *job, ptrdiff_t c)
{
    const ptrdiff_t outputs = job->point->n_outputs, n = outputs * (job->rows->n_features + 1);
    char *memory = job->chunks ? job->chunks + (size_t)c * job->chunk_bytes : NULL;
    N(full_chunk) chunk = {0};
    size_t used = 0;
    chunk.totals = N(place)(&used, memory, (n + 1) * (ptrdiff_t)sizeof(double)); /* and the loss */
    const ptrdiff_t n_sums = job->rows->indptr ? 2 * outputs * job->rows->n_features : outputs * (job->padded + W);
    chunk.sums = N(place)(&used, memory, n_sums * (ptrdiff_t)sizeof(T));
    const ptrdiff_t group = outputs > 1 ? outputs * FGD_CLASS_ROWS : FGD_GROUP_MAX;
    chunk.p = N(place)(&used, memory, group * (ptrdiff_t)sizeof(T));
    chunk.d = outputs > 1 ? chunk.p : N(place)(&used, memory, group * (ptrdiff_t)sizeof(T));
    job->chunk_bytes = used;
    return chunk;
}

static N(full_job) N(full_lay_out)(void *memory, const fgd_rows *rows, const fgd_point *point)
{
    N(full_job) job = {.rows = rows, .point = point};
    const ptrdiff_t outputs = point->n_outputs, n = rows->n_features;
    job.padded = (n - 1) / W * W + W;
    job.copied = N(place)(&job.bytes, memory, W * W * (ptrdiff_t)sizeof(T));
    job.w = N(place)(&job.bytes, memory, outputs * job.padded * (ptrdiff_t)sizeof(T));
    job.b = N(place)(&job.bytes, memory, outputs * (ptrdiff_t)sizeof(T));
    job.n_chunks = N(full_chunks)(rows, outputs * (n + 1));
    (void)N(full_chunk_at)(&job, 0);
    job.chunks = N(place)(&job.bytes, memory, job.n_chunks * (ptrdiff_t)job.chunk_bytes);
    return job;
}

static size_t N(full_scratch)(const fgd_rows *rows, ptrdiff_t n_outputs)
{
    const fgd_point point = {.n_outputs = n_outputs};
    return N(full_lay_out)(NULL, rows, &point).bytes;
}

/* The loss of a group that begins at a row, from predictions without intercept in chunk->p; writes chunk->d. */
static void N(weigh_group)(N(full_chunk) *chunk, const N(full_job) *job, ptrdiff_t row, ptrdiff_t length)
{
    const fgd_point *at = job->point;
    const T *y = (const T *)job->rows->y + row;
    const T *given = job->rows->sample_weight ? (const T *)job->rows->sample_weight + row : NULL;
    T weight[FGD_GROUP_MAX];
    for (ptrdiff_t i = 0; i < length; i++) weight[i] = given ? given[i] : 1;
    for (ptrdiff_t k = 0; at->predictions && k < at->n_outputs; k++) {
        T *out = (T *)at->predictions + k * job->rows->n_rows + row;
        for (ptrdiff_t i = 0; i < length; i++) out[i] = chunk->p[k * FGD_CLASS_ROWS + i] + job->b[k];
    }
    if (at->n_outputs > 1) {
        chunk->loss += N(group_softmax)(chunk->p, y, weight, job->b, length, at->n_outputs);
        return;
    }
    for (ptrdiff_t i = 0; i < length; i++) chunk->p[i] += *job->b;
    chunk->loss += N(group_loss)(chunk->d, y, chunk->p, weight, length, at->loss, at->loss_parameter);
}

/* totals += sums, sums = 0 */
static void N(flush_sums)(N(full_chunk) *chunk, const N(full_job) *job)
{
    const N(view) *v = &job->view;
    for (ptrdiff_t k = 0; k < job->point->n_outputs; k++) {
        T *sums = chunk->sums + k * (job->padded + W);
        double *totals = chunk->totals + k * (v->n + 1);
        for (ptrdiff_t j = 0; j < v->m; j++) totals[j] += (double)sums[j];
        for (ptrdiff_t j = 0; j < W; j++)
            if (v->mask[j] != 0) totals[v->n - W + j] += (double)sums[v->m + j];
        memset(sums, 0, (size_t)job->padded * sizeof(T));
    }
}

static void N(dense_chunk)(N(full_chunk) *chunk, const N(full_job) *job, ptrdiff_t row, ptrdiff_t stop)
{
    const N(view) *v = &job->view;
    const ptrdiff_t outputs = job->point->n_outputs, last_row = job->rows->n_rows - 1;
    const ptrdiff_t group = N(group_rows)(v->n, outputs);
    ptrdiff_t run = 0;
    const T *x[FGD_GROUP_MAX], *last[FGD_GROUP_MAX], *far[FGD_GROUP_MAX];
    memset(chunk->sums, 0, (size_t)(outputs * (job->padded + W)) * sizeof(T));
    for (; row < stop; row += group) {
        const ptrdiff_t length = stop - row < group ? stop - row : group, whole = (length + 3) / 4 * 4;
        for (ptrdiff_t i = 0; i < whole; i++) { /* the last four are filled up with rows that count zero */
            const ptrdiff_t at = i < length ? row + i : row, next = at + group < last_row ? at + group : last_row;
            x[i] = N(row)(v, at), last[i] = N(last_vector)(v, at), far[i] = N(row)(v, next);
        }
        for (ptrdiff_t k = 0; k < outputs; k++)
            for (ptrdiff_t i = 0; i < whole; i += 4)
                N(dot4)(chunk->p + k * FGD_CLASS_ROWS + i, job->w + k * job->padded, x + i, last + i, far + i, v);
        N(weigh_group)(chunk, job, row, length);
        for (ptrdiff_t k = 0; k < outputs; k++) {
            T *d = chunk->d + k * FGD_CLASS_ROWS, *sums = chunk->sums + k * (job->padded + W);
            for (ptrdiff_t i = length; i < whole; i++) d[i] = 0;
            for (ptrdiff_t i = 0; i < whole; i += 4) N(add4)(sums, d + i, x + i, last + i, far + i, v);
            for (ptrdiff_t i = 0; i < length; i++) chunk->totals[k * (v->n + 1) + v->n] += (double)d[i];
        }
        if ((run += length) < FGD_FULL_RUN) continue;
        N(flush_sums)(chunk, job);
        run = 0;
    }
    N(flush_sums)(chunk, job);
}

/* Of sparse rows, a chunk keeps what belongs to a column together: its weights, and behind them its sums. So the
 * addition to the gradient finds in the first-level cache what the product with the weights has fetched. */
FGD_INLINE void N(sparse_products)(T *p, const T *pairs, const T *x, const void *indices, ptrdiff_t from, ptrdiff_t to,
                                   const ptrdiff_t outputs, const int wide, ptrdiff_t mask)
{
    for (ptrdiff_t o = 0; o < outputs; o++) p[o * FGD_CLASS_ROWS] = 0;
    for (ptrdiff_t k = from; k < to; k++) {
        const T *w = pairs + 2 * outputs * fgd_column(indices, k, wide, mask);
        for (ptrdiff_t o = 0; o < outputs; o++) p[o * FGD_CLASS_ROWS] += x[k] * w[o];
    }
}

/* the same for one output, as four sums */
FGD_INLINE T N(sparse_product)(const T *pairs, const T *x, const void *indices, ptrdiff_t from, ptrdiff_t to,
                               const int wide, ptrdiff_t mask)
{
    T sums[4] = {0};
    ptrdiff_t k = from;
    for (; k + 4 <= to; k += 4)
        for (int lane = 0; lane < 4; lane++)
            sums[lane] += x[k + lane] * pairs[2 * fgd_column(indices, k + lane, wide, mask)];
    for (; k < to; k++) sums[0] += x[k] * pairs[2 * fgd_column(indices, k, wide, mask)];
    return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

FGD_INLINE void N(sparse_rows)(N(full_chunk) *chunk, const N(full_job) *job, ptrdiff_t row, ptrdiff_t stop,
                               const ptrdiff_t outputs, const int wide)
{
    const fgd_rows *rows = job->rows;
    const T *x = rows->X;
    const void *indptr = rows->indptr, *indices = rows->indices;
    T *restrict pairs = chunk->sums;
    for (; row < stop; row += FGD_FULL_GROUP) {
        const ptrdiff_t length = stop - row < FGD_FULL_GROUP ? stop - row : FGD_FULL_GROUP;
        for (ptrdiff_t i = 0; i < length; i++) {
            const ptrdiff_t from = fgd_index(indptr, row + i, wide), to = fgd_index(indptr, row + i + 1, wide);
            if (outputs == 1)
                chunk->p[i] = N(sparse_product)(pairs, x, indices, from, to, wide, rows->mask);
            else
                N(sparse_products)(chunk->p + i, pairs, x, indices, from, to, outputs, wide, rows->mask);
        }
        N(weigh_group)(chunk, job, row, length);
        for (ptrdiff_t i = 0; i < length; i++) {
            const T *d = chunk->d + i;
            for (ptrdiff_t k = fgd_index(indptr, row + i, wide); k < fgd_index(indptr, row + i + 1, wide); k++) {
                T *sums = pairs + (2 * fgd_column(indices, k, wide, rows->mask) + 1) * outputs;
                for (ptrdiff_t o = 0; o < outputs; o++) sums[o] += x[k] * d[o * FGD_CLASS_ROWS];
            }
            for (ptrdiff_t o = 0; o < outputs; o++)
                chunk->totals[(o + 1) * (rows->n_features + 1) - 1] += (double)d[o * FGD_CLASS_ROWS];
        }
    }
}

static void N(sparse_chunk)(N(full_chunk) *chunk, const N(full_job) *job, ptrdiff_t row, ptrdiff_t stop)
{
    const ptrdiff_t outputs = job->point->n_outputs, n = job->rows->n_features;
    const T *w = job->point->weights;
    for (ptrdiff_t j = 0; j < n; j++)
        for (ptrdiff_t o = 0; o < outputs; o++) {
            chunk->sums[2 * outputs * j + o] = w[o * (n + 1) + j];
            chunk->sums[(2 * j + 1) * outputs + o] = 0;
        }
    if (job->rows->wide)
        outputs == 1 ? N(sparse_rows)(chunk, job, row, stop, 1, 1) : N(sparse_rows)(chunk, job, row, stop, outputs, 1);
    else
        outputs == 1 ? N(sparse_rows)(chunk, job, row, stop, 1, 0) : N(sparse_rows)(chunk, job, row, stop, outputs, 0);
    for (ptrdiff_t o = 0; o < outputs; o++)
        for (ptrdiff_t j = 0; j < n; j++)
            chunk->totals[o * (n + 1) + j] += (double)chunk->sums[(2 * j + 1) * outputs + o];
}

static void N(full_work)(N(full_job) *job, int n_threads)
{
    const fgd_rows *rows = job->rows;
    const ptrdiff_t n = job->point->n_outputs * (rows->n_features + 1);
    for (ptrdiff_t c; (c = (ptrdiff_t)FGD_ADD(job->taken, 1)) < job->n_chunks;) {
        const ptrdiff_t start = fgd_part_start(rows->n_rows, c, job->n_chunks);
        const ptrdiff_t stop = fgd_part_start(rows->n_rows, c + 1, job->n_chunks);
        N(full_chunk) chunk = N(full_chunk_at)(job, c);
        memset(chunk.totals, 0, (size_t)n * sizeof(double));
        if (!rows->indptr)
            N(dense_chunk)(&chunk, job, start, stop);
        else
            N(sparse_chunk)(&chunk, job, start, stop);
        chunk.totals[n] = chunk.loss;
    }
    fgd_meet(&job->arrived, n_threads);
}

static double N(full_gradient)(double *restrict gradient, void *memory, const fgd_rows *rows, const fgd_point *point,
                               int threads)
{
    N(full_job) job = N(full_lay_out)(memory, rows, point);
    const ptrdiff_t outputs = point->n_outputs, n = rows->n_features, size = outputs * (n + 1);
    const T *w = point->weights;
    if (!rows->indptr) job.view = N(make_view)(rows, job.copied);
    for (ptrdiff_t k = 0; k < outputs; k++) job.b[k] = w[k * (n + 1) + n];
    for (ptrdiff_t k = 0; !rows->indptr && k < outputs; k++) N(pad)(job.w + k * job.padded, w + k * (n + 1), &job.view);
    const int team = fgd_team(threads, 2.0 * (double)N(elements)(rows) * (double)outputs, FGD_SERIAL_BATCH);
    const int useful = team < job.n_chunks ? team : (int)job.n_chunks;
    if (useful > 1) {
        FGD_PARALLEL(useful)
        N(full_work)(&job, FGD_TEAM);
    } else {
        N(full_work)(&job, 1);
    }
    double *restrict total = N(full_chunk_at)(&job, 0).totals;
    for (ptrdiff_t c = 1; c < job.n_chunks; c++) {
        const double *restrict more = N(full_chunk_at)(&job, c).totals;
        for (ptrdiff_t j = 0; j <= size; j++) total[j] += more[j];
    }
    memcpy(gradient, total, (size_t)size * sizeof(double));
    return total[size];
}

/* ---------------------------------------------------------------------------------------- products of columns */

/* moments[2 j] and moments[2 j + 1]: the sums over all rows of weight x_j and weight x_j^2 */
static void N(column_moments)(double *restrict moments, const fgd_rows *rows, const void *weight)
{
    const T *x = rows->X, *weights = weight;
    const int wide = rows->wide;
    const ptrdiff_t n = rows->n_features;
    memset(moments, 0, 2 * (size_t)n * sizeof(double));
    for (ptrdiff_t i = 0; i < rows->n_rows; i++) {
        const double h = (double)weights[i];
        const ptrdiff_t from = rows->indptr ? fgd_index(rows->indptr, i, wide) : i * n;
        const ptrdiff_t to = rows->indptr ? fgd_index(rows->indptr, i + 1, wide) : from + n;
        for (ptrdiff_t k = from; k < to; k++) {
            double *at = moments + 2 * (rows->indptr ? fgd_column(rows->indices, k, wide, rows->mask) : k - from);
            at[0] += h * (double)x[k];
            at[1] += h * ((double)x[k] * (double)x[k]);
        }
    }
}

typedef struct {
    ptrdiff_t n_chunks;
    char *chunks;
    size_t chunk_bytes, bytes;
    const fgd_rows *rows;
    const T *weight;
    fgd_atomic taken, arrived;
} N(gram_job);

typedef struct {
    double *total;               /* (n + 1, n + 1) */
    T *product, *scaled, *panel; /* (n, n); (FGD_DEPTH, n) */
} N(gram_chunk);

static N(gram_chunk) N(gram_chunk_at)(N(gram_job) *job, ptrdiff_t c)
{
    const ptrdiff_t n = job->rows->n_features;
    char *memory = job->chunks ? job->chunks + (size_t)c * job->chunk_bytes : NULL;
    N(gram_chunk) chunk;
    size_t used = 0;
    chunk.total = N(place)(&used, memory, (n + 1) * (n + 1) * (ptrdiff_t)sizeof(double));
    chunk.product = N(place)(&used, memory, n * n * (ptrdiff_t)sizeof(T));
    chunk.scaled = N(place)(&used, memory, FGD_DEPTH * n * (ptrdiff_t)sizeof(T));
    chunk.panel = N(place)(&used, memory, FGD_PANEL_BYTES);
    job->chunk_bytes = used;
    return chunk;
}

static N(gram_job) N(gram_lay_out)(void *memory, const fgd_rows *rows)
{
    N(gram_job) job = {.rows = rows, .n_chunks = 1};
    while (job.n_chunks < FGD_GRAM_CHUNKS && 2 * job.n_chunks * FGD_DEPTH <= rows->n_rows) job.n_chunks *= 2;
    (void)N(gram_chunk_at)(&job, 0);
    job.chunks = N(place)(&job.bytes, memory, job.n_chunks * (ptrdiff_t)job.chunk_bytes);
    return job;
}

static size_t N(gram_scratch)(const fgd_rows *rows) { return N(gram_lay_out)(NULL, rows).bytes; }

static void N(gram_rows)(N(gram_chunk) chunk, const N(gram_job) *job, ptrdiff_t row, ptrdiff_t stop)
{
    const ptrdiff_t n = job->rows->n_features;
    fgd_mate mate = {.panel = chunk.panel, .me = 0, .all = 1};
    memset(chunk.total, 0, (size_t)((n + 1) * (n + 1)) * sizeof(double));
    double *restrict border = chunk.total + n * (n + 1); /* sums of the weighted columns */
    for (; row < stop; row += FGD_DEPTH) {
        const ptrdiff_t depth = stop - row < FGD_DEPTH ? stop - row : FGD_DEPTH;
        const T *restrict x = (const T *)job->rows->X + row * n;
        T *restrict scaled = chunk.scaled;
        for (ptrdiff_t i = 0; i < depth; i++) {
            const T h = job->weight[row + i];
            for (ptrdiff_t j = 0; j < n; j++) scaled[i * n + j] = h * x[i * n + j];
            for (ptrdiff_t j = 0; j < n; j++) border[j] += (double)scaled[i * n + j];
            border[n] += (double)h;
        }
        N(product)(&mate, chunk.product, x, 1, n, scaled, n, 1, n, n, depth, 1);
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = i; j < n; j++) chunk.total[i * (n + 1) + j] += (double)chunk.product[i * n + j];
    }
    for (ptrdiff_t j = 0; j < n; j++) chunk.total[j * (n + 1) + n] = border[j];
}

static void N(gram_work)(N(gram_job) *job, int n_threads)
{
    for (ptrdiff_t c; (c = (ptrdiff_t)FGD_ADD(job->taken, 1)) < job->n_chunks;)
        N(gram_rows)(N(gram_chunk_at)(job, c), job, fgd_part_start(job->rows->n_rows, c, job->n_chunks),
                     fgd_part_start(job->rows->n_rows, c + 1, job->n_chunks));
    fgd_meet(&job->arrived, n_threads);
}

static void N(gram)(double *restrict gram, void *memory, const fgd_rows *rows, const void *weight, int threads)
{
    N(gram_job) job = N(gram_lay_out)(memory, rows);
    job.weight = weight;
    const ptrdiff_t n = rows->n_features, size = (n + 1) * (n + 1);
    const int team =
        fgd_team(threads, (double)rows->n_rows * (double)n * (double)n / FGD_PRODUCTS_PER_ELEMENT, FGD_SERIAL_STEP);
    const int useful = team < job.n_chunks ? team : (int)job.n_chunks;
    if (useful > 1) {
        FGD_PARALLEL(useful)
        N(gram_work)(&job, FGD_TEAM);
    } else {
        N(gram_work)(&job, 1);
    }
    memcpy(gram, N(gram_chunk_at)(&job, 0).total, (size_t)size * sizeof(double));
    for (ptrdiff_t c = 1; c < job.n_chunks; c++) {
        const double *restrict more = N(gram_chunk_at)(&job, c).total;
        for (ptrdiff_t j = 0; j < size; j++) gram[j] += more[j];
    }
}

/* --------------------------------------------------------------------------------------------- preconditioner */

/* a, of which the upper triangle is read, becomes R with R'R = a. A pivot that rounding has left nothing of is replaced
 * by its column's own square: R'R is then a positive definite matrix near a. (Golub & Van Loan, "Matrix computations",
 * 4th ed., 2013, algorithm 4.2.2, by rows.) */
static void N(factor)(void *matrix, ptrdiff_t n)
{
    T *a = matrix;
    for (ptrdiff_t k = 0; k < n; k++) {
        T *restrict r = a + k * n;
        T own = r[k];
        for (ptrdiff_t i = 0; i < k; i++) own += a[i * n + k] * a[i * n + k];
        if (!(r[k] > (T)FGD_PIVOT * own)) r[k] = own > 0 ? own : 1;
        const T pivot = SQRT(r[k]);
        for (ptrdiff_t j = k; j < n; j++) r[j] /= pivot;
        for (ptrdiff_t i = k + 1; i < n; i++) {
            T *restrict below = a + i * n;
            const T f = r[i];
            for (ptrdiff_t j = i; j < n; j++) below[j] -= f * r[j];
        }
    }
}

/* x <- R'^-1 x, or R^-1 x if `back` */
static void N(solve)(void *vector, const void *factor, ptrdiff_t n, int back)
{
    T *restrict x = vector;
    const T *restrict r = factor;
    for (ptrdiff_t k = 0; !back && k < n; k++) {
        const T *restrict row = r + k * n;
        const T value = x[k] / row[k];
        x[k] = value;
        for (ptrdiff_t j = k + 1; j < n; j++) x[j] -= value * row[j];
    }
    for (ptrdiff_t k = n - 1; back && k >= 0; k--) {
        const T *restrict row = r + k * n;
        T sums[8] = {0};
        ptrdiff_t j = k + 1;
        for (; j + 8 <= n; j += 8)
            for (int lane = 0; lane < 8; lane++) sums[lane] += row[j + lane] * x[j + lane];
        for (; j < n; j++) sums[0] += row[j] * x[j];
        x[k] = (x[k] - (((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7])))) /
               row[k];
    }
}
