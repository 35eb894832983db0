"""`fastgd.torch`: checkpoints, copies, hooks, scaling of gradients, and several processes."""

import copy
import io
import math
import os
import pickle
import subprocess
import sys

import pytest
from torch_optimizers import (
    CLASSES,
    assert_close,
    assert_same_bits,
    assert_same_states,
    both,
    closure_for,
    ft,
    give,
    odd_layouts,
    option_sets,
    tensors,
    torch,
    twins_of,
)
from torch_optimizers import _seeded as _seeded
from torch_optimizers import any_rule as any_rule
from torch_optimizers import kind as kind
from torch_optimizers import rule as rule

# ---- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [0, 7])
def test_checkpoints_go_both_ways(rule, kind, steps):
    """Protects training that changes its library in the middle: it goes on as if it had not."""
    options = option_sets(rule)[-1]
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins, **options)
    for _ in range(steps):
        give(params, twins)
        ours.step()
        theirs.step()
    saved = [io.BytesIO(), io.BytesIO()]
    for opt, file in zip((ours, theirs), saved, strict=True):
        torch.save(opt.state_dict(), file)
        file.seek(0)
    ours, theirs = both(rule, params, twins)  # the checkpoint brings the options
    ours.load_state_dict(torch.load(saved[1]))
    theirs.load_state_dict(torch.load(saved[0]))
    assert ours.t == (0 if rule == "sgd" else steps)
    for _ in range(7):
        give(params, twins)
        ours.step()
        theirs.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


def test_own_checkpoint_goes_on_to_the_bit(any_rule):
    """Protects resuming: nothing is lost between state_dict and load_state_dict."""
    options = option_sets(any_rule)[-1]
    params = tensors()
    twins = twins_of(params)
    first, second = (CLASSES[any_rule](own, **options) for own in (params, twins))
    for _ in range(3):
        give(params, twins)
        first.step()
        second.step()
    third = CLASSES[any_rule](twins)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    assert third.t == 3
    for _ in range(3):
        give(params, twins)
        first.step()
        third.step()
    assert_same_bits(params, twins)


def test_states_of_old_checkpoints_are_read():
    """Protects checkpoints whose step is a plain number, and whose states have another layout."""
    params = [torch.nn.Parameter(odd_layouts()[0])]
    twins = twins_of(params)
    ours, theirs = both("adam", params, twins)
    give(params, twins)
    ours.step()
    theirs.step()
    state = ours.state[params[0]]
    state["step"] = 1
    state["exp_avg"] = state["exp_avg"].contiguous()
    give(params, twins)
    ours.step()
    theirs.step()
    assert_close(params, twins)
    assert_same_states(ours, theirs)


@pytest.mark.parametrize("way", ["pickle", "deepcopy"])
def test_copies_go_on(any_rule, way):
    """Protects copies of a whole optimizer: parameters, states, options, averages, counts."""
    opt = CLASSES[any_rule](tensors(), max_norm=1.0, ema_decay=0.5, nonfinite="skip",
        report_norms=True)  # fmt: skip
    give(opt.param_groups[0]["params"])
    opt.step()
    twin = pickle.loads(pickle.dumps(opt)) if way == "pickle" else copy.deepcopy(opt)
    assert (twin.max_norm, twin.nonfinite, twin.t, twin.last_step) == (
        1.0, "skip", 1, opt.last_step)  # fmt: skip
    lists = [o.param_groups[0]["params"] for o in (opt, twin)]
    give(*lists)
    opt.step()
    twin.step()
    assert_same_bits(*lists)
    assert_same_bits(opt.ema, twin.ema)


# ---- closures, hooks, scaling --------------------------------------------------------------------


def test_closures_and_their_result(rule):
    """Protects training by closures: called once, with gradients, its loss returned."""
    params = tensors()
    twins = twins_of(params)
    ours, theirs = both(rule, params, twins)
    with torch.no_grad():
        for _ in range(3):
            loss = ours.step(closure_for(ours, params))
            assert loss == theirs.step(closure_for(theirs, twins))
    assert_close(params, twins)
    assert ours.step() is None


def test_hooks_run_once(any_rule):
    """Protects hooks: each of torch's six kinds is called, once."""
    params = tensors()
    opt, seen = CLASSES[any_rule](params), []
    for hook in ("step_pre", "step_post", "state_dict_pre", "state_dict_post",
                 "load_state_dict_pre", "load_state_dict_post"):  # fmt: skip
        getattr(opt, f"register_{hook}_hook")(lambda *_, hook=hook: seen.append(hook))
    give(params)
    opt.step()
    opt.load_state_dict(opt.state_dict())
    assert seen == ["step_pre", "step_post", "state_dict_pre", "state_dict_post",
                    "load_state_dict_pre", "load_state_dict_post"]  # fmt: skip


@pytest.mark.parametrize("unscaled", [False, True])
def test_grad_scaler(rule, unscaled):
    """Protects mixed precision: unscaled in the step or before, a step with inf is left out."""
    params = tensors()
    twins = twins_of(params)
    pair = both(rule, params, twins)
    scalers = [torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3) for _ in pair]
    for step in range(8):
        for opt, scaler, own in zip(pair, scalers, (params, twins), strict=True):
            opt.zero_grad()
            scaler.scale(sum(((p - 1) ** 2).sum() for p in own)).backward()
            if step == 4:
                own[1].grad[2] = math.inf
            if unscaled:
                scaler.unscale_(opt)
            scaler.step(opt)
            scaler.update()
        assert scalers[0].get_scale() == scalers[1].get_scale()
        assert_close(params, twins)
    assert not hasattr(pair[0], "grad_scale")
    assert pair[0].t + pair[0].skipped == 8


def test_skipped_by_grad_scaler_shows():
    """Protects who watches `last_step`: what the scaler found counts as skipped."""
    params = tensors()
    opt, scaler = ft.SGD(params), torch.amp.GradScaler("cpu")
    scaler.scale(sum((p * math.inf).sum() for p in params)).backward()
    scaler.step(opt)
    assert (opt.last_step.skipped, opt.skipped, opt.t) == (True, 1, 0)


def test_grad_scale_of_a_step(any_rule):
    """Protects accumulation: gradients are divided in the pass and stay as they are."""
    params = tensors()
    twins = twins_of(params)
    one, other = CLASSES[any_rule](params), CLASSES[any_rule](twins)
    for _ in range(3):
        give(params, twins)
        for p in params:
            p.grad *= 4
        kept = [p.grad.clone() for p in params]
        one.step(grad_scale=4)
        other.step()
        assert_same_bits([p.grad for p in params], kept)
    assert_same_bits(params, twins)
    with pytest.raises(ValueError, match="grad_scale must be"):
        one.step(grad_scale=0)


# ---- processes -----------------------------------------------------------------------------------


DDP = """
import os, sys, torch, torch.distributed as dist, torch.multiprocessing as mp
import fastgd.torch as ft

def work(rank, path):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method="file://" + path, rank=rank, world_size=2)
    results = []
    for make in (ft.AdamW, torch.optim.AdamW):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
        ddp = torch.nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True)
        opt = make(ddp.parameters(), lr=0.05)
        data = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(1))[rank]
        for batch in data:
            opt.zero_grad()
            ddp(batch).square().sum().backward()
            opt.step()
        results.append(torch.cat([p.detach().ravel() for p in net.parameters()]))
    torch.testing.assert_close(*results)
    both = [torch.zeros_like(results[0]) for _ in range(2)]
    dist.all_gather(both, results[0])
    assert torch.equal(*both)
    dist.barrier()  # neither leaves while the other still listens
    dist.destroy_process_group()
    print("done", rank, flush=True)
    # torch's gloo threads may ask for the interpreter's lock while it ends, which aborts the
    # process (with torch's own optimizers, too): this one ends without tearing down.
    os._exit(0)

if __name__ == "__main__":
    rank = int(sys.argv[1]) if len(sys.argv) > 1 else int(os.environ["RANK_OF_TEST"])
    work(rank, os.environ["STORE"])
"""


def test_in_distributed_data_parallel(tmp_path):
    """Protects training in two processes: as with torch's optimizer, and the same in both."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("needs torch with gloo")
    script = tmp_path / "work.py"
    script.write_text(DDP)
    env = {**os.environ, "STORE": str(tmp_path / "store"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(rank)],
            env=env,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=120)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said
