"""The folders in which stories begin: made once by commands, and copied for each point.

A folder has a partner (``partner``, ``partner.keys``, ``partner-off``), an operator (``state``, ``own-off``), a
matcher's copy of the operator's feed (``copy``), and one of the partner's feed (``mirror``). The lists are of numbers.
"""

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from stops.processes import Command, Processes
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.model import ListName
from syncd.service.checkins import Checkins
from syncd.trust.keys import generate_key

FULL: Final = frozenset(range(30))
NEWS: Final = FULL - {5} | {30}
RIPE: Final = FULL | frozenset(range(31, 38))
"""after seven deltas; the eighth is folded with them"""
FLOOD: Final = frozenset(range(100, 125))
"""more additions than the operator's gate lets pass"""
VIDEOS: Final = frozenset(range(60, 70))
KNOWN_GOOD: Final = frozenset({80, 81})
PICTURES: Final = 1 << 15
"""PDQ digests in a list of pictures: as many as an index for near look-ups is made for"""
MISSED: Final = 1
"""The number that a damaged copy misses."""
LATER: Final = 40
"""The number that is added in the end, to prove that everything still works."""

_FILES: Final = {
    "full": FULL,
    "news": NEWS,
    "add": {30},
    "remove": {5},
    "flood": FLOOD,
    "videos": VIDEOS,
    "good": KNOWN_GOOD,
    "later": {LATER},
    **{f"ripe-{number}": {number} for number in range(31, 38)},
}
_BAD_ROW: Final = "sha256,0123,e99,A"


def digest(number: int) -> str:
    """Return the digest of a number, as commands take it."""
    return f"sha256:{hashlib.sha256(str(number).encode()).hexdigest()}"


def command(line: str, stdin: str = "") -> Command:
    """Return a command line without ``syncd``; ``{base}`` in it is the folder, and ``{now}`` the time."""
    return Command(tuple(shlex.split(line)), stdin)


def placed(given: Command, base: Path, now: datetime) -> Command:
    """Return a command with its folder, and with the time."""
    time = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    words = (word.replace("{base}", str(base)).replace("{now}", time) for word in given.arguments)
    return replace(given, arguments=tuple(words))


@dataclass(frozen=True)
class Folder:
    """A folder that commands make out of another one."""

    name: str
    steps: tuple[Command, ...] = ()
    after: "Folder | None" = None
    changes: Callable[[Path], None] | None = None
    """done before the steps, by hand"""


def make(folder: Folder, base: Path, processes: Processes, before: Path | None, clock: int) -> None:
    """Make a folder at ``base``; ``before`` is that of `Folder.after`, ``clock`` the time in seconds since 1970."""
    if before is None:
        _empty(base)
    else:
        shutil.copytree(before, base)
        write_settings(base)
    if folder.changes:
        folder.changes(base)
    if not folder.steps:
        return
    steps = [placed(step, base, datetime.fromtimestamp(clock, UTC)) for step in folder.steps]
    for ended in processes.run(base, *steps, clock=clock, here=True):
        assert ended.code in {0, 3}, (folder.name, ended)


def _empty(base: Path) -> None:
    base.mkdir()
    for name, numbers in _FILES.items():
        _write_rows(base / f"{name}.csv", numbers)
    with (base / "bad.csv").open("w") as stream:
        stream.write((base / "news.csv").read_text() + _BAD_ROW + "\n")
    (base / "known-good.txt").write_text("\n".join(map(digest, sorted(KNOWN_GOOD))) + "\n")
    (base / "dropped").mkdir()
    shutil.copy(base / "full.csv", base / "dropped/1.full.csv")
    (base / "wrong.txt").write_text(f"{digest(3)}\n{digest(4)}\n")
    write_settings(base)


def _write_rows(path: Path, numbers: Iterable[int]) -> None:
    lines = [f"{digest(number).replace(':', ',')},e{number},{'ABC'[number % 3]}" for number in sorted(numbers)]
    path.write_text("\n".join(["algorithm,digest,entry,label", *lines, ""]))


def write_settings(base: Path) -> None:
    """Write the operator's configurations, which name the folder, and give a copy its own."""
    state = f'state_dir = "{base}/state"\ncontrol_socket = "{base}/c.sock"\n'
    source = (
        f'[sources.iwf]\ntype = "feed"\nurl = "file://{base}/partner"\nroot = "{base}/partner/root.json"\n'
        f'[sources.iwf.gate]\nmax_added_rows = 20\nmax_added_percent = 1\nknown_good_file = "{base}/known-good.txt"\n'
    )
    drop = (
        f'[sources.hotline]\ntype = "drop"\nfolder = "{base}/dropped"\nlists = ["images"]\n'
        'mode = "increments"\ncomplete = "rename"\n'
    )
    few = "[retention]\npublished_versions = 2\nevidence = 1\n"
    for name, text in (
        ("syncd", state + source),
        ("alone", state),
        ("few", state + source + few),
        ("drop", state + drop),
    ):
        (base / f"{name}.toml").write_text(text)


def _drop_news(base: Path) -> None:
    """Drop two increments: an added row, and a removed one."""
    shutil.copy(base / "add.csv", base / "dropped/2.add.csv")
    shutil.copy(base / "remove.csv", base / "dropped/3.remove.csv")


def _age_unnamed_files(base: Path) -> None:
    """Let every file that nothing names have been noticed long ago."""
    for record in base.rglob("unnamed.json"):
        content = json.loads(record.read_bytes())
        record.write_text(json.dumps({**content, "unnamed": dict.fromkeys(content["unnamed"], 0.0)}))


def _lose_published_files(base: Path) -> None:
    """Lose the manifest and the segments that the operator published."""
    for path in (base / "state/feed/v1/iwf.images").rglob("*"):
        if path.is_file() and "evidence" not in path.parts:
            path.unlink()


def _lose_origin(base: Path) -> None:
    """Lose the segments that the operator fetched."""
    for path in (base / "state/sources/iwf").rglob("*.arrow"):
        path.unlink()


def _cut_segments(base: Path) -> None:
    """Cut the segments of the mirror short, as a copy by other means than a pull may."""
    for path in base.glob("mirror/v1/*/segments/*.arrow"):
        os.truncate(path, path.stat().st_size // 2)


def _alter_segments(base: Path) -> None:
    """Change a bit of one digest in the mirror, as a bad disk may: the segment keeps its length and its order."""
    content = bytes.fromhex(digest(MISSED).partition(":")[2])
    for path in base.glob("mirror/v1/*/segments/*.arrow"):
        path.write_bytes(path.read_bytes().replace(content, content[:-1] + bytes([content[-1] ^ 1])))


def pdq(number: int) -> bytes:
    """Return the PDQ digest of a number; unlike those of images, it is as far from the others as random ones."""
    return hashlib.sha256(f"image {number}".encode()).digest()


def _write_pictures(base: Path) -> None:
    """Write a list that is long enough for an index for near look-ups, and an addition to it."""
    for name, numbers in (("pictures", range(PICTURES)), ("more-pictures", range(PICTURES, PICTURES + 10))):
        lines = [f"pdq,{pdq(number).hex()},p{number},A" for number in numbers]
        (base / f"{name}.csv").write_text("\n".join(["algorithm,digest,entry,label", *lines, ""]))


def _note_silent_instance(base: Path) -> None:
    """Let an instance of the matcher have reported its versions a day ago, as a daemon records it."""
    with Catalog.open(StateFolder(base / "state").catalog) as catalog:
        checkins = Checkins(catalog)
        checkins.note("web", "web-1", {ListName("iwf.images"): 1}, datetime.now(UTC) - timedelta(days=1))
        checkins.flush()


def _move_partner_away(base: Path) -> None:
    for name in ("partner", "partner.keys", "partner-off"):
        (base / name).rename(base / f"lost-{name}")


def _make_list_key(keys: str) -> Callable[[Path], None]:
    def make_key(base: Path) -> None:
        generate_key(base / keys)

    return make_key


PUBLISH: Final = "feed publish partner --list images"
PULL_COPY: Final = command("pull file://{base}/state/feed --root state/feed/root.json --dir copy")
PULL_MIRROR: Final = command("pull file://{base}/partner --root partner/root.json --dir mirror")
PULL_NO_INDEX: Final = replace(PULL_MIRROR, arguments=(*PULL_MIRROR.arguments, "--no-near-indexes"))
SYNC: Final = command("sync")
SYNC_DROPPED: Final = command("sync --config drop.toml")
PUBLISH_NEWS: Final = command(f"{PUBLISH} --add add.csv --remove remove.csv")

EMPTY: Final = Folder("empty")
NEW_FEED: Final = Folder(
    "new feed", (command("feed init partner --offline-keys partner-off --keys 3 --threshold 2"),), EMPTY
)
PARTNER: Final = Folder("partner", (command(f"{PUBLISH} --full full.csv"),), NEW_FEED)
OPERATOR: Final = Folder("operator", (command("init --offline-keys own-off --keys 3 --threshold 2"),), PARTNER)
STANDING: Final = Folder("standing", (SYNC, PULL_COPY, PULL_MIRROR), OPERATOR)
WITH_NEWS: Final = Folder("with news", (PUBLISH_NEWS,), STANDING)
WITH_TWO: Final = Folder("with two versions", (SYNC, PULL_COPY, PULL_MIRROR), WITH_NEWS)
WARM: Final = Folder(
    "for caches alone",
    (
        *(command(f"verify {part}") for part in ("partner", "mirror", "state", "copy")),
        *(command("lookup copy - --json", digest(3)), command("gc")),
        *(command(f"{PUBLISH} --add later.csv"), SYNC, PULL_COPY, PULL_MIRROR),
    ),
    WITH_TWO,
)
WITH_SEVEN: Final = Folder(
    "with seven deltas",
    (
        *(
            step
            for number in range(31, 38)
            for step in (command(f"{PUBLISH} --add ripe-{number}.csv"), SYNC, PULL_COPY, PULL_MIRROR)
        ),
    ),
    STANDING,
)
WITH_EIGHTH: Final = Folder("with the eighth delta", (PUBLISH_NEWS,), WITH_SEVEN)
WITH_PICTURES: Final = Folder(
    "with pictures",
    (command("feed publish partner --list pictures --new --full pictures.csv"), PULL_NO_INDEX),
    STANDING,
    _write_pictures,
)
WITH_FOLDED_PICTURES: Final = Folder(
    "with a fold of pictures",
    (
        command("feed publish partner --list pictures --new --full pictures.csv"),
        PULL_MIRROR,
        command("feed publish partner --list pictures --add more-pictures.csv"),
        PULL_MIRROR,
        command("feed compact partner --all"),
    ),
    STANDING,
    _write_pictures,
)
WITH_FLOOD: Final = Folder("with a flood", (command(f"{PUBLISH} --add flood.csv"),), STANDING)
WITH_HOLD: Final = Folder("with a hold", (SYNC,), WITH_FLOOD)
WITH_SUPPRESSION: Final = Folder(
    "with a suppression", (command(f"suppress {digest(3)} --reason R"), PULL_COPY), STANDING
)
WITH_PIN: Final = Folder("with a pin", (command("rollback iwf.images 1 --reason R"), PULL_COPY), WITH_TWO)
WITH_MATCHER: Final = Folder("with a matcher", (command("matchers add web --token-file web.token"),), STANDING)
WITH_SILENT_INSTANCE: Final = Folder("with a silent instance", (), WITH_MATCHER, _note_silent_instance)
WITH_OLD_FILES: Final = Folder(
    "with old files", (), Folder("collected", (command("gc"),), WITH_SEVEN), _age_unnamed_files
)
WITH_KNOWN_GOOD: Final = Folder("with known-good rows", (command(f"{PUBLISH} --add good.csv"), SYNC), STANDING)
AHEAD: Final = Folder("signed in the future", (replace(SYNC, hours_ahead=9),), WITH_NEWS)
PARTNER_AHEAD: Final = Folder(
    "a partner in the future", (replace(command("feed sign partner"), hours_ahead=9),), STANDING
)
PULLED_AHEAD: Final = Folder("pulled in the future", (replace(PULL_MIRROR, hours_ahead=9),), WITH_NEWS)
ALTERED: Final = Folder("with altered segments", (), STANDING, _alter_segments)
WITH_DROPPED: Final = Folder("with a stated list", (SYNC_DROPPED, PULL_COPY), OPERATOR)
WITH_DROPPED_NEWS: Final = Folder("with dropped news", (), WITH_DROPPED, _drop_news)
LOST: Final = Folder("with lost files", (), STANDING, _lose_published_files)
LOST_ORIGIN: Final = Folder("with a lost origin", (), WITH_NEWS, _lose_origin)
CUT_SHORT: Final = Folder("with segments cut short", (), WITH_NEWS, _cut_segments)
RETIRED_FEED: Final = Folder(
    "with a retired list", (command("feed retire partner --list images --reason R"),), STANDING
)
REBUILT: Final = Folder(
    "with a rebuilt partner",
    (*NEW_FEED.steps, command(f"{PUBLISH} --full news.csv")),
    STANDING,
    _move_partner_away,
)
PARTNERS_LIST_KEY: Final = Folder("with a list's key", (), STANDING, _make_list_key("partner.keys/list-images-1.pem"))
OWN_LIST_KEY: Final = Folder("with an own list's key", (), STANDING, _make_list_key("state/keys/list-iwf.images-1.pem"))
