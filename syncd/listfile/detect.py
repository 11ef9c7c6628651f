"""The form of a list file, found at its beginning: lines above the header, delimiter, columns, and so the parser."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from syncd.errors import RowError, UsageError
from syncd.listfile.base64_digests import Base64Digests
from syncd.listfile.first_line import no_header
from syncd.listfile.header import Header, columns_of_algorithms, mapped_parser, named_parser, read_header
from syncd.listfile.names import TITLES, find_algorithm
from syncd.listfile.parsers import NdjsonParser, Parser, Part, Report
from syncd.listfile.profile import Profile
from syncd.listfile.selection import Selection, json_rows, own_rows
from syncd.listfile.tables import TableParser
from syncd.listfile.text import WHOLE_LINE, ListFile
from syncd.listfile.tools import BsdLines, HashdeepLines, LoneDigests, SumLines, is_bsd, is_lone, is_sum
from syncd.listfile.unpack import PROBE, refused, shown

_PLAIN: Final = Profile()
_SEPARATOR: Final = re.compile(rb'"?sep=(.)"?', re.IGNORECASE)
_LINE: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_HASHDEEP: Final = b"%%%%"


@dataclass(frozen=True)
class Preamble:
    """The lines above the header."""

    delimiter: str | None = None
    hashdeep: tuple[str, ...] = ()
    """the columns of hashdeep's header"""
    comment: str = ""
    """the last comment, which may name the columns"""


def parsed(
    source: ListFile, needed: Sequence[frozenset[str]], report: Report, profile: Profile = _PLAIN
) -> Iterator[Part]:
    """Yield all rows of a file. A CSV header must have at least one of the sets of columns in ``needed``.

    Raises `RowError` or `UsageError`.
    """
    parser = _parser(source, needed, profile)
    forms = Base64Digests()
    for block in source.blocks():
        for part in parser.parse(block, report):
            yield forms.as_hexadecimal(part, report)


def _parser(source: ListFile, needed: Sequence[frozenset[str]], profile: Profile) -> Parser:
    """Return the parser of a file, and skip the lines above its first row."""
    above = _skip_preamble(source)
    beginning = source.beginning
    if not beginning.strip():
        raise source.row_error(1, WHOLE_LINE, "empty file")
    if beginning.lstrip().startswith(b"<"):
        raise refused(source.path, _markup(beginning))
    if source.is_ndjson():
        return _json_parser(source, profile)
    if above.hashdeep and (deep := HashdeepLines(above.hashdeep)).has_digests:
        return deep
    line = beginning.partition(b"\n")[0]
    text = line.removesuffix(b"\r").decode("utf-8", "replace")
    delimiter = profile.delimiter or above.delimiter
    if profile.columns:
        return mapped_parser(source, text, delimiter, profile, needed, above.comment)
    header = read_header(text, delimiter)
    if named := columns_of_algorithms(header, profile.algorithm, source.path):
        return mapped_parser(source, text, header.delimiter, named, needed)
    if header.known:
        return named_parser(source, header, needed, profile.algorithm)
    return _without_header(source, header, text, profile, above)


def _json_parser(source: ListFile, profile: Profile) -> Parser:
    if not profile.columns:
        return NdjsonParser(own_rows(profile.algorithm or ""))
    if any(column.startswith("#") for column in profile.columns.values()):
        name = shown(source.path)
        raise UsageError(f"{name} is JSON: its values have names, not numbers", hint="name keys in the map")
    return NdjsonParser(json_rows(profile))


def _markup(beginning: bytes) -> str:
    start = beginning[:1024].lower()
    if b"<html" in start or b"<!doctype html" in start:
        return "an HTML page, not a list: a web server or a login page answered instead"
    return "an XML document; export the list as CSV or JSON"


def _skip_preamble(source: ListFile) -> Preamble:
    """Skip comments, blank lines and ``sep=`` above the header, and return what they say of it."""
    above = Preamble()
    ended = False
    while not ended and (lines := _whole_lines(source.beginning)):
        size = count = 0
        for line in lines:
            found = _said_above(line.strip(b" \r\n"), above)
            if found is None:
                ended = True
                break
            above, size, count = found, size + len(line), count + 1
        source.skip(size, count)
    return above


def _whole_lines(beginning: bytes) -> list[bytes]:
    """Return the lines of a file's beginning with their ends; without the last if it may go on in the file."""
    lines = _LINE.findall(beginning)
    return lines[:-1] if len(beginning) >= PROBE and not beginning.endswith(b"\n") else lines


def _said_above(line: bytes, above: Preamble) -> Preamble | None:
    """Return what a line and those above it say of the header; None if it is the header or a row."""
    if found := _SEPARATOR.fullmatch(line):
        return replace(above, delimiter=found[1].decode("latin-1"))
    text = line.decode("utf-8", "replace")
    if line.startswith(_HASHDEEP):
        names = tuple(text.removeprefix(_HASHDEEP.decode()).strip().split(","))
        return replace(above, hashdeep=names) if len(names) > 1 else above
    if line.startswith(b"#"):
        return replace(above, comment=text.lstrip("# ") or above.comment)
    return None if line else above


def _without_header(source: ListFile, header: Header, text: str, profile: Profile, above: Preamble) -> Parser:
    """Return the parser of a file without a header, if its lines say what they are."""
    algorithm = profile.algorithm
    if not algorithm and (pairs := _pairs_alone(header, text)):
        return pairs
    if is_bsd(text):
        return BsdLines(algorithm or "")
    if algorithm and is_sum(text):
        return SumLines(algorithm)
    if algorithm and len(header.names) == 1:
        if header.names[0] in TITLES:
            source.skip(source.beginning.find(b"\n") + 1 or len(source.beginning), 1)
        return LoneDigests(algorithm)
    raise _refusal(source, header, text, above.comment)


def _pairs_alone(header: Header, text: str) -> Parser | None:
    """Return the parser of rows of an algorithm and a digest without a header, such as ``md5:DIGEST``."""
    for row in (header, read_header(text, ":")):
        kinds = [find_algorithm(name) for name in row.names]
        if len(kinds) != 2 or (kinds[0] is None) == (kinds[1] is None):  # noqa: PLR2004 - a pair
            continue
        at = 0 if kinds[1] is None else 1
        known, digest = kinds[at], row.names[1 - at]
        if known is not None and is_lone(digest) and len(digest) == 2 * known.width:
            return TableParser(2, Selection((("", 1 - at),), algorithm=at), row.delimiter, spaced=row.spaced)
    return None


def _refusal(source: ListFile, header: Header, text: str, comment: str) -> RowError:
    return source.row_error(source.first, WHOLE_LINE, no_header(header, text, comment))
