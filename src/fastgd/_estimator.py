"""What all models share as estimators of scikit-learn, however they are trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.base import BaseEstimator

__all__ = ["Estimator"]


class Estimator(BaseEstimator):  # type: ignore[misc]
    """Parameters as given, sparse rows, and a fit that leaves nothing behind if it fails."""

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Set the parameters as they are given to ``__init__``: its ``locals()``."""
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Take back what was noted about the data if no model comes of it."""
        before = self.__dict__.copy()
        try:
            yield
        except BaseException:
            self.__dict__ = before
            raise
