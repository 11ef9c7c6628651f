"""The verifying side against a publisher in memory."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import Signer
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from feed_simulator import DAY, HOUR, NOW, MetadataPeer, new_key
from syncd import files, locks
from syncd.errors import (
    EquivocationError,
    ExpiredError,
    HttpStatusError,
    MismatchError,
    RefusedError,
    RollbackError,
    SourceError,
    StaleMirrorError,
    StoreError,
    SyncdError,
    TrustError,
)
from syncd.model import AuditHead
from syncd.trust.client import Floors, TrustedFeed, refresh, verify_offline
from syncd.trust.repository import Freshness, create
from syncd.trust.strict import check_superseded, verify_root
from syncd.trust.values import TARGETS_LIMIT, PublicationId

IMAGES = "v1/images/manifest.json"


@pytest.fixture
def peer() -> MetadataPeer:
    """A feed with one list at version 1."""
    peer = MetadataPeer()
    peer.publish("images", 1)
    return peer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "metadata"


def sync(folder: Path, peer: MetadataPeer, floors: Floors | None = None, now: datetime = NOW) -> TrustedFeed:
    return refresh(folder, peer.root, peer, floors=floors or Floors(), now=now)


def edited(peer: MetadataPeer, path: str, role: str, change: dict[str, object]) -> bytes:
    """A served file with fields of its signed part changed and signed again by its own role's keys."""
    document = json.loads(peer.files[path])
    document["signed"] |= change
    metadata: Metadata[Timestamp] = Metadata.from_bytes(json.dumps(document).encode())
    metadata.signatures.clear()
    for signer in {**peer.offline, **peer.online}[role]:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def test_refresh_returns_every_list_with_its_freshness(folder: Path, peer: MetadataPeer) -> None:
    """A refresh returns each list's manifest, freshness, and the versions and expiry of every role."""
    feed = sync(folder, peer)
    assert feed.targets[IMAGES].version == 1
    assert feed.freshness == {"images": Freshness(datetime(2026, 11, 22, 17, 9, 30, tzinfo=UTC), 1)}
    assert feed.versions == {"root": 1, "timestamp": 2, "snapshot": 2, "targets": 1, "lists": 2}
    assert feed.expires["timestamp"] == datetime(2026, 11, 24, 17, 9, 30, tzinfo=UTC)
    assert feed.floors == Floors(1, 2, 2, {"targets": 1, "lists": 2}, NOW)
    assert sorted(feed.files) == [
        "1.root.json",
        "1.targets.json",
        "2.lists.json",
        "2.snapshot.json",
        "2.timestamp.json",
    ]


def test_no_change_costs_two_small_requests(folder: Path, peer: MetadataPeer) -> None:
    """Where nothing changed a refresh asks for the next root and the timestamp, and gets under 1 kB."""
    first = sync(folder, peer)
    peer.requests.clear()
    peer.sent = 0
    assert sync(folder, peer) == first
    assert peer.requests == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert peer.sent < 1000


def test_a_change_costs_four_requests(folder: Path, peer: MetadataPeer) -> None:
    """A new version of one list is found with four requests, whatever else the feed holds."""
    sync(folder, peer)
    peer.publish("images", 2)
    peer.requests.clear()
    assert sync(folder, peer).targets[IMAGES].version == 2
    assert peer.requests == [
        "metadata/2.root.json",
        "metadata/timestamp.json",
        "metadata/3.snapshot.json",
        "metadata/3.lists.json",
    ]


def test_wrong_root_is_refused(folder: Path, peer: MetadataPeer) -> None:
    """A feed signed by keys that the pinned root does not name is refused."""
    with pytest.raises(TrustError, match=r"timestamp\.json is not signed by enough") as caught:
        refresh(folder, MetadataPeer().root, peer, floors=Floors(), now=NOW)
    assert "pinned root" in caught.value.hint


@pytest.mark.parametrize("root", [b"", b"<html>", b"[]", b'{"signed": {"_type": "root"}}'])
def test_a_pinned_root_that_is_none_is_refused(folder: Path, peer: MetadataPeer, root: bytes) -> None:
    """A root file that is not TUF root metadata is named as such, and what to do is not about an address."""
    with pytest.raises(TrustError, match="the pinned root is not TUF metadata") as caught:
        refresh(folder, root, peer, floors=Floors(), now=NOW)
    told = "replace it with the root.json from the publisher; a web page saved from its site will not do"
    assert caught.value.hint == told
    with pytest.raises(TrustError) as caught:
        verify_root(root)
    assert caught.value.hint == told


def test_pinned_timestamp_is_no_root(folder: Path, peer: MetadataPeer) -> None:
    """Metadata of another role is not taken for a root."""
    with pytest.raises(TrustError, match="the pinned root is rejected"):
        refresh(folder, peer.files["metadata/timestamp.json"], peer, floors=Floors(), now=NOW)


@pytest.mark.parametrize("role", ["root", "targets", "snapshot", "timestamp", "lists"])
def test_rotated_keys_are_followed(folder: Path, peer: MetadataPeer, role: str) -> None:
    """A client that pinned the first root follows the rotation of any role, and the old key counts no more."""
    before = sync(folder, peer)
    old = {**peer.offline, **peer.online}
    peer.rotate(role)
    peer.publish("images", 2)
    assert sync(folder, peer, before.floors).targets[IMAGES].version == 2
    path = {"timestamp": "metadata/timestamp.json", "root": "metadata/3.root.json"}.get(role)
    if path:
        peer.offline, peer.online = {r: old[r] for r in peer.offline}, {r: old[r] for r in peer.online}
        source = path if role == "timestamp" else "metadata/2.root.json"
        peer.files[path] = edited(peer, source, role, {"version": 9 if role == "timestamp" else 3})
        with pytest.raises(TrustError, match="not signed by enough"):
            sync(folder, peer)


def test_root_needs_its_threshold(folder: Path) -> None:
    """A new root with one signature of a required two is refused; with two it is followed."""
    peer = MetadataPeer(root_keys=3, root_threshold=2)
    peer.publish("images", 1)
    sync(folder, peer)
    peer.rotate("root", *peer.offline["root"][:2], new_key(), threshold=2)
    document = json.loads(peer.files["metadata/2.root.json"])
    whole, document["signatures"] = peer.files["metadata/2.root.json"], document["signatures"][:1]
    peer.files["metadata/2.root.json"] = json.dumps(document).encode()
    with pytest.raises(TrustError, match=r"2\.root\.json is not signed by enough"):
        sync(folder, peer)
    peer.files["metadata/2.root.json"] = whole
    assert sync(folder, peer).versions["root"] == 2


def test_two_bodies_must_both_sign_a_list(folder: Path, peer: MetadataPeer) -> None:
    """A list with its own role, two of two keys, is refused once it carries one signature."""
    peer.add_list_role("images", new_key(), new_key(), threshold=2)
    assert sync(folder, peer).targets[IMAGES].version == 1
    peer.publish("images", 2)
    document = json.loads(peer.files["metadata/2.list-images.json"])
    document["signatures"].pop()
    replace_listed(peer, "2.list-images.json", "list-images", json.dumps(document).encode())
    with pytest.raises(TrustError, match=r"2\.list-images\.json is not signed by enough"):
        sync(folder, peer)


def replace_listed(peer: MetadataPeer, name: str, role: str, content: bytes) -> None:
    """Serve other content for a role, with snapshot and timestamp signed for it: the work of their keys' thief."""
    version = int(name.split(".", 1)[0])
    stamp: Metadata[Timestamp] = Metadata.from_bytes(peer.files["metadata/timestamp.json"])
    path = f"metadata/{stamp.signed.snapshot_meta.version}.snapshot.json"
    snapshot: Metadata[Snapshot] = Metadata.from_bytes(peer.files[path])
    meta = snapshot.signed.meta[f"{role}.json"]
    meta.version, meta.length, meta.hashes = version, len(content), {"sha256": hashlib.sha256(content).hexdigest()}
    snapshot.sign(peer.online["snapshot"][0])
    signed = snapshot.to_bytes()
    stamp.signed.snapshot_meta.length = len(signed)
    stamp.signed.snapshot_meta.hashes = {"sha256": hashlib.sha256(signed).hexdigest()}
    stamp.sign(peer.online["timestamp"][0])
    peer.files |= {f"metadata/{name}": content, path: signed, "metadata/timestamp.json": stamp.to_bytes()}


def test_a_list_role_cannot_sign_for_another_list(folder: Path, peer: MetadataPeer) -> None:
    """What a list's own role says of another list is ignored, and so is what others say of that list."""
    peer.publish("videos", 5)
    peer.add_list_role("images", new_key())
    role: Metadata[Targets] = Metadata.from_bytes(peer.files["metadata/1.list-images.json"])
    lists: Metadata[Targets] = Metadata.from_bytes(peer.files["metadata/4.lists.json"])
    stolen = role.signed.targets[IMAGES]
    role.signed.targets["v1/videos/manifest.json"] = stolen
    role.sign(peer.online["list-images"][0])
    replace_listed(peer, "1.list-images.json", "list-images", role.to_bytes())
    lists.signed.targets[IMAGES] = lists.signed.targets["v1/videos/manifest.json"]
    lists.signed.targets["elsewhere/manifest.json"] = stolen
    lists.sign(peer.online["lists"][0])
    replace_listed(peer, "4.lists.json", "lists", lists.to_bytes())
    feed = sync(folder, peer)
    assert {name: target.version for name, target in feed.targets.items()} == {IMAGES: 1, "v1/videos/manifest.json": 5}


def test_a_removed_list_is_not_taken_from_the_shared_role(folder: Path, peer: MetadataPeer) -> None:
    """A list whose own role says nothing of it is gone: the shared role does not stand in."""
    peer.add_list_role("images", new_key())
    role: Metadata[Targets] = Metadata.from_bytes(peer.files["metadata/1.list-images.json"])
    lists: Metadata[Targets] = Metadata.from_bytes(peer.files["metadata/3.lists.json"])
    lists.signed.targets[IMAGES] = role.signed.targets.pop(IMAGES)
    role.sign(peer.online["list-images"][0])
    lists.sign(peer.online["lists"][0])
    replace_listed(peer, "1.list-images.json", "list-images", role.to_bytes())
    replace_listed(peer, "3.lists.json", "lists", lists.to_bytes())
    assert sync(folder, peer).targets == {}


def test_a_skipped_rotation_is_refused(folder: Path, peer: MetadataPeer) -> None:
    """Where root 2 is missing, root 3 is not jumped to: what it would vouch for is refused."""
    sync(folder, peer)
    peer.rotate("timestamp")
    peer.rotate("timestamp")
    del peer.files["metadata/2.root.json"]
    with pytest.raises(TrustError, match=r"timestamp\.json is not signed by enough"):
        sync(folder, peer)


def test_root_of_another_version_is_refused(folder: Path, peer: MetadataPeer) -> None:
    """A root served under the next number whose own version is another is refused as a rollback."""
    peer.files["metadata/2.root.json"] = peer.root
    with pytest.raises(RollbackError, match=r"2\.root\.json"):
        sync(folder, peer)


@pytest.mark.parametrize(
    ("role", "after", "message"),
    [
        ("timestamp", 3 * DAY, "timestamp metadata expired on 2026-11-24 17:09 UTC"),
        ("snapshot", 8 * DAY, "snapshot metadata expired on 2026-11-29 17:09 UTC"),
        ("targets", 181 * DAY, "targets metadata expired on 2027-05-21 17:09 UTC"),
        ("root", 366 * DAY, "root metadata expired on 2027-11-22 17:09 UTC"),
    ],
)
def test_expired_metadata_is_refused_by_name(
    folder: Path, peer: MetadataPeer, role: str, after: timedelta, message: str
) -> None:
    """Whichever role is past its expiry, the error names it and the time."""
    now = NOW + after
    peer.now = now
    kept = dict(peer.online)
    match role:  # everything that would expire before it is signed anew
        case "timestamp":
            pass
        case "snapshot":
            peer.files["metadata/timestamp.json"] = edited(
                peer, "metadata/timestamp.json", "timestamp", {"version": 3, "expires": "2030-01-01T00:00:00Z"}
            )
        case _:
            peer.resign()
    peer.online = kept
    with pytest.raises(ExpiredError, match=message):
        sync(folder, peer, now=now)


def test_an_expired_list_role_is_told_and_stops_no_other_list(folder: Path, peer: MetadataPeer) -> None:
    """Whoever asks for a list judges the role that signs it: a body that lapses does not stop the lists of others."""
    later = NOW + 31 * DAY
    peer.now = later
    del peer.online["lists"]
    peer.resign()
    feed = sync(folder, peer, now=later)
    assert feed.stale(later) == ("lists",)
    assert set(feed.signed_by.values()) <= {"lists"}


def test_an_expired_root_is_recovered_by_the_next(folder: Path, peer: MetadataPeer) -> None:
    """Only the newest root's expiry counts: root 2, signed in time by nobody but root 1's keys, recovers the feed."""
    later = NOW + 400 * DAY
    peer.now = later
    peer.install(peer.repository.renew_offline(peer.offline, peer.online, later))
    peer.resign()
    feed = sync(folder, peer, now=later)
    assert feed.versions["root"] == 2
    assert feed.stale(later) == ()


def test_time_is_the_given_one(folder: Path, peer: MetadataPeer) -> None:
    """Expiry is judged by ``now``, whatever this machine's clock says."""
    old = MetadataPeer(now=datetime(2001, 2, 3, tzinfo=UTC))
    sync(folder / "old", old, now=datetime(2001, 2, 3, 1, tzinfo=UTC))
    ahead = MetadataPeer(now=datetime(2101, 2, 3, tzinfo=UTC))
    with pytest.raises(ExpiredError, match="2101-02-05 00:00"):
        sync(folder / "ahead", ahead, now=datetime(2101, 2, 5, tzinfo=UTC))


def test_an_older_timestamp_is_a_stale_mirror(folder: Path, peer: MetadataPeer) -> None:
    """An older, validly signed timestamp is not used. It is what a lagging mirror serves, so nobody is called."""
    old = dict(peer.files)
    peer.publish("images", 2)
    sync(folder, peer)
    peer.files = old
    with pytest.raises(
        StaleMirrorError, match=r"stale mirror: timestamp\.json is version 2, older than version 3 held"
    ):
        sync(folder, peer)
    assert peer.requests.count("metadata/timestamp.json") == 3  # one sync before, then twice
    assert json.loads((folder / "timestamp.json").read_bytes())["signed"]["version"] == 3


def test_one_stale_edge_costs_a_second_request(folder: Path, peer: MetadataPeer) -> None:
    """An old answer of one cache is replaced by that of the server, which is asked past all caches."""
    old = peer.files["metadata/timestamp.json"]
    peer.publish("images", 2)
    before = sync(folder, peer)
    peer.cached = {"metadata/timestamp.json": old}
    assert sync(folder, peer) == before


@pytest.mark.parametrize("path", ["metadata/3.snapshot.json", "metadata/3.lists.json"])
def test_a_version_that_a_cache_does_not_know_yet_is_asked_for_again(
    folder: Path, peer: MetadataPeer, path: str
) -> None:
    """A cached 404 from before the file was published does not stop a sync."""
    sync(folder, peer)
    peer.publish("images", 2)
    peer.cached = {path: None}
    assert sync(folder, peer).targets[IMAGES].version == 2


@pytest.mark.parametrize("path", ["metadata/3.snapshot.json", "metadata/3.lists.json"])
def test_a_version_that_is_not_there_is_a_stale_mirror(folder: Path, peer: MetadataPeer, path: str) -> None:
    """A mirror that has the timestamp and not yet the rest lags behind; with the file the sync goes on."""
    sync(folder, peer)
    peer.publish("images", 2)
    content = peer.files.pop(path)
    with pytest.raises(StaleMirrorError, match=rf"{path.removeprefix('metadata/')}, which newer metadata names"):
        sync(folder, peer)
    peer.files[path] = content
    assert sync(folder, peer).targets[IMAGES].version == 2


def test_a_newer_timestamp_that_states_an_older_list_is_a_rollback(folder: Path, peer: MetadataPeer) -> None:
    """Somebody signed that now: no mirror could have it from before."""
    peer.publish("images", 2)
    sync(folder, peer)
    change = {"version": 4, "meta": {"snapshot.json": {"version": 2}}}
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", change)
    with pytest.raises(RollbackError, match=r"timestamp\.json is older than a version"):
        sync(folder, peer)


def test_an_older_timestamp_with_keys_from_before_a_rotation_is_a_stale_mirror(
    folder: Path, peer: MetadataPeer
) -> None:
    """A mirror that lags behind a rotation is no attack; a timestamp above ours with those keys is one."""
    old = peer.files["metadata/timestamp.json"]
    former = peer.online["timestamp"]
    peer.rotate("timestamp")
    peer.resign()
    held = sync(folder, peer).versions["timestamp"]
    peer.files["metadata/timestamp.json"] = old
    with pytest.raises(StaleMirrorError, match=rf"version 2, older than version {held} held"):
        sync(folder, peer)
    peer.online["timestamp"] = former
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", {"version": held + 1})
    with pytest.raises(TrustError, match="not signed by enough"):
        sync(folder, peer)


def test_a_restored_backup_that_is_signed_again_is_a_rollback(folder: Path, peer: MetadataPeer) -> None:
    """No cache has a timestamp that was signed after ours, whatever its number: its publisher went back."""
    old = dict(peer.files)
    peer.publish("images", 2)
    peer.publish("images", 3)
    sync(folder, peer)
    peer.files, peer.now = old, NOW + timedelta(hours=1)
    peer.resign()
    with pytest.raises(
        RollbackError,
        match=r"timestamp\.json is version 3, older than version 4 held, but was signed later and states an older list",
    ) as caught:
        sync(folder, peer, now=peer.now)
    assert "a backup was restored" in caught.value.hint


def test_a_lower_timestamp_with_the_same_lists_is_a_stale_mirror(folder: Path, peer: MetadataPeer) -> None:
    """A publisher that only lost signatures has nothing to restore: its next ones are above ours."""
    old = dict(peer.files)
    peer.resign()
    peer.resign()
    sync(folder, peer)
    peer.files, peer.now = old, NOW + timedelta(hours=1)
    peer.resign()
    with pytest.raises(StaleMirrorError, match="version 3, older than version 4 held"):
        sync(folder, peer, now=peer.now)


def test_a_lost_root_is_a_stale_mirror(folder: Path, peer: MetadataPeer) -> None:
    """A root that was seen before and is not there now is a file that is missing: no timestamp states it."""
    peer.rotate("timestamp", *peer.online["timestamp"], new_key())
    floors = sync(folder, peer).floors
    peer.cached = {"metadata/2.root.json": None}
    assert sync(folder.with_name("lost"), peer, floors).versions["root"] == 3  # asked past caches
    del peer.files["metadata/2.root.json"]
    with pytest.raises(StaleMirrorError, match="root metadata is version 1, but version 3 was seen before"):
        sync(folder.with_name("empty"), peer, floors)


def test_a_cached_404_of_the_next_root_is_asked_for_again(folder: Path, peer: MetadataPeer) -> None:
    """A cache that was asked before the rotation keeps its 404 for a while; keys of the new root are no attack."""
    sync(folder, peer)
    peer.rotate("timestamp")
    peer.cached = {"metadata/2.root.json": None}
    assert sync(folder, peer).versions["root"] == 3


def test_a_missing_root_says_that_a_cache_may_answer(folder: Path, peer: MetadataPeer) -> None:
    """If asking past caches does not help, the harmless cause is named first; it stays rejected."""
    sync(folder, peer)
    peer.rotate("timestamp")
    del peer.files["metadata/2.root.json"]
    with pytest.raises(TrustError, match=r"timestamp\.json is not signed by enough") as caught:
        sync(folder, peer)
    assert caught.value.hint.startswith("a cache may answer that there is no newer root")
    assert caught.value.hint.endswith("if it is, treat this as an attack")


def test_a_cached_timestamp_that_expired_is_asked_for_again(folder: Path, peer: MetadataPeer) -> None:
    """A cache that holds the timestamp for days looks like a publisher who stopped signing."""
    old = peer.files["metadata/timestamp.json"]
    sync(folder, peer)
    later = NOW + 3 * DAY
    peer.now = later
    peer.resign()
    peer.cached = {"metadata/timestamp.json": old}
    assert sync(folder, peer, now=later).versions["timestamp"] == 3


def test_floors_hold_where_local_metadata_was_lost(folder: Path, peer: MetadataPeer) -> None:
    """With the folder gone, as after a power cut, a replay is refused by the floors given."""
    old = dict(peer.files)
    peer.publish("images", 2)
    floors = sync(folder, peer).floors
    peer.files = old
    with pytest.raises(StaleMirrorError, match="timestamp metadata is version 2, but version 3 was seen before"):
        sync(folder.with_name("empty"), peer, floors)


@pytest.mark.parametrize(
    "floors",
    [Floors(root=2), Floors(timestamp=3), Floors(snapshot=3), Floors(roles={"lists": 3}), Floors(roles={"targets": 2})],
)
def test_each_floor_holds_by_itself(folder: Path, peer: MetadataPeer, floors: Floors) -> None:
    """Every role has a floor of its own; at the floor is not below it.

    An older timestamp, or a root that is not there, is a stale mirror's.
    """
    stale = floors.timestamp or floors.root
    with pytest.raises(StaleMirrorError if stale else RollbackError, match="was seen before"):
        sync(folder, peer, floors)
    assert sync(folder, peer, Floors(1, 2, 2, {"lists": 2, "targets": 1, "gone": 7})).versions["lists"] == 2


def test_rotation_frees_from_a_version_driven_to_the_top(folder: Path, peer: MetadataPeer) -> None:
    """After a thief signed version 2^31-1, rotating timestamp and snapshot brings clients back, floors included."""
    good = dict(peer.files)
    top = 2**31 - 1
    peer.install(peer.repository.publish({}, {}, peer.online, NOW, above=top - 1))
    floors = sync(folder, peer).floors
    assert (floors.timestamp, floors.snapshot) == (top, top)
    peer.files = good
    peer.publish("images", 2)
    with pytest.raises(StaleMirrorError):
        sync(folder, peer, floors)
    peer.rotate("timestamp")
    peer.rotate("snapshot")
    assert sync(folder, peer, floors).targets[IMAGES].version == 2


def test_floors_stay_where_an_old_key_still_counts(folder: Path, peer: MetadataPeer) -> None:
    """A rotation that keeps enough of the old keys does not lift the floors: what they signed could be replayed."""
    peer.rotate("timestamp", *peer.online["timestamp"], new_key())
    with pytest.raises(StaleMirrorError, match="version 9 was seen before"):
        sync(folder, peer, Floors(root=1, timestamp=9))
    second = peer.files["metadata/2.root.json"]
    with pytest.raises(
        StaleMirrorError, match="version 9 was seen before"
    ):  # a root before the pinned one: unknown keys
        refresh(folder, second, peer, floors=Floors(root=1, timestamp=9), now=NOW)


def test_a_second_timestamp_of_the_same_version_is_equivocation(folder: Path, peer: MetadataPeer) -> None:
    """The same timestamp version, validly signed with other content, is refused."""
    sync(folder, peer)
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", {"lists": {}})
    with pytest.raises(EquivocationError, match="timestamp version 2 was signed twice"):
        sync(folder, peer)


def test_a_timestamp_with_another_signature_is_the_same(folder: Path, peer: MetadataPeer) -> None:
    """Other bytes with the same signed content are no equivocation."""
    sync(folder, peer)
    document = json.loads(peer.files["metadata/timestamp.json"])
    peer.files["metadata/timestamp.json"] = json.dumps(document, indent=2).encode()
    assert sync(folder, peer).versions["timestamp"] == 2


def test_a_second_snapshot_of_the_same_version_is_equivocation(folder: Path, peer: MetadataPeer) -> None:
    """A newer timestamp that names another snapshot under the version we hold is refused."""
    sync(folder, peer)
    lists = edited(peer, "metadata/2.lists.json", "lists", {"expires": "2026-12-30T00:00:00Z"})
    replace_listed(peer, "2.lists.json", "lists", lists)
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", {"version": 3})
    with pytest.raises(EquivocationError, match="snapshot was signed twice"):
        sync(folder, peer)


@pytest.mark.parametrize("path", ["2.snapshot.json", "1.targets.json", "2.lists.json"])
def test_a_half_updated_mirror_is_a_mismatch(folder: Path, peer: MetadataPeer, path: str) -> None:
    """A file other than the one that was signed for is refused, and its hash is not shown."""
    peer.files[f"metadata/{path}"] = peer.files[f"metadata/{path}"].replace(b"2026", b"2036").replace(b"2027", b"2037")
    with pytest.raises(MismatchError, match="is not the file that was signed") as caught:
        sync(folder, peer)
    assert path in caught.value.message


@pytest.mark.parametrize("name", ["2.root.json", "timestamp.json"])
@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"", b"\xff\xfe", b"[" * 5000, b"{}"])
def test_what_is_not_metadata_is_named_so(folder: Path, peer: MetadataPeer, name: str, content: bytes) -> None:
    """A log-in page, an empty file or garbage in the feed's place is said to be no TUF metadata."""
    peer.files[f"metadata/{name}"] = content
    with pytest.raises(TrustError, match="is not TUF metadata") as caught:
        sync(folder, peer)
    assert name in caught.value.message


def test_a_missing_field_is_a_typed_error(folder: Path, peer: MetadataPeer) -> None:
    """A list's target without a version, or a malformed freshness, is refused in words."""
    peer.files["metadata/timestamp.json"] = edited(
        peer, "metadata/timestamp.json", "timestamp", {"lists": {"images": {"serial": 1}}}
    )
    with pytest.raises(TrustError, match="field 'lists' of the timestamp"):
        sync(folder, peer)
    document = json.loads(peer.files["metadata/2.lists.json"])["signed"]["targets"]
    document[IMAGES]["custom"] = {"version": True}
    replace_listed(peer, "2.lists.json", "lists", edited(peer, "metadata/2.lists.json", "lists", {"targets": document}))
    with pytest.raises(TrustError, match=f"the target {IMAGES} has no version"):
        sync(folder.with_name("other"), peer)


def test_what_a_later_syncd_signs_is_passed_over(folder: Path, peer: MetadataPeer) -> None:
    """Other documents of a list, a log of witnesses and unknown fields change nothing for a reader of today."""
    document = json.loads(peer.files["metadata/2.lists.json"])["signed"]["targets"]
    document["v1/images/index.json"] = {"length": 3, "hashes": {"sha512": "ab"}}
    document[IMAGES]["custom"]["more"] = [1]
    replace_listed(peer, "2.lists.json", "lists", edited(peer, "metadata/2.lists.json", "lists", {"targets": document}))
    stated = json.loads(peer.files["metadata/timestamp.json"])["signed"]
    more = {
        "log": {"size": 9},
        "lists": {"images": {**stated["lists"]["images"], "more": None}},
        "publication": {"epoch": 2, "id": "a" * 32, "more": 1},
        "audit": {"records": 7, "head": "b" * 64, "more": 1},
    }
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", more)
    found = sync(folder, peer)
    assert found.targets.keys() == {IMAGES}
    assert (found.publication, found.audit) == (PublicationId(2, "a" * 32), AuditHead(7, "b" * 64))
    assert found.freshness["images"].serial == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("publication", {"epoch": -1, "id": "a" * 32}),
        ("publication", {"epoch": 1, "id": "A" * 32}),
        ("publication", {"id": "a" * 32}),
        ("audit", {"records": 1, "head": "a"}),
        ("audit", {"records": "1", "head": "a" * 64}),
        ("audit", []),
    ],
)
def test_a_statement_that_is_not_well_formed_is_refused(
    folder: Path, peer: MetadataPeer, field: str, value: object
) -> None:
    """What the timestamp says of itself is signed: half of it is a fault of the publisher, and named."""
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", {field: value})
    with pytest.raises(TrustError, match=f"field '{field}' of the timestamp is not well formed"):
        sync(folder, peer)


@pytest.mark.parametrize("role", ["../etc", "LISTS", "1.root"])
def test_a_role_with_a_strange_name_is_refused(folder: Path, peer: MetadataPeer, role: str) -> None:
    """A delegated role's name becomes a file name, so only plain ones are taken, even when signed."""
    document = json.loads(peer.files["metadata/1.targets.json"])["signed"]["delegations"]
    document["roles"][0]["name"] = role
    changed = edited(peer, "metadata/1.targets.json", "targets", {"delegations": document})
    replace_listed(peer, "1.targets.json", "targets", changed)
    with pytest.raises(TrustError, match="delegates to a role with the name"):
        sync(folder, peer)
    assert not any("etc" in path.name or "LISTS" in path.name for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("metadata/2.root.json", SourceError("no route to host")),
        ("metadata/2.root.json", HttpStatusError("answered 500", 500)),
        ("metadata/timestamp.json", HttpStatusError("answered 404", 404)),
        ("metadata/timestamp.json", HttpStatusError("answered 403", 403)),
        ("metadata/2.snapshot.json", HttpStatusError("answered 403 with a web page", 403, page=True)),
        ("metadata/2.lists.json", SourceError("connection reset")),
    ],
)
def test_transport_errors_pass_through(folder: Path, peer: MetadataPeer, path: str, error: SyncdError) -> None:
    """An error of the peer reaches the caller as the very object it was."""
    peer.faults[path] = error
    with pytest.raises(SourceError) as caught:
        sync(folder, peer)
    assert caught.value is error


@pytest.mark.parametrize("status", [403, 404])
def test_no_newer_root_by_either_status(folder: Path, peer: MetadataPeer, status: int) -> None:
    """403 and 404 for the next root both mean that there is none: object stores answer with either."""
    peer.faults["metadata/2.root.json"] = HttpStatusError("no", status)
    assert sync(folder, peer).versions["root"] == 1


def test_a_firewalls_page_does_not_say_that_there_is_no_newer_root(folder: Path, peer: MetadataPeer) -> None:
    """It did not come from the feed's files: the root that it hides may revoke a stolen key."""
    sync(folder, peer)
    peer.faults["metadata/2.root.json"] = blocked = HttpStatusError("answered 403 with a web page", 403, page=True)
    with pytest.raises(HttpStatusError) as caught:
        sync(folder, peer)
    assert caught.value is blocked
    peer.faults["metadata/2.root.json"] = HttpStatusError("answered 404 with a web page", 404, page=True)
    assert sync(folder, peer).versions["root"] == 1


def test_an_object_stores_403_for_a_version_is_a_stale_mirror(folder: Path, peer: MetadataPeer) -> None:
    """Stores that do not let us list their files answer 403 for one that is not there yet."""
    peer.faults["metadata/2.snapshot.json"] = HttpStatusError("answered 403", 403)
    with pytest.raises(StaleMirrorError, match=r"2\.snapshot\.json, .* is not there yet \(403\)"):
        sync(folder, peer)
    assert peer.requests.count("metadata/2.snapshot.json") == 2


def test_a_list_role_that_is_not_served_is_no_missing_root(folder: Path, peer: MetadataPeer) -> None:
    """A role may be called ``list-a.root``: that its file is not there is the peer's error."""
    peer.add_list_role("a.root", new_key())
    del peer.files["metadata/1.list-a.root.json"]
    with pytest.raises(StaleMirrorError, match=r"1\.list-a\.root\.json, which newer metadata names, is not there yet"):
        sync(folder, peer)


def test_superseded_files_of_such_a_role_are_no_roots(folder: Path, peer: MetadataPeer) -> None:
    """`syncd verify` reads roots where it looks for roots."""
    peer.add_list_role("a.root", new_key())
    peer.publish("a.root", 1)
    targets = [peer.files["metadata/2.targets.json"]]
    check_superseded("1.lists.json", peer.files["metadata/1.lists.json"], sync(folder, peer), targets)


@pytest.mark.parametrize(("name", "limit"), [("timestamp.json", 1_000_000), ("2.root.json", 64_000)])
def test_endless_metadata_is_cut_off(folder: Path, peer: MetadataPeer, name: str, limit: int) -> None:
    """A file beyond its role's limit is refused after that many bytes."""
    peer.files[f"metadata/{name}"] = b"x" * TARGETS_LIMIT
    with pytest.raises(TrustError, match=f"longer than {limit} bytes"):
        sync(folder, peer)
    assert peer.sent < 2 * limit


def test_all_metadata_together_has_a_limit(folder: Path, peer: MetadataPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """256 roles of the largest size would fill the memory of whoever follows the feed."""
    sync(folder.with_name("other"), peer)
    together = peer.sent
    monkeypatch.setattr("syncd.trust.fetcher.MOST_METADATA", together - 1)
    with pytest.raises(TrustError, match=f"the feed's metadata has more than {together - 1} bytes in all"):
        sync(folder, peer)
    monkeypatch.setattr("syncd.trust.fetcher.MOST_METADATA", together)
    assert sync(folder, peer).targets.keys() == {IMAGES}


def test_a_signed_length_does_not_lift_the_limit(
    folder: Path, peer: MetadataPeer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How much is read into memory is the role's to say, not the signer's."""
    asked = {}

    def stream(path: str, limit: int, *, fresh: bool = False) -> Iterator[bytes]:
        asked[path] = limit
        return served(path, limit, fresh=fresh)

    served = peer.stream
    monkeypatch.setattr(peer, "stream", stream)
    change = {"version": 3, "meta": {"snapshot.json": {"version": 2, "length": 1 << 40}}}
    peer.files["metadata/timestamp.json"] = edited(peer, "metadata/timestamp.json", "timestamp", change)
    with pytest.raises(MismatchError):
        sync(folder, peer)
    assert asked["metadata/2.snapshot.json"] == 256_000


@pytest.mark.parametrize("above", [(1 << 53) - 2, (1 << 53) - 1])
def test_a_version_that_no_document_of_ours_holds_is_refused(folder: Path, peer: MetadataPeer, above: int) -> None:
    """A number driven beyond 53 bits is rejected, as any other thing that is signed and wrong."""
    peer.install(peer.repository.resign(peer.freshness, peer.online, NOW, above))
    if above + 1 < 1 << 53:
        assert sync(folder, peer).versions["timestamp"] == above + 1
        return
    with pytest.raises(TrustError, match="timestamp metadata has a version number beyond 53 bits"):
        sync(folder, peer)


@pytest.mark.parametrize(("back", "refused"), [(timedelta(minutes=5), False), (timedelta(minutes=6), True)])
def test_a_clock_set_back_is_refused(folder: Path, peer: MetadataPeer, back: timedelta, refused: bool) -> None:
    """A clock that is more than five minutes before our last verification is refused before anything is fetched."""
    floors = sync(folder, peer).floors
    peer.requests.clear()
    if not refused:
        assert sync(folder, peer, floors, NOW - back).targets[IMAGES].version == 1
        return
    with pytest.raises(RefusedError, match="the local clock runs backwards: it says 2026-11-22 17:03 UTC"):
        sync(folder, peer, floors, NOW - back)
    assert peer.requests == []


def test_a_clock_set_back_a_year_revives_nothing(folder: Path, peer: MetadataPeer) -> None:
    """Expired metadata is not made valid by a clock that went back a year."""
    floors = replace(sync(folder, peer).floors, clock=NOW + 365 * DAY)
    with pytest.raises(RefusedError, match="runs backwards"):
        sync(folder, peer, floors)


@pytest.mark.parametrize(
    "name", ["timestamp.json", "snapshot.json", "targets.json", "lists.json", "root_history/1.root.json", "root.json"]
)
@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, None])
def test_damaged_local_metadata_heals(folder: Path, peer: MetadataPeer, name: str, content: bytes | None) -> None:
    """Whatever local file is cut, overwritten or gone, the next refresh mends it."""
    before = sync(folder, peer)
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    assert sync(folder, peer, before.floors) == before
    assert sync(folder, MetadataPeerLike(peer), before.floors) == before


class MetadataPeerLike(MetadataPeer):
    """The same feed, served only root and timestamp: proof that the rest is on disk again."""

    def __init__(self, peer: MetadataPeer) -> None:
        self.files = {name: peer.files[name] for name in ("metadata/1.root.json", "metadata/timestamp.json")}
        self.faults, self.cached, self.requests, self.sent = {}, {}, [], 0


def test_an_unwritable_folder_is_a_store_error(folder: Path, peer: MetadataPeer) -> None:
    """Where local metadata cannot be written, the error names the folder."""
    sync(folder, peer)
    (folder / "timestamp.json").unlink()
    (folder / "timestamp.json").mkdir()
    with pytest.raises(StoreError, match="cannot update the metadata in"):
        sync(folder, peer)


def test_left_overs_of_a_killed_refresh_are_removed(folder: Path, peer: MetadataPeer) -> None:
    """Temporary files of a process that was killed do not pile up; other files stay."""
    sync(folder, peer)
    (folder / "tmpab12cd_9").write_bytes(b"half")
    (folder / "tmp-notes").write_bytes(b"mine")
    sync(folder, peer)
    assert not (folder / "tmpab12cd_9").exists()
    assert (folder / "tmp-notes").exists()


def test_what_was_accepted_is_durable(folder: Path, peer: MetadataPeer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metadata file is synced to disk before a refresh returns: lost, it would let a rollback through."""
    synced: list[str] = []
    monkeypatch.setattr(files, "sync_file", lambda path: synced.append(path.relative_to(folder).as_posix()))
    monkeypatch.setattr(files, "sync_folder", lambda path: synced.append(path.name))
    sync(folder, peer)
    assert {"timestamp.json", "snapshot.json", "targets.json", "lists.json", "root_history/1.root.json"} <= set(synced)
    assert synced[-2:] == ["root_history", "metadata"]


def test_a_second_refresh_at_once_is_told_who_is_at_it(folder: Path, peer: MetadataPeer) -> None:
    """While one process refreshes, another is refused with its process id, and nothing is changed."""
    with locks.lock(folder / ".lock", "a test"), pytest.raises(RefusedError, match=r"in use by process \d+ \(a test\)"):
        sync(folder, peer)
    assert peer.requests == []


RACE = """
import sys, pickle, pathlib
from datetime import datetime, UTC
from syncd.errors import RefusedError
from syncd.trust.client import Floors, refresh
served = pathlib.Path(sys.argv[1])
class Folder:
    def stream(self, path, limit, *, fresh=False):
        from syncd.errors import HttpStatusError
        file = served / path
        if not file.exists():
            raise HttpStatusError("no", 404)
        yield file.read_bytes()
done = 0
while done < 15:
    try:
        feed = refresh(pathlib.Path(sys.argv[2]), (served / "metadata/1.root.json").read_bytes(), Folder(),
                       floors=Floors(), now=datetime(2026, 11, 22, 17, 9, 30, tzinfo=UTC))
        assert feed.versions["timestamp"] == 2
        done += 1
    except RefusedError:
        pass
"""


def test_two_processes_may_refresh_at_once(folder: Path, peer: MetadataPeer, tmp_path: Path) -> None:
    """Two processes on one folder get the feed or are told to wait; never anything else."""
    for name, content in peer.files.items():
        files.install_bytes(tmp_path / "served" / name, content)
    command = [sys.executable, "-c", RACE, str(tmp_path / "served"), str(folder)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]


@pytest.mark.parametrize("role", ["targets", "snapshot", "timestamp"])
@pytest.mark.parametrize(
    ("had", "needed", "lost", "new", "need"),
    [(1, 1, 0, 1, 1), (1, 1, 1, 1, 1), (3, 2, 0, 3, 2), (3, 2, 3, 1, 1), (1, 1, 0, 3, 3)],
    ids=["one key", "a lost key", "two of three", "two of three, all lost, to one", "one to three of three"],
)
def test_no_part_of_a_rotation_is_refused(
    folder: Path, peer: MetadataPeer, role: str, had: int, needed: int, lost: int, new: int, need: int
) -> None:
    """However many of its files are installed: by who holds the state before, by a new reader, and by the publisher."""
    peer.rotate(role, *(new_key() for _ in range(had)), threshold=needed)
    peer.publish("images", 2)
    held = peer.offline if role in peer.offline else peer.online
    held[role] = held[role][lost:]
    sync(folder, peer)
    keys = tuple(new_key() for _ in range(new))
    update = peer.repository.rotate(role, keys, need, offline=peer.offline, online=peer.online, now=NOW)
    names = [name for name, _ in update.files]
    assert [name for name in names if name.endswith("root.json")] == ["4.root.json", "5.root.json"]
    assert (names[0], names[-2:]) == ("4.root.json", ["timestamp.json", "5.root.json"])
    for name, content in update.files:
        peer.files[f"metadata/{name}"] = content
        assert peer.repository.targets()[IMAGES].version == 2
        for reader in (folder, folder.with_name(f"new at {name}")):
            assert sync(reader, peer).targets[IMAGES].version == 2
    assert peer.repository.signing(role) == (new, need)
    held[role] = keys
    peer.publish("images", 3)
    assert sync(folder, peer).targets[IMAGES].version == 3


def test_the_root_within_a_rotation_asks_for_no_fewer_signatures(peer: MetadataPeer) -> None:
    """Than the keys before, whatever the new threshold; or than there are new keys, which must suffice for it."""
    peer.rotate("timestamp", *(new_key() for _ in range(3)), threshold=2)

    def between(*keys: Signer) -> tuple[int, int]:
        update = peer.repository.rotate("timestamp", keys, 1, offline=peer.offline, online=peer.online, now=NOW)
        root = Metadata[Root].from_bytes(update.files[0][1]).signed.roles["timestamp"]
        return len(root.keyids), root.threshold

    assert between(new_key(), new_key()) == (5, 2)
    assert between(new_key()) == (4, 1)


def test_a_longer_absence_is_caught_up(folder: Path, peer: MetadataPeer) -> None:
    """A client that slept through rotations and renewals gets there in one refresh."""
    sync(folder, peer)
    for version in range(2, 5):
        peer.now += 20 * HOUR
        peer.rotate("timestamp")
        peer.rotate("root")
        peer.publish("images", version)
    feed = sync(folder, peer, now=peer.now)
    assert (feed.versions["root"], feed.targets[IMAGES].version) == (10, 4)


def test_a_feed_without_lists_is_a_feed(folder: Path) -> None:
    """A feed that has published nothing yet refreshes to no targets."""
    peer = MetadataPeer()
    feed = sync(folder, peer)
    assert (feed.targets, feed.freshness) == ({}, {})
    assert create(peer.offline, peer.online, 1, NOW).files[-1][0] == "timestamp.json"


def test_offline_equals_online(folder: Path, peer: MetadataPeer) -> None:
    """The files that a refresh hands on prove the same state again, without a peer."""
    peer.rotate("root")
    peer.add_list_role("images", new_key(), new_key(), threshold=2)
    online = sync(folder, peer)
    offline = verify_offline(online.files.get, online.versions, peer.root)
    assert replace(offline, floors=replace(offline.floors, clock=NOW)) == online
