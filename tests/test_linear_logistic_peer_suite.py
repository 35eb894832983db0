"""scikit-learn's own tests of logistic regression, run on ours.

The installed module is loaded with our class in place of its own, and each of its tests that is
about it is a test here. Those that cannot hold are listed in peer_suite_left_out_logistic.txt, with
a reason each: one that passes all the same, or that is not there, is an error.
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

from fastgd.linear_model import LogisticRegression  # noqa: E402 - after the check

pytestmark = marks(sklearn.__version__)
LEFT_OUT = left_out("peer_suite_left_out_logistic.txt")
expect_failure = expecting_failures(LEFT_OUT)
# tests of what is not here, by their names
OTHERS = (
    "liblinear",
    "None_deprecated",
    "newton",
    "cv",
    "CV",
    "array_api",
    "callback",
    "path",
    "scoring",
    "scores",
    "string_inputs",
)
SOLVERS = ("lbfgs", "sag", "saga")


def of_ours(mark):
    """A mark, of which parameters are those of our solvers, and of our class."""
    if mark.name != "parametrize":
        return mark
    names, values = mark.args[:2]
    at = names.replace(" ", "").split(",") if isinstance(names, str) else names
    kept = []
    for value in values:
        case = dict(zip(at, value if len(at) > 1 else [value], strict=True))
        theirs = "cv" in map(str, case.values()) or any("CV" in str(v) for v in case.values())
        if case.get("solver", "saga") in SOLVERS and not theirs:
            kept.append(value)
    return pytest.mark.parametrize(names, kept).mark


def peers_tests():
    """The test functions of scikit-learn's module, which finds our class by its name."""
    spec = importlib.util.find_spec("sklearn.linear_model.tests.test_logistic")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.LogisticRegression, module.SOLVERS = LogisticRegression, SOLVERS
    tests = {}
    for name, test in vars(module).items():
        if name.startswith("test_") and not any(other in name for other in OTHERS):
            test.pytestmark = [of_ours(mark) for mark in getattr(test, "pytestmark", [])]
            tests[name] = test
    return tests


globals().update(peers_tests())


def test_what_is_left_out_exists(request):
    """Protects the list from names that are no test any more."""
    assert_tests_exist(request, LEFT_OUT, 100)
