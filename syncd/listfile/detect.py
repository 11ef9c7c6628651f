"""The form of a list file, found at its beginning: lines above the header, delimiter, columns, and so the parser."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from syncd.errors import RowError, UsageError
from syncd.listfile.base64_digests import Base64Digests
from syncd.listfile.first_line import no_header
from syncd.listfile.header import Header, mapped_parser, named_parser, read_header
from syncd.listfile.names import find_algorithm
from syncd.listfile.parsers import NdjsonParser, Parser, Part, Report, row_of
from syncd.listfile.profile import Profile
from syncd.listfile.selection import json_rows
from syncd.listfile.text import WHOLE_LINE, ListFile
from syncd.listfile.tools import TITLES, BsdLines, HashdeepLines, LoneDigests, SumLines, is_bsd, is_lone, is_sum
from syncd.listfile.unpack import refused

_PLAIN: Final = Profile()
_SEPARATOR: Final = re.compile(rb'"?sep=(.)"?', re.IGNORECASE)
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
    if header.known:
        return named_parser(source, header, needed, profile.algorithm)
    return _without_header(source, header, text, profile, above)


def _json_parser(source: ListFile, profile: Profile) -> Parser:
    if not profile.columns:
        return NdjsonParser(partial(row_of, algorithm=profile.algorithm or ""))
    if any(column.startswith("#") for column in profile.columns.values()):
        raise UsageError(f"{source.path.name} is JSON: its values have names, not numbers", hint="name keys in the map")
    return NdjsonParser(json_rows(profile))


def _markup(beginning: bytes) -> str:
    start = beginning[:1024].lower()
    if b"<html" in start or b"<!doctype html" in start:
        return "an HTML page, not a list: a web server or a login page answered instead"
    return "an XML document; export the list as CSV or JSON"


def _skip_preamble(source: ListFile) -> Preamble:
    """Skip comments, blank lines and ``sep=`` above the header, and return what they say of it."""
    delimiter, hashdeep, comment = None, (), ""
    size = lines = 0
    beginning = source.beginning
    while size < len(beginning):
        end = beginning.find(b"\n", size) + 1
        line = beginning[size : end or len(beginning)].strip(b" \r\n")
        if found := _SEPARATOR.fullmatch(line):
            delimiter = found[1].decode("latin-1")
        elif line.startswith(_HASHDEEP):
            names = line.removeprefix(_HASHDEEP).decode("utf-8", "replace").strip().split(",")
            hashdeep = tuple(names) if len(names) > 1 else hashdeep
        elif line.startswith(b"#"):
            comment = line.lstrip(b"# ").decode("utf-8", "replace") or comment
        elif line:
            break
        size, lines = end or len(beginning), lines + 1
    source.skip(size, lines)
    return Preamble(delimiter, hashdeep, comment)


def _without_header(source: ListFile, header: Header, text: str, profile: Profile, above: Preamble) -> Parser:
    """Return the parser of a file without a header, if its lines say what they are."""
    algorithm = profile.algorithm
    if is_bsd(text):
        return BsdLines(algorithm or "")
    if algorithm and is_sum(text):
        return SumLines(algorithm)
    if algorithm and len(header.names) == 1:
        title = header.names[0]
        if not is_lone(text) and (title in TITLES or find_algorithm(title) == algorithm):
            source.skip(source.beginning.find(b"\n") + 1 or len(source.beginning), 1)
        return LoneDigests(algorithm)
    raise _refusal(source, header, text, above.comment)


def _refusal(source: ListFile, header: Header, text: str, comment: str) -> RowError:
    return source.row_error(source.first, WHOLE_LINE, no_header(header, text, comment))
