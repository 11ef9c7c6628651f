"""``syncd feed rotate``, ``feed add-role`` and ``feed renew``: the keys that sign a feed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.catalog.place import state_at
from syncd.cli.arguments import Feed, OnlineKeys, clock_time
from syncd.cli.operator import actor, changing_publisher, check_owner, keyless_publisher
from syncd.cli.output import JsonFlag, note, print_json, say, utc_now
from syncd.clock import ClockReading
from syncd.errors import UsageError
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.kernel_clock import kernel_clock
from syncd.model import list_name
from syncd.publish import rotate as signing
from syncd.publish.author import keys_folder
from syncd.trust.values import signed_at
from syncd.units import count, day, stamp

if TYPE_CHECKING:
    from syncd.catalog.folder import StateFolder
    from syncd.pipeline.publisher import Publisher

OfflineKeys = Annotated[
    list[Path], typer.Option(metavar="DIR", help="Keys of root and targets; once for each custodian.")
]
StateFlag = Annotated[
    bool, typer.Option("--state", help="FEED is an operator's state folder: change the keys of its published feed.")
]
Without = Annotated[
    list[str] | None,
    typer.Option(metavar="HOST", help="A daemon that need not hold the new keys: it will not lead. May be repeated."),
]
Reason = Annotated[str, typer.Option(metavar="R", help="Why; with --state, kept in the audit log.")]


@dataclass(frozen=True)
class _Target:
    """A feed whose keys are to be changed, how to commit the change, and the folders of its keys."""

    folder: FeedFolder
    apply: signing.Apply
    keys: signing.KeyFolders


Check = Callable[["Publisher", signing.KeyFolders], None]
"""Refuses a change of an operator's keys that a daemon could not follow."""


@contextmanager
def _target(
    feed: Path,
    state: bool,
    offline: list[Path],
    online: Path | None,
    reason: str,
    check: Check = lambda _publisher, _keys: None,
    rotated: tuple[str, ...] = (),
) -> Iterator[_Target]:
    if state:
        from syncd.operate.repair import in_state  # SQLAlchemy: a partner, who has no state, need not install it

        signing.refuse_partners(feed)
        operators, keys = _operators(feed, online, offline)
        with changing_publisher(operators, "changing keys", lambda publisher: check(publisher, keys)) as publisher:
            yield _Target(operators.feed, in_state(publisher, actor(), reason, rotated), keys)
        return
    signing.refuse_operators(feed)
    folder = FeedFolder(feed)
    keys = signing.KeyFolders(online or keys_folder(feed), tuple(offline))
    yield _Target(folder, signing.in_feed(folder), keys)


def _operators(feed: Path, online: Path | None, offline: list[Path]) -> "tuple[StateFolder, signing.KeyFolders]":
    operators = state_at(feed)
    check_owner(operators.root)
    return operators, signing.KeyFolders(online or operators.keys, tuple(offline))


def rotate(
    feed: Feed,
    role: Annotated[
        str, typer.Argument(metavar="ROLE", help="root, targets, timestamp, snapshot, lists, or list-NAME.")
    ],
    offline_keys: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Keys of root and targets; once for each custodian.")
    ] = None,
    online_keys: OnlineKeys = None,
    new_keys: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Give the role all its keys in DIR; created if DIR has none.")
    ] = None,
    new_key: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Give the role only this key; may be repeated.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(metavar="M", min=1, help="How many of its keys must sign; default: unchanged.")
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="With several daemons: announce the new keys; they sign nothing yet.")
    ] = False,
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Forget new keys that were announced and are not in force.")
    ] = False,
    without: Without = None,
    reason: Reason = "",
    state: StateFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Replace the keys of a role; the old keys are no longer accepted.

    Without --new-keys and --new-key, this creates as many new keys as the role has, beside the old ones. FILE is a PEM
    file, a URI file2:PATH, or NAME.uri (one line: hsm:, awskms:, gcpkms:, azurekms:, hv: ...) with the public key
    beside it in NAME.pub. Requires the offline keys: as many root keys as the threshold of root; to rotate root itself,
    as many of the old and of the new keys. Followers accept the new keys without any action. Remove the old key files
    afterwards.

    If several daemons sign the feed of a state, run this twice for an online role. With --prepare it makes and
    announces the new keys, and needs no offline keys. Copy the files to the keys of every machine; `syncd status` names
    the daemons that lack them. Then run it without --prepare: it leads while it works, and puts the keys in force if
    every daemon that can lead holds them.

    \b
    Exit codes:
      0   rotated
      1   storage, or a key service did not answer
      2   FEED is not a feed, or the threshold does not fit
      6   keys are not available, there is no such role, the feed is in use,
          the clock was set back, or a daemon lacks the new keys

    \b
    Example:
      syncd feed rotate /srv/feed timestamp --offline-keys /media/stick/keys
    """
    new = signing.NewKeys(tuple(new_key or ()), new_keys, threshold)
    if (prepare or withdraw or without) and not state:
        raise UsageError("only daemons on an operator's state hold keys together", hint="give --state as well")
    if prepare or withdraw:
        _announce(feed, role, new, online_keys, reason, withdraw=withdraw, as_json=as_json)
        return
    if not offline_keys:
        raise UsageError("only the offline keys can sign other keys", hint="name their folder with --offline-keys")

    def check(publisher: "Publisher", at: signing.KeyFolders) -> None:
        nonlocal new
        if publisher.folder.database is not None:
            from syncd.operate.next_keys import distributed  # SQLAlchemy: as in `_target`

            new = distributed(publisher, role, new, at, without or ())

    with _target(feed, state, offline_keys, online_keys, reason, check=check, rotated=(role,)) as at:
        rotated = signing.rotate(at.folder, at.apply, role, new, at.keys, utc_now())
        folder = at.keys.of(role)
    if as_json:
        document = {"role": rotated.role, "keys": rotated.keys, "threshold": rotated.threshold}
        print_json({**document, "created": [str(path) for path in rotated.made], "folder": folder})
        return
    say(f"{rotated.role} now has {count(rotated.keys, 'key')}; {rotated.threshold} must sign")
    for path in rotated.made:
        say(f"created   {path}")
    if not all(path.parent == folder for path in rotated.made) or not rotated.made:
        say(f"syncd looks for the keys in {folder}, as {rotated.role}-NUMBER.pem or .uri")


def _announce(
    feed: Path, role: str, new: signing.NewKeys, online: Path | None, reason: str, *, withdraw: bool, as_json: bool
) -> None:
    from syncd.operate import next_keys  # SQLAlchemy: as in `_target`

    operators, keys = _operators(feed, online, [])
    with keyless_publisher(operators, None) as publisher:
        if withdraw:
            next_keys.withdraw(publisher, role, utc_now(), actor(), reason)
            if as_json:
                print_json({"role": role, "withdrawn": True})
            else:
                say(f"the new keys of {role} are withdrawn; remove their files")
            return
        made = next_keys.announce(publisher, role, new, keys, now=utc_now(), actor=actor(), reason=reason)
    if as_json:
        document = {"role": role, "keys": made.keys, "threshold": made.threshold, "announced": True}
        print_json({**document, "created": [str(path) for path in made.made], "folder": keys.of(role)})
        return
    say(f"announced {count(made.keys, 'new key')} of {role}; the present ones sign until you rotate")
    for path in made.made:
        say(f"created   {path}")
    say("next: copy the files to the keys of every machine, and see `syncd status`; then run this without --prepare")


def add_role(
    feed: Feed,
    name: Annotated[str, typer.Option("--list", metavar="L", help="The list that gets its own keys.")],
    keys: Annotated[
        list[str], typer.Option(metavar="FILE", help="A key of the list, as in feed rotate; may be repeated.")
    ],
    threshold: Annotated[int, typer.Option(metavar="M", min=1, help="How many of them must sign.")],
    offline_keys: OfflineKeys,
    online_keys: OnlineKeys = None,
    without: Without = None,
    reason: Reason = "",
    state: StateFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Give a list its own keys, and require M of them to sign.

    Use it to have two bodies sign one list. From now on every version of it requires M of these keys at once: by
    `feed publish --sign-with FILE`, or as key files list-L-NUMBER.pem (or .uri) among the online keys. Other lists are
    not affected.

    \b
    Exit codes:
      0   done
      1   storage, or a key service did not answer
      2   FEED is not a feed, or the threshold does not fit
      6   keys are not available, the list has its own keys, the feed is in use,
          or the clock was set back

    \b
    Example:
      syncd feed add-role /srv/feed --list images --threshold 2 \\
        --keys a.pem --keys b.pem --offline-keys /media/stick/keys
    """
    listed = list_name(name)
    signers = signing.load_files(keys)

    def check(publisher: "Publisher", _: signing.KeyFolders) -> None:
        if publisher.folder.database is not None:
            from syncd.operate.next_keys import check_held  # SQLAlchemy: as in `_target`

            check_held(publisher, signing.LIST_ROLE + listed, signers, threshold, without or ())

    with _target(feed, state, offline_keys, online_keys, reason, check) as at:
        added = signing.add_role(at.folder, at.apply, listed, signers, threshold=threshold, at=at.keys, now=utc_now())
    if as_json:
        print_json({"role": added.role, "list": listed, "keys": added.keys, "threshold": added.threshold})
        return
    say(f"{listed} now has {count(added.keys, 'key')} of its own; {added.threshold} must sign")


def renew(
    feed: Feed,
    offline_keys: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Keys of root and targets; once for each custodian.")
    ] = None,
    online_keys: OnlineKeys = None,
    reason: Reason = "",
    accept_clock: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The present time with its zone, if the clock was ahead at a signature."),
    ] = None,
    state: StateFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Re-sign root and targets before they expire, with the same keys.

    root is then valid for another 365 days, targets for 180. `feed status` and `status` warn 60, 30 and 7 days ahead.

    If the clock of this host was ahead when the feed was signed, renewing and publishing are refused. Once the clock is
    right, give the present time with --accept-clock: everything signed in the future is signed again; --offline-keys is
    needed only if that includes root or targets. TIME may not be in the future, nor before the newest signature that is
    not itself in the future. For the online keys of an operator use `syncd clock accept`.

    \b
    Exit codes:
      0   renewed
      1   storage, or a key service did not answer
      2   FEED is not a feed, no offline keys were named,
          or a TIME that is not permitted
      6   keys are not available, the feed is in use, the clock was set back,
          or there is no clock to accept

    \b
    Example:
      syncd feed renew /srv/feed --offline-keys /media/stick/keys
    """
    offline, accepted, now = offline_keys or [], None, utc_now()
    if accept_clock is not None:
        accepted, kernel = clock_time(accept_clock, "--accept-clock"), kernel_clock()
        note(kernel.words, kind="note" if kernel.synchronised else "warning")
    with _target(feed, state, offline, online_keys, reason) as at:
        replaced = signing.replaceable(at.folder, accepted, now) if accepted else ()
        by_offline_keys = not accepted or bool(offline) or any(one.offline for one in replaced)
        if by_offline_keys or state:
            _check_named(offline, replaced, state=state)
            signing.renew(at.folder, at.apply, at.keys, now, accepted)
        if accepted and not state:
            signing.sign_again(at.folder, at.keys, now)
        expires = load_repository(at.folder).expiries()
    if as_json:
        renewed = ("root", "targets") if by_offline_keys else ()
        print_json(
            {
                "expires": {role: expires[role] for role in renewed},
                "replaced": [
                    {"what": one.what, "before": one.at, "after": signed_at(one.role, expires[one.role])}
                    for one in replaced
                ],
            }
        )
        return
    for one in replaced:
        say(f"{one.what}: was {stamp(one.at)}, now {stamp(signed_at(one.role, expires[one.role]))}")
    for role in ("root", "targets") if by_offline_keys else ():
        say(f"{role} expires {day(expires[role])} UTC")


def _check_named(offline: Sequence[Path], replaced: Sequence[ClockReading], *, state: bool) -> None:
    """Raise `UsageError` if no folder of offline keys is named: root and targets need them."""
    if offline:
        return
    ahead = " and ".join(reading.role for reading in replaced if reading.offline)
    if state and not ahead and replaced:
        raise UsageError(
            "only signatures of online keys lie in the future", hint="run `syncd clock accept TIME --reason R` instead"
        )
    why = f"; the time of {ahead} lies in the future" if ahead else ""
    raise UsageError(
        f"only the offline keys can sign root and targets{why}",
        hint="name their folder with --offline-keys; nothing was changed",
    )
