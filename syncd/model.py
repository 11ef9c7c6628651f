"""The values that travel the road: algorithms, names, digests, counts.

Nothing here touches a file, a socket or the clock.
"""

import enum
import re
from dataclasses import dataclass, fields
from typing import Final, NamedTuple, NewType

from syncd.errors import UsageError

ListName = NewType("ListName", str)
"""The name of one list in a feed: ``[a-z0-9][a-z0-9._-]{0,63}``."""

LIST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

MAX_ENTRY_BYTES: Final = 256
MAX_LABEL_BYTES: Final = 256


class Algorithm(enum.StrEnum):
    """What computed a digest; each has one exact width."""

    MD5 = "md5"
    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA512 = "sha512"
    PDQ = "pdq"
    PHOTODNA = "photodna"

    @property
    def width(self) -> int:
        """Bytes of one digest."""
        return _WIDTHS[self]

    @property
    def cryptographic(self) -> bool:
        """True where equal digests mean equal files; perceptual algorithms need near matching as well."""
        return self not in {Algorithm.PDQ, Algorithm.PHOTODNA}


_WIDTHS: Final = {
    Algorithm.MD5: 16,
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
    Algorithm.SHA512: 64,
    Algorithm.PDQ: 32,
    Algorithm.PHOTODNA: 144,
}


def list_name(text: str) -> ListName:
    """Return ``text`` as a list name; raises `UsageError` where it is none."""
    if not LIST_NAME.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a list name",
            hint="use lower-case letters, digits, '.', '_' and '-', at most 64, the first a letter or digit",
        )
    return ListName(text)


@dataclass(frozen=True, order=True)
class Digest:
    """One digest under its algorithm. Its text form never appears in a log, an error or a metric."""

    algorithm: Algorithm
    value: bytes

    def __repr__(self) -> str:
        return f"Digest({self.algorithm}, <{len(self.value)} bytes>)"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Read ``ALG:HEX``, hex in either case; raises `UsageError` that says what is wrong, not the digest."""
        name, colon, hexadecimal = text.strip().partition(":")
        known = ", ".join(Algorithm)
        if not colon:
            raise UsageError("a digest is written ALG:HEX", hint=f"ALG is one of {known}")
        try:
            algorithm = Algorithm(name.lower())
        except ValueError:
            raise UsageError("unknown algorithm in ALG:HEX", hint=f"ALG is one of {known}") from None
        if not re.fullmatch("[0-9a-fA-F]*", hexadecimal) or len(hexadecimal) != 2 * algorithm.width:
            raise UsageError(
                f"not a {algorithm} digest: {len(hexadecimal)} characters after the colon",
                hint=f"{algorithm} has {2 * algorithm.width} hexadecimal digits",
            )
        return cls(algorithm, bytes.fromhex(hexadecimal))


@dataclass(frozen=True)
class Counts:
    """What the rows of a delta do to the stack below them; every row is counted once."""

    added: int = 0
    """rows that add an entry that was not there"""
    relabelled: int = 0
    """rows that add an entry that was there under another label"""
    unchanged: int = 0
    """rows that add an entry that was there just so"""
    removed: int = 0
    """rows that remove an entry that was there"""
    absent: int = 0
    """rows that remove an entry that was not there"""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))

    @property
    def effective(self) -> int:
        """Rows that changed something."""
        return self.added + self.relabelled + self.removed

    @property
    def rows(self) -> int:
        """All rows."""
        return self.effective + self.unchanged + self.absent

    @property
    def growth(self) -> int:
        """By how many entries the list grew (negative: shrank)."""
        return self.added - self.removed


@dataclass(frozen=True)
class AuditHead:
    """The end of an audit log: how many records it has, and the hash of the last, which covers those before."""

    records: int
    head: str
    """SHA-256 in hexadecimal"""


class Hit(NamedTuple):
    """One entry that supports a digest. A tuple, because a matcher makes one for each answer."""

    list: ListName
    version: int
    entry: str
    label: str
