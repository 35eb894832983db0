/* One layer of a network: its rows forward, and the loss's gradient back through them.
 *
 * Threads share the rows of a batch; only the statistics of batch normalisation need all rows of some columns, for
 * which threads meet. Every sum has an order that depends on the batch alone. */

#define NORM_EPS ((T)1e-5)     /* as in torch, */
#define NORM_MOMENTUM ((T)0.1) /* whose weights of running statistics these are */

/* What a batch leaves at a layer, (rows, outputs) each; what is not needed is NULL. */
typedef struct {
    const T *input; /* (rows, inputs): the outputs of the layer before; NULL for the first one, of sparse rows */
    T *z;           /* what the activation's slope is worked out from */
    T *out;         /* may be z */
    T *normal;      /* before a norm's gamma and beta */
    T *dropped;     /* the factors of dropout */
    T *delta;       /* the gradient with respect to `out`, at last with respect to the product */
    T *before;      /* with a layer norm: with respect to its result */
    T *mean, *spread, *variance; /* of columns, (outputs,); with a layer norm `spread` is of rows, (rows,) */
    T *faked;                    /* the input as the layer sees it, if that is fake quantised, (rows, inputs); */
    double *ranges, *scale_sums; /* of each FGD_NETWORK_TILE rows of it: range, and gradient of a learned scale */
} N(desk);

/* One of the threads that work on a batch. */
typedef struct {
    N(desk) *desks;
    const fgd_network *network;
    fgd_meeting *meeting;
    int me, all;
    ptrdiff_t rows, first, end; /* of the batch; its own ones */
    T *panel;                   /* scratch for products */
    UBITS *largest;             /* of each layer the magnitudes of input and delta, as bits */
} N(hand);

static void N(meet)(const N(hand) *hand)
{
    if (hand->all > 1 && fgd_arrive(hand->meeting, hand->all)) fgd_leave(hand->meeting);
}

/* The bits of the largest magnitude; those of a NaN are larger than all others. */
static UBITS N(largest)(const T *x, ptrdiff_t n)
{
    const UBITS magnitude = (UBITS)-1 >> 1;
    UBITS most = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        union {
            T f;
            UBITS i;
        } u = {x[i]};
        u.i &= magnitude;
        most = u.i > most ? u.i : most;
    }
    return most;
}

static void N(note_largest)(UBITS *most, const T *x, ptrdiff_t n)
{
    const UBITS here = N(largest)(x, n);
    if (here > *most) *most = here;
}

/* total[c] = sum over the rows of a, or of a * b, for n columns; rows lie `stride` apart */
static void N(add_columns)(T *restrict total, const T *restrict a, const T *restrict b, ptrdiff_t rows,
                           ptrdiff_t stride, ptrdiff_t n)
{
    enum { C = FGD_LINE_ELEMENTS };
    for (ptrdiff_t c = 0; c < n; c += C) {
        const ptrdiff_t here = n - c < C ? n - c : C;
        for (ptrdiff_t j = 0; j < here; j++) total[c + j] = 0;
        for (ptrdiff_t r = 0; r < rows; r += FGD_DEPTH) {
            const ptrdiff_t stop = rows - r < FGD_DEPTH ? rows : r + FGD_DEPTH;
            T sum[C] = {0};
            for (ptrdiff_t i = r; i < stop; i++) {
                const T *restrict x = a + i * stride + c, *restrict y = b ? b + i * stride + c : NULL;
                if (y)
                    for (ptrdiff_t j = 0; j < here; j++) sum[j] += x[j] * y[j];
                else
                    for (ptrdiff_t j = 0; j < here; j++) sum[j] += x[j];
            }
            for (ptrdiff_t j = 0; j < here; j++) total[c + j] += sum[j];
        }
    }
}

/* -------------------------------------------------------------------------------------------------------- norms */

/* What a thread does for its columns in the middle of a batch norm: Ioffe & Szegedy, "Batch normalization: accelerating
 * deep network training by reducing internal covariate shift", ICML 2015, algorithm 1. */
static void N(center_columns)(const N(desk) *d, const fgd_layer *layer, ptrdiff_t rows, ptrdiff_t first, ptrdiff_t n,
                              int training)
{
    const ptrdiff_t stride = layer->outputs;
    T *restrict mean = d->mean + first, *restrict variance = d->variance + first, *restrict spread = d->spread + first;
    if (training) {
        N(add_columns)(mean, d->z + first, NULL, rows, stride, n);
        for (ptrdiff_t c = 0; c < n; c++) mean[c] /= (T)rows;
    } else {
        memcpy(mean, (const T *)layer->running_mean + first, (size_t)n * sizeof(T));
        memcpy(variance, (const T *)layer->running_var + first, (size_t)n * sizeof(T));
    }
    for (ptrdiff_t r = 0; r < rows; r++) {
        T *restrict normal = d->normal + r * stride + first;
        const T *restrict z = d->z + r * stride + first;
        for (ptrdiff_t c = 0; c < n; c++) normal[c] = z[c] - mean[c];
    }
    if (training) {
        N(add_columns)(variance, d->normal + first, d->normal + first, rows, stride, n);
        for (ptrdiff_t c = 0; c < n; c++) variance[c] /= (T)rows;
    }
    for (ptrdiff_t c = 0; c < n; c++) spread[c] = 1 / SQRT(variance[c] + NORM_EPS);
}

static void N(normalize_batch)(const N(hand) *hand, const N(desk) *d, const fgd_layer *layer)
{
    const ptrdiff_t n = layer->outputs, first = fgd_part_start(n, hand->me, hand->all);
    const T *restrict gamma = layer->params[FGD_GAMMA], *restrict spread = d->spread;
    N(meet)(hand);
    N(center_columns)(d, layer, hand->rows, first, fgd_part_start(n, hand->me + 1, hand->all) - first,
                      hand->network->training);
    N(meet)(hand);
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        T *restrict z = d->z + r * n, *restrict normal = d->normal + r * n;
        for (ptrdiff_t c = 0; c < n; c++) normal[c] *= spread[c];
        for (ptrdiff_t c = 0; c < n; c++) z[c] = normal[c] * gamma[c];
    }
}

/* Ba, Kiros, Hinton, "Layer normalization", arXiv 1607.06450, 2016, eq. 3 and 4. */
static void N(normalize_rows)(const N(hand) *hand, const N(desk) *d, const fgd_layer *layer)
{
    const ptrdiff_t n = layer->outputs;
    const T *restrict gamma = layer->params[FGD_GAMMA];
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        T *restrict z = d->z + r * n, *restrict normal = d->normal + r * n;
        const T mean = (T)(N(sum_wide)(z, n) / (double)n);
        for (ptrdiff_t c = 0; c < n; c++) normal[c] = z[c] - mean;
        const T spread = 1 / SQRT((T)(N(sum_squares)(normal, n) / (double)n) + NORM_EPS);
        d->spread[r] = spread;
        for (ptrdiff_t c = 0; c < n; c++) normal[c] *= spread;
        for (ptrdiff_t c = 0; c < n; c++) z[c] = normal[c] * gamma[c];
    }
}

/* The gradients of gamma and beta, and through the statistics: ICML 2015 as above, section 3. Without training, the
 * statistics are constants. */
static void N(batch_norm_back)(const N(hand) *hand, const N(desk) *d, const fgd_layer *layer)
{
    const ptrdiff_t n = layer->outputs, first = fgd_part_start(n, hand->me, hand->all),
                    columns = fgd_part_start(n, hand->me + 1, hand->all) - first;
    T *by_gamma = layer->grads[FGD_GAMMA], *by_beta = layer->grads[FGD_BETA];
    const T *restrict gamma = layer->params[FGD_GAMMA], *restrict spread = d->spread;
    N(meet)(hand);
    N(add_columns)(by_beta + first, d->delta + first, NULL, hand->rows, n, columns);
    N(add_columns)(by_gamma + first, d->delta + first, d->normal + first, hand->rows, n, columns);
    N(meet)(hand);
    const T share = hand->network->training ? 1 / (T)hand->rows : 0;
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        T *restrict delta = d->delta + r * n;
        const T *restrict normal = d->normal + r * n;
        for (ptrdiff_t c = 0; c < n; c++)
            delta[c] = gamma[c] * spread[c] * (delta[c] - share * (by_beta[c] + normal[c] * by_gamma[c]));
    }
}

static void N(layer_norm_back)(const N(hand) *hand, const N(desk) *d, const fgd_layer *layer)
{
    const ptrdiff_t n = layer->outputs;
    const T *restrict gamma = layer->params[FGD_GAMMA];
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        T *restrict delta = d->delta + r * n, *restrict before = d->before + r * n;
        const T *restrict normal = d->normal + r * n;
        memcpy(before, delta, (size_t)n * sizeof(T));
        for (ptrdiff_t c = 0; c < n; c++) delta[c] *= gamma[c];
        const T mean = (T)(N(sum_wide)(delta, n) / (double)n), slope = (T)(N(dot_wide)(delta, normal, n) / (double)n);
        for (ptrdiff_t c = 0; c < n; c++) delta[c] = d->spread[r] * (delta[c] - mean - normal[c] * slope);
    }
}

/* as torch: the running variance is that of a sample */
static void N(move_statistics)(const N(desk) *d, const fgd_layer *layer, ptrdiff_t rows)
{
    T *restrict mean = layer->running_mean, *restrict variance = layer->running_var;
    const T unbiased = rows > 1 ? (T)rows / (T)(rows - 1) : 1;
    for (ptrdiff_t c = 0; c < layer->outputs; c++) {
        mean[c] += NORM_MOMENTUM * (d->mean[c] - mean[c]);
        variance[c] += NORM_MOMENTUM * (d->variance[c] * unbiased - variance[c]);
    }
}

/* ------------------------------------------------------------------------------------------------------ dropout */

/* 1 / (1 - p), or 0 with probability p: Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, "Dropout: a simple
 * way to prevent neural networks from overfitting", JMLR 15, 2014, section 10 (weights as they are in use). The
 * randomness is a hash of the element's number in the batch: fgd_hash. */
static void N(draw_dropped)(const N(hand) *hand, int l)
{
    const fgd_layer *layer = hand->network->layers + l;
    const uint64_t pass = hand->network->seed + (uint64_t)hand->network->pass * (uint64_t)hand->network->n_layers;
    const fgd_seed seed = fgd_seed_of((int64_t)(pass + (uint64_t)l), 0);
    const uint32_t limit = (uint32_t)(layer->dropout * 4294967296.0);
    const T factor = (T)(1 / (1 - layer->dropout));
    T *restrict dropped = hand->desks[l].dropped;
    for (ptrdiff_t i = hand->first * layer->outputs; i < hand->end * layer->outputs; i++)
        dropped[i] = fgd_hash((uint32_t)i, seed) < limit ? 0 : factor;
}

/* ----------------------------------------------------------------------------------------- to be quantised: faking */

/* what the products of a layer see in the place of its input */
static const T *N(input_of)(const N(desk) *d) { return d->faked ? d->faked : d->input; }

/* Do the inputs' ranges follow the batches? */
static int N(observes)(const fgd_network *network, const fgd_layer *layer)
{
    return network->training && layer->faking->averaging > 0 && !layer->params[FGD_INPUT_SCALE];
}

static ptrdiff_t N(tile_rows)(const N(hand) *hand, ptrdiff_t first)
{
    return hand->end - first < FGD_NETWORK_TILE ? hand->end - first : FGD_NETWORK_TILE;
}

static void N(fake_rows)(const N(hand) *hand, int l)
{
    const fgd_layer *layer = hand->network->layers + l;
    const N(desk) *d = hand->desks + l;
    const ptrdiff_t n = layer->inputs;
    const int observes = d->ranges && N(observes)(hand->network, layer);
    for (ptrdiff_t r = hand->first; r < hand->end; r += FGD_NETWORK_TILE)
        N(fake_input)(d->faked + r * n, observes ? d->ranges + r / FGD_NETWORK_TILE * 2 : NULL, d->input + r * n,
                      layer->faking, N(tile_rows)(hand, r) * n);
}

/* From the gradient with respect to the fake quantised input to that of the input. */
static void N(fake_rows_back)(const N(hand) *hand, int l)
{
    const fgd_layer *layer = hand->network->layers + l;
    const N(desk) *d = hand->desks + l;
    const ptrdiff_t n = layer->inputs;
    for (ptrdiff_t r = hand->first; r < hand->end; r += FGD_NETWORK_TILE) {
        double *sums = layer->params[FGD_INPUT_SCALE] ? d->scale_sums + r / FGD_NETWORK_TILE * 2 : NULL;
        if (sums) sums[0] = sums[1] = 0;
        N(through_fake)(hand->desks[l - 1].delta + r * n, sums, d->input + r * n,
                        layer->faking->quantizer + FGD_OF_INPUT, N(tile_rows)(hand, r) * n);
    }
}

/* ------------------------------------------------------------------------------------------- forward and backward */

static void N(add_to_rows)(T *restrict z, const T *restrict b, ptrdiff_t rows, ptrdiff_t n)
{
    for (ptrdiff_t r = 0; r < rows; r++)
        for (ptrdiff_t c = 0; c < n; c++) z[r * n + c] += b[c];
}

/* What follows the product x W, of the hand's rows. */
static void N(finish_layer)(const N(hand) *hand, int l)
{
    const fgd_layer *layer = hand->network->layers + l;
    const N(desk) *d = hand->desks + l;
    const N(activation) *activation = N(activations) + layer->activation;
    const ptrdiff_t n = layer->outputs, rows = hand->end - hand->first, at = hand->first * n;
    T *restrict z = d->z + at;
    N(add_to_rows)(z, layer->params[FGD_BIAS], rows, n);
    if (layer->norm == FGD_BATCH_NORM) N(normalize_batch)(hand, d, layer);
    if (layer->norm == FGD_LAYER_NORM) N(normalize_rows)(hand, d, layer);
    if (layer->norm) N(add_to_rows)(z, layer->params[FGD_BETA], rows, n);
    if (activation->keeps_input)
        activation->apply(d->out + at, z, rows * n, (T)layer->parameter);
    else
        activation->apply_here(z, rows * n, (T)layer->parameter);
    if (d->out == d->z) return;
    T *restrict out = d->out + at;
    if (!activation->keeps_input) memcpy(out, z, (size_t)(rows * n) * sizeof(T));
    if (d->dropped && hand->network->training) {
        N(draw_dropped)(hand, l);
        for (ptrdiff_t i = 0; i < rows * n; i++) out[i] *= d->dropped[at + i];
    }
    if (layer->skip && d->input) /* sparse rows are added by who has them */
        for (ptrdiff_t i = 0; i < rows * n; i++) out[i] += N(input_of)(d)[at + i];
}

/* From the gradient with respect to a layer's outputs to that of its product, and to that of its inputs, which are the
 * outputs of the layer before. */
static void N(layer_back)(const N(hand) *hand, int l)
{
    const fgd_layer *layer = hand->network->layers + l;
    const N(desk) *d = hand->desks + l;
    const ptrdiff_t n = layer->outputs, rows = hand->end - hand->first, at = hand->first * n;
    T *restrict delta = d->delta + at;
    T *below = l > 0 ? hand->desks[l - 1].delta + hand->first * layer->inputs : NULL;
    if (layer->skip && below) memcpy(below, delta, (size_t)(rows * n) * sizeof(T));
    if (d->dropped && hand->network->training)
        for (ptrdiff_t i = 0; i < rows * n; i++) delta[i] *= d->dropped[at + i];
    N(activations)[layer->activation].slope(delta, d->z + at, rows * n, (T)layer->parameter);
    if (layer->norm == FGD_BATCH_NORM) N(batch_norm_back)(hand, d, layer);
    if (layer->norm == FGD_LAYER_NORM) N(layer_norm_back)(hand, d, layer);
    N(note_largest)(hand->largest + 2 * l + 1, delta, rows * n);
    if (below && rows > 0)
        N(fgd_multiply)(below, layer->inputs, delta, n, 1, N(weights_of)(layer), 1, n, rows, layer->inputs, n,
                        layer->skip, hand->panel);
    if (below && layer->faking) N(fake_rows_back)(hand, l);
}

#undef NORM_EPS
#undef NORM_MOMENTUM
