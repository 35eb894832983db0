"""Functions to minimise with their gradients, and option sets: what the tests of L-BFGS share."""

import numpy as np

from fastgd import reference

SHAPES = ((3, 4), (), (0, 2), (5,))  # 18 parameters


def quadratic(x):
    """Half the sum of a_i (x_i - 1)^2, a from 1 to 10."""
    a = np.linspace(1, 10, x.size)
    return float(0.5 * (a * (x - 1) ** 2).sum()), a * (x - 1)


def rosenbrock(x):
    """Curved valley, badly conditioned."""
    a, b = x[1:] - x[:-1] ** 2, 1 - x[:-1]
    grad = np.zeros_like(x)
    grad[:-1] = -400 * x[:-1] * a - 2 * b
    grad[1:] += 200 * a
    return float((100 * a**2 + b**2).sum()), grad


def logistic(x):
    """Logistic regression with a penalty."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((4 * x.size, x.size))
    signs = rng.choice([-1.0, 1.0], len(rows))
    margin = signs * (rows @ x)
    loss = np.logaddexp(0, -margin).mean() + 0.05 * (x @ x)
    grad = -(signs * (1 - np.tanh(margin / 2)) / 2) @ rows / len(rows) + 0.1 * x
    return float(loss), grad


FUNCTIONS = {"quadratic": quadratic, "rosenbrock": rosenbrock, "logistic": logistic}
STEPS = {"quadratic": 3, "rosenbrock": 2, "logistic": 3}  # before roundings have grown too large
WOLFE = {"line_search_fn": "strong_wolfe"}
OPTION_SETS = {
    "fixed": {"lr": 2e-3},
    "fixed, short memory": {"lr": 2e-3, "history_size": 2, "max_iter": 7},
    "fixed, few evaluations": {"lr": 2e-3, "max_eval": 3},
    "wolfe": WOLFE,
    "wolfe, short memory": {**WOLFE, "history_size": 3, "lr": 0.5, "max_iter": 4},
    "wolfe, few evaluations": {**WOLFE, "max_eval": 4},
    "wolfe, one evaluation": {**WOLFE, "max_eval": 1},
    "tolerance_grad": {**WOLFE, "tolerance_grad": 0.3},
    "tolerance_change": {"lr": 2e-3, "tolerance_change": 0.02},
    "far too long": {**WOLFE, "lr": 300.0},
    "far too short": {**WOLFE, "lr": 1e-4},
}


def start(size=18, dtype=np.float64):
    """Where to begin."""
    return np.random.default_rng(5).standard_normal(size).astype(dtype)


def arrays(shapes=SHAPES, dtype=np.float64):
    """The same, as arrays of these shapes."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    flat = np.split(start(sum(sizes), dtype), np.cumsum(sizes)[:-1])
    return [part.reshape(shape).copy() for part, shape in zip(flat, shapes, strict=True)]


def flat(params):
    """All elements, one array after the other."""
    return np.concatenate([np.asarray(p).ravel() for p in params])


def closure_of(function, params, seen=None):
    """Closure for `fastgd.optim.LBFGS`; appends the points where it is called to `seen`."""

    def closure():
        x = flat(params)
        if seen is not None:
            seen.append(x)
        loss, grad = function(x.astype(np.float64))
        parts = np.split(grad.astype(x.dtype), np.cumsum([p.size for p in params])[:-1])
        return loss, [part.reshape(p.shape) for part, p in zip(parts, params, strict=True)]

    return closure


def reference_step(function, x, state, **options):
    """One step of the specification, on a list."""

    def evaluate(point):
        loss, grad = function(np.array(point))
        return loss, grad.tolist()

    return reference.lbfgs(evaluate, x, state, **options)
