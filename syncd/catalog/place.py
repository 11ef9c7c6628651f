"""The records, in a state folder, of the database of its catalog and the bucket that it publishes into.

The configuration names both, but some commands are given only the folder. And files that lie in one place must
not be taken for those of another: a state is not moved by a changed line of the configuration.
"""

from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from syncd.catalog.folder import StateFolder
from syncd.database_address import DatabaseAddress
from syncd.errors import ConfigError, StoreError
from syncd.feed.layout import TIMESTAMP
from syncd.files import PRIVATE_FILE, install_bytes, read_bytes, storage, sync_folder
from syncd.store.settings import BucketSettings

RECORD: Final = "store.json"
_MAX_RECORD: Final = 1 << 16
_DATABASE: Final = TypeAdapter(DatabaseAddress)


def state_at(root: Path) -> StateFolder:
    """Return the state in a folder, with its database and the bucket that it publishes into. Raises `StoreError`."""
    return StateFolder(root, recorded_place(root), _recorded_database(root))


def check_place(folder: StateFolder) -> None:
    """Record the bucket of a state, or check that it is the recorded one; record its database, which may have moved.

    Raises `ConfigError`, `StoreError`.
    """
    record_database(folder)
    recorded, given = recorded_place(folder.root), folder.bucket
    if recorded == given:
        return
    if given is None:
        assert recorded is not None  # noqa: S101 - they differ
        raise ConfigError(
            f"{folder.root} publishes into {recorded.place}, but the configuration has no [store]",
            hint=f'add [store] with type = "s3" and bucket = "{recorded.bucket}" to it; nothing was changed',
        )
    if recorded is None and folder.feed.path(TIMESTAMP).exists():
        raise ConfigError(
            f"{folder.root} has published into its own folder, and the configuration names {given.place}",
            hint="run `syncd store copy` to move its files there, or remove [store] from the configuration; nothing "
            "was changed",
        )
    if recorded is not None and recorded.place != given.place:
        raise ConfigError(
            f"{folder.root} publishes into {recorded.place}, and the configuration names {given.place}",
            hint="correct [store] in the configuration; nothing was changed",
        )
    record_place(folder)


def record_place(folder: StateFolder) -> None:
    """Record the bucket of a state. Raises `StoreError`."""
    if folder.bucket is not None:
        install_bytes(folder.root / RECORD, folder.bucket.model_dump_json().encode(), PRIVATE_FILE)


def forget_place(folder: StateFolder) -> None:
    """Record that a state publishes into its own folder. Raises `StoreError`."""
    with storage(folder.root / RECORD, "remove"):
        (folder.root / RECORD).unlink(missing_ok=True)
    sync_folder(folder.root)


def record_database(folder: StateFolder) -> None:
    """Record the database of a state's catalog, if it is not in a file. Raises `StoreError`."""
    if folder.database is not None and _recorded_database(folder.root) != folder.database:
        install_bytes(folder.catalog_mark, _DATABASE.dump_json(folder.database) + b"\n", PRIVATE_FILE)


def _recorded_database(root: Path) -> DatabaseAddress | None:
    path = StateFolder(root).catalog_mark
    with storage(path, "read"):
        if not path.exists():
            return None
    try:
        return _DATABASE.validate_json(read_bytes(path, _MAX_RECORD))
    except ValueError:
        raise StoreError(
            f"{path} is damaged: it names the database of this state's catalog",
            hint="remove it; the next command writes it again from the configuration",
        ) from None


def recorded_place(root: Path) -> BucketSettings | None:
    """Return the bucket that a state publishes into; None if that is its own folder. Raises `StoreError`."""
    path = root / RECORD
    with storage(path, "read"):
        if not path.exists():
            return None
    try:
        return BucketSettings.model_validate_json(read_bytes(path, _MAX_RECORD))
    except ValueError:
        raise StoreError(
            f"{path} is damaged: it names the bucket that this state publishes into",
            hint="remove it; the next command writes it again from the configuration",
        ) from None
