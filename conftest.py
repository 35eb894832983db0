"""What holds for every test: those in ``tests``, and the examples of ``src`` and the README."""

import numpy as np
import pytest

_PRINTED = np.get_printoptions()


@pytest.fixture(autouse=True)
def _printed_as_by_numpy():
    """Print arrays as NumPy does; importing Ultralytics sets another way for the whole process."""
    with np.printoptions(**_PRINTED):
        yield
