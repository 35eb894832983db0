"""Data, models and what to compare of them: what the tests of linear models share.

Where scikit-learn is missing, importing this skips the file that does.
"""

import numpy as np
import pytest

from fastgd import _core, reference, train
from fastgd._hypers import VECTOR_RULES

sklearn_models = pytest.importorskip("sklearn.linear_model")

from fastgd.linear_model import SGDClassifier, SGDRegressor  # noqa: E402 - needs scikit-learn

# those with a logarithmic link are exponential: not for any rule, rate and data
LOSSES = [name for name, row in _core.LOSSES.items() if row["link"] != "log"]
SCIKIT_LEARNS = [loss for loss in LOSSES if loss in sklearn_models.SGDClassifier.loss_functions]
SCHEDULES = list(reference.SCHEDULES)
OPTIMIZERS = [
    *VECTOR_RULES,
    ("sgd", {"weight_decay": 0.05}),
    ("sgd", {"momentum": 0.8, "dampening": 0.3}),
    ("sgd", {"momentum": 0.5, "nesterov": True}),
    ("adam", {"betas": (0.8, 0.9), "weight_decay": 0.05}),
    ("adamw", {"eps": 1e-4}),
]
N_ROWS = 131  # a prime: nothing divides it


def name_of(value):
    """A short test id."""
    if isinstance(value, tuple):
        return "-".join([value[0], *(f"{k}{v}" for k, v in value[1].items())])
    return str(value).replace(" ", "")


def is_classification(loss):
    return _core.LOSSES[loss]["task"] == "classification"


def make_data(n_rows, n_features, loss, seed=0, dtype=np.float64):
    """Rows of about unit length, and targets that a linear model meets with some error."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) / np.sqrt(n_features)
    y = X @ rng.standard_normal(n_features) + 0.5 + 0.3 * rng.standard_normal(n_rows)
    if is_classification(loss):
        y = np.where(y > 0.5, 1.0, -1.0)
    return X.astype(dtype), y.astype(dtype)


def make_model(loss, **parameters):
    """The estimator for a loss; no step is so long that rounding errors grow."""
    parameters = {
        "alpha": 0.5 if parameters.get("learning_rate") == "optimal" else 0.01,
        "eta0": 0.05,
        "power_t": 0.25,
        "max_iter": 2,
        "tol": None,
        "random_state": 7,
        **parameters,
    }
    return (SGDClassifier if is_classification(loss) else SGDRegressor)(loss=loss, **parameters)


def classes_of(X, n_classes):
    """Labels that a linear model can nearly tell apart: strings, which sort unlike numbers."""
    score = X[:, 0] + 0.3 * np.sin(50 * X[:, 1])
    edges = np.quantile(score, np.linspace(0, 1, n_classes + 1)[1:-1])
    return np.array(["ten", "nine", "two", "zero"])[np.digitize(score, edges)]


def params_of(model):
    """Weights and intercept of a model of one problem, in one array."""
    return np.append(model.coef_.ravel(), model.intercept_)


def all_params(model):
    """Everything that training writes, as arrays."""
    states = [s for problem in model._states for s in problem if s is not None]
    return [model.coef_, model.intercept_, np.array(model.loss_curve_), *states]


def fit_by_reference(model, X, y, sample_weight=None):
    """What `reference.train_linear` makes of a model's parameters: (weights, intercept), curve."""
    block = train.block_rows(*X.shape, X.itemsize, "block")
    w, b, curve = reference.train_linear(
        X.tolist(),
        y.tolist(),
        [0.0] * X.shape[1],
        0.0,
        loss=model.loss,
        loss_parameter=model._loss_parameter() if _core.LOSSES[model.loss]["parameter"] else None,
        penalty=model.penalty,
        alpha=model.alpha,
        fit_intercept=model.fit_intercept,
        max_iter=model.max_iter,
        tol=model.tol,
        n_iter_no_change=model.n_iter_no_change,
        shuffle=model.shuffle,
        seed=model._draw(1)[0][0],
        block=block,
        learning_rate=model.learning_rate,
        eta0=model.eta0,
        power_t=model.power_t,
        batch_size=model.batch_size,
        optimizer=model.optimizer,
        sample_weight=None if sample_weight is None else sample_weight.tolist(),
    )
    return np.array([*w, b]), curve


def peers_of(model):
    """scikit-learn's estimator with the same parameters."""
    peer = getattr(sklearn_models, type(model).__name__)()
    parameters = model.get_params()
    return peer.set_params(**{name: parameters[name] for name in peer.get_params()})
