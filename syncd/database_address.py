"""The address of a catalog in PostgreSQL. Opens nothing, so that reading the configuration stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from syncd.errors import ConfigError, StoreError, UsageError
from syncd.files import read_bytes

_SCHEMES: Final = ("postgresql", "postgres")
_EXAMPLE: Final = 'write "postgresql://syncd@db.example.org:5432/syncd?sslmode=verify-full"'
_MAX_PASSWORD: Final = 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1", "[::1]"})


@dataclass(frozen=True)
class DatabaseAddress:
    """A database of a PostgreSQL server, or of several, one of them the primary.

    ``url``: as libpq reads it, without a password. ``password_file``: its first line is the password; None: libpq
    looks for one in its own password file.
    """

    url: str
    password_file: Path | None = None

    def __str__(self) -> str:
        return self.url.partition("?")[0]

    def password(self) -> str | None:
        """Read the password; None if no file is named. Raises `ConfigError`."""
        if self.password_file is None:
            return None
        try:
            content = read_bytes(self.password_file, _MAX_PASSWORD).decode()
        except (StoreError, UnicodeDecodeError) as error:
            what = error.message if isinstance(error, StoreError) else f"{self.password_file} is not UTF-8"
            raise ConfigError(
                f"catalog_password_file: {what}",
                hint="run this as the user that may read the file; credentials of systemd are given to the service "
                "alone",
            ) from None
        password = content.partition("\n")[0].rstrip("\r")
        if not password or "\0" in password:
            raise ConfigError(
                f"catalog_password_file: the first line of {self.password_file} is not a password",
                hint="write the password, and nothing else, into the first line",
            )
        return password


def check_url(url: str) -> str:
    """Return the address of a database as it is given. Raises `UsageError`, which does not repeat it."""
    try:
        parts = urlsplit(url)
        password, query = (
            parts.password,
            parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)),
        )
    except ValueError:
        raise UsageError("not the address of a database", hint=_EXAMPLE) from None
    options = dict(query)
    if parts.scheme not in _SCHEMES or parts.fragment or any(ord(char) <= ord(" ") for char in url):
        raise UsageError("not the address of a PostgreSQL database", hint=_EXAMPLE)
    if password is not None or {"password", "sslpassword"} & options.keys():
        raise UsageError(
            "contains a password",
            hint="remove it, change it, since others may have read it here, and name a file with catalog_password_file",
        )
    if not (parts.path.strip("/") or options.get("dbname")):
        raise UsageError("names no database", hint=_EXAMPLE)
    if "sslmode" not in options and not all(map(_is_local, _hosts(parts.netloc, options))):
        raise UsageError(
            "the server is on another machine, and nothing says whether TLS is used",
            hint="add ?sslmode=verify-full and, if its certificate is of an authority of your own, "
            "&sslrootcert=FILE; or sslmode=disable, if nobody else can read or alter this network",
        )
    return url


def _hosts(netloc: str, options: dict[str, str]) -> list[str]:
    named = options.get("host") or netloc.rpartition("@")[2]
    return [host.strip() for host in named.split(",")]


def _is_local(host: str) -> bool:
    """Return True for a socket's folder, and for loopback, with or without a port."""
    name = host.replace("%2F", "/").replace("%2f", "/")
    if not name or name.startswith(("/", "@", ":")):
        return True
    return name in _LOOPBACK or name.rpartition(":")[0] in _LOOPBACK
