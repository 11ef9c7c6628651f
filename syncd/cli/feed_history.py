"""``syncd feed snapshots``, ``feed diff`` and ``feed revert``: the versions of a list that a feed still has."""

from pathlib import Path
from typing import Annotated, Any

import typer

from syncd.cli.arguments import LARGEST, Feed, OnlineKeys, SignWith, not_a_stream
from syncd.cli.difference import show_difference
from syncd.cli.feed_guard import Accept, DryRun, MaxAdded, MaxRemoved, chosen_limits, show_publication
from syncd.cli.output import JsonFlag, note, print_json, progress, say, show_table, utc_now
from syncd.errors import RESTORE_FEED
from syncd.feed.difference import ComparedVersions, changes_document
from syncd.feed.folder import FeedFolder
from syncd.feed.kept import KeptVersion, complete_version, complete_versions, lists_of, newest_version
from syncd.feed.signed import load_repository
from syncd.model import Counts, ListName, list_name
from syncd.pipeline.guard import PartnersGuard
from syncd.publish import author
from syncd.publish.revert import content_of
from syncd.publish.rotate import feed_signers, finish, refuse_operators
from syncd.units import count, day, stamp

ListOfFeed = Annotated[str, typer.Argument(metavar="LIST", help="A list of the feed.")]


def snapshots(
    feed: Feed,
    names: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="A list; may be repeated. Default: all.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show the versions of a feed's lists that are kept, newest first.

    A version is kept with all its files while it is among the newest 16 of its list, and for a day longer. A kept
    version can be compared (`syncd feed diff`) and published again (`syncd feed revert`). The counts are its changes; a
    version without counts only folded older files, or the version before it is gone.

    \b
    Exit codes:
      0   shown
      1   storage
      2   FEED is not a feed, or has no such list
      4   a manifest on this disk was altered

    \b
    Example:
      syncd feed snapshots /srv/feed --list images
    """
    folder = FeedFolder(feed)
    repository = load_repository(folder)
    chosen = [list_name(name) for name in names] if names else sorted(lists_of(repository))
    kept = {name: tuple(complete_versions(folder, name, repository)) for name in chosen}
    if as_json:
        lists = [{"list": name, "snapshots": [_document(one) for one in kept[name]]} for name in kept]
        print_json({"feed": str(feed), "lists": lists})
    elif any(kept.values()):
        columns = ("list", "version#", "created (UTC)~", "rows#", "added#", "removed#", "relabelled#")
        show_table(columns, [_row(name, one) for name, versions in kept.items() for one in versions])
    elif not kept:
        say("no version yet: syncd feed publish FEED --list NAME --full FILE")
    for name, versions in kept.items():
        newest = newest_version(folder, name, repository)
        if newest not in {one.version for one in versions}:
            note(f"files of {name} version {newest}, the newest, are missing", hint=RESTORE_FEED)


def _row(name: ListName, kept: KeptVersion) -> tuple[str, ...]:
    total = sum((kept.counts or {}).values(), Counts())
    changes = (f"{total.added:,}", f"{total.removed:,}", f"{total.relabelled:,}") if kept.counts else ("", "", "")
    return name, str(kept.version), day(kept.manifest.created), f"{kept.manifest.rows:,}", *changes


def _document(kept: KeptVersion) -> dict[str, Any]:
    manifest = kept.manifest
    return {
        "version": manifest.version,
        "created_at": stamp(manifest.created),
        "rows": manifest.rows,
        "algorithms": {str(algorithm): state.rows for algorithm, state in manifest.end_state.items()},
        "counts": None if kept.counts is None else changes_document(kept.counts),
        "retired_at": stamp(manifest.retired.since) if manifest.retired else None,
        "manifest": kept.sha256,
    }


def diff(
    feed: Feed,
    name: ListOfFeed,
    old: Annotated[int, typer.Argument(metavar="A", min=1, max=LARGEST, help="A version that is kept.")],
    new: Annotated[int, typer.Argument(metavar="B", min=1, max=LARGEST, help="The version to compare with it.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", callback=not_a_stream, help="Write the rows that differ to a new file, mode 0600."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Count the changes between two versions of a feed's list.

    By algorithm and label, net: a row that was added and removed again in between is not counted. An addition or a
    relabelled row counts under the new label, a removal under the old one. Rows are only written with --out: CSV of
    change,algorithm,digest,entry,label,old_label.

    \b
    Exit codes:
      0   shown
      1   storage
      2   no such list or version, the version is no longer kept, or FILE exists
      4   a manifest on this disk was altered

    \b
    Example:
      syncd feed diff /srv/feed images 41 44 --out changes.csv
    """
    folder, listed = FeedFolder(feed), list_name(name)
    author.keep_apart(feed, *filter(None, [out]))
    repository = load_repository(folder)
    before, after = (complete_version(folder, listed, repository, version) for version in (old, new))
    versions = ComparedVersions(folder, before.manifest, before.sha256, after.manifest)
    written = versions.write_rows(out) if out else None
    document = versions.difference().document()
    if as_json:
        print_json({**document, "out": str(out) if out else None})
        return
    show_difference(document)
    if written is not None:
        say(f"{count(written, 'row')} written to {out}")


def revert(
    feed: Feed,
    name: ListOfFeed,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, max=LARGEST, help="A version that is kept.")],
    max_removed: MaxRemoved = None,
    max_added: MaxAdded = None,
    accept: Accept = None,
    dry_run: DryRun = False,
    sign_with: SignWith = None,
    online_keys: OnlineKeys = None,
    as_json: JsonFlag = False,
) -> int:
    """Publish the content of an older version of a list again.

    It becomes the next version, so that followers move forwards and fetch only the difference. Rows that were added
    since are removed, rows that were removed since are on the list again, and labels are those of that version. It is
    judged like any publication: if it is held, the same command with the printed --accept CODE publishes it. `syncd
    feed snapshots` shows the versions that are kept.

    \b
    Exit codes:
      0   published, or the list has this content already
      1   storage, or that version is damaged on this disk
      2   no such list or version, or the version is no longer kept
      3   held: the change is larger than the limits, or CODE is another's
      4   a manifest on this disk was altered
      6   the feed is in use, or the keys are not available

    \b
    Example:
      syncd feed revert /srv/feed images 41 --dry-run
    """
    limits = chosen_limits(max_removed, max_added)
    folder, listed = FeedFolder(feed), list_name(name)
    refuse_operators(feed, "roll a list back there by `syncd rollback LIST VERSION --reason R`")
    finish(folder)
    complete_version(folder, listed, load_repository(folder), version)
    signers = feed_signers(folder, online_keys, sign_with)
    guard = PartnersGuard(folder, utc_now(), limits, accept)
    with progress(f"reverting {listed}"):
        published = guard.publish(listed, content_of(folder, listed, version), signers, new=False, dry_run=dry_run)
    return show_publication(published, guard.judgement, dry_run=dry_run, as_json=as_json)
