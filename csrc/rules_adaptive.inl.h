/* A rate for each element: the gradient over what its past was like. A part of optim_rules.h. */

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
