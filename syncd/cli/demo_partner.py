"""The partner of ``syncd demo``: publishes its list, and is copied and forged by those who attack."""

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from syncd.cli.demo_data import Known
from syncd.model import ListName

if TYPE_CHECKING:
    from syncd.publish.author import Published

LIST: Final = ListName("images")


def now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Partner:
    """A feed with one list, in ``base / "partner"``."""

    def __init__(self, base: Path) -> None:
        self.base, self.folder = base, base / "partner"

    def init(self) -> None:
        """Make the feed and its keys."""
        from syncd.publish import author

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
    ) -> "Published":
        """Publish the next version of the list, signed with the keys of ``folder``: the partner's, or a forger's."""
        from syncd.feed.folder import FeedFolder
        from syncd.listfile import ListFiles
        from syncd.publish import author
        from syncd.trust import keys

        feed = folder or self.folder
        signers = keys.load_signers(author.keys_folder(feed), keys.ONLINE_ROLES)
        files = ListFiles(full=self._csv("full", full), add=self._csv("add", add), remove=self._csv("remove", remove))
        return author.publish_batch(FeedFolder(feed), LIST, files.read, signers, now())

    def _csv(self, kind: str, known: Iterable[Known]) -> Path | None:
        lines = [f"{one.algorithm},{one.digest},{_entry(one)},{'ABC'[len(one.path.name) % 3]}\n" for one in known]
        if not lines:
            return None
        path = self.base / f"{kind}.csv"
        path.write_text("algorithm,digest,entry,label\n" + "".join(lines))
        return path

    def flipped(self) -> Path:
        """A copy of the feed with one bit of its newest segment turned over."""
        folder = self.base / "flipped"
        shutil.copytree(self.folder, folder)
        newest = max(folder.glob("v1/*/segments/*"), key=lambda path: path.stat().st_mtime_ns)
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.chmod(0o640)
        newest.write_bytes(content)
        return folder

    def wrong_key(self, known: Sequence[Known]) -> Path:
        """Another feed of the same list, signed well, but by keys that nobody vouches for."""
        from syncd.publish import author

        folder = self.base / "forged"
        author.init(folder, self.base / "forged-offline", self.base / "forged.keys", count=1, threshold=1, now=now())
        self.publish(full=known[:100], folder=folder)
        self.publish(add=known[100:110], folder=folder)
        for _ in range(9):  # numbers above all that the operator has seen, so that only the keys can be at fault
            self._resign(folder, author.keys_folder(folder), now())
        return folder

    def silent(self) -> Path:
        """A copy of the feed as if it had been signed last three days ago."""
        from syncd.publish import author

        folder = self.base / "silent"
        shutil.copytree(self.folder, folder)
        self._resign(folder, author.keys_folder(self.folder), now() - timedelta(days=3))
        return folder

    def _resign(self, folder: Path, online_keys: Path, when: datetime) -> None:
        from syncd.feed.folder import FeedFolder
        from syncd.publish import author
        from syncd.publish.publication import Proposal
        from syncd.trust import keys

        signers = keys.load_signers(online_keys, keys.ONLINE_ROLES)
        signed = Proposal[None](
            "resign", resign=lambda repository: repository.resign(repository.freshness(), signers, when)
        )
        author.publisher(FeedFolder(folder), signers).publish("signing as of a while ago", lambda _: signed, when)


def _entry(known: Known) -> str:
    """A stand-in for a partner's own entry id."""
    return hashlib.blake2s(str(known.path).encode(), digest_size=6).hexdigest()
