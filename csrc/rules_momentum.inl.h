/* Steps along the gradient, its running sum or its sign. A part of optim_rules.h. */

/* SGD with momentum. Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
 * learning", ICML 2013, eq. 1-4, in torch's form: the buffer holds a sum of gradients, the learning rate outside it;
 * the first gradient enters undamped. */
typedef struct {
    T sign, weight_decay, keep, add, from_grad, from_buffer, lr;
} N(sgd_coef);

static const int N(sgd_codes)[FGD_MAX_STATES] = {FGD_SIGNED8};

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

static const int N(lion_codes)[FGD_MAX_STATES] = {FGD_SIGNED8};

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
