"""``syncd retire``."""

from typing import Annotated

import typer

from syncd.cli.arguments import PublishedList
from syncd.cli.operator import ConfigFile, carry_out, done_document, load_config
from syncd.cli.output import JsonFlag, print_json, say
from syncd.units import count


def retire(
    name: PublishedList,
    reason: Annotated[str, typer.Option(metavar="R", help="Why; kept in the audit log.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Retire a list: publish that it has ended.

    Its next version is empty, and says since when the list is retired. Look-ups skip it, matchers warn about it for
    seven days, status and alerts no longer watch its age. First make sure that no source follows it: remove it from the
    source's `lists`, or the source from the configuration, and reload the daemon. Holds of the list end at once, and
    the kept files of the source's list are deleted a day later. A sync that follows the list again undoes all this. If
    `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   retired
      1   storage
      2   there is no such list, or no reason was given
      6   a source follows it, it is already retired, or the state is in use

    \b
    Example:
      syncd retire iwf.images --reason "contract ended"
    """
    settings = load_config(config)
    done = done_document(carry_out(settings, {"do": "retire", "name": name, "reason": reason}), "retired")
    if as_json:
        print_json(done)
        return
    say(f"{done['list']} version {done['version']} published: retired")
    if done["holds_ended"]:
        say(f"{count(done['holds_ended'], 'hold')} of it ended")
