import shutil
from pathlib import Path
from typing import NoReturn

import pytest

from command_line import configure, syncd, use_clock
from syncd.outcomes import Outcome
from world import World, row, rows


@pytest.fixture
def configured(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one source."""
    use_clock(world.clock, monkeypatch)
    text = (
        f'state_dir = "{world.state.root}"\n[sources.iwf]\ntype = "feed"\nurl = "{world.url}"\nroot = "{world.root}"\n'
    )
    configure(tmp_path / "syncd.toml", text, monkeypatch)
    return world


def probe() -> tuple[int, str]:
    """What a monitoring system sees."""
    ran = syncd("status", "--check")
    assert ran.err == ""
    return ran.code, ran.out


def test_all_is_well(configured: World) -> None:
    """One line, the age of the oldest list, and each age as performance data."""
    configured.publish(full=rows(0, 3))
    syncd("sync")
    configured.clock.forward(minutes=4)
    assert probe() == (0, "SYNCD OK - 1 list, the oldest verified 4 minutes ago | 'iwf.images'=240s;3600;25200\n")


def test_a_list_that_nobody_keeps_up_is_critical(configured: World) -> None:
    """Whatever the last sync said: age is counted from the last verification."""
    configured.publish(full=rows(0, 3))
    syncd("sync")
    configured.clock.forward(hours=3)
    told = "iwf.images: not verified for 3 hours: syncs do not run | 'iwf.images'=10800s;3600;25200\n"
    assert probe() == (1, f"SYNCD WARNING - {told}")
    configured.clock.forward(hours=5)
    told = "iwf.images: not verified for 8 hours: syncs do not run | 'iwf.images'=28800s;3600;25200\n"
    assert probe() == (2, f"SYNCD CRITICAL - {told}")


def test_a_stale_mirror_is_a_warning_until_the_list_is_too_old(configured: World, tmp_path: Path) -> None:
    """One edge of a CDN that is a version behind calls nobody at night; a mirror that stays behind does."""
    configured.publish(full=rows(0, 3))
    old = shutil.copytree(configured.partner.root, tmp_path / "old")
    configured.publish(add=[row(7)])
    syncd("sync")
    configured.partner.root.rename(tmp_path / "new")
    old.rename(configured.partner.root)
    configured.clock.forward(minutes=10)
    ran = syncd("sync")
    assert ran.code == Outcome.UNREACHABLE.exit_code
    assert "stale mirror: timestamp.json is version 2, older than version 3 held" in ran.err
    code, line = probe()
    assert (code, line.split(" | ")[0]) == (
        1,
        "SYNCD WARNING - iwf.images: stale mirror: timestamp.json is version 2, older than version 3 held",
    )
    configured.clock.forward(hours=8)
    syncd("sync")
    assert probe()[0] == 2
    configured.partner.root.rename(old)
    (tmp_path / "new").rename(configured.partner.root)
    assert syncd("sync").code == 0
    assert probe()[0] == 0


def test_a_list_whose_source_is_no_longer_configured_is_a_warning(configured: World, tmp_path: Path) -> None:
    """However old it gets, and however its last sync ended: it was left on purpose, and must not page for ever."""
    configured.publish(full=rows(0, 3))
    syncd("sync")
    with configured.publisher() as publisher:
        publisher.catalog.begin_sync("last", "iwf", configured.clock())
        publisher.catalog.finish_sync("last", Outcome.REJECTED, message="bad", now=configured.clock())
    assert probe()[0] == 2
    (tmp_path / "syncd.toml").write_text(f'state_dir = "{configured.state.root}"')
    configured.clock.forward(hours=30)
    assert probe() == (
        1,
        "SYNCD WARNING - iwf.images: source iwf is no longer configured, so the list is stale: configure it again, or "
        "retire the list: syncd retire iwf.images --reason R / 'iwf.images'=108000s;;0\n".replace(" / ", " | "),
    )


def test_a_hold_is_a_warning(configured: World) -> None:
    """A person decides; what is served goes on being served."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.publish(remove=rows(0, 2))
    configured.clock.forward(minutes=1)
    syncd("sync")
    assert probe() == (
        1,
        "SYNCD WARNING - iwf.images: hold 1: 2 rows (removals): the update would leave the list without any entry; "
        "`syncd release 1 --reason R` publishes it, `syncd discard 1 --reason R` drops it | "
        "'iwf.images'=0s;3600;25200\n",
    )


def test_a_rejected_update_is_critical(configured: World) -> None:
    """It does not get better by itself."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    configured.publish(add=[row(9)])
    newest = max(configured.partner.root.glob("v1/images/segments/*"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(bytes(newest.stat().st_size))
    syncd("sync")
    assert probe()[0] == 2


def test_before_the_first_sync_it_is_a_warning(configured: World) -> None:
    """Nothing is wrong yet, but nothing is served."""
    assert probe() == (1, "SYNCD WARNING - iwf: nothing published yet, never synced\n")


def test_a_state_that_cannot_be_read_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never another exit code: 1 and 2 have meanings of their own here."""
    configure(tmp_path / "c.toml", f'state_dir = "{tmp_path}/state"\n', monkeypatch)
    assert probe() == (3, f"SYNCD UNKNOWN - {tmp_path}/state is not set up\n")


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied", "/s"), ZeroDivisionError(b"\0" * 32)])
def test_whatever_fails_is_unknown(configured: World, monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """Also a folder above the state that this user may not enter, and a bug, of which the kind alone is told."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise fault

    monkeypatch.setattr("syncd.cli.status.state_report", fail)
    assert probe() == (3, f"SYNCD UNKNOWN - internal error ({type(fault).__name__})\n")


def test_metadata_about_to_expire_is_told(configured: World) -> None:
    """A warning 60 days ahead, critical in the last week."""
    configured.publish(full=rows(0, 2))
    syncd("sync")
    for days, code in ((121, 1), (54, 2)):
        configured.clock.forward(days=days)
        configured.publish(add=[row(days)])
        syncd("sync")
        assert probe()[0] == code
