"""A matcher on a pulled copy: what it answers, what it refuses to open, and what it never does."""

import hashlib
import json
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from command_line import syncd
from straight import pulled, world
from syncd.errors import (
    AlgorithmNotHeld,
    EquivocationError,
    ManifestError,
    MismatchError,
    RefusedError,
    RollbackError,
    SegmentError,
    StoreError,
    SyncdError,
    TrustError,
    UsageError,
)
from syncd.format.canonical import canonical
from syncd.matcher import Hit, Matcher
from syncd.model import ListName
from world import IMAGES, World, row, rows

__all__ = ["pulled", "world"]  # fixtures

OTHER = ListName("videos")


def opened(world: World, **options: Any) -> Matcher:
    return Matcher.open(world.mirror, clock=world.clock, **options)


def digest(number: int, algorithm: str = "sha256") -> bytes:
    return bytes.fromhex(row(number, algorithm=algorithm)[1])


def test_a_hit_names_list_version_entry_and_label(world: World) -> None:
    """Bytes, lower-case and upper-case hex find the same entry; what is on no list finds nothing."""
    with opened(world) as matcher:
        hit = [Hit(IMAGES, 1, "e4", "B")]
        assert matcher.lookup("sha256", digest(4)) == hit
        assert matcher.lookup("sha256", digest(4).hex()) == hit
        assert matcher.lookup("sha256", digest(4).hex().upper()) == hit
        assert matcher.lookup("sha256", digest(99)) == []
        assert matcher.algorithms == ("sha256",)


def test_every_entry_of_every_list_is_a_hit(world: World) -> None:
    """Entries that share a digest are all named, over all lists; a removal takes only its own away."""
    again = ("sha256", digest(4).hex(), "another", "C")
    world.publish(add=[again])
    world.publish(full=[row(4, "X")], name=OTHER)
    world.follow()
    matcher = opened(world)
    assert matcher.lookup("sha256", digest(4)) == [
        Hit(IMAGES, 2, "another", "C"),
        Hit(IMAGES, 2, "e4", "B"),
        Hit(OTHER, 1, "e4", "X"),
    ]
    world.publish(remove=[row(4)])
    world.follow()
    assert matcher.reload()
    assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 3, "another", "C"), Hit(OTHER, 1, "e4", "X")]
    assert matcher.lookup_many("sha256", [digest(4), digest(5), digest(99)]).tolist() == [True, True, False]


def test_batches_come_in_three_shapes(world: World) -> None:
    """A list of bytes, an array of bytes and a table of uint8 give the same answer; an empty batch an empty one."""
    values = [digest(number) for number in (3, 99, 8, 3)]
    matcher = opened(world)
    flat = np.frombuffer(b"".join(values), "S32")
    for batch in (values, iter(values), flat, flat.view(np.uint8).reshape(-1, 32), np.repeat(flat, 2)[::2]):
        assert matcher.lookup_many("sha256", batch).tolist() == [True, False, True, True]
    assert matcher.lookup_many("sha256", []).tolist() == []


def test_an_algorithm_that_no_list_holds_raises_an_error(world: World) -> None:
    """A digest that could not be checked would otherwise read as one that is not listed; in batches too."""
    world.publish(full=[row(4, algorithm="md5")], name=OTHER)
    world.follow()
    matcher = opened(world)
    asking: list[Callable[[], object]] = [
        lambda: matcher.lookup("sha1", digest(4, "sha1")),
        lambda: matcher.lookup("sha1", digest(4, "sha1").hex()),
        lambda: matcher.lookup_many("sha1", [digest(4, "sha1")]),
        lambda: matcher.lookup_many("sha1", []),
    ]
    for ask in asking:
        with pytest.raises(AlgorithmNotHeld) as caught:
            ask()
        assert caught.value.message == "no list that was searched holds sha1 digests: nothing was checked"
        assert caught.value.hint == "look up one of the algorithms that this copy holds: md5, sha256"
        assert (caught.value.algorithm, caught.value.held) == ("sha1", ("md5", "sha256"))
    assert matcher.lookup("md5", digest(99, "md5")) == []


def test_an_algorithm_that_no_named_list_holds_raises_an_error(world: World) -> None:
    """Other lists of the copy hold it, but were not searched."""
    world.publish(full=[row(4, algorithm="md5")], name=OTHER)
    world.follow()
    matcher = opened(world)
    assert matcher.lookup("md5", digest(99, "md5"), lists=["images", "videos"]) == []
    with pytest.raises(AlgorithmNotHeld):
        matcher.lookup("md5", digest(4, "md5"), lists=["images"])
    with pytest.raises(AlgorithmNotHeld):
        matcher.lookup_many("md5", [digest(4, "md5")], lists=["images"])


MISUSES: dict[str, tuple[Callable[[Matcher], object], str]] = {
    "unknown algorithm": (lambda matcher: matcher.lookup("sha3", digest(1)), "unknown algorithm"),
    "arguments exchanged": (lambda matcher: matcher.lookup(digest(1).hex(), "sha256"), "unknown algorithm"),
    "another width": (
        lambda matcher: matcher.lookup("sha256", bytes(16)),
        "a sha256 digest has 32 bytes, not 16 bytes",
    ),
    "not hex": (
        lambda matcher: matcher.lookup("sha256", "z" * 32),
        "not a sha256 digest: 32 characters after the colon",
    ),
    "neither": (lambda matcher: matcher.lookup("sha256", None), "a digest must be bytes or text, not NoneType"),  # type: ignore[arg-type]
    "a list as algorithm": (lambda matcher: matcher.lookup(["md5"], bytes(16)), "unknown algorithm"),  # type: ignore[arg-type]
    "a list as algorithm of a batch": (lambda matcher: matcher.lookup_many(["md5"], []), "unknown algorithm"),  # type: ignore[arg-type]
    "no batch": (
        lambda matcher: matcher.lookup_many("sha256", None),
        "digests must be an array or an iterable, not NoneType",
    ),
    "unknown in a batch": (lambda matcher: matcher.lookup_many("sha3", []), "unknown algorithm"),
    "text in a batch": (lambda matcher: matcher.lookup_many("sha256", ["a" * 32]), "digests must be bytes, not str"),
    "one digest as a batch": (
        lambda matcher: matcher.lookup_many("sha256", bytes(32)),
        "digests must be bytes, not int",
    ),
    "widths mixed": (
        lambda matcher: matcher.lookup_many("sha256", [bytes(32), bytes(20)]),
        "a sha256 digest has 32 bytes, not 20 bytes",
    ),
    "array of another width": (
        lambda matcher: matcher.lookup_many("sha256", np.zeros(3, "S20")),
        "a sha256 digest has 32 bytes, not an array of |S20 and shape (3,)",
    ),
    "array of numbers": (
        lambda matcher: matcher.lookup_many("sha256", np.zeros(16)),
        "a sha256 digest has 32 bytes, not an array of float64 and shape (16,)",
    ),
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_misuse_is_named_and_no_digest_repeated(world: World, misuse: str) -> None:
    """A wrong call raises a `UsageError` that says what is wrong, says what to do, and shows no digest."""
    call, message = MISUSES[misuse]
    with pytest.raises(UsageError) as caught:
        call(opened(world))
    assert caught.value.message == message
    assert caught.value.hint
    assert digest(1).hex() not in caught.value.message + caught.value.hint


def test_a_batch_is_told_what_a_batch_takes(world: World) -> None:
    """Not hexadecimal text, which single look-ups take and batches do not."""
    for batch in (["a" * 32], np.zeros((3, 15), np.uint8), 5):
        with pytest.raises(UsageError) as caught:
            opened(world).lookup_many("sha256", batch)
        assert caught.value.hint == "give an iterable of bytes, or an array of S32, or of uint8 and shape (n, 32)"


def test_a_mask_hides_no_digest(world: World) -> None:
    """A masked array is asked for all that it holds: no answer is made up for what the mask covers."""
    held = np.frombuffer(b"".join(sorted(digest(number) for number in (3, 8, 4))), "S32")
    assert opened(world).lookup_many("sha256", np.ma.array(held, mask=True)).tolist() == [True] * 3


def test_a_folder_without_a_copy_is_named(tmp_path: Path) -> None:
    """Opening a folder that nothing was pulled into says how to pull."""
    with pytest.raises(UsageError, match="is not a pulled copy"):
        Matcher.open(tmp_path)


def test_expired_metadata_still_answers_and_says_so(world: World) -> None:
    """Three days on, the timestamp has expired: the age is told, the role is named, and every hash still matches."""
    with opened(world) as matcher:
        assert matcher.status()[0].expired == ()
        world.clock.forward(days=3, seconds=5)
        (status,) = matcher.status()
        assert (status.list, status.version, status.rows, status.serial) == (IMAGES, 1, 9, 1)
        assert (status.age, status.expired, status.error) == (timedelta(days=3, seconds=5), ("timestamp",), None)
        assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]
    assert opened(world).lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]


def test_a_list_that_lags_grows_old_while_the_others_are_fresh(world: World) -> None:
    """The age of a list is that of its own last pull: newer signed metadata beside it does not make it younger."""
    world.publish(full=rows(20, 24), name=OTHER)
    world.follow()
    matcher = opened(world)
    before = set(world.partner.root.rglob("*.arrow"))
    world.clock.forward(hours=40)
    world.publish(add=[row(9)])
    (missing,) = set(world.partner.root.rglob("*.arrow")) - before
    missing.unlink()
    world.clock.forward(hours=10)
    assert [error.exit_code for error in world.follow().errors] == [5]
    assert matcher.reload()
    for lagging, fresh in (matcher.status(), opened(world).status()):
        assert (lagging.version, lagging.serial, lagging.age) == (1, 1, timedelta(hours=50))
        assert lagging.expired == ("timestamp",)
        assert (fresh.version, fresh.serial, fresh.age, fresh.expired) == (1, 1, timedelta(hours=10), ())


def test_the_given_root_is_what_counts(world: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A copy whose own root.json was replaced opens with the root given out of band; one of a stranger does not."""
    stranger = World(tmp_path_factory.mktemp("stranger"))
    assert opened(world, root=world.root).lookup("sha256", digest(1))
    with pytest.raises(TrustError, match="not signed by enough"):
        opened(world, root=stranger.root)
    (world.mirror / "root.json").unlink()
    with pytest.raises(UsageError, match=r"has no root\.json"):
        opened(world)
    shutil.copy(stranger.root, world.mirror / "root.json")
    with pytest.raises(TrustError, match="not signed by enough"):
        opened(world)
    assert opened(world, root=world.root).lookup("sha256", digest(1))


def only(world: World, pattern: str) -> Path:
    return sorted(world.mirror.glob(pattern))[-1]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x" * 8)


def current(world: World, **changes: object) -> None:
    """Changes what a copy says of itself, checksum and all: as whoever may write the file can."""
    path = world.mirror / "current.json"
    members = json.loads(path.read_text()) | changes
    del members["checksum"]
    path.write_bytes(canonical({**members, "checksum": hashlib.sha256(canonical(members)).hexdigest()}))


TAMPERINGS: dict[str, tuple[Callable[[World], object], type[SyncdError]]] = {
    "timestamp": (lambda world: flip(only(world, "metadata/*.timestamp.json")), TrustError),
    "snapshot": (lambda world: flip(only(world, "metadata/*.snapshot.json")), MismatchError),
    "targets": (lambda world: flip(only(world, "metadata/*.targets.json")), MismatchError),
    "list role": (lambda world: flip(only(world, "metadata/*.lists.json")), MismatchError),
    "a role gone": (lambda world: only(world, "metadata/*.lists.json").unlink(), StoreError),
    "manifest": (lambda world: flip(only(world, "v1/images/*.manifest.json")), MismatchError),
    "manifest gone": (lambda world: only(world, "v1/images/*.manifest.json").unlink(), StoreError),
    "segment cut": (lambda world: os.truncate(only(world, "v1/images/segments/*"), 500), SegmentError),
    "segment longer": (lambda world: lengthen(only(world, "v1/images/segments/*")), SegmentError),
    "segment gone": (lambda world: only(world, "v1/images/segments/*").unlink(), StoreError),
    "current.json cut": (lambda world: os.truncate(world.mirror / "current.json", 20), StoreError),
    "current.json empty": (lambda world: os.truncate(world.mirror / "current.json", 0), StoreError),
    "current.json of another format": (lambda world: current(world, format=2), StoreError),
    "current.json of another timestamp": (
        lambda world: current(world, metadata={"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1, "lists": 1}),
        SyncdError,
    ),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_what_was_altered_is_not_opened(world: World, tampering: str) -> None:
    """Altered, cut or missing metadata, manifests, segments and current.json are refused, with advice."""
    alter, kind = TAMPERINGS[tampering]
    alter(world)
    with pytest.raises(kind) as caught:
        opened(world)
    assert caught.value.hint or isinstance(caught.value, SegmentError)


def test_an_older_manifest_in_current_json_is_refused(world: World) -> None:
    """current.json is unsigned: naming a manifest other than the signed one does not bring it back."""
    older = json.loads((world.mirror / "current.json").read_text())["lists"]["images"]["manifest"]
    world.publish(remove=[row(4)])
    world.follow()
    lists = json.loads((world.mirror / "current.json").read_text())["lists"]
    lists["images"]["manifest"] = older
    current(world, lists=lists)
    with pytest.raises((MismatchError, RollbackError, ManifestError)):
        opened(world)


@pytest.mark.parametrize(
    "place", [".", "current.json", "metadata", "v1", "v1/images", "v1/images/segments", "v1/images/segments/*.arrow"]
)
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_a_copy_that_others_may_write_is_refused(world: World, place: str, mode: int) -> None:
    """Whoever may write a folder or a segment decides what matches: group and others must not."""
    path = world.mirror if place == "." else only(world, place)
    path.chmod(path.stat().st_mode | mode)
    with pytest.raises(RefusedError, match=f"users other than this one and root may write {path}") as caught:
        opened(world)
    assert caught.value.hint.startswith(f"run `chmod go-w {path}`")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_copy_of_another_user_is_refused(world: World) -> None:
    """A segment folder that another user owns is as good as writable."""
    os.chown(only(world, "v1/images/segments"), 12345, -1)
    with pytest.raises(RefusedError, match="users other than this one and root may write"):
        opened(world)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_copy_of_the_hosts_agent_is_trusted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user syncd-pull pulls for every service of a host; any other user does not."""
    names = {12345: "syncd-pull", 12346: "somebody"}
    monkeypatch.setattr("pwd.getpwuid", lambda user: SimpleNamespace(pw_name=names[user]))
    for path in (world.mirror, *world.mirror.rglob("*")):
        os.chown(path, 12345, -1)
    assert opened(world).lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]
    os.chown(world.mirror, 12346, -1)
    with pytest.raises(RefusedError, match="users other than this one and root may write"):
        opened(world)


def test_a_fault_keeps_the_generation_before(world: World) -> None:
    """A new generation that cannot be proved is refused on reload; the old one answers on, and status says why."""
    matcher = opened(world)
    world.publish(remove=[row(4)])
    world.follow()
    manifest = only(world, "v1/images/*.manifest.json")
    for path in world.mirror.glob("v1/images/*.manifest.json"):
        flip(path)
    for _ in range(2):
        with pytest.raises(MismatchError) as caught:
            matcher.reload()
        assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]
        assert matcher.last_error is caught.value
        assert matcher.status()[0].error is caught.value
    for path in manifest.parent.glob("*.manifest.json"):
        flip(path)
    assert matcher.reload()
    assert (matcher.last_error, matcher.lookup("sha256", digest(4))) == (None, [])
    assert not matcher.reload()


def test_a_copy_that_vanished_goes_on_answering(world: World) -> None:
    """From good to empty, never: with every file gone the mapped generation still answers."""
    matcher = opened(world)
    shutil.rmtree(world.mirror)
    with pytest.raises(UsageError, match="is not a pulled copy"):
        matcher.reload()
    assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]
    assert matcher.lookup_many("sha256", [digest(4)]).tolist() == [True]


def test_an_older_copy_does_not_replace_what_is_loaded(world: World, tmp_path: Path) -> None:
    """A matcher that runs refuses the version before, signed as it is, and goes on answering; a pull mends it."""
    old = tmp_path / "old"
    shutil.copytree(world.mirror, old)
    world.publish(add=[row(20)])
    world.follow()
    matcher = opened(world)
    shutil.rmtree(world.mirror)
    old.rename(world.mirror)
    with pytest.raises(RollbackError, match="the copy went back from version 2 of images to 1"):
        matcher.reload()
    assert matcher.lookup("sha256", digest(20)) != []
    world.follow()
    assert matcher.reload()
    assert matcher.versions == {IMAGES: 2}


def test_another_version_of_the_same_number_does_not_replace_what_is_loaded(world: World, tmp_path: Path) -> None:
    """Somebody signed twice: a matcher that runs keeps what it has."""
    shutil.copytree(world.base, tmp_path / "fork")
    fork = World(tmp_path / "fork", world.clock)
    for one, number in ((world, 20), (fork, 21)):
        one.publish(add=[row(number)])
        one.follow()
    matcher = opened(world)
    shutil.rmtree(world.mirror)
    fork.mirror.rename(world.mirror)
    with pytest.raises(EquivocationError, match="version 2 of images in the copy differs"):
        matcher.reload()
    assert matcher.lookup("sha256", digest(20)) != []


def test_a_reload_maps_only_what_is_new(world: World) -> None:
    """Generations share the segments that they have in common: a change costs the size of the change."""
    matcher = opened(world)
    before = matcher.generation.snapshots[IMAGES].stacks
    world.publish(add=[row(20)])
    world.follow()
    assert matcher.reload()
    after = matcher.generation.snapshots[IMAGES].stacks
    (algorithm,) = after
    assert after[algorithm].base is before[algorithm].base
    assert len(after[algorithm].segments) == 2


def test_no_answer_mixes_versions(world: World) -> None:
    """While fifty pulls are installed and loaded, every answer is from one version, and never an empty one."""
    world.publish(full=[row(0, "v"), row(1, "1"), row(2, "1")])
    world.follow()
    matcher = opened(world)
    labels: dict[int, set[str]] = {}
    faults: list[str] = []
    answered, stop = threading.Event(), threading.Event()

    def hammer() -> None:
        while not stop.wait(0.0002):  # so that the pulls get their turns as well
            for hits in (matcher.lookup("sha256", digest(1)), matcher.lookup("sha256", digest(2))):
                faults.extend([] if len(hits) == 1 else ["not one hit"])
                labels.setdefault(hits[0].version, set()).add(hits[0].label)
            if not matcher.lookup_many("sha256", [digest(0), digest(1)]).all():
                faults.append("a batch without its hits")
            answered.set()

    thread = threading.Thread(target=hammer)
    thread.start()
    try:
        for number in range(2, 52):
            world.publish(add=[row(1, str(number)), row(2, str(number))])
            world.follow()
            assert matcher.reload()
            for _ in range(2):  # the first may have been asked before the reload
                answered.clear()
                assert answered.wait(30)
    finally:
        stop.set()
        thread.join()
    assert faults == []
    assert {version: found for version, found in labels.items() if len(found) != 1} == {}
    assert {label for found in labels.values() for label in found} >= {str(number) for number in range(2, 51)}
    assert matcher.lookup("sha256", digest(1))[0].label == "51"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_matcher_opened_before_a_fork_answers_in_the_child(world: World) -> None:
    """A child shares the map, answers the same, and reloads for itself, whatever its parent's threads held."""
    matcher = opened(world)
    with matcher._reload_lock:  # as if a thread of the parent were in the middle of a reload
        child = os.fork()
        if child == 0:
            os._exit(_in_child(matcher, world))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]


def _in_child(matcher: Matcher, world: World) -> int:
    try:
        good = matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]
        world.publish(remove=[row(4)])
        world.follow()
        return 0 if good and matcher.reload() and matcher.lookup("sha256", digest(4)) == [] else 1
    except BaseException:  # noqa: BLE001 - a child of a test must end, not go on as pytest
        return 2


def test_a_digest_that_numpy_took_from_an_array_is_found(world: World) -> None:
    """numpy strips trailing NULs off single values: they are put back; text of another width stays misuse."""
    digest = "ab" * 31 + "00"
    world.publish(full=[("sha256", digest, "e", "A")])
    world.sync()
    world.pull()
    array = np.array([bytes.fromhex(digest)], dtype="S32")
    with world.matcher() as matcher:
        assert len(matcher.lookup("sha256", array[0])) == 1
        assert matcher.lookup_many("sha256", list(array)).tolist() == [True]
        with pytest.raises(UsageError):
            matcher.lookup("sha256", bytes.fromhex(digest)[:31])


def test_a_copy_of_a_feed_without_lists_opens(world: World) -> None:
    """A feed without lists opens without an error, but a look-up in it is refused: nothing can be checked."""
    world.pull()
    with pytest.raises(AlgorithmNotHeld) as caught:
        world.matcher().lookup("md5", bytes(16))
    assert caught.value.hint == "pull a list that is not empty"


@pytest.mark.parametrize("interval", [0.0, -1.0, float("inf"), float("nan"), "10s", None])
def test_an_interval_that_cannot_be_waited_is_refused(world: World, interval: Any) -> None:
    """A watcher that would spin, or die at its first wait, is not started."""
    world.pull()
    with pytest.raises(UsageError, match="an interval of"):
        world.matcher().watch(interval)


def test_a_pipe_in_a_files_place_blocks_nobody(world: World) -> None:
    """A watcher would wait for a writer for ever, and `close` for the watcher."""
    matcher = opened(world)
    current = world.mirror / "current.json"
    current.unlink()
    os.mkfifo(current)
    with pytest.raises(StoreError, match=r"cannot read .*current\.json: not a regular file"):
        matcher.reload()
    assert matcher.lookup("sha256", digest(4)) == [Hit(IMAGES, 1, "e4", "B")]


def test_a_pipe_in_the_place_of_a_root_is_refused(world: World, tmp_path: Path) -> None:
    """At once, by a matcher, a pull and a sync: opening it would wait for a writer."""
    world.pull()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SyncdError, match="not a regular file"):
        Matcher.open(world.copy, root=pipe)
    ran = syncd("pull", world.url, "--root", pipe, "--dir", tmp_path / "new")
    assert (ran.code, "not a regular file" in ran.err) == (2, True)
    assert "not a regular file" in str(world.sync(root=pipe).error)


@pytest.mark.parametrize("argument", ["folder", "root"])
@pytest.mark.parametrize("given", [None, 7, b"/srv/copy"])
def test_an_argument_that_is_not_a_path_is_named(world: World, argument: str, given: Any) -> None:
    """As when a variable of the environment is not set; without a root, the copy's own is meant."""
    if (argument, given) == ("root", None):
        return
    world.pull()
    arguments = {"folder": world.mirror, argument: given}
    with pytest.raises(UsageError, match=f"{argument} must be a path, not {type(given).__name__}"):
        Matcher.open(**arguments)


def test_a_current_json_without_a_timestamp_is_refused(world: World) -> None:
    """Its checksum is right, and nothing in it says which signatures vouch for the list."""
    world.pull()
    path = world.mirror / "current.json"
    current = json.loads(path.read_bytes())
    held = {name: {**one, "metadata": {"root": 1}} for name, one in current["lists"].items()}
    members = {**current, "lists": held}
    del members["checksum"]
    path.write_bytes(canonical({**members, "checksum": hashlib.sha256(canonical(members)).hexdigest()}))
    with pytest.raises(TrustError, match="the copy states no version of the timestamp metadata") as caught:
        opened(world)
    assert caught.value.hint == "the copy is damaged or was altered: pull it again"


def test_what_cannot_be_watched_is_told(world: World) -> None:
    """An address where a `Feed` belongs, and a jitter with which the wait would be none, or go backwards."""
    matcher = opened(world)
    with pytest.raises(UsageError, match="feed must be a Feed, not str"):
        matcher.watch(feed="https://example.org/feed/")  # type: ignore[arg-type]  # as callers without types may
    for jitter in (-0.1, 5.0, float("nan")):
        with pytest.raises(UsageError, match="a jitter of"):
            matcher.watch(jitter=jitter)


def test_a_damaged_current_json_says_how_to_mend_it(world: World) -> None:
    """Also where it can still be read, as with another list's name in it; the next pull does not seal the damage."""
    path = world.mirror / "current.json"
    path.write_text(path.read_text().replace('"images"', '"imagex"'))
    with pytest.raises(StoreError, match="is damaged: it does not match its checksum") as caught:
        opened(world)
    assert caught.value.hint.startswith("remove only that file and pull again")
    with pytest.raises(StoreError, match="is damaged"):
        world.follow()
    path.unlink()
    world.follow()
    assert opened(world).versions == {IMAGES: 1}


def test_a_segment_damaged_or_lost_after_the_pull_comes_back_with_a_pull(world: World) -> None:
    """The error blames this disk, not the publisher; its cure works."""
    path = only(world, "v1/images/segments/*.arrow")
    content = path.read_bytes()
    for damaged in (b"", content[:-8], b"x" * len(content)):
        path.write_bytes(damaged)
        with pytest.raises(SegmentError) as caught:
            opened(world)
        assert caught.value.hint.startswith("it was damaged or altered on this disk: in a copy, run the same")
    path.unlink()
    with pytest.raises(StoreError, match=r"segment .* of images is missing from") as missing:
        opened(world)
    assert missing.value.hint == "pull again: only the missing files are fetched"
    world.follow()
    assert opened(world).versions == {IMAGES: 1}


def test_a_manifest_that_is_gone_comes_back_with_a_pull(world: World) -> None:
    """As the error says."""
    only(world, "v1/images/*.manifest.json").unlink()
    with pytest.raises(StoreError, match="the manifest of images is missing") as caught:
        opened(world)
    assert caught.value.hint == "pull or sync again, or restore it from a backup or a mirror"
    world.follow()
    assert opened(world).versions == {IMAGES: 1}


def test_a_matcher_is_not_pickled(world: World) -> None:
    """Who hands one to a new process is told what to do instead."""
    with pytest.raises(TypeError, match="open one in each process, or fork after opening it"):
        pickle.dumps(opened(world))


def test_a_file_that_is_no_root_is_named(world: World, tmp_path: Path) -> None:
    """Nobody asked an address for it, and the disk is not at fault."""
    page = tmp_path / "root.json"
    page.write_text("<html>")
    with pytest.raises(TrustError, match="the pinned root is not TUF metadata") as caught:
        opened(world, root=page)
    assert caught.value.hint.startswith("replace it with the root.json from the publisher")
    with pytest.raises(UsageError, match=r"the trusted root: cannot read .*absent: No such file") as absent:
        opened(world, root=tmp_path / "absent")
    assert absent.value.hint == "check the path, and that this user may read the file"
