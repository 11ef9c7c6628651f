"""Manifests."""

from syncd.format.manifest import encode, parse


def one(content: bytes) -> None:
    """Parse a manifest; what it means survives being written again."""
    manifest = parse(content)
    assert parse(encode(manifest)) == manifest
