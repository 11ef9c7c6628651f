"""The records of sign-ins that several daemons share. Lengths of time are milliseconds."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class StoredSession:
    """A session on the dashboard."""

    id_sha256: str
    proof: str = field(repr=False)
    """proves which token it belongs to, to whoever has its id"""
    left: int
    """until it ends"""


@dataclass(frozen=True)
class WrongToken:
    """A wrong token that another daemon was sent."""

    number: int
    network: str
    ago: int
