"""``syncd lookup``."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from syncd.ask.times import time_or_ago
from syncd.cli.arguments import LARGEST
from syncd.cli.operator import ConfigFile, Document, ask_document, load_config
from syncd.cli.output import JsonFlag, note, print_json, say, utc_now
from syncd.cli.pulled import NOTHING_MATCHED, RefuseStale, Root, lists_document, open_copy, show_hits, warn_of_age
from syncd.errors import UsageError
from syncd.model import Digest, Hit, list_name
from syncd.units import span

if TYPE_CHECKING:
    from syncd.matcher import Matcher

_STDIN: Final = "-"
_MOST: Final = 1000
"""Digests in one look-up in the operator's state."""


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


@dataclass(frozen=True)
class LookupResult:
    """The answers, the lists that were searched, and the algorithms that they hold."""

    lists: Sequence[Document]
    answers: Sequence[LookupAnswer]
    algorithms: Sequence[str]
    place: str
    """what was searched, for messages"""

    @property
    def if_empty(self) -> str:
        """The hint if no list that was searched holds anything."""
        if "published" in self.place:
            return "`syncd status` shows the published lists"
        return "pull a list that is not empty"


def lookup(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[DIR] ALG:DIGEST...",
            help="A copy made by `syncd pull` (default: the operator's state), and digests in hex; - reads them from "
            "standard input.",
        ),
    ],
    version: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=LARGEST, help="In this version of the list.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="T", help="In the versions published at a time (UTC), or a duration ago.")
    ] = None,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="In this list; may be repeated.")
    ] = None,
    root: Root = None,
    refuse_stale: RefuseStale = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Check whether digests are on the lists.

    With DIR, this searches the lists of a pulled copy; without it, the lists that this operator publishes now, or
    published in a version or at a time, as long as the files of that version are kept. Members of the group
    syncd-operators ask the running daemon; the owner of the state reads it.

    ALG is md5, sha1, sha256, sha512, pdq, photodna, vpdq, or any other algorithm of a list. Perceptual digests (pdq,
    photodna, vpdq) match only if they are equal: `syncd near` finds near matches. With - digests are read from standard
    input, one a line, which keeps them out of the process list and the shell's history. A copy that is older than its
    limits still answers, with a warning; with --refuse-stale, it does not. A digest whose algorithm is in no list is
    reported as not checked.

    The rows of DIR were verified when they were pulled, and are not read again: `syncd verify DIR` does that.

    \b
    Exit codes:
      0   something matched
      10  nothing matched
      1   storage
      2   not a digest, none could be checked, DIR is not a copy; or there is
          no such list or version, or its files are no longer kept
      4   altered: signatures, manifests, or the length or structure of a segment
      6   other users may write DIR, you may not read it, or with --refuse-stale:
          a list is stale; or you are neither an operator of the daemon nor
          the owner of the state

    \b
    Example:
      syncd lookup /var/lib/hashes md5:0123456789abcdef0123456789abcdef
      syncd lookup --at 2026-05-03T14:00 - < digest
    """
    folder, texts = _split(what)
    asked = asked_digests(texts)
    names = tuple(map(list_name, lists or ()))
    if folder is not None and (version is not None or at is not None):
        raise UsageError("a pulled copy has one version of each list", hint="leave DIR out to ask the operator's state")
    if folder is None and root is not None:
        raise UsageError("--root is for a pulled copy", hint="name its folder, or leave --root out")
    if folder is None and refuse_stale:
        raise UsageError("--refuse-stale is for a pulled copy", hint="name its folder, or leave --refuse-stale out")
    if folder is not None:
        result = _in_copy(open_copy(folder, root, refuse_stale=refuse_stale), folder, asked, names)
    else:
        time = time_or_ago(at, "--at", utc_now()) if at is not None else None
        result = _in_state(config, asked, {"lists": names, "version": version, "at": time})
    answers = result.answers
    _note_limits(result)
    if as_json:
        print_json(_lookup_document(result))
    else:
        for answer in answers:
            if answer.hits is None:
                say(f"{answer.asked.text}  not checked")
            else:
                show_hits(answer.asked.text, answer.hits)
    if all(answer.hits is None for answer in answers):
        return UsageError.exit_code
    return 0 if any(answer.hits for answer in answers) else NOTHING_MATCHED


def _split(what: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """Split the arguments into DIR, if there is one, and digests. A folder with a colon in its name needs a slash."""
    first = what[0]
    if first == _STDIN or (":" in first and "/" not in first):
        return None, what
    if len(what) > 1:
        return Path(first), what[1:]
    if "/" in first or Path(first).is_dir():
        raise UsageError("no digest was given", hint="name digests after DIR, or `-` to read them from standard input")
    return None, what  # a digest without its algorithm


def _in_copy(matcher: "Matcher", folder: Path, asked: Sequence[AskedDigest], lists: Sequence[str]) -> LookupResult:
    answers = [LookupAnswer(one, _hits_in_copy(matcher, one.digest, lists)) for one in asked]
    warn_of_age(matcher, folder)
    held = [name for name in matcher.algorithms if matcher.generation.search_set(name, lists)]
    place = "list that was named" if lists else "list of this copy"
    return LookupResult(lists_document(matcher.status()), answers, held, place)


def _hits_in_copy(matcher: "Matcher", digest: Digest, lists: Sequence[str]) -> tuple[Hit, ...] | None:
    if matcher.generation.search_set(digest.algorithm, lists) is None:
        return None
    return tuple(matcher.lookup(digest.algorithm, digest.value, lists=lists))


def _in_state(config: Path | None, asked: Sequence[AskedDigest], asking: dict[str, Any]) -> LookupResult:
    if len(asked) > _MOST:
        raise UsageError(
            f"{len(asked):,} digests: at most {_MOST:,} at a time can be looked up in the state",
            hint="ask in several steps, or pull a copy and name its folder",
        )
    asking["digests"] = tuple(f"{one.digest.algorithm}:{one.digest.value.hex()}" for one in asked)
    document, _ = ask_document(load_config(config), "lookup", asking, utc_now(), quick=True)
    for one in document["lists"]:
        age = timedelta(seconds=one["age_seconds"] or 0)
        if one["stale"]:
            note(f"{one['list']} is stale: it was last verified {span(age)} ago")
    hits = [None if found is None else tuple(Hit(**hit) for hit in found) for found in document["hits"]]
    answers = [LookupAnswer(one, found) for one, found in zip(asked, hits, strict=True)]
    place = "list that was published then" if asking["at"] else "published list"
    return LookupResult(document["lists"], answers, document["algorithms"], place)


def _note_limits(result: LookupResult) -> None:
    """Name the digests that were not checked, or not for near matches."""
    held, answers = result.algorithms, result.answers
    hint = f"look up one of the algorithms held: {', '.join(held)}" if held else result.if_empty
    for algorithm in sorted({answer.asked.digest.algorithm for answer in answers if answer.hits is None}):
        note(f"{algorithm} digests were not checked, because no {result.place} holds any", hint=hint)
    for algorithm in sorted({answer.asked.digest.algorithm for answer in answers if answer.hits is not None}):
        if not algorithm.cryptographic:
            note(f"{algorithm} digests are compared exactly; near matches are not found", kind="note")


def asked_digests(texts: Sequence[str]) -> list[AskedDigest]:
    """Parse the digests of a command line; ``-`` reads them from standard input. Raises `UsageError`."""
    asked = list(_asked(texts))
    if not asked:
        raise UsageError("no digest was given: standard input is empty", hint="write one ALG:HEX per line to it")
    return asked


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


def _lookup_document(result: LookupResult) -> dict[str, Any]:
    return {
        "lists": result.lists,
        "digests": [
            {
                "digest": answer.asked.text,
                "matched": bool(answer.hits),
                "not_checked": answer.hits is None,
                "exact_only": not answer.asked.digest.algorithm.cryptographic,
                "hits": [hit._asdict() for hit in answer.hits or ()],
            }
            for answer in result.answers
        ],
    }
