"""Kernels as they are reached through `fastgd._core`, and the choice of the instruction set.

Reductions and the shuffle are held to `fastgd.reference` and to exact arithmetic, on every
instruction set. The losses are tested in ``test_losses.py``, the update rules in ``test_optim.py``,
the training loop with the estimators.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastgd
from fastgd import _core, reference

# ---- reductions ----------------------------------------------------------------------------------


def test_all_finite_finds_a_bad_element_anywhere(isa, dtype, size, rng):
    """Protects the check of X: no element is skipped, and no large one taken for infinite."""
    limit = np.finfo(dtype).max
    x = rng.uniform(-1, 1, size).astype(dtype) * limit
    assert _core.all_finite(x) is True
    for bad in (math.nan, math.inf, -math.inf):
        for i in {*range(min(size, 70)), *range(max(size - 70, 0), size)}:
            kept, x[i] = x[i], bad
            assert _core.all_finite(x) is False, (i, bad)
            x[i] = kept
    if size > 1:
        x[0], x[-1] = math.inf, -math.inf  # which must not cancel
        assert _core.all_finite(x) is False


def test_all_finite_looks_at_the_view_only(isa, dtype):
    """Protects from reading beyond the end: what lies around an array does not count."""
    memory = np.full(200, math.nan, dtype)
    for offset in range(1, 20):
        view = memory[offset : offset + 67]
        view[:] = 1
        assert _core.all_finite(view) is True
        view[:] = math.nan


def test_sum_of_whole_numbers_is_exact(isa, dtype, size, n_threads):
    """Protects from an element that is skipped or counted twice."""
    x = np.arange(size, dtype=dtype) % 101
    assert _core.sum_all(x) == x.astype(np.int64).sum()
    assert _core.sum_all(x.reshape(1, -1, 1)) == x.astype(np.int64).sum()


def test_large_sums_have_the_same_bits_with_any_team_and_isa(dtype, rng):
    """Protects reproducibility: the order of additions depends on the size alone."""
    x = rng.normal(size=600_011).astype(dtype)  # beyond FGD_SERIAL_SUM for four threads
    sums = set()
    for isa in _core.SUPPORTED_ISAS:
        _core.use_isa(isa)
        for n in (1, 2, 3, 4, 7):
            with fastgd.threads(n):
                sums.add(_core.sum_all(x))
    assert len(sums) == 1
    error = 1e-3 if dtype == np.float32 else 1e-9
    assert abs(sums.pop() - math.fsum(x.tolist())) < error


# ---- shuffle -------------------------------------------------------------------------------------


def test_shuffle_is_that_of_the_specification(size):
    """Protects the order of the rows, and with it scikit-learn's results."""
    for seed in (0, 1, 7, 2**31, 2**32 - 1):
        order, expected = np.arange(size), list(range(size))
        for _ in range(2):  # an epoch shuffles what the epoch before has left
            _core.shuffle(order, seed)
            reference.shuffle(expected, seed)
            assert order.tolist() == expected


@settings(max_examples=50)
@given(n=st.integers(0, 300), seed=st.integers(0, 2**32 - 1))
def test_shuffle_follows_the_specification_for_any_seed(n, seed):
    """Protects all seeds: the generator is 32-bit arithmetic, cut to 31 bits."""
    order, expected = np.arange(n), list(range(n))
    _core.shuffle(order, seed)
    reference.shuffle(expected, seed)
    assert order.tolist() == expected


def read_only_order():
    """Return an order that must not be changed."""
    order = np.arange(4)
    order.flags.writeable = False
    return order


@pytest.mark.parametrize(
    "order", [np.arange(4, dtype=np.int32), np.arange(8)[::2], np.arange(4.0), read_only_order()],
    ids=["int32", "strided", "float", "read-only"],
)  # fmt: skip
def test_shuffle_refuses_what_it_cannot_permute(order):
    """Protects from a permutation of half the bytes."""
    before = order.copy()
    with pytest.raises(TypeError, match=r"^order must be a writeable C-contiguous int64"):
        _core.shuffle(order, 1)
    assert np.array_equal(order, before)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seed_beyond_32_bits_is_refused(seed):
    """Protects from a seed that is silently another one."""
    with pytest.raises(OverflowError):
        _core.shuffle(np.arange(4), seed)


# ---- the training loop's boundary ----------------------------------------------------------------


def loop_arguments(**changes):
    """Arguments for one epoch over 10 rows, with some of them changed."""
    X = np.ones((10, 3))
    arguments = {
        "params": np.zeros(4), "states": (), "X": X, "y": np.ones(10), "sample_weight": None,
        "order": np.arange(10), "block": 1, "memory": _core.scratch(X, 4),
        "loss": _core.LOSSES["hinge"]["number"], "loss_parameter": 0.0, "alpha": 0.0,
        "fit_intercept": True, "rule": _core.RULES["sgd"]["number"],
        "hypers": [0.1, 0, 0, 0, 0, 0], "lr": np.full(3, 0.1),
        "kept": np.zeros(_core.N_KEPT), "t": 0, "batch_size": 4, "start": 0, "stop": 10,
    }  # fmt: skip
    return arguments | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"X": [[1.0]]}, "^X must be a NumPy array"),
        ({"X": np.ones(10)}, "^X must have two dimensions"),
        ({"X": np.ones((0, 3))}, "^X must not be empty"),
        ({"X": np.ones((10, 0))}, "^X must not be empty"),
        ({"X": np.ones((10, 3), order="F")}, "^X must be C-contiguous"),
        ({"X": np.ones((10, 3), int)}, "^X must be of dtype"),
        ({"y": np.ones(9)}, "^y must hold 10 elements; got 9"),
        ({"y": np.ones(10, np.float32)}, "^y must have the dtype"),
        ({"sample_weight": np.ones(11)}, "^sample_weight must hold 10"),
        ({"order": np.arange(11)}, "^order must be"),
        ({"order": np.arange(9)}, "start < stop within the 9 rows"),
        ({"order": np.arange(10, dtype=np.int32)}, "^order must be"),
        ({"block": 0}, "^order must be"),
        ({"block": 3}, "^order must be"),
        ({"batch_size": 0}, "^batch_size must be"),
        ({"start": -1}, "^batch_size must be at least 1, and start < stop"),
        ({"start": 10}, "start < stop"),
        ({"stop": 11}, "start < stop"),
        ({"lr": np.full(2, 0.1)}, "^lr must be"),
        ({"lr": np.full(3, 0.1, np.float32)}, "^lr must be"),
        ({"loss": -1}, "^loss and rule must be"),
        ({"loss": len(_core.LOSSES)}, "^loss and rule must be"),
        ({"rule": len(_core.RULES) + len(_core.ONLINE_RULES)}, "^loss and rule must be"),
        ({"rule": _core.RULES["muon"]["number"]}, "^rule must take vectors; got 'muon'"),
        ({"kept": np.zeros(_core.N_KEPT - 1)}, "^kept must be"),
        ({"kept": np.zeros(_core.N_KEPT, np.float32)}, "^kept must be"),
        ({"params": np.zeros(3)}, "^params must hold 4"),
        ({"params": np.zeros(4, np.float32)}, "^params must have the dtype"),
        ({"states": (np.zeros(3),)}, r"^states\[0\] must hold 4"),
        ({"states": (None, None)}, r"^states must hold 1 arrays or None; got 2"),
        ({"rule": 1}, r"^states\[0\] must be an array: adam needs it; got None"),
        ({"rule": 1, "states": (np.zeros(4), None)}, r"^states must hold 3 arrays or None; got 2"),
        (
            {"rule": 1, "states": (np.zeros(4), None, None)},
            r"^states\[1\] must be an array: adam needs",
        ),
        ({"memory": np.empty(8, np.uint8)}, "^memory must come from scratch"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_training_loop_refuses_buffers_that_do_not_fit(changes, words):
    """Protects memory: C trusts the sizes that the boundary has checked."""
    arguments = loop_arguments(**changes)
    with pytest.raises((ValueError, TypeError), match=words):
        _core.train_linear(**arguments)
    assert not np.any(arguments["params"])


def test_training_loop_takes_what_fits():
    """Protects the test above: its arguments are refused for the change alone."""
    arguments = loop_arguments()
    assert _core.train_linear(**arguments) > 0
    assert np.all(arguments["params"])


# ---- the choice of the instruction set -----------------------------------------------------------


def test_isas_are_listed_worst_first():
    """Protects the default, the last one, and that there is always one to run."""
    assert _core.ISAS
    assert _core.SUPPORTED_ISAS[0] == _core.ISAS[0]
    assert [isa for isa in _core.ISAS if isa in _core.SUPPORTED_ISAS] == [*_core.SUPPORTED_ISAS]


def test_use_isa_takes_effect(isa):
    """Protects every test along this axis: the kernels in force are those that were asked for."""
    assert _core.active_isa() == isa
    assert fastgd.show_config(mode="dicts")["isa"] == isa


def test_unknown_isa_is_refused():
    """Protects from a misspelt name: it says what it is and lists the choices, last."""
    before = _core.active_isa()
    with pytest.raises(ValueError, match=r"(?s)'sse9': this build does not have it") as caught:
        _core.use_isa("sse9")
    assert str(caught.value).splitlines()[-1] == f"choices: {', '.join(_core.SUPPORTED_ISAS)}"
    assert _core.active_isa() == before


def test_isa_that_the_processor_lacks_is_refused(monkeypatch):
    """Protects from an illegal instruction: built is not enough, it has to be there."""
    monkeypatch.setattr(_core, "ISAS", ("none", "avx9"))
    monkeypatch.setattr(_core, "SUPPORTED_ISAS", ("none",))
    with pytest.raises(
        ValueError, match="'avx9': this processor does not support it\nchoices: none"
    ):
        _core.use_isa("avx9")


@pytest.mark.parametrize("name", ["sse9", "AVX2", "avx512 "])
def test_import_fails_for_an_unknown_isa(run_python, name):
    """Protects FASTGD_ISA: an unknown value is no reason to run anything else silently."""
    done = run_python("import fastgd", check=False, FASTGD_ISA=name)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"choices: {', '.join(_core.SUPPORTED_ISAS)}"
    assert f"ImportError: instruction set (FASTGD_ISA) is {name!r}" in done.stderr


def test_environment_chooses_the_isa(run_python):
    """Protects FASTGD_ISA: what it names is in force, and empty means the best."""
    code = "from fastgd import _core; print(_core.active_isa())"
    for name in _core.SUPPORTED_ISAS:
        assert run_python(code, FASTGD_ISA=name).stdout.strip() == name
    best = _core.SUPPORTED_ISAS[-1]
    assert run_python(code, FASTGD_ISA="").stdout.strip() == best
    assert run_python(code).stdout.strip() == best


# ---- exceptions ----------------------------------------------------------------------------------


def test_divergence_error_is_both_kinds():
    """Protects handlers that expect a ValueError, as scikit-learn's, or an arithmetic error."""
    error = fastgd.DivergenceError("step 3")
    assert isinstance(error, ValueError)
    assert isinstance(error, FloatingPointError)
    assert error.position == -1
