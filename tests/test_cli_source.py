"""``syncd source``: what is configured, and a first look at a partner."""

import hashlib
from pathlib import Path

import pytest

from command_line import syncd
from partner_world import partner_world
from world import row


@pytest.fixture
def dropped(tmp_path: Path) -> Path:
    """A configuration with a drop of three rows, of which one cannot be read."""
    folder = tmp_path / "drop"
    folder.mkdir()
    lines = [",".join(row(number)) for number in (1, 2)]
    (folder / "one.csv").write_text("\n".join(["algorithm,digest,entry,label", *lines, "sha256,abc,e9,A", ""]))
    digest = hashlib.sha256((folder / "one.csv").read_bytes()).hexdigest()
    (folder / "one.csv.sha256").write_text(digest)
    config = tmp_path / "syncd.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[sources.hotline]\ntype = "drop"\nfolder = "{folder}"\nlists = ["images"]\n'
    )
    return config


def test_a_first_look_publishes_nothing(dropped: Path) -> None:
    """The first page in numbers, without a digest; the state folder is not even created."""
    ended = syncd("source", "try", "hotline", "--config", str(dropped), "--json")
    assert ended.code == 0
    (found,) = ended.json["lists"]
    assert (found["list"], found["records"], found["fingerprints"], found["labels"]) == (
        "images",
        3,
        {"sha256": 2},
        {"A": 2},
    )
    assert ended.json["set_aside"] == {"rows that cannot be read": 1}
    assert not (dropped.parent / "state").exists()
    shown = syncd("source", "try", "hotline", "--config", str(dropped))
    assert row(1)[1] not in shown.out + shown.err


def test_a_place_that_is_not_there(dropped: Path) -> None:
    """A folder without a complete file is like a partner that does not answer."""
    (dropped.parent / "drop" / "one.csv.sha256").unlink()
    assert syncd("source", "try", "hotline", "--config", str(dropped)).code == 5
    assert syncd("source", "try", "other", "--config", str(dropped)).code == 2


def test_credentials_are_checked(tmp_path: Path) -> None:
    """Wrong ones are refused by the partner; a file that is missing is an error of the configuration."""
    with partner_world(tmp_path, "tcap") as road:
        file, given = road.base / "tcap.password", ("source", "try", "tcap", "--config", str(road.config_file))
        assert syncd(*given).code == 0
        file.write_text("another-password")
        refused = syncd(*given)
        assert (refused.code, "another-password" in refused.out + refused.err) == (5, False)
        file.unlink()
        missing = syncd(*given)
        assert (missing.code, str(file) in missing.err) == (2, True)


def test_the_sources_are_shown(dropped: Path) -> None:
    """Name, type, place and interval."""
    shown = syncd("source", "--config", str(dropped), "--json").json["sources"]
    place = str(dropped.parent / "drop")
    assert shown == [{"name": "hotline", "type": "drop", "place": place, "interval": 600.0}]
    assert "hotline" in syncd("source", "--config", str(dropped)).out


def test_run_checks_it(dropped: Path) -> None:
    """`syncd run --check` checks the files that such a source names too."""
    config = ("--config", str(dropped))
    offline = dropped.parent / "off"
    assert syncd("init", "--offline-keys", offline, "--keys", 1, "--threshold", 1, *config).code == 0
    checked = syncd("run", "--check", *config)
    assert (checked.code, "hotline" in checked.out) == (0, True)
    (dropped.parent / "drop").rename(dropped.parent / "elsewhere")
    assert syncd("run", "--check", *config).code == 2
