"""Gradients of some rows: SparseAdam, and the rules that take them besides."""

import math

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose
from optimizers import CLASSES, arrays, assert_unchanged_by, copies, everything, snapshot, train

import fastgd
from fastgd import _core, optim, reference
from fastgd.optim import RowGradient
from fastgd.projections import box

TAKERS = {"sparse_adam": {}, "sgd": {"lr": 0.1}, "adagrad": {"lr_decay": 0.1}}
SHAPES = [(70, 33), (5000, 7), (9,), (3, 2, 4), (4, 0), (1, 4097)]


@pytest.fixture(params=TAKERS)
def taker(request):
    """Name of each rule that takes gradients of rows."""
    return request.param


def rows(rng, dtype, shapes=SHAPES, share=0.3, twice=True):
    """Gradients of some rows, in any order, some rows twice, some gradients without any."""
    made = []
    for k, shape in enumerate(shapes):
        n = math.ceil(shape[0] * share) if k != 2 else 0
        indices = rng.choice(shape[0], n, replace=twice)
        made.append(RowGradient(indices, arrays(rng, dtype, [(n, *shape[1:])])[0]))
    return made


def whole(grads, params):
    """Return the same gradients as arrays."""
    made = [np.zeros_like(p) for p in params]
    for g, row in zip(made, grads, strict=True):
        np.add.at(g, row.indices, row.values)
    return made


def test_sparse_adam_follows_the_specification(dtype, isa, rng):
    """Protects lazy rows over 50 steps: what rests, rests; what comes twice, is added up."""
    shape = (9, 5)
    for options in ({}, {"betas": (0.5, 0.75), "eps": 1e-3, "maximize": True, "lr": 0.1}):
        param = arrays(rng, dtype, [shape])[0]
        expected, state = param.ravel().tolist(), {}
        opt = optim.SparseAdam(param, **options)
        for t in range(1, 51):
            g = rows(rng, dtype, [shape])[0]
            reference.sparse_adam(
                expected, g.values.ravel().tolist(), state, t, indices=g.indices.tolist(), **options
            )
            opt.step(g)
        rtol = 1e-12 if dtype == np.float64 else 2e-5
        assert_allclose(param.ravel(), expected, 0, rtol)
        for name, a in opt.state[0].items():
            assert_allclose(a.ravel(), state[name], 0, rtol)


@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_rows_are_whole_gradients_with_zeros(rule, dtype, rng, assert_same_bits):
    """Protects the rules whose rows rest where the gradient is zero: to the bit."""
    params = arrays(rng, dtype, SHAPES)
    some = CLASSES[rule](copies(params), **TAKERS[rule])
    all_ = CLASSES[rule](params, **TAKERS[rule])
    for _ in range(3):
        grads = rows(rng, dtype, twice=False)  # sums are rounded in NumPy's order
        some.step(grads)
        all_.step(whole(grads, params))
    assert_same_bits(everything(some), everything(all_))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_norm": 0.5, "clip_value": 1e-2, "report_norms": True},
        {"ema_decay": 0.5, "max_norm": 0.5, "report_norms": True},
        {"lookahead": (2, 0.5), "clip_value": 0.1},
    ],
    ids=["plain", "clipped", "averaged", "ahead"],
)
def test_same_bits_on_every_isa_with_any_number_of_threads(taker, dtype, options, assert_same_bits):
    """Protects reproducibility: rows are found by search, and norms are sums over fixed chunks."""
    bits = []
    for isa in _core.SUPPORTED_ISAS:
        for threads in (1, 2, 4):
            _core.use_isa(isa)
            rng = np.random.default_rng(5)
            big = [*SHAPES, (10_000, 9)]
            with fastgd.threads(threads):
                opt = CLASSES[taker](arrays(rng, dtype, big), **TAKERS[taker], **options)
                train(opt, [rows(rng, dtype, big, share=0.7) for _ in range(2)], grad_scale=2.0)
            report = [x for x in opt.last_step[:3] if not math.isnan(x)]
            bits.append([everything(opt), report])
    for other in bits[1:]:
        assert_same_bits(other, bits[0])


def test_step_options_mean_the_same(rng):
    """Protects clipping, scaling, norms and averages: they are those of the whole gradient."""
    options = {"max_norm": 0.5, "clip_value": 1e-2, "ema_decay": 0.5, "report_norms": True}
    params = arrays(rng, np.float64, SHAPES)
    some = optim.SGD(copies(params), lr=0.1, lookahead=(2, 0.5), **options)
    all_ = optim.SGD(params, lr=0.1, lookahead=(2, 0.5), **options)
    for _ in range(4):
        grads = rows(rng, np.float64)
        some.step(grads, grad_scale=2.0)
        all_.step(whole(grads, params), grad_scale=2.0)
        assert_allclose(some.last_step[:3], all_.last_step[:3], 1e-13)
    for a, b in zip(everything(some), everything(all_), strict=True):
        assert_allclose(a, b, 1e-13, 1e-15)


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.5}, {"lookahead": (2, 0.5)}])
def test_bounds_hold_in_the_rows(options, rng):
    """Protects projections: they follow the update of a row, and come before its average."""
    params = [np.abs(p) for p in arrays(rng, np.float64, SHAPES)]
    some = optim.SGD(copies(params), lr=1.0, projection=box(0.0, 0.75), **options)
    all_ = optim.SGD(params, lr=1.0, projection=box(0.0, 0.75), **options)
    for p in (*some.params, *all_.params):
        np.minimum(p, 0.75, out=p)  # rows that rest are not looked at
    for _ in range(4):
        grads = rows(rng, np.float64)
        some.step(grads)
        all_.step(whole(grads, params))
    for a, b in zip(everything(some), everything(all_), strict=True):
        assert_allclose(a, b, 1e-13, 1e-15)


def test_rows_without_gradient_are_not_written_to(taker, dtype, isa):
    """Protects memory and speed: the others are not even read."""
    table = np.full((1000, 3), 0.5, dtype)
    opt = CLASSES[taker](table, **TAKERS[taker])
    for a in (table, *opt.state[0].values()):
        a[500:] = np.nan
    opt.step(RowGradient([3, 499], np.ones((2, 3), dtype)))
    touched = [3, 499]
    assert (table[touched] < 0.5).all()
    assert (np.delete(table[:500], touched, 0) == 0.5).all()
    assert np.isnan(table[500:]).all()


def test_guard_names_the_parameter_and_changes_nothing(taker, rng):
    """Protects the rows from NaN, as whole parameters; a skipped step is none."""
    opt = CLASSES[taker](arrays(rng, np.float64, [(4, 2), (9, 3)]), nonfinite="skip")
    bad = rows(rng, np.float64, [(4, 2), (9, 3)])
    bad[1].values[0, 2] = np.nan
    before = snapshot(opt)
    opt.step(bad)
    assert (snapshot(opt), opt.skipped, opt.last_step.skipped) == (before, 1, True)
    opt.nonfinite = "raise"
    with pytest.raises(optim.NonFiniteError, match=r"^grads\[1\]"):
        opt.step(bad)
    bad[1].values[...] = 1
    opt.step(bad)
    assert opt.t == 1


def test_accumulated_rows_are_those_of_all_batches(taker, rng):
    """Protects micro-batches: rows of all of them, each the mean."""
    params = arrays(rng, np.float64, SHAPES)
    one, other = CLASSES[taker](copies(params)), CLASSES[taker](params)
    batches = [rows(rng, np.float64) for _ in range(3)]
    for grads in batches:
        one.accumulate(grads)
        for g in grads:
            g.values.flags.writeable = False  # what is given is not kept
    one.step()
    both = [
        RowGradient(np.concatenate([g.indices for g in gs]), np.concatenate([g.values for g in gs]))
        for gs in zip(*batches, strict=True)
    ]
    other.step(both, grad_scale=3.0)
    for a, b in zip(everything(one), everything(other), strict=True):
        assert_allclose(a, b, 1e-10)
    with pytest.raises(TypeError, match=r"^grads\[0\] must have some rows in all"):
        [one.accumulate(g) for g in ([batches[0][0]] + [None] * 5, [params[0]] + [None] * 5)]


def test_sparse_matrices_of_scipy(rng, assert_same_bits):
    """Protects gradients of linear models: rows are those that have an element."""
    table = arrays(rng, np.float64, [(20, 6)])[0]
    dense = np.where(rng.random((20, 6)) < 0.1, 1.5, 0.0)
    expected = optim.SparseAdam(table.copy())
    indices = np.flatnonzero(dense.any(1))
    expected.step(RowGradient(indices, dense[indices]))
    for make in (scipy.sparse.csr_matrix, scipy.sparse.coo_array):
        opt = optim.SparseAdam(table.copy())
        opt.step([make(dense)])
        assert_same_bits(everything(opt), everything(expected))


def test_gradients_are_zeroed_on_request(rng):
    """Protects buffers that are filled anew: the user's values, not our sums of them."""
    opt = optim.SparseAdam(np.ones((5, 2)))
    for indices in ([1, 3], [3, 1, 3]):
        g = RowGradient(indices, np.ones((len(indices), 2)))
        opt.step(g)
        assert g.values.all()
        opt.step(g, zero_grads=True)
        assert not g.values.any()


def test_training_with_rows_goes_on_from_a_state_dict(taker, rng, assert_same_bits):
    """Protects resuming, frozen parameters and schedules beside rows."""
    opt = CLASSES[taker](arrays(rng, np.float64, SHAPES), lr=lambda t: 0.5 / (t + 1))
    train(opt, [rows(rng, np.float64) for _ in range(2)])
    other = CLASSES[taker](copies(opt.params), lr=lambda t: 0.5 / (t + 1))
    other.load_state_dict(opt.state_dict())
    grads = rows(rng, np.float64)
    for o in (opt, other):
        o.step(grads)
    assert_same_bits(everything(other), everything(opt))
    before = copies(opt.params)
    opt.param_groups[0]["frozen"] = True
    opt.step(grads)
    assert_same_bits(opt.params, before)


@pytest.mark.parametrize(
    ("indices", "values", "error", "words"),
    [
        ([4], np.ones((1, 2)), ValueError, r"^grads\[0\] must have indices from 0 to 3; got 4"),
        ([-1], np.ones((1, 2)), ValueError, r"^grads\[0\] must have indices from 0 to 3; got -1"),
        ([0], np.ones((1, 3)), ValueError, r"^grads\[0\] must have rows of a parameter of shape"),
        ([0], np.ones((1, 2), "f4"), TypeError, r"^grads\[0\] must be of dtype float64"),
    ],
)
def test_rows_that_do_not_fit_are_refused(indices, values, error, words):
    """Protects memory: an index is never used before it is known to lie inside."""
    opt = optim.SparseAdam(np.ones((4, 2)))
    opt.step(RowGradient([0], np.ones((1, 2))))
    assert_unchanged_by(opt, error, words, lambda: opt.step(RowGradient(indices, values)))


def test_bad_row_gradients_are_refused():
    """Protects from indices that are none."""
    for indices, values, error in (
        ([0.5], np.ones((1, 2)), TypeError),
        ([[0]], np.ones((1, 2)), TypeError),
        ([0, 1], np.ones((1, 2)), ValueError),
        ([0], [[1.0, 2.0]], TypeError),
    ):
        with pytest.raises(error, match=r"^indices must|^values must"):
            RowGradient(indices, values)


def test_rules_that_take_no_rows_refuse_them(rule):
    """Protects from rows that rest where the rule would let them decay."""
    table = np.ones((4, 2))
    grad = RowGradient([0], np.ones((1, 2)))
    if rule not in TAKERS:
        opt = CLASSES[rule](table)
        assert_unchanged_by(opt, TypeError, "takes no rows", lambda: opt.step(grad))
        return
    for name in ("momentum", "weight_decay", "initial_accumulator_value", "centralize", "agc"):
        if name in optim.defaults(rule) or name in ("centralize", "agc"):
            opt = CLASSES[rule](table, **{name: True})
            assert_unchanged_by(opt, ValueError, f"^{name} must be", lambda o=opt: o.step(grad))
