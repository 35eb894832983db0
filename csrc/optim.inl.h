/* One loop a rule, made from its row: the rule's formula over n neighbouring elements of a tensor. */

/* its states by name, in the order of the row */
#define RULE(name, formula, kind, states, kept, hypers)                                                                \
    typedef union {                                                                                                    \
        struct {                                                                                                       \
            states                                                                                                     \
        };                                                                                                             \
        T each[FGD_MAX_STATES];                                                                                        \
    } N(name##_states);
#define STATES(always, optional, list) list
#define S(name, kept_if) T name;
FGD_OPTIM_RULES(RULE, STATES, S, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
#undef STATES
#undef S

#include "optim_rules.h" /* the formulas */

FGD_INLINE void N(fetch_halves)(const T *p, const T *g, uint16_t *const *s)
{
    for (ptrdiff_t i = FGD_HALVES_AHEAD; i < FGD_HALVES_AHEAD + FGD_LINE_ELEMENTS; i += FGD_LANE_BYTES / sizeof(T)) {
        FGD_PREFETCH(p + i);
        FGD_PREFETCH(g + i);
    }
    for (int k = 0; k < FGD_MAX_STATES; k++)
        for (ptrdiff_t i = FGD_HALVES_AHEAD; s[k] && i < FGD_HALVES_AHEAD + FGD_LINE_ELEMENTS; i += FGD_LANE_BYTES / 2)
            FGD_PREFETCH(s[k] + i);
}

/* A block of 8-bit states on its way through a rule's loop, and of the elements of each word the bits of the largest
 * magnitude. */
typedef struct {
    _Alignas(64) float values[FGD_CODE_BLOCK];
    uint32_t largest[FGD_CODE_WORDS];
} N(open_codes);

/* for the run of words i of a block of p and g, which are words w of s */
FGD_INLINE void N(fetch_codes)(const T *p, const T *g, const fgd_codes *s, ptrdiff_t i, ptrdiff_t w)
{
    for (ptrdiff_t j = FGD_CODES_AHEAD + i; j < FGD_CODES_AHEAD + FGD_CODE_BLOCK; j += FGD_CODE_WORDS) {
        FGD_PREFETCH(p + j);
        FGD_PREFETCH(g + j);
    }
    for (int k = 0; k < FGD_MAX_STATES; k++)
        if (s[k].words) FGD_PREFETCH(s[k].words + FGD_CODES_AHEAD / 4 + w);
}

/* A rule has a loop for each choice of the optional states that are kept: `has` is a constant in each. Where the states
 * are bfloat16 (HALVES), they are converted in the same loop.
 * The arrays are `restrict` parameters, not locals: only then does the compiler vectorise without checking overlaps. */
#define LOOP(kind, name, formula, tag, S, READ, WRITE, has0, has1, has2, has3)                                         \
    kind void N(name##_##tag)(T *restrict p, const T *restrict g, S *restrict s0, S *restrict s1, S *restrict s2,      \
                              S *restrict s3, const fgd_randoms *random, ptrdiff_t n,                                  \
                              const N(formula##_coef) *restrict c)                                                     \
    {                                                                                                                  \
        (void)random;                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            N(formula##_states) s = {.each = {0}};                                                                     \
            T value = p[i];                                                                                            \
            if (has0) s.each[0] = READ(s0[i]);                                                                         \
            if (has1) s.each[1] = READ(s1[i]);                                                                         \
            if (has2) s.each[2] = READ(s2[i]);                                                                         \
            if (has3) s.each[3] = READ(s3[i]);                                                                         \
            N(formula##_point)(&value, g[i], &s, c);                                                                   \
            p[i] = value;                                                                                              \
            if (has0) s0[i] = WRITE(s.each[0], 0);                                                                     \
            if (has1) s1[i] = WRITE(s.each[1], 1);                                                                     \
            if (has2) s2[i] = WRITE(s.each[2], 2);                                                                     \
            if (has3) s3[i] = WRITE(s.each[3], 3);                                                                     \
        }                                                                                                              \
    }
#define READ_SAME(x) x
#define WRITE_SAME(x, k) x
#define READ_HALF(x) (T) fgd_from_bfloat16(x)
#define WRITE_HALF(x, k) fgd_cut_bfloat16((float)(x), random->shared[k][i] ^ random->other[k])
#define VARIANT(name, formula, tag, has0, has1, has2, has3)                                                            \
    LOOP(static, name, formula, tag, T, READ_SAME, WRITE_SAME, has0, has1, has2, has3)
/* So little at a time that memory is fetched ahead steadily, and a length that the compiler knows: the coefficients
 * stay in registers then. The first element is number `first` of its tensor. */
#define HALVES(name, formula, tag, has0, has1, has2, has3)                                                             \
    LOOP(FGD_INLINE, name##_run, formula, tag, uint16_t, READ_HALF, WRITE_HALF, has0, has1, has2, has3)                \
    FGD_INLINE void N(name##_part_##tag)(T * p, const T *g, uint16_t *const *s, fgd_randoms *random,                   \
                                         const fgd_noise *noise, ptrdiff_t first, ptrdiff_t i, ptrdiff_t n, int ahead, \
                                         const N(formula##_coef) *c)                                                   \
    {                                                                                                                  \
        uint16_t *at[FGD_MAX_STATES];                                                                                  \
        for (int k = 0; k < FGD_MAX_STATES; k++) at[k] = s[k] ? s[k] + i : NULL;                                       \
        fgd_move_randoms(random, noise, (const int[]){has0, has1, has2, has3}, first + i, i == 0);                     \
        if (ahead) N(fetch_halves)(p + i, g + i, at);                                                                  \
        N(name##_run_##tag)(p + i, g + i, at[0], at[1], at[2], at[3], random, n, c);                                   \
    }                                                                                                                  \
    static void N(name##_##tag)(T * p, const T *g, uint16_t *const *s, const fgd_noise *noise, ptrdiff_t first,        \
                                ptrdiff_t n, N(formula##_coef) c)                                                      \
    {                                                                                                                  \
        fgd_randoms random = {{0}, {0}};                                                                               \
        const ptrdiff_t whole = n - n % FGD_LINE_ELEMENTS;                                                             \
        for (ptrdiff_t i = 0; i < whole; i += FGD_LINE_ELEMENTS)                                                       \
            N(name##_part_##tag)(p, g, s, &random, noise, first, i, FGD_LINE_ELEMENTS,                                 \
                                 n - i > FGD_HALVES_AHEAD + FGD_LINE_ELEMENTS, &c);                                    \
        if (whole < n) N(name##_part_##tag)(p, g, s, &random, noise, first, whole, n - whole, 0, &c);                  \
    }

/* Of 8-bit states, whole blocks: each is decoded, and left open until its largest magnitudes are known. That takes
 * long, so some are at it together. So few words run through at a time that memory is fetched ahead steadily. */
#define CODES(name, formula, tag, has0, has1, has2, has3)                                                              \
    FGD_INLINE void N(name##_run_##tag)(T *restrict p, const T *restrict g, const uint32_t *restrict w0,               \
                                        const uint32_t *restrict w1, const uint32_t *restrict w2, float *restrict r0,  \
                                        float *restrict r1, float *restrict r2, uint32_t *restrict m0,                 \
                                        uint32_t *restrict m1, uint32_t *restrict m2, const float *scales,             \
                                        const N(formula##_coef) *restrict c)                                           \
    {                                                                                                                  \
        const float scale0 = scales[0], scale1 = scales[1], scale2 = scales[2];                                        \
        for (ptrdiff_t i = 0; i < FGD_CODE_RUN; i++) {                                                                 \
            uint32_t largest[3] = {0};                                                                                 \
            QUARTER(formula, has0, has1, has2, 0)                                                                      \
            QUARTER(formula, has0, has1, has2, 1)                                                                      \
            QUARTER(formula, has0, has1, has2, 2)                                                                      \
            QUARTER(formula, has0, has1, has2, 3)                                                                      \
            if (has0) m0[i] = largest[0];                                                                              \
            if (has1) m1[i] = largest[1];                                                                              \
            if (has2) m2[i] = largest[2];                                                                              \
        }                                                                                                              \
    }                                                                                                                  \
    FGD_INLINE void N(name##_block_##tag)(T * p, const T *g, const fgd_codes *s, ptrdiff_t b, N(open_codes) *open,     \
                                          int ahead, const N(formula##_coef) *c)                                       \
    {                                                                                                                  \
        const float scales[3] = {has0 ? s[0].scale[b] : 0, has1 ? s[1].scale[b] : 0, has2 ? s[2].scale[b] : 0};        \
        for (ptrdiff_t i = 0; i < FGD_CODE_WORDS; i += FGD_CODE_RUN) {                                                 \
            const ptrdiff_t w = b * FGD_CODE_WORDS + i;                                                                \
            if (ahead) N(fetch_codes)(p, g, s, i, w);                                                                  \
            N(name##_run_##tag)(p + i, g + i, has0 ? s[0].words + w : NULL, has1 ? s[1].words + w : NULL,              \
                                has2 ? s[2].words + w : NULL, open[0].values + i, open[1].values + i,                  \
                                open[2].values + i, open[0].largest + i, open[1].largest + i, open[2].largest + i,     \
                                scales, c);                                                                            \
        }                                                                                                              \
    }                                                                                                                  \
    static void N(name##_##tag)(T * p, const T *g, fgd_codes *s, const fgd_noise *noise, ptrdiff_t first, ptrdiff_t n, \
                                N(formula##_coef) c)                                                                   \
    {                                                                                                                  \
        _Static_assert(!has3, "8-bit states: three at most");                                                          \
        N(open_codes) open[FGD_CODES_OPEN][3];                                                                         \
        for (ptrdiff_t e = 0, blocks; e < n; e += blocks * FGD_CODE_BLOCK) {                                           \
            const int ahead = n - e >= FGD_CODES_AHEAD + FGD_CODES_OPEN * FGD_CODE_BLOCK;                              \
            blocks = n - e < FGD_CODES_OPEN * FGD_CODE_BLOCK ? (n - e) / FGD_CODE_BLOCK : FGD_CODES_OPEN;              \
            for (ptrdiff_t b = 0; b < blocks; b++)                                                                     \
                N(name##_block_##tag)(p + e + b * FGD_CODE_BLOCK, g + e + b * FGD_CODE_BLOCK, s, b, open[b], ahead,    \
                                      &c);                                                                             \
            for (ptrdiff_t b = 0; b < blocks; b++) {                                                                   \
                if (has0) s[0].scale[b] = fgd_scale8(fgd_largest(open[b][0].largest, FGD_CODE_WORDS));                 \
                if (has1) s[1].scale[b] = fgd_scale8(fgd_largest(open[b][1].largest, FGD_CODE_WORDS));                 \
                if (has2) s[2].scale[b] = fgd_scale8(fgd_largest(open[b][2].largest, FGD_CODE_WORDS));                 \
            }                                                                                                          \
            for (ptrdiff_t b = 0; b < blocks; b++) {                                                                   \
                const ptrdiff_t at = first + e + b * FGD_CODE_BLOCK;                                                   \
                if (has0) fgd_close_codes(s + 0, open[b][0].values, noise + 0, N(formula##_codes)[0], at);             \
                if (has1) fgd_close_codes(s + 1, open[b][1].values, noise + 1, N(formula##_codes)[1], at);             \
                if (has2) fgd_close_codes(s + 2, open[b][2].values, noise + 2, N(formula##_codes)[2], at);             \
            }                                                                                                          \
        }                                                                                                              \
    }
#define QUARTER(formula, has0, has1, has2, j)                                                                          \
    {                                                                                                                  \
        const ptrdiff_t e = FGD_CODE_WORDS * j + i;                                                                    \
        N(formula##_states) s = {.each = {0}};                                                                         \
        T value = p[e];                                                                                                \
        if (has0) s.each[0] = fgd_decode8(N(formula##_codes)[0], w0[i], j, scale0);                                    \
        if (has1) s.each[1] = fgd_decode8(N(formula##_codes)[1], w1[i], j, scale1);                                    \
        if (has2) s.each[2] = fgd_decode8(N(formula##_codes)[2], w2[i], j, scale2);                                    \
        N(formula##_point)(&value, g[e], &s, c);                                                                       \
        p[e] = value;                                                                                                  \
        if (has0) LEAVE_OPEN(r0, N(formula##_codes)[0], 0)                                                             \
        if (has1) LEAVE_OPEN(r1, N(formula##_codes)[1], 1)                                                             \
        if (has2) LEAVE_OPEN(r2, N(formula##_codes)[2], 2)                                                             \
    }
#define LEAVE_OPEN(room, code, k)                                                                                      \
    {                                                                                                                  \
        const uint32_t bits = fgd_to_bits(s.each[k]) & ((code) == FGD_SIGNED8 ? 0x7FFFFFFFu : 0xFFFFFFFFu);            \
        room[e] = s.each[k];                                                                                           \
        largest[k] = bits > largest[k] ? bits : largest[k];                                                            \
    }

#define VARIANTS_0_1(LOOP_, name, formula) LOOP_(name, formula, s0, 0, 0, 0, 0) LOOP_(name, formula, s1, 1, 0, 0, 0)
#define VARIANTS_1_0(LOOP_, name, formula) LOOP_(name, formula, s1, 1, 0, 0, 0)
#define VARIANTS_1_2(LOOP_, name, formula)                                                                             \
    LOOP_(name, formula, s1, 1, 0, 0, 0)                                                                               \
    LOOP_(name, formula, s3, 1, 1, 0, 0)                                                                               \
    LOOP_(name, formula, s5, 1, 0, 1, 0)                                                                               \
    LOOP_(name, formula, s7, 1, 1, 1, 0)
#define VARIANTS_2_0(LOOP_, name, formula) LOOP_(name, formula, s3, 1, 1, 0, 0)
#define VARIANTS_2_1(LOOP_, name, formula) LOOP_(name, formula, s3, 1, 1, 0, 0) LOOP_(name, formula, s7, 1, 1, 1, 0)
#define VARIANTS_4_0(LOOP_, name, formula) LOOP_(name, formula, s15, 1, 1, 1, 1)

/* the loop for the states that are there; bit k stands for state k */
#define ONE(name, tag) N(name##_##tag)
#define CHOICE_0_1(name, kept) (kept) ? ONE(name, s1) : ONE(name, s0)
#define CHOICE_1_0(name, kept) ONE(name, s1)
#define CHOICE_1_2(name, kept)                                                                                         \
    (kept) == 7 ? ONE(name, s7) : (kept) == 5 ? ONE(name, s5) : (kept) == 3 ? ONE(name, s3) : ONE(name, s1)
#define CHOICE_2_0(name, kept) ONE(name, s3)
#define CHOICE_2_1(name, kept) (kept) == 7 ? ONE(name, s7) : ONE(name, s3)
#define CHOICE_4_0(name, kept) ONE(name, s15)

#define STEP(name, formula, choice)                                                                                    \
    static void N(name##_step)(const fgd_coef *coef, void *p, const void *g, void *const *s, ptrdiff_t n)              \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        const int kept = (s[0] != NULL) | (s[1] != NULL) << 1 | (s[2] != NULL) << 2 | (s[3] != NULL) << 3;             \
        (void)kept;                                                                                                    \
        (choice)(p, g, s[0], s[1], s[2], s[3], NULL, n, &c);                                                           \
    }

#define STEP_HALVES(name, formula, choice)                                                                             \
    static void N(name##_halves_step)(const fgd_coef *coef, T *p, const T *g, uint16_t *const *s,                      \
                                      const fgd_noise *noise, ptrdiff_t first, ptrdiff_t n)                            \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        const int kept = (s[0] != NULL) | (s[1] != NULL) << 1 | (s[2] != NULL) << 2 | (s[3] != NULL) << 3;             \
        (void)kept;                                                                                                    \
        (choice)(p, g, s, noise, first, n, c);                                                                         \
    }

#define STEP_CODES(name, formula, choice)                                                                              \
    static void N(name##_codes_step)(const fgd_coef *coef, T *p, const T *g, fgd_codes *s, const fgd_noise *noise,     \
                                     ptrdiff_t first, ptrdiff_t n)                                                     \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        const int kept = (s[0].words != NULL) | (s[1].words != NULL) << 1 | (s[2].words != NULL) << 2;                 \
        (void)kept;                                                                                                    \
        (choice)(p, g, s, noise, first, n, c);                                                                         \
    }

/* Rules by kind. That of matrices finds what was made orthonormal where a state would be; the first state, which is its
 * direction's, it leaves alone. */
#define LOOPS_ELEMENTWISE(name, formula, counts)                                                                       \
    LOOPS_LAYERWISE(name, formula, counts)                                                                             \
    VARIANTS_##counts(HALVES, name##_halves, formula) STEP_HALVES(name, formula, (CHOICE_##counts(name##_halves, kept)))
#if MANTISSA_BITS == 23 /* float64 is narrowed first, block by block */
#define LOOPS_CODED(name, formula, counts)                                                                             \
    LOOPS_ELEMENTWISE(name, formula, counts)                                                                           \
    VARIANTS_##counts(CODES, name##_codes, formula) STEP_CODES(name, formula, (CHOICE_##counts(name##_codes, kept)))
#else
#define LOOPS_CODED LOOPS_ELEMENTWISE
#endif
#define LOOPS_LAYERWISE(name, formula, counts)                                                                         \
    VARIANTS_##counts(VARIANT, name, formula) STEP(name, formula, (CHOICE_##counts(name, kept)))
#define LOOPS_LISTWISE LOOPS_LAYERWISE
#define LOOPS_FACTORED LOOPS_LAYERWISE
#define LOOPS_MATRIX(name, formula, counts) VARIANT(name, formula, s8, 0, 0, 0, 1) STEP(name, formula, (ONE(name, s8)))
#define LOOPS_HYBRID(name, formula, counts)                                                                            \
    VARIANT(name, formula, s1, 1, 0, 0, 0)                                                                             \
    VARIANT(name, formula, s2, 0, 1, 0, 0)                                                                             \
    VARIANT(name, formula, s10, 0, 1, 0, 1)                                                                            \
    STEP(name, formula, ((kept) == 11 ? ONE(name, s10) : (kept) == 3 ? ONE(name, s2) : ONE(name, s1)))

#define PREPARE(name, formula)                                                                                         \
    static void N(name##_prepare_step)(fgd_coef * coef, double *kept, const double *hypers, int64_t t, int first)      \
    {                                                                                                                  \
        name##_hypers h;                                                                                               \
        name##_kept k;                                                                                                 \
        memcpy(&h, hypers, sizeof h);                                                                                  \
        memcpy(&k, kept, sizeof k);                                                                                    \
        const N(formula##_coef) c = N(name##_prepare)(&h, &k, t, first);                                               \
        _Static_assert(sizeof c <= sizeof *coef, "fgd_coef is too small for " #name);                                  \
        _Static_assert(sizeof k <= (FGD_MAX_KEPT + 1) * sizeof(double), "too much is kept by " #name);                 \
        memcpy(coef, &c, sizeof c);                                                                                    \
        memcpy(kept, &k, sizeof k);                                                                                    \
    }

/* The measures of up to FGD_STEP_BLOCK elements are added to `measured`; adjusts says what they do to the step. */
#define MEASURE_ELEMENTWISE(name, formula)
#define MEASURE_CODED MEASURE_ELEMENTWISE
#define MEASURE_LAYERWISE(name, formula) MEASURES(name, formula) ADJUSTS(name, formula, (&c, measured))
#define MEASURE_FACTORED(name, formula) MEASURE_LAYERWISE(name, formula) MATRICES(name, formula)
#define MEASURE_LISTWISE(name, formula) MEASURES(name, formula) ADJUSTS(name, formula, (&c, &k, measured))
#define MEASURES(name, formula)                                                                                        \
    static void N(name##_values)(double *restrict x, double *restrict y, const T *restrict p, const T *restrict g,     \
                                 const T *restrict s0, const T *restrict s1, const T *restrict s2,                     \
                                 const T *restrict s3, ptrdiff_t n, N(formula##_coef) c)                               \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            N(formula##_states) s = {.each = {s0[i], s1[i], s2[i], s3[i]}};                                            \
            N(formula##_measure)(x + i, y + i, p[i], g[i], s, &c);                                                     \
        }                                                                                                              \
    }                                                                                                                  \
    static void N(name##_measures)(const fgd_coef *coef, double *measured, const T *p, const T *g, void *const *state, \
                                   ptrdiff_t n)                                                                        \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        double x[FGD_STEP_BLOCK], y[FGD_STEP_BLOCK];                                                                   \
        const T *s[FGD_MAX_STATES];                                                                                    \
        for (int k = 0; k < FGD_MAX_STATES; k++) s[k] = state[k] ? state[k] : p; /* what it lacks, it does not read */ \
        N(name##_values)(x, y, p, g, s[0], s[1], s[2], s[3], n, c);                                                    \
        measured[0] += N(sum_doubles)(x, n);                                                                           \
        measured[1] += N(sum_doubles)(y, n);                                                                           \
    }
#define ADJUSTS(name, formula, arguments)                                                                              \
    static void N(name##_adjusts)(fgd_coef * coef, double *kept, const double *measured)                               \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        name##_kept k;                                                                                                 \
        memcpy(&c, coef, sizeof c);                                                                                    \
        memcpy(&k, kept, sizeof k);                                                                                    \
        N(formula##_adjust) arguments;                                                                                 \
        memcpy(coef, &c, sizeof c);                                                                                    \
        memcpy(kept, &k, sizeof k);                                                                                    \
    }

/* of matrices: the coefficients; new moments of n rows or columns from the sums of their squares; what rows and columns
 * say of the moments of n elements from i on, element (m, r, c) being number (m * rows + r) * columns + c */
#define MATRICES(name, formula)                                                                                        \
    static void N(name##_take_matrices)(fgd_coef * coef)                                                               \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        N(formula##_matrices)(&c);                                                                                     \
        memcpy(coef, &c, sizeof c);                                                                                    \
    }                                                                                                                  \
    static void N(name##_folds)(const fgd_coef *coef, T *moments, const double *sums, double count, ptrdiff_t n)       \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        for (ptrdiff_t i = 0; i < n; i++) moments[i] = N(formula##_fold)(moments[i], sums[i] / count, &c);             \
    }                                                                                                                  \
    static void N(name##_estimates)(const fgd_coef *coef, T *out, const fgd_tensor *tensor, ptrdiff_t i, ptrdiff_t n)  \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        const ptrdiff_t n_rows = tensor->rows, n_columns = tensor->columns;                                            \
        ptrdiff_t row = i / n_columns, at = i - row * n_columns, matrix = row / n_rows, end = (matrix + 1) * n_rows;   \
        const T *rows = tensor->state[FGD_ROWS],                                                                       \
                *columns = (const T *)tensor->state[FGD_COLUMNS] + matrix * n_columns;                                 \
        for (; n; row++, at = 0) {                                                                                     \
            if (row == end) matrix++, end += n_rows, columns += n_columns;                                             \
            const ptrdiff_t length = n < n_columns - at ? n : n_columns - at;                                          \
            for (ptrdiff_t k = 0; k < length; k++)                                                                     \
                out[k] = N(formula##_estimate)(rows[row], columns[at + k], tensor->means[matrix], &c);                 \
            out += length, n -= length;                                                                                \
        }                                                                                                              \
    }
#define MEASURE_MATRIX(name, formula)
#define MEASURE_HYBRID(name, formula)

#define DIRECT_ELEMENTWISE(name, formula)
#define DIRECT_CODED DIRECT_ELEMENTWISE
#define DIRECT_LAYERWISE(name, formula)
#define DIRECT_LISTWISE(name, formula)
#define DIRECT_FACTORED(name, formula)
#define DIRECT_MATRIX(name, formula)                                                                                   \
    static void N(name##_directions)(T *restrict x, const T *restrict g, T *restrict s0, ptrdiff_t n,                  \
                                     const fgd_coef *coef)                                                             \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            N(formula##_states) s = {.each = {s0[i]}};                                                                 \
            x[i] = N(formula##_direction)(g[i], &s, &c);                                                               \
            s0[i] = s.each[0];                                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    static void N(name##_fits)(fgd_coef * coef, const fgd_tensor *tensor)                                              \
    {                                                                                                                  \
        N(formula##_coef) c;                                                                                           \
        memcpy(&c, coef, sizeof c);                                                                                    \
        N(formula##_fit)(&c, tensor);                                                                                  \
        memcpy(coef, &c, sizeof c);                                                                                    \
    }                                                                                                                  \
    static fgd_iteration N(name##_iterations)(const double *hypers)                                                    \
    {                                                                                                                  \
        name##_hypers h;                                                                                               \
        memcpy(&h, hypers, sizeof h);                                                                                  \
        return N(formula##_iteration)(&h);                                                                             \
    }
#define DIRECT_HYBRID DIRECT_MATRIX

#define RULE(name, formula, kind, counts, kept_, hypers) RULE_(name, formula, kind, counts)
#define RULE_(name, formula, kind, counts) RULE__(name, formula, kind, counts)
#define RULE__(name, formula, kind, counts)                                                                            \
    LOOPS_##kind(name, formula, counts) PREPARE(name, formula) MEASURE_##kind(name, formula)                           \
        DIRECT_##kind(name, formula)
#define STATES(always, optional, list) always##_##optional
FGD_OPTIM_RULES(RULE, STATES, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
#undef RULE_
#undef RULE__
#undef STATES

static void (*const N(prepare)[])(fgd_coef *, double *, const double *, int64_t, int) = {
#define RULE(name, formula, kind, states, kept, hypers) N(name##_prepare_step),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

static void (*const N(step)[])(const fgd_coef *, void *, const void *, void *const *, ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) N(name##_step),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#define HALVES_ELEMENTWISE(name) N(name##_halves_step)
#define HALVES_CODED HALVES_ELEMENTWISE
#define HALVES_LAYERWISE(name) NULL
#define HALVES_LISTWISE(name) NULL
#define HALVES_FACTORED(name) NULL
#define HALVES_MATRIX(name) NULL
#define HALVES_HYBRID(name) NULL
static void (*const N(step_halves)[])(const fgd_coef *, T *, const T *, uint16_t *const *, const fgd_noise *, ptrdiff_t,
                                      ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) HALVES_##kind(name),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#define CODES_ELEMENTWISE(name, function) NULL
#define CODES_LAYERWISE(name, function) NULL
#define CODES_LISTWISE(name, function) NULL
#define CODES_FACTORED(name, function) NULL
#define CODES_MATRIX(name, function) NULL
#define CODES_HYBRID(name, function) NULL
#if MANTISSA_BITS == 23
#define CODES_CODED(name, function) N(name##_##function)
#else
#define CODES_CODED(name, function) NULL
#endif
static void (*const N(step_codes)[])(const fgd_coef *, T *, const T *, fgd_codes *, const fgd_noise *, ptrdiff_t,
                                     ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) CODES_##kind(name, codes_step),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};
/* the dtypes of the states that such a loop takes, NULL where there is none */
static const int *const N(codes)[] = {
#define RULE(name, formula, kind, states, kept, hypers) CODES_##kind(formula, codes),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#define MEASURES_MATRIX(name) NULL
#define MEASURES_HYBRID(name) NULL
#define MEASURES_ELEMENTWISE(name) NULL
#define MEASURES_CODED MEASURES_ELEMENTWISE
#define MEASURES_LAYERWISE(name) N(name##_measures)
#define MEASURES_LISTWISE(name) N(name##_measures)
#define MEASURES_FACTORED(name) N(name##_measures)
static void (*const N(measures)[])(const fgd_coef *, double *, const T *, const T *, void *const *, ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) MEASURES_##kind(name),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#define ADJUSTS_MATRIX(name) NULL
#define ADJUSTS_HYBRID(name) NULL
#define ADJUSTS_ELEMENTWISE(name) NULL
#define ADJUSTS_CODED ADJUSTS_ELEMENTWISE
#define ADJUSTS_LAYERWISE(name) N(name##_adjusts)
#define ADJUSTS_LISTWISE(name) N(name##_adjusts)
#define ADJUSTS_FACTORED(name) N(name##_adjusts)
static void (*const N(adjusts)[])(fgd_coef *, double *, const double *) = {
#define RULE(name, formula, kind, states, kept, hypers) ADJUSTS_##kind(name),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#define FACTORED_ELEMENTWISE(function) NULL
#define FACTORED_CODED FACTORED_ELEMENTWISE
#define FACTORED_LAYERWISE(function) NULL
#define FACTORED_LISTWISE(function) NULL
#define FACTORED_MATRIX(function) NULL
#define FACTORED_HYBRID(function) NULL
#define FACTORED_FACTORED(function) N(function)
static void (*const N(take_matrices)[])(fgd_coef *) = {
#define RULE(name, formula, kind, states, kept, hypers) FACTORED_##kind(name##_take_matrices),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

/* for the rules of matrices: the loop over directions, the fit to a shape, the iteration */
#define TABLE_ELEMENTWISE(name, what) NULL
#define TABLE_CODED TABLE_ELEMENTWISE
#define TABLE_LAYERWISE(name, what) NULL
#define TABLE_LISTWISE(name, what) NULL
#define TABLE_FACTORED(name, what) NULL
#define TABLE_MATRIX(name, what) N(name##_##what)
#define TABLE_HYBRID(name, what) N(name##_##what)
static void (*const N(directions)[])(T *, const T *, T *, ptrdiff_t, const fgd_coef *) = {
#define RULE(name, formula, kind, states, kept, hypers) TABLE_##kind(name, directions),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

static void (*const N(folds)[])(const fgd_coef *, T *, const double *, double, ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) FACTORED_##kind(name##_folds),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

static void (*const N(fits)[])(fgd_coef *, const fgd_tensor *) = {
#define RULE(name, formula, kind, states, kept, hypers) TABLE_##kind(name, fits),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

static void (*const N(estimates)[])(const fgd_coef *, T *, const fgd_tensor *, ptrdiff_t, ptrdiff_t) = {
#define RULE(name, formula, kind, states, kept, hypers) FACTORED_##kind(name##_estimates),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

static fgd_iteration (*const N(iterations)[])(const double *) = {
#define RULE(name, formula, kind, states, kept, hypers) TABLE_##kind(name, iterations),
    FGD_OPTIM_RULES(RULE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE, FGD_NONE)
#undef RULE
};

#undef FACTORED_ELEMENTWISE
#undef FACTORED_CODED
#undef FACTORED_LAYERWISE
#undef FACTORED_LISTWISE
#undef FACTORED_MATRIX
#undef FACTORED_HYBRID
#undef FACTORED_FACTORED
#undef MATRICES
#undef TABLE_ELEMENTWISE
#undef TABLE_CODED
#undef TABLE_LAYERWISE
#undef TABLE_LISTWISE
#undef TABLE_FACTORED
#undef TABLE_MATRIX
#undef TABLE_HYBRID
#undef DIRECT_ELEMENTWISE
#undef DIRECT_CODED
#undef DIRECT_LAYERWISE
#undef DIRECT_LISTWISE
#undef DIRECT_FACTORED
#undef DIRECT_MATRIX
#undef DIRECT_HYBRID
#undef LOOPS_ELEMENTWISE
#undef LOOPS_CODED
#undef LOOPS_LAYERWISE
#undef LOOPS_LISTWISE
#undef LOOPS_FACTORED
#undef LOOPS_MATRIX
#undef LOOPS_HYBRID
#undef MEASURE_MATRIX
#undef MEASURE_HYBRID
#undef MEASURES_MATRIX
#undef MEASURES_HYBRID
#undef ADJUSTS_MATRIX
#undef ADJUSTS_HYBRID
#undef MEASURE_ELEMENTWISE
#undef MEASURE_CODED
#undef MEASURE_LAYERWISE
#undef MEASURE_LISTWISE
#undef MEASURE_FACTORED
#undef MEASURES
#undef MEASURES_ELEMENTWISE
#undef MEASURES_CODED
#undef MEASURES_LAYERWISE
#undef MEASURES_LISTWISE
#undef MEASURES_FACTORED
#undef ADJUSTS
#undef ADJUSTS_ELEMENTWISE
#undef ADJUSTS_CODED
#undef ADJUSTS_LAYERWISE
#undef ADJUSTS_LISTWISE
#undef ADJUSTS_FACTORED
#undef LOOP
#undef READ_SAME
#undef WRITE_SAME
#undef READ_HALF
#undef WRITE_HALF
#undef VARIANT
#undef HALVES
#undef CODES
#undef QUARTER
#undef LEAVE_OPEN
#undef CODES_ELEMENTWISE
#undef CODES_CODED
#undef CODES_LAYERWISE
#undef CODES_LISTWISE
#undef CODES_FACTORED
#undef CODES_MATRIX
#undef CODES_HYBRID
#undef HALVES_ELEMENTWISE
#undef HALVES_CODED
#undef HALVES_LAYERWISE
#undef HALVES_LISTWISE
#undef HALVES_FACTORED
#undef HALVES_MATRIX
#undef HALVES_HYBRID
#undef VARIANTS_0_1
#undef VARIANTS_1_0
#undef VARIANTS_1_2
#undef VARIANTS_2_0
#undef VARIANTS_2_1
#undef VARIANTS_4_0
#undef ONE
#undef CHOICE_0_1
#undef CHOICE_1_0
#undef CHOICE_1_2
#undef CHOICE_2_0
#undef CHOICE_2_1
#undef CHOICE_4_0
#undef STEP
#undef STEP_HALVES
#undef STEP_CODES
#undef PREPARE
