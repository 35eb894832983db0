# Mirror of csrc/fastgd.h, no logic.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "fastgd.h" nogil:
    ctypedef enum fgd_status:
        FGD_OK
        FGD_DIVERGED
        FGD_NOT_FINITE

    ctypedef enum fgd_dtype:
        FGD_FLOAT32
        FGD_FLOAT64
        FGD_DTYPES
        FGD_BFLOAT16
        FGD_FLOAT16
        FGD_SIGNED8
        FGD_UNSIGNED8

    ctypedef enum fgd_domain:
        FGD_NONNEGATIVE
        FGD_UNIT
        FGD_FLAG
        FGD_REAL
        FGD_ABOVE_ONE
        FGD_POSITIVE
        FGD_INSIDE_UNIT
        FGD_OPTIONAL_UNIT
        FGD_OPTIONAL
        FGD_NONPOSITIVE
        FGD_AT_LEAST_ONE
        FGD_COUNT
        FGD_ADJUST_LR

    ctypedef enum fgd_kind:
        FGD_ELEMENTWISE
        FGD_LAYERWISE
        FGD_LISTWISE
        FGD_FACTORED
        FGD_MATRIX
        FGD_HYBRID
        FGD_ONLINE
        FGD_CODED

    enum:
        FGD_MAX_STATES
        FGD_MAX_KEPT
        FGD_ROWS_KEPT
        FGD_MAX_HYPERS
        FGD_CODE_BLOCK

    ctypedef struct fgd_hyper_info:
        const char *name
        double value
        int domain

    ctypedef struct fgd_state_info:
        const char *name
        const char *kept_if

    ctypedef struct fgd_rule_info:
        const char *name
        int kind
        int n_states
        fgd_state_info *states
        int n_kept
        const char **kept
        int n_hypers
        fgd_hyper_info *hypers

    ctypedef struct fgd_loss_info:
        const char *name
        const char *task
        fgd_hyper_info parameter
        const char *targets
        const char *link
        int bounded

    ctypedef struct fgd_activation_info:
        const char *name
        fgd_hyper_info parameter

    const fgd_rule_info *fgd_rules
    const int fgd_n_rules
    const fgd_loss_info *fgd_losses
    const int fgd_n_losses
    const fgd_activation_info *fgd_activations
    const int fgd_n_activations

    ctypedef void (*fgd_function)()

    ctypedef struct fgd_group:
        int rule
        fgd_function *own
        double *hypers
        double lower
        double upper
        int averages_wait

    ctypedef struct fgd_tensor:
        void *param
        void *grad
        const int64_t *index
        ptrdiff_t n_index
        ptrdiff_t row
        void **state
        void *slow
        void *average
        ptrdiff_t size
        int n_dims
        ptrdiff_t n_units
        ptrdiff_t unit_stride
        ptrdiff_t rows
        ptrdiff_t columns
        int dtype
        int group
        int low
        int param_dtype
        int grad_dtype
        int *state_dtype
        void *master
        ptrdiff_t outer
        ptrdiff_t *sides
        int turned
        int64_t t
        int64_t since
        double *kept

    ctypedef struct fgd_plan:
        pass

    ctypedef struct fgd_options:
        double grad_scale
        double max_norm
        double agc
        double clip_value
        double slow_weight
        int looks_ahead
        double average_weight
        int guard
        int norms
        int centralize
        int zero_grads
        int64_t step

    ctypedef struct fgd_report:
        double grad_norm
        double clip_factor
        double update_norm
        ptrdiff_t failed

    ctypedef enum fgd_vector_op:
        FGD_DOT
        FGD_MAGNITUDES
        FGD_MOVE
        FGD_PAIR

    ctypedef struct fgd_vectors:
        int op
        void *out
        void *out2
        const void *x
        const void *z
        const void *z2
        double a

    ctypedef struct fgd_history:
        const void *steps
        const void *changes
        ptrdiff_t stride
        const ptrdiff_t *slots
        const double *ro
        int m

    ctypedef struct fgd_rows:
        const void *X
        const void *y
        const void *sample_weight
        const void *indptr
        const void *indices
        int wide
        ptrdiff_t mask
        ptrdiff_t n_rows
        ptrdiff_t n_features
        const int64_t *order
        ptrdiff_t n_blocks
        ptrdiff_t block

    ctypedef struct fgd_interactions:
        const int64_t *ranges
        ptrdiff_t n_pairs

    ctypedef struct fgd_interacted:
        int64_t *visited
        int64_t *indptr
        int64_t *indices
        void *values

    ctypedef struct fgd_stretch:
        ptrdiff_t outputs
        int loss
        double loss_parameter
        double alpha
        int fit_intercept
        int rule
        const double *hypers
        const double *lr
        double *kept
        int64_t t
        ptrdiff_t batch_size
        ptrdiff_t start
        ptrdiff_t stop
        double l1
        double *l1_state
        void *average
        int64_t average_from
        int aggressive
        double one_class
        double intercept_decay
        double *penalties
        int positive
        double group
        const int64_t *members
        const int64_t *offsets
        ptrdiff_t n_groups

    ptrdiff_t fgd_n_visited(const fgd_rows *rows)

    ctypedef struct fgd_point:
        int loss
        double loss_parameter
        ptrdiff_t n_outputs
        const void *weights
        void *predictions

    ctypedef enum fgd_reduced:
        FGD_SAG
        FGD_SAGA
        FGD_SVRG

    ctypedef struct fgd_reduction:
        int kind
        int loss
        double loss_parameter
        ptrdiff_t n_outputs
        int fit_intercept
        double step
        double l2
        double l1
        double total
        double scale
        double *w
        double *mean
        double *memory
        const int64_t *order
        ptrdiff_t n_steps
        int64_t *since
        double *sums
        void *scratch
        const void *zeros

    ctypedef enum fgd_norm:
        FGD_NO_NORM
        FGD_BATCH_NORM
        FGD_LAYER_NORM

    enum:
        FGD_LAYER_PARAMS
        FGD_SOFTMAX
        FGD_SIGMOID

    ctypedef enum fgd_link:
        FGD_LINK_IDENTITY
        FGD_LINK_LOG
        FGD_LINK_LOGIT
        FGD_LINK_SOFTMAX

    ctypedef struct fgd_quantizer:
        const void *scale
        const void *zero
        ptrdiff_t n_channels
        ptrdiff_t stride
        int qmin
        int qmax

    enum:
        FGD_OF_WEIGHT
        FGD_OF_INPUT
        FGD_FAKED
        FGD_WEIGHT_SCALE

    ctypedef struct fgd_faking:
        fgd_quantizer *quantizer
        void **scale
        void **zero
        int *symmetric
        double *factor
        double *range
        double averaging
        void *weights

    ctypedef struct fgd_layer:
        ptrdiff_t inputs, outputs
        int activation
        double parameter
        int norm, skip
        double dropout
        void **params
        void **grads
        int *trained
        void *running_mean
        void *running_var
        fgd_faking *faking

    ctypedef struct fgd_network:
        const fgd_layer *layers
        int n_layers, loss
        double loss_parameter, label_smoothing
        int training
        uint64_t seed
        # "pass" is a word of Python
        int64_t passed "pass"

    ctypedef struct fgd_batches:
        const void *X
        const void *y
        const void *sample_weight
        const void *indptr
        const void *indices
        int wide
        const int64_t *order
        ptrdiff_t n_rows, most_values, batch_size, start, stop
        double alpha, whole
        int adds

    ctypedef struct fgd_descent:
        fgd_report *report
        fgd_tensor *tensors
        fgd_plan *plans
        double *sums
        void *room
        fgd_group *groups
        fgd_options *options
        ptrdiff_t n_tensors, n_groups
        const double *hypers
        const double *average_weights
        int64_t t, period
        int skips
        ptrdiff_t n_steps, n_skipped

    ctypedef struct fgd_typed_kernels:
        fgd_status (*train_network)(double *sums, ptrdiff_t *failed, void *scratch,
                                    const fgd_network *network, const fgd_batches *batches,
                                    fgd_descent *descent, int threads) noexcept nogil
        size_t (*network_scratch)(const fgd_network *network, const fgd_batches *batches,
                                  int threads) noexcept nogil
        void (*predict)(void *out, void *scratch, const fgd_network *network,
                        const fgd_batches *rows, int link, int threads) noexcept nogil
        size_t (*predict_scratch)(const fgd_network *network, int threads) noexcept nogil
        void (*activate)(void *value, void *slope, const void *x, int activation,
                         double parameter, ptrdiff_t n) noexcept nogil
        fgd_status (*train)(void *params, void **state, double *loss_sum, ptrdiff_t *failed,
                            void *scratch, const fgd_rows *rows, const fgd_stretch *stretch,
                            int threads) noexcept nogil
        size_t (*scratch_size)(const fgd_rows *rows, ptrdiff_t outputs,
                               ptrdiff_t batch_size) noexcept nogil
        void (*evaluate)(void *value, void *derivative, const void *y, const void *prediction,
                         int loss, double loss_parameter, ptrdiff_t n) noexcept nogil
        double (*full_gradient)(double *gradient, void *scratch, const fgd_rows *rows,
                                const fgd_point *point, int threads) noexcept nogil
        size_t (*full_scratch)(const fgd_rows *rows, ptrdiff_t n_outputs) noexcept nogil
        void (*column_moments)(double *moments, const fgd_rows *rows,
                               const void *weight) noexcept nogil
        void (*gram)(double *gram, void *scratch, const fgd_rows *rows, const void *weight,
                     int threads) noexcept nogil
        size_t (*gram_scratch)(const fgd_rows *rows) noexcept nogil
        void (*factor)(void *a, ptrdiff_t n) noexcept nogil
        void (*solve)(void *x, const void *r, ptrdiff_t n, int back) noexcept nogil
        void (*reduce_variance)(const fgd_reduction *reduction,
                                const fgd_rows *rows) noexcept nogil
        double (*longest_row)(const fgd_rows *rows) noexcept nogil
        ptrdiff_t (*measure_interactions)(const fgd_interacted *made, const fgd_rows *rows,
                                          const fgd_interactions *pairs, ptrdiff_t start,
                                          ptrdiff_t stop, ptrdiff_t batch,
                                          ptrdiff_t room) noexcept nogil
        void (*interact)(const fgd_interacted *made, ptrdiff_t n_made, const fgd_rows *rows,
                         const fgd_interactions *pairs, int threads) noexcept nogil
        int (*all_finite)(const void *x, ptrdiff_t n) noexcept nogil
        void (*scales)(void *scale, void *zero, const double *ranges,
                       const fgd_quantizer *quantizer, int symmetric) noexcept nogil

    enum:
        FGD_FAKE
        FGD_STRAIGHT
        FGD_ENCODE
        FGD_DECODE
        FGD_LEARN
        FGD_RANGE
        FGD_INT8_COLUMNS

    ctypedef struct fgd_quantize_pass:
        int op
        void *out
        const void *x
        const void *grad
        const fgd_quantizer *quantizer

    ctypedef void (*fgd_int8_product)(int32_t *out, ptrdiff_t stride, const uint8_t *a,
                                      ptrdiff_t a_stride, const int8_t *packed, ptrdiff_t rows,
                                      ptrdiff_t blocks, ptrdiff_t depth) noexcept nogil

    ctypedef struct fgd_int8_layer:
        const int8_t *weight
        const int32_t *constant
        const int32_t *weight_zero
        const float *scale
        const float *bias
        const float *gamma
        const float *beta
        float input_scale
        float input_zero
        float epsilon
        int input_max
        ptrdiff_t n_inputs
        ptrdiff_t n_outputs
        int activation
        int skip
        double parameter

    ctypedef struct fgd_kernels:
        const char *isa
        const fgd_typed_kernels **dtype

    const fgd_kernels *fgd_active

    const char *fgd_isa_name(int i)
    int fgd_isa_supported(int i)
    int fgd_use(int i)

    fgd_status fgd_step(fgd_report *report, fgd_tensor *tensors, fgd_plan *plans, double *sums,
                        void *room, const fgd_group *groups, const fgd_options *options,
                        ptrdiff_t n_tensors, int threads)
    int fgd_wants_matrices(const fgd_group *group, int dtype)
    size_t fgd_matrix_room(const fgd_tensor *tensors, const fgd_group *groups,
                           ptrdiff_t n_tensors, int threads)
    ptrdiff_t fgd_n_sums(const fgd_tensor *tensors, const fgd_options *options, ptrdiff_t n_tensors)
    void fgd_average(fgd_tensor *tensors, const fgd_group *groups, const fgd_options *options,
                     ptrdiff_t n_tensors, int threads)
    void fgd_vector_pass(double *results, double *sums, const fgd_vectors *vectors, ptrdiff_t n,
                         int dtype, int threads)
    ptrdiff_t fgd_n_vector_sums(ptrdiff_t n)
    double fgd_lbfgs_direction(void *direction, double *al, double *sums, const void *gradient,
                               const fgd_history *history, double h_diag, ptrdiff_t n, int dtype,
                               int threads)
    void fgd_quantize(double *sums, const fgd_quantize_pass *quantize_pass, ptrdiff_t n, int dtype,
                      int threads)
    ptrdiff_t fgd_n_quantize_sums(const fgd_quantize_pass *quantize_pass, ptrdiff_t n)
    fgd_int8_product fgd_int8_product_here(int portable)
    const char *fgd_int8_name(int portable)
    void fgd_int8_pack(int8_t *packed, const int8_t *weight, ptrdiff_t n_inputs,
                       ptrdiff_t n_outputs)
    size_t fgd_int8_packed_size(ptrdiff_t n_inputs, ptrdiff_t n_outputs)
    void fgd_int8_predict(float *out, void *scratch, const float *X, const fgd_int8_layer *layers,
                          ptrdiff_t n_layers, ptrdiff_t n_rows, int portable, int threads)
    size_t fgd_int8_scratch(const fgd_int8_layer *layers, ptrdiff_t n_layers)
    double fgd_sum(const void *x, ptrdiff_t n, int dtype, int threads)
    ptrdiff_t fgd_first_bad_row(const fgd_rows *rows, ptrdiff_t nnz)
    int fgd_is_plain_sgd(const fgd_stretch *stretch)
    int fgd_goes_by_rows(const fgd_stretch *stretch)
    int fgd_takes_l1(const fgd_stretch *stretch)
    void fgd_shuffle(int64_t *order, ptrdiff_t n, uint32_t seed)

    int fgd_has_openmp()
    int fgd_openmp_max_threads()
    const char *fgd_openmp_file()
    const char *fgd_compiler()


cdef extern from *:
    """
    #ifndef FASTGD_VERSION
    #define FASTGD_VERSION "0+unknown"
    #endif
    """
    const char *FASTGD_VERSION


cdef extern from "tuning.h" nogil:
    enum:
        FGD_CLASS_ROWS
