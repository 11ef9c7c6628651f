"""Fan-out through mirrors: ``python -m benchmarks.fanout --workdir DIR``.

A real daemon with a list of ``--rows`` rows and two mirrors of it, each a process of its own; 1,000 event streams and
20 matcher processes, half of them at each mirror. Measured is the time from a publication at the daemon to the changed
answer of each matcher, and for comparison the same in the same run with everything at the daemon. Then what each of
these costs the servers, for ``benchmarks.sizing``: ``--costs FILE`` keeps it.
"""

import argparse
import contextlib
import json
import os
import signal
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from benchmarks.load import (
    DELTA,
    MATCHER_PROGRAM,
    MATCHERS,
    PUBLICATIONS,
    STREAMS,
    STREAMS_PROGRAM,
    copies,
    percentile,
)
from benchmarks.lookup import show
from benchmarks.measure import Figure
from benchmarks.site import SYNCD, Lines, Site, daemon, process, run, secret
from syncd.publish import author

MIRRORS: Final = 2
LIMIT: Final = 2.0
"""seconds from published to answered through one level"""
RELATIVE: Final = 2.0
"""the same relative to the daemon itself, in the same run: one level takes no longer than the daemon"""
_ROUNDS: Final = 10
"""publications for each of the costs"""
_IDLE: Final = 30.0
_REQUESTS: Final = 5000
_CHECK_INS: Final = 900
_HANDSHAKES: Final = 200
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Costs:
    """What one of each costs a server, in milliseconds of processor time or bytes, as measured in one run."""

    commit: str
    rows: int
    delta_rows: int
    publication_daemon: float
    """one publication, without any reader"""
    publication_mirror: float
    """to fetch, verify and serve it, without any reader"""
    mirror_at_daemon: float
    """to serve one mirror a publication, at its upstream"""
    event: float
    """one event on one stream"""
    pull: float
    """one matcher that pulls one delta, with its event and its check-in"""
    check_in_mirror: float
    check_in_daemon: float
    """one that a mirror passes on in a batch"""
    check_in_direct: float
    poll: float
    """one request that finds nothing new"""
    stream_second: float
    """one open stream for one second, with its beats"""
    stream_bytes: float
    """memory of one open stream"""
    mirror_bytes: float
    """memory of a mirror without streams"""
    delta_bytes: float
    """sent to one matcher for one delta, metadata and manifest included"""
    row_bytes: float
    """of a whole list, for each of its rows"""
    tls: float
    """one handshake, at the server"""
    published_to_answered: float
    """seconds, p99, through one level"""
    published_to_answered_direct: float
    """the same at the daemon itself"""


@dataclass(frozen=True)
class MirrorProcess:
    """A running mirror."""

    pid: int
    port: int
    folder: Path

    @property
    def feed(self) -> str:
        return f"http://127.0.0.1:{self.port}/feed/"


@contextlib.contextmanager
def mirror(site: Site, name: str) -> Iterator[MirrorProcess]:
    """A mirror of the site's daemon."""
    token, metrics = site.base / f"{name}.token", secret(site.base / "metrics.token", "metrics-0123456789")
    run(
        *("matchers", "add", name, "--mirror", "--token-file", str(token)),
        *("--config", str(site.base / "syncd.toml")),
    )
    folder, root = site.base / name, site.state / "feed" / author.ROOT_FILE
    options = ("--root", root, "--dir", folder, "--listen", "127.0.0.1:0", "--token-file", token)
    command = [*SYNCD, "mirror", site.feed, *map(str, options), "--metrics-token-file", str(metrics)]
    log = (site.base / f"{name}.log").open("w")
    with (
        log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as started,
    ):
        try:
            assert started.stdout
            line = started.stdout.readline()
            assert line.startswith("mirroring "), (site.base / f"{name}.log").read_text()[-2000:]
            yield MirrorProcess(started.pid, int(line.rpartition(":")[2].partition("/")[0]), folder)
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(20)


def processor_ms(pid: int) -> float:
    """Milliseconds of processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS * 1e3


def unique_memory(pid: int) -> int:
    """Bytes that a process alone holds (USS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


class _Readers:
    """Streams and matchers at servers, in turn."""

    def __init__(self, site: Site, ports: Sequence[int], streams: int, folders: Sequence[Path]) -> None:
        self._site, self._ports, self._streams, self._folders = site, ports, streams, folders
        self.heard: list[Lines] = []
        self.matchers: list[Lines] = []

    @contextlib.contextmanager
    def running(self, version: int) -> Iterator["_Readers"]:
        """Start them all, and wait until they are at ``version``."""
        site = self._site
        with contextlib.ExitStack() as stack:
            for port in self._ports if self._streams else ():
                arguments = ("127.0.0.1", str(port), str(site.listener), str(self._streams // len(self._ports)))
                self.heard.append(stack.enter_context(process(sys.executable, "-c", STREAMS_PROGRAM, *arguments)))
            for number, folder in enumerate(self._folders):
                feed = f"http://127.0.0.1:{self._ports[number % len(self._ports)]}/feed/"
                follow = (str(folder), feed, str(site.token))
                self.matchers.append(stack.enter_context(process(sys.executable, "-c", MATCHER_PROGRAM, *follow)))
            self.wait(version)
            yield self

    def wait(self, version: int) -> list[float]:
        """Wait until all have a version; return when each matcher answered from it."""
        for one in self.heard:
            one.wait(lambda line: int(line.split()[0]) >= version)
        lines = [one.wait(lambda line: int(line.split()[1]) >= version) for one in self.matchers]
        return [float(line.split()[0]) for line in lines]


@dataclass(frozen=True)
class Round:
    """Some publications: seconds to the answers of each matcher, and processor time of the servers for each."""

    version: int
    """the last one"""
    answered: list[float]
    daemon_ms: float
    mirror_ms: float


def _publish(site: Site, mirrors: Sequence[MirrorProcess], clock: Lines, readers: _Readers, count: int) -> Round:
    """Publish deltas. ``clock``: a stream at the daemon, whose event is the moment of the publication."""
    answered: list[float] = []
    before = processor_ms(site.pid), sum(processor_ms(one.pid) for one in mirrors)
    version = 0
    for _ in range(count):
        version, seconds = _publish_one(site, mirrors, clock, readers)
        answered += seconds
        time.sleep(2)  # check-ins of this one are not part of the next
    after = processor_ms(site.pid), sum(processor_ms(one.pid) for one in mirrors)
    each = count * max(1, len(mirrors))
    return Round(version, answered, (after[0] - before[0]) / count, (after[1] - before[1]) / each)


def _publish_one(
    site: Site, mirrors: Sequence[MirrorProcess], clock: Lines, readers: _Readers
) -> tuple[int, list[float]]:
    """Publish one delta; return its version, and the seconds until each matcher answered from it."""
    site.world.partner.publish_delta(site.world.version(), DELTA)
    version = site.sync()
    assert version is not None
    _, published, _ = clock.wait(lambda line: line.startswith(f"{version} ")).split()
    answered = [at - float(published) for at in readers.wait(version)]
    _until_served(site, mirrors, version)
    return version, answered


def _until_served(site: Site, mirrors: Sequence[MirrorProcess], version: int) -> None:
    end = time.monotonic() + 60
    for one in mirrors:
        while f" {version}.0\n" not in _metrics(site, one):
            assert time.monotonic() < end
            time.sleep(0.2)


def _metrics(site: Site, one: MirrorProcess) -> str:
    token = (site.base / "metrics.token").read_text().strip()
    with contextlib.closing(HTTPConnection("127.0.0.1", one.port, timeout=20)) as connection:
        connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
        return "".join(
            line.rpartition(" ")[0] + f" {float(line.rpartition(' ')[2])}\n"
            for line in connection.getresponse().read().decode().splitlines()
            if not line.startswith("#")
        )


def _sent(site: Site, one: MirrorProcess) -> float:
    """Bytes of the feed that a mirror has sent."""
    found = next(line for line in _metrics(site, one).splitlines() if 'response_bytes_total{kind="feed"}' in line)
    return float(found.split()[-1])


def _requests(port: int, token: Path, method: str, path: str, bodies: Sequence[bytes | None], tag: str = "") -> None:
    """Send requests one after another on one connection."""
    headers = {"Authorization": f"Bearer {token.read_text().strip()}", "Content-Type": "application/json"}
    headers |= {"If-None-Match": tag} if tag else {}
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        for body in bodies:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            assert answer.status in {200, 204, 304}, answer.status


def _tag(port: int, token: Path, path: str) -> str:
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token.read_text().strip()}"})
        return connection.getresponse().headers["ETag"]


def _checkin_bodies(site: Site, name: str, count: int) -> list[bytes]:
    status = json.loads(site.get("/api/v1/status", site.operator))
    lists = {one["list"]: one["version"] for one in status["lists"]}
    return [json.dumps({"instance": f"{name}-{number}", "lists": lists}).encode() for number in range(count)]


@dataclass(frozen=True)
class FanOut:
    """Everything that one run found."""

    direct: list[float]
    """seconds from published to answered, with everything at the daemon"""
    through: list[float]
    """the same through one level of mirrors"""
    costs: Costs


def measure(site: Site, count: int = PUBLICATIONS) -> FanOut:
    """Measure both ways, and the costs."""
    assert site.sync() == 1
    folders = copies(site, MATCHERS)
    with contextlib.ExitStack() as stack:
        clock = stack.enter_context(
            process(sys.executable, "-c", STREAMS_PROGRAM, "127.0.0.1", str(site.port), str(site.token), "1")
        )
        nobody = _Readers(site, [site.port], 0, [])
        alone = _publish(site, [], clock, nobody, _ROUNDS)
        with _Readers(site, [site.port], STREAMS, folders).running(alone.version) as readers:
            _publish(site, [], clock, readers, 1)  # the first finds connections cold
            direct = _publish(site, [], clock, readers, count)
        mirrors = [stack.enter_context(mirror(site, f"edge-{number}")) for number in range(MIRRORS)]
        ports, empty = [one.port for one in mirrors], statistics.mean(unique_memory(one.pid) for one in mirrors)
        mirrored = _publish(site, mirrors, clock, nobody, _ROUNDS)
        with _Readers(site, ports, STREAMS, []).running(mirrored.version) as readers:
            full = statistics.mean(unique_memory(one.pid) for one in mirrors)
            stream_ms = _idle(mirrors)
            streaming = _publish(site, mirrors, clock, readers, _ROUNDS)
        with _Readers(site, ports, STREAMS, folders).running(streaming.version) as readers:
            _publish(site, mirrors, clock, readers, 1)
            sent = sum(_sent(site, one) for one in mirrors)
            through = _publish(site, mirrors, clock, readers, count)
            sent = sum(_sent(site, one) for one in mirrors) - sent
        costs = Costs(
            commit=_commit(),
            rows=site.world.rows,
            delta_rows=DELTA,
            publication_daemon=alone.daemon_ms,
            publication_mirror=mirrored.mirror_ms,
            mirror_at_daemon=max(0.0, mirrored.daemon_ms - alone.daemon_ms) / MIRRORS,
            event=max(0.0, streaming.mirror_ms - mirrored.mirror_ms) / (STREAMS / MIRRORS),
            pull=max(0.0, through.mirror_ms - streaming.mirror_ms) / (MATCHERS / MIRRORS),
            **_request_costs(site, mirrors[0]),
            stream_second=stream_ms / (STREAMS / MIRRORS) / _IDLE,
            stream_bytes=(full - empty) / (STREAMS / MIRRORS),
            mirror_bytes=empty,
            delta_bytes=sent / count / MATCHERS,
            row_bytes=max(path.stat().st_size for path in folders[0].glob("v1/*/segments/*")) / site.world.rows,
            tls=_handshake(site.base),
            published_to_answered=percentile(through.answered, 0.99),
            published_to_answered_direct=percentile(direct.answered, 0.99),
        )
        return FanOut(direct.answered, through.answered, costs)


def _idle(mirrors: Sequence[MirrorProcess]) -> float:
    """Milliseconds that a mirror takes for beats and polls while nothing happens."""
    before = sum(processor_ms(one.pid) for one in mirrors)
    time.sleep(_IDLE)
    return (sum(processor_ms(one.pid) for one in mirrors) - before) / len(mirrors)


def _request_costs(site: Site, one: MirrorProcess) -> dict[str, float]:
    path = "/feed/metadata/timestamp.json"

    def cost(pid: int, count: int, *arguments: object) -> float:
        before = processor_ms(pid)
        _requests(*arguments)  # type: ignore[arg-type]  # as below
        time.sleep(1.5)  # a mirror gathers check-ins before it passes them on
        return (processor_ms(pid) - before) / count

    poll = cost(
        one.pid, _REQUESTS, one.port, site.token, "GET", path, [None] * _REQUESTS, _tag(one.port, site.token, path)
    )
    before = processor_ms(site.pid)
    bodies = _checkin_bodies(site, "behind", _CHECK_INS)
    at_mirror = cost(one.pid, _CHECK_INS, one.port, site.token, "POST", "/api/v1/checkin", bodies)
    at_daemon = (processor_ms(site.pid) - before) / _CHECK_INS
    bodies = _checkin_bodies(site, "direct", _CHECK_INS)
    direct = cost(site.pid, _CHECK_INS, site.port, site.token, "POST", "/api/v1/checkin", bodies)
    return {
        "poll": poll,
        "check_in_mirror": at_mirror,
        "check_in_daemon": at_daemon,
        "check_in_direct": direct,
    }


def _handshake(folder: Path) -> float:
    """Milliseconds of processor time that a TLS handshake takes at the server: in memory, less the client's half."""
    cert, key = _certificate(folder)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=cert)
    server.load_cert_chain(cert, key)
    spent = 0.0
    for _ in range(_HANDSHAKES):
        upward, downward = ssl.MemoryBIO(), ssl.MemoryBIO()
        sides = [
            (server.wrap_bio(upward, downward, server_side=True), True),
            (client.wrap_bio(downward, upward, server_hostname="localhost"), False),
        ]
        waiting = list(sides)
        while waiting:
            for one in tuple(waiting):
                begin = time.process_time()
                with contextlib.suppress(ssl.SSLWantReadError):
                    one[0].do_handshake()
                    waiting.remove(one)
                spent += time.process_time() - begin if one[1] else 0.0
    return spent / _HANDSHAKES * 1e3


def _certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate of localhost, as a server would have one; it and its key."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(hours=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    cert_file, key_file = folder / "localhost.pem", folder / "localhost.key"
    cert_file.write_bytes(made.public_bytes(pem))
    plain = serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return cert_file, key_file


def _commit() -> str:
    ran = subprocess.run(["git", "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=False)
    return ran.stdout.strip()


def figures(workdir: Path, rows: int, costs_file: Path | None = None) -> list[Figure]:
    """All of them."""
    with daemon(workdir, rows) as site:
        found = measure(site)
    if costs_file:
        costs_file.write_text(json.dumps(asdict(found.costs), indent=2) + "\n")
    costs, direct = found.costs, percentile(found.direct, 0.99)
    return [
        Figure(
            f"published to answered through a mirror by {MATCHERS} matchers, p99",
            percentile(found.through, 0.99),
            "s",
            LIMIT,
            note=f"median {statistics.median(found.through):.2f} s; {MIRRORS} mirrors, {STREAMS:,} streams",
        ),
        Figure("... at the daemon itself", direct, "s", note=f"median {statistics.median(found.direct):.2f} s"),
        Figure("... through a mirror, relative to that", percentile(found.through, 0.99) / direct, "x", RELATIVE),
        Figure("mirror: one publication", costs.publication_mirror, "ms", note="of processor time, without readers"),
        Figure("... one matcher that pulls it", costs.pull, "ms"),
        Figure("... one event on one stream", costs.event, "ms"),
        Figure("... one stream", costs.stream_bytes / 1e3, "kB"),
        Figure("... its own memory (USS)", costs.mirror_bytes / 1e6, "MB", note=f"{rows:,} rows"),
        Figure("... one check-in", costs.check_in_mirror, "ms", note=f"{costs.check_in_daemon:.2f} ms at the daemon"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=10_000_000)
    parser.add_argument("--costs", type=Path, help="where to write the costs, for `python -m benchmarks.sizing`")
    options = parser.parse_args()
    options.workdir.mkdir(parents=True, exist_ok=True)
    show(figures(options.workdir, options.rows, options.costs))


if __name__ == "__main__":
    main()
