"""Reload: checks that a new configuration can replace the one in force, and lists the differences."""

from typing import Any

from syncd import events
from syncd.config import Config
from syncd.errors import ConfigError
from syncd.operate.known_good import check_canary_files


def check_reload(before: Config, after: Config) -> None:
    """Check that all of ``after`` can be put in force now. Raises `ConfigError`."""
    for key in ("state_dir", "control_socket", "log_format", "catalog", "catalog_password_file"):
        if getattr(before, key) != getattr(after, key):
            raise ConfigError(
                f"{key} cannot change while the daemon runs",
                hint="restart the daemon; until then the old configuration stays in force",
            )
    if before.serve or after.serve:
        from syncd.service.web.site import check_change  # here: only a daemon that serves HTTP needs it

        check_change(before, after)
    for source in after.all_sources():
        source.check()
    check_canary_files(after, whole=False)  # the next sync reads them to the end: it may take long


def changes(before: Config, after: Config) -> events.ConfigReloaded:
    """Return the differences, as names only: values may be secret."""
    both = sorted(before.sources.keys() & after.sources.keys())
    changed = [f"{name}.{key}" for name in both for key in _differing(before.sources[name], after.sources[name])]
    if before.serve and after.serve:
        changed += [f"serve.{key}" for key in _differing(before.serve, after.serve)]
    people = sorted(before.operators.keys() | after.operators.keys())
    changed += [f"operators.{name}" for name in people if before.operators.get(name) != after.operators.get(name)]
    changed += [f"dashboard.{key}" for key in _differing(before.dashboard, after.dashboard)]
    changed += [f"retention.{key}" for key in _differing(before.retention, after.retention)]
    return events.ConfigReloaded(
        tuple(sorted(after.sources.keys() - before.sources.keys())),
        tuple(sorted(before.sources.keys() - after.sources.keys())),
        tuple(changed),
    )


def _differing(before: Any, after: Any) -> list[str]:
    keys = dict.fromkeys((*type(before).model_fields, *type(after).model_fields))  # a source may have changed its type
    return [key for key in keys if getattr(before, key, None) != getattr(after, key, None)]
