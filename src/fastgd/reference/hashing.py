"""Hashed features: which weight a feature has, and what two features together have."""

from collections.abc import Sequence

Range = tuple[int, int]
Feature = tuple[int, float]

FNV_PRIME = 16777619
"""The prime of the hash FNV of 32 bits."""


def feature_of_pair(i: int, j: int) -> int:
    """Return the number of the feature that is the product of features i and j.

    One step of the hash FNV-1 (Fowler, Noll & Vo), as Vowpal Wabbit makes it: in 64 bits, which
    wrap around.

    Parameters
    ----------
    i, j : int
        The features, from 0 on.

    Returns
    -------
    int
        0 <= number < 2^64.

    Examples
    --------
    >>> feature_of_pair(1, 2)
    16777617
    >>> feature_of_pair(2, 1)
    33555239
    """
    return (FNV_PRIME * i) % 2**64 ^ j


def hashed_row(
    row: Sequence[Feature], bits: int, pairs: Sequence[tuple[Range, Range]] = ()
) -> list[Feature]:
    """Return a row's features as a model with 2^bits weights sees them.

    First the row's own, then of each pair of ranges the products of a feature of the one with one
    of the other. A range with itself has each two once, the lower first, and each with itself. Of
    every number the last bits count (Weinberger et al., 2009, without signs).

    Parameters
    ----------
    row : sequence of (int, float)
        Features and their values.
    bits : int
        Of the numbers that are left.
    pairs : sequence of pairs of (int, int), default=()
        Ranges of features: the first, and the one after the last.

    Returns
    -------
    list of (int, float)
        Features from 0 to 2^bits - 1, which may come more than once, and their values.

    Examples
    --------
    >>> hashed_row([(3, 2.0), (17, 5.0)], bits=4)
    [(3, 2.0), (1, 5.0)]
    >>> hashed_row([(3, 2.0), (5, 5.0)], bits=4, pairs=[((0, 8), (0, 8))])
    [(3, 2.0), (5, 5.0), (10, 4.0), (12, 10.0), (10, 25.0)]
    """
    made = list(row)
    for first, second in pairs:
        for p, (i, x) in enumerate(row):
            if i not in range(*first):
                continue
            for j, z in row[p:] if first == second else row:
                if j in range(*second):
                    a, b = sorted((i, j)) if first == second else (i, j)
                    made.append((feature_of_pair(a, b), x * z))
    return [(number % 2**bits, value) for number, value in made]
