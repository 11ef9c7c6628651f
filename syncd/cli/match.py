"""``syncd match``: ask a pulled copy for files."""

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.output import JsonFlag, note, print_json, show_error
from syncd.cli.pulled import NOTHING_MATCHED, Copy, lists_document, open_copy, show_hits, warn_of_age
from syncd.errors import SyncdError, UsageError, error_document
from syncd.model import KNOWN_ALGORITHMS, Algorithm, Hit

if TYPE_CHECKING:
    from syncd.matcher import Matcher

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Checked:
    """One file, and what was found of it."""

    file: Path
    hits: tuple[tuple[Algorithm, Hit], ...] = ()
    error: SyncdError | None = None


def match(
    folder: Copy,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", readable=False, help="Files to check.")],
    as_json: JsonFlag = False,
) -> int:
    """Ask a pulled copy whether files are on its lists.

    Computes the cryptographic digests that the copy holds (md5, sha1, sha256, sha512), each file read once. Perceptual
    lists (pdq, photodna) need near matching: they are named as not checked, as are algorithms that syncd does not know.
    Pipes and devices are not read.

    \b
    Exit codes:
      0   something matched
      10  nothing matched
      1   storage
      2   a file could not be read (the others were checked), DIR is no copy,
          or no list of it holds cryptographic digests
      4   the copy was altered
      6   others may write DIR, or you may not read it

    \b
    Example:
      syncd match /var/lib/hashes upload.jpg
    """
    matcher = open_copy(folder)
    algorithms = [algorithm for algorithm in matcher.algorithms if algorithm.cryptographic]
    if not algorithms:
        raise UsageError(
            f"no list of {folder} holds cryptographic digests: files were not checked",
            hint="pull a list that does; perceptual digests (pdq, photodna) need near matching",
        )
    checked = [_check(matcher, file, algorithms) for file in files]
    warn_of_age(matcher, folder)
    not_checked = _perceptual(matcher)
    for name, left_out in not_checked.items():
        why = "perceptual digests need near matching"
        if not set(left_out) <= set(KNOWN_ALGORITHMS):
            why = "syncd computes md5, sha1, sha256 and sha512 only"
        note(f"not checked: {', '.join(left_out)} of {name}; {why}", kind="note")
    if as_json:
        print_json(_match_document(matcher, checked, not_checked))
    else:
        _show_checked(checked)
    if any(one.error for one in checked):
        return UsageError.exit_code
    return 0 if any(one.hits for one in checked) else NOTHING_MATCHED


def _check(matcher: "Matcher", file: Path, algorithms: Sequence[Algorithm]) -> Checked:
    try:
        digests = _digests(file, algorithms)
    except OSError as error:
        reason = UsageError(f"cannot read {file}: {error.strerror or error}", hint="it was not checked")
        return Checked(file, error=reason)
    hits = ((algorithm, hit) for algorithm, value in digests.items() for hit in matcher.lookup(algorithm, value))
    return Checked(file, tuple(hits))


def _digests(file: Path, algorithms: Sequence[Algorithm]) -> Mapping[Algorithm, bytes]:
    """Every digest from one pass over the file."""
    hashes = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    if _would_block(file.stat().st_mode):
        raise OSError("not a regular file")
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for one in hashes.values():
                one.update(block)
    return {algorithm: one.digest() for algorithm, one in hashes.items()}


def _would_block(mode: int) -> bool:
    """A pipe may never end, nor a device; what a folder is, opening it says."""
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _perceptual(matcher: "Matcher") -> dict[str, list[str]]:
    """By list, the algorithms that cannot be computed here."""
    found: dict[str, list[str]] = {}
    for algorithm, stacks in sorted(matcher.generation.stacks.items()):
        if not algorithm.cryptographic:
            for name, _, _ in stacks:
                found.setdefault(name, []).append(str(algorithm))
    return found


def _match_document(
    matcher: "Matcher", checked: Sequence[Checked], not_checked: Mapping[str, list[str]]
) -> dict[str, Any]:
    return {
        "lists": lists_document(matcher.status()),
        "not_checked": not_checked,
        "files": [
            {
                "file": str(one.file),
                "matched": bool(one.hits),
                "hits": [{"algorithm": str(algorithm), **hit._asdict()} for algorithm, hit in one.hits],
                "error": error_document(one.error) if one.error else None,
            }
            for one in checked
        ],
    }


def _show_checked(checked: Sequence[Checked]) -> None:
    for one in checked:
        if one.error:
            show_error(one.error)
            continue
        for algorithm, hit in one.hits:
            show_hits(str(one.file), [hit], str(algorithm))
        if not one.hits:
            show_hits(str(one.file), [])
