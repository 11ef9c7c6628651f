"""``syncd verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli import arguments
from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.output import JsonFlag, note, print_json, progress, say, show_error, show_table, utc_now
from syncd.errors import error_document
from syncd.units import count

if TYPE_CHECKING:
    from syncd.verify.tally import Fault, Progress, Proof


def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR", readable=False, help="A pulled copy, a feed, or a state folder; default: the own state."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="The trust root, given out of band; default: DIR's own."),
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Prove everything on disk again, from trust root to last byte.

    Signatures, manifests, every segment's hash and content, the end state recomputed from all rows, and recent deltas
    applied again as far as the stack still holds them. Of the operator's state also the catalog and the origins, and
    that all say the same. Files that nothing names are notes, not faults. Nothing is locked or written, but for
    SQLite's own files beside the catalog: publishing and pulling go on. A copy's own root.json proves it whole; only
    --root proves whose it is.

    \b
    Exit codes:
      0   all is proved
      1   the disk failed
      2   DIR is no copy, feed or state
      4   a fault: each is named, with what to do
      6   you may not read DIR, or the state folder is another user's

    \b
    Example:
      syncd verify /var/lib/hashes --root root.json
    """
    given = arguments.root(root) if root else None
    with progress("proving") as tell, arguments.readable(folder or Path("the state folder")):
        proof = _prove(folder, given, config, lambda done, total: tell("files", done, total))
    if as_json:
        print_json(_document(proof))
    else:
        _show(proof)
    return proof.exit_code


def _prove(folder: Path | None, root: bytes | None, config: Path | None, tell: "Progress") -> "Proof":
    """By what DIR holds. The catalog's packages are loaded for a state only."""
    if folder is not None and _holds(folder, "current.json"):
        from syncd.verify.copy import prove_copy

        return prove_copy(folder, root, utc_now(), tell)
    if folder is not None and not _holds(folder, "catalog.sqlite3"):
        from syncd.verify.feed import prove_feed

        return prove_feed(folder, root, utc_now(), tell)
    from syncd.catalog.folder import StateFolder
    from syncd.verify.state import prove_state

    state = StateFolder(folder) if folder is not None else state_folder(load_config(config))
    return prove_state(state, root, utc_now(), tell)


def _holds(folder: Path, name: str) -> bool:
    """Raises `PermissionError` where that cannot be seen: `Path.exists` would say no in newer Pythons."""
    try:
        (folder / name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _document(proof: "Proof") -> dict[str, Any]:
    return {
        "folder": str(proof.folder),
        "proved": proof.exit_code == 0,
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
                "proved": one.sound,
            }
            for one in proof.lists
        ],
        "faults": [{"file": fault.file, **error_document(fault.error)} for fault in proof.faults],
        "notes": list(proof.notes),
    }


def _show(proof: "Proof") -> None:
    if proof.lists:
        red = frozenset(number for number, one in enumerate(proof.lists) if not one.sound)
        rows = [
            (
                one.list,
                str(one.version),
                f"{one.rows:,}",
                str(one.segments),
                str(one.replayed),
                "proved" if one.sound else "FAULT",
            )
            for one in proof.lists
        ]
        show_table(("list", "version#", "rows#", "segments#", "deltas#", "~"), rows, red)
    for text in proof.notes:
        note(text, kind="note")
    for fault in proof.faults:
        show_error(_named(fault))
    said = "all is proved" if not proof.faults else count(len(proof.faults), "fault")
    say(f"{said}: {count(proof.files, 'file')}, {proof.bytes / 1e6:,.1f} MB in {proof.folder}")


def _named(fault: "Fault") -> Any:
    """The error, with the file that it is about where it does not name it itself."""
    error = fault.error
    if fault.file not in error.message:
        error.message = f"{fault.file}: {error.message}"
    return error
