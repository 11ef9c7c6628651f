"""A trust root, as it is handed out."""

from syncd.trust.strict import verify_root


def one(content: bytes) -> None:
    """Verify it by its own keys."""
    verify_root(content)
