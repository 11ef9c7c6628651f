"""Values in partners' records: digests, entries, labels, and the count of everything that was not used. Pure."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from syncd.format.meaningless import meaningless_digests
from syncd.model import MAX_ENTRY_BYTES, MAX_LABEL_BYTES, Algorithm
from syncd.sources.statements import Fingerprint

_MOST_REASONS: Final = 64
_PHOTODNA_BASE64: Final = 192
"""Characters of 144 bytes in base64; in hexadecimal they are 288."""
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,23}")
"""Partners' words that may be in a report: too short for a digest."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class SetAside:
    """Counts, by reason, of fingerprints, fields and records that were not used. Never contains a digest."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def add(self, reason: str, count: int = 1) -> None:
        """Count one more; beyond 64 reasons, all new ones are counted as one."""
        if reason not in self.counts and len(self.counts) >= _MOST_REASONS:
            reason = "other reasons"
        self.counts[reason] = self.counts.get(reason, 0) + count

    def unknown(self, kind: str, word: object) -> None:
        """Count a word that this version does not know, such as a status; it is named if it cannot be a digest."""
        name = word if isinstance(word, str) and _WORD.fullmatch(word) else "that is not a short word"
        self.add(f"unknown {kind} {name}")


def read_fingerprint(algorithm: Algorithm, text: str, aside: SetAside) -> Fingerprint | None:
    """Return a digest of a known algorithm from hexadecimal in either case; PhotoDNA may be base64.

    None if it cannot be used: it is counted.
    """
    width, text = algorithm.width, text.strip()
    in_base64 = algorithm is Algorithm.PHOTODNA and len(text) == _PHOTODNA_BASE64
    try:
        digest = base64.b64decode(text, validate=True) if in_base64 else binascii.unhexlify(text)
    except ValueError:
        aside.add(f"{algorithm}: not {'base64' if in_base64 else 'hexadecimal'}")
        return None
    if len(digest) != width:
        aside.add(f"{algorithm}: wrong width")
        return None
    if digest in _meaningless(algorithm):
        aside.add(f"{algorithm}: digest of nothing, or constant")
        return None
    return Fingerprint(algorithm, digest)


def sha256_of(name: str, content: bytes) -> Fingerprint:
    """Return the SHA-256 of a value, as the algorithm ``NAME-sha256``.

    For values that are larger than a digest may be, or whose form is not public: whoever has the same can look it up.
    """
    return Fingerprint(Algorithm(f"{name}-sha256"), hashlib.sha256(content).digest())


@lru_cache(maxsize=16)
def _meaningless(algorithm: Algorithm) -> frozenset[bytes]:
    return frozenset(meaningless_digests(algorithm, algorithm.width))


def unique(fingerprints: Iterable[Fingerprint | None]) -> tuple[Fingerprint, ...]:
    """Return the usable fingerprints, each once, in order."""
    return tuple(dict.fromkeys(found for found in fingerprints if found is not None))


def entry_key(key: str, aside: SetAside) -> str | None:
    """Return a partner's key as an entry; None if it cannot be one: it is counted."""
    if not key or len(key.encode(errors="replace")) > MAX_ENTRY_BYTES or _UNPRINTABLE.search(key):
        aside.add("record with a key that is empty, unprintable or too long")
        return None
    return key


def clean_label(text: str, aside: SetAside) -> str:
    """Return a partner's words as a label: without control characters, and cut to 4,096 bytes."""
    if text.isascii() and text.isprintable() and len(text) <= MAX_LABEL_BYTES:
        return text
    clean = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    if clean != text:
        aside.add("control characters in a label")
    content = clean.encode()
    if len(content) > MAX_LABEL_BYTES:
        aside.add("end of a label of more than 4096 bytes")
        clean = content[:MAX_LABEL_BYTES].decode(errors="ignore")
    return clean


def text_of(record: Mapping[str, object], key: str) -> str:
    """Return a text, or a whole number as text, of a JSON object; "" if it has none."""
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 1 << 64 else ""
    return value if isinstance(value, str) else ""


def whole_number(value: object) -> int | None:
    """Return a whole number that is not negative and below 2**53; None for everything else."""
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if good and isinstance(value, int) else None
