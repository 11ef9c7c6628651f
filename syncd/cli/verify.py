"""``syncd verify``."""

from pathlib import Path
from typing import Annotated

import typer

from syncd.catalog.place import state_at
from syncd.cli import arguments
from syncd.cli.operator import ConfigFile, Document, ask_document, load_config
from syncd.cli.output import (
    JsonFlag,
    ReportProgress,
    note,
    print_json,
    progress,
    say,
    show_error,
    show_table,
    utc_now,
)
from syncd.errors import SyncdError
from syncd.feed.layout import CATALOG_FILE, CATALOG_MARK
from syncd.service.client import error_of
from syncd.units import count
from syncd.verify.copy import prove_copy
from syncd.verify.document import proof_document
from syncd.verify.feed import prove_feed
from syncd.verify.tally import Progress, Proof


def verify(
    folder: Annotated[
        Path | None,
        typer.Argument(
            metavar="DIR",
            readable=False,
            help="A pulled copy, a feed, or a state folder; default: the configured state.",
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(metavar="FILE", readable=False, help="The trust root, obtained out of band; default: DIR's own."),
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Also replay the history that is kept.")] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Verify everything on disk again, from trust root to last byte.

    Checks signatures, manifests, and the hash and content of every segment; recomputes the end state from all rows; and
    applies recent deltas again, as far as the stack still has them. In an operator's state, also checks the catalog and
    the origins, and that they agree. Unreferenced files are notes, not faults. Nothing is locked or written, except
    SQLite's own files beside the catalog: publishing and pulling continue. A copy's own root.json proves that the copy
    is intact; only --root proves who published it. Without DIR, members of the group syncd-operators have the running
    daemon do it; the owner of the state reads it.

    --deep replays the kept history of every list from its oldest version: each manifest names the one before it, each
    delta gives the signed counts and end state, and each end state is computed again from rows. It reads the list once
    more, and once for every kept version that was folded.

    \b
    Exit codes:
      0   everything is verified
      1   the disk failed
      2   DIR is not a copy, feed or state
      4   faults: each is named, with what to do
      6   you may not read DIR; or you are neither an operator of the daemon
          nor the owner of the state

    \b
    Example:
      syncd verify /var/lib/hashes --root root.json
    """
    given = arguments.root(root) if root else None
    with progress("verifying") as report, arguments.readable(folder or Path("the state folder")):
        if folder is None:
            document = _verify_state(given, config, report, deep=deep)
        else:
            document = proof_document(
                _prove(folder, given, lambda done, total: report("files", done, total), deep=deep)
            )
    if as_json:
        print_json(document)
    else:
        _show(document)
    return int(document["exit_code"])


def _verify_state(root: bytes | None, config: Path | None, report: ReportProgress, *, deep: bool) -> Document:
    """Verify the configured state, or have the daemon do it."""
    settings = load_config(config)
    asked: dict[str, object] = {"root": root.decode(errors="replace") if root is not None else None}
    if deep:  # left out otherwise: an older daemon does not know it
        asked |= {"deep": True, "kept": settings.retention.published_versions}
    document, _ = ask_document(settings, "verify", asked, utc_now(), report)
    return document


def _prove(folder: Path, root: bytes | None, report: Progress, *, deep: bool) -> Proof:
    """Verify a copy, a feed or a state, whichever the folder is."""
    if _contains(folder, "current.json"):
        return prove_copy(folder, root, utc_now(), report, deep=deep)
    if not any(_contains(folder, name) for name in (CATALOG_FILE, CATALOG_MARK)):
        return prove_feed(folder, root, utc_now(), report, deep=deep)
    from syncd.verify.state import prove_state  # SQLAlchemy: the host of a matcher has none

    return prove_state(state_at(folder), root, utc_now(), report, deep=deep)


def _contains(folder: Path, name: str) -> bool:
    """Return True if the folder has the file. Unlike `Path.exists` of newer Pythons, raises `PermissionError`."""
    try:
        (folder / name).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _show(proof: Document) -> None:
    if proof["lists"]:
        red = frozenset(number for number, one in enumerate(proof["lists"]) if not one["proved"])
        rows = [
            (
                one["list"],
                str(one["version"]),
                f"{one['rows']:,}",
                str(one["segments"]),
                str(one.get("versions", "")),  # an older daemon does not report it
                str(one["deltas_applied"]),
                "proved" if one["proved"] else "FAULT",
            )
            for one in proof["lists"]
        ]
        show_table(("list", "version#", "rows#", "segments#", "kept#", "deltas#", "~"), rows, red)
    for text in proof["notes"]:
        note(text, kind="note")
    for fault in proof["faults"]:
        show_error(_named(fault))
    result = "everything is verified" if not proof["faults"] else count(len(proof["faults"]), "fault")
    say(f"{result}: {count(proof['files'], 'file')}, {proof['bytes'] / 1e6:,.1f} MB in {proof['folder']}")


def _named(fault: Document) -> SyncdError:
    """Return the error of a fault, with the name of the file, and with the list and version if they are known."""
    error = error_of(fault)
    if fault["file"] not in error.message:
        error.message = f"{fault['file']}: {error.message}"
    needed_by = f"{fault.get('list')} version {fault.get('version')}"
    if fault.get("version") and needed_by not in error.message:
        error.message = f"{needed_by}: {error.message}"
    return error
