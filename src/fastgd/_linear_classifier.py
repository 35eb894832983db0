"""The classifier, as its users see it: parameters, documentation, what it makes of labels."""

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from ._linear_base import Data, Mask, SupervisedSGD, Target, no_split, seed_from
from ._linear_input import (
    BALANCED_IN_PARTIAL_FIT,
    CONSTRAINTS,
    Array,
    labels_in,
    loss_functions_for,
    naming,
    row_weights,
)
from ._linear_validation import Metric, accuracy, accuracy_of_classes

__all__ = ["SGDClassifier"]


def _has_probabilities(estimator: Any) -> bool:
    """Whether the loss gives probabilities; the error that ``available_if`` shows."""
    if estimator.loss not in ("log_loss", "multinomial", "modified_huber"):
        raise AttributeError(
            f"probability estimates are not available for loss={estimator.loss!r}: they need "
            '"log_loss", "multinomial" or "modified_huber"'
        )
    return True


class SGDClassifier(ClassifierMixin, SupervisedSGD):  # type: ignore[misc]
    """Linear classifier trained by gradient descent: ``sklearn.linear_model.SGDClassifier``.

    More than two classes are trained one against the rest, except with the loss "multinomial": one
    model of them all, for which every row is read once, and on which all threads work. The
    parameters are scikit-learn's, with its defaults, up to `average`; those after it are fastgd's
    own.

    Parameters
    ----------
    loss : str, default="hinge"
        "hinge" is a linear support vector machine, "log_loss" logistic regression,
        "modified_huber", "squared_hinge" and "perceptron" are scikit-learn's, too, as are those of
        a regression to the targets 1 and -1: "squared_error", "huber", "epsilon_insensitive",
        "squared_epsilon_insensitive". "focal" and "multinomial" are not: the second is logistic
        regression of all classes together, whose probabilities are a softmax of the decisions
        (Bishop, "Pattern recognition and machine learning", 2006, sec. 4.3.4), and with two classes
        the same as "log_loss".
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
        "epsilon_insensitive" and "squared_epsilon_insensitive" are zero.
    n_jobs : int or None, default=None
        Classes trained at a time; -1 takes all threads.
    random_state : int, RandomState or None, default=None
        Seed of the shuffling and of the split; the same one gives scikit-learn's.
    learning_rate : str, default="optimal"
        "optimal": ``1 / (alpha * (t0 + t - 1))``; "constant": ``eta0``; "invscaling":
        ``eta0 / t**power_t``; "adaptive": `eta0`, divided by 5 instead of stopping until it is
        1e-6; t counts updates. "pa1" and "pa2" are the passive-aggressive updates with
        aggressiveness `eta0`, for loss "hinge".
    eta0 : float, default=0.01
        Learning rate of "constant", first one of "invscaling" and "adaptive".
    power_t : float, default=0.5
        Exponent of "invscaling". Below 0 is deprecated.
    early_stopping : bool, default=False
        Whether to stop by the score on rows held out, instead of by the objective: the
        accuracy, of each class against the rest,
        of the model (not averaged).
    validation_fraction : float, default=0.1
        Part of the rows that `early_stopping` holds out, drawn as scikit-learn draws them.
    n_iter_no_change : int, default=5
        Epochs without improvement before stopping.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes.
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
        The exponent of "focal", 0 or more. None takes 2. Keyword-only.
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
        Number of each feature's group, any integers; of effect with penalty "group" alone. With the
        loss "multinomial" and more than two classes, a group has its features' weights for all
        classes, and None is a group for each feature, which is so selected for all at once.
        Keyword-only.
    n_threads : int or None, default=None
        Threads, instead of :func:`fastgd.get_num_threads` of them. Keyword-only.
    hashing : int or None, default=None
        Bits of a weight's number, from 1 to 31: column c has weight ``c % 2**hashing``, and columns
        may be as many as 64 bits can count (Weinberger et al., ICML 2009; Vowpal Wabbit's ``-b``,
        whose weights have the same numbers for features that are named by integers). For CSR, which
        is used as it is. `groups` are of weights then. Names that are strings become columns with
        scikit-learn's ``FeatureHasher`` or ``HashingVectorizer``: their ``n_features`` may be as
        many as they allow, and what their ``alternate_sign=True`` does, a sign for each name so
        that collisions cancel in the mean, is in the values. Keyword-only.
    interactions : "quadratic", list of pairs of ranges or None, default=None
        Products of two features of a row, which have weights of their own; needs `hashing`.
        "quadratic" makes all, each two once and each with itself (Vowpal Wabbit's ``-q ::``);
        ``[((0, 5), (5, 9))]`` those of one of the columns 0 to 4 with one of 5 to 8, as of two
        namespaces; the ranges of a pair are the same or have no column in common. The product of
        columns i and j has weight ``(16777619 * i ^ j) % 2**hashing``. They are made while they are
        needed, in some megabytes. Keyword-only.

    Attributes
    ----------
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features)
        Weights, of the dtype of X; ``2**hashing`` instead of n_features with `hashing`.
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
    progressive_loss_ : float
        Mean loss of the rows, each before it was trained on for the first time: an estimate of the
        loss on rows not seen, for which none are held out (Blum, Kalai & Langford, "Beating the
        hold-out", COLT 1999). From the first epoch of `fit`, and from all rows of `partial_fit`, as
        if none came twice; the mean over the classes where there are many.
    validation_curve_ : list of float
        Score of each epoch on the rows held out, the mean over the classes where there
        are many; only with such rows.
    grad_norm_curve_ : list of float
        With `grad_norm`, after each epoch: the Euclidean norm of the gradient of the whole
        objective, mean loss plus penalty, over all rows trained on; the mean over many classes.
        It goes to zero where training converges; where the learning rate has only become small,
        the loss stands still, too, but the norm stays. Of penalties "l1" and "group" and of
        `positive` it is the smallest subgradient's; of a loss with a kink, as "hinge", one
        subgradient's, which need not vanish.
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

    Duchi & Singer, "Efficient online and batch learning using forward backward splitting", Journal
    of Machine Learning Research 10, 2009.

    Yuan & Lin, "Model selection and estimation in regression with grouped variables", Journal of
    the Royal Statistical Society B 68, 2006.

    Weinberger, Dasgupta, Langford, Smola & Attenberg, "Feature hashing for large scale multitask
    learning", ICML 2009.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.preprocessing import scale
    >>> from fastgd.linear_model import SGDClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = SGDClassifier(loss="log_loss", random_state=0).fit(scale(X), y)
    >>> bool(model.score(scale(X), y) > 0.97)
    True

    Which words come together decides; the pairs of words have weights:

    >>> from sklearn.feature_extraction.text import HashingVectorizer
    >>> words = HashingVectorizer(norm=None, alternate_sign=False)
    >>> X = words.transform(["so good", "not good", "so bad", "not bad"] * 50)
    >>> model = SGDClassifier(hashing=18, interactions="quadratic", random_state=0)
    >>> model.fit(X, [1, 0, 0, 1] * 50).predict(words.transform(["not bad", "not good"]))
    array([1, 0])
    """

    n_jobs: int | None
    class_weight: Any
    classes_: Array

    loss_functions: ClassVar[dict[str, tuple[Any, ...]]] = loss_functions_for("classification")
    _loss_of_aggressive = "hinge"
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "loss": [StrOptions({*loss_functions, "multinomial"})],
        "n_jobs": [Integral, None],
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }

    def __init__(
        self,
        loss: str = "hinge",
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

    def _draw(
        self, n_problems: int, split: Callable[[], Mask | None] = no_split
    ) -> tuple[list[int], Mask | None]:
        """Seeds of the shuffling, and the split: a class's seed is its second draw."""
        if n_problems == 1:  # the split may draw from the same generator, in between
            state = check_random_state(self.random_state)
            seed_from(state, 1)
            left_out = split()
            return [seed_from(state)], left_out
        left_out = split()
        state = check_random_state(self.random_state)
        firsts, seeds = state.randint(np.iinfo(np.int32).max, size=n_problems), []
        # a generator that nobody else draws from; to make one takes longer than all draws
        own = state if isinstance(self.random_state, Integral) else np.random.RandomState(0)
        for first in firsts:
            own.seed(first)
            seed_from(own, 1)
            seeds.append(seed_from(own))
        return seeds, left_out

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
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite; float32 and float64 are used as they are in C order and as CSR.
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
            raise ValueError(BALANCED_IN_PARTIAL_FIT)
        return self._fit(
            lambda reset: self._read_chunk(X, y, sample_weight, classes, reset), one_epoch=True
        )

    def _read_chunk(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        classes: ArrayLike | None,
        reset: bool,
    ) -> Data:
        """Check data whose classes have been declared."""
        known = getattr(self, "classes_", None)
        declared = known if classes is None else np.unique(np.asarray(classes))
        if declared is None:
            raise ValueError("classes must be given in the first call of partial_fit")
        if known is not None and not np.array_equal(declared, known):
            raise ValueError(f"classes must be those of the first call, {known}; got {declared}")
        return replace(self._read(X, y, sample_weight, reset), classes=declared)

    def _targets(self, data: Data) -> list[Target]:
        """1 and -1 for each class, or for the second of two; note the classes."""
        classes = data.classes
        if classes is None:
            with naming("y"):
                classes = labels_in(data.y)
        if len(classes) < 2:
            raise ValueError(
                "y must hold at least two classes, the number of classes has to be greater "
                f"than one; got {len(classes)} class"
            )
        self.classes_ = classes
        if self._n_classes() > 1 and self.average:
            raise ValueError(f'average must be False with loss="multinomial"; got {self.average}')
        targets = self._encoded(data.y, data.X.dtype)
        labels = ["training"]
        if len(targets) > 1:
            labels = [f"training of class {one!s} against the rest" for one in classes]
        return list(zip(labels, targets, self._weights(data, targets), strict=True))

    def _n_classes(self) -> int:
        """Count the classes of a softmax; 1 where each is a problem of its own."""
        many = self.loss == "multinomial" and len(self.classes_) > 2
        return len(self.classes_) if many else 1

    def _metric(self) -> Metric:
        return accuracy if self._n_classes() == 1 else accuracy_of_classes

    def _encoded(self, y: Array, dtype: Any) -> list[Array]:
        """1 and -1 for each class, or for the second of two; of a softmax the class's number."""
        with naming("y"):
            labels = labels_in(y)
        if not np.array_equal(labels, self.classes_):
            unseen = np.setdiff1d(labels, self.classes_)
            if unseen.size:
                raise ValueError(f"y must hold labels out of classes {self.classes_}; got {unseen}")
        if self._n_classes() > 1:
            return [np.searchsorted(self.classes_, y).astype(dtype)]
        positives = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        return [2 * (y == one).astype(dtype) - 1 for one in positives]

    def _weights(self, data: Data, targets: list[Array]) -> list[Array | None]:
        """Weights of the rows in each problem: the sample's times the class's; None for ones."""
        if self.class_weight is None:
            return [data.sample_weight] * len(targets)
        dtype = data.X.dtype
        rows = row_weights(data.X, data.sample_weight)
        by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=data.y)
        if not np.isfinite(by_class).all():
            raise ValueError(f"class_weight must be finite; got {by_class}")
        if self._n_classes() > 1:
            return [rows * by_class.astype(dtype)[targets[0].astype(np.intp)]]
        if len(targets) == 1:
            return [rows * np.where(targets[0] > 0, by_class[1], by_class[0]).astype(dtype)]
        return [
            rows * np.where(target > 0, weight, 1).astype(dtype)
            for target, weight in zip(targets, by_class, strict=True)
        ]

    def decision_function(self, X: ArrayLike) -> Array:
        """Signed distances to the separating planes, times the weights' norms.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
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
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
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
        """Probabilities of the classes, with loss "log_loss", "multinomial", "modified_huber".

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; with more than two classes the softmax of the decisions
            ("multinomial") or the one-against-rest probabilities, normalised (Zadrozny & Elkan,
            "Transforming classifier scores into accurate multiclass probability estimates", KDD
            2002). Those of "modified_huber" are
            ``(clip(decision_function(X), -1, 1) + 1) / 2`` (Zhang, "Statistical behavior and
            consistency of classification methods", Ann. Statist. 32, 2004).
        """
        scores = self._decision(X)
        if self._n_classes() > 1:
            probabilities: Array = softmax(scores, axis=1)
            return probabilities
        if self._pointwise_loss() == "log_loss":
            positive = np.exp(-np.logaddexp(0, -scores))
        else:
            positive = (np.clip(scores, -1, 1) + 1) / 2
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
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``.
        """
        probabilities: Array = self.predict_proba(X)
        return np.log(probabilities)
