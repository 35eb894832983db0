/* EVERY update rule: one row, and below it one formula.
 *
 * The row gives the name, the states (and when they are kept) and the hyper-parameters with default and domain, in
 * the order of torch.optim's arguments. Everything else that lists rules is generated from these rows: the info table,
 * the kernels, the Python classes, the tests and the benchmarks.
 *
 * The formula is `<rule>_prepare` (once a step: what does not depend on the element, worked out in double) and
 * `<rule>_point` (one element). Compiled without contraction of a*b+c, an element's bits do not depend on the
 * instruction set, on its place in the array or on the number of threads.
 *
 * A state that is not kept reads as zero and what is written to it is dropped. */
#ifndef FASTGD_OPTIM_RULES_H
#define FASTGD_OPTIM_RULES_H

#define FGD_OPTIM_RULES(RULE, STATES1, STATES2, S, HYPERS, H)                                                          \
    RULE(sgd, STATES1(S(momentum_buffer, momentum)),                                                                   \
         HYPERS(H(lr, 1e-3, FGD_NONNEGATIVE) H(momentum, 0, FGD_NONNEGATIVE) H(dampening, 0, FGD_REAL)                 \
                    H(weight_decay, 0, FGD_NONNEGATIVE) H(nesterov, 0, FGD_FLAG) H(maximize, 0, FGD_FLAG)))            \
    RULE(adam, STATES2(S(exp_avg, always), S(exp_avg_sq, always)),                                                     \
         HYPERS(H(lr, 1e-3, FGD_NONNEGATIVE) H(beta1, 0.9, FGD_UNIT) H(beta2, 0.999, FGD_UNIT)                         \
                    H(eps, 1e-8, FGD_NONNEGATIVE) H(weight_decay, 0, FGD_NONNEGATIVE) H(maximize, 0, FGD_FLAG)))       \
    RULE(adamw, STATES2(S(exp_avg, always), S(exp_avg_sq, always)),                                                    \
         HYPERS(H(lr, 1e-3, FGD_NONNEGATIVE) H(beta1, 0.9, FGD_UNIT) H(beta2, 0.999, FGD_UNIT)                         \
                    H(eps, 1e-8, FGD_NONNEGATIVE) H(weight_decay, 1e-2, FGD_NONNEGATIVE) H(maximize, 0, FGD_FLAG)))

#endif

#ifdef T /* the formulas, for one dtype */

/* SGD with momentum. Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
 * learning", ICML 2013, eq. 1-4, in torch's form: the buffer holds a sum of gradients, the learning rate outside it;
 * the first gradient enters undamped. */
typedef struct {
    T sign, weight_decay, keep, add, from_grad, from_buffer, lr;
} N(sgd_coef);

static inline N(sgd_coef) N(sgd_prepare)(const sgd_hypers *h, int64_t t)
{
    const int has_momentum = h->momentum != 0;
    const int nesterov = h->nesterov != 0;
    N(sgd_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.weight_decay = (T)h->weight_decay;
    c.keep = (T)(!has_momentum ? 1 : t == 1 ? 0 : h->momentum); /* without momentum the buffer rests */
    c.add = (T)(!has_momentum ? 0 : t == 1 ? 1 : 1 - h->dampening);
    c.from_grad = (T)(!has_momentum || nesterov ? 1 : 0);
    c.from_buffer = (T)(!has_momentum ? 0 : nesterov ? h->momentum : 1);
    c.lr = (T)h->lr;
    return c;
}

static inline void N(sgd_point)(T *p, T grad, T *momentum_buffer, const N(sgd_coef) *c)
{
    const T g = c->sign * grad + c->weight_decay * *p;
    *momentum_buffer = c->keep * *momentum_buffer + c->add * g;
    *p -= c->lr * (c->from_grad * g + c->from_buffer * *momentum_buffer);
}

/* Adam. Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1, weight decay as an L2 term
 * of the gradient; AdamW. Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2: the
 * same, with the decay taken from the parameter instead. */
typedef struct {
    T sign, l2, decay, one_minus_beta1, beta2, one_minus_beta2, inv_sqrt_correction2, eps, step_size;
} N(adam_coef);

static inline N(adam_coef) N(adam_prepare)(const adam_hypers *h, int64_t t)
{
    N(adam_coef) c;
    c.sign = h->maximize != 0 ? -1 : 1;
    c.l2 = (T)h->weight_decay;
    c.decay = 1;
    c.one_minus_beta1 = (T)(1 - h->beta1);
    c.beta2 = (T)h->beta2;
    c.one_minus_beta2 = (T)(1 - h->beta2);
    c.inv_sqrt_correction2 = (T)(1 / sqrt(1 - pow(h->beta2, (double)t)));
    c.eps = (T)h->eps;
    c.step_size = (T)(h->lr / (1 - pow(h->beta1, (double)t)));
    return c;
}

static inline void N(adam_point)(T *p, T grad, T *exp_avg, T *exp_avg_sq, const N(adam_coef) *c)
{
    const T decayed = c->decay * *p;
    const T g = c->sign * grad + c->l2 * decayed;
    *exp_avg += c->one_minus_beta1 * (g - *exp_avg);
    *exp_avg_sq = c->beta2 * *exp_avg_sq + c->one_minus_beta2 * g * g;
    *p = decayed - c->step_size * *exp_avg / (SQRT(*exp_avg_sq) * c->inv_sqrt_correction2 + c->eps);
}

typedef N(adam_coef) N(adamw_coef);

static inline N(adamw_coef) N(adamw_prepare)(const adamw_hypers *h, int64_t t)
{
    const adam_hypers plain = {h->lr, h->beta1, h->beta2, h->eps, 0, h->maximize};
    N(adamw_coef) c = N(adam_prepare)(&plain, t);
    c.decay = (T)(1 - h->lr * h->weight_decay);
    return c;
}

static inline void N(adamw_point)(T *p, T grad, T *exp_avg, T *exp_avg_sq, const N(adamw_coef) *c)
{
    N(adam_point)(p, grad, exp_avg, exp_avg_sq, c);
}

#endif
