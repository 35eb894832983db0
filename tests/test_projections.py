"""`fastgd.projections`, alone and after the steps of an optimizer.

Each is held to the specification and to optax, and to what makes it a projection: what comes back
is in the set, and nothing in the set is nearer.
"""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose
from optimizers import BIG, CLASSES, arrays, assert_unchanged_by, busy, copies, everything, train

import fastgd
from fastgd import _core, optim, reference
from fastgd.projections import box, l1_ball, l2_ball, non_negative, simplex

INF = float("inf")
ALL = {  # of ours: the specification's, arguments, name in optax
    "non_negative": (non_negative(), reference.box, (0.0, INF), "non_negative"),
    "box": (box(-0.5, 0.25), reference.box, (-0.5, 0.25), "box"),
    "l1_ball": (l1_ball(1.5), reference.l1_ball, (1.5,), "l1_ball"),
    "l2_ball": (l2_ball(1.5), reference.l2_ball, (1.5,), "l2_ball"),
    "simplex": (simplex(2.0), reference.simplex, (2.0,), "simplex"),
}
NUMBERS = st.floats(-1e3, 1e3, width=32)


@pytest.fixture(params=ALL)
def case(request):
    """Each projection with what it is held to."""
    return ALL[request.param]


def is_in(name, x, slack):
    """Whether an array lies in a set."""
    return {
        "non_negative": (x >= 0).all(),
        "box": ((x >= -0.5) & (x <= 0.25)).all(),
        "l1_ball": np.abs(x).sum() <= 1.5 + slack,
        "l2_ball": np.linalg.norm(x.ravel()) <= 1.5 + slack,
        "simplex": (x >= 0).all() and abs(x.sum() - 2) <= slack,
    }[name]


# ---- the functions -------------------------------------------------------------------------------


def test_is_the_specifications(case, dtype, size, rng):
    """Protects the formulas, at every size; the array given stays as it is."""
    projection, formula, arguments, _ = case
    x = rng.normal(size=size).astype(dtype)
    before = x.copy()
    found = projection(x)
    assert (found.dtype, found.shape) == (x.dtype, x.shape)
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    assert_allclose(found, formula(x.tolist(), *arguments), rtol, rtol)
    assert x.tobytes() == before.tobytes()
    assert projection(x, out=x) is x
    assert x.tobytes() == found.tobytes()


def test_is_optaxs(case, rng):
    """Protects parity with ``optax.projections``."""
    jax = pytest.importorskip("jax")
    projections = pytest.importorskip("optax").projections
    projection, _, arguments, name = case
    arguments = () if name == "non_negative" else arguments
    for scale in (0.01, 1.0, 100.0):
        x = (rng.normal(size=(4, 5)) * scale).astype(np.float32)
        theirs = getattr(projections, f"projection_{name}")(jax.numpy.asarray(x), *arguments)
        assert_allclose(projection(x), theirs, 1e-5, 1e-5)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
def test_is_a_projection(name, data):
    """Protects the idea: the result is in the set, stays there, and nothing there is nearer."""
    projection = ALL[name][0]
    shapes = hnp.array_shapes(min_dims=0, max_dims=3, max_side=6)
    x = data.draw(hnp.arrays(np.float64, shapes, elements=NUMBERS))
    other = projection(data.draw(hnp.arrays(np.float64, x.shape, elements=NUMBERS)))
    found = projection(x)
    assert is_in(name, found, 1e-9)
    assert_allclose(projection(found), found, 1e-9, 1e-9)
    assert np.sum((x - found) * (other - found)) <= 1e-6  # the angle is no acute one


def test_large_and_strange_numbers():
    """Protects from cancellation, and from an exception in the middle of a step."""
    assert simplex(1.0)(np.array([1e20, 1e20])).tolist() == [0.5, 0.5]
    assert l1_ball(0.0)(np.array([3.0, -4.0])).tolist() == [0.0, 0.0]
    assert l2_ball(0.0)(np.array([3.0, -4.0])).tolist() == [0.0, 0.0]
    assert box(-1e300, 1e300)(np.ones(1, np.float32)).tolist() == [1.0]
    for projection in (simplex(), l1_ball(), l2_ball(), box(0, 1)):
        assert np.isnan(projection(np.array([1.0, np.nan]))).any()
        with np.errstate(invalid="ignore"):
            assert projection(np.array([1.0, np.inf])).shape == (2,)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: box(1, 0), ValueError, "^lower must be at most upper; got 1 and 0$"),
        (lambda: box("a", 0), TypeError, "^lower must be a finite number; got 'a'$"),
        (lambda: box(0, float("nan")), ValueError, "^upper must be a finite number; got nan$"),
        (lambda: l1_ball(-1), ValueError, "^radius must be a finite number, 0 or more; got -1$"),
        (lambda: l2_ball(None), TypeError, "^radius must be a finite number, 0 or more; got None$"),
        (lambda: simplex(0), ValueError, "^scale must be a finite number above 0; got 0$"),
        (lambda: simplex()([1.0]), TypeError, "^x must be an array of floating-point numbers"),
        (lambda: fastgd.projections.Projection()(np.ones(1)), TypeError, "^a projection must be"),
    ],
)
def test_what_is_no_set_is_refused(make, error, words):
    """Protects from a projection onto nothing."""
    with pytest.raises(error, match=words):
        make()


def test_are_values(case):
    """Protects configurations: equal if the arguments are, also after pickling."""
    projection = case[0]
    assert pickle.loads(pickle.dumps(projection)) == projection
    assert [projection == other for other, *_ in ALL.values()].count(True) == 1


# ---- in a step -----------------------------------------------------------------------------------


def test_follow_the_update_and_go_before_the_average(case, rule, rng):
    """Protects the order: rule, look-ahead, projection, average; states see none of it."""
    projection = case[0]
    params = arrays(rng, np.float64, [(3, 5), (), (0,), (33,)])
    slow, ema = copies(params), copies(params)
    opt = CLASSES[rule](
        copies(params), **busy(rule), projection=projection, ema_decay=0.75, lookahead=(2, 0.5)
    )
    plain = CLASSES[rule](params, **busy(rule))
    for t in (1, 2, 3):
        grads = arrays(rng, np.float64, [p.shape for p in params])
        for each in (opt, plain):
            each.step(grads)
        for p, s, e in zip(plain.params, slow, ema, strict=True):
            if t == 2:
                p[...] = s + 0.5 * (p - s)
            projection(p, out=p)
            e[...] = 0.75 * e + 0.25 * p
        for mine, expected in ((opt.params, plain.params), (opt.ema, ema)):
            for a, e in zip(mine, expected, strict=True):
                assert_allclose(a, e, 1e-9, 1e-12)


def bits_after(projection, dtype):
    """All there is after two steps from a fixed start."""
    rng = np.random.default_rng(2)
    opt = optim.Adam(arrays(rng, dtype, BIG), lr=0.5, projection=projection, ema_decay=0.9)
    train(opt, [arrays(rng, dtype, BIG) for _ in range(2)])
    return everything(opt)


def test_same_bits(case, dtype, isa, n_threads, assert_same_bits):
    """Protects reproducibility: for any team and processor."""
    actual = bits_after(case[0], dtype)
    _core.use_isa(_core.ISAS[0])
    with fastgd.threads(1):
        assert_same_bits(actual, bits_after(case[0], dtype))


def test_groups_have_their_own(assert_same_bits):
    """Protects groups: their key goes before the optimizer's option, None included."""
    groups = [
        {"params": np.zeros(2)},
        {"params": np.zeros(2), "projection": None},
        {"params": np.zeros(2), "projection": l2_ball(1.0), "frozen": True},
    ]
    opt = optim.SGD(groups, lr=1.0, projection=box(0, 2), ema_decay=0.0)
    grads = [np.array([3.0, -4.0])] * 3
    opt.step(grads)
    assert [p.tolist() for p in opt.params] == [[0, 2], [-3, 4], [0, 0]]
    opt.param_groups[2]["frozen"] = False
    opt.add_param_group({"params": np.zeros(2), "projection": non_negative()})
    opt.step([*grads, grads[0]])
    assert [p.tolist() for p in opt.params] == [[0, 2], [-6, 8], [-0.6000000000000001, 0.8], [0, 4]]
    assert_same_bits(opt.ema, opt.params)
    del opt.param_groups[1]["projection"]
    opt.projection = None
    opt.param_groups[2]["projection"] = simplex()
    opt.step([*grads, grads[0]])
    assert opt.params[1].tolist() == [-9, 12]
    assert opt.params[2].tolist() == [0, 1]


def test_are_no_part_of_a_saved_state(tmp_path):
    """Protects files from what JSON cannot hold; what loads them keeps its own."""
    pytest.importorskip("safetensors")
    opt = optim.SGD([{"params": np.zeros(2), "projection": simplex()}])
    opt.save(tmp_path / "saved")
    opt.load(tmp_path / "saved")
    assert opt.param_groups[0]["projection"] == simplex()


def test_bad_ones_are_refused():
    """Protects from a set that would not be looked at: nothing has changed."""
    opt = optim.SGD([{"params": np.zeros(2), "projection": simplex()}], projection=box(0, 1))
    words = "^projection must be None or one of fastgd.projections; got 1$"
    assert_unchanged_by(
        opt, TypeError, words, lambda: opt.param_groups[0].update({"projection": 1})
    )
    bad = {"params": np.zeros(1), "projection": 1}
    assert_unchanged_by(opt, TypeError, words, lambda: opt.add_param_group(bad))
    assert_unchanged_by(opt, TypeError, words, lambda: setattr(opt, "projection", 1))


def test_nothing_is_projected_where_nothing_is_updated():
    """Protects parameters that rest, and steps that are refused."""
    for projection in (simplex(), box(0, 1)):
        params = [np.full(2, 5.0), np.full(2, 5.0)]
        opt = optim.SGD(params, projection=projection, ema_decay=0.5)
        with pytest.raises(fastgd.NonFiniteError):
            opt.step([np.full(2, np.nan), np.zeros(2)])
        assert opt.params[0].tolist() == [5.0, 5.0]
        opt.step([None, np.zeros(2)])
        assert opt.params[0].tolist() == [5.0, 5.0]
        assert opt.params[1].max() <= 1.0
        assert [a.tolist() for a in opt.ema] == [[5, 5], ((5 + opt.params[1]) / 2).tolist()]
