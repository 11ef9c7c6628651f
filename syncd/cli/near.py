"""``syncd near``."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import typer

from syncd.cli.lookup import AskedDigest, asked_digests
from syncd.cli.output import JsonFlag, note, print_json, say
from syncd.cli.pulled import NOTHING_MATCHED, Copy, RefuseStale, lists_document, open_copy, warn_of_age
from syncd.matcher import Matcher, NearHit
from syncd.matcher.near import DISTANCE
from syncd.model import list_name

_MAKE_IT: Final = "syncd pull makes it; until then the answers are the same, and take longer"


def near(
    folder: Copy,
    digests: Annotated[
        list[str], typer.Argument(metavar="ALG:DIGEST...", help="Digests in hex; - reads them from standard input.")
    ],
    distance: Annotated[
        int, typer.Option(metavar="BITS", help="Bits in which a match may differ, 0 to 63.")
    ] = DISTANCE,
    lists: Annotated[
        list[str] | None, typer.Option("--list", metavar="L", help="In this list; may be repeated.")
    ] = None,
    show_listed: Annotated[
        bool, typer.Option("--show-listed", help="Show the listed digests too, to suppress one. Keep them secret.")
    ] = False,
    refuse_stale: RefuseStale = False,
    as_json: JsonFlag = False,
) -> int:
    """Look for digests near those given, in the lists of a pulled copy.

    ALG is pdq or vpdq: the digests of an image and of its altered copies differ in few of 256 bits. Every entry within
    the distance is found, and no other, nearest first. Without an index of the list (`syncd pull` makes it), all rows
    are compared. With - digests are read from standard input, one a line, which keeps them out of the process list and
    the shell's history.

    A near match is a resemblance, not a proof. If it is wrong, suppress the listed digest, which --show-listed shows,
    not the one asked for.

    \b
    Exit codes:
      0   something matched
      10  nothing matched
      1   storage
      2   not a digest, no near matches for its algorithm, no list holds it, a
          distance that is not possible, no such list, or DIR is not a copy
      4   altered: signatures, manifests, or the length or structure of a segment
      6   other users may write DIR, you may not read it,
          or with --refuse-stale: a list is stale

    \b
    Example:
      syncd near /var/lib/hashes - --distance 20 < digest
    """
    asked = asked_digests(digests)
    matcher = open_copy(folder, refuse_stale=refuse_stale)
    names = tuple(map(list_name, lists or ()))
    found = [matcher.near(one.digest.algorithm, one.digest.value, distance, lists=names) for one in asked]
    warn_of_age(matcher, folder)
    for status in matcher.status():
        if status.near_indexed is False and (not names or status.list in names):
            note(f"{status.list} has no index for near look-ups: all rows were compared", hint=_MAKE_IT, kind="note")
    if as_json:
        print_json(_document(matcher, asked, found, show_listed=show_listed))
    else:
        for one, hits in zip(asked, found, strict=True):
            _show(one.text, hits, show_listed=show_listed)
    return 0 if any(found) else NOTHING_MATCHED


def _show(name: str, hits: Sequence[NearHit], *, show_listed: bool) -> None:
    if not hits:
        say(f"{name}  no match")
    for hit in hits:
        parts = [name, f"NEAR {hit.list} version {hit.version}", f"distance {hit.distance}"]
        parts += [f"label {hit.label}" if hit.label else "", f"entry {hit.entry}" if hit.entry else ""]
        parts += [f"listed {hit.digest.hex()}" if show_listed else ""]
        say("  ".join(filter(None, parts)))


def _document(
    matcher: Matcher, asked: Sequence[AskedDigest], found: Sequence[Sequence[NearHit]], *, show_listed: bool
) -> dict[str, Any]:
    return {
        "lists": lists_document(matcher.status()),
        "digests": [
            {"digest": one.text, "matched": bool(hits), "hits": [_hit(hit, show_listed=show_listed) for hit in hits]}
            for one, hits in zip(asked, found, strict=True)
        ],
    }


def _hit(hit: NearHit, *, show_listed: bool) -> dict[str, Any]:
    shown = {**hit._asdict(), "digest": hit.digest.hex()}
    return shown if show_listed else {name: value for name, value in shown.items() if name != "digest"}
