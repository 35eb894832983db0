"""Calls of ``_core.train_linear`` without an estimator: what it does row by row."""

import numpy as np

from fastgd import _core

N_KEPT = _core.N_KEPT


def train_rows(X, y, params, lr, **given):
    """Train `params` on rows in place, in order unless `order` says otherwise; return the loss.

    `lr` is a rate or one for each update; what is not `given` is the default of the estimators.
    """
    order = given.pop("order", np.arange(X.shape[0]))
    options = {
        "loss": "squared_error",
        "loss_parameter": 0.1,
        "alpha": 0.0,
        "fit_intercept": True,
        "rule": "sgd",
        "hypers": [0.0] * 6,
        "kept": np.zeros(N_KEPT),
        "t": 0,
        "batch_size": 1,
        "start": 0,
        "stop": len(order),
        **given,
    }
    options["loss"] = _core.LOSSES[options["loss"]]["number"]
    options["rule"] = _core.RULES[options["rule"]]["number"]
    n_updates = -(-(options["stop"] - options["start"]) // options["batch_size"])
    return _core.train_linear(
        params,
        options.pop("states", ()),
        X,
        y,
        options.pop("sample_weight", None),
        order,
        options.pop("block", 1),
        _core.scratch(X, options["batch_size"], options.get("n_classes", 1)),
        lr=np.broadcast_to(np.asarray(lr, float), n_updates).copy(),
        **options,
    )
