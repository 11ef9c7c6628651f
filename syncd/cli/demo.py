"""``syncd demo``: the whole road on this machine, on real data, told in plain steps."""

import contextlib
import hashlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from syncd.cli import output
from syncd.cli.demo_data import Known, real_hashes, still_there
from syncd.cli.demo_partner import LIST, Partner, now
from syncd.errors import StoreError, SyncdError, UsageError
from syncd.model import ListName
from syncd.units import count

if TYPE_CHECKING:
    from syncd.matcher import Matcher
    from syncd.pipeline.outcome import SyncOutcome
    from syncd.pipeline.publisher import Publisher

_T = TypeVar("_T")

_HEAD: Final = ListName("partner.images")
_SHOWN: Final = 6
_ADDED: Final = 25


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything in place and say how to explore it.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Work in this new folder instead of a temporary one.")
    ] = None,
) -> None:
    """Show the whole road on this machine, in under a minute.

    A partner publishes the hashes of software installed here (no media are involved), an operator syncs and
    publishes, a matcher pulls and recognises real files; then a change travels, and four attacks are refused.
    Everything runs on loopback in a temporary folder that is removed at the end.

    \b
    Example:
      syncd demo --keep
    """
    output.quiet_retries()
    if folder is not None and folder.exists():
        raise UsageError(f"{folder} exists", hint="name a folder that does not exist yet")
    base = folder or Path(tempfile.mkdtemp(prefix="syncd-demo-"))
    try:
        _Demo(base.resolve()).run()
        if keep:
            _explain(base.resolve())
    finally:
        if not keep:
            shutil.rmtree(base, ignore_errors=True)


def _explain(base: Path) -> None:
    output.say("", f"Kept in {base}. To explore it:")
    for command in (
        f"syncd feed status {base}/partner",
        f"SYNCD_CONFIG={base}/syncd.toml syncd status",
        f"SYNCD_CONFIG={base}/syncd.toml syncd sync",
        f"syncd match {base}/copy {base}/upload.bin /bin/ls",
        f"syncd lookup {base}/copy md5:{'0' * 32}",
        f"syncd pull file://{base}/state/feed --root {base}/operator-root.json --dir {base}/copy",
        f"syncd verify {base}/copy",
    ):
        output.say(f"  {command}")


class _Demo:
    """The story. Each step prints what it did and how long it took."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.partner, self.copy = Partner(base), base / "copy"
        self.started = time.monotonic()
        self.number = 0

    def run(self) -> None:
        """Tell it from the beginning."""
        self.base.mkdir(parents=True, exist_ok=True)
        self.known = real_hashes()
        self.publish_first()
        self.sync_first()
        self.recognise()
        self.change()
        self.attacks()
        output.say("", f"Done in {time.monotonic() - self.started:.1f} s.")

    def step(self, title: str) -> None:
        """Begin a step."""
        self.number += 1
        output.say("", f"{self.number}. {title}")

    def publish_first(self) -> None:
        """The partner's side."""
        self.step("A partner publishes a signed list of real hashes of this machine")
        self.partner.init()
        took, published = _timed(lambda: self.partner.publish(full=self.known))
        counts = ", ".join(f"{count.added:,} {algorithm}" for algorithm, count in published.counts.items())
        _tell("root", "2 of 3 offline keys")
        _tell("published", f"{LIST} version {published.version}: {counts}")
        _tell("took", f"{took:.2f} s")

    def sync_first(self) -> None:
        """The operator's side."""
        from syncd.catalog.folder import StateFolder
        from syncd.operate.setup import init

        self.step("An operator syncs it over HTTP, verifies it and publishes a snapshot")
        self.state = StateFolder(self.base / "state")
        root = init(self.state, self.base / "operator-offline", count=1, threshold=1, now=now())
        shutil.copy(root, self.base / "operator-root.json")
        (self.base / "syncd.toml").write_text(
            f'state_dir = "{self.state.root}"\n\n[sources.partner]\ntype = "feed"\n'
            f'url = "{self.partner.folder.as_uri()}"\nroot = "{self.partner.folder}/root.json"\n'
        )
        with self._served(self.partner.folder) as url:
            took, outcome = _timed(lambda: self._sync(url))
        one = outcome.lists[0]
        if one.error:
            raise one.error
        _tell("verified", f"{one.rows:,} entries of serial {one.serial}: signatures, hashes, order, end state")
        _tell("published", f"{one.list} version {one.version}")
        _tell("took", f"{took:.2f} s, {outcome.bytes / 1e6:.1f} MB fetched")

    def recognise(self) -> None:
        """The matcher's side."""
        from syncd.matcher import Matcher

        self.step("A matcher pulls the snapshot and looks at files")
        took, _ = _timed(self._pull)
        _tell("pulled", f"{took:.2f} s")
        took, self.matcher = _timed(lambda: Matcher.open(self.copy))
        _tell("opened", f"{took * 1e3:.0f} ms, signatures proved by the matcher's own process")
        upload = self.base / "upload.bin"
        upload.write_bytes(b"a file that is on no list yet\n")
        for one in still_there(self.known, _SHOWN):
            self._show(one.path, expected=True)
        self._show(upload, expected=False)
        altered = self.base / "altered.bin"
        altered.write_bytes(still_there(self.known, 1)[0].path.read_bytes() + b"\0")
        self._show(altered, expected=False)

    def _show(self, path: Path, *, expected: bool) -> None:
        matched = bool(_hits(self.matcher, path))
        _tell("on the list" if matched else "not on it", _short(path))
        if matched != expected:
            raise StoreError(f"the matcher was wrong about {path}", hint="a bug in syncd: please report it")

    def change(self) -> None:
        """A delta, and how long it takes to arrive."""
        self.step("The partner adds entries and withdraws one: how long until the matcher knows?")
        upload = self.base / "upload.bin"
        withdrawn = still_there(self.known, 1)[0]
        added = [Known("sha256", hashlib.sha256(upload.read_bytes()).hexdigest(), upload)]
        added += [
            Known("sha256", hashlib.sha256(f"entry {number}".encode()).hexdigest(), upload)
            for number in range(1, _ADDED)
        ]
        with self._served(self.partner.folder) as partner, self._served(self.state.feed.root) as feed:
            begun = time.monotonic()
            self.partner.publish(add=added, remove=[withdrawn])
            published = time.monotonic()
            outcome = self._sync(partner)
            synced = time.monotonic()
            self._pull(feed)
            self.matcher.reload()
            self._show(upload, expected=True)
            answered = time.monotonic()
        counts = sum((count.effective for count in outcome.lists[0].counts.values()), 0)
        fetched, version = f"{outcome.bytes / 1e3:.1f} kB", outcome.lists[0].version
        _tell("delta", f"{count(counts, 'row')}, fetched {fetched}; {_HEAD} is at {version}")
        self._show(withdrawn.path, expected=False)
        _tell("signing", f"{(published - begun) * 1e3:.0f} ms")
        _tell("sync", f"{(synced - published) * 1e3:.0f} ms")
        _tell("pull, reload", f"{(answered - synced) * 1e3:.0f} ms")
        _tell("in all", f"{(answered - begun) * 1e3:.0f} ms from the partner's publish to the matcher's changed answer")

    def attacks(self) -> None:
        """Four, each refused by name while the old snapshot goes on being served."""
        self.step("Attacks: each is refused, and the matcher goes on answering")
        before = self.base / "replayed"
        shutil.copytree(self.partner.folder, before)
        self.partner.publish(add=[Known("md5", hashlib.md5(b"news", usedforsecurity=False).hexdigest(), Path("news"))])
        self._attack("a flipped byte in a segment", self.partner.flipped())
        with self._served(self.partner.folder) as url:
            self._sync(url)
        self._pull()
        self.matcher.reload()
        self._attack("an old version, replayed", before)
        self._attack("a list signed with a wrong key", self.partner.wrong_key(self.known))
        self._attack("an expired timestamp (the partner fell silent three days ago)", self.partner.silent())
        with self._served(self.partner.folder) as url:
            self._sync(url)

    @contextlib.contextmanager
    def _served(self, folder: Path) -> Iterator[str]:
        from syncd.feed.serve import running_server

        with running_server(folder) as url:
            yield url

    def _attack(self, what: str, folder: Path) -> None:
        version = self._version()
        with self._served(folder) as url:
            outcome = self._sync(url)
        error = outcome.error or next((one.error for one in outcome.lists if one.error), None)
        if error is None:
            raise StoreError(f"not refused: {what}", hint="a bug in syncd: please report it")
        self._pull()
        self.matcher.reload()
        served = self._version()
        answers = all(_hits(self.matcher, one.path) for one in still_there(self.known[100:], 4)[1:])
        output.say(f"   - {what}")
        _tell("refused", f"{type(error).__name__}, exit code {error.exit_code}")
        _tell("because", *_wrapped(error))
        if served != version or not answers:
            raise StoreError("the snapshot that is served changed", hint="a bug in syncd: please report it")
        _tell("still served", f"{_HEAD} version {served}, and the matcher answers from it")

    def _version(self) -> int:
        return self.matcher.status()[0].version

    def _sync(self, url: str) -> "SyncOutcome":
        from syncd.pipeline.publisher import open_publisher
        from syncd.pipeline.sync import sync_source
        from syncd.sources.signed_feed import SignedFeed

        source = SignedFeed("partner", url, self.partner.folder / "root.json")
        publisher: Publisher
        with open_publisher(self.state) as publisher, output.progress("sync") as progress:
            return sync_source(publisher, source, now, progress)

    def _pull(self, url: str = "") -> None:
        from syncd.fetch import Endpoint
        from syncd.matcher.pull import pull

        if not url:
            with self._served(self.state.feed.root) as address:
                return self._pull(address)
        root = (self.state.feed.root / "root.json").read_bytes()
        for error in pull(Endpoint(url), root, self.copy, now=now()).errors:
            raise error
        return None


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    begun = time.monotonic()
    result = work()
    return time.monotonic() - begun, result


def _tell(word: str, text: str, *more: str) -> None:
    output.say(f"   {word:>12}  {text}", *(" " * 17 + line for line in more))


def _hits(matcher: "Matcher", path: Path) -> list[object]:
    content = path.read_bytes()
    return [
        hit
        for algorithm in matcher.algorithms
        if algorithm.cryptographic
        for hit in matcher.lookup(algorithm, hashlib.new(algorithm, content, usedforsecurity=False).digest())
    ]


def _short(path: Path) -> str:
    text = str(path)
    return text if len(text) <= 60 else f"...{text[-57:]}"  # noqa: PLR2004 - what fits beside the first column


def _wrapped(error: SyncdError) -> list[str]:
    import textwrap

    return textwrap.wrap(error.message, 62)
