"""What it takes to run tests of scikit-learn's on classes of ours; some are left out by a list."""

from pathlib import Path

import pytest


def left_out(file):
    """Reasons by the names of tests, as listed in a file beside this one."""
    lines = (Path(__file__).parent / file).read_text().splitlines()
    listed = (line.partition(": ") for line in lines if line and not line.startswith("#"))
    return {name: reason for name, _, reason in listed}


def expecting_failures(reasons):
    """A fixture of a module: what is left out fails, or it is an error."""

    @pytest.fixture(autouse=True)
    def expect_failure(request):
        reason = reasons.get(request.node.name)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    return expect_failure


@pytest.fixture
def global_random_seed():
    """The seed that scikit-learn runs its tests with."""
    return 42


def assert_tests_exist(request, reasons, at_least):
    """Fail if the module has fewer tests, or what is left out is none of them."""
    names = {item.name for item in request.node.getparent(pytest.Module).collect()}
    assert len(names) > at_least
    assert set(reasons) <= names


def marks(version):
    """What each test of such a module is marked with; the lists are of one version."""
    return [
        pytest.mark.skipif(
            not version.startswith("1.9."), reason="the list is of scikit-learn 1.9"
        ),
        pytest.mark.filterwarnings("ignore"),  # of data that is not scaled
    ]
