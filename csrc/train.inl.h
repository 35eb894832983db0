/* The loop: batch -> gradient -> update, many batches a call, one parallel region a call.
 *
 * The gradient of a batch is summed in chunks of rows whose size depends on the batch size alone, and the chunks are
 * added in order: the number of threads does not change a bit. */

/* Where things lie in the caller's scratch. A model has one output, or as many as a softmax has classes; weights and
 * gradient of each output are padded. */
typedef struct {
    T *copied, *w, *gradient;
    T *average, *got;     /* padded as w is, for what goes row by row */
    T *chunks;            /* (n_chunks, chunk_size): gradient of each output, then those of the intercepts */
    double *chunk_losses; /* (n_chunks,) */
    T *scores;            /* (n_chunks, outputs, FGD_CLASS_ROWS), for a softmax */
    ptrdiff_t outputs, padded, chunk_rows, n_chunks, chunk_size;
    size_t bytes;
} N(scratch);

static void N(cut_batch)(N(scratch) *s, ptrdiff_t n_features, ptrdiff_t batch_size)
{
    const double worth = (double)batch_size * (double)n_features * (double)s->outputs / FGD_CHUNK_ELEMENTS;
    const ptrdiff_t fair = FGD_CHUNK_ROWS / s->outputs, least = fair < FGD_CLASS_ROWS ? FGD_CLASS_ROWS : fair;
    ptrdiff_t wanted = 1; /* a power of two, which most teams share evenly */
    while (wanted < FGD_MAX_CHUNKS && wanted < worth && wanted * least < batch_size) wanted *= 2;
    s->chunk_rows = ((batch_size + wanted - 1) / wanted + 3) / 4 * 4;
    s->n_chunks = (batch_size + s->chunk_rows - 1) / s->chunk_rows;
}

static N(scratch) N(lay_out)(void *memory, ptrdiff_t n_features, ptrdiff_t outputs, ptrdiff_t batch_size)
{
    N(scratch) s = {.outputs = outputs, .padded = (n_features - 1) / W * W + W};
    const ptrdiff_t size = (ptrdiff_t)sizeof(T), weights = outputs * s.padded, padded_b = (outputs - 1) / W * W + W;
    N(cut_batch)(&s, n_features, batch_size);
    s.chunk_size = weights + padded_b;
    s.copied = N(place)(&s.bytes, memory, W * W * size);
    s.w = N(place)(&s.bytes, memory, weights * size);
    s.gradient = N(place)(&s.bytes, memory, s.chunk_size * size);
    s.chunks = N(place)(&s.bytes, memory, s.n_chunks * s.chunk_size * size);
    const ptrdiff_t by_row = batch_size == 1 && outputs == 1 ? s.padded * size : 0;
    s.average = N(place)(&s.bytes, memory, by_row);
    s.got = N(place)(&s.bytes, memory, by_row);
    s.chunk_losses = N(place)(&s.bytes, memory, s.n_chunks * (ptrdiff_t)sizeof(double));
    s.scores = N(place)(&s.bytes, memory, outputs > 1 ? s.n_chunks * outputs * FGD_CLASS_ROWS * size : 0);
    return s;
}

static size_t N(scratch_size)(const fgd_rows *rows, ptrdiff_t outputs, ptrdiff_t batch_size)
{
    return rows->indptr ? N(lay_out_sparse)(NULL, rows, outputs, batch_size).bytes
                        : N(lay_out)(NULL, rows->n_features, outputs, batch_size).bytes;
}

/* What the threads of one call share.
 *
 * The chunks of a batch are dealt out in contiguous shares, one a thread. A thread takes its own share first, then
 * those that nobody has taken yet; who adds the last chunk finishes the batch and opens the next. So nobody waits for a
 * thread that holds no chunk, and one that the system has set aside does not stop the others; and as each mostly gets
 * the same share, it can fetch its next one early. What threads write to while others look lies on cache lines of its
 * own. */
typedef struct {
    _Alignas(FGD_LANE_BYTES) fgd_atomic batches; /* of how many batches this share was taken */
} N(taken);

typedef struct {
    T *params;
    void *const *state;
    N(scratch) scratch;
    N(view) view;
    const fgd_rows *rows;
    const fgd_stretch *stretch;
    ptrdiff_t n_batches, n_shares;
    _Alignas(FGD_LANE_BYTES) fgd_atomic open;  /* the batch that is worked on */
    _Alignas(FGD_LANE_BYTES) fgd_atomic added; /* its chunks that are done */
    _Alignas(FGD_LANE_BYTES) fgd_atomic left;  /* threads that are done */
    double loss_sum;
    ptrdiff_t failed;
    fgd_status status;
    N(taken) shares[FGD_MAX_CHUNKS];
} N(job);

static ptrdiff_t N(batch_start)(const N(job) *job, ptrdiff_t batch)
{
    const ptrdiff_t start = job->stretch->start + batch * job->stretch->batch_size;
    return start < job->stretch->stop ? start : job->stretch->stop;
}

static ptrdiff_t N(chunks_of)(const N(job) *job, ptrdiff_t batch)
{
    const ptrdiff_t rows = N(batch_start)(job, batch + 1) - N(batch_start)(job, batch);
    return (rows + job->scratch.chunk_rows - 1) / job->scratch.chunk_rows;
}

static void N(take_weights)(N(job) *job)
{
    for (ptrdiff_t k = 0; k < job->scratch.outputs; k++)
        N(pad)(job->scratch.w + k * job->scratch.padded, job->params + k * job->view.n, &job->view);
}

/* Sums the chunks of one batch in order, checks, and carries out the update. */
static void N(finish_batch)(N(job) *job, ptrdiff_t batch)
{
    const fgd_stretch *s = job->stretch;
    const N(scratch) *m = &job->scratch;
    const ptrdiff_t n = job->view.n, start = N(batch_start)(job, batch), stop = N(batch_start)(job, batch + 1);
    T *restrict total = m->chunks;
    double loss = m->chunk_losses[0];
    for (ptrdiff_t c = 1; c < N(chunks_of)(job, batch); c++) {
        const T *restrict chunk = m->chunks + c * m->chunk_size;
        for (ptrdiff_t j = 0; j < m->chunk_size; j++) total[j] += chunk[j];
        loss += m->chunk_losses[c];
    }
    if (!(loss - loss == 0)) {
        job->status = FGD_DIVERGED;
        job->failed = stop - 1;
        return;
    }
    job->loss_sum += loss;

    const T mean = (T)1 / (T)(stop - start);
    for (ptrdiff_t j = 0; j < m->chunk_size; j++) total[j] *= mean;
    const ptrdiff_t weights = n * m->outputs;
    for (ptrdiff_t k = 0; k < m->outputs; k++) {
        N(unpad)(m->gradient + k * n, total + k * m->padded, &job->view);
        m->gradient[weights + k] = s->fit_intercept ? total[m->outputs * m->padded + k] + (T)s->one_class : 0;
    }
    N(update_params)(job->params, m->gradient, job->state, s->lr[batch], s->t + batch + 1, s, weights, m->outputs);
    N(take_weights)(job);
}

/* The first chunk of a share; that of the share after the last is the end. */
static ptrdiff_t N(share_start)(const N(job) *job, ptrdiff_t batch, ptrdiff_t share)
{
    return N(chunks_of)(job, batch) * share / job->n_shares;
}

/* The position at which a chunk begins; that of the chunk after the last is the batch's end. */
static ptrdiff_t N(chunk_start)(const N(job) *job, ptrdiff_t batch, ptrdiff_t c)
{
    const ptrdiff_t position = N(batch_start)(job, batch) + c * job->scratch.chunk_rows;
    const ptrdiff_t stop = N(batch_start)(job, batch + 1);
    return position < stop ? position : stop;
}

/* Adds up the gradient of chunk c of a batch, which belongs to a share. */
static void N(do_chunk)(N(job) *job, fgd_cursor *cursor, ptrdiff_t batch, ptrdiff_t c, ptrdiff_t share)
{
    const N(scratch) *m = &job->scratch;
    const ptrdiff_t start = N(chunk_start)(job, batch, c), stop = N(chunk_start)(job, batch, c + 1);
    T *chunk = m->chunks + c * m->chunk_size;
    memset(chunk, 0, (size_t)m->chunk_size * sizeof(T));
    m->chunk_losses[c] = 0;
    fgd_seek(cursor, start);
    fgd_scout scout = fgd_scout_at(*cursor, start, N(group_rows)(job->view.n, m->outputs),
                                   N(chunk_start)(job, batch, N(share_start)(job, batch, share + 1)),
                                   N(chunk_start)(job, batch + 1, N(share_start)(job, batch + 1, share)));
    const N(batch_part) part = {cursor, &scout, &job->view, stop - start, m->w, job->params + m->outputs * job->view.n};
    T *chunk_b = chunk + m->outputs * m->padded;
    if (m->outputs > 1)
        N(add_softmax_gradient)(chunk, chunk_b, m->chunk_losses + c, m->scores + c * m->outputs * FGD_CLASS_ROWS, &part,
                                m->padded, m->outputs);
    else
        N(add_gradient)(chunk, chunk_b, m->chunk_losses + c, &part, (T)job->stretch->loss_parameter,
                        N(losses) + job->stretch->loss);
}

/* A share of the batch that nobody has taken, one's own if possible; -1 if there is none. */
static ptrdiff_t N(take_share)(N(job) *job, ptrdiff_t batch, ptrdiff_t own)
{
    for (ptrdiff_t i = 0; i < job->n_shares; i++) {
        const ptrdiff_t share = (own + i) % job->n_shares;
        long long before = FGD_GET(job->shares[share].batches);
        if (before == batch && FGD_SWAP(job->shares[share].batches, before, batch + 1)) return share;
    }
    return -1;
}

/* What each thread of a team does. */
static void N(work)(N(job) *job, int thread, int n_threads)
{
    fgd_cursor cursor = fgd_cursor_at_start(job->rows);
    for (ptrdiff_t batch; (batch = (ptrdiff_t)FGD_GET(job->open)) < job->n_batches;) {
        const ptrdiff_t share = N(take_share)(job, batch, thread);
        if (share < 0) { /* all taken, not all done */
            for (int spins = 0; FGD_GET(job->open) == batch;) fgd_wait_a_little(&spins);
            continue;
        }
        const ptrdiff_t first = N(share_start)(job, batch, share), end = N(share_start)(job, batch, share + 1);
        for (ptrdiff_t c = first; c < end; c++) N(do_chunk)(job, &cursor, batch, c, share);
        if (end > first && FGD_ADD(job->added, end - first) + (end - first) == N(chunks_of)(job, batch)) {
            N(finish_batch)(job, batch);
            FGD_SET(job->added, 0);
            FGD_SET(job->open, job->status == FGD_OK ? batch + 1 : job->n_batches);
        }
    }
    fgd_meet(&job->left, n_threads);
}

/* May dense rows be looked ahead at? */
static int N(may_look_ahead)(const fgd_stretch *s)
{
    return s->l1 == 0 && !s->average && !s->aggressive && s->one_class == 0;
}

static void N(pad_got)(T *restrict padded, const double *restrict plain, const N(view) *v)
{
    for (ptrdiff_t j = 0; j < v->m; j++) padded[j] = (T)plain[j];
    for (ptrdiff_t k = 0; k < W; k++) padded[v->m + k] = v->mask[k] != 0 ? (T)plain[v->n - W + k] : 0;
}

static void N(unpad_got)(double *restrict plain, const T *restrict padded, const N(view) *v)
{
    for (ptrdiff_t j = 0; j < v->m; j++) plain[j] = (double)padded[j];
    for (ptrdiff_t k = 0; k < W; k++)
        if (v->mask[k] != 0) plain[v->n - W + k] = (double)padded[v->m + k];
}

/* Plain sgd in batches of one row. */
static fgd_status N(train_rows)(T *params, double *loss_sum, ptrdiff_t *failed, void *memory, const fgd_rows *rows,
                                const fgd_stretch *s)
{
    const ptrdiff_t n = rows->n_features;
    T *average = s->average;
    N(view) v = {.X = rows->X, .n = n};
    N(model) m = {.w = params, .average = average, .got_wide = s->l1_state, .n = n, .b = params[n]};
    if (average) m.average_b = average[n];
    if (s->l1_state) m.most = s->l1_state[n];
    if (!rows->indptr) {
        const N(scratch) scratch = N(lay_out)(memory, n, 1, 1);
        v = N(make_view)(rows, scratch.copied);
        m.w = scratch.w, m.got = scratch.got, m.n = v.m + W;
        N(pad)(m.w, params, &v);
        if (average) {
            m.average = scratch.average;
            N(pad)(m.average, average, &v);
        }
        if (s->l1_state) N(pad_got)(m.got, s->l1_state, &v);
    }
    fgd_status status;
    if (!rows->indptr && N(may_look_ahead)(s)) {
        status = N(losses)[s->loss].sgd_rows(m.w, &m.b, loss_sum, failed, &v, rows, s);
    } else {
        N(begin)(&m, s);
        status = (rows->indptr ? rows->wide ? N(walk_wide) : N(walk_narrow) : N(walk_dense))(&m, loss_sum, failed, &v,
                                                                                             rows, s);
        N(end)(&m, s);
    }
    if (!rows->indptr) {
        N(unpad)(params, m.w, &v);
        if (average) N(unpad)(average, m.average, &v);
        if (s->l1_state) N(unpad_got)(s->l1_state, m.got, &v);
    }
    params[n] = m.b;
    if (average) average[n] = m.average_b;
    if (s->l1_state) s->l1_state[n] = m.most;
    return status;
}

/* The rule that sees the rows themselves. Of dense rows the weights, and what is remembered of them, are padded. */
static fgd_status N(train_online)(T *params, void *const *state, double *loss_sum, ptrdiff_t *failed, void *memory,
                                  const fgd_rows *rows, const fgd_stretch *s)
{
    const ptrdiff_t n = rows->n_features;
    T *const plain[3] = {params, state[0], state[1]}, *used[4] = {params, state[0], state[1], NULL};
    T intercept[4][FGD_LANE_BYTES / sizeof(T)] = {{0}};
    N(view) v = {.X = rows->X, .n = n};
    if (!rows->indptr) {
        const N(scratch) scratch = N(lay_out)(memory, n, 1, 1);
        v = N(make_view)(rows, scratch.copied);
        T *const padded[4] = {scratch.w, scratch.average, scratch.got, scratch.gradient};
        memcpy(used, padded, sizeof used);
    }
    for (int k = 0; k < 3; k++) {
        if (plain[k]) intercept[k][0] = plain[k][n];
        if (plain[k] && !rows->indptr) N(pad)(used[k], plain[k], &v);
    }
    N(learner) m = N(make_learner)(s);
    m.weights = (N(features)){used[0], used[1], used[2], used[3]};
    m.intercept = (N(features)){intercept[0], intercept[1], intercept[2], intercept[3]};
    const fgd_status status = (rows->indptr ? rows->wide ? N(learn_wide) : N(learn_narrow)
                                            : N(learn_dense))(&m, loss_sum, failed, &v, rows, s);
    for (int k = 0; k < 3; k++) {
        if (plain[k] && !rows->indptr) N(unpad)(plain[k], used[k], &v);
        if (plain[k]) plain[k][n] = intercept[k][0];
    }
    memcpy(s->kept, &m.kept, sizeof m.kept);
    return status;
}

static fgd_status N(train)(void *params, void *const *state, double *loss_sum, ptrdiff_t *failed, void *scratch,
                           const fgd_rows *rows, const fgd_stretch *s, int threads)
{
    if (fgd_goes_by_rows(s)) return N(train_rows)(params, loss_sum, failed, scratch, rows, s);
    if (fgd_rules[s->rule].kind == FGD_ONLINE)
        return N(train_online)(params, state, loss_sum, failed, scratch, rows, s);
    if (s->positive) N(project)(params, rows->n_features * s->outputs);
    if (rows->indptr) return N(train_sparse)(params, state, loss_sum, failed, scratch, rows, s, threads);
    N(job) job = {.params = params, .state = state, .rows = rows, .stretch = s, .status = FGD_OK};
    job.scratch = N(lay_out)(scratch, rows->n_features, s->outputs, s->batch_size);
    job.view = N(make_view)(rows, job.scratch.copied);
    job.n_batches = (s->stop - s->start + s->batch_size - 1) / s->batch_size;
    N(take_weights)(&job);
    const ptrdiff_t batch = s->batch_size < s->stop - s->start ? s->batch_size : s->stop - s->start;
    const int team = fgd_team(threads, 2.0 * (double)batch * (double)(rows->n_features * s->outputs), FGD_SERIAL_BATCH);
    job.n_shares = team < job.scratch.n_chunks ? team : job.scratch.n_chunks; /* who had none would only wait */
    if (job.n_shares > 1) {
        FGD_PARALLEL((int)job.n_shares)
        N(work)(&job, FGD_THREAD, FGD_TEAM);
    } else {
        N(work)(&job, 0, 1);
    }
    *loss_sum += job.loss_sum;
    *failed = job.failed;
    return job.status;
}
