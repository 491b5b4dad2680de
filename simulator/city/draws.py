"""Random numbers that are a function of what they are for, not of when they are asked for.

Every number is a hash of a key and counters (splitmix64, Steele, Lea and Flood 2014), so that a request's answer is the
same in whatever order requests are answered, and two policies meet the same luck with the same item.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def key_of(*parts: object) -> int:
    """A 64-bit key of what a stream of numbers is for."""
    digest = hashlib.blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def generator(*parts: object) -> np.random.Generator:
    """A generator of its own for what it is named by."""
    return np.random.Generator(np.random.PCG64(key_of(*parts)))


def mix(keys: ArrayLike) -> Keys:
    """The splitmix64 finaliser, on arrays."""
    with np.errstate(over="ignore"):
        z = np.asarray(keys, dtype=np.uint64) + _GOLDEN
        z = (z ^ (z >> _S30)) * _M1
        z = (z ^ (z >> _S27)) * _M2
        return np.asarray(z ^ (z >> _S31))


def combine(first: ArrayLike, second: ArrayLike) -> Keys:
    """Keys of pairs; arrays broadcast."""
    with np.errstate(over="ignore"):
        return mix(mix(first) + np.asarray(second).astype(np.uint64) * _M1)


def uniform(keys: Keys) -> Floats:
    """Uniform numbers in (0, 1)."""
    return np.asarray(((keys >> _S11).astype(np.float64) + 0.5) * 2.0**-53)


def normal(keys: Keys) -> Floats:
    """Nearly normal numbers: the sum of four 16-bit parts, variance 1, at most 3.5 from 0."""
    mask = np.uint64(0xFFFF)
    total = (keys & mask) + ((keys >> np.uint64(16)) & mask) + ((keys >> np.uint64(32)) & mask)
    total = total + (keys >> np.uint64(48))
    return np.asarray((total.astype(np.float64) / 65535.0 - 2.0) * np.sqrt(3.0))


def gumbel(keys: Keys) -> Floats:
    """Standard Gumbel numbers."""
    return np.asarray(-np.log(-np.log(uniform(keys))))
