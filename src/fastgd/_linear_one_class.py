"""The one-class SVM, as its users see it: parameters, documentation, outliers and inliers."""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval
from sklearn.utils.validation import check_is_fitted

from ._linear_base import Data, LinearSGD, Mask, Target, no_split, seed_from
from ._linear_input import TRAINING_CONSTRAINTS, Array, row_weights, validated_rows
from .streams import ParquetChunks

__all__ = ["SGDOneClassSVM"]


class SGDOneClassSVM(OutlierMixin, LinearSGD):  # type: ignore[misc]
    """Linear one-class SVM, for outliers: ``sklearn.linear_model.SGDOneClassSVM``.

    Minimises ``mean(max(0, 1 - x . coef - b)) + nu / 2 * ||coef||**2 + nu * b``, where b is
    ``1 - offset``, one row an update. The parameters are scikit-learn's, with its defaults; the
    last four are fastgd's.

    Parameters
    ----------
    nu : float, default=0.5
        Above 0 and at most 1: upper bound on the fraction of training rows that are outliers, and
        lower bound on that of support vectors.
    fit_intercept : bool, default=True
        Whether to train the offset.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective has not fallen by more than this for five epochs; None trains
        `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: exact, in blocks of neighbours, or as they are.
    verbose : int or "bar", default=0
        Above 0, print each epoch in scikit-learn's words; "bar" shows a progress bar (extra
        ``[train]``).
    random_state : int, RandomState or None, default=None
        Seed of the shuffling; the same one gives scikit-learn's order.
    learning_rate : {"optimal", "constant", "invscaling", "adaptive"}, default="optimal"
        ``1 / (nu * (t0 + t - 1))``, ``eta0``, ``eta0 / t**power_t``, or `eta0`, divided by 5
        instead of stopping until it is 1e-6; t counts updates.
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling" and "adaptive".
    power_t : float, default=0.5
        Exponent of "invscaling". Below 0 is deprecated.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : bool or int, default=False
        Whether ``coef_`` and ``offset_`` are the mean of the parameters after each update, or the
        number of the update from which on they are.
    grad_norm : bool, default=False
        Whether to work out ``grad_norm_curve_``: one more read of X an epoch. Keyword-only.
    callbacks : callable, list of callables or None, default=None
        As for :class:`SGDClassifier`. Keyword-only.
    positive : bool, default=False
        Whether weights stay at zero or above: after each step negative ones become zero. Without
        averages. Keyword-only.
    hashing : int or None, default=None
        As for :class:`SGDClassifier`. Keyword-only.
    interactions : "quadratic", list of pairs of ranges or None, default=None
        As for :class:`SGDClassifier`. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Weights, of the dtype of X; ``2**hashing`` instead of n_features with `hashing`.
    offset_ : ndarray of shape (1,)
        ``decision_function(X) = score_samples(X) - offset_``.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end.
    progressive_loss_ : float
        Mean loss of the rows, each before it was trained on for the first time: an estimate of the
        loss on rows not seen, for which none are held out (Blum, Kalai & Langford, "Beating the
        hold-out", COLT 1999). From the first epoch of `fit`, and from all rows of `partial_fit`, as
        if none came twice.
    grad_norm_curve_ : list of float
        With `grad_norm`, after each epoch: the Euclidean norm of the gradient of the whole
        objective, mean loss plus penalty, over all rows trained on.
        It goes to zero where training converges; where the learning rate has only become small,
        the loss stands still, too, but the norm stays. At the kink of the loss it is one
        subgradient's, which need not vanish.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty or not finite. The estimator
        is as it was before.
    fastgd.DivergenceError
        From fit: a number ceased to be finite. The message names the step.

    References
    ----------
    Schölkopf, Platt, Shawe-Taylor, Smola & Williamson, "Estimating the support of a
    high-dimensional distribution", Neural Computation 13, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from fastgd.linear_model import SGDOneClassSVM
    >>> X = np.array([[-1, -1], [-2, -1], [1, 1], [2, 1]])
    >>> model = SGDOneClassSVM(random_state=42, tol=None).fit(X)
    >>> model.predict([[4, 4]])
    array([1], dtype=int32)
    """

    nu: float
    offset_: Array

    # what the other linear models have as parameters
    loss = "hinge"
    penalty = "l2"
    alpha = 0.0
    l1_ratio = 0.0
    epsilon = 0.1
    early_stopping = False
    validation_fraction = 0.1
    n_iter_no_change = 5
    batch_size = 1
    optimizer = "sgd"
    loss_parameter = None
    restore_best_weights = False
    groups = None
    n_threads = None

    loss_functions: ClassVar[dict[str, tuple[Any, ...]]] = {"hinge": ("hinge",)}
    _intercept_init = "offset_init"
    _first_intercept = 1.0  # an offset of 0
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TRAINING_CONSTRAINTS,
        "nu": [Interval(Real, 0.0, 1.0, closed="right")],
    }

    def __init__(
        self,
        nu: float = 0.5,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int | str = 0,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        warm_start: bool = False,
        average: bool | int = False,
        *,
        grad_norm: bool = False,
        callbacks: Any = None,
        positive: bool = False,
        hashing: int | None = None,
        interactions: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(
        self,
        X: ArrayLike | ParquetChunks,
        y: object = None,
        coef_init: ArrayLike | None = None,
        offset_init: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train on X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite; float32 and float64 are used as they are in C order and as CSR. Or a
            :class:`fastgd.streams.ParquetChunks`: each epoch is a call of `partial_fit` for each
            of its chunks, in the order that it gives them; their targets are not looked at.
        y : object
            Of no effect.
        coef_init, offset_init : array-like of shape (n_features,) and (1,), optional
            Where to start.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDOneClassSVM
            self
        """
        intercept = None if offset_init is None else 1 - np.asarray(offset_init, dtype=np.float64)
        if isinstance(X, ParquetChunks):
            read = self._reading(
                X, lambda X, y, reset: self._read(X, None, reset), sample_weight=sample_weight
            )
        else:
            read = partial(self._read, X, sample_weight)
        return self._fit(read, coef_init, intercept)

    def partial_fit(
        self, X: ArrayLike, y: object = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on X, going on from where training was.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite; float32 and float64 are used as they are in C order and as CSR.
        y : object
            Of no effect.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDOneClassSVM
            self
        """
        return self._fit(lambda reset: self._read(X, sample_weight, reset), one_epoch=True)

    def decision_function(self, X: ArrayLike) -> Array:
        """Signed distances to the separating plane, times the weights' norm.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Below 0 for outliers.
        """
        check_is_fitted(self)
        return self._products(X) - self.offset_

    def score_samples(self, X: ArrayLike) -> Array:
        """Scores, which are compared with the offset.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Lower for outliers.
        """
        check_is_fitted(self)
        return self._products(X)

    def predict(self, X: ArrayLike) -> Array:
        """Tell inliers from outliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            1 for inliers, -1 for outliers.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1).astype(np.int32)

    def _read(self, X: ArrayLike, sample_weight: ArrayLike | None, reset: bool) -> Data:
        """Check rows and weights; note names and number of the features if told so."""
        rows = validated_rows(self, X, reset=reset, order="C", ensure_all_finite=False)
        weights = None if sample_weight is None else row_weights(rows, sample_weight)
        return Data(rows, np.ones(rows.shape[0], rows.dtype), weights)

    def _targets(self, data: Data) -> list[Target]:
        """One problem: all rows are to lie on one side."""
        return [("training", data.y, data.sample_weight)]

    def _draw(
        self, n_problems: int, split: Callable[[], Mask | None] = no_split
    ) -> tuple[list[int], Mask | None]:
        """Seed of the shuffling: scikit-learn draws another one from NumPy's generator before."""
        if self.random_state is None:
            seed_from(check_random_state(None), 1)
        return [seed_from(check_random_state(self.random_state))], None

    def _strength(self) -> float:
        return self.nu

    def _one_class(self) -> float:
        return self.nu

    def _get_intercept(self) -> Array:
        intercept: Array = 1 - self.offset_
        return intercept

    def _set_intercept(self, intercept: Array) -> None:
        self.offset_ = 1 - intercept
