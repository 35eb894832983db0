"""Multilayer perceptrons, with scikit-learn's names, defaults and conventions.

Change the import, keep the code; then ask for another update rule (``optimizer``) with any
``schedule``, other activations, ``dropout``, ``norm``, ``skip``, ``class_weight``, rows for
validation of your own. Needs the extra ``[sklearn]``. Networks for loops of one's own are in
`fastgd.nn`.

The estimators stand in `_mlp_classifier` and `_mlp_regressor`. Their parameters
are in `_mlp_parameters`, what they share in `_mlp_base`; the epochs are in `_mlp_training`, L-BFGS
in `_mlp_lbfgs`, what takes the steps in `_mlp_optimizer`.
"""

try:
    import sklearn  # noqa: F401 - what all of it builds on
except ImportError as error:  # pragma: no cover - the test environment has it
    raise ImportError(
        'fastgd.neural_network needs scikit-learn: pip install "fastgd[sklearn]"'
    ) from error

from ._mlp_classifier import MLPClassifier
from ._mlp_regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
