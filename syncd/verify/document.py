"""The outcome of a verification as JSON."""

from typing import Any

from syncd.errors import error_document
from syncd.verify.tally import Proof


def proof_document(proof: Proof) -> dict[str, Any]:
    """Return the outcome of a verification as JSON."""
    return {
        "folder": str(proof.folder),
        "proved": proof.exit_code == 0,
        "exit_code": proof.exit_code,
        "files": proof.files,
        "bytes": proof.bytes,
        "lists": [
            {
                "list": one.list,
                "version": one.version,
                "rows": one.rows,
                "segments": one.segments,
                "bytes": one.bytes,
                "deltas_applied": one.replayed,
                "versions": one.kept,
                "end_states_recomputed": one.recomputed,
                "proved": one.sound,
            }
            for one in proof.lists
        ],
        "faults": [
            {
                "file": fault.file,
                "list": fault.list or None,
                "version": fault.version or None,
                **error_document(fault.error),
            }
            for fault in proof.faults
        ],
        "notes": list(proof.notes),
    }
