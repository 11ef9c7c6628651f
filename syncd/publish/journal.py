"""The ledger of a feed without a catalog: a journal in its private part, which holds one publication at most."""

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from shlex import quote
from typing import Final

from syncd.errors import LostRaceError, StoreError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import install_bytes, storage, sync_folder
from syncd.format.manifest import Manifest, now_in_seconds
from syncd.model import ListName
from syncd.publish.ledger import Commit, CurrentVersion, Publication
from syncd.trust.repository import Repository
from syncd.trust.values import Freshness

_JOURNAL: Final = "journal.json"
_MAX_JOURNAL: Final = 64 << 20
_ONLY: Final = 1
"""The id of the publication: a journal never holds a second one."""


class Journal:
    """The `syncd.publish.ledger.Ledger` of a partner's feed. Callers must hold the feed's lock."""

    def __init__(self, feed: FeedFolder) -> None:
        self._feed = feed

    def last_commit(self) -> int:
        """See `Ledger.last_commit`. The lock of the feed, which lies on one machine, excludes others."""
        return 0

    def last_published(self) -> None:
        """See `Ledger.last_published`. The store is a folder, which only this machine writes."""

    def pending(self) -> Sequence[Publication]:
        """See `Ledger.pending`."""
        content = self._feed.read_private(_JOURNAL, _MAX_JOURNAL)
        if content is None:
            return ()
        try:
            files = tuple((str(path), base64.b64decode(encoded)) for path, encoded in json.loads(content))
        except (ValueError, TypeError):
            raise StoreError(
                f"the journal {self._feed.work / _JOURNAL} is damaged: a publication was interrupted",
                hint=f"remove this file, run `syncd verify {quote(str(self._feed.root))}`, then publish again",
            ) from None
        with storage(self._feed.work, "read"):
            written = (self._feed.work / _JOURNAL).stat().st_mtime
        return (Publication(_ONLY, datetime.fromtimestamp(written, UTC), "publish", files),)

    def current(self, repository: Repository, name: ListName) -> CurrentVersion | None:
        """See `Ledger.current`."""
        target = repository.targets().get(layout.target_name(name))
        return CurrentVersion(self._feed.manifest(name, target.sha256), target.sha256) if target else None

    def freshness(
        self, repository: Repository, moved: Sequence[Manifest], records: None, now: datetime
    ) -> Mapping[str, Freshness]:
        """See `Ledger.freshness`. Without an upstream, every signature vouches for all lists of the feed."""
        del records
        named = {layout.list_of(target.name): target.version for target in repository.targets().values()}
        named |= {manifest.list: manifest.version for manifest in moved}
        return {name: Freshness(now_in_seconds(now), version) for name, version in named.items() if name}

    def audit_head(self) -> None:
        """See `Ledger.audit_head`."""

    def commit(self, commit: Commit[None]) -> int:
        """See `Ledger.commit`. The feed's lock excludes others; publications left by a crash must be installed."""
        if self.pending():
            raise LostRaceError(f"a publication in {self._feed.work} is not installed yet", hint="publish again")
        document = [[path, base64.b64encode(content).decode()] for path, content in commit.files]
        install_bytes(self._feed.work / _JOURNAL, json.dumps(document).encode(), mode=0o600)
        return _ONLY

    def installed(self, publication: int) -> None:
        """See `Ledger.installed`."""
        del publication
        with storage(self._feed.work, "write"):
            (self._feed.work / _JOURNAL).unlink(missing_ok=True)
            sync_folder(self._feed.work)
