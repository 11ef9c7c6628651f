"""Files that the configuration names for a source: trust roots, tokens, passwords."""

from pathlib import Path
from typing import Final

from syncd.errors import ConfigError, StoreError
from syncd.files import read_bytes

_MAX_SECRET: Final = 4096
_ONLY_SERVICES: Final = "only services receive credentials from systemd: run syncd as a service, or configure a file"


def configured(path: Path, limit: int, what: str) -> bytes:
    """Return the content of a configured file of at most ``limit`` bytes. ``what`` is for messages.

    Raises `ConfigError`.
    """
    try:
        return read_bytes(path, limit)
    except StoreError as error:
        hint = "check the configured path, and that this user may read it" if path.is_absolute() else _ONLY_SERVICES
        raise ConfigError(f"{what}: {error.message}", hint=hint) from error


def secret(path: Path, what: str) -> str:
    """Return the secret in a file, without white space around it. Raises `ConfigError`; the text is in no message."""
    text = configured(path, _MAX_SECRET, what).decode(errors="replace").strip()
    if not text or not text.isprintable():
        raise ConfigError(f"{what}: empty, or with unprintable characters", hint="check the content of the file")
    return text
