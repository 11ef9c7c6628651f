"""The whole road on this machine, on real data: ``make run``, or ``python -m demo``.

A partner publishes the hashes of software installed here (no media are involved), an operator syncs and publishes, a
matcher pulls and recognises real files and an altered picture; then a change travels, and a withdrawal by a partner
that signs nothing, and four attacks are refused. Everything runs on loopback in a temporary folder that is removed at
the end. It takes less than a minute; the first time a little longer, since the hasher of pictures is built.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from demo.data import Known, entries_of, real_hashes, still_there
from demo.near import AlteredPicture
from demo.partner import LIST, Partner, now
from demo.unsigned import Withdrawal
from syncd.catalog.folder import StateFolder
from syncd.cli import output
from syncd.errors import StoreError, SyncdError, UsageError
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from syncd.model import ListName
from syncd.operate import setup
from syncd.pipeline.outcome import SyncOutcome
from syncd.pipeline.publisher import open_publisher
from syncd.pipeline.sync import sync_source
from syncd.service.web.partner import running_server
from syncd.sources.signed_feed import SignedFeed
from syncd.sources.source import Source
from syncd.units import count

_T = TypeVar("_T")

_HEAD: Final = ListName("partner.images")
_SHOWN: Final = 6
_ADDED: Final = 25


def main() -> int:
    """Run the demo, and return its exit code."""
    parser = argparse.ArgumentParser("python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave everything in place, and print how to explore it")
    parser.add_argument("--dir", type=Path, help="work in this new folder instead of a temporary one")
    options = parser.parse_args()
    try:
        _run(options.dir, keep=options.keep)
    except SyncdError as error:
        output.show_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _run(folder: Path | None, *, keep: bool) -> None:
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
        f"SYNCD_CONFIG={base}/syncd.toml syncd sync partner",
        f"syncd match {base}/copy {base}/upload.bin /bin/ls",
        f"syncd lookup {base}/copy md5:{'0' * 32}",
        f"syncd pull file://{base}/state/feed --root {base}/operator-root.json --dir {base}/copy",
        f"syncd verify {base}/copy",
    ):
        output.say(f"  {command}")


class _Demo:
    """The story. Each step prints its result and how long it took."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.partner, self.copy = Partner(base), base / "copy"
        self.started = time.monotonic()
        self.number = 0

    def run(self) -> None:
        """Tell the whole story."""
        self.base.mkdir(parents=True, exist_ok=True)
        self.known = real_hashes()
        self.pictures = AlteredPicture(self.base / "pictures")
        self.publish_first()
        self.sync_first()
        self.recognise()
        self.recognise_altered()
        self.change()
        self.withdraw()
        self.attacks()
        output.say("", f"Done in {time.monotonic() - self.started:.1f} s.")

    def step(self, title: str) -> None:
        """Print the title of the next step."""
        self.number += 1
        output.say("", f"{self.number}. {title}")

    def publish_first(self) -> None:
        """Publish the first version, as the partner."""
        self.step("A partner publishes a signed list of real hashes of this machine")
        self.partner.init()
        took, published = _timed(lambda: self.partner.publish(full=[*self.known, *self.pictures.listed]))
        counts = ", ".join(f"{count.added:,} {algorithm}" for algorithm, count in published.counts.items())
        _tell("root", "2 of 3 offline keys")
        _tell("published", f"{LIST} version {published.version}: {counts}")
        _tell("took", f"{took:.2f} s")

    def sync_first(self) -> None:
        """Sync and publish it, as the operator."""
        self.step("An operator syncs it over HTTP, verifies it and publishes a snapshot")
        self.state = StateFolder(self.base / "state")
        root = setup.init(self.state, self.base / "operator-offline", count=1, threshold=1, now=now())
        shutil.copy(root, self.base / "operator-root.json")
        (self.base / "syncd.toml").write_text(
            f'state_dir = "{self.state.root}"\n\n[sources.partner]\ntype = "feed"\n'
            f'url = "{self.partner.folder.as_uri()}"\nroot = "{self.partner.folder}/root.json"\n'
        )
        with running_server(self.partner.folder) as url:
            took, outcome = _timed(lambda: self._sync(url))
        synced = outcome.lists[0]
        if synced.error:
            raise synced.error
        _tell("verified", f"{synced.rows:,} rows of serial {synced.serial}: signatures, hashes, order, end state")
        _tell("published", f"{synced.list} version {synced.version}")
        _tell("took", f"{took:.2f} s, {outcome.bytes / 1e6:.1f} MB fetched")

    def recognise(self) -> None:
        """Pull it and look files up, as a matcher."""
        self.step("A matcher pulls the snapshot and looks at files")
        took, _ = _timed(self._pull)
        _tell("pulled", f"{took:.2f} s")
        took, self.matcher = _timed(lambda: Matcher.open(self.copy))
        _tell("opened", f"{took * 1e3:.0f} ms, signatures proved by the matcher's own process")
        upload = self.base / "upload.bin"
        upload.write_bytes(b"a file that is on no list yet\n")
        for known in still_there(self.known, _SHOWN):
            self._show(known.path, expected=True)
        self._show(upload, expected=False)
        altered = self.base / "altered.bin"
        altered.write_bytes(still_there(self.known, 1)[0].path.read_bytes() + b"\0")
        self._show(altered, expected=False)

    def recognise_altered(self) -> None:
        """Look an altered picture up by its resemblance."""
        self.step("It recognises a picture that was altered")
        for word, text in self.pictures.recognise(self.matcher):
            _tell(word, *textwrap.wrap(text, 62))

    def _show(self, path: Path, *, expected: bool) -> None:
        matched = bool(_hits(self.matcher, path))
        _tell("on the list" if matched else "not on it", _short(path))
        if matched != expected:
            raise StoreError(f"the matcher was wrong about {path}", hint="a bug in syncd: please report it")

    def change(self) -> None:
        """Publish a delta, and measure how long it takes to reach the matcher."""
        self.step("The partner adds entries and withdraws one: how long until the matcher knows?")
        upload = self.base / "upload.bin"
        withdrawn = still_there(self.known, 1)[0]
        added = [Known("sha256", hashlib.sha256(upload.read_bytes()).hexdigest(), upload)]
        added += [
            Known("sha256", hashlib.sha256(f"entry {number}".encode()).hexdigest(), upload)
            for number in range(1, _ADDED)
        ]
        with running_server(self.partner.folder) as partner, running_server(self.state.feed.root) as feed:
            begun = time.monotonic()
            self.partner.publish(add=added, remove=entries_of(withdrawn.path, self.known))
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
        _tell("in all", f"{(answered - begun) * 1e3:.0f} ms from the partner's publish to the matcher's answer")

    def withdraw(self) -> None:
        """Follow a partner that signs nothing until it withdraws a hash."""
        self.step("StopNCII, which signs nothing, withdraws a hash (played by a fake server)")
        for word, text in Withdrawal(self.base / "syncd.toml", self._sync_source, self._pull).play(self.matcher):
            _tell(word, text)

    def attacks(self) -> None:
        """Make four attacks. Each is refused by name, and the old snapshot is still served."""
        self.step("Attacks: each is refused, and the matcher goes on answering")
        before = self.base / "replayed"
        shutil.copytree(self.partner.folder, before)
        self.partner.publish(add=[Known("md5", hashlib.md5(b"news", usedforsecurity=False).hexdigest(), Path("news"))])
        self._attack("a flipped byte in a segment", self.partner.flipped())
        with running_server(self.partner.folder) as url:
            self._sync(url)
        self._pull()
        self.matcher.reload()
        self._attack("an old version, replayed", before)
        self._attack("a list signed with a wrong key", self.partner.wrong_key(self.known))
        self._attack("an expired timestamp (the partner fell silent three days ago)", self.partner.silent())
        with running_server(self.partner.folder) as url:
            self._sync(url)

    def _attack(self, what: str, folder: Path) -> None:
        version = self._version()
        with running_server(folder) as url:
            outcome = self._sync(url)
        error = outcome.error or next((synced.error for synced in outcome.lists if synced.error), None)
        if error is None:
            raise StoreError(f"not refused: {what}", hint="a bug in syncd: please report it")
        self._pull()
        self.matcher.reload()
        served = self._version()
        answers = all(_hits(self.matcher, known.path) for known in still_there(self.known[100:], 4)[1:])
        output.say(f"   - {what}")
        _tell("refused", f"{type(error).__name__}, exit code {error.exit_code}")
        _tell("because", *_wrapped(error))
        if served != version or not answers:
            raise StoreError("the served snapshot changed", hint="a bug in syncd: please report it")
        _tell("still served", f"{_HEAD} version {served}, and the matcher answers from it")

    def _version(self) -> int:
        return self.matcher.status()[0].version

    def _sync(self, url: str) -> SyncOutcome:
        return self._sync_source(SignedFeed("partner", url, self.partner.folder / "root.json"))

    def _sync_source(self, source: Source) -> SyncOutcome:
        with open_publisher(self.state) as publisher, output.progress("sync") as progress:
            return sync_source(publisher, source, now, progress)

    def _pull(self, url: str = "") -> None:
        if not url:
            with running_server(self.state.feed.root) as address:
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


def _hits(matcher: Matcher, path: Path) -> list[object]:
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
    return textwrap.wrap(error.message, 62)


if __name__ == "__main__":
    sys.exit(main())
