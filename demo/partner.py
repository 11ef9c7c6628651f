"""The partner of the demo, and the copies and forgeries of its feed that the attacks use."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from demo.data import Known
from syncd.feed.folder import FeedFolder
from syncd.listfile import ListFiles
from syncd.model import ListName
from syncd.publish import author
from syncd.publish.publication import Proposal
from syncd.publish.request import Published
from syncd.trust import keys

LIST: Final = ListName("images")


def now() -> datetime:
    """Return the time of the wall clock."""
    return datetime.now(UTC)


class Partner:
    """A feed with one list, in ``base / "partner"``."""

    def __init__(self, base: Path) -> None:
        self.base, self.folder = base, base / "partner"

    def init(self) -> None:
        """Create the feed and its keys."""
        author.init(
            self.folder, self.base / "partner-offline", self.base / "partner.keys", count=3, threshold=2, now=now()
        )

    def publish(
        self,
        *,
        full: Iterable[Known] = (),
        add: Iterable[Known] = (),
        remove: Iterable[Known] = (),
        folder: Path | None = None,
    ) -> Published:
        """Publish the next version of the list, signed with the keys of ``folder``: the partner's, or a forger's."""
        feed = folder or self.folder
        signers = keys.load_signers(author.keys_folder(feed), keys.ONLINE_ROLES)
        files = ListFiles(full=self._csv("full", full), add=self._csv("add", add), remove=self._csv("remove", remove))
        return author.publish_batch(FeedFolder(feed), LIST, files.read, signers, now())

    def _csv(self, kind: str, known: Iterable[Known]) -> Path | None:
        lines = [f"{file.algorithm},{file.digest},{_entry(file)},{'ABC'[len(file.path.name) % 3]}\n" for file in known]
        if not lines:
            return None
        path = self.base / f"{kind}.csv"
        path.write_text("algorithm,digest,entry,label\n" + "".join(lines))
        return path

    def flipped(self) -> Path:
        """Copy the feed, and flip a bit of its newest segment."""
        folder = self.base / "flipped"
        shutil.copytree(self.folder, folder)
        newest = max(folder.glob("v1/*/segments/*"), key=lambda path: path.stat().st_mtime_ns)
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.chmod(0o640)
        newest.write_bytes(content)
        return folder

    def wrong_key(self, known: Sequence[Known]) -> Path:
        """Create another feed of the same list, validly signed, but with keys that nobody trusts."""
        folder = self.base / "forged"
        author.init(folder, self.base / "forged-offline", self.base / "forged.keys", count=1, threshold=1, now=now())
        self.publish(full=known[:100], folder=folder)
        self.publish(add=known[100:110], folder=folder)
        for _ in range(9):  # numbers above all that the operator has seen: only the keys can be the reason to refuse
            self._resign(folder, author.keys_folder(folder), now())
        return folder

    def silent(self) -> Path:
        """Copy the feed as if its last signature was made three days ago."""
        folder = self.base / "silent"
        shutil.copytree(self.folder, folder)
        self._resign(folder, author.keys_folder(self.folder), now() - timedelta(days=3))
        return folder

    def _resign(self, folder: Path, online_keys: Path, when: datetime) -> None:
        signers = keys.load_signers(online_keys, keys.ONLINE_ROLES)
        signed = Proposal[None](
            "resign", resign=lambda repository: repository.resign(repository.freshness(), signers, when)
        )
        author.publisher(FeedFolder(folder), signers).publish_fixed("signing as of a while ago", signed, when)


def _entry(known: Known) -> str:
    """Return a stand-in for the partner's own entry id."""
    return hashlib.blake2s(str(known.path).encode(), digest_size=6).hexdigest()
