"""``current.json`` of a pulled copy, as it is, and with a checksum that fits."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Final

from fuzz.scratch import emptied
from syncd.errors import SyncdError
from syncd.feed.folder import FeedFolder
from syncd.format.canonical import canonical
from syncd.matcher.copy import CURRENT, read_current
from syncd.matcher.load import load

_ROOT: Final = (Path(__file__).parents[1] / "vectors" / "feed" / "root.json").read_bytes()


def one(content: bytes) -> None:
    """Read it, and open the copy that has nothing else."""
    folder = FeedFolder(emptied("copy"))
    for form in (content, _sealed(content)):
        folder.path(CURRENT).write_bytes(form)
        with suppress(SyncdError):
            read_current(folder)
        with suppress(SyncdError):
            load(folder, _ROOT)


def _sealed(content: bytes) -> bytes:
    try:
        document = json.loads(content)
        document.pop("checksum", None)
        return canonical({**document, "checksum": hashlib.sha256(canonical(document)).hexdigest()})
    except (ValueError, AttributeError, TypeError, RecursionError):
        return content
