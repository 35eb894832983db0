"""One iteration of L-BFGS, by peer and size: ``python -m pytest bench``."""

from __future__ import annotations

import pytest
from cases import Contestant, Iteration, contestants
from harness import SHRINK, time_contestant
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(max_time=0.1, min_rounds=3)
@pytest.mark.parametrize("contestant", contestants(Iteration, SHRINK), ids=str)
def test_iteration(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Time one iteration."""
    time_contestant(benchmark, contestant)
