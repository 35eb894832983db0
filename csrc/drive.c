/* Loops over tensors and threads around the kernels of the active table, and the shuffle: compiled once. */
#include "fastgd.h"
#include "parallel.h"
#include "tuning.h"

static size_t element_size(int dtype) { return dtype == FGD_FLOAT32 ? sizeof(float) : sizeof(double); }

static ptrdiff_t share(ptrdiff_t total, int thread, int n_threads)
{
    if (thread == n_threads) return total;
    return (ptrdiff_t)((double)total * thread / n_threads) / FGD_LINE_ELEMENTS * FGD_LINE_ELEMENTS;
}

/* The elements [first, end) of the list, as if its tensors lay end to end. */
static void step_range(const fgd_tensor *tensors, ptrdiff_t n_tensors, const fgd_typed_kernels *kernels, int rule,
                       const fgd_coef *coef, size_t element, ptrdiff_t first, ptrdiff_t end)
{
    ptrdiff_t before = 0;
    for (ptrdiff_t i = 0; i < n_tensors && before < end; before += tensors[i++].size) {
        const fgd_tensor *t = tensors + i;
        const ptrdiff_t a = first > before ? first - before : 0;
        const ptrdiff_t b = end - before < t->size ? end - before : t->size;
        if (a >= b) continue;
        const size_t offset = (size_t)a * element;
        void *state[FGD_MAX_STATES];
        for (int k = 0; k < FGD_MAX_STATES; k++) state[k] = t->state[k] ? (char *)t->state[k] + offset : NULL;
        kernels->step[rule](coef, (char *)t->param + offset, (const char *)t->grad + offset, state, b - a);
    }
}

fgd_status fgd_step(const fgd_tensor *tensors, ptrdiff_t n_tensors, int dtype, int rule, const double *hypers,
                    int64_t t, int threads)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[dtype];
    ptrdiff_t total = 0;
    for (ptrdiff_t i = 0; i < n_tensors; i++) total += tensors[i].size;
    fgd_coef coef;
    kernels->prepare[rule](&coef, hypers, t);
    const int team = fgd_team(threads, (double)total, FGD_SERIAL_STEP);
    fgd_atomic arrived = 0;
    if (team > 1) {
        FGD_PARALLEL(team)
        {
            const int me = FGD_THREAD, all = FGD_TEAM;
            step_range(tensors, n_tensors, kernels, rule, &coef, element_size(dtype), share(total, me, all),
                       share(total, me + 1, all));
            fgd_meet(&arrived, all);
        }
    } else {
        step_range(tensors, n_tensors, kernels, rule, &coef, element_size(dtype), 0, total);
    }
    return FGD_OK;
}

double fgd_sum(const void *x, ptrdiff_t n, int dtype, int threads)
{
    const fgd_typed_kernels *kernels = fgd_active->dtype[dtype];
    const int team = fgd_team(threads, (double)n, FGD_SERIAL_SUM);
    double parts[FGD_SUM_PARTS];
    fgd_atomic arrived = 0;
    FGD_PARALLEL(team)
    {
        const int me = FGD_THREAD, all = FGD_TEAM;
        for (int k = FGD_SUM_PARTS * me / all; k < FGD_SUM_PARTS * (me + 1) / all; k++) {
            const ptrdiff_t first = share(n, k, FGD_SUM_PARTS), end = share(n, k + 1, FGD_SUM_PARTS);
            parts[k] = kernels->sum((const char *)x + (size_t)first * element_size(dtype), end - first);
        }
        fgd_meet(&arrived, all);
    }
    double total = 0;
    for (int k = 0; k < FGD_SUM_PARTS; k++) total += parts[k];
    return total;
}

/* xorshift32 (Marsaglia, "Xorshift RNGs", J. Stat. Software 8(14), 2003), cut to 31 bits as scikit-learn does */
static uint32_t next_random(uint32_t *seed)
{
    if (*seed == 0) *seed = 1;
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed & 0x7FFFFFFFu;
}

void fgd_shuffle(int64_t *order, ptrdiff_t n, uint32_t seed)
{
    for (ptrdiff_t i = 0; i + 1 < n; i++) {
        const uint64_t left = (uint64_t)(n - i);
        uint64_t r = next_random(&seed);
        if (left >> 31) r = r << 31 | next_random(&seed);
        const ptrdiff_t j = i + (ptrdiff_t)(left >> 31 ? r % left : (uint32_t)r % (uint32_t)left);
        const int64_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}
