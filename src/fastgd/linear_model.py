"""Linear models trained by gradient descent, with scikit-learn's names, defaults and conventions.

Change the import, keep the code; then ask for mini-batches (``batch_size``), another update rule
(``optimizer``) or block-wise shuffling (``shuffle="block"``). Needs the extra ``[sklearn]``.

Here stand the two estimators, as their users see them. What they share is in `_linear_base`, what
they refuse in `_linear_input`, and the training loop in `train`.
"""

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

try:
    from sklearn.base import ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state, compute_class_weight
    from sklearn.utils._param_validation import StrOptions
    from sklearn.utils.metaestimators import available_if
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        'fastgd.linear_model needs scikit-learn: pip install "fastgd[sklearn]"'
    ) from error

from ._linear_base import LinearSGD, Target
from ._linear_input import Array, finite, labels_in, losses_for, naming, row_weights

__all__ = ["SGDClassifier", "SGDRegressor"]


def _has_probabilities(estimator: Any) -> bool:
    """Whether the loss gives probabilities; the error that ``available_if`` shows."""
    if estimator.loss != "log_loss":
        raise AttributeError(f'probabilities need loss="log_loss"; got loss={estimator.loss!r}')
    return True


class SGDClassifier(ClassifierMixin, LinearSGD):  # type: ignore[misc]
    """Linear classifier trained by gradient descent: ``sklearn.linear_model.SGDClassifier``.

    More than two classes are trained one against the rest. All parameters but the last two are
    scikit-learn's, with its defaults; what this class does not do yet (`penalty` "l1" and
    "elasticnet", `early_stopping`, `average`, other losses and schedules) is refused by name.

    Parameters
    ----------
    loss : str, default="hinge"
        Any of scikit-learn's: "hinge" is a linear support vector machine, "log_loss" logistic
        regression, "modified_huber", "squared_hinge", "perceptron", and those of a regression,
        "squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive". Or "focal".
    penalty : {"l2", None}, default="l2"
        Penalty ``alpha / 2 * ||coef||**2`` on the weights.
    alpha : float, default=0.0001
        Its strength; also sets the rate of ``learning_rate="optimal"``.
    l1_ratio : float, default=0.15
        Of no effect: there is no "elasticnet" here.
    fit_intercept : bool, default=True
        Whether to train an intercept.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective has not fallen by more than this for `n_iter_no_change` epochs;
        None trains `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: True shuffles exactly, as scikit-learn does; "block"
        shuffles blocks of at least 16 neighbouring rows, which reads memory much faster (for data
        that is not sorted by its target); False keeps the order.
    verbose : int, default=0
        Above 0, print the objective of each epoch.
    epsilon : float, default=0.1
        Where loss "huber" turns from quadratic to linear; up to where the two insensitive ones are
        zero.
    n_jobs : int or None, default=None
        Classes trained at a time; -1 takes all threads.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling; the same one gives scikit-learn's order.
    learning_rate : {"optimal", "constant", "invscaling"}, default="optimal"
        ``1 / (alpha * (t0 + t - 1))``, ``eta0``, or ``eta0 / t**power_t``; t counts updates.
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling".
    power_t : float, default=0.5
        Exponent of "invscaling".
    early_stopping : False, default=False
        Only False.
    validation_fraction : float, default=0.1
        Of no effect without early stopping.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : False, default=False
        Only False.
    batch_size : int, default=1
        Rows of an update. The gradient is their mean; 1 is scikit-learn's. Keyword-only.
    optimizer : str or (str, dict), default="sgd"
        Update rule, with its hyper-parameters other than the learning rate if wanted:
        ``"adam"``, ``("sgd", {"momentum": 0.9})``. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of the dtype of X.
    intercept_ : ndarray of shape (1,) or (n_classes,)
        Intercepts.
    classes_ : ndarray of shape (n_classes,)
        Labels.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end; the mean over the classes where there are many.
    n_features_in_ : int
        Features seen in fit.

    Raises
    ------
    ValueError, TypeError
        From fit: a parameter out of its range, or data that is empty, not finite, of one class.
        The estimator is as it was before.
    fastgd.DivergenceError
        From fit: a number ceased to be finite. The message names the step.

    References
    ----------
    Bottou, "Large-scale machine learning with stochastic gradient descent", COMPSTAT 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from fastgd.linear_model import SGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SGDClassifier(loss="log_loss", random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.97)
    True
    """

    n_jobs: int | None
    class_weight: Any
    classes_: Array

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearSGD._parameter_constraints,
        "loss": [StrOptions(set(losses_for("classification")))],
        "n_jobs": [Integral, None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        loss: str = "hinge",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
        warm_start: bool = False,
        average: bool = False,
        batch_size: int = 1,
        optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    ) -> None:
        self._keep(locals())

    def _seeds(self, n_problems: int) -> list[int]:
        """Shuffling seeds, drawn as scikit-learn draws them: the second draw of each class."""
        state = check_random_state(self.random_state)
        most = np.iinfo(np.int32).max
        states = [state]
        if n_problems > 1:
            states = [np.random.RandomState(seed) for seed in state.randint(most, size=n_problems)]
        return [int((one.randint(1, most), one.randint(most))[1]) for one in states]

    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Labels, out of `classes`.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDClassifier
            self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                'class_weight must not be "balanced" for partial_fit, which does not see all '
                "data; give a dict, or sample_weight"
            )
        go_on = hasattr(self, "classes_")
        if classes is None and not go_on:
            raise ValueError("classes must be given in the first call of partial_fit")
        if classes is not None:
            classes = np.unique(np.asarray(classes))
            if go_on and not np.array_equal(classes, self.classes_):
                raise ValueError(
                    f"classes must be those of the first call, {self.classes_}; got {classes}"
                )
        else:
            classes = self.classes_
        return self._fit(X, y, sample_weight, one_epoch=True, classes=classes)

    def _targets(
        self, X: Array, y: Array, sample_weight: ArrayLike | None, classes: Array | None
    ) -> list[Target]:
        """1 and -1 for each class, or for the second of two; note the classes."""
        with naming("y"):
            found = labels_in(y)
        if classes is None:
            classes = found
        unseen = np.setdiff1d(found, classes)
        if unseen.size:
            raise ValueError(f"y must hold labels out of classes {classes}; got {unseen}")
        if len(classes) < 2:
            raise ValueError(
                "y must hold at least two classes, the number of classes has to be greater "
                f"than one; got {len(classes)} class"
            )
        positives = [classes[1]] if len(classes) == 2 else list(classes)
        targets = [2 * (y == one).astype(X.dtype) - 1 for one in positives]
        labels = ["training"]
        if len(positives) > 1:
            labels = [f"training of class {one!s} against the rest" for one in positives]
        weights = self._weights(X, y, classes, targets, sample_weight)
        self.classes_ = classes
        return list(zip(labels, targets, weights, strict=True))

    def _weights(
        self, X: Array, y: Array, classes: Array, targets: list[Array], given: ArrayLike | None
    ) -> list[Array | None]:
        """Weights of the rows in each problem: the sample's times the class's; None for ones."""
        if given is None and self.class_weight is None:
            return [None] * len(targets)
        rows = row_weights(X, given)
        by_class = compute_class_weight(self.class_weight, classes=classes, y=y)
        if not (np.isfinite(by_class) & (by_class >= 0)).all():
            raise ValueError(f"class_weight must be finite and 0 or more; got {by_class}")
        if len(targets) == 1:
            return [rows * np.where(targets[0] > 0, by_class[1], by_class[0]).astype(X.dtype)]
        return [
            rows * np.where(target > 0, weight, 1).astype(X.dtype)
            for target, weight in zip(targets, by_class, strict=True)
        ]

    def decision_function(self, X: ArrayLike) -> Array:
        """Signed distances to the separating planes, times the weights' norms.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Above 0 for the (second) class.
        """
        return self._decision(X)

    def predict(self, X: ArrayLike) -> Array:
        """Most likely label of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Out of ``classes_``.
        """
        scores = self._decision(X)
        best = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
        labels: Array = self.classes_[best]
        return labels

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes; only with loss "log_loss".

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; with more than two classes the one-against-rest
            probabilities, normalised.
        """
        scores = self._decision(X)
        positive = np.exp(-np.logaddexp(0, -scores))
        if scores.ndim == 1:
            return np.column_stack([1 - positive, positive])
        total = positive.sum(axis=1, keepdims=True)
        n_classes = positive.shape[1]
        return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / n_classes)

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: ArrayLike) -> Array:
        """Logarithm of :meth:`predict_proba`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        probabilities: Array = self.predict_proba(X)
        return np.log(probabilities)


class SGDRegressor(RegressorMixin, LinearSGD):  # type: ignore[misc]
    """Linear regression trained by gradient descent: ``sklearn.linear_model.SGDRegressor``.

    All parameters but the last two are scikit-learn's, with its defaults; what this class does not
    do yet (`penalty` "l1" and "elasticnet", `early_stopping`, `average`, other losses and
    schedules) is refused by name. Scale the features first: on raw ones training diverges.

    Parameters
    ----------
    loss : str, default="squared_error"
        Any of scikit-learn's: "squared_error", "huber", "epsilon_insensitive",
        "squared_epsilon_insensitive". Or "pinball", "expectile".
    penalty : {"l2", None}, default="l2"
        Penalty ``alpha / 2 * ||coef||**2`` on the weights.
    alpha : float, default=0.0001
        Its strength; also sets the rate of ``learning_rate="optimal"``.
    l1_ratio : float, default=0.15
        Of no effect: there is no "elasticnet" here.
    fit_intercept : bool, default=True
        Whether to train an intercept.
    max_iter : int, default=1000
        Epochs at most.
    tol : float or None, default=1e-3
        Stop when the objective has not fallen by more than this for `n_iter_no_change` epochs;
        None trains `max_iter` epochs.
    shuffle : bool or "block", default=True
        Order of the rows in each epoch: True shuffles exactly, as scikit-learn does; "block"
        shuffles blocks of at least 16 neighbouring rows, which reads memory much faster (for data
        that is not sorted by its target); False keeps the order.
    verbose : int, default=0
        Above 0, print the objective of each epoch.
    epsilon : float, default=0.1
        Where loss "huber" turns from quadratic to linear, and up to where the two insensitive ones
        are zero, in units of the target.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling; the same one gives scikit-learn's order.
    learning_rate : {"invscaling", "constant", "optimal"}, default="invscaling"
        ``eta0 / t**power_t``, ``eta0``, or ``1 / (alpha * (t0 + t - 1))``; t counts updates.
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling".
    power_t : float, default=0.25
        Exponent of "invscaling".
    early_stopping : False, default=False
        Only False.
    validation_fraction : float, default=0.1
        Of no effect without early stopping.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    warm_start : bool, default=False
        Whether `fit` starts from the coefficients of the fit before.
    average : False, default=False
        Only False.
    batch_size : int, default=1
        Rows of an update. The gradient is their mean; 1 is scikit-learn's. Keyword-only.
    optimizer : str or (str, dict), default="sgd"
        Update rule, with its hyper-parameters other than the learning rate if wanted:
        ``"adam"``, ``("sgd", {"momentum": 0.9})``. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
        Weights, of the dtype of X.
    intercept_ : ndarray of shape (1,)
        Intercept.
    n_iter_ : int
        Epochs of the last fit.
    t_ : int
        Updates so far, plus one.
    loss_curve_ : list of float
        Training objective of each epoch: the mean of the losses, each before its row's update,
        plus the penalty at the epoch's end.
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
    Bottou, "Large-scale machine learning with stochastic gradient descent", COMPSTAT 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from fastgd.linear_model import SGDRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X /= X.std(axis=0)
    >>> model = SGDRegressor(random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.5)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **LinearSGD._parameter_constraints,
        "loss": [StrOptions(set(losses_for("regression")))],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool | str = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool = False,
        batch_size: int = 1,
        optimizer: str | tuple[str, dict[str, Any]] = "sgd",
    ) -> None:
        self._keep(locals())

    def _seeds(self, n_problems: int) -> list[int]:
        """Shuffling seed, drawn as scikit-learn draws it: the first draw of two."""
        state = check_random_state(self.random_state)
        most = np.iinfo(np.int32).max
        return [int((state.randint(most), state.randint(1, most))[0]) for _ in range(n_problems)]

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Finite; float32 and float64 in C order are used as they are.
        y : array-like of shape (n_samples,)
            Finite targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        SGDRegressor
            self
        """
        return self._fit(X, y, sample_weight, one_epoch=True)

    def _targets(
        self, X: Array, y: Array, sample_weight: ArrayLike | None, classes: Array | None
    ) -> list[Target]:
        """One problem: y itself."""
        target = finite(y, X.dtype, "y")
        weights = None if sample_weight is None else row_weights(X, sample_weight)
        return [("training", target, weights)]

    def predict(self, X: ArrayLike) -> Array:
        """Prediction for each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,)
            Predicted targets.
        """
        return self._decision(X)
