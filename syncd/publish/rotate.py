"""Changes to a feed's keys: rotation, separate keys for a list, and renewal of root and targets.

This module decides what to sign, for partner and operator alike; the caller decides how it is committed (`Apply`): in
the journal beside a partner's feed, or in an operator's catalog.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from securesystemslib.signer import Signer

from syncd.clock import ClockReading, check_accepted
from syncd.errors import RefusedError, UsageError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import check_feed, load_repository
from syncd.model import ListName
from syncd.publish import author
from syncd.publish.publication import Proposal, Resign
from syncd.trust import keys
from syncd.trust.keys import Signers
from syncd.trust.signatures import signatures

Apply = Callable[[str, Resign, datetime], None]
"""Receives the purpose in words, the function that signs, and the time; commits the result."""

LIST_ROLE: Final = "list-"
_DATED: Final = (*keys.OFFLINE_ROLES, "timestamp")


@dataclass(frozen=True)
class KeyFolders:
    """The folders of a feed's keys: ``offline`` of one or several custodians, ``online`` on this machine."""

    online: Path
    offline: tuple[Path, ...] = ()

    def of(self, role: str) -> Path:
        """Return the folder for keys of ``role``. Raises `UsageError` if it is offline and no folder was given."""
        if role not in keys.OFFLINE_ROLES:
            return self.online
        if not self.offline:
            raise UsageError(f"the keys of {role} are offline", hint="name their folder with --offline-keys")
        return self.offline[0]

    def offline_signers(self) -> Signers:
        """Load every offline key in the folders given."""
        loaded = [keys.load_signers(folder, keys.OFFLINE_ROLES) for folder in self.offline]
        return {role: tuple(signer for signers in loaded for signer in signers[role]) for role in keys.OFFLINE_ROLES}


@dataclass(frozen=True)
class NewKeys:
    """The new keys of a role: ``files`` (or signer URIs), or all of the role in ``folder``, or else generated ones."""

    files: tuple[str, ...] = ()
    folder: Path | None = None
    threshold: int | None = None
    """None: unchanged"""


@dataclass(frozen=True)
class Rotated:
    """The result of a rotation. ``made``: the files of generated keys."""

    role: str
    keys: int
    threshold: int
    made: tuple[Path, ...] = ()


def in_feed(folder: FeedFolder) -> Apply:
    """Return the function that commits to a partner's feed, after finishing a publication that a crash interrupted."""
    finish(folder)
    publisher = author.publisher(folder, {})

    def apply(purpose: str, resign: Resign, now: datetime) -> None:
        publisher.publish_fixed(purpose, Proposal("metadata", resign=resign), now)

    return apply


def finish(folder: FeedFolder) -> None:
    """Finish a publication that a crash interrupted, since its last file decides which keys and versions are in force.

    Raises `UsageError` if the folder is not a feed, `StoreError`.
    """
    check_feed(folder)
    author.publisher(folder, {}).finish()


def rotate(folder: FeedFolder, apply: Apply, role: str, new: NewKeys, at: KeyFolders, now: datetime) -> Rotated:
    """Replace the keys of ``role`` by ``new``. The new keys are on disk before anything is signed with them.

    Raises `UsageError` if the threshold does not fit, `RefusedError` if keys are missing, the role does not exist or
    the clock was set back, `StoreError`.
    """
    repository = load_repository(folder)
    author.check_clock(repository, now, *_DATED)
    count, before = repository.signing(role)
    threshold = new.threshold or before
    offline, online = at.offline_signers(), online_signers(folder, at.online)
    signers, made = new_signers(folder.root, role, new, at, max(count, threshold))
    try:
        apply(
            f"rotating the keys of {role}",
            lambda repository: repository.rotate(role, signers, threshold, offline=offline, online=online, now=now),
            now,
        )
    except (RefusedError, UsageError):  # nothing was committed: unused key files would only confuse
        for path in made:
            path.unlink(missing_ok=True)
        raise
    return Rotated(role, len(signers), threshold, made)


def new_signers(
    feed: Path, role: str, new: NewKeys, at: KeyFolders, count: int
) -> tuple[tuple[Signer, ...], tuple[Path, ...]]:
    """Load the new keys of a role, or generate ``count``; return them, and the files that were made.

    Raises `UsageError` if the folder holds the present keys, `StoreError`.
    """
    if new.files:
        return load_files(new.files), ()
    folder = new.folder or at.of(role)
    present = keys.load_signers(folder, [role])[role] if new.folder and folder.is_dir() else ()
    if present and any(folder.resolve() == current.resolve() for current in (at.online, *at.offline)):
        raise UsageError(
            f"{folder} holds the present keys of {role}, and perhaps retired ones",
            hint="leave out --new-keys to generate new keys there, or name a folder that has only the new keys",
        )
    if present:
        return present, ()
    author.keep_apart(feed, folder)
    made = keys.make_role_keys(folder, role, count)
    return tuple(signer for _, signer in made), tuple(path for path, _ in made)


def load_files(files: Iterable[str]) -> tuple[Signer, ...]:
    """Load signers by path or URI; the public key of ``NAME.uri`` is beside it, in ``NAME.pub``."""
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
    """Give a list its own keys; ``threshold`` of them must sign it from now on. Raises as `rotate`."""
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


def renew(
    folder: FeedFolder, apply: Apply, at: KeyFolders, now: datetime, accepted: datetime | None = None
) -> Mapping[str, datetime]:
    """Sign root and targets again with the same keys; return the new expiry of every role. Raises as `rotate`.

    ``accepted``: the present time, if the feed was signed by a clock that was ahead; see `replaceable`.
    """
    if accepted is None:
        repository = load_repository(folder)
        author.check_clock(repository, now, *keys.OFFLINE_ROLES)
        author.check_clock(repository, now)
    else:
        replaceable(folder, accepted, now)
    offline, online = at.offline_signers(), online_signers(folder, at.online)
    apply("renewing root and targets", lambda repository: repository.renew_offline(offline, online, now), now)
    return load_repository(folder).expiries()


def replaceable(folder: FeedFolder, accepted: datetime, now: datetime) -> tuple[ClockReading, ...]:
    """Return the signatures of a feed that lie in the future, after checking that ``accepted`` may replace their times.

    Raises `RefusedError` if there are none, `UsageError` if ``accepted`` is in the future or before the newest
    signature that is not, and `StoreError`.
    """
    repository = load_repository(folder)
    fresh = repository.freshness().items()
    verified = [ClockReading(f"the verification of {name}", one.verified_at) for name, one in fresh]
    return check_accepted(accepted, tuple(signatures(repository.expiries())), verified, now)


def sign_again(folder: FeedFolder, at: KeyFolders, now: datetime) -> None:
    """Sign the timestamp of a partner's feed again, and those online roles that were signed in the future.

    Raises `RefusedError`, `StoreError`.
    """
    core = author.publisher(folder, online_signers(folder, at.online))
    core.publish_fixed("signing again", Proposal("resign"), now)


def online_signers(
    folder: FeedFolder, online: Path, extra: Iterable[str] = (), credentials: Path | None = None
) -> Signers:
    """Load the online keys, including those of lists with their own keys.

    ``extra``: files or URIs of further keys, usable for any list that names them. ``credentials``: the folder of
    systemd's credentials; a role with keys there is not looked for in ``online``.
    """
    own = [role for role in load_repository(folder).versions if role.startswith(LIST_ROLE)]
    loaded = _load(online, credentials, [*keys.ONLINE_ROLES, *own])
    more = load_files(extra)
    return loaded | {role: (*loaded[role], *more) for role in ("lists", *own)}


def feed_signers(folder: FeedFolder, online: Path | None, extra: Iterable[str] | None) -> Signers:
    """Load the online keys of a partner's feed, by default from the folder beside it; see `online_signers`."""
    return online_signers(folder, online or author.keys_folder(folder.root), extra or ())


def _load(online: Path, credentials: Path | None, roles: list[str]) -> dict[str, tuple[Signer, ...]]:
    given = dict(keys.load_signers(credentials, roles, keys.CREDENTIAL)) if credentials else {}
    lacking = [role for role in roles if not given.get(role)]
    complete = not online.is_dir() and not any(role in keys.ONLINE_ROLES for role in lacking)
    return given if complete else given | dict(keys.load_signers(online, lacking))


def refuse_partners(folder: Path) -> None:
    """Refuse a partner's feed in the place of an operator's state folder. Raises `UsageError`."""
    if folder.joinpath(author.ROOT_FILE).exists() and not _is_state(folder):
        raise UsageError(
            f"{folder} is a feed, not an operator's state folder",
            hint="run the same command without --state and --reason; nothing was changed",
        )


def refuse_operators(folder: Path, hint: str | None = None) -> None:
    """Refuse an operator's state or feed folder: a change that is not in the catalog would stop all later syncs.

    ``hint``: what to do instead, if not to give ``--state``. Raises `RefusedError`.
    """
    if _is_state(folder):
        raise RefusedError(
            f"{folder} is an operator's state folder", hint=hint or "give --state as well; nothing was changed"
        )
    at = folder.resolve()
    if at.name == "feed" and _is_state(at.parent):
        raise RefusedError(
            f"{folder} is the feed of an operator's state folder",
            hint=hint or f"name the state folder and give --state: {at.parent} --state",
        )


def _is_state(folder: Path) -> bool:
    return any(folder.joinpath(name).exists() for name in (layout.CATALOG_FILE, layout.CATALOG_MARK))
