"""``syncd holds``, ``release`` and ``discard``: the decisions that wait for an operator."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, Final

import typer

from syncd.cli.arguments import LARGEST, not_a_stream
from syncd.cli.difference import show_changes
from syncd.cli.operator import (
    ConfigFile,
    Document,
    actor,
    ask_document,
    carry_out,
    load_config,
    open_catalog,
    state_folder,
    state_report,
)
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.errors import UsageError
from syncd.outcomes import HoldReason
from syncd.units import ago, count, day

_WIDTH: Final = 80

HoldNumber = Annotated[int, typer.Argument(metavar="HOLD", min=1, max=LARGEST, help="Its number in `syncd holds`.")]
Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the audit log.")]


def holds(
    hold: Annotated[
        int | None, typer.Argument(metavar="HOLD", min=1, max=LARGEST, help="One hold, with what it would change.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=not_a_stream, help="Write the rows of HOLD to a new file, mode 0600."),
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the holds: changes that wait for an operator's decision.

    Refused (discarded) holds follow. Their rows stay out until the partner changes them, or until the hold is released
    after all. With HOLD: the changes that its release would make now, by algorithm and label. Entries are never shown;
    with --out the owner of the state can write them to a file: CSV of change,algorithm,digest,entry,label,old_label.
    The audit log records that. If `syncd run` holds the state, this asks that daemon.

    \b
    Exit codes:
      0   shown, with or without holds
      1   storage
      2   not set up, there is no such hold, or FILE exists
      6   the state folder belongs to another user, or the hold has ended

    \b
    Example:
      syncd holds 7
    """
    settings = load_config(config)
    if hold is not None:
        _show_one(settings, hold, out, as_json=as_json)
        return
    if out is not None:
        raise UsageError("--out needs the number of a hold", hint="`syncd holds` lists them")
    document = state_report(settings, "holds")
    if as_json:
        print_json(document)
        return
    now = utc_now()
    waiting = [hold for hold in document["holds"] if hold["state"] == "open"]
    refused = [hold for hold in document["holds"] if hold["state"] != "open"]
    if not waiting:
        say("nothing is held")
    else:
        columns = ("hold#", "list", "lane", "rows#", "since~")
        rows = [
            (*_identity(hold), ago(max(timedelta(0), now - datetime.fromisoformat(hold["opened_at"]))))
            for hold in waiting
        ]
        show_table(columns, rows, frozenset(range(len(waiting))))
        say(*_why(waiting, "message"))
        note("`syncd release HOLD --reason R` publishes it, `syncd discard HOLD --reason R` drops it", kind="to do")
        if any(HoldReason.SECOND_OPERATOR in hold["reasons"] for hold in waiting):
            note("`syncd suppressions` shows suppressions that wait for a second operator", kind="to do")
    if refused:
        say("", "refused:")
        names = ("hold#", "list", "lane", "rows#", "by", "when (UTC)~")
        ended = [
            (*_identity(hold), hold["ended_by"], day(datetime.fromisoformat(hold["ended_at"]))) for hold in refused
        ]
        show_table(names, ended)
        say(*_why(refused, "ended_reason"))


def _show_one(settings: Any, number: int, out: Path | None, *, as_json: bool) -> None:
    if out is None:
        document, written = ask_document(settings, "hold", {"hold": number}, utc_now())[0], None
    else:
        document, written = _write_rows(settings, number, out)
    if as_json:
        print_json({"out": str(out) if out else None, **document})
        return
    say(f"hold {number} of {document['list']} ({document['lane']}): {count(document['rows'], 'row')}")
    say(*wrap(f"why: {document['message']}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False), "")
    if HoldReason.SECOND_OPERATOR in document["reasons"]:
        note("`syncd suppressions` shows the suppressions that wait", kind="note")
    elif not show_changes(document["labels"]):
        say("its release would change no entry")
    if written is not None:
        say(f"{count(written, 'row')} written to {out}")
    if document["to_do"]:
        note(document["to_do"], kind="to do")


def _write_rows(settings: Any, number: int, out: Path) -> tuple[Document, int]:
    # SQLAlchemy and numpy: not needed if the daemon answers
    from syncd.ask.holds import held_document
    from syncd.operate.disclose import disclose
    from syncd.operate.held_rows import HeldRows

    folder = state_folder(settings, daemon_could=False)
    with open_catalog(folder) as catalog:
        held = HeldRows.of(folder, catalog, number)
        name, what = held.hold.list, f"hold {number}"
        rows = disclose(folder, catalog, out, held.write_rows, name=name, what=what, actor=actor(), now=utc_now())
        return held_document(held), rows


def _why(holds: Sequence[Document], key: str) -> Iterator[str]:
    """Yield the reason of each hold below the table, which would be too wide with it."""
    for hold in holds:
        yield from wrap(f"hold {hold['hold']}: {hold[key]}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _identity(hold: Document) -> tuple[str, ...]:
    return str(hold["hold"]), hold["list"], hold["lane"], f"{hold['rows']:,}"


def release(hold: HoldNumber, reason: Reason, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Publish the rows of a hold.

    Publishes exactly those rows, and of them only the ones that the partner still lists. Later changes are judged
    separately. Releasing the hold of a whole update (lane "both") moves the list to that version. A discarded hold can
    still be released. If `syncd run` holds the state, that daemon does it. Matchers are notified at once. The audit log
    keeps who released it, and why.

    \b
    Exit codes:
      0   done, also if none of its rows is still wanted
      1   storage
      2   there is no such hold, or no reason was given
      6   it has already ended, or the state is in use or belongs to another user

    \b
    Example:
      syncd release 7 --reason "IWF confirmed it by telephone"
    """
    _end(hold, reason, config, release=True, as_json=as_json)


def discard(hold: HoldNumber, reason: Reason, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Refuse the rows of a hold.

    The list stays as it is, without them, and they no longer count as held. They stay out until the partner changes
    them, which is judged again, or until the hold is released after all. Discarding the hold of a whole update (lane
    "both") refuses that version only; a newer one is judged again. If `syncd run` holds the state, that daemon does it.
    The audit log keeps who discarded it, and why.

    \b
    Exit codes:
      0   done
      1   storage
      2   there is no such hold, or no reason was given
      6   it has already ended, or the state is in use or belongs to another user

    \b
    Example:
      syncd discard 7 --reason "IWF says that somebody else signed it"
    """
    _end(hold, reason, config, release=False, as_json=as_json)


def _end(number: int, reason: str, config: Path | None, *, release: bool, as_json: bool) -> None:
    settings = load_config(config)
    order = {"do": "release" if release else "discard", "hold": number, "reason": reason}
    answer = carry_out(settings, order)
    ended = answer["ended"]
    if as_json:
        print_json({"ended": ended, "clock": answer.get("clock")})
        return
    if ended["lane"] == "suppressions":
        _show_suppressions(ended)
        return
    done = f"hold {ended['hold']} of {ended['list']} was {ended['state']}"
    wanted = f"{count(ended['wanted_rows'], 'row')} ({ended['lane']})"
    if ended["state"] != "released":
        say(f"{done}: {wanted} stay out")
    elif not ended["wanted_rows"]:
        say(f"{done}: none of its rows is still wanted")
    elif ended["published"]:
        say(f"{done}: {wanted} released")
    else:
        say(f"{done}: {wanted} released; the published list did not change")
    if ended["version"]:
        new = "published" if ended["published"] else "served, as before"
        say(f"{ended['list']} version {ended['version']}: {new}, {count(ended['rows_in_force'], 'row')}")
    for other in ended["also_ended"]:
        say(f"hold {other['hold']} ended with it: {other['state']}")
    if ended["still_held"]:
        note(f"{ended['list']} has other holds: `syncd holds` shows them")


def _show_suppressions(ended: Document) -> None:
    """Show the end of a hold of suppressions, or of a changed known-good file."""
    from syncd.report.holds import ended_suppressions_in_words  # SQLAlchemy: not needed by other commands of this file

    say(ended_suppressions_in_words(ended))
    for name, version in ended["versions"].items():
        say(f"{name} version {version} published")
