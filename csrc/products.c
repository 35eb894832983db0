/* The products of networks, and those that make matrices orthonormal: compiled once per instruction set and dtype like
 * kernels.c, but with contraction of a*b+c, which doubles their speed. A file of its own, as that is a matter of the
 * compiler's flags. Their kernels' table is that of kernels.c. */
#include "fastgd.h"

#include <string.h>

#include "multiply.h"
#include "matrix.h"
#include "tuning.h"

#include "lanes.inl.h" /* its words that do not depend on the dtype */

#define T float
#define N(name) FGD_JOIN(name, f32)
#define MANTISSA_BITS 23
#include "tile.inl.h"
#include "multiply.inl.h"
#undef N

#define N(name) FGD_JOIN(name, fused)
#define FGD_FUSED
#include "tile.inl.h"
#include "product.inl.h"
fgd_product *const fgd_fused_product = N(product);
#undef FGD_FUSED
#undef T
#undef N
#undef MANTISSA_BITS

#define T double
#define N(name) FGD_JOIN(name, f64)
#define MANTISSA_BITS 52
#include "tile.inl.h"
#include "multiply.inl.h"
