"""The configuration: one TOML file, every key overridable by environment. `syncd.config_file` reads it.

::

    state_dir = "/var/lib/syncd"            SYNCD_STATE_DIR

    [sources.iwf]                           `syncd.sources.tables`
    url = "https://feed.example.org/"       SYNCD_SOURCES__IWF__URL

Secrets are never in it, only the names of files that hold them. ``docs/configuration.md`` explains every key.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.errors import UsageError, nearest
from syncd.listen import Address
from syncd.listen import parse as parse_address
from syncd.settings import HINT, AbsolutePath, GivenFile, as_value_error, named_files
from syncd.sources.tables import AnyTable

if TYPE_CHECKING:
    from syncd.certificates import Certificate
    from syncd.sources.source import Source

DEFAULT_SOCKET: Final = Path("/run/syncd/control.sock")
ENVIRONMENT: Final = "SYNCD_"

_LONGEST_SOCKET: Final = 107


def _bindable(path: Path) -> Path:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise ValueError(f"longer than {_LONGEST_SOCKET} bytes{HINT}the kernel takes no longer address (unix(7))")
    return path


def _listen(text: str) -> str:
    as_value_error(parse_address, text)
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
        """The files with what nobody else may know, by their keys."""
        return named_files(self, "operator_token_file", "metrics_token_file", "tls_key" if self.tls_key else "tls_cert")

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
    sources: dict[str, AnyTable] = {}
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

    def all_sources(self) -> "tuple[Source, ...]":
        """Every source as a sync takes it, in the order of the file."""
        return tuple(table.source(name) for name, table in self.sources.items())

    def certificates(self) -> "Iterator[Certificate]":
        """Every one that is named, but for authorities."""
        from syncd.certificates import Certificate

        if self.serve is not None and self.serve.tls_cert is not None:
            yield Certificate("server", "", self.serve.tls_cert)
        for name, table in self.sources.items():
            if (path := table.client_certificate()) is not None:
                yield Certificate("client", name, path)

    def intervals(self) -> dict[str, float]:
        """Seconds between the syncs of each source."""
        return {name: table.interval for name, table in self.sources.items()}

    def source(self, name: str) -> "Source":
        """One source as a sync takes it; raises `UsageError` that names the nearest."""
        if name not in self.sources:
            raise UsageError(f"no source {name!r} is configured", hint=nearest(name, tuple(self.sources), "source"))
        return self.sources[name].source(name)
