"""``syncd lookup``: ask a pulled copy for digests."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.cli.output import JsonFlag, note, print_json, say
from syncd.cli.pulled import NOTHING_MATCHED, Copy, Root, lists_document, open_copy, show_hits, warn_of_age
from syncd.errors import UsageError
from syncd.model import Digest, Hit

if TYPE_CHECKING:
    from syncd.matcher import Matcher

_STDIN: Final = "-"


@dataclass(frozen=True)
class AskedDigest:
    """A digest, and how the user wrote it."""

    text: str
    digest: Digest


@dataclass(frozen=True)
class LookupAnswer:
    """What was found of a digest; None: no list holds digests of its algorithm, so that nothing was checked."""

    asked: AskedDigest
    hits: tuple[Hit, ...] | None


def lookup(
    folder: Copy,
    digests: Annotated[
        list[str], typer.Argument(metavar="ALG:DIGEST...", help="Digests in hex; -: read them from standard input.")
    ],
    root: Root = None,
    as_json: JsonFlag = False,
) -> int:
    """Ask a pulled copy whether digests are on its lists.

    ALG is md5, sha1, sha256, sha512, pdq, photodna, or another that a list holds. All but the first four are compared
    exactly: near matches are not found. With - one digest a line is read from standard input, which keeps them out of
    the process list and the shell's history. A copy that nobody vouches for any more still answers, with a warning.

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
    matcher = open_copy(folder, root)
    answers = [_answer(matcher, one) for one in asked]
    warn_of_age(matcher, folder)
    _note_limits(answers)
    if as_json:
        print_json(_lookup_document(matcher, answers))
    else:
        for answer in answers:
            _show_answer(answer)
    if all(answer.hits is None for answer in answers):
        return UsageError.exit_code
    return 0 if any(answer.hits for answer in answers) else NOTHING_MATCHED


def _answer(matcher: "Matcher", asked: AskedDigest) -> LookupAnswer:
    algorithm = asked.digest.algorithm
    if algorithm not in matcher.algorithms:
        return LookupAnswer(asked, None)
    return LookupAnswer(asked, tuple(matcher.lookup(algorithm, asked.digest.value)))


def _note_limits(answers: Sequence[LookupAnswer]) -> None:
    """What a miss does not mean."""
    for algorithm in sorted({one.asked.digest.algorithm for one in answers if one.hits is None}):
        note(f"not checked: no list holds {algorithm}")
    for algorithm in sorted({one.asked.digest.algorithm for one in answers if one.hits is not None}):
        if not algorithm.cryptographic:
            note(f"{algorithm} digests are compared exactly; near matches are not found", kind="note")


def _show_answer(answer: LookupAnswer) -> None:
    if answer.hits is None:
        say(f"{answer.asked.text}  not checked: no list holds {answer.asked.digest.algorithm}")
    else:
        show_hits(answer.asked.text, answer.hits)


def _asked(texts: Sequence[str]) -> Iterator[AskedDigest]:
    for number, text in enumerate(texts, 1):
        if text == _STDIN:
            try:
                yield from _from_lines(sys.stdin)
            except UnicodeDecodeError:
                raise UsageError("standard input is not text", hint="write one ALG:HEX a line into it") from None
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


def _lookup_document(matcher: "Matcher", answers: Sequence[LookupAnswer]) -> dict[str, Any]:
    return {
        "lists": lists_document(matcher.status()),
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
