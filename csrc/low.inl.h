/* Tensors of which some part is kept in fewer bits than are computed with: block by block it is converted to T, goes
 * through the same functions as any other, and is converted back. */

FGD_INLINE int N(is_coded)(int dtype) { return dtype == FGD_SIGNED8 || dtype == FGD_UNSIGNED8; }

/* `a` as float32, in the same place if it is that already; `room` is for as many numbers */
FGD_INLINE float *N(as_float)(float *room, T *a) { return sizeof(T) == sizeof(float) ? (float *)(void *)a : room; }

static void N(widen)(T *restrict out, const float *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (T)x[i];
}

static void N(narrow)(float *restrict out, const T *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (float)x[i];
}

/* -------------------------------------------------------------------------------------------------- loading */

static void N(load_bfloat16)(T *restrict out, const uint16_t *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (T)fgd_from_bfloat16(x[i]);
}

static void N(load_float16)(T *restrict out, const uint16_t *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = (T)fgd_from_float16(x[i]);
}

/* at most a block; there is room for a whole one */
static void N(load_codes)(T *out, void *array, int dtype, ptrdiff_t size, ptrdiff_t first, ptrdiff_t n)
{
    float room[FGD_CODE_BLOCK], *const values = N(as_float)(room, out);
    const fgd_codes at = fgd_codes_at(array, size, first);
    if (dtype == FGD_SIGNED8) /* a constant in each */
        fgd_decode_block(values, at.words, *at.scale, FGD_SIGNED8);
    else
        fgd_decode_block(values, at.words, *at.scale, FGD_UNSIGNED8);
    if (values == room) N(widen)(out, values, n);
}

/* The elements [first, first + n) of an array of `size` elements of a dtype, as T. What is of dtype T stays where it
 * is; `room` is for n numbers. */
static T *N(load_array)(T *room, void *array, int dtype, ptrdiff_t size, ptrdiff_t first, ptrdiff_t n)
{
    if (dtype == FGD_BFLOAT16)
        N(load_bfloat16)(room, (const uint16_t *)array + first, n);
    else if (dtype == FGD_FLOAT16)
        N(load_float16)(room, (const uint16_t *)array + first, n);
    else if (N(is_coded)(dtype))
        for (ptrdiff_t i = 0; i < n; i += FGD_CODE_BLOCK)
            N(load_codes)(room + i, array, dtype, size, first + i, n - i < FGD_CODE_BLOCK ? n - i : FGD_CODE_BLOCK);
    else
        return (T *)array + first;
    return room;
}

/* -------------------------------------------------------------------------------------------------- storing */

static void N(store_bfloat16)(uint16_t *restrict out, const T *restrict x, const uint32_t *restrict shared,
                              uint32_t other, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fgd_cut_bfloat16((float)x[i], shared[i] ^ other);
}

static void N(store_float16)(uint16_t *restrict out, const T *restrict x, const uint32_t *restrict shared,
                             uint32_t other, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fgd_to_float16_stochastic((float)x[i], shared[i] ^ other);
}

static void N(store_nearest_bfloat16)(uint16_t *restrict out, const T *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fgd_to_bfloat16((float)x[i]);
}

static void N(store_nearest_float16)(uint16_t *restrict out, const T *restrict x, ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i++) out[i] = fgd_to_float16((float)x[i]);
}

/* at most FGD_CODE_BLOCK elements; so the rest of these */
static void N(store_group)(uint16_t *out, const T *x, const fgd_noise *noise, int dtype, ptrdiff_t first, ptrdiff_t n)
{
    (dtype == FGD_BFLOAT16 ? N(store_bfloat16) : N(store_float16))(out, x, noise->shared, fgd_noise_at(noise, first),
                                                                   n);
}

static void N(store_codes)(void *array, const T *x, const fgd_noise *noise, int dtype, ptrdiff_t size, ptrdiff_t first,
                           ptrdiff_t n)
{
    float room[FGD_CODE_BLOCK] = {0};
    const int stays = sizeof(T) == sizeof(float) && n == FGD_CODE_BLOCK;
    if (!stays) N(narrow)(room, x, n);
    const float *const values = stays ? (const float *)(const void *)x : room;
    fgd_codes at = fgd_codes_at(array, size, first);
    uint32_t bits[FGD_CODE_BLOCK];
    for (ptrdiff_t i = 0; i < FGD_CODE_BLOCK; i++) bits[i] = fgd_to_bits(values[i]);
    *at.scale = fgd_scale8(fgd_largest(bits, FGD_CODE_BLOCK));
    fgd_close_codes(&at, values, noise, dtype, first);
}

FGD_INLINE ptrdiff_t N(group)(ptrdiff_t n) { return n < FGD_CODE_BLOCK ? n : FGD_CODE_BLOCK; }

/* Puts back what `load_array` gave, rounded stochastically. */
static void N(store_array)(void *array, const T *x, const fgd_noise *noise, int dtype, ptrdiff_t size, ptrdiff_t first,
                           ptrdiff_t n)
{
    for (ptrdiff_t i = 0; i < n; i += FGD_CODE_BLOCK)
        if (N(is_coded)(dtype))
            N(store_codes)(array, x + i, noise, dtype, size, first + i, N(group)(n - i));
        else
            N(store_group)((uint16_t *)array + first + i, x + i, noise, dtype, first + i, N(group)(n - i));
}

/* ---------------------------------------------------------------------------------------- a block of a tensor */

/* room for a block; a little more than a power of two, since the arrays would lie in the same places of the cache */
typedef struct {
    _Alignas(64) T param[FGD_LOW_BLOCK + 32], grad[FGD_LOW_BLOCK + 32], state[FGD_MAX_STATES][FGD_LOW_BLOCK + 32];
} N(room);

static T *N(load_param)(T *room, const fgd_tensor *tensor, ptrdiff_t first, ptrdiff_t n)
{
    if (tensor->master) { /* and what is computed with is float32 */
        float *const master = (float *)tensor->master + first;
        const uint16_t *const param = (const uint16_t *)tensor->param + first;
        (tensor->param_dtype == FGD_BFLOAT16 ? fgd_follow_bfloat16 : fgd_follow_float16)(master, param, n);
        return (T *)(void *)master;
    }
    return N(load_array)(room, tensor->param, tensor->param_dtype, tensor->size, first, n);
}

/* The tensor with a block of it converted, in the place where it would be: what is at `first` begins that much behind
 * the address. */
static fgd_tensor N(converted)(N(room) *room, const fgd_tensor *tensor, const fgd_plan *plan, ptrdiff_t first,
                               ptrdiff_t n)
{
    fgd_tensor block = *tensor;
    block.param = N(load_param)(room->param, tensor, first, n) - first;
    if (!plan) return block;
    block.grad = N(load_array)(room->grad, tensor->grad, tensor->grad_dtype, tensor->size, first, n) - first;
    for (int k = 0; k < FGD_MAX_STATES; k++)
        if (tensor->state[k] && !plan->pauses[k])
            block.state[k] =
                N(load_array)(room->state[k], tensor->state[k], tensor->state_dtype[k], tensor->size, first, n) - first;
    return block;
}

/* the randomness of the states, then of the parameter */
typedef struct {
    fgd_noise of[FGD_MAX_STATES + 1];
    char is_stored[FGD_MAX_STATES + 1]; /* and so has to be converted back */
} N(noises);

static void N(start_noises)(N(noises) *noises, const fgd_tensor *tensor, const fgd_plan *plan, int64_t step)
{
    for (int k = 0; k <= FGD_MAX_STATES; k++) {
        const int of_param = k == FGD_MAX_STATES;
        const int dtype = of_param ? tensor->param_dtype : tensor->state_dtype[k];
        const int kept = of_param ? !tensor->master : tensor->state[k] && !plan->pauses[k];
        noises->is_stored[k] = kept && dtype != tensor->dtype;
        if (noises->is_stored[k]) fgd_start_noise(&noises->of[k], step, k, dtype);
    }
}

static void N(store_block)(const fgd_tensor *tensor, const fgd_tensor *block, const N(noises) *noises, ptrdiff_t first,
                           ptrdiff_t n)
{
    const T *const param = (const T *)block->param + first;
    for (int k = 0; k < FGD_MAX_STATES; k++)
        if (noises->is_stored[k])
            N(store_array)(tensor->state[k], (const T *)block->state[k] + first, &noises->of[k], tensor->state_dtype[k],
                           tensor->size, first, n);
    if (noises->is_stored[FGD_MAX_STATES])
        N(store_array)(tensor->param, param, &noises->of[FGD_MAX_STATES], tensor->param_dtype, tensor->size, first, n);
    if (tensor->master)
        (tensor->param_dtype == FGD_BFLOAT16 ? N(store_nearest_bfloat16)
                                             : N(store_nearest_float16))((uint16_t *)tensor->param + first, param, n);
}

/* ------------------------------------------------------------------------------------------------ the passes */

/* Is there nothing but the rule to do, to states that its own loop can convert? */
static int N(takes)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, const int *dtypes)
{
    if (!dtypes || tensor->index || !N(is_plain)(tensor, plan, pass)) return 0;
    for (int k = 0; k < FGD_MAX_STATES; k++)
        if (tensor->state[k] && !plan->pauses[k] && tensor->state_dtype[k] != dtypes[k]) return 0;
    return tensor->param_dtype == tensor->dtype && tensor->grad_dtype == tensor->dtype;
}

static void N(update_halves)(const fgd_tensor *tensor, const fgd_plan *plan, const N(noises) *noises, ptrdiff_t first,
                             ptrdiff_t n)
{
    uint16_t *state[FGD_MAX_STATES];
    for (int k = 0; k < FGD_MAX_STATES; k++)
        state[k] = tensor->state[k] && !plan->pauses[k] ? (uint16_t *)tensor->state[k] + first : NULL;
    N(step_halves)[plan->rule](&plan->coef, (T *)tensor->param + first, (const T *)tensor->grad + first, state,
                               noises->of, first, n);
}

/* n is a multiple of a block */
static void N(update_codes)(const fgd_tensor *tensor, const fgd_plan *plan, const N(noises) *noises, ptrdiff_t first,
                            ptrdiff_t n)
{
    fgd_codes state[FGD_MAX_STATES] = {{0}};
    for (int k = 0; k < FGD_MAX_STATES; k++)
        if (noises->is_stored[k]) state[k] = fgd_codes_at(tensor->state[k], tensor->size, first);
    N(step_codes)[plan->rule](&plan->coef, (T *)tensor->param + first, (const T *)tensor->grad + first, state,
                              noises->of, first, n);
}

/* Does what the rule's own loops can convert; gives how many elements. */
static ptrdiff_t N(update_in_loops)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                                    const N(noises) *noises, ptrdiff_t first, ptrdiff_t n)
{
    static const int halves[FGD_MAX_STATES] = {FGD_BFLOAT16, FGD_BFLOAT16, FGD_BFLOAT16, FGD_BFLOAT16};
    if (plan->own) return 0;
    if (N(takes)(tensor, plan, pass, N(step_halves)[plan->rule] ? halves : NULL)) {
        N(update_halves)(tensor, plan, noises, first, n);
        return n;
    }
    if (!N(takes)(tensor, plan, pass, N(codes)[plan->rule])) return 0;
    const ptrdiff_t whole = n - n % FGD_CODE_BLOCK;
    N(update_codes)(tensor, plan, noises, first, whole);
    return whole;
}

static double N(update_low)(const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass, ptrdiff_t first,
                            ptrdiff_t n)
{
    N(room) room;
    N(noises) noises;
    ptrdiff_t done = 0;
    if (plan) {
        N(start_noises)(&noises, tensor, plan, pass->step);
        done = N(update_in_loops)(tensor, plan, pass, &noises, first, n);
    }
    double sum = 0;
    for (ptrdiff_t i = first + done; i < first + n; i += FGD_LOW_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_LOW_BLOCK ? first + n - i : FGD_LOW_BLOCK;
        const fgd_tensor block = N(converted)(&room, tensor, plan, i, length);
        sum += N(update_range)(&block, plan, pass, i, length);
        if (!plan) continue;
        N(store_block)(tensor, &block, &noises, i, length);
        if (pass->zero_grads && tensor->grad_dtype != tensor->dtype)
            memset((uint16_t *)tensor->grad + i, 0, 2 * (size_t)length);
    }
    return sum;
}

static void N(measure_low)(double *measured, const fgd_tensor *tensor, const fgd_plan *plan, const fgd_pass *pass,
                           ptrdiff_t first, ptrdiff_t n)
{
    N(room) room;
    measured[0] = measured[1] = 0;
    for (ptrdiff_t i = first; i < first + n; i += FGD_LOW_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_LOW_BLOCK ? first + n - i : FGD_LOW_BLOCK;
        const fgd_tensor block = N(converted)(&room, tensor, plan, i, length);
        double parts[2];
        N(measure_range)(parts, &block, plan, pass, i, length);
        measured[0] += parts[0], measured[1] += parts[1];
    }
}

/* of the gradient's elements [first, first + n) */
static double N(squares_low)(const fgd_tensor *tensor, ptrdiff_t first, ptrdiff_t n)
{
    T room[FGD_LOW_BLOCK];
    double sum = 0;
    for (ptrdiff_t i = first; i < first + n; i += FGD_LOW_BLOCK) {
        const ptrdiff_t length = first + n - i < FGD_LOW_BLOCK ? first + n - i : FGD_LOW_BLOCK;
        sum += N(sum_squares)(N(load_array)(room, tensor->grad, tensor->grad_dtype, tensor->size, i, length), length);
    }
    return sum;
}

static int N(finite_low)(const fgd_tensor *tensor)
{
    T room[FGD_LOW_BLOCK];
    for (ptrdiff_t i = 0; i < tensor->size; i += FGD_LOW_BLOCK) {
        const ptrdiff_t length = tensor->size - i < FGD_LOW_BLOCK ? tensor->size - i : FGD_LOW_BLOCK;
        if (!N(all_finite)(N(load_array)(room, tensor->grad, tensor->grad_dtype, tensor->size, i, length), length))
            return 0;
    }
    return 1;
}
