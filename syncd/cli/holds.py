"""``syncd holds``, ``release``, ``discard``: what waits for an operator, and how it ends."""

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from syncd.cli.arguments import LARGEST
from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.orders import Document, give, told
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.cli.repair import actor
from syncd.units import ago, count, day

HoldNumber = Annotated[
    int, typer.Argument(metavar="HOLD", min=1, max=LARGEST, help="The number that `syncd holds` shows.")
]
Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; the audit log keeps it.")]


def holds(config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show the holds: what waits for an operator, and why.

    Below them the refused ones, which somebody discarded: their rows stay out until the partner changes them, or the
    hold is released after all. Where `syncd run` holds the state, that daemon is asked.

    \b
    Exit codes:
      0   shown, whatever waits
      1   storage
      2   not set up
      6   the state folder is another user's

    \b
    Example:
      syncd holds --json
    """
    settings = load_config(config)
    found = told(settings, "holds") or _read_here(settings)
    if as_json:
        print_json(found)
    else:
        _show(found["holds"], utc_now())


def _read_here(settings: Any) -> Document:
    from syncd.catalog.catalog import Catalog
    from syncd.report.holds import holds_document

    with Catalog.open(state_folder(settings).catalog) as catalog:
        return holds_document(catalog.holds())


def _show(found: Sequence[Document], now: datetime) -> None:
    waiting = [one for one in found if one["state"] == "open"]
    refused = [one for one in found if one["state"] != "open"]
    if not waiting:
        say("nothing is held")
    else:
        columns = ("hold#", "list", "lane", "rows#", "why~", "since~")
        show_table(columns, [_waiting_row(one, now) for one in waiting], frozenset(range(len(waiting))))
        note("`syncd release HOLD --reason R` publishes it, `syncd discard HOLD --reason R` drops it", kind="to do")
    if refused:
        say("", "refused:")
        show_table(("hold#", "list", "lane", "rows#", "by", "when (UTC)~", "why~"), [_refused_row(o) for o in refused])


def _waiting_row(one: Document, now: datetime) -> tuple[str, ...]:
    since = ago(max(timedelta(0), now - datetime.fromisoformat(one["opened_at"])))
    return str(one["hold"]), one["list"], one["lane"], f"{one['rows']:,}", one["message"], since


def _refused_row(one: Document) -> tuple[str, ...]:
    when = day(datetime.fromisoformat(one["ended_at"]))
    return (
        str(one["hold"]),
        one["list"],
        one["lane"],
        f"{one['rows']:,}",
        one["ended_by"],
        when,
        one["ended_reason"],
    )


def release(hold: HoldNumber, reason: Reason, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Publish the rows of a hold.

    Exactly those, each only if the partner still wants it; what came later is judged by itself. A hold of a whole
    update (lane "both") moves the list to that version. A discarded hold can be released too. Where `syncd run` holds
    the state, that daemon does it; matchers are told at once. The audit log keeps who, and why.

    \b
    Exit codes:
      0   done, also if nothing of it was still wanted
      1   storage
      2   there is no such hold, or no reason
      6   it has ended already, or the state is in use, or another user's

    \b
    Example:
      syncd release 7 --reason "IWF confirmed it by telephone"
    """
    _end(hold, reason, config, release=True, as_json=as_json)


def discard(hold: HoldNumber, reason: Reason, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Refuse the rows of a hold.

    The list stays as it is without them, and they no longer count as held. They stay refused until the partner changes
    them, which is judged again, or until the hold is released after all. Of a whole update (lane "both") that very
    version is refused; a newer one is judged again. Where `syncd run` holds the state, that daemon does it. The audit
    log keeps who, and why.

    \b
    Exit codes:
      0   done
      1   storage
      2   there is no such hold, or no reason
      6   it has ended already, or the state is in use, or another user's

    \b
    Example:
      syncd discard 7 --reason "IWF says that somebody else signed it"
    """
    _end(hold, reason, config, release=False, as_json=as_json)


def _end(number: int, reason: str, config: Any, *, release: bool, as_json: bool) -> None:
    settings = load_config(config)
    do = "release" if release else "discard"
    answers = give(settings, {"do": do, "hold": number, "reason": reason})
    if answers is None:
        ended = _end_here(settings, number, reason, release=release)
    else:
        (answer,) = answers
        ended = answer["ended"]
    if as_json:
        print_json({"ended": ended})
    else:
        _show_ended(ended)


def _end_here(settings: Any, number: int, reason: str, *, release: bool) -> Document:
    from syncd.operate.holds import end_hold
    from syncd.pipeline.publisher import open_publisher
    from syncd.report.holds import ended_document
    from syncd.settings import credentials

    folder = state_folder(settings)
    purpose = f"syncd {'release' if release else 'discard'}"
    with sole_writer(folder, purpose), open_publisher(folder, credentials=credentials(os.environ)) as publisher:
        settled = end_hold(publisher, number, release=release, actor=actor(), reason=reason, now=utc_now())
        return ended_document(publisher.catalog, number, settled)


def _show_ended(ended: Document) -> None:
    what = f"hold {ended['hold']} of {ended['list']} was {ended['state']}"
    wanted = f"{count(ended['wanted_rows'], 'row')} ({ended['lane']})"
    if ended["state"] != "released":
        say(f"{what}: {wanted} stay out")
    elif not ended["wanted_rows"]:
        say(f"{what}: nothing of it was still wanted")
    elif ended["published"]:
        say(f"{what}: {wanted} released")
    else:
        say(f"{what}: {wanted} released, which changed nothing that is published")
    if ended["version"]:
        new = "published" if ended["published"] else "served, as before"
        say(f"{ended['list']} version {ended['version']}: {new}, {count(ended['rows_in_force'], 'row')}")
    for one in ended["also_ended"]:
        say(f"hold {one['hold']} ended with it: {one['state']}")
    if ended["still_held"]:
        note(f"{ended['list']} has other holds: `syncd holds` shows them")
