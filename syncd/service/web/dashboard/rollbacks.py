"""The acts that roll a list back to an older version, and let it follow its source again."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from syncd.catalog.records import HeadRecord, Pin, own_name
from syncd.errors import RefusedError, UsageError
from syncd.model import ListName
from syncd.operate.rollback import usable_versions
from syncd.report.pins import PinView
from syncd.service.control import Order
from syncd.service.web.context import Context
from syncd.service.web.dashboard.actions import DashboardAct, Document, Input, Preview, Values
from syncd.service.web.dashboard.html import join
from syncd.service.web.dashboard.parts import Fact, exact, list_link, past
from syncd.units import count

_VERSION: Final = Input("version", "Version", "The number of an older version.", longest=15, number=True)
_SHOWN: Final = 4
"""Older versions that the page of a rollback shows."""
_CHANGES: Final[Mapping[str, str]] = {"added": "added", "removed": "removed", "relabelled": "relabelled"}


def _listed(context: Context, name: str) -> tuple[HeadRecord, Pin | None]:
    """Return a published list and its pin. Raises `UsageError` if there is none, `RefusedError` if it is retired."""
    head = context.catalog.head(ListName(name))
    if head is None:
        raise UsageError("there is no such list", hint="the overview shows the published ones")
    if head.retired_at is not None:
        raise RefusedError(f"{name} is retired", hint="the overview shows the published lists")
    origin = context.catalog.origin(head.source, own_name(head.list))
    return head, origin.pin if origin else None


def _seal(name: str, pin: Pin | None) -> str:
    """Return the hash of what a page says of a pin: if another operator changes that, the form is stale."""
    return hashlib.sha256(f"{name} {(pin.version, pin.exact, pin.at) if pin else None}".encode()).hexdigest()


def _pin_facts(name: str, pin: Pin | None, context: Context) -> tuple[Fact, ...]:
    if pin is None:
        return ()
    since = join(past(pin.at, context.clock()), f" by {pin.by}: {pin.reason}")
    return (Fact("Pinned", f"to version {pin.version}; {PinView(ListName(name), pin).effect}", since),)


def _rollback_preview(context: Context, subject: str) -> Preview:
    head, pin = _listed(context, subject)
    usable = usable_versions(context.catalog, context.folder.feed, head)
    if not usable:
        raise RefusedError(f"no older version of {subject} is kept", hint="nothing can be done here")
    first, last = usable[-1].version, usable[0].version
    kept = f"versions {first} to {last}" if first != last else f"version {last} only"
    rows = context.catalog.head_rows(head.list).get(head.list, 0)
    shown = (
        Fact("List", list_link(subject)),
        Fact(f"Version {head.version}", count(rows, "row"), f"in force since {exact(head.published_at)}"),
        *_pin_facts(subject, pin, context),
        *(
            Fact(f"Version {one.version}", count(one.rows, "row"), f"published {exact(one.created_at)}")
            for one in usable[:_SHOWN]
        ),
        Fact("Can be used", kept, "older versions are no longer kept"),
    )
    effect = (
        "Publishes the content of that version as a new one, at every matcher within seconds, and pins the list to it: "
        "from then on only removals reach it, until an operator unpins it. Entries that the partner removed since stay "
        "off it (a rollback by command with `--exact` would list them), and suppressed ones always do."
    )
    return Preview(f"Roll {subject} back", effect, shown, f"/lists/{subject}", _seal(subject, pin))


def _rollback_order(context: Context, subject: str, values: Values, seal: str) -> Order:
    del context, seal
    return Order(do="rollback", name=subject, version=int(values["version"]), reason=values["reason"])


def _unpin_preview(context: Context, subject: str) -> Preview:
    _, pin = _listed(context, subject)
    if pin is None:
        raise RefusedError(f"{subject} is not pinned", hint="the overview shows pinned lists")
    effect = (
        "Lets the list follow its source again. Everything that the partner changed meanwhile is judged as one update: "
        "what exceeds the limits is held."
    )
    shown = (Fact("List", list_link(subject)), *_pin_facts(subject, pin, context))
    return Preview(f"Unpin {subject}", effect, shown, f"/lists/{subject}", _seal(subject, pin))


def _unpin_order(context: Context, subject: str, values: Values, seal: str) -> Order:
    del context, seal
    return Order(do="unpin", name=subject, reason=values["reason"])


def _done(answer: Document) -> str:
    done: dict[str, Any] = answer["pinned"]
    pinned = f"pinned to version {done['pinned']}" if done["pinned"] else "no longer pinned"
    changed = ", ".join(f"{count(done[key], 'row')} {word}" for key, word in _CHANGES.items() if done[key])
    published = f" Version {done['version']} is published: {changed or 'the same rows'}." if done["version"] else ""
    unchanged = "" if done["version"] else " The published list did not change."
    left_out = "".join(f" {words[0].upper()}{words[1:]}." for words in done["left_out"])
    held = " Some rows are held: this page shows them." if done["held"] else ""
    return f"{done['list']} is {pinned}.{published or unchanged}{left_out}{held}"


ROLLBACKS: Final = (
    DashboardAct("rollback", "Roll back", _rollback_preview, _rollback_order, _done, (_VERSION,)),
    DashboardAct("unpin", "Unpin", _unpin_preview, _unpin_order, _done),
)
"""The acts on the version of a list."""
