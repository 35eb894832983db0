/* Networks: backpropagation (Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature
 * 323, 1986), many batches a call, one parallel region a call.
 *
 * A batch goes like this. Each thread takes its rows through all layers, forward and back. When all have met, each
 * takes its parts of the weights: forms their gradient from all rows, and at once, while it is in the first-level
 * cache, the step of the optimizer. So a gradient as a whole is only written to memory where the step needs to see it
 * first: for its norm, say. That nothing may change if a gradient is not finite is ensured beforehand, by a bound from
 * the largest inputs and deltas.
 *
 * No sum depends on how rows and weights are shared. */

#ifndef FASTGD_MLP_H
#define FASTGD_MLP_H

/* what becomes of a batch's gradients */
enum { NO_STEP, AT_ONCE, APART, REFUSED };

#endif

#if MANTISSA_BITS > 23
#define FGD_GRADIENT_BOUND 1e307
#else
#define FGD_GRADIENT_BOUND 1e37
#endif

/* Neighbouring rows of a layer's W, or its vectors, whose gradients one thread forms. */
typedef struct {
    int layer, is_weight;
    ptrdiff_t first, n;   /* inputs */
    ptrdiff_t scale_sums; /* where those are of learned scales */
    double work, squares;
} N(part);

typedef struct {
    const fgd_network *network;
    const fgd_batches *batches;
    fgd_descent *descent;
    N(desk) *desks;
    T *X, *y, *weights, *values; /* of the rows of the batch: gathered, and the losses of each output */
    double *row_losses;
    ptrdiff_t *column_starts, *value_rows; /* of a sparse batch: where its columns begin; row and value of each */
    T *column_values;
    N(part) *parts;
    double *scale_sums; /* of the parts of layers that learn the scales of their weights */
    ptrdiff_t n_parts, n_scale_sums;
    double work;
    T *own; /* of each thread: scratch */
    ptrdiff_t own_size, slice_size;
    UBITS *largest; /* of each thread and layer: of the input, of the delta */
    size_t bytes;
    /* the batch that is worked on */
    fgd_network pass;
    fgd_meeting meeting;
    fgd_step_job step;
    fgd_options options;
    ptrdiff_t start, rows, n_batches, batch;
    double weight_sum, loss, penalty;
    int way; /* of gradients: does their step go with them? */
    fgd_status status;
} N(session);

/* ------------------------------------------------------------------------------------------------------- scratch */

static ptrdiff_t N(outputs_of)(const fgd_network *network) { return network->layers[network->n_layers - 1].outputs; }

static ptrdiff_t N(y_columns)(const fgd_network *network)
{
    return network->loss == FGD_SOFTMAX ? 1 : N(outputs_of)(network);
}

static void N(lay_desk)(N(desk) *d, const fgd_layer *layer, size_t *used, void *memory, ptrdiff_t rows, int learns)
{
    const ptrdiff_t size = rows * layer->outputs * (ptrdiff_t)sizeof(T);
    const ptrdiff_t vector = layer->outputs * (ptrdiff_t)sizeof(T);
    const int other = N(activations)[layer->activation].keeps_input || layer->dropout > 0 || layer->skip;
    *d = (N(desk)){.z = N(place)(used, memory, size)};
    d->out = other ? N(place)(used, memory, size) : d->z;
    if (learns) d->delta = N(place)(used, memory, size);
    if (learns && layer->dropout > 0) d->dropped = N(place)(used, memory, size);
    if (layer->faking) {
        const ptrdiff_t tiles = (rows + FGD_NETWORK_TILE - 1) / FGD_NETWORK_TILE;
        d->faked = N(place)(used, memory, rows * layer->inputs * (ptrdiff_t)sizeof(T));
        if (learns) d->ranges = N(place)(used, memory, 2 * tiles * (ptrdiff_t)sizeof(double));
        if (learns) d->scale_sums = N(place)(used, memory, 2 * tiles * (ptrdiff_t)sizeof(double));
    }
    if (!layer->norm) return;
    d->normal = N(place)(used, memory, size);
    if (learns && layer->norm == FGD_LAYER_NORM) d->before = N(place)(used, memory, size);
    d->mean = N(place)(used, memory, vector);
    d->variance = N(place)(used, memory, vector);
    d->spread = N(place)(used, memory, layer->norm == FGD_LAYER_NORM ? rows * (ptrdiff_t)sizeof(T) : vector);
}

static ptrdiff_t N(part_inputs)(const fgd_layer *layer)
{
    const ptrdiff_t wanted = FGD_PART_ELEMENTS / layer->outputs / FGD_NETWORK_TILE * FGD_NETWORK_TILE;
    return wanted > FGD_NETWORK_TILE ? wanted : FGD_NETWORK_TILE;
}

static void N(add_part)(N(session) *s, N(part) part, double work)
{
    part.work = work;
    if (s->parts) s->parts[s->n_parts] = part;
    s->n_parts++;
    s->work += work;
}

/* The vectors of a layer make a part. */
static void N(cut_into_parts)(N(session) *s, ptrdiff_t rows)
{
    s->n_parts = s->n_scale_sums = 0, s->work = 0;
    for (int l = 0; l < s->network->n_layers; l++) {
        const fgd_layer *layer = s->network->layers + l;
        const ptrdiff_t step = N(part_inputs)(layer);
        for (ptrdiff_t i = 0; i < layer->inputs; i += step) {
            const ptrdiff_t n = layer->inputs - i < step ? layer->inputs - i : step;
            N(add_part)(s, (N(part)){.layer = l, .is_weight = 1, .first = i, .n = n, .scale_sums = s->n_scale_sums},
                        ((double)rows + FGD_PART_STEP) * (double)(n * layer->outputs));
            if (layer->params[FGD_WEIGHT_SCALE])
                s->n_scale_sums += 2 * layer->faking->quantizer[FGD_OF_WEIGHT].n_channels;
        }
        N(add_part)(s, (N(part)){.layer = l}, (double)(rows * layer->outputs));
    }
}

static N(session) N(lay_session)(void *memory, const fgd_network *network, const fgd_batches *b, int threads)
{
    N(session) s = {.network = network, .batches = b};
    const ptrdiff_t rows = b->batch_size, size = (ptrdiff_t)sizeof(T), outputs = N(outputs_of)(network);
    const ptrdiff_t inputs = network->layers[0].inputs, n_layers = network->n_layers;
    s.desks = N(place)(&s.bytes, memory, n_layers * (ptrdiff_t)sizeof(N(desk)));
    for (int l = 0; l < n_layers; l++) {
        N(desk) d;
        N(lay_desk)(&d, network->layers + l, &s.bytes, memory, rows, 1);
        if (s.desks) s.desks[l] = d;
        const ptrdiff_t slice = N(part_inputs)(network->layers + l) * network->layers[l].outputs;
        s.slice_size = slice > s.slice_size ? slice : s.slice_size;
    }
    if (!b->indptr && b->order) s.X = N(place)(&s.bytes, memory, rows * inputs * size);
    s.y = N(place)(&s.bytes, memory, rows * N(y_columns)(network) * size);
    s.weights = N(place)(&s.bytes, memory, rows * size);
    s.values = N(place)(&s.bytes, memory, rows * outputs * size);
    s.row_losses = N(place)(&s.bytes, memory, rows * (ptrdiff_t)sizeof(double));
    if (b->indptr) {
        s.column_starts = N(place)(&s.bytes, memory, (inputs + 2) * (ptrdiff_t)sizeof(ptrdiff_t));
        s.value_rows = N(place)(&s.bytes, memory, b->most_values * (ptrdiff_t)sizeof(ptrdiff_t));
        s.column_values = N(place)(&s.bytes, memory, b->most_values * size);
    }
    N(cut_into_parts)(&s, rows);
    s.parts = N(place)(&s.bytes, memory, s.n_parts * (ptrdiff_t)sizeof(N(part)));
    N(cut_into_parts)(&s, rows);
    s.scale_sums = N(place)(&s.bytes, memory, s.n_scale_sums * (ptrdiff_t)sizeof(double));
    const ptrdiff_t softmax = network->loss == FGD_SOFTMAX ? outputs * (FGD_CLASS_ROWS + 1) : 0;
    s.own_size = (FGD_PANEL_BYTES / size + s.slice_size + softmax + W - 1) / W * W;
    s.own = N(place)(&s.bytes, memory, threads * s.own_size * size);
    s.largest = N(place)(&s.bytes, memory, threads * 2 * n_layers * (ptrdiff_t)sizeof(UBITS));
    return s;
}

static size_t N(network_scratch)(const fgd_network *network, const fgd_batches *batches, int threads)
{
    return N(lay_session)(NULL, network, batches, threads).bytes;
}

/* ------------------------------------------------------------------------------------------------- the first layer */

static ptrdiff_t N(row_at)(const fgd_batches *b, ptrdiff_t position)
{
    return b->order ? (ptrdiff_t)b->order[position] : position;
}

static ptrdiff_t N(row_end)(const fgd_batches *b, ptrdiff_t i)
{
    return b->wide ? (ptrdiff_t)((const int64_t *)b->indptr)[i] : (ptrdiff_t)((const int32_t *)b->indptr)[i];
}

static ptrdiff_t N(column_of)(const fgd_batches *b, ptrdiff_t k)
{
    return b->wide ? (ptrdiff_t)((const int64_t *)b->indices)[k] : (ptrdiff_t)((const int32_t *)b->indices)[k];
}

/* z = x W of a sparse row */
static void N(multiply_sparse)(T *restrict z, const fgd_batches *b, ptrdiff_t row, const T *W_, ptrdiff_t n)
{
    memset(z, 0, (size_t)n * sizeof(T));
    for (ptrdiff_t k = N(row_end)(b, row); k < N(row_end)(b, row + 1); k++) {
        const T x = ((const T *)b->X)[k];
        const T *restrict w = W_ + N(column_of)(b, k) * n;
        for (ptrdiff_t c = 0; c < n; c++) z[c] += x * w[c];
    }
}

static void N(skip_sparse)(T *restrict out, const fgd_batches *b, ptrdiff_t row)
{
    for (ptrdiff_t k = N(row_end)(b, row); k < N(row_end)(b, row + 1); k++)
        out[N(column_of)(b, k)] += ((const T *)b->X)[k];
}

/* The batch by columns, so that each column's gradient can be formed by itself. */
static void N(turn_sparse)(N(session) *s)
{
    const fgd_batches *b = s->batches;
    const ptrdiff_t inputs = s->network->layers[0].inputs;
    ptrdiff_t *starts = s->column_starts; /* of column c at [c + 1] while it is filled */
    memset(starts, 0, (size_t)(inputs + 2) * sizeof *starts);
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        const ptrdiff_t row = N(row_at)(b, s->start + r);
        for (ptrdiff_t k = N(row_end)(b, row); k < N(row_end)(b, row + 1); k++) starts[N(column_of)(b, k) + 2]++;
    }
    for (ptrdiff_t c = 0; c < inputs; c++) starts[c + 2] += starts[c + 1];
    for (ptrdiff_t r = 0; r < s->rows; r++) {
        const ptrdiff_t row = N(row_at)(b, s->start + r);
        for (ptrdiff_t k = N(row_end)(b, row); k < N(row_end)(b, row + 1); k++) {
            const ptrdiff_t at = starts[N(column_of)(b, k) + 1]++;
            s->value_rows[at] = r;
            s->column_values[at] = ((const T *)b->X)[k];
        }
    }
}

/* gradient (n, outputs) of the weights of n columns of a sparse batch */
static void N(sparse_gradient)(const N(session) *s, T *gradient, ptrdiff_t first, ptrdiff_t n)
{
    const ptrdiff_t outputs = s->network->layers[0].outputs;
    if (!s->batches->adds) memset(gradient, 0, (size_t)(n * outputs) * sizeof(T));
    for (ptrdiff_t j = 0; j < n; j++) {
        T *restrict g = gradient + j * outputs;
        for (ptrdiff_t k = s->column_starts[first + j]; k < s->column_starts[first + j + 1]; k++) {
            const T x = s->column_values[k];
            const T *restrict delta = s->desks[0].delta + s->value_rows[k] * outputs;
            for (ptrdiff_t c = 0; c < outputs; c++) g[c] += x * delta[c];
        }
    }
}

/* Takes the hand's rows of X, and their y and weights, to where the batch is worked on. */
static void N(gather)(N(session) *s, const N(hand) *hand)
{
    const fgd_batches *b = s->batches;
    const ptrdiff_t n = s->network->layers[0].inputs, m = N(y_columns)(s->network);
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        const ptrdiff_t row = N(row_at)(b, s->start + r);
        memcpy(s->y + r * m, (const T *)b->y + row * m, (size_t)m * sizeof(T));
        s->weights[r] = b->sample_weight ? ((const T *)b->sample_weight)[row] : 1;
        if (b->indptr) {
            const ptrdiff_t at = N(row_end)(b, row);
            N(note_largest)(hand->largest, (const T *)b->X + at, N(row_end)(b, row + 1) - at);
        } else {
            if (b->order) memcpy(s->X + r * n, (const T *)b->X + row * n, (size_t)n * sizeof(T));
            N(note_largest)(hand->largest, (const T *)b->X + row * n, n);
        }
    }
}

/* -------------------------------------------------------------------------------------------- forward and the loss */

static void N(forward)(const N(hand) *hand, const fgd_batches *b, ptrdiff_t start)
{
    for (int l = 0; l < hand->network->n_layers; l++) {
        const fgd_layer *layer = hand->network->layers + l;
        N(desk) *d = hand->desks + l;
        const ptrdiff_t n = layer->outputs, rows = hand->end - hand->first;
        if (layer->faking) N(fake_rows)(hand, l);
        if (l == 0 && b->indptr)
            for (ptrdiff_t r = hand->first; r < hand->end; r++)
                N(multiply_sparse)(d->z + r * n, b, N(row_at)(b, start + r), layer->params[FGD_WEIGHT], n);
        else if (rows > 0)
            N(fgd_multiply)(d->z + hand->first * n, n, N(input_of)(d) + hand->first * layer->inputs, layer->inputs, 1,
                            N(weights_of)(layer), n, 1, rows, n, layer->inputs, 0, hand->panel);
        N(finish_layer)(hand, l);
        if (l == 0 && b->indptr && layer->skip)
            for (ptrdiff_t r = hand->first; r < hand->end; r++)
                N(skip_sparse)(d->out + r * n, b, N(row_at)(b, start + r));
        if (hand->largest && l + 1 < hand->network->n_layers)
            N(note_largest)(hand->largest + 2 * (l + 1), d->out + hand->first * n, rows * n);
    }
}

/* FGD_CLASS_ROWS rows of outputs, or fewer, become the derivatives of their losses, or with y = -1 probabilities. */
static void N(softmax_outputs)(T *derivative, T *values, const T *outputs, const T *y, T *scratch, ptrdiff_t rows,
                               ptrdiff_t classes, T smoothing)
{
    enum { R = FGD_CLASS_ROWS };
    T *p = scratch, *zeros = scratch + classes * R, of_y[R] = {0};
    memset(p, 0, (size_t)(classes * (R + 1)) * sizeof(T));
    for (ptrdiff_t r = 0; r < rows; r++) of_y[r] = y ? y[r] : -1;
    N(transpose)(p, R, outputs, classes, rows, classes);
    N(softmax_rows)(p, values, of_y, zeros, classes, smoothing);
    N(transpose)(derivative, classes, p, R, classes, rows);
}

/* log(1 + exp(p)) - t p, with t the target, smoothed (Szegedy et al., as above, of two classes) */
static void N(sigmoid_outputs)(T *restrict derivative, T *restrict values, const T *restrict p, const T *restrict y,
                               ptrdiff_t n, T smoothing)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const T t = (1 - smoothing) * y[i] + smoothing / 2;
        values[i] = N(softplus_value)(p[i], 0) - t * p[i];
    }
    for (ptrdiff_t i = 0; i < n; i++) derivative[i] = N(logistic)(p[i]) - ((1 - smoothing) * y[i] + smoothing / 2);
}

/* The losses of the hand's rows, and their derivatives, which count weight / weight_sum. */
static void N(find_loss)(N(session) *s, const N(hand) *hand, double weight_sum)
{
    const fgd_network *network = s->network;
    const N(desk) *d = s->desks + network->n_layers - 1;
    const ptrdiff_t n = N(outputs_of)(network), at = hand->first * n, size = (hand->end - hand->first) * n;
    const T smoothing = (T)network->label_smoothing;
    if (network->loss == FGD_SOFTMAX) {
        T *scratch = hand->panel + FGD_PANEL_BYTES / sizeof(T) + s->slice_size;
        for (ptrdiff_t r = hand->first; r < hand->end; r += FGD_CLASS_ROWS) {
            const ptrdiff_t rows = hand->end - r < FGD_CLASS_ROWS ? hand->end - r : FGD_CLASS_ROWS;
            T values[FGD_CLASS_ROWS];
            N(softmax_outputs)(d->delta + r * n, values, d->out + r * n, s->y + r, scratch, rows, n, smoothing);
            for (ptrdiff_t i = 0; i < rows; i++) s->row_losses[r + i] = (double)values[i];
        }
    } else {
        if (network->loss == FGD_SIGMOID)
            N(sigmoid_outputs)(d->delta + at, s->values + at, d->out + at, s->y + at, size, smoothing);
        else
            N(losses)[network->loss].evaluate(s->values + at, d->delta + at, s->y + at, d->out + at, size,
                                              (T)network->loss_parameter);
        for (ptrdiff_t r = hand->first; r < hand->end; r++) {
            s->row_losses[r] = 0;
            for (ptrdiff_t k = 0; k < n; k++) s->row_losses[r] += (double)s->values[r * n + k];
        }
    }
    for (ptrdiff_t r = hand->first; r < hand->end; r++) {
        const T share = (T)((double)s->weights[r] / weight_sum);
        s->row_losses[r] *= (double)s->weights[r];
        for (ptrdiff_t k = 0; k < n; k++) d->delta[r * n + k] *= share;
    }
}

static double N(sum_weights)(const N(session) *s)
{
    const fgd_batches *b = s->batches;
    if (b->whole > 0) return b->whole;
    if (!b->sample_weight) return (double)s->rows;
    double sum = 0;
    for (ptrdiff_t r = 0; r < s->rows; r++) sum += (double)((const T *)b->sample_weight)[N(row_at)(b, s->start + r)];
    return sum;
}

static void N(pass_rows)(N(session) *s, const N(hand) *hand)
{
    N(gather)(s, hand);
    N(forward)(hand, s->batches, s->start);
    N(find_loss)(s, hand, N(sum_weights)(s));
    for (int l = s->network->n_layers - 1; l >= 0; l--) N(layer_back)(hand, l);
}

/* --------------------------------------------------------------------------------------- gradients and their steps */

/* The step of n elements of a parameter from `first` on, of which this is the gradient. */
static void N(step_part)(const N(session) *s, const fgd_layer *layer, int param, const T *gradient, ptrdiff_t first,
                         ptrdiff_t n)
{
    if (layer->trained[param] < 0) return;
    fgd_tensor tensor = s->descent->tensors[layer->trained[param]];
    if (!tensor.grad) return;
    tensor.grad = (void *)((uintptr_t)gradient - (uintptr_t)first * sizeof(T));
    N(update_range)(&tensor, s->descent->plans + tensor.plan, &s->step.pass, first, n);
}

/* From the gradient with respect to the fake quantised weights of a part to that of the weights. */
static void N(weights_back)(const N(session) *s, const fgd_layer *layer, const N(part) *part, T *gradient)
{
    const fgd_quantizer *q = layer->faking->quantizer + FGD_OF_WEIGHT;
    double *sums = layer->params[FGD_WEIGHT_SCALE] ? s->scale_sums + part->scale_sums : NULL;
    if (sums) memset(sums, 0, 2 * (size_t)q->n_channels * sizeof(double));
    N(through_fake)(gradient, sums, (const T *)layer->params[FGD_WEIGHT] + part->first * layer->outputs, q,
                    part->n * layer->outputs);
}

static void N(do_weights)(N(session) *s, const N(hand) *hand, N(part) *part)
{
    const fgd_layer *layer = s->network->layers + part->layer;
    const N(desk) *d = s->desks + part->layer;
    const ptrdiff_t n = layer->outputs, first = part->first * n, size = part->n * n;
    const T *restrict w = (const T *)layer->params[FGD_WEIGHT] + first;
    T *gradient = s->way == AT_ONCE ? hand->panel + FGD_PANEL_BYTES / sizeof(T) : (T *)layer->grads[FGD_WEIGHT] + first;
    if (d->input)
        N(fgd_multiply)(gradient, n, N(input_of)(d) + part->first, 1, layer->inputs, d->delta, n, 1, part->n, n,
                        s->rows, s->batches->adds, hand->panel);
    else
        N(sparse_gradient)(s, gradient, part->first, part->n);
    if (layer->faking) N(weights_back)(s, layer, part, gradient);
    if (s->batches->alpha != 0) {
        const T alpha = (T)(s->batches->alpha / s->weight_sum);
        T *restrict g = gradient;
        for (ptrdiff_t i = 0; i < size; i++) g[i] += alpha * w[i];
        part->squares = N(sum_squares)(w, size);
    }
    if (s->way == AT_ONCE) N(step_part)(s, layer, FGD_WEIGHT, gradient, first, size);
}

/* A vector's gradient: the sums of columns, or they are added to it. */
static void N(sum_vector)(const N(session) *s, T *restrict gradient, T *restrict scratch, const T *a, const T *b,
                          ptrdiff_t n)
{
    if (!s->batches->adds) {
        N(add_columns)(gradient, a, b, s->rows, n, n);
        return;
    }
    N(add_columns)(scratch, a, b, s->rows, n, n);
    for (ptrdiff_t c = 0; c < n; c++) gradient[c] += scratch[c];
}

static void N(do_vectors)(N(session) *s, const N(hand) *hand, const N(part) *part)
{
    const fgd_layer *layer = s->network->layers + part->layer;
    const N(desk) *d = s->desks + part->layer;
    const ptrdiff_t n = layer->outputs;
    T *scratch = hand->panel + FGD_PANEL_BYTES / sizeof(T);
    N(sum_vector)(s, layer->grads[FGD_BIAS], scratch, d->delta, NULL, n);
    if (layer->norm == FGD_LAYER_NORM) {
        N(sum_vector)(s, layer->grads[FGD_BETA], scratch, d->before, NULL, n);
        N(sum_vector)(s, layer->grads[FGD_GAMMA], scratch, d->before, d->normal, n);
    }
    for (int param = FGD_BIAS; s->way == AT_ONCE && param < FGD_LAYER_PARAMS; param++)
        if (layer->params[param]) N(step_part)(s, layer, param, layer->grads[param], 0, n);
}

/* The gradients of learned scales, when all parts have been done. */
static void N(gather_scales)(N(session) *s)
{
    const ptrdiff_t tiles = (s->rows + FGD_NETWORK_TILE - 1) / FGD_NETWORK_TILE;
    for (ptrdiff_t i = 0; i < s->n_parts; i++) {
        const fgd_layer *layer = s->network->layers + s->parts[i].layer;
        if (!s->parts[i].is_weight || s->parts[i].first > 0 || !layer->faking) continue;
        const fgd_faking *f = layer->faking;
        const ptrdiff_t step = N(part_inputs)(layer), n_parts = (layer->inputs + step - 1) / step;
        if (layer->params[FGD_WEIGHT_SCALE])
            N(gather_scale)(layer->grads[FGD_WEIGHT_SCALE], s->scale_sums + s->parts[i].scale_sums, n_parts,
                            f->quantizer[FGD_OF_WEIGHT].n_channels, f->factor[FGD_OF_WEIGHT]);
        if (layer->params[FGD_INPUT_SCALE])
            N(gather_scale)(layer->grads[FGD_INPUT_SCALE], s->desks[s->parts[i].layer].scale_sums, tiles, 1,
                            f->factor[FGD_OF_INPUT]);
    }
}

static void N(do_parts)(N(session) *s, const N(hand) *hand)
{
    const double first = s->work * hand->me / hand->all, end = s->work * (hand->me + 1) / hand->all;
    double before = 0;
    for (ptrdiff_t i = 0; i < s->n_parts; before += s->parts[i++].work) {
        if (before < first || (before >= end && hand->me + 1 < hand->all)) continue;
        if (s->parts[i].is_weight)
            N(do_weights)(s, hand, s->parts + i);
        else
            N(do_vectors)(s, hand, s->parts + i);
    }
}

/* ------------------------------------------------------------------------------------------------- batch by batch */

/* Is no gradient of this batch too large, whatever its signs? A NaN among them makes it too large. */
static int N(is_bounded)(const N(session) *s, int all)
{
    for (int l = 0; l < s->network->n_layers; l++) {
        UBITS most[2] = {0, 0};
        for (int thread = 0; thread < all; thread++)
            for (int k = 0; k < 2; k++) {
                const UBITS here = s->largest[(thread * s->network->n_layers + l) * 2 + k];
                most[k] = here > most[k] ? here : most[k];
            }
        union {
            UBITS i;
            T f;
        } input = {most[0]}, delta = {most[1]};
        if (!((double)input.f * (double)delta.f * (double)s->rows < FGD_GRADIENT_BOUND)) return 0;
        if (!((double)delta.f * (double)s->rows < FGD_GRADIENT_BOUND)) return 0;
    }
    return 1;
}

/* Can elements take their step one by one, before all gradients are known? */
static int N(is_local)(const N(session) *s)
{
    const fgd_descent *d = s->descent;
    const fgd_options *o = d->options;
    if (o->norms || o->max_norm < INFINITY || o->centralize || o->agc < INFINITY) return 0;
    for (ptrdiff_t g = 0; g < d->n_groups; g++)
        if (d->groups[g].rule >= 0 && fgd_rules[d->groups[g].rule].kind > FGD_CODED) return 0;
    for (ptrdiff_t i = 0; i < d->n_tensors; i++)
        if (d->tensors[i].low) return 0;
    for (int l = 0; l < s->network->n_layers; l++)
        if (s->network->layers[l].params[FGD_WEIGHT_SCALE]) return 0; /* their gradients need all parts */
    return 1;
}

static void N(open_step)(N(session) *s, int guard, int all)
{
    fgd_descent *d = s->descent;
    const ptrdiff_t size = d->n_groups * FGD_MAX_HYPERS, step = d->n_steps;
    for (ptrdiff_t g = 0; d->hypers && g < d->n_groups; g++)
        memcpy(d->groups[g].hypers, d->hypers + step * size + g * FGD_MAX_HYPERS, FGD_MAX_HYPERS * sizeof(double));
    if (d->average_weights) d->options->average_weight = d->average_weights[step];
    d->options->step = d->t + step;
    d->options->looks_ahead = d->period > 0 && (d->t + step + 1) % d->period == 0;
    s->options = *d->options;
    s->options.guard = guard;
    fgd_open_step(&s->step, d->report, d->tensors, d->plans, d->sums, d->room, d->groups, &s->options, d->n_tensors);
    fgd_share_matrices(&s->step.matrices, all);
}

/* When all rows have been passed: which way do their gradients go? */
static void N(judge)(N(session) *s, int all)
{
    s->loss = 0;
    for (ptrdiff_t r = 0; r < s->rows; r++) s->loss += s->row_losses[r];
    s->weight_sum = N(sum_weights)(s);
    if (s->batches->indptr) N(turn_sparse)(s);
    if (!s->descent) {
        s->way = NO_STEP;
    } else if (s->descent->options->guard && !(s->loss - s->loss == 0)) {
        s->way = REFUSED;
    } else if (N(is_local)(s) && (!s->descent->options->guard || N(is_bounded)(s, all))) {
        s->way = AT_ONCE;
        N(open_step)(s, 0, all);
    } else {
        s->way = APART;
    }
}

/* Says why the batch is refused: a gradient is not finite, or the loss alone. */
static void N(refuse)(N(session) *s)
{
    fgd_descent *d = s->descent;
    s->status = FGD_DIVERGED;
    *d->report = (fgd_report){NAN, 1, NAN, -1};
    for (ptrdiff_t i = d->n_tensors - 1; i >= 0; i--)
        if (d->tensors[i].grad && !N(all_finite)(d->tensors[i].grad, d->tensors[i].size)) {
            s->status = FGD_NOT_FINITE;
            d->report->failed = i;
        }
}

static void N(begin_batch)(N(session) *s)
{
    const fgd_batches *b = s->batches;
    s->start = b->start + s->batch * b->batch_size;
    s->rows = b->stop - s->start < b->batch_size ? b->stop - s->start : b->batch_size;
    if (!b->indptr) s->desks[0].input = b->order ? s->X : (const T *)b->X + s->start * s->network->layers[0].inputs;
}

static void N(keep_scales)(const N(session) *s, int l)
{
    const fgd_layer *layer = s->network->layers + l;
    const fgd_faking *f = layer->faking;
    const ptrdiff_t tiles = (s->rows + FGD_NETWORK_TILE - 1) / FGD_NETWORK_TILE;
    if (N(observes)(&s->pass, layer)) N(follow_range)(f, s->desks[l].ranges, tiles);
    for (int of = 0; of < FGD_FAKED; of++)
        if (layer->params[FGD_WEIGHT_SCALE + of]) N(hold_scale)(f->scale[of], f->quantizer[of].n_channels);
}

/* What a batch that was good leaves. */
static void N(keep_batch)(N(session) *s, double *sums)
{
    double squares = 0;
    for (ptrdiff_t i = 0; i < s->n_parts; i++) squares += s->parts[i].squares;
    const double share = (double)s->rows / s->weight_sum;
    sums[0] += s->loss * share;
    sums[1] += 0.5 * s->batches->alpha * squares * share;
    for (int l = 0; s->pass.training && l < s->network->n_layers; l++)
        if (s->network->layers[l].norm == FGD_BATCH_NORM)
            N(move_statistics)(s->desks + l, s->network->layers + l, s->rows);
    for (int l = 0; l < s->network->n_layers; l++)
        if (s->network->layers[l].faking) N(keep_scales)(s, l);
    if (s->descent) s->descent->n_steps++;
}

static void N(end_batch)(N(session) *s, double *sums)
{
    if (s->way == NO_STEP) N(gather_scales)(s);
    if (s->way == REFUSED) N(refuse)(s);
    if (s->way == AT_ONCE || s->way == APART) s->status = fgd_close_step(&s->step);
    if (s->status == FGD_OK) {
        N(keep_batch)(s, sums);
    } else if (s->descent->skips) {
        s->status = FGD_OK;
        s->descent->n_skipped++;
    }
    s->pass.pass++;
    if (s->status == FGD_OK && ++s->batch < s->n_batches) N(begin_batch)(s);
}

/* Does something once, when all have come, and lets all go on. */
#define BY_THE_LAST(hand, what)                                                                                        \
    do {                                                                                                               \
        if ((hand).all == 1) {                                                                                         \
            what;                                                                                                      \
        } else if (fgd_arrive((hand).meeting, (hand).all)) {                                                           \
            what;                                                                                                      \
            fgd_leave((hand).meeting);                                                                                 \
        }                                                                                                              \
    } while (0)

/* W of all layers as their products see it: each thread does some columns. */
static void N(fake_weights)(const fgd_network *network, fgd_meeting *meeting, int me, int all)
{
    int any = 0;
    for (int l = 0; l < network->n_layers; l++) any |= network->layers[l].faking != NULL;
    if (!any) return;
    N(hand) hand = {.meeting = meeting, .me = me, .all = all};
    BY_THE_LAST(hand, for (int l = 0; l < network->n_layers; l++) if (network->layers[l].faking)
                          N(measure_weights)(network->layers + l));
    for (int l = 0; l < network->n_layers; l++) {
        const fgd_layer *layer = network->layers + l;
        if (layer->faking)
            N(fake_columns)(layer, fgd_part_start(layer->outputs, me, all),
                            fgd_part_start(layer->outputs, me + 1, all));
    }
    N(meet)(&hand);
}

/* What each thread of a team does. */
static void N(train_batches)(N(session) *s, double *sums, int me, int all)
{
    const ptrdiff_t n_largest = 2 * s->network->n_layers;
    N(hand) hand = {.desks = s->desks, .network = &s->pass, .meeting = &s->meeting, .me = me, .all = all};
    hand.panel = s->own + me * s->own_size;
    hand.largest = s->largest + me * n_largest;
    while (s->batch < s->n_batches && s->status == FGD_OK) {
        const ptrdiff_t tiles = (s->rows + FGD_NETWORK_TILE - 1) / FGD_NETWORK_TILE;
        hand.rows = s->rows;
        hand.first = fgd_part_start(tiles, me, all) * FGD_NETWORK_TILE;
        hand.end = fgd_part_start(tiles, me + 1, all) * FGD_NETWORK_TILE;
        if (hand.end > s->rows) hand.end = s->rows;
        if (hand.first > s->rows) hand.first = s->rows; /* where there are more threads than tiles */
        memset(hand.largest, 0, (size_t)n_largest * sizeof(UBITS));
        N(fake_weights)(s->network, &s->meeting, me, all);
        N(pass_rows)(s, &hand);
        BY_THE_LAST(hand, N(judge)(s, all));
        N(do_parts)(s, &hand);
        if (s->way == APART) {
            BY_THE_LAST(hand, N(gather_scales)(s); N(open_step)(s, s->descent->options->guard, all));
            fgd_work_on_step(&s->step, me, all);
        }
        BY_THE_LAST(hand, N(end_batch)(s, sums));
    }
}

/* Multiplications of a product of all layers with so many rows: what decides on the size of a team. */
static double N(multiplications)(const fgd_network *network, ptrdiff_t rows)
{
    double work = 0;
    for (int l = 0; l < network->n_layers; l++)
        work += (double)rows * (double)network->layers[l].inputs * (double)network->layers[l].outputs;
    return work;
}

static fgd_status N(train_network)(double *sums, ptrdiff_t *failed, void *scratch, const fgd_network *network,
                                   const fgd_batches *batches, fgd_descent *descent, int threads)
{
    N(session) s = N(lay_session)(scratch, network, batches, threads);
    s.descent = descent;
    s.pass = *network;
    s.n_batches = (batches->stop - batches->start + batches->batch_size - 1) / batches->batch_size;
    if (descent) descent->n_steps = descent->n_skipped = 0;
    for (int l = 1; l < network->n_layers; l++) s.desks[l].input = s.desks[l - 1].out;
    N(begin_batch)(&s);
    const int team = fgd_team(threads, N(multiplications)(network, s.rows), FGD_SERIAL_NETWORK);
    if (team > 1) {
        FGD_PARALLEL(team)
        N(train_batches)(&s, sums, FGD_THREAD, FGD_TEAM);
    } else {
        N(train_batches)(&s, sums, 0, 1);
    }
    *failed = s.batch;
    return s.status;
}

/* ---------------------------------------------------------------------------------------------------- prediction */

static void N(link_outputs)(T *restrict out, const T *restrict p, T *scratch, ptrdiff_t rows, ptrdiff_t n, int link)
{
    T values[FGD_CLASS_ROWS];
    if (link == FGD_LINK_IDENTITY) memcpy(out, p, (size_t)(rows * n) * sizeof(T));
    if (link == FGD_LINK_LOG)
        for (ptrdiff_t i = 0; i < rows * n; i++) out[i] = N(exp_or_infinity)(p[i]);
    if (link == FGD_LINK_LOGIT)
        for (ptrdiff_t i = 0; i < rows * n; i++) out[i] = N(logistic)(p[i]);
    for (ptrdiff_t r = 0; link == FGD_LINK_SOFTMAX && r < rows; r += FGD_CLASS_ROWS)
        N(softmax_outputs)(out + r * n, values, p + r * n, NULL, scratch,
                           rows - r < FGD_CLASS_ROWS ? rows - r : FGD_CLASS_ROWS, n, 0);
}

/* One thread's desks, panel and scratch for a softmax; FGD_PREDICT_ROWS rows at a time. */
static size_t N(lay_prediction)(N(hand) *hand, void *memory, const fgd_network *network)
{
    const ptrdiff_t size = (ptrdiff_t)sizeof(T), n_layers = network->n_layers;
    size_t used = 0;
    hand->desks = N(place)(&used, memory, n_layers * (ptrdiff_t)sizeof(N(desk)));
    for (int l = 0; l < n_layers; l++) {
        N(desk) d;
        N(lay_desk)(&d, network->layers + l, &used, memory, FGD_PREDICT_ROWS, 0);
        if (!memory) continue;
        if (l > 0) d.input = hand->desks[l - 1].out;
        hand->desks[l] = d;
    }
    hand->panel = N(place)(&used, memory, FGD_PANEL_BYTES + N(outputs_of)(network) * (FGD_CLASS_ROWS + 1) * size);
    return used;
}

static size_t N(predict_scratch)(const fgd_network *network, int threads)
{
    N(hand) hand;
    return (size_t)threads * N(lay_prediction)(&hand, NULL, network);
}

static void N(predict_blocks)(T *out, char *scratch, const fgd_network *network, const fgd_batches *b, int link, int me,
                              int all)
{
    const ptrdiff_t n = N(outputs_of)(network), blocks = (b->n_rows + FGD_PREDICT_ROWS - 1) / FGD_PREDICT_ROWS;
    N(hand) hand = {.network = network, .all = 1};
    (void)N(lay_prediction)(&hand, scratch + (size_t)me * N(lay_prediction)(&hand, NULL, network), network);
    for (ptrdiff_t k = fgd_part_start(blocks, me, all); k < fgd_part_start(blocks, me + 1, all); k++) {
        const ptrdiff_t start = k * FGD_PREDICT_ROWS, left = b->n_rows - start;
        hand.rows = hand.end = left < FGD_PREDICT_ROWS ? left : FGD_PREDICT_ROWS;
        if (!b->indptr) hand.desks[0].input = (const T *)b->X + start * network->layers[0].inputs;
        N(forward)(&hand, b, start);
        N(link_outputs)(out + start * n, hand.desks[network->n_layers - 1].out,
                        hand.panel + FGD_PANEL_BYTES / sizeof(T), hand.rows, n, link);
    }
}

static void N(predict_network)(void *out, void *scratch, const fgd_network *network, const fgd_batches *rows, int link,
                               int threads)
{
    const int team = fgd_team(threads, N(multiplications)(network, rows->n_rows), FGD_SERIAL_NETWORK);
    N(fake_weights)(network, NULL, 0, 1);
    if (team > 1) {
        FGD_PARALLEL(team)
        N(predict_blocks)(out, scratch, network, rows, link, FGD_THREAD, FGD_TEAM);
    } else {
        N(predict_blocks)(out, scratch, network, rows, link, 0, 1);
    }
}

static void N(activate)(void *value, void *slope, const void *x, int activation, double parameter, ptrdiff_t n)
{
    const N(activation) *a = N(activations) + activation;
    T *one = slope;
    a->apply(value, x, n, (T)parameter);
    for (ptrdiff_t i = 0; i < n; i++) one[i] = 1;
    a->slope(slope, a->keeps_input ? x : value, n, (T)parameter);
}

#undef BY_THE_LAST
#undef FGD_GRADIENT_BOUND
