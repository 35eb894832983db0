"""One step ahead: a thread works out the next result while this one is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Work on each item in a thread, at most one further than what is asked for.

    Parameters
    ----------
    work : callable
        From an item to its result.
    items : iterable
        Taken one by one.

    Yields
    ------
    object
        The results, in order. An exception in `work` is raised in its result's place.

    Examples
    --------
    >>> list(ahead(abs, [-1, 2, -3]))
    [1, 2, 3]
    """
    with ThreadPoolExecutor(1) as thread:
        coming = None
        for item in items:
            here, coming = coming, thread.submit(work, item)
            if here is not None:
                yield here.result()
        if coming is not None:
            yield coming.result()
