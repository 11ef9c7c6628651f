"""`[operators.NAME]`: named people with a token and a role, from the configuration to the sign-in."""

from pathlib import Path

import pytest

from command_line import operate, syncd
from syncd.config_file import load
from syncd.errors import ConfigError
from syncd.service.access import Kind, PersonToken
from syncd.service.reload import changes, check_reload
from syncd.service.web.site import Tokens, check, read_tokens
from world import World

BASE = 'state_dir = "/s"\n[serve]\nlisten = "127.0.0.1:0"\n'
SERVE = '[serve]\nlisten = "127.0.0.1:0"\n'
ALICE, BOB = "a" * 32, "b" * 32


def written(folder: Path, more: str, base: str = BASE) -> Path:
    """A configuration, and the files alice and bob with a token each."""
    for name, token in (("alice", ALICE), ("bob", BOB)):
        (folder / name).write_text(f"{token}\n")
        (folder / name).chmod(0o600)
    (folder / "c.toml").write_text(base + more)
    return folder / "c.toml"


def person(folder: Path, name: str, role: str = "operator", file: str = "") -> str:
    return f'[operators.{name}]\ntoken_file = "{folder}/{file or name}"\nrole = "{role}"\n'


def test_each_has_a_name_a_role_and_a_token(tmp_path: Path) -> None:
    """The old single token goes on as the operator named operator."""
    old = f'operator_token_file = "{tmp_path}/old"\n'
    (tmp_path / "old").write_text("o" * 32)
    (tmp_path / "old").chmod(0o600)
    config = load(written(tmp_path, old + person(tmp_path, "alice") + person(tmp_path, "bob", "viewer")))
    assert config.serve
    assert read_tokens(config.serve, config.operators) == Tokens(
        "o" * 32, None, (PersonToken("alice", Kind.OPERATOR, ALICE), PersonToken("bob", Kind.VIEWER, BOB))
    )


def test_no_representation_shows_a_token(tmp_path: Path) -> None:
    """Of the tokens that were read, and of a person."""
    config = load(written(tmp_path, person(tmp_path, "alice")))
    assert config.serve
    assert ALICE not in repr(read_tokens(config.serve, config.operators))


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        ('token_file = "/x"', "operators.alice.role: missing", "set this key"),
        (
            'token_file = "/x"\nrole = "admin"',
            "operators.alice.role: input should be 'viewer' or 'operator'",
            "see docs",
        ),
        ('role = "viewer"', "operators.alice.token_file: missing", "set this key"),
        (
            'token_file = "x"\nrole = "viewer"',
            "operators.alice.token_file: not an absolute path",
            "write the whole path",
        ),
        ('token_file = "/x"\nroles = "viewer"', "operators.alice.roles: unknown key", "did you mean role"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, lines: str, message: str, hint: str) -> None:
    """The key, the fault and the cure."""
    with pytest.raises(ConfigError) as refused:
        load(written(tmp_path, f"[operators.alice]\n{lines}\n"))
    assert message in refused.value.message
    assert hint in refused.value.hint


@pytest.mark.parametrize("name", ["Alice", '"a b"', "_a", "a__b", "a" * 32])
def test_a_name_is_plain(tmp_path: Path, name: str) -> None:
    """It goes into logs, variables and tables."""
    with pytest.raises(ConfigError, match="not a valid name for an operator"):
        load(written(tmp_path, person(tmp_path, name, file="alice")))


@pytest.mark.parametrize("name", ["root", "metrics", "schedule", "syncd"])
def test_a_name_is_nobody_elses(tmp_path: Path, name: str) -> None:
    """The audit log would read as if another actor had acted."""
    with pytest.raises(ConfigError, match=f"the audit log uses the name {name} for another actor"):
        load(written(tmp_path, person(tmp_path, name, file="alice")))


def test_operator_is_a_name_unless_the_old_token_has_it(tmp_path: Path) -> None:
    """Both would act under one name."""
    load(written(tmp_path, person(tmp_path, "operator", file="alice")))
    with pytest.raises(ConfigError, match="uses the name operator for another actor"):
        load(
            written(tmp_path, f'operator_token_file = "{tmp_path}/bob"\n' + person(tmp_path, "operator", file="alice"))
        )


def test_without_a_server_there_is_nothing_to_sign_in_to(tmp_path: Path) -> None:
    """Rather than a token that gives access to nothing."""
    with pytest.raises(ConfigError, match=r"operators.alice: given without \[serve\]"):
        load(written(tmp_path, person(tmp_path, "alice"), 'state_dir = "/s"\n'))


def test_a_token_file_open_to_everybody_is_refused(tmp_path: Path) -> None:
    """As every file with a secret."""
    path = written(tmp_path, person(tmp_path, "alice"))
    (tmp_path / "alice").chmod(0o644)
    with pytest.raises(ConfigError, match=r"operators.alice.token_file: .*open to every user .*\(mode 0644\)"):
        load(path)


def test_two_people_never_have_the_same_token(tmp_path: Path) -> None:
    """In one file or in two; nor the token of metrics, or the old one. The message shows no token."""
    (tmp_path / "bob2").write_text(ALICE)
    for first, second in (
        (person(tmp_path, "alice"), person(tmp_path, "carol", file="bob2")),
        (person(tmp_path, "alice"), person(tmp_path, "carol", file="alice")),
        (f'metrics_token_file = "{tmp_path}/bob2"\n', person(tmp_path, "alice")),
        (f'operator_token_file = "{tmp_path}/bob2"\n', person(tmp_path, "alice")),
    ):
        config = load(_private(written(tmp_path, first + second)))
        assert config.serve
        with pytest.raises(ConfigError, match="holds the same token as") as refused:
            check(config.serve, config.operators)
        assert ALICE not in refused.value.message
        assert "nobody could tell who acted" in refused.value.message


def _private(path: Path) -> Path:
    (path.parent / "bob2").chmod(0o600)
    return path


@pytest.mark.parametrize("content", ["short", "", "x" * 15, "with\ta tab in the middle", "ümlaut-ümlaut-ümlaut"])
def test_a_token_is_long_and_plain(tmp_path: Path, content: str) -> None:
    """At least 16 characters that a browser and a header can carry."""
    path = written(tmp_path, person(tmp_path, "alice"))
    (tmp_path / "alice").write_text(content)
    config = load(path)
    assert config.serve
    with pytest.raises(ConfigError, match=r"operators.alice.token_file: .* does not hold a token of 16 or more"):
        check(config.serve, config.operators)


def test_a_token_may_be_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As all other files that the operator provides."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/syncd.service")
    path = written(
        tmp_path, '[operators.alice]\ntoken_file = "$CREDENTIALS_DIRECTORY/secrets_alice"\nrole = "viewer"\n'
    )
    assert load(path).operators["alice"].token_file == Path("/run/credentials/syncd.service/secrets_alice")


def test_a_variable_sets_an_operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As every key."""
    path = written(tmp_path, "")
    monkeypatch.setenv("SYNCD_OPERATORS__ALICE__TOKEN_FILE", f"{tmp_path}/alice")
    monkeypatch.setenv("SYNCD_OPERATORS__ALICE__ROLE", "viewer")
    monkeypatch.setenv("SYNCD_DASHBOARD__ACTIONS", "true")
    config = load(path)
    assert (config.operators["alice"].role, config.dashboard.actions) == ("viewer", True)


def test_a_reload_names_who_changed(tmp_path: Path) -> None:
    """Added, removed and changed alike, and the switch of the dashboard; a token that cannot be used is refused."""
    before = load(written(tmp_path, person(tmp_path, "alice")))
    after = load(
        written(
            tmp_path, person(tmp_path, "alice", "viewer") + person(tmp_path, "bob") + "[dashboard]\nactions = true\n"
        )
    )
    check_reload(before, after)
    assert changes(before, after).changed == ("operators.alice", "operators.bob", "dashboard.actions")
    (tmp_path / "bob").write_text(ALICE)
    with pytest.raises(ConfigError, match=r"operators.bob.token_file: .* holds the same token as operators.alice"):
        check_reload(before, after)


def test_no_matcher_takes_an_operators_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it pulls would read in the audit log as if the operator had."""
    operate(world, monkeypatch)
    config = written(world.base, person(world.base, "alice"), (world.base / "syncd.toml").read_text() + SERVE)
    ran = syncd("matchers", "add", "alice", "--config", config)
    assert (ran.code, "no matcher can be named alice" in ran.err) == (2, True)
    assert syncd("matchers", "add", "alice-web", "--config", config).code == 0


def test_run_check_reads_the_tokens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the daemon starts."""
    operate(world, monkeypatch)
    config = world.base / "syncd.toml"
    config.write_text(config.read_text() + f'[serve]\nlisten = "127.0.0.1:0"\n{person(world.base, "alice")}')
    (world.base / "alice").write_text("short")
    (world.base / "alice").chmod(0o600)
    ran = syncd("run", "--check")
    assert (ran.code, "operators.alice.token_file" in ran.err) == (2, True)
