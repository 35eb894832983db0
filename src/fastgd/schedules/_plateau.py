"""The schedules with a state."""

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from ._base import choice, real, whole


@dataclass
class Adaptive:
    """scikit-learn's "adaptive": constant, but divided by five whenever training stalls."""

    lr: float

    def __call__(self, step: Any) -> Any:
        """Return the present value, in the shape of `step`."""
        return np.full(np.shape(step), self.lr, dtype=np.float64)[()]

    def lower(self) -> bool:
        """Lower the value, or say that it is low enough to stop."""
        if self.lr <= 1e-6:
            return False
        self.lr /= 5
        return True


@dataclass
class ReduceLROnPlateau:
    """Multiply by `factor` when a metric has stopped improving.

    The one schedule with a state: tell it the metric after each epoch with `step`, and save it
    with `state_dict`. As a schedule it gives its present value, whatever the step, so that it can
    stand for a hyper-parameter and in `product`.

    Parameters
    ----------
    lr : float
        The value; changed in place.
    mode : {"min", "max"}, default="min"
        Whether lower metrics are better, or higher ones.
    factor : float, default=0.1
        What `lr` is multiplied with, from 0 to less than 1.
    patience : int, default=10
        Epochs without improvement that are put up with; the next one reduces.
    threshold : float, default=1e-4
        What counts as improvement, at least 0.
    threshold_mode : {"rel", "abs"}, default="rel"
        Whether `threshold` is a part of the best metric or a difference from it.
    cooldown : int, default=0
        Epochs after a reduction in which nothing is counted.
    min_lr : float, default=0.0
        What `lr` does not go below.
    eps : float, default=1e-8
        A reduction by no more than this is not made.

    Attributes
    ----------
    best : float
        Best metric so far.
    num_bad_epochs, cooldown_counter, last_epoch : int
        Epochs without improvement, epochs of the cooldown that are left, and all epochs.

    Examples
    --------
    >>> from fastgd.schedules import ReduceLROnPlateau
    >>> plateau = ReduceLROnPlateau(1.0, factor=0.5, patience=1)
    >>> [plateau.step(loss) for loss in (3.0, 2.0, 2.0, 2.0, 2.0)]
    [1.0, 1.0, 1.0, 0.5, 0.5]
    >>> plateau([0, 1])
    array([0.5, 0.5])
    """

    lr: float
    mode: str = "min"
    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    eps: float = 1e-8
    best: float = field(init=False)
    num_bad_epochs: int = field(default=0, init=False)
    cooldown_counter: int = field(default=0, init=False)
    last_epoch: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._check()
        self.best = math.inf if self.mode == "min" else -math.inf

    def _check(self) -> None:
        self.lr = real("lr", self.lr)
        choice("mode", self.mode, ("min", "max"))
        self.factor = real("factor", self.factor, 0)
        if self.factor >= 1:
            raise ValueError(f"factor must be below 1; got {self.factor!r}")
        self.patience = whole("patience", self.patience, 0)
        self.threshold = real("threshold", self.threshold, 0)
        choice("threshold_mode", self.threshold_mode, ("rel", "abs"))
        self.cooldown = whole("cooldown", self.cooldown, 0)
        self.min_lr = real("min_lr", self.min_lr)
        self.eps = real("eps", self.eps, 0)

    def __call__(self, step: Any) -> Any:
        """Return the present value, in the shape of `step`."""
        return np.full(np.shape(step), self.lr, dtype=np.float64)[()]

    def step(self, metric: float) -> float:
        """Take note of an epoch's metric.

        Parameters
        ----------
        metric : float
            The metric. NaN is no improvement.

        Returns
        -------
        float
            `lr` for the next epoch.
        """
        metric = float(metric)
        self.last_epoch += 1
        if self._improves(metric):
            self.best = metric
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            reduced = max(self.lr * self.factor, self.min_lr)
            if self.lr - reduced > self.eps:
                self.lr = reduced
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        return self.lr

    def _improves(self, metric: float) -> bool:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            border = self.best * (1.0 + sign * self.threshold)
        else:
            border = self.best + sign * self.threshold
        return metric > border if self.mode == "max" else metric < border

    def state_dict(self) -> dict[str, Any]:
        """Return settings and state, as numbers and strings.

        Returns
        -------
        dict
        """
        return asdict(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on where another one was saved.

        Parameters
        ----------
        state_dict : dict
            What its `state_dict` returned.

        Raises
        ------
        TypeError, ValueError
            If a name is missing or unknown, or a setting not allowed; nothing is loaded then.
        """
        names = {f.name for f in fields(self)}
        if wrong := sorted(names ^ set(state_dict)):
            raise ValueError(
                f"state_dict must hold just {', '.join(sorted(names))}; missing or unknown: "
                f"{', '.join(wrong)}"
            )
        trial = copy(self)
        trial.__dict__.update(state_dict)
        trial._check()
        self.__dict__.update(trial.__dict__)
