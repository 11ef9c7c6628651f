"""The engines that daemons share: a real PostgreSQL and a real S3 server, on ports of this machine."""

import contextlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from engines import s3
from engines.ports import free_ports
from engines.postgres import PostgresServer
from syncd.store.settings import BucketSettings


@dataclass(frozen=True)
class Place:
    """An empty database, an empty place in the bucket, and an empty folder."""

    catalog: str
    bucket: BucketSettings
    folder: Path


class Engines:
    """Both, running until `close`. ``settings``: of the database server, beyond those that make tests quick."""

    def __init__(self, base: Path, **settings: str) -> None:
        self._base, self._stack = base, contextlib.ExitStack()
        (self._port,) = free_ports(1)
        self.database = self._stack.enter_context(
            PostgresServer.running(listen_addresses="127.0.0.1", port=str(self._port), **settings)
        )
        self._endpoint = s3.running(base / "s3", os.getpid())

    def close(self) -> None:
        """Stop them; the S3 server ends with this process."""
        self._stack.close()

    def fresh(self) -> Place:
        """Return a new place for a fleet."""
        name = f"fleet_{secrets.token_hex(4)}"
        folder = self._base / name
        folder.mkdir()
        self.database.do(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        address = f"postgresql://syncd@127.0.0.1:{self._port}/{name}"
        return Place(address, s3.settings(folder, self._endpoint, prefix=name), folder)
