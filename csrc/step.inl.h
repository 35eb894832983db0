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

static void N(measure_range)(double *measured, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                             ptrdiff_t first, ptrdiff_t n)
{
    T grads[FGD_STEP_BLOCK];
    measured[0] = measured[1] = 0;
    for (ptrdiff_t i = first; i < first + n; i += FGD_STEP_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_STEP_BLOCK ? first + n - i : FGD_STEP_BLOCK;
        void *state[FGD_MAX_STATES];
        N(states_at)(state, tensor, plan, i);
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
    T *states[FGD_MAX_STATES];
    for (int k = 0; k < FGD_MAX_STATES; k++) states[k] = state[k];
    if (plan->own)
        ((N(own_step))plan->own)(param, grad, states, plan->hypers, plan->t, n);
    else
        N(step)[plan->rule](coef, param, grad, state, n);
}

static double N(update_range)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                              ptrdiff_t n)
{
    T *const param = tensor->param, *const slow = pass->looks_ahead ? tensor->slow : NULL;
    const int bounded = plan && plan->bounded, waits = plan && plan->averages_wait;
    T *const average = pass->average_weight != 0 && !waits ? tensor->average : NULL;
    T grads[FGD_STEP_BLOCK], before[FGD_STEP_BLOCK];
    const int plain = !pass->changes_grad && !pass->norms && !pass->zero_grads && !slow && !bounded && !average;
    const ptrdiff_t block = plain ? n : FGD_STEP_BLOCK;
    double sum = 0;
    fgd_coef coef;
    if (plan) coef = plan->coef;
    if (plan && plan->kind == FGD_LAYERWISE) N(layer_adjusts)(&coef, plan, tensor->measured);
    for (ptrdiff_t i = first; i < first + n; i += block) {
        const ptrdiff_t length = first + n - i < block ? first + n - i : block;
        if (plan) {
            void *state[FGD_MAX_STATES];
            N(states_at)(state, tensor, plan, i);
            if (pass->norms) memcpy(before, param + i, (size_t)length * sizeof(T));
            N(take_step)(plan, &coef, param + i, N(grad_at)(grads, tensor, pass, i, length), state, length);
            if (pass->norms) sum += N(sum_squared_differences)(param + i, before, length);
            if (slow) N(look_ahead)(slow + i, param + i, (T)pass->slow_weight, length);
            if (bounded) N(keep_inside)(param + i, (T)plan->lower, (T)plan->upper, length);
            if (pass->zero_grads) memset((T *)tensor->grad + i, 0, (size_t)length * sizeof(T));
        }
        if (average) N(move_average)(average + i, param + i, (T)pass->average_weight, length);
    }
    return sum;
}
