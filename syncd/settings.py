"""The types of values in the configuration: durations, paths, addresses, names of lists.

Each is checked as it is read. A message carries its hint behind `HINT`, since pydantic passes on one text.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator
from pydantic_settings import NoDecode

from syncd.errors import UsageError
from syncd.model import ListName, list_name

CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
"""The variable in which systemd names the folder of a service's credentials (systemd.exec(5), Credentials)."""
HINT: Final = "\0"
"""Parts a message from its hint while pydantic carries both."""

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


def as_value_error(check: Callable[[Any], Any], value: Any) -> Any:
    """Let pydantic name the key: it wants `ValueError`."""
    try:
        return check(value)
    except UsageError as error:
        raise ValueError(f"{error.message}{HINT}{error.hint}") from None


def credentials(environment: Mapping[str, str]) -> Path | None:
    """Where systemd hands credentials over to this process."""
    folder = environment.get(CREDENTIALS)
    return Path(folder) if folder else None


def named_files(table: BaseModel, *keys: str) -> dict[str, Path]:
    """The files that a table names under ``keys``."""
    found = ((key, getattr(table, key)) for key in keys)
    return {key: path for key, path in found if path is not None}


def _duration(value: object) -> float:
    return value if isinstance(value, float) else as_value_error(parse_duration, value)


def _long_enough(seconds: float) -> float:
    if seconds < _MIN_INTERVAL:
        raise ValueError(f'shorter than a minute{HINT}the shortest interval is "1m"')
    return seconds


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError(f"holds a NUL{HINT}no file can have such a name")
    if not path.is_absolute():
        raise ValueError(f"not an absolute path{HINT}write the whole path, from / on")
    return path


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

    as_value_error(Endpoint, url)
    return url


def _comma_separated(value: object) -> object:
    """In the environment a list is written ``images,videos``; JSON is understood as well."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return as_value_error(_json, value)
    return [part.strip() for part in value.split(",")]


def _json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise UsageError("not JSON", hint="write the names with commas between them") from None


def _list(name: str) -> ListName:
    return ListName(as_value_error(list_name, name))


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
GivenFile = Annotated[Path, AfterValidator(_handed_over)]
"""A file that somebody else puts there, maybe as a credential."""
Seconds = Annotated[float, BeforeValidator(_duration)]
Interval = Annotated[Seconds, AfterValidator(_long_enough)]
Url = Annotated[str, AfterValidator(_address)]
Lists = Annotated[tuple[Annotated[ListName, AfterValidator(_list)], ...], BeforeValidator(_comma_separated), NoDecode]
