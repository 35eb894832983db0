/* Adam and its kin: an average gradient over an average of its size. A part of optim_rules.h. */

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

static const int N(adam_codes)[FGD_MAX_STATES] = {FGD_SIGNED8, FGD_UNSIGNED8, FGD_UNSIGNED8};

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
