/* The sum of an array over threads, the shuffle, and what is asked about linear models: compiled once. */
#include <string.h>

#include "chunks.h"
#include "parallel.h"
#include "rules.h"
#include "tuning.h"

static ptrdiff_t share(ptrdiff_t total, int thread, int n_threads)
{
    if (thread == n_threads) return total;
    return (ptrdiff_t)((double)total * thread / n_threads) / FGD_LINE_ELEMENTS * FGD_LINE_ELEMENTS;
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
            parts[k] = kernels->sum((const char *)x + (size_t)first * fgd_element_size(dtype), end - first);
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

int fgd_is_plain_sgd(const fgd_stretch *stretch)
{
    if (stretch->rule != FGD_RULE_sgd) return 0;
    sgd_hypers h;
    memcpy(&h, stretch->hypers, sizeof h);
    return h.momentum == 0 && h.weight_decay == 0 && h.maximize == 0;
}

int fgd_goes_by_rows(const fgd_stretch *stretch)
{
    return fgd_is_plain_sgd(stretch) && stretch->batch_size == 1 && stretch->outputs == 1 && !stretch->positive &&
           stretch->group == 0;
}

int fgd_takes_l1(const fgd_stretch *stretch) { return fgd_is_plain_sgd(stretch) || stretch->rule == FGD_RULE_adagrad; }

/* Unsigned, what is below zero is large. */
#define FIRST_BAD_ROW(name, type, utype)                                                                               \
    static ptrdiff_t name(const fgd_rows *rows, ptrdiff_t nnz)                                                         \
    {                                                                                                                  \
        const type *ends = rows->indptr;                                                                               \
        const utype *indices = rows->indices;                                                                          \
        if (ends[0] != 0) return 0;                                                                                    \
        for (ptrdiff_t i = 0; i < rows->n_rows; i++) {                                                                 \
            if (ends[i + 1] < ends[i] || ends[i + 1] > nnz) return i;                                                  \
            utype largest = 0;                                                                                         \
            for (ptrdiff_t k = (ptrdiff_t)ends[i]; k < (ptrdiff_t)ends[i + 1]; k++)                                    \
                largest = indices[k] > largest ? indices[k] : largest;                                                 \
            if (ends[i + 1] > ends[i] && largest >= (uint64_t)rows->n_features) return i;                              \
        }                                                                                                              \
        return -1;                                                                                                     \
    }
FIRST_BAD_ROW(first_bad_row_32, int32_t, uint32_t)
FIRST_BAD_ROW(first_bad_row_64, int64_t, uint64_t)
#undef FIRST_BAD_ROW

ptrdiff_t fgd_first_bad_row(const fgd_rows *rows, ptrdiff_t nnz)
{
    return rows->wide ? first_bad_row_64(rows, nnz) : first_bad_row_32(rows, nnz);
}
