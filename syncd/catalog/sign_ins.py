"""The part of the catalog that lets several daemons share who is signed in, and who sent wrong tokens."""

import secrets
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from sqlalchemy import delete, insert, select

from syncd.catalog.database import Tables, put
from syncd.catalog.lead import database_time
from syncd.catalog.sign_in_records import StoredSession, WrongToken
from syncd.catalog.tables import attempts, form_keys, sessions

_ONLY: Final = 1
_KEPT: Final = 60_000
"""Milliseconds that a wrong token is kept."""


class SignInTables(Tables):
    """Base of `syncd.catalog.catalog.Catalog`: each method is one transaction, and raises `StoreError` as that does."""

    def form_key(self) -> bytes:
        """Return the key of all daemons' forms; make it if there is none."""
        with self._database.writing() as connection:
            key: bytes | None = connection.execute(select(form_keys.c.key)).scalar_one_or_none()
            if key is None:
                key = secrets.token_bytes(32)
                connection.execute(insert(form_keys).values(id=_ONLY, key=key))
        return key

    def store_sessions(self, opened: Iterable[StoredSession], closed: Collection[str], most: int) -> None:
        """Add sessions and remove others, by the hashes of their ids. Beyond ``most``, the ones that end first go."""
        with self._database.writing() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            for session in opened:
                values = {"proof": session.proof, "until": now + session.left}
                put(connection, sessions, {"id_sha256": session.id_sha256}, values)
            connection.execute(delete(sessions).where(sessions.c.until <= now))
            connection.execute(delete(sessions).where(sessions.c.id_sha256.in_(closed)))
            newest = select(sessions.c.id_sha256).order_by(sessions.c.until.desc(), sessions.c.id_sha256).offset(most)
            for old in connection.execute(newest).scalars().all():
                connection.execute(delete(sessions).where(sessions.c.id_sha256 == old))

    def stored_sessions(self) -> tuple[StoredSession, ...]:
        """Return the sessions that have not ended."""
        with self._database.reading() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            rows = connection.execute(select(sessions).where(sessions.c.until > now)).mappings().all()
        return tuple(_session(row, now) for row in rows)

    def stored_session(self, id_sha256: str) -> StoredSession | None:
        """Return one of them; None if it has ended, or is not known."""
        with self._database.reading() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            mine = (sessions.c.id_sha256 == id_sha256, sessions.c.until > now)
            row = connection.execute(select(sessions).where(*mine)).mappings().first()
        return None if row is None else _session(row, now)

    def note_attempts(self, daemon: str, networks: Iterable[str]) -> None:
        """Record wrong tokens, and forget those of more than a minute ago."""
        with self._database.writing() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            for network in networks:
                connection.execute(insert(attempts).values(daemon=daemon, network=network, at=now))
            connection.execute(delete(attempts).where(attempts.c.at < now - _KEPT))

    def attempts_elsewhere(self, daemon: str) -> tuple[WrongToken, ...]:
        """Return the wrong tokens of the last minute at other daemons."""
        with self._database.reading() as connection:
            now = connection.execute(select(database_time())).scalar_one()
            wanted = (attempts.c.daemon != daemon, attempts.c.at >= now - _KEPT)
            rows = connection.execute(select(attempts).where(*wanted)).mappings().all()
        return tuple(WrongToken(row["id"], row["network"], max(0, now - row["at"])) for row in rows)


def _session(row: Mapping[Any, Any], now: int) -> StoredSession:
    return StoredSession(row["id_sha256"], row["proof"], row["until"] - now)
