"""Groups of features, whose weights a penalty takes to zero together."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Groups"]


@dataclass(frozen=True)
class Groups:
    """A partition of the features, as ``_core.train_linear`` takes it.

    The weights of a group are those of its features in all outputs of the model.
    """

    members: NDArray[np.int64]  # (n_features,) a group after the other
    offsets: NDArray[np.int64]  # (n_groups + 1,) where each begins there

    @classmethod
    def of(cls, given: ArrayLike | None, n_features: int, n_outputs: int) -> "Groups":
        """Sort features by the numbers of their groups; None: each is one, of several outputs."""
        if given is None and n_outputs > 1:
            return cls(np.arange(n_features), np.arange(n_features + 1))
        wanted = f"the number of the group of each of the {n_features} features"
        if given is None:
            raise ValueError(
                f"groups must be an array of integers, {wanted}, with penalty='group' and a model "
                "of one output; got None"
            )
        numbers = np.asarray(given)
        if numbers.shape != (n_features,) or numbers.dtype.kind not in "iu":
            raise ValueError(
                f"groups must be an array of integers, {wanted}; got shape {numbers.shape} and "
                f"dtype {numbers.dtype}"
            )
        _, sizes = np.unique(numbers, return_counts=True)
        return cls(np.argsort(numbers, kind="stable"), np.append(0, np.cumsum(sizes)))

    def penalty(self, weights: NDArray[Any]) -> float:
        """Sum, over the groups g, sqrt(|g|) ||w_g||; weights are (n_outputs, n_features).

        Yuan & Lin, "Model selection and estimation in regression with grouped variables", Journal
        of the Royal Statistical Society B 68, 2006, equation 2.1.
        """
        return float((np.sqrt(self._sizes(weights)) * self._lengths(weights)).sum())

    def subgradient(self, grad: NDArray[Any], weights: NDArray[Any], strength: float) -> None:
        """Make of `grad`, in place, the smallest subgradient with `strength` times the penalty.

        Of a group at zero that is what is left when the penalty has taken of the length of `grad`.
        """
        most = strength * np.sqrt(self._sizes(weights))
        lengths, slopes = self._lengths(weights), self._lengths(grad)
        zero = lengths == 0
        along = np.where(zero, 0.0, most / np.where(zero, 1.0, lengths))
        left = np.where(zero, np.maximum(slopes - most, 0) / np.where(slopes == 0, 1, slopes), 1.0)
        group = np.empty(len(self.members), dtype=np.intp)  # of each feature
        group[self.members] = np.repeat(np.arange(len(most)), np.diff(self.offsets))
        grad *= left[group]
        grad += along[group] * weights

    def _sizes(self, weights: NDArray[Any]) -> NDArray[np.intp]:
        """Count the weights of each group."""
        return len(weights) * np.diff(self.offsets)

    def _lengths(self, weights: NDArray[Any]) -> NDArray[np.float64]:
        """Euclidean norm of each group."""
        squares = np.square(weights).sum(axis=0)[self.members]
        return np.sqrt(np.add.reduceat(squares, self.offsets[:-1]))
