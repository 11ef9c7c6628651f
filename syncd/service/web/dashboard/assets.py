"""Style sheet, script and icon: package data whose URLs contain their hash, so that browsers may cache them forever."""

import hashlib
from functools import cache
from importlib import resources
from typing import Final

KINDS: Final = {
    "dashboard.css": "text/css; charset=utf-8",
    "dashboard.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Media types of the files that are served."""
PREFIX: Final = "/dashboard/assets"
IMMUTABLE: Final = "public, immutable, max-age=31536000"


@cache
def content(name: str) -> bytes:
    """Return the bytes of a file. Raises `KeyError` for a file that is not served."""
    KINDS[name]
    return resources.files(__package__).joinpath("static", name).read_bytes()


@cache
def edition(name: str) -> str:
    """Return a hash that identifies this content of a file."""
    return hashlib.sha256(content(name)).hexdigest()[:16]


def address(name: str) -> str:
    """Return the URL of this content of a file; it never changes."""
    return f"{PREFIX}/{edition(name)}/{name}"
