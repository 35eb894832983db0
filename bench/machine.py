"""What the figures were measured on: enough to compare by, nothing that names the machine."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import fastgd

PACKAGES = ("numpy", "scikit-learn", "torch")


def describe() -> dict[str, str | int | float | None]:
    """Return processor, cores in reach, system, fastgd's build and the peers' versions by name.

    A peer that is not installed has the version None. The load is the number of processes that
    wanted a core in the last minute: figures for several threads are worth little if it is not low.

    Examples
    --------
    >>> sorted(describe())[:3]
    ['compiler', 'cores', 'cpu']
    """
    config = fastgd.show_config(mode="dicts")
    return {
        "cpu": _cpu(),
        "cores": _cores(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "fastgd": fastgd.__version__,
        "compiler": config["compiler"],
        "isa": config["isa"],
        **{name: _version(name) for name in PACKAGES},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
