"""The files of a mirror: the upstream's bytes, a whole state or the one before."""

import contextlib
import itertools
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from disks import mounted
from syncd.errors import (
    EquivocationError,
    ExpiredError,
    RefusedError,
    RollbackError,
    SourceError,
    StaleMirrorError,
    StoreError,
    SyncdError,
    TrustError,
    UsageError,
)
from syncd.feed.folder import FeedFolder
from syncd.feed.proof_record import ProofRecord
from syncd.feed.reproof import ProofPass
from syncd.fetch import Deadline, Endpoint
from syncd.format.manifest import ManifestRef
from syncd.locks import lock
from syncd.matcher.pull import PullResult, pull
from syncd.matcher.reproof import record_of
from syncd.mirror.replica import Replica, Scope
from syncd.model import ListName
from world import HEAD, IMAGES, World, row, rows

VIDEOS = ListName("videos")


class Mirrored:
    """A mirror of a feed on this machine: of the operator's by default."""

    def __init__(
        self, world: World, name: str = "edge", upstream: Path | None = None, root: Path | None = None
    ) -> None:
        self.world = world
        self.upstream = upstream or world.state.feed.root
        self.root = (root or world.operator_root).read_bytes()
        self.folder = world.base / name
        self.open()

    def open(self, scope: Scope = None) -> None:
        """Begin again with what is on disk, as another process does."""
        self.replica = Replica(FeedFolder(self.folder), self.root)
        self.replica.prepare()
        self.replica.load(scope)

    def update(self, scope: Scope = None) -> PullResult:
        """Bring it up to date."""
        endpoint = Endpoint(self.upstream.as_uri())
        return self.replica.update(endpoint, scope, self.world.clock(), Deadline(30))

    def fault(self) -> SyncdError:
        """What prevents an update."""
        try:
            (error,) = self.update().errors
        except SyncdError as raised:
            return raised
        return error

    def timestamp(self) -> bytes:
        """What readers ask for first."""
        return (self.folder / "metadata/timestamp.json").read_bytes()

    def read(self, name: str = "copy") -> dict[ListName, int]:
        """Pull from the mirror as a matcher's host does; the versions it has then."""
        copy = self.world.base / name
        pulled = pull(Endpoint(self.folder.as_uri()), self.root, copy, now=self.world.clock(), deadline=30)
        assert pulled.errors == []
        return pulled.versions


@pytest.fixture
def published(world: World) -> World:
    """An operator with one list, version 1."""
    world.publish(full=rows(0, 30))
    world.sync()
    return world


def files(folder: Path) -> dict[str, bytes]:
    """The files of a feed that readers may ask for."""
    found = {*folder.glob("metadata/*.json"), *folder.glob("v1/**/*.*"), folder / "root.json"}
    return {str(path.relative_to(folder)): path.read_bytes() for path in found if path.is_file()}


def of_partner(world: World, *names: ListName) -> Mirrored:
    """A mirror of the partner's feed, which has several lists."""
    for name in names:
        world.publish(full=rows(0, 30), name=name)
    return Mirrored(world, upstream=world.partner.root, root=world.root)


def test_a_mirror_has_the_bytes_of_its_upstream(published: World) -> None:
    """Every file of the newest state, evidence included, and nothing that the upstream does not have."""
    edge = Mirrored(published)
    edge.update()
    published.publish(add=[row(99)])
    published.sync()
    edge.update()
    theirs, ours = files(published.state.feed.root), files(edge.folder)
    assert ours.items() <= theirs.items()
    superseded = {"metadata/1.snapshot.json", "metadata/1.lists.json"}
    assert theirs.keys() - ours.keys() <= superseded
    assert any("/evidence/" in path for path in ours)


def test_a_reader_some_versions_behind_finds_the_deltas(published: World) -> None:
    """A mirror that saw none of the versions in between has all that leads to the newest one."""
    edge = Mirrored(published)
    edge.update()
    assert edge.read() == {HEAD: 1}
    for number in range(101, 110):
        published.publish(add=[row(number)])
        published.sync()
    edge.update()
    manifest = edge.replica.feed.manifest(HEAD, edge.replica.served.lists[HEAD].sha256)
    assert {ref for step in manifest.recent for ref in step.segments} - set(manifest.stack), (
        "they were folded meanwhile"
    )
    assert edge.replica.feed.missing(HEAD, manifest.named_segments()) == []
    assert edge.read() == {HEAD: manifest.version}
    assert published.hits(109)


def test_a_mirror_of_a_mirror_is_the_same(published: World) -> None:
    """Byte for byte."""
    edge = Mirrored(published)
    edge.update()
    far = Mirrored(published, "far", edge.folder)
    far.update()
    assert files(far.folder) == files(edge.folder)


def test_all_lists_or_none(world: World) -> None:
    """While a file of one list cannot be had, the state before is served, and says so."""
    edge = of_partner(world, IMAGES, VIDEOS)
    edge.update()
    before = edge.timestamp()
    world.publish(add=[row(99)])
    world.publish(add=[row(99)], name=VIDEOS)
    (lost,) = [
        one for one in world.partner.root.glob("v1/videos/segments/*") if one.stat().st_mtime_ns == newest(world)
    ]
    moved = lost.rename(world.base / "moved")
    result = edge.update()
    assert [(one.list, one.before, one.after) for one in result.lists] == [(IMAGES, 1, 1), (VIDEOS, 1, 1)]
    (error,) = result.errors
    assert isinstance(error, SourceError)
    assert error.serving == "images version 1, videos version 1: a mirror goes on only with all its lists"
    assert edge.timestamp() == before
    assert edge.read() == {IMAGES: 1, VIDEOS: 1}
    moved.rename(lost)
    assert edge.update().versions == {IMAGES: 2, VIDEOS: 2}
    assert edge.read() == {IMAGES: 2, VIDEOS: 2}


def newest(world: World) -> int:
    return max(path.stat().st_mtime_ns for path in world.partner.root.glob("v1/videos/segments/*"))


def damaged(paths: Iterable[Path]) -> None:
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["v1/*/segments/*", "v1/*/*.manifest.json", "metadata/*snapshot.json"])
def test_garbage_is_never_served(published: World, pattern: str) -> None:
    """An upstream with damaged files is told, and readers find the version before."""
    edge = Mirrored(published)
    edge.update()
    before, here = edge.timestamp(), files(published.state.feed.root)
    published.publish(add=[row(99)])
    published.sync()
    new = [path for path in published.state.feed.root.glob(pattern) if str(path.relative_to(edge.upstream)) not in here]
    assert new
    damaged(new)
    error = edge.fault()
    assert error.exit_code in {4, 5}
    assert error.serving.startswith(f"{HEAD} version 1")
    assert edge.timestamp() == before
    assert edge.read() == {HEAD: 1}


def test_an_upstream_that_goes_back_is_refused(published: World) -> None:
    """By what is served, too, if the metadata client's own memory was lost."""
    old = published.base / "old"
    edge = Mirrored(published)
    edge.update()
    shutil.copytree(published.state.feed.root, old)
    published.publish(add=[row(99)])
    published.sync()
    edge.update()
    before = edge.timestamp()
    edge.upstream = old
    assert isinstance(edge.fault(), StaleMirrorError)
    shutil.rmtree(edge.folder / ".work/trust")
    edge.open()
    error = edge.fault()
    assert isinstance(error, StaleMirrorError)
    assert error.serving == f"{HEAD} version 2"
    assert edge.timestamp() == before


def test_a_version_that_was_signed_twice_is_refused(world: World) -> None:
    """Two contents of one version: the keys may be stolen."""
    edge = of_partner(world, IMAGES)
    fork = world.base / "fork"
    shutil.copytree(world.partner.root, fork)
    world.publish(add=[row(98)])
    edge.update()
    shutil.rmtree(world.partner.root)
    shutil.copytree(fork, world.partner.root)
    world.publish(add=[row(99)])
    assert isinstance(edge.fault(), EquivocationError)
    assert edge.read() == {IMAGES: 2}


@pytest.mark.parametrize(("version", "error"), [(2, RollbackError), (1, EquivocationError)])
def test_a_list_that_goes_back_alone_is_refused(published: World, version: int, error: type[SyncdError]) -> None:
    """Although its signed metadata are new: an older version, or the same one with other content."""
    edge = Mirrored(published)
    edge.update()
    before = edge.timestamp()
    served = edge.replica.served
    edge.replica.served = replace(served, lists={HEAD: ManifestRef(version=version, sha256="0" * 64)})
    assert isinstance(edge.fault(), error)
    assert edge.timestamp() == before


def test_another_root_is_refused(published: World) -> None:
    """At the first update by the signatures, and later by the folder."""
    other = Mirrored(published, root=published.root)
    assert isinstance(other.fault(), TrustError)
    assert not (other.folder / "metadata").exists()
    with pytest.raises(UsageError, match="was mirrored with another root"):
        Mirrored(published)


def test_an_expired_feed_is_served_on(published: World) -> None:
    """Its readers judge for themselves; the mirror says that it got nothing newer."""
    edge = Mirrored(published)
    edge.update()
    published.clock.forward(days=3)
    error = edge.fault()
    assert isinstance(error, ExpiredError)
    assert error.serving == f"{HEAD} version 1"


def test_a_mirror_begins_again_with_what_it_served(published: World) -> None:
    """Without its upstream; a half-written update does not show."""
    edge = Mirrored(published)
    edge.update()
    published.publish(add=[row(99)])
    published.sync()
    endpoint = Endpoint(edge.upstream.as_uri())
    with contextlib.suppress(SyncdError):
        edge.replica.update(endpoint, None, published.clock(), Deadline(0.0))
    for path in edge.upstream.glob("v1/*/segments/*"):  # as if killed after the segments, before the timestamp
        target = edge.folder / path.relative_to(edge.upstream)
        if not target.exists():
            shutil.copy(path, target)
    edge.open()
    assert edge.replica.served.versions == {HEAD: 1}
    assert edge.read() == {HEAD: 1}
    assert edge.update().versions == {HEAD: 2}


class _StoppedHere(BaseException):
    """The end of a process, as far as its files are concerned."""


def test_stopped_at_any_file_it_serves_one_whole_version(published: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one before until the last file, ``timestamp.json``, has its name; the next start completes the update."""
    before = Mirrored(published, "before")
    before.update()
    published.publish(add=[row(99)])
    published.sync()
    rename, served, named = Path.replace, list[int](), list[str]()
    for stop in itertools.count():
        edge_folder = published.base / "edge"
        shutil.rmtree(edge_folder, ignore_errors=True)
        shutil.copytree(before.folder, edge_folder)
        edge = Mirrored(published)
        calls = itertools.count()

        def stopping(path: Path, target: Path, stop: int = stop, calls: Iterator[int] = calls) -> Path:
            if "edge" in path.parts and next(calls) == stop:
                raise _StoppedHere
            named.append(target.name)
            return rename(path, target)

        with monkeypatch.context() as patched, contextlib.suppress(_StoppedHere):
            patched.setattr(Path, "replace", stopping)
            edge.update()
            break
        edge.open()
        shutil.rmtree(published.base / "copy", ignore_errors=True)
        served.append(edge.read()[HEAD])
        assert edge.update().versions == {HEAD: 2}
        assert edge.read() == {HEAD: 2}
    assert len(served) > 5
    assert set(served) == {1}
    assert named[-1] == "timestamp.json"


def test_a_full_disk_keeps_the_version_before(published: World) -> None:
    """And the update is made once there is room."""
    folder = published.base / "edge"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs"):
        edge = Mirrored(published)
        edge.update()
        before = edge.timestamp()
        with contextlib.suppress(OSError):
            (folder / ".work/ballast").write_bytes(bytes(2 << 20))
        published.publish(add=[row(99)])
        published.sync()
        error = edge.fault()
        assert isinstance(error, StoreError)
        assert edge.timestamp() == before
        assert edge.read() == {HEAD: 1}
        (folder / ".work/ballast").unlink()
        assert edge.update().versions == {HEAD: 2}


def test_damage_on_the_mirrors_disk_is_repaired(published: World) -> None:
    """The daily proof finds it, and the next update fetches the file again."""
    edge = Mirrored(published)
    edge.update()
    (path,) = edge.folder.glob("v1/*/segments/*")
    sound = path.read_bytes()
    damaged([path])
    records = record_of(edge.replica.feed)
    records.write(ProofRecord())
    proof = ProofPass(edge.replica.feed, records, lambda _: None, published.clock)
    (faults,) = proof.run(lambda: edge.replica.held_versions(edge.replica.feed))
    assert [fault.part for fault in faults] == ["segment"]
    edge.update()
    assert path.read_bytes() == sound
    assert records.read().faults == ()


def test_only_the_lists_in_scope_are_held(world: World) -> None:
    """A mirror with a token for one list has no file of another; a wider scope fetches the rest."""
    edge = of_partner(world, IMAGES, VIDEOS)
    edge.update(frozenset({IMAGES}))
    assert edge.replica.served.versions == {IMAGES: 1}
    assert not (edge.folder / "v1/videos").exists()
    edge.open(frozenset({IMAGES}))
    assert edge.replica.served.versions == {IMAGES: 1}
    edge.update(None)
    assert edge.read() == {IMAGES: 1, VIDEOS: 1}


def test_a_folder_with_something_else_is_left_alone(published: World) -> None:
    """A feed, a copy, or anything: a mirror would overwrite and remove files there."""
    published.pull()
    for name in ("state/feed", "copy", "partner"):
        with pytest.raises(UsageError, match="neither empty nor the folder of a mirror"):
            Mirrored(published, name)
    edge = Mirrored(published)
    edge.update()
    with pytest.raises(UsageError, match="is a published feed"):
        pull(Endpoint(edge.upstream.as_uri()), edge.root, edge.folder, now=published.clock())


def test_old_files_go_after_a_day(published: World) -> None:
    """Those that no state of the last day named; what is served stays whole."""
    edge = Mirrored(published)
    edge.update()
    here = set(files(edge.folder))
    published.publish(add=[row(99)])
    published.sync()
    published.clock.forward(hours=2)
    edge.update()
    assert here <= set(files(edge.folder))
    published.clock.forward(hours=25)
    published.sync()
    edge.update()
    gone = here - set(files(edge.folder))
    assert {path.split("/")[0] for path in gone} == {"metadata", "v1"}
    assert edge.read() == {HEAD: 2}


def test_two_mirrors_do_not_share_a_folder(published: World) -> None:
    """The second is refused while the first runs."""
    edge = Mirrored(published)
    with lock(edge.replica.feed.lock, "syncd mirror"), pytest.raises(RefusedError), lock(edge.replica.feed.lock, "x"):
        pass


def test_nothing_is_written_if_nothing_changed(published: World) -> None:
    """Polling a thousand times wears out no disk."""
    edge = Mirrored(published)
    edge.update()
    before = {path: path.stat().st_mtime_ns for path in edge.folder.glob("[mvr]*/**/*")}
    published.clock.forward(minutes=1)
    assert edge.update().changed is False
    assert {path: path.stat().st_mtime_ns for path in edge.folder.glob("[mvr]*/**/*")} == before
    assert edge.replica.served.trusted is not None
    assert edge.replica.served.trusted.expires["timestamp"] - published.clock() < timedelta(hours=48)
