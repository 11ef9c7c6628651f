"""What the configuration says: one TOML file, every key overridable by environment. `syncd.config_file` reads it.

::

    state_dir = "/var/lib/syncd"            SYNCD_STATE_DIR

    [sources.iwf]
    url = "https://feed.example.org/"       SYNCD_SOURCES__IWF__URL

Secrets are never in it, only the names of files that hold them. ``docs/configuration.md`` explains every key.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.errors import UsageError, nearest
from syncd.format.caps import DEFAULT_CAPS, Caps
from syncd.listen import Address
from syncd.listen import parse as parse_address
from syncd.model import ListName, list_name

if TYPE_CHECKING:
    from syncd.certificates import Certificate
    from syncd.sources.signed_feed import SignedFeed

DEFAULT_SOCKET: Final = Path("/run/syncd/control.sock")
ENVIRONMENT: Final = "SYNCD_"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a service's credentials (systemd.exec(5), Credentials)."""

_LONGEST_SOCKET: Final = 107
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_MAX_DURATION: Final = 366 * 86400
_MIN_INTERVAL: Final = 60.0
_PORT: Final = r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
_PLAIN_ADDRESS: Final = re.compile(
    rf"(?:https://(?:[a-z][a-z0-9]{{0,40}}[.-]){{0,5}}[a-z]{{1,40}}{_PORT}"
    rf"|http://(?:localhost|127\.0\.0\.1|\[::1\]){_PORT}|file:///[A-Za-z0-9_]{{1,99}})"
    r"(?:/[A-Za-z0-9_-]{1,99}){0,20}/?"
)
"""An address with which nothing can be wrong. Every command reads the configuration: what is needed for looking closely
takes longer to load than most do."""


def parse_duration(value: object) -> float:
    """Read ``"90s"``, ``"10m"``, ``"2h"`` or ``"1d"`` as seconds; raises `UsageError`."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found[1]) == 0:
        raise UsageError("not a duration", hint='write a whole number and a unit, such as "90s", "10m", "2h" or "1d"')
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > _MAX_DURATION:  # so that the times that are computed of it are times
        raise UsageError("longer than a year", hint='the longest is "366d"')
    return float(seconds)


def _duration(value: object) -> float:
    return value if isinstance(value, float) else _as_value_error(parse_duration, value)


def _as_value_error(check: Any, value: Any) -> Any:
    """Let pydantic name the key: it wants `ValueError`."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(f"{error.message}{HINT}{error.hint}") from None


HINT: Final = "\0"
"""Parts a message from its hint while pydantic carries both."""


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"holds a NUL{HINT}no file can have such a name")
    if not path.is_absolute():
        raise ValueError(f"not an absolute path{HINT}write the whole path, from / on")
    return path


def credentials(environment: Mapping[str, str]) -> Path | None:
    """Where systemd hands credentials over to this process."""
    folder = environment.get(CREDENTIALS)
    return Path(folder) if folder else None


def _handed_over(path: Path) -> Path:
    """A path below ``$CREDENTIALS_DIRECTORY``. Where there is none it stays as it is: most commands never read it."""
    if path.parts[:1] == (f"${CREDENTIALS}",):
        _absolute(Path("/").joinpath(*path.parts[1:]))
        return (credentials(os.environ) or Path(path.parts[0])).joinpath(*path.parts[1:])
    return _absolute(path)


def _address(url: str) -> str:
    if _PLAIN_ADDRESS.fullmatch(url):
        return url
    from syncd.fetch.endpoint import Endpoint

    _as_value_error(Endpoint, url)
    return url


def _comma_separated(value: object) -> object:
    """In the environment a list is written ``images,videos``; JSON is understood as well."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return _as_value_error(_json, value)
    return [part.strip() for part in value.split(",")]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError("not JSON", hint="write the names with commas between them") from None


def _list(name: str) -> ListName:
    return ListName(_as_value_error(list_name, name))


def _long_enough(seconds: float) -> float:
    if seconds < _MIN_INTERVAL:
        raise ValueError(f'shorter than a minute{HINT}the shortest interval is "1m"')
    return seconds


def _bindable(path: Path) -> Path:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"longer than {_LONGEST_SOCKET} bytes{HINT}the kernel takes no longer address (unix(7))")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
GivenFile = Annotated[Path, AfterValidator(_handed_over)]
"""A file that somebody else puts there, maybe as a credential."""
Seconds = Annotated[float, BeforeValidator(_duration)]


def _named(table: BaseModel, *keys: str) -> dict[str, Path]:
    """The files that a table names under ``keys``."""
    found = ((key, getattr(table, key)) for key in keys)
    return {key: path for key, path in found if path is not None}


class FeedSource(BaseModel):
    """``[sources.NAME]``: a partner that publishes a signed feed."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["feed"]
    url: Annotated[str, AfterValidator(_address)]
    root: GivenFile
    interval: Annotated[Seconds, AfterValidator(_long_enough)] = 600.0
    lists: Annotated[
        tuple[Annotated[str, AfterValidator(_list)], ...], BeforeValidator(_comma_separated), NoDecode
    ] = ()
    token_file: GivenFile | None = None
    client_cert: GivenFile | None = None
    client_key: GivenFile | None = None
    ca: GivenFile | None = None
    deadline: Seconds = 600.0
    max_rows: Annotated[int, Field(gt=0)] = DEFAULT_CAPS.rows
    max_bytes: Annotated[int, Field(gt=0)] = DEFAULT_CAPS.length

    def secrets(self) -> dict[str, Path]:
        """The files with what nobody else may know, by their keys; a certificate's may hold its private key."""
        return _named(self, "token_file", "client_key" if self.client_key else "client_cert")

    def signed_feed(self, name: str) -> "SignedFeed":
        """The source as a sync takes it."""
        from syncd.sources.signed_feed import SignedFeed

        return SignedFeed(
            name,
            self.url,
            self.root,
            tuple(ListName(one) for one in self.lists),
            self.token_file,
            self.ca,
            self.client_cert,
            self.client_key,
            self.deadline,
            Caps(rows=self.max_rows, length=self.max_bytes),
        )


def _listen(text: str) -> str:
    _as_value_error(parse_address, text)
    return text


class Serve(BaseModel):
    """``[serve]``: the feed and the API over HTTP."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    listen: Annotated[str, AfterValidator(_listen)]
    tls_cert: GivenFile | None = None
    tls_key: GivenFile | None = None
    client_ca: GivenFile | None = None
    behind_proxy: bool = False
    operator_token_file: GivenFile | None = None
    metrics_token_file: GivenFile | None = None
    max_connections: Annotated[int, Field(ge=16, le=1_000_000)] = 4096
    max_streams: Annotated[int, Field(ge=1, le=1_000_000)] = 2000

    @property
    def address(self) -> Address:
        """Where it listens."""
        return parse_address(self.listen)

    def secrets(self) -> dict[str, Path]:
        """As those of a source."""
        return _named(self, "operator_token_file", "metrics_token_file", "tls_key" if self.tls_key else "tls_cert")

    def fault(self) -> tuple[str, str, str] | None:
        """Key, what is wrong with it and what to do, where keys do not go together."""
        if self.tls_cert is None and (self.tls_key or self.client_ca):
            key = "tls_key" if self.tls_key else "client_ca"
            return key, "given without tls_cert", "give the certificate too"
        if not (self.address.local or self.tls_cert or self.behind_proxy):
            return (
                "listen",
                f"{self.address.host} is not on this machine only, and there is no TLS: tokens and lists could be read",
                "give tls_cert and tls_key; or listen on 127.0.0.1 or a unix socket; or, where only a proxy that does "
                "TLS can reach it, set behind_proxy = true",
            )
        return None


class Config(BaseSettings):
    """All settings. Made by `syncd.config_file.load` only."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT, env_nested_delimiter="__", env_ignore_empty=True
    )
    state_dir: AbsolutePath
    control_socket: Annotated[AbsolutePath, AfterValidator(_bindable)] = DEFAULT_SOCKET
    sources: dict[str, FeedSource] = {}
    serve: Serve | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment, then the file. Nothing else is read."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    def feeds(self) -> "tuple[SignedFeed, ...]":
        """Every source, in the order of the file."""
        return tuple(source.signed_feed(name) for name, source in self.sources.items())

    def certificates(self) -> "Iterator[Certificate]":
        """Every one that is named, but for authorities."""
        from syncd.certificates import Certificate

        if self.serve is not None and self.serve.tls_cert is not None:
            yield Certificate("server", "", self.serve.tls_cert)
        for name, source in self.sources.items():
            if source.client_cert is not None:
                yield Certificate("client", name, source.client_cert)

    def intervals(self) -> dict[str, float]:
        """Seconds between the syncs of each source."""
        return {name: source.interval for name, source in self.sources.items()}

    def feed(self, name: str) -> "SignedFeed":
        """One source by its name; raises `UsageError` that names the nearest."""
        if name not in self.sources:
            raise UsageError(f"no source {name!r} is configured", hint=nearest(name, tuple(self.sources), "source"))
        return self.sources[name].signed_feed(name)
