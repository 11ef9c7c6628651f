"""``syncd run``."""

import os
import random
import sys
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from syncd.cli.operator import ConfigFile, load_config, open_catalog, state_folder
from syncd.cli.output import note, quiet_retries, say, show_table, utc_now
from syncd.units import span


def run(
    check: Annotated[
        bool, typer.Option("--check", help="Validate the configuration, show the schedule, and exit.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Run the daemon: sync every source at its interval.

    Runs in the foreground until SIGTERM or SIGINT. Logs to standard error: a line of JSON for each event, or readable
    text on a terminal. SIGHUP reloads the configuration, completely or not at all. `syncd sync` and other commands
    send it orders over the control socket, if its permissions let them.

    \b
    Exit codes:
      0   stopped; with --check: the configuration is valid
      1   storage
      2   configuration, or not set up
      6   another daemon or command holds the state

    \b
    Example:
      syncd run --config /etc/syncd/syncd.toml
    """
    # structlog and others: not needed for the help
    from syncd.service import log
    from syncd.service.daemon import Environment
    from syncd.service.run import run as run_daemon

    settings = load_config(config)
    if check:
        _check(settings)
        return
    state_folder(settings)
    quiet_retries()
    emit = log.emitter(sys.stderr, utc_now)
    rng = random.SystemRandom().random
    run_daemon(lambda: load_config(config), Environment(emit, utc_now, rng, os.environ))


def _check(settings: Any) -> None:
    for source in settings.all_sources():
        source.check()
    from syncd.operate.known_good import check_canary_files  # SQLAlchemy and numpy: not needed for the help

    check_canary_files(settings, whole=True)
    if settings.serve:
        from syncd.service.web.site import check, check_valid  # FastAPI: not needed without [serve]

        check(settings.serve, settings.operators)
        check_valid(settings.serve, utc_now())
    say(f"state folder    {settings.state_dir}")
    say(f"control socket  {settings.control_socket}")
    if settings.serve:
        say(f"http            {settings.serve.address.url(tls=settings.serve.tls_cert is not None)}")
    if not settings.sources:
        note("no source is configured: nothing would be synced")
        return
    show_table(("source", "every~", "deadline~", "next sync~", "from~"), _schedule(settings))


def _schedule(settings: Any) -> list[tuple[str, ...]]:
    """Return the schedule of a daemon started now."""
    with open_catalog(state_folder(settings)) as catalog:
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


def _next(known: Any, interval: float, now: datetime) -> str:
    from syncd.service.scheduler import first_run  # APScheduler

    planned = first_run(known, interval, now, 1.0)
    within = span(planned.at - now)
    return f"within {within}" if planned.why == "start" else f"in {within} ({planned.why.replace('_', ' ')})"
