/* EVERY update rule: one row, and below it one formula.
 *
 * A row: RULE(name, formula, kind, STATES(n always kept, n optional, ...), KEPT(...), HYPERS(...)).
 * - S(state, kept_if): an array like the parameter, zero at first; those that are always kept come first, the others
 *   exist while the hyper-parameter `kept_if` is not zero. A state that is not kept reads as zero, and what is written
 *   to it is dropped.
 *   A rule of kind FACTORED has S(state, vector) S(state, rows) S(state, columns), of which the formula sees the first.
 * - K(name): a number that the rule carries from step to step; zero at first.
 * - H(name, default, domain): a hyper-parameter, in the order of torch.optim's arguments. Words that end in
 *   digits make a tuple (beta1, beta2: betas; not l1, l2), an underscore behind the digit keeps them out of it (beta3_
 * is called beta3); `maximize` and what follows it goes by keyword. NAN, the default of an optional one, is None.
 * Everything else that lists rules is generated from these rows: the info table, the kernels, the Python classes, the
 * tests, the benchmarks and the table in the documentation.
 *
 * A formula is `<rule>_prepare` (once a step: what does not depend on the element, worked out in double; it may change
 * what is kept), and `<formula>_point` (one element). `first` is 1 in the first step of a parameter's states, else 0.
 * A rule of kind LAYERWISE has two parts more: `<formula>_measure` gives two numbers for an element before anything is
 * changed, and `<formula>_adjust` gets their sums over the tensor. So has one of kind LISTWISE, whose sums are over all
 * tensors, and which keeps the same numbers for all of them; its `<formula>_adjust` may change what is kept, too.
 * One of kind FACTORED, which is LAYERWISE, has three parts besides: `<formula>_fold` gives the new moment of a row or
 * column, `<formula>_estimate` that of an element from those two, and `<formula>_matrices` tells the coefficients that
 * the formula's state holds such an estimate.
 * A rule of kind MATRIX, or HYBRID, has three: `<formula>_direction` moves the first state on and gives what is to be
 * made orthonormal, `<formula>_iteration` says how, and `<formula>_fit` what the shape does to the step;
 * `<formula>_point` finds the result in s->each[FGD_ORTHONORMAL], and the first state as if it were not kept.
 * Compiled without contraction of a*b+c, an element's bits do not depend on the instruction set, on its place in the
 * array or on the number of threads. */
#ifndef FASTGD_OPTIM_RULES_H
#define FASTGD_OPTIM_RULES_H

#define FGD_OPTIM_RULES(RULE, STATES, S, KEPT, K, HYPERS, H)                                                           \
    RULE(sgd, sgd, ELEMENTWISE, STATES(0, 1, S(momentum_buffer, momentum)), KEPT(),                                    \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(momentum, 0, NONNEGATIVE) H(dampening, 0, REAL)                             \
                    H(weight_decay, 0, NONNEGATIVE) H(nesterov, 0, FLAG) H(maximize, 0, FLAG)))                        \
    RULE(adam, adam, ELEMENTWISE, STATES(2, 1, S(exp_avg, always) S(exp_avg_sq, always) S(max_exp_avg_sq, amsgrad)),   \
         KEPT(),                                                                                                       \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 0, NONNEGATIVE) H(amsgrad, 0, FLAG) H(maximize, 0, FLAG)                           \
                        H(decoupled_weight_decay, 0, FLAG)))                                                           \
    RULE(adamw, adam, ELEMENTWISE, STATES(2, 1, S(exp_avg, always) S(exp_avg_sq, always) S(max_exp_avg_sq, amsgrad)),  \
         KEPT(),                                                                                                       \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 1e-2, NONNEGATIVE) H(amsgrad, 0, FLAG) H(maximize, 0, FLAG)))                      \
    RULE(nadam, nadam, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_sq, always)), KEPT(K(mu_product)),       \
         HYPERS(H(lr, 2e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 0, NONNEGATIVE) H(momentum_decay, 4e-3, NONNEGATIVE)                               \
                        H(decoupled_weight_decay, 0, FLAG) H(maximize, 0, FLAG)))                                      \
    RULE(radam, radam, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_sq, always)), KEPT(),                    \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 0, NONNEGATIVE) H(decoupled_weight_decay, 0, FLAG) H(maximize, 0, FLAG)))          \
    RULE(adamax, adamax, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_inf, always)), KEPT(),                     \
         HYPERS(H(lr, 2e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))                                             \
    RULE(adagrad, adagrad, ELEMENTWISE, STATES(1, 0, S(sum, always)), KEPT(),                                          \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(lr_decay, 0, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE)                   \
                    H(initial_accumulator_value, 0, NONNEGATIVE) H(eps, 1e-10, NONNEGATIVE) H(maximize, 0, FLAG)))     \
    RULE(adadelta, adadelta, ELEMENTWISE, STATES(2, 0, S(square_avg, always) S(acc_delta, always)), KEPT(),            \
         HYPERS(H(lr, 1, NONNEGATIVE) H(rho, 0.9, UNIT) H(eps, 1e-6, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE)      \
                    H(maximize, 0, FLAG)))                                                                             \
    RULE(rmsprop, rmsprop, ELEMENTWISE,                                                                                \
         STATES(1, 2, S(square_avg, always) S(momentum_buffer, momentum) S(grad_avg, centered)), KEPT(),               \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(alpha, 0.99, NONNEGATIVE) H(eps, 1e-8, NONNEGATIVE) H(                      \
             weight_decay, 0, NONNEGATIVE) H(momentum, 0, NONNEGATIVE) H(centered, 0, FLAG) H(maximize, 0, FLAG)))     \
    RULE(rprop, rprop, ELEMENTWISE, STATES(2, 0, S(prev, always) S(step_size, always)), KEPT(),                        \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(eta1, 0.5, UNIT) H(eta2, 1.2, ABOVE_ONE) H(step_size1, 1e-6, NONNEGATIVE)   \
                    H(step_size2, 50, NONNEGATIVE) H(maximize, 0, FLAG)))                                              \
    RULE(asgd, asgd, ELEMENTWISE, STATES(1, 0, S(ax, always)), KEPT(K(eta) K(mu)),                                     \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(lambd, 1e-4, REAL) H(alpha, 0.75, REAL) H(t0, 1e6, REAL)                    \
                    H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))                                             \
    RULE(lion, lion, ELEMENTWISE, STATES(1, 0, S(exp_avg, always)), KEPT(),                                            \
         HYPERS(H(lr, 1e-4, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.99, UNIT) H(weight_decay, 0, NONNEGATIVE)      \
                    H(maximize, 0, FLAG)))                                                                             \
    RULE(signum, signum, ELEMENTWISE, STATES(0, 1, S(exp_avg, momentum)), KEPT(),                                      \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(momentum, 0.9, UNIT) H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG))) \
    RULE(adabelief, adabelief, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_var, always)), KEPT(),           \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-16, NONNEGATIVE)          \
                    H(eps_root, 1e-16, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))             \
    RULE(yogi, yogi, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_sq, always)), KEPT(),                      \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-3, NONNEGATIVE) H(        \
             initial_accumulator_value, 1e-6, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))      \
    RULE(adan, adan, ELEMENTWISE,                                                                                      \
         STATES(4, 0, S(exp_avg, always) S(exp_avg_diff, always) S(exp_avg_sq, always) S(previous_grad, always)),      \
         KEPT(),                                                                                                       \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.98, UNIT) H(beta2, 0.92, UNIT) H(beta3, 0.99, UNIT)                \
                    H(eps, 1e-8, NONNEGATIVE) H(eps_root, 1e-8, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE)           \
                        H(maximize, 0, FLAG)))                                                                         \
    RULE(ftrl, ftrl, ELEMENTWISE, STATES(2, 0, S(z, always) S(sum, always)), KEPT(),                                   \
         HYPERS(H(lr, 0.1, POSITIVE) H(beta, 1, POSITIVE) H(l1, 0, NONNEGATIVE) H(l2, 0, NONNEGATIVE)                  \
                    H(maximize, 0, FLAG)))                                                                             \
    RULE(schedule_free_sgd, schedule_free_sgd, ELEMENTWISE, STATES(1, 0, S(z, always)), KEPT(K(weight_sum) K(lr_max)), \
         HYPERS(H(lr, 1, NONNEGATIVE) H(beta, 0.9, INSIDE_UNIT) H(weight_decay, 0, NONNEGATIVE)                        \
                    H(weight_lr_power, 2, NONNEGATIVE) H(maximize, 0, FLAG)))                                          \
    RULE(schedule_free_adamw, schedule_free_adamw, ELEMENTWISE, STATES(2, 0, S(exp_avg_sq, always) S(z, always)),      \
         KEPT(K(weight_sum) K(lr_max)),                                                                                \
         HYPERS(H(lr, 2.5e-3, NONNEGATIVE) H(beta1, 0.9, INSIDE_UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)  \
                    H(weight_decay, 0, NONNEGATIVE) H(weight_lr_power, 2, NONNEGATIVE) H(maximize, 0, FLAG)))          \
    RULE(lars, lars, LAYERWISE, STATES(0, 1, S(momentum_buffer, momentum)), KEPT(),                                    \
         HYPERS(H(lr, 0.1, NONNEGATIVE) H(momentum, 0.9, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE) H(               \
             trust_coefficient, 1e-3, NONNEGATIVE) H(eps, 0, NONNEGATIVE) H(nesterov, 0, FLAG) H(maximize, 0, FLAG)))  \
    RULE(lamb, lamb, LAYERWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_sq, always)), KEPT(),                        \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-6, NONNEGATIVE)           \
                    H(eps_root, 0, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))                 \
    RULE(prodigy, prodigy, LISTWISE,                                                                                   \
         STATES(4, 0, S(exp_avg, always) S(exp_avg_sq, always) S(grad_sum, always) S(params0, always)),                \
         KEPT(K(d) K(numerator_weighted)),                                                                             \
         HYPERS(H(lr, 1, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(beta3_, NAN, OPTIONAL_UNIT)          \
                    H(eps, 1e-8, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE) H(safeguard_warmup, 0, FLAG)             \
                        H(d0, 1e-6, POSITIVE) H(d_coef, 1, POSITIVE) H(maximize, 0, FLAG)))                            \
    RULE(sparse_adam, sparse_adam, ELEMENTWISE, STATES(2, 0, S(exp_avg, always) S(exp_avg_sq, always)), KEPT(),        \
         HYPERS(H(lr, 1e-3, POSITIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, POSITIVE)                 \
                    H(maximize, 0, FLAG)))                                                                             \
    RULE(adafactor, adafactor, FACTORED, STATES(1, 2, S(variance, vector) S(row_var, rows) S(col_var, columns)),       \
         KEPT(),                                                                                                       \
         HYPERS(H(lr, 1e-2, NONNEGATIVE) H(beta2_decay, -0.8, NONPOSITIVE) H(eps1, NAN, OPTIONAL) H(                   \
             eps2, 1e-3, NONNEGATIVE) H(d, 1, AT_LEAST_ONE) H(weight_decay, 0, NONNEGATIVE) H(maximize, 0, FLAG)))     \
    RULE(muon, muon, MATRIX, STATES(1, 0, S(momentum_buffer, always)), KEPT(),                                         \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(weight_decay, 0.1, NONNEGATIVE) H(momentum, 0.95, NONNEGATIVE)              \
                    H(nesterov, 1, FLAG) H(ns_coefficient1, 3.4445, REAL) H(ns_coefficient2, -4.7750, REAL)            \
                        H(ns_coefficient3, 2.0315, REAL) H(eps, 1e-7, NONNEGATIVE) H(ns_steps, 5, COUNT)               \
                            H(adjust_lr_fn, 0, ADJUST_LR) H(maximize, 0, FLAG)))                                       \
    RULE(musgd, musgd, HYBRID, STATES(1, 1, S(momentum_buffer, always) S(momentum_buffer_SGD, use_muon)), KEPT(),      \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(momentum, 0, NONNEGATIVE) H(weight_decay, 0, NONNEGATIVE)                   \
                    H(nesterov, 0, FLAG) H(use_muon, 0, FLAG) H(muon, 0.5, NONNEGATIVE) H(sgd, 0.5, NONNEGATIVE)       \
                        H(maximize, 0, FLAG)))

#endif

#ifdef T /* the formulas, for one dtype; SQRT is its square root */

#define SIGN(x) ((x) != (x) ? (x) : (T)(((x) > 0) - ((x) < 0))) /* NaN stays NaN */
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* SGD with momentum. Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
 * learning", ICML 2013, eq. 1-4, in torch's form: the buffer holds a sum of gradients, the learning rate outside it;
 * the first gradient enters undamped. */
typedef struct {
    T sign, weight_decay, keep, add, from_grad, from_buffer, lr;
} N(sgd_coef);

static inline N(sgd_coef) N(sgd_prepare)(const sgd_hypers *h, sgd_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t;
    const int has_momentum = h->momentum != 0;
    const int nesterov = h->nesterov != 0;
    N(sgd_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.keep = (T)(!has_momentum ? 1 : first ? 0 : h->momentum); /* without momentum the buffer rests */
    c.add = (T)(!has_momentum ? 0 : first ? 1 : 1 - h->dampening);
    c.from_grad = (T)(!has_momentum || nesterov ? 1 : 0);
    c.from_buffer = (T)(!has_momentum ? 0 : nesterov ? h->momentum : 1);
    c.lr = (T)h->lr;
    return c;
}

static inline void N(sgd_point)(T *p, T grad, N(sgd_states) *s, const N(sgd_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    s->momentum_buffer = c->keep * s->momentum_buffer + c->add * g;
    *p -= c->lr * (c->from_grad * g + c->from_buffer * s->momentum_buffer);
}

/* What Adam and its kin have in common: weight decay, as an L2 term of the gradient or taken from the parameter, and
 * moving averages of the gradient and of its square (Kingma & Ba, ICLR 2015, algorithm 1). */
typedef struct {
    T sign, l2, decay, one_minus_beta1, beta2, one_minus_beta2;
} N(averages);

static inline N(averages)
    N(prepare_averages)(double lr, double beta1, double beta2, double weight_decay, int decoupled, double maximize)
{
    N(averages) a;
    a.sign = maximize != 0 ? -1 : 1;
    a.l2 = (T)(decoupled ? 0 : weight_decay);
    a.decay = (T)(decoupled ? 1 - lr * weight_decay : 1);
    a.one_minus_beta1 = (T)(1 - beta1);
    a.beta2 = (T)beta2;
    a.one_minus_beta2 = (T)(1 - beta2);
    return a;
}

/* Takes the decay from *p, moves the averages on and gives the gradient that they saw. */
static inline T N(move_averages)(T *p, T grad, T *exp_avg, T *exp_avg_sq, const N(averages) *a)
{
    *p = a->decay * *p;
    const T g = a->sign * grad + a->l2 * *p;
    *exp_avg += a->one_minus_beta1 * (g - *exp_avg);
    *exp_avg_sq = a->beta2 * *exp_avg_sq + a->one_minus_beta2 * g * g;
    return g;
}

/* Adam. Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1, weight decay as an L2 term
 * of the gradient. AdamW. Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2: the
 * same, with the decay taken from the parameter instead. AMSGrad. Reddi, Kale, Kumar, "On the convergence of Adam and
 * beyond", ICLR 2018, algorithm 2: the largest second average so far; without it that state reads as zero. */
typedef struct {
    N(averages) averages;
    T inv_sqrt_correction2, eps, step_size;
} N(adam_coef);

static inline N(adam_coef) N(adam_prepare)(const adam_hypers *h, adam_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    N(adam_coef) c;
    c.averages =
        N(prepare_averages)(h->lr, h->beta1, h->beta2, h->weight_decay, h->decoupled_weight_decay != 0, h->maximize);
    c.inv_sqrt_correction2 = (T)(1 / sqrt(1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.step_size = (T)(h->lr / (1 - pow(h->beta1, (double)t)));
    return c;
}

static inline N(adam_coef) N(adamw_prepare)(const adamw_hypers *h, adamw_kept *kept, int64_t t, int first)
{
    (void)kept;
    const adam_hypers decoupled = {.lr = h->lr,
                                   .beta1 = h->beta1,
                                   .beta2 = h->beta2,
                                   .eps = h->eps,
                                   .weight_decay = h->weight_decay,
                                   .maximize = h->maximize,
                                   .decoupled_weight_decay = 1};
    return N(adam_prepare)(&decoupled, NULL, t, first);
}

static inline void N(adam_point)(T *p, T grad, N(adam_states) *s, const N(adam_coef) *c)
{
    (void)N(move_averages)(p, grad, &s->exp_avg, &s->exp_avg_sq, &c->averages);
    s->max_exp_avg_sq = MAX(s->max_exp_avg_sq, s->exp_avg_sq);
    *p -= c->step_size * s->exp_avg / (SQRT(s->max_exp_avg_sq) * c->inv_sqrt_correction2 + c->eps);
}

/* SparseAdam: Adam on the rows that the gradient has, the others and what is kept of them rest; eps as in torch, added
 * before the correction. */
typedef struct {
    N(averages) averages;
    T eps, step_size;
} N(sparse_adam_coef);

static inline N(sparse_adam_coef)
    N(sparse_adam_prepare)(const sparse_adam_hypers *h, sparse_adam_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    N(sparse_adam_coef) c;
    c.averages = N(prepare_averages)(h->lr, h->beta1, h->beta2, 0, 0, h->maximize);
    c.eps = (T)h->eps;
    c.step_size = (T)(h->lr * sqrt(1 - pow(h->beta2, (double)t)) / (1 - pow(h->beta1, (double)t)));
    return c;
}

static inline void N(sparse_adam_point)(T *p, T grad, N(sparse_adam_states) *s, const N(sparse_adam_coef) *c)
{
    (void)N(move_averages)(p, grad, &s->exp_avg, &s->exp_avg_sq, &c->averages);
    *p -= c->step_size * s->exp_avg / (SQRT(s->exp_avg_sq) + c->eps);
}

/* NAdam. Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop, section 3, algorithm 2, with the
 * momentum schedule mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2). */
typedef struct {
    N(averages) averages;
    T inv_sqrt_correction2, eps, from_grad, from_avg;
} N(nadam_coef);

static inline N(nadam_coef) N(nadam_prepare)(const nadam_hypers *h, nadam_kept *kept, int64_t t, int first)
{
    const double mu = h->beta1 * (1 - 0.5 * pow(0.96, (double)t * h->momentum_decay));
    const double next_mu = h->beta1 * (1 - 0.5 * pow(0.96, (double)(t + 1) * h->momentum_decay));
    kept->mu_product = (first ? 1 : kept->mu_product) * mu;
    N(nadam_coef) c;
    c.averages =
        N(prepare_averages)(h->lr, h->beta1, h->beta2, h->weight_decay, h->decoupled_weight_decay != 0, h->maximize);
    c.inv_sqrt_correction2 = (T)(1 / sqrt(1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.from_grad = (T)(h->lr * (1 - mu) / (1 - kept->mu_product));
    c.from_avg = (T)(h->lr * next_mu / (1 - kept->mu_product * next_mu));
    return c;
}

static inline void N(nadam_point)(T *p, T grad, N(nadam_states) *s, const N(nadam_coef) *c)
{
    const T g = N(move_averages)(p, grad, &s->exp_avg, &s->exp_avg_sq, &c->averages);
    *p -= (c->from_grad * g + c->from_avg * s->exp_avg) / (SQRT(s->exp_avg_sq) * c->inv_sqrt_correction2 + c->eps);
}

/* RAdam. Liu, Jiang, He, Chen, Liu, Gao, Han, "On the variance of the adaptive learning rate and beyond", ICLR 2020,
 * algorithm 2: plain momentum until the variance of the adaptive rate is tractable (rho > 5), then rectified Adam. */
typedef struct {
    N(averages) averages;
    T eps, plain, rectified;
} N(radam_coef);

static inline N(radam_coef) N(radam_prepare)(const radam_hypers *h, radam_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    const double beta2_t = pow(h->beta2, (double)t), correction2 = 1 - beta2_t;
    const double rho_inf = 2 / (1 - h->beta2) - 1, rho = rho_inf - 2 * (double)t * beta2_t / correction2;
    const double step_size = h->lr / (1 - pow(h->beta1, (double)t));
    const double rect = sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho));
    N(radam_coef) c;
    c.averages =
        N(prepare_averages)(h->lr, h->beta1, h->beta2, h->weight_decay, h->decoupled_weight_decay != 0, h->maximize);
    c.eps = (T)h->eps;
    c.plain = (T)(rho > 5 ? 0 : step_size);
    c.rectified = (T)(rho > 5 ? step_size * rect * sqrt(correction2) : 0);
    return c;
}

static inline void N(radam_point)(T *p, T grad, N(radam_states) *s, const N(radam_coef) *c)
{
    (void)N(move_averages)(p, grad, &s->exp_avg, &s->exp_avg_sq, &c->averages);
    const T denominator = c->rectified != 0 ? SQRT(s->exp_avg_sq) + c->eps : 1;
    *p -= s->exp_avg * (c->plain + c->rectified / denominator);
}

/* Adamax. Kingma & Ba, ICLR 2015, algorithm 2; eps, as in torch, inside the infinity norm. */
typedef struct {
    T sign, weight_decay, one_minus_beta1, beta2, eps, step_size;
} N(adamax_coef);

static inline N(adamax_coef) N(adamax_prepare)(const adamax_hypers *h, adamax_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    N(adamax_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.beta2 = (T)h->beta2;
    c.eps = (T)h->eps;
    c.step_size = (T)(h->lr / (1 - pow(h->beta1, (double)t)));
    return c;
}

static inline void N(adamax_point)(T *p, T grad, N(adamax_states) *s, const N(adamax_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    const T size = (g < 0 ? -g : g) + c->eps, old = c->beta2 * s->exp_inf;
    s->exp_avg += c->one_minus_beta1 * (g - s->exp_avg);
    s->exp_inf = MAX(size, old);
    *p -= c->step_size * s->exp_avg / s->exp_inf;
}

/* Adagrad. Duchi, Hazan, Singer, "Adaptive subgradient methods for online learning and stochastic optimization",
 * J. Mach. Learn. Res. 12, 2011, the diagonal form of figure 1 (primal-dual without regulariser). */
typedef struct {
    T sign, weight_decay, initial, eps, rate;
} N(adagrad_coef);

static inline N(adagrad_coef) N(adagrad_prepare)(const adagrad_hypers *h, adagrad_kept *kept, int64_t t, int first)
{
    (void)kept;
    N(adagrad_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.initial = (T)(first ? h->initial_accumulator_value : 0);
    c.eps = (T)h->eps;
    c.rate = (T)(h->lr / (1 + (double)(t - 1) * h->lr_decay));
    return c;
}

static inline void N(adagrad_point)(T *p, T grad, N(adagrad_states) *s, const N(adagrad_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    s->sum = (s->sum + c->initial) + g * g;
    *p -= c->rate * g / (SQRT(s->sum) + c->eps);
}

/* Adadelta. Zeiler, "ADADELTA: an adaptive learning rate method", arXiv:1212.5701, 2012, algorithm 1. */
typedef struct {
    T sign, weight_decay, rho, one_minus_rho, eps, lr;
} N(adadelta_coef);

static inline N(adadelta_coef) N(adadelta_prepare)(const adadelta_hypers *h, adadelta_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(adadelta_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.rho = (T)h->rho;
    c.one_minus_rho = (T)(1 - h->rho);
    c.eps = (T)h->eps;
    c.lr = (T)h->lr;
    return c;
}

static inline void N(adadelta_point)(T *p, T grad, N(adadelta_states) *s, const N(adadelta_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    s->square_avg = c->rho * s->square_avg + c->one_minus_rho * g * g;
    const T delta = SQRT(s->acc_delta + c->eps) / SQRT(s->square_avg + c->eps) * g;
    s->acc_delta = c->rho * s->acc_delta + c->one_minus_rho * delta * delta;
    *p -= c->lr * delta;
}

/* RMSprop. Tieleman & Hinton, "Neural networks for machine learning", lecture 6.5, Coursera 2012; centered: Graves,
 * "Generating sequences with recurrent neural networks", arXiv:1308.0850, 2013, eq. 38-45, eps outside the root as in
 * torch. */
typedef struct {
    T sign, weight_decay, alpha, one_minus_alpha, center, eps, momentum, lr;
} N(rmsprop_coef);

static inline N(rmsprop_coef) N(rmsprop_prepare)(const rmsprop_hypers *h, rmsprop_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(rmsprop_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.alpha = (T)h->alpha;
    c.one_minus_alpha = (T)(1 - h->alpha);
    c.center = (T)(h->centered != 0 ? 1 - h->alpha : 0); /* uncentered, the average of the gradient stays zero */
    c.eps = (T)h->eps;
    c.momentum = (T)h->momentum;
    c.lr = (T)h->lr;
    return c;
}

static inline void N(rmsprop_point)(T *p, T grad, N(rmsprop_states) *s, const N(rmsprop_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    s->square_avg = c->alpha * s->square_avg + c->one_minus_alpha * g * g;
    s->grad_avg += c->center * (g - s->grad_avg);
    const T variance = s->square_avg - s->grad_avg * s->grad_avg; /* rounding may put it below zero */
    s->momentum_buffer = c->momentum * s->momentum_buffer + g / (SQRT(MAX(variance, 0)) + c->eps);
    *p -= c->lr * s->momentum_buffer;
}

/* Rprop. Riedmiller & Braun, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm",
 * IEEE ICNN 1993, without taking steps back, as torch. */
typedef struct {
    T sign, start, eta_minus, eta_plus, smallest, largest;
} N(rprop_coef);

static inline N(rprop_coef) N(rprop_prepare)(const rprop_hypers *h, rprop_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t;
    N(rprop_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.start = (T)(first ? h->lr : 0);
    c.eta_minus = (T)h->eta1;
    c.eta_plus = (T)h->eta2;
    c.smallest = (T)h->step_size1;
    c.largest = (T)h->step_size2;
    return c;
}

static inline void N(rprop_point)(T *p, T grad, N(rprop_states) *s, const N(rprop_coef) *c)
{
    const T g = c->sign * grad, turn = g * s->prev;
    const T factor = turn > 0 ? c->eta_plus : turn < 0 ? c->eta_minus : 1;
    const T size = (s->step_size + c->start) * factor, enough = MAX(size, c->smallest);
    s->step_size = MIN(enough, c->largest);
    s->prev = turn < 0 ? 0 : g;
    *p -= SIGN(s->prev) * s->step_size;
}

/* ASGD. Polyak & Juditsky, "Acceleration of stochastic approximation by averaging", SIAM J. Control Optim. 30(4), 1992;
 * rates as in Xu, "Towards optimal one pass large scale learning with averaged stochastic gradient descent",
 * arXiv:1107.2490, 2011. A step uses the rates that the step before worked out. */
typedef struct {
    T sign, weight_decay, shrink, eta, mu;
} N(asgd_coef);

static inline N(asgd_coef) N(asgd_prepare)(const asgd_hypers *h, asgd_kept *kept, int64_t t, int first)
{
    if (first) kept->eta = h->lr, kept->mu = 1;
    N(asgd_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.shrink = (T)(1 - h->lambd * kept->eta);
    c.eta = (T)kept->eta;
    c.mu = (T)kept->mu;
    kept->eta = h->lr / pow(1 + h->lambd * h->lr * (double)t, h->alpha);
    kept->mu = 1 / ((double)t - h->t0 > 1 ? (double)t - h->t0 : 1);
    return c;
}

static inline void N(asgd_point)(T *p, T grad, N(asgd_states) *s, const N(asgd_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    *p = c->shrink * *p - c->eta * g;
    const T averaged = s->ax + c->mu * (*p - s->ax);
    s->ax = c->mu == 1 ? *p : averaged;
}

/* Lion. Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu, Le, "Symbolic discovery of optimization
 * algorithms", NeurIPS 2023, algorithm 2. */
typedef struct {
    T sign, beta1, one_minus_beta1, beta2, one_minus_beta2, decay, lr;
} N(lion_coef);

static inline N(lion_coef) N(lion_prepare)(const lion_hypers *h, lion_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(lion_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.beta1 = (T)h->beta1;
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.beta2 = (T)h->beta2;
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.decay = (T)(1 - h->lr * h->weight_decay);
    c.lr = (T)h->lr;
    return c;
}

static inline void N(lion_point)(T *p, T grad, N(lion_states) *s, const N(lion_coef) *c)
{
    const T g = c->sign * grad, direction = c->beta1 * s->exp_avg + c->one_minus_beta1 * g;
    *p = c->decay * *p - c->lr * SIGN(direction);
    s->exp_avg = c->beta2 * s->exp_avg + c->one_minus_beta2 * g;
}

/* Signum, and signSGD with momentum 0. Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: compressed optimisation
 * for non-convex problems", ICML 2018, algorithms 1 and 2. */
typedef struct {
    T sign, momentum, one_minus_momentum, decay, lr;
} N(signum_coef);

static inline N(signum_coef) N(signum_prepare)(const signum_hypers *h, signum_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(signum_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.momentum = (T)h->momentum;
    c.one_minus_momentum = (T)(1 - h->momentum);
    c.decay = (T)(1 - h->lr * h->weight_decay);
    c.lr = (T)h->lr;
    return c;
}

static inline void N(signum_point)(T *p, T grad, N(signum_states) *s, const N(signum_coef) *c)
{
    s->exp_avg = c->momentum * s->exp_avg + c->one_minus_momentum * (c->sign * grad);
    *p = c->decay * *p - c->lr * SIGN(s->exp_avg);
}

/* AdaBelief. Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris, Duncan, "AdaBelief optimizer: adapting stepsizes by
 * the belief in observed gradients", NeurIPS 2020, algorithm 2, with optax's two epsilons. */
typedef struct {
    T sign, one_minus_beta1, beta2, one_minus_beta2, correction1, correction2, eps, eps_root, lr, weight_decay;
} N(adabelief_coef);

static inline N(adabelief_coef)
    N(adabelief_prepare)(const adabelief_hypers *h, adabelief_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    N(adabelief_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.beta2 = (T)h->beta2;
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.correction1 = (T)(1 / (1 - pow(h->beta1, (double)t)));
    c.correction2 = (T)(1 / (1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.eps_root = (T)h->eps_root;
    c.lr = (T)h->lr;
    c.weight_decay = (T)h->weight_decay;
    return c;
}

static inline void N(adabelief_point)(T *p, T grad, N(adabelief_states) *s, const N(adabelief_coef) *c)
{
    const T g = c->sign * grad;
    s->exp_avg += c->one_minus_beta1 * (g - s->exp_avg);
    const T surprise = g - s->exp_avg;
    s->exp_avg_var = (c->beta2 * s->exp_avg_var + c->one_minus_beta2 * surprise * surprise) + c->eps_root;
    const T step = s->exp_avg * c->correction1 / (SQRT(s->exp_avg_var * c->correction2) + c->eps);
    *p -= c->lr * (step + c->weight_decay * *p);
}

/* Yogi. Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive methods for nonconvex optimization", NeurIPS 2018, algorithm 2;
 * bias correction and start as in optax. */
typedef struct {
    T sign, start, one_minus_beta1, one_minus_beta2, correction1, correction2, eps, lr, weight_decay;
} N(yogi_coef);

static inline N(yogi_coef) N(yogi_prepare)(const yogi_hypers *h, yogi_kept *kept, int64_t t, int first)
{
    (void)kept;
    N(yogi_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.start = (T)(first ? h->initial_accumulator_value : 0);
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.correction1 = (T)(1 / (1 - pow(h->beta1, (double)t)));
    c.correction2 = (T)(1 / (1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.lr = (T)h->lr;
    c.weight_decay = (T)h->weight_decay;
    return c;
}

static inline void N(yogi_point)(T *p, T grad, N(yogi_states) *s, const N(yogi_coef) *c)
{
    const T g = c->sign * grad, square = g * g;
    const T average = s->exp_avg + c->start, square_average = s->exp_avg_sq + c->start;
    s->exp_avg = average + c->one_minus_beta1 * (g - average);
    s->exp_avg_sq = square_average - c->one_minus_beta2 * SIGN(square_average - square) * square;
    const T step = s->exp_avg * c->correction1 / (SQRT(s->exp_avg_sq * c->correction2) + c->eps);
    *p -= c->lr * (step + c->weight_decay * *p);
}

/* Adan. Xie, Zhou, Li, Lin, Yan, "Adan: adaptive Nesterov momentum algorithm for faster optimizing deep models",
 * arXiv:2208.06677, 2022, algorithm 1; as in optax, whose betas are one minus the paper's. */
typedef struct {
    T sign, was_there, one_minus_beta1, one_minus_beta2, beta3, one_minus_beta3, correction1, correction2, correction3,
        eps, eps_root, lr, weight_decay;
} N(adan_coef);

static inline N(adan_coef) N(adan_prepare)(const adan_hypers *h, adan_kept *kept, int64_t t, int first)
{
    (void)kept;
    N(adan_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.was_there = first ? 0 : 1; /* the first gradient has none before it */
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.beta3 = (T)h->beta3;
    c.one_minus_beta3 = (T)(1 - h->beta3);
    c.correction1 = (T)(1 / (1 - pow(h->beta1, (double)t)));
    c.correction2 = (T)((1 - h->beta2) / (1 - pow(h->beta2, (double)t)));
    c.correction3 = (T)(1 / (1 - pow(h->beta3, (double)t)));
    c.eps = (T)h->eps;
    c.eps_root = (T)h->eps_root;
    c.lr = (T)h->lr;
    c.weight_decay = (T)h->weight_decay;
    return c;
}

static inline void N(adan_point)(T *p, T grad, N(adan_states) *s, const N(adan_coef) *c)
{
    const T g = c->sign * grad, diff = c->was_there * (g - s->previous_grad), ahead = g + c->one_minus_beta2 * diff;
    s->exp_avg += c->one_minus_beta1 * (g - s->exp_avg);
    s->exp_avg_diff += c->one_minus_beta2 * (diff - s->exp_avg_diff);
    s->exp_avg_sq = c->beta3 * s->exp_avg_sq + c->one_minus_beta3 * ahead * ahead;
    s->previous_grad = g;
    const T direction = s->exp_avg * c->correction1 + s->exp_avg_diff * c->correction2;
    const T step = direction / (SQRT(s->exp_avg_sq * c->correction3 + c->eps_root) + c->eps);
    *p -= c->lr * (step + c->weight_decay * *p);
}

/* FTRL-Proximal. McMahan et al., "Ad click prediction: a view from the trenches", KDD 2013, algorithm 1, lr for alpha
 * and sum for n; z starts where the formula gives the weights of the start. */
typedef struct {
    T sign, start, l1, beta, inv_lr, l2;
} N(ftrl_coef);

static inline N(ftrl_coef) N(ftrl_prepare)(const ftrl_hypers *h, ftrl_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t;
    N(ftrl_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.start = first ? 1 : 0;
    c.l1 = (T)h->l1;
    c.beta = (T)h->beta;
    c.inv_lr = (T)(1 / h->lr);
    c.l2 = (T)h->l2;
    return c;
}

static inline void N(ftrl_point)(T *p, T grad, N(ftrl_states) *s, const N(ftrl_coef) *c)
{
    const T g = c->sign * grad, sum = s->sum + g * g;
    const T sigma = (SQRT(sum) - SQRT(s->sum)) * c->inv_lr;
    const T z = s->z - c->start * (*p * (c->beta * c->inv_lr + c->l2) + SIGN(*p) * c->l1);
    s->z = z + (g - sigma * *p);
    s->sum = sum;
    const T size = s->z < 0 ? -s->z : s->z, excess = size > c->l1 ? s->z - SIGN(s->z) * c->l1 : 0;
    *p = -excess / ((c->beta + SQRT(sum)) * c->inv_lr + c->l2);
}

/* Schedule-free SGD and AdamW. Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The road less scheduled", NeurIPS
 * 2024, eq. 2-4 and algorithm 1, weights as in optax: z takes the steps, x is the average of all z, and the parameter
 * is y between them, where the gradient is taken. x is not kept: y = beta x + (1 - beta) z. */
typedef struct {
    T sign, l2, decay, start, beta, one_minus_beta, inv_beta, share, one_minus_share, beta2, one_minus_beta2,
        inv_sqrt_correction2, eps, lr;
} N(schedule_free_coef);

static inline N(schedule_free_coef)
    N(schedule_free_prepare)(double lr, double beta, double power, int first, double *weight_sum, double *lr_max)
{
    if (first) *weight_sum = *lr_max = 0;
    *lr_max = MAX(lr, *lr_max);
    const double weight = pow(*lr_max, power);
    *weight_sum += weight;
    const double share = *weight_sum != 0 ? weight / *weight_sum : 0;
    N(schedule_free_coef) c = {0};
    c.start = first ? 1 : 0;
    c.beta = (T)beta;
    c.one_minus_beta = (T)(1 - beta);
    c.inv_beta = (T)(1 / beta);
    c.share = (T)share;
    c.one_minus_share = (T)(1 - share);
    c.lr = (T)lr;
    return c;
}

static inline void N(schedule_free_move)(T *y, T *z, T step, const N(schedule_free_coef) *c)
{
    const T old = *z + c->start * *y, x = (*y - c->one_minus_beta * old) * c->inv_beta;
    *z = old - c->lr * step;
    *y = c->beta * (c->one_minus_share * x + c->share * *z) + c->one_minus_beta * *z;
}

typedef N(schedule_free_coef) N(schedule_free_sgd_coef);

static inline N(schedule_free_coef)
    N(schedule_free_sgd_prepare)(const schedule_free_sgd_hypers *h, schedule_free_sgd_kept *kept, int64_t t, int first)
{
    (void)t;
    N(schedule_free_coef) c =
        N(schedule_free_prepare)(h->lr, h->beta, h->weight_lr_power, first, &kept->weight_sum, &kept->lr_max);
    c.sign = h->maximize != 0 ? -1 : 1;
    c.l2 = (T)h->weight_decay;
    return c;
}

static inline void N(schedule_free_sgd_point)(T *p, T grad, N(schedule_free_sgd_states) *s,
                                              const N(schedule_free_coef) *c)
{
    N(schedule_free_move)(p, &s->z, c->sign * grad + c->l2 * *p, c);
}

typedef N(schedule_free_coef) N(schedule_free_adamw_coef);

static inline N(schedule_free_coef) N(schedule_free_adamw_prepare)(const schedule_free_adamw_hypers *h,
                                                                   schedule_free_adamw_kept *kept, int64_t t, int first)
{
    N(schedule_free_coef) c =
        N(schedule_free_prepare)(h->lr, h->beta1, h->weight_lr_power, first, &kept->weight_sum, &kept->lr_max);
    c.sign = h->maximize != 0 ? -1 : 1;
    c.decay = (T)h->weight_decay;
    c.beta2 = (T)h->beta2;
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.inv_sqrt_correction2 = (T)(1 / sqrt(1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    return c;
}

static inline void N(schedule_free_adamw_point)(T *p, T grad, N(schedule_free_adamw_states) *s,
                                                const N(schedule_free_coef) *c)
{
    const T g = c->sign * grad;
    s->exp_avg_sq = c->beta2 * s->exp_avg_sq + c->one_minus_beta2 * g * g;
    const T step = g / (SQRT(s->exp_avg_sq) * c->inv_sqrt_correction2 + c->eps);
    N(schedule_free_move)(p, &s->z, step + c->decay * *p, c);
}

static inline double N(square)(T x) { return (double)x * (double)x; }

/* What a layer-wise rule multiplies its step by: |parameter| / (|update| + eps), or 1 where one of them is zero. */
static inline double N(trust_ratio)(const double *measured, double coefficient, double eps)
{
    const double param_norm = sqrt(measured[0]), update_norm = sqrt(measured[1]);
    return param_norm == 0 || update_norm == 0 ? 1 : coefficient * param_norm / (update_norm + eps);
}

/* LARS. You, Gitman, Ginsburg, "Large batch training of convolutional networks", arXiv:1708.03888, 2017, algorithm 1;
 * the denominator of the ratio as in optax. */
typedef struct {
    T sign, weight_decay, trust_coefficient, eps, momentum, nesterov, lr;
} N(lars_coef);

static inline N(lars_coef) N(lars_prepare)(const lars_hypers *h, lars_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(lars_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.trust_coefficient = (T)h->trust_coefficient;
    c.eps = (T)h->eps;
    c.momentum = (T)h->momentum;
    c.nesterov = h->nesterov != 0;
    c.lr = (T)h->lr;
    return c;
}

static inline void N(lars_measure)(double *of_param, double *of_update, T p, T grad, N(lars_states) s,
                                   const N(lars_coef) *c)
{
    (void)s;
    *of_param = N(square)(p);
    *of_update = N(square)(c->sign * grad + c->weight_decay * p);
}

static inline void N(lars_adjust)(N(lars_coef) *c, const double *measured)
{
    c->lr = (T)(c->lr * N(trust_ratio)(measured, c->trust_coefficient, c->eps));
}

static inline void N(lars_point)(T *p, T grad, N(lars_states) *s, const N(lars_coef) *c)
{
    const T step = c->lr * (c->sign * grad + c->weight_decay * *p);
    s->momentum_buffer = c->momentum * s->momentum_buffer + step;
    *p -= c->nesterov != 0 ? step + c->momentum * s->momentum_buffer : s->momentum_buffer;
}

/* LAMB. You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer, Hsieh, "Large batch optimization for deep
 * learning: training BERT in 76 minutes", ICLR 2020, algorithm 2, phi the identity. */
typedef struct {
    N(averages) averages; /* of the gradient without decay, which is part of the direction */
    T correction1, correction2, eps, eps_root, lr, weight_decay;
} N(lamb_coef);

static inline N(lamb_coef) N(lamb_prepare)(const lamb_hypers *h, lamb_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    N(lamb_coef) c;
    c.averages = N(prepare_averages)(h->lr, h->beta1, h->beta2, 0, 0, h->maximize);
    c.correction1 = (T)(1 / (1 - pow(h->beta1, (double)t)));
    c.correction2 = (T)(1 / (1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.eps_root = (T)h->eps_root;
    c.lr = (T)h->lr;
    c.weight_decay = (T)h->weight_decay;
    return c;
}

/* the direction of the step; moves the averages on */
static inline T N(lamb_direction)(T p, T grad, N(lamb_states) *s, const N(lamb_coef) *c)
{
    (void)N(move_averages)(&p, grad, &s->exp_avg, &s->exp_avg_sq, &c->averages);
    const T root = SQRT(s->exp_avg_sq * c->correction2 + c->eps_root);
    return s->exp_avg * c->correction1 / (root + c->eps) + c->weight_decay * p;
}

static inline void N(lamb_measure)(double *of_param, double *of_update, T p, T grad, N(lamb_states) s,
                                   const N(lamb_coef) *c)
{
    *of_param = N(square)(p);
    *of_update = N(square)(N(lamb_direction)(p, grad, &s, c));
}

static inline void N(lamb_adjust)(N(lamb_coef) *c, const double *measured)
{
    c->lr = (T)(c->lr * N(trust_ratio)(measured, 1, 0));
}

static inline void N(lamb_point)(T *p, T grad, N(lamb_states) *s, const N(lamb_coef) *c)
{
    *p -= c->lr * N(lamb_direction)(*p, grad, s, c);
}

/* Prodigy. Mishchenko & Defazio, "Prodigy: an expeditiously adaptive parameter-free learner", ICML 2024, algorithm 4
 * (Adam), as in optax: with the bias correction in the rate, the new d in front of eps, and both sums over d0. One
 * estimate d of the distance to the solution serves all tensors: as long as going on from params0 is downhill, it is
 * further than thought. */
typedef struct {
    T sign, start, beta1, from_grad, beta2, from_square, beta3, weight, to_distance, rate, eps, weight_decay;
    double forget, d_coef;
} N(prodigy_coef);

static inline N(prodigy_coef) N(prodigy_prepare)(const prodigy_hypers *h, prodigy_kept *kept, int64_t t, int first)
{
    if (kept->d == 0) kept->d = h->d0; /* no tensor has taken a step yet */
    const double d = kept->d, beta3 = h->beta3_ == h->beta3_ ? h->beta3_ : sqrt(h->beta2);
    const double rate = h->lr * d * sqrt(1 - pow(h->beta2, (double)t)) / (1 - pow(h->beta1, (double)t));
    N(prodigy_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.start = first ? 1 : 0;
    c.beta1 = (T)h->beta1;
    c.from_grad = (T)((1 - h->beta1) * d);
    c.beta2 = (T)h->beta2;
    c.from_square = (T)((1 - h->beta2) * d * d);
    c.beta3 = (T)beta3;
    c.weight = (T)((h->safeguard_warmup != 0 ? d : rate) * d / h->d0);
    c.to_distance = (T)(rate * d / h->d0);
    c.rate = (T)rate;
    c.eps = (T)h->eps;
    c.weight_decay = (T)h->weight_decay;
    c.forget = beta3;
    c.d_coef = h->d_coef;
    return c;
}

/* moves the sum of gradients on */
static inline T N(prodigy_sum)(T grad, N(prodigy_states) *s, const N(prodigy_coef) *c)
{
    return s->grad_sum = c->beta3 * s->grad_sum + c->weight * (c->sign * grad);
}

static inline void N(prodigy_measure)(double *downhill, double *length, T p, T grad, N(prodigy_states) s,
                                      const N(prodigy_coef) *c)
{
    const double way = (double)(s.params0 + c->start * p) - (double)p, sum = N(prodigy_sum)(grad, &s, c);
    *downhill = (double)c->to_distance * (double)(c->sign * grad) * way;
    *length = sum < 0 ? -sum : sum;
}

static inline void N(prodigy_adjust)(N(prodigy_coef) *c, prodigy_kept *kept, const double *measured)
{
    kept->numerator_weighted = c->forget * kept->numerator_weighted + measured[0];
    if (measured[1] != 0) kept->d = MAX(kept->d, c->d_coef * kept->numerator_weighted / measured[1]);
    c->eps = (T)(c->eps * kept->d);
}

static inline void N(prodigy_point)(T *p, T grad, N(prodigy_states) *s, const N(prodigy_coef) *c)
{
    const T g = c->sign * grad;
    s->params0 += c->start * *p;
    (void)N(prodigy_sum)(grad, s, c);
    s->exp_avg = c->beta1 * s->exp_avg + c->from_grad * g;
    s->exp_avg_sq = c->beta2 * s->exp_avg_sq + c->from_square * g * g;
    *p -= c->rate * (s->exp_avg / (SQRT(s->exp_avg_sq) + c->eps) + c->weight_decay * *p);
}

/* Adafactor. Shazeer & Stern, "Adafactor: adaptive learning rates with sublinear memory cost", ICML 2018, algorithms 4
 * (matrices) and 5 (vectors), the steps of section 8, in torch's form: eps1 cuts off instead of being added, rows are
 * divided by their mean, weight decay is decoupled. */
typedef struct {
    T sign, keep, add, eps, decay, step;
    double eps2, d;
} N(adafactor_coef);

static inline N(adafactor_coef)
    N(adafactor_prepare)(const adafactor_hypers *h, adafactor_kept *kept, int64_t t, int first)
{
    (void)kept, (void)first;
    const double forget = pow((double)t, h->beta2_decay), slowest = 1 / sqrt((double)t);
    N(adafactor_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.keep = (T)(1 - forget);
    c.add = (T)forget;
    c.eps = (T)(h->eps1 == h->eps1 ? h->eps1 : ldexp(1, -MANTISSA_BITS));
    c.decay = (T)(1 - h->lr * h->weight_decay);
    c.step = (T)MIN(h->lr, slowest);
    c.eps2 = h->eps2;
    c.d = h->d;
    return c;
}

static inline T N(adafactor_fold)(T old, double mean_square, const N(adafactor_coef) *c)
{
    return c->keep * old + c->add * (T)mean_square;
}

static inline T N(adafactor_estimate)(T row, T column, double mean, const N(adafactor_coef) *c)
{
    return row / MAX((T)mean, c->eps) * column;
}

static inline void N(adafactor_matrices)(N(adafactor_coef) *c) { c->keep = 1, c->add = 0; }

/* the gradient over its root mean square */
static inline T N(adafactor_direction)(T grad, T *variance, const N(adafactor_coef) *c)
{
    const T g = c->sign * grad, floor = c->eps * c->eps;
    *variance = c->keep * *variance + c->add * (g * g);
    return g / SQRT(MAX(*variance, floor));
}

static inline void N(adafactor_measure)(double *of_param, double *of_update, T p, T grad, N(adafactor_states) s,
                                        const N(adafactor_coef) *c)
{
    *of_param = N(square)(p);
    *of_update = N(square)(N(adafactor_direction)(grad, &s.variance, c));
}

static inline void N(adafactor_adjust)(N(adafactor_coef) *c, const double *measured)
{
    const double param = sqrt(measured[0] / measured[2]), excess = sqrt(measured[1] / measured[2]) / c->d;
    c->step = (T)(c->step * MAX(c->eps2, param) / MAX(1, excess));
}

static inline void N(adafactor_point)(T *p, T grad, N(adafactor_states) *s, const N(adafactor_coef) *c)
{
    *p = c->decay * *p - c->step * N(adafactor_direction)(grad, &s->variance, c);
}

/* Muon. Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein, "Muon: an optimizer for hidden layers in neural
 * networks", 2024: momentum, whose matrix is made orthonormal. adjust_lr_fn 1 (and 0): the rate as there; 2: Liu et
 * al., "Muon is scalable for LLM training", arXiv:2502.16982, 2025, eq. 4. Decay as in torch, from the parameter. */
typedef struct {
    T sign, momentum, one_minus_momentum, nesterov;
} N(muon_average);

/* Moves the average gradient on and gives what a step follows: it, or it one step ahead. */
static inline T N(muon_follow)(T grad, T *average, const N(muon_average) *a)
{
    const T g = a->sign * grad;
    *average = a->momentum * *average + a->one_minus_momentum * g;
    return a->nesterov != 0 ? a->momentum * *average + a->one_minus_momentum * g : *average;
}

static inline N(muon_average) N(prepare_muon_average)(double momentum, double nesterov, double maximize)
{
    const N(muon_average) a = {maximize != 0 ? -1 : 1, (T)momentum, (T)(1 - momentum), nesterov != 0};
    return a;
}

typedef struct {
    N(muon_average) average;
    T decay, rate, adjust_lr_fn;
} N(muon_coef);

static inline N(muon_coef) N(muon_prepare)(const muon_hypers *h, muon_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(muon_coef) c;
    c.average = N(prepare_muon_average)(h->momentum, h->nesterov, h->maximize);
    c.decay = (T)(1 - h->lr * h->weight_decay);
    c.rate = (T)h->lr;
    c.adjust_lr_fn = (T)h->adjust_lr_fn;
    return c;
}

static inline fgd_iteration N(muon_iteration)(const muon_hypers *h)
{
    const fgd_iteration iteration = {
        h->ns_coefficient1, h->ns_coefficient2, h->ns_coefficient3, h->eps, 0, (int)h->ns_steps, 1};
    return iteration;
}

static inline T N(muon_direction)(T grad, N(muon_states) *s, const N(muon_coef) *c)
{
    return N(muon_follow)(grad, &s->momentum_buffer, &c->average);
}

static inline void N(muon_fit)(N(muon_coef) *c, const fgd_tensor *tensor)
{
    const double rows = (double)tensor->outer, columns = (double)tensor->size / rows;
    c->rate *= (T)(c->adjust_lr_fn == 2 ? 0.2 * sqrt(MAX(rows, columns)) : sqrt(MAX(1, rows / columns)));
}

static inline void N(muon_point)(T *p, T grad, N(muon_states) *s, const N(muon_coef) *c)
{
    (void)grad;
    *p = c->decay * *p - c->rate * s->each[FGD_ORTHONORMAL];
}

/* MuSGD, as Ultralytics trains YOLO26: Muon with the usual coefficients, then SGD with momentum, whose weight decay
 * already sees the parameter that Muon has moved. Where use_muon is false, SGD alone, with momentum_buffer; what is no
 * matrix has the SGD half only. The rate follows the last two sides of the tensor, not those of the flattened matrix.
 */
typedef struct {
    N(muon_average) average;
    T momentum, weight_decay, use_muon, rate, lr;
} N(musgd_coef);

static inline N(musgd_coef) N(musgd_prepare)(const musgd_hypers *h, musgd_kept *kept, int64_t t, int first)
{
    (void)kept, (void)t, (void)first;
    N(musgd_coef) c;
    c.average = N(prepare_muon_average)(h->momentum, h->nesterov, h->maximize);
    c.momentum = (T)h->momentum;
    c.weight_decay = (T)h->weight_decay;
    c.use_muon = h->use_muon != 0;
    c.rate = (T)(h->lr * h->muon);
    c.lr = (T)(h->use_muon != 0 ? h->lr * h->sgd : h->lr);
    return c;
}

static inline fgd_iteration N(musgd_iteration)(const musgd_hypers *h)
{
    const fgd_iteration iteration = {3.4445, -4.7750, 2.0315, 0, 1e-7, 5, h->use_muon != 0};
    return iteration;
}

static inline T N(musgd_direction)(T grad, N(musgd_states) *s, const N(musgd_coef) *c)
{
    return N(muon_follow)(grad, &s->momentum_buffer, &c->average);
}

static inline void N(musgd_fit)(N(musgd_coef) *c, const fgd_tensor *tensor)
{
    const double ratio = (double)tensor->sides[0] / (double)tensor->sides[1];
    c->rate *= (T)sqrt(MAX(1, ratio));
}

static inline void N(musgd_point)(T *p, T grad, N(musgd_states) *s, const N(musgd_coef) *c)
{
    const T moved = *p - c->rate * s->each[FGD_ORTHONORMAL];
    const T g = c->average.sign * grad + c->weight_decay * moved;
    const T buffer = c->momentum * (c->use_muon != 0 ? s->momentum_buffer_SGD : s->momentum_buffer) + g;
    s->momentum_buffer = s->momentum_buffer_SGD = buffer; /* one of them is not kept */
    *p = moved - c->lr * (c->average.nesterov != 0 ? g + c->momentum * buffer : buffer);
}

#undef SIGN
#undef MAX
#undef MIN

#endif
