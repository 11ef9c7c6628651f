"""Offline verification: what a matcher does when it opens its folder."""

from datetime import UTC, datetime

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from feed_simulator import DAY, NOW, MetadataPeer
from syncd.errors import FeedError, RollbackError, StoreError, TrustError
from syncd.trust.client import verify_offline
from syncd.trust.offline import VerifiedMetadata, delegated_roles
from syncd.trust.parse import translate
from syncd.trust.strict import verify_root

NAMES = {"root": 2, "timestamp": 3, "snapshot": 2, "targets": 1, "lists": 2}


@pytest.fixture(scope="module")
def peer() -> MetadataPeer:
    """A feed with one list and one root rotation."""
    peer = MetadataPeer()
    peer.publish("images", 1)
    peer.rotate("root")
    return peer


@pytest.fixture
def stored(peer: MetadataPeer) -> dict[str, bytes]:
    """The copy of a feed's metadata that a matcher holds, by consistent name."""
    names = ["1.root.json", "2.root.json", "2.snapshot.json", "1.targets.json", "2.lists.json"]
    return {name: peer.files[f"metadata/{name}"] for name in names} | {
        "3.timestamp.json": peer.files["metadata/timestamp.json"]
    }


def test_a_stored_copy_verifies(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """A copy is verified from the pinned root down to each list's manifest, with nothing but its bytes."""
    feed = verify_offline(stored.get, NAMES, peer.root)
    assert feed.targets["v1/images/manifest.json"].version == 1
    assert feed.versions == NAMES
    assert feed.files == stored
    assert feed.floors.clock is None


def test_expiry_is_reported_and_not_enforced(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """An old copy still verifies; which roles are past expiry is told for a given time."""
    feed = verify_offline(stored.get, NAMES, peer.root)
    assert feed.stale(NOW) == ()
    assert feed.stale(datetime(2026, 11, 24, 17, 9, 29, tzinfo=UTC)) == ()
    assert feed.stale(datetime(2026, 11, 24, 17, 9, 30, tzinfo=UTC)) == ("timestamp",)
    assert feed.stale(NOW + 400 * DAY) == ("lists", "root", "snapshot", "targets", "timestamp")


@pytest.mark.parametrize(
    "name", ["2.root.json", "3.timestamp.json", "2.snapshot.json", "1.targets.json", "2.lists.json"]
)
def test_any_altered_byte_is_refused(peer: MetadataPeer, stored: dict[str, bytes], name: str) -> None:
    """With any one byte of any file changed, the copy is refused by a typed error."""
    whole = stored[name]
    accepted = []
    for position in range(0, len(whole), 1 if len(whole) < 700 else 3):
        altered = bytearray(whole)
        altered[position] ^= 1
        stored[name] = bytes(altered)
        try:
            verify_offline(stored.get, NAMES, peer.root)
        except FeedError:
            continue
        accepted.append(position)
    assert accepted == []


@pytest.mark.parametrize("name", ["2.root.json", "3.timestamp.json", "2.lists.json"])
def test_a_missing_file_is_damage_not_an_attack(peer: MetadataPeer, stored: dict[str, bytes], name: str) -> None:
    """A file that is gone is named, as local damage."""
    del stored[name]
    with pytest.raises(StoreError, match=f"the metadata file {name} is missing"):
        verify_offline(stored.get, NAMES, peer.root)


@pytest.mark.parametrize("role", ["snapshot", "targets", "lists"])
def test_stated_versions_must_be_the_signed_ones(peer: MetadataPeer, stored: dict[str, bytes], role: str) -> None:
    """A version stated outside the signed metadata is not believed."""
    with pytest.raises(TrustError, match=f"the versions stated for {role} are not the signed ones"):
        verify_offline(stored.get, NAMES | {role: 7}, peer.root)


def test_a_root_older_than_the_pinned_one_is_refused(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """A copy whose newest root is older than the pinned root does not verify."""
    with pytest.raises(RollbackError, match="version 1, older than the pinned version 2"):
        verify_offline(stored.get, NAMES | {"root": 1}, stored["2.root.json"])


def test_a_later_pinned_root_suffices(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """Whoever pins root 2 needs no root 1."""
    del stored["1.root.json"]
    assert "1.root.json" not in verify_offline(stored.get, NAMES, stored["2.root.json"]).files


def test_a_root_under_another_number_is_refused() -> None:
    """A root signed as it should be, but not the next in number, is not followed."""
    peer = MetadataPeer()
    root: Metadata[Root] = Metadata.from_bytes(peer.root)
    root.signed.version = 3
    root.sign(peer.offline["root"][0])
    stored = {"2.root.json": root.to_bytes(), "1.timestamp.json": peer.files["metadata/timestamp.json"]}
    with pytest.raises(RollbackError, match=r"2\.root\.json holds version 3"):
        verify_offline(stored.get, {"root": 2, "timestamp": 1}, peer.root)


def test_the_pinned_root_vouches_for_itself(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """A pinned root that its own keys did not sign is refused: the file was altered."""
    altered = peer.root.replace(b"2027-", b"2028-")
    with pytest.raises(TrustError, match="the pinned root is not signed by enough"):
        verify_offline(stored.get, NAMES, altered)


@pytest.mark.parametrize("value", ["1.5", "1e3", '"\\ud800"'])
def test_a_root_with_a_value_that_nobody_can_sign_is_refused(peer: MetadataPeer, value: str) -> None:
    """TUF's canonical JSON has no fractions and no half characters, so no signature can cover them."""
    altered = peer.root.replace(b'"version":', f'"x": {value}, "version":'.encode())
    assert altered != peer.root
    with pytest.raises(TrustError, match="the root holds a value that cannot be signed") as caught:
        verify_root(altered)
    assert caught.value.hint == "nobody signed this file as it is: obtain it from the publisher again"


@pytest.mark.parametrize("role", ["root", "timestamp"])
def test_every_version_must_be_stated(peer: MetadataPeer, stored: dict[str, bytes], role: str) -> None:
    """A copy that does not say which root or timestamp vouches for it proves nothing."""
    names = {name: version for name, version in NAMES.items() if name != role}
    with pytest.raises(TrustError, match=f"the copy states no version of the {role} metadata"):
        verify_offline(stored.get, names, peer.root)


def test_another_feeds_copy_is_refused(stored: dict[str, bytes]) -> None:
    """A whole copy of another feed does not verify from this root."""
    with pytest.raises(TrustError, match="not signed by enough of the keys"):
        verify_offline(stored.get, NAMES, MetadataPeer().root)


def test_a_thousand_roles_are_refused() -> None:
    """More delegated roles than any feed needs are refused before one is fetched."""
    roles = {f"list-{n}": DelegatedRole(f"list-{n}", [], 1, True, [f"v1/{n}/manifest.json"]) for n in range(257)}
    with pytest.raises(TrustError, match="more than 256 roles"):
        delegated_roles(Targets(delegations=Delegations({}, roles)))


def test_no_message_is_as_long_as_a_peer_likes() -> None:
    """What another party named is quoted in part, on one line: messages are kept, and logged, at every sync."""
    name = "v1/" + "x\n" * 500_000 + "/manifest.json"
    delegations = Delegations({}, {name: DelegatedRole(name, [], 1, terminating=True, paths=["v1/*"])})
    targets = Targets(targets={name: TargetFile(5, {"sha256": "0" * 64}, name)}, delegations=delegations)
    verified = VerifiedMetadata((), Timestamp(), Snapshot(), targets, {}, {})
    messages = []
    for refused in (verified.entitled, lambda: delegated_roles(targets)):
        with pytest.raises(TrustError) as caught:
            refused()
        messages.append(str(caught.value))
    messages.append(str(translate(ValueError(name), "timestamp.json")))
    assert [len(message) < 200 and message.isprintable() for message in messages] == [True, True, True]


def test_repr_shows_no_hash(peer: MetadataPeer, stored: dict[str, bytes]) -> None:
    """The printed form of a trusted feed holds neither hashes nor file contents."""
    feed = verify_offline(stored.get, NAMES, peer.root)
    shown = repr(feed)
    assert feed.targets["v1/images/manifest.json"].sha256 not in shown
    assert "signatures" not in shown
