"""Named draws and ids: a value belongs to a row and a purpose, not to the order of calls.

value = f(seed, stream, id). Uniform draws are made of integers and are equal to the bit on every
machine. The mixing function is the output function of SplitMix64 (Steele, Lea & Flood 2014).
"""

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Ids = NDArray[np.int64] | NDArray[np.uint64]

_OBJID_BITS, _BRICKID_BITS = 22, 20


def hash64(*parts: object) -> int:
    """64 bits that name `parts`: BLAKE2b of their text, separated so that no two lists collide."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        text = str(part).encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return int.from_bytes(digest.digest(), "little")


def bits(ids: Ids, *, seed: int, stream: str) -> NDArray[np.uint64]:
    """64 random bits per id, shape (n,): the key from which a row's further draws are made."""
    return _mix(_mix(np.asarray(ids).astype(np.uint64)) ^ np.uint64(hash64(seed, stream)))


def uniform(ids: Ids, *, seed: int, stream: str) -> NDArray[np.float64]:
    """One draw in [0, 1) per id, shape (n,).

    Args:
        ids: Row ids, shape (n,).
        seed: The run's seed.
        stream: What the draw is for; two streams are independent of each other.

    Examples:
        >>> uniform(np.array([1, 2]), seed=7, stream="theta_e").round(4).tolist()
        [0.7211, 0.0196]
    """
    return (bits(ids, seed=seed, stream=stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(ids: Ids, *, seed: int, stream: str) -> NDArray[np.float64]:
    """One standard normal draw per id, shape (n,), by the inverse of its distribution."""
    half_step = 2.0**-54  # keeps the draw off 0, where the inverse is infinite
    return np.asarray(ndtri(uniform(ids, seed=seed, stream=stream) + half_step))


def choice(ids: Ids, shares: NDArray[np.float64], *, seed: int, stream: str) -> NDArray[np.int64]:
    """Index drawn with probability proportional to `shares`, shape (k,), per id: shape (n,)."""
    edges = np.cumsum(np.asarray(shares, np.float64))
    drawn = np.searchsorted(edges / edges[-1], uniform(ids, seed=seed, stream=stream), side="right")
    return np.minimum(drawn, len(edges) - 1).astype(np.int64)


def target_id(
    release: NDArray[np.int64], brickid: NDArray[np.int64], objid: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Galaxy id in DESI TARGETID's bits: objid 0-21, brickid 22-41, release 42-57. Shape (n,).

    Raises:
        ValueError: a value does not fit its bits.
    """
    fields = {
        "objid": (objid, _OBJID_BITS),
        "brickid": (brickid, _BRICKID_BITS),
        "release": (release, 16),
    }
    parts = {}
    for name, (values, width) in fields.items():
        parts[name] = np.asarray(values, np.int64)
        outside = (parts[name] < 0) | (parts[name] >= 1 << width)
        if outside.any():
            raise ValueError(f"{name} must fit {width} bits; got {parts[name][outside][0]}")
    high = parts["release"] << (_OBJID_BITS + _BRICKID_BITS)
    return np.asarray(high | (parts["brickid"] << _OBJID_BITS) | parts["objid"], np.int64)


def stamp_id(target_ids: Ids, kind: str, copy: Ids) -> NDArray[np.int64]:
    """63-bit hash of (target, kind, copy), shape (n,): the id of a stamp, never negative."""
    mixed = _mix(
        _mix(np.asarray(target_ids).astype(np.uint64)) ^ np.uint64(hash64("stamp_id", kind))
    )
    mixed = _mix(mixed ^ np.asarray(copy).astype(np.uint64))
    return (mixed >> np.uint64(1)).astype(np.int64)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64: add the golden gamma, then finalise; overflow is meant."""
    with np.errstate(over="ignore"):
        z = value + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
