"""``syncd retire``: ending a list."""

import os
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.orders import Document, give
from syncd.cli.output import JsonFlag, print_json, say, utc_now
from syncd.cli.repair import actor
from syncd.units import count


def retire(
    name: Annotated[str, typer.Argument(metavar="LIST", help="A list as it is published, such as iwf.images.")],
    reason: Annotated[str, typer.Option(metavar="R", help="Why; the audit log keeps it.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """End a list: publish that it is no longer published.

    Its next version is empty, and says since when the list is retired. Look-ups go on without it, matchers warn of it
    for seven days, status and alerts no longer ask for its age. Before that, no source may follow it: take it out of
    the source's `lists`, or the source out of the configuration, and reload the daemon. What is kept of the source's
    list goes a day later, and holds of it end now. A sync that follows the list again undoes it.
    Where `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   retired
      1   storage
      2   no such list, or no reason given
      6   a source follows it, it is retired already, or the state is in use

    \b
    Example:
      syncd retire iwf.images --reason "contract ended"
    """
    settings = load_config(config)
    answers = give(settings, {"do": "retire", "name": name, "reason": reason})
    done = _end_here(settings, name, reason) if answers is None else _only(answers)
    if as_json:
        print_json(done)
        return
    say(f"{done['list']} version {done['version']} published: retired")
    if done["holds_ended"]:
        say(f"{count(done['holds_ended'], 'hold')} of it ended")


def _only(answers: Iterable[Document]) -> Document:
    (answer,) = answers
    done: Document = answer["retired"]
    return done


def _end_here(settings: Any, name: str, reason: str) -> Document:
    from syncd.model import list_name
    from syncd.operate.retire import retire as end_list
    from syncd.pipeline.publisher import open_publisher
    from syncd.settings import credentials

    listed, sources = list_name(name), settings.all_sources()
    folder = state_folder(settings)
    with sole_writer(folder, "syncd retire"), open_publisher(folder, credentials=credentials(os.environ)) as publisher:
        done = end_list(publisher, listed, sources, actor=actor(), reason=reason, now=utc_now())
    return done.document()
