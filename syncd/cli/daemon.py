"""``syncd run``: the daemon."""

import os
import random
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.output import note, quiet_retries, say, show_table, utc_now
from syncd.units import span

if TYPE_CHECKING:
    from datetime import datetime


def run(
    check: Annotated[
        bool, typer.Option("--check", help="Validate the configuration, say what would be scheduled, and end.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Sync every source at its interval, until SIGTERM.

    Logs to standard error: a line of JSON for each event, readable text on a terminal. SIGHUP reads the configuration
    again, all of it or nothing. `syncd sync` and whoever may open the control socket give it orders.

    \b
    Exit codes:
      0   stopped, or --check: all is well
      1   storage
      2   configuration, or not set up
      6   another daemon or command holds the state

    \b
    Example:
      syncd run --config /etc/syncd/syncd.toml
    """
    settings = load_config(config)
    if check:
        _check(settings)
        return
    from syncd.service import log
    from syncd.service.daemon import Environment
    from syncd.service.run import run as run_daemon

    state_folder(settings)
    quiet_retries()
    emit = log.emitter(sys.stderr, utc_now)
    run_daemon(lambda: load_config(config), Environment(emit, utc_now, random.SystemRandom().random, os.environ))


def _check(settings: Any) -> None:
    for source in settings.all_sources():
        source.check()
    if settings.serve:
        from syncd.service.web.site import check, check_valid

        check(settings.serve)
        check_valid(settings.serve, utc_now())
    say(f"state folder    {settings.state_dir}")
    say(f"control socket  {settings.control_socket}")
    if settings.serve:
        say(f"http            {settings.serve.address.url(tls=settings.serve.tls_cert is not None)}")
    if not settings.sources:
        note("no source is configured: nothing would be synced")
        return
    show_table(("source", "every~", "deadline~", "next sync~", "from~"), _plan(settings))


def _plan(settings: Any) -> list[tuple[str, ...]]:
    """What would be scheduled, were the daemon started now."""
    from datetime import timedelta

    from syncd.catalog.catalog import Catalog

    with Catalog.open(state_folder(settings).catalog) as catalog:
        known = {name: catalog.source(name) for name in settings.sources}
    now = utc_now()
    return [
        (
            name,
            span(timedelta(seconds=source.interval)),
            span(timedelta(seconds=source.deadline)),
            _next(known[name], source.interval, now),
            source.place,
        )
        for name, source in settings.sources.items()
    ]


def _next(known: Any, interval: float, now: "datetime") -> str:
    from syncd.service.scheduler import first_run

    planned = first_run(known, interval, now, 1.0)
    within = span(planned.at - now)
    return f"within {within}" if planned.why == "start" else f"in {within} ({planned.why.replace('_', ' ')})"
