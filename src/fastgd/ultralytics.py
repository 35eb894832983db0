"""Trains Ultralytics' models with fastgd's step: any task, any of its optimizers and all of ours.

One line more than without::

    from ultralytics import YOLO
    from fastgd.ultralytics import trainer

    model = YOLO("yolo26n.yaml")
    model.train(data="coco8.yaml", device="cpu", optimizer="AdamW", trainer=trainer(model))

Clipping, guard, update and Ultralytics' moving average of the model are one call into C. Everything
else is Ultralytics': its groups, schedules, warm-up and checkpoints, which either side resumes.
Needs the extra ``[ultralytics]``, and changes nothing of Ultralytics or torch outside of the class
that it makes.
"""

from importlib.util import find_spec
from typing import Any

from . import torch as fast

if find_spec("ultralytics") is None:
    raise ImportError('fastgd.ultralytics needs ultralytics: pip install "fastgd[ultralytics]"')

__all__ = ["trainer"]

_STATES = "fastgd_states"  # where a checkpoint has what Ultralytics must not round


def trainer(
    model: Any,
    *,
    max_norm: float | None = 10.0,
    clip_value: float | None = None,
    nonfinite: str = "skip",
    **settings: Any,
) -> type:
    """Make a trainer class whose step is fastgd's, for the argument ``trainer`` of ``model.train``.

    The argument ``optimizer`` of ``model.train`` may then be any name that Ultralytics has, of
    which ``auto`` chooses as it does there, or any class of :mod:`fastgd.torch`, in whatever case.
    The groups are Ultralytics' own. A rule that it does not have gets its learning rate, weight
    decay and momentum, the latter as the first of its ``betas`` if it has such.

    Parameters
    ----------
    model : ultralytics.YOLO or other model of Ultralytics, or a trainer class
        The model that is to be trained, whose task says which trainer this one extends; or that
        trainer.
    max_norm : float, default=10.0
        Scale all gradients down so that their Euclidean norm together is at most this; None leaves
        them. Ultralytics' own is 10. Keyword-only, as the following.
    clip_value : float, default=None
        Cut each element of the gradients (after `max_norm`) to ``[-clip_value, clip_value]``.
    nonfinite : {"skip", "raise", "apply"}, default="skip"
        What to do about a gradient that is NaN or infinite: leave the step out and name its
        parameters in Ultralytics' log, end the training with :class:`fastgd.NonFiniteError`, or
        take the step as Ultralytics does.
    **settings
        Other arguments of the rule's class in :mod:`fastgd.torch`, such as ``eps=1e-6`` or
        ``lookahead=(5, 0.5)``. Hyper-parameters go before those of Ultralytics, in all groups.

    Returns
    -------
    type
        A subclass of the trainer of the model's task. Its ``optimizer`` is one of
        :mod:`fastgd.torch`, whose ``last_step`` and ``skipped`` a callback may read.

    Raises
    ------
    TypeError
        If `model` is neither a model nor a trainer class of Ultralytics.
    ValueError
        If `settings` ask for an average beside Ultralytics'.

    Notes
    -----
    A step that is left out changes neither parameters, states nor averages. Statistics of the
    batch norms that the same forward pass has spoilt are taken back from the averages.

    Training is on the CPU: on another device building the optimizer raises ValueError. So does an
    `optimizer` that neither side has.

    Examples
    --------
    Of a trainer's class, and of a model:

    >>> from fastgd.ultralytics import trainer
    >>> from ultralytics.engine.trainer import BaseTrainer
    >>> trainer(BaseTrainer, max_norm=1.0).__name__
    'FastBaseTrainer'
    >>> from ultralytics import YOLO
    >>> model = YOLO("yolo26n.yaml")  # doctest: +SKIP
    >>> model.train(data="coco8.yaml", epochs=3, device="cpu", optimizer="Lion", lr0=1e-4,
    ...             trainer=trainer(model, max_norm=1.0))  # doctest: +SKIP
    """
    from ultralytics.engine.trainer import BaseTrainer

    base = model
    if not isinstance(model, type) and hasattr(model, "task_map"):
        base = model.task_map[model.task]["trainer"]
    if not (isinstance(base, type) and issubclass(base, BaseTrainer)):
        raise TypeError(f"model must be a model or a trainer class of Ultralytics; got {model!r}")
    for name in ("ema", "ema_source", "ema_decay"):
        if name in settings:
            raise ValueError(f"{name} must be left to Ultralytics, whose average the steps keep")
    options = {"max_norm": max_norm, "clip_value": clip_value, "nonfinite": nonfinite, **settings}
    return type(f"Fast{base.__name__}", (_Step, base), {"optimizer_options": options})


class _Step:
    """The part of a trainer that is fastgd's; goes before Ultralytics' class."""

    optimizer_options: dict[str, Any]
    _averaged: tuple[Any, bool] = (None, False)  # what the optimizer averages into, and whether

    def build_optimizer(
        self: Any, model: Any, name: str = "auto", *args: Any, **kwargs: Any
    ) -> fast.Optimizer:
        """Build the optimizer as Ultralytics does, and return fastgd's in its place."""
        from ultralytics.utils import LOGGER

        if self.device.type != "cpu":
            raise ValueError(f"device must be 'cpu' for fastgd's trainer; got '{self.device}'")
        build = super().build_optimizer  # type: ignore[misc]
        try:
            stock = build(model, name, *args, **kwargs)
        except NotImplementedError:  # not one of Ultralytics' names
            rule = _rule_class(name)
            stock = build(model, "SGD", *args, **kwargs)
            groups, settings = [_of_rule(group, rule, stock) for group in stock.param_groups], {}
        else:
            rule = _rule_class(type(stock).__name__)
            groups, settings = stock.param_groups, _beside_groups(stock, rule)
        names = {id(param): key for key, param in _unwrapped(model).named_parameters()}
        settings |= self.optimizer_options
        made = rule([_named(group, names, settings) for group in groups], **settings)
        if rule.__name__ != type(stock).__name__:
            made.register_state_dict_post_hook(_set_states_apart)
            made.register_load_state_dict_pre_hook(_put_states_back)
        LOGGER.info(
            f"optimizer: the steps are those of fastgd.torch.{rule.__name__}, with "
            + ", ".join(f"{key}={value}" for key, value in settings.items())
        )
        return made

    def optimizer_step(self: Any) -> None:
        """Unscale, check, clip, update and average in one call; say so if a step is left out."""
        optimizer, ema = self.optimizer, self.ema
        averaged = ema, bool(ema and ema.enabled)
        if averaged != self._averaged:
            _average_into(optimizer, ema if averaged[1] else None, _unwrapped(self.model))
            self._averaged = averaged
        self.scaler.step(optimizer)
        self.scaler.update()
        if optimizer.last_step.skipped:
            self._report_skipped()
        elif averaged[1]:
            ema.updates += 1
        optimizer.zero_grad()

    def _report_skipped(self: Any) -> None:
        """Name the parameters whose gradients are not finite, and mend what else went wrong."""
        from ultralytics.utils import LOGGER

        found = []
        for name, param in _unwrapped(self.model).named_parameters():
            if param.grad is not None and not param.grad.isfinite().all():
                bad = param.grad[~param.grad.isfinite()]
                found.append(f"{bad[0]} in {name} ({len(bad)} of {param.numel()})")
        if len(found) > 2:  # those nearest to the input and to the loss
            found[1:-1] = [f"in {len(found) - 2} more parameters"]
        step = self.optimizer.t + self.optimizer.skipped
        LOGGER.warning(
            f"fastgd: step {step} (epoch {self.epoch + 1}) is left out, gradients must be finite; "
            f"got {', '.join(found)}"
        )
        if mended := _mend_buffers(self.optimizer):
            LOGGER.warning(f"fastgd: taken back from the averages: {', '.join(mended)}")


def _unwrapped(model: Any) -> Any:
    """Return a model without what DistributedDataParallel or compilation put around it."""
    from ultralytics.utils.torch_utils import unwrap_model

    return unwrap_model(model)


# ---- from one optimizer to another ---------------------------------------------------------------


def _rule_class(name: str) -> type[fast.Optimizer]:
    """Class of `fastgd.torch` of this name, in whatever case."""
    found = {
        key.lower(): value
        for key, value in vars(fast).items()
        if isinstance(value, type) and hasattr(value, "rule_name")
    }
    if name.lower() not in found:
        names = ", ".join(sorted(value.__name__ for value in found.values()))
        raise ValueError(f"optimizer must be auto or one of {names}; got {name!r}") from None
    return found[name.lower()]


def _beside_groups(stock: Any, rule: type[fast.Optimizer]) -> dict[str, Any]:
    """Return what is an attribute there and an argument of our class, as MuSGD has."""
    return {
        key: value for key, value in vars(stock).items() if key in rule.__signature__.parameters
    }


def _of_rule(group: dict[str, Any], rule: type[fast.Optimizer], stock: Any) -> dict[str, Any]:
    """Group of SGD for another rule: what Ultralytics adds to groups, and what the rule knows."""
    takes = rule.__signature__.parameters
    own = {key: value for key, value in group.items() if key not in stock.defaults}
    own |= {key: group[key] for key in ("lr", "weight_decay", "momentum") if key in takes}
    if "betas" in takes:
        own["betas"] = (group["momentum"], *takes["betas"].default[1:])
    return own


def _named(
    group: dict[str, Any], names: dict[int, str], settings: dict[str, Any]
) -> dict[str, Any]:
    """Group with names for its parameters and without what the constructor is told."""
    own = {key: value for key, value in group.items() if key not in settings}
    return {**own, "param_names": [names[id(param)] for param in group["params"]]}


# ---- averages ------------------------------------------------------------------------------------


def _average_into(optimizer: fast.Optimizer, ema: Any, model: Any) -> None:
    """Have each step average what Ultralytics does, into its copy of the model."""
    options: dict[str, Any] = dict.fromkeys(("ema", "ema_source", "ema_decay"))
    if ema is not None:
        averages = ema.ema.state_dict(keep_vars=True)
        averages = {name: value for name, value in averages.items() if value.is_floating_point()}
        have = model.state_dict(keep_vars=True)
        options["ema"], options["ema_source"] = averages, {name: have[name] for name in averages}
        options["ema_decay"] = lambda step: ema.decay(ema.updates + 1)
    optimizer._configure({**optimizer._options, **options})


def _mend_buffers(optimizer: fast.Optimizer) -> list[str]:
    """Overwrite statistics that are not finite with their averages; return their names."""
    sources, averages = (optimizer._options[key] or {} for key in ("ema_source", "ema"))
    trained = {id(param) for param in optimizer._params()}
    mended = [
        name
        for name, value in sources.items()
        if id(value) not in trained and not value.isfinite().all()
    ]
    for name in mended:
        sources[name].copy_(averages[name])
    return mended


# ---- checkpoints ---------------------------------------------------------------------------------
# Ultralytics rounds the states in its files to float16, but for those whose names it knows to need
# more. Rules that it does not know may underflow there, so it does not get to see their states.


def _set_states_apart(optimizer: Any, saved: dict[str, Any]) -> dict[str, Any]:
    return {**saved, "state": {}, _STATES: saved["state"]}


def _put_states_back(optimizer: Any, saved: dict[str, Any]) -> dict[str, Any]:
    return {**saved, "state": saved.get(_STATES, saved["state"])}
