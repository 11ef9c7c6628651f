"""The process that folds a large stack for the daemon: ``python -m syncd.service.fold_child``. See `folding`."""

import sys
from typing import BinaryIO

from syncd.children import become_child
from syncd.errors import as_known, error_document
from syncd.feed.folder import FeedFolder
from syncd.format import manifest as manifests
from syncd.publish.compact import fold_due
from syncd.service.folding import FoldAnswer, FoldRequest


def run(reader: BinaryIO, writer: BinaryIO) -> None:
    """Read one request from ``reader``, fold, and write the answer to ``writer`` as one line."""
    try:
        request = FoldRequest.model_validate_json(reader.readline())
        manifest = manifests.parse(request.manifest.encode())
        answer = FoldAnswer(folds=fold_due(FeedFolder(request.feed), manifest, everything=request.everything))
    except Exception as fault:  # noqa: BLE001 - its message may hold a digest: only its kind leaves this process
        answer = FoldAnswer(error=error_document(as_known(fault)))
    writer.write(answer.model_dump_json().encode() + b"\n")
    writer.flush()


if __name__ == "__main__":
    run(sys.stdin.buffer, become_child())
