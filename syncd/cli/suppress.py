"""``syncd suppress`` and ``unsuppress``: the operator's own corrections."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from syncd.cli import corrections
from syncd.cli.corrections import GivenDigest
from syncd.cli.operator import ConfigFile, Document, carry_out, done_document, load_config
from syncd.cli.output import JsonFlag, print_json, say, show_trouble, utc_now
from syncd.cli.suppressions import day_of, scope, show_others
from syncd.errors import UsageError
from syncd.model import list_name
from syncd.units import count

_Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the audit log, and logged.")]


def suppress(
    digest: Annotated[
        str | None, typer.Argument(metavar="ALG:DIGEST", help="The digest in hex; - reads it from standard input.")
    ] = None,
    *,
    reason: _Reason,
    name: Annotated[str | None, typer.Option("--list", metavar="L", help="Only this list; default: all.")] = None,
    entry: Annotated[
        str | None, typer.Option(metavar="E", help="Only this entry of the digest; default: every entry.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="F", readable=False, help="A file of digests: ALG:HEX a line, or CSV.")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="T", help="After a duration (12h, 10d) or at a time; default: 30d.")
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="Until `syncd unsuppress` ends it.")] = False,
    ahead: Annotated[bool, typer.Option("--ahead", help="Also if no list has the digest yet.")] = False,
    extend: Annotated[
        str | None, typer.Option(metavar="ID", help="Let suppressions in force expire at another time instead.")
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """Stop digests from matching, whatever the partner lists.

    Publishes a version without them of each list that has them; connected matchers follow within seconds. It stays so
    whatever the partner does, until it expires or `syncd unsuppress` ends it. For pdq and photodna give the listed
    digest of the hit, not that of your image. With - the digest is read from standard input, which keeps it out of the
    process list and the shell's history. A file has one ALG:HEX a line, or CSV with the columns algorithm, digest and
    entry. More than 100 rows, or 0.1 % of a list (at least 10 rows), in 24 hours wait for a second operator. If
    `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   in force
      1   storage
      2   not a digest, not listed (see --ahead), no such list, or a past expiry
      3   waits for a second operator: nothing has changed yet
      6   suppressed already, or the state is in use, or is another user's

    \b
    Example:
      syncd suppress - --reason "case 4711: holiday photo" < digest
      syncd suppress --file wrong.csv --list iwf.images --reason "case 4712"
    """
    if forever and expires is not None:
        raise UsageError("--forever and --expires exclude each other", hint="give one of them; nothing was changed")
    until = corrections.expiry(expires, utc_now())
    timing = {"expires_at": until.isoformat() if until else None, "forever": forever}
    settings = load_config(config)
    if extend is not None:
        if digest is not None or file is not None or name is not None or entry is not None or ahead:
            raise UsageError(
                "--extend takes neither a digest nor a scope",
                hint="give its number, --reason, and --expires or --forever",
            )
        chosen = corrections.numbers([extend])
        extension = {"do": "extend", "suppressions": chosen, "reason": reason, **timing}
        return _show_done(carry_out(settings, extension), as_json=as_json, shown=_show_extended)
    given = _given(digest, entry, file)
    order = {
        "do": "suppress",
        "corrections": [
            {"digest": f"{one.digest.algorithm}:{one.digest.value.hex()}", "entry": one.entry, "line": one.line}
            for one in given
        ],
        "reason": reason,
        "list": name if name is None else list_name(name),
        "ahead": ahead,
        **timing,
    }
    return _show_done(carry_out(settings, order), as_json=as_json, shown=_show_suppressed)


def _given(digest: str | None, entry: str | None, file: Path | None) -> tuple[GivenDigest, ...]:
    if file is None and digest is not None:
        return corrections.from_argument(digest, entry)
    if file is None:
        raise UsageError("no digest was given", hint="give ALG:DIGEST, - for standard input, or --file F")
    if digest is not None or entry is not None:
        raise UsageError("--file excludes ALG:DIGEST and --entry", hint="entries are a column of the file")
    return corrections.from_file(file)


def unsuppress(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Numbers in `syncd suppressions`: 3, or 3-14.")],
    reason: _Reason,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> int:
    """End suppressions: entries that the partner still lists match again.

    Publishes a version with them of each list that they were taken off. Many at once are judged as any growth, and may
    be held. If `syncd run` holds the state, that daemon
    does it.

    \b
    Exit codes:
      0   ended
      1   storage
      2   no such suppression, or no reason was given
      3   ended, but entries that would return are held
      6   it has ended already or waits, or the state is in use, or another user's

    \b
    Example:
      syncd unsuppress 3 --reason "case 4711: it was the right file"
    """
    settings, chosen = load_config(config), corrections.numbers(ids)
    order = {"do": "unsuppress", "suppressions": chosen, "reason": reason}
    return _show_done(carry_out(settings, order), as_json=as_json, shown=_show_unsuppressed)


def _show_done(answer: Document, *, as_json: bool, shown: Callable[[Document], None]) -> int:
    if as_json:
        print_json(done_document(answer, "corrected"))
    else:
        shown(answer["corrected"])
    return int(answer["end"])


def _show_suppressed(done: Document) -> None:
    first, name = done["suppressions"][0], _named(done)
    if done["hold"]:
        hold = done["hold"]
        show_trouble(
            "held",
            f"{name} for {count(hold['rows'], 'row')} must be confirmed by a second operator: {hold['message']}",
            "every list as before: nothing has changed yet",
            hold["to_do"],
        )
        return
    until = _until(first)
    if done["rows"]:
        say(f"{name}: {_entries(done['rows'])} off the lists ({scope(first)}) {until}")
    else:
        say(f"{name}: not listed now, and kept off {first['list'] or 'all lists'} {until}")
    _show_versions(done["versions"])
    say(f"undo: syncd unsuppress {done['numbers'].replace(' ', '')} --reason R")
    show_others(done["suppressions"])


def _show_unsuppressed(done: Document) -> None:
    listed = f"{_entries(done['rows'])} listed again" if done["rows"] else "no entry is listed again"
    say(f"{_named(done)} ended: {listed}")
    _show_versions(done["versions"])
    for hold in done["opened"]:
        what = f"{count(hold['rows'], 'entry')} would return to {hold['list']}"
        show_trouble("held", f"{what}: {hold['message']}", f"{hold['list']} without them", hold["to_do"])


def _show_extended(done: Document) -> None:
    say(f"{_named(done)}: in force {_until(done['suppressions'][0])}")


def _until(one: Document) -> str:
    return f"until {day_of(one['expires_at'])} UTC" if one["expires_at"] else "until it is ended"


def _show_versions(versions: Document) -> None:
    for name, version in versions.items():
        say(f"{name} version {version} published")


def _named(done: Document) -> str:
    several = done["total"] > 1
    return f"{count(done['total'], 'suppression')} ({done['numbers']})" if several else f"suppression {done['numbers']}"


def _entries(rows: int) -> str:
    return f"{count(rows, 'entry')} {'is' if rows == 1 else 'are'}"
