"""Sampler: the order in which rows are used."""

from collections.abc import Iterator, Sequence

BLOCK = 64
"""Neighbouring rows that stay together when `train_linear` shuffles blocks."""


def xorshift32(seed: int) -> int:
    """Return the next state of a 32-bit xorshift generator.

    Marsaglia (2003), shifts 13, 17, 5. Zero, from which it would never get away, counts as 1.

    Parameters
    ----------
    seed : int
        State, 0 <= seed < 2^32.

    Returns
    -------
    int
        The next state, 0 < state < 2^32.

    Examples
    --------
    >>> xorshift32(1)
    270369
    >>> xorshift32(xorshift32(0))
    67634689
    """
    seed = seed or 1
    seed ^= seed << 13 & 0xFFFFFFFF
    seed ^= seed >> 17
    seed ^= seed << 5 & 0xFFFFFFFF
    return seed


def shuffle(order: list[int], seed: int) -> None:
    """Shuffle a list in place, exactly as scikit-learn's SGD shuffles its rows.

    Each place from the first on is swapped with itself or a later one, drawn at random
    (Durstenfeld, 1964). The same seed gives the same permutation of places; training uses one seed
    for all epochs and gets new orders because it shuffles what the epoch before has left.

    Parameters
    ----------
    order : list of int
        What to shuffle.
    seed : int
        Seed, 0 <= seed < 2^32.

    Examples
    --------
    >>> order = [0, 1, 2, 3, 4, 5]
    >>> shuffle(order, seed=7)
    >>> order
    [3, 1, 5, 4, 2, 0]
    >>> shuffle(order, seed=7)
    >>> order
    [4, 1, 0, 2, 5, 3]
    """
    n = len(order)
    for i in range(n - 1):
        seed = xorshift32(seed)
        j = i + seed % 2**31 % (n - i)
        order[i], order[j] = order[j], order[i]


def rows(order: Sequence[int], block: int, n: int) -> Iterator[int]:
    """Yield the rows of one epoch, block by block.

    Block number k holds the neighbouring rows k block, k block + 1, ...; the last may be shorter.
    Rows of a block stay together and in order: reading memory in stretches is several times as fast
    as hopping, and shuffled blocks are nearly as good for training as shuffled rows
    (Xu et al., 2022). With block = 1 this is `order` itself.

    Parameters
    ----------
    order : sequence of int
        Block numbers, each of 0 ... ceil(n / block) - 1 once.
    block : int
        Rows in a block.
    n : int
        Rows in all.

    Yields
    ------
    int
        Index of a row; each of 0 ... n - 1 once.

    Examples
    --------
    >>> list(rows([2, 0, 1], block=3, n=8))
    [6, 7, 0, 1, 2, 3, 4, 5]
    """
    for number in order:
        yield from range(number * block, min((number + 1) * block, n))
