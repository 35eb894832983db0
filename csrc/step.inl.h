/* One pass over neighbouring elements of a tensor, block by block, so that what the parts of a step hand on is still in
 * the first-level cache: unscale, centralise and clip the gradient -> rule -> look-ahead -> bounds -> average -> zero
 * the gradient. */

static void N(scale_and_clip)(T *restrict out, const T *restrict g, T factor, T limit, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = N(cut)(g[i] * factor, limit);
}

/* as torch.lerp: exact at both ends */
static void N(move_average)(T *restrict average, const T *restrict p, T weight, ptrdiff_t n)
{
    if (weight < (T)0.5)
        for (ptrdiff_t i = 0; i < n; i++) average[i] += weight * (p[i] - average[i]);
    else
        for (ptrdiff_t i = 0; i < n; i++) average[i] = p[i] - (p[i] - average[i]) * (1 - weight);
}

/* Every k steps: Zhang, Lucas, Hinton, Ba, "Lookahead optimizer: k steps forward, 1 step back", NeurIPS 2019,
 * algorithm 1. */
static void N(look_ahead)(T *restrict slow, T *restrict p, T weight, ptrdiff_t n)
{
    N(move_average)(slow, p, weight, n);
    memcpy(p, slow, (size_t)n * sizeof(T));
}

static void N(keep_inside)(T *restrict p, T lower, T upper, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) p[i] = p[i] < lower ? lower : p[i] > upper ? upper : p[i];
}

static void N(states_at)(void **state, const fgd_tensor *tensor, const fgd_plan *plan, ptrdiff_t i)
{
    for (int k = 0; k < FGD_MAX_STATES; k++)
        state[k] = tensor->state[k] && !plan->pauses[k] ? (T *)tensor->state[k] + i : NULL;
}

/* The states of n elements from i on as the rule sees them; `made` is room for some. */
static void N(see_states)(void **state, T *made, const fgd_tensor *tensor, const fgd_plan *plan, ptrdiff_t i,
                          ptrdiff_t n)
{
    N(states_at)(state, tensor, plan, i);
    if (!tensor->rows) return;
    N(estimates)[plan->rule](&plan->coef, made, tensor, i, n);
    state[FGD_VECTOR] = made;
    state[FGD_ROWS] = state[FGD_COLUMNS] = NULL;
}

/* The gradient's elements from i on as the rule sees them; `changed` is room for them. */
static const T *N(grad_at)(T *changed, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t i, ptrdiff_t n)
{
    const T *g = (const T *)tensor->grad + i;
    if (!pass->changes_grad) return g;
    if (pass->units)
        N(change_units)(changed, tensor, pass, i, n);
    else
        N(scale_and_clip)(changed, g, (T)pass->factor, (T)pass->clip_value, n);
    return changed;
}

/* ---- the moments of rows and columns ---- */

enum { N(SHORT) = 32 }; /* below this, a sum is added up in order */

static double N(sum_row)(const T *x, ptrdiff_t n)
{
    if (n >= N(SHORT)) return N(sum_squares)(x, n);
    double sum = 0;
    for (ptrdiff_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static ptrdiff_t N(least)(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

static void N(fold_rows)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                         ptrdiff_t end)
{
    const ptrdiff_t columns = tensor->columns, at_once = columns < FGD_STEP_BLOCK ? FGD_STEP_BLOCK / columns : 1;
    T grads[FGD_STEP_BLOCK];
    double sums[FGD_FOLD];
    for (ptrdiff_t n; first < end; first += n) {
        n = N(least)(N(least)(at_once, FGD_FOLD), end - first);
        for (ptrdiff_t r = 0; r < n; r++) sums[r] = 0;
        for (ptrdiff_t c = 0; c < columns; c += FGD_STEP_BLOCK) {
            const ptrdiff_t length = N(least)(columns - c, FGD_STEP_BLOCK);
            const T *g = N(grad_at)(grads, tensor, pass, first * columns + c, n * length);
            for (ptrdiff_t r = 0; r < n; r++) sums[r] += N(sum_row)(g + r * length, length);
        }
        N(folds)[plan->rule](&plan->fold, (T *)tensor->state[FGD_ROWS] + first, sums, (double)columns, n);
    }
}

/* n columns from one on, of one matrix */
static void N(sum_columns)(double *sums, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t first, ptrdiff_t n)
{
    const ptrdiff_t rows = tensor->rows, columns = tensor->columns, matrix = first / columns;
    T grads[FGD_FOLD];
    for (ptrdiff_t r = 0; r < rows; r++) {
        const T *g = N(grad_at)(grads, tensor, pass, (matrix * (rows - 1) + r) * columns + first, n);
        for (ptrdiff_t c = 0; c < n; c++) sums[c] += (double)g[c] * (double)g[c];
    }
}

/* all columns of small matrices */
static void N(sum_matrices)(double *sums, const fgd_tensor *tensor, const fgd_pass *pass, ptrdiff_t first, ptrdiff_t n)
{
    const ptrdiff_t rows = tensor->rows, columns = tensor->columns;
    T grads[FGD_STEP_BLOCK];
    const T *g = N(grad_at)(grads, tensor, pass, first * rows, n * rows);
    for (ptrdiff_t m = 0; m < n; m += columns)
        for (ptrdiff_t r = 0; r < rows; r++, g += columns)
            for (ptrdiff_t c = 0; c < columns; c++) sums[m + c] += (double)g[c] * (double)g[c];
}

static void N(fold_columns)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                            ptrdiff_t end)
{
    const ptrdiff_t rows = tensor->rows, columns = tensor->columns;
    const ptrdiff_t at_once = N(least)(FGD_STEP_BLOCK / rows, FGD_FOLD) / columns * columns; /* of whole matrices */
    for (ptrdiff_t n; first < end; first += n) {
        const ptrdiff_t left = columns - first % columns, whole = N(least)((end - first) / columns * columns, at_once);
        double sums[FGD_FOLD] = {0};
        if (left == columns && whole > 0) {
            n = whole;
            N(sum_matrices)(sums, tensor, pass, first, n);
        } else {
            n = N(least)(N(least)(end - first, left), FGD_FOLD);
            N(sum_columns)(sums, tensor, pass, first, n);
        }
        N(folds)[plan->rule](&plan->fold, (T *)tensor->state[FGD_COLUMNS] + first, sums, (double)rows, n);
    }
}

static ptrdiff_t N(begun_before)(ptrdiff_t element, ptrdiff_t length) { return (element + length - 1) / length; }

/* Each row and each column is summed by one thread, in order. */
static void N(fold_range)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                          ptrdiff_t n)
{
    const ptrdiff_t rows = tensor->rows, columns = tensor->columns;
    N(fold_rows)(tensor, plan, pass, N(begun_before)(first, columns), N(begun_before)(first + n, columns));
    N(fold_columns)(tensor, plan, pass, N(begun_before)(first, rows), N(begun_before)(first + n, rows));
}

static void N(mean_range)(const fgd_tensor *tensor, ptrdiff_t first, ptrdiff_t n)
{
    const ptrdiff_t rows = tensor->rows, size = rows * tensor->columns;
    const T *moments = tensor->state[FGD_ROWS];
    for (ptrdiff_t m = N(begun_before)(first, size); m < N(begun_before)(first + n, size); m++) {
        const T *own = moments + m * rows;
        double sum = 0;
        if (rows < N(SHORT))
            for (ptrdiff_t r = 0; r < rows; r++) sum += (double)own[r];
        else
            sum = N(sum_all)(own, rows);
        tensor->means[m] = sum / (double)rows;
    }
}

/* ---- both passes over the elements ---- */

static void N(measure_range)(double *measured, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                             ptrdiff_t first, ptrdiff_t n)
{
    T grads[FGD_STEP_BLOCK], made[FGD_STEP_BLOCK];
    measured[0] = measured[1] = 0;
    for (ptrdiff_t i = first; i < first + n; i += FGD_STEP_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_STEP_BLOCK ? first + n - i : FGD_STEP_BLOCK;
        void *state[FGD_MAX_STATES];
        N(see_states)(state, made, tensor, plan, i, length);
        N(measures)[plan->rule](&plan->coef, measured, (const T *)tensor->param + i,
                                N(grad_at)(grads, tensor, pass, i, length), state, length);
    }
}

/* what is kept is the plan's, which the tensors share */
static void N(layer_adjusts)(fgd_coef *coef, const fgd_plan *plan, const double *measured)
{
    double kept[FGD_MAX_KEPT + 1];
    memcpy(kept, plan->kept, sizeof kept);
    N(adjusts)[plan->rule](coef, kept, measured);
}

typedef void (*N(own_step))(T *, const T *, T *const *, const double *, int64_t, ptrdiff_t);

static void N(take_step)(const fgd_plan *plan, const fgd_coef *coef, T *param, const T *grad, void *const *state,
                         ptrdiff_t n)
{
    if (!plan->own) {
        N(step)[plan->rule](coef, param, grad, state, n);
        return;
    }
    T *states[FGD_MAX_STATES];
    for (int k = 0; k < FGD_MAX_STATES; k++) states[k] = state[k];
    ((N(own_step))plan->own)(param, grad, states, plan->hypers, plan->t, n);
}

static void N(direct_range)(void *x, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                            ptrdiff_t first, ptrdiff_t n)
{
    T grads[FGD_STEP_BLOCK];
    for (ptrdiff_t i = first; i < first + n; i += FGD_STEP_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_STEP_BLOCK ? first + n - i : FGD_STEP_BLOCK;
        N(directions)[plan->rule]((T *)x + (i - first), N(grad_at)(grads, tensor, pass, i, length),
                                  (T *)tensor->state[0] + i, length, &plan->coef);
    }
}

/* The elements [at, at + n) of a tensor, by its gradient's from `from` on; gives the square of the norm of their
 * update, if that is wanted. n is at most FGD_STEP_BLOCK where anything is done beside the rule. */
static double N(update_run)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_coef *coef, const fgd_pass *pass,
                            ptrdiff_t at, ptrdiff_t from, ptrdiff_t n)
{
    T *const param = (T *)tensor->param + at;
    T grads[FGD_STEP_BLOCK], before[FGD_STEP_BLOCK], made[FGD_STEP_BLOCK];
    void *state[FGD_MAX_STATES];
    N(see_states)(state, made, tensor, plan, at, n);
    if (pass->norms) memcpy(before, param, (size_t)n * sizeof(T));
    N(take_step)(plan, coef, param, N(grad_at)(grads, tensor, pass, from, n), state, n);
    if (pass->zero_grads) memset((T *)tensor->grad + from, 0, (size_t)n * sizeof(T));
    return pass->norms ? N(sum_squared_differences)(param, before, n) : 0;
}

/* The rows that the elements [from, end) of a gradient of rows belong to. */
static double N(update_rows)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_coef *coef, const fgd_pass *pass,
                             ptrdiff_t from, ptrdiff_t end)
{
    const ptrdiff_t row = tensor->row;
    double sum = 0;
    for (ptrdiff_t length; from < end; from += length) {
        const ptrdiff_t k = from / row, at = from - k * row;
        length = N(least)(N(least)(row - at, end - from), FGD_STEP_BLOCK);
        const ptrdiff_t place = (ptrdiff_t)tensor->index[k] * row + at;
        sum += N(update_run)(tensor, plan, coef, pass, place, from, length);
        if (plan->bounded && !pass->looks_ahead)
            N(keep_inside)((T *)tensor->param + place, (T)plan->lower, (T)plan->upper, length);
    }
    return sum;
}

/* How many elements a gradient of rows has for the tensor's elements before this one. */
static ptrdiff_t N(had_before)(const fgd_tensor *tensor, ptrdiff_t element)
{
    const ptrdiff_t wanted = element / tensor->row, at = element - wanted * tensor->row;
    ptrdiff_t low = 0, high = tensor->n_index;
    while (low < high) {
        const ptrdiff_t middle = low + (high - low) / 2;
        if (tensor->index[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low * tensor->row + (low < tensor->n_index && tensor->index[low] == wanted ? at : 0);
}

/* the average that moves in this pass */
static T *N(moving_average)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass)
{
    const int waits = plan && plan->averages_wait;
    return pass->average_weight != 0 && !waits ? tensor->average : NULL;
}

/* Does the rule see gradient and states as they are, and is the step all that is wanted of it? */
static int N(is_bare)(const fgd_tensor *tensor, const fgd_pass *pass)
{
    return !pass->changes_grad && !pass->norms && !pass->zero_grads && !tensor->rows;
}

/* Is there nothing to do beside the rule? */
static int N(is_plain)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass)
{
    const int slow = pass->looks_ahead && tensor->slow, bounded = plan && plan->bounded;
    return N(is_bare)(tensor, pass) && !slow && !bounded && !N(moving_average)(tensor, plan, pass);
}

/* as update_run(), without all that this excludes: runs are short, and what lies between them is felt */
static void N(update_bare)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_coef *coef, ptrdiff_t at,
                           ptrdiff_t n)
{
    void *state[FGD_MAX_STATES];
    N(states_at)(state, tensor, plan, at);
    N(take_step)(plan, coef, (T *)tensor->param + at, (const T *)tensor->grad + at, state, n);
}

/* What the rule will read from element `at` on. */
static void N(fetch_ahead)(const fgd_tensor *tensor, const fgd_plan *plan, ptrdiff_t at)
{
    void *state[FGD_MAX_STATES];
    N(states_at)(state, tensor, plan, at);
    for (ptrdiff_t i = 0; i < FGD_STEP_FETCH; i += FGD_LANE_BYTES / (ptrdiff_t)sizeof(T)) {
        FGD_PREFETCH((const T *)tensor->param + at + i);
        FGD_PREFETCH((const T *)tensor->grad + at + i);
        for (int k = 0; k < FGD_MAX_STATES; k++)
            if (state[k]) FGD_PREFETCH((const T *)state[k] + i);
    }
}

static double N(update_range)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                              ptrdiff_t n)
{
    T *const param = tensor->param, *const slow = pass->looks_ahead ? tensor->slow : NULL;
    T *const average = N(moving_average)(tensor, plan, pass);
    const int bounded = plan && plan->bounded, bare = N(is_bare)(tensor, pass);
    const int plain = N(is_plain)(tensor, plan, pass);
    const int fetches = plain && plan && n >= FGD_STEP_LONG;
    const ptrdiff_t block = fetches ? FGD_STEP_FETCH : plain ? n : FGD_STEP_RUN;
    double sum = 0;
    fgd_coef coef;
    if (plan) coef = plan->coef;
    if (plan && fgd_is_layerwise(plan)) N(layer_adjusts)(&coef, plan, tensor->measured);
    if (tensor->index && !fgd_needs_all(tensor, pass))
        return N(update_rows)(tensor, plan, &coef, pass, first, first + n);
    if (plan && tensor->state[FGD_ORTHONORMAL] && plan->iteration.wanted) N(fits)[plan->rule](&coef, tensor);
    for (ptrdiff_t i = first; i < first + n; i += block) {
        const ptrdiff_t length = first + n - i < block ? first + n - i : block;
        if (fetches && i + FGD_STEP_AHEAD + block <= first + n) N(fetch_ahead)(tensor, plan, i + FGD_STEP_AHEAD);
        if (plan && tensor->index)
            sum +=
                N(update_rows)(tensor, plan, &coef, pass, N(had_before)(tensor, i), N(had_before)(tensor, i + length));
        else if (plan && bare)
            N(update_bare)(tensor, plan, &coef, i, length);
        else if (plan)
            sum += N(update_run)(tensor, plan, &coef, pass, i, i, length);
        if (plan && slow) N(look_ahead)(slow + i, param + i, (T)pass->slow_weight, length);
        if (bounded) N(keep_inside)(param + i, (T)plan->lower, (T)plan->upper, length);
        if (average) N(move_average)(average + i, param + i, (T)pass->average_weight, length);
    }
    return sum;
}
