"""New keys of a feed that several daemons sign: announced first, put in force once every daemon holds them.

A key travels from machine to machine by the operator's hand, never through the catalog: the catalog has its id. Each
daemon describes which keys it holds every few seconds, so a key that was copied to its folder is known at once.
"""

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from securesystemslib.signer import Signer

from syncd.acts import AnnouncedKeys, WithdrewKeys
from syncd.catalog.fleet_records import DaemonRecord, NextKeys
from syncd.catalog.records import AuditEntry
from syncd.errors import RefusedError, UsageError
from syncd.feed.signed import load_repository
from syncd.pipeline.publisher import Publisher
from syncd.publish.rotate import KeyFolders, NewKeys, Rotated, load_files, new_signers
from syncd.trust import keys
from syncd.units import count

_COPY = "copy them to the keys of those machines, and wait until `syncd status` says that every daemon holds them"


def announce(
    publisher: Publisher, role: str, new: NewKeys, at: KeyFolders, *, now: datetime, actor: str, reason: str
) -> Rotated:
    """Announce new keys of an online role; they are on disk here before, and sign nothing yet.

    Raises `UsageError` if the role is offline or the threshold does not fit, `RefusedError` if keys of the role are
    announced already or there is no such role, `StoreError`.
    """
    _check_shared(publisher)
    if role in keys.OFFLINE_ROLES:
        raise UsageError(f"the keys of {role} are offline: no daemon holds them", hint="leave out --prepare")
    size, before = load_repository(publisher.folder.feed).signing(role)
    if _announced(publisher, role) is not None:
        raise RefusedError(
            f"new keys of {role} are announced already",
            hint="run this without --prepare to put them in force, or with --withdraw to forget them",
        )
    threshold = new.threshold or before
    signers, made = new_signers(publisher.folder.feed.root, role, new, at, max(size, threshold))
    if threshold > len(signers):
        raise UsageError(f"{role} cannot require {threshold} signatures of {count(len(signers), 'key')}")
    ids = _ids(signers)
    entry = AuditEntry(now, actor, AnnouncedKeys(role, ids, reason))
    publisher.catalog.announce_keys(NextKeys(role, ids, threshold, 0, actor), entry)
    return Rotated(role, len(signers), threshold, made)


def withdraw(publisher: Publisher, role: str, now: datetime, actor: str, reason: str) -> None:
    """Forget the keys that were announced for a role. Raises `RefusedError` if there are none, `StoreError`."""
    _check_shared(publisher)
    if _announced(publisher, role) is None:
        raise RefusedError(f"no new keys of {role} are announced", hint="nothing was changed")
    publisher.catalog.withdraw_keys(role, AuditEntry(now, actor, WithdrewKeys(role, reason)))


def distributed(publisher: Publisher, role: str, new: NewKeys, at: KeyFolders, without: Collection[str]) -> NewKeys:
    """Return the new keys of a role, the announced ones by default, if every daemon that can lead holds them.

    ``without``: hosts or ids of daemons that need not. Raises `RefusedError` if they are not announced or a daemon
    lacks them, `UsageError` if there is no such daemon, `StoreError`.
    """
    daemons = _daemons(publisher, without)
    if role in keys.OFFLINE_ROLES:
        return new
    announced = _announced(publisher, role)
    if new.folder is not None:
        new = replace(new, files=_key_files(new.folder, role), folder=None)
    if not new.files and announced is not None:
        threshold = new.threshold or announced.threshold
        new = NewKeys(_announced_files(announced, at.online), None, threshold)
    if not new.files:
        if not daemons:  # all are stopped: the keys are copied before they start again
            return new
        raise RefusedError(
            f"{count(len(daemons), 'daemon')} sign this feed, and new keys of {role} would be on this machine alone",
            hint="run this with --prepare first: it announces new keys, which you copy to the others; nothing was "
            "changed",
        )
    _check_held(publisher, role, load_files(new.files), new.threshold, daemons)
    return new


def check_held(
    publisher: Publisher, role: str, signers: tuple[Signer, ...], threshold: int, without: Collection[str]
) -> None:
    """Raise `RefusedError` if a daemon that can lead, except those ``without``, lacks new keys of a role."""
    _check_held(publisher, role, signers, threshold, _daemons(publisher, without))


def _check_held(
    publisher: Publisher,
    role: str,
    signers: tuple[Signer, ...],
    threshold: int | None,
    daemons: Collection[DaemonRecord],
) -> None:
    needed = threshold or load_repository(publisher.folder.feed).signing(role)[1]
    lacking = NextKeys(role, _ids(signers), needed, 0, "").lacking(daemons)
    if lacking:
        hosts = ", ".join(sorted({one.host for one in lacking}))
        raise RefusedError(
            f"{count(len(lacking), 'daemon')} could no longer lead, without the new keys of {role}: on {hosts}",
            hint=f"{_COPY}; --without HOST leaves out a daemon that is gone for good; nothing was changed",
        )


def _check_shared(publisher: Publisher) -> None:
    if publisher.folder.database is None:
        raise UsageError(
            "no other daemon can share this catalog: it is a file",
            hint="leave out --prepare and --withdraw: new keys are in force at once; nothing was changed",
        )


def _announced(publisher: Publisher, role: str) -> NextKeys | None:
    return next((one for one in publisher.catalog.next_keys() if one.role == role), None)


def _daemons(publisher: Publisher, without: Collection[str]) -> tuple[DaemonRecord, ...]:
    known, _ = publisher.catalog.daemons()
    names = {name for one in known for name in (one.host, one.id)}
    for name in without:
        if name not in names:
            hosts = ", ".join(sorted({one.host for one in known})) or "none"
            raise UsageError(f"there is no daemon on {name}", hint=f"those known: {hosts}; nothing was changed")
    return tuple(one for one in known if not {one.host, one.id} & {*without})


def _ids(signers: tuple[Signer, ...]) -> tuple[str, ...]:
    return tuple(sorted(signer.public_key.keyid for signer in signers))


def _key_files(folder: Path, role: str) -> tuple[str, ...]:
    return tuple(map(str, keys.role_files(folder, role)))


def _announced_files(announced: NextKeys, folder: Path) -> tuple[str, ...]:
    """Return the files of the announced keys. Raises `RefusedError` if they are not all here."""
    files = _key_files(folder, announced.role)
    found = {keys.load_named(file).public_key.keyid: file for file in files}
    if not found.keys() >= {*announced.keys}:
        raise RefusedError(
            f"{folder} lacks new keys of {announced.role} that are announced",
            hint="run this on a machine that has them, or name their files with --new-key; nothing was changed",
        )
    return tuple(found[key] for key in announced.keys)
