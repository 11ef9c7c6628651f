"""Moving the catalog of a state from its file to a database server, and back."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.acts import CopiedCatalog
from syncd.catalog.catalog import Catalog
from syncd.catalog.database import CatalogPlace
from syncd.catalog.folder import StateFolder
from syncd.catalog.place import record_database
from syncd.errors import ConfigError, UsageError
from syncd.feed.layout import CATALOG_FILE
from syncd.files import storage, sync_folder

MOVED: Final = f"{CATALOG_FILE}.moved"


@dataclass(frozen=True)
class MovedCatalog:
    """A catalog that was moved."""

    place: CatalogPlace
    rows: int
    kept: Path | None
    """the file that it was moved from"""


def move_to_server(folder: StateFolder, now: datetime, actor: str) -> MovedCatalog:
    """Move the catalog from its file to the empty database of ``folder``; keep the file aside.

    The caller holds the lock of the state. If it was interrupted, it is continued. Raises `ConfigError`, `UsageError`
    if there is no file, `RefusedError` if the database is not empty, `StoreError`.
    """
    if folder.database is None:
        raise ConfigError(
            "the configuration does not name a database",
            hint='set catalog = "postgresql://USER@HOST/DATABASE" (docs/configuration.md); nothing was changed',
        )
    with storage(folder.catalog_file, "open"):
        found = folder.catalog_file.exists()
    if not found:
        raise UsageError(
            f"there is no {folder.catalog_file} to move", hint="`syncd run --check` shows where the catalog is"
        )
    with Catalog.open(folder.catalog_file) as source:
        rows = source.copy_to(folder.database, actor, CopiedCatalog(str(folder.database)), now)
    kept = folder.root / MOVED
    with storage(folder.catalog_file, "move aside"):  # a single file: closing it removed those beside it
        folder.catalog_file.replace(kept)
    sync_folder(folder.root)
    record_database(folder)
    return MovedCatalog(folder.database, rows, kept)


def move_to_file(folder: StateFolder, now: datetime, actor: str) -> MovedCatalog:
    """Move the catalog from the database of ``folder`` to a file in it; the database stays as it is.

    The caller holds the lock of the state, and no other daemon uses the database. Raises as `move_to_server`.
    """
    if folder.database is None:
        raise ConfigError("the catalog is in a file already", hint="nothing was changed")
    with Catalog.open(folder.database) as source:
        source.append(actor, CopiedCatalog(str(folder.catalog_file)), now)
        source.backup(folder.catalog_file)
        rows = sum(source.row_counts().values())
    with storage(folder.catalog_mark, "remove"):
        folder.catalog_mark.unlink(missing_ok=True)
    return MovedCatalog(folder.catalog_file, rows, None)
