"""Steps, and functions of a step: what the tests of schedules share."""

import numpy as np

N_STEPS = 200
MANY = np.arange(N_STEPS)


def saw(number):
    """Serve as a function of one number that can be pickled."""
    return 1.0 / (1.0 + number % 7)


def nearly_one(number):
    """Serve as a factor of many steps."""
    return 1.0 - 0.1 / (1.0 + number)
