"""Three daemons as processes, each behind a network of its own, the engines that they share, and a matcher."""

import contextlib
import itertools
import json
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import select

from cluster.network import Forwarder, Line
from engines.daemons import Cluster, DaemonProcess
from engines.shared import Engines
from syncd.catalog.catalog import Catalog
from syncd.catalog.tables import publications, signed_files
from syncd.database_address import DatabaseAddress
from syncd.errors import RollbackError, SyncdError
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.service.web.partner import running_server
from syncd.store.s3 import S3Bucket
from world import HEAD, Clock, World, row, rows

_T = TypeVar("_T")

_ORDER_WITHIN = 60.0
"""Seconds for an answer: more than an order waits for a leader."""


class FleetDaemon(DaemonProcess):
    """A daemon whose lines to database and bucket can be cut."""

    database_line: Forwarder
    bucket_line: Forwarder

    def cut(self, *, database: Line, bucket: Line) -> None:
        self.database_line.set(database)
        self.bucket_line.set(bucket)

    def lose_disk(self) -> None:
        """Kill it, and start it again with nothing but its configuration and its keys."""
        self.kill()
        for path in (self.folder / "state").iterdir():
            if path.name != "keys":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()


class Reader:
    """A matcher that pulls from one daemon after the other and looks everything up, all the time."""

    def __init__(self, fleet: "Fleet", token: str) -> None:
        self._fleet, self._token = fleet, token
        self._copy = fleet.base / "reader"
        self.faults: list[str] = []
        self._newest, self._answers = 0, dict[int, frozenset[int]]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        matcher: Matcher | None = None
        while not self._stop.is_set():
            for daemon in self._fleet.daemons:
                try:
                    matcher = self._look(daemon, matcher)
                except Exception as error:  # noqa: BLE001 - whatever it is, the test has to know
                    self.faults.append(f"{type(error).__name__}: {error}")
            self._stop.wait(0.3)

    def _look(self, daemon: DaemonProcess, matcher: Matcher | None) -> Matcher | None:
        try:
            result = self._fleet.pull(daemon, self._token, self._copy)
            self.faults += [str(error) for error in result.errors if isinstance(error, RollbackError)]
        except RollbackError as error:
            self.faults.append(f"{daemon.name} went back: {error}")
        except SyncdError:
            pass  # it cannot be reached, or is cut off: the old version stays
        if matcher is None and not self._copy.exists():
            return None
        matcher = matcher or Matcher.open(self._copy)
        matcher.reload()
        self._check(matcher)
        return matcher

    def _check(self, matcher: Matcher) -> None:
        before = matcher.status()[0].version
        listed = listed_in(matcher, self._fleet.rows)
        after = matcher.status()[0].version
        if before < self._newest:
            self.faults.append(f"the matcher went back from {self._newest} to {before}")
        self._newest = max(self._newest, before)
        if before == after and self._answers.setdefault(before, listed) != listed:
            self.faults.append(f"two answers from version {before}")


def listed_in(matcher: Matcher, count: int) -> frozenset[int]:
    """Which of the first rows a matcher knows."""
    return frozenset(n for n in range(count) if matcher.lookup("sha256", bytes.fromhex(row(n)[1])))


class Fleet:
    """Everything of one test, from an empty database to a matcher."""

    def __init__(self, engines: Engines, daemons: int) -> None:
        self._stack = contextlib.ExitStack()
        self.place = place = engines.fresh()
        self.base = place.folder
        self.world = World(self.base / "world", Clock(_now()))
        self.rows = 0
        url = self._stack.enter_context(running_server(self.world.partner.root))
        self.cluster = Cluster(place, url, self.world.root, daemons)
        self.daemons = [self._behind_lines(one) for one in self.cluster.daemons]
        self.cluster.daemons = list(self.daemons)
        self.cluster.set_up()
        self.reader: Reader

    def _behind_lines(self, daemon: DaemonProcess) -> FleetDaemon:
        database, bucket = (Forwarder(_port_of(url)) for url in (daemon.catalog, daemon.endpoint))
        mine = FleetDaemon(
            daemon.folder,
            daemon.port,
            _with_port(daemon.catalog, database.port),
            _with_port(daemon.endpoint, bucket.port),
        )
        mine.database_line, mine.bucket_line = database, bucket
        return mine

    def start(self) -> None:
        self.cluster.start()

    def follow(self) -> None:
        """Begin to ask, with a token of a matcher."""
        token = next(a["added"]["token"] for a in self.daemons[0].order(do="matchers_add", name="web"))
        self.reader = Reader(self, token)
        self._token = token

    def close(self) -> None:
        with contextlib.suppress(AttributeError):
            self.reader.close()
        self.mend()
        for daemon in self.daemons:
            daemon.kill()
            daemon.database_line.close()
            daemon.bucket_line.close()
        self._stack.close()
        shutil.rmtree(self.base, ignore_errors=True)

    def mend(self) -> None:
        """Connect every daemon again."""
        for daemon in self.daemons:
            daemon.cut(database=Line.WHOLE, bucket=Line.WHOLE)

    def publish(self, more: int) -> int:
        """The partner adds rows; return how many it has published."""
        self.world.clock.now = _now()
        begin, self.rows = self.rows, self.rows + more
        added = rows(begin, self.rows)
        if begin:
            self.world.publish(add=added)
        else:
            self.world.publish(full=added)
        return self.rows

    def order(self, at: int, **order: Any) -> dict[str, Any] | None:
        """Give an order to a daemon; return its last answer, None if there was none."""
        answers: list[dict[str, Any]] = []

        def ask() -> None:
            with contextlib.suppress(SyncdError, OSError):
                answers.extend(self.daemons[at].order(**order))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(_ORDER_WITHIN)
        return answers[-1] if answers and not thread.is_alive() else None

    def order_until_done(self, **order: Any) -> None:
        """Give an order to one daemon after the other until it is carried out."""
        turn = iter(range(1000))

        def done() -> bool:
            answer = self.order(next(turn) % len(self.daemons), **order)
            return answer is not None and answer.get("end") == 0

        self.wait(done, f"{order} to be carried out", 120)

    def catalog(self) -> Catalog:
        """The catalog, by a line that is never cut."""
        return Catalog.open(DatabaseAddress(self.place.catalog))

    def leader(self, besides: DaemonProcess | None = None) -> FleetDaemon | None:
        """The daemon that leads, as the catalog says; None if none does, or only ``besides``."""
        with self.catalog() as catalog:
            now, (known, _) = catalog.leader(), catalog.daemons()
        if now is None or not now.in_force:
            return None
        pids = {one.id: one.pid for one in known}
        found = (one for one in self.daemons if one.process and one.process.pid == pids.get(now.owner))
        return next((one for one in found if one is not besides), None)

    def wait(self, found: Callable[[], _T | None], what: str, seconds: float) -> _T:
        """Wait for something. Raises `AssertionError`, which names what did not come."""
        found_in_time: _T = self.cluster.wait(found, what, seconds)
        return found_in_time

    def pull(self, daemon: DaemonProcess, token: str, copy: Path) -> Any:
        root = self.cluster.root_file.read_bytes()
        return pull(Endpoint(daemon.url, token=token), root, copy, now=_now())

    def pulled_from(self, daemon: DaemonProcess) -> frozenset[int]:
        """Which rows a new matcher has that pulls from a daemon; none if it cannot."""
        copy = self.base / f"pulled-{secrets.token_hex(4)}"
        try:
            if self.pull(daemon, self._token, copy).errors:
                return frozenset()
            return listed_in(Matcher.open(copy), self.rows)
        except SyncdError:
            return frozenset()
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def history_faults(self) -> list[str]:
        """Versions of the timestamp, or of the list, that were signed twice or out of order."""
        with self.catalog() as catalog:
            statement = (
                select(publications.c.id, signed_files.c.content)
                .join(signed_files, signed_files.c.publication_id == publications.c.id)
                .where(signed_files.c.path == "metadata/timestamp.json")
                .order_by(publications.c.id)
            )
            signed = [json.loads(one["content"])["signed"]["version"] for one in catalog._rows(statement)]
            kept = catalog.versions(HEAD)
        faults = [f"the timestamp {b} follows {a}" for a, b in itertools.pairwise(signed) if b <= a]
        numbers = [one.version for one in reversed(kept)]
        faults += [f"version {b} follows {a}" for a, b in itertools.pairwise(numbers) if b <= a]
        return [*faults, *self._faults_in_bucket({one.version: one.manifest_sha256 for one in kept})]

    def _faults_in_bucket(self, known: dict[int, str]) -> Iterator[str]:
        """Manifests in the bucket that the catalog never committed."""
        bucket = S3Bucket(self.place.bucket, "feed", public=True)
        for path in bucket.names(f"v1/{HEAD}"):
            content = bucket.get(path, 1 << 22) if path.endswith(".manifest.json") else None
            if content is not None:
                version = json.loads(content.content)["version"]
                sha256 = path.rpartition("/")[2].partition(".")[0]
                if known.get(version, sha256) != sha256:
                    yield f"version {version} was signed twice"


def _port_of(url: str) -> int:
    return int(url.partition("://")[2].partition("/")[0].rpartition(":")[2])


def _with_port(url: str, port: int) -> str:
    return url.replace(f":{_port_of(url)}", f":{port}", 1)


def _now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)
