/* Products of 8-bit codes with the processor's instruction for them, vpdpbusd: of 4 neighbouring bytes without sign
 * and 4 with it, the sum of the products is added to 32 bits, exactly. The file is compiled once for 256-bit registers
 * (AVX-VNNI) and once for 512-bit ones (AVX-512 VNNI); what it gives is that of int8.inl.h. */
#include "fastgd.h"

#include <immintrin.h>
#include <string.h>

#define FGD_INLINE static inline __attribute__((always_inline))
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

#if defined(__AVX512VNNI__)
#define REGISTER __m512i
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define ZERO _mm512_setzero_si512()
#define SPREAD(x) _mm512_set1_epi32(x)
#define ADD_PRODUCTS(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
enum { ROWS_OF_TILE = 8, REGISTERS = 2 };
#else
#define REGISTER __m256i
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define ZERO _mm256_setzero_si256()
#define SPREAD(x) _mm256_set1_epi32(x)
#define ADD_PRODUCTS(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
enum { ROWS_OF_TILE = 5, REGISTERS = 2 };
#endif

enum {
    COLUMNS = sizeof(REGISTER) / sizeof(int32_t), /* of a register */
    PACKED = FGD_INT8_COLUMNS * FGD_INT8_DEPTH    /* bytes of a step through a block of packed columns */
};

/* register v's weights for rows k, k + 1, ...: of its block, then its place in it */
FGD_INLINE const int8_t *weights(const int8_t *packed, ptrdiff_t depth, ptrdiff_t k, int v)
{
    const int column = v * COLUMNS, block = column / FGD_INT8_COLUMNS, place = column % FGD_INT8_COLUMNS;
    return packed + block * FGD_INT8_COLUMNS * depth + k * FGD_INT8_COLUMNS + place * FGD_INT8_DEPTH;
}

FGD_INLINE void tile(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride, const int8_t *packed,
                     ptrdiff_t depth, const int rows, const int registers)
{
    REGISTER sums[ROWS_OF_TILE][REGISTERS];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < registers; v++) sums[i][v] = ZERO;
    for (ptrdiff_t k = 0; k < depth; k += FGD_INT8_DEPTH) {
        REGISTER w[REGISTERS];
        for (int v = 0; v < registers; v++) w[v] = LOAD(weights(packed, depth, k, v));
        for (int i = 0; i < rows; i++) {
            int32_t codes;
            memcpy(&codes, a + i * a_stride + k, sizeof codes);
            for (int v = 0; v < registers; v++) sums[i][v] = ADD_PRODUCTS(sums[i][v], SPREAD(codes), w[v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < registers; v++) STORE(out + i * stride + v * COLUMNS, sums[i][v]);
}

/* the same for any number of rows up to ROWS_OF_TILE */
FGD_INLINE void any_tile(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride, const int8_t *packed,
                         ptrdiff_t depth, ptrdiff_t rows, const int registers)
{
#define ROWS(n)                                                                                                        \
    case n:                                                                                                            \
        tile(out, stride, a, a_stride, packed, depth, n, registers);                                                   \
        return;
    switch (rows) {
        ROWS(1)
        ROWS(2)
        ROWS(3)
        ROWS(4)
        ROWS(5)
#if defined(__AVX512VNNI__)
        ROWS(6)
        ROWS(7)
        ROWS(8)
#endif
    }
#undef ROWS
}

void JOIN(fgd_int8_product, FGD_OVERLAY)(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride,
                                         const int8_t *packed, ptrdiff_t rows, ptrdiff_t blocks, ptrdiff_t depth);
void JOIN(fgd_int8_product, FGD_OVERLAY)(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride,
                                         const int8_t *packed, ptrdiff_t rows, ptrdiff_t blocks, ptrdiff_t depth)
{
    const ptrdiff_t wide = REGISTERS * COLUMNS / FGD_INT8_COLUMNS; /* blocks of a tile */
    for (ptrdiff_t b = 0; b < blocks; b += wide)
        for (ptrdiff_t i = 0; i < rows; i += ROWS_OF_TILE) {
            int32_t *to = out + i * stride + b * FGD_INT8_COLUMNS;
            const uint8_t *from = a + i * a_stride;
            const int8_t *at = packed + b * FGD_INT8_COLUMNS * depth;
            const ptrdiff_t n = rows - i < ROWS_OF_TILE ? rows - i : ROWS_OF_TILE;
            if (b + wide <= blocks)
                any_tile(to, stride, from, a_stride, at, depth, n, REGISTERS);
            else
                any_tile(to, stride, from, a_stride, at, depth, n, 1);
        }
}
