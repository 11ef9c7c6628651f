"""Style sheet, script and icon: package data, named by what is in them, so that browsers may keep them for ever."""

import hashlib
from functools import cache
from importlib import resources
from typing import Final

KINDS: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file that is served, and as what."""
PREFIX: Final = "/dashboard/assets"
IMMUTABLE: Final = "public, immutable, max-age=31536000"


@cache
def content(name: str) -> bytes:
    """A file's bytes; raises `KeyError` for one that is not served."""
    KINDS[name]
    return resources.files(__package__).joinpath("static", name).read_bytes()


@cache
def edition(name: str) -> str:
    """What tells this content of a file from others."""
    return hashlib.sha256(content(name)).hexdigest()[:16]


def address(name: str) -> str:
    """Where this content of a file is, now and always."""
    return f"{PREFIX}/{edition(name)}/{name}"
