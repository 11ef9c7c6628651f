"""Whatever comes in: a typed error that says what is served and what to do, and the old snapshot goes on."""

import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bad_peer import (
    BadPeer,
    Fault,
    answer,
    dripping_body,
    dripping_headers,
    endless,
    flipped,
    forbidden_page,
    longer,
    page,
    serve,
    silent,
    truncated,
)
from standing import NEW, OLD, Standing, fault_of, followed, matched, prove_feed, publish_news
from syncd.errors import (
    ConfigError,
    DeadlineExceeded,
    ExpiredError,
    HttpStatusError,
    MismatchError,
    RefusedError,
    SourceError,
    StaleMirrorError,
    SyncdError,
    TruncatedError,
    TrustError,
    UnknownListError,
    UsageError,
    WebPageError,
)
from syncd.feed import layout
from syncd.feed.signed import load_repository
from syncd.model import ListName
from syncd.outcomes import Outcome
from syncd.publish import installing
from syncd.publish.change import metadata_files
from world import IMAGES, World, rows

TIMESTAMP = "metadata/timestamp.json"
NEXT_ROOT = "metadata/2.root.json"
MANIFEST = "*.manifest.json"
SEGMENT = "*.arrow"


@pytest.fixture
def before(standing: World) -> Standing:
    """What is served before anything bad comes in."""
    return Standing.of(standing)


# What a peer may answer


@pytest.fixture(scope="module")
def shared(standing_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Standing, BadPeer]]:
    """One world for every answer: none of them may change anything. The partner has news, behind a server."""
    world = World(Path(shutil.copytree(standing_folder, tmp_path_factory.mktemp("shared") / "world")))
    publish_news(world)
    with serve(world.partner.root) as peer:
        world.url = peer.url
        yield Standing.of(world), peer


def _fresh(shared: tuple[Standing, BadPeer]) -> tuple[Standing, BadPeer]:
    """The peer well again, and no parts of downloads kept: an honest part would let a later case succeed."""
    stands, peer = shared
    peer.mend()
    for folder in (stands.world.mirror, stands.world.state.source("iwf").root):
        shutil.rmtree(folder / ".work" / "download", ignore_errors=True)
    return stands, peer


ANSWERS: list[tuple[str, Fault, str, type[SyncdError], int]] = [
    ("403", answer(403), TIMESTAMP, HttpStatusError, 5),
    ("403", answer(403), MANIFEST, HttpStatusError, 5),
    ("403", answer(403), SEGMENT, HttpStatusError, 5),
    ("404", answer(404), TIMESTAMP, HttpStatusError, 5),
    ("404", answer(404), MANIFEST, StaleMirrorError, 5),
    ("404", answer(404), SEGMENT, StaleMirrorError, 5),
    ("429", answer(429, Retry_After="120"), TIMESTAMP, HttpStatusError, 5),
    ("429", answer(429, Retry_After="120"), SEGMENT, HttpStatusError, 5),
    ("500", answer(500), NEXT_ROOT, HttpStatusError, 5),
    ("500", answer(500), TIMESTAMP, HttpStatusError, 5),
    ("500", answer(500), MANIFEST, HttpStatusError, 5),
    ("500", answer(500), SEGMENT, HttpStatusError, 5),
    ("a page with 200", page, NEXT_ROOT, WebPageError, 5),
    ("a page with 200", page, TIMESTAMP, WebPageError, 5),
    ("a page with 200", page, MANIFEST, WebPageError, 5),
    ("a page with 200", page, SEGMENT, WebPageError, 5),
    ("a page with 403", forbidden_page, NEXT_ROOT, HttpStatusError, 5),
    ("a page with 403", forbidden_page, TIMESTAMP, HttpStatusError, 5),
    ("a page with 403", forbidden_page, MANIFEST, HttpStatusError, 5),
    ("an endless body", endless, TIMESTAMP, SourceError, 5),
    ("an endless body", endless, MANIFEST, SourceError, 5),
    ("an endless body", endless, SEGMENT, TruncatedError, 5),
    ("a redirect to another host", answer(302, Location="https://evil.example/x"), TIMESTAMP, SourceError, 5),
    ("a redirect to another host", answer(302, Location="https://evil.example/x"), SEGMENT, SourceError, 5),
    ("a redirect to plain http", answer(302, Location="http://127.0.0.1:1/x"), MANIFEST, SourceError, 5),
    ("a truncated body", truncated, TIMESTAMP, TruncatedError, 5),
    ("a truncated body", truncated, MANIFEST, TruncatedError, 5),
    ("a truncated body", truncated, SEGMENT, TruncatedError, 5),
    ("a wrong Content-Length", longer, MANIFEST, SourceError, 5),
    ("a wrong Content-Length", longer, SEGMENT, TruncatedError, 5),
    ("another bit", flipped, TIMESTAMP, TrustError, 4),
    ("another bit", flipped, MANIFEST, MismatchError, 4),
    ("another bit", flipped, SEGMENT, MismatchError, 4),
]


@pytest.mark.parametrize(
    ("fault", "path", "kind", "code"), [one[1:] for one in ANSWERS], ids=[f"{one[0]}-{one[2]}" for one in ANSWERS]
)
def test_a_bad_answer(
    shared: tuple[Standing, BadPeer], fault: Fault, path: str, kind: type[SyncdError], code: int
) -> None:
    """Whatever a peer answers in place of a file is a typed error, for a sync and for a pull, and changes nothing."""
    stands, peer = _fresh(shared)
    peer.fault(path, fault)
    outcome = stands.world.sync()
    errors = [fault_of(outcome), followed(stands.world)]
    assert [isinstance(error, kind) for error in errors] == [True, True]
    assert (outcome.exit_code, errors[1].exit_code) == (code, code)
    stands.check()
    stands.check_mirror()


def test_the_pause_that_a_peer_asks_for_is_told(shared: tuple[Standing, BadPeer]) -> None:
    """429 with Retry-After: the error carries the seconds, and nobody asks again meanwhile."""
    stands, peer = _fresh(shared)
    peer.fault(TIMESTAMP, answer(429, Retry_After="120"))
    error = fault_of(stands.world.sync())
    assert isinstance(error, HttpStatusError)
    assert (error.status, error.retry_after) == (429, 120.0)
    assert peer.requests.count(TIMESTAMP) == 1


@pytest.mark.parametrize("fault", [dripping_body, dripping_headers, silent])
@pytest.mark.parametrize("path", [TIMESTAMP, SEGMENT])
def test_a_peer_that_drips(shared: tuple[Standing, BadPeer], fault: Fault, path: str) -> None:
    """One byte now and then, in the body or in the headers, or none, ends at the deadline of the whole operation."""
    stands, peer = _fresh(shared)
    peer.fault(path, fault)
    started = time.monotonic()
    outcome = stands.world.sync(deadline=0.5)
    errors = [fault_of(outcome), followed(stands.world, deadline=0.5)]
    assert [type(error) for error in errors] == [DeadlineExceeded, DeadlineExceeded]
    assert outcome.exit_code == 5
    assert time.monotonic() - started < 4
    stands.check()
    stands.check_mirror()


def test_a_redirect_is_not_followed(shared: tuple[Standing, BadPeer]) -> None:
    """Not even to a server that has the right bytes: whoever can redirect would learn the token."""
    stands, peer = _fresh(shared)
    with serve(stands.world.partner.root) as other:
        peer.fault(TIMESTAMP, answer(302, Location=f"{other.url}{TIMESTAMP}"))
        errors = [fault_of(stands.world.sync()), followed(stands.world)]
        assert ["redirects" in error.message for error in errors] == [True, True]
        assert other.requests == []
    stands.check()


def test_what_was_refused_arrives_once_the_peer_is_mended(standing: World) -> None:
    """A bad answer leaves nothing behind that keeps the next sync or pull from going on."""
    publish_news(standing)
    with serve(standing.partner.root) as peer:
        standing.url = peer.url
        for fault in (truncated, flipped, page):
            peer.fault(SEGMENT, fault)
            standing.sync()
            standing.follow()
        peer.mend()
        assert standing.sync().outcome is Outcome.PUBLISHED
        assert standing.follow().errors == []
    standing.pull()
    assert matched(standing) == matched(standing, standing.mirror) == NEW
    prove_feed(standing)


# What a configuration may hold


def test_an_unknown_list(before: Standing) -> None:
    """A list that the feed does not have is refused by name, and the others go on."""
    publish_news(before.world)
    outcome = before.world.sync(lists=(ListName("video"), IMAGES))
    error = fault_of(outcome)
    assert isinstance(error, UnknownListError)
    assert "images" in error.hint
    assert [one.outcome for one in outcome.lists] == [Outcome.REJECTED, Outcome.PUBLISHED]
    assert outcome.exit_code == 4
    with pytest.raises(AssertionError):
        before.check()


def test_a_list_that_the_partner_no_longer_has(before: Standing) -> None:
    """A list that we publish and that its feed no longer names is an error, not silence."""
    world = before.world
    repo = load_repository(world.partner)
    draft = repo._draft(world.partner_signers(), world.clock())
    del draft.roles["lists"].targets[layout.target_name(IMAGES)]
    draft.sign("lists")
    installing.install(world.partner, metadata_files(draft.finish({}).files))
    outcome = world.sync()
    assert isinstance(fault_of(outcome), UnknownListError)
    assert outcome.exit_code == 4
    assert isinstance(followed(world), UnknownListError)
    before.check()
    before.check_mirror()


def test_a_missing_root_file(before: Standing) -> None:
    """A root that cannot be read is a fault of the configuration."""
    outcome = before.world.sync(root=before.world.base / "nowhere.json")
    assert isinstance(fault_of(outcome), ConfigError)
    assert outcome.exit_code == 2
    before.check()


def test_an_address_that_is_none(before: Standing) -> None:
    """Plain http beyond this machine is refused before anything is sent."""
    outcome = before.world.sync(url="http://feed.example.org/")
    assert isinstance(fault_of(outcome), UsageError)
    assert outcome.exit_code == 2
    before.check()


def test_nobody_there(before: Standing) -> None:
    """A peer that refuses the connection is unreachable."""
    outcome = before.world.sync(url="http://127.0.0.1:9/")
    assert isinstance(fault_of(outcome), SourceError)
    assert outcome.exit_code == 5
    before.check()


def test_a_root_that_does_not_match(tmp_path: Path) -> None:
    """A feed that another root signed is rejected, from the first sync on."""
    world = World(tmp_path)
    world.publish(full=rows(0, 3))
    outcome = world.sync(root=world.operator_root)
    assert type(fault_of(outcome)) is TrustError
    assert outcome.exit_code == 4
    assert not world.state.feed.path("v1").exists()


def test_a_root_that_was_replaced(before: Standing) -> None:
    """A source that was followed by one root is not followed by another because a file changed."""
    world = before.world
    outcome = world.sync(root=world.operator_root)
    assert type(fault_of(outcome)) is RefusedError
    assert outcome.exit_code == 6
    world.root = world.operator_root
    error = followed(world)
    assert (type(error), error.exit_code) == (UsageError, 2)
    before.check()
    before.check_mirror()


# What time does


def test_an_expired_timestamp(before: Standing) -> None:
    """Nobody vouches for freshness any more: a sync and a pull are refused, and answers go on."""
    publish_news(before.world)
    before.world.clock.forward(hours=49)
    outcome = before.world.sync()
    errors = [fault_of(outcome), followed(before.world)]
    assert [type(error) for error in errors] == [ExpiredError, ExpiredError]
    assert ["timestamp" in error.message for error in errors] == [True, True]
    assert outcome.exit_code == 4
    before.check()
    before.check_mirror()


def _resign(world: World, *without: str) -> None:
    signers = {role: found for role, found in world.partner_signers().items() if role not in without}
    repo = load_repository(world.partner)
    installing.install(world.partner, metadata_files(repo.resign(repo.freshness(), signers, world.clock()).files))


def test_an_expired_role(before: Standing) -> None:
    """The role that signs lists lapses although the timestamp is signed hourly."""
    before.world.clock.forward(days=31)
    _resign(before.world, "lists")
    outcome = before.world.sync()
    error = fault_of(outcome)
    assert isinstance(error, ExpiredError)
    assert "lists" in error.message
    assert isinstance(followed(before.world), ExpiredError)
    prove_feed(before.world)
    assert matched(before.world) == OLD
    before.check_mirror()


def test_an_expired_root(before: Standing) -> None:
    """A root that nobody renewed in a year ends what it vouches for."""
    before.world.clock.forward(days=366)
    _resign(before.world)
    outcome = before.world.sync()
    error = fault_of(outcome)
    assert isinstance(error, ExpiredError)
    assert "root" in error.message
    assert isinstance(followed(before.world), ExpiredError)
    before.check()


def test_a_clock_set_back_a_year(before: Standing) -> None:
    """Time that runs backwards past the last verification is refused: it would make what expired valid again."""
    publish_news(before.world)
    before.world.clock.forward(days=-365)
    outcome = before.world.sync()
    errors = [fault_of(outcome), followed(before.world)]
    assert [type(error) for error in errors] == [RefusedError, RefusedError]
    assert ["clock" in error.message for error in errors] == [True, True]
    assert outcome.exit_code == 6
    before.world.clock.forward(days=365)
    before.check()
    before.check_mirror()


def test_a_publisher_whose_clock_is_set_back(standing: World) -> None:
    """A publisher does not sign what would be expired at once, older than what it signed before."""
    standing.clock.forward(days=-365)
    with pytest.raises(RefusedError, match="clock"):
        publish_news(standing)
    standing.clock.forward(days=365)
    publish_news(standing)


def test_all_that_came_is_told_as_received(shared: tuple[Standing, BadPeer]) -> None:
    """Metadata and manifests too, what came of a segment that was cut off, and all of one that was refused."""
    stands, peer = _fresh(shared)
    peer.fault(SEGMENT, answer(404))
    stands.world.sync()  # from here on all metadata but the timestamp is held
    root = stands.world.partner.root
    signed = (root / TIMESTAMP).stat().st_size + _newest_size(root.glob(f"v1/*/{MANIFEST}"))
    segment = _newest_size(root.glob("v1/*/segments/*"))
    assert stands.world.sync().bytes == signed
    peer.fault(SEGMENT, truncated)
    assert stands.world.sync().bytes == signed + 3 * (segment // 2)  # as often as it was asked
    _fresh(shared)[1].fault(SEGMENT, answer(200, b"x" * segment))
    outcome = stands.world.sync()
    assert (outcome.outcome, outcome.bytes) == (Outcome.REJECTED, signed + segment)


def _newest_size(files: Iterable[Path]) -> int:
    return max((path.stat() for path in files), key=lambda found: found.st_mtime_ns).st_size


def test_a_token_that_is_no_text_is_named_so(world: World) -> None:
    """A token file of arbitrary bytes is a slip of the operator's, not a bug to be reported."""
    token = world.base / "token"
    token.write_bytes(b"\xff\xfe t")
    outcome = world.sync(url="http://127.0.0.1:9/", token_file=token)
    assert isinstance(outcome.error, UsageError)
    assert "the token is empty or holds white space or unprintable characters" in outcome.error.message
