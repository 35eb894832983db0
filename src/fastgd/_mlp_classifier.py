"""The multilayer perceptron that classifies: parameters, documentation, what it makes of labels."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils import compute_class_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target

from ._linear_input import BALANCED_IN_PARTIAL_FIT, Array, labels_in, naming, row_weights
from ._linear_validation import Metric, accuracy, accuracy_of_classes
from ._mlp_base import MLP, Given
from ._mlp_parameters import CONSTRAINTS, is_stochastic, with_parameters

__all__ = ["MLPClassifier"]


@with_parameters
class MLPClassifier(ClassifierMixin, MLP):  # type: ignore[misc]
    """Multilayer perceptron that classifies: ``sklearn.neural_network.MLPClassifier``.

    It minimises the cross-entropy, of more than two classes that of a softmax; of several labels at
    once, each its own. Forward pass, backpropagation, clipping and update are one call into C for
    each epoch. The parameters are scikit-learn's, with its defaults, up to `max_fun`; those after
    it are fastgd's own.

    Parameters
    ----------
    {parameters}
    {own parameters}
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes; not for several labels at once.
    label_smoothing : float, default=0.0
        Part of each target that is shared among all classes (Szegedy et al., CVPR 2016).

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels.
    {attributes}

    References
    ----------
    Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323,
    1986.

    Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from fastgd.neural_network import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X /= 16
    >>> model = MLPClassifier((64,), learning_rate_init=0.01, tol=0.01, random_state=0).fit(X, y)
    >>> bool(model.score(X, y) > 0.99)
    True

    Another rule, rows for validation of one's own, and the weights of the best epoch:

    >>> model = MLPClassifier((64,), optimizer="lion", early_stopping=True, random_state=0)
    >>> model = model.fit(X[:1500], y[:1500], X_val=X[1500:], y_val=y[1500:])
    >>> model.score(X[1500:], y[1500:]) == max(model.validation_scores_)
    True
    """

    loss = "log_loss"
    class_weight: Any
    label_smoothing: float
    classes_: Array
    _kind: str  # of y: "binary", "multiclass" or "multilabel"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        optimizer: Any = None,
        schedule: Any = None,
        activation_parameter: float | None = None,
        initializer: str | None = None,
        norm: str | None = None,
        dropout: float = 0.0,
        skip: bool = False,
        max_norm: float | None = None,
        clip_value: float | None = None,
        ema_decay: Any = None,
        restore_best_weights: bool = False,
        callbacks: Any = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Also with the optimizer that there is: of what else was set of it since then, only another
        `solver` or `optimizer` counts.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite.
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Labels, out of `classes`.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.
        classes : array-like of shape (n_classes,), optional
            All labels that will ever come; needed in the first call.

        Returns
        -------
        MLPClassifier
            self
        """
        if self.class_weight == "balanced":
            raise ValueError(BALANCED_IN_PARTIAL_FIT)
        if classes is None and not hasattr(self, "classes_"):
            raise ValueError("classes must be passed on the first call to partial_fit.")
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    # ---- labels ----------------------------------------------------------------------------------

    def _note_targets(self, y: Array, first: bool, incremental: bool, classes: Any) -> None:
        """Note the classes; refuse labels that were not noted before."""
        with naming("y"):
            kind, labels = _kind_and_labels(y)
        if classes is not None:
            declared = np.unique(np.asarray(classes))
            if hasattr(self, "classes_") and not np.array_equal(declared, self.classes_):
                raise ValueError(
                    f"`classes={classes!r}` is not the same as on last call to partial_fit, was: "
                    f"{self.classes_!r}"
                )
            if not hasattr(self, "classes_"):
                self.classes_ = declared
                self._kind = kind if kind == "multilabel" else _kind_of(declared)
        if not hasattr(self, "classes_") or (first and not incremental):
            self.classes_, self._kind = labels, kind
        elif self.warm_start and not incremental:
            if not np.array_equal(labels, self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous "
                    f"call to fit. Previously got {self.classes_}, `y` has {labels}"
                )
        elif np.setdiff1d(labels, self.classes_).size:
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. "
                f"'y' has {labels}."
            )
        if (kind == "multilabel") != (self._kind == "multilabel"):
            raise ValueError(f"y must be {self._kind}, as in the fit before; got {kind}")
        if kind == "multilabel" and self.class_weight is not None:
            raise ValueError(
                f"class_weight must be None for several labels at once; got {self.class_weight!r}"
            )

    def _outputs(self, y: Array) -> int:
        return 1 if self._kind == "binary" else len(self.classes_)

    def _loss_settings(self) -> dict[str, Any]:
        loss = "cross_entropy" if self._kind == "multiclass" else "log_loss"
        return {"loss": loss, "label_smoothing": float(self.label_smoothing)}

    def _encoded(self, y: Array, dtype: Any) -> Array:
        """Return numbers of classes; 0 and 1 of two classes, or of several labels."""
        if self._kind == "multiclass":
            y = np.searchsorted(self.classes_, y)
        elif self._kind == "binary":
            y = self._is_second(y)
        return np.ascontiguousarray(y, dtype=dtype)

    def _is_second(self, y: Array) -> Array:
        """Whether each label is the second of two; there may be but one."""
        return y == self.classes_[-1] if len(self.classes_) == 2 else np.zeros(len(y), bool)

    def _weights(self, given: Given) -> Array | None:
        """Return the sample's weights times the classes'; None for ones."""
        rows = given.sample_weight
        if self.class_weight is None:
            return rows
        by_class = compute_class_weight(self.class_weight, classes=self.classes_, y=given.y)
        if not (np.isfinite(by_class) & (by_class >= 0)).all():
            raise ValueError(f"class_weight must be finite and 0 or more; got {by_class}")
        weights: Array = (
            row_weights(given.X, rows) * by_class[np.searchsorted(self.classes_, given.y)]
        )
        return weights

    def _strata(self, y: Array) -> Array | None:
        if self._kind != "binary":
            return None
        return np.where(self._is_second(y), "True", "False")

    def _metric(self) -> Metric:
        if self._kind == "multilabel":
            return _accuracy_of_all_labels
        return accuracy if self._kind == "binary" else accuracy_of_classes

    # ---- predictions -----------------------------------------------------------------------------

    def predict(self, X: ArrayLike) -> Array:
        """Most likely label of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
            Out of ``classes_``; 0 or 1 for each of several labels.
        """
        raw = self._predicted(X, raw=True)
        if self._kind == "multilabel":
            return (raw > 0).astype(np.intp)
        best = raw.argmax(axis=1) if self._kind == "multiclass" else (raw[:, 0] > 0).astype(np.intp)
        labels: Array = self.classes_[np.minimum(best, len(self.classes_) - 1)]
        return labels

    def predict_proba(self, X: ArrayLike) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``; of several labels each its own.
        """
        probabilities = self._predicted(X, raw=False)
        if self._kind != "binary":
            return probabilities
        return np.hstack([1 - probabilities, probabilities])

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
        with np.errstate(divide="ignore"):
            logarithms: Array = np.log(self.predict_proba(X))
        return logarithms


def _kind_and_labels(y: Array) -> tuple[str, Array]:
    """Return what kind of a classification's target y is, and its sorted labels."""
    if y.ndim == 1:
        labels = labels_in(y)
        return _kind_of(labels), labels
    kind = type_of_target(y)
    if kind != "multilabel-indicator":
        raise ValueError(
            f"y must hold labels, or 0 and 1 for each of several labels; got {kind}: Multioutput "
            "target data is not supported"
        )
    return "multilabel", np.arange(y.shape[1])


def _kind_of(labels: Array) -> str:
    return "multiclass" if len(labels) > 2 else "binary"


def _accuracy_of_all_labels(y: Array, decision: Array, sample_weight: Array | None) -> float:
    """Part of the rows all of whose labels are right."""
    return float(np.average(((decision > 0) == (y > 0)).all(axis=1), weights=sample_weight))
