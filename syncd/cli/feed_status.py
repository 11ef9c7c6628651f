"""``syncd feed status``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from syncd.cli.arguments import Feed
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.clock import clock_fault
from syncd.feed.folder import FeedFolder
from syncd.feed.layout import list_of
from syncd.feed.signed import load_repository
from syncd.format.manifest import Manifest
from syncd.publish.journal import Journal
from syncd.report.expiry import OF_PARTNERS, Expiry, expiries
from syncd.trust.repository import Repository
from syncd.trust.signatures import signatures
from syncd.units import day, stamp


def status(feed: Feed, as_json: JsonFlag = False) -> None:
    """Show a feed's lists, and when its signatures expire.

    Warns 60, 30 and 7 days before root or targets expire: renewing them requires the offline keys. timestamp, snapshot
    and the lists' roles are signed with each publication; they are overdue when less than a quarter of their validity
    is left.

    \b
    Exit codes:
      0   shown, whatever the state is
      1   the feed is damaged
      2   FEED is not a feed

    \b
    Example:
      syncd feed status /srv/feed --json
    """
    folder, now = FeedFolder(feed), utc_now()
    repository = load_repository(folder)
    roles = expiries(repository.versions, repository.expiries(), now)
    targets = ((list_of(path), target) for path, target in sorted(repository.targets().items()))
    manifests = [folder.manifest(name, target.sha256) for name, target in targets if name]
    interrupted = bool(Journal(folder).pending())
    clock = clock_fault(signatures(repository.expiries()), now, of_partner=True)
    if as_json:
        act = f"{clock.why}: {clock.to_do}" if clock else None
        print_json({**_document(feed, manifests, repository, roles, interrupted=interrupted), "clock": act})
        return
    _show(manifests, repository, roles)
    if clock:
        note(f"{clock.why}: {clock.to_do}")
    for role in roles:
        if act := role.act(OF_PARTNERS):
            note(act)
    if interrupted:
        note("publishing was interrupted; the next `syncd feed publish` finishes it")


def _document(
    feed: Path, manifests: Sequence[Manifest], repository: Repository, roles: Sequence[Expiry], *, interrupted: bool
) -> dict[str, Any]:
    fresh = repository.freshness()
    return {
        "feed": str(feed),
        "lists": [
            {
                "list": manifest.list,
                "version": manifest.version,
                "rows": manifest.rows,
                "algorithms": {str(algorithm): state.rows for algorithm, state in manifest.end_state.items()},
                "created": stamp(manifest.created),
                "verified_at": stamp(fresh[manifest.list].verified_at) if manifest.list in fresh else None,
                "retired_at": stamp(manifest.retired.since) if manifest.retired else None,
            }
            for manifest in manifests
        ],
        "metadata": [role.document() for role in roles],
        "interrupted_publication": interrupted,
    }


def _show(manifests: Sequence[Manifest], repository: Repository, roles: Sequence[Expiry]) -> None:
    fresh = repository.freshness()
    rows = [
        (
            manifest.list,
            str(manifest.version),
            f"{manifest.rows:,}",
            f"retired on {manifest.retired.since:%Y-%m-%d}"
            if manifest.retired
            else ", ".join(sorted(manifest.end_state)),
            day(fresh[manifest.list].verified_at) if manifest.list in fresh else "",
        )
        for manifest in manifests
    ]
    if rows:
        show_table(("list", "version#", "rows#", "algorithms~", "verified (UTC)~"), rows)
    else:
        say("no list yet: syncd feed publish FEED --list NAME --full FILE")
    say("")
    red = frozenset(number for number, role in enumerate(roles) if role.red)
    table = [(role.role, str(role.version), day(role.expires), role.shown, str(role.urgency)) for role in roles]
    show_table(("role", "version#", "expires (UTC)~", "~", "state~"), table, red)
