"""The configuration: one TOML file; environment variables override every key. `syncd.config_file` reads it.

::

    state_dir = "/var/lib/syncd"            SYNCD_STATE_DIR

    [sources.iwf]                           `syncd.sources.tables`
    url = "https://feed.example.org/"       SYNCD_SOURCES__IWF__URL

It never contains secrets, only the names of files that contain them. ``docs/configuration.md`` explains every key.
"""

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from syncd.database_address import DatabaseAddress, check_url
from syncd.errors import UsageError, nearest
from syncd.limits import DEFAULT_LIMITS, EveryGate, ListLimits
from syncd.listen import Address
from syncd.listen import parse as parse_address
from syncd.retention import DEFAULTS, RetentionLimits
from syncd.settings import (
    AbsolutePath,
    Certificate,
    GivenFile,
    Retention,
    Seconds,
    Url,
    invalid_setting,
    named_files,
    page_address,
    validated,
)
from syncd.sources.tables import AnyTable
from syncd.store.settings import DEFAULT_CACHE, BucketSettings

if TYPE_CHECKING:
    from syncd.format.freshness import SourceAges
    from syncd.sources.source import Source

DEFAULT_SOCKET: Final = Path("/run/syncd/control.sock")
ENVIRONMENT: Final = "SYNCD_"
LogFormat = Literal["auto", "json", "text"]
"""Form of the daemon's log of events. "auto" is readable text on a terminal and JSON elsewhere."""

_LONGEST_SOCKET: Final = 107
_RECENT: Final = DEFAULTS.deltas
"""Deltas that a manifest names (`syncd.format.manifest.RECENT`): followers may ask for each."""
_MOST: Final = 10_000_000
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9._-]{1,100}(?:/[A-Za-z0-9._-]{1,100}){0,9})?")
_SMALLEST_CACHE: Final = 64 << 20
_SHORTEST_GRACE: Final = 3600.0
_SHORTEST_AUDIT: Final = 180
"""Days. Questions about a decision come months later."""


def _bindable(path: Path) -> Path:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        raise invalid_setting(
            f"longer than {_LONGEST_SOCKET} bytes",
            "choose a shorter path: this is the kernel's limit for sockets (unix(7))",
        )
    return path


def _database(url: str) -> str:
    validated(check_url, url)
    return url


DatabaseUrl = Annotated[str, AfterValidator(_database)]


def _listen(text: str) -> str:
    validated(parse_address, text)
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
        """The parsed address to listen on."""
        return parse_address(self.listen)

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "operator_token_file", "metrics_token_file", "tls_key" if self.tls_key else "tls_cert")

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        if self.tls_cert is None and (self.tls_key or self.client_ca):
            key = "tls_key" if self.tls_key else "client_ca"
            return key, "given without tls_cert", "give the certificate as well"
        if not (self.address.local or self.tls_cert or self.behind_proxy):
            return (
                "listen",
                f"{self.address.host} can be reached from other machines without TLS: tokens and lists could be read",
                "give tls_cert and tls_key; or listen on 127.0.0.1 or a unix socket; or, if only a proxy that does "
                "TLS can reach it, set behind_proxy = true",
            )
        return None


class Corrections(BaseModel):
    """``[corrections]``: what operators may do by themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    second_operator: bool = True
    """true if many suppressed rows in 24 hours wait for another operator"""


class OperatorTable(BaseModel):
    """``[operators.NAME]``: a person with a token for status and dashboard. A viewer may look, an operator may act."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    token_file: GivenFile
    role: Literal["viewer", "operator"]

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "token_file")


class DashboardTable(BaseModel):
    """``[dashboard]``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    actions: bool = False
    """operators may act from its pages"""


def _server(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise invalid_setting("not the address of an S3 server", 'write it as "https://s3.example.org"')
    return url.rstrip("/")


def _prefix(prefix: str) -> str:
    if not _PREFIX.fullmatch(prefix):
        raise invalid_setting("not a valid prefix", 'use letters, digits and ".", "_", "-", in parts separated by "/"')
    return prefix


class StoreTable(BaseModel):
    """``[store]``: the bucket in which the published files and the origins lie."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["s3"]
    bucket: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    prefix: Annotated[str, AfterValidator(_prefix)] = ""
    endpoint: Annotated[Url, AfterValidator(_server)] | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    access_key_file: GivenFile | None = None
    secret_key_file: GivenFile | None = None
    ca_file: GivenFile | None = None
    cache_bytes: Annotated[int, Field(ge=_SMALLEST_CACHE)] = DEFAULT_CACHE

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key."""
        return named_files(self, "secret_key_file")

    def settings(self) -> BucketSettings:
        """Return it as a plain value, which other processes can be given."""
        return BucketSettings(
            bucket=self.bucket,
            prefix=self.prefix,
            endpoint=self.endpoint or "",
            region=self.region or "",
            access_key_file=self.access_key_file,
            secret_key_file=self.secret_key_file,
            ca_file=self.ca_file,
            cache_bytes=self.cache_bytes,
        )

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        if (self.access_key_file is None) != (self.secret_key_file is None):
            missing = "access_key_file" if self.access_key_file is None else "secret_key_file"
            return missing, "missing", "give both files, or neither: then the environment of the service counts"
        return None


def _one_hour(seconds: float) -> float:
    if seconds < _SHORTEST_GRACE:
        raise invalid_setting("shorter than an hour", 'the shortest is "1h": a reader may be slow to open its files')
    return seconds


class RetentionTable(BaseModel):
    """``[retention]``: what is kept of the past. See `syncd.retention.RetentionLimits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    versions: Annotated[int, Field(ge=_RECENT, le=_MOST)] = DEFAULTS.versions
    published_versions: Annotated[int, Field(ge=1, le=_MOST)] = DEFAULTS.published_versions
    deltas: Annotated[int, Field(ge=_RECENT, le=_MOST)] = DEFAULTS.deltas
    evidence: Annotated[int, Field(ge=1, le=_MOST)] = DEFAULTS.evidence
    syncs: Annotated[int, Field(ge=100, le=_MOST)] = DEFAULTS.syncs
    holds: Annotated[int, Field(ge=1, le=_MOST)] = DEFAULTS.holds
    publications: Annotated[int, Field(ge=1, le=_MOST)] = DEFAULTS.publications
    grace: Annotated[Seconds, AfterValidator(_one_hour)] = DEFAULTS.grace.total_seconds()
    matchers: Seconds = DEFAULTS.matchers.total_seconds()
    audit_days: Annotated[int, Field(ge=_SHORTEST_AUDIT, le=100_000)] | None = None

    def limits(self) -> RetentionLimits:
        """Return the limits as a plain value."""
        return RetentionLimits(
            versions=self.versions,
            published_versions=self.published_versions,
            deltas=self.deltas,
            evidence=self.evidence,
            syncs=self.syncs,
            holds=self.holds,
            publications=self.publications,
            grace=timedelta(seconds=self.grace),
            matchers=timedelta(seconds=self.matchers),
            audit=None if self.audit_days is None else timedelta(days=self.audit_days),
        )

    def fault(self) -> tuple[str, str, str] | None:
        """Return a key that does not fit the others, with message and hint; None if all fit."""
        for key in ("published_versions", "deltas", "evidence"):
            if getattr(self, key) > self.versions:
                return (
                    key,
                    "more than versions",
                    f"files are kept of known versions only: set versions = {getattr(self, key)} or more",
                )
        return None


class Config(BaseSettings):
    """All settings. Only `syncd.config_file.load` makes one."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT, env_nested_delimiter="__", env_ignore_empty=True
    )
    state_dir: AbsolutePath
    control_socket: Annotated[AbsolutePath, AfterValidator(_bindable)] = DEFAULT_SOCKET
    history_retention: Retention = 730 * 86400.0
    evidence_retention: Retention = DEFAULTS.answers.total_seconds()
    log_format: LogFormat = "auto"
    catalog: DatabaseUrl | None = None
    catalog_password_file: GivenFile | None = None
    runbook: Annotated[str, AfterValidator(page_address)] | None = None
    sources: dict[str, AnyTable] = {}
    serve: Serve | None = None
    gate: EveryGate = EveryGate()
    corrections: Corrections = Corrections()
    operators: dict[str, OperatorTable] = {}
    dashboard: DashboardTable = DashboardTable()
    retention: RetentionTable = RetentionTable()
    store: StoreTable | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the environment, then the file, and nothing else."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings

    @property
    def bucket(self) -> BucketSettings | None:
        """The bucket of published files and origins; None if they are in the state folder."""
        return self.store.settings() if self.store else None

    @property
    def database(self) -> DatabaseAddress | None:
        """The database of the catalog; None if it is a file in the state folder."""
        return None if self.catalog is None else DatabaseAddress(self.catalog, self.catalog_password_file)

    def retention_limits(self) -> RetentionLimits:
        """Return the limits of the past that is kept, as a plain value."""
        return replace(self.retention.limits(), answers=timedelta(seconds=self.evidence_retention))

    def secrets(self) -> dict[str, Path]:
        """Return the files that contain secrets, by key; tables have their own."""
        return named_files(self, "catalog_password_file")

    def all_sources(self) -> "tuple[Source, ...]":
        """Return every source to sync, in the order of the file."""
        return tuple(table.source(name) for name, table in self.sources.items())

    def certificates(self) -> Iterator[Certificate]:
        """Yield every certificate that is named, except those of authorities."""
        if self.serve is not None and self.serve.tls_cert is not None:
            yield Certificate("server", "", self.serve.tls_cert)
        for name, table in self.sources.items():
            if (path := table.client_certificate()) is not None:
                yield Certificate("client", name, path)

    def intervals(self) -> dict[str, float]:
        """Return the seconds between two syncs of each source."""
        return {name: table.interval for name, table in self.sources.items()}

    def limits(self, source: str, name: str) -> ListLimits:
        """Return the gate's limits of a source's list; the defaults if the source is no longer configured."""
        limits = self.sources[source].gate.of_list(name) if source in self.sources else DEFAULT_LIMITS
        if limits.known_good_file is None and self.gate.known_good_file is not None:
            limits = limits.model_copy(update={"known_good_file": self.gate.known_good_file})
        return limits

    def max_ages(self) -> "dict[str, SourceAges]":
        """Return the limits of the ages of each source's lists."""
        return {name: table.max_ages() for name, table in self.sources.items()}

    def source(self, name: str) -> "Source":
        """Return one source to sync. Raises `UsageError`, whose hint names the nearest, if it is not configured."""
        if name not in self.sources:
            raise unknown_source(name, self.sources)
        return self.sources[name].source(name)


def unknown_source(name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a source that is not configured."""
    return UsageError(f"no source {name!r} is configured", hint=nearest(name, tuple(known), "source"))
