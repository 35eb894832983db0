/* All rooms, for one dtype. */
#include "lanes.inl.h"
#include "math.inl.h"
#include "reduce.inl.h"
#include "lbfgs.inl.h"
#include "optim.inl.h"
#include "units.inl.h"
#include "step.inl.h"
#include "low.inl.h"
#include "loss_rules.h"
#include "linear.inl.h"
#include "train.inl.h"

static const fgd_typed_kernels N(kernels) = {
    N(prepare),      N(step),         N(update_range),  N(sum_squares), N(measure_range),
    N(adjusts),      N(measure_unit), N(take_matrices), N(fold_range),  N(mean_range),
    N(update_low),   N(measure_low),  N(squares_low),   N(finite_low),  N(train),
    N(scratch_size), N(evaluate),     N(all_finite),    N(sum_all),     N(vectors),
};

#undef W
#undef T
#undef N
#undef SQRT
#undef BITS
#undef UBITS
#undef MANTISSA_BITS
#undef EXPONENT_BIAS
#undef ROUND_SHIFT
#undef ROUND_SHIFT_BITS
#undef EXP_MIN
#undef EXP_MAX
#undef LN2_HIGH
#undef LN2_LOW
#undef LOG1P_TERMS
