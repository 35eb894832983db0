/* All rooms, for one dtype. */
#include "lanes.inl.h"
#include "math.inl.h"
#include "reduce.inl.h"
#include "lbfgs.inl.h"
#include "optim.inl.h"
#include "units.inl.h"
#include "step.inl.h"
#include "low.inl.h"
#include "tile.inl.h"
#include "product.inl.h"
#include "muon.inl.h"
#include "loss_rules.h"
#include "activation_rules.h"
#include "linear.inl.h"
#include "rows.inl.h"
#include "softmax.inl.h"
#include "update.inl.h"
#include "sparse.inl.h"
#include "invariant.inl.h"
#include "online.inl.h"
#include "train.inl.h"
#include "full.inl.h"
#include "reduced.inl.h"
#include "interact.inl.h"
#include "quant.inl.h"
#include "faked.inl.h"
#include "layers.inl.h"
#include "mlp.inl.h"

static const fgd_typed_kernels N(kernels) = {
    .prepare = N(prepare),
    .step = N(step),
    .update = N(update_range),
    .sum_squares = N(sum_squares),
    .measure = N(measure_range),
    .adjust = N(adjusts),
    .measure_unit = N(measure_unit),
    .take_matrices = N(take_matrices),
    .fold = N(fold_range),
    .mean = N(mean_range),
    .iteration = N(iterations),
    .direct = N(direct_range),
    .orthonormalize = N(orthonormalize),
    .update_low = N(update_low),
    .measure_low = N(measure_low),
    .squares_low = N(squares_low),
    .finite_low = N(finite_low),
    .train = N(train),
    .scratch_size = N(scratch_size),
    .evaluate = N(evaluate),
    .full_gradient = N(full_gradient),
    .full_scratch = N(full_scratch),
    .column_moments = N(column_moments),
    .gram = N(gram),
    .gram_scratch = N(gram_scratch),
    .factor = N(factor),
    .solve = N(solve),
    .reduce_variance = N(reduce_variance),
    .longest_row = N(longest_row),
    .measure_interactions = N(measure_interactions),
    .interact = N(interact),
    .train_network = N(train_network),
    .network_scratch = N(network_scratch),
    .predict = N(predict_network),
    .predict_scratch = N(predict_scratch),
    .activate = N(activate),
    .all_finite = N(all_finite),
    .sum = N(sum_all),
    .vectors = N(vectors),
    .quantize = N(quantize),
    .scales = N(scales),
};

#undef W
#undef T
#undef N
#undef SQRT
#undef BITS
#undef UBITS
#undef MANTISSA_BITS
#undef MATRIX_PRODUCT
#undef EXPONENT_BIAS
#undef ROUND_SHIFT
#undef ROUND_SHIFT_BITS
#undef EXP_MIN
#undef EXP_MAX
#undef LN2_HIGH
#undef LN2_LOW
#undef LOG1P_TERMS
#undef LOG_TERMS
#undef ROOT_HALF_BITS
#undef FGD_LEAST_SCALE
