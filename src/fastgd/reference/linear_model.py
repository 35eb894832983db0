"""Linear model: prediction, gradient, step, and the whole loop."""

import math
from collections.abc import Sequence
from typing import Any

from . import sampler
from .losses import LOSSES, multinomial
from .rules import RULES, State, Vector
from .sampler import BLOCK
from .schedules import SCHEDULES

ONE_FOR_ALL = ("prodigy",)  # rules for which weights and intercept are one list of parameters


def linear_prediction(x: Sequence[float], w: Sequence[float], b: float) -> float:
    """Predict with a linear model: x . w + b.

    Parameters
    ----------
    x : sequence of float
        One row of data.
    w : sequence of float
        Weights, as long as `x`.
    b : float
        Intercept.

    Returns
    -------
    float
        The prediction.

    Examples
    --------
    >>> linear_prediction([1.0, 2.0], [10.0, 100.0], 0.5)
    210.5
    """
    return sum(xj * wj for xj, wj in zip(x, w, strict=True)) + b


def cut_off(derivative: float) -> float:
    """Cut a loss's derivative off at 1e12, so that no step leaves the finite numbers at once.

    Parameters
    ----------
    derivative : float
        Derivative of a loss.

    Returns
    -------
    float
        The nearest number from -1e12 to 1e12.

    Examples
    --------
    >>> cut_off(-3.0), cut_off(1e20)
    (-3.0, 1000000000000.0)
    """
    return max(-1e12, min(1e12, derivative)) if derivative == derivative else derivative


def linear_gradient(
    X: Sequence[Sequence[float]],
    y: Sequence[float],
    w: Sequence[float],
    b: float,
    rows: Sequence[int],
    loss: str,
    *,
    loss_parameter: float | None = None,
    sample_weight: Sequence[float] | None = None,
) -> tuple[float, Vector, float]:
    """Mean loss of a linear model over some rows, and its gradient.

    By the chain rule, with p_i = x_i . w + b and s_i the weight of row i, the gradient is the mean
    over the rows of s_i loss'(p_i, y_i) x_i, and of s_i loss'(p_i, y_i) for the intercept
    (Bottou, 2010, section 2.1). Regularisation is not in it.

    Parameters
    ----------
    X : sequence of sequence of float, shape (n_samples, n_features)
        Data.
    y : sequence of float, shape (n_samples,)
        Targets; -1 or +1 for the losses of classification.
    w : sequence of float, shape (n_features,)
        Weights.
    b : float
        Intercept.
    rows : sequence of int
        The rows to use: a batch.
    loss : str
        Name of the loss.
    loss_parameter : float, optional
        The loss's own parameter, if it has one; by default that of its function.
    sample_weight : sequence of float, shape (n_samples,), optional
        Weight of each row, 1 by default. The mean divides by the number of rows all the same.

    Returns
    -------
    value : float
        Mean weighted loss.
    gradient_w : list of float, shape (n_features,)
        Its gradient with respect to the weights.
    gradient_b : float
        Its gradient with respect to the intercept.

    Examples
    --------
    >>> X, y = [[1.0, 0.0], [0.0, 2.0]], [1.0, -1.0]
    >>> linear_gradient(X, y, [0.0, 0.0], 0.0, [0, 1], "squared_error")
    (0.5, [-0.5, 1.0], 0.0)
    """
    extra = () if loss_parameter is None else (loss_parameter,)
    value = gradient_b = 0.0
    gradient_w = [0.0] * len(w)
    for i in rows:
        loss_value, derivative = LOSSES[loss](linear_prediction(X[i], w, b), y[i], *extra)
        derivative = cut_off(derivative)
        if sample_weight is not None:
            loss_value *= sample_weight[i]
            derivative *= sample_weight[i]
        value += loss_value
        gradient_b += derivative
        gradient_w = [g + derivative * xj for g, xj in zip(gradient_w, X[i], strict=True)]
    m = len(rows)
    return value / m, [g / m for g in gradient_w], gradient_b / m


def multinomial_gradient(
    X: Sequence[Sequence[float]],
    y: Sequence[int],
    w: Sequence[float],
    b: Sequence[float],
    rows: Sequence[int],
    *,
    sample_weight: Sequence[float] | None = None,
) -> tuple[float, Vector, Vector]:
    """Mean multinomial loss of a linear model for each class over some rows, and its gradient.

    As `linear_gradient`, with a prediction p_k = x . w_k + b_k for each class (Bishop, 2006, eq.
    4.109).

    Parameters
    ----------
    X : sequence of sequence of float, shape (n_samples, n_features)
        Data.
    y : sequence of int, shape (n_samples,)
        Numbers of the classes.
    w : sequence of float, shape (n_classes * n_features,)
        Weights of the first class, then of the second, ...
    b : sequence of float, shape (n_classes,)
        Intercepts.
    rows : sequence of int
        The rows to use: a batch.
    sample_weight : sequence of float, shape (n_samples,), optional
        Weight of each row, 1 by default.

    Returns
    -------
    value : float
        Mean weighted loss.
    gradient_w : list of float, shape (n_classes * n_features,)
        Its gradient with respect to the weights.
    gradient_b : list of float, shape (n_classes,)
        Its gradient with respect to the intercepts.

    Examples
    --------
    >>> multinomial_gradient([[2.0]], [0], [0.0, 0.0], [0.0, 0.0], [0])[1:]
    ([-1.0, 1.0], [-0.5, 0.5])
    """
    d = len(w) // len(b)
    value, gradient_w, gradient_b = 0.0, [0.0] * len(w), [0.0] * len(b)
    for i in rows:
        p = [linear_prediction(X[i], w[k * d : (k + 1) * d], bk) for k, bk in enumerate(b)]
        loss_value, derivatives = multinomial(p, int(y[i]))
        s = 1.0 if sample_weight is None else sample_weight[i]
        value += s * loss_value
        for k, derivative in enumerate(derivatives):
            gradient_b[k] += s * derivative
            for j in range(d):
                gradient_w[k * d + j] += s * derivative * X[i][j]
    m = len(rows)
    return value / m, [g / m for g in gradient_w], [g / m for g in gradient_b]


def linear_step(
    w: Vector,
    b: Vector,
    gradient_w: Sequence[float],
    gradient_b: float | Sequence[float],
    state: tuple[State, State],
    t: int,
    *,
    lr: float,
    alpha: float = 0.0,
    l1: float = 0.0,
    group: float = 0.0,
    groups: Sequence[int] = (),
    positive: bool = False,
    optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    fit_intercept: bool = True,
) -> None:
    """Update a linear model in place, given the gradient of the data term.

    The objective is mean loss + alpha/2 ||w||^2. Its gradient, that of the data term + alpha w for
    the weights and without regularisation for the intercept, goes through the update rule.

    Plain sgd does the same step in scikit-learn's form, w <- max(0, 1 - lr alpha) w - lr gradient:
    a regularisation too strong for the learning rate takes the weights to zero, not beyond. It may
    have a penalty l1 ||w||_1, too, whose step is proximal: afterwards every weight is taken towards
    zero by lr l1, at most to zero (Duchi and Singer, 2009, eq. 19). So is that of a penalty on
    groups of weights (`shrink_groups`). And weights may have to be positive: after the step, and
    before these, those below zero become zero.

    A ``weight_decay`` among the hyper-parameters of the rule (AdamW has one by default) comes on
    top of alpha and applies to all that the rule updates, the intercept included.

    Parameters
    ----------
    w : list of float, shape (n_features,) or (n_classes * n_features,)
        Weights, updated in place.
    b : list of float, shape (1,) or (n_classes,)
        Intercept of each output, updated in place.
    gradient_w, gradient_b
        As from `linear_gradient` or `multinomial_gradient`.
    state : tuple of two dicts
        What the rule remembers of the weights and of the intercept, updated in place.
    t : int
        Number of this update, from 1 on.
    lr : float
        Learning rate.
    alpha : float, default=0
        Strength of the L2 regularisation.
    l1 : float, default=0
        Strength of the L1 regularisation; with plain sgd, and with adagrad, whose proximal step is
        as long as the rate of each weight (Duchi, Hazan and Singer, 2011, section 5.1).
    group : float, default=0
        Strength of the penalty on groups, with plain sgd.
    groups : sequence of int, shape (n_features,)
        The group that each feature is in, with all its classes.
    positive : bool, default=False
        Whether no weight may be below zero.
    optimizer : str or (str, dict), default="sgd"
        Name of the rule, or that and its hyper-parameters but for lr.
    fit_intercept : bool, default=True
        Whether to update the intercept.

    Examples
    --------
    >>> w, b = [1.0, -1.0], [0.0]
    >>> linear_step(w, b, [2.0, 0.0], 1.0, ({}, {}), 1, lr=0.25, alpha=1.0)
    >>> w, b
    ([0.25, -0.75], [-0.25])
    """
    name, options = (optimizer, {}) if isinstance(optimizer, str) else optimizer
    plain = name == "sgd" and not any(
        options.get(key) for key in ("momentum", "weight_decay", "maximize")
    )
    rule = RULES[name]
    gradient_b = [gradient_b] if isinstance(gradient_b, float) else list(gradient_b)
    if plain:
        scale = max(0.0, 1.0 - lr * alpha)
        w[:] = [scale * wj - lr * g for wj, g in zip(w, gradient_w, strict=True)]
    else:
        gradient_w = [g + alpha * wj for wj, g in zip(w, gradient_w, strict=True)]
    if name in ONE_FOR_ALL and fit_intercept:
        both = [*w, *b]
        rule(both, [*gradient_w, *gradient_b], state[0], t, lr=lr, **options)
        w[:], b[:] = both[: len(w)], both[len(w) :]
    else:
        if not plain:
            rule(w, gradient_w, state[0], t, lr=lr, **options)
        if fit_intercept:
            rule(b, gradient_b, state[1], t, lr=lr, **options)

    rates = [lr] * len(w)
    if l1 and name == "adagrad":
        rate = lr / (1.0 + (t - 1) * options.get("lr_decay", 0.0))
        rates = [rate / (math.sqrt(s) + options.get("eps", 1e-10)) for s in state[0]["sum"]]
    if positive:
        w[:] = [max(0.0, wj) for wj in w]
    w[:] = [wj - max(-rj * l1, min(rj * l1, wj)) for wj, rj in zip(w, rates, strict=True)]
    if group:
        shrink_groups(w, groups, lr * group)


def shrink_groups(w: Vector, groups: Sequence[int], by: float) -> None:
    """Take the weights of each group towards zero together, in place.

    A group's weights become max(0, 1 - by sqrt(n) / ||w_g||) times as large, n of them: the
    proximal map of by times the sum over the groups of sqrt(n) ||w_g|| (Yuan and Lin, 2006, eq.
    2.1; Duchi and Singer, 2009, section 5).

    Parameters
    ----------
    w : list of float, shape (n_features,) or (n_classes * n_features,)
        Weights, updated in place.
    groups : sequence of int, shape (n_features,)
        The group that each feature is in, with all its classes.
    by : float
        Strength of the penalty times the learning rate.

    Examples
    --------
    >>> w = [3.0, 4.0, 0.5, 0.0]
    >>> shrink_groups(w, [1, 1, 2, 3], 0.5 * math.sqrt(2.0))
    >>> [round(wj, 6) for wj in w]
    [2.4, 3.2, 0.0, 0.0]
    """
    for members, norm in group_norms(w, groups):
        most = by * math.sqrt(len(members))
        factor = 1.0 - most / norm if norm > most else 0.0
        for i in members:
            w[i] *= factor


def group_norms(w: Vector, groups: Sequence[int]) -> list[tuple[list[int], float]]:
    """List the groups of weights: which they are, and their norm.

    Parameters
    ----------
    w : list of float, shape (n_features,) or (n_classes * n_features,)
        Weights.
    groups : sequence of int, shape (n_features,)
        The group that each feature is in, with all its classes.

    Returns
    -------
    list of (list of int, float)
        Numbers of the weights of each group, and ||w_g||.

    Examples
    --------
    >>> group_norms([3.0, 0.0, 4.0, 1.0], [0, 1])
    [([0, 2], 5.0), ([1, 3], 1.0)]
    """
    members = [
        [i for i in range(len(w)) if groups[i % len(groups)] == one] for one in sorted(set(groups))
    ]
    return [(one, math.sqrt(sum(w[i] ** 2 for i in one))) for one in members]


def train_linear(
    X: Sequence[Sequence[float]],
    y: Sequence[float],
    w: Sequence[float],
    b: float | Sequence[float],
    *,
    loss: str,
    loss_parameter: float | None = None,
    penalty: str | None = "l2",
    alpha: float = 1e-4,
    l1_ratio: float = 0.15,
    groups: Sequence[int] | None = None,
    positive: bool = False,
    one_class: float = 0.0,
    fit_intercept: bool = True,
    max_iter: int = 1,
    tol: float | None = None,
    n_iter_no_change: int = 5,
    shuffle: bool | str = True,
    seed: int = 1,
    block: int = BLOCK,
    learning_rate: str = "constant",
    eta0: float = 0.01,
    power_t: float = 0.5,
    batch_size: int = 1,
    optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    sample_weight: Sequence[float] | None = None,
    t: int = 0,
    state: tuple[State, State] | None = None,
) -> tuple[Vector, Any, Vector]:
    """Train a linear model: the whole loop.

    For each epoch: put the rows in order, cut them into batches (the last may be smaller), and for
    each batch compute the gradient (`linear_gradient`) and update (`linear_step`). With batch size
    1 and plain sgd this is scikit-learn's SGDClassifier and SGDRegressor, but for a detail: they
    count the regularisation of the objective row by row, not at the end of the epoch (see
    `linear_rows`, which has what else they do). Diverging training gives inf and nan here.

    Parameters
    ----------
    X : sequence of sequence of float, shape (n_samples, n_features)
        Data.
    y : sequence of float, shape (n_samples,)
        Targets; -1 or +1 for the losses of classification.
    w : sequence of float, shape (n_features,) or (n_classes * n_features,)
        Weights to start from; left as they are.
    b : float or sequence of float, shape (n_classes,)
        Intercept to start from; with the loss ``"multinomial"`` one for each class.
    loss : str
        Name of the loss, a key of `LOSSES`, or ``"multinomial"``.
    loss_parameter : float, optional
        The loss's own parameter, if it has one; by default that of its function.
    penalty : {"l2", "l1", "elasticnet", "group", None}, default="l2"
        How to regularise. L1 is proximal (`linear_step`); with batch size 1, scikit-learn's is
        cumulative instead. So is ``"group"``.
    alpha : float, default=1e-4
        Strength of the regularisation; the schedule ``"optimal"`` depends on it too.
    l1_ratio : float, default=0.15
        Part of `alpha` that goes to L1 with ``"elasticnet"``, and to that on groups with
        ``"group"``; the rest goes to L2.
    groups : sequence of int, shape (n_features,), optional
        The group that each feature is in, with all its classes. By default each is one.
    positive : bool, default=False
        Whether no weight may be below zero (`linear_step`): those that are become zero at first.
    one_class : float, default=0
        The objective has this times the intercept, too: nu of the one-class support vector machine.
    fit_intercept : bool, default=True
        Whether to train the intercept.
    max_iter : int, default=1
        Epochs, at most.
    tol : float, optional
        Stop after `n_iter_no_change` epochs in a row whose objective is not below the best so far
        by `tol`. By default all epochs are done.
    n_iter_no_change : int, default=5
        See `tol`.
    shuffle : {True, False, "block"}, default=True
        Order of the rows: a new one for each epoch, as they are, or blocks of neighbours in a new
        order for each epoch.
    seed : int, default=1
        Seed of the shuffling, 0 <= seed < 2^32.
    block : int, default=BLOCK
        Rows in a block, for ``shuffle="block"``.
    learning_rate : {"constant", "invscaling", "optimal"}, default="constant"
        Name of the schedule, a key of `SCHEDULES`.
    eta0 : float, default=0.01
        Learning rate at the start, for constant and invscaling.
    power_t : float, default=0.5
        Exponent of invscaling.
    batch_size : int, default=1
        Rows in a batch.
    optimizer : str or (str, dict), default="sgd"
        Name of the update rule, a key of `RULES`, or that and its hyper-parameters but for lr.
    sample_weight : sequence of float, shape (n_samples,), optional
        Weight of each row, 1 by default.
    t : int, default=0
        Updates done before: the schedule goes on from there.
    state : tuple of two dicts, optional
        What the rule remembers of the weights and of the intercept, updated in place. To go on with
        a training, give it the tuple of the time before, and `t`.

    Returns
    -------
    w : list of float, shape (n_features,)
        Trained weights.
    b : float or list of float
        Trained intercept, or intercepts.
    loss_curve : list of float, shape (n_epochs,)
        The objective of each epoch: the mean over the rows of the weighted loss, each at the time
        when the row is used, before the update, + the penalty at the end of the epoch, for L2
        alpha/2 ||w||^2.

    Examples
    --------
    Learn y = 2 x - 1 from five points:

    >>> X = [[-2.0], [-1.0], [0.0], [1.0], [2.0]]
    >>> y = [2.0 * x - 1.0 for (x,) in X]
    >>> w, b, loss_curve = train_linear(
    ...     X, y, [0.0], 0.0, loss="squared_error", penalty=None, eta0=0.1, max_iter=50
    ... )
    >>> round(w[0], 3), round(b, 3), len(loss_curve)
    (2.0, -1.0, 50)
    """
    n = len(X)
    schedule_options: dict[str, tuple[float | str, ...]] = {
        "constant": (eta0,),
        "invscaling": (eta0, power_t),
        "optimal": (alpha, "log_loss" if loss == "multinomial" else loss),
    }
    schedule = SCHEDULES[learning_rate](*schedule_options[learning_rate])
    to_zero = {"l1": 1.0, "elasticnet": l1_ratio, "group": l1_ratio}.get(str(penalty), 0.0)
    sparse, decay = (alpha * to_zero, alpha * (1.0 - to_zero)) if penalty else (0.0, 0.0)
    l1, group = (0.0, sparse) if penalty == "group" else (sparse, 0.0)
    groups = range(len(X[0])) if groups is None else groups
    block = block if shuffle == "block" else 1
    order = list(range(math.ceil(n / block)))
    state = ({}, {}) if state is None else state

    def gradient(w: Vector, bias: Vector, batch: Sequence[int]) -> tuple[float, Vector, Any]:
        if loss == "multinomial":
            classes = [int(k) for k in y]
            return multinomial_gradient(X, classes, w, bias, batch, sample_weight=sample_weight)
        value, gradient_w, gradient_b = linear_gradient(
            X,
            y,
            w,
            bias[0],
            batch,
            loss,
            loss_parameter=loss_parameter,
            sample_weight=sample_weight,
        )
        return value, gradient_w, gradient_b + one_class

    w = [max(0.0, wj) if positive else wj for wj in w]
    bias = [b] if isinstance(b, int | float) else list(b)
    loss_curve: Vector = []
    best, epochs_without_progress = math.inf, 0
    for _ in range(max_iter):
        if shuffle:
            sampler.shuffle(order, seed)
        visit = list(sampler.rows(order, block, n))
        loss_sum = 0.0
        for start in range(0, n, batch_size):
            batch = visit[start : start + batch_size]
            value, gradient_w, gradient_b = gradient(w, bias, batch)
            loss_sum += value * len(batch)
            t += 1
            linear_step(
                w,
                bias,
                gradient_w,
                gradient_b,
                state,
                t,
                lr=schedule(t),
                alpha=decay,
                l1=l1,
                group=group,
                groups=groups,
                positive=positive,
                optimizer=optimizer,
                fit_intercept=fit_intercept,
            )
        objective = loss_sum / n + 0.5 * decay * sum(wj * wj for wj in w)
        objective += l1 * sum(abs(wj) for wj in w) + one_class * bias[0]
        if group:
            norms = group_norms(w, groups)
            objective += group * sum(math.sqrt(len(members)) * norm for members, norm in norms)
        loss_curve.append(objective)

        # scikit-learn's rule to stop: no progress by tol for some epochs in a row
        if tol is not None and objective > best - tol:
            epochs_without_progress += 1
        else:
            epochs_without_progress = 0
        best = min(best, objective)
        if epochs_without_progress >= n_iter_no_change:
            break
    return w, bias if loss == "multinomial" else bias[0], loss_curve
