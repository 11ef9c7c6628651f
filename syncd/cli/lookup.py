"""``syncd lookup``."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from syncd.cli.output import JsonFlag, note, print_json, say
from syncd.cli.pulled import NOTHING_MATCHED, Copy, RefuseStale, Root, lists_document, open_copy, show_hits, warn_of_age
from syncd.errors import UsageError
from syncd.matcher import Matcher
from syncd.model import Algorithm, Digest, Hit

_STDIN: Final = "-"


@dataclass(frozen=True)
class AskedDigest:
    """A digest, and its text as the user wrote it."""

    text: str
    digest: Digest


@dataclass(frozen=True)
class LookupAnswer:
    """The hits for a digest. None: not checked, since no list holds digests of its algorithm."""

    asked: AskedDigest
    hits: tuple[Hit, ...] | None


def lookup(
    folder: Copy,
    digests: Annotated[
        list[str], typer.Argument(metavar="ALG:DIGEST...", help="Digests in hex; - reads them from standard input.")
    ],
    root: Root = None,
    refuse_stale: RefuseStale = False,
    as_json: JsonFlag = False,
) -> int:
    """Check whether digests are on the lists of a pulled copy.

    ALG is md5, sha1, sha256, sha512, pdq, photodna, or any other algorithm of a list. Perceptual digests (pdq,
    photodna) match only if they are equal: near matches are not found. With - digests are read from standard input, one
    a line, which keeps them out of the process list and the shell's history. A copy that is older than its limits
    still answers, with a warning; with --refuse-stale, it does not. A digest whose algorithm is in no list is reported
    as not checked.

    The rows of DIR were verified when they were pulled, and are not read again: `syncd verify DIR` does that.

    \b
    Exit codes:
      0   something matched
      10  nothing matched
      1   storage
      2   not a digest, none could be checked, or DIR is not a copy
      4   altered: signatures, manifests, or the length or structure of a segment
      6   other users may write DIR, you may not read it,
          or with --refuse-stale: a list is stale

    \b
    Example:
      syncd lookup /var/lib/hashes md5:0123456789abcdef0123456789abcdef
      syncd lookup /var/lib/hashes - < digests
    """
    asked = list(_asked(digests))
    if not asked:
        raise UsageError("no digest was given: standard input is empty", hint="write one ALG:HEX per line to it")
    matcher = open_copy(folder, root, refuse_stale=refuse_stale)
    answers = [_answer(matcher, digest) for digest in asked]
    warn_of_age(matcher, folder)
    _note_limits(answers, matcher.algorithms)
    if as_json:
        print_json(_lookup_document(matcher, answers))
    else:
        for answer in answers:
            if answer.hits is None:
                say(f"{answer.asked.text}  not checked")
            else:
                show_hits(answer.asked.text, answer.hits)
    if all(answer.hits is None for answer in answers):
        return UsageError.exit_code
    return 0 if any(answer.hits for answer in answers) else NOTHING_MATCHED


def _answer(matcher: Matcher, asked: AskedDigest) -> LookupAnswer:
    algorithm = asked.digest.algorithm
    if algorithm not in matcher.algorithms:
        return LookupAnswer(asked, None)
    return LookupAnswer(asked, tuple(matcher.lookup(algorithm, asked.digest.value)))


def _note_limits(answers: Sequence[LookupAnswer], held: Sequence[Algorithm]) -> None:
    """Name the digests that were not checked, or not for near matches; ``held``: the algorithms of the lists."""
    hint = f"look up one of the algorithms held: {', '.join(held)}" if held else "pull a list that is not empty"
    for algorithm in sorted({answer.asked.digest.algorithm for answer in answers if answer.hits is None}):
        note(f"{algorithm} digests were not checked, because no list of this copy holds any", hint=hint)
    for algorithm in sorted({answer.asked.digest.algorithm for answer in answers if answer.hits is not None}):
        if not algorithm.cryptographic:
            note(f"{algorithm} digests are compared exactly; near matches are not found", kind="note")


def _asked(texts: Sequence[str]) -> Iterator[AskedDigest]:
    for number, text in enumerate(texts, 1):
        if text == _STDIN:
            try:
                yield from _from_lines(sys.stdin)
            except UnicodeDecodeError:
                raise UsageError("standard input is not text", hint="write one ALG:HEX per line to it") from None
        else:
            yield _parsed(text, f"digest {number}")


def _from_lines(lines: Iterable[str]) -> Iterator[AskedDigest]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield _parsed(line.strip(), f"standard input, line {number}")


def _parsed(text: str, place: str) -> AskedDigest:
    try:
        return AskedDigest(text, Digest.parse(text))
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from None


def _lookup_document(matcher: Matcher, answers: Sequence[LookupAnswer]) -> dict[str, Any]:
    return {
        "lists": lists_document(matcher.status()),
        "digests": [
            {
                "digest": answer.asked.text,
                "matched": bool(answer.hits),
                "not_checked": answer.hits is None,
                "exact_only": not answer.asked.digest.algorithm.cryptographic,
                "hits": [hit._asdict() for hit in answer.hits or ()],
            }
            for answer in answers
        ],
    }
