"""scikit-learn's own tests of its sag and saga solvers, run on ours.

The installed module is loaded with our classes in place of its own, and each of its tests is a test
here: what it expects are the iterates of plain Python versions of the two methods. Those that
cannot hold are listed in peer_suite_left_out_sag.txt, with a reason each: one that passes all the
same, or that is not there, is an error. What sag is compared with is solved by scikit-learn.
"""

import importlib.util

import pytest
from peer_suites import assert_tests_exist, expecting_failures, left_out, marks

sklearn = pytest.importorskip("sklearn", minversion="1.9")

from sklearn import linear_model as peers  # noqa: E402 - after the check that it is there

from fastgd.linear_model import LogisticRegression, Ridge  # noqa: E402

pytestmark = marks(sklearn.__version__)
LEFT_OUT = left_out("peer_suite_left_out_sag.txt")
expect_failure = expecting_failures(LEFT_OUT)


def ridge(solver, **parameters):
    """Our model for our solvers."""
    make = Ridge if solver in ("sag", "saga") else peers.Ridge
    return make(solver=solver, **parameters)


def peers_tests():
    """The test functions of scikit-learn's module, which finds our classes by their names."""
    spec = importlib.util.find_spec("sklearn.linear_model.tests.test_sag")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LogisticRegression, module.Ridge = LogisticRegression, ridge
    return {name: value for name, value in vars(module).items() if name.startswith("test_")}


globals().update(peers_tests())


def test_what_is_left_out_exists(request):
    """Protects the list from names that are no test any more."""
    assert_tests_exist(request, LEFT_OUT, 20)
