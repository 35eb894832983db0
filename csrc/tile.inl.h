/* The tile of a product of matrices: it stays in registers while its sums are formed.
 *
 * Each element is a sum in the order of the inner index, FGD_DEPTH terms at a time: its bits depend neither on where
 * the tile lies nor on the number of threads. (Kernel and panel as in Goto & van de Geijn, "Anatomy of high-performance
 * matrix multiplication", ACM TOMS 34(3), 2008.) */
#ifndef FASTGD_TILE_H
#define FASTGD_TILE_H

/* A tile is so many rows by two registers; with the panel's row and a product, it fills the register file. */
#if defined(__AVX512F__)
#define FGD_TILE_REGISTER 64
#define FGD_TILE_ROWS 8
#elif defined(__AVX__)
#define FGD_TILE_REGISTER 32
#define FGD_TILE_ROWS 6
#elif defined(__aarch64__)
#define FGD_TILE_REGISTER 16
#define FGD_TILE_ROWS 8
#else
#define FGD_TILE_REGISTER 16
#define FGD_TILE_ROWS 4
#endif

/* Two registers' elements in turns: the lower halves, and the higher ones. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FGD_HAS_SHUFFLES 1
#endif
#endif
#define FGD_LOW_2 0, 2
#define FGD_HIGH_2 1, 3
#define FGD_LOW_4 0, 4, 1, 5
#define FGD_HIGH_4 2, 6, 3, 7
#define FGD_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define FGD_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define FGD_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define FGD_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31

#endif

#undef ELEMENTS
#undef LOW
#undef HIGH
#undef VECTOR
#undef VECTOR_AT
#undef VECTOR_IN
#undef FGD_SUM_OF

#if MANTISSA_BITS > 23
#define ELEMENTS (FGD_TILE_REGISTER / 8)
#else
#define ELEMENTS (FGD_TILE_REGISTER / 4)
#endif
#if ELEMENTS == 16
#define LOW FGD_LOW_16
#define HIGH FGD_HIGH_16
#elif ELEMENTS == 8
#define LOW FGD_LOW_8
#define HIGH FGD_HIGH_8
#elif ELEMENTS == 4
#define LOW FGD_LOW_4
#define HIGH FGD_HIGH_4
#else
#define LOW FGD_LOW_2
#define HIGH FGD_HIGH_2
#endif

#if defined(__GNUC__)
typedef T N(vector) __attribute__((vector_size(FGD_TILE_REGISTER)));
typedef T N(vector_at) __attribute__((vector_size(FGD_TILE_REGISTER), aligned(sizeof(T)), may_alias));
#define VECTOR ((ptrdiff_t)(FGD_TILE_REGISTER / sizeof(T)))
#define VECTOR_AT(p) (*(N(vector_at) *)(p))
#define VECTOR_IN(p) (*(const N(vector_at) *)(p))
#else
typedef T N(vector);
#define VECTOR ((ptrdiff_t)1)
#define VECTOR_AT(p) (*(p))
#define VECTOR_IN(p) (*(p))
#endif

#ifdef FGD_FUSED
#include "fused.inl.h"
#else
#define FGD_SUM_OF(a, b, sum) ((sum) + (a) * (b))
#endif

/* ---------------------------------------------------------------------------------------------- transposition */

#ifdef FGD_HAS_SHUFFLES
/* A square of one register a row: each round rotates the bits of (row, column), taken as one number, by one. */
FGD_INLINE void N(transpose_square)(T *out, ptrdiff_t out_stride, const T *in, ptrdiff_t in_stride)
{
    N(vector) a[ELEMENTS], b[ELEMENTS];
    for (int i = 0; i < ELEMENTS; i++) a[i] = VECTOR_IN(in + i * in_stride);
    for (int round = 1; round < ELEMENTS; round *= 2) {
        for (int i = 0; i < ELEMENTS / 2; i++) {
            b[2 * i] = __builtin_shufflevector(a[i], a[i + ELEMENTS / 2], LOW);
            b[2 * i + 1] = __builtin_shufflevector(a[i], a[i + ELEMENTS / 2], HIGH);
        }
        memcpy(a, b, sizeof a);
    }
    for (int i = 0; i < ELEMENTS; i++) VECTOR_AT(out + i * out_stride) = a[i];
}
#else
FGD_INLINE void N(transpose_square)(T *out, ptrdiff_t out_stride, const T *in, ptrdiff_t in_stride)
{
    for (int i = 0; i < ELEMENTS; i++)
        for (int j = 0; j < ELEMENTS; j++) out[j * out_stride + i] = in[i * in_stride + j];
}
#endif

/* out (columns, rows) = in (rows, columns)' */
static void N(transpose)(T *restrict out, ptrdiff_t out_stride, const T *restrict in, ptrdiff_t in_stride,
                         ptrdiff_t rows, ptrdiff_t columns)
{
    const ptrdiff_t whole_rows = rows - rows % ELEMENTS, whole_columns = columns - columns % ELEMENTS;
    for (ptrdiff_t i = 0; i < whole_rows; i += ELEMENTS)
        for (ptrdiff_t j = 0; j < whole_columns; j += ELEMENTS)
            N(transpose_square)(out + j * out_stride + i, out_stride, in + i * in_stride + j, in_stride);
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t j = i < whole_rows ? whole_columns : 0; j < columns; j++)
            out[j * out_stride + i] = in[i * in_stride + j];
}

/* --------------------------------------------------------------------------------------------------- product */

/* panel (depth, width) = from (depth, columns), whose elements have their neighbours `to_row` and `to_next` away, of
 * which one is 1; and zeros behind them. */
static void N(pack)(T *restrict panel, const T *restrict from, ptrdiff_t to_row, ptrdiff_t to_next, ptrdiff_t columns,
                    ptrdiff_t width, ptrdiff_t depth)
{
    if (to_next != 1) {
        N(transpose)(panel, width, from, to_next, columns, depth);
    } else if (columns == 2 * VECTOR) { /* nearly all; a loop over registers would become a call of memcpy() a row */
        for (ptrdiff_t k = 0; k < depth; k++) {
            const N(vector) low = VECTOR_IN(from + k * to_row), high = VECTOR_IN(from + k * to_row + VECTOR);
            VECTOR_AT(panel + k * width) = low;
            VECTOR_AT(panel + k * width + VECTOR) = high;
        }
    } else {
        for (ptrdiff_t k = 0; k < depth; k++)
            for (ptrdiff_t j = 0; j < columns; j++) panel[k * width + j] = from[k * to_row + j];
    }
    if (columns == width) return;
    for (ptrdiff_t k = 0; k < depth; k++)
        for (ptrdiff_t j = columns; j < width; j++) panel[k * width + j] = 0;
}

/* out (rows, columns), `stride` apart, = or += left (rows, depth) panel (depth, vectors * VECTOR), `width` apart */
FGD_INLINE void N(tile)(T *out, ptrdiff_t stride, const T *left, ptrdiff_t to_row, ptrdiff_t to_next, const T *panel,
                        ptrdiff_t width, ptrdiff_t columns, ptrdiff_t depth, int adds, const int rows,
                        const int vectors)
{
    N(vector) sum[FGD_TILE_ROWS][2];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = (N(vector)){0};
    for (ptrdiff_t k = 0; k < depth; k++, left += to_next, panel += width)
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++)
                sum[i][v] = FGD_SUM_OF(left[i * to_row], VECTOR_IN(panel + v * VECTOR), sum[i][v]);
    if (columns == vectors * VECTOR) {
        for (int i = 0; i < rows; i++)
            for (int v = 0; v < vectors; v++) {
                T *at = out + i * stride + v * VECTOR;
                if (adds) sum[i][v] += VECTOR_IN(at);
                VECTOR_AT(at) = sum[i][v];
            }
        return;
    }
    T row[2 * FGD_TILE_REGISTER / sizeof(T)] = {0};
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < vectors; v++) VECTOR_AT(row + v * VECTOR) = sum[i][v];
        for (ptrdiff_t j = 0; j < columns; j++) out[i * stride + j] = adds ? out[i * stride + j] + row[j] : row[j];
    }
}

/* the same for any number of rows up to FGD_TILE_ROWS */
FGD_INLINE void N(any_tile)(T *out, ptrdiff_t stride, const T *left, ptrdiff_t to_row, ptrdiff_t to_next,
                            const T *panel, ptrdiff_t width, ptrdiff_t columns, ptrdiff_t depth, int adds,
                            ptrdiff_t rows, const int vectors)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        N(tile)(out, stride, left, to_row, to_next, panel, width, columns, depth, adds, n, vectors);                   \
        return;
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
#if FGD_TILE_ROWS > 4
        ROWS(5)
        ROWS(6)
#endif
#if FGD_TILE_ROWS > 6
        ROWS(7)
        ROWS(8)
#endif
    }
#undef ROWS
}

static void N(wide_tile)(T *out, ptrdiff_t stride, const T *left, ptrdiff_t to_row, ptrdiff_t to_next, const T *panel,
                         ptrdiff_t width, ptrdiff_t columns, ptrdiff_t depth, int adds, ptrdiff_t rows)
{
    N(any_tile)(out, stride, left, to_row, to_next, panel, width, columns, depth, adds, rows, 2);
}

static void N(narrow_tile)(T *out, ptrdiff_t stride, const T *left, ptrdiff_t to_row, ptrdiff_t to_next, const T *panel,
                           ptrdiff_t width, ptrdiff_t columns, ptrdiff_t depth, int adds, ptrdiff_t rows)
{
    N(any_tile)(out, stride, left, to_row, to_next, panel, width, columns, depth, adds, rows, 1);
}
