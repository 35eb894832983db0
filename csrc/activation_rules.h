/* EVERY activation: one row, and below it its value and its slope.
 *
 * ACTIVATION(name, parameter, its default, kept)
 *   kept   what the slope is worked out from: the VALUE, or the INPUT
 *
 * e is the activation's own parameter, at least 0. A NaN stays one. */
#ifndef FASTGD_ACTIVATION_RULES_H
#define FASTGD_ACTIVATION_RULES_H

#define FGD_ACTIVATION_RULES(ACTIVATION)                                                                               \
    ACTIVATION(identity, "", 0, VALUE)                                                                                 \
    ACTIVATION(relu, "", 0, VALUE)                                                                                     \
    ACTIVATION(leaky_relu, "negative_slope", 0.01, VALUE)                                                              \
    ACTIVATION(elu, "alpha", 1, VALUE)                                                                                 \
    ACTIVATION(gelu, "", 0, INPUT)                                                                                     \
    ACTIVATION(silu, "", 0, INPUT)                                                                                     \
    ACTIVATION(tanh, "", 0, VALUE)                                                                                     \
    ACTIVATION(logistic, "", 0, VALUE)                                                                                 \
    ACTIVATION(softplus, "", 0, VALUE)

#endif

#ifdef T /* the formulas, for one dtype: of the input x; of what is kept, x or the value v */

FGD_INLINE T N(identity_value)(T x, T e)
{
    (void)e;
    return x;
}

FGD_INLINE T N(identity_slope)(T v, T e)
{
    (void)v, (void)e;
    return 1;
}

/* Nair & Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010. */
FGD_INLINE T N(relu_value)(T x, T e)
{
    (void)e;
    return x < 0 ? 0 : x;
}

FGD_INLINE T N(relu_slope)(T v, T e)
{
    (void)e;
    return v > 0 ? 1 : 0;
}

/* Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", ICML 2013, eq. 2. */
FGD_INLINE T N(leaky_relu_value)(T x, T e) { return x < 0 ? e * x : x; }
FGD_INLINE T N(leaky_relu_slope)(T v, T e) { return v > 0 ? 1 : e; }

/* Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential linear units (ELUs)", ICLR
 * 2016, eq. 15. */
FGD_INLINE T N(elu_value)(T x, T e)
{
    const T below = e * N(expm1)(x);
    return x < 0 ? below : x;
}

FGD_INLINE T N(elu_slope)(T v, T e) { return v > 0 ? 1 : v + e; }

/* x Phi(x): Hendrycks & Gimpel, "Gaussian error linear units (GELUs)", arXiv 1606.08415, 2016, eq. 1. */
FGD_INLINE T N(gelu_value)(T x, T e)
{
    (void)e;
    return x * N(normal)(x);
}

FGD_INLINE T N(gelu_slope)(T x, T e)
{
    (void)e;
    return N(normal)(x) + x * (N(exp)((T)-0.5 * x * x) * (T)0.39894228040143267794);
}

/* x / (1 + exp(-x)): Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units for neural network function approximation in
 * reinforcement learning", Neural Networks 107, 2018, eq. 15 and 16. */
FGD_INLINE T N(silu_value)(T x, T e)
{
    (void)e;
    return x * N(logistic)(x);
}

FGD_INLINE T N(silu_slope)(T x, T e)
{
    (void)e;
    const T s = N(logistic)(x);
    return s * (1 + x * (1 - s));
}

/* (exp(2 |x|) - 1) / (exp(2 |x|) + 1), with the sign of x */
FGD_INLINE T N(tanh_value)(T x, T e)
{
    (void)e;
    const T grown = N(expm1)(x < 0 ? -2 * x : 2 * x), v = grown / (grown + 2);
    return x < 0 ? -v : v;
}

FGD_INLINE T N(tanh_slope)(T v, T e)
{
    (void)e;
    return 1 - v * v;
}

FGD_INLINE T N(logistic_value)(T x, T e)
{
    (void)e;
    return N(logistic)(x);
}

FGD_INLINE T N(logistic_slope)(T v, T e)
{
    (void)e;
    return v * (1 - v);
}

/* log(1 + exp(x)): Dugas, Bengio, Belisle, Nadeau, Garcia, "Incorporating second-order functional knowledge for better
 * option pricing", NIPS 2000, eq. 3. */
FGD_INLINE T N(softplus_value)(T x, T e)
{
    (void)e;
    return (x < 0 ? 0 : x) + N(log1p)(N(exp)(x < 0 ? x : -x));
}

FGD_INLINE T N(softplus_slope)(T v, T e)
{
    (void)e;
    return -N(expm1)(-v);
}

/* One set of functions an activation, over n elements. */
typedef struct {
    int keeps_input;
    void (*apply)(T *restrict value, const T *restrict x, ptrdiff_t n, T e);
    void (*apply_here)(T *x, ptrdiff_t n, T e);
    void (*slope)(T *restrict delta, const T *restrict kept, ptrdiff_t n, T e); /* delta times it */
} N(activation);

#define VALUE 0
#define INPUT 1
#define ACTIVATION(name, parameter, value, kept)                                                                       \
    static void N(name##_apply)(T *restrict v, const T *restrict x, ptrdiff_t n, T e)                                  \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) v[i] = N(name##_value)(x[i], e);                                             \
    }                                                                                                                  \
    static void N(name##_apply_here)(T * x, ptrdiff_t n, T e)                                                          \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) x[i] = N(name##_value)(x[i], e);                                             \
    }                                                                                                                  \
    static void N(name##_times_slope)(T *restrict d, const T *restrict v, ptrdiff_t n, T e)                            \
    {                                                                                                                  \
        for (ptrdiff_t i = 0; i < n; i++) d[i] *= N(name##_slope)(v[i], e);                                            \
    }
FGD_ACTIVATION_RULES(ACTIVATION)
#undef ACTIVATION

static const N(activation) N(activations)[] = {
#define ACTIVATION(name, parameter, value, kept) {kept, N(name##_apply), N(name##_apply_here), N(name##_times_slope)},
    FGD_ACTIVATION_RULES(ACTIVATION)
#undef ACTIVATION
};
#undef VALUE
#undef INPUT

#endif
