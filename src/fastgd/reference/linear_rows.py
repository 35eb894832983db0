"""Linear model, row by row: what scikit-learn's SGD does, over dense and sparse rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from .linear_model import cut_off, linear_prediction
from .losses import LOSSES
from .rules import Vector

Row = Sequence[float] | Mapping[int, float]  # all values; or columns and their values
FAR = 1e-9  # the average begins anew where the weights have shrunk to this part


def linear_rows(
    X: Sequence[Row],
    y: Sequence[float],
    w: Vector,
    b: Vector,
    rows: Sequence[int],
    lr: Sequence[float],
    state: dict[str, Any],
    *,
    loss: str,
    loss_parameter: float | None = None,
    alpha: float = 0.0,
    l1: float = 0.0,
    average_from: int | None = None,
    aggressive: int = 0,
    one_class: float = 0.0,
    intercept_decay: float = 1.0,
    fit_intercept: bool = True,
    sample_weight: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Train a linear model on one row after the other, in place, by plain sgd.

    A row moves the weights along itself, w <- max(0, 1 - lr alpha) w + step x. The step is
    -lr loss'(p, y), cut off at 1e12 times lr (Bottou, 2012, section 4), or a passive-aggressive
    one (`aggressive_step`). Then the averages move (Xu, 2011), and each weight whose column the
    row has gets what it has not got yet of the cumulative L1 penalty (`take_l1`).

    Three things are as they are because scikit-learn's are, and its results depend on them:

    - What the L1 penalty takes from a weight is taken from its average too, as if it had been
      missing since averaging began, or began anew (`FAR`); with an L2 penalty from older weights
      the more.
    - The penalties that are counted are of weights of the row before, if that is sparse.
    - PA-I passes over rows of zeros: they are no updates.

    Parameters
    ----------
    X : sequence of rows
        A dense row is a sequence of `n_features` numbers, a sparse one maps columns to numbers.
    y : sequence of float
        Targets; -1 or +1 for the losses of classification.
    w : list of float, shape (n_features,)
        Weights, updated in place.
    b : list of float, shape (1,)
        Intercept, updated in place.
    rows : sequence of int
        The rows, in the order in which they are used.
    lr : sequence of float
        A learning rate for each of them.
    state : dict
        What is carried on, updated in place; empty at first. ``average`` and ``average_b`` are the
        averages.
    loss : str
        Name of the loss, a key of `LOSSES`.
    loss_parameter : float, optional
        The loss's own parameter, if it has one.
    alpha, l1 : float, default=0
        Strengths of the penalties alpha / 2 ||w||^2 and l1 ||w||_1.
    average_from : int, optional
        The first update, from 1 on, that counts for the averages; by default there are none.
    aggressive : {0, 1, 2}, default=0
        1 and 2 are PA-I and PA-II, with lr for the aggressiveness.
    one_class : float, default=0
        The intercept also loses lr times this: nu of the one-class support vector machine.
    intercept_decay : float, default=1
        What is added to the intercept is multiplied by this.
    fit_intercept : bool, default=True
        Whether to update the intercept.
    sample_weight : sequence of float, optional
        Factor of each row's step.

    Returns
    -------
    loss_sum, penalties : float
        Sums over the rows, before each update, of the weighted loss, and of what scikit-learn's
        objective has beside it: the penalty, but of PA, and what the loss weighs too little.

    Examples
    --------
    >>> w, b, state = [0.0, 0.0], [0.0], {}
    >>> X, y = [{0: 1.0}, {0: 2.0, 1: 1.0}], [4.0, 1.0]
    >>> linear_rows(X, y, w, b, [0, 1], [0.25, 0.25], state, loss="squared_error", l1=0.5)
    (9.53125, 0.5)
    >>> w, b
    ([0.0, -0.1875], [0.5625])
    """
    arguments = () if loss_parameter is None else (loss_parameter,)
    if not state:
        state.update(average=[0.0] * len(w), average_b=0.0, part=0.0, shrunk=1.0, updates=0)
        state.update(got=[0.0] * len(w), most=0.0)
        state.update(squares=sum(wj * wj for wj in w), magnitudes=sum(abs(wj) for wj in w))
    average: Vector = state["average"]
    loss_sum = penalties = 0.0
    for i, rate in zip(rows, lr, strict=True):
        row = columns_and_values(X[i])
        p = linear_prediction(list(row.values()), [w[j] for j in row], b[0])
        value, derivative = LOSSES[loss](p, y[i], *arguments)
        weight = 1.0 if sample_weight is None else sample_weight[i]
        loss_sum += weight * value
        penalties += (1.0 - weight) * value
        if aggressive:
            squares = sum(xj * xj for xj in row.values())
            if aggressive == 1 and squares == 0.0:
                continue
            step = aggressive_step(aggressive, value, derivative, squares, rate)
        else:
            penalties += 0.5 * alpha * state["squares"] + l1 * state["magnitudes"]
            penalties += one_class * b[0]
            step = -rate * cut_off(derivative)
        step *= weight

        shrink = max(0.0, 1.0 - rate * alpha)
        state["shrunk"] *= shrink
        if state["shrunk"] < FAR:
            state["shrunk"], state["part"] = 1.0, 0.0
        else:
            state["part"] /= shrink
        w[:] = [shrink * wj for wj in w]
        for j, xj in row.items():
            w[j] += step * xj
        state["squares"] *= shrink * shrink
        state["magnitudes"] *= shrink
        if step != 0.0:
            state["squares"] = sum(w[j] ** 2 for j in row)
            state["magnitudes"] = sum(abs(w[j]) for j in row)
        if fit_intercept:
            b[0] += intercept_decay * (step - rate * one_class)

        state["updates"] += 1
        if average_from is not None and state["updates"] >= average_from:
            share = 1.0 / (state["updates"] - average_from + 1)
            average[:] = [a + share * (wj - a) for a, wj in zip(average, w, strict=True)]
            state["average_b"] += share * (b[0] - state["average_b"])
            state["part"] += share * (1.0 - state["part"])

        state["most"] += rate * l1
        for j in row:
            taken = take_l1(w, state["got"], j, state["most"])
            average[j] -= state["part"] * taken
    return loss_sum, penalties


def columns_and_values(row: Row) -> Mapping[int, float]:
    """Return what a row has; a dense one has every column.

    Parameters
    ----------
    row : row
        Dense or sparse.

    Returns
    -------
    mapping
        Columns to values.

    Examples
    --------
    >>> columns_and_values([2.0, 0.0]), columns_and_values({0: 2.0})
    ({0: 2.0, 1: 0.0}, {0: 2.0})
    """
    return row if isinstance(row, Mapping) else dict(enumerate(row))


def aggressive_step(
    kind: int, value: float, derivative: float, squares: float, aggressiveness: float
) -> float:
    """How far a passive-aggressive update goes along the row.

    As far as brings the loss of this row to zero, but at most `aggressiveness` (PA-I); or the less,
    the smaller that is (PA-II). Against the derivative (Crammer et al., 2006, figure 1).

    Parameters
    ----------
    kind : {1, 2}
        PA-I or PA-II.
    value, derivative : float
        The loss and its derivative, which is -1, 0 or 1.
    squares : float
        ||x||^2.
    aggressiveness : float
        C of the paper.

    Returns
    -------
    float
        The step.

    Examples
    --------
    >>> aggressive_step(1, 3.0, 1.0, 2.0, 10.0), aggressive_step(1, 3.0, -1.0, 2.0, 0.5)
    (-1.5, 0.5)
    >>> aggressive_step(2, 3.0, 1.0, 2.0, 0.5)
    -1.0
    """
    if kind == 1:
        length = min(aggressiveness, value / squares)
    else:
        length = value / (squares + 0.5 / aggressiveness)
    return -length if derivative > 0.0 else length


def take_l1(w: Vector, got: Vector, j: int, most: float) -> float:
    """Give a weight what it has not got yet of the cumulative L1 penalty; it stops at zero.

    Every weight would have got `most` by now if its sign had always been the same; it has got
    got[j] in all (Tsuruoka et al., 2009, section 3.1, with the sign of q turned).

    Parameters
    ----------
    w, got : list of float
        Weights and what they have got, updated in place at `j`.
    j : int
        Which weight.
    most : float
        The penalty up to now.

    Returns
    -------
    float
        What was taken from the weight.

    Examples
    --------
    >>> w, got = [1.0, -0.1], [0.25, 0.0]
    >>> take_l1(w, got, 0, 1.0), take_l1(w, got, 1, 1.0)
    (0.75, -0.1)
    >>> w, got
    ([0.25, 0.0], [1.0, -0.1])
    """
    before = w[j]
    if before > 0.0:
        w[j] = max(0.0, before - (most - got[j]))
    elif before < 0.0:
        w[j] = min(0.0, before + (most + got[j]))
    got[j] += before - w[j]
    return before - w[j]
