"""The header of a table: its delimiter and columns, by the names of syncd or by the map of a profile."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.errors import UsageError
from syncd.listfile.names import plain_name
from syncd.listfile.parsers import CsvParser, Parser, split
from syncd.listfile.profile import Profile, suggested
from syncd.listfile.selection import Selection
from syncd.listfile.tables import TableParser
from syncd.listfile.text import WHOLE_LINE, ListFile
from syncd.listfile.tools import LoneDigests
from syncd.listfile.unpack import shown
from syncd.listfile.values import COLUMNS
from syncd.model import KNOWN_ALGORITHMS, Algorithm

DELIMITERS: Final = (",", ";", "\t", "|")
_KNOWN: Final = ", ".join(COLUMNS)
_NUMBER: Final = re.compile("#([1-9][0-9]{0,3})")
_ALL_DIGESTS: Final = "state the algorithm of all rows with --algorithm, or its column in --map"


@dataclass(frozen=True)
class Header:
    """The first line of a table, split into names in lower case."""

    names: tuple[str, ...]
    delimiter: str
    spaced: bool = False
    """True if there is a space after each delimiter"""

    @property
    def known(self) -> bool:
        """True if at least one name is a column of syncd."""
        return bool(set(self.names) & set(COLUMNS))


def read_header(text: str, delimiter: str | None, wanted: Collection[str] = COLUMNS) -> Header:
    """Split a line at the delimiter by which it has most of the wanted names, and otherwise most values."""
    candidates = [_split_names(text, candidate) for candidate in ([delimiter] if delimiter else DELIMITERS)]
    return max(candidates, key=lambda header: (len(set(header.names) & set(wanted)), len(header.names)))


def _split_names(text: str, delimiter: str) -> Header:
    values = split(text, delimiter)
    spaced = values is None or (len(values) > 1 and all(value.startswith(" ") for value in values[1:]))
    if values is None:
        values = split(text, delimiter, spaced=True) or []
    return Header(tuple(plain_name(value) for value in values), delimiter, spaced)


def named_parser(
    source: ListFile, header: Header, needed: Sequence[frozenset[str]], algorithm: Algorithm | None
) -> Parser:
    """Return the parser under a header of syncd's own names, and skip the header. Raises `RowError`."""
    names, first = header.names, source.first
    blank = tuple(at for at in (len(names) - 1,) if not names[at])
    for number, name in enumerate(names, 1):
        if name not in COLUMNS and number - 1 not in blank:
            raise source.row_error(first, str(number), _unknown(names))
        if name in names[: number - 1]:
            raise source.row_error(first, name, "named twice")
    if algorithm and "algorithm" in names:
        raise UsageError(f"{shown(source.path)} has a column algorithm of its own", hint="leave out --algorithm")
    _check_needed(source, needed, {*names, *(["algorithm"] if algorithm else [])})
    _skip_line(source)
    blank += _trailing(source, header)
    if algorithm and names == ("digest",) and not blank:
        return LoneDigests(algorithm)
    if header.delimiter == "," and not (header.spaced or blank or algorithm):
        return CsvParser(names)
    places = {name: at for at, name in enumerate(names)}
    digests = ((str(algorithm or ""), places["digest"]),) if "digest" in places else ()
    selection = Selection(digests, places.get("algorithm"), places.get("entry"), places.get("label"), blank=blank)
    return TableParser(max(len(names), *(at + 1 for at in blank), 0), selection, header.delimiter, spaced=header.spaced)


def columns_of_algorithms(header: Header, stated: Algorithm | None, path: Path) -> Profile | None:
    """Return the map of a header whose columns of digests are named by their algorithms, such as ``md5,sha1,entry``.

    None if there are none, or other columns that would be left out. Raises `UsageError` if ``stated``, the algorithm
    of the command, is not that of the column.
    """
    algorithms = [name for name in header.names if name in KNOWN_ALGORITHMS]
    if not algorithms or set(header.names) - {*algorithms, "entry", "label"}:
        return None
    if stated and algorithms != [stated]:
        found = ", ".join(algorithms)
        raise UsageError(f"the columns of {shown(path)} are of {found}, not {stated}", hint="leave out --algorithm")
    return Profile({name: name for name in header.names})


def _unknown(names: Sequence[str]) -> str:
    options = suggested(names)
    advice = f"to leave it out, name those to read: {options}" if options else "with --map only those in it are read"
    return f"unknown column; known columns: {_KNOWN}; {advice}"


def _check_needed(source: ListFile, needed: Sequence[frozenset[str]], present: Collection[str]) -> None:
    if any(columns <= set(present) for columns in needed):
        return
    wanted = " or ".join(" and ".join(name for name in COLUMNS if name in columns) for columns in needed)
    advice = f"; {_ALL_DIGESTS}" if "digest" in present else ""
    raise source.row_error(source.first, WHOLE_LINE, f"the header must name {wanted}{advice}")


def _trailing(source: ListFile, header: Header) -> tuple[int, ...]:
    """Return the position after the last column if the rows, unlike the header, end in a delimiter."""
    line = source.beginning.partition(b"\n")[0].removesuffix(b"\r").decode("utf-8", "replace")
    values = split(line, header.delimiter, spaced=header.spaced)
    width = len(header.names)
    return (width,) if values and len(values) == width + 1 and not values[-1] else ()


def _skip_line(source: ListFile) -> None:
    beginning = source.beginning
    source.skip(beginning.find(b"\n") + 1 or len(beginning), 1)


def mapped_parser(
    source: ListFile,
    text: str,
    delimiter: str | None,
    profile: Profile,
    needed: Sequence[frozenset[str]],
    comment: str = "",
) -> Parser:
    """Return the parser of a table by the map of a profile; a header is skipped. Raises `RowError`, `UsageError`."""
    columns = profile.columns
    numbers = [bool(_NUMBER.fullmatch(column)) for column in columns.values()]
    if any(numbers) and not all(numbers):
        raise UsageError("the map has both names and numbers of columns", hint="use either of them")
    if all(numbers):
        header, places = _numbered(source, text, delimiter, profile)
    else:
        header, places = _named(source, text, delimiter, profile, comment)
    digests = [(str(name), places[name]) for name in profile.digests if name in places]
    if "digest" in places:
        if profile.algorithm is None and "algorithm" not in places:
            raise UsageError("the map does not say which algorithm the digests have", hint=_ALL_DIGESTS)
        digests.append((str("" if "algorithm" in places else profile.algorithm), places["digest"]))
    present = {*places, *(["algorithm", "digest"] if digests else [])}
    _check_needed(source, needed, present)
    blank = _trailing(source, header)
    selection = Selection(
        tuple(digests),
        places.get("algorithm"),
        places.get("entry"),
        places.get("label"),
        others=profile.others,
        blank=blank,
    )
    return TableParser(len(header.names) + len(blank), selection, header.delimiter, spaced=header.spaced)


def _numbered(source: ListFile, text: str, delimiter: str | None, profile: Profile) -> tuple[Header, dict[str, int]]:
    places = {name: int(column[1:]) - 1 for name, column in profile.columns.items()}
    header = read_header(text, delimiter, ())
    if max(places.values()) >= len(header.names):
        reason = f"{len(header.names)} columns, and the map names column {max(places.values()) + 1}"
        raise source.row_error(source.first, WHOLE_LINE, reason)
    return header, places


def _named(
    source: ListFile, text: str, delimiter: str | None, profile: Profile, comment: str
) -> tuple[Header, dict[str, int]]:
    wanted = {name: plain_name(column) for name, column in profile.columns.items()}
    header = read_header(text, delimiter, wanted.values())
    found = {name: header.names.index(column) for name, column in wanted.items() if column in header.names}
    if not found and comment:
        above = read_header(comment, delimiter, wanted.values())
        row = _split_names(text, above.delimiter)
        found = {name: above.names.index(column) for name, column in wanted.items() if column in above.names}
        header = Header(above.names, above.delimiter, row.spaced)
    else:
        _check_once(source, header, wanted.values())
    missing = [profile.columns[name] for name in wanted if name not in found]
    digests = found.keys() & {"digest", *profile.digests}
    if missing and not (profile.optional and digests):
        raise source.row_error(source.first, WHOLE_LINE, f"the header does not name the column {missing[0]} of the map")
    if found and header.names and plain_name(text) and not _is_row(header, text):
        _skip_line(source)
    return header, found


def _is_row(header: Header, text: str) -> bool:
    """Return True if a line is not the header itself: that was in a comment above it."""
    return _split_names(text, header.delimiter).names != header.names


def _check_once(source: ListFile, header: Header, wanted: Collection[str]) -> None:
    for name in wanted:
        if header.names.count(name) > 1:
            raise source.row_error(source.first, name, "named twice")
