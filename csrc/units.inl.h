/* Centralised gradients and adaptive clipping. Both look at a tensor by units: the elements that share the first index,
 * or all of a tensor with one dimension or none. A pass over the units gives each a shift and a factor, which the
 * update then applies block by block. */

FGD_INLINE T N(cut)(T x, T limit)
{
    const T below = x > limit ? limit : x;
    return below < -limit ? -limit : below;
}

static void N(change_run)(T *restrict out, const T *restrict g, T scale, T shift, T factor, T limit, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = N(cut)((g[i] * scale - shift) * factor, limit);
}

/* The gradient's elements [first, first + n), each scaled, shifted, scaled again and cut as its unit demands. */
static void N(change_units)(T *restrict out, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t first,
                            ptrdiff_t n)
{
    const T *g = tensor->grad;
    for (ptrdiff_t i = first; i < first + n;) {
        const ptrdiff_t run = i / tensor->unit_stride, end = (run + 1) * tensor->unit_stride;
        const ptrdiff_t length = (end < first + n ? end : first + n) - i;
        const double *unit = tensor->by_unit + run % tensor->n_units * 2;
        N(change_run)(out + (i - first), g + i, (T)pass->factor, (T)unit[0], (T)unit[1], (T)pass->clip_value, length);
        i += length;
    }
}

static void N(shift_down)(T *restrict out, const T *restrict x, T shift, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = x[i] - shift;
}

/* `sum` over x - shift, x the elements of a unit. They lie in one run if the first index is the slowest. */
static double N(sum_unit)(double (*sum)(const void *, ptrdiff_t), const T *x, T shift, const fgd_tensor *tensor,
                          ptrdiff_t unit)
{
    const ptrdiff_t run = tensor->unit_stride;
    T shifted[FGD_STEP_BLOCK];
    double total = 0;
    for (ptrdiff_t begin = unit * run; begin < tensor->size; begin += run * tensor->n_units)
        for (ptrdiff_t i = begin; i < begin + run; i += FGD_STEP_BLOCK) {
            const ptrdiff_t length = begin + run - i < FGD_STEP_BLOCK ? begin + run - i : FGD_STEP_BLOCK;
            if (shift != 0) N(shift_down)(shifted, x + i, shift, length);
            total += sum(shift != 0 ? shifted : x + i, length);
        }
    return total;
}

/* The shift of a unit is its mean. Yong, Huang, Hua, Zhang, "Gradient centralization: a new optimization technique for
 * deep neural networks", ECCV 2020, eq. 1.
 * Its factor makes it at most `agc` times as long as the parameter's unit, but never shorter than if that had length
 * 1e-3. Brock, De, Smith, Simonyan, "High-performance large-scale image recognition without normalization", ICML 2021,
 * eq. 3. */
static void N(measure_unit)(double *shift_and_factor, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t unit)
{
    const T *grad = tensor->grad;
    T mean = 0;
    double factor = 1;
    if (pass->centralize && tensor->n_dims > 1) {
        const double length = (double)(tensor->size / tensor->n_units);
        mean = (T)(N(sum_unit)(N(sum_wide), grad, 0, tensor, unit) / length);
    }
    if (pass->agc < INFINITY) {
        const double norm = sqrt(N(sum_unit)(N(sum_squares), tensor->param, 0, tensor, unit));
        const double wanted = pass->agc * (norm < 1e-3 ? 1e-3 : norm);
        const double has = pass->factor * sqrt(N(sum_unit)(N(sum_squares), grad, mean, tensor, unit));
        if (has > wanted) factor = wanted / has;
    }
    shift_and_factor[0] = pass->factor * mean;
    shift_and_factor[1] = factor;
}
