"""Files that linear models train on chunk by chunk."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from numpy.typing import NDArray

from .streams import ParquetChunks

__all__ = ["Data", "Stream"]

Array = NDArray[Any]


@dataclass
class Data:
    """What fit was given, checked."""

    X: Any  # array, or CSR matrix
    y: Array
    sample_weight: Array | None
    classes: Array | None = None  # of a classification, if they are known before
    stream: "Stream | None" = None  # the file that X and y are a chunk of


class Stream:
    """A file, and how its chunks are read.

    Parameters
    ----------
    chunks : ParquetChunks
        The file.
    read : callable
        From a chunk's X and y, and whether to note names and number of the features, to `Data`.
    classifies : bool
        Whether the target is a label.
    """

    def __init__(
        self, chunks: ParquetChunks, read: Callable[[Array, Array, bool], Data], classifies: bool
    ) -> None:
        self._chunks, self._read, self._classifies = chunks, read, classifies
        self._classes: Array | None = None
        self._begun: Iterator[tuple[Array, Array]] | None = None  # an epoch nobody has asked for

    def first(self, reset: bool) -> Data:
        """Find the classes, and have a look at the first chunk."""
        if self._classifies:
            self._classes = self._chunks.labels()
        coming = iter(self._chunks)
        chunk = next(coming, None)
        if chunk is None:
            raise ValueError("X must have rows; got a file without any")
        self._begun = chain([chunk], coming)
        return self._checked(*chunk, reset)

    def epoch(self) -> Iterator[Data]:
        """Go through the file once."""
        coming, self._begun = self._begun or iter(self._chunks), None
        for X, y in coming:
            yield self._checked(X, y, False)

    def _checked(self, X: Array, y: Array, reset: bool) -> Data:
        return replace(self._read(X, y, reset), classes=self._classes, stream=self)
