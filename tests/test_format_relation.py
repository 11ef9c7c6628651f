"""The one rule between a version held and a signed manifest."""

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from syncd.format.manifest import RECENT, Manifest, ManifestRef, Step, encode
from syncd.format.relation import Related, Relation, relate
from syncd.model import ListName

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Version:
    """A published version, and all those that it descends from, the oldest first."""

    manifest: Manifest
    ancestors: tuple[ManifestRef, ...] = ()

    @property
    def sha256(self) -> str:
        return hashlib.sha256(encode(self.manifest)).hexdigest()

    @property
    def ref(self) -> ManifestRef:
        return ManifestRef(version=self.manifest.version, sha256=self.sha256)


@dataclass
class History:
    """Publishes versions of a list without rows, each of other bytes, from whichever version a test says."""

    published: list[Version] = field(default_factory=list)

    def publish(self, on: Version | None, ahead: int, kept: int) -> Version:
        """The next version on top of ``on``, ``ahead`` numbers higher, which names at most ``kept`` deltas."""
        version = (on.manifest.version if on else 0) + ahead
        recent: tuple[Step, ...] = ()
        if on:
            step = Step(version=version, previous=on.ref, segments=(), counts={}, end_state={})
            recent = (*on.manifest.recent, step)[-kept:] if kept else ()
        manifest = Manifest(
            list=ListName("images"),
            version=version,
            previous=on.ref if on else None,
            created=CREATED + timedelta(seconds=len(self.published)),
            end_state={},
            stack=(),
            recent=recent,
        )
        signed = Version(manifest, (*on.ancestors, on.ref) if on else ())
        self.published.append(signed)
        return signed


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """Versions of one list, some of which were published on top of an older one than the last."""
    publisher = History()
    for _ in range(draw(st.integers(2, 12))):
        on = draw(st.sampled_from(publisher.published)) if publisher.published else None
        publisher.publish(on, draw(st.integers(1, 3)), draw(st.integers(0, 5)))
    return publisher.published


@given(histories(), st.data())
def test_every_pair_of_versions_relates_in_one_way(history: list[Version], data: st.DataObject) -> None:
    """The relation is what the history of both versions says it is, as far as the recent deltas tell of it."""
    held, new = data.draw(st.sampled_from(history)), data.draw(st.sampled_from(history))
    related = relate(held.ref, new.manifest, new.sha256)
    told = [step.previous for step in new.manifest.recent]
    if new is held:
        expected = Relation.SAME
    elif new.manifest.version <= held.manifest.version:
        expected = Relation.OLDER if new.manifest.version < held.manifest.version else Relation.CONTRADICTS
    elif held.ref in told:
        expected = Relation.FOLLOWS
    elif told and told[0].version <= held.manifest.version:
        expected = Relation.FORKED
    else:
        expected = Relation.TOO_FAR
    assert related.relation is expected
    if expected is Relation.FOLLOWS:
        assert held.ref in new.ancestors
    if expected is Relation.FORKED:
        assert held.ref not in new.ancestors


@given(histories(), st.data())
def test_the_steps_lead_from_the_version_held_to_the_new_one(history: list[Version], data: st.DataObject) -> None:
    """Each applies to the one before, the first to the version held; there are none if it does not follow."""
    held, new = data.draw(st.sampled_from(history)), data.draw(st.sampled_from(history))
    related = relate(held.ref, new.manifest, new.sha256)
    assert bool(related.steps) == (related.relation is Relation.FOLLOWS)
    if related.steps:
        path = [held.ref, *(ref for ref in (*new.ancestors, new.ref) if ref.version > held.manifest.version)]
        assert [step.previous for step in related.steps] == path[:-1]
        assert [step.version for step in related.steps] == [ref.version for ref in path[1:]]


def test_more_versions_behind_than_a_manifest_names_is_too_far() -> None:
    """After 64 deltas a follower at the first version must load the stack; one at the second may still apply them."""
    publisher = History()
    newest = first = publisher.publish(None, 1, RECENT)
    for _ in range(RECENT + 1):
        newest = publisher.publish(newest, 1, RECENT)
    second = publisher.published[1]
    assert relate(first.ref, newest.manifest, newest.sha256) == Related(Relation.TOO_FAR)
    assert len(relate(second.ref, newest.manifest, newest.sha256).steps) == RECENT
