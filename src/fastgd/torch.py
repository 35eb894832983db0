"""The optimizers of ``fastgd.optim`` for torch's CPU tensors: ``torch.optim`` with one call a step.

Change the import, keep the code. Each class is a ``torch.optim.Optimizer`` with torch's arguments,
groups, states and checkpoints, made from the rule's row and from torch's own class of that name. A
step works on the tensors' own memory: norm, guard, clipping, update and moving average are one call
into C and two passes over memory. Needs the extra ``[torch]``.

What stands here asks torch for what is torch's (signatures, keys of groups, states at the start)
and gives C the tensors; the table of addresses is ``_core.TensorStepper``.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature, signature
from types import new_class
from typing import TYPE_CHECKING, Any, ClassVar

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise ImportError('fastgd.torch needs torch: pip install "fastgd[torch]"') from error

if not hasattr(Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(
        f'fastgd.torch needs torch 2.10 or later: pip install "fastgd[torch]"; got '
        f"{torch.__version__}"
    )

from . import _core, optim
from ._core import NonFiniteError
from ._hypers import check_shape, defaults, hyper_values, kept_states
from ._low_precision import check_rule, checked_state_dtype
from ._optimizer import signature_of
from ._rows import ROWS_ONLY, TAKES_ROWS, WHOLE
from ._step_options import (
    OPTION_DEFAULTS,
    OPTIONS,
    StepOptions,
    StepReport,
    check_projection,
    checked_decay,
    checked_options,
    entry,
    hand_over,
    hyper_entry,
    option_entry,
    option_property,
)
from ._swa import swa
from ._tensors import (
    DTYPES,
    FIT,
    SHORT,
    computed_dtype,
    fits,
    is_averaged,
    is_dense,
    kind,
    plain,
    state_dtype,
    team,
    zeros,
)
from ._torch_lbfgs import LBFGS
from ._torch_modules import Skip

_RULES = {made.__name__: made for made in optim.CLASSES.values()}

__all__ = [
    "LBFGS",
    "NonFiniteError",
    "Optimizer",
    "Skip",
    "StepReport",
    *_RULES,
    "register",
    "swa",
]

_ONE_WAY = ("foreach", "fused")  # torch's choices between implementations; there is one here
_REFUSED = ("capturable", "differentiable")
_OURS: dict[str, Any] = {**OPTION_DEFAULTS, "ema": None, "ema_source": None, "fallback": False}


class _Table(_core.TensorStepper):
    """The tensors of an optimizer as C sees them, and what to do about new and odd ones."""

    def __init__(self, owner: "Optimizer", averages: list[Tensor | None], more: list[Any]) -> None:
        self.owner = owner
        groups = [g for g, group in enumerate(owner.param_groups) for _ in group["params"]]
        super().__init__(
            Tensor,
            owner.rule_name,
            owner._params() + [source for source, _ in more],
            groups,
            [[0.0] * len(_core.RULES[owner.rule_name]["hypers"])] * len(owner.param_groups),
            averages + [average for _, average in more],
            owner._counter,
            owner.state_dtype,
            owner.rounding == "nearest",
        )
        names = [name for group in owner.param_groups for name in group.get("param_names", ())]
        self.names = names or None
        self.values: list[Any] = [None] * len(owner.param_groups)  # hyper-parameters as last seen
        self.kept: list[list[str]] = [[] for _ in owner.param_groups]
        self.projections: list[Any] = [None] * len(owner.param_groups)
        self.group_of = groups
        self.rows_only = owner.rule_name in ROWS_ONLY
        self.odd: list[int] = []  # parameters that torch's own class is to update

    def set_group(self, g: int, given: list[Any]) -> None:
        """Take a group's hyper-parameters."""
        rule = self.owner.rule_name
        values = hyper_values(rule, dict(zip(self.owner._names, given, strict=True)))
        names = [name for name, _ in _core.RULES[rule]["states"]]
        kept = kept_states(rule, values)
        self.set_kept_states(g, tuple(n if k else None for n, k in zip(names, kept, strict=True)))
        self.kept[g] = [n for n, k in zip(names, kept, strict=True) if k]
        for k, value in enumerate(values):
            self.set_hyper(g, k, value)
        self.values[g] = given

    def name(self, i: int) -> str:
        """Name a parameter."""
        return f"params[{i}]" + (f" ({self.names[i]})" if self.names else "")

    def set_aside(self, i: int, grad: Any) -> None:
        """Leave a parameter to torch's own class, or refuse it."""
        if i >= len(self.group_of):
            raise TypeError(f"ema_source must have CPU tensors; got {kind(self.params[i])}")
        if not self.owner.fallback:
            param = self.params[i]
            well = fits(param, self.owner._dtypes)
            odd, what = (grad, "the gradient of ") if well else (param, "")
            raise TypeError(
                f"{what}{self.name(i)} must be {FIT}; got {kind(odd)} (fallback=True leaves "
                "such to torch.optim)"
            )
        self.odd.append(i)

    def rows_of(self, i: int, grad: Tensor) -> tuple[Tensor, Tensor, int] | None:
        """Rows of a sparse gradient, ascending, their values, and how many rows there are."""
        if grad.layout is not torch.sparse_coo or self.owner.fallback:
            return None
        group = self.owner.param_groups[self.group_of[i]]
        needs = TAKES_ROWS.get(self.owner.rule_name)
        if needs is None:
            raise RuntimeError(
                f"{type(self.owner).__name__} does not take sparse gradients, as that of "
                f"{self.name(i)} (fallback=True leaves such to torch.optim)"
            )
        for key in (*needs, *WHOLE):
            if group[key] if key in group else self.owner._options.get(key):
                raise RuntimeError(
                    f"{key} must be off with sparse gradients, as that of {self.name(i)}"
                )
        param = self.params[i]
        if grad.shape != param.shape or grad.dtype != param.dtype or grad.is_complex():
            raise ValueError(
                f"the gradient of {self.name(i)} must have its shape and dtype; got {kind(grad)}"
            )
        whole = grad.coalesce()
        indices, values = whole.indices(), whole.values().contiguous()
        shape = tuple(param.shape[: whole.sparse_dim()])
        rows = torch.zeros(indices.shape[1], dtype=torch.int64)
        for of, axis in zip(shape, indices, strict=True):
            rows = rows * of + axis
        return rows, values, math.prod(shape)

    def start(self, i: int) -> tuple[dict[str, Any], list[str]]:
        """Make the states that a parameter lacks, in torch's order."""
        param, state = self.params[i], self.owner.state[self.params[i]]
        counter, kept = self.owner._counter, _core.RULES[self.owner.rule_name]["kept"]
        made = []
        for name in [*([counter] if counter else []), *kept]:
            if state.get(name) is None:
                exact = name != counter and self.owner._torch_class is None
                state[name] = torch.zeros((), dtype=torch.float64 if exact else _scalar_dtype())
                made.append(name)
        for name, kept_if in _core.RULES[self.owner.rule_name]["states"]:
            shape = _core.state_shape(kept_if, tuple(param.shape))
            if (
                name not in self.kept[self.group_of[i]]
                or shape is None
                or state.get(name) is not None
            ):
                continue
            if kept_if in ("rows", "columns"):
                state[name] = param.new_zeros(shape)
            else:
                state[name] = zeros(param, self.owner.state_dtype)
            made.append(name)
        if self.owner._has_master(param) and state.get("master") is None:
            (state["master"],) = _copies([param])
            made.append("master")
        return state, made

    def start_slow(self, i: int) -> tuple[dict[str, Any], list[str]]:
        """Make the slow weights of a parameter."""
        state = self.owner.state[self.params[i]]
        (state[_core.SLOW],) = _copies([self.params[i]])
        return state, [_core.SLOW]

    def undo(self, i: int, made: list[str]) -> None:
        """Remove what ``start`` made."""
        state = self.owner.state
        for name in made:
            del state[self.params[i]][name]
        if not state[self.params[i]]:
            del state[self.params[i]]

    def lay_out(self, tensor: Tensor, like: Tensor) -> Tensor:
        """Copy of a tensor with the order of elements of another."""
        with torch.no_grad():
            made = torch.empty_like(like, dtype=tensor.dtype, memory_format=torch.preserve_format)
            return made.copy_(tensor)

    def contiguous(self, tensor: Tensor) -> Tensor:
        """Copy of a tensor in C's order of elements."""
        return tensor.detach().clone(memory_format=torch.contiguous_format)

    def copy_back(self, tensor: Tensor, copied: Tensor) -> None:
        """Write what was worked out on a copy."""
        with torch.no_grad():
            tensor.copy_(copied)

    def scalar(self, value: Any) -> Tensor:
        """0-d tensor of a number, as torch keeps them."""
        return torch.tensor(float(value), dtype=_scalar_dtype())


def _scalar_dtype() -> torch.dtype:
    """Return the dtype of the numbers in torch's states."""
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32


class Optimizer(StepOptions, torch.optim.Optimizer):
    """Base of the optimizers: a ``torch.optim.Optimizer`` whose step is one call into C.

    Its subclasses are made from the rows of the rules; see :class:`fastgd.torch.SGD`.
    """

    rule_name: ClassVar[str]
    __signature__: ClassVar[Signature]
    _torch_class: ClassVar[Any]  # torch's class of that name, None if it has none
    _counter: ClassVar[str | None]  # of the steps, in a parameter's states
    _names: ClassVar[tuple[str, ...]]  # of the hyper-parameters

    ema = option_property("ema", "Moving averages of the parameters: a module, a dict or a list.")

    def __init_subclass__(cls, rule: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if rule is None:  # a subclass of SGD is SGD still
            return
        cls.rule_name = rule
        is_ours = rule in _core.RULES  # not one of the user's own
        cls._torch_class = getattr(torch.optim, cls.__name__, None) if is_ours else None
        uncounted = rule == "sgd" or (is_ours and _core.RULES[rule]["kind"] in ("matrix", "hybrid"))
        cls._counter = None if uncounted else "step"
        cls._names = tuple(defaults(rule))
        cls.__signature__ = _signature(cls._torch_class, rule)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "rule_name"):
            raise TypeError(f"{type(self).__name__} must be one of {', '.join(_RULES)}")
        given = self.__signature__.bind(*args, **kwargs).arguments
        params = given.pop("params")
        options = {name: given.pop(name, default) for name, default in _OURS.items()}
        _refuse(given)
        settings = {**defaults(self.rule_name), **dict.fromkeys((*_ONE_WAY, *_REFUSED)), **given}
        if self._torch_class is not None:  # it checks the arguments and names its groups' keys
            theirs = signature(self._torch_class).parameters
            given = {name: value for name, value in given.items() if name in theirs}
            twin = self._torch_class([torch.zeros(1, 1)], **given)
            settings = {**{n: settings[n] for n in self._names if n not in theirs}, **twin.defaults}
        hyper_values(self.rule_name, {name: plain(settings[name]) for name in self._names})
        self.t = self._skipped = 0
        self._last: tuple[float, float, float, bool] | None = None
        self._table: _Table | None = None
        self._options: dict[str, Any] = {
            **_OURS,
            "fallback": bool(options["fallback"]),
            "state_dtype": checked_state_dtype(options["state_dtype"]),
        }
        super().__init__(params, settings)
        self._configure(options)
        if self._torch_class is not None and twin.state:  # there are states before the first step
            for param, state in self._torch_class(self._params(), **given).state.items():
                self.state[param] = {
                    name: self._kept(param, name, value)
                    if self._is_ours(param, name, value)
                    else value
                    for name, value in state.items()
                }

    # ---- groups and options ----------------------------------------------------------------------

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with hyper-parameters of their own, as ``torch.optim.Optimizer`` does.

        Parameters
        ----------
        param_group : dict
            ``"params"``, and the hyper-parameters that differ from the constructor's.

        Raises
        ------
        TypeError, ValueError
            If a parameter cannot be updated in place or a value is out of its domain; nothing has
            been changed then.
        """
        super().add_param_group(param_group)
        self._table = None
        group = self.param_groups[-1]
        try:
            _refuse(group)
            hyper_values(self.rule_name, {name: plain(group[name]) for name in self._names})
            self._check_projection(group.get("projection"))
            first = sum(len(before["params"]) for before in self.param_groups[:-1])
            error = ValueError if self.rule_name in ROWS_ONLY else TypeError  # as torch
            for i, param in enumerate(group["params"]):
                name = f" ({group['param_names'][i]})" if "param_names" in group else ""
                check_shape(self.rule_name, param.shape, f"params[{first + i}]{name}")
                if not self.fallback and not fits(param, self._dtypes):
                    raise error(
                        f"params[{first + i}]{name} must be {FIT}; got {kind(param)} "
                        "(fallback=True leaves such to torch.optim)"
                    )
        except (TypeError, ValueError):
            self.param_groups.pop()
            raise
        averages = self._options["ema"]
        if self._options["ema_decay"] is not None and self._options["ema_source"] is None:
            self._options["ema"] = [*averages, *_copies(group["params"])]

    def _params(self) -> list[Tensor]:
        return [param for group in self.param_groups for param in group["params"]]

    @property
    def fallback(self) -> bool:
        """Whether torch's own class updates the parameters that cannot be updated here."""
        return bool(self._options["fallback"])

    @property
    def _step_supports_amp_scaling(self) -> bool:
        """Whether torch's GradScaler may leave the scaling to the step."""
        return not self.fallback

    def _configure(self, options: Mapping[str, Any]) -> None:
        """Check the options of a step, then set them."""
        checked = {
            **options,
            **checked_options({name: options[name] for name in OPTION_DEFAULTS}),
        }
        check_rule(self.rule_name, checked["state_dtype"])
        averaged = checked["ema_decay"] is not None
        if checked["ema"] is not None and not averaged:
            raise ValueError("ema must be None without ema_decay")
        if isinstance(checked["ema"], nn.Module | Mapping) != (checked["ema_source"] is not None):
            raise TypeError("ema must be a module or mapping if and only if ema_source is one")
        if checked["fallback"]:
            if self._torch_class is None:
                raise ValueError(f"fallback must be False: torch has no {type(self).__name__}")
            for name, default in OPTION_DEFAULTS.items():
                if name not in ("nonfinite", "report_norms") and checked[name] != default:
                    raise ValueError(
                        f"{name} must be {default} with fallback=True, whose parameters it would "
                        f"not reach; got {checked[name]!r}"
                    )
        if averaged and checked["ema"] is None:
            checked["ema"] = _copies(self._params())
        before = self._options
        self._options = checked
        try:
            self._pairs()
        except (TypeError, ValueError):
            self._options = before
            raise
        if any(checked[name] is not before[name] for name in ("ema", "ema_source")):
            self._table = None
        if checked["lookahead"] is None:
            for state in self.state.values():
                state.pop(_core.SLOW, None)
        if self._table is not None:
            hand_over(self._table, checked)

    def _pairs(self) -> tuple[list[Tensor | None], list[Any], list[Any]]:
        """Average of each parameter; (source, average) of what else is averaged, and copied."""
        params = self._params()
        averages, source = self._options["ema"], self._options["ema_source"]
        if averages is None:
            return [None] * len(params), [], []
        if source is None:
            found = list(averages)
            if len(found) != len(params):
                raise ValueError(f"ema must hold {len(params)} tensors; got {len(found)}")
            pairs = list(zip(params, found, strict=True))
        else:
            pairs = _pairs_by_name(source, averages)
        for param, average in pairs:
            dtype = computed_dtype(param)
            if average.shape != param.shape or average.dtype != dtype:
                like = param.detach().to(dtype)
                raise ValueError(f"ema must hold {kind(like)}; got {kind(average)}")
            if is_averaged(average) and not (fits(average) and is_dense(average)):
                raise TypeError(f"ema must hold dense CPU tensors; got {kind(average)}")
        by_id = {id(param): average for param, average in pairs}
        own = {id(param) for param in params}
        others = [pair for pair in pairs if id(pair[0]) not in own]
        return (
            [by_id.get(id(param)) for param in params],
            [pair for pair in others if is_averaged(pair[1])],
            [pair for pair in others if not is_averaged(pair[1])],
        )

    def _make_table(self) -> _Table:
        averages, more, self._copied = self._pairs()
        table = self._table = _Table(self, averages, more)
        hand_over(table, self._options)
        return table

    # ---- a step ----------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None, *, grad_scale: Any = None) -> Any:
        """Update all parameters that have a gradient, in one call.

        Parameters
        ----------
        closure : callable, default=None
            Works out the gradients and returns the loss; called first.
        grad_scale : float or tensor, default=None
            How many times too large the gradients are; they are divided by it in the same pass,
            and stay as they are.

        Returns
        -------
        object
            What `closure` returned, None without one.

        Raises
        ------
        TypeError, ValueError
            If a tensor does not fit; nothing has been changed then.
        NonFiniteError
            If a gradient is not finite and ``nonfinite="raise"``; nothing has been changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        own = self.__dict__
        if (found_inf := own.get("found_inf")) is not None and found_inf.item():  # by GradScaler
            self._skipped += 1
            self._last = math.nan, 1.0, math.nan, True
            return loss
        scale = 1.0 if grad_scale is None else float(grad_scale)
        if (scaler := own.get("grad_scale")) is not None:
            scale *= float(scaler)
        if self.fallback and scale != 1:
            raise ValueError(f"grad_scale must be 1 with fallback=True; got {scale}")
        table = self._table
        if table is None or not table.is_for(self.param_groups):
            table = self._make_table()
        names, seen = self._names, table.values
        for g, group in enumerate(self.param_groups):
            values = [plain(group[name]) for name in names]
            if values != seen[g]:
                table.set_group(g, values)
            projection = group.get("projection", self._options["projection"])
            if projection is not table.projections[g]:
                self._check_projection(projection)
                table.set_projection(g, projection)
                table.projections[g] = projection
        if callable(decay := self._options["ema_decay"]):
            table.set_average_weight(1.0 - checked_decay(decay(self.t + 1)))
        table.t = self.t
        table.odd.clear()
        touched = table.step_tensors(self.state, team(), scale)
        self._last = table.report()
        if touched is None:
            self._skipped += 1
            return loss
        self.t += 1
        torch.autograd.graph.increment_version(touched)
        if self._copied:
            with torch.no_grad():
                for source, average in self._copied:
                    average.copy_(source)
        if table.odd:
            self._fall_back(set(table.odd))
        return loss

    def _check_projection(self, projection: Any) -> None:
        check_projection(projection)
        if projection is not None and self.fallback:
            raise ValueError(
                f"projection must be None with fallback=True, whose parameters it would not reach; "
                f"got {projection!r}"
            )

    def _fall_back(self, odd: set[int]) -> None:
        """Let torch's own class, on the same states, update what cannot be updated here."""
        twin = self._torch_class([torch.zeros(1, 1)])
        twin.state, twin.param_groups = self.state, []
        first = 0
        for group in self.param_groups:
            members = [p for i, p in enumerate(group["params"], first) if i in odd]
            twin.param_groups.append({**group, "params": members})
            first += len(group["params"])
        twin.step()

    # ---- what there is to see --------------------------------------------------------------------

    @property
    def last_step(self) -> StepReport | None:
        """What the last step was like; None before the first."""
        return None if self._last is None else StepReport(*self._last)

    @property
    def skipped(self) -> int:
        """Steps that were left out because a gradient was not finite."""
        return self._skipped

    # ---- saved states ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the optimizer would need to go on, the averages in `ema` aside.

        Returns
        -------
        dict
            As torch's class of the same name, which can load it; ``"fastgd"`` holds what torch has
            no place for, updates done and skipped. Projections are not saved.
        """
        saved = super().state_dict()
        for group in saved["param_groups"]:
            group.pop("projection", None)
        return {**saved, "fastgd": {"t": self.t, "skipped": self._skipped}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from where another optimizer was.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`, or from torch's class of the same name.
        """
        before = self.param_groups
        super().load_state_dict(state_dict)
        if self._torch_class is None:
            self._load_kept(state_dict)
        for group, old in zip(self.param_groups, before, strict=True):
            if "projection" in old:
                group["projection"] = old["projection"]
        self._restore_states(state_dict)
        ours = state_dict.get("fastgd") or {}
        steps = [float(state.get("step", 0)) for state in self.state.values()]
        self.t = int(ours.get("t", max(steps, default=0)))
        self._skipped = int(ours.get("skipped", 0))

    def _load_kept(self, state_dict: dict[str, Any]) -> None:
        """Take the numbers that are kept as they are; torch gives them the parameter's dtype."""
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, param in zip(saved, self._params(), strict=True):
            for name in _core.RULES[self.rule_name]["kept"]:
                if (value := state_dict["state"].get(i, {}).get(name)) is not None:
                    self.state[param][name] = torch.tensor(float(value), dtype=torch.float64)

    @property
    def _dtypes(self) -> tuple[torch.dtype, ...]:
        """Dtypes that a parameter may have."""
        short = SHORT if _core.RULES[self.rule_name]["kind"] in _core.BLOCKWISE else ()
        real = self.state_dtype is not None or self.rule_name in ROWS_ONLY
        return (*DTYPES[:2], *short) if real else (*DTYPES, *short)

    def _has_master(self, param: Tensor) -> bool:
        """Whether a parameter has a float32 copy among its states."""
        return param.dtype in SHORT and self.rounding == "nearest"

    def _restore_states(self, state_dict: dict[str, Any]) -> None:
        """Take over as saved what torch has cast to the parameter's dtype."""
        numbers = [i for group in state_dict["param_groups"] for i in group["params"]]
        for i, param in zip(numbers, self._params(), strict=True):
            for name, value in state_dict["state"].get(i, {}).items():
                if self._is_ours(param, name, value):
                    self.state[param][name] = self._kept(param, name, value)

    def _is_ours(self, param: Tensor, name: str, value: Any) -> bool:
        """Whether this entry of a parameter's state has a dtype of our choice."""
        names = [*(name for name, _ in _core.RULES[self.rule_name]["states"]), "master"]
        return name in names and isinstance(value, Tensor) and fits(param, self._dtypes)

    def _kept(self, param: Tensor, name: str, value: Tensor) -> Tensor:
        """Copy of a state in the dtype that it is kept in; codes are not numbers."""
        dtype = state_dtype(param, None if name == "master" else self.state_dtype)
        coded = torch.uint8 in (value.dtype, dtype)
        return value.clone() if coded else value.to(dtype, copy=True)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("t", "_skipped", "_last", "_options")}
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._table = None
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)


# ---- parts ---------------------------------------------------------------------------------------


def _copies(params: Iterable[Tensor]) -> list[Tensor]:
    """Return copies, of the dtypes that the parameters are computed with."""
    return [
        param.detach().to(computed_dtype(param), copy=True, memory_format=torch.preserve_format)
        for param in params
    ]


def _pairs_by_name(
    source: nn.Module | Mapping[str, Tensor], averages: nn.Module | Mapping[str, Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Pair the parameters and buffers of two modules, or the tensors of two mappings, by name."""

    def tensors(module: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        if isinstance(module, Mapping):
            return module
        return {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }

    have, want = tensors(averages), tensors(source)
    if have.keys() != want.keys():
        raise ValueError(
            "ema must have the parameters and buffers of ema_source; they differ in "
            f"{sorted(have.keys() ^ want.keys())[:3]}"
        )
    pairs = {id(want[name]): (want[name], have[name]) for name in want}
    return list(pairs.values())


def _refuse(settings: Mapping[str, Any]) -> None:
    for name in _REFUSED:
        if settings.get(name):
            raise ValueError(f"{name} must be False: the step is outside of autograd and CUDA")


def _signature(torch_class: type | None, rule: str) -> Signature:
    """Signature of a rule's class: torch's arguments, or ours as torch has them, then our own."""
    if torch_class is not None:
        parameters = [
            p.replace(annotation=Parameter.empty)
            for p in signature(torch_class).parameters.values()
        ]
    else:
        parameters = list(signature_of(rule).parameters.values())
        parameters = [p for p in parameters if p.name not in OPTION_DEFAULTS]
        for name in (*_ONE_WAY, *_REFUSED):
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=None))
    known = {p.name for p in parameters}
    for name, default in {**defaults(rule), **_OURS}.items():
        if name not in known:
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default))
    return Signature(parameters)


_ENTRIES = {
    "params": ("iterable of Tensor, of (name, Tensor), or of dict", "As torch takes them."),
    "foreach": ("bool", "Of no effect: there is one implementation, and it takes the whole list."),
    "fused": ("bool", "Of no effect, as `foreach`."),
    "capturable": ("bool", "Must be False."),
    "differentiable": ("bool", "Must be False."),
    "ema": (
        "Module, dict or list of Tensor",
        "Where the averages are: a copy of the module or dict `ema_source`, or a tensor for each\n"
        "parameter; by default copies of the parameters.",
    ),
    "ema_source": (
        "Module or dict of Tensor",
        "The module that is trained, if `ema` is one: its other parameters and its buffers are\n"
        "averaged, too, and copied where they are no floating-point numbers. Or a dict of the\n"
        "tensors to average, parameters and others, with the keys of `ema`.",
    ),
    "fallback": (
        "bool",
        "Leave parameters that cannot be updated here (other dtypes, devices and layouts, sparse\n"
        "gradients) to torch's own class; by default they are refused. `nonfinite` does not\n"
        "watch them.",
    ),
}


def _doc(cls: type[Optimizer], doc: str) -> str:
    """Docstring of a class: its summary, its parameters, an example."""
    summary = doc.partition("\n\nParameters\n")[0]
    lines = [summary, "", "For torch's CPU tensors, which are updated in place.", "", "Parameters"]
    lines.append("-" * len(lines[-1]))
    for key, parameter in cls.__signature__.parameters.items():
        if key in OPTIONS:
            lines.append(option_entry(key))
        elif key in _ENTRIES:
            lines.append(entry(key, _ENTRIES[key][0], parameter.default, _ENTRIES[key][1]))
        else:
            lines.append(hyper_entry(key, parameter.default))
    sparse = "\n>>> w.grad = w.grad.to_sparse()" if cls.rule_name in ROWS_ONLY else ""
    example = _EXAMPLE.format(name=cls.__name__, sparse=sparse) if cls.__name__ in _RULES else ""
    return "\n".join(lines) + _ERRORS + example


_ERRORS = """

Raises
------
TypeError, ValueError
    If a parameter cannot be updated in place, or a value is out of its domain.
"""
_EXAMPLE = """
Examples
--------
>>> import torch
>>> from fastgd.torch import {name}
>>> w = torch.tensor([[5.0]], dtype=torch.float64, requires_grad=True)
>>> opt = {name}([w], lr=0.1)
>>> loss = (w - 2).square().sum()
>>> loss.backward(){sparse}
>>> opt.step()
>>> bool(w < 5)
True
"""


def _make(made: type[optim.Optimizer]) -> type[Optimizer]:
    """Class of the rule that one of fastgd.optim has."""
    name = made.__name__
    body = {"__module__": __name__, "__qualname__": name}
    cls = new_class(
        name, (Optimizer,), {"rule": made.rule_name}, lambda namespace: namespace.update(body)
    )
    cls.__doc__ = _doc(cls, made.__doc__ or "")
    return cls


def register(name: str, **rule: Any) -> type[Optimizer]:
    """Make an optimizer of a compiled function that updates some elements of a parameter.

    Parameters
    ----------
    name : str
        Of the class that is returned.
    **rule
        As for :func:`fastgd.optim.register`.

    Returns
    -------
    type
        A subclass of :class:`Optimizer`, as the classes here.

    Raises
    ------
    TypeError, ValueError
        If a name, a default or a function is none that can be used.
    """
    return _make(optim.register(name, **rule))


globals().update({name: _make(made) for name, made in _RULES.items()})

if TYPE_CHECKING:

    def __getattr__(name: str) -> type[Optimizer]: ...
