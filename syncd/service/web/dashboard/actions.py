"""The acts that operators may carry out from the dashboard: one `DashboardAct` each, all of them in `ACTS`.

An entry says what its page shows, what its form asks for besides reason and token, which order it gives, and how the
answer reads. The order is the one that the command gives over the control socket, so both have the same effect, the
same checks and the same audit log. To add an act, add an entry and a link to its page. Those on suppressions are in
`syncd.service.web.dashboard.corrections`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from syncd.catalog.decisions import HoldRecord
from syncd.errors import UsageError
from syncd.model import Algorithm
from syncd.operate.holds import open_hold
from syncd.outcomes import HoldReason, Lane
from syncd.report.holds import ended_suppressions_in_words
from syncd.service.control import Order
from syncd.service.web.context import Context
from syncd.service.web.dashboard.html import Html, h, join
from syncd.service.web.dashboard.parts import Fact, exact, facts, list_link, past, prose
from syncd.units import count

Document = Mapping[str, Any]
Values = Mapping[str, str]
"""What was typed, by the name of its `Input`."""


@dataclass(frozen=True)
class Input:
    """A field of an act's form. What is typed there goes into no log and no URL."""

    name: str
    label: str
    hint: str = ""
    longest: int = 200
    required: bool = True
    number: bool = False
    """only digits"""
    flag: bool = False
    """a box to tick: "yes" or empty"""


REASON: Final = Input("reason", "Reason", "The audit log keeps it, with your name.", longest=500)
"""Every act asks for it."""


@dataclass(frozen=True)
class Preview:
    """The page of an act before it is carried out."""

    title: str
    effect: str
    """what happens, in one or two sentences"""
    facts: Sequence[Fact]
    after: str
    """the page to go to afterwards"""
    seal: str = ""
    """the hash of what is shown: the form carries it, and if it has changed by then, nothing is done"""


@dataclass(frozen=True)
class DashboardAct:
    """One act. ``name`` is its place below ``/acts/``, followed by the subject: a hold's number, a name."""

    name: str
    button: str
    preview: Callable[[Context, str], Preview]
    """reads the present state; raises `SyncdError` if there is nothing to act on"""
    order: Callable[[Context, str, Values, str], Order]
    """makes the order from subject, fields and seal"""
    done: Callable[[Document], str]
    """says what was done, from the first answer to the order"""
    inputs: tuple[Input, ...] = ()


def act_path(act: str, subject: str | int) -> str:
    """Return the path of an act's page. ``subject``: '' if the act has none."""
    return f"/acts/{act}/{subject}".rstrip("/")


def act_link(act: str, subject: str | int, words: str, about: str = "") -> Html:
    """Return a link to an act's page. ``about``: completes the words for those who cannot see the row it is in."""
    more = h("span", f" {about}", class_="unseen") if about else None
    return h("a", words, more, href=act_path(act, subject), class_="act")


# Holds


def rows_by_algorithm(hold: HoldRecord) -> str:
    """Return the rows of a hold, by algorithm and kind; '' if its files hold more than the rows that would change."""
    if hold.lane is Lane.BOTH or hold.is_of_known_good_file:
        return ""
    added: dict[Algorithm, int] = {}
    removed: dict[Algorithm, int] = {}
    for ref in hold.segments:
        added[ref.algorithm] = added.get(ref.algorithm, 0) + ref.rows - ref.removals
        removed[ref.algorithm] = removed.get(ref.algorithm, 0) + ref.removals
    kinds = (("to add or relabel", added), ("to remove", removed))
    return ", ".join(
        f"{rows:,} {algorithm} {kind}" for kind, counted in kinds for algorithm, rows in sorted(counted.items()) if rows
    )


def number_of(subject: str) -> int:
    """Return a number from a path; 0 if it is not one, which nothing has."""
    return int(subject) if _NUMBER.fullmatch(subject) else 0


_NUMBER: Final = re.compile("[0-9]{1,15}")


def _hold_preview(context: Context, subject: str, *, release: bool) -> Preview:
    hold = open_hold(context.catalog, number_of(subject), release=release)
    published = context.catalog.head(hold.list) is not None
    shown = (
        Fact("List", list_link(hold.list) if published else hold.list),
        Fact("Rows", hold.rows, rows_by_algorithm(hold)),
        Fact("Lane", str(hold.lane)),
        Fact("Held", past(hold.opened_at, context.clock()), exact(hold.opened_at)),
        Fact("Why", hold.message, _ask(hold.reasons)),
    )
    after = f"/lists/{hold.list}" if published else "/holds"
    title = f"{'Release' if release else 'Discard'} hold {hold.id}"
    effect = _effect_on_file(release=release) if hold.is_of_known_good_file else _effect(hold.lane, release=release)
    return Preview(title, effect, shown, after, hold.sha256)


def _ask(reasons: Sequence[HoldReason]) -> str:
    return "; ".join(f"first {reason.to_do}" for reason in reasons if reason.to_do)


def _effect(lane: Lane, *, release: bool) -> str:
    if lane is Lane.BOTH:
        if release:
            return "Moves the list to this version of the partner's, and publishes it to every matcher at once."
        return "Refuses this version of the partner's. The list stays as it is, and a newer version is judged again."
    if lane is Lane.SUPPRESSIONS:
        if release:
            return "Puts these suppressions in force at every matcher at once. Another operator has asked for them."
        return "Refuses these suppressions. The digests keep matching."
    if release:
        return (
            "Publishes these rows to every matcher at once, except those that the partner no longer lists. Later "
            "changes are judged separately."
        )
    return (
        "The list stays as it is, without these rows. They stay out until the partner changes them, or until this hold "
        "is released after all."
    )


def _effect_on_file(*, release: bool) -> str:
    if release:
        return (
            "Puts the changed known-good file in force: these rows go off the list at every matcher at once. Only an "
            "operator who does not own the file may do it."
        )
    return "The changed known-good file is not used: the list stays as it is, and the same file is not held again."


def _ended(answer: Document) -> str:
    ended = answer["ended"]
    if ended["lane"] == Lane.SUPPRESSIONS:
        words = ended_suppressions_in_words(ended)
        return f"{words[0].upper()}{words[1:]}."
    rows = f"{count(ended['wanted_rows'], 'row')} ({ended['lane']})"
    done = f"Hold {ended['hold']} of {ended['list']} was {ended['state']}"
    if ended["state"] != "released":
        return f"{done}: {rows} stay out."
    published = f" Version {ended['version']} is published." if ended["published"] else ""
    unchanged = "" if ended["published"] else " The published list did not change."
    return f"{done}: {rows}.{published or unchanged}"


def _end_order(do: str) -> Callable[[Context, str, Values, str], Order]:
    return lambda _, subject, values, seal: Order(do=do, hold=number_of(subject), reason=values["reason"], sha256=seal)


# Syncs


def _sync_preview(context: Context, subject: str) -> Preview:
    config = context.config()
    if subject not in config.sources:
        raise UsageError("there is no such source", hint="the overview shows the configured ones")
    known = context.catalog.source(subject)
    shown = (
        Fact("Verified", past(known.last_verified_at, context.clock())),
        Fact("Next sync", exact(known.next_run_at) if known.next_run_at else "not planned"),
    )
    effect = f"Asks {subject} for its present state now, besides the schedule. The gate judges the answer as always."
    return Preview(f"Sync {subject} now", effect, shown, f"/sources/{subject}")


def _sync_order(context: Context, subject: str, values: Values, seal: str) -> Order:
    del context, seal
    return Order(do="sync", source=subject, wait=False, reason=values["reason"])


def _synced(answer: Document) -> str:
    accepted = answer["accepted"]
    joined = "was running already" if accepted["joined"] else "was started"
    return f"The sync of {accepted['source']} {joined}. This page shows its outcome."


HOLDS_AND_SYNCS: Final = (
    DashboardAct(
        "release",
        "Release",
        preview=lambda context, subject: _hold_preview(context, subject, release=True),
        order=_end_order("release"),
        done=_ended,
    ),
    DashboardAct(
        "discard",
        "Discard",
        preview=lambda context, subject: _hold_preview(context, subject, release=False),
        order=_end_order("discard"),
        done=_ended,
    ),
    DashboardAct("sync", "Sync now", preview=_sync_preview, order=_sync_order, done=_synced),
)
"""The acts on holds and sources."""


def typed(act: DashboardAct, form: Values) -> tuple[Values, str]:
    """Return what was typed into the fields of an act, and what is wrong with it ('' if nothing)."""
    values: dict[str, str] = {}
    for field in (*act.inputs, REASON):
        text = form.get(field.name, "").strip()
        values[field.name] = text
        if field.required and not text:
            return values, f"{field.label} is missing."
        if len(text) > field.longest:
            return values, f"{field.label}: at most {field.longest} characters."
        if not text.isprintable() or (field.number and text and not text.isdecimal()):
            return values, f"{field.label}: {'a whole number' if field.number else 'one line of plain text'} is needed."
    return values, ""


def act_form(act: DashboardAct, preview: Preview, subject: str, *, proof: str, fault: str, values: Values) -> Html:
    """Return the content of an act's page. ``fault``: why the last attempt failed; ``values``: what was typed then."""
    fields = (*act.inputs, REASON)
    return join(
        h("div", h("h1", preview.title), class_="title"),
        facts(preview.facts),
        h(
            "form",
            h("p", prose(preview.effect), id="effect"),
            h("p", fault, id="fault", class_="fault", role="alert") if fault else None,
            (_labelled(field, values.get(field.name, "")) for field in fields),
            h("label", "Your token, again", for_="token"),
            h(
                "input",
                id="token",
                name="token",
                type="password",
                required=True,
                autocomplete="off",
                spellcheck="false",
                aria_describedby="token-hint",
            ),
            h("small", "An operator's token. The act is recorded under its name.", id="token-hint"),
            h("input", type="hidden", name="form", value=proof),
            h("input", type="hidden", name="seal", value=preview.seal),
            h("p", h("button", act.button, type="submit"), h("a", "Cancel", href=preview.after), class_="choice"),
            method="post",
            action=act_path(act.name, subject),
            class_="asked",
            autocomplete="off",
            aria_describedby="effect",
        ),
    )


def _labelled(field: Input, value: str) -> Html:
    hint = f"{field.name}-hint"
    if field.flag:
        box = h(
            "input",
            id=field.name,
            name=field.name,
            type="checkbox",
            value="yes",
            checked=value == "yes",
            aria_describedby=hint if field.hint else None,
        )
        return join(
            h("p", box, h("label", field.label, for_=field.name), class_="flag"),
            h("small", field.hint, id=hint) if field.hint else None,
        )
    return join(
        h("label", field.label, for_=field.name),
        h(
            "input",
            id=field.name,
            name=field.name,
            type="text",
            value=value or None,
            required=field.required,
            maxlength=field.longest,
            inputmode="numeric" if field.number else None,
            autocomplete="off",
            aria_describedby=hint if field.hint else None,
        ),
        h("small", field.hint, id=hint) if field.hint else None,
    )
