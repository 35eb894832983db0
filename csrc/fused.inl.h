/* sum + a * b in float32, rounded once, on every instruction set, for a register of tile.inl.h.
 *
 * Where the processor does that in one instruction, the compiler writes it for the plain expression, as products.c is
 * compiled with contraction. x86-64-v2 does not: there it is formed in float64, in which the product is exact. That
 * rounds twice, first the sum, then the result; the bits are the same, but where the sum seems to lie halfway between
 * two results, or is below the normal ones. There it is rounded to odd. (Boldo & Melquiond, "Emulation of FMA and
 * correctly rounded sums: proved algorithms using rounding to odd", IEEE Trans. Computers 57(4), 2008; the error of the
 * sum: Knuth's TwoSum.) A compiler that does not contract forms the plain sum, on all of its instruction sets. */
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__FMA__)

typedef double N(wide) __attribute__((vector_size(16)));
typedef int64_t N(wide_bits) __attribute__((vector_size(16)));

/* all ones where s may be rounded to a neighbour of what a * b + c, of which it is the sum, is rounded to */
FGD_INLINE N(wide_bits) N(is_doubtful)(N(wide) s)
{
    const N(wide_bits) bits = (N(wide_bits))s;
    const N(wide) size = (N(wide))(bits & INT64_MAX);
    return ((bits & 0x1fffffff) == 0x10000000) | ((size < 0x1p-126) & (size > 0));
}

/* product + c, rounded to odd */
static __attribute__((noinline)) N(wide) N(odd_sum)(N(wide) product, N(wide) c)
{
    const N(wide) s = product + c, back = s - product;
    const N(wide) error = (product - (s - back)) + (c - back); /* a NaN's or an infinity's is neither above nor below */
    const N(wide_bits) above = error > 0, inexact = above | (error < 0);
    const N(wide_bits) even = ((N(wide_bits))s & 1) - 1, outwards = (above ^ (s > 0)) | 1; /* 1 or -1 */
    return (N(wide))((N(wide_bits))s + (inexact & even & outwards));
}

FGD_INLINE N(vector) N(fused)(T a, N(vector) b, N(vector) sum)
{
    const N(wide) p0 = (double)a * (N(wide)){b[0], b[1]}, p1 = (double)a * (N(wide)){b[2], b[3]};
    const N(wide) c0 = {sum[0], sum[1]}, c1 = {sum[2], sum[3]};
    N(wide) s0 = p0 + c0, s1 = p1 + c1;
    const N(wide_bits) doubt = N(is_doubtful)(s0) | N(is_doubtful)(s1);
    if (__builtin_expect((doubt[0] | doubt[1]) != 0, 0)) s0 = N(odd_sum)(p0, c0), s1 = N(odd_sum)(p1, c1);
    return (N(vector)){(T)s0[0], (T)s0[1], (T)s1[0], (T)s1[1]};
}

#define FGD_SUM_OF(a, b, sum) N(fused)(a, b, sum)
#else
#define FGD_SUM_OF(a, b, sum) ((sum) + (a) * (b))
#endif
