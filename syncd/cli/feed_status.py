"""``syncd feed status``: a feed's lists, and when its signatures expire."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd.cli.feed import Feed, app
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.units import day, stamp

if TYPE_CHECKING:
    from syncd.feed.folder import FeedFolder
    from syncd.format.manifest import Manifest
    from syncd.report.expiry import Expiry
    from syncd.trust.repository import Repository


@app.command("status")
def status(feed: Feed, as_json: JsonFlag = False) -> None:
    """Show a feed's lists, and when its signatures expire.

    Warns 60, 30 and 7 days before root or targets expire: these need the offline keys. timestamp, snapshot and the
    lists' roles are signed by publishing; they are shown as overdue when less than a quarter of their life is left.

    \b
    Exit codes:
      0   shown, whatever it says
      1   the feed is damaged
      2   FEED is no feed

    \b
    Example:
      syncd feed status /srv/feed --json
    """
    from syncd.feed.folder import FeedFolder
    from syncd.feed.signed import load_repository
    from syncd.publish.journal import Journal
    from syncd.report.expiry import expiries

    folder = FeedFolder(feed)
    repository = load_repository(folder)
    roles = expiries(repository.versions, repository.expiries(), utc_now())
    manifests = _manifests(folder, repository)
    pending = bool(Journal(folder).pending())
    if as_json:
        print_json(_status_document(feed, manifests, repository, roles, pending))
        return
    _show_status(manifests, repository, roles)
    for one in roles:
        if one.warning:
            note(one.warning)
    if pending:
        note("publishing was interrupted; the next `syncd feed publish` finishes it")


def _manifests(folder: "FeedFolder", repository: "Repository") -> "list[Manifest]":
    from syncd.feed.layout import list_of

    found = ((list_of(name), target) for name, target in sorted(repository.targets().items()))
    return [folder.manifest(name, target.sha256) for name, target in found if name]


def _status_document(
    feed: Path, manifests: "list[Manifest]", repository: "Repository", roles: "list[Expiry]", pending: bool
) -> dict[str, Any]:
    fresh = repository.freshness()
    return {
        "feed": str(feed),
        "lists": [
            {
                "list": one.list,
                "version": one.version,
                "rows": one.rows,
                "algorithms": {str(algorithm): state.rows for algorithm, state in one.end_state.items()},
                "created": stamp(one.created),
                "verified_at": stamp(fresh[one.list].verified_at) if one.list in fresh else None,
                "retired_at": stamp(one.retired.since) if one.retired else None,
            }
            for one in manifests
        ],
        "metadata": [one.document() for one in roles],
        "interrupted_publication": pending,
    }


def _show_status(manifests: "list[Manifest]", repository: "Repository", roles: "list[Expiry]") -> None:
    fresh = repository.freshness()
    rows = [
        (
            one.list,
            str(one.version),
            f"{one.rows:,}",
            f"retired on {one.retired.since:%Y-%m-%d}" if one.retired else ", ".join(sorted(one.end_state)),
            day(fresh[one.list].verified_at) if one.list in fresh else "",
        )
        for one in manifests
    ]
    if rows:
        show_table(("list", "version#", "rows#", "algorithms~", "verified (UTC)~"), rows)
    else:
        say("no list yet: syncd feed publish FEED --list NAME --full FILE")
    say("")
    red = frozenset(number for number, one in enumerate(roles) if one.red)
    table = [(one.role, str(one.version), day(one.expires), one.shown, str(one.urgency)) for one in roles]
    show_table(("role", "version#", "expires (UTC)~", "~", "state~"), table, red)
