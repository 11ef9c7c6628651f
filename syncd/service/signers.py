"""The online keys of a daemon that shares its catalog: read again when needed, since another one may rotate them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from securesystemslib.signer import Signer

from syncd.errors import SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.publish.rotate import online_signers
from syncd.trust.keys import Signers


class LiveSigners(Mapping[str, tuple[Signer, ...]]):
    """Signers by role, as on disk when `load` was called last."""

    def __init__(self, feed: FeedFolder, online: Path, credentials: Path | None) -> None:
        self._feed, self._online, self._credentials = feed, online, credentials
        self._signers: Signers = {}

    def load(self) -> str:
        """Read the keys again; return why they cannot sign every role in force, "" if they can."""
        try:
            signers = online_signers(self._feed, self._online, credentials=self._credentials)
            lacking = load_repository(self._feed).lacking(signers)
        except SyncdError as error:
            return error.message
        if lacking:
            return f"the keys of {', '.join(lacking)} that are in force are not on this machine"
        self._signers = signers
        return ""

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the keys at hand, sorted."""
        return tuple(sorted({signer.public_key.keyid for signers in self._signers.values() for signer in signers}))

    def __getitem__(self, role: str) -> tuple[Signer, ...]:
        """Return the signers of a role."""
        return self._signers[role]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the roles."""
        return iter(self._signers)

    def __len__(self) -> int:
        """Return the number of roles."""
        return len(self._signers)
