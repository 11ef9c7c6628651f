"""How commands speak: results on standard output, everything else on standard error.

Colour only where a person reads it (and not with ``NO_COLOR``); tables fit the terminal, and elsewhere each row is one
line; with ``--json`` one document.
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
from syncd.units import done_of, stamp

if TYPE_CHECKING:
    from rich.console import Console

_NO_TERMINAL: Final = 1 << 16
"""Wider than any row."""
_GAPS: Final = (2, 1)
"""Between columns: the second where the first does not fit."""
_WORD: Final = 10
"""What a column of words is left at least, where it has as many."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document, errors included.")]


class OutputError(StoreError):
    """Standard output cannot be written: the result did not arrive."""


@contextmanager
def writing() -> Iterator[None]:
    """Turn the `OSError` of standard output into an `OutputError`; a reader that has gone is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise output_error(error) from error


def output_error(error: OSError) -> OutputError:
    """What to say of it."""
    return OutputError(
        f"cannot write the output: {error.strerror or error}", hint="the result is not whole: run the command again"
    )


def utc_now() -> datetime:
    """The wall clock; tests replace it."""
    return datetime.now(UTC)


def console(*, stderr: bool = False) -> "Console":
    """A rich console that writes what it is given and nothing more."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)


def clean(text: str, stream: TextIO | None = None) -> str:
    """``text`` on one line, without control characters and what ``stream`` (standard output) cannot encode.

    Labels and names are others', and terminals obey them; a line feed in a file's name would make a line of its own,
    such as a false "no match". A label in another script must not end a look-up in a terminal that knows ASCII alone.
    """
    shown = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def tolerate(stream: TextIO | None) -> None:
    """Let a standard stream escape what its encoding lacks, also in output that `clean` does not see, such as help."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def say(*lines: str) -> None:
    """Lines of the result."""
    _result("\n".join(map(clean, lines)))


def _result(text: str) -> None:
    with writing():
        print(text)  # noqa: T201 - the result of a command


def flush() -> None:
    """Let what was said arrive."""
    with writing():
        sys.stdout.flush()


def note(text: str, *, kind: str = "warning") -> None:
    """One remark beside the result; ``kind`` is its first word."""
    _remark(f"{_coloured(kind, '33')}: {clean(text, sys.stderr)}")


def alarm(text: str, hint: str) -> None:
    """Something a person must look into at once."""
    _remark(f"{_coloured('ALARM', '1;31')}: {clean(text, sys.stderr)}\n  to do: {clean(hint, sys.stderr)}")


def _remark(text: str) -> None:
    with suppress(OSError):  # where nobody listens the exit code has to do
        print(text, file=sys.stderr)  # noqa: T201 - for the person


def print_json(document: object) -> None:
    """The one JSON document of a command."""
    _result(json.dumps(document, indent=2, default=_as_json))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return stamp(value)
    return str(value)


def show_error(error: SyncdError, *, as_json: bool = False) -> None:
    """Say what happened, what is still served and what to do."""
    if as_json:
        print_json({"error": error_document(error)})
        return
    show_trouble("error", error.message, error.serving, error.hint)


def show_trouble(kind: str, message: str, serving: str, hint: str) -> None:
    """What happened, what is still served and what to do; ``kind`` is its first word."""
    lines = [f"{_coloured(kind, '1;31')}: {clean(message, sys.stderr)}"]
    if serving:
        lines.append(f"  still served: {clean(serving, sys.stderr)}")
    if hint:
        lines.append(f"  to do: {clean(hint, sys.stderr)}")
    _remark("\n".join(lines))


def _coloured(word: str, code: str) -> str:
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        return f"\x1b[{code}m{word}\x1b[0m"
    return word


def show_table(columns: Sequence[str], rows: Sequence[Sequence[str]], red: frozenset[int] = frozenset()) -> None:
    """A table as wide as the terminal, or, where there is none, as wide as it is: a line for each row, for `grep`.

    Columns whose name ends in '#' hold numbers, and in '~' words, which are folded first; the others hold names, which
    are folded only where they would not fit. ``red``: rows.
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
    """The gap between columns, and how wide each may be that may be folded: words; the longest names if they must."""
    needed = {
        name: max(map(len, cells))
        for name, *cells in zip(columns, (one.rstrip("#~") for one in columns), *rows, strict=True)
    }
    words = {name: min(needed[name], _WORD) for name in columns if name.endswith("~")}
    for gap in _GAPS:
        if gap * (len(columns) - 1) + sum((needed | words).values()) <= width:
            return gap, dict.fromkeys(words)
    names = [name for name in columns if not name.endswith(("#", "~"))]
    return gap, {**words, max(names, key=lambda name: needed[name]): None}


class Tell(Protocol):
    """See `progress`."""

    def __call__(self, stage: str, done: int, total: int, of: str = "") -> None:
        """How far it is."""
        ...


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """One line on the terminal that is drawn again and again, and nothing elsewhere: cron shall not mail it.

    Yields what to tell: stage, how many bytes or rows are done, of how many (0: not known), and of what, where one
    command does several.
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

        def tell(stage: str, done: int, total: int, of: str = "") -> None:
            said = ": ".join(filter(None, (what, of, stage)))
            amount = done_of(stage, done, total)
            bar.update(task, description=clean(said, sys.stderr), completed=done, total=total or None, amount=amount)

        yield tell


def quiet_retries() -> None:
    """Retries are told by their outcome: their default log would go to standard output, into the result."""
    import stamina.instrumentation

    stamina.instrumentation.set_on_retry_hooks(())
