/* EVERY pointwise loss: one row, and below it its value and its derivative with respect to the prediction.
 *
 * p is the prediction, y the target (-1 or +1 for a classifier), e the loss's own parameter. The derivatives are
 * scikit-learn's at the kinks. Everything else that lists losses is generated from these rows. */
#ifndef FASTGD_LOSS_RULES_H
#define FASTGD_LOSS_RULES_H

/* LOSS(name, task, parameter) */
#define FGD_LOSS_RULES(LOSS)                                                                                           \
    LOSS(hinge, "classification", "")                                                                                  \
    LOSS(log_loss, "classification", "")                                                                               \
    LOSS(squared_error, "both", "")                                                                                    \
    LOSS(huber, "both", "epsilon")

#endif

#ifdef T /* the formulas, for one dtype */

/* Hinge: max(0, 1 - y p). Cortes & Vapnik, "Support-vector networks", Machine Learning 20, 1995. */
static inline T N(hinge_value)(T y, T p, T e)
{
    (void)e;
    const T margin = 1 - y * p;
    return margin > 0 ? margin : 0;
}

static inline T N(hinge_derivative)(T y, T p, T e)
{
    (void)e;
    return y * p <= 1 ? -y : 0;
}

/* Logistic: log(1 + exp(-y p)), the deviance of a Bernoulli target with logit p. Cox, "The regression analysis of
 * binary sequences", JRSS B 20, 1958. Written so that neither sign of y p overflows. */
static inline T N(log_loss_value)(T y, T p, T e)
{
    (void)e;
    const T z = y * p;
    return N(log1p)(N(exp)(z > 0 ? -z : z)) + (z < 0 ? -z : 0);
}

static inline T N(log_loss_derivative)(T y, T p, T e)
{
    (void)e;
    return -y / (1 + N(exp)(y * p));
}

/* Squared error: (p - y)^2 / 2. Gauss, "Theoria motus", 1809. */
static inline T N(squared_error_value)(T y, T p, T e)
{
    (void)e;
    return (T)0.5 * (p - y) * (p - y);
}

static inline T N(squared_error_derivative)(T y, T p, T e)
{
    (void)e;
    return p - y;
}

/* Huber: r^2 / 2 for |r| <= e, else e |r| - e^2 / 2, r = p - y. Huber, "Robust estimation of a location parameter",
 * Ann. Math. Statist. 35, 1964. */
static inline T N(huber_value)(T y, T p, T e)
{
    const T r = p - y, a = r < 0 ? -r : r;
    return a <= e ? (T)0.5 * r * r : e * a - (T)0.5 * e * e;
}

static inline T N(huber_derivative)(T y, T p, T e)
{
    const T r = p - y;
    return r > e ? e : r < -e ? -e : r;
}

#endif
