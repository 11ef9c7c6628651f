"""``syncd match``."""

import hashlib
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from syncd.cli.output import JsonFlag, note, print_json, show_error
from syncd.cli.pulled import NOTHING_MATCHED, Copy, RefuseStale, lists_document, open_copy, show_hits, warn_of_age
from syncd.errors import SyncdError, UsageError, error_document
from syncd.matcher import Matcher
from syncd.model import KNOWN_ALGORITHMS, Algorithm, Hit

_BLOCK: Final = 1 << 20


@dataclass(frozen=True)
class Checked:
    """A file and its hits, or the error if it could not be read."""

    file: Path
    hits: tuple[tuple[Algorithm, Hit], ...] = ()
    error: SyncdError | None = None


def match(
    folder: Copy,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", readable=False, help="Files to check.")],
    refuse_stale: RefuseStale = False,
    as_json: JsonFlag = False,
) -> int:
    """Check whether files are on the lists of a pulled copy.

    Reads each file once and computes the cryptographic digests (md5, sha1, sha256, sha512) that the lists use. Pipes
    and devices are not read. Lists of perceptual digests (pdq, photodna) require near matching: they are reported as
    not checked, as are algorithms that syncd does not know.

    The rows of DIR were verified when they were pulled, and are not read again: `syncd verify DIR` does that.

    \b
    Exit codes:
      0   something matched
      10  nothing matched
      1   storage
      2   a file could not be read (the others were checked), DIR is not a copy,
          or none of its lists holds cryptographic digests
      4   altered: signatures, manifests, or the length or structure of a segment
      6   other users may write DIR, you may not read it,
          or with --refuse-stale: a list is stale

    \b
    Example:
      syncd match /var/lib/hashes upload.jpg
    """
    matcher = open_copy(folder, refuse_stale=refuse_stale)
    algorithms = [algorithm for algorithm in matcher.algorithms if algorithm.cryptographic]
    if not algorithms:
        raise UsageError(
            f"no list of {folder} holds cryptographic digests: files were not checked",
            hint="pull a list that does; perceptual digests (pdq, photodna) require near matching",
        )
    checked = [_check(matcher, file, algorithms) for file in files]
    warn_of_age(matcher, folder)
    not_checked = _perceptual(matcher)
    for name, skipped in not_checked.items():
        why = "perceptual digests require near matching"
        if not set(skipped) <= set(KNOWN_ALGORITHMS):
            why = "syncd computes only md5, sha1, sha256 and sha512"
        note(f"not checked: {', '.join(skipped)} of {name}; {why}", kind="note")
    if as_json:
        print_json(_match_document(matcher, checked, not_checked))
    else:
        _show_checked(checked)
    if any(result.error for result in checked):
        return UsageError.exit_code
    return 0 if any(result.hits for result in checked) else NOTHING_MATCHED


def _check(matcher: Matcher, file: Path, algorithms: Sequence[Algorithm]) -> Checked:
    try:
        digests = _digests(file, algorithms)
    except OSError as error:
        reason = UsageError(
            f"cannot read {file}: {error.strerror or error}",
            hint="check the path and the mode of the file, and run this again: the file was not checked",
        )
        return Checked(file, error=reason)
    hits = ((algorithm, hit) for algorithm, value in digests.items() for hit in matcher.lookup(algorithm, value))
    return Checked(file, tuple(hits))


def _digests(file: Path, algorithms: Sequence[Algorithm]) -> Mapping[Algorithm, bytes]:
    """Compute all digests in one pass over the file."""
    hashes = {algorithm: hashlib.new(algorithm, usedforsecurity=False) for algorithm in algorithms}
    mode = file.stat().st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe or device may never end; a directory fails by itself
        raise OSError("not a regular file")
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            for running in hashes.values():
                running.update(block)
    return {algorithm: running.digest() for algorithm, running in hashes.items()}


def _perceptual(matcher: Matcher) -> dict[str, list[str]]:
    """Return the algorithms that syncd does not compute, by list."""
    skipped: dict[str, list[str]] = {}
    for algorithm, stacks in sorted(matcher.generation.stacks.items()):
        if not algorithm.cryptographic:
            for name, _, _ in stacks:
                skipped.setdefault(name, []).append(str(algorithm))
    return skipped


def _match_document(
    matcher: Matcher, checked: Sequence[Checked], not_checked: Mapping[str, list[str]]
) -> dict[str, Any]:
    return {
        "lists": lists_document(matcher.status()),
        "not_checked": not_checked,
        "files": [
            {
                "file": str(result.file),
                "matched": bool(result.hits),
                "hits": [{"algorithm": str(algorithm), **hit._asdict()} for algorithm, hit in result.hits],
                "error": error_document(result.error) if result.error else None,
            }
            for result in checked
        ],
    }


def _show_checked(checked: Sequence[Checked]) -> None:
    for result in checked:
        if result.error:
            show_error(result.error)
            continue
        for algorithm, hit in result.hits:
            show_hits(str(result.file), [hit], str(algorithm))
        if not result.hits:
            show_hits(str(result.file), [])
