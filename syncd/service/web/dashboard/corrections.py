"""The acts on suppressions, and `ACTS`: every act of the dashboard."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from syncd.catalog.decisions import SuppressionState
from syncd.errors import RefusedError, UsageError
from syncd.model import ListName
from syncd.operate.suppression_order import DEFAULT_EXPIRY
from syncd.report.suppressions import scope_in_words
from syncd.service.control import Order, OrderedCorrection
from syncd.service.web.context import Context
from syncd.service.web.dashboard.actions import (
    HOLDS_AND_SYNCS,
    DashboardAct,
    Document,
    Input,
    Preview,
    Values,
    number_of,
)
from syncd.service.web.dashboard.parts import Fact, exact, list_link
from syncd.service.web.dashboard.rollbacks import ROLLBACKS
from syncd.units import count

_SUPPRESS: Final = (
    Input("digest", "Digest", "As ALG:HEX. For a near match, the listed digest of the hit. It goes into no log.", 4096),
    Input(
        "entry", "Entry", "Only this entry of the partner's; empty: every entry with the digest.", 256, required=False
    ),
    Input(
        "days",
        "Days",
        f"Until it expires; empty: {DEFAULT_EXPIRY.days}.",
        longest=3,
        required=False,
        number=True,
    ),
    Input("forever", "Forever", "It never expires: only an operator ends it.", required=False, flag=True),
    Input("ahead", "Ahead", "The digest is not listed now: suppress it in case it ever is.", required=False, flag=True),
)


def _suppress_preview(context: Context, subject: str) -> Preview:
    """Preview a suppression on one list, or on all if there is no subject."""
    if subject and context.catalog.head(ListName(subject)) is None:
        raise UsageError("there is no such list", hint="the overview shows the published ones")
    where = subject or "all lists"
    effect = (
        "Takes the digest off at every matcher within seconds, whatever the partner sends, until it expires or an "
        "operator ends it. Nothing else changes."
    )
    shown = (Fact("Applies to", list_link(subject) if subject else where),)
    return Preview(f"Suppress a digest on {where}", effect, shown, f"/lists/{subject}" if subject else "/")


def _suppress_order(context: Context, subject: str, values: Values, seal: str) -> Order:
    del seal
    forever = bool(values["forever"])
    if forever and values["days"]:
        raise UsageError("Days and Forever exclude each other", hint="leave one of them out")
    correction = OrderedCorrection(digest=values["digest"], entry=values["entry"] or None)
    days = timedelta(days=int(values["days"])) if values["days"] else DEFAULT_EXPIRY
    return Order(
        do="suppress",
        corrections=(correction,),
        list=subject or None,
        reason=values["reason"],
        expires_at=None if forever else context.clock() + days,
        forever=forever,
        ahead=bool(values["ahead"]),
    )


def _suppressed(answer: Document) -> str:
    done = answer["corrected"]
    if done["hold"]:
        return f"The suppression waits for another operator, as hold {done['hold']['hold']}."
    return f"Suppression {done['numbers']} is in force: {count(done['rows'], 'row')}{_versions(done['versions'])}."


def _unsuppress_preview(context: Context, subject: str) -> Preview:
    one = context.catalog.suppression(number_of(subject))
    if one is None:
        raise UsageError("there is no such suppression", hint="the overview shows those in force")
    if one.state is not SuppressionState.ACTIVE:
        raise RefusedError(f"suppression {one.id} is {one.state}", hint="the overview shows those in force")
    shown = (
        Fact("Applies to", scope_in_words(one)),
        Fact("Algorithm", str(one.algorithm)),
        Fact("By", one.author, one.reason),
        Fact("Since", exact(one.created_at)),
        Fact("Expires", exact(one.expires_at) if one.expires_at else "never"),
    )
    effect = "The digest matches again, at every matcher at once, wherever the partner still lists it."
    return Preview(f"End suppression {one.id}", effect, shown, "/")


def _unsuppress_order(context: Context, subject: str, values: Values, seal: str) -> Order:
    del context, seal
    return Order(do="unsuppress", suppressions=(number_of(subject),), reason=values["reason"])


def _unsuppressed(answer: Document) -> str:
    done = answer["corrected"]
    return f"Suppression {done['numbers']} has ended: {count(done['rows'], 'row')}{_versions(done['versions'])}."


def _versions(versions: Mapping[str, int]) -> str:
    return "".join(f", {name} version {version}" for name, version in versions.items())


_CORRECTIONS: Final = (
    DashboardAct("suppress", "Suppress", _suppress_preview, _suppress_order, _suppressed, _SUPPRESS),
    DashboardAct("unsuppress", "End it", _unsuppress_preview, _unsuppress_order, _unsuppressed),
)

ACTS: Final = {act.name: act for act in (*HOLDS_AND_SYNCS, *_CORRECTIONS, *ROLLBACKS)}
"""Every act, by name."""
