"""Digests that can only be mistakes: of the empty input, and all bits alike. Nobody may publish or list them. Pure."""

import hashlib
from typing import Final

import numpy as np

from syncd.format.rows import Digests, Mask
from syncd.model import Algorithm

OF_EMPTY_FILE: Final = {
    algorithm: hashlib.new(algorithm, usedforsecurity=False).digest()
    for algorithm in (Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA512)
}


def meaningless_digests(algorithm: Algorithm, width: int) -> tuple[bytes, ...]:
    """Return the meaningless digests of an algorithm, sorted: all zero, all one, and that of the empty input.

    A perceptual algorithm gives all zero or all one for plain images; a cryptographic one never does.
    """
    constant = (bytes(width), b"\xff" * width)
    empty = OF_EMPTY_FILE.get(algorithm)
    return tuple(sorted((*constant, empty) if empty and len(empty) == width else constant))


def is_meaningless(algorithm: Algorithm, digests: Digests) -> Mask:
    """Mark the digests that are meaningless."""
    found = np.zeros(len(digests), bool)
    for digest in meaningless_digests(algorithm, digests.dtype.itemsize):
        found |= digests == digest.rstrip(b"\0")  # numpy strips NULs: all zero is equal to empty
    return found
