"""Everything that may happen to one sync of a source over HTTP: faults of its partner, of the line, of this process."""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import httpx

from partners.server import FakePartner, Fault, Reply, broken_body, cut_body, no_answer, status
from syncd.fetch.network import Transport
from test_stated_story import Killed, killed_at


def instead(body: bytes, kind: str = "application/json") -> Fault:
    """Another body, with status 200."""
    return lambda _: Reply(body, kind=kind)


PASSING: dict[str, Fault] = {
    "busy": status(429, Retry_After="0"),
    "down": status(503),
    "cut": cut_body,
    "broken": broken_body,
    "no answer": no_answer,
}
"""Faults that pass if the request is made again."""
LASTING: dict[str, Fault] = {
    **PASSING,
    "refused": status(401),
    "moved": status(302, Location="https://elsewhere.example/"),
    "gone": status(404),
    "a page": instead(b"<!doctype html><title>Please log in</title>", "text/html"),
    "something else": instead(b'{"unexpected": [1, 2]}'),
    "nothing": instead(b""),
}
QUIRKS: Mapping[str, Mapping[str, Sequence[object]]] = {
    "ncmec": {"upper": (False, True), "page": (2, 3, 5)},
    "stopncii": {"falls": (False, True), "cut_above": (None, None, 2), "most": (2, 800)},
    "tcap": {"lasts": (1000, 2), "page": (2, 3)},
    "threatexchange": {"empty_pages": (False, True), "page": (2, 3, 5)},
}
"""What partners may do at any time, by type: attributes of the fake servers, and their values."""
HERE = ("timeout", "killed", "killed before a commit", "killed after a commit", "out of time")
"""What happens on this side."""


@dataclass(frozen=True)
class Trouble:
    """What happens to one sync. ``at``: the number of the request, or of the commit, from which it does."""

    lasting: str = ""
    at: int = 0
    passing: dict[int, str] = field(default_factory=dict)
    """by number of the request"""
    changes: tuple[int, ...] = ()
    """requests before which the partner's records change"""

    @property
    def kills(self) -> bool:
        return self.lasting.startswith("killed")

    @property
    def harmless(self) -> bool:
        """The sync must succeed."""
        return not self.lasting and not self.passing


def trouble(rng: random.Random) -> Trouble:
    """Half of all syncs have nothing to fear but passing faults."""
    passing = {rng.randrange(8): rng.choice(sorted(PASSING)) for _ in range(rng.choice([0, 0, 1, 2]))}
    changes = tuple(rng.randrange(6) for _ in range(rng.choice([0, 0, 0, 1, 2])))
    if rng.random() < 0.5:
        return Trouble(passing=passing, changes=changes)
    return Trouble(rng.choice([*LASTING, *HERE, *HERE]), rng.randrange(5), passing, changes)


def have_quirks(word: str, fake: FakePartner, rng: random.Random) -> None:
    """Let a partner have other quirks."""
    for name, values in QUIRKS.get(word, {}).items():
        assert hasattr(fake, name)
        setattr(fake, name, rng.choice(values))


class _Faults(dict[int, Fault]):
    """Faults by number of the request: single ones, and one for every request from a number on."""

    def __init__(self, single: Mapping[int, Fault], first: int, lasting: Fault | None) -> None:
        super().__init__(single)
        self._first, self._lasting = first, lasting

    def pop(self, number: int, default: Any = None) -> Any:
        if self._lasting is not None and number >= self._first:
            return self._lasting
        return super().pop(number, default)


@contextlib.contextmanager
def happening(fake: FakePartner, what: Trouble, change: Callable[[], None]) -> Iterator[None]:
    """Let it happen to the next sync. If this process is killed, the block ends quietly."""
    first = len(fake.asked)
    single = {first + number: PASSING[name] for number, name in what.passing.items()}
    fake.faults = _Faults(single, first + what.at, LASTING.get(what.lasting))
    fake.before = {first + number: change for number in what.changes}
    with contextlib.ExitStack() as stack:
        if what.lasting in {"timeout", "killed"}:
            stack.enter_context(_on_the_line(what))
        if "commit" in what.lasting:
            stack.enter_context(killed_at(what.at % 3, after="after" in what.lasting))
        with contextlib.suppress(Killed):
            yield
    fake.faults, fake.before = {}, {}


@contextlib.contextmanager
def _on_the_line(what: Trouble) -> Iterator[None]:
    """From one request on, none is answered in time; or this process is killed before it sends that one."""
    whole, left = Transport.handle_request, [what.at]

    def handle_request(transport: Transport, request: httpx.Request) -> httpx.Response:
        left[0] -= 1
        if left[0] >= 0:
            return whole(transport, request)
        if what.kills:
            raise Killed
        raise httpx.ReadTimeout("no answer in time")

    with patch.object(Transport, "handle_request", handle_request):
        yield
