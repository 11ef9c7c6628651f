"""How the configuration is read, and what is said where it is wrong: no value of it, since it might be a secret."""

import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import SettingsError

from syncd.config import ENVIRONMENT, Config, Serve
from syncd.errors import ConfigError, StoreError, nearest
from syncd.files import read_bytes, storage
from syncd.model import LIST_NAME
from syncd.settings import HINT
from syncd.sources.tables import TABLES, SourceTable

DEFAULT_FILE: Final = Path("/etc/syncd/syncd.toml")
FILE_VARIABLE: Final = "SYNCD_CONFIG"
SOURCE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|_(?!_)){0,30}")
"""As a list name, but short and without a dot, so that ``<source>.<list>`` is a list name; ``__`` parts keys in the
environment."""

_NOT_SETTINGS: Final = frozenset({FILE_VARIABLE, "SYNCD_DEBUG"})
_MAX_FILE: Final = 1 << 20
_PUBLISHED_NAME: Final = 64
_EVERYBODY: Final = 0o007
"""The group's bits say little: of an ACL they are the mask, and who may write a group's secret could read it anyway."""


def load(file: Path | None = None) -> Config:
    """Read the configuration: ``file``, or what ``SYNCD_CONFIG`` names, or `DEFAULT_FILE`; then the environment.

    Raises `ConfigError` that names the file (or the variable), the key, what is wrong and what to do. The default file
    may be absent where the environment says everything.
    """
    named = file or _from_environment()
    path = named or DEFAULT_FILE
    found = _read(path, required=named is not None)
    _check_names(found or {}, path)
    _check_environment()
    try:
        config = Config(**(found or {}))
    except ValidationError as error:
        raise _explained(error, path, present=found is not None) from None
    except SettingsError:
        raise ConfigError(
            "an environment variable SYNCD_... cannot be read", hint="a table is written as JSON, or key by key"
        ) from None
    _check_sources(config, path)
    fault = config.serve.fault() if config.serve else None
    if fault:
        raise ConfigError(f"{path}: serve.{fault[0]}: {fault[1]}", hint=fault[2])
    _check_secrets(config, path)
    return config


def _from_environment() -> Path | None:
    named = os.environ.get(FILE_VARIABLE)
    return Path(named) if named else None


def _read(path: Path, *, required: bool) -> dict[str, Any] | None:
    content = _content(path)
    if content is None:
        if required:
            raise ConfigError(f"{path} does not exist", hint=f"name the file with --config, or in {FILE_VARIABLE}")
        return None
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", hint="TOML files are UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {_place(error)}", hint=_SYNTAX) from None
    except RecursionError:
        raise ConfigError(f"{path} is not TOML: values within values, too deeply", hint=_SYNTAX) from None


_SYNTAX: Final = "see https://toml.io for the syntax"


def _content(path: Path) -> bytes | None:
    try:
        with storage(path, "read"):
            return read_bytes(path, _MAX_FILE) if path.exists() else None
    except StoreError as error:
        raise ConfigError(
            error.message, hint=f"name a file that can be read with --config, or in {FILE_VARIABLE}"
        ) from error


def _place(error: tomllib.TOMLDecodeError) -> str:
    """The fault and its place; never text of the file, which might be a secret put there by mistake."""
    found = re.search(r"at line [0-9]+, column [0-9]+|at end of document", str(error))
    return f"a fault {found[0]}" if found else "a fault"


def _check_names(found: Mapping[str, Any], path: Path) -> None:
    sources = found.get("sources")
    for name in sources if isinstance(sources, dict) else ():
        _check_source_name(name, str(path))


def _check_source_name(name: str, where: str) -> None:
    if not SOURCE_NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: sources.{name}: not a name for a source",
            hint="use lower-case letters, digits, '-' and single '_', at most 31, the first a letter or digit",
        )


def _check_environment() -> None:
    """A misspelt variable would otherwise be ignored without a word."""
    known = [f"{ENVIRONMENT}{key.upper()}" for key in Config.model_fields]
    for variable in sorted(os.environ):
        ours = variable.startswith(ENVIRONMENT) and variable not in _NOT_SETTINGS
        if ours and variable.partition("__")[0] not in known:
            raise ConfigError(f"unknown variable {variable}", hint=nearest(variable, known, "variable"))


def _check_sources(config: Config, path: Path) -> None:
    for name, source in config.sources.items():
        _check_source_name(name, f"{ENVIRONMENT}SOURCES__{name.upper()}__...")
        where = f"{path}: sources.{name}"
        if fault := source.fault():
            raise ConfigError(f"{where}.{fault[0]}: {fault[1]}", hint=fault[2])
        for one in source.lists:
            if not LIST_NAME.fullmatch(f"{name}.{one}"):
                raise ConfigError(
                    f"{where}.lists: {name}.{one} would have more than {_PUBLISHED_NAME} characters",
                    hint="give the source a shorter name",
                )


def _check_secrets(config: Config, path: Path) -> None:
    """Refuse a file with a token or a private key that every user of this machine may read or write."""
    tables: dict[tuple[str, ...], SourceTable | Serve] = {
        ("sources", name): one for name, one in config.sources.items()
    }
    if config.serve:
        tables["serve",] = config.serve
    for place, file in (((*table, key), file) for table, one in tables.items() for key, file in one.secrets().items()):
        mode = _mode(file)
        if mode & _EVERYBODY:
            raise ConfigError(
                f"{_where(place, path)}: {file} is open to every user of this machine (mode {mode:04o})",
                hint=f"chmod o= {file}; and put another secret into it, since this one may be known",
            )


def _mode(file: Path) -> int:
    """Of a file that this user cannot see, nothing: whoever needs it says so."""
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return 0


def _explained(error: ValidationError, path: Path, *, present: bool) -> ConfigError:
    """The first fault in words. No value is ever shown."""
    found = error.errors(include_url=False, include_input=False)
    # A misspelt key is also a missing one: say what was written, not what was not.
    first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    place, kind = _place_in_file([str(part) for part in first["loc"]])
    if place == ("state_dir",) and first["type"] == "missing" and not present:
        return ConfigError(
            f"there is no configuration: {path} does not exist",
            hint=f"write it, or name another file with --config or {FILE_VARIABLE}",
        )
    if first["type"] == "union_tag_invalid":
        return ConfigError(f"{_where((*place, 'type'), path)}: unknown type", hint=f"known types: {', '.join(TABLES)}")
    where = _where(place, path)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{where}: unknown key", hint=nearest(place[-1], _keys_beside(place, kind), "key"))
    if first["type"] == "missing":
        return ConfigError(f"{where}: missing", hint="this key has no default; see docs/configuration.md")
    message, _, hint = first["msg"].removeprefix("Value error, ").partition(HINT)
    return ConfigError(f"{where}: {message[:1].lower()}{message[1:]}", hint=hint or "see docs/configuration.md")


def _where(place: Sequence[str], path: Path) -> str:
    """The variable that gave the value, or else the file and the key."""
    given = {variable.upper(): variable for variable in os.environ}
    for depth in range(len(place), 0, -1):
        variable = ENVIRONMENT + "__".join(place[:depth]).upper()
        if variable in given:
            return given[variable]
    return f"{path}: {'.'.join(place)}"


def _place_in_file(loc: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The keys that lead to a value, and the type of the source it belongs to: pydantic names that among the keys."""
    if loc[0] == "sources" and len(loc) > 2:  # noqa: PLR2004 - sources, NAME, type
        return (*loc[:2], *loc[3:]), loc[2]
    return tuple(loc), ""


def _keys_beside(place: Sequence[str], kind: str) -> Sequence[str]:
    if len(place) > 1:
        return tuple((TABLES[kind] if place[0] == "sources" else Serve).model_fields)
    return tuple(Config.model_fields)
