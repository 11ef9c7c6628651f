"""``syncd alerts``."""

from importlib.resources import files

from syncd.cli.operator import ConfigFile
from syncd.cli.output import note, say
from syncd.config_file import load

_PAGE = "docs/operations.md"
"""The page of the runbook, as the rules name it."""


def alerts(config: ConfigFile = None) -> None:
    """Print the alert rules for Prometheus, with links to the runbook.

    Each rule links to its section of the page that `runbook` in the configuration names. Without that key the links are
    paths in syncd's repository, and a warning says so.

    \b
    Exit codes:
      0   printed
      2   configuration

    \b
    Example:
      syncd alerts > /etc/prometheus/syncd-alerts.yml
    """
    page = load(config).runbook
    if not page:
        note("the links to the runbook are relative paths", hint="set `runbook` in the configuration")
    rules = files("syncd").joinpath("alerts.yml").read_text()
    say(*rules.replace(f"runbook_url: {_PAGE}#", f"runbook_url: {page or _PAGE}#").splitlines())
