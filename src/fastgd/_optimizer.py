"""What all optimizers have in common: hyper-parameters, groups, options, saved states.

The classes in ``optim`` add a rule each. One ``step`` is one call into C for the whole list of
parameters; nothing here runs once per parameter and step.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from inspect import Parameter, Signature, cleandoc
from operator import or_
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import _core
from ._checkpoint import Files
from ._hypers import (
    Array,
    check_shape,
    defaults,
    elements,
    hyper_values,
    kept_states,
    public,
)
from ._low_precision import (
    Storage,
    check_rule,
    check_units,
    computed_copies,
    computed_dtype,
    computed_zeros,
)
from ._rows import TAKES_ROWS, WHOLE, RowGradient, fit_rows, row_gradient
from ._saved import Saved, fill, read
from ._step_options import (
    OPTION_DEFAULTS,
    OPTIONS,
    StepOptions,
    StepReport,
    check_projection,
    checked_decay,
    checked_options,
    hand_over,
    hyper_entry,
    option_entry,
)

Schedule = Callable[[int], Any]

# ---- groups --------------------------------------------------------------------------------------


class ParamGroup(MutableMapping[str, Any]):
    """Parameters that share hyper-parameters: one of ``Optimizer.param_groups``.

    A mapping like torch's: ``group["lr"] = 0.1`` takes effect in the next step, and keys of one's
    own may be added. A hyper-parameter may be a function of the number of updates done, such as
    those of :mod:`fastgd.schedules`; reading it gives the value of the next step.
    ``group["frozen"] = True`` lets the group's parameters rest; ``group["projection"]``, where it
    is set, goes before the optimizer's.
    """

    def __init__(self, owner: "Optimizer", index: int, plan: "_PlannedGroup") -> None:
        self._owner = owner
        self._index = index
        self.members = plan.members
        self._own = dict(plan.own)
        self._frozen = plan.frozen
        self.schedules = plan.schedules

    def __getitem__(self, key: str) -> Any:
        owner = self._owner
        if key == "params":
            return [owner.params[i] for i in self.members]
        if key == "param_names" and owner.names:
            return [owner.names[i] for i in self.members]
        if key == "frozen":
            return self._frozen
        if key in defaults(owner.rule_name):
            return public(owner.rule_name, self._values())[key]
        return self._own[key]

    def __setitem__(self, key: str, value: Any) -> None:
        if key in ("params", "param_names"):
            raise KeyError(f"{key} of a group must stay; add_param_group adds parameters")
        if key == "frozen":
            self._owner._freeze(self.members, bool(value))
            self._frozen = bool(value)
        elif key == "projection":
            check_projection(value)
            check_units(self["params"], {key: value})
            self._own[key] = value
            self._owner._hand_over_projections()
        elif key in defaults(self._owner.rule_name):
            self._owner._change(self._index, {key: value})
        else:
            self._own[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self._own:
            raise KeyError(f"{key} of a group must stay")
        del self._own[key]
        self._owner._hand_over_projections()

    def __iter__(self) -> Iterator[str]:
        yield "params"
        if self._owner.names:
            yield "param_names"
        yield from defaults(self._owner.rule_name)
        yield "frozen"
        yield from self._own

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        settings = {key: value for key, value in self.items() if key != "params"}
        return f"ParamGroup({len(self.members)} params, {settings})"

    def _given(self) -> dict[str, Any]:
        """Hyper-parameters by their public names, schedules as they are."""
        row = _core.RULES[self._owner.rule_name]["hypers"]
        values: list[Any] = [self._owner.hyper(self._index, k) for k in range(len(row))]
        for k, schedule in self.schedules.items():
            values[k] = schedule
        return public(self._owner.rule_name, values)

    def _saved(self) -> dict[str, Any]:
        """Keys of the user's own, to be saved."""
        return {key: value for key, value in self._own.items() if key != "projection"}

    def _with_names(self) -> list[Any]:
        """Return the parameters as the constructor takes them."""
        names, params = self._owner.names, self._owner.params
        return [(names[i], params[i]) if names else params[i] for i in self.members]

    def _values(self) -> list[float]:
        """Hyper-parameters of the next step, in the order of the row."""
        hypers = _core.RULES[self._owner.rule_name]["hypers"]
        values = [self._owner.hyper(self._index, k) for k in range(len(hypers))]
        for k, schedule in self.schedules.items():
            values[k] = schedule(self._owner.t)
        return values


def _hyper_property(name: str) -> property:
    """Property that reads one hyper-parameter of the first group and sets it in all."""

    def get(self: "Optimizer") -> Any:
        return self.param_groups[0][name]

    def set_(self: "Optimizer", value: Any) -> None:
        self._change_all({name: value})

    return property(
        get, set_, doc=f"Hyper-parameter `{name}` of the first group; assigning sets it in all."
    )


CLASSES: dict[str, type["Optimizer"]] = {}
"""The class of each rule."""


# ---- the base ------------------------------------------------------------------------------------


class Optimizer(StepOptions, Files, _core.Stepper):
    """Base of the optimizers: everything but the rule.

    Subclasses name their rule, ``class SGD(Optimizer, rule="sgd")``, and get its signature and
    the parameters' part of its docstring.
    """

    rule_name: ClassVar[str]
    __signature__: ClassVar[Signature]
    param_groups: list[ParamGroup]
    _sums: list[Array] | None  # of the gradients accumulated,
    _touched: list[bool]  # which parameters got some,
    _row_sums: dict[int, RowGradient]  # the same of gradients of rows,
    _count: int  # and how often
    _options: dict[str, Any]  # of a step
    _storage: Storage  # what the states are kept in

    def __init_subclass__(cls, rule: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if rule is None:  # a subclass of SGD is SGD still
            return
        cls.rule_name = rule
        if rule in _core.RULES:
            CLASSES.setdefault(rule, cls)
        cls.__signature__ = signature_of(rule)
        cls.__doc__ = _document(cls)
        for name in defaults(rule):
            setattr(cls, name, _hyper_property(name))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not hasattr(self, "rule_name"):
            raise TypeError(f"{type(self).__name__} must be subclassed with a rule, as SGD is")
        settings = self.__signature__.bind(*args, **kwargs).arguments
        params = settings.pop("params")
        options = {name: settings.pop(name, default) for name, default in OPTION_DEFAULTS.items()}
        plan = self._plan(_groups_of(params), settings, 0)
        checked = checked_options(options)
        check_rule(self.rule_name, checked["state_dtype"])
        check_units(plan.params, checked)
        averages = None if checked["ema_decay"] is None else computed_copies(plan.params)
        slow = None if checked["lookahead"] is None else computed_copies(plan.params)
        self._storage = Storage(self.rule_name, checked["state_dtype"], checked["rounding"])
        self._adopt(plan, self._states_for(plan.groups, plan.params), averages, slow, checked)

    def _plan(
        self, groups: Iterable[Mapping[str, Any]], settings: Mapping[str, Any], t: int
    ) -> "_Plan":
        """Lay out the groups' parameters one after the other; check all but the arrays."""
        params: list[Array] = []
        names: list[str] = []
        planned = []
        for group in groups:
            own = dict(group)
            arrays, labels = _named(own.pop("params"), len(params))
            for i, array in enumerate(arrays, len(params)):
                check_shape(self.rule_name, array.shape, f"params[{i}]")
            own.pop("param_names", None)
            frozen = bool(own.pop("frozen", False))
            check_projection(own.get("projection"))
            check_units(arrays, {"projection": own.get("projection")})
            given = {**settings, **{k: own.pop(k) for k in defaults(self.rule_name) if k in own}}
            values, schedules = self._resolve(given, t)
            members = range(len(params), len(params) + len(arrays))
            planned.append(_PlannedGroup(members, values, schedules, frozen, own))
            params += arrays
            names += labels
        if not params:
            raise ValueError("params must hold at least one array; got an empty list")
        if bool(names) and len(names) != len(params):
            raise ValueError("params must be named all or none, as (name, array)")
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"params must have different names; got {twice!r} twice")
        return _Plan(params, names, planned)

    def _states_for(
        self, groups: Sequence["_PlannedGroup"], params: Sequence[Array]
    ) -> list[tuple[Array | None, ...]]:
        """Make the states of the groups' parameters."""
        values = [group.values for group in groups for _ in group.members]
        kept = [self._storage.kept(own, p) for own, p in zip(values, params, strict=True)]
        return self._storage.make(kept, params)

    def _adopt(
        self,
        plan: "_Plan",
        states: list[tuple[Array | None, ...]],
        averages: list[Array] | None,
        slow: list[Array] | None,
        options: Mapping[str, Any],
    ) -> None:
        """Check the arrays, then begin with them, at step 0."""
        owner_of = [g for g, group in enumerate(plan.groups) for _ in group.members]
        hypers = [group.values for group in plan.groups]
        super().__init__(self.rule_name, plan.params, owner_of, hypers, states, averages, slow)
        self.names = plan.names or None
        self._sums, self._touched, self._row_sums, self._count = None, [], {}, 0
        self.param_groups = [ParamGroup(self, g, group) for g, group in enumerate(plan.groups)]
        self._configure(options)
        for group in self.param_groups:
            self._freeze(group.members, group._frozen)

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add parameters with hyper-parameters of their own.

        Parameters
        ----------
        param_group : dict
            ``"params"``, and the hyper-parameters that differ from the first group's.

        Raises
        ------
        TypeError, ValueError
            As for the constructor; nothing has been changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.optim import SGD
        >>> opt = SGD(np.ones(3), lr=0.5)
        >>> opt.add_param_group({"params": np.zeros((2, 2)), "lr": 0.25})
        >>> [group["lr"] for group in opt.param_groups]
        [0.5, 0.25]
        """
        before = [
            {**group._own, **group._given(), "params": group._with_names(), "frozen": group._frozen}
            for group in self.param_groups
        ]
        (added,) = _groups_of([param_group])
        plan = self._plan([*before, added], self.param_groups[0]._given(), self.t)
        new = plan.params[len(self.params) :]
        states = self.states + self._states_for(plan.groups[-1:], new)
        averages = None if self.averages is None else self.averages + computed_copies(new)
        slow = None if self.slow is None else self.slow + computed_copies(new)
        options, groups = self._options, self.param_groups
        grown = type(self).__new__(type(self))
        Optimizer._adopt(
            grown, plan, states, averages, slow, options
        )  # raises if the arrays do not fit
        progress = [self.progress(i) for i in range(len(self.params))]
        t, skipped = self.t, self.skipped
        self._adopt(plan, states, averages, slow, options)
        self.t, self.skipped = t, skipped
        self.param_groups[:-1] = groups
        for i, what in enumerate(progress):
            self.set_progress(i, *what)

    # ---- hyper-parameters and options ------------------------------------------------------------

    def _resolve(self, given: Mapping[str, Any], t: int) -> tuple[list[float], dict[int, Schedule]]:
        """Values for step `t` in the order of the row, and which of them are schedules."""
        schedules = {
            k: value
            for k, (_, value) in enumerate(elements(self.rule_name, given))
            if callable(value)
        }
        return hyper_values(self.rule_name, _at(self.rule_name, given, t)), schedules

    def _settings(self, group: int = 0) -> dict[str, Any]:
        return public(self.rule_name, self.param_groups[group]._values())

    def _change_all(self, changes: Mapping[str, Any]) -> None:
        for group in self.param_groups:
            self._resolve({**group._given(), **changes}, self.t)
        for g in range(len(self.param_groups)):
            self._change(g, changes)

    def _change(self, g: int, changes: Mapping[str, Any]) -> None:
        """Check a group's hyper-parameters as a whole, then set them; make states now kept."""
        group = self.param_groups[g]
        values, schedules = self._resolve({**group._given(), **changes}, self.t)
        self._make_missing_states(group, values)
        group.schedules = schedules
        for k, value in enumerate(values):
            self.set_hyper(g, k, value)
        self._note_what_is_dynamic()

    def _make_missing_states(self, group: ParamGroup, values: Sequence[float]) -> None:
        """Make the states that these hyper-parameters keep and the group does not have."""
        needed = kept_states(self.rule_name, values)
        if not any(n and not has for n, has in zip(needed, self._kept_by(group), strict=True)):
            return
        states = list(self.states)
        changed = []
        for i in group.members:
            param = self.params[i]
            (fresh,) = self._storage.make([self._storage.kept(values, param)], [param])
            merged = tuple(
                n if old is None else old for old, n in zip(states[i], fresh, strict=True)
            )
            if any(a is not b for a, b in zip(merged, states[i], strict=True)):
                changed.append(i)
            states[i] = merged
        self.set_buffers(states, self.averages, self.slow)
        for i in changed:
            t, _, kept = self.progress(i)
            self.set_progress(i, t, t, kept)

    def _kept_by(self, group: ParamGroup) -> list[bool]:
        """Which of the row's states the group's parameters have; they all have the same."""
        states = _core.RULES[self.rule_name]["states"]
        if not group.members:
            return [True for _ in states]
        first = group.members[0]
        shape = self.params[first].shape
        return [
            state is not None or _core.state_shape(kept_if, shape) is None
            for state, (_, kept_if) in zip(self.states[first], states, strict=False)
        ]

    def _configure(self, options: Mapping[str, Any]) -> None:
        """Check the options of a step, then set them."""
        checked = checked_options(options)
        check_units(self.params, checked)
        averages = self._kept_if(checked["ema_decay"], self.averages)
        slow = self._kept_if(checked["lookahead"], self.slow)
        if averages is not self.averages or slow is not self.slow:
            self.set_buffers(self.states, averages, slow)
        self._options = checked
        hand_over(self, checked)
        self._hand_over_projections()
        self._note_what_is_dynamic()

    def _kept_if(self, option: Any, kept: list[Array] | None) -> list[Array] | None:
        """Return the arrays of an option that is on: those that are kept, or new ones."""
        if option is None:
            return None
        return computed_copies(self.params) if kept is None else kept

    def _hand_over_projections(self) -> None:
        for g, group in enumerate(self.param_groups):
            self.set_projection(g, group._own.get("projection", self._options["projection"]))

    def _note_what_is_dynamic(self) -> None:
        self.dynamic = callable(self._options["ema_decay"]) or any(
            group.schedules for group in self.param_groups
        )

    def before_step(self) -> None:
        """Set what depends on the number of the step; all is checked before anything is set."""
        decay = self._options["ema_decay"]
        weight = 1.0 - checked_decay(decay(self.t + 1)) if callable(decay) else None
        values = {
            g: hyper_values(self.rule_name, public(self.rule_name, group._values()))
            for g, group in enumerate(self.param_groups)
            if group.schedules
        }
        for g, numbers in values.items():
            self._make_missing_states(self.param_groups[g], numbers)
        if weight is not None:
            self.set_average_weight(weight)
        for g, numbers in values.items():
            for k, value in enumerate(numbers):
                self.set_hyper(g, k, value)

    def _freeze(self, members: Iterable[int], frozen: bool) -> None:
        for i in members:
            self.set_frozen(i, frozen)

    # ---- gradients of several batches ------------------------------------------------------------

    def accumulate(self, grads: Any) -> int:
        """Add gradients to those that the next ``step()`` will take the mean of.

        Parameters
        ----------
        grads : ndarray or sequence of ndarray
            As for :meth:`step`. A parameter whose gradient is None in all of them will rest.

        Returns
        -------
        int
            How many have been added up since the last step.

        Raises
        ------
        TypeError, ValueError
            If the gradients do not fit the parameters; nothing has been changed then.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.optim import SGD
        >>> w = np.array([5.0])
        >>> opt = SGD(w, lr=0.1)
        >>> [opt.accumulate(np.array([g])) for g in (2.0, 4.0)]
        [1, 2]
        >>> opt.step()
        >>> w
        array([4.7])
        """
        alone = isinstance(grads, np.ndarray) or self.is_rows(grads)
        given: list[Any] = [grads] if alone else list(grads)
        if len(given) != len(self.params):
            raise ValueError(f"grads must hold {len(self.params)} arrays; got {len(given)}")
        if not self._count:
            self._touched, self._row_sums = [False] * len(self.params), {}
        sums = dict(self._row_sums)
        for i, (grad, param) in enumerate(zip(given, self.params, strict=True)):
            has_rows = self.is_rows(grad)
            if has_rows:
                indices, values, _ = self.rows_of(i, grad)
                more = RowGradient(indices.copy(), values.copy())
                sums[i] = sums[i] + more if i in sums else more
                given[i] = None
            if self._touched[i] if has_rows else grad is not None and i in sums:
                raise TypeError(f"grads[{i}] must have some rows in all batches, or in none")
            if given[i] is not None and (
                not isinstance(grad, np.ndarray | np.generic)
                or grad.shape != param.shape
                or grad.dtype not in (param.dtype, computed_dtype(param))
            ):
                raise TypeError(
                    f"grads[{i}] must be None or an array of {param.dtype} of shape {param.shape}; "
                    f"got {getattr(grad, 'dtype', type(grad).__name__)} of shape {np.shape(grad)}"
                )
        if self._sums is None:
            self._sums = computed_zeros(self.params)
        self._row_sums = sums
        for i, grad in enumerate(given):
            if grad is not None:
                before = self._sums[i] if self._touched[i] else 0  # what was there is forgotten
                np.add(before, grad, out=self._sums[i])
                self._touched[i] = True
        self._count += 1
        return self._count

    def accumulated(self) -> tuple[list[Array | RowGradient | None], int]:
        """Hand the sums over to ``step``, whatever becomes of it, and count anew."""
        if not self._count or self._sums is None:
            raise ValueError("grads must be given, or some accumulated before; got None")
        count, self._count = self._count, 0
        return [
            total if touched else self._row_sums.get(i)
            for i, (total, touched) in enumerate(zip(self._sums, self._touched, strict=True))
        ], count

    def zero_grad(self) -> None:
        """Forget what has been accumulated since the last step."""
        self._count = 0

    # ---- gradients of some rows ------------------------------------------------------------------

    def is_rows(self, grad: Any) -> bool:
        """Whether a gradient has some rows only."""
        return isinstance(grad, RowGradient) or hasattr(grad, "tocsr")

    def rows_of(self, i: int, grad: Any) -> tuple[Array, Array, Array]:
        """Rows of such a gradient, ascending, their values, checked, and what holds them."""
        needs = TAKES_ROWS.get(self.rule_name)
        name = type(self).__name__
        if needs is None:
            raise TypeError(f"grads[{i}] must be an array, {name} takes no rows; got {grad!r:.80}")
        values = next(group for group in self.param_groups if i in group.members)
        if self.rule_name == "adagrad":
            needs = (*needs, "initial_accumulator_value")  # rows that come late would lack it
        for key in needs:
            if values[key]:
                raise ValueError(f"{key} must be 0 with gradients of rows; got {values[key]}")
        for key in WHOLE:
            if self._options[key]:
                raise ValueError(f"{key} must be off with gradients of rows")
        rows = row_gradient(grad)
        assert rows is not None
        fitted = fit_rows(rows, self.params[i], f"grads[{i}]")
        holder = grad.values if isinstance(grad, RowGradient) else grad.data
        return fitted.indices, fitted.values, holder

    # ---- what there is to see --------------------------------------------------------------------

    @property
    def ema(self) -> list[Array] | None:
        """Moving averages of the parameters: the live arrays; None without `ema_decay`."""
        return self.averages

    @property
    def last_step(self) -> StepReport | None:
        """What the last step was like; None before the first."""
        if not self.t and not self.skipped:
            return None
        return StepReport(*self.report())

    @property
    def state(self) -> list[dict[str, Array]]:
        """The states of each parameter by name, as torch names them: the live arrays.

        With `lookahead` the slow weights are there, too, as ``"slow_param"``.
        """
        names = self._storage.names
        found = [
            {name: a for name, a in zip(names, states, strict=True) if a is not None}
            for states in self.states
        ]
        for states, slow in zip(found, self.slow or (), strict=self.slow is not None):
            states[_core.SLOW] = slow
        return found

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self._settings().items())
        return f"{type(self).__name__}({len(self.params)} params, {settings})"

    # ---- saved states ----------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the optimizer would need to go on: a copy.

        Returns
        -------
        dict
            In torch's layout: ``state`` maps a parameter's index to ``step`` and its states,
            ``param_groups`` is a list of dicts of hyper-parameters. ``fastgd`` holds what torch
            has no place for: updates done and skipped, and the moving averages.

        Notes
        -----
        A schedule is saved by its present value; the optimizer that loads the dict keeps its own,
        and its projections, which are not saved.

        Examples
        --------
        >>> import numpy as np
        >>> from fastgd.optim import AdamW
        >>> opt = AdamW(np.zeros(3))
        >>> opt.state_dict()["param_groups"][0]["betas"]
        (0.9, 0.999)
        """
        kept_names = _core.RULES[self.rule_name]["kept"]
        state, since = {}, []
        for i, arrays in enumerate(self.state):
            t, made, kept = self.progress(i)
            since.append(made)
            state[i] = (
                {"step": t}
                | {name: a.copy() for name, a in arrays.items()}
                | dict(zip(kept_names, kept, strict=False))
            )
        groups = [
            self._settings(g) | group._saved() | {"params": list(group.members)}
            for g, group in enumerate(self.param_groups)
        ]
        frozen = [group._frozen for group in self.param_groups]
        more = {"t": self.t, "skipped": self.skipped, "since": since, "frozen": frozen}
        if self.averages is not None:
            more["ema"] = [a.copy() for a in self.averages]
        return {"state": state, "param_groups": groups, "fastgd": more}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from where another optimizer of the same rule and shapes was.

        Parameters
        ----------
        state_dict : dict
            From :meth:`state_dict`.

        Raises
        ------
        ValueError, TypeError
            If it does not fit; nothing has been changed then.
        """
        try:
            saved = read(self, state_dict)
        except (LookupError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(
                f"state_dict must be from the state_dict() of {type(self).__name__}; got {error!r}"
            ) from error
        values = [hyper_values(self.rule_name, settings) for settings in saved.settings]
        states = self._saved_states(saved, values)
        averages = self.averages and computed_copies(self.params)
        for i, average in enumerate(averages or ()):
            if saved.averages is not None:
                fill(average, saved.averages[i], f"ema[{i}]")
        slow = self.slow and computed_copies(self.params)
        for i, weights in enumerate(slow or ()):
            if _core.SLOW in saved.states[i]:
                fill(weights, saved.states[i][_core.SLOW], f"slow weights {i}")
        self.set_buffers(states, averages, slow)
        for g, group in enumerate(self.param_groups):
            for k, value in enumerate(values[g]):
                if k not in group.schedules:
                    self.set_hyper(g, k, value)
            group._own.update(saved.own[g])
            if saved.frozen:
                group["frozen"] = saved.frozen[g]
        for i in range(len(self.params)):
            self.set_progress(i, saved.steps[i], saved.since[i], saved.kept[i])
        self.t, self.skipped = saved.t, saved.skipped

    def _saved_states(
        self, saved: "Saved", values: Sequence[Sequence[float]]
    ) -> list[tuple[Array | None, ...]]:
        """Copy the saved states: those that the hyper-parameters keep, and those that pause."""
        names = self._storage.names
        kept = []
        for g, group in enumerate(self.param_groups):
            saved_too = [any(name in saved.states[i] for i in group.members) for name in names[:-1]]
            for i in group.members:
                *needed, master = self._storage.kept(values[g], self.params[i])
                kept.append([*map(or_, needed, saved_too), master])
        states = self._storage.make(kept, self.params)
        for i, arrays in enumerate(states):
            for name, array in zip(names, arrays, strict=True):
                if array is not None:
                    fill(array, saved.states[i].get(name), f"{name} for params[{i}]")
        return states


# ---- parts ---------------------------------------------------------------------------------------


def signature_of(rule: str) -> Signature:
    """Signature of a rule's class: `params`, torch's arguments in torch's order, our options."""
    parameters = [Parameter("params", Parameter.POSITIONAL_OR_KEYWORD)]
    by_keyword = False
    for name, default in defaults(rule).items():
        by_keyword |= name == "maximize"  # as in torch, it and what follows it
        kind = Parameter.KEYWORD_ONLY if by_keyword else Parameter.POSITIONAL_OR_KEYWORD
        parameters.append(Parameter(name, kind, default=default))
    parameters += [
        Parameter(name, Parameter.KEYWORD_ONLY, default=default)
        for name, default in OPTION_DEFAULTS.items()
    ]
    return Signature(parameters)


_ERRORS = """\
Raises
------
TypeError, ValueError
    If a parameter cannot be updated in place, two overlap in memory, or a value is out of its
    domain.
"""
_EXAMPLE = """\
Examples
--------
>>> import numpy as np
>>> from {module} import {name}
>>> w = np.array([1.0, -2.0])
>>> opt = {name}(w, lr=0.1)
>>> for _ in range(3):
...     opt.step(w.copy())
>>> bool(abs(w[1]) < 2)
True
"""


def _document(cls: type[Optimizer]) -> str:
    """Put what the rule's row knows, and an example if there is none, into a class's docstring."""
    summary, notes, rest = cleandoc(cls.__doc__ or cls.__name__).partition("\nNotes\n-----\n")
    parameters = f"Parameters\n----------\n{_parameters_text(cls.rule_name)}\n"
    text = f"{summary.rstrip()}\n\n{parameters}\n{_ERRORS}{notes}{rest.rstrip()}\n"
    if "\nExamples\n--------\n" not in text and cls.rule_name in CLASSES:
        text += "\n" + _EXAMPLE.format(module=cls.__module__, name=cls.__name__)
    return text


def _parameters_text(rule: str) -> str:
    """Return the numpydoc entries of a rule's parameters."""
    lines = [
        "params : ndarray or iterable of ndarray, of (name, ndarray), or of dict",
        "    C-contiguous, writeable, float32, float64, float16 or bfloat16 (of ``ml_dtypes``), of",
        '    any shape; updated in place. Dicts are groups: ``"params"``, and the hyper-parameters',
        "    that differ from the arguments.",
    ]
    lines += [hyper_entry(name, default) for name, default in defaults(rule).items()]
    lines += [option_entry(name) for name in OPTIONS]
    return "\n".join(lines)


def _at(rule: str, given: Mapping[str, Any], t: int) -> dict[str, Any]:
    """Hyper-parameters with the schedules among them worked out for update `t`."""

    def at(value: Any) -> Any:
        return value(t) if callable(value) else value

    return {
        name: tuple(map(at, value)) if isinstance(value, tuple | list) else at(value)
        for name, value in given.items()
    }


def _groups_of(params: Any) -> list[dict[str, Any]]:
    """Bring what a user gives for `params` into the form of torch's groups."""
    if isinstance(params, np.ndarray):
        return [{"params": [params]}]
    if not isinstance(params, Iterable):
        raise TypeError(
            f"params must be an array or an iterable of arrays; got {type(params).__name__}"
        )
    items = list(params)
    if items and all(isinstance(item, Mapping) for item in items):
        for g, group in enumerate(items):
            if "params" not in group:
                raise ValueError(f'params[{g}] must have the key "params"; got {list(group)}')
        return [dict(group) for group in items]
    return [{"params": items}]


def _named(params: Any, first: int) -> tuple[list[Array], list[str]]:
    """Split a group's parameters into arrays and names."""
    if isinstance(params, np.ndarray):
        params = [params]
    arrays: list[Array] = []
    names: list[str] = []
    for i, item in enumerate(params, first):
        array = item
        if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            names.append(item[0])
            array = item[1]
        if not isinstance(array, np.ndarray):
            raise TypeError(f"params[{i}] must be a NumPy array; got {type(array).__name__}")
        arrays.append(array)
    return arrays, names


class _PlannedGroup(NamedTuple):
    """What a group is to be."""

    members: range
    values: list[float]
    schedules: dict[int, Schedule]
    frozen: bool
    own: dict[str, Any]


class _Plan(NamedTuple):
    """What an optimizer is to be."""

    params: list[Array]
    names: list[str]
    groups: list[_PlannedGroup]
