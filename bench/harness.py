"""How pytest-benchmark times a contestant; shared by the ``bench_*.py``, one for each room."""

from __future__ import annotations

import pytest
from cases import Contestant
from peers import find, pinned
from pytest_benchmark.fixture import BenchmarkFixture

SHRINK = 20  # the sizes of the report divided by this


def time_contestant(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Benchmark one unit of work; a missing peer is skipped by name, as is one that is too slow."""
    peer = find(contestant)
    if peer.missing:
        pytest.skip(f"{peer.name} is missing: no module {peer.needs}")
    case, scale = contestant.case.within(peer.limit)
    if scale > 1:
        pytest.skip(f"{peer.name} is too slow for {contestant.case.family}")
    benchmark.group = case.family
    with pinned(case.threads):
        benchmark(peer.prepare(case))
