"""The executable specification is right: it agrees with independent authorities.

Everything else is tested against `fastgd.reference`, so it is itself tested against what we did not
write: decimal arithmetic, finite differences, torch.optim and torch's autograd, scikit-learn's SGD.
The update rules are next door, in ``test_reference_rules.py``.
"""

import decimal
import inspect
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from fastgd import reference

CLASSIFICATION = (
    "hinge", "log_loss", "squared_hinge", "perceptron", "modified_huber", "focal",
)  # fmt: skip
LOGARITHMIC = ("poisson", "gamma", "tweedie")  # these three predict a logarithm
OURS_ALONE = ("focal", "pinball", "expectile", *LOGARITHMIC)  # scikit-learn's SGD has the others
SCIKIT_LEARNS = [loss for loss in reference.LOSSES if loss not in OURS_ALONE]
REGRESSION = [loss for loss in SCIKIT_LEARNS if loss not in CLASSIFICATION]
SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture
def torch():
    """Torch, or skip."""
    return pytest.importorskip("torch")


@pytest.fixture
def linear_model():
    """scikit-learn's linear models, or skip."""
    return pytest.importorskip("sklearn.linear_model")


# ---- the idea ------------------------------------------------------------------------------------


def test_gradient_descent_does_the_seed_example():
    """Protects the example everybody meets first: (w - 2)^2 from w = 5 with learning rate 0.1."""
    seen = []

    def gradient(w):
        seen.append(2.0 * (w - 2.0))
        return seen[-1]

    assert reference.gradient_descent(gradient, 5.0, lr=0.1, steps=1) == 4.4
    assert seen == [6.0]
    # each step takes 1 - 2 lr = 0.8 of the distance to the minimum along
    assert reference.gradient_descent(gradient, 5.0, 0.1, 7) == pytest.approx(2 + 3 * 0.8**7, 1e-15)
    assert reference.gradient_descent(gradient, 5.0, steps=0) == 5.0


# ---- losses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [-1.0, 1.0])
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_derivative_is_the_slope_of_the_value(loss, y):
    """Protects the pair (value, derivative): they belong to the same function."""
    f, h = reference.LOSSES[loss], 1e-6
    for p in np.linspace(-4.03, 4.07, 82):  # steps on no corner: |r| = 0.1 and y p = 1
        slope = (f(p + h, y)[0] - f(p - h, y)[0]) / (2 * h)
        assert f(p, y)[1] == pytest.approx(slope, rel=1e-7, abs=1e-8), p


@pytest.mark.parametrize("y", [-1.0, 1.0])
@pytest.mark.parametrize("z", [-1e300, -800, -745, -40, -1, -1e-9, 0, 1e-9, 1, 18, 40, 700, 800])
def test_log_loss_keeps_all_digits(z, y):
    """Protects against overflow and cancellation at large margins, with 400-digit arithmetic."""
    value, derivative = reference.log_loss(y * z, y)
    exact_value, exact_derivative = -z, -y  # for z = -1e300
    if abs(z) <= 800:
        with decimal.localcontext(prec=400):
            e = (-decimal.Decimal(z)).exp()
            exact_value, exact_derivative = float((1 + e).ln()), -y * float(e / (1 + e))
    # where exp(-z) is subnormal, half of the smallest number is the best one can do
    assert value == pytest.approx(exact_value, rel=4e-16, abs=5e-324)
    assert derivative == pytest.approx(exact_derivative, rel=4e-16, abs=5e-324)


@pytest.mark.parametrize("p", [-1e308, -1e200, 1e200, 1e308, -math.inf, math.inf, math.nan])
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_losses_follow_ieee_arithmetic_where_numbers_end(loss, p):
    """Protects the comparison with C on absurd input: inf and nan come out, no exception."""
    for y in (-1.0, 1.0):
        value, derivative = reference.LOSSES[loss](p, y)
        if loss in LOGARITHMIC:  # inf - inf is nan, which is as good: no finite number
            assert not math.isfinite(value) or value > 1e200 or abs(p) < math.inf
        elif not math.isnan(p):
            assert value >= 0
            assert not math.isnan(derivative)
        elif loss not in ("hinge", "squared_hinge", "perceptron") and "insensitive" not in loss:
            assert math.isnan(value)  # of these, a comparison with nan is false: no loss


def test_loss_values_agree_with_scikit_learn_and_scipy():
    """Protects scale and orientation of the values: 1/2 in squared error, no log2, sign of y."""
    metrics = pytest.importorskip("sklearn.metrics")
    special = pytest.importorskip("scipy.special")
    rng = np.random.default_rng(0)
    p, y = rng.normal(scale=3, size=200), rng.choice([-1.0, 1.0], 200)

    def mean(loss, *args):
        return np.mean([loss(pi, yi, *args)[0] for pi, yi in zip(p, y, strict=True)])

    assert_allclose(2 * mean(reference.squared_error), metrics.mean_squared_error(y, p), 1e-14)
    assert_allclose(mean(reference.hinge), metrics.hinge_loss(y, p), 1e-14)
    assert_allclose(mean(reference.log_loss), metrics.log_loss(y, special.expit(p)), 1e-13)
    for epsilon in (0.1, 1.35):
        assert_allclose(mean(reference.huber, epsilon), special.huber(epsilon, p - y).mean(), 1e-14)


@pytest.mark.parametrize("y", [-1.0, 1.0])
@pytest.mark.parametrize("loss", SCIKIT_LEARNS)
def test_derivatives_agree_with_one_update_of_scikit_learn(linear_model, loss, y):
    """Protects the derivatives, at the corners too.

    One row x = 1 with weight p and intercept 0 predicts p; after one update with learning rate 1
    the intercept is minus the derivative. The second row, of the other class, weighs nothing.
    """
    for p in (-30.0, -1.0, -0.9, 0.0, 0.5, 0.9, 1.0, 1.0 + 2**-52, 1.1, 7.25):
        model = linear_model.SGDClassifier(
            loss, penalty=None, learning_rate="constant", eta0=1.0, max_iter=1, tol=None,
            shuffle=False, epsilon=0.1,
        )  # fmt: skip
        X, weight = np.ones((2, 1)), [1.0, 0.0]
        model.fit(X, [y, -y], coef_init=[[p]], intercept_init=[0.0], sample_weight=weight)
        assert_allclose(reference.LOSSES[loss](p, y)[1], -model.intercept_[0], 1e-14, 1e-300)


# ---- schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.SCHEDULES)
@pytest.mark.parametrize("alpha", [1e-6, 1e-4, 0.3, 20.0])
def test_schedules_are_the_learning_rates_of_scikit_learn(linear_model, name, alpha):
    """Protects each learning rate by itself, alpha greater than 1 included.

    On x = 0 with a target far away, the derivative of the Huber loss is minus epsilon = -1, so the
    intercept grows by exactly the learning rate with each row.
    """
    model = linear_model.SGDRegressor(
        "huber", epsilon=1.0, alpha=alpha, learning_rate=name, eta0=0.37, power_t=0.3
    )
    arguments = {"constant": (0.37,), "invscaling": (0.37, 0.3), "optimal": (alpha, "huber")}
    rate = reference.SCHEDULES[name](*arguments[name])
    intercept = 0.0
    for t in range(1, 30):
        model.partial_fit([[0.0]], [1e6])
        assert_allclose(rate(t), model.intercept_[0] - intercept, rtol=1e-12, atol=1e-12)
        intercept = model.intercept_[0]


def test_optimal_accounts_for_the_slope_of_the_loss(monkeypatch):
    """Protects the factor that none of today's losses needs: a slope above 1 at the start."""

    def steep(p, y):
        # the typical weight is 10 for alpha = 1e-4
        return 0.0, 4.0 if (p, y) == (-10.0, 1.0) else -1.0

    monkeypatch.setitem(reference.LOSSES, "steep", steep)
    assert reference.optimal(1e-4, "steep")(1) == pytest.approx(10.0 / 4.0, rel=1e-14)
    _, b, _ = reference.train_linear(
        [[0.0]], [0.0], [0.0], 0.0, loss="steep", learning_rate="optimal", alpha=1e-4
    )
    assert b == pytest.approx(10.0 / 4.0, rel=1e-14)


# ---- sampler -------------------------------------------------------------------------------------


@given(SEEDS)
def test_xorshift32_is_32_bit_arithmetic(seed):
    """Protects the masks: the same as arithmetic on uint32, which wraps by itself."""
    x = np.array([seed or 1], dtype=np.uint32)
    x ^= x << np.uint32(13)
    x ^= x >> np.uint32(17)
    x ^= x << np.uint32(5)
    assert reference.xorshift32(seed) == x[0]
    assert 0 < reference.xorshift32(seed) < 2**32


@given(st.integers(0, 200), SEEDS)
def test_shuffle_permutes(n, seed):
    """Protects against lost or doubled rows: any seed, any length, applied twice."""
    order = list(range(n))
    reference.shuffle(order, seed)
    again = list(range(n))
    reference.shuffle(again, seed)
    assert order == again
    reference.shuffle(order, seed)
    assert sorted(order) == list(range(n))


@given(st.data(), st.integers(1, 300), st.integers(1, 70))
def test_rows_visits_each_row_once_and_keeps_blocks_whole(data, n, block):
    """Protects the epoch: no row lost at the ragged end, neighbours stay neighbours."""
    order = data.draw(st.permutations(range(math.ceil(n / block))))
    visit = list(reference.rows(order, block, n))
    assert sorted(visit) == list(range(n))
    blocks = np.split(np.arange(n), range(block, n, block))
    assert visit == np.concatenate([blocks[number] for number in order]).tolist()


def test_shuffle_reaches_every_permutation_about_equally_often():
    """Protects against a biased shuffle: 24 permutations of 4, 24,000 shuffles, chi-squared."""
    order, seed = [0, 1, 2, 3], 1
    counts = dict.fromkeys(itertools.permutations(order), 0)
    for _ in range(24_000):
        order, seed = [0, 1, 2, 3], reference.xorshift32(seed)
        reference.shuffle(order, seed)
        counts[tuple(order)] += 1
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert chi_squared < 49.7  # exceeded once in a thousand, with 23 degrees of freedom


# ---- linear model --------------------------------------------------------------------------------


def make_data(n=53, d=5, *, classes=2, scale=1.0):
    """Random rows, labels with some noise, real targets with outliers and sample weights."""
    rng = np.random.default_rng(2)
    X = scale * rng.normal(size=(n, d))
    scores = X @ rng.normal(size=(d, classes)) + rng.normal(size=(n, classes))
    labels = scores.argmax(axis=1)
    target = scores[:, 0] + rng.standard_t(2, size=n)
    return X, labels, target, rng.uniform(0.1, 2.0, size=n)


def loss_target(loss, labels, target):
    """Return the target of a loss: signs for the classifiers' losses, else (positive) numbers."""
    if loss in LOGARITHMIC:
        return np.exp(0.1 * target)
    return np.where(labels == 1, 1.0, -1.0) if loss in CLASSIFICATION else target


def own_parameter(loss, value):
    """Return a loss's own parameter as its third argument; nothing if it has none."""
    return (value,) if len(inspect.signature(reference.LOSSES[loss]).parameters) > 2 else ()


def train(X, y, *, sample_weight=None, epsilon=None, **options):
    """Train from zero, with arrays for lists; `epsilon` goes to the losses with a parameter."""
    if epsilon is not None:
        options["loss_parameter"] = (*own_parameter(options["loss"], epsilon), None)[0]
    if sample_weight is not None:
        sample_weight = sample_weight.tolist()
    return reference.train_linear(
        X.tolist(), y.tolist(), [0.0] * X.shape[1], 0.0, sample_weight=sample_weight, **options
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_linear_gradient_is_the_slope_of_the_mean_loss(loss, weighted):
    """Protects the chain rule, the mean over the batch and the sample weights."""
    X, labels, target, weight = make_data()
    y = loss_target(loss, labels, target)
    batch, w, b, h = [3, 50, 7, 7, 21], np.linspace(-1, 1, 5), 0.3, 1e-6
    s = weight if weighted else np.ones(len(X))

    def mean_loss(w, b):
        f = reference.LOSSES[loss]
        return np.mean([s[i] * f(X[i] @ w + b, y[i], *extra)[0] for i in batch])

    extra = own_parameter(loss, 0.7)
    value, gradient_w, gradient_b = reference.linear_gradient(
        X.tolist(), y.tolist(), w.tolist(), b, batch, loss, loss_parameter=(*extra, None)[0],
        sample_weight=weight.tolist() if weighted else None,
    )  # fmt: skip
    assert value == pytest.approx(mean_loss(w, b), rel=1e-13)
    assert gradient_b == pytest.approx((mean_loss(w, b + h) - mean_loss(w, b - h)) / (2 * h), 1e-7)
    for j, e in enumerate(h * np.eye(5)):
        slope = (mean_loss(w + e, b) - mean_loss(w - e, b)) / (2 * h)
        assert gradient_w[j] == pytest.approx(slope, rel=1e-7, abs=1e-8)


# ---- training against scikit-learn: batch size 1, plain sgd --------------------------------------


def classifier_seed(random_state):
    """Return the seed with which scikit-learn's binary classifier shuffles (fit_binary)."""
    rng = np.random.RandomState(random_state)
    rng.randint(1, np.iinfo(np.int32).max)  # make_dataset draws one first
    return int(rng.randint(np.iinfo(np.int32).max))


def regressor_seed(random_state):
    """Return the seed with which scikit-learn's regressor shuffles (_fit_regressor)."""
    return int(np.random.RandomState(random_state).randint(0, np.iinfo(np.int32).max))


def fit_scikit_learn(linear_model, loss, X, y, *, sample_weight=None, **options):
    """Fit the estimator that has this loss; return it and the seed of its shuffling."""
    classifies = loss in CLASSIFICATION
    estimator = linear_model.SGDClassifier if classifies else linear_model.SGDRegressor
    options = {"max_iter": 4, "tol": None, "random_state": 7, **options}
    with np.errstate(all="ignore"):
        model = estimator(loss, **options).fit(X, y, sample_weight=sample_weight)
    seed = (classifier_seed if classifies else regressor_seed)(options["random_state"])
    return model, seed


def assert_same_model(ours, model):
    """Coefficients and intercept agree to ten digits."""
    w, b, _ = ours
    assert_allclose(w, model.coef_.ravel(), rtol=1e-10, atol=1e-13)
    assert_allclose(b, model.intercept_[0], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("learning_rate", reference.SCHEDULES)
@pytest.mark.parametrize("loss", SCIKIT_LEARNS)
def test_training_follows_scikit_learn(linear_model, loss, learning_rate, shuffle):
    """Protects the loop at batch size 1: order of rows, learning rates, regularisation, update.

    Rows are short enough for the first steps of "optimal" not to diverge with squared_error, where
    scikit-learn cuts the derivative off and we do not.
    """
    X, labels, target, _ = make_data(scale=0.3)
    y = loss_target(loss, labels, target)
    options = {
        "alpha": 0.05, "learning_rate": learning_rate, "eta0": 0.02, "power_t": 0.3,
        "shuffle": shuffle, "epsilon": 0.4, "max_iter": 4,
    }  # fmt: skip
    model, seed = fit_scikit_learn(linear_model, loss, X, y, **options)
    assert_same_model(train(X, y, loss=loss, seed=seed, **options), model)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"penalty": None}, id="no penalty"),
        pytest.param({"penalty": None, "learning_rate": "optimal"}, id="optimal without penalty"),
        pytest.param({"fit_intercept": False}, id="no intercept"),
        pytest.param({"alpha": 8.0, "eta0": 0.1}, id="strong penalty"),
        pytest.param({"alpha": 30.0, "eta0": 0.1}, id="penalty that takes weights to zero"),
        pytest.param({"max_iter": 1}, id="one epoch"),
        pytest.param({"epsilon": 2.5}, id="wide Huber"),
    ],
)
@pytest.mark.parametrize("loss", SCIKIT_LEARNS)
def test_options_of_training_follow_scikit_learn(linear_model, loss, options):
    """Protects each option of the training loop by itself, with sample weights."""
    X, labels, target, sample_weight = make_data(scale=0.3)
    y = loss_target(loss, labels, target)
    options = {
        "alpha": 0.2, "learning_rate": "constant", "eta0": 0.02, "max_iter": 3, **options
    }  # fmt: skip
    model, seed = fit_scikit_learn(linear_model, loss, X, y, sample_weight=sample_weight, **options)
    ours = train(X, y, loss=loss, seed=seed, sample_weight=sample_weight, **options)
    assert_same_model(ours, model)


@pytest.mark.parametrize("loss", REGRESSION)
def test_regression_losses_classify_as_in_scikit_learn(linear_model, loss):
    """Protects squared_error and huber on labels -1 and +1 (SGDClassifier has them too)."""
    X, labels, _, _ = make_data(scale=0.2)
    y = np.where(labels == 1, 1.0, -1.0)
    options = {"learning_rate": "optimal", "alpha": 0.05, "max_iter": 4, "epsilon": 0.1}
    model = linear_model.SGDClassifier(loss, tol=None, random_state=3, **options).fit(X, y)
    assert_same_model(train(X, y, loss=loss, seed=classifier_seed(3), **options), model)


def test_one_vs_rest_follows_scikit_learn(linear_model):
    """Protects the recipe for many classes: one training for each, with its own seed."""
    X, labels, _, _ = make_data(n=90, classes=4)
    options = {"learning_rate": "invscaling", "eta0": 0.1, "max_iter": 3}
    model = linear_model.SGDClassifier("log_loss", tol=None, random_state=5, **options)
    model.fit(X, labels)
    seeds = np.random.RandomState(5).randint(np.iinfo(np.int32).max, size=4)
    for k, seed in enumerate(seeds):
        y = np.where(labels == k, 1.0, -1.0)
        w, b, _ = train(X, y, loss="log_loss", seed=classifier_seed(seed), **options)
        assert_allclose(w, model.coef_[k], rtol=1e-10)
        assert_allclose(b, model.intercept_[k], rtol=1e-10)


@pytest.mark.parametrize("loss", SCIKIT_LEARNS)
@pytest.mark.parametrize("n_iter_no_change", [1, 3])
def test_training_stops_and_reports_as_scikit_learn(linear_model, capsys, loss, n_iter_no_change):
    """Protects the rule to stop and the loss curve, which scikit-learn prints with six digits."""
    X, labels, target, _ = make_data()
    y = loss_target(loss, labels, target)
    options = {
        "penalty": None, "learning_rate": "constant", "eta0": 0.02, "tol": 1e-3, "max_iter": 200,
        "n_iter_no_change": n_iter_no_change,
    }  # fmt: skip
    model, seed = fit_scikit_learn(linear_model, loss, X, y, verbose=1, **options)
    printed = [
        float(line.split("Objective: ")[1])
        for line in capsys.readouterr().out.splitlines()
        if "Objective: " in line
    ]
    ours = train(X, y, loss=loss, seed=seed, **options)
    assert_same_model(ours, model)
    assert n_iter_no_change < len(ours[2]) == model.n_iter_ < 200
    assert_allclose(ours[2], printed, rtol=0, atol=6e-7)


# ---- training against torch: any batch size, rule, schedule, order -------------------------------


def torch_loss(torch, loss, p, y, epsilon):
    """Return torch's value of a loss for each row; `epsilon` is its own parameter."""
    functional, z, r = torch.nn.functional, y * p, y - p
    margin, beyond, e = functional.relu(1 - z), functional.relu(abs(r) - epsilon), epsilon
    return {
        "squared_error": lambda: 0.5 * functional.mse_loss(p, y, reduction="none"),
        "huber": lambda: functional.huber_loss(p, y, delta=e, reduction="none"),
        "log_loss": lambda: functional.softplus(-z),
        "focal": lambda: torch.sigmoid(-z) ** e * functional.softplus(-z),
        "hinge": lambda: margin,
        "squared_hinge": lambda: margin**2,
        "perceptron": lambda: torch.where(z <= 0, -z, 0),
        "modified_huber": lambda: torch.where(z >= -1, margin**2, -4 * z),
        "epsilon_insensitive": lambda: beyond,
        "squared_epsilon_insensitive": lambda: beyond**2,
        "pinball": lambda: torch.where(r >= 0, e * r, (e - 1) * r),
        "expectile": lambda: torch.where(r >= 0, e * r**2, (1 - e) * r**2),
        "poisson": lambda: functional.poisson_nll_loss(p, y, reduction="none"),
        "gamma": lambda: p + y * torch.exp(-p),
        "tweedie": lambda: torch.exp((2 - e) * p) / (2 - e) - y * torch.exp((1 - e) * p) / (1 - e),
    }[loss]()


TORCH_NAMES = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}


def torch_optimizer(torch, name, params, *, lr, **options):
    """Return torch's optimizer of that name, in its plainest implementation."""
    return getattr(torch.optim, TORCH_NAMES[name])(params, lr=lr, foreach=False, **options)


def train_with_torch(
    torch, X, y, sample_weight, batches_of_epochs, *, loss, alpha, rate, optimizer, epsilon,
    fit_intercept=True,
):  # fmt: skip
    """Train with torch's autograd and optimizers; return weights, intercept and loss curve."""
    X, y, sample_weight = map(torch.tensor, (X, y, sample_weight))
    w = torch.zeros(X.shape[1], dtype=torch.float64, requires_grad=True)
    b = torch.zeros((), dtype=torch.float64, requires_grad=True)
    name, options = optimizer
    opt = torch_optimizer(torch, name, [w, b] if fit_intercept else [w], lr=0.0, **options)
    t, loss_curve = 0, []
    for batches in batches_of_epochs:
        total = 0.0
        for batch in batches:
            t += 1
            losses = torch_loss(torch, loss, X[batch] @ w + b, y[batch], epsilon)
            losses = sample_weight[batch] * losses
            total += losses.sum().item()
            opt.zero_grad()
            (losses.mean() + alpha / 2 * (w @ w)).backward()
            opt.param_groups[0]["lr"] = rate(t)
            opt.step()
        loss_curve.append(total / len(X) + alpha / 2 * (w @ w).item())
    return w.detach().numpy(), b.item(), loss_curve


def epochs_in_batches(n, batch_size, shuffle, seed, block, epochs):
    """Cut the epochs of a training into batches, with NumPy."""
    blocks = np.split(np.arange(n), range(block, n, block)) if shuffle == "block" else None
    order = list(range(n if blocks is None else len(blocks)))
    for _ in range(epochs):
        if shuffle:
            reference.shuffle(order, seed)
        visit = np.array(order) if blocks is None else np.concatenate([blocks[k] for k in order])
        yield np.split(visit, range(batch_size, n, batch_size))


OPTIMIZERS = {
    "sgd": ("sgd", {}),
    "momentum": ("sgd", {"momentum": 0.9, "dampening": 0.2}),
    "nesterov": ("sgd", {"momentum": 0.8, "nesterov": True}),
    "weight decay": ("sgd", {"weight_decay": 0.1}),
    "uphill": ("sgd", {"maximize": True}),
    "adam": ("adam", {"betas": (0.8, 0.999)}),
    "adamw": ("adamw", {"weight_decay": 0.1}),
}


@pytest.mark.parametrize("batch_size", [1, 8, 53, 1000])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_training_follows_torch(torch, loss, optimizer, batch_size):
    """Protects mini-batches (a ragged last one included), every rule and the loss curve."""
    X, labels, target, sample_weight = make_data()
    y, rule = loss_target(loss, labels, target), OPTIMIZERS[optimizer]
    shared = {"loss": loss, "alpha": 0.03, "epsilon": 0.6, "optimizer": rule}
    batches = epochs_in_batches(53, batch_size, True, 11, 1, epochs=3)
    eta0 = 0.002 if loss in LOGARITHMIC else 0.05  # what is exponential soon knows no bounds
    theirs = train_with_torch(
        torch, X, y, sample_weight, batches, rate=lambda t: eta0 / t**0.4, **shared
    )
    ours = train(
        X, y, sample_weight=sample_weight, batch_size=batch_size, seed=11, max_iter=3,
        learning_rate="invscaling", eta0=eta0, power_t=0.4, **shared,
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("shuffle", [False, True, "block"])
@pytest.mark.parametrize("learning_rate", reference.SCHEDULES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_orders_and_schedules_of_mini_batches(torch, shuffle, learning_rate, fit_intercept):
    """Protects the order of rows (the last block is ragged) and the count of updates."""
    X, labels, _, sample_weight = make_data()
    y = np.where(labels == 1, 1.0, -1.0)
    rate = {
        "constant": lambda t: 0.02,
        "invscaling": lambda t: 0.02 / t**0.5,
        "optimal": lambda t: 1 / (0.3 * (0.3**-0.75 + t - 1)),
    }[learning_rate]
    shared = {
        "loss": "log_loss", "alpha": 0.3, "epsilon": 0.1, "fit_intercept": fit_intercept,
        "optimizer": ("adam", {}),
    }  # fmt: skip
    batches = epochs_in_batches(53, 5, shuffle, 99, 6, epochs=3)
    theirs = train_with_torch(torch, X, y, sample_weight, batches, rate=rate, **shared)
    ours = train(
        X, y, sample_weight=sample_weight, batch_size=5, seed=99, max_iter=3, block=6,
        shuffle=shuffle, learning_rate=learning_rate, eta0=0.02, **shared,
    )  # fmt: skip
    for a, b in zip(ours, theirs, strict=True):
        assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    assert (ours[1] == 0.0) is not fit_intercept


# ---- training: behaviour of its own --------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 8])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_can_be_continued(optimizer, batch_size):
    """Protects going on: three calls of one epoch, with t and state, are one of three epochs."""
    X, _, y, _ = make_data()
    X, y = X.tolist(), y.tolist()
    options = {
        "loss": "squared_error", "learning_rate": "invscaling", "shuffle": False,
        "batch_size": batch_size, "optimizer": optimizer,
    }  # fmt: skip
    at_once = reference.train_linear(X, y, [0.0] * 5, 0.0, max_iter=3, **options)
    w, b, loss_curve, state = [0.0] * 5, 0.0, [], ({}, {})
    for epoch in range(3):
        t = epoch * math.ceil(53 / batch_size)
        w, b, losses = reference.train_linear(X, y, w, b, t=t, state=state, **options)
        loss_curve += losses
    assert (w, b, loss_curve) == at_once


def test_training_leaves_its_input():
    """Protects the caller's weights and data: only copies are trained."""
    X, y, w = [[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0], [0.5, 0.5]
    trained, _, _ = reference.train_linear(X, y, w, 0.0, loss="hinge", max_iter=2)
    assert (X, y, w) == ([[1.0, 2.0], [3.0, 4.0]], [1.0, -1.0], [0.5, 0.5])
    assert trained != w


def test_plain_name_and_pair_are_the_same_optimizer():
    """Protects both spellings of an optimizer."""
    X, _, y, _ = make_data()
    for name in reference.RULES:
        one = train(X, y, loss="huber", optimizer=name, batch_size=4)
        assert one == train(X, y, loss="huber", optimizer=(name, {}), batch_size=4)


def test_full_batch_training_reaches_the_least_squares_solution():
    """Protects the purpose of it all: the minimum, known in closed form (ridge regression)."""
    X, _, y, _ = make_data()
    Xc, yc, alpha = X - X.mean(axis=0), y - y.mean(), 0.1
    exact = np.linalg.solve(Xc.T @ Xc / len(X) + alpha * np.eye(5), Xc.T @ yc / len(X))
    for optimizer in ("sgd", ("sgd", {"momentum": 0.5}), ("sgd", {"momentum": 0.5, "nesterov": 1})):
        w, b, loss_curve = train(
            X, y, loss="squared_error", alpha=alpha, eta0=0.3, batch_size=53, max_iter=400,
            optimizer=optimizer,
        )  # fmt: skip
        assert_allclose(w, exact, rtol=1e-9)
        assert_allclose(b, y.mean() - X.mean(axis=0) @ exact, rtol=1e-9)
        assert loss_curve[-1] < loss_curve[0]


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("loss", reference.LOSSES)
def test_diverging_training_ends_without_exception(loss, optimizer):
    """Protects the comparison of diverging runs: numbers overflow to inf and nan, as in C."""
    X, labels, target, _ = make_data()
    y = loss_target(loss, labels, target)
    w, _, loss_curve = train(
        X * 1e150, y, loss=loss, eta0=1e150, optimizer=optimizer, max_iter=3, batch_size=4
    )
    assert len(loss_curve) == 3
    if loss == "squared_error" and optimizer == ("sgd", {}):
        assert not np.isfinite(w).any()
