"""Linear models trained by gradient descent, with scikit-learn's names, defaults and conventions.

Change the import, keep the code; then ask for mini-batches (``batch_size``), another update rule
(``optimizer``), block-wise shuffling (``shuffle="block"``), several targets, sparse matrices with
indices of 64 bits, your own rows for validation. Needs the extra ``[sklearn]``.

The estimators stand in `_linear_classifier`, `_linear_regressor` and `_linear_one_class`; those
solved to convergence in `_linear_logistic` and `_linear_glm`, over `_solvers`. What they
share is in `_linear_base`, what they refuse in `_linear_input`, the rows held out in
`_linear_validation`, what is seen of training in `_linear_progress`, and the loop in `train`.
"""

try:
    import sklearn  # noqa: F401 - what all of it builds on
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        'fastgd.linear_model needs scikit-learn: pip install "fastgd[sklearn]"'
    ) from error

from ._linear_classifier import SGDClassifier
from ._linear_glm import GLMRegressor, Ridge
from ._linear_logistic import LogisticRegression
from ._linear_one_class import SGDOneClassSVM
from ._linear_regressor import SGDRegressor

__all__ = [
    "GLMRegressor",
    "LogisticRegression",
    "Ridge",
    "SGDClassifier",
    "SGDOneClassSVM",
    "SGDRegressor",
]
