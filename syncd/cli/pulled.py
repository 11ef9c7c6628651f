"""A pulled copy, as ``syncd lookup`` and ``syncd match`` ask it: opened, how old it is, what was found in it."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli import arguments
from syncd.cli.output import note, say, utc_now
from syncd.model import Hit
from syncd.units import clock_is_behind, span, stamp

if TYPE_CHECKING:
    from syncd.matcher import ListStatus, Matcher

NOTHING_MATCHED: Final = 10
_STALE_AFTER: Final = timedelta(hours=48)
"""As long as a feed's timestamp is valid."""

Copy = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="A copy made by `syncd pull`.")]
"""``readable=False``, here and below: typer would check first, and answer in its own words and exit code."""
Root = Annotated[
    Path | None,
    typer.Option(metavar="ROOT", readable=False, help="The trust root to prove DIR by; default: that of the pull."),
]


def open_copy(folder: Path, root: Path | None = None) -> "Matcher":
    """A matcher on the copy, proved by ``root`` where one is given. Raises as `Matcher.open`, and `RefusedError`."""
    from syncd.matcher import Matcher

    if root is not None:
        arguments.root(root)
    with arguments.readable(folder):
        return Matcher.open(folder, root=root, clock=utc_now)


def warn_of_age(matcher: "Matcher", folder: Path) -> None:
    """On standard error: the answer stands, but somebody must look after the copy."""
    from syncd.matcher.status import retirement_warning

    statuses = matcher.status()
    age = utc_now() - max(_known_times(statuses, folder))
    if clock_is_behind(age):
        note(f"the local clock is behind by {span(-age)}: set it; until then no age is known")
    expired = sorted({role for one in statuses for role in one.expired})
    if expired:
        note(f"this copy is stale: its {' and '.join(expired)} metadata expired; run `syncd pull`")
    for one in statuses:
        if one.retired:
            if warning := retirement_warning(one.list, one.retired, utc_now()):
                note(warning)
        elif one.age is None:
            note(f"{one.list}: the feed does not say when it was last verified")
        elif expired or one.age > _STALE_AFTER:
            note(f"{one.list} was last verified {span(one.age)} ago")


def _known_times(statuses: "Sequence[ListStatus]", folder: Path) -> Iterator[datetime]:
    """Times that were the present once, for the host's clock or the feed's."""
    from syncd.matcher.copy import copy_at, read_current

    current = read_current(copy_at(folder))
    if current is not None:
        yield current.updated
    yield from (one.verified_at for one in statuses if one.verified_at)


def lists_document(statuses: "Iterable[ListStatus]") -> list[dict[str, Any]]:
    """The lists that were asked, as JSON."""
    return [
        {
            "list": one.list,
            "version": one.version,
            "rows": one.rows,
            "serial": one.serial,
            "verified_at": stamp(one.verified_at) if one.verified_at else None,
            "age_seconds": int(one.age.total_seconds()) if one.age is not None else None,
            "expired": list(one.expired),
            "retired": stamp(one.retired) if one.retired else None,
        }
        for one in statuses
    ]


def show_hits(name: str, hits: "Sequence[Hit]", algorithm: str = "") -> None:
    """A line for each, or one that there is none; ``algorithm``: of those, where it is not in the ``name``."""
    if not hits:
        say(f"{name}  no match")
    for hit in hits:
        parts = [name, f"MATCH {hit.list} version {hit.version}", algorithm]
        parts += [f"label {hit.label}" if hit.label else "", f"entry {hit.entry}" if hit.entry else ""]
        say("  ".join(filter(None, parts)))
