"""``syncd run``."""

import os
import random
import sys
from typing import Annotated

import typer

from syncd.cli.operator import ConfigFile, load_config, state_folder
from syncd.cli.output import quiet_retries, utc_now


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
    from syncd.cli.daemon_check import check_configuration
    from syncd.service import log
    from syncd.service.daemon import Environment
    from syncd.service.run import run as run_daemon

    settings = load_config(config)
    if check:
        check_configuration(settings)
        return
    state_folder(settings)
    quiet_retries()
    emit = log.emitter(sys.stderr, utc_now)
    rng = random.SystemRandom().random
    run_daemon(lambda: load_config(config), Environment(emit, utc_now, rng, os.environ))
