"""``syncd lookup`` and ``syncd match``: ask a pulled copy."""

import hashlib
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli import arguments
from syncd.cli.output import JsonFlag, note, print_json, say, show_error, utc_now
from syncd.errors import SyncdError, UsageError, error_document
from syncd.model import Algorithm, Digest, Hit
from syncd.units import behind, span, stamp

if TYPE_CHECKING:
    from syncd.matcher import ListStatus, Matcher

NOTHING_MATCHED: Final = 10
_STALE_AFTER: Final = timedelta(hours=48)
"""As long as a feed's timestamp is valid."""
_BLOCK: Final = 1 << 20
_STDIN: Final = "-"

Copy = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="A copy made by `syncd pull`.")]
"""``readable=False``, here and below: typer would check first, and answer in its own words and exit code."""
Root = Annotated[
    Path | None,
    typer.Option(metavar="ROOT", readable=False, help="The trust root to prove DIR by; default: that of the pull."),
]


@dataclass(frozen=True)
class Asked:
    """A digest, and how the user wrote it."""

    text: str
    digest: Digest


@dataclass(frozen=True)
class Answer:
    """What was found of a digest; None: no list holds digests of its algorithm, so that nothing was checked."""

    asked: Asked
    hits: tuple[Hit, ...] | None


@dataclass(frozen=True)
class Checked:
    """One file, and what was found of it."""

    file: Path
    hits: tuple[tuple[Algorithm, Hit], ...] = ()
    error: SyncdError | None = None


def lookup(
    folder: Copy,
    digests: Annotated[
        list[str], typer.Argument(metavar="ALG:DIGEST...", help="Digests in hex; -: read them from standard input.")
    ],
    root: Root = None,
    as_json: JsonFlag = False,
) -> int:
    """Ask a pulled copy whether digests are on its lists.

    ALG is md5, sha1, sha256, sha512, pdq or photodna. The perceptual ones (pdq, photodna) are compared exactly: near
    matches are not found. With - one digest a line is read from standard input, which keeps them out of the process
    list and the shell's history. A copy that nobody vouches for any more still answers, with a warning.

    A digest whose algorithm no list holds is named as not checked.

    \b
    Exit codes:
      0   something matched
      10  nothing matched of what was checked
      1   storage
      2   not a digest, none could be checked, or DIR is no copy
      4   the copy was altered
      6   others may write DIR, or you may not read it

    \b
    Example:
      syncd lookup /var/lib/hashes md5:0123456789abcdef0123456789abcdef
      syncd lookup /var/lib/hashes - < digests
    """
    asked = list(_asked(digests))
    if not asked:
        raise UsageError("no digest was given: standard input is empty", hint="write one ALG:HEX a line into it")
    matcher = _open(folder, root)
    answers = [_answer(matcher, one) for one in asked]
    _warn_of_age(matcher, folder)
    _note_limits(answers)
    if as_json:
        print_json(_lookup_document(matcher, answers))
    else:
        for answer in answers:
            _show_answer(answer)
    if all(answer.hits is None for answer in answers):
        return UsageError.exit_code
    return 0 if any(answer.hits for answer in answers) else NOTHING_MATCHED


def _answer(matcher: "Matcher", asked: Asked) -> Answer:
    algorithm = asked.digest.algorithm
    if algorithm not in matcher.algorithms:
        return Answer(asked, None)
    return Answer(asked, tuple(matcher.lookup(algorithm, asked.digest.value)))


def _note_limits(answers: Sequence[Answer]) -> None:
    """What a miss does not mean."""
    for algorithm in sorted({one.asked.digest.algorithm for one in answers if one.hits is None}):
        note(f"not checked: no list holds {algorithm}")
    for algorithm in sorted({one.asked.digest.algorithm for one in answers if one.hits is not None}):
        if not algorithm.cryptographic:
            note(f"{algorithm} digests are compared exactly; near matches are not found", kind="note")


def _show_answer(answer: Answer) -> None:
    if answer.hits is None:
        say(f"{answer.asked.text}  not checked: no list holds {answer.asked.digest.algorithm}")
    else:
        _show_hits(answer.asked.text, answer.hits)


def _asked(texts: Sequence[str]) -> Iterator[Asked]:
    for number, text in enumerate(texts, 1):
        if text == _STDIN:
            try:
                yield from _from_lines(sys.stdin)
            except UnicodeDecodeError:
                raise UsageError("standard input is not text", hint="write one ALG:HEX a line into it") from None
        else:
            yield _parsed(text, f"digest {number}")


def _from_lines(lines: Iterable[str]) -> Iterator[Asked]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _parsed(line.strip(), f"standard input, line {number}")


def _parsed(text: str, place: str) -> Asked:
    try:
        return Asked(text, Digest.parse(text))
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from None


def _open(folder: Path, root: Path | None = None) -> "Matcher":
    from syncd.matcher import Matcher

    if root is not None:
        arguments.root(root)
    with arguments.readable(folder):
        return Matcher.open(folder, root=root, clock=utc_now)


def _warn_of_age(matcher: "Matcher", folder: Path) -> None:
    """On standard error: the answer stands, but somebody must look after the copy."""
    statuses = matcher.status()
    age = utc_now() - max(_known_times(statuses, folder))
    if behind(age):
        note(f"the local clock is behind by {span(-age)}: set it; until then no age is known")
    expired = sorted({role for one in statuses for role in one.expired})
    if expired:
        note(f"this copy is stale: its {' and '.join(expired)} metadata expired; run `syncd pull`")
    for one in statuses:
        if one.age is None:
            note(f"{one.list}: the feed does not say when it was last verified")
        elif expired or one.age > _STALE_AFTER:
            note(f"{one.list} was last verified {span(one.age)} ago")


def _known_times(statuses: "Sequence[ListStatus]", folder: Path) -> Iterator[datetime]:
    """Times that were the present once, for the host's clock or the feed's."""
    from syncd.matcher.copy import copy_at, read_current

    current = read_current(copy_at(folder))
    if current is not None:
        yield current.updated
    yield from (one.verified_at for one in statuses if one.verified_at)


def _lookup_document(matcher: "Matcher", answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "lists": _lists_document(matcher.status()),
        "digests": [
            {
                "digest": one.asked.text,
                "matched": bool(one.hits),
                "not_checked": one.hits is None,
                "exact_only": not one.asked.digest.algorithm.cryptographic,
                "hits": [hit._asdict() for hit in one.hits or ()],
            }
            for one in answers
        ],
    }


def _lists_document(statuses: "Iterable[ListStatus]") -> list[dict[str, Any]]:
    return [
        {
            "list": one.list,
            "version": one.version,
            "rows": one.rows,
            "serial": one.serial,
            "verified_at": stamp(one.verified_at) if one.verified_at else None,
            "age_seconds": int(one.age.total_seconds()) if one.age is not None else None,
            "expired": list(one.expired),
        }
        for one in statuses
    ]


def _show_hits(name: str, hits: "Sequence[Hit]", algorithm: str = "") -> None:
    if not hits:
        say(f"{name}  no match")
    for hit in hits:
        parts = [name, f"MATCH {hit.list} version {hit.version}", algorithm]
        parts += [f"label {hit.label}" if hit.label else "", f"entry {hit.entry}" if hit.entry else ""]
        say("  ".join(filter(None, parts)))


def match(
    folder: Copy,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", readable=False, help="Files to check.")],
    as_json: JsonFlag = False,
) -> int:
    """Ask a pulled copy whether files are on its lists.

    Computes the cryptographic digests that the copy holds (md5, sha1, sha256, sha512), each file read once. Perceptual
    lists (pdq, photodna) need near matching: they are named as not checked. Pipes and devices are not read.

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
    matcher = _open(folder)
    algorithms = [algorithm for algorithm in matcher.algorithms if algorithm.cryptographic]
    if not algorithms:
        raise UsageError(
            f"no list of {folder} holds cryptographic digests: files were not checked",
            hint="pull a list that does; perceptual digests (pdq, photodna) need near matching",
        )
    checked = [_check(matcher, file, algorithms) for file in files]
    _warn_of_age(matcher, folder)
    not_checked = _perceptual(matcher)
    for name, left_out in not_checked.items():
        note(f"not checked: {', '.join(left_out)} of {name}; perceptual digests need near matching", kind="note")
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
        "lists": _lists_document(matcher.status()),
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
            _show_hits(str(one.file), [hit], str(algorithm))
        if not one.hits:
            _show_hits(str(one.file), [])
