"""The feed that a matcher follows by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.errors import StoreError, UsageError
from syncd.fetch.endpoint import Endpoint
from syncd.fetch.network import tls_context
from syncd.files import read_bytes
from syncd.matcher.check_in import checked_instance, host_instance
from syncd.matcher.threads import can_wait
from syncd.model import ListName, list_name

_MAX_TOKEN: Final = 4096


@dataclass(frozen=True)
class Feed:
    """A feed, and what it needs to let us in; see `Endpoint`. Files are read when the watch begins.

    Raises `UsageError` for a list or instance that cannot be called so, and for an interval of no length.
    """

    url: str
    """``https://HOST/feed/`` of a syncd: events are followed; any other address is polled"""
    token_file: str | Path | None = None
    ca: str | Path | None = None
    client_cert: str | Path | None = None
    client_key: str | Path | None = None
    lists: Sequence[str] = ()
    """which to hold; none named: all that the feed has"""
    interval: float = 60.0
    """seconds between two polls, give or take a fifth, where no events are followed"""
    deadline: float = 600.0
    """seconds after which a pull gives up"""
    instance: str = ""
    """what this is called at the operator's; the process id is added. Default: the host's name"""

    def __post_init__(self) -> None:
        self.list_names()
        self.instance_name()
        for seconds in (self.interval, self.deadline):
            if not can_wait(seconds):
                raise UsageError(f"an interval or deadline of {seconds} seconds", hint="give seconds, more than 0")

    def endpoint(self) -> Endpoint:
        """Where to fetch from; its files can be read. Raises `UsageError`."""
        files = (_path(self.ca), _path(self.client_cert), _path(self.client_key))
        endpoint = Endpoint(self.url, self._token(), *files)
        tls_context(endpoint)
        return endpoint

    def list_names(self) -> tuple[ListName, ...]:
        """The lists to hold."""
        if isinstance(self.lists, str):  # each of its letters would be taken for a list
            raise UsageError("lists is one text, not several names", hint=f"give [{self.lists!r}]")
        return tuple(list_name(one) for one in self.lists)

    def instance_name(self) -> str:
        """What this host is called."""
        return checked_instance(self.instance) if self.instance else host_instance()

    def _token(self) -> str | None:
        if self.token_file is None:
            return None
        try:
            found = read_bytes(Path(self.token_file), _MAX_TOKEN).decode(errors="replace").strip()
        except StoreError as error:
            raise UsageError(
                f"the token: {error.message}", hint="check the path, and that this user may read it"
            ) from error
        if not found:
            raise UsageError(f"{self.token_file} holds no token", hint="write the one that you were given into it")
        return found


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
