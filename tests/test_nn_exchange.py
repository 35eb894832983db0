"""`fastgd.nn`: networks as scikit-learn's estimators and ONNX files, and back.

Those of torch are in ``test_torch_networks.py``.
"""

import pickle

import numpy as np
import pytest
from networks import ACTIVATIONS, KINDS, LOSSES, make_data, make_network
from numpy.testing import assert_allclose

from fastgd import nn, quantization
from fastgd.datasets import DataError

# ---- scikit-learn --------------------------------------------------------------------------------


@pytest.fixture
def mlp():
    """scikit-learn's networks, or skip."""
    return pytest.importorskip("sklearn.neural_network")


def plain_network(loss, n_outputs, activation="tanh", **options):
    """A network that scikit-learn can have, with weights of its own."""
    layers = [nn.Dense(6, activation), nn.Dense(4, activation), nn.Dense(n_outputs)]
    return nn.Network(3, layers, loss=loss, rng=0, **options)


CASES = [
    ("cross_entropy", 3, ["a", "b", "c"]),
    ("cross_entropy", 2, ["no", "yes"]),
    ("log_loss", 1, [-1, 1]),
    ("log_loss", 3, None),
    ("squared_error", 1, None),
    ("squared_error", 2, None),
    ("poisson", 1, None),
]


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize(("loss", "n_outputs", "classes"), CASES)
def test_scikit_learns_network_predicts_the_same(mlp, loss, n_outputs, classes, activation, dtype):
    """Protects the way to scikit-learn: numbers, classes, probabilities, dtype, pickles."""
    net = plain_network(loss, n_outputs, activation, dtype=dtype)
    X = make_data()[0].astype(dtype)
    model = pickle.loads(pickle.dumps(net.to_sklearn(classes=classes)))
    expected = net.predict(X)
    tolerance = {"rtol": 1e-12 if dtype == np.float64 else 2e-5, "atol": 1e-7}
    if loss in ("squared_error", "poisson"):
        assert isinstance(model, mlp.MLPRegressor)
        assert_allclose(model.predict(X).reshape(len(X), -1), expected, **tolerance)
        return
    assert isinstance(model, mlp.MLPClassifier)
    proba = model.predict_proba(X)
    if loss == "log_loss" and n_outputs == 1:
        expected = np.hstack([1 - expected, expected])
    assert_allclose(proba, expected, **tolerance)
    if loss == "log_loss" and n_outputs > 1:
        np.testing.assert_array_equal(model.predict(X), expected > 0.5)
    else:
        np.testing.assert_array_equal(model.predict(X), np.array(classes)[expected.argmax(axis=1)])
    assert model.coefs_[0].dtype == dtype


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize(("loss", "n_outputs", "classes"), CASES)
def test_scikit_learns_network_trains_on(mlp, loss, n_outputs, classes, solver):
    """Protects fitted attributes being complete: partial_fit goes on from there."""
    net = plain_network(loss, n_outputs, dtype=np.float64)
    X = make_data()[0]
    model = net.to_sklearn(classes=classes, solver=solver, learning_rate_init=1e-3)
    y = model.predict(X)
    before = [w.copy() for w in model.coefs_]
    for _ in range(3):
        model.partial_fit(X, y)
    for w, start in zip(model.coefs_, before, strict=True):
        assert_allclose(w, start, atol=0.05)
        assert (w != start).any()
    for w, start in zip(net.parameters[::2], before, strict=False):
        assert w is not start
    assert (model.n_iter_, model.t_, len(model.loss_curve_)) == (1, 3 * len(X), 3)


@pytest.mark.parametrize(("loss", "n_outputs", "classes"), CASES)
def test_fitted_estimators_become_networks(mlp, loss, n_outputs, classes, dtype):
    """Protects the way back: estimator, network, estimator have the same numbers."""
    model = plain_network(loss, n_outputs, dtype=dtype).to_sklearn(classes=classes)
    net = nn.Network.from_sklearn(model)
    assert net.dtype == dtype
    again = net.to_sklearn(classes=classes)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(again, name), getattr(model, name), strict=True):
            np.testing.assert_array_equal(a, b)
    assert again.get_params() == model.get_params()
    X = make_data()[0].astype(dtype)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert vars(again).keys() == vars(model).keys()


def test_fitting_gives_no_attribute_that_is_missing(mlp):
    """Protects code that reads fitted attributes: ours are those of scikit-learn's own fit."""
    X, y, _ = make_data("cross_entropy", 40)
    fitted = mlp.MLPClassifier((4,), max_iter=500, tol=0.1).fit(X, y)
    made = nn.Network.from_sklearn(fitted).to_sklearn()
    assert vars(fitted).keys() - vars(made).keys() <= {"_optimizer", "_random_state"}


def test_what_scikit_learn_has_not_is_refused(mlp):
    """Protects from a network that would predict something else."""
    for net, words in [
        (make_network("relu", "huber"), "loss must be one of cross_entropy, .*'huber'"),
        (make_network("relu", kind="batch"), r"neither norm nor skip.*layers\[0\]"),
        (make_network("relu", kind="skip"), r"neither norm nor skip.*layers\[1\]"),
        (make_network("gelu"), "one activation of identity, relu, tanh, logistic.*gelu"),
        (nn.Network(2, [nn.Dense(2, "tanh")]), "the last activation must be identity.*'tanh'"),
        (
            nn.Network(2, [nn.Dense(2, "tanh"), nn.Dense(2, "relu"), nn.Dense(1)]),
            r"one activation .*\['tanh', 'relu'\]",
        ),
    ]:
        with pytest.raises(ValueError, match=words):
            net.to_sklearn()
    many = make_network("relu", "log_loss")
    for net, classes, words in [
        (make_network("relu", "cross_entropy"), [0, 1], "classes must be 3 different ones"),
        (make_network("relu", "cross_entropy"), ["b", "a", "c"], "classes must be 3 .* in order"),
        (make_network("relu"), [0, 1], "classes must be None with the loss 'squared_error'"),
        (many, [0, 1, 2], "classes must be None with many labels"),
    ]:
        with pytest.raises(ValueError, match=words):
            net.to_sklearn(classes=classes)
    with pytest.raises(ValueError, match="not fitted"):
        nn.Network.from_sklearn(mlp.MLPRegressor())


@pytest.mark.parametrize("method", ["to_torch", "to_sklearn", "to_onnx"])
def test_networks_prepared_to_be_quantised_are_refused(tmp_path, method):
    """Protects from a copy that would predict without what the weights were trained for."""
    prepared = quantization.prepare(make_network(), make_data()[0])
    arguments = (tmp_path / "x",) if method == "to_onnx" else ()
    with pytest.raises(TypeError, match="a PreparedNetwork cannot go to other libraries"):
        getattr(prepared, method)(*arguments)


# ---- ONNX ----------------------------------------------------------------------------------------


def run_onnx(path, X):
    """Predictions of a file, by onnx's own evaluator."""
    evaluator = pytest.importorskip("onnx.reference").ReferenceEvaluator(str(path))
    return evaluator.run(None, {"X": X})[0]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_onnx_predicts_the_same(tmp_path, kind, activation, dtype):
    """Protects every operator: of activations, norms, skips, in both dtypes, for any rows."""
    pytest.importorskip("onnx")
    net = make_network(activation, kind=kind, dtype=dtype)
    net.to_onnx(tmp_path / "net.onnx")
    tolerance = 1e-7 if dtype == np.float64 else 2e-5  # ONNX's operators have float32 settings
    for n in (1, 7):
        X = make_data(n=n)[0].astype(dtype)
        predictions = run_onnx(tmp_path / "net.onnx", X)
        assert predictions.dtype == dtype
        assert_allclose(predictions, net.predict_raw(X), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("loss", LOSSES)
def test_onnx_with_the_link(tmp_path, loss):
    """Protects link=True: probabilities, means; and the opset that the documentation names."""
    onnx = pytest.importorskip("onnx")
    net, X = make_network(loss=loss), make_data()[0]
    net.to_onnx(str(tmp_path / "net.onnx"), link=True)
    assert_allclose(run_onnx(tmp_path / "net.onnx", X), net.predict(X), rtol=1e-12)
    model = onnx.load(tmp_path / "net.onnx")
    assert [one.version for one in model.opset_import] == [20]


@pytest.mark.parametrize(
    ("method", "library", "extra"),
    [("to_sklearn", "sklearn", "sklearn"), ("to_onnx", "onnx", "onnx")],
)
def test_absence_names_the_extra(without_library, tmp_path, method, library, extra):
    """Protects who installed fastgd alone from a riddle."""
    without_library(library)
    arguments = (tmp_path / "x",) if library == "onnx" else ()
    with pytest.raises(DataError, match=rf"fastgd\[{extra}\]"):
        getattr(make_network(), method)(*arguments)
