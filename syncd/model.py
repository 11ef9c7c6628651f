"""Values used in all parts: algorithms, names, digests, counts.

Nothing here touches a file, a socket or the clock.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple, NewType, Self

from pydantic_core import core_schema

from syncd.errors import UsageError

ListName = NewType("ListName", str)
"""The name of one list in a feed: ``[a-z0-9][a-z0-9._-]{0,63}``."""

LIST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ALGORITHM_NAME: Final = re.compile("[a-z0-9][a-z0-9_-]{0,31}")

MAX_ENTRY_BYTES: Final = 256
MAX_LABEL_BYTES: Final = 4096
MAX_DIGEST_BYTES: Final = 1024


class Algorithm(str):
    """The name of a hash algorithm: ``[a-z0-9][a-z0-9_-]{0,31}``. Raises `ValueError` for any other text.

    Format 1 allows any algorithm. Seven are known by name (here and in `KNOWN_ALGORITHMS`). Digests of others are
    proved, carried and matched exactly, with the width of their segments.
    """

    __slots__ = ()

    MD5: ClassVar["Algorithm"]
    SHA1: ClassVar["Algorithm"]
    SHA256: ClassVar["Algorithm"]
    SHA512: ClassVar["Algorithm"]
    PDQ: ClassVar["Algorithm"]
    PHOTODNA: ClassVar["Algorithm"]
    VPDQ: ClassVar["Algorithm"]

    def __new__(cls, name: str) -> Self:
        """Return ``name`` as an algorithm."""
        if not ALGORITHM_NAME.fullmatch(name):
            raise ValueError("not a valid algorithm name")
        return super().__new__(cls, name)

    @property
    def width(self) -> int:
        """Bytes of one digest of a known algorithm. Raises `KeyError` for others: only their segments state it."""
        return _WIDTHS[self]

    @property
    def known_width(self) -> int | None:
        """Bytes of one digest; None if the algorithm is not known."""
        return _WIDTHS.get(self)

    @property
    def cryptographic(self) -> bool:
        """True if equal digests are known to mean equal files. Other algorithms may also need near matching."""
        return self in _CRYPTOGRAPHIC

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Validate a text as the name of an algorithm, and serialize it as text."""
        text = core_schema.str_schema(pattern=f"^{ALGORITHM_NAME.pattern}$")
        return core_schema.no_info_after_validator_function(cls, text)


_WIDTHS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "pdq": 32, "photodna": 144, "vpdq": 33}
_CRYPTOGRAPHIC: Final = frozenset({"md5", "sha1", "sha256", "sha512"})

KNOWN_ALGORITHMS: Final = tuple(map(Algorithm, _WIDTHS))
"""The algorithms that syncd knows by name."""
(
    Algorithm.MD5,
    Algorithm.SHA1,
    Algorithm.SHA256,
    Algorithm.SHA512,
    Algorithm.PDQ,
    Algorithm.PHOTODNA,
    Algorithm.VPDQ,
) = KNOWN_ALGORITHMS


def list_name(text: str) -> ListName:
    """Return ``text`` as a list name. Raises `UsageError` if it is not a valid name."""
    if not LIST_NAME.fullmatch(text):
        raise UsageError(
            f"{text!r} is not a list name",
            hint="use at most 64 lower-case letters, digits, '.', '_' and '-', starting with a letter or digit",
        )
    return ListName(text)


@dataclass(frozen=True, order=True)
class Digest:
    """One digest of one algorithm. It never appears as text in a log, an error or a metric."""

    algorithm: Algorithm
    value: bytes

    def __repr__(self) -> str:
        return f"Digest({self.algorithm}, <{len(self.value)} bytes>)"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Parse ``ALG:HEX``, with hex in either case. Raises `UsageError`, without repeating the digest.

        The number of digits is checked only if the algorithm is known: others have the width of the lists' segments.
        """
        name, colon, hexadecimal = text.strip().partition(":")
        known = f"ALG is one of {', '.join(KNOWN_ALGORITHMS)}, or another algorithm used in a list"
        if not colon:
            raise UsageError("a digest must have the form ALG:HEX", hint=known)
        try:
            algorithm = Algorithm(name.lower())
        except ValueError:
            raise UsageError("the algorithm in ALG:HEX is not valid", hint=known) from None
        digits, width = len(hexadecimal), algorithm.known_width
        good = digits == 2 * width if width else 0 < digits <= 2 * MAX_DIGEST_BYTES and digits % 2 == 0
        if not good or not re.fullmatch("[0-9a-fA-F]*", hexadecimal):
            raise UsageError(
                f"not a {algorithm} digest: {digits} characters after the colon",
                hint=f"{algorithm} has {2 * width} hexadecimal digits"
                if width
                else f"two hexadecimal digits for each byte, of at most {MAX_DIGEST_BYTES} bytes",
            )
        return cls(algorithm, bytes.fromhex(hexadecimal))


@dataclass(frozen=True)
class Counts:
    """The numbers of rows of a delta by their effect on the stack below; each row is counted once."""

    added: int = 0
    """rows that add an entry that was not there"""
    relabelled: int = 0
    """rows that add an entry that was there with another label"""
    unchanged: int = 0
    """rows that add an entry that was there with the same label"""
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
        """The change of the number of entries (negative if the list shrank)."""
        return self.added - self.removed


@dataclass(frozen=True)
class AuditHead:
    """The end of an audit log: the number of records, and the hash of the last one, which covers all before it."""

    records: int
    head: str
    """SHA-256 in hexadecimal"""


class Hit(NamedTuple):
    """One entry that supports a digest. A tuple for speed, because a matcher makes one for each hit."""

    list: ListName
    version: int
    entry: str
    label: str
