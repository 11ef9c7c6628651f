"""The layout of a feed: relative paths, the same in URLs and on disk. Pure.

::

    metadata/N.root.json  N.targets.json  N.<role>.json  N.snapshot.json  timestamp.json
    v1/<list>/<sha256>.manifest.json         the TUF target v1/<list>/manifest.json, consistent snapshot
    v1/<list>/segments/<sha256>.arrow
    v1/<list>/evidence/<sha256>.json         the upstream's signed metadata for one version
    v1/<list>/answers/<sha256>.zst           in a source's own folder alone: the raw answers of a partner
    v1/<list>/<word>/<sha256>.<ext>          any other file that a later version may need, by content
    v1/<list>/<sha256>.<word>.json           another signed document of a list
    root.json                                the first root, to be handed over out of band

Servers and mirrors offer files of the two forms with ``<word>`` without knowing them; segments, evidence and manifests
have these forms, too.
"""

import re
from typing import Final

from syncd.model import LIST_NAME, ListName

METADATA: Final = "metadata"
TIMESTAMP: Final = "metadata/timestamp.json"
CATALOG_FILE: Final = "catalog.sqlite3"
CATALOG_MARK: Final = "catalog.postgresql"
"""An operator's state folder, in which the published feed is the folder ``feed``, has one of these two files."""
_TARGET: Final = "manifest.json"
_WORD: Final = "[a-z0-9-]{1,32}"
_SHA256: Final = "[0-9a-f]{64}"
BY_CONTENT: Final = re.compile(
    rf"v1/(?P<list>{LIST_NAME.pattern})/(?:{_WORD}/(?P<file>{_SHA256})\.[a-z0-9]{{1,16}}|(?P<document>{_SHA256})\.{_WORD}\.json)"
)
"""Matches every immutable file of a list: ``list``, and the SHA-256 that names it as ``file`` or ``document``."""


def target_name(name: ListName) -> str:
    """Return the TUF target of a list: constant, so that metadata stays small."""
    return f"v1/{name}/{_TARGET}"


def list_of(target: str) -> ListName | None:
    """Return the list that a TUF target describes; None if the target is not a manifest."""
    match target.split("/"):
        case ["v1", name, "manifest.json"] if LIST_NAME.fullmatch(name):
            return ListName(name)
    return None


def manifest_path(name: ListName, sha256: str) -> str:
    """Return the path of a manifest: its consistent-snapshot name (TUF specification 1.0.34, 6.2)."""
    return f"v1/{name}/{sha256}.{_TARGET}"


def is_manifest(path: str) -> bool:
    """Return True if a path is that of a manifest."""
    return path.startswith("v1/") and path.endswith(f".{_TARGET}")


def segment_path(name: ListName, sha256: str) -> str:
    """Return the path of a segment."""
    return f"v1/{name}/segments/{sha256}.arrow"


def evidence_path(name: ListName, sha256: str) -> str:
    """Return the path of the upstream's signed documents behind one version."""
    return f"v1/{name}/evidence/{sha256}.json"


def answers_path(name: ListName, sha256: str) -> str:
    """Return the path of a partner's raw answers in the source's own folder. A feed never has such a file."""
    return f"v1/{name}/answers/{sha256}.zst"
