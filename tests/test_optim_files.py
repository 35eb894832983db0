"""Optimizers in files, and gradients of several batches."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from fastgd import optim

CLASSES = sorted(name for name in optim.__all__ if isinstance(getattr(optim, name), type)
                 and hasattr(getattr(optim, name), "rule_name"))  # fmt: skip


@pytest.fixture
def safetensors():
    """Safetensors, or skip."""
    return pytest.importorskip("safetensors")


def parameters(rng):
    """Parameters of both dtypes, an empty and a scalar one among them."""
    shapes = [(3, 4), (5,), (), (0, 2)]
    params = [rng.standard_normal(shape) for shape in shapes]
    return [*params, rng.standard_normal(7).astype(np.float32)]


def gradients(rng, params):
    """Return gradients for these parameters."""
    return [np.asarray(rng.standard_normal(p.shape), p.dtype) for p in params]


def everything(opt):
    """All arrays of an optimizer."""
    return [*opt.params, *(a for s in opt.state for a in s.values()), *(opt.ema or ())]


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES)
def test_training_continues_from_a_file_to_the_bit(
    safetensors, tmp_path, rng, assert_same_bits, name
):
    """Protects resuming from a file: states, numbers that are carried on, averages, parameters."""
    make = getattr(optim, name)
    params = [p for p in parameters(rng) if name != "Muon" or p.ndim == 2]
    opt = make([(f"p{i}", p) for i, p in enumerate(params)], ema_decay=0.5, max_norm=1.0)
    opt.param_groups[0]["mine"] = (1, "two", [3.5])
    for _ in range(3):
        opt.step(gradients(rng, params))
    opt.save(tmp_path / "opt.safetensors", params=True)
    fresh = [(f"p{i}", np.zeros_like(p)) for i, p in enumerate(params)]
    resumed = make(fresh, ema_decay=0.5, max_norm=1.0)
    resumed.load(tmp_path / "opt.safetensors")
    assert resumed.param_groups[0]["mine"] == (1, "two", [3.5])
    assert (resumed.t, repr(resumed)) == (opt.t, repr(opt))
    for _ in range(3):
        grads = gradients(rng, params)
        opt.step(grads)
        resumed.step(grads)
    assert_same_bits(everything(resumed), everything(opt))


def test_file_without_parameters_leaves_them(safetensors, tmp_path, rng):
    """Protects parameters that are kept elsewhere."""
    w = rng.standard_normal(3)
    opt = optim.Adam(w)
    opt.step(w.copy())
    opt.save(tmp_path / "opt")
    other = optim.Adam(np.arange(3.0))
    other.load(tmp_path / "opt")
    assert other.params[0].tolist() == [0, 1, 2]
    assert other.t == 1


def test_file_is_plain_safetensors(safetensors, tmp_path):
    """Protects those who read it with another program."""
    from safetensors.numpy import load_file

    opt = optim.SGD(np.ones(3), momentum=0.5)
    opt.step(np.full(3, 2.0))
    opt.save(tmp_path / "opt")
    arrays = load_file(tmp_path / "opt")
    assert {name: a.tolist() for name, a in arrays.items()} == {
        "state.0.momentum_buffer": [2.0, 2.0, 2.0]
    }


def test_file_has_the_permissions_of_any_file(safetensors, tmp_path):
    """Protects a group that shares a folder: a temporary file would be its owner's alone."""
    (tmp_path / "other").write_bytes(b"")
    optim.SGD(np.ones(3)).save(tmp_path / "opt")
    modes = {os.stat(tmp_path / name).st_mode for name in ("other", "opt")}
    assert len(modes) == 1
    assert sorted(os.listdir(tmp_path)) == ["opt", "other"]


BAD_FILES = {
    "nothing": (lambda path: None, OSError),
    "text": (lambda path: path.write_text("not safetensors"), ValueError),
    "another's tensors": (
        lambda path: __import__("safetensors.numpy").numpy.save_file({"a": np.ones(2)}, path),
        ValueError,
    ),
    "another rule": (lambda path: optim.SGD(np.ones(3)).save(path), ValueError),
    "other shapes": (lambda path: optim.Adam(np.ones(4)).save(path, params=True), ValueError),
    "half a file": (lambda path: optim.Adam(np.ones(3)).save(path) or cut(path), ValueError),
}  # fmt: skip


def cut(path):
    """Leave half a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(("write", "error"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_files_are_refused_and_change_nothing(safetensors, tmp_path, write, error):
    """Protects a running training from a file that does not belong to it."""
    opt = optim.Adam(np.ones(3))
    opt.step(np.ones(3))
    before, t = [a.tobytes() for a in everything(opt)], opt.t
    write(tmp_path / "opt")
    with pytest.raises(error):
        opt.load(tmp_path / "opt")
    assert [a.tobytes() for a in everything(opt)] == before
    assert opt.t == t


def test_what_json_cannot_hold_is_refused_and_leaves_the_old_file(safetensors, tmp_path):
    """Protects the last good file from one that cannot be written."""
    opt = optim.SGD(np.ones(3))
    opt.save(tmp_path / "opt")
    before = (tmp_path / "opt").read_bytes()
    opt.param_groups[0]["mine"] = object()
    with pytest.raises(TypeError, match=r"^param_groups must hold"):
        opt.save(tmp_path / "opt")
    assert (tmp_path / "opt").read_bytes() == before
    assert os.listdir(tmp_path) == ["opt"]


def test_killed_while_saving_leaves_a_whole_file(safetensors, tmp_path):
    """Protects from a half-written file: killed at any moment, the old or the new one is there."""
    path = tmp_path / "opt"
    code = f"""
import numpy as np
from fastgd import optim
opt = optim.SGD(np.zeros(300_000), momentum=0.5)
while True:
    opt.step(np.ones(300_000))
    opt.save({str(path)!r}, params=True)
    print(opt.t, flush=True)
"""
    for wait in (0.0, 0.004, 0.009, 0.013):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        child.stdout.readline()
        child.stdout.readline()
        time.sleep(wait)
        child.kill()
        last = max(2, *map(int, child.communicate()[0].split() or [0]))
        opt = optim.SGD(np.zeros(300_000), momentum=0.5)
        opt.load(path)
        assert last <= opt.t <= last + 1
        buffer = sum(0.5**k for k in range(opt.t))
        assert np.all(opt.state[0]["momentum_buffer"] == np.float64(buffer))


def test_without_safetensors_the_extra_is_named(tmp_path, monkeypatch):
    """Protects who installed the core alone: the error says what to install."""
    monkeypatch.setitem(sys.modules, "safetensors", None)
    opt = optim.SGD(np.ones(3))
    for action in (opt.save, opt.load):
        with pytest.raises(ImportError, match=r"fastgd\[safetensors\]"):
            action(tmp_path / "opt")
    assert json.dumps(os.listdir(tmp_path)) == "[]"


# ---- gradients of several batches ----------------------------------------------------------------


def test_accumulated_gradients_are_a_step_with_their_mean(rng, assert_same_bits):
    """Protects large batches in parts: the mean, clipped and checked as one gradient."""
    params = parameters(rng)
    opt = optim.Adam(params, max_norm=1.0)
    twin = optim.Adam([p.copy() for p in params], max_norm=1.0)
    for n in (1, 4, 2):
        parts = [gradients(rng, params) for _ in range(n)]
        assert [opt.accumulate(g) for g in parts] == list(range(1, n + 1))
        sums = [np.zeros_like(p) for p in params]
        for part in parts:
            for total, g in zip(sums, part, strict=True):
                total += g
        opt.step()
        twin.step(sums, grad_scale=n)
    assert_same_bits(everything(opt), everything(twin))


def test_parameters_without_gradients_rest():
    """Protects sparse use: None in all parts is None, in some of them it is zero."""
    params = [np.ones(2), np.ones(2)]
    opt = optim.Adam(params, lr=0.5, eps=0.0)
    opt.accumulate([np.ones(2), None])
    opt.accumulate([None, None])
    opt.step()
    assert [p.tolist() for p in params] == [[0.5, 0.5], [1, 1]]


def test_gradients_are_forgotten_after_a_skipped_step_and_on_demand():
    """Protects the batches that follow from a NaN, and from what was given up."""
    w = np.ones(2)
    opt = optim.SGD(w, lr=0.5, nonfinite="skip")
    opt.accumulate(np.array([np.nan, 1.0]))
    opt.step()
    assert opt.last_step.skipped
    opt.accumulate(np.full(2, 7.0))
    opt.zero_grad()
    opt.accumulate(np.ones(2))
    opt.step()
    assert w.tolist() == [0.5, 0.5]


def test_step_needs_gradients():
    """Protects from a step with what was used before."""
    opt = optim.SGD(np.ones(2))
    with pytest.raises(ValueError, match=r"^grads must be given"):
        opt.step()
    opt.accumulate(np.ones(2))
    opt.step()
    with pytest.raises(ValueError, match=r"^grads must be given"):
        opt.step()


@pytest.mark.parametrize(
    ("grads", "error"),
    [
        ([np.ones(2)], ValueError),
        ([np.ones(2), np.ones(4)], TypeError),
        ([np.ones(2), np.ones(3, np.float32)], TypeError),
        ([np.ones(2), [1.0, 2.0, 3.0]], TypeError),
    ],
)
def test_bad_gradients_are_not_added(grads, error):
    """Protects the sum of the batches before: all is checked before anything is added."""
    opt = optim.SGD([np.zeros(2), np.zeros(3)], lr=1.0)
    opt.accumulate([np.ones(2), np.ones(3)])
    with pytest.raises(error, match=r"^grads"):
        opt.accumulate(grads)
    opt.step()
    assert [p.tolist() for p in opt.params] == [[-1, -1], [-1, -1, -1]]
