/* Without a schedule, or without a learning rate. A part of optim_rules.h. */

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
