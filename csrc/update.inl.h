/* The update that follows a batch's gradient, for linear models of any kind of rows; and how scratch is dealt out. */

static void *N(place)(size_t *used, void *memory, ptrdiff_t size)
{
    void *here = memory ? (char *)memory + *used : NULL;
    *used += ((size_t)size + FGD_LANE_BYTES - 1) / FGD_LANE_BYTES * FGD_LANE_BYTES;
    return here;
}

/* w nearer to zero by `by`, or zero: the proximal map of the L1 norm (Duchi & Singer, "Efficient online and batch
 * learning using forward backward splitting", JMLR 10, 2009, eq. 19) */
FGD_INLINE T N(shrink_by)(T w, T by)
{
    const T most = w < by ? w : by;
    return w - (most > -by ? most : -by);
}

/* w, or zero if it is less: the nearest number that is not negative. What is not a number stays so. */
FGD_INLINE T N(not_negative)(T w) { return w < 0 ? 0 : w; }

static void N(project)(T *restrict w, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j++) w[j] = N(not_negative)(w[j]);
}

static void N(shrink)(T *restrict w, T by, ptrdiff_t n)
{
    for (ptrdiff_t j = 0; j < n; j++) w[j] = N(shrink_by)(w[j], by);
}

/* Adagrad's proximal step for the L1 penalty, after its other one: as far as the rate of each weight goes (Duchi, Hazan
 * & Singer, "Adaptive subgradient methods for online learning and stochastic optimization", JMLR 12, 2011, sec. 5.1).
 */
static void N(shrink_adagrad)(T *restrict w, const T *restrict sum, const fgd_coef *coef, const fgd_stretch *s,
                              ptrdiff_t n)
{
    N(adagrad_coef) c;
    memcpy(&c, coef, sizeof c);
    const T rate = c.rate * (T)s->l1;
    for (ptrdiff_t j = 0; j < n; j++) w[j] = N(shrink_by)(w[j], rate / (SQRT(sum[j]) + c.eps));
}

/* The weights of each group nearer to zero, all by one factor: the proximal map of lr group sum_g sqrt(|g|) ||w_g||
 * (Yuan & Lin, "Model selection and estimation in regression with grouped variables", JRSS B 68, 2006, eq. 2.1; Duchi &
 * Singer, JMLR 10, 2009, sec. 5, the L2 norm). n weights of all features, an output after the other. */
static void N(shrink_groups)(T *w, double lr, const fgd_stretch *s, ptrdiff_t n)
{
    const ptrdiff_t outputs = s->outputs, n_features = n / outputs;
    for (ptrdiff_t g = 0; g < s->n_groups; g++) {
        const int64_t *members = s->members + s->offsets[g];
        const ptrdiff_t size = (ptrdiff_t)(s->offsets[g + 1] - s->offsets[g]);
        double squares = 0;
        for (ptrdiff_t k = 0; k < outputs; k++)
            for (ptrdiff_t i = 0; i < size; i++) {
                const double one = (double)w[k * n_features + members[i]];
                squares += one * one;
            }
        const double norm = sqrt(squares), by = lr * s->group * sqrt((double)(size * outputs));
        const T factor = norm > by ? (T)(1 - by / norm) : 0;
        for (ptrdiff_t k = 0; k < outputs; k++)
            for (ptrdiff_t i = 0; i < size; i++) w[k * n_features + members[i]] *= factor;
    }
}

/* What follows the step of any rule: the proximal map of all that is asked of n weights beside loss and L2 penalty. The
 * projection comes first: then it is the map of the sum. Adagrad has its coefficients and its sums of squares, others
 * need neither. Groups are of all weights. */
static void N(constrain)(T *w, const T *sum, const fgd_coef *coef, double lr, const fgd_stretch *s, ptrdiff_t n)
{
    if (s->positive) N(project)(w, n);
    if (s->l1 > 0 && s->rule == FGD_RULE_adagrad)
        N(shrink_adagrad)(w, sum, coef, s, n);
    else if (s->l1 > 0)
        N(shrink)(w, (T)(lr * s->l1), n);
    if (s->group > 0) N(shrink_groups)(w, lr, s, n);
}

/* params -= lr * gradient, with scikit-learn's form of the L2 penalty; n weights, then the intercepts */
static void N(plain_update)(T *restrict params, const T *restrict gradient, double lr, const fgd_stretch *s,
                            ptrdiff_t n, ptrdiff_t outputs)
{
    const T rate = (T)lr, decay = (T)(1 - lr * s->alpha), shrink = decay > 0 ? decay : 0;
    for (ptrdiff_t j = 0; j < n; j++) params[j] = shrink * params[j] - rate * gradient[j];
    for (ptrdiff_t k = n; k < n + outputs; k++) params[k] -= rate * gradient[k];
    N(constrain)(params, NULL, NULL, lr, s, n);
}

/* what a rule needs of a step, and that its states are in use */
static fgd_coef N(prepare_rule)(const fgd_stretch *s, double lr, int64_t t)
{
    double hypers[FGD_MAX_HYPERS];
    memcpy(hypers, s->hypers, sizeof hypers);
    hypers[0] = lr; /* every rule's first hyper-parameter */
    fgd_coef coef;
    N(prepare)[s->rule](&coef, s->kept, hypers, t, s->kept[FGD_MAX_KEPT] == 0);
    s->kept[FGD_MAX_KEPT] = 1;
    return coef;
}

/* Is each element done by itself? No matrix is here. */
static int N(is_elementwise)(const fgd_stretch *s)
{
    const int kind = fgd_rules[s->rule].kind;
    return kind <= FGD_CODED || kind == FGD_HYBRID;
}

static void N(add_l2)(T *restrict gradient, const T *restrict params, const fgd_stretch *s, ptrdiff_t n)
{
    const T alpha = (T)s->alpha;
    for (ptrdiff_t j = 0; j < n; j++) gradient[j] += alpha * params[j];
}

/* a rule's step of n weights, then the intercepts up to `last` */
static void N(rule_step)(T *params, T *gradient, void *const *state, const fgd_coef *coef, const fgd_stretch *s,
                         ptrdiff_t n, ptrdiff_t last)
{
    if (N(is_elementwise)(s)) {
        N(step)[s->rule](coef, params, gradient, state, last);
        return;
    }
    fgd_tensor tensor = {.param = params, .grad = gradient};
    memcpy(tensor.state, state, sizeof tensor.state);
    fgd_plan plan = {.rule = s->rule, .kind = fgd_rules[s->rule].kind, .coef = *coef};
    const fgd_pass pass = {.factor = 1};
    if (plan.kind == FGD_LISTWISE) {
        N(measure_range)(tensor.measured, &tensor, &plan, &pass, 0, last);
        N(adjusts)[plan.rule](&plan.coef, s->kept, tensor.measured);
        (void)N(update_range)(&tensor, &plan, &pass, 0, last);
        return;
    }
    /* a layer each: the weights, the intercepts */
    for (ptrdiff_t first = 0, end = n; first < last; first = end, end = last) {
        N(measure_range)(tensor.measured, &tensor, &plan, &pass, first, end - first);
        tensor.measured[2] = (double)(end - first);
        (void)N(update_range)(&tensor, &plan, &pass, first, end - first);
    }
}

/* any other rule, on gradient + alpha * weights; n weights, then the intercepts */
static void N(rule_update)(T *params, T *gradient, void *const *state, double lr, int64_t t, const fgd_stretch *s,
                           ptrdiff_t n, ptrdiff_t outputs)
{
    N(add_l2)(gradient, params, s, n);
    const fgd_coef coef = N(prepare_rule)(s, lr, t);
    N(rule_step)(params, gradient, state, &coef, s, n, n + (s->fit_intercept ? outputs : 0));
    N(constrain)(params, state[0], &coef, lr, s, n);
}

/* update number t with the gradient of a batch; n weights, then the intercepts */
static void N(update_params)(T *params, T *gradient, void *const *state, double lr, int64_t t, const fgd_stretch *s,
                             ptrdiff_t n, ptrdiff_t outputs)
{
    if (fgd_is_plain_sgd(s))
        N(plain_update)(params, gradient, lr, s, n, outputs);
    else
        N(rule_update)(params, gradient, state, lr, t, s, n, outputs);
}
