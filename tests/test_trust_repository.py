"""The signing side."""

import json
from datetime import timedelta

import pytest
from securesystemslib.signer import CryptoSigner, Signature

from feed_simulator import DAY, HOUR, NOW, MetadataPeer, new_key, target
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.model import AuditHead
from syncd.trust import repository as module
from syncd.trust.offline import read_audit
from syncd.trust.repository import Freshness, Repository, create
from syncd.trust.values import PublicationId

IMAGES = "v1/images/manifest.json"


@pytest.fixture
def peer() -> MetadataPeer:
    """A feed with one list at version 1."""
    peer = MetadataPeer()
    peer.publish("images", 1)
    return peer


def test_create_signs_version_1_of_every_role() -> None:
    """A new feed has five files, all version 1, the timestamp last."""
    update = create(*keys_of(MetadataPeer()), root_threshold=1, now=NOW)
    assert [name for name, _ in update.files] == [
        "1.root.json",
        "1.targets.json",
        "1.lists.json",
        "1.snapshot.json",
        "timestamp.json",
    ]
    repository = Repository.load(dict(update.files).get)
    assert repository.versions == dict.fromkeys(["root", "timestamp", "snapshot", "targets", "lists"], 1)
    assert {role: expires - NOW for role, expires in repository.expiries().items()} == {
        "root": timedelta(days=365),
        "timestamp": timedelta(hours=48),
        "snapshot": timedelta(days=7),
        "targets": timedelta(days=180),
        "lists": timedelta(days=30),
    }


def keys_of(peer: MetadataPeer) -> tuple[dict, dict]:  # type: ignore[type-arg]  # what they hold is of no matter here
    return peer.offline, peer.online


@pytest.mark.parametrize("threshold", [0, 4])
def test_threshold_must_fit_the_keys(threshold: int) -> None:
    """A root threshold that no number of its keys can meet, or that none need meet, is refused."""
    peer = MetadataPeer(root_keys=3)
    with pytest.raises(UsageError, match=f"root cannot require {threshold} signatures of 3 keys"):
        create(peer.offline, peer.online, threshold, NOW)


def test_create_without_a_key_is_refused() -> None:
    """A role without a key is named."""
    peer = MetadataPeer()
    with pytest.raises(UsageError, match="snapshot cannot require 1 signature of 0 keys"):
        create(peer.offline, {**peer.online, "snapshot": ()}, 1, NOW)


def test_publish_signs_role_snapshot_timestamp(peer: MetadataPeer) -> None:
    """Publishing a version of one list writes three files, the timestamp last, and keeps the other lists."""
    peer.publish("videos", 7)
    signed = target("images", 2)
    fresh = {"images": Freshness(NOW, 41)}
    update = peer.repository.publish({IMAGES: signed}, fresh, peer.online, NOW + HOUR)
    assert [name for name, _ in update.files] == ["4.lists.json", "4.snapshot.json", "timestamp.json"]
    after = peer.repository.after(update)
    assert {name: t.version for name, t in after.targets().items()} == {IMAGES: 2, "v1/videos/manifest.json": 7}
    assert after.targets()[IMAGES] == signed
    assert after.freshness() == fresh
    assert peer.repository.targets()[IMAGES].version == 1


def test_timestamp_states_each_list(peer: MetadataPeer) -> None:
    """The timestamp's field ``lists`` is signed and written as the format says."""
    document = json.loads(peer.files["metadata/timestamp.json"])
    assert document["signed"]["lists"] == {"images": {"serial": 1, "verified_at": "2026-11-22T17:09:30Z"}}


def test_publish_twice_of_one_version_is_refused(peer: MetadataPeer) -> None:
    """A manifest version is never signed twice with other content, and never falls; the same again is no change."""
    for version, content in [(1, b"other"), (0, None)]:
        with pytest.raises(
            RefusedError, match=f"version {version} of {IMAGES} is not above the published version 1"
        ) as caught:
            peer.publish("images", version, content)
        assert "run `syncd recover --above N`" in caught.value.hint  # an operator cannot choose the version
    peer.publish("images", 1)


def test_publish_where_no_role_may_sign(peer: MetadataPeer) -> None:
    """A target outside every role's paths is refused before anything is signed."""
    other = target("images/deeper", 1)
    with pytest.raises(RefusedError, match="no role of the feed may sign the target v1/images/deeper/manifest"):
        peer.repository.publish({other.name: other}, {}, peer.online, NOW)


def test_publish_without_the_keys(peer: MetadataPeer) -> None:
    """A list whose role needs keys that are not at hand cannot be published."""
    peer.add_list_role("images", new_key(), new_key(), threshold=2)
    peer.online["list-images"] = peer.online["list-images"][:1]
    with pytest.raises(RefusedError, match="list-images needs 2 of its keys to sign, but has 1 at hand"):
        peer.publish("images", 2)


def test_a_strangers_key_does_not_count(peer: MetadataPeer) -> None:
    """A key that the role does not list is passed over, not used."""
    peer.online["lists"] = (new_key(),)
    with pytest.raises(RefusedError, match="lists needs 1 of its keys to sign, but has 0 at hand") as caught:
        peer.publish("images", 2)
    assert caught.value.hint.startswith("put its key back into the folder of online keys")


def test_resign_is_one_file(peer: MetadataPeer) -> None:
    """The hourly signature touches the timestamp alone."""
    update = peer.repository.resign({"images": Freshness(NOW + HOUR, 2)}, peer.online, NOW + HOUR)
    assert [name for name, _ in update.files] == ["timestamp.json"]
    after = peer.repository.after(update)
    assert after.versions == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 1, "lists": 2}
    assert after.expiries()["timestamp"] == NOW + HOUR + 48 * HOUR
    assert after.freshness()["images"].serial == 2


@pytest.mark.parametrize(
    ("after", "files"),
    [
        (3 * DAY, ["timestamp.json"]),
        (3.6 * DAY, ["3.snapshot.json", "timestamp.json"]),
        (15.1 * DAY, ["3.lists.json", "3.snapshot.json", "timestamp.json"]),
    ],
)
def test_resign_renews_what_used_up_half_its_life(peer: MetadataPeer, after: timedelta, files: list[str]) -> None:
    """Snapshot and list roles are signed anew at half of their life, long before they expire."""
    update = peer.repository.resign(peer.freshness, peer.online, NOW + after)
    assert [name for name, _ in update.files] == files


def test_resign_passes_over_roles_whose_keys_are_elsewhere(peer: MetadataPeer) -> None:
    """A list role held by other bodies does not stop the hourly signature."""
    peer.add_list_role("images", new_key())
    del peer.online["list-images"]
    update = peer.repository.resign(peer.freshness, peer.online, NOW + 20 * DAY)
    assert [name for name, _ in update.files] == ["4.lists.json", "4.snapshot.json", "timestamp.json"]


def test_above_lifts_every_version(peer: MetadataPeer) -> None:
    """After a restore, every online role goes on above what anybody may have seen; then by one again."""
    peer.install(peer.repository.publish({}, peer.freshness, peer.online, NOW, above=500))
    assert peer.repository.versions == {"root": 1, "timestamp": 501, "snapshot": 501, "targets": 1, "lists": 501}
    peer.publish("images", 2)
    assert peer.repository.versions["timestamp"] == 502


def test_renewal_above_keeps_roots_in_sequence(peer: MetadataPeer) -> None:
    """Roots are followed one by one, so their number is never lifted."""
    peer.install(peer.repository.renew_offline(peer.offline, peer.online, NOW, above=500))
    assert peer.repository.versions == {"root": 2, "timestamp": 501, "snapshot": 501, "targets": 501, "lists": 2}


def test_rotation_of_root_needs_the_old_keys(peer: MetadataPeer) -> None:
    """A new root is not signed where the old root's keys are not at hand."""
    fresh = new_key()
    with pytest.raises(RefusedError, match="root needs 1 of its keys to sign, but has 0 at hand"):
        peer.repository.rotate("root", (fresh,), 1, offline={}, online=peer.online, now=NOW)


def test_rotation_replaces_the_keys(peer: MetadataPeer) -> None:
    """After a rotation the old key is in no metadata, and the role is signed by the new ones."""
    old = peer.online["lists"][0].public_key.keyid
    peer.rotate("lists", new_key(), new_key(), threshold=2)
    assert old.encode() not in peer.files["metadata/2.targets.json"]
    assert len(json.loads(peer.files["metadata/3.lists.json"])["signatures"]) == 2
    assert peer.repository.targets()[IMAGES].version == 1
    assert peer.repository.freshness() == peer.freshness


def test_rotation_of_an_unknown_role(peer: MetadataPeer) -> None:
    """A role that the feed has not is refused, and those it has are named."""
    with pytest.raises(RefusedError, match="the feed has no role list-nobody") as caught:
        peer.rotate("list-nobody")
    assert "lists" in caught.value.hint


def test_a_list_keeps_its_manifest_when_it_gets_a_role(peer: MetadataPeer) -> None:
    """The published version moves from the shared role to the list's own."""
    peer.add_list_role("images", new_key())
    assert IMAGES.encode() not in peer.files["metadata/3.lists.json"]
    assert peer.repository.targets()[IMAGES].version == 1
    peer.add_list_role("videos", new_key())
    peer.publish("videos", 1)
    assert peer.repository.versions["list-videos"] == 2
    with pytest.raises(RefusedError, match="the role list-images exists"):
        peer.add_list_role("images", new_key())


def test_a_list_role_is_for_one_list(peer: MetadataPeer) -> None:
    """A pattern is no list: a role of one list could otherwise be given all of them."""
    with pytest.raises(UsageError, match="is a pattern"):
        peer.add_list_role("*", new_key())


@pytest.mark.parametrize("name", ["a.root", "a.timestamp", "a.snapshot"])
def test_a_list_may_be_named_as_a_role_is(peer: MetadataPeer, name: str) -> None:
    """What a list's own role signs is published, whatever its files look like by the end of their names."""
    peer.add_list_role(name, new_key())
    peer.publish(name, 1)
    peer.publish(name, 2)
    assert peer.repository.targets()[f"v1/{name}/manifest.json"].version == 2
    update = peer.repository.resign(peer.freshness, peer.online, NOW)
    assert peer.repository.after(update).targets() == peer.repository.targets()


def test_too_many_lists_for_clients_are_refused(peer: MetadataPeer) -> None:
    """A timestamp that clients would not read to the end is not signed."""
    many = {f"list{n}": Freshness(NOW, n) for n in range(17_000)}
    with pytest.raises(RefusedError, match="clients read at most 1000000"):
        peer.repository.resign(many, peer.online, NOW)


def test_each_signature_of_a_timestamp_has_an_id_of_its_own(peer: MetadataPeer) -> None:
    """No two publications have the same bytes, even of the same content at the same second."""
    ids = iter(f"{number:032x}" for number in range(9))
    repository = Repository.load(peer.read, lambda: PublicationId(3, next(ids)))
    updates = [repository.resign(peer.freshness, peer.online, NOW) for _ in range(2)]
    first, second = (json.loads(update.files[-1][1])["signed"] for update in updates)
    assert first.pop("publication") == {"epoch": 3, "id": "0" * 32}
    assert second.pop("publication") == {"epoch": 3, "id": "0" * 31 + "1"}
    assert first == second
    own = json.loads(peer.files["metadata/timestamp.json"])["signed"]["publication"]
    assert (own["epoch"], len(own["id"])) == (0, 32)


def test_the_audit_log_is_stated_until_a_newer_one_is(peer: MetadataPeer) -> None:
    """Whoever signs without a word of the audit log takes nothing back."""
    head = AuditHead(7, "a" * 64)
    peer.install(peer.repository.resign(peer.freshness, peer.online, NOW, audit=head))
    peer.publish("images", 2)
    assert read_audit(peer.repository._verified.timestamp) == head
    peer.install(peer.repository.publish({}, peer.freshness, peer.online, NOW, audit=AuditHead(8, "b" * 64)))
    peer.rotate("lists")
    assert read_audit(peer.repository._verified.timestamp) == AuditHead(8, "b" * 64)


def signed_for(peer: MetadataPeer, name: str) -> str:
    """The role that signs a target of this name."""
    other = target("images", 1)
    renamed = type(other)(name, 1, other.sha256, other.length)
    update = peer.repository.publish({name: renamed}, peer.freshness, peer.online, NOW)
    (role,) = [file.split(".", 1)[1] for file, content in update.files if name.encode() in content]
    return role.removesuffix(".json")


def test_roles_may_sign_any_document_of_their_lists(peer: MetadataPeer) -> None:
    """A document that a later syncd signs needs nobody's offline key; nothing deeper, and no other kind of file."""
    peer.add_list_role("videos", new_key())
    assert signed_for(peer, "v1/images/index.json") == "lists"
    assert signed_for(peer, "v1/videos/index.json") == "list-videos"
    for name in (
        "v1/images/a/b.json",
        "v1/index.json",
        "v2/images/index.json",
        "v1/images/index.arrow",
        "v1//a/b.json",
    ):
        with pytest.raises(RefusedError, match="no role of the feed may sign"):
            signed_for(peer, name)


def test_all_documents_of_a_list_move_to_its_own_role(peer: MetadataPeer) -> None:
    """Also those that this syncd does not know: the role that signed them before may not any more."""
    index = type(target("images", 1))("v1/images/index.json", 1, "a" * 64, 10)
    peer.install(peer.repository.publish({index.name: index}, peer.freshness, peer.online, NOW))
    assert peer.repository.targets().keys() == {IMAGES}
    peer.add_list_role("images", new_key())
    assert b"index.json" in peer.files["metadata/1.list-images.json"]
    assert b"index.json" not in peer.files["metadata/4.lists.json"]
    peer.publish("images", 2)
    assert b"index.json" in peer.files["metadata/2.list-images.json"]


def test_a_feed_of_before_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its targets metadata names manifests alone; publishing, roles of lists and rotation work as they did."""
    monkeypatch.setattr(module, "LISTS_PATH", "v1/*/manifest.json")
    monkeypatch.setattr(module, "list_path", lambda target: target)
    peer = MetadataPeer()
    peer.publish("images", 1)
    peer.add_list_role("images", new_key())
    monkeypatch.undo()
    peer.publish("images", 2)
    peer.publish("videos", 1)
    with pytest.raises(RefusedError, match="no role of the feed may sign"):
        signed_for(peer, "v1/videos/index.json")
    peer.add_list_role("videos", new_key())
    peer.publish("videos", 2)
    assert signed_for(peer, "v1/videos/index.json") == "list-videos"
    assert {name: one.version for name, one in peer.repository.targets().items()} == {
        IMAGES: 2,
        "v1/videos/manifest.json": 2,
    }


class BrokenSigner(CryptoSigner):
    """A signer whose hardware went away."""

    def sign(self, payload: bytes) -> Signature:
        raise OSError("token /dev/secret removed")


def test_a_signer_that_fails_is_a_store_error(peer: MetadataPeer) -> None:
    """Where the hardware or service that holds a key fails, the role is named, and nothing of the key."""
    key = peer.online["timestamp"][0]
    assert isinstance(key, CryptoSigner)
    peer.online["timestamp"] = (BrokenSigner(key._private_key, key.public_key),)
    with pytest.raises(StoreError, match="a key of timestamp failed to sign"):
        peer.resign()


@pytest.mark.parametrize("name", ["1.root.json", "2.root.json", "timestamp.json", "2.snapshot.json", "2.lists.json"])
@pytest.mark.parametrize("content", [None, b"", b'{"signed": {}}'])
def test_damaged_metadata_is_not_signed_on(peer: MetadataPeer, name: str, content: bytes | None) -> None:
    """A feed folder with a file missing or damaged is refused: going on could use a version number twice."""
    peer.rotate("root")
    peer.rotate("root")
    if content is None:
        del peer.files[f"metadata/{name}"]
    else:
        peer.files[f"metadata/{name}"] = content
    with pytest.raises(StoreError):
        Repository.load(peer.read)


def test_a_foreign_timestamp_is_not_signed_on(peer: MetadataPeer) -> None:
    """A feed folder whose timestamp another feed's keys signed is damaged."""
    peer.files["metadata/timestamp.json"] = MetadataPeer().files["metadata/timestamp.json"]
    with pytest.raises(StoreError, match="the feed's own metadata is damaged"):
        Repository.load(peer.read)
