"""One epoch of a network, by peer, widths, batch and rule: ``python -m pytest bench``."""

from __future__ import annotations

import pytest
from cases import Contestant, Training, contestants
from harness import SHRINK, time_contestant
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(max_time=0.1, min_rounds=3)
@pytest.mark.parametrize("contestant", contestants(Training, SHRINK), ids=str)
def test_training(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Time one epoch."""
    time_contestant(benchmark, contestant)
