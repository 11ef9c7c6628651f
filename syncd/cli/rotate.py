"""``syncd feed rotate``, ``feed add-role``, ``feed renew``: who signs a feed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.feed import Feed, OnlineKeys, app
from syncd.cli.operator import check_owner, sole_writer
from syncd.cli.output import say, utc_now
from syncd.cli.repair import actor
from syncd.units import count, day

if TYPE_CHECKING:
    from syncd.feed.folder import FeedFolder
    from syncd.publish.rotate import Apply, KeyFolders, Rotated

OfflineKeys = Annotated[
    list[Path], typer.Option(metavar="DIR", help="Keys of root and targets; once for each custodian.")
]
StateFlag = Annotated[
    bool, typer.Option("--state", help="FEED is an operator's state folder: change what it publishes.")
]
Reason = Annotated[str, typer.Option(metavar="R", help="For the audit log of --state.")]


@dataclass(frozen=True)
class _Target:
    """What is changed, how it is committed, and where its keys are."""

    folder: "FeedFolder"
    apply: "Apply"
    keys: "KeyFolders"


@contextmanager
def _target(feed: Path, state: bool, offline: list[Path], online: Path | None, reason: str) -> Iterator[_Target]:
    from syncd.feed.folder import FeedFolder
    from syncd.publish import rotate as signing
    from syncd.publish.author import keys_folder

    if not state:
        signing.refuse_operators(feed)
        folder = FeedFolder(feed)
        keys = signing.KeyFolders(online or keys_folder(feed), tuple(offline))
        yield _Target(folder, signing.in_feed(folder), keys)
        return
    from syncd.catalog.folder import StateFolder
    from syncd.operate.repair import in_state
    from syncd.pipeline.publisher import open_publisher

    operators = StateFolder(feed)
    check_owner(operators.root)
    with sole_writer(operators, "changing keys"), open_publisher(operators, online=False) as publisher:
        keys = signing.KeyFolders(online or operators.keys, tuple(offline))
        yield _Target(operators.feed, in_state(publisher, actor(), reason), keys)


@app.command("rotate")
def rotate(
    feed: Feed,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="root, targets, timestamp, snapshot, lists, or list-NAME.")
    ],
    offline_keys: OfflineKeys,
    online_keys: OnlineKeys = None,
    new_keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The role gets every key of it in DIR; made where there is none.")
    ] = None,
    new_key: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="The role gets this key (may be repeated) and no other.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(metavar="M", min=1, help="How many of its keys must sign; default: as before.")
    ] = None,
    reason: Reason = "",
    state: StateFlag = False,
) -> None:
    """Replace the keys of a role; the old ones sign nothing any more.

    Without --new-keys and --new-key as many fresh keys as the role has are made beside the old ones. FILE is a PEM, a
    URI file2:PATH, or NAME.uri (one line: hsm:, awskms:, gcpkms:, azurekms:, hv: ...) with the public key in NAME.pub
    beside it. Needs the offline keys: of root as many as its threshold, for root itself of the old keys and of the new
    ones. Followers go on by themselves. Remove the old key files afterwards.

    \b
    Exit codes:
      0   rotated
      1   storage, or a key service did not answer
      2   FEED is no feed, or the threshold does not fit
      6   keys are not at hand, no such role, feed in use, or a clock set back

    \b
    Example:
      syncd feed rotate /srv/feed timestamp --offline-keys /media/stick/keys
    """
    from syncd.publish import rotate as signing

    with _target(feed, state, offline_keys, online_keys, reason) as at:
        new = signing.NewKeys(tuple(new_key or ()), new_keys, threshold)
        done = signing.rotate(at.folder, at.apply, role, new, at.keys, utc_now())
        belongs = at.keys.of(role)
    _show(done, belongs)


def _show(done: "Rotated", belongs: Path) -> None:
    say(f"{done.role} has {count(done.keys, 'key')} from now on, {done.threshold} of which must sign")
    for path in done.made:
        say(f"made      {path}")
    if not all(path.parent == belongs for path in done.made) or not done.made:
        say(f"the keys are looked for in {belongs}, as {done.role}-NUMBER.pem or .uri")


@app.command("add-role")
def add_role(
    feed: Feed,
    name: Annotated[str, typer.Option("--list", metavar="L", help="The list that gets keys of its own.")],
    keys: Annotated[list[str], typer.Option(metavar="FILE", help="One of its keys, as in feed rotate.")],
    threshold: Annotated[int, typer.Option(metavar="M", min=1, help="How many of them must sign.")],
    offline_keys: OfflineKeys,
    online_keys: OnlineKeys = None,
    reason: Reason = "",
    state: StateFlag = False,
) -> None:
    """Give a list keys of its own, M of which must sign it.

    So two bodies can be made to sign one list. From now on every version of it needs M of these keys at once:
    `feed publish --sign-with FILE`, or key files list-L-NUMBER.pem (or .uri) among the online keys. The other lists
    stay as they are.

    \b
    Exit codes:
      0   done
      1   storage, or a key service did not answer
      2   FEED is no feed, or the threshold does not fit
      6   keys are not at hand, list has its own, feed in use, or a clock set back

    \b
    Example:
      syncd feed add-role /srv/feed --list images --threshold 2 \\
        --keys a.pem --keys b.pem --offline-keys /media/stick/keys
    """
    from syncd.model import list_name
    from syncd.publish import rotate as signing

    listed = list_name(name)
    signers = signing.load_files(keys)
    with _target(feed, state, offline_keys, online_keys, reason) as at:
        done = signing.add_role(at.folder, at.apply, listed, signers, threshold, at.keys, utc_now())
    say(f"{listed} has {count(done.keys, 'key')} of its own from now on, {done.threshold} of which must sign")


@app.command("renew")
def renew(
    feed: Feed,
    offline_keys: OfflineKeys,
    online_keys: OnlineKeys = None,
    reason: Reason = "",
    state: StateFlag = False,
) -> None:
    """Sign root and targets anew before they expire, keys unchanged.

    root then lives another 365 days, targets 180. `feed status` and `status` warn 60, 30 and 7 days ahead.

    \b
    Exit codes:
      0   renewed
      1   storage, or a key service did not answer
      2   FEED is no feed
      6   keys are not at hand, feed in use, or a clock set back

    \b
    Example:
      syncd feed renew /srv/feed --offline-keys /media/stick/keys
    """
    from syncd.publish import rotate as signing

    with _target(feed, state, offline_keys, online_keys, reason) as at:
        expires = signing.renew(at.folder, at.apply, at.keys, utc_now())
    for role in ("root", "targets"):
        say(f"{role} expires {day(expires[role])} UTC")
