"""Restoring PostgreSQL and S3 as docs/operations.md says it, line by line, on real servers."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from command_line import configure, operate, settings, syncd
from engines.postgres import PostgresServer
from runbook import code_lines, section
from syncd.database_address import DatabaseAddress
from syncd.store.s3 import S3Bucket
from syncd.store.settings import BucketSettings
from test_cures_restore import carry_out, go_on
from test_store_copy import store_section
from world import World, row, rows


@dataclass
class Site:
    """A state on both servers, with a backup of an earlier version; a matcher holds the newest."""

    world: World
    file: Path
    server: PostgresServer
    database: str

    def lose_database(self) -> None:
        """An empty one takes its place."""
        self.server.do(f"DROP DATABASE {self.database} WITH (FORCE)")
        self.server.do(f"CREATE DATABASE {self.database} TEMPLATE template0")

    def lose_bucket(self) -> None:
        """All files of it."""
        assert self.world.bucket is not None
        bucket = S3Bucket(self.world.bucket, "", public=False)
        for path in bucket.names(""):
            bucket.remove(path)
        assert bucket.names("") == {}

    def versions(self) -> dict[str, int]:
        """What the matcher holds."""
        return {one.list: one.version for one in self.world.matcher().status()}

    def check_restored(self, *, forked: bool) -> None:
        """The matcher that was ahead takes what is published now, and nothing goes back or is published twice."""
        held = self.versions()
        pulled = self.world.pull()
        assert not pulled.errors
        assert [one.forked for one in pulled.lists] == [forked]
        self.world.clock.forward(minutes=10)
        self.world.publish(add=[row(50)])
        assert syncd("sync").code == 0
        assert not self.world.pull().errors
        assert all(after > held[name] for name, after in self.versions().items())
        assert all(self.world.hits(number) for number in (*range(5), *range(6, 34), 50))
        assert not self.world.hits(5)
        for command in (("verify", "--deep"), ("audit", "verify"), ("status", "--check")):
            ran = syncd(*command)
            assert ran.code == 0, ran


@pytest.fixture
def site(
    tmp_path: Path, postgres: PostgresServer, bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Four versions were published, and a backup made after the second."""
    name = f"drill_{tmp_path.name[-8:].lower()}"
    postgres.do(f"CREATE DATABASE {name} TEMPLATE template0")
    world = World(tmp_path, bucket=bucket, database=DatabaseAddress(postgres.url(name)))
    operate(world, monkeypatch)
    configure(tmp_path / "syncd.toml", settings(world) + store_section(bucket), monkeypatch)
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    world.publish(add=[row(30)], remove=[row(5)])
    go_on(world)
    file = tmp_path / "backup.tar"
    assert syncd("backup", file).code == 0
    for number in (31, 32, 33):
        world.publish(add=[row(number)])
        go_on(world)
    assert world.hits(33)
    yield Site(world, file, postgres, name)
    postgres.do(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_a_lost_bucket_is_filled_again(site: Site) -> None:
    """From the cache, with nothing lost: matchers notice nothing."""
    site.lose_bucket()
    carry_out(site.world, "The bucket was lost", site.file)
    shutil.rmtree(site.world.state.feed.root)
    shutil.rmtree(site.world.state.root / "sources")
    assert syncd("verify").code == 0
    site.check_restored(forked=False)


def test_a_lost_database_is_restored(site: Site) -> None:
    """From the backup; the bucket is ahead of it until `recover`."""
    site.lose_database()
    assert syncd("sync").code != 0
    carry_out(site.world, "The database was lost", site.file, answers={"syncd verify": 4})
    site.check_restored(forked=True)


def test_both_are_restored_into_an_empty_folder(site: Site) -> None:
    """From the backup and the online keys."""
    site.lose_database()
    site.lose_bucket()
    lost = site.world.state.root.rename(site.world.base / "lost")
    carry_out(site.world, "Database and bucket were lost", site.file, keys=lost / "keys")
    site.check_restored(forked=True)


def test_every_line_of_the_drills_is_run() -> None:
    """The page has these three, and no other."""
    titles = ("The bucket was lost", "The database was lost", "Database and bucket were lost")
    assert [line for title in titles for line in code_lines(section(title))] == code_lines(
        section("To restore PostgreSQL and S3")
    )
