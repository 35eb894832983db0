/* fastgd: the whole C API, and the only header that Cython sees.
 *
 * Data flows one way: Python -> Cython -> C. Functions here get pointers that the caller has checked, allocate
 * nothing, never call back, and return an fgd_status. Outputs come first, inputs next, sizes last.
 *
 * What is compiled once per instruction set is reached through one table, fgd_kernels; fgd_use() chooses it. */
#ifndef FASTGD_H
#define FASTGD_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    FGD_OK = 0,
    FGD_DIVERGED = 1,  /* a prediction, loss or weight stopped being finite */
    FGD_NOT_FINITE = 2 /* a gradient is not finite; nothing was changed */
} fgd_status;

/* what is computed with, and what numbers may be kept in besides (convert.inl.h) */
typedef enum {
    FGD_FLOAT32 = 0,
    FGD_FLOAT64 = 1,
    FGD_DTYPES = 2,
    FGD_BFLOAT16 = 2,
    FGD_FLOAT16 = 3,
    FGD_SIGNED8 = 4,
    FGD_UNSIGNED8 = 5
} fgd_dtype;

enum { FGD_CODE_BLOCK = 256 }; /* elements of an array of 8-bit codes that share a scale */

/* ---------------------------------------------------------------------------------------------- info tables */

typedef enum {
    FGD_NONNEGATIVE = 0,   /* 0 <= value          */
    FGD_UNIT = 1,          /* 0 <= value < 1      */
    FGD_FLAG = 2,          /* false or true       */
    FGD_REAL = 3,          /* any finite number   */
    FGD_ABOVE_ONE = 4,     /* 1 < value           */
    FGD_POSITIVE = 5,      /* 0 < value           */
    FGD_INSIDE_UNIT = 6,   /* 0 < value < 1       */
    FGD_OPTIONAL_UNIT = 7, /* none, which is NaN here, or 0 <= value < 1 */
    FGD_OPTIONAL = 8,      /* none, or 0 <= value */
    FGD_NONPOSITIVE = 9,   /* value <= 0          */
    FGD_AT_LEAST_ONE = 10, /* 1 <= value          */
    FGD_COUNT = 11,        /* 0, 1, 2, ... 99     */
    FGD_ADJUST_LR = 12     /* 0, 1 or 2, for torch's None, "original" and "match_rms_adamw" */
} fgd_domain;

typedef struct {
    const char *name;
    double value; /* the default */
    int domain;   /* fgd_domain */
} fgd_hyper_info;

typedef struct {
    const char *name;
    /* when the state exists: "always", while this hyper-parameter is not zero, or, by the parameter's shape: "vector",
     * an array like it if it has less than two axes; "rows" and "columns", else, a number for each row or column of its
     * matrices, the last two axes */
    const char *kept_if;
} fgd_state_info;

enum { FGD_MAX_STATES = 4, FGD_MAX_KEPT = 4, FGD_MAX_HYPERS = 16 };

typedef enum {
    FGD_ELEMENTWISE = 0, /* each element by itself */
    FGD_CODED = 1,       /* each element by itself, and the states may have 8 bits */
    FGD_LAYERWISE = 2,   /* the step depends on two measures of the whole tensor */
    FGD_LISTWISE = 3,    /* the step depends on two measures of all tensors together, and so does what is kept */
    FGD_FACTORED = 4,    /* LAYERWISE, and of a matrix's second moments only those of rows and columns are kept */
    FGD_MATRIX = 5,      /* the tensor is a matrix, which is made orthonormal */
    FGD_HYBRID = 6,      /* the same if it is one, else each element by itself */
    FGD_ONLINE = 7       /* no optimizer: it sees the rows of a linear model one by one */
} fgd_kind;

enum { FGD_ORTHONORMAL = FGD_MAX_STATES - 1 }; /* where such a rule finds the result: in place of a state */

/* How a matrix is made orthonormal: X <- X / (max(|X|, floor) + added), then `steps` times X <- (a + b XX' + c XX'XX')
 * X.
 */
typedef struct {
    double a, b, c, floor, added;
    int steps, wanted;
} fgd_iteration;

typedef struct {
    const char *name;
    int kind; /* fgd_kind */
    int n_states;
    fgd_state_info states[FGD_MAX_STATES];
    int n_kept;
    const char *kept[FGD_MAX_KEPT]; /* numbers that are carried from step to step */
    int n_hypers;
    fgd_hyper_info hypers[FGD_MAX_HYPERS];
} fgd_rule_info;

typedef struct {
    const char *name;
    const char *task;         /* "classification", "regression" or "both" */
    fgd_hyper_info parameter; /* the loss's own; its name is "" if it has none */
    const char *targets;      /* "sign", "real", "nonnegative", "positive" or "power" */
    const char *link;         /* "identity", "log" or "logit" */
    int bounded;              /* is the derivative? */
} fgd_loss_info;              /* what the words mean stands in loss_rules.h */

typedef struct {
    const char *name;
    fgd_hyper_info parameter; /* the activation's own; its name is "" if it has none */
} fgd_activation_info;

extern const fgd_rule_info fgd_rules[];
extern const int fgd_n_rules;
extern const fgd_loss_info fgd_losses[];
extern const int fgd_n_losses;
extern const fgd_activation_info fgd_activations[];
extern const int fgd_n_activations;

/* ------------------------------------------------------------------------------------------------ optimizers */

enum { FGD_VECTOR = 0, FGD_ROWS = 1, FGD_COLUMNS = 2 }; /* the states of a rule of kind FACTORED */

/* A function of whatever type. */
typedef void (*fgd_function)(void);

/* A rule and its hyper-parameters. A rule of the user's own has no row, but for each dtype T, or NULL, a
 * void (*)(T *param, const T *grad, T *const *states, const double *hypers, int64_t t, ptrdiff_t n),
 * which does step t (from 1 on) of n elements, each by itself. */
typedef struct {
    int rule; /* -1: the user's own */
    fgd_function own[FGD_DTYPES];
    double hypers[FGD_MAX_HYPERS];
    double lower, upper; /* of the parameters' elements; infinities: any */
    int averages_wait;   /* for a projection of each tensor as a whole, which is the caller's: fgd_average() */
} fgd_group;

/* One parameter tensor, flattened: `size` elements each. */
typedef struct {
    void *param;
    void *grad;           /* written to only if the gradients are to be zeroed; NULL: the tensor rests */
    const int64_t *index; /* of n_index rows of `row` elements, ascending: `grad` holds those alone; NULL: all */
    ptrdiff_t n_index, row;
    void *state[FGD_MAX_STATES]; /* NULL: not kept */
    void *slow;                  /* the slow weights of look-ahead, NULL without it */
    void *average;               /* of the parameter, NULL if none is wanted */
    ptrdiff_t size;
    /* the elements i with the same i / unit_stride % n_units share the first index; of 0 or 1 dimension all are one */
    int n_dims;
    ptrdiff_t n_units, unit_stride;
    ptrdiff_t rows, columns; /* for a rule of kind FACTORED: of each of the matrices that it is; 0: it is a vector */
    int dtype, group;        /* the dtype that is computed with */
    int low;                 /* is any part kept in fewer bits? Then the dtypes of the parts are these: */
    int param_dtype, grad_dtype, state_dtype[FGD_MAX_STATES];
    void *master;       /* of a 16-bit parameter, `dtype`; NULL: it is all there is, and rounded stochastically */
    ptrdiff_t outer;    /* for MATRIX and HYBRID: rows, if all dimensions but the first are one; 0: it has one, */
    ptrdiff_t sides[2]; /* its last two dimensions, */
    int turned;         /* and whether the matrix lies in memory column by column */
    int64_t t, since;   /* steps done; those that were done when the states were made */
    double kept[FGD_MAX_KEPT];
    /* of the step that is going on: its plan, what its rule has measured, shift and factor of each unit */
    ptrdiff_t plan;
    double measured[3]; /* with the number of elements */
    double *by_unit;
    double *means; /* of each matrix: the mean of what is kept of its rows */
} fgd_tensor;

/* What a rule's formula needs of a step. */
typedef union {
    double align;
    char bytes[16 * sizeof(double)];
} fgd_coef;

/* One step of the tensors that share group, dtype, steps done and what is kept: worked out once. */
typedef struct {
    const fgd_tensor *like;
    int rule, kind;
    int pauses[FGD_MAX_STATES]; /* its hyper-parameter is zero now: neither read nor written to */
    fgd_iteration iteration;    /* wanted, if matrices are to be made orthonormal */
    fgd_coef coef;
    fgd_coef fold;                 /* for the moments of rows and columns */
    double kept[FGD_MAX_KEPT + 1]; /* afterwards */
    fgd_function own;              /* what does the step, with the following, in the place of a rule of ours; or NULL */
    const double *hypers;
    int64_t t;
    double lower, upper;
    int bounded, averages_wait;
} fgd_plan;

static inline int fgd_is_layerwise(const fgd_plan *plan)
{
    return plan->kind == FGD_LAYERWISE || plan->kind == FGD_FACTORED;
}

typedef struct {
    double grad_scale;     /* the gradients are this many times too large */
    double max_norm;       /* of all gradients together; infinity: any */
    double agc;            /* of each unit's gradient for each unit of its parameter's norm; infinity: any */
    double clip_value;     /* of each gradient's element; infinity: any */
    double slow_weight;    /* slow += slow_weight * (param - slow), param = slow, */
    int looks_ahead;       /* if this is such a step */
    double average_weight; /* average += average_weight * (param - average) */
    int guard;             /* refuse gradients that are not finite */
    int norms;             /* report norms that are not needed otherwise, too */
    int centralize;        /* take the mean of each unit from its gradient */
    int zero_grads;
    int64_t step; /* how many there were before: what stochastic rounding starts from */
} fgd_options;

typedef struct {
    double grad_norm, clip_factor, update_norm; /* NaN: not worked out */
    ptrdiff_t failed;                           /* the first tensor whose gradient is not finite, or -1 */
} fgd_report;

/* What one pass over a tensor's elements does beside the rule. */
typedef struct {
    double factor, agc, clip_value, slow_weight, average_weight;
    int changes_grad, units, centralize, looks_ahead, zero_grads, norms;
    int64_t step;
} fgd_pass;

/* Does a pass over a tensor whose gradient has some rows reach all of its elements? */
static inline int fgd_needs_all(const fgd_tensor *t, const fgd_pass *pass)
{
    return (t->average && pass->average_weight != 0) || (t->slow && pass->looks_ahead);
}

/* ------------------------------------------------------------------------------- vectors, and L-BFGS over them */

typedef enum {
    FGD_DOT = 0,        /* x . z                                                */
    FGD_MAGNITUDES = 1, /* max |x|, sum |x|; the sum is NaN if any element is   */
    FGD_MOVE = 2,       /* out = x + a z                                        */
    FGD_PAIR = 3,       /* out = a x, out2 = z - z2; out2 . out, out2 . out2    */
    FGD_NEGATE = 4,     /* out = -x; out . z                                    */
    FGD_ADVANCE = 5     /* out = scale (out + a x); out . z                     */
} fgd_vector_op;

/* One pass over vectors of one length: what is done, and with what. No output may overlap anything. */
typedef struct {
    int op; /* fgd_vector_op */
    void *out, *out2;
    const void *x, *z, *z2;
    double a, scale;
} fgd_vectors;

/* The last m pairs of L-BFGS, oldest first: steps s = x_{k+1} - x_k and changes of the gradient y, in slots that are
 * `stride` bytes apart, and ro = 1 / (y . s). */
typedef struct {
    const void *steps, *changes;
    ptrdiff_t stride;
    const ptrdiff_t *slots;
    const double *ro;
    int m;
} fgd_history;
typedef struct fgd_mate fgd_mate; /* a thread at work on a matrix: matrix.h */

/* ---------------------------------------------------------------------------------------------- linear models */

/* The examples: X is (n_rows, n_features), C-contiguous; y and sample_weight (NULL: all one) are (n_rows,).
 * Of a sparse matrix (CSR) X holds the values, indptr is (n_rows + 1,) and indices is (nnz,), both int64 if `wide`,
 * else int32: row i has the values and columns at [indptr[i], indptr[i + 1]), in any order, and those of a column that
 * stands there twice add up. A column's feature is number column & mask: with hashing the mask is n_features - 1, a
 * power of two less one, and columns may have any number; else it is -1. indptr is NULL if X is dense. Rows are visited
 * block by block: order is (n_blocks,), a permutation of the blocks of `block` neighbouring rows (the last block may be
 * shorter); in blocks of one row, some may be missing. */
typedef struct {
    const void *X, *y, *sample_weight;
    const void *indptr, *indices;
    int wide;
    ptrdiff_t mask, n_rows, n_features;
    const int64_t *order;
    ptrdiff_t n_blocks, block;
} fgd_rows;

/* how many rows the order visits */
static inline ptrdiff_t fgd_n_visited(const fgd_rows *rows) { return rows->block == 1 ? rows->n_blocks : rows->n_rows; }

/* Which products of a row's values are features, too: of each pair of ranges of columns, [0, 1) and [2, 3), those of a
 * value in the one with a value in the other. */
typedef struct {
    const int64_t *ranges; /* (n_pairs, 4) */
    ptrdiff_t n_pairs;
} fgd_interactions;

/* Rows with their interactions, as a CSR matrix with indices of 64 bits, and which rows they are. */
typedef struct {
    int64_t *visited, *indptr, *indices;
    void *values;
} fgd_interacted;

enum { FGD_ROWS_KEPT = 6 };

/* A stretch of an epoch: the updates that use the rows at positions [start, stop) of the order. */
typedef struct {
    ptrdiff_t outputs; /* 1; or the classes of a softmax, whose numbers are y: n_features weights of each, then an
                        * intercept of each, and no other loss */
    int loss;          /* row of fgd_losses */
    double loss_parameter;
    double alpha; /* L2 penalty: alpha / 2 * ||w||^2 on the weights, not on the intercept */
    int fit_intercept;
    int rule; /* row of fgd_rules */
    const double *hypers;
    const double *lr; /* one learning rate for each update of this stretch */
    double *kept; /* carried from update to update: FGD_MAX_KEPT + 1 numbers by the rule, FGD_ROWS_KEPT row by row */
    int64_t t;    /* updates done before this stretch */
    ptrdiff_t batch_size, start, stop;
    double one_class; /* of one output: the objective has one_class * intercept, too */
    /* The following is for plain sgd row by row. */
    double l1;              /* L1 penalty: l1 * ||w||_1, */
    double *l1_state;       /* what each weight has got of it so far, then the most that it may; NULL without it */
    void *average;          /* of the parameters after each update, */
    int64_t average_from;   /* from this one on, counted from 1; NULL: not wanted */
    int aggressive;         /* 1, 2: PA-I and PA-II instead of the gradient, with lr the aggressiveness */
    double intercept_decay; /* what is added to the intercept is multiplied by this */
    double *penalties; /* gets what scikit-learn's objective, whose rows all count one, has beside *loss_sum; NULL: not
                          wanted */
    /* The following is for batches, also of one row. */
    int positive; /* weights below zero become zero, at first and after each update */
    double group; /* for plain sgd, penalty on the groups of features g, with all outputs: group * sqrt(|g|) ||w_g||, */
    const int64_t *members, *offsets; /* (n_features,) their features, a group after the other; (n_groups + 1,) where
                                       * each begins there */
    ptrdiff_t n_groups;
} fgd_stretch;

/* A linear model, of which loss and gradient over all rows are wanted. One with several outputs has softmax's
 * cross-entropy for its loss, and y is the number of the output that is right. */
typedef struct {
    int loss; /* row of fgd_losses */
    double loss_parameter;
    ptrdiff_t n_outputs;
    const void *weights; /* (n_outputs, n_features + 1): an intercept follows the weights of each */
    void *predictions;   /* (n_outputs, n_rows), or NULL: written to */
} fgd_point;

typedef enum { FGD_SAG = 0, FGD_SAGA = 1, FGD_SVRG = 2 } fgd_reduced;

/* Steps of single rows whose variance is reduced (reduced.inl.h). Weights and means are (n_features + 1, n_outputs),
 * the intercepts last; a row's gradient counts 1 / total in the mean, and scale times in a step. */
typedef struct {
    int kind; /* fgd_reduced */
    int loss;
    double loss_parameter;
    ptrdiff_t n_outputs;
    int fit_intercept;
    double step, l2, l1, total, scale;
    double *w, *mean, *memory; /* memory: (n_rows, n_outputs) */
    const int64_t *order;      /* (n_steps,) rows */
    ptrdiff_t n_steps;
    int64_t *since;    /* (n_features,) zeros, before and after: of sparse rows, the steps that a column has had */
    double *sums;      /* (n_outputs,) scratch */
    void *scratch;     /* n_outputs * FGD_CLASS_ROWS elements, finite */
    const void *zeros; /* (n_outputs,) */
} fgd_reduction;

/* ---------------------------------------------------------------------------------------------- quantisation */

/* How the elements of an array are quantised. Element i is of channel i / stride % n_channels. */
typedef struct {
    const void *scale, *zero; /* the dtype of the array; (n_channels,); each zero one of the codes */
    ptrdiff_t n_channels, stride;
    int qmin, qmax; /* the first and the last code; less than 2^20 apart, and from 0 */
} fgd_quantizer;

typedef enum {
    FGD_FAKE = 0,     /* out = x, fake quantised                                              */
    FGD_STRAIGHT = 1, /* out = its gradient, straight-through: grad, or 0 where x was clamped */
    FGD_ENCODE = 2,   /* out = the codes of x, 8 bits each                                    */
    FGD_DECODE = 3,   /* out = what the codes x stand for                                     */
    FGD_LEARN = 4,    /* STRAIGHT; of each channel, the gradients of scale and zero point     */
    FGD_RANGE = 5     /* of each channel, the least and the largest number                    */
} fgd_quantize_op;

/* One pass over an array: what is done, and with what. */
typedef struct {
    int op; /* fgd_quantize_op */
    void *out;
    const void *x, *grad;
    const fgd_quantizer *quantizer;
} fgd_quantize_pass;

enum { FGD_INT8_COLUMNS = 16, FGD_INT8_DEPTH = 4 }; /* of packed weights: int8.inl.h */

/* out (rows, blocks * FGD_INT8_COLUMNS), `stride` numbers apart, = the products of uint8 a (rows, depth), `a_stride`
 * apart, and packed weights; depth is a multiple of FGD_INT8_DEPTH. */
typedef void (*fgd_int8_product)(int32_t *out, ptrdiff_t stride, const uint8_t *a, ptrdiff_t a_stride,
                                 const int8_t *packed, ptrdiff_t rows, ptrdiff_t blocks, ptrdiff_t depth);

/* One layer: codes of its input, their products with weights, and what becomes of those, by column. */
typedef struct {
    const int8_t *weight;                   /* packed */
    const int32_t *constant, *weight_zero;  /* (n_outputs,); of weights without zero points NULL */
    const float *scale, *bias;              /* (n_outputs,): of the products, and what comes to them */
    const float *gamma, *beta;              /* (n_outputs,): of a layer norm, or NULL */
    float input_scale, input_zero, epsilon; /* of the norm */
    int input_max;                          /* the last code */
    ptrdiff_t n_inputs, n_outputs;
    int activation, skip;
    double parameter; /* the activation's */
} fgd_int8_layer;

/* ---------------------------------------------------------------------------------------------------- networks */

typedef enum { FGD_NO_NORM = 0, FGD_BATCH_NORM = 1, FGD_LAYER_NORM = 2 } fgd_norm;
typedef enum {
    FGD_WEIGHT = 0,
    FGD_BIAS = 1,
    FGD_GAMMA = 2,
    FGD_BETA = 3,
    FGD_WEIGHT_SCALE = 4, /* where scales are learned */
    FGD_INPUT_SCALE = 5,
    FGD_LAYER_PARAMS = 6
} fgd_layer_param;

/* A layer that is trained to be quantised: it sees W and its input x fake quantised. Scales that are not learned follow
 * the ranges: that of W as it is, and moving averages of that of x. */
enum { FGD_OF_WEIGHT = 0, FGD_OF_INPUT = 1, FGD_FAKED = 2 };
typedef struct {
    fgd_quantizer quantizer[FGD_FAKED]; /* scale and zero are those below */
    void *scale[FGD_FAKED], *zero[FGD_FAKED];
    int symmetric[FGD_FAKED];
    double factor[FGD_FAKED]; /* of the gradients of scales */
    double *range;            /* (2,): of x */
    double averaging;         /* weight of the latest batch; 0: the range stays */
    void *weights;            /* (inputs, outputs): what the codes of W stand for, worked out for each batch */
} fgd_faking;

/* z = x W + b -> norm -> activation -> dropout -> + x if it skips. W is (inputs, outputs), all else (outputs,). */
typedef struct {
    ptrdiff_t inputs, outputs;
    int activation; /* row of fgd_activations */
    double parameter;
    int norm; /* fgd_norm */
    int skip;
    double dropout;                 /* probability that an output becomes zero */
    void *params[FGD_LAYER_PARAMS]; /* NULL: it has none */
    void *grads[FGD_LAYER_PARAMS];
    int trained[FGD_LAYER_PARAMS]; /* its number among the optimizer's tensors; -1: it rests */
    void *running_mean, *running_var;
    fgd_faking *faking; /* NULL: it sees them as they are */
} fgd_layer;

/* the losses of networks that are no row of fgd_losses: softmax over the outputs, whose y is the number of the one that
 * is right; and of each output by itself the logistic loss of y from 0 to 1 */
enum { FGD_SOFTMAX = -1, FGD_SIGMOID = -2 };
typedef enum { FGD_LINK_IDENTITY = 0, FGD_LINK_LOG = 1, FGD_LINK_LOGIT = 2, FGD_LINK_SOFTMAX = 3 } fgd_link;

typedef struct {
    const fgd_layer *layers;
    int n_layers, loss; /* row of fgd_losses, or one of the above */
    double loss_parameter, label_smoothing;
    int training;  /* do norms take the batch's statistics, and does dropout drop? */
    uint64_t seed; /* of dropout, */
    int64_t pass;  /* with how many batches have been passed through before */
} fgd_network;

/* The batches of a call: the rows at positions [start, stop) of an order, which is of rows; NULL: in the order of X. y
 * has as many numbers for each row as the network has outputs; with FGD_SOFTMAX one. The objective is the mean of the
 * weighted losses, plus alpha / 2 times the sum of squares of all W, divided by the sum of the weights. A batch without
 * batch norm may also be passed in parts, without an optimizer: then `whole` is the sum of all its weights, and all
 * parts but the first add to the gradients, and have no penalty. */
typedef struct {
    const void *X, *y, *sample_weight;
    const void *indptr, *indices; /* as of fgd_rows */
    int wide;
    const int64_t *order;
    ptrdiff_t n_rows, most_values; /* of a sparse matrix: that a batch can have */
    ptrdiff_t batch_size, start, stop;
    double alpha;
    double whole; /* 0: the batches are whole */
    int adds;
} fgd_batches;

/* The optimizer that takes a step after each batch. Its tensors are of the network's parameters and gradients. */
typedef struct {
    fgd_report *report;
    fgd_tensor *tensors;
    fgd_plan *plans;
    double *sums;
    void *room;
    fgd_group *groups;
    fgd_options *options;
    ptrdiff_t n_tensors, n_groups;
    const double *hypers;          /* of each step and group FGD_MAX_HYPERS; NULL: always those of the groups, */
    const double *average_weights; /* and of each step */
    int64_t t, period;             /* steps taken before; between those that look ahead, 0 for never */
    int skips;                     /* a batch whose gradient is not finite; else it ends the call */
    ptrdiff_t n_steps, n_skipped;  /* of this call */
} fgd_descent;

/* ------------------------------------------------------------------------------------------------ the kernels */

typedef struct {
    /* optimizers, by rule */
    void (*const *prepare)(fgd_coef *coef, double *kept, const double *hypers, int64_t t, int first);
    void (*const *step)(const fgd_coef *coef, void *param, const void *grad, void *const *state, ptrdiff_t n);
    /* the elements [first, first + n) of a tensor, or of its gradient if only that is reached; gives the square of the
     * norm of their update, if that is wanted */
    double (*update)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                     ptrdiff_t n);
    double (*sum_squares)(const void *x, ptrdiff_t n);
    /* for a rule that measures: its two measures of the elements [first, first + n), and what their sums mean */
    void (*measure)(double *measured, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                    ptrdiff_t first, ptrdiff_t n);
    void (*const *adjust)(fgd_coef *coef, double *kept, const double *measured);
    /* what centralisation and adaptive clipping do to a unit of a tensor's gradient */
    void (*measure_unit)(double *shift_and_factor, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t unit);
    /* for a rule of kind FACTORED: the same plan for matrices; the new moments of the rows and columns that begin in
     * the elements [first, first + n), every column as if the matrices lay transposed; the means of their rows */
    void (*const *take_matrices)(fgd_coef *coef);
    void (*fold)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first, ptrdiff_t n);
    void (*mean)(const fgd_tensor *tensor, ptrdiff_t first, ptrdiff_t n);
    /* for a rule of kind MATRIX or HYBRID: how it makes matrices orthonormal; what it makes so, for the elements
     * [first, first + n), which moves its first state on; and that matrix, which lies on the mate's desk, orthonormal:
     * gives where it is then */
    fgd_iteration (*const *iteration)(const double *hypers);
    void (*direct)(void *x, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                   ptrdiff_t n);
    const void *(*orthonormalize)(fgd_mate *mate, const fgd_tensor *tensor, const fgd_iteration *iteration);

    /* the same of tensors that are `low`, and of their gradients: sum of squares; are they finite? */
    double (*update_low)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                         ptrdiff_t n);
    void (*measure_low)(double *measured, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                        ptrdiff_t first, ptrdiff_t n);
    double (*squares_low)(const fgd_tensor *tensor, ptrdiff_t first, ptrdiff_t n);
    int (*finite_low)(const fgd_tensor *tensor);
    /* Trains `params` (n_features weights, then the intercept; of each output) and `state` in place; adds the rows'
     * losses to *loss_sum; on FGD_DIVERGED *failed is the position of the row, or the end of the batch, where it
     * showed. scratch holds scratch_size() bytes, aligned to 64. */
    fgd_status (*train)(void *params, void *const *state, double *loss_sum, ptrdiff_t *failed, void *scratch,
                        const fgd_rows *rows, const fgd_stretch *stretch, int threads);
    size_t (*scratch_size)(const fgd_rows *rows, ptrdiff_t outputs, ptrdiff_t batch_size);
    /* a loss and its derivative, one by one */
    void (*evaluate)(void *value, void *derivative, const void *y, const void *prediction, int loss,
                     double loss_parameter, ptrdiff_t n);
    /* The sum of all rows' losses, and its gradient, (n_outputs, n_features + 1); not finite if a prediction is not.
     * scratch holds full_scratch() bytes, aligned to 64. */
    double (*full_gradient)(double *gradient, void *scratch, const fgd_rows *rows, const fgd_point *point, int threads);
    size_t (*full_scratch)(const fgd_rows *rows, ptrdiff_t n_outputs);
    /* weighted sums over all rows: of each column and of its squares, (n_features, 2); of dense rows, of the products
     * of each two, the last column being one, (n_features + 1, n_features + 1), of which the upper triangle is filled.
     * scratch holds gram_scratch() bytes, aligned to 64. */
    void (*column_moments)(double *moments, const fgd_rows *rows, const void *weight);
    void (*gram)(double *gram, void *scratch, const fgd_rows *rows, const void *weight, int threads);
    size_t (*gram_scratch)(const fgd_rows *rows);
    /* the upper triangle of a, (n, n), becomes R with R'R = a; x becomes R'^-1 x, or R^-1 x if `back` */
    void (*factor)(void *a, ptrdiff_t n);
    void (*solve)(void *x, const void *r, ptrdiff_t n, int back);
    void (*reduce_variance)(const fgd_reduction *reduction, const fgd_rows *rows);
    /* the largest of the rows' weighted squared lengths */
    double (*longest_row)(const fgd_rows *rows);
    /* Rows of a sparse matrix with their interactions. The rows from position `start` of the order on, in whole
     * batches, at least one, and more as long as they have no more than `room` values: fills in `visited` and `indptr`,
     * which hold stop - start rows, and gives their number. Then their values and columns. */
    ptrdiff_t (*measure_interactions)(const fgd_interacted *made, const fgd_rows *rows, const fgd_interactions *pairs,
                                      ptrdiff_t start, ptrdiff_t stop, ptrdiff_t batch, ptrdiff_t room);
    void (*interact)(const fgd_interacted *made, ptrdiff_t n_made, const fgd_rows *rows, const fgd_interactions *pairs,
                     int threads);
    /* Networks. Passes the batches through, and back: with an optimizer a step follows each, without one the last
     * batch's gradients remain. Adds to sums[0] and sums[1] each batch's loss and penalty, times its rows. scratch
     * holds network_scratch() bytes, aligned to 64. FGD_NOT_FINITE, FGD_DIVERGED: as after the last good step; *failed
     * is the number of the batch in this call. */
    fgd_status (*train_network)(double *sums, ptrdiff_t *failed, void *scratch, const fgd_network *network,
                                const fgd_batches *batches, fgd_descent *descent, int threads);
    size_t (*network_scratch)(const fgd_network *network, const fgd_batches *batches, int threads);
    /* out (n_rows, outputs) of all rows, in the order of X, through the link */
    void (*predict)(void *out, void *scratch, const fgd_network *network, const fgd_batches *rows, int link,
                    int threads);
    size_t (*predict_scratch)(const fgd_network *network, int threads);
    /* an activation and its slope, one by one */
    void (*activate)(void *value, void *slope, const void *x, int activation, double parameter, ptrdiff_t n);
    /* reductions */
    int (*all_finite)(const void *x, ptrdiff_t n);
    double (*sum)(const void *x, ptrdiff_t n);
    /* the elements [first, first + n) of a pass over vectors, and their part of its results */
    void (*vectors)(double *results, const fgd_vectors *pass, ptrdiff_t first, ptrdiff_t n);
    /* the same of a pass that quantises; sums are (n_channels, 2), and added to, or, of ranges, widened */
    void (*quantize)(double *sums, const fgd_quantize_pass *pass, ptrdiff_t first, ptrdiff_t n);
    /* scale and zero point of each channel from its range, (n_channels, 2) */
    void (*scales)(void *scale, void *zero, const double *ranges, const fgd_quantizer *quantizer, int symmetric);
} fgd_typed_kernels;

typedef struct {
    const char *isa;
    const fgd_typed_kernels *dtype[FGD_DTYPES];
    fgd_int8_product int8_product;
    /* out (n_rows, n_outputs of the last layer) of a network, for as many rows as FGD_INT8_ROWS; scratch holds
     * fgd_int8_scratch() bytes of one thread, aligned to 64 */
    void (*int8_rows)(float *out, void *scratch, const float *X, const fgd_int8_layer *layers, ptrdiff_t n_layers,
                      ptrdiff_t n_rows, fgd_int8_product product);
} fgd_kernels;

extern const fgd_kernels *fgd_active; /* the chosen table: the only state that C keeps */

/* instruction sets in this build, best last; NULL past the end */
const char *fgd_isa_name(int i);
int fgd_isa_supported(int i);
int fgd_use(int i);

/* One step of a whole list of tensors: norm and guard in one pass over the gradients if they are wanted, everything
 * else in a second pass. `plans` holds n_tensors, `sums` fgd_n_sums() numbers of scratch, `room` fgd_matrix_room()
 * bytes. */
fgd_status fgd_step(fgd_report *report, fgd_tensor *tensors, fgd_plan *plans, double *sums, void *room,
                    const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors, int threads);
ptrdiff_t fgd_n_sums(const fgd_tensor *tensors, const fgd_options *options, ptrdiff_t n_tensors);
/* Does a group make the matrices in it orthonormal? */
int fgd_wants_matrices(const fgd_group *group, int dtype);
size_t fgd_matrix_room(const fgd_tensor *tensors, const fgd_group *groups, ptrdiff_t n_tensors, int threads);

/* Moves the averages that have waited in the last fgd_step. */
void fgd_average(fgd_tensor *tensors, const fgd_group *groups, const fgd_options *options, ptrdiff_t n_tensors,
                 int threads);

/* One pass over vectors of n elements; `sums` is scratch for fgd_n_vector_sums() numbers. */
void fgd_vector_pass(double *results, double *sums, const fgd_vectors *pass, ptrdiff_t n, int dtype, int threads);
ptrdiff_t fgd_n_vector_sums(ptrdiff_t n);

/* direction = -H gradient, with the inverse Hessian H of L-BFGS that starts from h_diag times the identity. Fills `al`
 * (m numbers); gives gradient . direction. 1 + 2 m passes over memory, each over one or two vectors of the history. */
double fgd_lbfgs_direction(void *direction, double *al, double *sums, const void *gradient, const fgd_history *history,
                           double h_diag, ptrdiff_t n, int dtype, int threads);

/* One pass that quantises, over arrays of n elements; `sums` holds fgd_n_quantize_sums() numbers, of which the first
 * (n_channels, 2) are the results of FGD_LEARN and FGD_RANGE. */
void fgd_quantize(double *sums, const fgd_quantize_pass *pass, ptrdiff_t n, int dtype, int threads);
ptrdiff_t fgd_n_quantize_sums(const fgd_quantize_pass *pass, ptrdiff_t n);

/* What multiplies codes: the processor's own instructions where it has them, else, or if `portable`, plain C. */
fgd_int8_product fgd_int8_product_here(int portable);
const char *fgd_int8_name(int portable);

/* packed = weights (n_inputs, n_outputs); fgd_int8_packed_size() bytes */
void fgd_int8_pack(int8_t *packed, const int8_t *weight, ptrdiff_t n_inputs, ptrdiff_t n_outputs);
size_t fgd_int8_packed_size(ptrdiff_t n_inputs, ptrdiff_t n_outputs);

/* out (n_rows, n_outputs of the last layer) of X (n_rows, n_inputs of the first); `scratch` holds fgd_int8_scratch()
 * bytes for each thread, aligned to 64. */
void fgd_int8_predict(float *out, void *scratch, const float *X, const fgd_int8_layer *layers, ptrdiff_t n_layers,
                      ptrdiff_t n_rows, int portable, int threads);
size_t fgd_int8_scratch(const fgd_int8_layer *layers, ptrdiff_t n_layers);

/* The sum of an array, read once: what the benchmarks measure bandwidth with. */
double fgd_sum(const void *x, ptrdiff_t n, int dtype, int threads);

/* The first row of a CSR matrix of `nnz` values whose columns are not all in [0, n_features), or whose end in indptr is
 * before its beginning or behind nnz; -1 if there is none. */
ptrdiff_t fgd_first_bad_row(const fgd_rows *rows, ptrdiff_t nnz);

/* Is the rule plain stochastic gradient descent, p - lr g and nothing else? */
int fgd_is_plain_sgd(const fgd_stretch *stretch);

/* Does each row move the weights by itself, as in scikit-learn? Else rows go by batches, be it of one row. */
int fgd_goes_by_rows(const fgd_stretch *stretch);

/* Has the rule a proximal step for the L1 penalty? */
int fgd_takes_l1(const fgd_stretch *stretch);

/* Fisher-Yates; the same permutations as scikit-learn's ArrayDataset. */
void fgd_shuffle(int64_t *order, ptrdiff_t n, uint32_t seed);

/* -------------------------------------------------------------------------------------------------- threads */

int fgd_has_openmp(void);
int fgd_openmp_max_threads(void);
const char *fgd_openmp_file(void); /* path of the runtime in use, "" if none or unknown */
int fgd_team(int threads, double work, double serial_below);
const char *fgd_compiler(void);

#endif
