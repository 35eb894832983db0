"""`fastgd._initializers`: what networks begin with."""

import numpy as np
import pytest

from fastgd._initializers import INITIALIZERS, initialize

GENERATORS = [np.random.default_rng, np.random.RandomState]
VARIANCES = {  # of 60 inputs and 40 outputs
    "glorot_uniform": 2 / 100,
    "glorot_normal": 2 / 100,
    "he_uniform": 2 / 60,
    "he_normal": 2 / 60,
    "lecun_normal": 1 / 60,
    "orthogonal": 1 / 60,
    "zeros": 0.0,
}


@pytest.mark.parametrize("make", GENERATORS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_variances_are_those_of_the_papers(name, make):
    """Protects the scale of signals through the layers, with both kinds of generators."""
    rng = make(0)
    draws = np.stack([initialize((60, 40), name, rng) for _ in range(20)])
    assert draws.dtype == np.float64
    np.testing.assert_allclose(draws.var(), VARIANCES[name], rtol=0.02)
    assert abs(draws.mean()) < 0.003
    if name.endswith("uniform"):
        assert abs(draws).max() <= (3 * VARIANCES[name]) ** 0.5


@pytest.mark.parametrize("shape", [(7, 7), (9, 4), (4, 9), (1, 5), (5, 1)])
def test_orthogonal_weights_keep_lengths(shape):
    """Protects orthogonality, whichever side of the weight is longer, and its memory order."""
    weight = initialize(shape, "orthogonal", np.random.default_rng(0))
    gram = weight.T @ weight if shape[0] >= shape[1] else weight @ weight.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)
    assert weight.shape == shape
    assert weight.flags.c_contiguous


def test_orthogonal_weights_have_no_favourite_sign():
    """Protects all orthogonal matrices being equally likely: LAPACK prefers negative diagonals."""
    rng = np.random.default_rng(0)
    signs = [np.sign(initialize((2, 2), "orthogonal", rng)) for _ in range(400)]
    assert (abs(np.mean(signs, axis=0)) < 0.2).all()


@pytest.mark.parametrize("make", GENERATORS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_same_generator_draws_the_same(name, make, assert_same_bits):
    """Protects reproducible networks."""
    assert_same_bits(initialize((5, 3), name, make(7)), initialize((5, 3), name, make(7)))


def test_an_unknown_name_is_refused():
    """Protects from typing errors: the names that exist are said."""
    with pytest.raises(ValueError, match=r"initializer must be one of glorot_uniform, .*'xavier'"):
        initialize((2, 2), "xavier", np.random.default_rng(0))
