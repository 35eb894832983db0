"""What optimizers take and what they refuse: parameters, gradients, hyper-parameters.

What is refused is named, and nothing has changed then.
"""

import math

import numpy as np
import pytest
from optimizers import (
    CLASSES,
    arrays,
    assert_unchanged_by,
    busy,
    copies,
    everything,
)

from fastgd import optim

SGD, ADAM, ADAMW, RPROP = optim.SGD, optim.Adam, optim.AdamW, optim.Rprop
W = np.ones(3)


# ---- what is accepted ----------------------------------------------------------------------------


@pytest.mark.parametrize("container", [list, tuple, iter, lambda a: dict(enumerate(a)).values()],
                         ids=["list", "tuple", "generator", "dict values"])  # fmt: skip
def test_containers_of_parameters_and_gradients(container, rng, assert_same_bits):
    """Protects ``SGD(p for p in ...)`` and its kind, which torch takes too."""
    params, grads = arrays(rng, np.float64), arrays(rng, np.float64)
    expected = [p - 0.5 * g for p, g in zip(params, grads, strict=True)]
    opt = optim.SGD(container(params), lr=0.5)
    opt.step(container(grads))
    assert_same_bits(params, expected)
    assert all(a is b for a, b in zip(opt.params, params, strict=True))


def test_single_array_needs_no_list():
    """Protects the shortest call, with one array instead of a list of one, and its list."""
    for grads in (np.ones((2, 2)), [np.ones((2, 2))]):
        w = np.ones((2, 2))
        optim.SGD(w, lr=0.5).step(grads)
        assert w.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_rows_of_an_array_are_gradients():
    """Protects iteration over an array when there are several parameters."""
    params = [np.ones(3), np.ones(3)]
    optim.SGD(params, lr=1.0).step(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    assert [p.tolist() for p in params] == [[0, -1, -2], [-3, -4, -5]]


def unaligned(a):
    """Return a copy whose address is no multiple of the size of an element."""
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


GRADIENTS = {
    "Fortran order": np.asfortranarray,
    "strided": lambda g: np.repeat(g, 2, axis=1)[:, ::2],
    "backwards": lambda g: g[::-1].copy()[::-1],
    "transposed": lambda g: g.T.copy().T,
    "broadcast": lambda g: np.broadcast_to(g[:1, :1], g.shape),
    "big-endian": lambda g: g.astype(g.dtype.newbyteorder(">")),
    "unaligned": unaligned,
    "read-only": lambda g: np.frombuffer(g.tobytes(), g.dtype).reshape(g.shape),
    "subclass": lambda g: g.view(type("Sub", (np.ndarray,), {})),
}


@pytest.mark.parametrize("make", GRADIENTS.values(), ids=GRADIENTS)
def test_gradients_of_any_layout(make, rule, dtype, rng, assert_same_bits):
    """Protects gradients as they come out of NumPy: layout is ours to care for, not the user's."""
    param, grad = arrays(rng, dtype, [(6, 5), (6, 5)])
    given, expected = make(grad), param.copy()
    before = given.copy()
    plain = np.ascontiguousarray(given, dtype=dtype)
    CLASSES[rule](expected, **busy(rule)).step(plain)
    CLASSES[rule](param, **busy(rule)).step(given)
    assert_same_bits(param, expected)
    assert np.array_equal(given, before)


def test_strided_gradient_may_overlap_the_parameter(assert_same_bits):
    """Protects ``step(w.T)``: it is copied first, so the order of the elements does not matter."""
    w = np.arange(9.0).reshape(3, 3)
    expected = w - 0.5 * w.T
    optim.SGD(w, lr=0.5).step(w.T)
    assert_same_bits(w, expected)


def test_scalar_and_empty_parameters(rule, rng):
    """Protects the two smallest shapes, alone and between others."""
    scalar, empty = np.array(2.0), np.empty((0, 3))
    opt = CLASSES[rule](scalar, lr=0.5)
    opt.step(np.array(1.0))
    assert scalar.shape == ()
    assert scalar < 2.0
    opt.step(np.float64(1.0))  # what arithmetic makes of a 0-d array
    assert opt.t == 2
    opt = CLASSES[rule](empty)
    opt.step(empty)
    assert opt.t == 1
    CLASSES[rule]([empty, np.ones(2), np.empty(0)]).step([empty, np.ones(2), np.empty(0)])


def test_parts_of_one_array_are_separate_parameters():
    """Protects parameters laid end to end in one buffer: neighbours do not overlap."""
    memory = np.ones(10)
    optim.SGD([memory[5:], memory[:5]], lr=1.0).step([np.full(5, 2.0), np.full(5, 3.0)])
    assert memory.tolist() == [-2.0] * 5 + [-1.0] * 5


def test_hyper_parameters_may_be_numpy_numbers():
    """Protects values out of a schedule or a search: they are float64 or int64, or 0-d arrays."""
    opt = optim.Adam(np.ones(1), lr=np.float32(0.5), betas=[np.float64(0.5), 0], eps=np.array(1))
    assert (opt.lr, opt.betas, opt.eps) == (0.5, (0.5, 0.0), 1.0)
    assert optim.SGD(np.ones(1), maximize=np.bool_(True)).maximize is True


# ---- what is refused -----------------------------------------------------------------------------


def locked(a):
    """Return the array, read-only."""
    a.flags.writeable = False
    return a


def overlapping():
    """Two views of one array that share an element."""
    a = np.ones(10)
    return [a[5:], a[:6]]


def the_same_twice():
    """Twice the same array."""
    a = np.ones(3)
    return [a, np.ones(3), a]


class NotANumber:
    """Something that has no float value."""

    def __repr__(self):
        return "NotANumber()"


BAD_ARGUMENTS = {
    # params
    "no params": (SGD, lambda: [], {}, ValueError, r"^params must hold at least one array"),
    "not iterable": (SGD, lambda: 3, {}, TypeError, r"^params must be"),
    "list of numbers": (SGD, lambda: [1.0, 2.0], {}, TypeError, r"^params\[0\] .*; got float"),
    "nested list": (SGD, lambda: [W, [1.0]], {}, TypeError, r"^params\[1\] .*; got list"),
    "NumPy scalar": (SGD, lambda: [np.float64(1)], {}, TypeError, r"^params\[0\] .*; got float64"),
    "integers": (SGD, lambda: np.ones(3, int), {}, TypeError, r"^params\[0\] .* got int64"),
    "complex": (SGD, lambda: [np.ones(3, "c16")], {}, TypeError, r"^params\[0\] .* got complex128"),
    "long double": (SGD, lambda: np.ones(3, "g"), {}, TypeError, r"^params\[0\] .* got "),
    "objects": (SGD, lambda: np.ones(3, object), {}, TypeError, r"^params\[0\] .* got object"),
    "big-endian": (SGD, lambda: np.ones(3, ">f8"), {}, ValueError, r"^params\[0\] .* byte order"),
    "unaligned": (SGD, lambda: [unaligned(W)], {}, ValueError, r"^params\[0\] must be aligned"),
    "strided": (SGD, lambda: [W, np.ones(6)[::2]], {}, ValueError, r"^params\[1\] must be C-cont"),
    "Fortran": (SGD, lambda: np.ones((2, 3), order="F"), {}, ValueError, r"^params\[0\] .* C-cont"),
    "read-only": (SGD, lambda: [W, locked(np.ones(3))], {}, ValueError, r"^params\[1\] .* writeab"),
    "of bytes": (SGD, lambda: np.frombuffer(bytes(8)), {}, ValueError, r"^params\[0\] .* writeabl"),
    "overlap": (SGD, overlapping, {}, ValueError, r"params\[1\] and params\[0\] do$"),
    "twice": (SGD, the_same_twice, {}, ValueError, r"params\[0\] and params\[2\] do$"),
    # names
    "unknown": (SGD, lambda: W, {"momentumm": 0.9}, TypeError, "momentumm"),
    "another rule's": (ADAM, lambda: W, {"momentum": 0.9}, TypeError, "momentum"),
    # values
    "negative lr": (SGD, lambda: W, {"lr": -0.1}, ValueError, r"^lr must be .*; got -0.1$"),
    "nan lr": (SGD, lambda: W, {"lr": math.nan}, ValueError, r"^lr must be .*; got nan$"),
    "infinite lr": (SGD, lambda: W, {"lr": math.inf}, ValueError, r"^lr must be .*; got inf$"),
    "lr a str": (SGD, lambda: W, {"lr": "0.1"}, TypeError, r"^lr must be .*; got '0.1'$"),
    "lr None": (SGD, lambda: W, {"lr": None}, TypeError, r"^lr must be .*; got None$"),
    "lr an array": (SGD, lambda: W, {"lr": np.ones(2)}, TypeError, r"^lr must be .*; got array"),
    "huge lr": (SGD, lambda: W, {"lr": 10**400}, ValueError, r"^lr must be .*; got 1000"),
    "lr complex": (SGD, lambda: W, {"lr": 1j}, TypeError, r"^lr must be .*; got 1j$"),
    "momentum": (SGD, lambda: W, {"momentum": -0.1}, ValueError, r"^momentum must .*; got -0.1$"),
    "dampening": (SGD, lambda: W, {"dampening": math.inf}, ValueError, r"^dampening .*; got inf$"),
    "decay": (ADAMW, lambda: W, {"weight_decay": -1}, ValueError, r"^weight_decay .*; got -1$"),
    "eps": (ADAM, lambda: W, {"eps": -1e-8}, ValueError, r"^eps must be .*; got -1e-08$"),
    "nan eps": (ADAM, lambda: W, {"eps": math.nan}, ValueError, r"^eps must be .*; got nan$"),
    "beta1 = 1": (ADAM, lambda: W, {"betas": (1.0, 0.9)}, ValueError, r"^betas\[0\] .*; got 1.0$"),
    "beta2 = 1": (ADAMW, lambda: W, {"betas": (0.9, 1)}, ValueError, r"^betas\[1\] .*; got 1$"),
    "beta < 0": (ADAM, lambda: W, {"betas": (-0.1, 0.9)}, ValueError, r"^betas\[0\] .* got -0.1$"),
    "nan beta": (ADAM, lambda: W, {"betas": (0.9, math.nan)}, ValueError, r"^betas\[1\].* got nan"),
    "one beta": (ADAM, lambda: W, {"betas": (0.9,)}, TypeError, r"^betas must be .* 2 numbers"),
    "three betas": (ADAM, lambda: W, {"betas": (0.9,) * 3}, TypeError, r"^betas must be .* 2 num"),
    "betas a number": (ADAM, lambda: W, {"betas": 0.9}, TypeError, r"^betas must be .*; got 0.9$"),
    "odd beta": (ADAM, lambda: W, {"betas": (NotANumber(), 0.9)}, TypeError, r"^betas\[0\] must"),
    "eta1 = 1": (RPROP, lambda: W, {"etas": (1.0, 1.2)}, ValueError, r"^etas\[0\] .*; got 1.0$"),
    "eta2 = 1": (RPROP, lambda: W, {"etas": (0.5, 1.0)}, ValueError, r"^etas\[1\] .*; got 1.0$"),
    "inf eta2": (RPROP, lambda: W, {"etas": (0.5, math.inf)}, ValueError, r"^etas\[1\] .* inf"),
    "nan eta2": (RPROP, lambda: W, {"etas": (0.5, math.nan)}, ValueError, r"^etas\[1\] .* got nan"),
    "step size": (RPROP, lambda: W, {"step_sizes": (-1, 1)}, ValueError, r"^step_sizes\[0\] .*-1$"),
    "lambd": (optim.ASGD, lambda: W, {"lambd": math.nan}, ValueError, r"^lambd must .*; got nan$"),
    "maximize": (SGD, lambda: W, {"maximize": 2}, ValueError, r"^maximize must be True or False"),
    "maximize a str": (SGD, lambda: W, {"maximize": "yes"}, TypeError, r"^maximize must be True"),
    "nesterov alone": (SGD, lambda: W, {"nesterov": True}, ValueError, r"^nesterov .* momentum=0"),
    "nesterov damped": (
        SGD, lambda: W, {"nesterov": True, "momentum": 0.9, "dampening": 0.5}, ValueError,
        r"^nesterov .* dampening=0.5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cls", "params", "options", "error", "words"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS
)
def test_bad_arguments_are_refused_by_name(cls, params, options, error, words):
    """Protects the user from guessing: the message names what is wrong."""
    with pytest.raises(error, match=words):
        cls(params(), **options)


def test_params_must_be_given():
    """Protects the first argument's name in the message."""
    with pytest.raises(TypeError, match="params"):
        optim.SGD(lr=0.1)


def test_hyper_values_refuses_names_of_other_rules():
    """Protects estimators, which hand a user's dict of hyper-parameters straight to it."""
    with pytest.raises(TypeError, match=r"^'betas' must be a hyper-parameter of 'sgd', one of lr,"):
        optim.hyper_values("sgd", {"lr": 0.1, "betas": (0.9, 0.9)})


def overlapping_state(opt):
    """Return a gradient that lies in the first state of the first parameter."""
    return next(iter(opt.state[0].values()))


BAD_GRADIENTS = {
    "None": (lambda opt: None, ValueError, r"^grads must be"),
    "number": (lambda opt: 1.0, TypeError, r"^grads must be"),
    "too few": (lambda opt: [np.ones((2, 3))], ValueError, r"^grads must hold 2 .*; got 1"),
    "too many": (lambda opt: [W] * 3, ValueError, r"^grads must hold 2 arrays.*; got 3"),
    "lists": (lambda opt: [[1.0], [1.0]], TypeError, r"^grads\[0\] .*; got list"),
    "number inside": (lambda opt: [np.ones((2, 3)), 1.0], TypeError, r"^grads\[1\] .*; got float"),
    "dtype": (
        lambda opt: [np.ones((2, 3)), np.ones(4, "f4")], TypeError,
        r"^grads\[1\] must be of dtype float64, as params\[1\]; got float32",
    ),
    "integers": (lambda opt: [np.ones((2, 3)), np.ones(4, int)], TypeError, r"^grads\[1\].*int64"),
    "shape": (lambda opt: [np.ones((2, 3)), np.ones(5)], ValueError, r"^grads\[1\] .* \(5,\) is n"),
    "transposed": (lambda opt: [np.ones((3, 2)), np.ones(4)], ValueError, r"^grads\[0\] .*3, 2\)"),
    "flat": (lambda opt: [np.ones(6), np.ones(4)], ValueError, r"^grads\[0\] must have the shape"),
    "the parameter": (lambda opt: list(opt.params), ValueError, r"^grads\[0\] must not overlap"),
    "another parameter": (
        lambda opt: [np.ones((2, 3)), opt.params[0].ravel()[1:5]], ValueError,
        r"^grads\[1\] must not overlap",
    ),
    "a state": (
        lambda opt: [overlapping_state(opt), np.ones(4)], ValueError, r"^grads\[0\] must not overl",
    ),
    "an average": (
        lambda opt: [opt.ema[0], np.ones(4)], ValueError, r"^grads\[0\] must not overlap",
    ),
    "another's state": (
        lambda opt: [np.ones((2, 3)), overlapping_state(opt).ravel()[2:]], ValueError,
        r"^grads\[1\] must not overlap",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("grads", "error", "words"), BAD_GRADIENTS.values(), ids=BAD_GRADIENTS)
@pytest.mark.parametrize("rule", ["sgd", "adam", "asgd"])
def test_bad_gradients_are_refused_and_change_nothing(rule, grads, error, words, rng):
    """Protects a training from half a step: all is checked before anything is written."""
    shapes = [(2, 3), (4,)]
    opt = CLASSES[rule](arrays(rng, np.float64, shapes), **busy(rule), ema_decay=0.5)
    opt.step(arrays(rng, np.float64, shapes))
    assert_unchanged_by(opt, error, words, lambda: opt.step(grads(opt)))


def test_parameter_made_read_only_later_is_refused(rule, rng):
    """Protects what the owner has locked since."""
    opt = CLASSES[rule](arrays(rng, np.float64), **busy(rule))
    opt.params[1].flags.writeable = False
    grads = arrays(rng, np.float64)
    assert_unchanged_by(opt, ValueError, r"^params\[1\] was .*read-only", lambda: opt.step(grads))
    opt.params[1].flags.writeable = True
    opt.step(grads)
    assert opt.t == 1


@pytest.mark.parametrize("size", [2, 100_000])
def test_resized_parameter_is_refused(rule, size, rng):
    """Protects memory that has been given back: the addresses of construction are checked."""
    opt = CLASSES[rule]([np.ones(3), np.ones(5)], **busy(rule))
    opt.params[1].resize(size, refcheck=False)
    grads = [np.ones(3), np.ones(size)]
    assert_unchanged_by(opt, ValueError, r"^params\[1\] was resized", lambda: opt.step(grads))


def test_replaced_parameter_is_refused():
    """Protects from a write to an array that has left the list."""
    params = [np.ones(3), np.ones(3)]
    opt = optim.SGD(params, lr=1.0)
    opt.params[1] = np.ones(3)
    with pytest.raises(ValueError, match=r"^params\[1\] was"):
        opt.step([np.ones(3), np.ones(3)])
    assert all(p.tolist() == [1, 1, 1] for p in (*params, *opt.params))


BAD_ASSIGNMENTS = [
    ("sgd", "lr", -1, ValueError, "^lr must be"),
    ("sgd", "lr", "fast", TypeError, "^lr must be"),
    ("sgd", "nesterov", True, ValueError, "^nesterov must be False"),
    ("sgd", "momentum", math.nan, ValueError, "^momentum must be"),
    ("adam", "betas", (0.9, 1.0), ValueError, r"^betas\[1\] must be"),
    ("adam", "betas", 0.9, TypeError, "^betas must be"),
    ("adamw", "eps", -1e-9, ValueError, "^eps must be"),
    ("rprop", "etas", (0.5, 1), ValueError, r"^etas\[1\] must be"),
    ("rmsprop", "centered", 0.5, ValueError, "^centered must be"),
    ("asgd", "t0", "soon", TypeError, "^t0 must be"),
]


@pytest.mark.parametrize(("rule", "name", "value", "error", "words"), BAD_ASSIGNMENTS)
def test_bad_assignments_are_refused_and_change_nothing(rule, name, value, error, words):
    """Protects hyper-parameters after construction as well as at it."""
    opt = CLASSES[rule](np.ones(3))
    opt.step(np.ones(3))
    assert_unchanged_by(opt, error, words, lambda: setattr(opt, name, value))


def test_switching_momentum_on_fails_whole_or_not_at_all():
    """Protects the states if they cannot be made: a parameter is read-only by now."""
    opt = optim.SGD([np.ones(3), np.ones(3)], lr=0.5)
    opt.params[1].flags.writeable = False
    assert_unchanged_by(opt, ValueError, r"^params\[1\] ", lambda: setattr(opt, "momentum", 0.5))
    assert opt.state == [{}, {}]


# ---- as objects ----------------------------------------------------------------------------------


def test_subclass_keeps_its_rule():
    """Protects who extends an optimizer in Python: a subclass need not name the rule again."""

    class Noisy(optim.SGD):
        def step(self, grads):
            super().step([g + 1 for g in grads])

    w = np.ones(2)
    opt = Noisy([w], lr=0.5)
    opt.step([np.zeros(2)])
    assert w.tolist() == [0.5, 0.5]
    assert repr(opt).startswith("Noisy(1 params, lr=0.5")


def test_base_class_needs_a_rule():
    """Protects from an optimizer without a formula."""
    with pytest.raises(TypeError, match="rule"):
        optim.Optimizer(np.ones(2))


def test_optimizer_keeps_its_parameters_alive(rng, assert_same_bits):
    """Protects memory: nobody else need hold the arrays."""
    opt = optim.Adam(arrays(rng, np.float64, [(1000,)] * 20))
    twin = optim.Adam(copies(opt.params))
    grads = arrays(rng, np.float64, [(1000,)] * 20)
    junk = [np.full(1000, np.nan) for _ in range(50)]  # takes whatever was given back
    opt.step(grads)
    twin.step(grads)
    assert_same_bits(everything(opt), everything(twin))
    del junk
