"""State dicts, taken apart and checked before anything is changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import _core
from ._hypers import Array, defaults

if TYPE_CHECKING:
    from ._optimizer import Optimizer


class Saved(NamedTuple):
    """A state dict, taken apart."""

    settings: list[dict[str, Any]]
    own: list[dict[str, Any]]
    states: list[Mapping[str, Any]]
    steps: list[int]
    since: list[int]
    kept: list[tuple[float, ...]]
    averages: list[Any] | None
    frozen: list[bool]
    t: int
    skipped: int


def read(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> Saved:
    """Take a state dict apart; raise ValueError or LookupError if it is not one of ours."""
    groups, saved = state_dict["param_groups"], state_dict["state"]
    members = [list(group.members) for group in optimizer.param_groups]
    if [list(group.get("params", ())) for group in groups] != members:
        raise ValueError(
            f"state_dict must have groups of {[len(m) for m in members]} parameters; got "
            f"{[len(group.get('params', ())) for group in groups]}"
        )
    n = len(optimizer.params)
    if set(saved) != set(range(n)):
        raise ValueError(f"state_dict must hold {n} parameters, numbered from 0; got {list(saved)}")
    names = defaults(optimizer.rule_name)
    steps = [_count(saved[i]["step"]) for i in range(n)]
    kept_names = _core.RULES[optimizer.rule_name]["kept"]
    more = state_dict.get("fastgd", {})
    since = [_count(s) for s in more.get("since", [0] * n)]
    averages = more.get("ema")
    frozen = [bool(f) for f in more.get("frozen", ())]
    if len(since) != n or (averages is not None and len(averages) != n):
        raise ValueError(f"state_dict must hold {n} parameters; fastgd does not")
    if frozen and len(frozen) != len(groups):
        raise ValueError(f"state_dict must hold {len(groups)} groups; got {len(frozen)} frozen")
    ours = {*names, "params", "param_names", "frozen"}
    return Saved(
        settings=[{name: group[name] for name in names} for group in groups],
        own=[{k: v for k, v in group.items() if k not in ours} for group in groups],
        states=[saved[i] for i in range(n)],
        steps=steps,
        since=since,
        kept=[tuple(_real(saved[i][name]) for name in kept_names) for i in range(n)],
        averages=averages,
        frozen=frozen,
        t=_count(more.get("t", max(steps))),
        skipped=_count(more.get("skipped", 0)),
    )


def _real(value: Any) -> float:
    """Return a saved number; torch saves tensors."""
    try:
        return float(value)
    except ValueError as error:
        raise TypeError(str(error)) from error


def _count(value: Any) -> int:
    """Return a saved number of steps."""
    number = _real(value)
    if not (number >= 0 and number.is_integer()):
        raise TypeError(f"{value!r} steps")
    return int(number)


def fill(array: Array, given: Any, what: str) -> None:
    """Copy what a state dict holds into an array of ours; bits are not taken for numbers."""
    values = np.asarray(given)
    fits = values.dtype == array.dtype if array.dtype.kind == "u" else values.dtype.kind in "fi"
    if values.shape != array.shape or not fits:
        raise ValueError(
            f"state_dict must hold {what} of {array.dtype} and shape {array.shape}; "
            f"got {values.dtype} of shape {values.shape}"
        )
    array[...] = values
