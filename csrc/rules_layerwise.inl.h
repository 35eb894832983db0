/* Steps whose length depends on measures of the whole tensor. A part of optim_rules.h. */

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
