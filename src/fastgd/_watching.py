"""What is seen of any training, epoch by epoch: a bar, and the user's functions as a list."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["bar", "listed"]


def listed(callbacks: Any) -> list[Callable[[Any], bool | None]]:
    """Return the parameter `callbacks` of an estimator as a list."""
    if callbacks is None:
        return []
    return [callbacks] if callable(callbacks) else list(callbacks)


@contextmanager
def bar(max_iter: int) -> Iterator[Callable[[float], None]]:
    """Make a progress bar; call what comes with the objective of each epoch."""
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError('verbose="bar" needs tqdm: pip install "fastgd[train]"') from error
    with tqdm(total=max_iter, desc="training", unit="epoch") as shown:

        def show(objective: float) -> None:
            shown.set_postfix(objective=f"{objective:.4g}", refresh=False)
            shown.update()

        yield show
