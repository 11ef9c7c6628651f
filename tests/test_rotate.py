"""Changing who signs a feed, and followers that go on."""

from collections.abc import Callable

import pytest

from syncd.acts import ChangedKeys
from syncd.errors import ExpiredError, RefusedError, UsageError
from syncd.feed.signed import load_repository
from syncd.format.manifest import now_in_seconds
from syncd.listfile import ListFiles
from syncd.model import ListName
from syncd.operate.repair import in_state
from syncd.outcomes import Outcome
from syncd.publish import author, installing, publication, rotate
from syncd.publish.change import metadata_files
from syncd.publish.ledger import SignedFiles
from syncd.publish.request import Published
from syncd.publish.rotate import KeyFolders, NewKeys
from syncd.trust import keys
from syncd.trust.values import Freshness
from world import IMAGES, World, row, rows

VIDEOS = ListName("videos")


def partner_keys(world: World) -> KeyFolders:
    return KeyFolders(world.partner_keys, (world.partner_offline,))


def rotate_partner(world: World, role: str, new: NewKeys = NewKeys()) -> rotate.Rotated:  # noqa: B008 - frozen
    return rotate.rotate(world.partner, rotate.in_feed(world.partner), role, new, partner_keys(world), world.clock())


def rotate_operator(world: World, role: str) -> rotate.Rotated:
    at = KeyFolders(world.state.keys, (world.offline,))
    with world.publisher() as publisher:
        apply = in_state(publisher, "tester", "planned")
        return rotate.rotate(world.state.feed, apply, role, NewKeys(), at, world.clock())


@pytest.fixture
def running(world: World) -> World:
    """A list that was published, synced and pulled."""
    world.publish(full=rows(0, 30))
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    return world


@pytest.mark.parametrize("role", ["root", "targets", "timestamp", "snapshot", "lists"])
def test_a_sync_goes_on_after_a_partner_rotates(running: World, role: str) -> None:
    """Whichever role's keys a partner rotates, the operator's next sync takes the next version."""
    rotated = rotate_partner(running, role)
    assert (rotated.keys, rotated.threshold, len(rotated.made)) == (1, 1, 1)
    assert running.sync().exit_code == 0
    running.publish(add=[row(30)])
    assert running.sync().exit_code == 0
    running.pull()
    assert len(running.hits(30)) == 1


@pytest.mark.parametrize("role", ["root", "targets", "timestamp", "snapshot", "lists"])
def test_a_pull_goes_on_after_the_operator_rotates(running: World, role: str) -> None:
    """Whichever role's keys the operator rotates, matchers go on, and the audit log says who and why."""
    rotate_operator(running, role)
    assert not running.pull().errors
    running.publish(add=[row(30)])
    assert running.sync().exit_code == 0
    assert not running.pull().errors
    assert len(running.hits(30)) == 1
    with running.publisher() as publisher:
        entries = publisher.catalog.audit_entries()
    act = ChangedKeys(str(running.state.root), f"rotating the keys of {role}", "planned")
    assert ("tester", act) in [(entry.actor, entry.act) for entry in entries]


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "lists"])
def test_a_revoked_key_signs_nothing_any_more(running: World, role: str) -> None:
    """Once a role's keys are rotated, the old key alone can publish nothing."""
    rotated = rotate_partner(running, role)
    for path in rotated.made:
        path.unlink()
    with pytest.raises(RefusedError, match=f"{role} needs 1 of its keys to sign, but has 0 at hand"):
        running.publish(add=[row(30)])


def test_a_revoked_keys_signature_is_refused(running: World) -> None:
    """A thief of the old timestamp key who signs a newer timestamp is refused by those who saw the rotation."""
    stolen = keys.load_signers(running.partner_keys, keys.ONLINE_ROLES)
    before = load_repository(running.partner)
    rotate_partner(running, "timestamp")
    assert running.sync().exit_code == 0
    forged = before.resign({IMAGES: Freshness(now_in_seconds(running.clock()), 1)}, stolen, running.clock(), above=50)
    installing.install(running.partner, metadata_files([one for one in forged.files if one[0] == "timestamp.json"]))
    outcome = running.sync()
    assert outcome.exit_code == 4
    assert outcome.error is not None
    assert outcome.error.message == "timestamp.json is not signed by enough of the keys trusted for it"


def test_fresh_keys_lie_beside_the_old_ones(running: World) -> None:
    """New keys get the next free number in the folder where the role's keys belong, readable by this user only."""
    assert [path.name for path in rotate_partner(running, "timestamp").made] == ["timestamp-1.pem"]
    made = rotate_partner(running, "timestamp").made
    assert made == (running.partner_keys / "timestamp-2.pem",)
    assert made[0].stat().st_mode & 0o777 == 0o600
    assert rotate_partner(running, "root").made == (running.partner_offline / "root-2.pem",)


def test_a_threshold_that_no_keys_meet_leaves_nothing(running: World) -> None:
    """Where a rotation is refused, no key is left behind and the feed is as before."""
    before = load_repository(running.partner).versions
    keys.generate_key(running.base / "lone.pem")
    with pytest.raises(UsageError, match=r"root cannot require 2 signatures of 1 key$"):
        rotate_partner(running, "root", NewKeys(files=(str(running.base / "lone.pem"),), threshold=2))
    with pytest.raises(RefusedError, match="the feed has no role nobody"):
        rotate_partner(running, "nobody")
    keys.make_offline_keys(running.base / "wrong", 1)
    with pytest.raises(RefusedError, match="root needs 1 of its keys to sign, but has 0 at hand"):
        rotate.rotate(
            running.partner,
            rotate.in_feed(running.partner),
            "timestamp",
            NewKeys(),
            KeyFolders(running.partner_keys, (running.base / "wrong",)),
            running.clock(),
        )
    assert not list(running.partner_keys.glob("timestamp-*"))
    assert load_repository(running.partner).versions == before


def test_root_keys_of_several_custodians(running: World) -> None:
    """A root is moved to 2 of 3 keys in three folders, and two of the custodians suffice for the next rotation."""
    folders = [running.base / f"custodian{number}" for number in range(3)]
    for folder in folders:
        keys.make_role_keys(folder, "root", 1)
    files = tuple(str(folder / "root-1.pem") for folder in folders)
    rotated = rotate_partner(running, "root", NewKeys(files=files, threshold=2))
    assert (rotated.keys, rotated.threshold) == (3, 2)
    with pytest.raises(RefusedError, match="root needs 2 of its keys to sign, but has 0 at hand"):
        rotate_partner(running, "snapshot")
    at = KeyFolders(running.partner_keys, tuple(folders[:2]))
    rotate.rotate(running.partner, rotate.in_feed(running.partner), "snapshot", NewKeys(), at, running.clock())
    assert running.sync().exit_code == 0


def give_own_keys(world: World) -> list[str]:
    """The list's own role: 2 of 3 keys."""
    made = keys.make_role_keys(world.base / "bodies", "list-images", 3)
    rotate.add_role(
        world.partner,
        rotate.in_feed(world.partner),
        IMAGES,
        tuple(signer for _, signer in made),
        2,
        partner_keys(world),
        world.clock(),
    )
    return [str(path) for path, _ in made]


def publish_with(world: World, files: list[str]) -> Published:
    signers = rotate.online_signers(world.partner, world.partner_keys, files)
    add = world.base / "more.csv"
    add.write_text("algorithm,digest,entry,label\n" + ",".join(row(30)) + "\n")
    return author.publish_batch(world.partner, IMAGES, ListFiles(add=add).read, signers, world.clock())


def test_a_list_with_two_of_three_keys_stops_when_one_signs(running: World) -> None:
    """A list with a role of its own needs that role's threshold; other lists need the online key only."""
    files = give_own_keys(running)
    assert running.sync().exit_code == 0
    with pytest.raises(RefusedError, match="list-images needs 2 of its keys to sign, but has 1 at hand"):
        publish_with(running, files[:1])
    assert running.publish(full=rows(0, 3), name=VIDEOS).version == 1
    assert publish_with(running, files[1:]).version == 2
    assert running.sync().exit_code == 0
    running.pull()
    assert len(running.hits(30)) == 1


def test_a_body_that_lapses_stops_its_own_list_only(running: World) -> None:
    """A list whose own role expired is refused by name; the feed's other lists go on."""
    give_own_keys(running)
    running.clock.forward(days=40)
    running.publish(full=rows(0, 3), name=VIDEOS)
    images, videos = running.sync().lists
    assert isinstance(images.error, ExpiredError)
    assert "list-images metadata, which signs images, expired" in images.error.message
    assert (videos.list, videos.outcome) == ("iwf.videos", Outcome.PUBLISHED)
    running.pull()
    assert {hit.list for hit in running.hits(1)} == {"iwf.images", "iwf.videos"}


def test_a_lists_own_keys_can_be_rotated(running: World) -> None:
    """Rotating a list's role works as any other, and needs the offline keys of targets."""
    give_own_keys(running)
    rotated = rotate_partner(running, "list-images")
    assert (rotated.keys, rotated.threshold) == (3, 2)
    assert [path.name for path in rotated.made] == [f"list-images-{number}.pem" for number in (1, 2, 3)]
    assert publish_with(running, []).version == 2
    assert running.sync().exit_code == 0


def test_renewing_moves_the_expiry(running: World) -> None:
    """Renewed root and targets expire a whole lifetime from now, and followers go on."""
    running.clock.forward(days=100)
    running.publish(full=rows(0, 30))
    apply = rotate.in_feed(running.partner)
    expires = rotate.renew(running.partner, apply, partner_keys(running), running.clock())
    assert (expires["root"] - running.clock()).days == 365
    assert (expires["targets"] - running.clock()).days == 180
    assert running.sync().exit_code == 0


def test_a_crash_after_the_commit_is_finished_by_the_next_command(
    running: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rotation killed after its first file is completed with the very bytes that were committed."""

    class Killed(BaseException):
        pass

    def install_one(folder: object, files: SignedFiles) -> None:
        done = real(running.partner, files[:1])
        assert done is None
        raise Killed

    real = installing.install
    monkeypatch.setattr(publication, "install", install_one)
    with pytest.raises(Killed):
        rotate_partner(running, "timestamp")
    monkeypatch.undo()
    assert load_repository(running.partner).versions["root"] == 2
    assert running.sync().exit_code == 0
    assert rotate_partner(running, "snapshot").keys == 1
    assert load_repository(running.partner).versions["root"] == 5
    running.publish(add=[row(30)])
    assert running.sync().exit_code == 0


def test_the_operators_feed_is_not_rotated_beside_its_catalog(running: World) -> None:
    """What an operator publishes is changed through its state folder only."""
    with pytest.raises(RefusedError, match="is the feed of an operator's state folder"):
        rotate.refuse_operators(running.state.feed.root)
    with pytest.raises(RefusedError, match="is an operator's state folder") as refused:
        rotate.refuse_operators(running.state.root)
    assert refused.value.hint.startswith("give --state as well")
    rotate.refuse_operators(running.partner.root)


def test_a_partners_feed_beside_a_catalog_is_a_partners(running: World) -> None:
    """A gateway's feed that lies in the state folder is not taken for what the operator publishes."""
    gateway = running.state.root / "gateway"
    running.partner.root.rename(gateway)
    rotate.refuse_operators(gateway)


@pytest.mark.parametrize("what", ["rotate", "add-role", "renew"])
def test_a_clock_set_back_a_year_signs_nothing(running: World, what: str) -> None:
    """What it signed would be expired at once, root included: nobody could follow the feed any more."""
    before = {path.name for path in running.partner.path("metadata").iterdir()}
    apply, at = rotate.in_feed(running.partner), partner_keys(running)
    signer = keys.generate_key(running.base / "own.pem")
    running.clock.forward(days=-365)
    now = running.clock()
    change: dict[str, Callable[[], object]] = {
        "rotate": lambda: rotate.rotate(running.partner, apply, "timestamp", NewKeys(), at, now),
        "add-role": lambda: rotate.add_role(running.partner, apply, IMAGES, (signer,), 1, at, now),
        "renew": lambda: rotate.renew(running.partner, apply, at, now),
    }
    with pytest.raises(RefusedError, match="the local clock runs backwards") as refused:
        change[what]()
    assert "`syncd feed renew FEED --accept-clock TIME`" in refused.value.hint
    assert {path.name for path in running.partner.path("metadata").iterdir()} == before


def test_a_feed_signed_by_a_clock_ahead_is_renewed(running: World) -> None:
    """Publishing is refused until then, and says so; renewing by the right clock ends that, and followers go on."""
    running.clock.forward(days=100)
    running.publish(add=[row(30)])
    running.clock.forward(days=-99)
    with pytest.raises(RefusedError, match="the local clock runs backwards") as refused:
        running.publish(add=[row(31)])
    assert refused.value.hint.endswith("run `syncd feed renew FEED --accept-clock TIME`")
    apply, now = rotate.in_feed(running.partner), running.clock()
    with pytest.raises(RefusedError, match="the local clock runs backwards"):
        rotate.renew(running.partner, apply, partner_keys(running), now)
    rotate.renew(running.partner, apply, partner_keys(running), now, accepted=now)
    running.publish(add=[row(31)])
    assert running.sync().exit_code == 0
    assert not running.pull().errors
    assert len(running.hits(31)) == 1


@pytest.mark.parametrize("role", ["timestamp", "root"])
def test_new_keys_are_never_made_in_the_feed(running: World, role: str) -> None:
    """What is served gets no private key, whichever role it is for."""
    within = running.partner.root / "new"
    with pytest.raises(UsageError, match="is inside the feed folder, which is public"):
        rotate_partner(running, role, NewKeys(folder=within))
    assert not within.exists()


@pytest.mark.parametrize("role", ["timestamp", "root"])
def test_retired_keys_are_not_taken_for_new_ones(running: World, role: str) -> None:
    """The folder of the keys in use may hold retired ones too: all in it would be trusted again."""
    rotate_partner(running, role)
    trusted = load_repository(running.partner).signing(role)
    with pytest.raises(UsageError, match="and perhaps retired ones"):
        rotate_partner(running, role, NewKeys(folder=partner_keys(running).of(role)))
    assert load_repository(running.partner).signing(role) == trusted
