"""One epoch of a linear model, by peer and size: ``python -m pytest bench``."""

from __future__ import annotations

import pytest
from cases import Contestant, Epoch, contestants
from harness import SHRINK, time_contestant
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(max_time=0.1, min_rounds=3)
@pytest.mark.parametrize("contestant", contestants(Epoch, SHRINK), ids=str)
def test_epoch(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Time one epoch."""
    time_contestant(benchmark, contestant)
