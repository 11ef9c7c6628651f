"""The documents that show the state, read from the catalog. A running daemon answers from its own, fresher view."""

from datetime import datetime
from typing import Any

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.config import Config
from syncd.report import lagging, overview
from syncd.report.holds import holds_document
from syncd.report.status import status_document
from syncd.report.suppressions import suppressions_document


def read_report(
    what: str, config: Config, folder: StateFolder, catalog: Catalog, now: datetime, *, ended: bool = False
) -> dict[str, Any]:
    """Return the "status", "matchers", "holds" or "suppressions" of a state. Raises `StoreError`.

    ``ended``: suppressions that are over, too.
    """
    match what:
        case "holds":
            return holds_document(catalog.holds())
        case "suppressions":
            return suppressions_document(catalog, now, ended=ended)
        case "matchers":
            return lagging.document(overview.matcher_views(catalog, now), now)
    certificates, ages = config.certificates(), config.max_ages()
    view = overview.read(folder, catalog, config.intervals(), now, certificates, ages=ages)
    return status_document(view).model_dump(mode="json")
