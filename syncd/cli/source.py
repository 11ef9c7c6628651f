"""``syncd source``: show the configured sources, and try one without publishing anything."""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.operator import ConfigFile, load_config
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.errors import UsageError
from syncd.units import count, span

if TYPE_CHECKING:
    from syncd.pipeline.first_page import FirstPage

app = typer.Typer(rich_markup_mode=None)
_LABELS = 8


@app.callback(invoke_without_command=True)
def source(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show the configured sources: name, type, place and interval.

    \b
    Exit codes:
      0   shown
      2   configuration

    \b
    Example:
      syncd source --json
    """
    if context.invoked_subcommand is not None:
        return
    tables = load_config(config).sources
    if as_json:
        named = [
            {"name": name, "type": table.type, "place": table.place, "interval": table.interval}
            for name, table in tables.items()
        ]
        print_json({"sources": named})
        return
    rows = [(name, table.type, table.place, span(timedelta(seconds=table.interval))) for name, table in tables.items()]
    show_table(("source", "type", "place", "interval"), rows)


@app.command("try")
def try_source(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A source of the configuration.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Read the first page of a source, and publish nothing.

    Checks the configured files and the credentials, asks the partner from the beginning, and counts what the
    first page states, by list, algorithm and label. Nothing is kept. For partners that sign nothing; of a signed
    feed, `syncd sync NAME --dry-run` shows the same and more.

    \b
    Exit codes:
      0   the partner answered
      1   storage
      2   configuration, or a signed feed
      4   the answer cannot be used
      5   unreachable, refused, or deadline

    \b
    Example:
      syncd source try hotline --json
    """
    from syncd.pipeline.first_page import first_page
    from syncd.sources.statements import StatedSource

    found = load_config(config).source(name)
    if not isinstance(found, StatedSource):
        raise UsageError(
            f"source {name} is a signed feed", hint=f"`syncd sync {name} --dry-run` fetches and judges it; try that"
        )
    found.check()
    scratch = Path(tempfile.mkdtemp(prefix="syncd-try-"))
    try:
        page = first_page(found, utc_now(), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if as_json:
        print_json(_document(name, page))
    else:
        _show(name, page)


def _document(name: str, page: "FirstPage") -> dict[str, object]:
    return {
        "source": name,
        "bytes": page.bytes,
        "total": page.total,
        "set_aside": dict(page.set_aside),
        "lists": [
            {
                "list": own,
                "records": counts.records,
                "gone": counts.gone,
                "fingerprints": dict(counts.fingerprints),
                "labels": dict(counts.labels.most_common()),
            }
            for own, counts in sorted(page.lists.items())
        ],
    }


def _show(name: str, page: "FirstPage") -> None:
    more = f"; the partner states {count(page.total, 'record')} in all" if page.total else ""
    say(f"{name} answered: {count(page.bytes, 'byte')}{more}")
    for own, counts in sorted(page.lists.items()):
        say(f"{own}: {count(counts.records, 'record')}, {counts.gone} withdrawn")
        for algorithm, number in sorted(counts.fingerprints.items()):
            say(f"  {algorithm}: {number}")
        for label, number in counts.labels.most_common(_LABELS):
            say(f"  label {label or '(none)'}: {number}")
    for reason, number in sorted(page.set_aside.items()):
        note(f"set aside: {number} ({reason})", kind="note")
    say("nothing was published")
