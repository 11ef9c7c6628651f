"""The types of values in the configuration: durations, paths, addresses, names of lists.

Each is validated when it is read. A fault is an `invalid_setting`, from which `syncd.config_file` makes the error.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import NoDecode

from syncd.errors import UsageError
from syncd.model import ListName, list_name

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a service's credentials (systemd.exec(5), Credentials)."""
INVALID: Final = "invalid_setting"
"""The type of a pydantic error whose context has ``message`` and ``hint``."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})([smhd])")
_YEAR: Final = 366
_LONGEST_RETENTION: Final = 36_600
"""Days: about a century."""
_SHORTEST_RETENTION: Final = 86400.0
_MIN_INTERVAL: Final = 60.0
_PORT: Final = r"(?::(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}))?"
_PLAIN_ADDRESS: Final = re.compile(
    rf"(?:https://(?:[a-z][a-z0-9]{{0,40}}[.-]){{0,5}}[a-z]{{1,40}}{_PORT}"
    rf"|http://(?:localhost|127\.0\.0\.1|\[::1\]){_PORT}|file:///[A-Za-z0-9_]{{1,99}})"
    r"(?:/[A-Za-z0-9_-]{1,99}){0,20}/?"
)
"""An address that is certainly valid. Every command reads the configuration, and the modules for a full check take
longer to import than most commands run."""
_PAGE: Final = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9._~:/?@!$&()*+,;=%\[\]-]*")
"""Nothing that a line of YAML or an attribute of HTML would not carry as it is."""
_PLAIN_HOST: Final = re.compile(r"(?:[a-z][a-z0-9]{0,40}[.-]){0,5}[a-z]{1,40}")
_PLAIN_PROXY: Final = re.compile(rf"https?://(?:[a-z][a-z0-9]{{0,40}}[.-]){{0,5}}[a-z]{{1,40}}{_PORT}/?")


@dataclass(frozen=True)
class Certificate:
    """A certificate that the configuration names, and its use."""

    use: str
    """``server``: shown to matchers; ``client``: shown to a source"""
    source: str
    path: Path

    def __str__(self) -> str:
        return f"the client certificate for {self.source}" if self.source else "the server's certificate"


def invalid_setting(message: str, hint: str) -> PydanticCustomError:
    """Return the error of a value in the configuration, for pydantic to add the key."""
    return PydanticCustomError(INVALID, "{message}", {"message": message, "hint": hint})


def parse_duration(value: object, most_days: int = _YEAR) -> float:
    """Parse ``"90s"``, ``"10m"``, ``"2h"`` or ``"1d"``, at most ``most_days``, into seconds. Raises `UsageError`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[1]) == 0:
        raise UsageError("not a duration", hint='write a whole number and a unit, such as "90s", "10m", "2h" or "1d"')
    seconds = int(match[1]) * _UNITS[match[2]]
    if seconds > most_days * _UNITS["d"]:  # a date computed from it must be representable
        longest = "a year" if most_days == _YEAR else f"{most_days} days"
        raise UsageError(f"longer than {longest}", hint=f'the longest is "{most_days}d"')
    return float(seconds)


def validated(check: Callable[[Any], Any], value: Any) -> Any:
    """Return ``check(value)``; turn its `UsageError` into an `invalid_setting`."""
    try:
        return check(value)
    except UsageError as error:
        raise invalid_setting(error.message, error.hint) from None


def credentials(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of systemd's credentials for this process; None if it has none."""
    folder = environment.get(CREDENTIALS)
    return Path(folder) if folder else None


def named_files(table: BaseModel, *keys: str) -> dict[str, Path]:
    """Return the files that a table names under ``keys``."""
    files = ((key, getattr(table, key)) for key in keys)
    return {key: path for key, path in files if path is not None}


def _duration(value: object) -> float:
    return value if isinstance(value, float) else validated(parse_duration, value)


def _long_enough(seconds: float) -> float:
    if seconds < _MIN_INTERVAL:
        raise invalid_setting("shorter than a minute", 'the shortest interval is "1m"')
    return seconds


def _retention(value: object) -> float:
    seconds = value if isinstance(value, float) else validated(_parse_retention, value)
    if seconds < _SHORTEST_RETENTION:
        raise invalid_setting("shorter than a day", 'the shortest is "1d"')
    return float(seconds)


def _parse_retention(value: object) -> float:
    return parse_duration(value, _LONGEST_RETENTION)


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise invalid_setting("contains a NUL character", "remove it: no file can have such a name")
    if not path.is_absolute():
        raise invalid_setting("not an absolute path", "write the whole path, beginning with /")
    return path


def _given_file(path: Path) -> Path:
    """Resolve ``$CREDENTIALS_DIRECTORY``; if it is not set, keep the path: most commands never read the file."""
    if path.parts[:1] == (f"${CREDENTIALS}",):
        _absolute(Path("/").joinpath(*path.parts[1:]))
        return (credentials(os.environ) or Path(path.parts[0])).joinpath(*path.parts[1:])
    return _absolute(path)


def _address(url: str) -> str:
    if _PLAIN_ADDRESS.fullmatch(url):
        return url
    from syncd.fetch.endpoint import Endpoint  # heavy, see `_PLAIN_ADDRESS`

    validated(Endpoint, url)
    return url


def _proxy(url: str) -> str:
    if _PLAIN_PROXY.fullmatch(url):
        return url
    from syncd.fetch.endpoint import proxy_address  # heavy, see `_PLAIN_ADDRESS`

    return str(validated(proxy_address, url))


def page_address(url: str) -> str:
    """Return the absolute address of a web page; raises the error of a setting if it is relative or has a fragment."""
    if not _PAGE.fullmatch(url):
        raise invalid_setting(
            "not the absolute address of a page",
            'write it without #, such as "https://wiki.example.org/syncd/operations"',
        )
    return url


def _redirect_host(host: str) -> str:
    if _PLAIN_HOST.fullmatch(host):
        return host
    from syncd.fetch.endpoint import redirect_host  # heavy, see `_PLAIN_ADDRESS`

    return str(validated(redirect_host, host))


def _comma_separated(value: object) -> object:
    """Split a list from the environment, written ``images,videos`` or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return validated(_json, value)
    return [part.strip() for part in value.split(",")]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError("not JSON", hint="write the names separated by commas") from None


def _list(name: str) -> ListName:
    return ListName(validated(list_name, name))


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
GivenFile = Annotated[Path, AfterValidator(_given_file)]
"""A file that the operator provides, possibly as a systemd credential."""
Seconds = Annotated[float, BeforeValidator(_duration)]
Retention = Annotated[float, BeforeValidator(_retention)]
"""How long records are kept: seconds, from a day to a century."""
Interval = Annotated[Seconds, AfterValidator(_long_enough)]
Url = Annotated[str, AfterValidator(_address)]
ProxyUrl = Annotated[str, AfterValidator(_proxy)]
RedirectHosts = Annotated[
    tuple[Annotated[str, AfterValidator(_redirect_host)], ...], BeforeValidator(_comma_separated), NoDecode
]
Words = Annotated[
    tuple[Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)], ...],
    BeforeValidator(_comma_separated),
    NoDecode,
]
"""A partner's own words, such as statuses or the numbers of members."""
Classifications = Annotated[
    tuple[Annotated[str, Field(coerce_numbers_to_str=True)], ...], BeforeValidator(_comma_separated), NoDecode
]
"""Like `Words`; ``""`` stands for a record without a classification."""
Lists = Annotated[tuple[Annotated[ListName, AfterValidator(_list)], ...], BeforeValidator(_comma_separated), NoDecode]
