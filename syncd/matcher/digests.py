"""The digests that a look-up is given: checked, and converted to the form that segments are searched in."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from syncd.errors import AlgorithmNotHeld, UsageError
from syncd.format.rows import Digests
from syncd.matcher.load import SearchSet
from syncd.model import KNOWN_ALGORITHMS, Digest
from syncd.units import count


def misuse(algorithm: str, widths: Sequence[int], given: str) -> UsageError:
    """Return the error for a wrong look-up. It does not repeat arguments: if swapped, one would be a digest."""
    if not widths:
        known = ", ".join(KNOWN_ALGORITHMS)
        return UsageError(
            "unknown algorithm",
            hint=f"the first argument must be one of {known}, or another algorithm used in a list of this copy",
        )
    wanted = " or ".join([*map(str, widths[:-1]), count(widths[-1], "byte")])
    return UsageError(f"a {algorithm} digest has {wanted}, not {given}", hint="give bytes or hexadecimal text")


def not_held(algorithm: str, held: Collection[str]) -> UsageError:
    """Return the error for an algorithm that no list of the look-up holds. ``held``: the algorithms in the copy.

    A name that is neither known nor held is not repeated: if the arguments were swapped, it is a digest.
    """
    if algorithm in held or algorithm in KNOWN_ALGORITHMS:
        return AlgorithmNotHeld(str(algorithm), sorted(held))
    return misuse("", (), "")


def prepare(algorithm: str, search_set: SearchSet, digest: object) -> tuple[SearchSet, bytes]:
    """Return the set to search for a digest, and the digest as bytes."""
    if not isinstance(digest, bytes | str):
        raise UsageError(f"a digest must be bytes or text, not {type(digest).__name__}", hint="convert it with bytes()")
    widths = [same_width.width for same_width in search_set.by_width]
    plain = _plain_bytes(widths, digest) if isinstance(digest, bytes) else Digest.parse(f"{algorithm}:{digest}").value
    for same_width in search_set.by_width:
        if same_width.width == len(plain):
            return same_width, plain
    raise misuse(algorithm, widths, count(len(plain), "byte"))


def _plain_bytes(widths: Sequence[int], value: bytes) -> bytes:
    """Return plain bytes, with the trailing NULs that numpy strips from a digest taken out of an array."""
    width = next((width for width in widths if width >= len(value)), 0)
    return bytes(value).ljust(width, b"\0") if isinstance(value, np.bytes_) else bytes(value)


def has_width(digests: Any, width: int) -> bool:
    """Return True if digests given to `Matcher.lookup_many` have this width; the longest of several values decides."""
    if isinstance(digests, np.ndarray):
        return int(digests.shape[-1] if digests.dtype == np.uint8 else digests.dtype.itemsize) == width
    lengths = [len(value) for value in digests if isinstance(value, bytes)] if isinstance(digests, list) else []
    return max(lengths, default=0) == width


def as_digests(algorithm: str, width: int, digests: Any) -> Digests:
    """Return the digests of a batch as an array of ``S<width>``. Raises `UsageError`."""
    if not isinstance(digests, np.ndarray):
        return _join(algorithm, width, digests)
    array = np.asarray(digests)  # without a mask, which would hide answers
    if array.dtype == np.uint8 and array.ndim == 2 and array.shape[1] == width:  # noqa: PLR2004 - (n, width)
        return np.ascontiguousarray(array).view(f"S{width}").reshape(-1)
    if array.dtype != np.dtype(f"S{width}") or array.ndim != 1:
        given = f"an array of {array.dtype} and shape {array.shape}"
        raise UsageError(f"a {algorithm} digest has {count(width, 'byte')}, not {given}", hint=_shapes(width))
    return array


def _shapes(width: int) -> str:
    return f"give an iterable of bytes, or an array of S{width}, or of uint8 and shape (n, {width})"


def _join(algorithm: str, width: int, digests: Iterable[object]) -> Digests:
    if not isinstance(digests, Iterable):
        raise UsageError(f"digests must be an array or an iterable, not {type(digests).__name__}", hint=_shapes(width))
    values = []
    for value in digests:
        if not isinstance(value, bytes):
            raise UsageError(f"digests must be bytes, not {type(value).__name__}", hint=_shapes(width))
        plain = value if len(value) == width else _plain_bytes([width], value)
        if len(plain) != width:
            raise misuse(algorithm, [width], count(len(plain), "byte"))
        values.append(plain)
    return np.frombuffer(b"".join(values), f"S{width}")
