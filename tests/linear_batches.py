"""Calls of ``_core.train_linear`` in batches, and of the specification with the same data."""

import numpy as np
from linear_rows import train_rows
from numpy.testing import assert_allclose
from scipy import sparse

from fastgd import _core, reference
from fastgd._groups import Groups
from fastgd._hypers import VECTOR_RULES, public
from fastgd.optim import make_states

N_ROWS = 67
FORMS = ["array", "narrow", "wide"]
# rules as they are called here and in the specification
RULES = {
    "sgd": ("sgd", {}),
    "momentum": ("sgd", {"momentum": 0.7, "nesterov": True}),
    **{name: (name, {}) for name in VECTOR_RULES if name != "sgd"},
}


def as_form(X, form):
    """An array as it is, or as a matrix with indices of 32 or 64 bits."""
    if form == "array":
        return X
    matrix = sparse.csr_array(X)
    index_type = np.int32 if form == "narrow" else np.int64
    matrix.indices, matrix.indptr = (
        matrix.indices.astype(index_type),
        matrix.indptr.astype(index_type),
    )
    return matrix


def make_data(n_features, n_classes=1, n_rows=N_ROWS, dtype=np.float64, seed=0):
    """Rows of which most is zero, one row all of it; signs, or numbers of classes; weights."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, n_features)) * (rng.random((n_rows, n_features)) < 0.3)
    X[n_rows // 2] = 0
    y = rng.integers(0, max(2, n_classes), n_rows).astype(dtype)
    weights = rng.choice([0.0, 0.5, 1.0, 2.5], n_rows).astype(dtype)
    return X.astype(dtype), y if n_classes > 1 else 2 * y - 1, weights


def hypers_of(rule):
    """Values of the row of a rule of `RULES`, in the order of the row."""
    name, given = RULES[rule]
    row = _core.RULES[name]["hypers"]
    return name, [
        float(given.get(hyper, np.nan if value is None else value)) for hyper, value, _ in row
    ]


def train(X, y, n_classes=1, rule="sgd", epochs=2, dtype=np.float64, **given):
    """Parameters and losses of some epochs of `_core.train_linear`, from zero."""
    params = np.zeros((X.shape[1] + 1) * n_classes, dtype)
    if "groups" in given:
        groups = Groups.of(given["groups"], X.shape[1], n_classes)
        given = {**given, "groups": (groups.members, groups.offsets)}
    name, hypers = hypers_of(rule)
    states = make_states(name, hypers, params)
    kept, n_updates = np.zeros(_core.N_KEPT), -(-len(y) // given.get("batch_size", 1))
    losses = [
        train_rows(
            X,
            y,
            params,
            0.1 / np.sqrt(1 + np.arange(epoch * n_updates, (epoch + 1) * n_updates)),
            rule=name,
            hypers=hypers,
            states=states,
            kept=kept,
            t=epoch * n_updates,
            n_classes=n_classes,
            **{"loss": "log_loss", **given},
        )
        for epoch in range(epochs)
    ]
    return params, np.array(losses)


def by_reference(X, y, n_classes=1, rule="sgd", epochs=2, **given):
    """The same of `reference.train_linear`."""
    name, hypers = hypers_of(rule)
    options = public(name, hypers)
    options.pop("lr")
    given = {"loss": "log_loss", **given}
    alpha, l1, group = (given.pop(key, 0.0) for key in ("alpha", "l1", "group"))
    strength = alpha + l1 + group
    weights = given.pop("sample_weight", None)
    w, b, curve = reference.train_linear(
        X.tolist(),
        y.tolist(),
        [0.0] * (X.shape[1] * n_classes),
        0.0 if n_classes == 1 else [0.0] * n_classes,
        penalty="group" if group else "elasticnet",
        alpha=strength,
        l1_ratio=(l1 + group) / strength if strength else 0.0,
        shuffle=False,
        learning_rate="invscaling",
        eta0=0.1,
        optimizer=(name, options),
        max_iter=epochs,
        sample_weight=None if weights is None else weights.tolist(),
        **{**given, **({"loss": "multinomial"} if n_classes > 1 else {})},
    )
    return np.append(w, b), curve


def assert_follows_reference(form, X, y, n_classes=1, rtol=1e-12, **given):
    """Parameters as in the specification, and losses; returns the former."""
    params, losses = train(as_form(X, form), y, n_classes, dtype=X.dtype, **given)
    own = {key: value for key, value in given.items() if key != "n_threads"}
    expected, curve = by_reference(X, y, n_classes, **own)
    assert_allclose(params, expected, rtol=0, atol=rtol * max(1, np.abs(expected).max()))
    if not any(own.get(key) for key in ("alpha", "l1", "group")):  # the curve has the penalty
        assert_allclose(losses / len(y), curve, rtol=rtol)
    return params


def assert_bits_stay(bits, dtype, assert_same_bits):
    """The bits of now are those of one thread and the plainest instruction set."""
    here = bits(dtype)
    _core.use_isa(_core.SUPPORTED_ISAS[0])
    _core.set_threads(1)
    for a, b in zip(here, bits(dtype), strict=True):
        assert_same_bits(list(a), list(b))
