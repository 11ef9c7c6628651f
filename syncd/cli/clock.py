"""``syncd clock``: show the times of the state that lie in the future, and accept the clock once it is right."""

from datetime import timedelta
from typing import Annotated

import typer

from syncd.cli.arguments import clock_time
from syncd.cli.operator import ConfigFile, carry_out, load_config, state_report
from syncd.cli.output import JsonFlag, note, print_json, say
from syncd.kernel_clock import kernel_clock
from syncd.units import span

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def clock(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show the clock of this host, and times in the future.

    A clock that was ahead leaves times in the future: signatures, times of verification, and the clock floors of
    sources, before which no sync is permitted. Shows them, and whether the kernel considers the clock synchronised. If
    `syncd run` holds the state, this asks that daemon.

    \b
    Exit codes:
      0   shown, even if times lie in the future
      1   storage
      2   not set up
      6   the state folder belongs to another user

    \b
    Example:
      syncd clock --json
    """
    if context.invoked_subcommand is not None:
        return
    kernel, document = kernel_clock(), state_report(load_config(config), "status")
    ahead = document.get("clock", {"ahead_seconds": 0, "times": (), "act": None})  # an older daemon does not report it
    if as_json:
        print_json({"at": document["at"], "synchronised": kernel.synchronised, **ahead})
        return
    say(f"this host's clock: {document['at']}", kernel.words)
    for time in ahead["times"]:
        say(f"{time['what']}: {time['at']}, {span(timedelta(seconds=time['seconds']))} in the future")
    if ahead["act"]:
        note(ahead["act"])
    else:
        say("no time of the state lies in the future")


@app.command("accept")
def accept(
    time: Annotated[
        str, typer.Argument(metavar="TIME", help="The present time with its zone, from a clock that you trust.")
    ],
    reason: Annotated[str, typer.Option(metavar="R", help="What was wrong with the clock; kept in the audit log.")],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Replace times in the future, left by a clock that was ahead.

    Correct the clock of this host first. Clock floors of sources and times of verification that lie in the future
    become TIME, and the timestamp is signed again. The floors of versions stay. TIME may not be in the future, nor
    before the newest verification or signature that is not itself in the future. Prints each time before and after, and
    whether the kernel considers the clock synchronised. If `syncd run` holds the state, that daemon does it.

    \b
    Exit codes:
      0   accepted
      1   storage
      2   TIME is not valid, has no zone, is in the future or too early,
          or no reason was given
      6   no time lies in the future, only the offline keys can correct it,
          the state is in use, or it belongs to another user

    \b
    Example:
      syncd clock accept 2026-11-29T11:40Z --reason "RTC was in local time"
    """
    given = clock_time(time, "TIME")
    settings, kernel = load_config(config), kernel_clock()
    note(kernel.words, kind="note" if kernel.synchronised else "warning")
    done = carry_out(settings, {"do": "clock", "time": given.isoformat(), "reason": reason})["clock"]
    if as_json:
        print_json({**done, "synchronised": kernel.synchronised})
        return
    for replaced in done["replaced"]:
        say(f"{replaced['what']}: was {replaced['before']}, now {replaced['after']}")
    if done["act"]:
        note(done["act"], kind="to do")
    say("next: syncd sync")
