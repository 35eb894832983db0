"""Stochastic weight averaging, as a decay of `ema_decay`."""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral


@dataclass(frozen=True)
class _EqualAverage:
    """Decay with which the average of so many parameters takes in one more."""

    start: int
    every: int

    def __call__(self, step: int) -> float:
        count, rest = divmod(step - self.start, self.every)
        return 1.0 if rest or count < 1 else 1.0 - 1.0 / count


def swa(start: int = 0, every: int = 1) -> Callable[[int], float]:
    """Average the parameters of some steps, all with the same weight (SWA).

    Give it as `ema_decay`: ``ema`` is then the mean of the parameters after steps
    ``start + every``, ``start + 2 * every`` and so on, as ``torch.optim.swa_utils.AveragedModel``
    has it; before the first of them, the parameters to begin with. Other steps do not touch
    ``ema``. The learning rate that goes with it is :func:`fastgd.schedules.swa`.

    Parameters
    ----------
    start : int, default=0
        Steps to leave out, at first.
    every : int, default=1
        Average the parameters of every so-manieth step after that.

    Returns
    -------
    callable
        step -> decay. It can be pickled.

    Raises
    ------
    TypeError, ValueError
        If these are no whole numbers, or too small.

    References
    ----------
    Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, "Averaging weights leads to wider optima and
    better generalization", UAI 2018, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.optim import SGD, swa
    >>> w = np.array([0.0])
    >>> opt = SGD(w, lr=1.0, ema_decay=swa(start=2))
    >>> for _ in range(5):
    ...     opt.step(np.array([-1.0]))
    >>> w, opt.ema  # the mean of 3, 4 and 5
    (array([5.]), [array([4.])])
    """
    for name, value, least in (("start", start, 0), ("every", every, 1)):
        if not isinstance(value, Integral):
            raise TypeError(f"{name} must be a whole number; got {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")
    return _EqualAverage(int(start), int(every))
