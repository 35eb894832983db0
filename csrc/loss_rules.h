/* EVERY pointwise loss: one row, and below it its value and its derivative with respect to the prediction.
 *
 * p is the prediction, y the target, e the loss's own parameter. At the kinks the derivatives are scikit-learn's, where
 * it has the loss. Everything else that lists losses is generated from these rows:
 *
 * LOSS(name, task, parameter, its default, its domain, targets, link, bounded)
 *   task     "classification", "regression" or "both"
 *   targets  "sign": -1 or +1 for a classifier, or the domain of what a regression learns: "real", "nonnegative",
 *            "positive", or "power", which is one of these three and depends on the parameter
 *   link     of what is predicted: p is the "identity", "log" or "logit" of it
 *   bounded  1 if the derivative stays between -4 and 4 whatever is predicted
 *
 * Where a value overflows it becomes infinite or NaN, never a finite number: that is how training notices. */
#ifndef FASTGD_LOSS_RULES_H
#define FASTGD_LOSS_RULES_H

#define FGD_LOSS_RULES(LOSS)                                                                                           \
    LOSS(hinge, "classification", "", 0, REAL, "sign", "identity", 1)                                                  \
    LOSS(log_loss, "classification", "", 0, REAL, "sign", "logit", 1)                                                  \
    LOSS(modified_huber, "classification", "", 0, REAL, "sign", "identity", 1)                                         \
    LOSS(squared_hinge, "classification", "", 0, REAL, "sign", "identity", 0)                                          \
    LOSS(perceptron, "classification", "", 0, REAL, "sign", "identity", 1)                                             \
    LOSS(focal, "classification", "gamma", 2, NONNEGATIVE, "sign", "logit", 0)                                         \
    LOSS(squared_error, "both", "", 0, REAL, "real", "identity", 0)                                                    \
    LOSS(huber, "both", "epsilon", 0.1, NONNEGATIVE, "real", "identity", 0)                                            \
    LOSS(epsilon_insensitive, "both", "epsilon", 0.1, NONNEGATIVE, "real", "identity", 1)                              \
    LOSS(squared_epsilon_insensitive, "both", "epsilon", 0.1, NONNEGATIVE, "real", "identity", 0)                      \
    LOSS(pinball, "regression", "quantile", 0.5, INSIDE_UNIT, "real", "identity", 1)                                   \
    LOSS(expectile, "regression", "expectile", 0.5, INSIDE_UNIT, "real", "identity", 0)                                \
    LOSS(poisson, "regression", "", 0, REAL, "nonnegative", "log", 0)                                                  \
    LOSS(gamma, "regression", "", 0, REAL, "positive", "log", 0)                                                       \
    LOSS(tweedie, "regression", "power", 1.5, REAL, "power", "log", 0)

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

/* Squared hinge: max(0, 1 - y p)^2. Hsieh, Chang, Lin, Keerthi, Sundararajan, "A dual coordinate descent method for
 * large-scale linear SVM", ICML 2008, eq. 2. */
static inline T N(squared_hinge_value)(T y, T p, T e)
{
    (void)e;
    const T margin = 1 - y * p;
    return margin > 0 ? margin * margin : 0;
}

static inline T N(squared_hinge_derivative)(T y, T p, T e)
{
    (void)e;
    const T margin = 1 - y * p;
    return margin > 0 ? -2 * y * margin : 0;
}

/* Perceptron: max(0, -y p). Rosenblatt, "The perceptron: a probabilistic model for information storage and organization
 * in the brain", Psychological Review 65, 1958, as a loss. */
static inline T N(perceptron_value)(T y, T p, T e)
{
    (void)e;
    const T z = y * p;
    return z < 0 ? -z : 0;
}

static inline T N(perceptron_derivative)(T y, T p, T e)
{
    (void)e;
    return y * p <= 0 ? -y : 0;
}

/* Modified Huber: max(0, 1 - z)^2 for z = y p >= -1, else -4 z. Zhang, "Solving large scale linear prediction problems
 * using stochastic gradient descent algorithms", ICML 2004, sec. 2. */
static inline T N(modified_huber_value)(T y, T p, T e)
{
    (void)e;
    const T z = y * p, margin = 1 - z;
    return z >= 1 ? 0 : z >= -1 ? margin * margin : -4 * z;
}

static inline T N(modified_huber_derivative)(T y, T p, T e)
{
    (void)e;
    const T z = y * p;
    return z >= 1 ? 0 : z >= -1 ? -2 * y * (1 - z) : -4 * y;
}

/* log(1 + exp(-z)), written so that neither sign of z overflows */
FGD_INLINE T N(softplus_of_minus)(T z) { return N(log1p)(N(exp)(z > 0 ? -z : z)) + (z < 0 ? -z : 0); }

/* Logistic: log(1 + exp(-y p)), the deviance of a Bernoulli target with logit p. Cox, "The regression analysis of
 * binary sequences", JRSS B 20, 1958. */
static inline T N(log_loss_value)(T y, T p, T e)
{
    (void)e;
    return N(softplus_of_minus)(y * p);
}

static inline T N(log_loss_derivative)(T y, T p, T e)
{
    (void)e;
    return N(over_one_plus_exp)(-y, y * p);
}

/* Focal: -q^e log(1 - q), q = 1 / (1 + exp(y p)) the probability of the wrong class. Lin, Goyal, Girshick, He, Dollar,
 * "Focal loss for dense object detection", ICCV 2017, eq. 4; the derivative is appendix B's. q^e = exp(e log q). */
static inline T N(focal_value)(T y, T p, T e)
{
    const T z = y * p;
    return N(exp)(-e * N(softplus_of_minus)(-z)) * N(softplus_of_minus)(z);
}

static inline T N(focal_derivative)(T y, T p, T e)
{
    const T z = y * p, right = N(logistic)(z), wrong = N(logistic)(-z);
    const T surprise = N(softplus_of_minus)(z < EXP_MIN ? EXP_MIN : z); /* infinity times right = 0 is 0 */
    return -y * N(exp)(-e * N(softplus_of_minus)(-z)) * (e * right * surprise + wrong);
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

/* Epsilon-insensitive: max(0, |p - y| - e). Vapnik, "The nature of statistical learning theory", 1995, sec. 6.1. */
static inline T N(epsilon_insensitive_value)(T y, T p, T e)
{
    const T r = p - y, beyond = (r < 0 ? -r : r) - e;
    return beyond > 0 ? beyond : 0;
}

static inline T N(epsilon_insensitive_derivative)(T y, T p, T e)
{
    const T r = p - y;
    return r > e ? 1 : r < -e ? -1 : 0;
}

/* Squared epsilon-insensitive: max(0, |p - y| - e)^2. Ho & Lin, "Large-scale linear support vector regression", JMLR
 * 13, 2012, eq. 4. */
static inline T N(squared_epsilon_insensitive_value)(T y, T p, T e)
{
    const T beyond = N(epsilon_insensitive_value)(y, p, e);
    return beyond * beyond;
}

static inline T N(squared_epsilon_insensitive_derivative)(T y, T p, T e)
{
    const T r = p - y;
    return r > e ? 2 * (r - e) : r < -e ? 2 * (r + e) : 0;
}

/* Pinball, for the quantile e: e r for r = y - p >= 0, else (e - 1) r. Koenker & Bassett, "Regression quantiles",
 * Econometrica 46, 1978, eq. 3.1. */
static inline T N(pinball_value)(T y, T p, T e)
{
    const T r = y - p;
    return r >= 0 ? e * r : (e - 1) * r;
}

static inline T N(pinball_derivative)(T y, T p, T e) { return y >= p ? -e : 1 - e; }

/* For the expectile e: e r^2 for r = y - p >= 0, else (1 - e) r^2. Newey & Powell, "Asymmetric least squares estimation
 * and testing", Econometrica 55, 1987, eq. 2.1. */
static inline T N(expectile_value)(T y, T p, T e)
{
    const T r = y - p;
    return (r >= 0 ? e : 1 - e) * r * r;
}

static inline T N(expectile_derivative)(T y, T p, T e)
{
    const T r = y - p;
    return -2 * (r >= 0 ? e : 1 - e) * r;
}

/* exp(x); infinity beyond the range where N(exp) stays at its largest number */
FGD_INLINE T N(exp_or_infinity)(T x) { return x > EXP_MAX ? (T)INFINITY : N(exp)(x); }

/* Half the deviances of generalised linear models whose prediction is exp(p), without what does not depend on p: Nelder
 * & Wedderburn, "Generalized linear models", JRSS A 135, 1972.
 *
 * Poisson: exp(p) - y p. */
static inline T N(poisson_value)(T y, T p, T e)
{
    (void)e;
    return N(exp_or_infinity)(p) - y * p;
}

static inline T N(poisson_derivative)(T y, T p, T e)
{
    (void)e;
    return N(exp_or_infinity)(p) - y;
}

/* Gamma: p + y exp(-p). */
static inline T N(gamma_value)(T y, T p, T e)
{
    (void)e;
    return p + y * N(exp_or_infinity)(-p);
}

static inline T N(gamma_derivative)(T y, T p, T e)
{
    (void)e;
    return 1 - y * N(exp_or_infinity)(-p);
}

/* Tweedie, whose variance is the prediction to the power e: exp((2 - e) p) / (2 - e) - y exp((1 - e) p) / (1 - e).
 * Jorgensen, "Exponential dispersion models", JRSS B 49, 1987, sec. 3. Poisson at e = 1 and gamma at e = 2. */

/* The integral of exp(a p) over p. */
FGD_INLINE T N(integral_of_exp)(T a, T p) { return a == 0 ? p : N(exp_or_infinity)(a * p) / a; }

static inline T N(tweedie_value)(T y, T p, T e)
{
    const T of_y = y * N(integral_of_exp)(1 - e, p);
    return N(integral_of_exp)(2 - e, p) - (y == 0 ? 0 : of_y); /* not 0 times infinity */
}

static inline T N(tweedie_derivative)(T y, T p, T e)
{
    const T of_y = y * N(exp_or_infinity)((1 - e) * p);
    return N(exp_or_infinity)((2 - e) * p) - (y == 0 ? 0 : of_y);
}

#endif
