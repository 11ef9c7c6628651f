"""Changing who signs a feed: rotating keys, giving a list keys of its own, renewing what offline keys sign.

What to sign is decided here, for partner and operator alike; how it is committed is the caller's (`Apply`): a journal
beside a partner's feed, the catalog of an operator.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from syncd.errors import RefusedError, UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.model import ListName
from syncd.publish import author
from syncd.publish.publication import Proposal, Resign
from syncd.trust import keys
from syncd.trust.keys import Signers

Apply = Callable[[str, Resign, datetime], None]
"""Receives what is being done, in words, what signs it, and the time; commits the outcome."""

LIST_ROLE: Final = "list-"
_DATED: Final = (*keys.OFFLINE_ROLES, "timestamp")


@dataclass(frozen=True)
class KeyFolders:
    """Where the keys of a feed are: ``offline`` of one or several custodians, ``online`` on this machine."""

    online: Path
    offline: tuple[Path, ...] = ()

    def of(self, role: str) -> Path:
        """Where keys of ``role`` belong."""
        if role not in keys.OFFLINE_ROLES:
            return self.online
        if not self.offline:
            raise UsageError(f"the keys of {role} are offline", hint="say where, with --offline-keys")
        return self.offline[0]

    def offline_signers(self) -> Signers:
        """Every offline key at hand."""
        found = [keys.load_signers(folder, keys.OFFLINE_ROLES) for folder in self.offline]
        return {role: tuple(signer for one in found for signer in one[role]) for role in keys.OFFLINE_ROLES}


@dataclass(frozen=True)
class NewKeys:
    """The keys that a role gets: ``files`` (or signer URIs); or all of the role in ``folder``; or else fresh ones."""

    files: tuple[str, ...] = ()
    folder: Path | None = None
    threshold: int | None = None
    """None: as it was"""


@dataclass(frozen=True)
class Rotated:
    """What came of a rotation. ``made``: the files of keys that are new."""

    role: str
    keys: int
    threshold: int
    made: tuple[Path, ...] = ()


def in_feed(folder: FeedFolder) -> Apply:
    """Return what commits to a partner's feed. What a crash interrupted is finished first."""
    finish(folder)
    press = author.publisher(folder, {})

    def apply(purpose: str, resign: Resign, now: datetime) -> None:
        press.publish(purpose, lambda _: Proposal("metadata", resign=resign), now)

    return apply


def finish(folder: FeedFolder) -> None:
    """Finish what a crash interrupted: between a new root and the timestamp that goes with it nothing can be loaded.

    Raises `UsageError` if the folder is not a feed.
    """
    if folder.metadata("timestamp.json") is None:
        raise UsageError(f"{folder.root} is not a feed", hint="make one with `syncd feed init`")
    author.publisher(folder, {}).finish()


def rotate(folder: FeedFolder, apply: Apply, role: str, new: NewKeys, at: KeyFolders, now: datetime) -> Rotated:
    """Replace the keys of ``role`` by ``new``. The new keys are on disk before anything is signed with them.

    Raises `UsageError` where the threshold does not fit, `RefusedError` where keys are not at hand or there is no such
    role or the clock was set back, `StoreError`.
    """
    repository = load_repository(folder)
    author.check_clock(repository, now, *_DATED)
    count, before = repository.signing(role)
    threshold = new.threshold or before
    offline, online = at.offline_signers(), online_signers(folder, at.online)
    signers, made = _new_signers(folder.root, role, new, at, max(count, threshold))
    try:
        apply(
            f"rotating the keys of {role}",
            lambda repository: repository.rotate(role, signers, threshold, offline=offline, online=online, now=now),
            now,
        )
    except (RefusedError, UsageError):  # before anything was committed: keys that nothing names would only confuse
        for path in made:
            path.unlink(missing_ok=True)
        raise
    return Rotated(role, len(signers), threshold, made)


def _new_signers(
    feed: Path, role: str, new: NewKeys, at: KeyFolders, count: int
) -> tuple[tuple[Signer, ...], tuple[Path, ...]]:
    if new.files:
        return load_files(new.files), ()
    folder = new.folder or at.of(role)
    present = keys.load_signers(folder, [role])[role] if new.folder and folder.is_dir() else ()
    if present and any(folder.resolve() == one.resolve() for one in (at.online, *at.offline)):
        raise UsageError(
            f"{folder} holds the keys of {role} that are to be replaced, and maybe some that were retired before",
            hint="leave --new-keys out to make new ones there, or name a folder that has the new ones alone",
        )
    if present:
        return present, ()
    author.keep_apart(feed, folder)
    made = keys.make_role_keys(folder, role, count)
    return tuple(signer for _, signer in made), tuple(path for path, _ in made)


def load_files(files: Iterable[str]) -> tuple[Signer, ...]:
    """Signers by path or URI; ``NAME.uri`` has its public key beside it, in ``NAME.pub``."""
    return tuple(keys.load_named(file) for file in files)


def add_role(
    folder: FeedFolder,
    apply: Apply,
    name: ListName,
    signers: tuple[Signer, ...],
    threshold: int,
    at: KeyFolders,
    now: datetime,
) -> Rotated:
    """Give a list keys of its own, ``threshold`` of which must sign it from now on. Raises as `rotate`."""
    role = LIST_ROLE + name
    author.check_clock(load_repository(folder), now, *_DATED)
    offline, online = at.offline_signers(), online_signers(folder, at.online)
    target = layout.target_name(name)
    apply(
        f"giving {name} its own keys",
        lambda repository: repository.add_list_role(
            target, role, signers, threshold, offline=offline, online=online, now=now
        ),
        now,
    )
    return Rotated(role, len(signers), threshold)


def renew(folder: FeedFolder, apply: Apply, at: KeyFolders, now: datetime) -> Mapping[str, datetime]:
    """Sign root and targets anew, keys unchanged; returns when every role expires now. Raises as `rotate`.

    A timestamp that a clock which ran ahead has signed is no hindrance: this is how to replace it.
    """
    author.check_clock(load_repository(folder), now, *keys.OFFLINE_ROLES)
    offline, online = at.offline_signers(), online_signers(folder, at.online)
    apply("renewing root and targets", lambda repository: repository.renew_offline(offline, online, now), now)
    return load_repository(folder).expiries()


def online_signers(
    folder: FeedFolder, online: Path, extra: Iterable[str] = (), credentials: Path | None = None
) -> Signers:
    """The online keys, those of lists with keys of their own among them.

    ``extra``: files or URIs of further keys, for whichever list names them. ``credentials``: where systemd hands them
    over; a role that has keys there is not looked for in ``online``.
    """
    own = [role for role in load_repository(folder).versions if role.startswith(LIST_ROLE)]
    found = _at_hand(online, credentials, [*keys.ONLINE_ROLES, *own])
    more = load_files(extra)
    return found | {role: (*found[role], *more) for role in ("lists", *own)}


def _at_hand(online: Path, credentials: Path | None, roles: list[str]) -> dict[str, tuple[Signer, ...]]:
    given = dict(keys.load_signers(credentials, roles, keys.CREDENTIAL)) if credentials else {}
    lacking = [role for role in roles if not given.get(role)]
    needless = not online.is_dir() and not any(role in keys.ONLINE_ROLES for role in lacking)
    return given if needless else given | dict(keys.load_signers(online, lacking))


def refuse_operators(folder: Path, hint: str | None = None) -> None:
    """What an operator publishes is committed in the catalog: a change beside it would stop every sync after it.

    ``hint``: what to do instead, where that is not to give ``--state``.
    """
    if folder.joinpath("catalog.sqlite3").exists():
        told = hint or "give --state as well; nothing was changed"
        raise RefusedError(f"{folder} is an operator's state folder", hint=told)
    at = folder.resolve()
    if at.name == "feed" and at.parent.joinpath("catalog.sqlite3").exists():
        told = hint or f"give the state folder and --state: {at.parent} --state"
        raise RefusedError(f"{folder} is what an operator publishes", hint=told)
