/* Everything that is compiled once per instruction set, and within that once per dtype: the file is the list of the
 * rooms. It exports one symbol, the kernel table fgd_kernels_<isa>. */
#include "fastgd.h"

#include <math.h>
#include <string.h>

#include "int8.h"
#include "matrix.h"
#include "parallel.h"
#include "rules.h"
#include "step.h"
#include "tuning.h"

#include "sampler.inl.h"

#include "multiply.h"

#include "lanes.inl.h" /* its words that do not depend on the dtype */

#include "convert.inl.h"

#define T float
#define N(name) FGD_JOIN(name, f32)
#define SQRT sqrtf
#define BITS int32_t
#define UBITS uint32_t
#define MANTISSA_BITS 23
#define MATRIX_PRODUCT fgd_fused_product
#define EXPONENT_BIAS 127
#define ROUND_SHIFT 12582912.0f /* 1.5 * 2^23 */
#define ROUND_SHIFT_BITS 0x4B400000
#define EXP_MIN (-87.0f)
#define EXP_MAX 88.0f
#define LN2_HIGH 0.693359375f
#define LN2_LOW (-2.12194440054690583e-4f)
#define LOG1P_TERMS 7
#define LOG_TERMS 4
#define ROOT_HALF_BITS 0x3F3504F3 /* sqrt(1/2) */
#include "rooms.inl.h"

#define T double
#define N(name) FGD_JOIN(name, f64)
#define SQRT sqrt
#define BITS int64_t
#define UBITS uint64_t
#define MANTISSA_BITS 52
#define MATRIX_PRODUCT product_f64
#define EXPONENT_BIAS 1023
#define ROUND_SHIFT 6755399441055744.0 /* 1.5 * 2^52 */
#define ROUND_SHIFT_BITS 0x4338000000000000
#define EXP_MIN (-708.0)
#define EXP_MAX 709.0
#define LN2_HIGH 6.93147180369123816490e-01
#define LN2_LOW 1.90821492927058770002e-10
#define LOG1P_TERMS 17
#define LOG_TERMS 10
#define ROOT_HALF_BITS 0x3FE6A09E667F3BCD
#include "rooms.inl.h"

#include "int8.inl.h"

#define STRING_(x) #x
#define STRING(x) STRING_(x)
extern const fgd_kernels FGD_JOIN(fgd_kernels, FGD_ISA);
const fgd_kernels FGD_JOIN(fgd_kernels, FGD_ISA) = {
    STRING(FGD_ISA), {&kernels_f32, &kernels_f64}, fgd_int8_product_portable, fgd_int8_rows};
