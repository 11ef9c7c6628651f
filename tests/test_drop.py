"""Partners that drop files: into a folder, or at an https address."""

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from partners.drop import FILE, FakeDrop
from partners.model import Model
from scripted import IMAGES
from syncd.errors import ConfigError, FeedError, SourceError
from syncd.format.batch import Batch
from syncd.limits import DEFAULT_LIMITS
from syncd.listfile import ListFiles
from syncd.outcomes import Outcome
from syncd.pipeline.sync import sync_source
from syncd.service.worker import Worker
from syncd.sources.drop import Drop
from test_partners_files import CASE, PDNA64, VICS
from test_stated import StatedWorld
from world import row

HEADER = "algorithm,digest,entry,label\n"


class Hotline:
    """A partner with a folder, and an operator that reads it."""

    def __init__(self, base: Path) -> None:
        self.world = StatedWorld(base)
        self.folder = base / "drop"
        self.folder.mkdir()
        self.source = Drop(name="ncp", list=IMAGES, folder=self.folder)
        self.dropped = 0

    def drop(
        self, name: str, *numbers: int, checksum: bool = True, text: str | None = None, content: bytes | None = None
    ) -> Path:
        """Drop a file of rows, by default with its checksum."""
        path = self.folder / name
        rows = HEADER + "".join(",".join(row(number)) + "\n" for number in numbers)
        path.write_bytes((rows if text is None else text).encode() if content is None else content)
        self.dropped += 1
        seconds = 1_700_000_000 + self.dropped
        os.utime(path, (seconds, seconds))
        if checksum:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            path.with_name(name + ".sha256").write_text(f"{digest}  {name}\n")
        return path

    def sync(self) -> Outcome:
        """Sync, and return the outcome."""
        outcome = self.world.sync(self.source)  # type: ignore[arg-type]  # another kind of source
        self.outcome = outcome
        return outcome.outcome

    def entries(self) -> list[str]:
        """The entries of the published list."""
        return sorted(entry for _, _, entry in self.world.content())


@pytest.fixture
def hotline(tmp_path: Path) -> Hotline:
    """A partner that has dropped nothing yet."""
    return Hotline(tmp_path)


def test_the_newest_complete_file_is_the_list(hotline: Hotline) -> None:
    """A file without its checksum is not complete, nor is one under a temporary name; an old file is not read again."""
    assert hotline.sync() is Outcome.UNREACHABLE
    hotline.drop("one.csv", 1, 2)
    hotline.drop("two.csv", 3, checksum=False)
    hotline.drop(".three.csv", 4)
    hotline.drop("four.csv.part", 4)
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e1", "e2"]
    assert hotline.sync() is Outcome.UP_TO_DATE
    hotline.drop("two.csv", 2, 3)
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e2", "e3"]
    assert hotline.outcome.lists[0].plan == "full:restated"
    hotline.source = replace(hotline.source, complete="rename")
    hotline.drop("five.csv", 5, checksum=False)
    hotline.sync()
    assert hotline.entries() == ["e5"]


def test_an_altered_file_is_rejected(hotline: Hotline) -> None:
    """The list stays as it was, and its age grows."""
    hotline.drop("one.csv", 1)
    hotline.sync()
    path = hotline.drop("two.csv", 2)
    path.write_text(path.read_text() + "\n".join([",".join(row(3)), ""]))
    assert hotline.sync() is Outcome.REJECTED
    assert isinstance(hotline.outcome.error, FeedError)
    assert hotline.entries() == ["e1"]


def test_increments_apply_in_order(hotline: Hotline) -> None:
    """Each number once, in order, however many came at once; a number that is missing stops all after it."""
    hotline.source = replace(hotline.source, mode="increments")
    hotline.drop("list-0001.add.csv", 1, 2)
    hotline.drop("list-0002.remove.csv", 1)
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e2"]
    hotline.drop("list-0003.add.csv", 1, 3)
    hotline.drop("list-0005.add.csv", 5)
    assert hotline.sync() is Outcome.UNREACHABLE
    assert "number 4" in str(hotline.outcome.error)
    assert hotline.entries() == ["e2"]
    hotline.drop("list-0004.remove.csv", 2, 1)
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e3", "e5"]
    assert hotline.sync() is Outcome.UP_TO_DATE
    hotline.drop("list-0006.full.csv", 6, 7)
    hotline.drop("list-0007.add.csv", 8)
    hotline.sync()
    assert hotline.entries() == ["e6", "e7", "e8"]


def test_another_form_starts_from_the_last_full_list(hotline: Hotline) -> None:
    """A profile decides about every row, so a change of it reads everything again; without a full list, from 1."""
    hotline.source = replace(hotline.source, mode="increments")
    hotline.drop("1.add.csv", 1, 2)
    hotline.drop("2.remove.csv", 2)
    hotline.sync()
    hotline.source = replace(hotline.source, map="algorithm=algorithm,digest=digest,entry=label")
    hotline.sync()
    assert hotline.entries() == ["A"]
    assert hotline.outcome.lists[0].plan == "full:reshaped"


def test_bad_rows_are_set_aside_and_counted(hotline: Hotline) -> None:
    """A wrong digest does not stop the rest; a file of which nothing can be read is rejected."""
    good = ",".join(row(1))
    hotline.drop("one.csv", text=f"{HEADER}{good}\nsha256,abc,e2,A\n")
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e1"]
    hotline.drop("two.csv", text=f"{HEADER}sha256,abc,e2,A\n")
    assert hotline.sync() is Outcome.REJECTED
    assert hotline.entries() == ["e1"]


def test_a_vics_hash_set_is_read_and_a_case_refused(hotline: Hotline) -> None:
    """Compressed or not; of a case, which contains personal data, nothing is published, and nothing is kept either."""
    hotline.source = replace(hotline.source, profile="vics", complete="rename")
    both = {"PhotoDNA": PDNA64, "AlternativeHashes": [{"HashName": "PhotoDNA", "HashValue": PDNA64}]}
    old = {"odata.metadata": "http://x.invalid/1.3.xml#Media", "value": [{"MediaID": 3, "Category": 0, **both}]}
    hotline.drop("old.json", checksum=False, text="\ufeff" + json.dumps(old))
    assert hotline.sync() is Outcome.PUBLISHED
    assert [(entry, label) for (*_, entry), label in hotline.world.content().items()] == [("3", "0")]
    hotline.drop("set.json.gz", checksum=False, content=gzip.compress(json.dumps(VICS).encode()))
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["1", "1", "1", "2"]
    kept = [path for path in hotline.world.state.root.rglob("*.zst") if "answers" in path.parts]
    assert len(kept) == 2
    (case,), media = CASE["value"], VICS["value"]
    long = {"Media": [{"MediaID": number, "MD5": "ab" * 16, "x": "y" * 1000} for number in range(5000)]}
    for number, text in enumerate(
        [
            json.dumps(CASE),
            json.dumps({"value": [*media, case]}),
            json.dumps({"value": [long]}),
            json.dumps({"CaseID": 1, "MD5": None}, indent=1),
            json.dumps(case),
        ]
    ):
        hotline.drop(f"{number}.json", checksum=False, text=text)
        assert hotline.sync() is Outcome.REJECTED
        assert isinstance(hotline.outcome.error, FeedError)
        assert "a case and not a hash set" in hotline.outcome.error.message
        assert "hash set" in (hotline.outcome.error.hint or "")
    assert hotline.entries() == ["1", "1", "1", "2"]
    assert [path for path in hotline.world.state.root.rglob("*.zst") if "answers" in path.parts] == kept


def test_a_file_that_shrinks_too_much_holds(hotline: Hotline) -> None:
    """A truncated list that looks complete is what the gate is for."""
    hotline.drop("one.csv", *range(200))
    hotline.sync()
    hotline.world.limits = DEFAULT_LIMITS
    hotline.drop("two.csv", *range(20))
    assert hotline.sync() is Outcome.HELD
    assert len(hotline.entries()) == 200


def test_a_file_that_changes_while_it_is_read(hotline: Hotline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows which part of which file was read: it is read again at the next sync."""
    read = ListFiles.read

    def changing(files: ListFiles, scratch: Path) -> Batch:
        batch = read(files, scratch)
        hotline.drop("list.csv", 1, 2, 3)
        return batch

    hotline.drop("list.csv", 1, 2)
    with monkeypatch.context() as patched:
        patched.setattr(ListFiles, "read", changing)
        assert hotline.sync() is Outcome.UNREACHABLE
    assert hotline.sync() is Outcome.PUBLISHED
    assert hotline.entries() == ["e1", "e2", "e3"]


def test_minisign(hotline: Hotline, tmp_path: Path) -> None:
    """A file counts only with a signature by the configured key, over its content and over the trusted comment."""
    key, number = Ed25519PrivateKey.generate(), b"12345678"
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    pub = tmp_path / "minisign.pub"
    pub.write_bytes(b"untrusted comment: key\n" + base64.b64encode(b"Ed" + number + public) + b"\n")

    def sign(path: Path, comment: bytes = b"timestamp:1", algorithm: bytes = b"ED") -> None:
        content = path.read_bytes()
        own = key.sign(hashlib.blake2b(content).digest() if algorithm == b"ED" else content)
        lines = [
            b"untrusted comment: x",
            base64.b64encode(algorithm + number + own),
            b"trusted comment: " + comment,
            base64.b64encode(key.sign(own + b"timestamp:1")),
        ]
        path.with_name(path.name + ".minisig").write_bytes(b"\n".join(lines) + b"\n")

    hotline.source = replace(hotline.source, minisign_key=pub)
    hotline.drop("one.csv", 1)
    assert hotline.sync() is Outcome.REJECTED
    sign(hotline.drop("two.csv", 2, checksum=False))
    assert hotline.sync() is Outcome.PUBLISHED
    sign(hotline.drop("three.csv", 3, checksum=False), algorithm=b"Ed")
    assert hotline.sync() is Outcome.PUBLISHED
    sign(hotline.drop("four.csv", 4, checksum=False), comment=b"timestamp:2")
    assert hotline.sync() is Outcome.REJECTED
    path = hotline.drop("five.csv", 5, checksum=False)
    sign(path)
    path.write_text(path.read_text().replace("e5", "e6"))
    assert hotline.sync() is Outcome.REJECTED
    assert hotline.entries() == ["e3"]


@pytest.mark.skipif(not (shutil.which("gpg") and shutil.which("gpgv")), reason="needs GnuPG, which makes the keys")
def test_openpgp(hotline: Hotline, tmp_path: Path) -> None:
    """A detached signature by a key in the configured keyring, and by no other."""
    home = tmp_path / "gnupg"
    home.mkdir(0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]

    def run(*arguments: str) -> bytes:
        return subprocess.run([*gpg, *arguments], check=True, capture_output=True, timeout=120).stdout

    for name in ("hotline", "other"):
        run("--quick-gen-key", f"{name}@example.org", "ed25519", "sign")
    ring = tmp_path / "hotline.gpg"
    ring.write_bytes(run("--export", "hotline@example.org"))
    hotline.source = replace(hotline.source, openpgp_keyring=ring)
    for number, (name, outcome) in enumerate([("hotline", Outcome.PUBLISHED), ("other", Outcome.REJECTED)]):
        path = hotline.drop(f"{number}.csv", number, checksum=False)
        run("--local-user", f"{name}@example.org", "--armor", "--detach-sign", str(path))
        assert hotline.sync() is outcome
    assert hotline.entries() == ["e0"]
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=60)


def test_what_cannot_work_is_said_at_the_start(hotline: Hotline, tmp_path: Path) -> None:
    """A missing folder, key or profile."""
    for change in ({"folder": tmp_path / "absent"}, {"minisign_key": tmp_path / "absent"}, {"profile": "absent.toml"}):
        with pytest.raises(ConfigError):
            replace(hotline.source, **change).check()
    hotline.source.check()
    shutil.rmtree(hotline.folder)
    hotline.sync()
    assert isinstance(hotline.outcome.error, SourceError)


def test_a_worker_process_reads_it(hotline: Hotline) -> None:
    """Request, batches, position and answers cross the line between the processes, for a first version and a delta."""
    hotline.drop("one.csv", 1, 2)
    world = hotline.world
    for numbers, entries in (((), ["e1", "e2"]), ((2, 3), ["e2", "e3"]), ((), ["e2", "e3"])):
        if numbers:
            hotline.drop("two.csv", *numbers)
        world.clock.forward(minutes=10)
        with world.publisher() as publisher:
            outcome = sync_source(publisher, hotline.source, world.clock, prepared_by=Worker())
        assert outcome.error is None
        assert hotline.entries() == entries
    assert outcome.outcome is Outcome.UP_TO_DATE


def test_a_file_at_an_address(hotline: Hotline) -> None:
    """The file is the whole list; it is not fetched again while the checksum beside it is the same."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(hotline.folder))

        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/list.csv"
        hotline.source = replace(hotline.source, folder=None, url=address)
        assert hotline.sync() is Outcome.UNREACHABLE
        hotline.drop("list.csv", 1, 2)
        assert hotline.sync() is Outcome.PUBLISHED
        assert hotline.entries() == ["e1", "e2"]
        before = asked.count("/list.csv")
        assert hotline.sync() is Outcome.UP_TO_DATE
        assert asked.count("/list.csv") == before
        hotline.drop("list.csv", 2, 3)
        assert hotline.sync() is Outcome.PUBLISHED
        assert hotline.entries() == ["e2", "e3"]
        (hotline.folder / "list.csv").write_text("algorithm,digest,entry,label\n")
        (hotline.folder / "list.csv.sha256").write_text("0" * 64)
        assert hotline.sync() is Outcome.REJECTED
        (hotline.folder / "list.csv.sha256").unlink()
        hotline.drop("list.csv", 5, checksum=False)
        before = asked.count("/list.csv")
        assert hotline.sync() is Outcome.UNREACHABLE  # nothing says that it is complete
        assert asked.count("/list.csv") == before
        hotline.source = replace(hotline.source, complete="rename")
        assert hotline.sync() is Outcome.PUBLISHED
        assert hotline.sync() is Outcome.UP_TO_DATE
        assert hotline.entries() == ["e5"]
        server.shutdown()


def test_a_file_that_is_replaced_while_it_is_fetched(hotline: Hotline) -> None:
    """It is fetched again with its new checksum: that is no reason to reject it."""
    model = Model()
    for number in range(3):
        model.put(number)
    with FakeDrop(model).running() as fake:
        hotline.source = replace(hotline.source, folder=None, url=fake.url + FILE)
        fake.before[4] = lambda: model.delete(1)  # after the four files that may lie beside it
        assert hotline.sync() is Outcome.PUBLISHED
        assert hotline.entries() == ["e0", "e2"]
        assert [asked.path for asked in fake.asked].count(FILE) == 2
        assert hotline.sync() is Outcome.UP_TO_DATE
        assert [asked.path for asked in fake.asked].count(FILE) == 2
