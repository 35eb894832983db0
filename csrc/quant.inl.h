/* Quantisation: code q = clamp(round(x / scale) + zero, qmin, qmax), rounded to the nearest, halves to even; the number
 * that it stands for is (q - zero) scale. Fake quantisation takes a number to that number (Jacob et al., "Quantization
 * and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018, eq. (12)). A NaN stays
 * one.
 *
 * Everything here is counted from the zero point: with `low` = qmin - zero and `high` = qmax - zero, q - zero is
 * clamp(round(x / scale), low, high). The quotient is clamped to a little more before it is rounded, so that it can be
 * rounded by adding and taking away a large number, which vectorises everywhere. */

#define FGD_LEAST_SCALE ((T)1.1920928955078125e-07) /* 2^-23: torch's */

/* of one element's channel */
typedef struct {
    T scale, inverse, low, high;
} N(grid);

FGD_INLINE N(grid) N(grid_of)(T scale, T zero, const fgd_quantizer *q)
{
    return (N(grid)){scale, 1 / scale, (T)q->qmin - zero, (T)q->qmax - zero};
}

FGD_INLINE T N(clamp)(T x, T low, T high)
{
    x = x < low ? low : x;
    return x > high ? high : x;
}

/* round(x / scale), or what lies beyond the grid if that does */
FGD_INLINE T N(nearest)(T x, N(grid) g)
{
    const T room = N(clamp)(x * g.inverse, g.low - 1, g.high + 1);
    return (room + ROUND_SHIFT) - ROUND_SHIFT;
}

/* Clamped first: the ends are whole numbers. */
FGD_INLINE T N(fake)(T x, N(grid) g)
{
    return ((N(clamp)(x * g.inverse, g.low, g.high) + ROUND_SHIFT) - ROUND_SHIFT) * g.scale;
}

FGD_INLINE int N(is_inside)(T nearest, N(grid) g) { return nearest >= g.low && nearest <= g.high; }

/* The straight-through estimator: the gradient passes where nothing was clamped (Bengio, Léonard & Courville,
 * "Estimating or propagating gradients through stochastic neurons", arXiv:1308.3432, section 4). */
FGD_INLINE T N(passed)(T grad, T nearest, N(grid) g) { return N(is_inside)(nearest, g) ? grad : 0; }

/* The derivative of the fake quantised x with respect to the scale: Esser, McKinstry, Bablani, Appuswamy & Modha,
 * "Learned step size quantization", ICLR 2020, eq. (3), but clamped is, as in torch, what is so after rounding. */
FGD_INLINE T N(by_scale)(T x, T nearest, N(grid) g)
{
    return N(is_inside)(nearest, g) ? (nearest * g.scale - x) * g.inverse : N(clamp)(nearest, g.low, g.high);
}

/* That with respect to the zero point: Bhalgat, Lee, Nagel, Blankevoort & Kwak, "LSQ+: improving low-bit quantization
 * through learnable offsets and better initialization", CVPR workshops 2020, eq. (5); torch's sign and scale. */
FGD_INLINE T N(by_zero)(T nearest, N(grid) g) { return N(is_inside)(nearest, g) ? 0 : -g.scale; }

/* ---------------------------------------------------------------------------------------------------- the walk */

/* Neighbouring elements whose channels are one, or, if `step` is 1, neighbours. */
typedef struct {
    ptrdiff_t at, n, channel;
    int step;
} N(stretch);

/* The stretch that begins with element `at`, no longer than n. */
FGD_INLINE N(stretch) N(stretch_at)(const fgd_quantizer *q, ptrdiff_t at, ptrdiff_t n)
{
    if (q->n_channels == 1) return (N(stretch)){at, n, 0, 0};
    const ptrdiff_t channel = at / q->stride % q->n_channels;
    const ptrdiff_t left = q->stride == 1 ? q->n_channels - channel : q->stride - at % q->stride;
    return (N(stretch)){at, left < n ? left : n, channel, q->stride == 1};
}

/* Does `formula`, which knows x[i] as `number` and its channel's grid as `g`, for the elements [first, first + n). */
#define WALK(formula)                                                                                                  \
    for (ptrdiff_t at = first, end = first + n; at < end;) {                                                           \
        const N(stretch) s = N(stretch_at)(q, at, end - at);                                                           \
        const T *scale = (const T *)q->scale + s.channel, *zero = (const T *)q->zero + s.channel;                      \
        if (s.step) {                                                                                                  \
            for (ptrdiff_t i = at, c = 0; i < at + s.n; i++, c++) {                                                    \
                const N(grid) g = N(grid_of)(scale[c], zero[c], q);                                                    \
                formula;                                                                                               \
            }                                                                                                          \
        } else {                                                                                                       \
            const N(grid) g = N(grid_of)(*scale, *zero, q);                                                            \
            for (ptrdiff_t i = at; i < at + s.n; i++) {                                                                \
                formula;                                                                                               \
            }                                                                                                          \
        }                                                                                                              \
        at += s.n;                                                                                                     \
    }

static void N(fake_quantize)(T *restrict out, const T *restrict x, const fgd_quantizer *q, ptrdiff_t first, ptrdiff_t n)
{
    WALK(out[i] = N(fake)(x[i], g))
}

/* the gradient of what was fake quantised becomes that of x */
static void N(straight_through)(T *restrict grad, const T *restrict x, const fgd_quantizer *q, ptrdiff_t first,
                                ptrdiff_t n){WALK(grad[i] = N(passed)(grad[i], N(nearest)(x[i], g), g))}

/* The low 8 bits of the code; `to_code` is what leads from the bits of a rounded number to it. A NaN gets the first. */
FGD_INLINE uint8_t N(code)(T x, N(grid) g, BITS to_code)
{
    const T quotient = x * g.inverse, above = quotient > g.low ? quotient : g.low;
    const union {
        T f;
        BITS i;
    } rounded = {(above < g.high ? above : g.high) + ROUND_SHIFT};
    return (uint8_t)(rounded.i + to_code);
}

/* Codes of qmin >= 0 are uint8, others int8: the low 8 bits in either case. */
static void N(encode)(uint8_t *restrict codes, const T *restrict x, const fgd_quantizer *q, ptrdiff_t first,
                      ptrdiff_t n)
{
    const BITS to_first = q->qmin - ROUND_SHIFT_BITS;
    WALK(codes[i] = N(code)(x[i], g, to_first - (BITS)g.low))
}

static void N(decode)(T *restrict out, const uint8_t *restrict codes, const fgd_quantizer *q, ptrdiff_t first,
                      ptrdiff_t n)
{
    const int below = q->qmin < 0 ? 128 : 0; /* flips the sign's bit, which then counts from -128 */
    const T qmin = (T)q->qmin;
    WALK(out[i] = ((T)((codes[i] ^ below) - below) - qmin + g.low) * g.scale)
}

/* ---------------------------------------------------------------------------------------------------- the sums */

enum { N(TERMS) = 16 * FGD_LANE_BYTES / sizeof(T) };

/* Gradients of a few elements: of each with respect to itself, and what it adds to those of scale and zero point. */
typedef struct {
    T passed[N(TERMS)], to_scale[N(TERMS)], to_zero[N(TERMS)];
} N(scale_terms);

FGD_INLINE void N(find_scale_terms)(N(scale_terms) *restrict terms, const T *restrict grad, const T *restrict x,
                                    const T *scale, const T *zero, const fgd_quantizer *q, ptrdiff_t n, const int step)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        const N(grid) g = N(grid_of)(scale[i * step], zero[i * step], q);
        const T nearest = N(nearest)(x[i], g);
        terms->to_scale[i] = grad[i] * N(by_scale)(x[i], nearest, g);
        terms->to_zero[i] = grad[i] * N(by_zero)(nearest, g);
        terms->passed[i] = N(passed)(grad[i], nearest, g);
    }
}

/* What the elements [first, first + n), whole rounds of channels, add to the sums of each channel: (n_channels, 2),
 * gradients of scale and zero point. dx gets the gradient of x; it may be `grad`. */
static void N(scale_gradients)(double *sums, T *dx, const T *grad, const T *x, const fgd_quantizer *q, ptrdiff_t first,
                               ptrdiff_t n)
{
    N(scale_terms) terms;
    for (ptrdiff_t at = first, end = first + n; at < end;) {
        const ptrdiff_t left = end - at;
        const N(stretch) s = N(stretch_at)(q, at, left < N(TERMS) ? left : N(TERMS));
        const T *scale = (const T *)q->scale + s.channel, *zero = (const T *)q->zero + s.channel;
        double *sum = sums + 2 * s.channel;
        const ptrdiff_t here = s.n < N(TERMS) ? s.n : N(TERMS);
        if (s.step) {
            N(find_scale_terms)(&terms, grad + at, x + at, scale, zero, q, here, 1);
            for (ptrdiff_t i = 0; i < here; i++) {
                sum[2 * i] += (double)terms.to_scale[i];
                sum[2 * i + 1] += (double)terms.to_zero[i];
            }
        } else {
            N(find_scale_terms)(&terms, grad + at, x + at, scale, zero, q, here, 0);
            sum[0] += N(sum_wide)(terms.to_scale, here);
            sum[1] += N(sum_wide)(terms.to_zero, here);
        }
        memcpy(dx + at, terms.passed, (size_t)here * sizeof(T));
        at += here;
    }
}

/* The same of the least and the largest number of each channel: (n_channels, 2). NaNs are left out. */
static void N(ranges)(double *ranges, const T *x, const fgd_quantizer *q, ptrdiff_t first, ptrdiff_t n)
{
    for (ptrdiff_t at = first, end = first + n; at < end;) {
        const N(stretch) s = N(stretch_at)(q, at, end - at);
        double *range = ranges + 2 * s.channel;
        T low[FGD_LANE_BYTES / sizeof(T)], high[FGD_LANE_BYTES / sizeof(T)];
        for (ptrdiff_t k = 0; k < W; k++) low[k] = high[k] = x[at];
        ptrdiff_t i = 0;
        if (s.step) {
            for (; i < s.n; i++) {
                const double number = (double)x[at + i];
                range[2 * i] = number < range[2 * i] ? number : range[2 * i];
                range[2 * i + 1] = number > range[2 * i + 1] ? number : range[2 * i + 1];
            }
        }
        for (; i + W <= s.n; i += W)
            for (ptrdiff_t k = 0; k < W; k++) {
                const T number = x[at + i + k];
                low[k] = number < low[k] ? number : low[k];
                high[k] = number > high[k] ? number : high[k];
            }
        for (; i < s.n; i++) {
            low[0] = x[at + i] < low[0] ? x[at + i] : low[0];
            high[0] = x[at + i] > high[0] ? x[at + i] : high[0];
        }
        for (ptrdiff_t k = 0; k < W && !s.step; k++) {
            range[0] = (double)low[k] < range[0] ? (double)low[k] : range[0];
            range[1] = (double)high[k] > range[1] ? (double)high[k] : range[1];
        }
        at += s.n;
    }
}

#undef WALK

/* Scale and zero point of each channel, so that the codes cover its range, (n_channels, 2), and 0: as the observers of
 * torch.ao.quantization work them out. */
static void N(scales)(void *scales, void *zeros, const double *ranges, const fgd_quantizer *q, int symmetric)
{
    T *scale = scales, *zero = zeros;
    const T steps = (T)(q->qmax - q->qmin), least = FGD_LEAST_SCALE;
    for (ptrdiff_t c = 0; c < q->n_channels; c++) {
        const T low = ranges[2 * c] < 0 ? (T)ranges[2 * c] : 0, high = ranges[2 * c + 1] > 0 ? (T)ranges[2 * c + 1] : 0;
        const T wanted = symmetric ? (-low > high ? -low : high) / (steps / 2) : (high - low) / steps;
        scale[c] = wanted > least ? wanted : least;
        const T below = (low / scale[c] + ROUND_SHIFT) - ROUND_SHIFT;
        zero[c] = symmetric ? (T)((q->qmin + q->qmax + 1) / 2) : N(clamp)((T)q->qmin - below, (T)q->qmin, (T)q->qmax);
    }
}

/* One part of a pass: what it is, stands in fastgd.h. */
static void N(quantize)(double *sums, const fgd_quantize_pass *pass, ptrdiff_t first, ptrdiff_t n)
{
    switch (pass->op) {
    case FGD_FAKE:
        N(fake_quantize)(pass->out, pass->x, pass->quantizer, first, n);
        return;
    case FGD_STRAIGHT:
        memcpy((T *)pass->out + first, (const T *)pass->grad + first, (size_t)n * sizeof(T));
        N(straight_through)(pass->out, pass->x, pass->quantizer, first, n);
        return;
    case FGD_ENCODE:
        N(encode)(pass->out, pass->x, pass->quantizer, first, n);
        return;
    case FGD_DECODE:
        N(decode)(pass->out, pass->x, pass->quantizer, first, n);
        return;
    case FGD_LEARN:
        N(scale_gradients)(sums, pass->out, pass->grad, pass->x, pass->quantizer, first, n);
        return;
    case FGD_RANGE:
        N(ranges)(sums, pass->x, pass->quantizer, first, n);
        return;
    }
}
