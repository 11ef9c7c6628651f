"""Large folds in a process of their own with a low priority: publications and answers go on beside them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, JsonValue

from syncd.errors import StoreError, error_named
from syncd.feed.folder import FeedFolder
from syncd.format import manifest as manifests
from syncd.format.manifest import Manifest
from syncd.publish.compact import Folds, fold_due, rows_to_fold
from syncd.service.worker import Process, start

COMMAND: Final = (sys.executable, "-P", "-m", "syncd.service.fold_child")
LARGE: Final = 1_000_000
"""Rows from which a fold takes longer than starting a process."""


class FoldRequest(BaseModel):
    """Names the version whose stacks are to be folded, by its ``manifest``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    feed: Path
    manifest: str
    everything: bool


class FoldAnswer(BaseModel):
    """The result, or an error as a document."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folds: Folds | None = None
    error: dict[str, JsonValue] | None = None


def fold_apart(
    feed: FeedFolder,
    manifest: Manifest,
    *,
    everything: bool = False,
    large: int = LARGE,
    begin: Callable[[], Process] = lambda: start(COMMAND),
) -> Folds:
    """Fold as `fold_due`, in a process of its own if at least ``large`` rows are to be folded. Raises as that."""
    if rows_to_fold(manifest, everything=everything) < large:
        return fold_due(feed, manifest, everything=everything)
    content = manifests.encode(manifest).decode()
    feed.bring_here(manifest.list, manifest.stack)  # the process has no access to a bucket
    request = FoldRequest(feed=feed.root.absolute(), manifest=content, everything=everything)
    with begin() as process:
        answered, _ = process.communicate(request.model_dump_json().encode() + b"\n")
    if not answered.endswith(b"\n"):
        raise StoreError(
            f"the process that folded {manifest.list} version {manifest.version} died",
            hint="check free memory and disk space; the published version stays as it is, and a later sync folds again",
        )
    answer = FoldAnswer.model_validate_json(answered)
    if answer.folds is None:
        error = answer.error or {}
        raise error_named(*(str(error.get(key, "")) for key in ("kind", "message", "to_do", "still_served")))
    feed.secure(manifest.list, (folded.output for folded in answer.folds.folded if folded.output is not None))
    return answer.folds
