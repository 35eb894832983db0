"""Who looks on while linear models are trained: lines that are printed, a bar, the user's code.

Each is a function of the result so far that is called after every epoch (`train.Watcher`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._watching import bar, listed
from .train import Problem, Result, Watcher

__all__ = ["Progress", "watchers"]


@dataclass(frozen=True)
class Progress:
    """What a callback is given after each epoch.

    Attributes
    ----------
    epoch : int
        Epochs done in this fit, from 1 on.
    objective : float
        Training objective of the epoch, as in ``loss_curve_``.
    validation_score : float or None
        Score on the rows held out, if there are any, as in ``validation_curve_``.
    coef, intercept : ndarray of shape (n_outputs, n_features) and (n_outputs,)
        Copies of the parameters; a row for each class if there are more than two, or for each
        target.
    """

    epoch: int
    objective: float
    validation_score: float | None
    coef: NDArray[Any]
    intercept: NDArray[Any]


def _mean_of_last(curves: Sequence[list[float]]) -> float:
    return float(np.mean([curve[-1] for curve in curves]))


def _calling(callback: Callable[[Progress], bool | None]) -> Watcher:
    """Show each epoch to a callback."""

    def call(result: Result) -> bool:
        parts = [np.split(p.params, [-p.n_classes]) for p in result.problems]
        scores = [p.scores for p in result.problems]
        progress = Progress(
            epoch=result.n_iter,
            objective=_mean_of_last([p.curve for p in result.problems]),
            validation_score=_mean_of_last(scores) if scores[0] else None,
            coef=np.concatenate([w.reshape(len(b), -1) for w, b in parts]),
            intercept=np.concatenate([b for _, b in parts]),
        )
        return bool(callback(progress))

    return call


class _Printer:
    """Print each epoch in scikit-learn's words."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, result: Result) -> None:
        """Print the epoch of each problem that took part in it."""
        print(f"-- Epoch {result.n_iter}")
        for problem in result.problems:
            if len(problem.curve) == result.n_iter:
                self._print(problem, result)

    def _print(self, problem: Problem, result: Result) -> None:
        seconds = time.perf_counter() - self.start
        weights = problem.params[: -problem.n_classes].astype(np.float64)
        score = f", Validation score: {problem.scores[-1]:f}" if problem.scores else ""
        name = f"{problem.label}: " if len(result.problems) > 1 else ""
        print(
            f"{name}Norm: {np.linalg.norm(weights):.2f}, NNZs: {np.count_nonzero(weights)}, "
            f"Bias: {problem.params[-1]:.6f}, T: {problem.t - problem.first_t}, "
            f"Avg. loss: {problem.losses[-1]:f}, Objective: {problem.objective:f}{score}"
        )
        print(f"Total training time: {seconds:.2f} seconds.")
        if problem.done:
            print(f"Convergence after {result.n_iter} epochs took {seconds:.2f} seconds")


@contextmanager
def watchers(verbose: int | str, callbacks: Any, max_iter: int) -> Iterator[list[Watcher]]:
    """Make what `verbose` and `callbacks` ask for: functions that are called after each epoch."""
    called: list[Watcher] = [_calling(callback) for callback in listed(callbacks)]
    if verbose == "bar":
        with bar(max_iter) as show:
            yield [lambda result: show(_mean_of_last([p.curve for p in result.problems])), *called]
    else:
        yield [_Printer(), *called] if verbose else called
