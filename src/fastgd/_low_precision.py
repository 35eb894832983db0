"""What states and 16-bit parameters are kept in: the shapes and dtypes of an optimizer's arrays."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from . import _core
from ._hypers import Array, kept_states, zeros_of

EIGHT_BIT = tuple(name for name, row in _core.RULES.items() if row["eight_bit"])
"""Rules whose states may have 8 bits."""


def checked_state_dtype(value: Any) -> str | None:
    """Return what `state_dtype` means: None, "bfloat16" or "int8"; else raise."""
    if value is None:
        return None
    name = getattr(value, "name", None) or getattr(value, "__name__", None)  # of dtypes, of types
    name = name or str(value).removeprefix("torch.")
    if name in ("bfloat16", "int8"):
        return str(name)
    raise ValueError(f'state_dtype must be None, "bfloat16" or "int8"; got {value!r}')


def checked_rounding(value: Any) -> str:
    """Return `rounding` if it is one; else raise."""
    if value not in ("nearest", "stochastic"):
        raise ValueError(f'rounding must be "nearest" or "stochastic"; got {value!r}')
    return str(value)


def check_rule(rule: str, state_dtype: str | None) -> None:
    """Raise if the states of a rule cannot be kept so."""
    if state_dtype is None:
        return
    if state_dtype == "int8" and rule not in EIGHT_BIT:
        raise ValueError(
            f'state_dtype must not be "int8" for {rule!r}: rules that have it are '
            f"{', '.join(EIGHT_BIT)}"
        )
    if _core.RULES[rule]["kind"] not in _core.BLOCKWISE:
        raise ValueError(f"state_dtype must be None for {rule!r}; got {state_dtype!r}")


def has_16_bits(array: Array) -> bool:
    """Whether an array is of float16 or bfloat16."""
    return array.dtype.name in ("float16", "bfloat16")


def check_units(params: Iterable[Array], options: Mapping[str, Any]) -> None:
    """Raise if parameters of 16 bits are to have options that look at whole units or tensors."""
    wanted = [name for name in ("centralize", "agc") if options.get(name) not in (None, False)]
    if options.get("projection") is not None and options["projection"].is_whole:
        wanted.append("projection")
    for i, param in enumerate(params):
        if wanted and has_16_bits(param):
            raise ValueError(
                f"{wanted[0]} must not be used with parameters of 16 bits; params[{i}] is of "
                f"{param.dtype}"
            )


def computed_dtype(array: Array) -> np.dtype[Any]:
    """Dtype that a parameter is computed with, and its average kept in."""
    return np.dtype(np.float32) if has_16_bits(array) else array.dtype


def computed_zeros(params: Sequence[Array]) -> list[Array]:
    """Return zeros like parameters, of the dtypes that they are computed with."""
    return zeros_of([(p.shape, computed_dtype(p)) for p in params])


def computed_copies(params: Sequence[Array]) -> list[Array]:
    """Return copies of parameters, of the dtypes that they are computed with."""
    copies = computed_zeros(params)
    for copied, param in zip(copies, params, strict=True):
        copied[...] = param
    return copies


def as_bits(array: Array) -> Array:
    """Return an array of bfloat16 as the uint16 that it is in files, any other as it is."""
    return array.view(np.uint16) if array.dtype.name == "bfloat16" else array


class Storage(NamedTuple):
    """How an optimizer keeps what belongs to a parameter.

    The states of a parameter are a tuple: the arrays of the rule's row, then the master copy; None
    for what is not kept.
    """

    rule: str
    state_dtype: str | None
    rounding: str

    @property
    def names(self) -> list[str]:
        """Names of the states, in order."""
        return [*(name for name, _ in _core.RULES[self.rule]["states"]), "master"]

    def kept(self, values: Sequence[float], param: Array) -> list[bool]:
        """Which of them these hyper-parameters and the parameter's dtype keep."""
        return [*kept_states(self.rule, values), self.rounding == "nearest" and has_16_bits(param)]

    def make(
        self, kept: Iterable[Sequence[bool]], params: Sequence[Array]
    ) -> list[tuple[Array | None, ...]]:
        """Make the states at their start: zeros, and copies of the parameters."""
        layouts = [
            [self._layout(k, param) if has else None for k, has in enumerate(mine)]
            for mine, param in zip(kept, params, strict=True)
        ]
        made = iter(zeros_of([each for mine in layouts for each in mine if each is not None]))
        states = [tuple(None if each is None else next(made) for each in mine) for mine in layouts]
        for (*_, master), param in zip(states, params, strict=True):
            if master is not None:
                master[...] = param
        return states

    def _layout(self, k: int, param: Array) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
        """Shape and dtype of state `k`; None if the parameter's shape has none."""
        rows = _core.RULES[self.rule]["states"]
        if k == len(rows):
            return param.shape, computed_dtype(param)
        shape = _core.state_shape(rows[k][1], param.shape)
        if shape is None:
            return None
        if self.state_dtype is None:
            return shape, computed_dtype(param)
        if self.state_dtype == "bfloat16":
            return shape, np.dtype(np.uint16)
        return (_core.code_bytes(param.size),), np.dtype(np.uint8)
