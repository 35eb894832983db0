/* Matrices made orthonormal; how: muon.inl.h. A part of optim_rules.h. */

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
