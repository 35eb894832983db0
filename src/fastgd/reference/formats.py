"""Numbers in 16 and 8 bits: what ``csrc/convert.inl.h`` does, one number at a time.

A float32 goes by its bits, an int, where its bits matter. Rounding "stochastically" is to nearest
below, after random bits have been added to those that go; they are a hash, so they can be repeated.
"""

import math
import struct
from collections.abc import Sequence

BLOCK = 256
"""Elements that share a scale, and a part of the randomness."""

_MASK = 0xFFFFFFFF


def to_bits(x: float) -> int:
    """Bits of the float32 that is nearest to `x`."""
    try:
        return int.from_bytes(struct.pack("<f", x), "little")
    except OverflowError:
        return 0x7F800000 if x > 0 else 0xFF800000


def from_bits(bits: int) -> float:
    """Float32 with these bits."""
    return float(struct.unpack("<f", bits.to_bytes(4, "little"))[0])


def _float32(x: float) -> float:
    return from_bits(to_bits(x))


# ---- randomness ----------------------------------------------------------------------------------


def seed_of(step: int, array: int) -> tuple[int, int]:
    """Splitmix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014."""
    mask = 0xFFFFFFFFFFFFFFFF
    x = (step * 8 + array) * 0x9E3779B97F4A7C15 & mask
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & mask
    x = (x ^ x >> 27) * 0x94D049BB133111EB & mask
    x ^= x >> 31
    return x & _MASK, x >> 32


def hashed(x: int, seed: tuple[int, int]) -> int:
    """Return another number of 32 bits, with the multipliers of Wellons' lowbias32."""
    x ^= seed[0]
    x = ((x ^ x >> 16) * 0x7FEB352D & _MASK) ^ seed[1]
    x = (x ^ x >> 15) * 0x846CA68B & _MASK
    return x ^ x >> 16


def noise(step: int, array: int, element: int, bits: int) -> int:
    """Random bits of an element of a parameter's array.

    Parameters
    ----------
    step : int
        How many steps there were before.
    array : int
        Number of the state in the rule's row; 4 for the parameter itself.
    element : int
        Its index, as the elements lie in memory.
    bits : int
        How many: 16 for bfloat16, 13 for float16, 20 for 8 bits.
    """
    seed = seed_of(step, array)
    x = hashed(element % BLOCK, seed) ^ hashed((BLOCK + element // BLOCK) & _MASK, seed)
    return x >> (32 - bits)


# ---- 16 bits -------------------------------------------------------------------------------------


def from_bfloat16(x: int) -> float:
    """Value of the bits of a bfloat16: the upper half of a float32."""
    return from_bits(x << 16)


def to_bfloat16(x: float, random: int | None = None) -> int:
    """Round to bfloat16: to nearest, ties to even, or with 16 random bits."""
    bits = to_bits(x)
    if math.isnan(x):
        return bits >> 16 | 0x40
    return (bits + (0x7FFF + (bits >> 16 & 1) if random is None else random)) >> 16


def from_float16(x: int) -> float:
    """Value of the bits of a float16."""
    return float(struct.unpack("<e", x.to_bytes(2, "little"))[0])


def to_float16(x: float, random: int | None = None) -> int:
    """Round to float16: to nearest, ties to even, or with 13 random bits; may overflow."""
    sign = to_bits(x) >> 16 & 0x8000
    if math.isnan(x):
        return sign | 0x7E00
    magnitude = abs(_float32(x))
    if magnitude == math.inf:
        return sign | 0x7C00
    exponent = max(math.frexp(magnitude)[1] - 1, -14)
    last = 2.0 ** (exponent - 10)  # the last place
    if random is None:
        rounded = round(magnitude / last) * last
    else:
        rounded = (int(magnitude / last * 8192) + random) // 8192 * last
    if rounded >= 65536:
        return sign | 0x7C00
    return sign | int.from_bytes(struct.pack("<e", rounded), "little")


# ---- 8 bits --------------------------------------------------------------------------------------


def _tiny(signed: bool) -> float:
    return 2.0 ** (-15 if signed else -31)


def scale_of(block: Sequence[float]) -> float:
    """Power of two that a block's magnitudes are divided by; the quotients are below 1.75."""
    largest = max(to_bits(x) & 0x7FFFFFFF for x in block)
    exponent = (largest + 0x200000) >> 23
    if largest == 0 or exponent > 253:
        return 0.0 if largest == 0 else math.nan
    return 2.0 ** (max(exponent, 32) - 127)


def encode(x: float, scale: float, signed: bool, random: int) -> int:
    """Code of a number of a block: exponent and three bits of the mantissa of ``x / scale``.

    Parameters
    ----------
    x : float
        A float32.
    scale : float
        From ``scale_of``, not NaN.
    signed : bool
        A sign and 16 exponents, or 32 exponents.
    random : int
        20 random bits.
    """
    tiny = _tiny(signed)
    quotient = abs(x) / scale if scale else 0.0
    y = to_bits(quotient + tiny if signed else max(x / scale if scale else 0.0, tiny))
    code = (y + random - to_bits(tiny)) >> 20
    return code | (to_bits(x) >> 24 & 128) if signed else code


def place(i: int) -> int:
    """Where the code of element `i` of an array lies among the codes, which fill whole blocks.

    Four of a block, 64 elements apart, make a word: byte ``j`` of word ``i`` is that of element
    ``64 * j + i``.
    """
    block, e = divmod(i, BLOCK)
    return block * BLOCK + 4 * (e % 64) + e // 64


def decode(code: int, scale: float, signed: bool) -> float:
    """Value of a code."""
    tiny = _tiny(signed)
    if not signed:
        return _float32(from_bits((code << 20) + to_bits(tiny)) * scale)
    magnitude = (from_bits(((code & 127) << 20) + to_bits(tiny)) - tiny) * scale
    return math.copysign(magnitude, -1.0 if code & 128 else 1.0)
