"""``syncd run --check``: check the configuration, the state folder and the control socket, and show the schedule."""

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any, Final

from pydantic import BaseModel

from syncd.catalog.folder import StateFolder
from syncd.catalog.records import SourceState
from syncd.cli.operator import open_catalog, state_folder
from syncd.cli.output import note, print_json, say, show_table, utc_now
from syncd.config import Config
from syncd.errors import ConfigError, RefusedError
from syncd.operate.known_good import check_canary_files
from syncd.service.scheduler import first_run
from syncd.service.web.site import check, check_valid
from syncd.settings import CREDENTIALS
from syncd.units import span
from syncd.users import this_user
from syncd.verify.modes import closed_to_group

_WITH_CREDENTIALS: Final = (
    "to check them too: systemd-run --pipe --wait --uid=syncd -p LoadCredential=keys:/etc/syncd/keys/ "
    "-p LoadCredential=secrets:/etc/syncd/secrets/ syncd run --check"
)


def check_configuration(settings: Config, *, as_json: bool = False) -> None:
    """Check everything that the configuration names, and print the schedule.

    Credentials that only the service has are named and not checked. Raises `ConfigError`, `UsageError`, `RefusedError`,
    `StoreError`.
    """
    left_out: list[str] = []
    here: Any = _readable_here(settings, "", left_out)
    for name, table in here.sources.items():
        if table.is_complete:
            table.source(name).check()
    check_canary_files(here, whole=True)
    if here.serve:
        operators = {name: table for name, table in here.operators.items() if table.token_file is not None}
        check(here.serve, operators)
        check_valid(here.serve, utc_now())
    _check_socket_folder(settings.control_socket)
    folder = _checked_state(settings)
    http = settings.serve.address.url(tls=settings.serve.tls_cert is not None) if settings.serve else None
    now = utc_now()
    with open_catalog(folder) as catalog:
        planned = _schedule(settings, {name: catalog.source(name) for name in settings.sources}, now)
    if left_out:
        note(
            f"not checked, since only the service has these credentials: {', '.join(left_out)}", hint=_WITH_CREDENTIALS
        )
    if not settings.sources:
        note("no source is configured: nothing would be synced")
    if as_json:
        document = {"state_dir": settings.state_dir, "catalog": str(folder.catalog)}
        places = {"control_socket": settings.control_socket, "http": http}
        print_json({**document, **places, "not_checked": left_out, "sources": planned})
        return
    say(f"state folder    {settings.state_dir}", f"catalog         {folder.catalog}")
    say(f"control socket  {settings.control_socket}")
    if http:
        say(f"http            {http}")
    if planned:
        rows = [
            (
                one["source"],
                span(timedelta(seconds=one["interval_seconds"])),
                span(timedelta(seconds=one["deadline_seconds"])),
                _next(one, now),
                one["place"],
            )
            for one in planned
        ]
        show_table(("source", "every~", "deadline~", "next sync~", "from~"), rows)


def _readable_here(value: Any, place: str, left_out: list[str]) -> Any:
    """Return settings without the files below ``$CREDENTIALS_DIRECTORY`` if that is not set; name them in ``left_out``.

    If a certificate is left out, so is its key, and vice versa.
    """
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        read = {name: _readable_here(getattr(value, name), f"{place}{name}.", left_out) for name in names}
        changed = {name: one for name, one in read.items() if one is not getattr(value, name)}
        for pair in (("tls_cert", "tls_key"), ("client_cert", "client_key")):
            if any(name in changed and changed[name] is None for name in pair):
                changed |= dict.fromkeys(pair)
        return value.model_copy(update=changed) if changed else value
    if isinstance(value, Mapping):
        below = {key: _readable_here(one, f"{place}{key}.", left_out) for key, one in value.items()}
        return below if any(below[key] is not value[key] for key in below) else value
    if isinstance(value, Path) and value.parts[:1] == (f"${CREDENTIALS}",):
        left_out.append(place.rstrip("."))
        return None
    return value


def _check_socket_folder(path: Path) -> None:
    """Check that this user can create the control socket. If its folder is missing, systemd may still create it."""
    folder = path.parent
    if folder.is_dir():
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise ConfigError(
                f"control_socket: {this_user()} cannot create {path}, because its folder is not writable",
                hint=f"make {this_user()} the owner of {folder}, or configure another folder",
            )
        return
    existing = next(above for above in folder.parents if above.exists())
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        note(
            f"control_socket: {folder} does not exist, and {this_user()} cannot create it",
            kind="note",
            hint="nothing, if systemd creates it (RuntimeDirectory=, as in syncd.service); otherwise create it for "
            f"{this_user()}",
        )


def _checked_state(settings: Config) -> StateFolder:
    """Return the state folder, after checking that it is set up, belongs to this user and is writable.

    Warns if its group cannot read the published files.
    """
    folder = state_folder(settings)
    if not os.access(folder.root, os.W_OK | os.X_OK, effective_ids=True):
        raise RefusedError(f"{folder.root} is not writable", hint=f"run `chmod u+rwx {quote(str(folder.root))}`")
    if closed := closed_to_group(folder.root, folder.feed.root):
        note(closed)
    return folder


def _schedule(settings: Config, known: Mapping[str, SourceState], now: datetime) -> list[dict[str, Any]]:
    """Return the schedule of a daemon started now."""
    planned = {name: first_run(known[name], source.interval, now, 1.0) for name, source in settings.sources.items()}
    return [
        {
            "source": name,
            "interval_seconds": source.interval,
            "deadline_seconds": source.deadline,
            "next_sync_at": planned[name].at,
            "why": planned[name].why.replace("_", " "),
            "place": source.place,
        }
        for name, source in settings.sources.items()
    ]


def _next(planned: Mapping[str, Any], now: datetime) -> str:
    within = span(planned["next_sync_at"] - now)
    return f"within {within}" if planned["why"] == "start" else f"in {within} ({planned['why']})"
