"""The next answer of a partner is asked for while the last one is being read, and nothing is asked for after a poll."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from partners import ncmec, stopncii
from partners.model import Model
from partners.scripts import fill
from partners.server import FakePartner, status
from syncd.errors import SourceError
from syncd.fetch import Meter
from syncd.sources.ncmec import Ncmec
from syncd.sources.statements import Page, Poll, PollRequest
from syncd.sources.stopncii import StopNcii

FAKES: dict[str, Any] = {"ncmec": lambda model: ncmec.FakeNcmec(model, page=3), "stopncii": stopncii.FakeStopNcii}


@pytest.fixture(params=FAKES)
def fake(request: pytest.FixtureRequest) -> Iterator[FakePartner]:
    """A partner with twelve records, in four pages."""
    made: FakePartner = FAKES[request.param](Model())
    fill(made.model, 12)
    with made.running():
        yield made


@contextmanager
def polling(fake: FakePartner, folder: Path) -> Iterator[Poll]:
    """A first poll."""
    secrets = [folder / name for name in ("password", "function", "subscription")]
    texts = (ncmec.PASSWORD, stopncii.FUNCTION_KEY, stopncii.SUBSCRIPTION_KEY)
    for path, text in zip(secrets, texts, strict=True):
        path.write_text(text)
    source: Ncmec | StopNcii
    if isinstance(fake, ncmec.FakeNcmec):
        source = Ncmec(name="p", url=fake.url + fake.base, username=ncmec.USERNAME, password_file=secrets[0])
    else:
        source = StopNcii(
            name="p",
            url=f"{fake.url}/v1",
            function_key_file=secrets[1],
            subscription_key_file=secrets[2],
            page_size=3,
        )
    with source.poll(PollRequest(None, fake.model.time, folder, Meter())) as poll:
        yield poll


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("syncd-partner")]


def test_the_next_page_is_asked_for_while_one_is_read(fake: FakePartner, tmp_path: Path) -> None:
    """One page ahead and no further: its answer waits until it is wanted."""
    asked = threading.Event()
    fake.before[1] = asked.set
    with polling(fake, tmp_path) as poll:
        pages = poll.pages()
        first: Page = next(pages)
        assert asked.wait(60)
        assert (first.done, len(fake.asked)) == (3, 2)
        assert sum(len(page.records) for page in pages) == 9
    assert len(fake.asked) == 4
    assert threads() == []


def test_nothing_is_asked_for_after_a_poll_that_is_given_up(fake: FakePartner, tmp_path: Path) -> None:
    """The call under way ends with the poll: it is not tried again, and no thread stays."""
    asked = threading.Event()
    fake.before[1] = asked.set
    fake.faults = {number: status(503) for number in range(1, 20)}
    with polling(fake, tmp_path) as poll:
        pages = poll.pages()
        next(pages)
        assert asked.wait(60)
        pages.close()  # type: ignore[attr-defined]  # it is a generator
        assert threads() == []
        given_up = len(fake.asked)
    assert given_up <= 3
    assert len(fake.asked) == given_up


def test_a_failure_is_that_of_the_poll(fake: FakePartner, tmp_path: Path) -> None:
    """Raised where the page is wanted, after the pages before it."""
    fake.faults = {1: status(401)}
    with polling(fake, tmp_path) as poll:
        pages = poll.pages()
        assert next(pages).done == 3
        with pytest.raises(SourceError, match="answered 401"):
            next(pages)
    assert threads() == []
