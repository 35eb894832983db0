"""One optimizer step, by peer and size: ``python -m pytest bench``."""

from __future__ import annotations

import pytest
from cases import Contestant, ModelStep, Step, contestants
from harness import SHRINK, time_contestant
from pytest_benchmark.fixture import BenchmarkFixture


@pytest.mark.benchmark(max_time=0.1, min_rounds=3)
@pytest.mark.parametrize("contestant", contestants(Step, SHRINK), ids=str)
def test_step(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Time one step."""
    time_contestant(benchmark, contestant)


@pytest.mark.benchmark(max_time=0.1, min_rounds=3)
@pytest.mark.parametrize("contestant", contestants(ModelStep, SHRINK), ids=str)
def test_model_step(benchmark: BenchmarkFixture, contestant: Contestant) -> None:
    """Time what a training step does to a model's parameters."""
    time_contestant(benchmark, contestant)
