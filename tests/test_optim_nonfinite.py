"""Gradients that are not finite: raise, skip, apply."""

import math

import numpy as np
import pytest
from optimizers import BIG, CLASSES, arrays, busy, copies, everything, snapshot, train

from fastgd import optim

SHAPES = ((3, 4), (5,), (), (0, 2), (4097,))


def everything_on(rule, dtype, rng, nonfinite, shapes=SHAPES):
    """An optimizer in the middle of a training with all options, and its twin."""
    params = arrays(rng, dtype, shapes)
    made = [
        CLASSES[rule](
            [(f"p{i}", p) for i, p in enumerate(copies(params))],
            **busy(rule) | {"lr": lambda t: 0.25 / (t + 1)},
            max_norm=1.5,
            clip_value=0.5,
            nonfinite=nonfinite,
            ema_decay=lambda step: 1 - 1 / (step + 1),
            report_norms=True,
        )
        for _ in range(2)
    ]
    grads = [arrays(rng, dtype, shapes) for _ in range(2)]
    for opt in made:
        train(opt, grads)
    return made


def places(shapes):
    """Index of a parameter, and its first, a middle and its last element."""
    for i, shape in enumerate(shapes):
        size = math.prod(shape)
        for at in sorted({0, size // 2, size - 1} if size else ()):
            yield i, at


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_nonfinite_gradients_change_nothing(rule, dtype, nonfinite, rng, assert_same_bits):
    """Protects a training from a bad batch, wherever it shows: not one bit is touched by it."""
    opt, twin = everything_on(rule, dtype, rng, nonfinite)
    bad_values = (math.nan, math.inf, -math.inf)
    for n, (i, at) in enumerate(places(SHAPES), 1):
        grads = arrays(rng, dtype, SHAPES)
        grads[i].ravel()[at : at + 1] = bad_values[n % 3]
        sent, before = copies(grads), snapshot(opt)
        if nonfinite == "skip":
            opt.step(grads, zero_grads=True)
        else:
            with pytest.raises(optim.NonFiniteError) as caught:
                opt.step(grads, zero_grads=True)
            where = [int(k) for k in np.unravel_index(at, SHAPES[i])]
            assert (caught.value.index, caught.value.name) == (i, f"p{i}")
            assert caught.value.step == 3
            words = f"grads[{i}] (p{i}) must be finite; got {bad_values[n % 3]} at {where} and 0 "
            assert str(caught.value).startswith(words)
        assert snapshot(opt) == before
        assert_same_bits(grads, sent)
        assert (opt.skipped, opt.last_step.skipped) == (n, True)
    grads = arrays(rng, dtype, SHAPES)
    for o in (opt, twin):
        o.step(grads)
    assert not opt.last_step.skipped
    after, expected = snapshot(opt), snapshot(twin)
    assert all(after[key] == expected[key] for key in ("arrays", "t", "progress", "groups"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nonfinite_gradients_are_found_by_any_team(dtype, isa, n_threads, bad, rng):
    """Protects the guard between threads: none begins to update before all have looked."""
    opt, _ = everything_on("adam", dtype, rng, "skip", BIG)
    good = arrays(rng, dtype, BIG)
    for n, (i, at) in enumerate(places(BIG), 1):
        grads = copies(good)
        grads[i].ravel()[at] = bad
        before = everything(opt)
        opt.step(grads)
        assert opt.skipped == n
        assert all(np.array_equal(a, b) for a, b in zip(everything(opt), before, strict=True))
    opt.step(good)
    assert opt.t == 3


def test_error_names_the_first_gradient_that_is_not_finite():
    """Protects finding the cause: index, place, value and step; the name where there is one."""
    grads = [np.zeros((2, 3)), np.zeros((2, 3), np.float32)]
    grads[1][1, 2] = math.inf
    grads[1][0, 1] = math.nan
    opt = optim.Adam([np.ones((2, 3)), np.ones((2, 3), np.float32)])
    opt.step([np.ones((2, 3)), np.ones((2, 3), np.float32)])
    words = r"^grads\[1\] must be finite; got nan at \[0, 1\] and 1 more .* among 6 in step 2\."
    with pytest.raises(optim.NonFiniteError, match=words) as caught:
        opt.step(grads)
    assert isinstance(caught.value, FloatingPointError)
    assert isinstance(caught.value, ValueError)
    assert (caught.value.index, caught.value.name, caught.value.step) == (1, None, 2)


def test_nonfinite_gradients_of_resting_parameters_do_not_matter():
    """Protects frozen layers, whose gradients nobody looks at."""
    opt = optim.SGD([{"params": [np.ones(2)]}, {"params": [np.ones(2)], "frozen": True}])
    opt.step([np.ones(2), np.full(2, math.nan)])
    assert (opt.t, opt.skipped) == (1, 0)


def test_apply_takes_the_step(dtype, rng, assert_same_bits):
    """Protects who wants no guard: as good as the plain rule, no norm is worked out."""
    params = arrays(rng, dtype, SHAPES)
    opt = optim.SGD(copies(params), lr=0.5, nonfinite="apply")
    grads = arrays(rng, dtype, SHAPES)
    grads[1][2] = math.nan
    opt.step(grads)
    assert_same_bits(opt.params, [np.asarray(p - dtype.type(0.5) * g)
                                  for p, g in zip(params, grads, strict=True)])  # fmt: skip
    assert (opt.t, opt.skipped) == (1, 0)
    assert np.isnan(opt.last_step.grad_norm)
    assert np.isnan(opt.last_step.update_norm)
    assert opt.last_step.clip_factor == 1.0


def test_apply_spoils_one_element_with_norms_reported_too(dtype):
    """Protects finding the cause: to report a norm is not to multiply by it."""
    w = np.ones(9, dtype)
    grad = np.ones(9, dtype)
    grad[4] = math.nan
    opt = optim.SGD(w, lr=0.5, nonfinite="apply", report_norms=True)
    opt.step(grad)
    assert np.isnan(w[4])
    assert np.delete(w, 4).tolist() == [0.5] * 8
    assert np.isnan(opt.last_step.grad_norm)


def test_apply_with_max_norm_is_torchs(torch, dtype):
    """Protects parity: there, a norm that is not finite spoils all."""
    w, g = np.ones(3, dtype), np.array([1, math.nan, 1], dtype)
    opt = optim.SGD(w, nonfinite="apply", max_norm=1.0)
    opt.step(g)
    p = torch.ones(3)
    p.grad = torch.tensor(g.astype("f4"))
    torch.nn.utils.clip_grad_norm_([p], 1.0)
    assert np.isnan(w).tolist() == p.grad.isnan().tolist() == [True] * 3


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "apply"])
def test_huge_finite_gradients_are_taken(rule, dtype, nonfinite):
    """Protects from false alarms: a square may overflow where the number itself does not."""
    huge = 1e30 if dtype == np.float32 else 1e200
    opt = CLASSES[rule](np.ones(70, dtype), nonfinite=nonfinite)
    opt.step(np.full(70, huge, dtype))
    assert (opt.t, opt.skipped, opt.last_step.clip_factor) == (1, 0, 1.0)
    w = np.zeros(70, dtype)
    optim.SGD(w, lr=0.5, nonfinite=nonfinite, report_norms=True).step(np.full(70, huge, dtype))
    assert np.array_equal(w, np.full(70, -0.5 * huge, dtype))
