"""scikit-learn's own tests of its multilayer perceptrons, run on ours.

The installed module is loaded with our classes in place of its own, and each of its tests is a test
here. Those that cannot hold are listed in peer_suite_left_out_mlp.txt, with a reason each: one that
passes all the same, or that is not there, is an error.
"""

import importlib.util

import pytest
from peer_suites import (
    assert_tests_exist,
    expecting_failures,
    global_random_seed,  # noqa: F401 - a fixture
    left_out,
    marks,
)

sklearn = pytest.importorskip("sklearn", minversion="1.9")
from sklearn import neural_network as peers  # noqa: E402 - after the check that it is there

from fastgd.neural_network import MLPClassifier, MLPRegressor  # noqa: E402

pytestmark = [*marks(sklearn.__version__), pytest.mark.usefixtures("one_thread")]
LEFT_OUT = left_out("peer_suite_left_out_mlp.txt")
expect_failure = expecting_failures(LEFT_OUT)


def peers_tests():
    """The test functions of scikit-learn's module, which finds our classes by their names."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    module = importlib.util.module_from_spec(spec)
    theirs = peers.MLPClassifier, peers.MLPRegressor
    peers.MLPClassifier, peers.MLPRegressor = MLPClassifier, MLPRegressor  # also in marks
    try:
        spec.loader.exec_module(module)
    finally:
        peers.MLPClassifier, peers.MLPRegressor = theirs
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


globals().update(peers_tests())


def test_what_is_left_out_exists(request):
    """Protects the list from names that are no test any more."""
    assert_tests_exist(request, LEFT_OUT, 50)
