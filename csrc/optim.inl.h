/* One loop a rule, made from its row: the rule's formula over n neighbouring elements of a tensor. */

/* The arrays are `restrict` parameters, not locals: only then does the compiler vectorise without checking overlaps.
 * A rule with one state also has a loop without it, for when the state is not kept. */
#define LOOP_1(name)                                                                                                   \
    static void N(name##_with)(T *restrict p, const T *restrict g, T *restrict s0, ptrdiff_t n, N(name##_coef) c)      \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) N(name##_point)(p + i, g[i], s0 + i, &c);                                    \
    }                                                                                                                  \
    static void N(name##_without)(T *restrict p, const T *restrict g, ptrdiff_t n, N(name##_coef) c)                   \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            T none = 0;                                                                                                \
            N(name##_point)(p + i, g[i], &none, &c);                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
    static void N(name##_step)(const fgd_coef *coef, void *p, const void *g, void *const *state, ptrdiff_t n)          \
    {                                                                                                                  \
        N(name##_coef) c;                                                                                              \
        memcpy(&c, coef, sizeof c);                                                                                    \
        if (state[0])                                                                                                  \
            N(name##_with)(p, g, state[0], n, c);                                                                      \
        else                                                                                                           \
            N(name##_without)(p, g, n, c);                                                                             \
    }

#define LOOP_2(name)                                                                                                   \
    static void N(name##_with)(T *restrict p, const T *restrict g, T *restrict s0, T *restrict s1, ptrdiff_t n,        \
                               N(name##_coef) c)                                                                       \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) N(name##_point)(p + i, g[i], s0 + i, s1 + i, &c);                            \
    }                                                                                                                  \
    static void N(name##_step)(const fgd_coef *coef, void *p, const void *g, void *const *state, ptrdiff_t n)          \
    {                                                                                                                  \
        N(name##_coef) c;                                                                                              \
        memcpy(&c, coef, sizeof c);                                                                                    \
        N(name##_with)(p, g, state[0], state[1], n, c);                                                                \
    }

#define PREPARE(name)                                                                                                  \
    static void N(name##_prepare_step)(fgd_coef * coef, const double *hypers, int64_t t)                               \
    {                                                                                                                  \
        name##_hypers h;                                                                                               \
        memcpy(&h, hypers, sizeof h);                                                                                  \
        const N(name##_coef) c = N(name##_prepare)(&h, t);                                                             \
        _Static_assert(sizeof c <= sizeof *coef, "fgd_coef is too small for " #name);                                  \
        memcpy(coef, &c, sizeof c);                                                                                    \
    }

#define NONE(...)
#define RULE(name, loop, hypers) loop(name) PREPARE(name)
#define STATES1(...) LOOP_1
#define STATES2(...) LOOP_2
FGD_OPTIM_RULES(RULE, STATES1, STATES2, NONE, NONE, NONE)
#undef RULE

static void (*const N(prepare)[])(fgd_coef *, const double *, int64_t) = {
#define RULE(name, loop, hypers) N(name##_prepare_step),
    FGD_OPTIM_RULES(RULE, STATES1, STATES2, NONE, NONE, NONE)
#undef RULE
};

static void (*const N(step)[])(const fgd_coef *, void *, const void *, void *const *, ptrdiff_t) = {
#define RULE(name, loop, hypers) N(name##_step),
    FGD_OPTIM_RULES(RULE, STATES1, STATES2, NONE, NONE, NONE)
#undef RULE
};

#undef STATES1
#undef STATES2
#undef NONE
