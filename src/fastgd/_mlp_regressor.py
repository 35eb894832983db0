"""The multilayer perceptron for regression: parameters, documentation, what it makes of targets."""

from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlogy
from sklearn.base import RegressorMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from . import _core
from ._hypers import in_domain
from ._linear_input import Array, finite, losses_for, parameter_of
from ._linear_validation import Metric, r2, r2_of_exp
from ._mlp_base import MLP, Given
from ._mlp_parameters import CONSTRAINTS, is_stochastic, with_parameters
from ._mlp_training import Rows

__all__ = ["MLPRegressor"]


@with_parameters
class MLPRegressor(RegressorMixin, MLP):  # type: ignore[misc]
    """Multilayer perceptron for regression: ``sklearn.neural_network.MLPRegressor``.

    Forward pass, backpropagation, clipping and update are one call into C for each epoch. The
    parameters are scikit-learn's, with its defaults, up to `max_fun`; those after it are fastgd's
    own. Several targets at once are outputs of one network.

    Parameters
    ----------
    loss : str, default="squared_error"
        scikit-learn's "squared_error" and "poisson"; and all others of
        :class:`fastgd.linear_model.SGDRegressor`. The network is the logarithm of the prediction
        with "poisson", "gamma" and "tweedie".
    {parameters}
    {own parameters}
    loss_parameter : float or None, default=None
        Parameter of the loss, as for :class:`fastgd.linear_model.SGDRegressor`; of "huber" and the
        epsilon-insensitive ones it is epsilon, for which None takes 0.1.

    Attributes
    ----------
    {attributes}

    Notes
    -----
    What is minimised is the sum over several targets; ``loss_curve_`` has their mean, of "poisson"
    the sum, as in scikit-learn. (Its "lbfgs" is given that mean with the gradient of the sum, so
    with several targets it takes other steps.)

    References
    ----------
    Those of :class:`MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from fastgd.neural_network import MLPRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(solver="lbfgs", alpha=30, max_iter=500, tol=1e-3, random_state=0)
    >>> bool(model.fit(scale(X), scale(y)).score(scale(X), scale(y)) > 0.5)
    True
    """

    loss: str
    loss_parameter: float | None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **CONSTRAINTS,
        "loss": [StrOptions(set(losses_for("regression")))],
        "loss_parameter": [Real, None],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        loss_parameter: float | None = None,
    ) -> None:
        self._keep(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @available_if(is_stochastic)  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for one epoch on (X, y), going on from where training was.

        Also with the optimizer that there is: of what else was set of it since then, only another
        `solver` or `optimizer` counts.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Finite.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Finite targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        MLPRegressor
            self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    # ---- targets ---------------------------------------------------------------------------------

    def _note_targets(self, y: Array, first: bool, incremental: bool, classes: Any) -> None:
        in_domain(y, self.loss, parameter_of(self.loss, self.loss_parameter))

    def _outputs(self, y: Array) -> int:
        return 1 if y.ndim == 1 else int(y.shape[1])

    def _loss_settings(self) -> dict[str, Any]:
        return {"loss": self.loss, "loss_parameter": self.loss_parameter}

    def _predicts_exp(self) -> bool:
        return _core.LOSSES[self.loss]["link"] == "log"

    def _encoded(self, y: Array, dtype: Any) -> Array:
        return finite(y, dtype, "y")

    def _rows(self, given: Given, dtype: Any) -> Rows:
        """Return the data as the network takes them, and what scikit-learn's loss is of that."""
        rows = super()._rows(given, dtype)
        if self.loss == "poisson":  # half of the deviance, summed over the outputs
            y = np.asarray(given.y, np.float64).reshape(len(given.y), -1)
            rows.constants = (xlogy(y, y) - y).sum(axis=1)
        else:
            rows.share = 1 / self._outputs(given.y)
        return rows

    def _strata(self, y: Array) -> None:
        return None

    def _metric(self) -> Metric:
        return r2_of_exp if self._predicts_exp() else r2

    # ---- predictions -----------------------------------------------------------------------------

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
        prediction = self._predicted(X, raw=False)
        return prediction[:, 0] if prediction.shape[1] == 1 else prediction
