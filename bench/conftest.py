"""Lets the modules of the benchmarks import each other, as they do under ``python bench/...``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
