/* The sum of an array over threads, and the shuffle: compiled once. */
#include "chunks.h"
#include "parallel.h"
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
