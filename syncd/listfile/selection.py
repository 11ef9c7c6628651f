"""The values of one row of a partner's file, and the rows that they make: one for each column of digests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from syncd.listfile.names import find_algorithm, plain_name
from syncd.listfile.parsers import Pairs, Row, checked, json_text, row_of
from syncd.listfile.profile import Profile
from syncd.listfile.text import WHOLE_LINE
from syncd.listfile.values import LEFT_OUT, BadRow
from syncd.model import KNOWN_ALGORITHMS

_SAMPLES: Final = {"malware-sample": "filename|md5"}
"""types of MISP whose values are pairs without a name that says so"""
_REVOKED: Final = "deleted"
_NOT_REVOKED: Final = (None, False, 0, "0", "")
"""values of ``deleted`` in MISP for an attribute that is in force"""

Rows = list[Row] | BadRow
"""The rows of one line, or its fault."""


@dataclass(frozen=True)
class Selection:
    """The positions of the values that are read, out of the columns of a file; the others are left out."""

    digests: tuple[tuple[str, int], ...]
    """algorithm and position of each column of digests; '' if the algorithm is in a column of its own"""
    algorithm: int | None = None
    entry: int | None = None
    label: int | None = None
    others: bool = False
    """True if rows of an unknown algorithm are left out"""
    blank: tuple[int, ...] = ()
    """columns without a name, which must be empty"""

    @property
    def positions(self) -> list[int]:
        """All positions that are read, ascending, each once."""
        optional = (self.algorithm, self.entry, self.label)
        return sorted({*(at for _, at in self.digests), *self.blank, *(at for at in optional if at is not None)})

    def rows(self, values: Sequence[str]) -> Rows:
        """Return the rows that these values make; a column of digests that is empty makes none."""

        def value(at: int | None) -> str:
            return "" if at is None else values[at]

        if any(values[at] for at in self.blank):
            return BadRow(WHOLE_LINE, "a value in a column without a name")
        entry, label = value(self.entry), value(self.label)
        named = [(name or value(self.algorithm), values[at]) for name, at in self.digests]
        return made_rows(named, entry, label, others=self.others)


def made_rows(named: Sequence[tuple[str, str]], entry: str, label: str, *, others: bool) -> Rows:
    """Return a row for each pair of algorithm and digest. ``others``: leave out those of unknown algorithms."""
    if not named:  # rows to remove by their entry
        named = [("", "")]
    if len(named) > 1:
        named = [pair for pair in named if pair[1].strip()]
        if not named:
            return BadRow("digest", "missing: every column of digests is empty")
    found: list[Row] = []
    for algorithm, digest in named:
        name, value = _of_pair(algorithm, digest) if others else (algorithm, digest)
        if others and find_algorithm(name) is None:
            continue
        row = checked({"algorithm": name, "digest": value, "entry": entry, "label": label})
        if isinstance(row, BadRow):
            return row
        found.append(row)
    return found or LEFT_OUT


def _of_pair(kind: str, value: str) -> tuple[str, str]:
    """Return the type and value of a digest in MISP, out of a pair such as ``filename|md5``."""
    kind = _SAMPLES.get(kind, kind)
    return (kind.rpartition("|")[2], value.rpartition("|")[2]) if "|" in kind else (kind, value)


def own_rows(algorithm: str) -> Callable[[Pairs], Row | Rows]:
    """Return a function that makes the rows of a JSON object with the keys of syncd, or with algorithms as keys."""

    @cache
    def by_algorithm(keys: tuple[str, ...]) -> Callable[[Pairs], Rows] | None:
        names = set(map(plain_name, keys))
        known = names & set(KNOWN_ALGORITHMS)
        if not known or names - known - {"entry", "label"}:
            return None
        return json_rows(Profile({name: name for name in names}))

    def rows(pairs: Pairs) -> Row | Rows:
        several = by_algorithm(tuple(key for key, _ in pairs))
        return several(pairs) if several else row_of(pairs, algorithm)

    return rows


def json_rows(profile: Profile) -> Callable[[Pairs], Rows]:
    """Return a function that makes the rows of a JSON object by the map of a profile."""
    names = {name: plain_name(column) for name, column in profile.columns.items()}
    digests = {algorithm: plain_name(column) for algorithm, column in profile.digests.items()}

    def rows(pairs: Pairs) -> Rows:
        values: dict[str, object] = {}
        for written, value in pairs:
            name = plain_name(written)
            if name in values and name in names.values():
                return BadRow(name, "named twice")
            values[name] = value
        if profile.others and values.get(_REVOKED) not in _NOT_REVOKED:
            return LEFT_OUT
        texts = {name: json_text(name, values.get(column)) for name, column in names.items() if name not in digests}
        named: list[tuple[str, str | BadRow]] = [
            (algorithm, json_text("digest", values.get(column))) for algorithm, column in digests.items()
        ]
        if "digest" in names:
            algorithm = texts.get("algorithm") or profile.algorithm or ""
            if isinstance(algorithm, BadRow):
                return algorithm
            named.append((algorithm, texts["digest"]))
        further = _further(values, profile)
        if isinstance(further, BadRow):
            return further
        return _of_texts([*named, *further], texts.get("entry", ""), texts.get("label", ""), others=profile.others)

    return rows


def _of_texts(
    named: Sequence[tuple[str, str | BadRow]], entry: str | BadRow, label: str | BadRow, *, others: bool
) -> Rows:
    for value in (entry, label, *(digest for _, digest in named)):
        if isinstance(value, BadRow):
            return value
    pairs = [(algorithm, digest) for algorithm, digest in named if isinstance(digest, str)]
    if isinstance(entry, BadRow) or isinstance(label, BadRow):  # for the type checker: returned above
        return BadRow(WHOLE_LINE, "not a string")
    return made_rows(pairs, entry, label, others=others)


def _further(values: dict[str, object], profile: Profile) -> list[tuple[str, str | BadRow]] | BadRow:
    """Return the hashes in the inner list of an item, of the algorithms that the profile reads."""
    found: list[tuple[str, str | BadRow]] = []
    for key in sorted(profile.further & values.keys()):
        inner = values[key] or []
        if not isinstance(inner, list) or not all(isinstance(item, Pairs) for item in inner):
            return BadRow(key, "not a list of objects")
        for item in inner:
            members = {plain_name(written): value for written, value in item}
            algorithm = find_algorithm(str(members.get("hashname", "")))
            if algorithm is not None:
                found.append((algorithm, json_text("digest", members.get("hashvalue"))))
    return found
