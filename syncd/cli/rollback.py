"""``syncd rollback`` and ``unpin``."""

from typing import Annotated

import typer

from syncd.cli.arguments import LARGEST, PublishedList
from syncd.cli.operator import ConfigFile, Document, carry_out, done_document, load_config
from syncd.cli.output import JsonFlag, note, print_json, say
from syncd.units import count

Reason = Annotated[str, typer.Option("--reason", metavar="R", help="Why; kept in the audit log.")]


def rollback(
    name: PublishedList,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, max=LARGEST, help="See `syncd snapshots LIST`.")],
    reason: Reason,
    exact: Annotated[
        bool, typer.Option("--exact", help="Also list entries that the partner removed since; needs --accept.")
    ] = False,
    accept: Annotated[str, typer.Option(metavar="CODE", help="The code that --exact asked for.")] = "",
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Publish the content of an older version of a list, and pin it there.

    Makes a new version, so connected matchers follow within seconds. Entries that the partner removed since then stay
    off it, and suppressed ones always do. While the list is pinned, the partner's removals still apply, but its
    additions do not. `syncd unpin` ends that. If `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   rolled back
      1   storage
      2   no such list or version, its files are no longer kept, or no reason
      3   --exact needs the code that is printed: nothing was changed
      6   the list is retired or pinned to that version, or the state is in use

    \b
    Example:
      syncd rollback iwf.images 4711 --reason "IWF signed a wrong list"
    """
    settings = load_config(config)
    order = {"do": "rollback", "name": name, "version": version, "reason": reason, "exact": exact, "accepted": accept}
    done = done_document(carry_out(settings, order), "pinned")
    if as_json:
        print_json(done)
        return
    _show(done)
    note(f"{done['list']} is pinned: only removals reach it until `syncd unpin {done['list']} --reason R`")


def unpin(name: PublishedList, reason: Reason, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Let a list that was rolled back follow its source again.

    Everything that the partner changed meanwhile is judged as one update: what exceeds the limits is held. If
    `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   it follows its source again, also if some rows are held
      1   storage
      2   there is no such list, or no reason was given
      6   it is not pinned, or the state is in use

    \b
    Example:
      syncd unpin iwf.images --reason "IWF published a corrected list"
    """
    settings = load_config(config)
    order = {"do": "unpin", "name": name, "reason": reason}
    done = done_document(carry_out(settings, order), "pinned")
    if as_json:
        print_json(done)
        return
    _show(done)
    if done["held"]:
        note(f"some rows are held ({', '.join(done['held'])}): `syncd holds` shows them", kind="to do")


def _show(done: Document) -> None:
    changes = (("added", "added"), ("removed", "removed"), ("relabelled", "relabelled"))
    parts = [f"{count(done[key], 'row')} {word}" for key, word in changes if done[key]]
    if done["version"] is None:
        say(f"{done['list']}: the published content did not change")
    else:
        say(f"{done['list']} version {done['version']} published: {', '.join(parts) or 'the same rows'}")
    for words in done["left_out"]:
        say(words)
