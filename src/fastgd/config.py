"""What this build is, what it runs on, and how many threads it may use."""

import operator
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

from . import _core

__all__ = ["get_num_threads", "set_num_threads", "show_config", "threads"]


_MOST_THREADS = 4096


def _cgroup_quota(root: Path = Path("/")) -> int | None:
    """CPUs that the control group of this process grants, rounded up; None if it sets no limit."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        # A container sees its own group as the root; outside, the path leads to it, and every
        # group on the way may set a limit.
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            quota = _read_quota(folder) if folder.is_relative_to(base) else None
            if quota:
                quotas.append(quota)
    return min(quotas, default=None)


def _read_quota(folder: Path) -> int | None:
    """Read ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1) of one control group."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return max(1, -(-int(quota) // int(period))) if int(quota) > 0 else None
    except (OSError, ValueError):  # not there, or "max"
        return None


def _default_threads() -> tuple[int, str]:
    """Team size if the user says nothing, and where it comes from."""
    if not _core.build_info()["openmp"]:
        return 1, "built without OpenMP"
    # A list gives one number for each level of nesting; ours is the first.
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        return min(int(wanted), _MOST_THREADS), "OMP_NUM_THREADS"
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    available, reason = affinity or 1, "CPUs that this process may run on"
    quota = _cgroup_quota()
    if quota is not None and quota < available:
        available, reason = quota, "CPU quota of the control group"
    return available, reason


class _Choice:
    """The team size in force, and why."""

    def __init__(self) -> None:
        self.threads, self.reason = _default_threads()
        _core.set_threads(self.threads)

    def set(self, n: int, reason: str) -> None:
        """Take `n` threads, because of `reason`."""
        self.threads, self.reason = n, reason
        _core.set_threads(n)


_choice = _Choice()


def get_num_threads() -> int:
    """Threads that a kernel called now would use, if it had enough work.

    The user's choice (:func:`set_num_threads`), else OMP_NUM_THREADS, else the smaller of the
    control group's CPU quota and the CPUs in this process's affinity mask; less where
    ``threadpoolctl.threadpool_limits`` or ``torch.set_num_threads`` has since limited OpenMP.

    Returns
    -------
    int
        At least 1.

    Examples
    --------
    >>> import fastgd
    >>> with fastgd.threads(1):
    ...     fastgd.get_num_threads()
    1
    """
    return _core.threads()


def chosen_threads() -> int | None:
    """Threads that the user asked for by ``set_num_threads`` or ``threads``; None if not at all."""
    return _choice.threads if _choice.reason in ("set_num_threads", "threads") else None


def set_num_threads(n: int) -> None:
    """Set how many threads the kernels may use, in the whole process.

    No result depends on it, to the last bit.

    Parameters
    ----------
    n : int
        At least 1. More than there are CPUs is possible, and slow.

    Raises
    ------
    TypeError, ValueError
        If `n` is not an integer, or below 1.

    Examples
    --------
    >>> import fastgd
    >>> before = fastgd.get_num_threads()
    >>> fastgd.set_num_threads(1)
    >>> fastgd.get_num_threads()
    1
    >>> fastgd.set_num_threads(before)
    """
    _choice.set(_checked_threads(n), "set_num_threads")


def _checked_threads(n: int) -> int:
    """Return `n` if it is a number of threads, else raise."""
    try:
        number = None if isinstance(n, bool) else operator.index(n)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"n must be an integer number of threads; got {n!r}")
    if not 1 <= number <= _MOST_THREADS:
        raise ValueError(f"n must be a number of threads from 1 to {_MOST_THREADS}; got {n}")
    return number


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Context manager: use `n` threads inside, and what was used before afterwards.

    Parameters
    ----------
    n : int
        At least 1.

    Examples
    --------
    >>> import fastgd
    >>> with fastgd.threads(1):
    ...     pass  # kernels called here run on one thread
    """
    n = _checked_threads(n)
    before = _choice.threads, _choice.reason
    _choice.set(n, "threads")
    try:
        yield
    finally:
        _choice.set(*before)


def _blas() -> str:
    """Name and version of the BLAS that SciPy ships."""
    from scipy import __config__

    blas = __config__.show(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']} (SciPy's)"


@overload
def show_config(mode: Literal["stdout"] = ...) -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print what this build is and what it uses, or return it.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default="stdout"
        Print, or return a dict, as ``numpy.show_config`` does.

    Returns
    -------
    dict or None
        With keys version, compiler, isa, isas built, isas supported, openmp, threads,
        threads because, blas.

    Raises
    ------
    ValueError
        If `mode` is none of the two.

    Examples
    --------
    >>> import fastgd
    >>> sorted(fastgd.show_config(mode="dicts"))[:3]
    ['blas', 'compiler', 'isa']
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f'mode must be "stdout" or "dicts"; got {mode!r}')
    build = _core.build_info()
    used = _core.threads()
    config = {
        "version": _core.__version__,
        "compiler": build["compiler"],
        "isa": _core.active_isa(),
        "isas built": list(_core.ISAS),
        "isas supported": list(_core.SUPPORTED_ISAS),
        "openmp": build["openmp_file"] if build["openmp"] else "none: built without OpenMP",
        "threads": used,
        "threads because": _choice.reason if used == _choice.threads else "OpenMP was limited",
        "blas": _blas(),
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for key, value in config.items():
        print(f"{key:<{width}}  {', '.join(value) if isinstance(value, list) else value}")
    return None
