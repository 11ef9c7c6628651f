"""Writing rows of lists to a private file, which the audit log records. No command shows them otherwise."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from syncd.acts import WroteRows
from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import UsageError
from syncd.model import ListName

ALL_LISTS = "*"


def disclose(
    state: StateFolder,
    catalog: Catalog,
    file: Path,
    write: Callable[[Path], int],
    *,
    name: ListName | None,
    what: str,
    actor: str,
    now: datetime,
) -> int:
    """Write rows to a new file with ``write``, which returns their number, and record who did it; return the number.

    ``name``: the list, None for all; ``what`` describes the rows. A file that cannot be recorded is removed again.
    Raises `UsageError` if the file lies in the state folder, `StoreError`, and what ``write`` raises.
    """
    if file.resolve().is_relative_to(state.root.resolve()):
        raise UsageError(
            f"{file} is inside the state folder, from which files are served and removed",
            hint="name a file outside of it; nothing was written",
        )
    rows = write(file)
    try:
        catalog.append(actor, WroteRows(name or ALL_LISTS, what, rows, str(file.absolute())), now)
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return rows
