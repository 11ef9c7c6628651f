"""``syncd explain``: why a digest matches, or matched."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from syncd.ask.times import time_or_ago
from syncd.cli import arguments
from syncd.cli.operator import ConfigFile, Document, ask_document, load_config
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.model import Digest

_KEY: Final = 12
"""Digits of a key's id that are shown; --json has the whole id."""


def explain(
    digest: Annotated[
        str, typer.Argument(metavar="ALG:DIGEST", help="A digest in hex; - reads it from standard input.")
    ],
    at: Annotated[
        str | None,
        typer.Option(
            "--at", metavar="TIME", help="At a time (UTC: 2026-05-03T14:30) or a duration ago (24h); default: now."
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Explain why a digest matches, or matched.

    Shows each list and entry that ever supported the digest: added, relabelled and removed in which version and when,
    with the partner's serial and keys, or by which operator and why; whether it is in force, and in the versions that
    matchers report to have loaded. With --at, in force at that time. The history goes back `history_retention`
    (default: two years); what was before it is unknown. Members of the group syncd-operators ask the running daemon;
    the owner of the state does too, and reads it if none runs.

    \b
    Exit codes:
      0   some list supports the digest, or did
      10  no list ever did, as far as the history goes
      1   storage, or a part of the history cannot be read
      2   not a digest, TIME is not valid or in the future, or
          no list has or had digests of that algorithm
      6   you are neither an operator of the daemon nor the owner of the state

    \b
    Example:
      syncd explain md5:0123456789abcdef0123456789abcdef --at 2026-05-03T14:30
    """
    text = arguments.digest_of(digest)
    parsed, now = Digest.parse(text), utc_now()
    time = time_or_ago(at, "--at", now) if at is not None else None
    asked = {"digest": f"{parsed.algorithm}:{parsed.value.hex()}", "at": time}
    document, code = ask_document(load_config(config), "explain", asked, now, quick=True)
    if as_json:
        print_json({**document, "digest": text.strip()})
    else:
        _show(document, now_asked=at is None)
    return code


def _show(document: Document, *, now_asked: bool) -> None:
    when = "now" if now_asked else f"at {document['at'][:16].replace('T', ' ')} UTC"
    if not document["lists"]:
        say(_never(document, when))
    for number, one in enumerate(document["lists"]):
        if number:
            say("")
        _show_list(one, when)
    for one in document["suppressions"]:
        say(_suppression(one))
    for one in (*document["lists"], *document["other_lists"]):
        if not one["complete"]:
            note(f"{one['list']}: {_unknown(one)}", kind="note")
    for gap in document["gaps"]:
        note(f"{gap['list']}: {gap['message']}")


def _never(document: Document, when: str) -> str:
    """Say that no list is known to have supported the digest; what was before the history begins is unknown."""
    if document["in_force"] is None:
        return f"unknown {when}: no list has supported this digest since the history begins"
    if document["gaps"] or not all(one["complete"] for one in document["other_lists"]):
        return f"not in force {when}: no list has supported this digest since the history begins"
    return "no list ever supported this digest"


def _unknown(one: Document) -> str:
    if one["known_from_version"] is None:
        return "unknown: the history of this list begins with its next change"
    return f"before version {one['known_from_version']} ({one['known_from'][:10]}): unknown"


def _show_list(one: Document, when: str) -> None:
    version = f", version {one['version']}" if one["version"] is not None else ""
    retired = f", retired on {one['retired_at'][:10]}" if one["retired_at"] else ""
    say(f"{one['list']}: {_answer(one['in_force'])} {when}{version}{retired}")
    for entry in one["entries"]:
        name = f"entry {entry['entry']}" if entry["entry"] else "the entry without a name"
        label = f", label {entry['label']}" if entry["label"] else ""
        since = "; it was there before the history begins" if entry["since_before_known"] else ""
        say(f"  {name}{label}: {_answer(entry['in_force'])}{since}")
    events = sorted(
        ((event, entry["entry"]) for entry in one["entries"] for event in entry["events"]),
        key=lambda pair: (pair[0]["at"], pair[0]["version"] or 0),
    )
    if events:
        columns = ("time (UTC)", "change~", "entry~", "label~", "version#", "serial#", "how~")
        show_table(columns, [_event_row(event, entry) for event, entry in events])
    for line in _keys(event for event, _ in events):
        say(line)
    if one["matchers"]:
        named = ("matcher", "version#", "instances#", f"matched {when}~")
        show_table(named, [_matcher_row(matcher) for matcher in one["matchers"]])
    for hold in one["holds"]:
        say(f"hold {hold['hold']} ({hold['state']}) keeps rows of it back: {hold['message']}")


def _answer(in_force: bool | None) -> str:
    return "unknown" if in_force is None else "in force" if in_force else "not in force"


def _event_row(event: Document, entry: str) -> tuple[str, ...]:
    change = event["change"] if event["certain"] else f"{event['change']}?"
    how = event["plan"] or ""
    if event["version"] is None:
        how = "by the partner; not published"
    elif event["actor"]:
        how = f"{how} by {event['actor']}: {event['reason']}"
    label = event["label"] or ""
    if event["label_before"] is not None:
        label = f"{event['label_before']} -> {label}"
    version, serial = str(event["version"] or "-"), str(event["serial"] or "-")
    return event["at"][:16].replace("T", " "), change, entry, label, version, serial, how


def _keys(events: Iterator[Document]) -> Iterator[str]:
    """Yield a line for each set of keys, with the partner's serials that they signed."""
    serials: dict[tuple[str, ...], list[int]] = {}
    for event in events:
        if event["keys"] and event["serial"] not in serials.setdefault(tuple(event["keys"]), []):
            serials[tuple(event["keys"])].append(event["serial"])
    for keys, signed in serials.items():
        named = ", ".join(key[:_KEY] for key in keys)
        yield f"serial {', '.join(map(str, sorted(signed)))} signed by key {named}"


def _matcher_row(matcher: Document) -> tuple[str, ...]:
    answer = {True: "yes", False: "no", None: "unknown"}[matcher["in_force"]]
    return matcher["matcher"], str(matcher["version"]), f"{matcher['instances']:,}", answer


def _suppression(one: dict[str, Any]) -> str:
    scope = "all lists" if one["list"] is None else one["list"]
    entry = f", entry {one['entry']}" if one["entry"] is not None else ""
    until = f", until {one['expires_at'][:16].replace('T', ' ')} UTC" if one["expires_at"] else ""
    ended = f", ended by {one['ended_by']}: {one['ended_reason']}" if one["ended_at"] else ""
    state = "suppressed" if one["in_force"] else "suppression, not in force"
    since = one["created_at"][:16].replace("T", " ")
    who = f"{one['author']} since {since} UTC{until}: {one['reason']}"
    return f"{state} in {scope}{entry} by {who}{ended} (id {one['id']})"
