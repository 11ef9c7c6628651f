"""The demo's partner that signs nothing: StopNCII's interface, played by its fake server, with made-up hashes."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

from partners.model import Model
from partners.stopncii import FUNCTION_KEY, SUBSCRIPTION_KEY, FakeStopNcii, digest
from syncd.config_file import load
from syncd.errors import StoreError
from syncd.matcher import Matcher
from syncd.pipeline.outcome import SyncOutcome
from syncd.sources.source import Source
from syncd.units import count

NAME: Final = "stopncii"
_HASHES: Final = 400
_PAGE: Final = 150
_WITHDRAWN: Final = 4
"""the number of an image's hash"""
_TABLE: Final = """
[sources.{name}]
type = "stopncii"
url = "{url}"
function_key_file = "{folder}/function-key"
subscription_key_file = "{folder}/subscription-key"
page_size = {page}
"""


class Withdrawal:
    """One hash on its way in, and out again. ``config`` is the operator's configuration, which gets the source."""

    def __init__(self, config: Path, sync: Callable[[Source], SyncOutcome], pull: Callable[[], object]) -> None:
        self._config, self._sync, self._pull = config, sync, pull

    def play(self, matcher: Matcher) -> list[tuple[str, str]]:
        """Return the lines of this step. Raises `StoreError` if the matcher is wrong."""
        model = Model(int(time.time()) - 3600)
        for number in range(_HASHES):
            model.put(number)
        model.tick(60)
        withdrawn = digest(model.records[_WITHDRAWN])
        with FakeStopNcii(model).running() as partner:
            source = self._configured(partner.url)
            first = self._follow(source, matcher)
            pages = len(partner.asked)
            (hit,) = matcher.lookup("pdq", withdrawn) or _wrong()
            model.delete(_WITHDRAWN)
            model.tick(60)
            begun = time.monotonic()
            second = self._follow(source, matcher)
            if matcher.lookup("pdq", withdrawn):
                _wrong()
            took = time.monotonic() - begun
        removed = sum(counts.removed for one in second.lists for counts in one.counts.values())
        rows = sum(one.rows for one in first.lists)
        return [
            ("fetched", f"{count(rows, 'row')} of made-up hashes in {count(pages, 'page')}, for review"),
            ("on the list", f"{hit.list} version {first.lists[0].version}, label {hit.label}: one of the images"),
            ("withdrawn", f"by the partner: the next sync removes {count(removed, 'row')}"),
            ("not on it", f"{hit.list} version {second.lists[0].version}: the same image"),
            ("in all", f"{took * 1e3:.0f} ms from the sync that hears of it to the matcher's answer"),
        ]

    def _configured(self, url: str) -> Source:
        """Write the keys and the source's table, and read the source from the configuration."""
        folder = self._config.parent / "stopncii-keys"
        folder.mkdir(0o700)
        (folder / "function-key").write_text(FUNCTION_KEY)
        (folder / "subscription-key").write_text(SUBSCRIPTION_KEY)
        for key in folder.iterdir():
            key.chmod(0o600)
        with self._config.open("a") as stream:
            stream.write(_TABLE.format(name=NAME, url=url, folder=folder, page=_PAGE))
        return load(self._config).source(NAME)

    def _follow(self, source: Source, matcher: Matcher) -> SyncOutcome:
        """Sync, pull, and load what came. Raises the error of the sync, if it has one."""
        outcome = self._sync(source)
        for error in (outcome.error, *(one.error for one in outcome.lists)):
            if error is not None:
                raise error
        self._pull()
        matcher.reload()
        return outcome


def _wrong() -> NoReturn:
    raise StoreError("the matcher was wrong about a withdrawn hash", hint="a bug in syncd: please report it")
