/* lanes: 64 bytes of T, the one vector of this library, the same width on every instruction set.
 *
 * Sums keep one partial sum per lane and add the lanes as a fixed tree, so a result has the same bits whether a lane
 * sits in a 128-, 256- or 512-bit register. Compilers without vector types get plain arrays: same bits, less speed. */
#ifndef FASTGD_LANES_H
#define FASTGD_LANES_H

#if defined(_MSC_VER)
#define FGD_INLINE static __forceinline
#else
#define FGD_INLINE static inline __attribute__((always_inline))
#endif

/* Into the second-level cache, which waits for more lines of memory at a time than the first: on Zen 4 rows come in
 * twice as fast. What the first level still misses then, a processor hides by itself. */
#if defined(__GNUC__)
#define FGD_PREFETCH(p) __builtin_prefetch((p), 0, 2)
#else
#define FGD_PREFETCH(p) ((void)(p))
#endif

/* Keeps a loop from being made one over vectors, where gathering their lanes takes longer than it saves. */
#if defined(__GNUC__)
#define FGD_ONE_BY_ONE __asm__ volatile("")
#else
#define FGD_ONE_BY_ONE ((void)0)
#endif

/* 256-bit registers with AVX-512, too: NumPy's large arrays start 16 bytes behind a cache line, where every 512-bit
 * load touches two lines, and every second 256-bit load (measured, 100,000 x 784: 10 ms an epoch against 16). */
#if defined(__AVX__)
#define FGD_REGISTER 32
#else
#define FGD_REGISTER 16
#endif

#endif

#ifdef T

#define W ((ptrdiff_t)(FGD_LANE_BYTES / sizeof(T))) /* lanes in a vector */

#if defined(__GNUC__)
typedef T N(reg) __attribute__((vector_size(FGD_REGISTER)));
typedef T N(reg_unaligned) __attribute__((vector_size(FGD_REGISTER), aligned(sizeof(T)), may_alias));
#define FGD_REGS (FGD_LANE_BYTES / FGD_REGISTER)
#define FGD_PER_REG (FGD_REGISTER / sizeof(T))
#define FGD_LOAD(p) (*(const N(reg_unaligned) *)(p))
#define FGD_STORE(p, v) (*(N(reg_unaligned) *)(p) = (v))
#else
typedef T N(reg);
#define FGD_REGS (FGD_LANE_BYTES / sizeof(T))
#define FGD_PER_REG 1
#define FGD_LOAD(p) (*(p))
#define FGD_STORE(p, v) (*(p) = (v))
#endif

typedef struct {
    N(reg) r[FGD_REGS];
} N(lanes);

FGD_INLINE N(lanes) N(load)(const T *p)
{
    N(lanes) a;
    for (size_t k = 0; k < FGD_REGS; k++) a.r[k] = FGD_LOAD(p + k * FGD_PER_REG);
    return a;
}

FGD_INLINE void N(store)(T *p, N(lanes) a)
{
    for (size_t k = 0; k < FGD_REGS; k++) FGD_STORE(p + k * FGD_PER_REG, a.r[k]);
}

FGD_INLINE N(lanes) N(zero)(void)
{
    N(lanes) a = {{{0}}};
    return a;
}

FGD_INLINE N(lanes) N(add)(N(lanes) a, N(lanes) b)
{
    for (size_t k = 0; k < FGD_REGS; k++) a.r[k] += b.r[k];
    return a;
}

FGD_INLINE N(lanes) N(mul)(N(lanes) a, N(lanes) b)
{
    for (size_t k = 0; k < FGD_REGS; k++) a.r[k] *= b.r[k];
    return a;
}

FGD_INLINE N(lanes) N(scale)(N(lanes) a, T s)
{
    for (size_t k = 0; k < FGD_REGS; k++) a.r[k] *= s;
    return a;
}

/* lane k + lane k + W/2, and so on down to one */
FGD_INLINE T N(sum)(N(lanes) a)
{
    for (size_t half = FGD_REGS / 2; half; half /= 2)
        for (size_t k = 0; k < half; k++) a.r[k] += a.r[k + half];
    T t[FGD_PER_REG];
    FGD_STORE(t, a.r[0]);
    for (size_t half = FGD_PER_REG / 2; half; half /= 2)
        for (size_t k = 0; k < half; k++) t[k] += t[k + half];
    return t[0];
}

#undef FGD_REGS
#undef FGD_PER_REG
#undef FGD_LOAD
#undef FGD_STORE

#endif
