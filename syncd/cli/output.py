"""Output of the commands: results on standard output, everything else on standard error.

Colour appears only on a terminal, and not with ``NO_COLOR``. Tables fit the terminal; elsewhere each row is one line.
With ``--json`` the output is one document. Rich, which takes longer to load than `syncd status --json` to run, is
imported only by functions that draw.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Final, Protocol, TextIO

import typer

from syncd.errors import StoreError, SyncdError, error_document
from syncd.journal import CRITICAL, ERROR, INFO, WARNING, is_journal, with_priority
from syncd.units import done_of, stamp

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL: Final = 1 << 16
"""A width greater than that of any row."""
_GAPS: Final = (2, 1)
"""Gaps between columns: the second if the table does not fit with the first."""
_WORD: Final = 10
"""The least width of a column of words, unless it needs less."""

_PRIORITIES: Final = {"ALARM": CRITICAL, "error": ERROR, "held": WARNING, "warning": WARNING}
"""Priorities in the journal, by the first word of a remark."""
JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document, errors included.")]


class OutputError(StoreError):
    """Standard output cannot be written: the result did not arrive."""


@contextmanager
def writing() -> Iterator[None]:
    """Turn an `OSError` of standard output into `OutputError`, except that of a reader that has gone."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def output_error(error: OSError) -> OutputError:
    """Return the error to report for it."""
    return OutputError(
        f"cannot write the output: {error.strerror or error}", hint="the output is incomplete: run the command again"
    )


def utc_now() -> datetime:
    """Return the time of the wall clock. Tests replace this function."""
    return datetime.now(UTC)


def console(*, stderr: bool = False) -> "Console":
    """Return a rich console that adds no formatting of its own."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)


def clean(text: str, stream: TextIO | None = None) -> str:
    """Escape control characters, line feeds, and characters that ``stream`` (default: standard output) cannot encode.

    Labels and names come from others. A terminal would obey their control characters, a line feed in a file name could
    fake a line such as "no match", and a label in another script would end a look-up on an ASCII terminal.
    """
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def tolerate(stream: TextIO | None) -> None:
    """Have a standard stream escape characters that its encoding lacks, for output not passed to `clean`, as help."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def say(*lines: str) -> None:
    """Print lines of the result."""
    _result("\n".join(map(clean, lines)))


def _result(text: str) -> None:
    with writing():
        print(text)  # noqa: T201 - the result of a command


def flush() -> None:
    """Flush standard output, and report a failure."""
    with writing():
        sys.stdout.flush()


def note(text: str, *, kind: str = "warning", hint: str = "") -> None:
    """Print one remark beside the result; ``kind`` is its first word, ``hint`` what to do."""
    to_do = f"\n  to do: {clean(hint, sys.stderr)}" if hint else ""
    _remark(f"{_coloured(kind, '33')}: {clean(text, sys.stderr)}{to_do}", kind)


def alarm(text: str, hint: str) -> None:
    """Print a remark that a person must act on at once."""
    _remark(f"{_coloured('ALARM', '1;31')}: {clean(text, sys.stderr)}\n  to do: {clean(hint, sys.stderr)}", "ALARM")


def _remark(text: str, kind: str) -> None:
    if is_journal(sys.stderr):
        text = with_priority(text, _PRIORITIES.get(kind, INFO))
    with suppress(OSError):  # if standard error is lost too, only the exit code is left
        print(text, file=sys.stderr)  # noqa: T201 - for the person


def print_json(document: object) -> None:
    """Print the JSON document of a command."""
    _result(json.dumps(document, indent=2, default=_as_json))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    return str(value)


def show_error(error: SyncdError, *, as_json: bool = False) -> None:
    """Print an error: what happened, what is still served, what to do."""
    if as_json:
        print_json({"error": error_document(error)})
        return
    show_trouble("error", error.message, error.serving, error.hint)


def show_trouble(kind: str, message: str, serving: str, hint: str) -> None:
    """Print what happened, what is still served and what to do; ``kind`` is the first word."""
    lines = [f"{_coloured(kind, '1;31')}: {clean(message, sys.stderr)}"]
    if serving:
        lines.append(f"  still served: {clean(serving, sys.stderr)}")
    if hint:
        lines.append(f"  to do: {clean(hint, sys.stderr)}")
    _remark("\n".join(lines), kind)


def _coloured(word: str, code: str) -> str:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{code}m{word}\x1b[0m"
    return word


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], red: frozenset[int] = frozenset()) -> None:
    """Print a table that fits the terminal; without a terminal, one line per row, for `grep`.

    A column name that ends in '#' marks a column of numbers, in '~' one of words, which is folded first. Other columns
    hold names, folded only if the table would not fit. ``red``: numbers of the rows to print in red.
    """
    from rich.table import Table
    from rich.text import Text

    printer = console()
    if "COLUMNS" not in os.environ and not sys.stdout.isatty():
        printer.width = _NO_TERMINAL
    cells = [[clean(cell) for cell in row] for row in rows]
    gap, widest = _layout(columns, cells, printer.width)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, gap, 0, 0))
    for column in columns:
        table.add_column(
            column.rstrip("#~"),
            justify="right" if column.endswith("#") else "left",
            overflow="fold",
            no_wrap=column not in widest,
            max_width=widest.get(column),
        )
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="red" if number in red else None)
    with writing():
        printer.print(table)


def _layout(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> tuple[int, dict[str, int | None]]:
    """Return the gap between columns, and the widths of the columns to fold: words, then the longest names."""
    needed = {
        name: max(map(len, cells))
        for name, *cells in zip(columns, (name.rstrip("#~") for name in columns), *rows, strict=True)
    }
    words = {name: min(needed[name], _WORD) for name in columns if name.endswith("~")}
    for gap in _GAPS:
        if gap * (len(columns) - 1) + sum((needed | words).values()) <= width:
            return gap, dict.fromkeys(words)
    names = [name for name in columns if not name.endswith(("#", "~"))]
    return gap, {**words, max(names, key=lambda name: needed[name]): None}


class ReportProgress(Protocol):
    """Reports progress; see `progress`."""

    def __call__(self, stage: str, done: int, total: int, of: str = "") -> None:
        """Show that ``done`` of ``total`` bytes or rows are done (``total`` 0: unknown) for the source ``of``."""
        ...


@contextmanager
def progress(what: str) -> Iterator[ReportProgress]:
    """Show a progress line on a terminal; elsewhere nothing, or cron would mail it. Yields the function to update it.

    ``of`` names the source if one command syncs several.
    """
    if not sys.stderr.isatty():
        yield lambda _stage, _done, _total, _of="": None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[amount]}", markup=False, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
    )
    with Progress(*columns, console=console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task(what, total=None, amount="")

        def report(stage: str, done: int, total: int, of: str = "") -> None:
            label = ": ".join(filter(None, (what, of, stage)))
            amount = done_of(stage, done, total)
            bar.update(task, description=clean(label, sys.stderr), completed=done, total=total or None, amount=amount)

        yield report


def quiet_retries() -> None:
    """Switch off the log of retries: it would go to standard output, into the result. Their outcome is reported."""
    import stamina.instrumentation  # only commands that fetch need it

    stamina.instrumentation.set_on_retry_hooks(())
