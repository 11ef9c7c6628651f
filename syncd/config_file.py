"""Reading and checking the configuration. Error messages never show a value: it might be a secret."""

import contextlib
import itertools
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from syncd.config import (
    DEFAULT_SOCKET,
    ENVIRONMENT,
    Config,
    Corrections,
    DashboardTable,
    OperatorTable,
    RetentionTable,
    Serve,
    StoreTable,
)
from syncd.errors import ConfigError, StoreError, nearest
from syncd.files import read_bytes, storage
from syncd.limits import EveryGate
from syncd.model import LIST_NAME
from syncd.settings import INVALID
from syncd.sources.source_table import AgeTable, SourceTable
from syncd.sources.tables import TABLES

DEFAULT_FILE: Final = Path("/etc/syncd/syncd.toml")
FILE_VARIABLE: Final = "SYNCD_CONFIG"
SOURCE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]|_(?!_)){0,30}")
"""Like a list name, but short and without a dot, so that ``<source>.<list>`` is a list name; without ``__``, which
separates keys in environment variables."""

OPERATOR_NAME: Final = SOURCE_NAME
_OTHER_ACTORS: Final = frozenset({"metrics", "root", "schedule", "syncd"})
"""Names that the audit log and the events use for others than an operator."""

_DAEMON_KEY: Final = re.compile(r"\s*(?:state_dir|control_socket)\s*=")
_NOT_SETTINGS: Final = frozenset({FILE_VARIABLE, "SYNCD_DEBUG"})
_MAX_FILE: Final = 1 << 20
_PUBLISHED_NAME: Final = 64
_EVERYBODY: Final = 0o007
"""The mode bits of other users. The group's bits are not checked: with an ACL they are its
mask, and whoever may write for the group could read the secret anyway."""


def load(file: Path | None = None) -> Config:
    """Read the configuration: ``file``, or the one named by ``SYNCD_CONFIG``, or `DEFAULT_FILE`; then the environment.

    The default file may be absent if the environment sets every required key. Raises `ConfigError`, which names the
    file (or the variable), the key, the fault and the cure.
    """
    named = _named(file)
    path = named or DEFAULT_FILE
    document = _read(path, required=named is not None)
    _check_names(document or {}, path)
    _check_environment()
    try:
        config = Config(**(document or {}))
    except ValidationError as error:
        raise _config_error(error, path, present=document is not None) from None
    except SettingsError:
        raise ConfigError(
            "an environment variable SYNCD_... cannot be read",
            hint="write a table as JSON, or use one variable for each of its keys",
        ) from None
    _check_sources(config, path)
    if config.catalog_password_file is not None and config.catalog is None:
        raise ConfigError(
            f"{path}: catalog_password_file: given without catalog",
            hint='set catalog = "postgresql://USER@HOST/DATABASE", or remove the file',
        )
    for table, fault in (
        ("serve", config.serve.fault() if config.serve else None),
        ("retention", config.retention.fault()),
        ("store", config.store.fault() if config.store else None),
    ):
        if fault:
            raise ConfigError(f"{path}: {table}.{fault[0]}: {fault[1]}", hint=fault[2])
    _check_operators(config, path)
    _check_secrets(config, path)
    return config


def daemon_place(file: Path | None = None) -> tuple[Path, Path] | None:
    """Return the state folder and the control socket that a configuration names, even if the rest of it is refused.

    Reads only these two keys, line by line. Returns None if it does not name the state folder.
    """
    values = _top_level(_named(file) or DEFAULT_FILE)
    given = {variable.upper(): value for variable, value in os.environ.items() if value}
    state_dir = given.get(f"{ENVIRONMENT}STATE_DIR", values.get("state_dir"))
    control_socket = given.get(f"{ENVIRONMENT}CONTROL_SOCKET", values.get("control_socket", str(DEFAULT_SOCKET)))
    return (Path(state_dir), Path(control_socket)) if state_dir else None


def _top_level(path: Path) -> dict[str, str]:
    """Return the two keys of `daemon_place` in a file that need not be valid TOML."""
    try:
        text = (_content(path) or b"").decode(errors="replace")
    except ConfigError:
        return {}
    above = itertools.takewhile(lambda line: not line.lstrip().startswith("["), text.splitlines())
    values: dict[str, str] = {}
    for line in filter(_DAEMON_KEY.match, above):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            values.update({key: value for key, value in tomllib.loads(line).items() if isinstance(value, str)})
    return values


def _named(file: Path | None) -> Path | None:
    variable = os.environ.get(FILE_VARIABLE)
    return file or (Path(variable) if variable else None)


def _read(path: Path, *, required: bool) -> dict[str, Any] | None:
    content = _content(path)
    if content is None:
        if required:
            raise ConfigError(f"{path} does not exist", hint=f"name the file with --config, or in {FILE_VARIABLE}")
        return None
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8", hint="save it as UTF-8, as TOML requires") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {_place(error)}", hint=_SYNTAX) from None
    except RecursionError:
        raise ConfigError(f"{path} is not TOML: values are nested too deeply", hint=_SYNTAX) from None


_SYNTAX: Final = "see https://toml.io for the syntax"


def _content(path: Path) -> bytes | None:
    try:
        with storage(path, "read"):
            return read_bytes(path, _MAX_FILE) if path.exists() else None
    except StoreError as error:
        raise ConfigError(error.message, hint=f"name a readable file with --config, or in {FILE_VARIABLE}") from error


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Return the place of a fault; never text of the file, which might be a secret put there by mistake."""
    place = re.search(r"at line [0-9]+, column [0-9]+|at end of document", str(error))
    return f"a fault {place[0]}" if place else "a fault"


def _check_names(document: Mapping[str, Any], path: Path) -> None:
    for table, what, pattern in (("sources", "a source", SOURCE_NAME), ("operators", "an operator", OPERATOR_NAME)):
        named = document.get(table)
        for name in named if isinstance(named, dict) else ():
            _check_name(name, table, what, pattern, str(path))


def _check_name(name: str, table: str, what: str, pattern: re.Pattern[str], where: str) -> None:
    if not pattern.fullmatch(name):
        raise ConfigError(
            f"{where}: {table}.{name}: not a valid name for {what}",
            hint="use at most 31 lower-case letters, digits, '-' and single '_', beginning with a letter or digit",
        )


def _check_environment() -> None:
    """Refuse a misspelt variable, which would be ignored silently otherwise."""
    known = [f"{ENVIRONMENT}{key.upper()}" for key in Config.model_fields]
    for variable in sorted(os.environ):
        ours = variable.startswith(ENVIRONMENT) and variable not in _NOT_SETTINGS
        if ours and variable.partition("__")[0] not in known:
            raise ConfigError(f"unknown variable {variable}", hint=nearest(variable, known, "variable"))


def _check_sources(config: Config, path: Path) -> None:
    for name, source in config.sources.items():
        _check_name(name, "sources", "a source", SOURCE_NAME, f"{ENVIRONMENT}SOURCES__{name.upper()}__...")
        where = f"{path}: sources.{name}"
        if fault := source.fault():
            raise ConfigError(f"{where}.{fault[0]}: {fault[1]}", hint=fault[2])
        for list_name in source.lists:
            if not LIST_NAME.fullmatch(f"{name}.{list_name}"):
                raise ConfigError(
                    f"{where}.lists: {name}.{list_name} would have more than {_PUBLISHED_NAME} characters",
                    hint="give the source a shorter name",
                )


def _check_operators(config: Config, path: Path) -> None:
    """Refuse operators that could not sign in, and names that the audit log uses for another actor."""
    for name in config.operators:
        _check_name(name, "operators", "an operator", OPERATOR_NAME, f"{ENVIRONMENT}OPERATORS__{name.upper()}__...")
        where = f"{path}: operators.{name}"
        if config.serve is None:
            raise ConfigError(
                f"{where}: given without [serve], so there is nothing to sign in to",
                hint="add [serve] with listen, or remove the operator",
            )
        taken = config.serve.operator_token_file is not None and name == "operator"
        if taken or name in _OTHER_ACTORS:
            raise ConfigError(
                f"{where}: the audit log uses the name {name} for another actor",
                hint="use the name of the person, such as [operators.alice]",
            )


def _check_secrets(config: Config, path: Path) -> None:
    """Refuse a file with a token or a private key that every user of this machine may read or write."""
    tables: dict[tuple[str, ...], Config | SourceTable | OperatorTable | Serve | StoreTable] = {
        (): config,
        **{("sources", name): table for name, table in config.sources.items()},
        **{("operators", name): table for name, table in config.operators.items()},
    }
    if config.serve:
        tables["serve",] = config.serve
    if config.store:
        tables["store",] = config.store
    for place, table in tables.items():
        for key, file in table.secrets().items():
            mode = _mode(file)
            if mode & _EVERYBODY:
                raise ConfigError(
                    f"{_where((*place, key), path)}: {file} is open to every user of this machine (mode {mode:04o})",
                    hint=f"run `chmod o= {quote(str(file))}`, and replace the secret in it: others may have read it",
                )


def _mode(file: Path) -> int:
    """Return the mode of a file; 0 if this user cannot see it: the commands that need it report that."""
    try:
        return stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return 0


def _config_error(error: ValidationError, path: Path, *, present: bool) -> ConfigError:
    """Return an error for the first fault, which never shows a value."""
    faults = error.errors(include_url=False, include_input=False)
    # A misspelt key is also a missing key: report the key that is there.
    first = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
    place, kind = _place_in_file([str(part) for part in first["loc"]])
    if place == ("state_dir",) and first["type"] == "missing" and not present:
        return ConfigError(
            f"there is no configuration: {path} does not exist",
            hint=f"create it, or name another file with --config or {FILE_VARIABLE}",
        )
    if first["type"] == "union_tag_invalid":
        return ConfigError(f"{_where((*place, 'type'), path)}: unknown type", hint=f"known types: {', '.join(TABLES)}")
    where = _where(place, path)
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{where}: unknown key", hint=nearest(place[-1], _keys_beside(place, kind), "key"))
    if first["type"] == "missing":
        return ConfigError(f"{where}: missing", hint="set this key, which has no default; see docs/configuration.md")
    if first["type"] == INVALID:
        return ConfigError(
            f"{where}: {first['ctx']['message']}", hint=first["ctx"]["hint"] or "see docs/configuration.md"
        )
    message = first["msg"]  # pydantic's own
    return ConfigError(f"{where}: {message[:1].lower()}{message[1:]}", hint="see docs/configuration.md")


def _where(place: Sequence[str], path: Path) -> str:
    """Return the variable that set the value, or else the file and the key."""
    given = {variable.upper(): variable for variable in os.environ}
    for depth in range(len(place), 0, -1):
        variable = ENVIRONMENT + "__".join(place[:depth]).upper()
        if variable in given:
            return given[variable]
    return f"{path}: {'.'.join(place)}"


def _place_in_file(loc: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return the keys that lead to a value, and the type of its source, which pydantic puts among the keys."""
    if loc[0] == "sources" and len(loc) > 2:  # noqa: PLR2004 - sources, NAME, type
        return (*loc[:2], *loc[3:]), loc[2]
    return tuple(loc), ""


def _keys_beside(place: Sequence[str], kind: str) -> Sequence[str]:
    if len(place) == 1:
        return tuple(Config.model_fields)
    if place[2:3] == ("ages",):
        return tuple(AgeTable.model_fields)
    if place[0] == "sources":
        return tuple(TABLES[kind].model_fields)
    others: dict[str, type[BaseModel]] = {
        "corrections": Corrections,
        "operators": OperatorTable,
        "dashboard": DashboardTable,
        "serve": Serve,
        "gate": EveryGate,
        "retention": RetentionTable,
        "store": StoreTable,
    }
    return tuple(others[place[0]].model_fields)
