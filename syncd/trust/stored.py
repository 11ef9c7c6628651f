"""What a metadata client left on disk: it was verified before it was kept there, so it is only read here."""

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from tuf.api.metadata import Metadata, Targets

from syncd.files import read_bytes
from syncd.trust.offline import delegated_roles
from syncd.trust.parse import parse, typed_errors
from syncd.trust.values import LISTS, TARGETS_LIMIT, TOP_LEVEL_ROLES


def stored_expiries(folder: Path) -> dict[str, datetime]:
    """When each role expires; of those for lists, whose number is their signer's to choose, the soonest, as `LISTS`.

    ``folder`` is that of `syncd.trust.client.refresh`. What is not there is left out. Raises `StoreError`,
    `TrustError`.
    """
    found = {role: _expiry(folder, role) for role in TOP_LEVEL_ROLES if _path(folder, role).is_file()}
    if "targets" in found:
        targets = parse(Targets, read_bytes(_path(folder, "targets"), TARGETS_LIMIT), "targets.json").signed
        delegated = [role for role in delegated_roles(targets) if _path(folder, role).is_file()]
        if delegated:
            found[LISTS] = min(_expiry(folder, role) for role in delegated)
    return found


def _expiry(folder: Path, role: str) -> datetime:
    path = _path(folder, role)
    content = read_bytes(path, TARGETS_LIMIT)
    with typed_errors(path.name):
        return Metadata.from_bytes(content).signed.expires


def _path(folder: Path, role: str) -> Path:
    return folder / f"{quote(role, '')}.json"
