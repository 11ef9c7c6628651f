"""Keys and secrets that systemd hands over as credentials (systemd.exec(5), Credentials): a folder, flat names."""

from pathlib import Path

import pytest

from command_line import configure, syncd, use_clock
from syncd.config_file import load
from syncd.errors import ConfigError, RefusedError
from syncd.operate.backup import backup
from syncd.pipeline.publisher import open_publisher
from syncd.sources.tables import FeedSource
from world import World, rows

CONFIG = """
state_dir = "/var/lib/syncd"

[sources.iwf]
type = "feed"
url = "https://feed.example.org/"
root = "/etc/syncd/iwf-root.json"
token_file = "$CREDENTIALS_DIRECTORY/secrets_iwf.token"
client_key = "$CREDENTIALS_DIRECTORY/secrets_client.pem"
client_cert = "/etc/syncd/client.pem"

[serve]
listen = "127.0.0.1:8470"
operator_token_file = "$CREDENTIALS_DIRECTORY/secrets_operator.token"
"""


def hand_over(world: World, *names: str) -> Path:
    """Move keys of the state to a folder of credentials, as LoadCredential=keys:FOLDER/ names them."""
    folder = world.base / "credentials"
    folder.mkdir(exist_ok=True)
    for name in names:
        (world.state.keys / name).rename(folder / f"keys_{name}")
    return folder


def test_keys_that_are_handed_over_sign(world: World) -> None:
    """The state needs no folder of keys then, and a backup of it holds none."""
    given = hand_over(world, "timestamp.pem", "snapshot.pem", "lists.pem")
    world.state.keys.rmdir()
    with open_publisher(world.state, credentials=given) as publisher:
        publisher.resign(world.clock())
        assert publisher.last_signed() == world.clock()
        assert backup(publisher, world.base / "b.tar", world.clock(), with_keys=True).keys == 0
    with pytest.raises(RefusedError, match="there are no keys in"), open_publisher(world.state):
        pass


def test_keys_that_are_handed_over_come_first(world: World) -> None:
    """What else lies in the state under such a role is not even read; other roles are found there as ever."""
    given = hand_over(world, "timestamp.pem")
    (world.state.keys / "timestamp.pem").write_text("no key")
    (world.state.keys / "timestamp.pem").chmod(0o644)
    with open_publisher(world.state, credentials=given) as publisher:
        publisher.resign(world.clock())
    with pytest.raises(RefusedError, match="other users can read the key"), open_publisher(world.state):
        pass


def test_other_credentials_are_no_keys(world: World) -> None:
    """A token with the name of a role is not taken for one."""
    given = hand_over(world)
    (given / "secrets_timestamp.pem").write_text("no key")
    with open_publisher(world.state, credentials=given) as publisher:
        assert len(publisher.signers["timestamp"]) == 1


def test_a_command_that_systemd_runs_finds_its_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`syncd sync` and `syncd recover`, too, where no daemon runs."""
    world.publish(full=rows(0, 3))
    given = hand_over(world, "timestamp.pem", "snapshot.pem", "lists.pem")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(given))
    (given / "secrets_root.json").write_bytes(world.root.read_bytes())
    text = f'state_dir = "{world.state.root}"\ncontrol_socket = "{world.base}/c"\n[sources.iwf]\ntype = "feed"\n'
    text += f'url = "{world.url}"\nroot = "$CREDENTIALS_DIRECTORY/secrets_root.json"\n'
    configure(world.base / "syncd.toml", text, monkeypatch)
    use_clock(world.clock, monkeypatch)
    assert syncd("sync").code == 0
    assert syncd("recover", "--above", "100").code == 0


def test_a_path_below_the_credentials_is_where_systemd_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key of a source or of the API that names a file may be one."""
    (tmp_path / "c.toml").write_text(CONFIG)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/syncd.service")
    config = load(tmp_path / "c.toml")
    assert config.serve
    assert config.serve.operator_token_file == Path("/run/credentials/syncd.service/secrets_operator.token")
    feed = config.sources["iwf"]
    assert isinstance(feed, FeedSource)
    assert feed.token_file == Path("/run/credentials/syncd.service/secrets_iwf.token")
    assert feed.client_key == Path("/run/credentials/syncd.service/secrets_client.pem")


def test_without_credentials_only_their_use_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """`syncd status` and the like run outside the service, where nobody hands them over."""
    (world.base / "c.toml").write_text(CONFIG.replace("/etc/syncd/iwf-root.json", str(world.root)))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    feed = load(world.base / "c.toml").source("iwf")
    with pytest.raises(ConfigError, match=r"cannot read \$CREDENTIALS_DIRECTORY/secrets_iwf.token") as refused:
        feed.check()
    assert (
        refused.value.hint
        == "only services receive credentials from systemd: run syncd as a service, or configure a file"
    )


@pytest.mark.parametrize("path", ["$CREDENTIALS/x", "x/$CREDENTIALS_DIRECTORY/y", "secrets_x"])
def test_no_other_variable_is_looked_up(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other path is a whole one, as ever."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/syncd.service")
    (tmp_path / "c.toml").write_text(CONFIG.replace("$CREDENTIALS_DIRECTORY/secrets_iwf.token", path))
    with pytest.raises(ConfigError, match="token_file: not an absolute path"):
        load(tmp_path / "c.toml")
