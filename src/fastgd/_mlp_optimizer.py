"""What takes the steps of a multilayer perceptron: scikit-learn's solvers, or any optimizer.

scikit-learn's momentum has the learning rate inside, v = momentum v - lr g, and ours, as torch's,
does not: v = -lr b. The two are the same until the learning rate changes; then b is rescaled, so
that v stays. Its Adam adds epsilon before the correction: our rule "sparse_adam", on all rows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._hypers import VECTOR_RULES
from .nn import Network
from .optim import CLASSES, Optimizer
from .schedules import SCHEDULES
from .schedules._plateau import Adaptive

__all__ = ["Settings", "Steps"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Settings:
    """What an estimator's parameters say about its steps."""

    solver: str
    optimizer: Any  # None, a name, (name, dict), or a function of named parameters
    learning_rate: str
    lr: float
    schedule: Callable[[Any], Any] | None
    power_t: float
    momentum: float
    nesterov: bool
    betas: tuple[float, float]
    eps: float
    max_norm: float | None
    clip_value: float | None
    ema_decay: Any

    @classmethod
    def of(cls, model: Any) -> "Settings":
        """Read the parameters of an estimator; refuse what does not go together."""
        settings = cls(
            solver=model.solver,
            optimizer=model.optimizer,
            learning_rate=model.learning_rate,
            lr=float(model.learning_rate_init),
            schedule=model.schedule,
            power_t=model.power_t,
            momentum=float(model.momentum),
            nesterov=bool(model.nesterovs_momentum and model.momentum > 0),
            betas=(float(model.beta_1), float(model.beta_2)),
            eps=float(model.epsilon),
            max_norm=model.max_norm,
            clip_value=model.clip_value,
            ema_decay=model.ema_decay,
        )
        settings._check()
        return settings

    @property
    def options(self) -> dict[str, Any]:
        """Options of a step that are on."""
        names = ("max_norm", "clip_value", "ema_decay")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def changes_rate(self) -> bool:
        """Whether `learning_rate` has a say: not with scikit-learn's Adam."""
        return self.solver == "sgd" or self.optimizer is not None

    @property
    def holds_rate(self) -> bool:
        """Whether the momentum has the learning rate inside."""
        return self.solver == "sgd" and self.optimizer is None and self.schedule is None

    def _check(self) -> None:
        if self.solver == "lbfgs":
            for name, value in (
                ("optimizer", self.optimizer),
                ("schedule", self.schedule),
                *self.options.items(),
            ):
                if value is not None:
                    raise ValueError(f"{name} must be None with solver='lbfgs'; got {value!r}")
        if self.schedule is not None and self.changes_rate and self.learning_rate != "constant":
            raise ValueError(
                f"learning_rate must be 'constant' with a schedule; got {self.learning_rate!r}"
            )
        if callable(self.optimizer):
            given = {"schedule": self.schedule, **self.options}
            for name, value in given.items():
                if value is not None:
                    raise ValueError(
                        f"{name} must be None where optimizer is a function, which has its own; "
                        f"got {value!r}"
                    )
            if self.learning_rate != "constant":
                raise ValueError(
                    "learning_rate must be 'constant' where optimizer is a function; got "
                    f"{self.learning_rate!r}"
                )
        elif self.optimizer is not None:
            self._rule()

    def _rule(self) -> tuple[str, dict[str, Any]]:
        """Return a rule, and its hyper-parameters other than the learning rate."""
        if self.optimizer is None:
            if self.solver == "sgd":
                return "sgd", {"momentum": self.momentum, "nesterov": self.nesterov}
            return "sparse_adam", {"betas": self.betas, "eps": self.eps}
        given = (self.optimizer, {}) if isinstance(self.optimizer, str) else self.optimizer
        rule, hypers = given if len(given) == 2 else (None, None)
        if rule not in VECTOR_RULES or not isinstance(hypers, dict) or "lr" in hypers:
            raise ValueError(
                f"optimizer must be one of {', '.join(VECTOR_RULES)}; a pair of one and a dict of "
                "its hyper-parameters other than lr (see learning_rate_init); or a function that "
                f"makes an Optimizer of named parameters; got {self.optimizer!r}"
            )
        return rule, hypers

    def make(self, network: Network) -> Optimizer:
        """Make an optimizer of the parameters of a network."""
        params = list(zip(network.names, network.parameters, strict=True))
        if not callable(self.optimizer):
            rule, hypers = self._rule()
            rate = self.lr if self.schedule is None else self.schedule
            return CLASSES[rule](params, lr=rate, **hypers, **self.options)
        made = self.optimizer(params)
        if not isinstance(made, Optimizer):
            raise TypeError(
                f"optimizer must return an Optimizer of fastgd.optim; got {type(made).__name__}"
            )
        return made


class Steps:
    """An optimizer of a network's parameters, and the way of its learning rate.

    Attributes
    ----------
    learning_rate : float
        Learning rate, of what has no schedule.
    """

    def __init__(self, settings: Settings, network: Network) -> None:
        self.settings = settings
        self.learning_rate = settings.lr
        self.optimizer = settings.make(network)

    def __getstate__(self) -> dict[str, Any]:
        """Return what makes the same optimizer once `attach` has been called."""
        rest = {name: value for name, value in self.__dict__.items() if name != "optimizer"}
        return {**rest, "_saved": self.optimizer.state_dict()}

    def attach(self, network: Network) -> None:
        """Go on with the parameters of a network, after having been pickled."""
        self.optimizer = self.settings.make(network)
        self.optimizer.load_state_dict(self.__dict__.pop("_saved"))

    def is_for(self, settings: Settings) -> bool:
        """Whether it takes the steps that are asked for now."""
        mine = self.settings
        return (mine.solver, mine.optimizer) == (settings.solver, settings.optimizer)

    # ---- the learning rate -----------------------------------------------------------------------

    def epoch_ends(self, t: int) -> None:
        """Follow "invscaling", which counts rows."""
        if self.settings.changes_rate and self.settings.learning_rate == "invscaling":
            schedule = SCHEDULES["invscaling"](self.settings.lr, self.settings.power_t)
            self._set_rate(float(schedule(t)))

    def lower(self) -> bool:
        """Lower the learning rate instead of stopping, if that is its way."""
        adaptive = Adaptive(self.learning_rate)
        wanted = self.settings.changes_rate and self.settings.learning_rate == "adaptive"
        if not (wanted and adaptive.lower()):
            return False
        self._set_rate(adaptive.lr)
        return True

    def _set_rate(self, rate: float) -> None:
        if self.settings.holds_rate and self.settings.momentum:
            for state in self.optimizer.state:
                state["momentum_buffer"] *= self.learning_rate / rate
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.learning_rate = rate

    # ---- parameters that are averages ------------------------------------------------------------

    def averages(self) -> list[tuple[Array, Array]]:
        """Return each parameter whose average is the result, with that."""
        optimizer = self.optimizer
        averages = optimizer.ema
        if averages is None and hasattr(optimizer, "eval_params"):
            averages = optimizer.eval_params()
        return [] if averages is None else list(zip(optimizer.params, averages, strict=True))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Have the averages in the place of the parameters for a while."""
        pairs = self.averages()
        own = [param.copy() for param, _ in pairs]
        for param, average in pairs:
            np.copyto(param, average)
        try:
            yield
        finally:
            for (param, _), value in zip(pairs, own, strict=True):
                np.copyto(param, value)
