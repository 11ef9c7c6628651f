"""The values that travel the road: algorithms, names, digests, counts.

Nothing here touches a file, a socket or the clock.
"""

import re
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple, NewType, Self

from syncd.errors import UsageError

ListName = NewType("ListName", str)
"""The name of one list in a feed: ``[a-z0-9][a-z0-9._-]{0,63}``."""

LIST_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
ALGORITHM_NAME: Final = re.compile("[a-z0-9][a-z0-9_-]{0,31}")

MAX_ENTRY_BYTES: Final = 256
MAX_LABEL_BYTES: Final = 4096
MAX_DIGEST_BYTES: Final = 1024


class Algorithm(str):
    """The name of what computed a digest: ``[a-z0-9][a-z0-9_-]{0,31}``.

    Format 1 leaves algorithms open. The six that syncd knows by name are here and in `KNOWN_ALGORITHMS`; any other is
    proved, carried and matched exactly, with the width that its segments have. Raises `ValueError` for another name.
    """

    __slots__ = ()

    MD5: ClassVar["Algorithm"]
    SHA1: ClassVar["Algorithm"]
    SHA256: ClassVar["Algorithm"]
    SHA512: ClassVar["Algorithm"]
    PDQ: ClassVar["Algorithm"]
    PHOTODNA: ClassVar["Algorithm"]

    def __new__(cls, name: str) -> Self:
        """Return ``name`` as an algorithm."""
        if not ALGORITHM_NAME.fullmatch(name):
            raise ValueError("not the name of an algorithm")
        return super().__new__(cls, name)

    @property
    def width(self) -> int:
        """Bytes of one digest of a known algorithm; `KeyError` for another, whose segments alone say it."""
        return _WIDTHS[self]

    @property
    def known_width(self) -> int | None:
        """Bytes of one digest; None if the algorithm is not one of the known ones."""
        return _WIDTHS.get(self)

    @property
    def cryptographic(self) -> bool:
        """True if equal digests are known to mean equal files; others may need near matching as well."""
        return self in _CRYPTOGRAPHIC

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        """Validate a text as the name of an algorithm, and write it as one."""
        from pydantic_core import core_schema

        text = core_schema.str_schema(pattern=f"^{ALGORITHM_NAME.pattern}$")
        return core_schema.no_info_after_validator_function(cls, text)


_WIDTHS: Final = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "pdq": 32, "photodna": 144}
_CRYPTOGRAPHIC: Final = frozenset({"md5", "sha1", "sha256", "sha512"})

KNOWN_ALGORITHMS: Final = tuple(map(Algorithm, _WIDTHS))
"""Those that syncd knows by name."""
(Algorithm.MD5, Algorithm.SHA1, Algorithm.SHA256, Algorithm.SHA512, Algorithm.PDQ, Algorithm.PHOTODNA) = (
    KNOWN_ALGORITHMS
)


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
        """Read ``ALG:HEX``, hex in either case; raises `UsageError` that says what is wrong, not the digest.

        Only a known algorithm says here how many digits there are: others have the width of the lists' segments.
        """
        name, colon, hexadecimal = text.strip().partition(":")
        known = f"ALG is one of {', '.join(KNOWN_ALGORITHMS)}, or another that a list holds"
        if not colon:
            raise UsageError("a digest is written ALG:HEX", hint=known)
        try:
            algorithm = Algorithm(name.lower())
        except ValueError:
            raise UsageError("unknown algorithm in ALG:HEX", hint=known) from None
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
