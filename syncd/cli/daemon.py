"""``syncd run``."""

import os
import random
import sys
from typing import Annotated

import typer

from syncd.cli.operator import ConfigFile, state_folder
from syncd.cli.output import JsonFlag, quiet_retries, utc_now
from syncd.config_file import load
from syncd.errors import UsageError


def run(
    check: Annotated[
        bool, typer.Option("--check", help="Validate the configuration, show the schedule, and exit.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
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
    from syncd.kernel_clock import kernel_clock
    from syncd.service import log
    from syncd.service.daemon import Environment
    from syncd.service.run import run as run_daemon

    if as_json and not check:
        raise UsageError("--json works only with --check", hint='for a log of events in JSON, set log_format = "json"')
    settings = load(config)
    if check:
        check_configuration(settings, as_json=as_json)
        return
    state_folder(settings)
    quiet_retries()
    emit = log.emitter(sys.stderr, utc_now, settings.log_format)
    rng = random.SystemRandom().random
    run_daemon(lambda: load(config), Environment(emit, utc_now, rng, os.environ, kernel_clock))
