"""Data larger than memory: what a matrix maps of a file is read ahead, and let go behind.

A mapped file is read as its pages are touched, a few at a time, while the kernels wait. So an epoch
goes through windows of some megabytes: while one is trained on, threads bring in the pages of the
next; those of the last are taken from this process (they stay in the system's cache as long as
there is room).

For ``shuffle="block"`` a window is made of segments of neighbouring rows that lie anywhere in the
file, and the blocks within it are shuffled: large reads, well-mixed rows (Xu et al., "In-database
machine learning with CorgiPile", SIGMOD 2022, algorithm 1).
"""

import ctypes
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from . import _core
from ._ahead import ahead

__all__ = ["Windows"]

Array = NDArray[Any]
Run = tuple[int, int]  # of neighbouring rows: the first, and the one after the last

_SEGMENT_BYTES = 4 * 2**20  # read in one go
_SEGMENTS = 16  # of a window
_READERS = 4  # segments read at a time
_POPULATE_READ = 22  # MADV_POPULATE_READ, of Linux 5.14; Python has no name for it
_PAGE = 4096  # no page is smaller


def _mapping_of(array: Any) -> mmap.mmap | None:
    """Find the file's mapping that an array is a view of."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, mmap.mmap) else None


@cache
def _madvise() -> Any:
    """Find the system's function, None where it has none; Python's own keeps the GIL meanwhile."""
    try:
        function = ctypes.CDLL(None).madvise
    except (AttributeError, OSError, TypeError):
        return None
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function


class _Part:
    """An array that maps a part of a file, row by row."""

    def __init__(self, array: Array, begins: Array | None) -> None:
        mapping = _mapping_of(array)
        assert mapping is not None
        whole = np.frombuffer(mapping, np.uint8)
        self._address = array.__array_interface__["data"][0]
        start = self._address - whole.__array_interface__["data"][0]
        self._bytes = whole[start : start + array.nbytes]
        self._begins = begins  # of each row, in elements
        self._unit = array.itemsize if begins is not None else array.strides[0]
        # Few large pages instead of many small ones, also where a segment follows a far one: Linux
        # makes pages large only as it sees a file read in order.
        self._advise(getattr(mmap, "MADV_HUGEPAGE", -1), 0, self._bytes.size)

    def fetch(self, run: Run) -> None:
        """Bring in the pages of these rows."""
        first, last = self._span(run)
        if not self._advise(_POPULATE_READ, first, last):
            np.max(self._bytes[first:last:_PAGE], initial=0)  # touches them

    def let_go(self, run: Run) -> None:
        """Take these pages from the process; what touches them maps them again."""
        if not self._bytes.flags.writeable:  # else changes may be nowhere else
            self._advise(getattr(mmap, "MADV_DONTNEED", -1), *self._span(run))

    def _span(self, run: Run) -> tuple[int, int]:
        """Bytes of the array that hold these rows."""
        first, last = run if self._begins is None else self._begins[list(run)].tolist()
        return first * self._unit, last * self._unit

    def _advise(self, advice: int, first: int, last: int) -> bool:
        """Tell the system about these bytes; whether it knows this advice."""
        madvise = _madvise()
        if madvise is None or advice < 0:
            return False
        first, last = first + self._address, last + self._address
        first -= first % mmap.PAGESIZE
        known: bool = madvise(first, last - first, advice) == 0
        return known


def _parts(X: Any) -> list[_Part]:
    """Find what of a matrix maps a file."""
    arrays = (
        [(X, None)] if isinstance(X, np.ndarray) else [(X.data, X.indptr), (X.indices, X.indptr)]
    )
    return [_Part(array, begins) for array, begins in arrays if _mapping_of(array) is not None]


class Windows:
    """How an epoch goes through a matrix that maps a file.

    Parameters
    ----------
    X : ndarray or CSR matrix of shape (n_rows, n_features)
        The matrix.
    block : int
        Neighbouring rows that stay together, as in the order of an epoch.
    rows_per_call : int
        Rows that the kernels get at a time; a window holds a multiple of that.
    """

    def __init__(self, X: Any, block: int, rows_per_call: int) -> None:
        self._parts = _parts(X)
        self._n_rows, self._block = X.shape[0], block
        row_bytes = (X.nbytes if isinstance(X, np.ndarray) else 2 * X.data.nbytes) / self._n_rows
        self._together = max(1, int(_SEGMENT_BYTES / max(row_bytes, 1)))  # rows of a segment
        self._blocks = max(1, self._together // block)
        calls = -(-self._together * _SEGMENTS // rows_per_call)
        self._rows = calls * rows_per_call  # of a window

    @classmethod
    def of(cls, X: Any, block: int, rows_per_call: int) -> Self | None:
        """Windows, if X maps a file, is larger than one, and is not shuffled row by row."""
        if block == 1 or not _parts(X):
            return None
        windows = cls(X, block, rows_per_call)
        return windows if windows._rows < X.shape[0] else None

    def segments(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Segments of an order of blocks, as they come in the file."""
        return np.arange(-(-order.size // self._blocks), dtype=np.int64)

    def shuffle(self, order: NDArray[np.int64], segments: NDArray[np.int64], seed: int) -> None:
        """Fill in an epoch's order of blocks: segments shuffled, then the blocks of each window.

        Parameters
        ----------
        order : ndarray of shape (n_blocks,)
            Filled in.
        segments : ndarray of shape (n_segments,)
            Shuffled once more, in place.
        seed : int
            Of the permutations.
        """
        _core.shuffle(segments, seed)
        blocks = segments[:, None] * self._blocks + np.arange(self._blocks)
        order[:] = blocks[blocks < order.size]
        window = self._blocks * _SEGMENTS
        for first in range(0, order.size, window):
            _core.shuffle(order[first : first + window], seed)

    def read_ahead(self, order: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """Go through the windows, each there when its turn comes.

        Parameters
        ----------
        order : ndarray of shape (n_blocks,)
            The epoch's order of blocks.

        Yields
        ------
        first, last : int
            Positions in the epoch of the rows [first, last).
        """
        windows = [
            (first, min(first + self._rows, self._n_rows))
            for first in range(0, self._n_rows, self._rows)
        ]

        with ThreadPoolExecutor(_READERS) as readers:

            def fetch(window: tuple[int, int]) -> list[Run]:
                runs = self._runs(order, *window)
                for part in self._parts:
                    list(readers.map(part.fetch, runs))
                return runs

            for window, runs in zip(windows, ahead(fetch, windows), strict=True):
                yield window
                for part, run in product(self._parts, runs):
                    part.let_go(run)

    def _runs(self, order: NDArray[np.int64], first: int, last: int) -> list[Run]:
        """Neighbouring rows among those at these positions, and a block more at either end."""
        if order.size == 1:  # in the order of the file
            rows = self._together
            return [(r, min(r + rows, last)) for r in range(first, last, rows)]
        slots = np.sort(order[max(0, first // self._block - 1) : last // self._block + 2])
        breaks = np.flatnonzero(np.diff(slots) != 1) + 1
        return [
            (int(run[0]) * self._block, min((int(run[-1]) + 1) * self._block, self._n_rows))
            for run in np.split(slots, breaks)
        ]
