"""Weights of linear models that stay positive, or become zero by groups: what C does.

Held to `fastgd.reference`; the same bits for any number of threads and on every instruction set.
Estimators are tested in ``test_linear_model_constraints.py``.
"""

import itertools

import numpy as np
import pytest
from linear_batches import (
    FORMS,
    RULES,
    as_form,
    assert_bits_stay,
    assert_follows_reference,
    hypers_of,
    make_data,
    train,
)
from linear_rows import train_rows
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from fastgd import _core
from fastgd._groups import Groups
from fastgd.optim import make_states

N_FEATURES = 23


def weights_of(params, n_classes=1):
    """Weights of each class."""
    return params[:-n_classes].reshape(n_classes, -1)


def numbers_of_groups(n_features=N_FEATURES):
    """Groups of unequal sizes, whose features are not neighbours; numbers with gaps."""
    return np.array([-5, 7, 7, 100, -5, 7])[np.arange(n_features) ** 2 % 6]


# ---- the specification ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", RULES)
def test_positive_weights_follow_the_reference(form, rule, n_classes):
    """Protects the projection after each rule's step, also with one row an update."""
    X, y, weights = make_data(N_FEATURES, n_classes)
    for batch_size, fit_intercept in [(1, True), (7, False), (80, True)]:
        params = assert_follows_reference(
            form, X, y, n_classes, rule=rule, batch_size=batch_size, alpha=0.1, positive=True,
            fit_intercept=fit_intercept, sample_weight=weights, epochs=1 if batch_size == 1 else 2,
        )  # fmt: skip
        assert (weights_of(params, n_classes) >= 0).all()


@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_positive_and_sparse_weights_follow_the_reference(form, rule, n_classes):
    """Protects L1 beside the projection: lazily, too, also where the scale is multiplied out."""
    X, y, weights = make_data(N_FEATURES, n_classes)
    for batch_size, alpha, l1 in itertools.product([1, 6], [0.0, 9.0], [1e-300, 0.01, 10.0]):
        given = {"batch_size": batch_size, "alpha": alpha, "l1": l1, "sample_weight": weights}
        assert_follows_reference(form, X, y, n_classes, rule=rule, positive=True, **given)
    params, _ = train(as_form(X, form), y, n_classes, rule, batch_size=6, l1=0.01, positive=True)
    assert 0 < np.mean(weights_of(params, n_classes) == 0) < 1


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("n_classes", [1, 3])
@pytest.mark.parametrize("form", FORMS)
def test_groups_follow_the_reference(form, n_classes, positive):
    """Protects the penalty on groups of any features, beside that of L2, with one row, too."""
    X, y, weights = make_data(N_FEATURES, n_classes)
    groups = numbers_of_groups()
    for batch_size, group, alpha in itertools.product([1, 7, 80], [1e-3, 0.05, 10.0], [0.0, 0.5]):
        params = assert_follows_reference(
            form, X, y, n_classes, batch_size=batch_size, group=group, groups=groups, alpha=alpha,
            positive=positive, sample_weight=weights, epochs=1,
        )  # fmt: skip
        if group == 10.0:
            assert not weights_of(params, n_classes).any()


@pytest.mark.parametrize("form", FORMS)
def test_groups_vanish_together(form):
    """Protects the purpose: some groups are zero and no part of the others."""
    X, y, _ = make_data(N_FEATURES, 3)
    for groups, group in [(numbers_of_groups(), 0.025), (np.arange(N_FEATURES), 0.018)]:
        given = {"batch_size": 67, "epochs": 40, "group": group, "groups": groups}
        params, _ = train(as_form(X, form), y, 3, **given)
        weights = weights_of(params, 3)
        parts = [np.mean(weights[:, groups == one] != 0) for one in np.unique(groups)]
        assert {*parts} == {0.0, 1.0}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_positive_one_class_machines_follow_the_reference(form, rule):
    """Protects the objective's part of the intercept, which rows in batches have, too."""
    X, _, weights = make_data(N_FEATURES)
    for batch_size, fit_intercept in itertools.product([1, 9], [True, False]):
        assert_follows_reference(
            form, X, np.ones(len(X)), rule=rule, batch_size=batch_size, loss="hinge", alpha=0.3,
            one_class=0.3, positive=True, fit_intercept=fit_intercept, sample_weight=weights,
        )  # fmt: skip


@pytest.mark.parametrize("n_features", [1, 7, 8, 9, 63, 64, 65])
def test_constraints_at_the_edges_of_vectors(isa, dtype, n_features):
    """Protects the last elements of loops over vectors, in both dtypes."""
    X, y, weights = make_data(n_features, dtype=dtype)
    rtol = 1e-12 if dtype == np.float64 else 2e-6
    for form, given in itertools.product(
        ["array", "narrow"],
        [{"l1": 0.01}, {"group": 0.01, "groups": numbers_of_groups(n_features)}],
    ):
        assert_follows_reference(
            form, X, y, rtol=rtol, batch_size=20, sample_weight=weights, positive=True, epochs=1,
            **given,
        )  # fmt: skip


# ---- the same bits -------------------------------------------------------------------------------


def bits(dtype):
    rng = np.random.default_rng(5)
    n_rows, n_features = 500, 300
    X = rng.standard_normal((n_rows, n_features)) * (rng.random(n_features) ** 3 > 0.3)
    X, y = X.astype(dtype), np.where(rng.random(n_rows) < 0.5, 1, -1).astype(dtype)
    labels = rng.integers(0, 4, n_rows).astype(dtype)
    groups = {"group": 1e-3, "groups": numbers_of_groups(n_features)}
    return [
        train(as_form(X, form), target, n_classes, rule, dtype=dtype, batch_size=200, **given)
        for form, rule, given in [
            ("array", "sgd", {"positive": True, **groups}),
            ("narrow", "sgd", {"positive": True}),
            ("wide", "sgd", {"positive": True, "l1": 1e-3}),
            ("narrow", "sgd", groups),
            ("narrow", "adam", {"positive": True}),
        ]
        for n_classes, target in [(1, y), (4, labels)]
    ]


def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, n_threads, assert_same_bits):
    """Protects reproducibility of constrained weights, lazy or not."""
    assert_bits_stay(bits, dtype, assert_same_bits)


def test_long_batches_of_positive_weights(assert_same_bits):
    """Protects columns that come in several waves of a batch: they are projected once, at its end.

    What one thread adds as it comes is what a dense batch adds at once.
    """
    rng = np.random.default_rng(2)
    X = sparse.random(4000, 3000, 0.03, format="csr", rng=rng, dtype=np.float64)
    y = np.where(rng.random(4000) < 0.5, 1.0, -1.0)
    given = {"batch_size": 3900, "epochs": 2, "positive": True, "l1": 1e-5}
    expected = train(X, y, n_threads=1, **given)
    assert X.nnz > 2 * 64 * 2048
    for threads in (3, 8):
        assert_same_bits(list(train(X, y, n_threads=threads, **given)), list(expected))
    assert_allclose(expected[0], train(X.toarray(), y, **given)[0], atol=1e-12)


# ---- what is started from, and refused -----------------------------------------------------------


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_negative_weights_at_first_become_zero(rule, assert_same_bits):
    """Protects dense and sparse rows from different starts, and the intercept from projection."""
    X, y, _ = make_data(5)
    for form in FORMS:
        params = [np.array([-1.0, 2.0, -3.0, 0.5, 0.0, -4.0]) for _ in range(2)]
        params[1][:5] = np.maximum(params[1][:5], 0)
        for one in params:
            name, hypers = hypers_of(rule)
            train_rows(
                as_form(X, form), y, one, 0.01, rule=name, hypers=hypers, batch_size=9,
                states=make_states(name, hypers, one), positive=True,
            )  # fmt: skip
        assert_same_bits(params[0], params[1])
        assert params[0][5] < 0


def test_what_is_not_a_number_is_not_made_one():
    """Protects divergence from the projection, which could hide it as zero."""
    X, y, _ = make_data(5)
    for form in FORMS:
        params = np.array([np.nan, 0.0, 0.0, 0.0, 0.0, 0.0])
        with pytest.raises(_core.DivergenceError):
            train_rows(as_form(X, form), y, params, 0.1, batch_size=67, positive=True)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"group": 0.1, "rule": "adagrad"}, ValueError, "group must be 0.0 unless .* plain sgd"),
        ({"group": 0.1, "rule": "momentum"}, ValueError, "group must be 0.0"),
        ({"group": 0.1, "l1": 0.1}, ValueError, "group must be 0.0 unless .* l1 is 0"),
        (
            {"one_class": 0.5, "n_classes": 3},
            ValueError,
            "one_class must be 0.0 unless n_classes",
        ),
        ({"group": -1.0}, ValueError, "group must be finite and at least 0; got -1.0"),
        ({"group": 0.1, "groups": None}, TypeError, "groups must be a pair of arrays"),
        ({"positive": True, "average": np.zeros(6)}, ValueError, "average must be None unless"),
    ],
)
def test_what_is_not_defined_is_refused_by_name(given, error, words):
    """Protects from a quiet other result: groups are of plain sgd."""
    X, y, _ = make_data(5)
    given = {"rule": "sgd", "groups": (np.arange(5), np.array([0, 2, 5])), **given}
    name, hypers = hypers_of(given["rule"])
    params = np.ones(6)
    given |= {"rule": name, "hypers": hypers, "states": make_states(name, hypers, params)}
    with pytest.raises(error, match=words):
        train_rows(X, y, params, 0.1, **given)
    assert_array_equal(params, 1)


@pytest.mark.parametrize("given", [{"positive": True}, {"one_class": 0.5}, {"group": 0.1}])
def test_rules_that_see_rows_refuse_constraints(given):
    """Protects from a quiet other result: those rules have no step to follow."""
    X, y, _ = make_data(5)
    groups = np.arange(5), np.array([0, 2, 5])
    with pytest.raises(ValueError, match=f"{next(iter(given))} must be .* unless"):
        train_rows(X, y, np.zeros(6), 0.1, rule="vw", groups=groups, **given)


@pytest.mark.parametrize(
    ("groups", "error", "words"),
    [
        (([0, 1, 2, 3, 5], [0, 5]), ValueError, r"groups\[0\] must hold features from 0 to 4"),
        (([0, -1, 2, 3, 4], [0, 5]), ValueError, r"groups\[0\] must hold features from 0 to 4"),
        (([0, 1, 2, 3], [0, 4]), ValueError, r"groups\[0\] must hold 5 elements; got 4"),
        (([0, 1, 2, 3, 4], [0, 6]), ValueError, r"groups\[1\] must rise from 0 to 5"),
        (([0, 1, 2, 3, 4], [0, 3, 1, 5]), ValueError, r"groups\[1\] must rise from 0 to 5"),
        (([0, 1, 2, 3, 4], [5]), ValueError, r"groups\[1\] must rise from 0 to 5"),
        ((np.arange(5, dtype=np.int32), [0, 5]), TypeError, "groups must be of dtype int64"),
        ((np.arange(5.0), [0, 5]), TypeError, r"groups\[0\] must be of dtype"),
    ],
)
def test_groups_outside_the_features_are_refused(groups, error, words):
    """Protects memory: C reads and writes where these arrays say."""
    X, y, _ = make_data(5)
    pair = tuple(np.array(part) for part in groups)
    with pytest.raises(error, match=words):
        train_rows(X, y, np.zeros(6), 0.1, group=0.1, groups=pair)


def test_groups_of_numbers():
    """Protects how features are sorted into groups, and the penalty in the objective."""
    groups = Groups.of([3, -1, 3, 8], 4, 1)
    assert_array_equal(groups.members, [1, 0, 2, 3])
    assert_array_equal(groups.offsets, [0, 1, 3, 4])
    weights = np.array([[3.0, 1.0, 4.0, 0.0]])
    assert groups.penalty(weights) == pytest.approx(1 + 5 * np.sqrt(2))
    assert Groups.of(None, 4, 2).penalty(np.r_[weights, weights]) == pytest.approx(2 * 8)
