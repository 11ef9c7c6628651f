"""Everything that is said of a source and its polls, in which no secret may stand."""

import json
from collections.abc import Iterator

import pytest
from pydantic import TypeAdapter

from partners.polls import Mirror
from partners.server import FakePartner, Fault
from syncd.errors import SyncdError


def told_by_polls(fake: FakePartner, mirror: Mirror, *faults: Fault) -> Iterator[str]:
    """Poll once, then once for each fault of the server, at every request; yield all that is said and kept of it."""
    mirror.poll(fake.model.time)
    source = mirror.source
    yield from (page.answer.decode() for page in mirror.pages)
    yield repr(mirror.pages)
    yield json.dumps([mirror.checkpoint, mirror.set_aside, source.shape])
    yield repr(source)
    yield TypeAdapter(type(source)).dump_json(source).decode()
    for fault in faults:
        fake.faults = {len(fake.asked) + number: fault for number in range(9)}
        with pytest.raises(SyncdError) as failed:
            mirror.poll(fake.model.time)
        yield f"{failed.value!r} {failed.value} {failed.value.hint}"
