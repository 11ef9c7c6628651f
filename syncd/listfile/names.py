"""Names of algorithms and columns as partners spell them."""

from typing import Final

from syncd.model import KNOWN_ALGORITHMS, Algorithm

_FILLERS: Final = {ord(character): None for character in " -_"}
TITLES: Final = frozenset({"hash", "hashes", "digest", "digests"})
"""names of a column of digests"""
_KNOWN: Final = {
    **{str(algorithm): algorithm for algorithm in KNOWN_ALGORITHMS},
    "sha2256": Algorithm.SHA256,  # as openssl 3 writes it
    "sha2512": Algorithm.SHA512,
}
_QUOTES: Final = "'\"`\u2018\u2019\u201c\u201d"


def find_algorithm(name: str) -> Algorithm | None:
    """Return the algorithm with this name, in any case and spelling (``SHA-256``); None if it is unknown."""
    plain = name.strip(" \t").lower().translate(_FILLERS)
    return _KNOWN.get(plain)


def plain_name(name: str) -> str:
    """Return the name of a column in lower case, without spaces around it; that of an algorithm in syncd's spelling."""
    return find_algorithm(name) or " ".join(name.split()).lower()


def name_fault(name: str) -> str:
    """Return the reason for which a name is not that of a known algorithm."""
    if not name.strip():
        return "missing"
    if find_algorithm(name.strip(_QUOTES)):
        return "quotation marks that are not those of CSV around it"
    if find_algorithm(name.strip()):
        return "white space around it that is not a plain space"
    return f"unknown algorithm; known algorithms: {', '.join(KNOWN_ALGORITHMS)}"
