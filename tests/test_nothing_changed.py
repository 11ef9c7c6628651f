"""What a poll costs when there is no news, at a real server on loopback."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

from syncd.outcomes import Outcome
from world import HEAD, World, row, rows

MOST_REQUESTS = 2
MOST_BYTES = 1000
"""Sent by the server: status lines, headers and bodies."""


@dataclass
class Traffic:
    """What a server was asked for since `clear`, and the bytes that it sent."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    sent: int = 0

    def clear(self) -> None:
        """Count anew."""
        self.asked.clear()
        self.sent = 0


@contextmanager
def counting_server(folder: Path) -> Iterator[Traffic]:
    """Serve the files of ``folder`` as a plain web server does, and count."""
    traffic = Traffic()

    class Handler(StreamRequestHandler):
        disable_nagle_algorithm = True

        def handle(self) -> None:
            while request := self.rfile.readline():
                path = request.split()[1].decode()[1:]
                while self.rfile.readline().strip():
                    pass
                self.answer(path)

        def answer(self, path: str) -> None:
            file = folder / path
            status, body = ("200 OK", file.read_bytes()) if file.is_file() else ("404 Not Found", b"not found\n")
            head = [f"HTTP/1.1 {status}", "Server: nginx", f"Content-Length: {len(body)}", "Cache-Control: no-store"]
            answer = "\r\n".join([*head, "", ""]).encode() + body
            traffic.asked.append(path)
            traffic.sent += len(answer)
            self.wfile.write(answer)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        traffic.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield traffic
        finally:
            server.shutdown()
            thread.join()


def test_a_sync_without_news_asks_twice(world: World) -> None:
    """Where nothing changed, a sync costs two requests and less than 1 kB: the next root (404) and the timestamp."""
    world.publish(full=rows(0, 300))
    with counting_server(world.partner.root) as traffic:
        assert world.sync(url=traffic.url).outcome is Outcome.PUBLISHED
        traffic.clear()
        outcome = world.sync(url=traffic.url)
    assert (outcome.outcome, outcome.lists[0].version, outcome.lists[0].serial) == (Outcome.UP_TO_DATE, 1, 1)
    assert (outcome.lists[0].plan, outcome.lists[0].rows) == ("up_to_date", 300)
    assert traffic.asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert traffic.sent <= MOST_BYTES


def test_a_pull_without_news_asks_twice(world: World) -> None:
    """The same holds for a matcher's host; and the copy says that it was verified anew."""
    world.publish(full=rows(0, 300))
    world.sync()
    with counting_server(world.state.feed.root) as traffic:
        world.pull(traffic.url)
        traffic.clear()
        world.clock.forward(minutes=10)
        pulled = world.pull(traffic.url)
    assert [(one.list, one.before, one.after, one.error) for one in pulled.lists] == [(HEAD, 1, 1, None)]
    assert traffic.asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert traffic.sent <= MOST_BYTES
    assert world.matcher().generation.newest.targets == (pulled.trusted.targets if pulled.trusted else {})


def test_a_new_timestamp_alone_brings_no_manifest(world: World) -> None:
    """The partner's hourly signature, with nothing new, costs no manifest either, and freshness moves on."""
    world.publish(full=rows(0, 30))
    with counting_server(world.partner.root) as traffic:
        world.sync(url=traffic.url)
        world.clock.forward(hours=2)
        world.publish(full=rows(0, 30))
        traffic.clear()
        world.sync(url=traffic.url)
    assert traffic.asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    world.pull()
    age = world.matcher().status()[0].age
    assert age is not None
    assert age.total_seconds() == 0


def test_news_are_not_missed(world: World) -> None:
    """A change is asked for, applied and answered, also right after polls that brought none."""
    world.publish(full=rows(0, 30))
    with counting_server(world.partner.root) as traffic:
        for _ in range(3):
            world.sync(url=traffic.url)
        world.publish(add=[row(30)])
        assert world.sync(url=traffic.url).lists[0].plan == "deltas"
    world.pull()
    world.pull()
    assert len(world.hits(30)) == 1


def test_a_damaged_manifest_is_fetched_again(world: World) -> None:
    """A matcher's host that holds the newest version in name only mends it from the feed."""
    world.publish(full=rows(0, 30))
    world.sync()
    world.pull()
    (manifest,) = world.copy.glob("v1/*/*.manifest.json")
    whole = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(whole[:-1] + b" ")
    assert world.pull().errors == []
    assert manifest.read_bytes() == whole


def test_segments_that_were_lost_are_fetched_again(world: World) -> None:
    """An operator that holds the newest version, but not all of its files, does not call itself up to date."""
    world.publish(full=rows(0, 30))
    world.sync()
    for segment in world.state.root.glob("**/segments/*"):
        segment.unlink()
    assert world.sync().lists[0].plan == "full:local_loss"
