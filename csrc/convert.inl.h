/* Numbers in memory that are narrower than those computed with: bfloat16, float16 and 8 bits for each element.
 *
 * Plain integer arithmetic, so that the loops vectorise everywhere and round alike on every instruction set.
 * fastgd.reference.formats says the same in Python, and C is held to its bits.
 *
 * Stochastic rounding (Gupta, Agrawal, Gopalakrishnan, Narayanan, "Deep learning with limited numerical precision",
 * ICML 2015, section 3): up with the probability that makes the expectation right. A moving average whose steps are
 * smaller than half a unit in the last place would stand still under rounding to nearest. The randomness is a hash of
 * the element's index, the step and the number of the array, so a run can be repeated to the bit. */
#ifndef FASTGD_CONVERT_H
#define FASTGD_CONVERT_H

typedef union {
    float f;
    uint32_t i;
} fgd_bits;

FGD_INLINE uint32_t fgd_to_bits(float x) { return ((fgd_bits){.f = x}).i; }
FGD_INLINE float fgd_from_bits(uint32_t x) { return ((fgd_bits){.i = x}).f; }

/* `a` if it is true, else `b`. Not by ?:, since compilers move the floating-point arithmetic for `a` behind a branch,
 * and do not vectorise that. */
FGD_INLINE uint32_t fgd_choose(int condition, uint32_t a, uint32_t b)
{
    const uint32_t mask = 0u - (uint32_t)condition;
    return (a & mask) | (b & ~mask);
}

/* ------------------------------------------------------------------------------------------------ randomness
 *
 * Element e of an array gets hash(e % 256) ^ hash(256 + e / 256): the first is worked out once a step and stays in the
 * cache, the second once for 256 elements. */
typedef struct {
    uint32_t before, amid;
} fgd_seed;

/* splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 */
static fgd_seed fgd_seed_of(int64_t step, int array)
{
    uint64_t x = ((uint64_t)step * 8 + (uint64_t)array) * 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (fgd_seed){(uint32_t)x, (uint32_t)(x >> 32)};
}

/* a bijection of 32 bits, with the multipliers of Wellons' "lowbias32" */
FGD_INLINE uint32_t fgd_hash(uint32_t x, fgd_seed seed)
{
    x ^= seed.before;
    x = ((x ^ x >> 16) * 0x7FEB352Du) ^ seed.amid;
    x = (x ^ x >> 15) * 0x846CA68Bu;
    return x ^ x >> 16;
}

/* how many bits of an element are random: as many as a float32 loses */
enum { FGD_RANDOM_BFLOAT16 = 16, FGD_RANDOM_FLOAT16 = 13, FGD_RANDOM_CODE = 20 };

/* the part of the randomness that all groups of 256 elements of an array share */
typedef struct {
    _Alignas(64) uint32_t shared[FGD_CODE_BLOCK];
    fgd_seed seed;
    int bits;
} fgd_noise;

static void fgd_start_noise(fgd_noise *noise, int64_t step, int array, int dtype)
{
    const int bits = dtype == FGD_BFLOAT16  ? FGD_RANDOM_BFLOAT16
                     : dtype == FGD_FLOAT16 ? FGD_RANDOM_FLOAT16
                                            : FGD_RANDOM_CODE;
    const fgd_seed seed = fgd_seed_of(step, array);
    noise->seed = seed, noise->bits = bits;
    for (uint32_t i = 0; i < FGD_CODE_BLOCK; i++) noise->shared[i] = fgd_hash(i, seed) >> (32 - bits);
}

/* the other part, for the group that begins at element `first` */
static uint32_t fgd_noise_at(const fgd_noise *noise, ptrdiff_t first)
{
    return fgd_hash(FGD_CODE_BLOCK + (uint32_t)(first / FGD_CODE_BLOCK), noise->seed) >> (32 - noise->bits);
}

/* the randomness of neighbouring elements of each state, within a group: shared[k][i] ^ other[k] */
typedef struct {
    const uint32_t *shared[FGD_MAX_STATES];
    uint32_t other[FGD_MAX_STATES];
} fgd_randoms;

/* Moves to element `first`, from the elements before it or, at the `start`, from nowhere. */
FGD_INLINE void fgd_move_randoms(fgd_randoms *random, const fgd_noise *noise, const int *wanted, ptrdiff_t first,
                                 int start)
{
    const ptrdiff_t within = first % FGD_CODE_BLOCK;
    for (int k = 0; k < FGD_MAX_STATES; k++) {
        if (!wanted[k]) continue;
        random->shared[k] = noise[k].shared + within;
        if (start || within == 0) random->other[k] = fgd_noise_at(noise + k, first);
    }
}

/* ------------------------------------------------------------------------------------------------ 16 bits */

FGD_INLINE float fgd_from_bfloat16(uint16_t x) { return fgd_from_bits((uint32_t)x << 16); }

/* `add`: what is added to the bits that go, below 2^16; a NaN stays one, and gets its quiet bit if it has none */
FGD_INLINE uint16_t fgd_cut_bfloat16(float x, uint32_t add)
{
    const uint32_t bits = fgd_to_bits(x);
    return (uint16_t)((bits + (x == x ? add : ~bits & 0x400000u)) >> 16);
}

FGD_INLINE uint16_t fgd_to_bfloat16(float x) { return fgd_cut_bfloat16(x, 0x7FFFu + (fgd_to_bits(x) >> 16 & 1)); }

/* Subnormal numbers are multiples of 2^-24, the last place of 0.5; normal ones get their exponent moved by 127 - 15. */
FGD_INLINE float fgd_from_float16(uint16_t x)
{
    const uint32_t sign = (uint32_t)(x & 0x8000) << 16, magnitude = x & 0x7FFF;
    const uint32_t normal = (magnitude << 13) + ((magnitude >= 0x7C00 ? 224u : 112u) << 23);
    const uint32_t subnormal = fgd_to_bits(fgd_from_bits(0x3F000000u + (magnitude & 0x3FF)) - 0.5f);
    return fgd_from_bits(fgd_choose(magnitude < 0x400, subnormal, normal) | sign);
}

/* `add` is below 2^13; `subnormal` is the rounded multiple of 2^-24, for a small x */
FGD_INLINE uint16_t fgd_cut_float16(float x, uint32_t add, uint32_t subnormal)
{
    const uint32_t bits = fgd_to_bits(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    const uint32_t normal = (magnitude + add - (112u << 23)) >> 13;
    const uint32_t limited = normal > 0x7C00u ? 0x7C00u : normal; /* overflows to infinity */
    const uint32_t finite = fgd_choose(magnitude < 113u << 23, subnormal, limited);
    return (uint16_t)(fgd_choose(magnitude > 0x7F800000u, 0x7E00u, finite) | sign);
}

FGD_INLINE uint16_t fgd_to_float16(float x)
{
    const uint32_t magnitude = fgd_to_bits(x) & 0x7FFFFFFFu;
    const uint32_t subnormal = fgd_to_bits(fgd_from_bits(magnitude) + 0.5f) - 0x3F000000u;
    return fgd_cut_float16(x, 0xFFFu + (magnitude >> 13 & 1), subnormal);
}

FGD_INLINE uint16_t fgd_to_float16_stochastic(float x, uint32_t random)
{
    const uint32_t magnitude = fgd_to_bits(x) & 0x7FFFFFFFu, small = fgd_choose(magnitude < 113u << 23, magnitude, 0);
    const uint32_t units = (uint32_t)(int32_t)(fgd_from_bits(small) * 137438953472.0f); /* of 2^-37 */
    return fgd_cut_float16(x, random, (units + random) >> 13);
}

/* A parameter's master copy takes over what somebody has assigned to the parameter: what is not the master's rounded
 * value any more. */
#define FOLLOW(dtype)                                                                                                  \
    static void fgd_follow_##dtype(float *restrict master, const uint16_t *restrict param, ptrdiff_t n)                \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) {                                                                            \
            const uint32_t kept = fgd_to_bits(master[i]), given = fgd_to_bits(fgd_from_##dtype(param[i]));             \
            master[i] = fgd_from_bits(fgd_choose(fgd_to_##dtype(master[i]) == param[i], kept, given));                 \
        }                                                                                                              \
    }
FOLLOW(bfloat16) /* fgd_follow_bfloat16 */
FOLLOW(float16)  /* fgd_follow_float16 */
#undef FOLLOW

/* ------------------------------------------------------------------------------------------------ 8 bits
 *
 * Blocks of FGD_CODE_BLOCK elements share a scale, a power of two just above half of the largest magnitude among them
 * (Dettmers, Lewis, Shleifer, Zettlemoyer, "8-bit optimizers via block-wise quantization", ICLR 2022, section 2; there
 * with a table of 256 values, which here is a small floating-point format). A code is exponent and three bits of the
 * mantissa of a number y between `tiny` and 2.
 *
 * SIGNED8, for averages of gradients: a sign and 16 exponents; y = |x| / scale + tiny, so that what is near zero
 * underflows gradually and zero is zero. UNSIGNED8, for averages of squares: 32 exponents; y = x / scale, and at least
 * tiny, since we divide by it (Li, Chen, Zhu, "Memory efficient optimizers with 4-bit states", NeurIPS 2023, section
 * 4.1). A block of zeros has the scale 0; one with a number that is not finite, or as good as that, is NaN as a whole.
 *
 * In memory: the scales, then the codes of whole blocks, four to a word: that of element 64 j + i of a block is byte j,
 * from the lowest, of its word i. So neighbouring elements are converted by shifts and masks of neighbouring words, on
 * every instruction set, and nothing is moved across a register. What is behind the end is zero. */
enum {
    FGD_CODE_WORDS = FGD_CODE_BLOCK / 4,
    FGD_CODE_SHIFT = 23 - 3,
    FGD_TINY_SIGNED = (127 - 15) << 23,
    FGD_TINY_UNSIGNED = (127 - 31) << 23
};

/* the four elements of word i */
#define FGD_QUARTERS(DO) DO(0) DO(1) DO(2) DO(3)
#define FGD_SHIFT(x, left) ((left) >= 0 ? (x) << ((left) & 31) : (x) >> (-(left) & 31))

FGD_INLINE ptrdiff_t fgd_code_blocks(ptrdiff_t size) { return (size + FGD_CODE_BLOCK - 1) / FGD_CODE_BLOCK; }

/* where the block that begins at element `first` of an array of so many lies */
typedef struct {
    float *scale;
    uint32_t *words;
} fgd_codes;

FGD_INLINE fgd_codes fgd_codes_at(void *array, ptrdiff_t size, ptrdiff_t first)
{
    const ptrdiff_t block = first / FGD_CODE_BLOCK;
    return (fgd_codes){(float *)array + block, (uint32_t *)array + fgd_code_blocks(size) + block * FGD_CODE_WORDS};
}

FGD_INLINE float fgd_decode_signed8(uint32_t word, int j, float scale)
{
    const uint32_t y = (FGD_SHIFT(word, 20 - 8 * j) & 127u << FGD_CODE_SHIFT) | FGD_TINY_SIGNED;
    const float magnitude = (fgd_from_bits(y) - fgd_from_bits(FGD_TINY_SIGNED)) * scale;
    return fgd_from_bits(fgd_to_bits(magnitude) | (FGD_SHIFT(word, 24 - 8 * j) & 0x80000000u));
}

FGD_INLINE float fgd_decode_unsigned8(uint32_t word, int j, float scale)
{
    return fgd_from_bits((FGD_SHIFT(word, 20 - 8 * j) & 255u << FGD_CODE_SHIFT) | FGD_TINY_UNSIGNED) * scale;
}

FGD_INLINE float fgd_decode8(int dtype, uint32_t word, int j, float scale)
{
    return dtype == FGD_SIGNED8 ? fgd_decode_signed8(word, j, scale) : fgd_decode_unsigned8(word, j, scale);
}

FGD_INLINE void fgd_decode_block(float *restrict out, const uint32_t *restrict words, float scale, const int dtype)
{
#define QUARTER(j) out[FGD_CODE_WORDS * j + i] = fgd_decode8(dtype, words[i], j, scale);
    for (ptrdiff_t i = 0; i < FGD_CODE_WORDS; i++) {
        FGD_QUARTERS(QUARTER)
    }
#undef QUARTER
}

/* The largest magnitude, as bits, of numbers whose bits are given. */
static uint32_t fgd_largest(const uint32_t *restrict bits, ptrdiff_t n)
{
    int32_t largest = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const int32_t magnitude = (int32_t)(bits[i] & 0x7FFFFFFFu);
        largest = magnitude > largest ? magnitude : largest;
    }
    return (uint32_t)largest;
}

/* The power of two that a block's magnitudes are divided by, from the bits of the largest; the quotients are below
 * 1.75, so that rounding up has room. */
FGD_INLINE float fgd_scale8(uint32_t largest)
{
    if (largest == 0) return 0;
    const uint32_t exponent = (largest + 0x200000u) >> 23;
    return exponent > 253 ? NAN : fgd_from_bits((exponent < 32 ? 32 : exponent) << 23);
}

/* 1 / scale for a power of two; for the other scales there are, something that encodes zeros */
FGD_INLINE float fgd_inverse8(float scale) { return fgd_from_bits((254u << 23) - (fgd_to_bits(scale) & 0x7F800000u)); }

/* Encode a block. The bits of `tiny` are taken off with what is random: its bits are below theirs. */
static void fgd_encode_signed8(uint32_t *restrict words, const float *restrict x, const uint32_t *restrict shared,
                               uint32_t other, float inverse)
{
    const float tiny = fgd_from_bits(FGD_TINY_SIGNED);
    other |= 0u - FGD_TINY_SIGNED;
    for (ptrdiff_t i = 0; i < FGD_CODE_WORDS; i++) {
        uint32_t word = 0;
#define QUARTER(j)                                                                                                     \
    {                                                                                                                  \
        const uint32_t bits = fgd_to_bits(x[FGD_CODE_WORDS * j + i]);                                                  \
        const uint32_t y = fgd_to_bits(fgd_from_bits(bits & 0x7FFFFFFFu) * inverse + tiny);                            \
        const uint32_t code = y + (shared[FGD_CODE_WORDS * j + i] ^ other);                                            \
        word |= (FGD_SHIFT(code, 8 * j - 20) & 127u << 8 * j) | (FGD_SHIFT(bits, 8 * j - 24) & 128u << 8 * j);         \
    }
        FGD_QUARTERS(QUARTER)
#undef QUARTER
        words[i] = word;
    }
}

static void fgd_encode_unsigned8(uint32_t *restrict words, const float *restrict x, const uint32_t *restrict shared,
                                 uint32_t other, float inverse)
{
    other |= 0u - FGD_TINY_UNSIGNED;
    for (ptrdiff_t i = 0; i < FGD_CODE_WORDS; i++) {
        uint32_t word = 0;
#define QUARTER(j)                                                                                                     \
    {                                                                                                                  \
        const int32_t quotient = (int32_t)fgd_to_bits(x[FGD_CODE_WORDS * j + i] * inverse);                            \
        const uint32_t y = (uint32_t)(quotient > FGD_TINY_UNSIGNED ? quotient : FGD_TINY_UNSIGNED);                    \
        const uint32_t code = y + (shared[FGD_CODE_WORDS * j + i] ^ other);                                            \
        word |= FGD_SHIFT(code, 8 * j - 20) & 255u << 8 * j;                                                           \
    }
        FGD_QUARTERS(QUARTER)
#undef QUARTER
        words[i] = word;
    }
}

/* Puts a block of numbers back, whose scale is there, and goes on to the next. */
FGD_INLINE void fgd_close_codes(fgd_codes *at, const float *x, const fgd_noise *noise, int dtype, ptrdiff_t first)
{
    (dtype == FGD_SIGNED8 ? fgd_encode_signed8 : fgd_encode_unsigned8)(
        at->words, x, noise->shared, fgd_noise_at(noise, first), fgd_inverse8(*at->scale));
    at->scale++, at->words += FGD_CODE_WORDS;
}

#endif
