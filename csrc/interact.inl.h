/* Rows of a sparse matrix with their interactions: behind the features of a row the products of two of them, which have
 * weights of their own.
 *
 * The products and their numbers are Vowpal Wabbit's (interactions_predict.h of 9.11, without --permutations): of two
 * ranges each feature of the one with each of the other, of a range with itself each two once, and each with itself;
 * features i and j make number (16777619 i) xor j, of which the mask leaves the low bits. Of one range the lower column
 * comes first, so that the order of a row's values does not matter. */
#ifndef FASTGD_INTERACT_H
#define FASTGD_INTERACT_H

/* One step of the hash FNV-1 (Fowler, Noll & Vo), with its prime of 32 bits, in 64 bits that wrap around. */
FGD_INLINE int64_t fgd_feature_of_pair(int64_t first, int64_t second, ptrdiff_t mask)
{
    return (int64_t)(((uint64_t)first * 16777619u) ^ (uint64_t)second) & mask;
}

FGD_INLINE int fgd_within(int64_t column, const int64_t *range) { return column >= range[0] && column < range[1]; }

static inline int fgd_same_range(const int64_t *a, const int64_t *b) { return a[0] == b[0] && a[1] == b[1]; }

/* Where the values of a row lie whose columns are in a range: n of them at [from, to), and maybe others in between. */
typedef struct {
    ptrdiff_t from, to, n;
} fgd_span;

FGD_INLINE fgd_span fgd_span_of(const void *columns, ptrdiff_t n, const int64_t *range, int wide)
{
    fgd_span span = {0, 0, 0};
    for (ptrdiff_t k = 0; k < n; k++) {
        if (!fgd_within(fgd_index(columns, k, wide), range)) continue;
        if (!span.n) span.from = k;
        span.to = k + 1;
        span.n++;
    }
    return span;
}

#endif

/* How many values row i has, its interactions included. */
FGD_INLINE ptrdiff_t N(width_with)(const fgd_rows *rows, const fgd_interactions *pairs, ptrdiff_t i, int kind)
{
    const N(example) row = N(example_at)(NULL, rows, i, kind);
    ptrdiff_t width = row.n;
    for (const int64_t *range = pairs->ranges; range < pairs->ranges + 4 * pairs->n_pairs; range += 4) {
        const ptrdiff_t n = fgd_span_of(row.columns, row.n, range, kind == FGD_WIDE).n;
        width += fgd_same_range(range, range + 2) ? n * (n + 1) / 2
                                                  : n * fgd_span_of(row.columns, row.n, range + 2, kind == FGD_WIDE).n;
    }
    return width;
}

static ptrdiff_t N(measure_interactions)(const fgd_interacted *made, const fgd_rows *rows,
                                         const fgd_interactions *pairs, ptrdiff_t start, ptrdiff_t stop,
                                         ptrdiff_t batch, ptrdiff_t room)
{
    fgd_cursor cursor = fgd_cursor_at_start(rows);
    fgd_seek(&cursor, start);
    ptrdiff_t whole = 0; /* rows of the batches so far */
    made->indptr[0] = 0;
    for (ptrdiff_t i = 0; i < stop - start; i++) {
        const ptrdiff_t row = fgd_next_row(&cursor);
        made->visited[i] = row;
        made->indptr[i + 1] = made->indptr[i] + (rows->wide ? N(width_with)(rows, pairs, row, FGD_WIDE)
                                                            : N(width_with)(rows, pairs, row, FGD_NARROW));
        if ((i + 1) % batch && i + 1 < stop - start) continue;
        if (whole && made->indptr[i + 1] > room) break;
        whole = i + 1;
    }
    return whole;
}

/* Where the next values go. */
typedef struct {
    T *values;
    int64_t *indices;
} N(place_of_values);

/* The products of value p of a row with those of a span, from number `from` on; of one range, the lower column comes
 * first, of two those of the span come second. `dense`: nothing of another range lies in between. */
FGD_INLINE N(place_of_values) N(multiply)(N(place_of_values) at, N(example) row, ptrdiff_t p, ptrdiff_t from,
                                          ptrdiff_t to, const int64_t *range, int same, int dense, int kind)
{
    const T *restrict x = row.x;
    T *restrict values = at.values;
    int64_t *restrict indices = at.indices;
    const T value = x[p];
    const int64_t first = fgd_index(row.columns, p, kind == FGD_WIDE);
    ptrdiff_t n = 0;
    for (ptrdiff_t q = from; q < to; q++) {
        const int64_t second = fgd_index(row.columns, q, kind == FGD_WIDE);
        if (!dense && !fgd_within(second, range)) continue;
        const int turned = same && second < first;
        values[n] = value * x[q];
        indices[n] = fgd_feature_of_pair(turned ? second : first, turned ? first : second, row.mask);
        n++;
    }
    return (N(place_of_values)){values + n, indices + n};
}

/* The products of a pair of ranges. */
FGD_INLINE N(place_of_values) N(multiply_ranges)(N(place_of_values) at, N(example) row, const int64_t *range, int kind)
{
    const int64_t *other = range + 2;
    const int same = fgd_same_range(range, other);
    const fgd_span first = fgd_span_of(row.columns, row.n, range, kind == FGD_WIDE);
    const fgd_span second = same ? first : fgd_span_of(row.columns, row.n, other, kind == FGD_WIDE);
    const int dense = second.n == second.to - second.from;
    for (ptrdiff_t p = first.from; p < first.to; p++) {
        if (!fgd_within(fgd_index(row.columns, p, kind == FGD_WIDE), range)) continue;
        const ptrdiff_t from = same ? p : second.from;
        at = dense ? same ? N(multiply)(at, row, p, from, second.to, other, 1, 1, kind)
                          : N(multiply)(at, row, p, from, second.to, other, 0, 1, kind)
                   : N(multiply)(at, row, p, from, second.to, other, same, 0, kind);
    }
    return at;
}

FGD_INLINE void N(interact_row)(N(place_of_values) at, const fgd_rows *rows, const fgd_interactions *pairs, ptrdiff_t i,
                                int kind)
{
    const N(example) row = N(example_at)(NULL, rows, i, kind);
    for (ptrdiff_t k = 0; k < row.n; k++) {
        at.values[k] = row.x[k];
        at.indices[k] = fgd_column(row.columns, k, kind == FGD_WIDE, row.mask);
    }
    at = (N(place_of_values)){at.values + row.n, at.indices + row.n};
    for (ptrdiff_t pair = 0; pair < pairs->n_pairs; pair++)
        at = N(multiply_ranges)(at, row, pairs->ranges + 4 * pair, kind);
}

static void N(interact)(const fgd_interacted *made, ptrdiff_t n_made, const fgd_rows *rows,
                        const fgd_interactions *pairs, int threads)
{
    const int team = fgd_team(threads, (double)made->indptr[n_made], FGD_SERIAL_PRODUCTS);
    FGD_PARALLEL(team)
    {
        const ptrdiff_t me = FGD_THREAD, all = FGD_TEAM;
        for (ptrdiff_t i = n_made * me / all; i < n_made * (me + 1) / all; i++) {
            const N(place_of_values) at = {(T *)made->values + made->indptr[i], made->indices + made->indptr[i]};
            if (rows->wide)
                N(interact_row)(at, rows, pairs, (ptrdiff_t)made->visited[i], FGD_WIDE);
            else
                N(interact_row)(at, rows, pairs, (ptrdiff_t)made->visited[i], FGD_NARROW);
        }
    }
}
