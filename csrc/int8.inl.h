/* Products of 8-bit codes, and networks made of them: uint8 activations, int8 weights, sums of int32, which are exact
 * for any order. What follows the product is float32: q_x - z_x and q_w - z_w are the numbers in units of their scales,
 *     sum (q_x - z_x)(q_w - z_w) = sum q_x q_w - z_w sum q_x + (K z_x z_w - z_x sum q_w),
 * the last of which is known before (Jacob et al., CVPR 2018, eq. (7)).
 *
 * Weights are packed: of FGD_INT8_COLUMNS neighbouring columns, the first FGD_INT8_DEPTH rows column by column, then
 * the next ones; zeros where there are no more. */

/* Numbers of 16 bits, since compilers know an instruction for sums of their products; so many at a time. */
enum { FGD_INT8_RUN = 256 };

FGD_INLINE int32_t fgd_int8_dot(const int16_t *restrict a, const int16_t *restrict b, ptrdiff_t n)
{
    int32_t sum = 0;
    for (ptrdiff_t k = 0; k < n; k++) sum += (int32_t)a[k] * (int32_t)b[k];
    return sum;
}

/* out (rows, FGD_INT8_COLUMNS) = or += the products of n codes, a multiple of FGD_INT8_DEPTH, of each row of a with as
 * many rows of one block of packed columns */
static void fgd_int8_block(int32_t *restrict out, ptrdiff_t stride, const uint8_t *restrict a, ptrdiff_t a_stride,
                           const int8_t *restrict packed, ptrdiff_t rows, ptrdiff_t n, int adds)
{
    int16_t weights[FGD_INT8_COLUMNS][FGD_INT8_RUN], codes[FGD_INT8_RUN];
    for (ptrdiff_t k = 0; k < n; k += FGD_INT8_DEPTH, packed += FGD_INT8_COLUMNS * FGD_INT8_DEPTH)
        for (int j = 0; j < FGD_INT8_COLUMNS; j++)
            for (int t = 0; t < FGD_INT8_DEPTH; t++) weights[j][k + t] = packed[j * FGD_INT8_DEPTH + t];
    for (ptrdiff_t i = 0; i < rows; i++) {
        for (ptrdiff_t k = 0; k < n; k++) codes[k] = a[i * a_stride + k];
        for (int j = 0; j < FGD_INT8_COLUMNS; j++) {
            const int32_t sum = fgd_int8_dot(codes, weights[j], n);
            out[i * stride + j] = adds ? out[i * stride + j] + sum : sum;
        }
    }
}

static void fgd_int8_product_portable(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride,
                                      const int8_t *packed, ptrdiff_t rows, ptrdiff_t blocks, ptrdiff_t depth)
{
    for (ptrdiff_t b = 0; b < blocks; b++)
        for (ptrdiff_t k = 0; k < depth; k += FGD_INT8_RUN)
            fgd_int8_block(out + b * FGD_INT8_COLUMNS, stride, a + k, a_stride,
                           packed + (b * depth + k) * FGD_INT8_COLUMNS, rows,
                           depth - k < FGD_INT8_RUN ? depth - k : FGD_INT8_RUN, k > 0);
}

/* ------------------------------------------------------------------------------------------------- a network */

FGD_INLINE int fgd_int8_has_nan(const float *x, ptrdiff_t n)
{
    int found = 0;
    for (ptrdiff_t k = 0; k < n; k++) found |= x[k] != x[k];
    return found;
}

/* Rows of n codes, one behind the other, become rows of depth, with zeros. */
static void fgd_int8_spread(uint8_t *codes, ptrdiff_t n_rows, ptrdiff_t n, ptrdiff_t depth)
{
    for (ptrdiff_t i = n_rows - 1; i >= 0 && depth > n; i--) {
        memmove(codes + i * depth, codes + i * n, (size_t)n);
        memset(codes + i * depth + n, 0, (size_t)(depth - n));
    }
}

/* codes (n_rows, depth), and their sums, of h (n_rows, n_inputs) */
static void fgd_int8_encode(const fgd_int8_desk *desk, const float *h, const fgd_int8_layer *layer, ptrdiff_t n_rows)
{
    const fgd_quantizer q = {&layer->input_scale, &layer->input_zero, 1, 1, 0, layer->input_max};
    const ptrdiff_t n = layer->n_inputs, depth = fgd_int8_depth(n);
    encode_f32(desk->codes, h, &q, 0, n_rows * n);
    fgd_int8_spread(desk->codes, n_rows, n, depth);
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        int32_t sum = 0;
        for (ptrdiff_t k = 0; k < n && layer->weight_zero; k++) sum += desk->codes[i * depth + k];
        desk->code_sums[i] = sum;
    }
}

/* z = (z - mean) / sqrt(variance + epsilon) gamma + beta */
static void fgd_int8_norm(float *restrict z, const fgd_int8_layer *layer)
{
    const ptrdiff_t n = layer->n_outputs;
    double mean = 0, variance = 0;
    for (ptrdiff_t j = 0; j < n; j++) mean += (double)z[j];
    mean /= (double)n;
    for (ptrdiff_t j = 0; j < n; j++) variance += ((double)z[j] - mean) * ((double)z[j] - mean);
    const float centre = (float)mean, factor = (float)(1 / sqrt(variance / (double)n + (double)layer->epsilon));
    for (ptrdiff_t j = 0; j < n; j++) z[j] = (z[j] - centre) * factor * layer->gamma[j] + layer->beta[j];
}

/* z (n_outputs,), one row, from its products */
static void fgd_int8_scale(float *restrict z, const int32_t *restrict products, const fgd_int8_layer *layer,
                           int32_t code_sum)
{
    const int32_t *constant = layer->constant, *zero = layer->weight_zero;
    const float *scale = layer->scale, *bias = layer->bias;
    for (ptrdiff_t j = 0; j < layer->n_outputs; j++) { /* the sum fits, not all of its parts */
        uint32_t sum = (uint32_t)products[j] + (uint32_t)constant[j];
        if (zero) sum -= (uint32_t)zero[j] * (uint32_t)code_sum;
        z[j] = (float)(int32_t)sum * scale[j] + bias[j];
    }
}

/* z (n_rows, n_outputs), what a layer gives, from the products on the desk */
static void fgd_int8_finish(float *z, const fgd_int8_desk *desk, const fgd_int8_layer *layer, ptrdiff_t n_rows)
{
    const ptrdiff_t n = layer->n_outputs, columns = fgd_int8_columns(n), depth = fgd_int8_depth(layer->n_inputs);
    for (ptrdiff_t i = 0; i < n_rows; i++) {
        fgd_int8_scale(z + i * n, desk->products + i * columns, layer, desk->code_sums[i]);
        if (layer->gamma) fgd_int8_norm(z + i * n, layer);
    }
    activations_f32[layer->activation].apply_here(z, n_rows * n, (float)layer->parameter);
    for (ptrdiff_t i = 0; i < n_rows && layer->skip; i++)
        for (ptrdiff_t j = 0; j < n; j++)
            z[i * n + j] += ((float)desk->codes[i * depth + j] - layer->input_zero) * layer->input_scale;
}

static void fgd_int8_rows(float *out, void *scratch, const float *X, const fgd_int8_layer *layers, ptrdiff_t n_layers,
                          ptrdiff_t n_rows, fgd_int8_product product)
{
    fgd_int8_desk desk = {0};
    (void)fgd_int8_lay(&desk, scratch, layers, n_layers);
    const int any_nan = fgd_int8_has_nan(X, n_rows * layers->n_inputs);
    const float *h = X;
    for (ptrdiff_t l = 0; l < n_layers; l++) {
        const fgd_int8_layer *layer = layers + l;
        const ptrdiff_t depth = fgd_int8_depth(layer->n_inputs), columns = fgd_int8_columns(layer->n_outputs);
        float *z = l + 1 == n_layers ? out : desk.numbers[l % 2];
        fgd_int8_encode(&desk, h, layer, n_rows);
        product(desk.products, columns, desk.codes, depth, layer->weight, n_rows, columns / FGD_INT8_COLUMNS, depth);
        fgd_int8_finish(z, &desk, layer, n_rows);
        h = z;
    }
    const ptrdiff_t n_inputs = layers->n_inputs, n = layers[n_layers - 1].n_outputs;
    for (ptrdiff_t i = 0; any_nan && i < n_rows; i++) /* as in float32: codes know no NaN */
        for (ptrdiff_t j = 0; j < n && fgd_int8_has_nan(X + i * n_inputs, n_inputs); j++) out[i * n + j] = NAN;
}
