"""The stories: a folder, a command that is stopped in it, and the promises that hold afterwards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from stops import folders
from stops.backups import check_backup
from stops.folders import FLOOD, FULL, KNOWN_GOOD, LATER, MISSED, NEWS, PUBLISH, RIPE, VIDEOS, Folder, command, digest
from stops.near import check_near
from stops.processes import Command, Processes

RETIRED: Final = "retired"
Served = frozenset[int] | str | None
"""The numbers that a matcher answers; `RETIRED`; or None for no list at all."""


@dataclass(frozen=True)
class Reader:
    """A matcher's copy, and the pull that brings it up to date."""

    copy: str
    pull: Command | None
    """None: the story's own command pulls, and the copy is read as it is"""


MATCHER: Final = Reader("copy", folders.PULL_COPY)
FOLLOWER: Final = Reader("mirror", folders.PULL_MIRROR)
OWN_COPY: Final = Reader("mirror", None)

_LATER: Final = command(f"{PUBLISH} --add later.csv")
OF_PARTNER: Final = (_LATER, folders.PULL_MIRROR)
_OF_DROPPED: Final = (folders.SYNC_DROPPED, command("gc --config drop.toml"), folders.PULL_COPY)
OF_OPERATOR: Final = (_LATER, folders.SYNC, command("gc"), folders.PULL_COPY)


@dataclass(frozen=True)
class Story:
    """One command that is stopped everywhere, and what must hold."""

    name: str
    begins: Folder
    command: Command
    reader: Reader
    old: Served
    """the reader's permitted answers if the command was stopped"""
    new: Served
    """its other permitted answer; the only one once the command ended well"""
    proves: Sequence[str]
    """the folders that `syncd verify` proves"""
    ends: Sequence[Command]
    """run last, each must end well"""
    last: Served
    """the reader's answer in the end"""
    code: int = 0
    """the exit code of the command, if nothing stops it"""
    again: int = 0
    """another exit code with which it may end if it is run again: the first run had done the work"""
    damaged: bool = False
    """True if files are damaged at the beginning: readers and proofs may report that until the command has ended"""
    check: Callable[[Path, Processes, int], list[str]] | None = None
    """a further check after the stop, at a time in seconds since 1970"""


def _of_partner(
    name: str, begins: Folder, line: str, old: Served, new: Served, last: Served | None = None, **more: Any
) -> Story:
    return Story(
        name=name,
        begins=begins,
        command=command(line),
        reader=FOLLOWER,
        old=old,
        new=new,
        proves=("partner", "mirror"),
        ends=OF_PARTNER,
        last=_with_later(new) if last is None else last,
        **more,
    )


def _of_operator(
    name: str, begins: Folder, line: str, old: Served, new: Served, last: Served | None = None, **more: Any
) -> Story:
    return Story(
        name=name,
        begins=begins,
        command=command(line),
        reader=MATCHER,
        old=old,
        new=new,
        proves=("state", "copy"),
        ends=more.pop("ends", OF_OPERATOR),
        last=_with_later(new) if last is None else last,
        **more,
    )


def _of_matcher(
    name: str, begins: Folder, old: Served, new: Served, last: Served, options: str = "", **more: Any
) -> Story:
    return Story(
        name=name,
        begins=begins,
        command=replace(folders.PULL_MIRROR, arguments=(*folders.PULL_MIRROR.arguments, *options.split())),
        reader=OWN_COPY,
        old=old,
        new=new,
        proves=("mirror",),
        ends=OF_PARTNER,
        last=last,
        **more,
    )


def _with_later(numbers: Served) -> Served:
    return numbers | {LATER} if isinstance(numbers, frozenset) else numbers


_PARTNERS: Final = (
    _of_partner(
        "feed-init",
        folders.EMPTY,
        "feed init partner --offline-keys partner-off --keys 3 --threshold 2",
        None,
        None,
        frozenset({LATER}),
        again=2,
    ),
    _of_partner("feed-publish-first", folders.NEW_FEED, f"{PUBLISH} --full full.csv", None, FULL),
    _of_partner("feed-publish-delta", folders.STANDING, f"{PUBLISH} --add add.csv --remove remove.csv", FULL, NEWS),
    _of_partner("feed-publish-whole", folders.STANDING, f"{PUBLISH} --full news.csv", FULL, NEWS),
    _of_partner(
        "feed-publish-another-list",
        folders.STANDING,
        "feed publish partner --list videos --new --full videos.csv",
        FULL,
        FULL | VIDEOS,
        again=2,
    ),
    _of_partner(
        "feed-publish-skipping",
        folders.STANDING,
        f"{PUBLISH} --full bad.csv --skip-bad left-out.csv",
        FULL,
        NEWS,
    ),
    _of_partner("feed-publish-fold", folders.WITH_SEVEN, f"{PUBLISH} --add add.csv", RIPE, RIPE | {30}),
    _of_partner("feed-compact", folders.WITH_SEVEN, "feed compact partner --all", RIPE, RIPE),
    _of_partner("feed-revert", folders.WITH_TWO, "feed revert partner images 1", NEWS, FULL),
    _of_partner(
        "feed-retire",
        folders.STANDING,
        "feed retire partner --list images --reason R",
        FULL,
        RETIRED,
        frozenset({LATER}),
        again=6,
    ),
    _of_partner("feed-sign", folders.STANDING, "feed sign partner", FULL, FULL),
    _of_partner("feed-diff-out", folders.WITH_TWO, "feed diff partner images 1 2 --out rows.csv", NEWS, NEWS, again=2),
    *(
        _of_partner(
            f"feed-rotate-{role}",
            folders.STANDING,
            f"feed rotate partner {role} --offline-keys partner-off",
            FULL,
            FULL,
        )
        for role in ("root", "targets", "snapshot", "timestamp", "lists")
    ),
    _of_partner("feed-renew", folders.STANDING, "feed renew partner --offline-keys partner-off", FULL, FULL),
    _of_partner(
        "feed-renew-accept-clock",
        folders.PARTNER_AHEAD,
        "feed renew partner --offline-keys partner-off --accept-clock {now}",
        FULL,
        FULL,
        again=6,
    ),
    _of_partner(
        "feed-add-role",
        folders.PARTNERS_LIST_KEY,
        "feed add-role partner --list images --keys partner.keys/list-images-1.pem --threshold 1 "
        "--offline-keys partner-off",
        FULL,
        FULL,
        again=6,
    ),
)

_OPERATORS: Final = (
    _of_operator(
        "init",
        folders.PARTNER,
        "init --offline-keys own-off --keys 3 --threshold 2",
        None,
        None,
        FULL | {LATER},
        again=2,
    ),
    _of_operator("sync-first", folders.OPERATOR, "sync", None, FULL),
    _of_operator("sync-delta", folders.WITH_NEWS, "sync", FULL, NEWS),
    _of_operator("sync-fold", folders.WITH_EIGHTH, "sync", RIPE, RIPE - {5} | {30}),
    _of_operator("sync-dry-run", folders.WITH_NEWS, "sync --dry-run", FULL, FULL, NEWS | {LATER}),
    _of_operator("sync-nothing-new", folders.WITH_TWO, "sync", NEWS, NEWS),
    _of_operator("sync-hold", folders.WITH_FLOOD, "sync", FULL, FULL, FULL, code=3),
    _of_operator("sync-retired", folders.RETIRED_FEED, "sync", FULL, FULL, FULL | {LATER}, code=3),
    _of_operator("sync-lost-files", folders.LOST, "sync", FULL, FULL, damaged=True),
    _of_operator("sync-lost-origin", folders.LOST_ORIGIN, "sync", FULL, NEWS, damaged=True),
    _of_operator(
        "sync-stated-first",
        folders.OPERATOR,
        "sync --config drop.toml",
        None,
        FULL,
        FULL,
        ends=_OF_DROPPED,
    ),
    _of_operator(
        "sync-stated",
        folders.WITH_DROPPED_NEWS,
        "sync --config drop.toml",
        FULL,
        NEWS,
        NEWS,
        ends=_OF_DROPPED,
    ),
    _of_operator("release", folders.WITH_HOLD, "release 1 --reason R", FULL, FULL | FLOOD, again=6),
    _of_operator("discard", folders.WITH_HOLD, "discard 1 --reason R", FULL, FULL, again=6),
    _of_operator("suppress", folders.STANDING, f"suppress {digest(3)} --reason R", FULL, FULL - {3}, again=6),
    _of_operator(
        "suppress-file",
        folders.STANDING,
        "suppress --file wrong.txt --reason R",
        FULL,
        FULL - {3, 4},
        again=6,
    ),
    _of_operator(
        "suppress-extend",
        folders.WITH_SUPPRESSION,
        "suppress --extend 1 --expires 60d --reason R",
        FULL - {3},
        FULL - {3},
    ),
    _of_operator("unsuppress", folders.WITH_SUPPRESSION, "unsuppress 1 --reason R", FULL - {3}, FULL, again=6),
    _of_operator(
        "rollback",
        folders.WITH_TWO,
        "rollback iwf.images 1 --reason R",
        NEWS,
        FULL - {5},
        FULL - {5},
        again=6,
    ),
    _of_operator("unpin", folders.WITH_PIN, "unpin iwf.images --reason R", FULL - {5}, NEWS, again=6),
    _of_operator(
        "retire",
        folders.STANDING,
        "retire iwf.images --reason R --config alone.toml",
        FULL,
        RETIRED,
        RETIRED,
        ends=(command("gc --config alone.toml"), folders.PULL_COPY),
        again=6,
    ),
    _of_operator("gc", folders.WITH_OLD_FILES, "gc --config few.toml", RIPE, RIPE),
    _of_operator(
        "backup",
        folders.WITH_TWO,
        "backup backup.tar",
        NEWS,
        NEWS,
        again=2,
        check=check_backup,
    ),
    _of_operator(
        "backup-with-keys",
        folders.WITH_TWO,
        "backup backup.tar --with-keys",
        NEWS,
        NEWS,
        again=2,
        check=check_backup,
    ),
    _of_operator("recover", folders.STANDING, "recover --above 100", FULL, FULL, again=6),
    _of_operator(
        "retrust", folders.REBUILT, "retrust iwf --root partner/root.json --reason R", FULL, FULL, NEWS | {LATER}
    ),
    *(
        _of_operator(
            f"rotate-{role}",
            folders.STANDING,
            f"feed rotate state {role} --state --offline-keys own-off --reason R",
            FULL,
            FULL,
        )
        for role in ("root", "timestamp")
    ),
    _of_operator("renew", folders.STANDING, "feed renew state --state --offline-keys own-off --reason R", FULL, FULL),
    _of_operator(
        "add-role",
        folders.OWN_LIST_KEY,
        "feed add-role state --state --list iwf.images --keys state/keys/list-iwf.images-1.pem --threshold 1 "
        "--offline-keys own-off --reason R",
        FULL,
        FULL,
        again=6,
    ),
    _of_operator(
        "clock-accept",
        folders.AHEAD,
        "clock accept {now} --reason R",
        NEWS,
        NEWS,
        ends=(folders.SYNC, folders.PULL_COPY),
        last=NEWS,
        again=6,
    ),
    _of_operator("matchers-add", folders.STANDING, "matchers add web --token-file web.token", FULL, FULL, again=2),
    _of_operator("matchers-revoke", folders.WITH_MATCHER, "matchers revoke web", FULL, FULL, again=2),
    _of_operator("matchers-forget", folders.WITH_SILENT_INSTANCE, "matchers forget web", FULL, FULL, again=2),
    _of_operator("holds-out", folders.WITH_HOLD, "holds 1 --out rows.csv", FULL, FULL, FULL, again=2),
    _of_operator("diff-out", folders.WITH_TWO, "diff iwf.images 1 2 --out rows.csv", NEWS, NEWS, again=2),
    _of_operator(
        "known-good-out",
        folders.WITH_KNOWN_GOOD,
        "known-good --list iwf.images --out rows.csv",
        FULL,
        FULL,
        again=2,
    ),
)

_MATCHERS: Final = (
    _of_matcher("pull-first", folders.PARTNER, None, FULL, FULL | {LATER}),
    _of_matcher("pull-delta", folders.WITH_NEWS, FULL, NEWS, NEWS | {LATER}),
    _of_matcher("pull-fold", folders.WITH_EIGHTH, RIPE, RIPE - {5} | {30}, RIPE - {5} | {30, LATER}),
    _of_matcher("pull-near-index", folders.WITH_PICTURES, FULL, FULL, FULL | {LATER}, check=check_near),
    _of_matcher("pull-near-fold", folders.WITH_FOLDED_PICTURES, FULL, FULL, FULL | {LATER}, check=check_near),
    _of_matcher("pull-retired", folders.RETIRED_FEED, FULL, RETIRED, frozenset({LATER})),
    _of_matcher("pull-cut-short", folders.CUT_SHORT, FULL, NEWS, NEWS | {LATER}, damaged=True),
    _of_matcher("pull-check", folders.ALTERED, FULL - {MISSED}, FULL, FULL | {LATER}, "--check", damaged=True),
    _of_matcher("pull-accept-clock", folders.PULLED_AHEAD, NEWS, NEWS, NEWS | {LATER}, "--accept-clock {now}", again=6),
)

STORIES: Final = {story.name: story for story in (*_PARTNERS, *_OPERATORS, *_MATCHERS)}
READING: Final = {
    "holds": "holds",
    "known-good": "known-good",
    "suppressions": "suppressions",
    "source": "source",
    "source try": "source try hotline --config drop.toml",
    "status": "status",
    "snapshots": "snapshots iwf.images",
    "diff": "diff iwf.images 1 2",
    "explain": f"explain {digest(3)}",
    "verify": "verify state",
    "lookup": f"lookup copy {digest(3)}",
    "match": "match copy full.csv",
    "clock": "clock",
    "matchers": "matchers",
    "audit": "audit",
    "audit verify": "audit verify",
    "catalog": "catalog",
    "store": "store",
    "alerts": "alerts",
    "version": "version",
    "feed snapshots": "feed snapshots partner",
    "feed diff": "feed diff partner images 1 2",
    "feed status": "feed status partner",
    "gc --dry-run": "gc --dry-run",
    "run --check": "run --check",
    "feed publish --dry-run": f"{PUBLISH} --full full.csv --dry-run",
    "feed revert --dry-run": "feed revert partner images 1 --dry-run",
}
"""Commands that change no file, each with an example in the folder `folders.WITH_TWO`."""
ELSEWHERE: Final = {
    "run": "test_daemon.py",
    "near": "test_near.py",
    "mirror": "test_mirror_replica.py",
    "feed serve": "test_feed_serve.py",
    "catalog copy": "test_catalog_copy.py",
    "store copy": "test_store_copy.py",
}
"""Commands that do not end, need a server of databases or buckets, or read a list of PDQ; each with its tests."""
WRITING_OPTIONS: Final = {"--out", "--skip-bad", "--accept-clock", "--with-keys", "--extend"}
"""Options that let a command write more, or something else: with each there is a story."""
assert KNOWN_GOOD.isdisjoint(FULL)
