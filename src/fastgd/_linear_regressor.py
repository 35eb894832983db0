"""The regressor, as its users see it: parameters, documentation, what it makes of targets."""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import StrOptions

from . import _core
from ._hypers import in_domain
from ._linear_base import Data, Mask, SupervisedSGD, Target, no_split, seed_from
from ._linear_input import CONSTRAINTS, Array, finite, loss_functions_for
from ._linear_validation import Metric, r2, r2_of_exp

__all__ = ["SGDRegressor"]


class SGDRegressor(RegressorMixin, SupervisedSGD):  # type: ignore[misc]
    """Linear regression trained by gradient descent: ``sklearn.linear_model.SGDRegressor``.

    The parameters are scikit-learn's, with its defaults, up to `average`; those after it, and
    several targets at once, are fastgd's own. Scale the features first: on raw ones training
    diverges.

    Parameters
    ----------
    loss : str, default="squared_error"
        scikit-learn's "squared_error", "huber", "epsilon_insensitive" and
        "squared_epsilon_insensitive"; "pinball" for a quantile, "expectile"; "poisson", "gamma" and
        "tweedie", which predict ``exp(X @ coef_.T + intercept_)``.
    penalty : {"l2", "l1", "elasticnet", "group", None}, default="l2"
        ``alpha / 2 * ||coef||**2``, ``alpha * ||coef||_1``, or ``1 - l1_ratio`` times the one plus
        `l1_ratio` times the other. The L1 penalty makes weights exactly zero: row by row as in
        scikit-learn, cumulatively; in batches by proximal steps (Duchi & Singer, JMLR 10, 2009), of
        the optimizers "sgd", without momentum, and "adagrad" alone. "group" does so to all weights
        of a group of features: in place of the L1 norm it has the sum over `groups` of
        ``sqrt(size) * ||coef_of_the_group||`` (Yuan & Lin, JRSS B 68, 2006); by proximal steps, of
        "sgd" without momentum alone, each of which looks at all weights. (The fewer the rows of an
        update, the more its noise takes weights that were zero off it again.)
    alpha : float, default=0.0001
        Its strength; also sets the rate of ``learning_rate="optimal"``.
    l1_ratio : float or None, default=0.15
        Part of the L1 penalty or that on groups, from 0 to 1; of effect with "elasticnet" and
        "group" alone. For "group", None and 1 are the pure group lasso.
    fit_intercept : bool, default=True
        Whether to train an intercept.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective (with `early_stopping`: the score) has not got better by more than
        this for `n_iter_no_change` epochs; None trains `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: True shuffles exactly, as scikit-learn does; "block"
        shuffles blocks of at least 16 neighbouring rows, which reads memory much faster (for data
        that is not sorted by its target); False keeps the order.
    verbose : int or "bar", default=0
        Above 0, print each epoch in scikit-learn's words; "bar" shows a progress bar (extra
        ``[train]``).
    epsilon : float, default=0.1
        Where loss "huber" turns from quadratic to linear, and up to where the losses
        "epsilon_insensitive" and "squared_epsilon_insensitive" are zero; in units of the target.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling and of the split; the same one gives scikit-learn's.
    learning_rate : str, default="invscaling"
        "optimal": ``1 / (alpha * (t0 + t - 1))``; "constant": ``eta0``; "invscaling":
        ``eta0 / t**power_t``; "adaptive": `eta0`, divided by 5 instead of stopping until it is
        1e-6; t counts updates. "pa1" and "pa2" are the passive-aggressive updates with
        aggressiveness `eta0`, for loss "epsilon_insensitive".
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling" and "adaptive".
    power_t : float, default=0.25
        Exponent of "invscaling". Below 0 is deprecated.
    early_stopping : bool, default=False
        Whether to stop by the score on rows held out, instead of by the objective: R²
        of the model (not averaged).
    validation_fraction : float, default=0.1
        Part of the rows that `early_stopping` holds out, drawn as scikit-learn draws them.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : bool or int, default=False
        Whether ``coef_`` and ``intercept_`` are the mean of the parameters after each update, or
        the number of the update from which on they are.
    batch_size : int or "auto", default=1
        Rows of an update. The gradient is their mean; 1 is scikit-learn's. "auto" is 1 for plain
        "sgd" and "vw"; for other rules 256, or as few as make 64 updates an epoch. Keyword-only.
    optimizer : str or (str, dict), default="sgd"
        Update rule, with its hyper-parameters other than the learning rate if wanted:
        ``"adam"``, ``("sgd", {"momentum": 0.9})``. ``"vw"`` is Vowpal Wabbit's, one row an update:
        features need not be scaled, and steps do not pass the target; its own defaults are
        ``learning_rate="constant", eta0=0.5, penalty=None``. Keyword-only.
    loss_parameter : float or None, default=None
        The quantile of "pinball" and the expectile of "expectile", above 0 and below 1; the power
        of "tweedie". None takes 0.5 and 1.5. Keyword-only.
    restore_best_weights : bool, default=False
        Whether the result are the parameters of the epoch with the best score on the rows held
        out, instead of the last. Keyword-only.
    grad_norm : bool, default=False
        Whether to work out ``grad_norm_curve_``: one more read of X an epoch. Keyword-only.
    callbacks : callable, list of callables or None, default=None
        Each is called after every epoch with an object that has the attributes ``epoch``,
        ``objective``, ``validation_score``, ``coef`` and ``intercept``, and ends training by
        returning true. Keyword-only.
    positive : bool, default=False
        Whether weights, not intercepts, stay at zero or above: after each step, of any optimizer
        but "vw", negative ones become zero. Then the L1 penalty is proximal with one row an
        update, too, and there are neither averages nor passive-aggressive steps. Keyword-only.
    groups : array-like of int of shape (n_features,) or None, default=None
        Number of each feature's group, any integers; of effect with penalty "group" alone. Of
        several targets each has its own weights in a group.
        Keyword-only.
    n_threads : int or None, default=None
        Threads, instead of :func:`fastgd.get_num_threads` of them. Keyword-only.
    hashing : int or None, default=None
        As for :class:`SGDClassifier`. Keyword-only.
    interactions : "quadratic", list of pairs of ranges or None, default=None
        As for :class:`SGDClassifier`. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_outputs, n_features)
        Weights, of the dtype of X; ``2**hashing`` instead of n_features with `hashing`.
    intercept_ : ndarray of shape (1,) or (n_outputs,)
        Intercepts.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end; the mean over the outputs where there are many.
    progressive_loss_ : float
        Mean loss of the rows, each before it was trained on for the first time: an estimate of the
        loss on rows not seen, for which none are held out (Blum, Kalai & Langford, "Beating the
        hold-out", COLT 1999). From the first epoch of `fit`, and from all rows of `partial_fit`, as
        if none came twice; the mean over the outputs where there are many.
    validation_curve_ : list of float
        Score of each epoch on the rows held out, the mean over the outputs where there
        are many; only with such rows.
    grad_norm_curve_ : list of float
        With `grad_norm`, after each epoch: the Euclidean norm of the gradient of the whole
        objective, mean loss plus penalty, over all rows trained on; the mean over many outputs.
        It goes to zero where training converges; where the learning rate has only become small,
        the loss stands still, too, but the norm stays. Of penalties "l1" and "group" and of
        `positive` it is the smallest subgradient's; of a loss with a kink, as "hinge", one
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
    Those of :class:`SGDClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd.linear_model import SGDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X /= X.std(axis=0)
    >>> model = SGDRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True

    No weight below zero; and features that are used all or not at all with the others of their
    group, here age and sex, body mass and blood pressure, and six of blood serum:

    >>> model = SGDRegressor(random_state=0, positive=True).fit(X, y)
    >>> bool((model.coef_ >= 0).all())
    True
    >>> model = SGDRegressor(
    ...     penalty="group", groups=[0, 0, 1, 1, 2, 2, 2, 2, 2, 2], l1_ratio=1, alpha=25,
    ...     batch_size=len(X), learning_rate="constant", eta0=0.1,
    ... )
    >>> model.fit(X, y).coef_ != 0
    array([False, False,  True,  True, False, False, False, False, False,
           False])

    Columns of any number, and their products:

    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> columns, ends = np.array([7, 2**40, 7, 2**40 + 1]), np.array([0, 2, 4])
    >>> X = csr_array((np.ones(4), columns, ends), shape=(2, 2**41))
    >>> model = SGDRegressor(hashing=10, interactions=[((0, 8), (2**40, 2**41))], tol=None)
    >>> model.fit(X, [3.0, -1.0]).predict(X).round(1).tolist()
    [3.0, -1.0]
    """

    loss_functions: ClassVar[dict[str, tuple[Any, ...]]] = loss_functions_for("regression")
    _loss_of_aggressive = "epsilon_insensitive"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "loss": [StrOptions(set(loss_functions))],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int | str = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int | str = 1,
        optimizer: str | tuple[str, dict[str, Any]] = "sgd",
        loss_parameter: float | None = None,
        restore_best_weights: bool = False,
        grad_norm: bool = False,
        callbacks: Any = None,
        positive: bool = False,
        groups: ArrayLike | None = None,
        n_threads: int | None = None,
        hashing: int | None = None,
        interactions: Any = None,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _draw(
        self, n_problems: int, split: Callable[[], Mask | None] = no_split
    ) -> tuple[list[int], Mask | None]:
        """Seed of the shuffling, the same for all outputs, and the split, which comes first."""
        left_out = split()
        state = check_random_state(self.random_state)
        seed, _ = seed_from(state), seed_from(state, 1)
        return [seed] * n_problems, left_out

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite; float32 and float64 are used as they are in C order and as CSR.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDRegressor
            self
        """
        return self._fit(lambda reset: self._read(X, y, sample_weight, reset), one_epoch=True)

    def _targets(self, data: Data) -> list[Target]:
        """One problem for each output."""
        targets = self._encoded(data.y, data.X.dtype)
        in_domain(data.y, self.loss, self._loss_parameter())
        labels = ["training"]
        if len(targets) > 1:
            labels = [f"training of output {k}" for k in range(len(targets))]
        return [(label, y, data.sample_weight) for label, y in zip(labels, targets, strict=True)]

    def _metric(self) -> Metric:
        return r2_of_exp if self._predicts_exp() else r2

    def _predicts_exp(self) -> bool:
        return _core.LOSSES[self.loss]["link"] == "log"

    def _encoded(self, y: Array, dtype: Any) -> list[Array]:
        """Targets of each output."""
        columns = finite(y, dtype, "y")
        return [columns] if columns.ndim == 1 else [np.ascontiguousarray(y) for y in columns.T]

    def predict(self, X: ArrayLike) -> Array:
        """Prediction for each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predicted targets.
        """
        prediction = self._decision(X)
        if self._predicts_exp():
            with np.errstate(over="ignore"):
                prediction = np.exp(prediction)
        return prediction
