"""What the multilayer perceptrons are given beside data: parameters, bounds and meanings."""

from inspect import cleandoc
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
from sklearn.utils._param_validation import Interval, Options, StrOptions

from ._initializers import INITIALIZERS
from .nn import ACTIVATIONS

__all__ = ["CONSTRAINTS", "is_stochastic", "with_parameters"]

_Class = TypeVar("_Class")

_NONNEGATIVE = Interval(Real, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_COUNT = Interval(Integral, 1, None, closed="left")

# what both of them take, as scikit-learn's `_validate_params` reads it
CONSTRAINTS: dict[str, list[Any]] = {
    "hidden_layer_sizes": ["array-like", _COUNT],
    "activation": [StrOptions(set(ACTIVATIONS))],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [_NONNEGATIVE],
    "batch_size": [StrOptions({"auto"}), _COUNT],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [_POSITIVE],
    "power_t": [_NONNEGATIVE],
    "max_iter": [_COUNT],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [_NONNEGATIVE],
    "verbose": ["verbose", StrOptions({"bar"})],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [_POSITIVE],
    "n_iter_no_change": [_COUNT, Options(Real, {np.inf})],
    "max_fun": [_COUNT],
    "optimizer": [str, tuple, callable, None],
    "schedule": [callable, None],
    "activation_parameter": [Real, None],
    "initializer": [StrOptions(set(INITIALIZERS)), None],
    "norm": [StrOptions({"batch", "layer"}), None],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "skip": ["boolean"],
    "max_norm": [_NONNEGATIVE, None],
    "clip_value": [_NONNEGATIVE, None],
    "ema_decay": [Interval(Real, 0, 1, closed="both"), callable, None],
    "restore_best_weights": ["boolean"],
    "callbacks": [callable, list, tuple, None],
}

_SCIKIT_LEARNS = """
hidden_layer_sizes : array-like of int or int, default=(100,)
    Width of each hidden layer.
activation : str, default="relu"
    Of the hidden layers: scikit-learn's "identity", "logistic", "tanh" and "relu"; "leaky_relu",
    "elu", "gelu", "silu" and "softplus".
solver : {"lbfgs", "sgd", "adam"}, default="adam"
    "sgd" has momentum. "lbfgs" takes all rows at once: for small data.
alpha : float, default=0.0001
    Strength of the L2 penalty on the weights, which is divided by the rows of a batch.
batch_size : int or "auto", default="auto"
    Rows of an update; "auto" is 200, or all of fewer rows.
learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
    "invscaling" divides `learning_rate_init` after each epoch by ``(t + 1)**power_t``, where t
    counts rows; "adaptive" divides it by 5 instead of stopping until it is 1e-6. Not of effect with
    `solver` "adam", unless `optimizer` names another one.
learning_rate_init : float, default=0.001
    Learning rate.
power_t : float, default=0.5
    Exponent of "invscaling".
max_iter : int, default=200
    Epochs, or iterations of "lbfgs", at most.
shuffle : bool, default=True
    Whether rows are shuffled in each epoch.
random_state : int, RandomState or None, default=None
    Seed of the weights to start with, of the split, of the shuffling, and of `dropout`; the same
    one gives scikit-learn's.
tol : float, default=1e-4
    Training stops when the loss (with `early_stopping`: the score) has not got better by this for
    more than `n_iter_no_change` epochs; for "lbfgs", when no element of the gradient is larger.
verbose : bool, int or "bar", default=False
    Print each epoch in scikit-learn's words; "bar" shows a progress bar (extra ``[train]``).
warm_start : bool, default=False
    Whether `fit` starts from the weights of the fit before.
momentum : float, default=0.9
    Of "sgd".
nesterovs_momentum : bool, default=True
    Whether that is Nesterov's.
early_stopping : bool, default=False
    Whether to stop by the score on rows held out, and to end with the weights of the best one.
validation_fraction : float, default=0.1
    Part of the rows that `early_stopping` holds out.
beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
    Of "adam".
n_iter_no_change : int, default=10
    Epochs without improvement that are put up with.
max_fun : int, default=15000
    Evaluations of "lbfgs", at most.
"""
_OURS = """
optimizer : str, (str, dict), function or None, default=None
    Update rule in place of `solver`, with its hyper-parameters other than the learning rate if
    wanted: ``"lion"``, ``("adamw", {"weight_decay": 0.1})``; or a function that makes an
    :class:`fastgd.optim.Optimizer` of the list of ``(name, array)`` that it is given. Keyword-only,
    as the following.
schedule : function or None, default=None
    Learning rate of each update, as one of :mod:`fastgd.schedules`, in place of
    `learning_rate_init`.
activation_parameter : float or None, default=None
    Negative slope of "leaky_relu", alpha of "elu"; None takes 0.01 and 1.
initializer : str or None, default=None
    How weights are drawn: "glorot_uniform", "glorot_normal",
    "he_uniform", "he_normal", "lecun_normal", "orthogonal" or "zeros", with biases of zero. None is
    scikit-learn's: Glorot's uniform, also for biases.
norm : {"batch", "layer"} or None, default=None
    Normalise what each hidden layer gives to its activation, over the rows of a batch (Ioffe &
    Szegedy, ICML 2015) or over the layer (Ba, Kiros & Hinton, arXiv:1607.06450, 2016).
dropout : float, default=0.0
    Part of the outputs of hidden layers that are left out in training (Srivastava et al., JMLR 15,
    2014).
skip : bool, default=False
    Whether hidden layers as wide as the hidden layer before add its output to theirs (He, Zhang,
    Ren & Sun, CVPR 2016).
max_norm, clip_value : float or None, default=None
    Scale all gradients of an update down to this Euclidean norm together; cut each element to
    this.
ema_decay : float, function or None, default=None
    Predict with a moving average of the weights of this decay, as ``fastgd.optim`` has it.
restore_best_weights : bool, default=False
    Whether to end with the weights of the best score on `X_val`, `y_val` without `early_stopping`,
    too.
callbacks : callable, list of callables or None, default=None
    Each is called after every epoch with an object that has the attributes ``epoch``,
    ``objective``, ``validation_score``, ``coefs`` and ``intercepts``, and ends training by
    returning true.
"""
_ATTRIBUTES = """
coefs_, intercepts_ : list of ndarray
    Weights of shape (n_inputs, n_outputs) and biases of each layer: those that the network works
    on, of the dtype of X. Written to, or replaced by arrays of the same shape, they take effect.
network_ : fastgd.nn.Network
    The network itself.
loss_ : float
    Loss of the last epoch, penalty included; each batch's before its update.
best_loss_ : float or None
    The lowest of them; None with `early_stopping`.
loss_curve_ : list of float
    All of them. Not of "lbfgs", as the one before and the next three.
validation_scores_ : list of float or None
    Score of each epoch on the rows held out; None without such rows.
best_validation_score_ : float or None
    The best of them.
t_ : int
    Rows visited so far.
n_iter_ : int
    Epochs, or iterations, of the last fit.
n_layers_ : int
    Layers, input and output included.
n_outputs_ : int
    Outputs of the network.
out_activation_ : str
    What makes predictions of them.
n_features_in_ : int
    Features seen in fit.

Raises
------
ValueError, TypeError
    From fit: a parameter out of its range, or data that is empty or not finite. The estimator is as
    it was before.
fastgd.DivergenceError
    From fit: a number ceased to be finite (with `early_stopping`, the best weights so far are the
    result, and a warning says so).
"""


def with_parameters(cls: type[_Class]) -> type[_Class]:
    """Put what both models have into a class's docstring, in the places of names in braces."""
    text = cleandoc(cls.__doc__ or "")
    for name, part in (
        ("{parameters}", _SCIKIT_LEARNS),
        ("{own parameters}", _OURS),
        ("{attributes}", _ATTRIBUTES),
    ):
        text = text.replace(name, part.strip())
    cls.__doc__ = text
    return cls


def is_stochastic(model: Any) -> bool:
    """Whether there is a partial_fit; the error that ``available_if`` shows."""
    if model.solver == "lbfgs":
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers: solver must be 'sgd' or "
            f"'adam'; got {model.solver!r}"
        )
    return True
