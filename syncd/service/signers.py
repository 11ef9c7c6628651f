"""The online keys of a daemon that shares its catalog: read again when needed, since another one may rotate them."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from securesystemslib.signer import Signer

from syncd.errors import SyncdError
from syncd.feed.folder import FeedFolder
from syncd.feed.signed import load_repository
from syncd.publish.rotate import LIST_ROLE, online_signers
from syncd.trust.keys import Signers, load_signers, roles_in


class LiveSigners(Mapping[str, tuple[Signer, ...]]):
    """Signers by role, as on disk when `load` was called last."""

    def __init__(self, feed: FeedFolder, online: Path, credentials: Path | None) -> None:
        self._feed, self._online, self._credentials = feed, online, credentials
        self._signers: Signers = {}
        self._ids: tuple[str, ...] = ()

    def load(self) -> str:
        """Read the keys again; return why they cannot sign every role in force, "" if they can."""
        try:
            signers = online_signers(self._feed, self._online, credentials=self._credentials)
            self._ids = self._all_ids(signers)
            lacking = load_repository(self._feed).lacking(signers)
        except SyncdError as error:
            return error.message
        if lacking:
            return f"the keys of {', '.join(lacking)} that are in force are not on this machine"
        self._signers = signers
        return ""

    def ids(self) -> tuple[str, ...]:
        """Return the ids of the keys at hand, sorted: also of those that are not in force yet."""
        return self._ids

    def _all_ids(self, signers: Signers) -> tuple[str, ...]:
        at_hand = [*signers.values()]
        if self._online.is_dir():  # a list may get keys of its own: until then its role does not exist
            coming = [role for role in roles_in(self._online, LIST_ROLE) if role not in signers]
            at_hand += load_signers(self._online, coming).values()
        return tuple(sorted({signer.public_key.keyid for of_role in at_hand for signer in of_role}))

    def __getitem__(self, role: str) -> tuple[Signer, ...]:
        """Return the signers of a role."""
        return self._signers[role]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the roles."""
        return iter(self._signers)

    def __len__(self) -> int:
        """Return the number of roles."""
        return len(self._signers)
