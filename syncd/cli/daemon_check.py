"""``syncd run --check``: the configuration is checked, and the schedule shown."""

from datetime import datetime, timedelta

from syncd.catalog.records import SourceState
from syncd.cli.operator import open_catalog, state_folder
from syncd.cli.output import note, say, show_table, utc_now
from syncd.config import Config
from syncd.operate.known_good import check_canary_files
from syncd.service.scheduler import first_run
from syncd.service.web.site import check, check_valid
from syncd.units import span


def check_configuration(settings: Config) -> None:
    """Check everything that the configuration names, and print the schedule. Raises `ConfigError`, `StoreError`."""
    for source in settings.all_sources():
        source.check()
    check_canary_files(settings, whole=True)
    if settings.serve:
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


def _schedule(settings: Config) -> list[tuple[str, ...]]:
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


def _next(known: SourceState, interval: float, now: datetime) -> str:
    planned = first_run(known, interval, now, 1.0)
    within = span(planned.at - now)
    return f"within {within}" if planned.why == "start" else f"in {within} ({planned.why.replace('_', ' ')})"
