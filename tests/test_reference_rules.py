"""The update rules of the specification are right: they agree with torch, optax and hand.

Each table has a row for a rule; a peer that is not installed is left out.
"""

import inspect
import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastgd import reference

STEPS = 50
SIZE = 12


@pytest.fixture
def torch():
    """Torch in double precision, also for the numbers it remembers, or skip."""
    torch = pytest.importorskip("torch")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@pytest.fixture
def optax(jax):
    """Optax in double precision, or skip."""
    return pytest.importorskip("optax")


def grid(**axes):
    """Every combination of some hyper-parameters, as a list of dicts."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def cases(grids):
    """Pairs of a rule and its hyper-parameters, the defaults first."""
    return [(name, options) for name, row in grids.items() for options in ({}, *row)]


def problem(seed=1, size=SIZE):
    """Parameters to start from, and gradients of all sizes."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=size)
    return start, [
        rng.normal(size=size) * 10.0 ** rng.integers(-6, 3, size=size) for _ in range(STEPS)
    ]


def falling(t):
    """Learning rate of step t: one that changes, so that the place where it enters is seen."""
    return 0.1 / math.sqrt(t)


def assert_same(ours, state, theirs, remembered, t, *, feedback=False):
    """Parameters and all that is remembered agree to 12 digits.

    With `feedback`, where all parameters make one learning rate that makes all parameters, errors
    grow from step to step and spread from the largest: then to 10 digits of that one.
    """
    assert state.keys() == remembered.keys()
    pairs = {"param": (ours, theirs)} | {key: (v, remembered[key]) for key, v in state.items()}
    for key, (value, expected) in pairs.items():
        tolerance = {"rtol": 1e-12, "atol": 1e-13}
        if feedback:
            tolerance = {"rtol": 0.0, "atol": 1e-10 * max(map(abs, value))}
        assert_allclose(value, np.ravel(expected), err_msg=f"{key}, step {t}", **tolerance)


# ---- torch ---------------------------------------------------------------------------------------

BETAS = [(0.9, 0.999), (0.5, 0.9), (0.0, 0.99)]
SGD = [
    options
    for options in grid(
        momentum=[0.0, 0.9],
        dampening=[0.0, 0.3],
        weight_decay=[0.0, 0.05],
        nesterov=[False, True],
        maximize=[False, True],
    )
    # torch refuses the others
    if not options["nesterov"] or (options["momentum"] and not options["dampening"])
]
ADAM = [
    {"betas": betas, **options}
    for betas in BETAS
    for options in grid(
        eps=[1e-8, 1e-3], weight_decay=[0.0, 0.05], amsgrad=[False, True], maximize=[False, True]
    )
]
DECAY_AND_SIGN = {"weight_decay": [0.0, 0.05], "maximize": [False, True]}
DECOUPLED = grid(
    betas=BETAS, eps=[1e-8, 1e-3], decoupled_weight_decay=[False, True], **DECAY_AND_SIGN
)
TORCH = {  # rule: name in torch.optim, hyper-parameters
    "sgd": ("SGD", SGD),
    "adam": ("Adam", [*ADAM, {"weight_decay": 0.05, "decoupled_weight_decay": True}]),
    "adamw": ("AdamW", ADAM),
    "nadam": ("NAdam", [*DECOUPLED, *grid(momentum_decay=[0.0, 0.1], betas=BETAS)]),
    "radam": ("RAdam", DECOUPLED),
    "adamax": ("Adamax", grid(betas=BETAS, eps=[1e-8, 1e-3], **DECAY_AND_SIGN)),
    "adagrad": (
        "Adagrad",
        grid(
            lr_decay=[0.0, 0.1],
            initial_accumulator_value=[0.0, 0.5],
            eps=[1e-10, 1e-3],
            **DECAY_AND_SIGN,
        ),
    ),
    "adadelta": ("Adadelta", grid(rho=[0.9, 0.5], eps=[1e-6, 1e-2], **DECAY_AND_SIGN)),
    "rmsprop": (
        "RMSprop",
        grid(
            alpha=[0.99, 0.7],
            eps=[1e-8, 1e-3],
            momentum=[0.0, 0.8],
            centered=[False, True],
            **DECAY_AND_SIGN,
        ),
    ),
    "rprop": (
        "Rprop",
        grid(
            etas=[(0.5, 1.2), (0.25, 2.0)],
            step_sizes=[(1e-6, 50.0), (0.05, 0.2)],
            maximize=[False, True],
        ),
    ),
    "asgd": (
        "ASGD",
        grid(lambd=[1e-4, 0.1], alpha=[0.75, 0.2], t0=[1e6, 10.0], **DECAY_AND_SIGN),
    ),
    "adafactor": (
        "Adafactor",
        [
            *grid(
                shape=[(12,), (3, 4), (12, 1), (2, 3, 2), (1, 2, 2, 3)],
                beta2_decay=[-0.8, -0.5],
                eps=[(None, 1e-3), (1e-2, 5.0)],
                d=[1.0, 1.5],
                weight_decay=[0.0, 0.05],
            ),
            {"maximize": True},
        ],
    ),
    "muon": (
        "Muon",
        [
            {"shape": shape, **options}
            for shape in ((3, 4), (4, 3), (1, 12), (6, 2))
            for options in (
                *grid(nesterov=[False, True], adjust_lr_fn=["original", "match_rms_adamw"]),
                *grid(weight_decay=[0.0, 0.3], momentum=[0.5, 0.0]),
                {"ns_coefficients": (2.0, -1.5, 0.5), "ns_steps": 2, "eps": 1e3},
            )
        ],
    ),
}


def torch_optimizer(torch, name, params, *, lr, shape=None, **options):
    """Return torch's optimizer of a rule, in its plainest implementation."""
    if name != "muon":  # which has no other
        options["foreach"] = False
    return getattr(torch.optim, TORCH[name][0])(params, lr=lr, **options)


def remembered_by_torch(optimizer, param):
    """What torch's optimizer remembers of a parameter, but for the number of the step."""
    state = optimizer.state[param].items()
    return {key: v.numpy() for key, v in state if key != "step" and v is not None}


TORCH_CASES = [
    (name, options)
    for name, options in cases({k: row[1] for k, row in TORCH.items()})
    if name != "muon" or options  # torch's has no default shape
]


@pytest.mark.parametrize(("name", "options"), TORCH_CASES)
def test_rules_follow_torch(torch, monkeypatch, name, options):
    """Protects every term of every rule, and what it remembers, over 50 steps of changing lr.

    For Muon torch's bfloat16 is taken out: with it, three digits would be left to compare.
    """
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    start, grads = problem()
    shape = options.get("shape", start.shape)
    theirs = torch.tensor(start.reshape(shape), requires_grad=True)
    optimizer = torch_optimizer(torch, name, [theirs], lr=falling(1), **options)
    ours, state = start.tolist(), {}
    for t, grad in enumerate(grads, 1):
        optimizer.param_groups[0]["lr"] = falling(t)
        theirs.grad = torch.tensor(grad.reshape(shape))
        optimizer.step()
        reference.RULES[name](ours, grad.tolist(), state, t, lr=falling(t), **options)
        assert_same(ours, state, theirs.detach().numpy(), remembered_by_torch(optimizer, theirs), t)


@pytest.mark.parametrize("name", TORCH)
def test_rules_have_the_names_and_defaults_of_torch(torch, name):
    """Protects code that comes from torch: hyper-parameters, their order and their defaults."""
    parameters = inspect.signature(reference.RULES[name]).parameters.values()
    ours = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    ours.pop("shape", None)
    signature = inspect.signature(getattr(torch.optim, TORCH[name][0])).parameters
    left_out = {"params", "foreach", "capturable", "differentiable", "fused"}
    theirs = {key: p.default for key, p in signature.items() if key not in left_out}
    theirs.setdefault("maximize", False)  # Muon's has none
    assert ours == theirs
    assert [key for key in ours if key != "maximize"] == [k for k in theirs if k != "maximize"]


@pytest.mark.parametrize("options", [{}, *grid(betas=BETAS, eps=[1e-8, 1e-3], maximize=[True])])
def test_sparse_adam_follows_torch(torch, options):
    """Protects rows that no gradient touches, rows named twice, and steps that touch nothing."""
    rng = np.random.default_rng(2)
    start = rng.normal(size=(5, 3))
    theirs = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.SparseAdam([theirs], lr=falling(1), **options)
    ours, state = start.ravel().tolist(), {}
    for t in range(1, STEPS + 1):
        indices = rng.integers(4, size=rng.integers(5))  # the last row is never touched
        values = rng.normal(size=(len(indices), 3))
        optimizer.param_groups[0]["lr"] = falling(t)
        theirs.grad = torch.sparse_coo_tensor(indices[None], values, (5, 3), check_invariants=True)
        optimizer.step()
        reference.sparse_adam(
            ours, values.ravel().tolist(), state, t, indices=indices.tolist(), lr=falling(t),
            **options,
        )  # fmt: skip
        assert_same(ours, state, theirs.detach().numpy(), remembered_by_torch(optimizer, theirs), t)
    assert ours[12:] == start[4].tolist()


def test_sparse_adam_touches_everything_by_default():
    """Protects the call without indices: the same as naming every row."""
    start, grads = problem()
    whole, named = start.tolist(), start.tolist()
    states = {}, {}
    for t, grad in enumerate(grads, 1):
        reference.sparse_adam(whole, grad.tolist(), states[0], t)
        reference.sparse_adam(named, grad.tolist(), states[1], t, indices=[0, 1, 2])
    assert whole == named
    assert states[0] == states[1]


@pytest.mark.parametrize("options", [{}, *grid(beta=[1.0, 0.25], maximize=[False, True])])
def test_ftrl_without_regularisation_is_adagrad_of_torch(torch, options):
    """Protects learning rates and start weights: z and sum give AdaGrad with eps = beta.

    Every w is made anew from z, which has the size of the sum of gradients: digits are lost, so
    that only ten are asked for.
    """
    start, grads = problem()
    theirs = torch.tensor(start, requires_grad=True)
    optimizer = torch.optim.Adagrad(
        [theirs], lr=0.1, eps=options.get("beta", 1.0), maximize=options.get("maximize", False)
    )
    ours, state = start.tolist(), {}
    for grad in grads:
        theirs.grad = torch.tensor(grad)
        optimizer.step()
        reference.ftrl(ours, grad.tolist(), state, 1, **options)
        assert_allclose(ours, theirs.detach().numpy(), rtol=1e-10, atol=1e-11)
        assert_allclose(state["sum"], optimizer.state[theirs]["sum"].numpy(), rtol=1e-12)


# ---- optax ---------------------------------------------------------------------------------------


def chained(optax, scale, lr, options):
    """A rule of optax that has no weight decay, with the decay that its other rules have."""
    decay = options.pop("weight_decay", 0.0)
    return optax.chain(
        scale(**by_b(options)), optax.add_decayed_weights(decay), optax.scale_by_learning_rate(lr)
    )


def by_b(options):
    """The betas one by one, as optax has them."""
    options = dict(options)
    betas = options.pop("betas", ())
    return options | {f"b{i}": beta for i, beta in enumerate(betas, 1)}


def schedule_free(optax, base, lr, beta, options):
    """What optax.contrib.schedule_free_sgd and its like are, with one learning rate for each step.

    They count the steps of the average from 1 and those of z from 0, so that a schedule given to
    them would be used with a step between.
    """
    return optax.contrib.schedule_free(base, lambda count: lr(count - 1), beta, **options)


SCHEDULE_FREE = {"z": "z", "weight_sum": "weight_sum", "lr_max": "max_lr"}
PRODIGY = {"lr": "learning_rate", "d0": "estim_lr0", "d_coef": "estim_lr_coef"}

OPTAX = {  # rule: optax's (made from optax, lr, options), hyper-parameters, names remembered
    "lion": (
        lambda optax, lr, options: optax.lion(lr, **{"weight_decay": 0.0, **by_b(options)}),
        grid(betas=[(0.9, 0.99), (0.5, 0.6)], **DECAY_AND_SIGN),
        {"exp_avg": "mu"},
    ),
    "signum": (
        lambda optax, lr, options: optax.chain(
            optax.ema(options.get("momentum", 0.9), debias=False),
            optax.scale_by_sign(),
            optax.add_decayed_weights(options.get("weight_decay", 0.0)),
            optax.scale_by_learning_rate(lr),
        ),
        grid(momentum=[0.9, 0.0], **DECAY_AND_SIGN),
        {"exp_avg": "ema"},
    ),
    "adabelief": (
        lambda optax, lr, options: chained(optax, optax.scale_by_belief, lr, options),
        grid(betas=BETAS, eps=[1e-16, 1e-3], eps_root=[1e-16, 1e-2], **DECAY_AND_SIGN),
        {"exp_avg": "mu", "exp_avg_var": "nu"},
    ),
    "yogi": (
        lambda optax, lr, options: chained(optax, optax.scale_by_yogi, lr, options),
        grid(betas=BETAS, initial_accumulator_value=[1e-6, 0.1], **DECAY_AND_SIGN),
        {"exp_avg": "mu", "exp_avg_sq": "nu"},
    ),
    "adan": (
        lambda optax, lr, options: optax.adan(lr, **by_b(options)),
        grid(
            betas=[(0.98, 0.92, 0.99), (0.5, 0.6, 0.7)],
            eps=[1e-8, 1e-3],
            eps_root=[1e-8, 0.0],
            **DECAY_AND_SIGN,
        ),
        {"exp_avg": "m", "exp_avg_diff": "v", "exp_avg_sq": "n", "previous_grad": "g"},
    ),
    "lars": (
        lambda optax, lr, options: optax.lars(lr, **options),
        grid(momentum=[0.9, 0.0], nesterov=[False, True], eps=[0.0, 0.1], **DECAY_AND_SIGN)
        + grid(trust_coefficient=[0.1], weight_decay=[0.0, 0.5]),
        {"momentum_buffer": ("trace", -1.0)},
    ),
    "lamb": (
        lambda optax, lr, options: optax.lamb(lr, **by_b(options)),
        grid(betas=BETAS, eps=[1e-6, 1e-3], eps_root=[0.0, 1e-2], **DECAY_AND_SIGN),
        {"exp_avg": "mu", "exp_avg_sq": "nu"},
    ),
    "schedule_free_sgd": (
        lambda optax, lr, options: schedule_free(
            optax,
            optax.chain(optax.add_decayed_weights(options.pop("weight_decay", 0.0)), optax.sgd(lr)),
            lr,
            options.pop("beta", 0.9),
            options,
        ),
        grid(beta=[0.9, 0.5, 1.0], weight_lr_power=[2.0, 0.0], **DECAY_AND_SIGN),
        SCHEDULE_FREE,
    ),
    "schedule_free_adamw": (
        lambda optax, lr, options: schedule_free(
            optax,
            optax.chain(
                optax.scale_by_rms(
                    options.get("betas", (0.9, 0.999))[1],
                    options.pop("eps", 1e-8),
                    eps_in_sqrt=False,
                    bias_correction=True,
                ),
                optax.add_decayed_weights(options.pop("weight_decay", 0.0)),
                optax.scale_by_learning_rate(lr),
            ),
            lr,
            options.pop("betas", (0.9, 0.999))[0],
            options,
        ),
        grid(
            betas=[(0.9, 0.999), (0.5, 0.9)],
            eps=[1e-8, 1e-3],
            weight_lr_power=[2.0, 0.5],
            **DECAY_AND_SIGN,
        ),
        {"exp_avg_sq": "nu", **SCHEDULE_FREE},
    ),
    "prodigy": (
        lambda optax, lr, options: optax.contrib.prodigy(
            lr, **{PRODIGY.get(key, key): value for key, value in options.items()}
        ),
        grid(
            betas=[(0.9, 0.999), (0.5, 0.9)],
            beta3=[None, 0.5],
            d0=[1e-6, 0.1],
            d_coef=[1.0, 3.0],
            **DECAY_AND_SIGN,
        )
        + grid(eps=[1e-3], safeguard_warmup=[False, True], d0=[0.1]),
        {
            "exp_avg": "exp_avg",
            "exp_avg_sq": "exp_avg_sq",
            "grad_sum": "grad_sum",
            "params0": "params0",
            "d": "estim_lr",
            "numerator_weighted": "numerator_weighted",
        },
    ),
}


def remembered_by_optax(optax, memory, names):
    """What optax remembers, by our names; (name, -1) where it has the other sign."""
    pairs = {
        key: field if isinstance(field, tuple) else (field, 1.0) for key, field in names.items()
    }
    return {
        key: sign * np.asarray(optax.tree.get(memory, field))
        for key, (field, sign) in pairs.items()
    }


def warming(t):
    """Learning rate of step t: one that rises for a while and falls then."""
    return 0.01 * t if t <= 10 else 1.0 / t


def rising(t):
    """Learning rate of step t: a factor on one that the rule finds by itself."""
    return 1.0 + 0.01 * t


RATES = {
    "schedule_free_sgd": (falling, warming),
    "schedule_free_adamw": (falling, warming),
    "prodigy": (rising,),
}
OPTAX_CASES = [
    (name, options, rate)
    for name, options in cases({k: row[1] for k, row in OPTAX.items()})
    for rate in RATES.get(name, (falling,))
]


@pytest.mark.parametrize(("name", "options", "rate"), OPTAX_CASES)
def test_rules_follow_optax(optax, name, options, rate):
    """Protects every term of the rules that torch has not, over 50 steps of changing lr."""
    make, _, names = OPTAX[name]
    if name == "lars" and options.get("momentum") == 0:
        names = {}  # optax keeps a buffer all the same
    start, grads = problem()
    sign = -1.0 if options.get("maximize") else 1.0
    settings = {key: value for key, value in options.items() if key != "maximize"}
    rates = [rate(t) for t in range(1, STEPS + 1)]
    if name == "prodigy":  # a while downhill, for the estimate to grow, then to and fro
        grads[:10] = map(np.abs, grads[:10])
    theirs = make(optax, lambda count: rates[int(count)], settings)
    params = optax.tree.cast(start, "float64")
    memory = theirs.init(params)
    ours, state = start.tolist(), {}
    for t, grad in enumerate(grads, 1):
        updates, memory = theirs.update(sign * grad, memory, params)
        params = optax.apply_updates(params, updates)
        reference.RULES[name](ours, grad.tolist(), state, t, lr=rate(t), **options)
        remembered = remembered_by_optax(optax, memory, names)
        assert_same(ours, state, params, remembered, t, feedback=name == "prodigy")
    assert name != "prodigy" or state["d"][0] > options.get("d0", 1e-6)


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw"])
def test_schedule_free_result_is_that_of_optax(optax, name):
    """Protects the point to evaluate at, and the defaults, by optax's own names."""
    start, grads = problem()
    theirs = getattr(optax.contrib, name)()
    params = optax.tree.cast(start, "float64")
    memory = theirs.init(params)
    ours, state = start.tolist(), {}
    for t, grad in enumerate(grads, 1):
        updates, memory = theirs.update(grad, memory, params)
        params = optax.apply_updates(params, updates)
        reference.RULES[name](ours, grad.tolist(), state, t)
        x = optax.contrib.schedule_free_eval_params(memory, params)
        assert_allclose(reference.schedule_free_eval(ours, state), x, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTAX)
def test_rules_have_the_defaults_of_optax(optax, name):
    """Protects the defaults: only what optax has not, or docstrings name as ours, is other."""
    ours = {
        p.name: p.default
        for p in inspect.signature(reference.RULES[name]).parameters.values()
        if p.kind is p.KEYWORD_ONLY
    }
    found = getattr(optax, name, None) or getattr(optax.contrib, name)
    theirs = {p.name: p.default for p in inspect.signature(found).parameters.values()}
    if "b1" in theirs:
        ours = by_b(ours)
    renamed = {**PRODIGY, "beta": "b1"} if name != "signum" else {"momentum": "beta"}
    ours = {renamed.get(key, key): value for key, value in ours.items()}
    if theirs.get("learning_rate") is inspect.Parameter.empty:
        del theirs["learning_rate"]
    if theirs.get("weight_decay", 0.0) is None or name == "lion":  # no decay, as everywhere
        theirs["weight_decay"] = 0.0
    shared = ours.keys() & theirs.keys()
    assert len(shared) >= (1 if name == "signum" else 3)
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
    assert ours.keys() - theirs.keys() <= {
        "lr", "learning_rate", "maximize", "weight_decay", "initial_accumulator_value",
    }  # fmt: skip


# ---- no peer -------------------------------------------------------------------------------------

EXACT = [  # rule, hyper-parameters, start, gradients, end: numbers that binary fractions hold
    ("sgd", {"lr": 0.5, "momentum": 0.5}, [1.0], [[2.0], [0.0]], [-0.5]),
    ("sgd", {"lr": 0.5, "momentum": 0.5, "nesterov": True}, [1.0], [[2.0], [0.0]], [-0.75]),
    ("sgd", {"lr": 0.5, "weight_decay": 0.5, "maximize": True}, [1.0], [[2.0]], [1.75]),
    # the first step of Adam has length lr; in the second m^ = 8/3, v^ = 4
    ("adam", {"lr": 0.5, "betas": (0.5, 0.75), "eps": 0.0}, [1.0], [[4.0]], [0.5]),
    ("adam", {"lr": 3.0, "betas": (0.5, 0.0), "eps": 0.0}, [8.0], [[4.0], [2.0]], [1.0]),
    # with amsgrad the second step is divided by 4, not by 2
    (
        "adam",
        {"lr": 3.0, "betas": (0.5, 0.0), "eps": 0.0, "amsgrad": True},
        [8.0],
        [[4.0], [2.0]],
        [3.0],
    ),
    (
        "adamw",
        {"lr": 0.5, "eps": 0.0, "weight_decay": 0.5, "betas": (0.9, 0.0)},
        [4.0],
        [[4.0]],
        [2.5],
    ),
    ("adagrad", {"lr": 10.0, "eps": 0.0}, [10.0], [[3.0], [4.0]], [-8.0]),
    ("adagrad", {"lr": 1.0, "eps": 1.0, "lr_decay": 1.0}, [1.0], [[3.0], [0.0]], [0.25]),
    ("adadelta", {"rho": 0.75, "eps": 9.0}, [1.0], [[8.0]], [1.0 - 24.0 / 5.0]),
    ("rmsprop", {"lr": 1.0, "alpha": 0.75, "eps": 4.0}, [1.0], [[8.0]], [0.0]),
    # centered: v - a^2 = 32 - 16
    ("rmsprop", {"lr": 3.0, "alpha": 0.5, "eps": 0.0, "centered": True}, [1.0], [[8.0]], [-5.0]),
    (
        "rmsprop",
        {"lr": 1.0, "alpha": 0.0, "eps": 0.0, "momentum": 0.5},
        [1.0],
        [[8.0], [8.0]],
        [-1.5],
    ),
    ("rprop", {"lr": 1.0, "etas": (0.5, 2.0)}, [0.0], [[3.0], [1.0], [-1.0], [-9.0]], [-2.0]),
    ("asgd", {"lr": 0.5, "lambd": 1.0, "alpha": 1.0}, [1.0], [[1.0], [0.0]], [0.0]),
    ("adamax", {"lr": 3.0, "betas": (0.5, 0.5), "eps": 0.0}, [8.0], [[4.0], [1.0]], [2.0]),
    # mu = 1/4, m = 2, v^ = 16: 3/4 4 / 4 / (3/4) + 1/4 2 / 4 / (15/16) = 1 + 2/15
    (
        "nadam",
        {"lr": 15.0, "betas": (0.5, 0.75), "eps": 0.0, "momentum_decay": 0.0},
        [1.0],
        [[4.0]],
        [-16.0],
    ),
    ("radam", {"lr": 1.0, "betas": (0.5, 0.5)}, [1.0], [[3.0], [3.0]], [-5.0]),
    (
        "lion",
        {"lr": 0.5, "weight_decay": 1.0},
        [1.0, 2.0, 4.0],
        [[3.0, -3.0, 0.0]],
        [0.0, 1.5, 2.0],
    ),
    ("signum", {"lr": 0.5, "momentum": 0.5}, [0.0, 0.0], [[4.0, 0.0], [-1.0, -1.0]], [-1.0, 0.5]),
    ("signum", {"lr": 0.5, "momentum": 0.0, "maximize": True}, [0.0], [[4.0], [-9.0]], [0.0]),
    ("adabelief", {"lr": 1.0, "betas": (0.5, 0.0), "eps": 0.0}, [1.0], [[8.0]], [-1.0]),
    # v rises by (1 - beta2) 16 = 8, corrected to 16
    (
        "yogi",
        {"lr": 1.0, "betas": (0.0, 0.5), "eps": 0.0, "initial_accumulator_value": 0.0},
        [1.0],
        [[4.0]],
        [0.0],
    ),
    # the first step has length lr; then m = 2, v = -1 and n = 4 + (2 - 1)^2 / 2, each over 3/4
    (
        "adan",
        {"lr": 1.0, "betas": (0.5, 0.5, 0.5), "eps": 0.0, "eps_root": 0.0},
        [0.0],
        [[4.0], [2.0]],
        [-1.0 - (8.0 / 3.0 - 2.0 / 3.0) / math.sqrt(6.0)],
    ),
    # l1 keeps the small one at zero, and 3 weighs what 2 does
    ("ftrl", {"lr": 1.0, "l1": 1.0}, [0.0, 0.0], [[3.0, 1.0]], [-0.5, 0.0]),
    ("ftrl", {"lr": 1.0, "l1": 1.0, "l2": 2.0}, [5.0, -3.0], [[0.0, 0.0]], [5.0, -3.0]),
    # |param| = 5, |grad| = 10: a twentieth of the gradient, with a trust of a tenth
    ("lars", {"lr": 1.0, "trust_coefficient": 0.1}, [3.0, 4.0], [[10.0, 0.0]], [2.5, 4.0]),
    ("lars", {"lr": 0.5}, [0.0, 0.0], [[10.0, 1.0]], [-5.0, -0.5]),
    ("lamb", {"lr": 0.5, "eps": 0.0}, [0.0, 0.0], [[10.0, -1.0]], [-0.5, 0.5]),
    ("lamb", {"lr": 0.5, "eps": 0.0}, [-8.0], [[3.0]], [-12.0]),
    # of a vector: all of the step has size 1, the parameter 2
    ("adafactor", {"lr": 0.25}, [2.0, -2.0], [[5.0, 0.1]], [1.5, -2.5]),
    ("adafactor", {"lr": 0.25, "d": 0.5, "weight_decay": 0.5}, [2.0], [[5.0]], [1.5]),
    # rows and columns 7^2 / 16^2, of which the mean counts as 1/4: v = (7/16)^4 4, u = 8/7
    (
        "adafactor",
        {"lr": 0.875, "shape": (2, 2), "eps": (0.25, 1e-3), "d": 2.0},
        [1.0] * 4,
        [[0.4375] * 4],
        [0.0] * 4,
    ),
    ("adafactor", {"shape": (2, 2)}, [1.0] * 4, [[0.0] * 4], [1.0] * 4),
    # a single number becomes 1: a = 1, b = c = 0
    (
        "muon",
        {"lr": 0.5, "weight_decay": 0.5, "ns_coefficients": (1.0, 0.0, 0.0)},
        [4.0],
        [[3.0]],
        [2.5],
    ),
    # g = 2 + 4, 0 + 1; b = 6, 4
    (
        "musgd",
        {"lr": 0.5, "momentum": 0.5, "weight_decay": 1.0},
        [4.0],
        [[2.0], [0.0]],
        [-1.0],
    ),
    # no matrix: half of the rate
    ("musgd", {"lr": 1.0, "use_muon": True}, [4.0], [[2.0]], [3.0]),
    # z = 4, 2; x = 4, 3; y half way between
    ("schedule_free_sgd", {"beta": 0.5}, [8.0], [[4.0], [2.0]], [2.5]),
    # z = 7, 6 (steps of length lr); x = 7, 6.5
    (
        "schedule_free_adamw",
        {"lr": 1.0, "betas": (0.5, 0.0), "eps": 0.0},
        [8.0],
        [[4.0], [9.0]],
        [6.25],
    ),
    # m = 2 4 / 4 = 2, v = (2 4)^2 / 4 = 16, rate = 2 (1/2) / (1/4) = 4; no distance yet
    ("prodigy", {"d0": 2.0, "betas": (0.75, 0.75), "eps": 0.0}, [8.0], [[4.0]], [6.0]),
    (
        "sparse_adam",
        {"lr": 0.5, "eps": 0.0, "betas": (0.5, 0.0)},
        [1.0, 1.0],
        [[3.0, -3.0]],
        [0.5, 1.5],
    ),
]


@pytest.mark.parametrize(("name", "options", "start", "grads", "end"), EXACT)
def test_rules_do_what_a_hand_computes(name, options, start, grads, end):
    """Protects the formulas where no peer is installed."""
    param, state = list(start), {}
    for t, grad in enumerate(grads, 1):
        reference.RULES[name](param, grad, state, t, **options)
    assert param == pytest.approx(end, rel=1e-15, abs=1e-15)


@pytest.mark.parametrize(("l1", "l2", "beta"), [(0.0, 0.0, 1.0), (0.5, 0.0, 2.0), (0.7, 0.3, 0.5)])
def test_ftrl_minimises_what_its_name_says(l1, l2, beta):
    """Protects l1 and l2: every w is the minimum of all gradients so far, regularised.

    The objective is sum(g) w + sum(sigma_s (w - w_s)^2) / 2 + l1 abs(w) + (l2 + beta / lr) w^2 / 2
    (McMahan et al., 2013, section 3), so that its slope is 0 or jumps over 0 at w = 0.
    """
    lr, rng = 0.3, np.random.default_rng(3)
    w, state, n, slope_of_past, sigmas = [0.0] * SIZE, {}, np.zeros(SIZE), np.zeros(SIZE), 0.0
    zeros = 0
    for t in range(1, STEPS + 1):
        g, before = rng.normal(size=SIZE), np.array(w)
        sigma = (np.sqrt(n + g * g) - np.sqrt(n)) / lr
        n, sigmas = n + g * g, sigmas + sigma
        slope_of_past += g - sigma * before
        reference.ftrl(w, g.tolist(), state, t, lr=lr, beta=beta, l1=l1, l2=l2)
        smooth = slope_of_past + (sigmas + l2 + beta / lr) * np.array(w)
        at_zero = np.array(w) == 0
        zeros += at_zero.sum()
        assert (np.abs(smooth[at_zero]) <= l1 + 1e-12).all()
        assert_allclose(smooth[~at_zero], -l1 * np.sign(w)[~at_zero], rtol=0, atol=1e-12)
    assert (zeros > 0) == (l1 > 0)


def test_rmsprop_is_nan_where_the_variance_is_negative():
    """Protects from an exception where torch has a nan: v - a^2, rounded to less than nothing."""
    param, state = [0.0], {"square_avg": [1.0], "grad_avg": [1.0 + 1e-9]}
    reference.rmsprop(param, [1.0], state, 1, centered=True)
    assert math.isnan(param[0])


@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (5, 5), (1, 7), (7, 1)])
def test_newton_schulz_keeps_singular_vectors(shape):
    """Protects the iteration: of the matrix it changes the singular values, by the polynomial."""
    g = np.random.default_rng(4).normal(size=shape)
    a, b, c = 3.4445, -4.7750, 2.0315
    U, s, V = np.linalg.svd(g, full_matrices=False)
    s /= np.sqrt((s * s).sum())
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    ours = reference.newton_schulz(g.ravel().tolist(), shape)
    assert_allclose(np.reshape(ours, shape), U * s @ V, rtol=0, atol=1e-12)


def test_newton_schulz_can_make_rows_orthonormal():
    """Protects the purpose, with coefficients that converge; and that a zero stays zero."""
    g = np.random.default_rng(5).normal(size=(3, 6))
    options = {"coefficients": (15 / 8, -10 / 8, 3 / 8), "steps": 30}
    X = np.reshape(reference.newton_schulz(g.ravel().tolist(), (3, 6), **options), (3, 6))
    assert_allclose(X @ X.T, np.eye(3), rtol=0, atol=1e-13)
    assert reference.newton_schulz([0.0] * 6, (2, 3)) == [0.0] * 6


def test_prodigy_stays_where_all_gradients_are_zero():
    """Protects from the division by zero that optax has, and that it goes on afterwards."""
    param, state = [1.0, 2.0], {}
    for t in range(1, 4):
        reference.prodigy(param, [0.0, 0.0], state, t)
    assert (param, state["d"]) == ([1.0, 2.0], [1e-6])
    reference.prodigy(param, [1.0, 0.0], state, 4)
    assert param[0] < 1.0


@pytest.mark.parametrize("name", ["adafactor", "muon"])
def test_a_vector_is_the_default_shape(name):
    """Protects the call without a shape: a vector for Adafactor, one row for Muon."""
    start, grads = problem()
    shape = (SIZE,) if name == "adafactor" else (1, SIZE)
    ends = []
    for options in ({}, {"shape": shape}):
        param, state = start.tolist(), {}
        for t, grad in enumerate(grads, 1):
            reference.RULES[name](param, grad.tolist(), state, t, **options)
        ends.append((param, state))
    assert ends[0] == ends[1]


def test_every_rule_is_held_to_a_peer_and_to_a_hand():
    """Protects the tables here: a rule that is added has its rows."""
    held = TORCH.keys() | OPTAX.keys() | {"sparse_adam", "ftrl"}
    held |= {"musgd"}  # to Ultralytics' in test_torch_matrix.py
    assert held == reference.RULES.keys()
    assert {name for name, *_ in EXACT} == reference.RULES.keys()


# ---- what all rules have in common ---------------------------------------------------------------


@pytest.mark.parametrize("name", reference.RULES)
def test_rules_update_in_place_and_leave_the_gradient(name):
    """Protects callers that hold on to the list: it is changed, and the gradient is not."""
    param, grad, state = [1.0, -2.0], [0.5, 0.25], {}
    alias = param
    reference.RULES[name](param, grad, state, 1, lr=0.25)
    assert alias is param
    assert param != [1.0, -2.0]
    assert grad == [0.5, 0.25]


@pytest.mark.parametrize("name", reference.RULES)
def test_rules_remember_lists_of_numbers(name):
    """Protects checkpoints and C: a state is a list of floats, its own, of fixed length."""
    param, state, lengths = [1.0, -2.0], {}, {}
    for t in range(1, 4):
        grad = [0.5, -0.25 * t]
        reference.RULES[name](param, grad, state, t)
        for key, value in state.items():
            assert type(value) is list
            assert {type(x) for x in value} == {float}
            assert lengths.setdefault(key, len(value)) == len(value)
            assert value is not grad
            assert value is not param


@pytest.mark.parametrize("name", reference.RULES)
def test_to_maximize_is_to_minimise_the_negative(name):
    """Protects the sign in every rule that has it, and that it turns the data term only."""
    rule = reference.RULES[name]
    parameters = inspect.signature(rule).parameters
    if "maximize" not in parameters:
        pytest.skip("torch's has no such option")
    options = {"weight_decay": 0.1} if "weight_decay" in parameters else {}
    up, down, states = [1.0, -2.0], [1.0, -2.0], ({}, {})
    for t, grad in enumerate([[0.5, 0.25], [-1.0, 0.5], [0.0, -3.0]], 1):
        rule(up, grad, states[0], t, maximize=True, **options)
        rule(down, [-g for g in grad], states[1], t, **options)
    assert up == down
    assert states[0] == states[1]
