"""The targets, and one input given to one of them."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from syncd.errors import SyncdError

CORPUS: Final = Path(__file__).parent / "corpus"
_LIST_FILES: Final = Path(__file__).parents[1] / "fixtures" / "list_files"
TARGETS: Final = (
    "audit_record",
    "config_file",
    "control_order",
    "current_file",
    "damaged_segment",
    "event_stream",
    "evidence",
    "list_file",
    "list_removals",
    "manifest",
    "metadata",
    "ncmec_poll",
    "root",
    "segment",
    "stopncii_poll",
    "tcap_poll",
    "threatexchange_poll",
    "worker_answer",
)


def load(name: str) -> Callable[[bytes], None]:
    """Return a target: it raises only for a fault."""
    one: Callable[[bytes], None] = importlib.import_module(f"fuzz.{name}").one

    def tried(content: bytes) -> None:
        with suppress(SyncdError):
            one(content)

    return tried


def folders(name: str) -> list[Path]:
    """Return the folders with inputs of a target, its own first."""
    return [CORPUS / name, *([_LIST_FILES] if name.startswith("list_") else [])]


def inputs(name: str) -> Iterator[Path]:
    """Yield every input to begin with."""
    for folder in folders(name):
        yield from sorted(path for path in folder.iterdir() if path.is_file())
