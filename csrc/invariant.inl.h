/* Steps that twice the importance is the row twice for: one path for each loss.
 *
 * A step c moves the prediction by s c. Instead of -h l'(p), with h the learning rate times the row's weight, c is that
 * of many rows of importance dh one after the other: the prediction follows dp/dh = -s l'(p) from 0 to h, and c is what
 * it moves, divided by s (Karampatziakis & Langford, "Online importance weight aware updates", UAI 2011, eq. 3 and
 * table 1). So it never passes where the loss is least. Here, in one place, is what each loss does:
 *
 *   exact           all that are piecewise linear or quadratic; log_loss, by iteration; poisson and gamma
 *   implicit        focal and tweedie, which have no closed form: c = -h l'(p + s c), the gradient where the step ends
 *                   (Kulis & Bartlett, "Implicit online learning", ICML 2010, eq. 2)
 *   -h l'(p)        perceptron: from weights of zero, where its loss ends, it would never move
 *
 * A path gets y, p and e as the loss does, d = l'(p) != 0, h > 0 and s > 0. */

typedef T N(path)(T y, T p, T e, T d, T h, T s);

/* (exp(x) - 1) / x */
FGD_INLINE T N(mean_growth)(T x)
{
    return x > (T)0.35 || x < (T)-0.35 ? (N(exp)(x) - 1) / x : N(mean_growth_near_zero)(x);
}

/* log(1 + x) of x > -1. Near zero the error of log cancels that of the sum (Kahan; Higham, "Accuracy and stability of
 * numerical algorithms", 2002, problem 1.5). */
FGD_INLINE T N(log_1_plus)(T x)
{
    const T u = 1 + x;
    return u == 1 ? x : N(log)(u) * x / (u - 1);
}

/* ------------------------------------------------------------------------- piecewise linear or quadratic losses */

/* down a constant slope, to its end */
FGD_INLINE T N(down_line)(T slope, T distance, T h, T s) { return h * slope * s > distance ? distance / s : h * slope; }

/* down curvature / 2 distance^2, whatever the sign of the distance: what is left of it falls exponentially */
FGD_INLINE T N(down_square)(T curvature, T distance, T h, T s)
{
    return curvature * distance * h * N(mean_growth)(-curvature * h * s);
}

/* down a line as far as `bend` from the end, then a square */
FGD_INLINE T N(down_bend)(T curvature, T bend, T distance, T h, T s)
{
    const T straight = distance - bend, slope = curvature * bend;
    if (straight <= 0) return N(down_square)(curvature, distance, h, s);
    if (h * slope * s <= straight) return h * slope;
    return straight / s + N(down_square)(curvature, bend, h - straight / (slope * s), s);
}

FGD_INLINE T N(at_least_zero)(T x) { return x > 0 ? x : 0; }

static T N(hinge_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e, (void)d;
    return y * N(down_line)(1, N(at_least_zero)(1 - y * p), h, s);
}

static T N(squared_hinge_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e, (void)d;
    return y * N(down_square)(2, 1 - y * p, h, s);
}

static T N(modified_huber_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e, (void)d;
    return y * N(down_bend)(2, 2, 1 - y * p, h, s);
}

static T N(perceptron_path)(T y, T p, T e, T d, T h, T s)
{
    (void)y, (void)p, (void)e, (void)s;
    return -h * d;
}

static T N(squared_error_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e, (void)d;
    return N(down_square)(1, y - p, h, s);
}

static T N(huber_path)(T y, T p, T e, T d, T h, T s)
{
    (void)d;
    return y > p ? N(down_bend)(1, e, y - p, h, s) : -N(down_bend)(1, e, p - y, h, s);
}

static T N(epsilon_insensitive_path)(T y, T p, T e, T d, T h, T s)
{
    (void)d;
    return y > p ? N(down_line)(1, y - p - e, h, s) : -N(down_line)(1, p - y - e, h, s);
}

static T N(squared_epsilon_insensitive_path)(T y, T p, T e, T d, T h, T s)
{
    (void)d;
    return y > p ? N(down_square)(2, y - p - e, h, s) : -N(down_square)(2, p - y - e, h, s);
}

static T N(pinball_path)(T y, T p, T e, T d, T h, T s)
{
    (void)d;
    return y >= p ? N(down_line)(e, y - p, h, s) : -N(down_line)(1 - e, p - y, h, s);
}

static T N(expectile_path)(T y, T p, T e, T d, T h, T s)
{
    (void)d;
    return N(down_square)(2 * (y >= p ? e : 1 - e), y - p, h, s);
}

/* ----------------------------------------------------------------------------------------- losses of exponentials */

/* The margin z = y p goes to z + m where z + m + exp(z + m) = z + exp(z) + h s (with Lambert's function in the paper):
 * m + a (exp(m) - 1) = h s, a = exp(z), by Halley's iteration from the less of two bounds of m. */
static T N(log_loss_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e, (void)d;
    const T z = y * p, a = N(exp)(z), time = h * s;
    const T close = MANTISSA_BITS > 23 ? (T)1e-6 : (T)1e-3; /* the next error is the cube of this one */
    T move = time / (1 + a);
    if (move > 1) {
        const T bound = N(log)(time + a) - z;
        move = bound < move ? bound : move;
    }
    for (int k = 0; k < 20; k++) {
        const T grown = a * move * N(mean_growth)(move), slope = 1 + a + grown;
        const T newton = (move + grown - time) / slope;
        const T step = newton / (1 - (T)0.5 * newton * (a + grown) / slope);
        move -= step;
        if (step * step <= close * close * move * move) break;
    }
    return y * move / s;
}

/* log(1 + x), where `same` is 1 + x without cancellation */
FGD_INLINE T N(log_growth)(T x, T same) { return x > (T)-0.5 && x < 1 ? N(log_1_plus)(x) : N(log)(same); }

/* exp(-p) goes to 1 / y exponentially, with rate y */
static T N(poisson_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e;
    const T time = h * s * N(mean_growth)(-y * h * s);
    return -N(log_growth)(d * time, N(exp)(-y * h * s) + N(exp)(p) * time) / s;
}

/* exp(p) goes to y exponentially */
static T N(gamma_path)(T y, T p, T e, T d, T h, T s)
{
    (void)e;
    const T time = h * s * N(mean_growth)(-h * s);
    return N(log_growth)(-d * time, N(exp)(-h * s) + y * N(exp)(-p) * time) / s;
}

/* ----------------------------------------------------------------------------------------------- implicit steps */

/* How far the prediction goes down: m with m = h s |l'(p -+ m)|. Between the last number that is too small and the
 * first that is not, of min(h s |l'(p)|, 1), its double and so on, by Ridders' method, whose false position knows
 * exponentials (Ridders, "A new algorithm for computing a single root", IEEE Trans. Circuits Syst. 26, 1979). */
FGD_INLINE T N(implicit_step)(T y, T p, T e, T d, T h, T s, N(pointwise) *derivative)
{
#define BEYOND(m) ((m) + down * h * s * derivative(y, p + down * (m), e))
    const T down = d > 0 ? -1 : 1, close = 4 / N(exp2i)(MANTISSA_BITS);
    T low = 0, at_low = down * h * s * d, high = at_low < -1 ? 1 : -at_low, at_high, found = 0;
    while ((at_high = BEYOND(high)) < 0) low = high, at_low = at_high, high *= 2;
    for (int k = 0; k < 100; k++) {
        const T middle = low + (T)0.5 * (high - low), at_middle = BEYOND(middle);
        const T square = at_middle * at_middle - at_low * at_high, before = found;
        const int usable = square > 0 && square < (T)INFINITY;
        found = usable ? middle - (middle - low) * (at_middle / SQRT(square)) : middle;
        if (found - before <= close * found && before - found <= close * found) break;
        const T at_found = BEYOND(found);
        if (at_middle < 0)
            low = middle, at_low = at_middle;
        else
            high = middle, at_high = at_middle;
        if (found > low && at_found < 0) low = found, at_low = at_found;
        if (found < high && at_found >= 0) high = found, at_high = at_found;
    }
    return down * found / s;
#undef BEYOND
}

static T N(focal_path)(T y, T p, T e, T d, T h, T s) { return N(implicit_step)(y, p, e, d, h, s, N(focal_derivative)); }

static T N(tweedie_path)(T y, T p, T e, T d, T h, T s)
{
    return N(implicit_step)(y, p, e, d, h, s, N(tweedie_derivative));
}

static N(path) *const N(paths)[] = {
#define LOSS(name, ...) N(name##_path),
    FGD_LOSS_RULES(LOSS)
#undef LOSS
};
