"""Linear models: what is refused, by which name, and that a refusal changes nothing.

Each case goes through `fit` and `partial_fit`, of an estimator that is not fitted, which must stay
so, and of one that is, which must keep all it has: parameters, the rule's states, names of columns.
"""

import itertools
import pickle
import re

import numpy as np
import pytest
import scipy.sparse

from fastgd import _core

exceptions = pytest.importorskip("sklearn.exceptions")

from fastgd._linear_input import losses_for  # noqa: E402 - needs scikit-learn
from fastgd.linear_model import SGDClassifier, SGDRegressor  # noqa: E402

N_ROWS, N_FEATURES = 40, 3
MOMENTUM = ("sgd", {"momentum": 0.5})


def make_data(n_rows=N_ROWS, n_features=N_FEATURES, dtype=np.float64):
    """Rows, and targets for both: labels 0 and 1 for a classifier, which a regressor takes too."""
    X = np.random.default_rng(0).standard_normal((n_rows, n_features)).astype(dtype)
    return X, np.arange(n_rows) % 2


def with_one(array, value, dtype=np.float64, place=-1):
    """A copy of an array with one other element, the last one by default."""
    array = array.astype(dtype)
    array[place] = value
    return array


def make_model(make, **parameters):
    """An estimator with states to lose, that does not complain of too few epochs."""
    defaults = {"alpha": 0.1, "max_iter": 2, "tol": None, "random_state": 0, "optimizer": MOMENTUM}
    return make(**{**defaults, **parameters})


def refuse(model, exception, match, X, y, **options):
    """Fail unless fitted and not, fit and partial_fit refuse, by name, and change nothing."""
    good_X, good_y = make_data(dtype=getattr(X, "dtype", None) if match == "float32" else None)
    first = {"classes": [0, 1]} if isinstance(model, SGDClassifier) else {}
    for fitted, method in itertools.product([False, True], ["fit", "partial_fit"]):
        if method == "partial_fit" and {"coef_init", "intercept_init"} & set(options):
            continue
        if fitted:
            model.fit(good_X, good_y)
        before, attributes = pickle.dumps(model), set(vars(model))
        given = first if method == "partial_fit" and not fitted else {}
        with pytest.raises(exception, match=match) as caught:
            getattr(model, method)(X, y, **given, **options)
        assert not isinstance(caught.value, _core.DivergenceError)
        assert set(vars(model)) == attributes
        assert pickle.dumps(model) == before


both = pytest.mark.parametrize("make", [SGDClassifier, SGDRegressor])


# ---- X -------------------------------------------------------------------------------------------

BAD_X = {
    "words": (lambda X: np.full(X.shape, "a lot", object), ValueError, r"^X: could not convert"),
    "things": (lambda X: np.full(X.shape, {}), TypeError, r"^X: "),
    "complex": (lambda X: X + 1j, ValueError, r"^X: Complex data not supported"),
    "one axis": (lambda X: X[:, 0], ValueError, r"^X: Expected 2D array, got 1D"),
    "three axes": (lambda X: X[None], ValueError, r"X"),
    "a number": (lambda X: 3.0, ValueError, r"^X: Expected 2D array, got scalar"),
    "ragged": (lambda X: [[1.0], [1.0, 2.0]] * (N_ROWS // 2), ValueError, r"^X: "),
    "no rows": (lambda X: X[:0], ValueError, r"^X: Found array with 0 sample"),
    "no columns": (lambda X: X[:, :0], ValueError, r"^X: Found array with 0 feature"),
    "a row more": (lambda X: np.vstack([X, X[:1]]), ValueError, r"^X and y: .*\[41, 40\]"),
}


@both
@pytest.mark.parametrize(("change", "exception", "match"), BAD_X.values(), ids=BAD_X)
def test_x_of_the_wrong_kind(make, change, exception, match):
    """Protects the user from training on something else than meant."""
    X, y = make_data()
    refuse(make_model(make), exception, match, change(X), y)


@both
def test_x_of_another_width(make):
    """Protects partial_fit and predict: the features are those of the first call."""
    X, y = make_data()
    model = make_model(make).fit(X, y)
    before = pickle.dumps(model)
    match = rf"X has 2 features, but {make.__name__} is expecting 3 features"
    with pytest.raises(ValueError, match=match):
        model.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match=match):
        model.predict(X[:, :2])
    with pytest.raises(ValueError, match=r"^X: Expected 2D array"):
        model.predict(X[0])
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.predict(np.full_like(X, np.nan))
    assert pickle.dumps(model) == before
    with pytest.raises(ValueError, match=r"coef_init does .* must be of shape \(1, 2\)"):
        model.set_params(warm_start=True).fit(X[:, :2], y)
    assert pickle.dumps(model.set_params(warm_start=False)) == before
    assert model.fit(X[:, :2], y).n_features_in_ == 2


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("optimizer", ["sgd", MOMENTUM, "adam"], ids=str)
@pytest.mark.parametrize(
    ("make", "loss"),
    [
        *((SGDClassifier, loss) for loss in losses_for("classification")),
        (SGDRegressor, "squared_error"),
        (SGDRegressor, "huber"),
    ],
)
def test_x_not_finite_anywhere(make, loss, optimizer, batch_size):
    """Protects from NaN in X, which only training looks at: no place and no weight hides it."""
    places = [(0, 0), (0, -1), (-1, 0), (-1, -1), (20, 0)]
    for n_features, dtype in [(1, "f8"), (2, "f4"), (9, "f8"), (33, "f4")]:
        X, y = make_data(n_features=n_features, dtype=dtype)
        model = make_model(make, loss=loss, optimizer=optimizer, batch_size=batch_size, eta0=0.01)
        model.set_params(learning_rate="constant").fit(X, y)
        before = pickle.dumps(model)
        for place, weight, train in itertools.product(
            places, [None, 0.0], [model.fit, model.partial_fit]
        ):
            weights = None if weight is None else with_one(np.ones(N_ROWS), weight, place=place[0])
            for value, name in [(np.nan, "NaN"), (-np.inf, "infinity")]:
                with pytest.raises(ValueError, match=f"Input X contains {name}") as caught:
                    train(with_one(X, value, dtype, place), y, sample_weight=weights)
                assert not isinstance(caught.value, _core.DivergenceError)
        assert pickle.dumps(model) == before


@both
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_x_not_finite_leaves_no_trace(make, n_jobs):
    """Protects a new estimator: it is not fitted by data that it refuses, of whatever layout."""
    X, y = make_data()
    options = {"n_jobs": n_jobs} if make is SGDClassifier else {}
    y = np.arange(N_ROWS) % 3
    for value, name, layout in itertools.product(
        [np.nan, np.inf], ["X contains"], [np.asfortranarray, np.ndarray.tolist, np.copy]
    ):
        model = make_model(make, **options)
        with pytest.raises(ValueError, match=name):
            model.fit(layout(with_one(X, value, place=(7, 1))), y)
        assert vars(model) == model.get_params()


# ---- y -------------------------------------------------------------------------------------------


BAD_Y = {
    "nan": (lambda y: with_one(y, np.nan), r"Input y contains NaN"),
    "inf": (lambda y: with_one(y, np.inf), r"Input y contains infinity"),
    "object nan": (lambda y: with_one(y, np.nan, object), r"^y: Input contains NaN"),
    "none": (lambda y: None, r"requires y to be passed"),
    "short": (lambda y: y[:-1], r"^X and y: .*\[40, 39\]"),
    "three axes": (
        lambda y: np.ones((len(y), 2, 2)),
        r"y should be a 1d array|Found array with dim 3",
    ),
    "sparse": (
        lambda y: scipy.sparse.csr_array(y[:, None]),
        r"Sparse data was passed for y|y must be dense",
    ),
    "a number": (lambda y: 1.0, r"^y should be a 1d array|y"),
    "complex": (lambda y: y + 1j, r"[Cc]omplex data not supported|y: Unknown label type"),
}


@both
@pytest.mark.parametrize(("change", "match"), BAD_Y.values(), ids=BAD_Y)
def test_y_of_the_wrong_kind(make, change, match):
    """Protects both estimators from targets that are none."""
    X, y = make_data()
    refuse(make_model(make), (ValueError, TypeError), match, X, change(y))


def test_labels_with_two_columns():
    """Protects a classifier from targets that are several."""
    X, y = make_data()
    refuse(make_model(SGDClassifier), ValueError, r"^y should be a 1d array", X, np.c_[y, y])


def test_targets_that_are_no_numbers_of_the_dtype():
    """Protects a regressor: words, and numbers that float32 cannot hold, are refused."""
    X, y = make_data()
    model = make_model(SGDRegressor)
    refuse(model, ValueError, r"^y: could not convert", X, np.array(["a", "b"])[y])
    refuse(
        model, ValueError, r"^y must hold .* finite as float32", X.astype("f4"), with_one(y, 1e39)
    )
    refuse(
        model, ValueError, r"^y must hold .* finite as float32", X.astype("f4"), with_one(y, -1e300)
    )
    model.fit(X, with_one(y, 1e9))


def test_labels_that_are_not_two_classes_or_more():
    """Protects a classifier: one class, or a regression's target, is no classification."""
    X, _ = make_data()
    model = make_model(SGDClassifier)
    before = pickle.dumps(model)
    for one in (np.zeros(N_ROWS), np.full(N_ROWS, "a"), np.zeros(N_ROWS, int)):
        with pytest.raises(ValueError, match=r"^y must hold at least two classes.* got 1 class"):
            model.fit(X, one)
        with pytest.raises(ValueError, match="at least two classes"):
            model.partial_fit(X, one, classes=one[:1])
    refuse(model, ValueError, "y: Unknown label type: continuous", X, X[:, 0])
    assert pickle.dumps(make_model(SGDClassifier)) == before
    model.partial_fit(X, np.zeros(N_ROWS), classes=[0, 1])  # a chunk of one class is one


def test_labels_that_partial_fit_does_not_know():
    """Protects a stream: labels are declared once, and no other is taken for one of them."""
    X, y = make_data()
    model = make_model(SGDClassifier)
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match=r"y must hold labels out of classes \[0 1\]; got \[2\]"):
        model.partial_fit(X, 2 * y, classes=[0, 1])
    with pytest.raises(ValueError, match="y must hold labels out of classes"):
        model.partial_fit(X, y, classes=["no", "yes"])
    assert vars(model) == model.get_params()
    before = pickle.dumps(model.partial_fit(X, y, classes=[1, 0]))
    with pytest.raises(ValueError, match=r"labels out of classes \[0 1\]; got \[-1  3\]"):
        model.partial_fit(X, np.where(y, 3, -1))
    with pytest.raises(ValueError, match=r"classes must be those of the first call, \[0 1\]"):
        model.partial_fit(X, y, classes=[0, 1, 2])
    assert pickle.dumps(model) == before
    model.partial_fit(X, y, classes=[0, 1]).partial_fit(X, y)


# ---- weights and starting points -----------------------------------------------------------------

BAD_WEIGHTS = {
    "nan": (lambda w: with_one(w, np.nan), r"Input sample_weight contains NaN"),
    "inf": (lambda w: with_one(w, np.inf), r"Input sample_weight contains infinity"),
    "short": (lambda w: w[:-1], r"sample_weight\.shape == \(39,\), expected \(40,\)"),
    "two axes": (lambda w: w[:, None], r"^sample_weight: .* must be 1D"),
    "words": (lambda w: ["heavy"] * N_ROWS, r"^sample_weight: could not convert"),
    "all zero": (lambda w: 0 * w, r"^sample_weight: .* at least one non-zero"),
    "one nan": (lambda w: np.nan, r"^sample_weight must hold .* finite"),
}


@both
@pytest.mark.parametrize(("change", "match"), BAD_WEIGHTS.values(), ids=BAD_WEIGHTS)
def test_weights_of_the_wrong_kind(make, change, match):
    """Protects from weights that would spoil the objective."""
    X, y = make_data()
    refuse(make_model(make), ValueError, match, X, y, sample_weight=change(np.ones(N_ROWS)))


@both
def test_weights_that_float32_cannot_hold(make):
    """Protects float32 training from weights of infinity, and from a warning instead of a word."""
    X, y = make_data(dtype=np.float32)
    weights = with_one(np.ones(N_ROWS), 1e39)
    match = "sample_weight contains infinity or a value too large for dtype.*float32"
    refuse(make_model(make), ValueError, match, X, y, sample_weight=weights)


@pytest.mark.parametrize(
    ("class_weight", "match"),
    [
        ({0: np.nan, 1: 1.0}, "class_weight must be finite"),
        ({0: np.inf, 1: 1.0}, "class_weight must be finite"),
        ({5: 1.0}, "not in class_weight"),
        ("heavy", "'class_weight' parameter of SGDClassifier must be"),
    ],
)
def test_class_weights_of_the_wrong_kind(class_weight, match):
    """Protects from weights that would turn training around."""
    X, y = make_data()
    model = make_model(SGDClassifier, class_weight=class_weight)
    with pytest.raises(ValueError, match=match):
        model.fit(X, y)
    assert vars(model) == model.get_params()


def test_balanced_classes_need_all_the_data():
    """Protects partial_fit, which cannot know how many rows of a class will come."""
    X, y = make_data()
    with pytest.raises(
        ValueError, match="class_weight 'balanced' is not supported for partial_fit"
    ):
        SGDClassifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1])


@both
@pytest.mark.parametrize("name", ["coef_init", "intercept_init"])
def test_starting_points_of_the_wrong_kind(make, name):
    """Protects fit from starting where no training starts."""
    X, y = make_data()
    model, n = make_model(make), N_FEATURES if name == "coef_init" else 1
    for given, match in [
        (np.zeros(n + 1), f"Provided {name} does not match .* must be of shape"),
        (np.zeros((n + 1, 2)), f"Provided {name} does not match .* must be of shape"),
        (np.full(n, np.nan), f"{name} must hold .* finite as float64"),
        (np.full(n, np.inf), f"{name} must hold .* finite as float64"),
        (["far"] * n, f"{name}: could not convert"),
    ]:
        refuse(model, ValueError, f"^{match}", X, y, **{name: given})
    with pytest.raises(ValueError, match=f"^{name} must hold .* finite as float32"):
        make_model(make).fit(X.astype(np.float32), y, **{name: np.full(n, 1e39)})


def test_a_transposed_starting_point_is_refused():
    """Protects one against the rest: (features, classes) has as many numbers as wanted."""
    X, y = make_data()[0], np.arange(N_ROWS) % 4
    model = make_model(SGDClassifier)
    with pytest.raises(ValueError, match=r"coef_init .* must be of shape \(4, 3\).* got \(3, 4\)"):
        model.fit(X, y, coef_init=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"intercept_init .* shape \(4,\).* got \(2, 2\)"):
        model.fit(X, y, intercept_init=np.zeros((2, 2)))


# ---- parameters of the estimators ----------------------------------------------------------------

BAD_PARAMETERS = [
    ("batch_size", [0, -1, 1.5, "all", None]),
    ("alpha", [-1e-9, np.nan, np.inf, "small"]),
    ("eta0", [0, -0.1, np.nan, np.inf]),
    ("power_t", [np.inf, np.nan]),
    ("epsilon", [-0.1, np.nan]),
    ("max_iter", [0, 1.5, None]),
    ("tol", [-1e-3, np.nan, "strict"]),
    ("n_iter_no_change", [0, 2.5]),
    ("loss", ["modified huber", "", None]),
    ("penalty", ["l3", "L2"]),
    ("learning_rate", ["pa3", "fast", None]),
    ("shuffle", ["blocks", 64, None]),
    ("optimizer", ["sophia", "SGD", None, 3]),
    ("average", [-1, 0, 1.5]),
    ("early_stopping", ["yes", None]),
    ("validation_fraction", [0, 1.0]),
    ("fit_intercept", ["yes", None]),
    ("warm_start", ["yes"]),
    ("l1_ratio", [-0.1, 1.1]),
    ("random_state", [-1, "seed", 2**32]),
    ("verbose", [-1, "very"]),
    ("n_threads", [0, -1, 1.5]),
    ("restore_best_weights", ["yes"]),
    ("callbacks", [3, "print"]),
    ("loss_parameter", ["much"]),
]


@both
@pytest.mark.parametrize(
    ("name", "values"), BAD_PARAMETERS, ids=[name for name, _ in BAD_PARAMETERS]
)
def test_parameters_out_of_range(make, name, values):
    """Protects from a training that was not meant: refused in words, by name, with the value."""
    X, y = make_data()
    for value in values:
        model = make_model(make, **{name: value})
        match = f"'{name}' parameter of {make.__name__} must be .* Got {re.escape(repr(value))}"
        for method in ("fit", "partial_fit"):
            options = (
                {"classes": [0, 1]} if (make, method) == (SGDClassifier, "partial_fit") else {}
            )
            with pytest.raises(ValueError, match=match):
                getattr(model, method)(X, y, **options)
            assert vars(model) == model.get_params()
        fitted = make_model(make).fit(X, y)
        before = pickle.dumps(fitted.set_params(**{name: value}))
        with pytest.raises(ValueError, match=match):
            fitted.partial_fit(X, y)
        assert pickle.dumps(fitted) == before


BAD_OPTIMIZERS = [
    (("sgd",), ValueError, "optimizer must be one of sgd, adam"),
    (("sgd", {}, 1), ValueError, "optimizer must be one of"),
    (("sophia", {}), ValueError, "optimizer must be one of"),
    ((["sgd"], {}), ValueError, "optimizer must be one of"),
    (("sgd", 0.9), ValueError, "optimizer must be one of"),
    (("sgd", {"lr": 0.1}), ValueError, "other than lr"),
    (("sgd", {"momentun": 0.9}), TypeError, "'momentun' must be a hyper-parameter of 'sgd'"),
    (("adam", {"momentum": 0.9}), TypeError, "'momentum' must be a hyper-parameter of 'adam'"),
    (("sgd", {"momentum": -0.9}), ValueError, "momentum must be"),
    (("sgd", {"momentum": np.nan}), ValueError, "momentum must be"),
    (("sgd", {"momentum": "much"}), TypeError, "momentum must be"),
    (("sgd", {"nesterov": True}), ValueError, "nesterov must be False without momentum"),
    (("adamw", {"weight_decay": -1}), ValueError, "weight_decay must be"),
    (("adam", {"betas": (0.9, 1.0)}), ValueError, r"betas\[1\] must be"),
    (("adam", {"betas": 0.9}), TypeError, "betas must be a tuple"),
    (("adam", {"eps": -1e-8}), ValueError, "eps must be"),
]


@both
@pytest.mark.parametrize(("optimizer", "exception", "match"), BAD_OPTIMIZERS, ids=str)
def test_optimizers_out_of_range(make, optimizer, exception, match):
    """Protects from hyper-parameters that the rule does not have or cannot use."""
    X, y = make_data()
    model = make_model(make, optimizer=optimizer)
    with pytest.raises(exception, match=match):
        model.fit(X, y)
    assert vars(model) == model.get_params()


@both
def test_the_optimal_schedule_needs_a_penalty(make):
    """Protects from a division by zero: alpha is the denominator."""
    X, y = make_data()
    model = make_model(make, alpha=0, learning_rate="optimal")
    with pytest.raises(ValueError, match='alpha must be above 0 with learning_rate="optimal"'):
        model.fit(X, y)
    assert vars(model) == model.get_params()
    assert make_model(make, alpha=0, learning_rate="constant").fit(X, y).n_iter_ == 2


@both
def test_an_estimator_that_is_not_fitted(make):
    """Protects predict."""
    X, _ = make_data()
    with pytest.raises(exceptions.NotFittedError, match=make.__name__):
        make_model(make).predict(X)


@both
def test_names_of_columns_survive_a_refusal(make):
    """Protects a fitted estimator: names and number of its features stay those it was fitted on."""
    pandas = pytest.importorskip("pandas")
    X, y = make_data()
    model = make_model(make).fit(pandas.DataFrame(X, columns=["a", "b", "c"]), y)
    other = pandas.DataFrame(np.full((N_ROWS, 2), np.nan), columns=["d", "e"])
    with pytest.raises(ValueError, match="X contains NaN"):
        model.fit(other, y)
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert model.n_features_in_ == 3
    model.predict(pandas.DataFrame(X, columns=["a", "b", "c"]))
