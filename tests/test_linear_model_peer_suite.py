"""scikit-learn's own tests of its SGD estimators, run on ours.

The installed module is loaded with our classes in place of its own, and each of its tests is a test
here. Those that cannot hold are listed in peer_suite_left_out.txt, with a reason each: one that
passes all the same, or that is not there, is an error.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from peer_suites import (
    assert_tests_exist,
    expecting_failures,
    global_random_seed,  # noqa: F401 - a fixture
    left_out,
    marks,
)

sklearn = pytest.importorskip("sklearn", minversion="1.9")
from sklearn import linear_model  # noqa: E402 - after the check that it is there

from fastgd.linear_model import SGDClassifier, SGDOneClassSVM, SGDRegressor  # noqa: E402

pytestmark = marks(sklearn.__version__)
LEFT_OUT = left_out("peer_suite_left_out.txt")
expect_failure = expecting_failures(LEFT_OUT)


def peers_tests():
    """The test functions of scikit-learn's module, which finds our classes by their names."""
    ours = ModuleType("linear_model")
    vars(ours).update(
        vars(linear_model),
        SGDClassifier=SGDClassifier,
        SGDRegressor=SGDRegressor,
        SGDOneClassSVM=SGDOneClassSVM,
    )
    path = Path(linear_model.__file__).parent / "tests" / "test_sgd.py"
    spec = importlib.util.spec_from_file_location("test_sgd_of_scikit_learn", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for pickle, which looks for classes by their names
    sklearn.linear_model = ours  # `from sklearn import linear_model` takes this one
    try:
        spec.loader.exec_module(module)
    finally:
        sklearn.linear_model = linear_model
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


globals().update(peers_tests())


def test_what_is_left_out_exists(request):
    """Protects the list from names that are no test any more."""
    assert_tests_exist(request, LEFT_OUT, 200)
