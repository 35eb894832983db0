/* Layers that are trained to be quantised: what they see in the place of weights and inputs, and the gradients of those
 * and of learned scales. Straight-through or LSQ: quant.inl.h. */

/* W, as the products of a layer see it */
FGD_INLINE const T *N(weights_of)(const fgd_layer *layer)
{
    return layer->faking ? layer->faking->weights : layer->params[FGD_WEIGHT];
}

/* The range of all of W, if there is one scale; else nothing. */
static void N(measure_weights)(const fgd_layer *layer)
{
    const fgd_faking *f = layer->faking;
    const fgd_quantizer *q = f->quantizer + FGD_OF_WEIGHT;
    if (q->n_channels > 1 || layer->params[FGD_WEIGHT_SCALE]) return;
    double range[2] = {INFINITY, -INFINITY};
    N(ranges)(range, layer->params[FGD_WEIGHT], q, 0, layer->inputs * layer->outputs);
    N(scales)(f->scale[FGD_OF_WEIGHT], f->zero[FGD_OF_WEIGHT], range, q, f->symmetric[FGD_OF_WEIGHT]);
}

/* n columns of W, the range of each of which decides on its scale. */
static void N(measure_columns)(const fgd_layer *layer, ptrdiff_t first, ptrdiff_t n)
{
    const fgd_faking *f = layer->faking;
    T low[FGD_LINE_ELEMENTS], high[FGD_LINE_ELEMENTS];
    double ranges[FGD_LINE_ELEMENTS][2];
    const T *w = (const T *)layer->params[FGD_WEIGHT] + first;
    for (ptrdiff_t c = 0; c < n; c++) low[c] = high[c] = w[c];
    for (ptrdiff_t r = 1; r < layer->inputs; r++)
        for (ptrdiff_t c = 0; c < n; c++) {
            const T number = w[r * layer->outputs + c];
            low[c] = number < low[c] ? number : low[c];
            high[c] = number > high[c] ? number : high[c];
        }
    for (ptrdiff_t c = 0; c < n; c++) ranges[c][0] = (double)low[c], ranges[c][1] = (double)high[c];
    fgd_quantizer q = f->quantizer[FGD_OF_WEIGHT];
    q.n_channels = n;
    N(scales)((T *)f->scale[FGD_OF_WEIGHT] + first, (T *)f->zero[FGD_OF_WEIGHT] + first, *ranges, &q,
              f->symmetric[FGD_OF_WEIGHT]);
}

/* Fake quantises the columns [first, end) of W. */
static void N(fake_columns)(const fgd_layer *layer, ptrdiff_t first, ptrdiff_t end)
{
    const fgd_faking *f = layer->faking;
    const fgd_quantizer *q = f->quantizer + FGD_OF_WEIGHT;
    const ptrdiff_t per_column = q->n_channels > 1;
    for (ptrdiff_t c = first; c < end; c += FGD_LINE_ELEMENTS) {
        const ptrdiff_t n = end - c < FGD_LINE_ELEMENTS ? end - c : FGD_LINE_ELEMENTS;
        if (per_column && !layer->params[FGD_WEIGHT_SCALE]) N(measure_columns)(layer, c, n);
        T scale[FGD_LINE_ELEMENTS], inverse[FGD_LINE_ELEMENTS], low[FGD_LINE_ELEMENTS], high[FGD_LINE_ELEMENTS];
        for (ptrdiff_t j = 0; j < n; j++) {
            const ptrdiff_t channel = (c + j) * per_column;
            const N(grid) g = N(grid_of)(((const T *)f->scale[FGD_OF_WEIGHT])[channel],
                                         ((const T *)f->zero[FGD_OF_WEIGHT])[channel], q);
            scale[j] = g.scale, inverse[j] = g.inverse, low[j] = g.low, high[j] = g.high;
        }
        for (ptrdiff_t r = 0; r < layer->inputs; r++) {
            const T *restrict w = (const T *)layer->params[FGD_WEIGHT] + r * layer->outputs + c;
            T *restrict faked = (T *)f->weights + r * layer->outputs + c;
            for (ptrdiff_t j = 0; j < n; j++)
                faked[j] = N(fake)(w[j], (N(grid)){scale[j], inverse[j], low[j], high[j]});
        }
    }
}

/* n numbers of the input, fake quantised; `range` gets theirs, unless it is NULL */
static void N(fake_input)(T *faked, double *range, const T *x, const fgd_faking *f, ptrdiff_t n)
{
    const fgd_quantizer *q = f->quantizer + FGD_OF_INPUT;
    if (range) {
        range[0] = INFINITY, range[1] = -INFINITY;
        N(ranges)(range, x, q, 0, n);
    }
    N(fake_quantize)(faked, x, q, 0, n);
}

/* The gradient of n fake quantised elements, whole rounds of channels, becomes that of x; a learned scale's is added to
 * `sums`, (n_channels, 2), unless that is NULL. */
static void N(through_fake)(T *grad, double *sums, const T *x, const fgd_quantizer *q, ptrdiff_t n)
{
    if (sums)
        N(scale_gradients)(sums, grad, grad, x, q, 0, n);
    else
        N(straight_through)(grad, x, q, 0, n);
}

/* The gradients of scales from the sums of all parts, in their order: (n_parts, n_channels, 2). */
static void N(gather_scale)(T *grad, const double *sums, ptrdiff_t n_parts, ptrdiff_t n_channels, double factor)
{
    for (ptrdiff_t c = 0; c < n_channels; c++) {
        double sum = 0;
        for (ptrdiff_t p = 0; p < n_parts; p++) sum += sums[2 * (p * n_channels + c)];
        grad[c] = (T)(factor * sum);
    }
}

/* Learned scales stay above 0, as in torch. */
static void N(hold_scale)(T *scale, ptrdiff_t n)
{
    for (ptrdiff_t c = 0; c < n; c++) scale[c] = scale[c] > FGD_LEAST_SCALE ? scale[c] : FGD_LEAST_SCALE;
}

/* The moving averages after a batch whose parts had these ranges. */
static void N(follow_range)(const fgd_faking *f, const double *ranges, ptrdiff_t n_parts)
{
    double low = INFINITY, high = -INFINITY;
    for (ptrdiff_t p = 0; p < n_parts; p++) {
        low = ranges[2 * p] < low ? ranges[2 * p] : low;
        high = ranges[2 * p + 1] > high ? ranges[2 * p + 1] : high;
    }
    f->range[0] += f->averaging * (low - f->range[0]);
    f->range[1] += f->averaging * (high - f->range[1]);
    N(scales)(f->scale[FGD_OF_INPUT], f->zero[FGD_OF_INPUT], f->range, f->quantizer + FGD_OF_INPUT,
              f->symmetric[FGD_OF_INPUT]);
}
