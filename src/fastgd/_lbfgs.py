"""L-BFGS over one flat vector: the algorithm, which ``optim`` and ``torch`` share.

Nocedal & Wright, Numerical Optimization, 2nd ed., 2006, section 7.2, with the numerics of
``torch.optim.LBFGS``. What is done to whole vectors is done in C; here are the decisions.

All that is carried on is one immutable record, `Carried`, which is replaced as a whole. What it
names is not written to as long as it does. So an exception in the closure, or between two lines of
an iteration, leaves a state that goes on from the last accepted iterate as if nothing had been.
"""

import math
import operator
from collections.abc import Mapping
from inspect import cleandoc
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from . import _core
from ._hypers import Array, number
from ._line_search import Point, strong_wolfe
from ._saved import fill
from ._step_options import entry

_Class = TypeVar("_Class")

CURVATURE = 1e-10  # a pair with y . s below this is not remembered

# ---- settings ------------------------------------------------------------------------------------

DEFAULTS: dict[str, Any] = {
    "lr": 1.0,
    "max_iter": 20,
    "max_eval": None,
    "tolerance_grad": 1e-7,
    "tolerance_change": 1e-9,
    "history_size": 100,
    "line_search_fn": None,
}


_MEANINGS = {
    "lr": (
        "float",
        "Length of a step in units of the quasi-Newton step, or where the line search begins.",
    ),
    "max_iter": ("int", "Iterations in one call of ``step``, at most."),
    "max_eval": (
        "int",
        "Evaluations in one call of ``step`` after which no further iteration begins; None takes\n"
        "``max_iter * 5 // 4``.",
    ),
    "tolerance_grad": ("float", "A step ends where no element of the gradient is larger."),
    "tolerance_change": (
        "float",
        "A step ends where no parameter, or where the loss changes by no more.",
    ),
    "history_size": (
        "int",
        "How many pairs of vectors are remembered. Memory for one more is allocated at once.",
    ),
    "line_search_fn": (
        '{None, "strong_wolfe"}',
        "How far to go along a direction: always `lr`, or to a point that satisfies the strong\n"
        "Wolfe conditions.",
    ),
    "nonfinite": (
        '{"raise", "skip"}',
        "What to do about a loss or gradient that is NaN or infinite: raise\n"
        ":class:`NonFiniteError`, or end the step; both with the parameters at the last point\n"
        "that was accepted. Keyword-only.",
    ),
}


def with_settings(cls: type[_Class]) -> type[_Class]:
    """Put what the arguments mean into a class's docstring, in the place of ``{settings}``."""
    defaults = {**DEFAULTS, "nonfinite": "raise"}
    entries = [entry(name, kind, defaults[name], text) for name, (kind, text) in _MEANINGS.items()]
    cls.__doc__ = cleandoc(cls.__doc__ or "").replace("{settings}", "\n".join(entries))
    return cls


class Settings(NamedTuple):
    """The arguments of ``torch.optim.LBFGS``, checked; `max_eval` is a number."""

    lr: float
    max_iter: int
    max_eval: int
    tolerance_grad: float
    tolerance_change: float
    history_size: int
    line_search_fn: str | None


def checked_settings(given: Mapping[str, Any]) -> Settings:
    """Return the settings, checked, with the default of `max_eval` worked out."""
    search = given["line_search_fn"]
    if search not in (None, "strong_wolfe"):
        raise ValueError(f'line_search_fn must be None or "strong_wolfe"; got {search!r}')
    max_iter = _count("max_iter", given["max_iter"])
    max_eval = given["max_eval"]
    return Settings(
        number("lr", given["lr"], "nonnegative"),
        max_iter,
        max_iter * 5 // 4 if max_eval is None else _count("max_eval", max_eval),
        number("tolerance_grad", given["tolerance_grad"], "nonnegative"),
        number("tolerance_change", given["tolerance_change"], "nonnegative"),
        _count("history_size", given["history_size"]),
        search,
    )


def checked_nonfinite(value: Any) -> str:
    """Return the option, checked."""
    if value not in ("raise", "skip"):
        raise ValueError(f'nonfinite must be "raise" or "skip"; got {value!r}')
    return str(value)


def _count(name: str, value: Any) -> int:
    try:
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer; got {value!r}") from None
    if count < 1:
        raise ValueError(f"{name} must be 1 or more; got {value!r}")
    return count


# ---- what it works on ----------------------------------------------------------------------------


class Space(Protocol):
    """Parameters, wherever they are, and what is to be minimised."""

    def load(self, x: Array) -> None:
        """Copy the parameters, one after the other, to `x`."""

    def store(self, x: Array) -> None:
        """Copy `x` to the parameters."""

    def evaluate(self, grad: Array) -> float:
        """Return the loss at the parameters as they are; write its gradient to `grad`."""


class NotFinite(Exception):  # noqa: N818 - what users see is NonFiniteError
    """A loss or gradient is not finite; the parameters are at the last accepted iterate.

    Attributes
    ----------
    loss : float
        The loss.
    grad : ndarray
        The gradient.
    evaluation : int
        Which evaluation of the step it was, from 1 on.
    """

    def __init__(self, loss: float, grad: Array, evaluation: int) -> None:
        super().__init__(loss, grad, evaluation)
        self.loss = loss
        self.grad = grad
        self.evaluation = evaluation

    def as_error(
        self, shapes: list[tuple[int, ...]], names: list[str] | None, step: int
    ) -> _core.NonFiniteError:
        """Return the error that names the parameter, of those with these shapes."""
        end = 0
        for i, shape in enumerate(shapes):
            begin, end = end, end + math.prod(shape)
            if not _core.all_finite(self.grad[begin:end]):
                name = names[i] if names else None
                what = _core.not_finite_text(i, name, self.grad[begin:end].reshape(shape))
                return self._error(what, i, name, step)
        return self._error(f"the loss must be finite; got {self.loss}", -1, None, step)

    def _error(self, what: str, index: int, name: str | None, step: int) -> _core.NonFiniteError:
        error = _core.NonFiniteError(
            f"{what} in evaluation {self.evaluation} of step {step}. The parameters are at the "
            "last point accepted; nonfinite='skip' ends such a step there."
        )
        error.index, error.name, error.step, error.evaluation = index, name, step, self.evaluation
        return error


class Carried(NamedTuple):
    """What is carried from iteration to iteration, and from step to step.

    `slots` are the pairs in the history, oldest first, and `ro` their 1 / y . s; the last step was
    ``t * d``, away from a point with the gradient `grad` and the loss `loss`, to `x`.
    """

    x: Array
    n_iter: int = 0
    d: Array | None = None
    t: float = 0.0
    slots: tuple[int, ...] = ()
    ro: tuple[float, ...] = ()
    h_diag: float = 1.0
    al: tuple[float, ...] | None = None
    grad: Array | None = None
    loss: float = math.nan


# ---- the algorithm -------------------------------------------------------------------------------


class Minimizer:
    """L-BFGS for vectors of `n` elements, and its memory, which is allocated here.

    Parameters
    ----------
    n : int
        Number of parameters.
    dtype : dtype
        float32 or float64.
    history_size : int
        How many pairs are remembered.
    """

    def __init__(self, n: int, dtype: DTypeLike, history_size: int) -> None:
        self.history = _core.History(history_size, n, np.dtype(dtype))
        # in use at once: a point and its trial; a direction and the next; the gradients of a
        # point, of both ends of an interval and of a trial in it
        self._points, self._directions, self._grads = (
            [np.empty(n, dtype) for _ in range(count)] for count in (2, 2, 4)
        )
        self.carried = Carried(self._points[0])
        self.func_evals = 0
        self.evaluations = 0  # in this step
        self.n_threads = 0
        self._tried = math.nan  # the spare point is that far along the direction

    def step(self, space: Space, how: Settings) -> float:
        """Take up to ``how.max_iter`` iterations; return the loss before the first.

        Whatever happens, the parameters are at the last accepted iterate afterwards.

        Raises
        ------
        NotFinite
            If a loss or a gradient is not.
        """
        self.evaluations = 0
        space.load(self.carried.x)
        first = here = self._evaluate(space)
        try:
            if here.largest > how.tolerance_grad:
                for n in range(1, how.max_iter + 1):
                    after = self._iterate(space, how, here, n == how.max_iter)
                    if after is None:
                        break
                    here = after
        finally:
            space.store(self.carried.x)
        return first.loss

    def _iterate(self, space: Space, how: Settings, here: Point, last: bool) -> Point | None:
        """Do one iteration; return the new point, None if it was the last one."""
        slope = self._turn(here)
        begun = self.carried.n_iter > 0
        if slope > -how.tolerance_change:
            self.carried = self.carried._replace(n_iter=self.carried.n_iter + 1)
            return None
        direction: Any = self.carried.d
        reach, _ = _core.magnitudes(direction, n_threads=self.n_threads)
        t = how.lr if begun else min(1.0, 1.0 / here.total) * how.lr
        if how.line_search_fn is not None:
            after = strong_wolfe(
                lambda t, held: self._try(space, t, held),
                here._replace(t=0.0, slope=slope),
                t,
                reach=reach,
                tolerance_change=how.tolerance_change,
                max_trials=how.max_eval - self.evaluations,
            )
        elif last:  # the next step evaluates this point
            after = here._replace(t=t)
        else:
            after = self._try(space, t, ())
        self._accept(after.t)
        done = (
            last
            or self.evaluations >= how.max_eval
            or after.largest <= how.tolerance_grad
            or abs(after.t) * reach <= how.tolerance_change
            or abs(after.loss - here.loss) < how.tolerance_change
        )
        return None if done else after

    def _turn(self, here: Point) -> float:
        """Remember the step that led here, and make the next direction; return the slope along it.

        Until a step along it has been accepted, its length is 0, and going on from here means to
        make the same direction again.
        """
        self._tried = math.nan
        was = self._remember(here) if self.carried.n_iter else Carried(self.carried.x)
        d = next(d for d in self._directions if d is not self.carried.d)
        slope, al = self.history.direction(
            d, here.grad, was.slots, was.ro, was.h_diag, n_threads=self.n_threads
        )
        self.carried = was._replace(
            d=d, t=0.0, al=al if was.n_iter else None, grad=here.grad, loss=here.loss
        )
        return slope

    def _remember(self, here: Point) -> Carried:
        """Return what is carried with the pair s, y of the last step, if its curvature is good."""
        was, size = self.carried, self.history.size
        slot = next(slot for slot in range(size + 1) if slot not in was.slots)
        ys, yy = self.history.put(
            slot, here.grad, was.grad, was.d, was.t, n_threads=self.n_threads
        )  # eq. (7.18)
        if not ys > CURVATURE:
            return was
        return was._replace(
            slots=(*was.slots, slot)[-size:],
            ro=(*was.ro, 1.0 / ys)[-size:],  # eq. (7.17)
            h_diag=ys / yy,  # eq. (7.20)
        )

    def _go(self, t: float) -> Array:
        """Return the point that far along the direction."""
        point = next(point for point in self._points if point is not self.carried.x)
        if t != self._tried:
            self._tried = math.nan
            _core.move(point, self.carried.x, self.carried.d, t, n_threads=self.n_threads)
            self._tried = t
        return point

    def _accept(self, t: float) -> None:
        was = self.carried
        self.carried = was._replace(x=self._go(t), t=t, n_iter=was.n_iter + 1)

    def _try(self, space: Space, t: float, held: tuple[Point, ...]) -> Point:
        """Evaluate the point that far along the direction."""
        space.store(self._go(t))
        point = self._evaluate(space, held)
        slope = _core.dot(point.grad, self.carried.d, n_threads=self.n_threads)
        return point._replace(t=t, slope=slope)

    def _evaluate(self, space: Space, held: tuple[Point, ...] = ()) -> Point:
        """Evaluate the parameters as they are; the gradients of the points in `held` stay."""
        kept = [self.carried.grad, *(point.grad for point in held)]
        grad = next(g for g in self._grads if all(g is not k for k in kept))
        loss = space.evaluate(grad)
        self.func_evals += 1
        self.evaluations += 1
        largest, total = _core.magnitudes(grad, n_threads=self.n_threads)
        if not (math.isfinite(loss) and math.isfinite(largest)) or math.isnan(total):
            raise NotFinite(loss, grad, self.evaluations)
        return Point(0.0, loss, math.nan, grad, largest, total)

    # ---- saved states ----------------------------------------------------------------------------

    def saved(self) -> dict[str, Any]:
        """Return what is carried by torch's names: the live arrays; numbers are Python's."""
        was = self.carried
        found: dict[str, Any] = {"func_evals": self.func_evals, "n_iter": was.n_iter}
        if not was.n_iter:
            return found
        found |= {
            "d": was.d,
            "t": was.t,
            "old_dirs": [self.history.changes[slot] for slot in was.slots],
            "old_stps": [self.history.steps[slot] for slot in was.slots],
            "ro": list(was.ro),
            "H_diag": was.h_diag,
            "prev_flat_grad": was.grad,
            "prev_loss": was.loss,
        }
        if was.al is not None:
            found["al"] = [*was.al, *[None] * (self.history.size - len(was.al))]
        return found

    @classmethod
    def from_saved(
        cls, n: int, dtype: DTypeLike, history_size: int, given: Mapping[str, Any]
    ) -> "Minimizer":
        """Return a minimizer that goes on from a state as ``saved`` or torch gives it.

        Raises
        ------
        LookupError, TypeError, ValueError
            If it is none, or does not fit.
        """
        made = cls(n, dtype, history_size)
        made.func_evals, n_iter = int(given.get("func_evals", 0)), int(given.get("n_iter", 0))
        if not n_iter:
            return made
        parts = given["old_stps"], given["old_dirs"], given["ro"]
        if len({len(part) for part in parts}) != 1:
            raise ValueError(
                "state_dict must hold as many of old_stps, old_dirs and ro; got "
                f"{', '.join(str(len(part)) for part in parts)}"
            )
        pairs = list(zip(*parts, strict=True))[-history_size:]
        for slot, (s, y, _) in enumerate(pairs):
            fill(made.history.steps[slot], s, f"old_stps[{slot}]")
            fill(made.history.changes[slot], y, f"old_dirs[{slot}]")
        d, grad = made._directions[0], made._grads[0]
        fill(d, given["d"], "d")
        fill(grad, given["prev_flat_grad"], "prev_flat_grad")
        al = [float(a) for a in given.get("al") or () if a is not None]
        made.carried = Carried(
            made.carried.x,
            n_iter,
            d,
            float(given["t"]),
            tuple(range(len(pairs))),
            tuple(float(ro) for _, _, ro in pairs),
            float(given["H_diag"]),
            tuple(al[: len(pairs)]) if "al" in given else None,
            grad,
            float(given["prev_loss"]),
        )
        return made
