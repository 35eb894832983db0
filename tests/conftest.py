"""The axes along which everything is tested, and the helpers that the test files share.

A test asks for an axis by naming it: ``isa``, ``dtype``, ``n_threads``, ``size``, ``rule``. It then
runs once for each value, with that instruction set or number of threads in force. Whatever a test
changes of the two, it finds as it was.
"""

import importlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import settings

import fastgd
from fastgd import _core, config
from fastgd._hypers import VECTOR_RULES

collect_ignore = ["yolo.py"]  # no test, and it needs torch

# its assertions show values, as those of the test files do
pytest.register_assert_rewrite(
    "linear_batches", "linear_models", "optimizers", "torch_optimizers", "ultralytics_trainers"
)

# around the widths of vectors, of cache lines and of what one thread is given
SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 4097)

# no verdict depends on how busy the machine is
settings.register_profile("fastgd", deadline=None, print_blob=True)
settings.load_profile("fastgd")


def pytest_configure(config):
    """Know marks of scikit-learn's own tests, which the files test_*_peer_suite.py run."""
    config.addinivalue_line("markers", "no_check_spmatrix: of no meaning here")
    config.addinivalue_line("markers", "thread_unsafe: of no meaning here")


@pytest.fixture(autouse=True)
def _restored():
    """Leave instruction set and number of threads to the next test as this one found them."""
    isa, choice = _core.active_isa(), (config._choice.threads, config._choice.reason)
    yield
    _core.use_isa(isa)
    config._choice.set(*choice)


# ---- axes ----------------------------------------------------------------------------------------


@pytest.fixture(params=_core.SUPPORTED_ISAS)
def isa(request):
    """Name of the instruction set in force: each that this processor has."""
    _core.use_isa(request.param)
    return request.param


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    """Each dtype that the kernels take."""
    return np.dtype(request.param)


@pytest.fixture(params=[1, 2, 3, 4], ids="threads{}".format)
def n_threads(request):
    """Number of threads in force."""
    fastgd.set_num_threads(request.param)
    return request.param


@pytest.fixture
def one_thread():
    """No teams, where many small calls would wait for each other's on cores that tests share."""
    with fastgd.threads(1):
        yield


@pytest.fixture(params=SIZES, ids="size{}".format)
def size(request):
    """Number of elements, or of rows."""
    return request.param


@pytest.fixture(params=VECTOR_RULES)
def rule(request):
    """Name of each rule of the table that takes any shape."""
    return request.param


# ---- helpers -------------------------------------------------------------------------------------


@pytest.fixture
def rng():
    """Random numbers, the same in every run."""
    return np.random.default_rng(20240229)


@pytest.fixture
def torch():
    """Torch, or skip."""
    return pytest.importorskip("torch")


@pytest.fixture
def jax():
    """Jax in double precision with optax at hand, or skip."""
    jax = pytest.importorskip("jax")
    pytest.importorskip("optax")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield jax
    jax.config.update("jax_enable_x64", before)


def _assert_same_bits(actual, expected):
    """Fail unless two arrays, or two nested lists of them, are equal to the last bit.

    Unlike ``==``, this tells 0.0 from -0.0 and float32 from float64, and takes NaN for itself.
    """
    if isinstance(expected, list | tuple):
        assert len(actual) == len(expected)
        for a, e in zip(actual, expected, strict=True):
            _assert_same_bits(a, e)
        return
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.tobytes() != expected.tobytes():
        different = actual != expected
        where = np.argwhere(different)[:5].tolist()
        raise AssertionError(f"{np.sum(different)} of {actual.size} differ, first at {where}")


@pytest.fixture(scope="session")
def assert_same_bits():
    """Function (actual, expected): fail unless they are equal to the last bit."""
    return _assert_same_bits


@pytest.fixture
def without_library(monkeypatch):
    """Function (name): from now on, importlib does not find this library."""
    import_module = importlib.import_module

    def hide(library):
        def fail(name, *rest):
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {library!r}")
            return import_module(name, *rest)

        monkeypatch.setattr(importlib, "import_module", fail)

    return hide


@pytest.fixture
def run_python(tmp_path):
    """Function (code, **environment) -> CompletedProcess: run code in a new interpreter.

    It runs away from the source tree. A value None takes the variable out of the environment.
    What OMP_NUM_THREADS and FASTGD_ISA are set to outside does not matter.
    """

    def run(code, *, check=True, timeout=120, **environment):
        changes = {"OMP_NUM_THREADS": None, "FASTGD_ISA": None, **environment}
        env = {k: v for k, v in {**os.environ, **changes}.items() if v is not None}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=env,
            cwd=tmp_path,
            timeout=timeout,
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run
