"""Digests to suppress, from arguments, standard input or a file; and numbers of suppressions."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from syncd.ask.times import instant
from syncd.cli.arguments import digest_of, named_file
from syncd.errors import UsageError
from syncd.model import MAX_ENTRY_BYTES, Digest
from syncd.settings import parse_duration
from syncd.units import count

MOST: Final = 100_000
"""Digests of one command; see `syncd.operate.suppression_order.MOST_AT_ONCE`."""
_LARGEST_FILE: Final = 64 << 20
_MOST_DIGITS: Final = 15
_NAMED: Final = 20
_COLUMNS: Final = ("algorithm", "digest", "entry")


@dataclass(frozen=True)
class GivenDigest:
    """A digest as the user gave it; ``line`` of its file, 0 if it was an argument."""

    digest: Digest
    entry: str | None = None
    line: int = 0


@dataclass(frozen=True)
class _BadLine:
    line: int
    column: str
    reason: str


def from_argument(text: str, entry: str | None) -> tuple[GivenDigest, ...]:
    """Read the digest of an argument; ``-``: one from standard input. Raises `UsageError`, without the digest."""
    text = digest_of(text, "write one ALG:HEX to it; --file reads many from a file")
    if entry is not None:
        _check_entry(entry)
    return (GivenDigest(Digest.parse(text), entry),)


def from_file(path: Path) -> tuple[GivenDigest, ...]:
    """Read a file of digests, each once: ``ALG:HEX`` a line, or CSV with a header.

    Raises `UsageError` that names bad rows by line and column, and shows none of their values.
    """
    try:
        text = named_file(path, _LARGEST_FILE, "the file of digests").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path.name} is not UTF-8 text", hint=_HINT) from None
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    rows = list(_from_csv(path, lines) if "," in first else _from_lines(lines))
    bad = [row for row in rows if isinstance(row, _BadLine)]
    if bad:
        named = "; ".join(f"line {one.line}, column {one.column}: {one.reason}" for one in bad[:_NAMED])
        more = f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
        raise UsageError(f"{path.name} has {count(len(bad), 'bad row')}: {named}{more}", hint=_HINT)
    good = [row for row in rows if isinstance(row, GivenDigest)]
    if not good:
        raise UsageError(f"{path.name} has no digest", hint=_HINT)
    if len(good) > MOST:
        raise UsageError(
            f"{path.name} has more than {count(MOST, 'digest')}", hint="a whole list is stopped with `syncd rollback`"
        )
    return tuple({(one.digest, one.entry): one for one in reversed(good)}.values())[::-1]


_HINT: Final = "write one ALG:HEX a line, or CSV with the columns algorithm,digest and entry; nothing was changed"


def _from_lines(lines: Sequence[str]) -> Iterator[GivenDigest | _BadLine]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _row(line, None, number)


def _from_csv(path: Path, lines: Sequence[str]) -> Iterator[GivenDigest | _BadLine]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip().lower() for name in next(row for row in reader if any(row))]
        unknown = [name for name in header if name not in _COLUMNS]
        if unknown or len(set(header)) != len(header) or not {"algorithm", "digest"} <= set(header):
            raise UsageError(
                f"line {reader.line_num} of {path.name} is not the header algorithm,digest[,entry]", hint=_HINT
            )
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                yield _BadLine(reader.line_num, "-", f"{count(len(row), 'value')} instead of {len(header)}")
                continue
            values = dict(zip(header, row, strict=True))
            entry = values.get("entry", "") or None
            yield _row(f"{values['algorithm'].strip()}:{values['digest'].strip()}", entry, reader.line_num)
    except csv.Error as error:
        yield _BadLine(reader.line_num, "-", f"not CSV: {error}")


def _row(text: str, entry: str | None, line: int) -> GivenDigest | _BadLine:
    column = "digest"
    try:
        digest = Digest.parse(text)
        column = "entry"
        if entry is not None:
            _check_entry(entry)
    except UsageError as error:
        return _BadLine(line, column, error.message)
    return GivenDigest(digest, entry, line)


def _check_entry(entry: str) -> None:
    if len(entry.encode(errors="replace")) > MAX_ENTRY_BYTES:
        raise UsageError(f"an entry has at most {MAX_ENTRY_BYTES} bytes", hint="give the partner's own entry id")
    if not entry.isprintable():
        raise UsageError("an entry has no control characters", hint="give the partner's own entry id")


def expiry(text: str | None, now: datetime) -> datetime | None:
    """Parse ``--expires``: a duration from ``now``, or a time. None if it was not given. Raises `UsageError`."""
    if text is None:
        return None
    if (given := instant(text)) is not None:
        return given
    try:
        return now + timedelta(seconds=parse_duration(text))
    except (UsageError, OverflowError):
        raise UsageError(
            "--expires is neither a time nor a duration of at most a year",
            hint="for example 12h, 10d, 2026-12-24 or 2026-12-24T18:00 (UTC unless it names a zone)",
        ) from None


def numbers(texts: Sequence[str]) -> tuple[int, ...]:
    """Parse numbers of suppressions, as commands print them: ``3``, ``3-14`` or ``3-14,20``. Raises `UsageError`."""
    found: dict[int, None] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        first, dash, last = part.partition("-")
        ends = [first, last] if dash else [first]
        if not all(end.isascii() and end.isdigit() and len(end) <= _MOST_DIGITS for end in ends):
            raise UsageError(
                "a suppression is named by its number", hint="`syncd suppressions` shows the numbers: 3, or 3-14"
            )
        low, high = int(ends[0]), int(ends[-1])
        if not 0 <= high - low < MOST:
            raise UsageError(
                f"{low}-{high} is not a range of at most {count(MOST, 'number')}", hint="write the lower first"
            )
        found.update(dict.fromkeys(range(low, high + 1)))
    return tuple(found)
