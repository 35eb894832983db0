/* EVERY update rule: one row here, and one formula in the rules_*.inl.h of its family, named as in reference/rules/.
 *
 * A row: RULE(name, formula, kind, STATES(n always kept, n optional, ...), KEPT(...), HYPERS(...)).
 * - S(state, kept_if): an array like the parameter, zero at first; those that are always kept come first, the others
 *   exist while the hyper-parameter `kept_if` is not zero. A state that is not kept reads as zero, and what is written
 *   to it is dropped.
 *   A rule of kind FACTORED has S(state, vector) S(state, rows) S(state, columns), of which the formula sees the first.
 * - K(name): a number that the rule carries from step to step; zero at first.
 * - H(name, default, domain): a hyper-parameter, in the order of torch.optim's arguments. Words that end in
 *   digits make a tuple (beta1, beta2: betas; not l1, l2), an underscore behind the digit keeps them out of it (beta3_
 *   is called beta3); `maximize` and what follows it goes by keyword. NAN, the default of an optional one, is None.
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
    RULE(sgd, sgd, CODED, STATES(0, 1, S(momentum_buffer, momentum)), KEPT(),                                          \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(momentum, 0, NONNEGATIVE) H(dampening, 0, REAL)                             \
                    H(weight_decay, 0, NONNEGATIVE) H(nesterov, 0, FLAG) H(maximize, 0, FLAG)))                        \
    RULE(adam, adam, CODED, STATES(2, 1, S(exp_avg, always) S(exp_avg_sq, always) S(max_exp_avg_sq, amsgrad)), KEPT(), \
         HYPERS(H(lr, 1e-3, NONNEGATIVE) H(beta1, 0.9, UNIT) H(beta2, 0.999, UNIT) H(eps, 1e-8, NONNEGATIVE)           \
                    H(weight_decay, 0, NONNEGATIVE) H(amsgrad, 0, FLAG) H(maximize, 0, FLAG)                           \
                        H(decoupled_weight_decay, 0, FLAG)))                                                           \
    RULE(adamw, adam, CODED, STATES(2, 1, S(exp_avg, always) S(exp_avg_sq, always) S(max_exp_avg_sq, amsgrad)),        \
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
    RULE(lion, lion, CODED, STATES(1, 0, S(exp_avg, always)), KEPT(),                                                  \
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

/* Rules that see the rows of a linear model, not only their gradient: their formula is the loop of their room, and no
 * optimizer of arrays is made of them. Their numbers follow those of the others. */
#define FGD_ONLINE_RULES(RULE, STATES, S, KEPT, K, HYPERS, H)                                                          \
    RULE(vw, vw, ONLINE, STATES(0, 2, S(sum, adaptive) S(largest, normalized)), KEPT(K(seen) K(learned) K(norm)),      \
         HYPERS(H(lr, 0.5, NONNEGATIVE) H(power_t, 0.5, NONNEGATIVE) H(adaptive, 1, FLAG) H(normalized, 1, FLAG)       \
                    H(invariant, 1, FLAG)))

#endif

#ifdef T /* the formulas, for one dtype; SQRT is its square root */

#define SIGN(x) ((x) > 0 ? (T)1 : (x) < 0 ? (T) - 1 : (x)) /* NaN stays NaN */
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define MIN(a, b) ((a) < (b) ? (a) : (b))

#include "rules_momentum.inl.h"
#include "rules_moments.inl.h"
#include "rules_adaptive.inl.h"
#include "rules_layerwise.inl.h"
#include "rules_tuning_free.inl.h"
#include "rules_matrix.inl.h"

#undef SIGN
#undef MAX
#undef MIN

#endif
