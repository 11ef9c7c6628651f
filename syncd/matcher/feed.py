"""The settings of a feed that a matcher follows by itself."""

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
    """A feed, and the credentials for it (see `Endpoint`). Files are read when watching begins.

    Raises `UsageError` for an invalid list or instance name, and for an interval or deadline that is not positive.
    """

    url: str
    """``https://HOST/feed/`` of a syncd, whose events are followed; any other address is polled"""
    token_file: str | Path | None = None
    ca: str | Path | None = None
    client_cert: str | Path | None = None
    client_key: str | Path | None = None
    lists: Sequence[str] = ()
    """names of the lists to hold; if empty, all lists of the feed"""
    interval: float = 60.0
    """seconds between two polls, plus or minus a fifth, while no events are followed"""
    deadline: float = 600.0
    """seconds after which a pull gives up"""
    proxy: str | None = None
    """``http://HOST:PORT`` of the HTTP proxy to go through; never taken from the environment"""
    redirects: Sequence[str] = ()
    """hosts to which the feed may redirect its files: HOST or HOST:PORT"""
    instance: str = ""
    """name of this instance in the operator's reports; the process id is added. Default: the host name"""

    def __post_init__(self) -> None:
        self.list_names()
        self.instance_name()
        for seconds in (self.interval, self.deadline):
            if not can_wait(seconds):
                raise UsageError(
                    f"an interval or deadline of {seconds} seconds is not valid",
                    hint="give a number of seconds, more than 0",
                )

    def endpoint(self) -> Endpoint:
        """Return the endpoint, after reading its files. Raises `UsageError`."""
        files = (_path(self.ca), _path(self.client_cert), _path(self.client_key))
        endpoint = Endpoint(self.url, self._token(), *files, self.proxy, _hosts(self.redirects))
        tls_context(endpoint)
        return endpoint

    def list_names(self) -> tuple[ListName, ...]:
        """The lists to hold."""
        if isinstance(self.lists, str):  # iterating would take each letter for a list
            raise UsageError("lists must be a sequence of names, not one string", hint=f"give [{self.lists!r}]")
        return tuple(list_name(name) for name in self.lists)

    def instance_name(self) -> str:
        """Return the name of this host's instance."""
        return checked_instance(self.instance) if self.instance else host_instance()

    def _token(self) -> str | None:
        if self.token_file is None:
            return None
        try:
            token = read_bytes(Path(self.token_file), _MAX_TOKEN).decode(errors="replace").strip()
        except StoreError as error:
            raise UsageError(
                f"the token: {error.message}", hint="check the path, and that this user may read the file"
            ) from error
        if not token:
            raise UsageError(f"{self.token_file} is empty", hint="write the token from the feed's operator into it")
        return token


def _hosts(given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):  # iterating would take each letter for a host
        raise UsageError("redirects must be a sequence of hosts, not one string", hint=f"give [{given!r}]")
    return tuple(given)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
