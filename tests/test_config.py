import os
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import config_file, settings
from syncd.config import Config
from syncd.config_file import DEFAULT_FILE, load
from syncd.errors import ConfigError, UsageError
from syncd.fetch import Endpoint
from syncd.format.caps import Caps
from syncd.format.freshness import MaxAge, SourceAges
from syncd.model import ListName
from syncd.settings import parse_duration
from syncd.sources.kinds import AnyKind
from syncd.sources.signed_feed import SignedFeed
from syncd.sources.tables import TABLES, FeedSource

KNOWN_TYPES = f"known types: {', '.join(TABLES)}"
SOURCE = """
[sources.iwf]
type = "feed"
url = "https://feed.example.org/"
root = "/etc/syncd/iwf-root.json"
"""
LONGER = "give a longer one; without it, the limits follow from the interval (docs/configuration.md)"
WHOLE = """
state_dir = "/var/lib/syncd"

[sources.iwf]
type = "feed"
url = "https://feed.example.org/"
root = "/etc/syncd/iwf-root.json"
interval = "10m"
lists = ["images", "videos"]
token_file = "/etc/syncd/iwf.token"
client_cert = "/etc/syncd/iwf.pem"
client_key = "/etc/syncd/iwf.key"
ca = "/etc/syncd/ca.pem"
proxy = "http://proxy.example.org:3128/"
redirects = ["objects.example.org"]
deadline = "2h"
max_rows = 5000000
max_bytes = 1000000000
max_age_warn = "2h"
max_age_critical = "1d"
"""
AGES = """
[sources.iwf.ages.videos]
max_age_warn = "3h"
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("SYNCD_")]:
        monkeypatch.delenv(variable)


def written(path: Path, text: str) -> Path:
    file = path / "syncd.toml"
    file.write_text(text)
    return file


def fault(file: Path | None) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        load(file)
    return caught.value.message.replace(f"{file}", "FILE"), caught.value.hint


def test_the_control_socket_has_an_address_that_the_kernel_takes(tmp_path: Path) -> None:
    """107 bytes at most (unix(7)); said when the file is read, not when the daemon starts."""
    assert load(written(tmp_path, 'state_dir = "/s"')).control_socket == Path("/run/syncd/control.sock")
    message, hint = fault(written(tmp_path, f'state_dir = "/s"\ncontrol_socket = "/{"x" * 107}"'))
    assert (message, hint) == (
        "FILE: control_socket: longer than 107 bytes",
        "choose a shorter path: this is the kernel's limit for sockets (unix(7))",
    )


def test_every_key_reaches_the_source(tmp_path: Path) -> None:
    """What the file says is what a sync gets."""
    found = load(written(tmp_path, WHOLE + AGES))
    assert found.state_dir == Path("/var/lib/syncd")
    assert found.sources["iwf"].interval == 600.0
    assert found.all_sources() == (
        SignedFeed(
            name="iwf",
            url="https://feed.example.org/",
            root=Path("/etc/syncd/iwf-root.json"),
            lists=("images", "videos"),  # type: ignore[arg-type]  # literals
            token_file=Path("/etc/syncd/iwf.token"),
            ca=Path("/etc/syncd/ca.pem"),
            client_cert=Path("/etc/syncd/iwf.pem"),
            client_key=Path("/etc/syncd/iwf.key"),
            proxy="http://proxy.example.org:3128/",
            redirects=("objects.example.org",),
            deadline=7200.0,
            caps=Caps(rows=5_000_000, length=1_000_000_000),
            ages=SourceAges(
                MaxAge(warn=7200, critical=86400), {ListName("videos"): MaxAge(warn=10800, critical=86400)}
            ),
        ),
    )


def test_the_time_for_which_answers_are_kept(tmp_path: Path) -> None:
    """It reaches the limits of what is kept."""
    file = tmp_path / "syncd.toml"
    file.write_text('state_dir = "/srv/syncd"\nevidence_retention = "1d"\n')
    assert load(file).retention_limits().answers == timedelta(days=1)


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    """A source needs a type, an address and a root."""
    found = load(written(tmp_path, f'state_dir = "/s"{SOURCE}'))
    ages = SourceAges(MaxAge(warn=3600, critical=25200))
    root = Path("/etc/syncd/iwf-root.json")
    assert found.source("iwf") == SignedFeed("iwf", "https://feed.example.org/", root, ages=ages)
    assert (found.sources["iwf"].interval, found.source("iwf").deadline) == (600.0, 600.0)


def test_a_source_without_a_type_is_a_signed_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the file and in the environment: it was the first type."""
    bare = SOURCE.replace('type = "feed"\n', "")
    assert "type" not in bare
    named = load(written(tmp_path, f'state_dir = "/s"{SOURCE}'))
    assert load(written(tmp_path, f'state_dir = "/s"{bare}')) == named
    monkeypatch.setenv("SYNCD_SOURCES__IWF__INTERVAL", "2h")
    assert load(written(tmp_path, f'state_dir = "/s"{bare}')).sources["iwf"].interval == 7200.0


def test_every_type_of_source_is_known_by_its_word() -> None:
    """Configuration, worker process and memory speak of the same kinds."""
    for word, table in TABLES.items():
        assert table.model_fields["type"].default == word
    kinds = get_args(get_args(AnyKind)[0])
    assert TABLES.keys() == {field.default for kind in kinds for field in fields(kind) if field.name == "type"}


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('statedir = "/s"', "FILE: statedir: unknown key", "did you mean state_dir?"),
        ("[gates]", "FILE: gates: unknown key", "did you mean gate?"),
        (f'{SOURCE}tokenfile = "/t"', "FILE: sources.iwf.tokenfile: unknown key", "did you mean token_file?"),
        (
            f"{SOURCE}[sources.iwf.judge]",
            "FILE: sources.iwf.judge: unknown key",
            "known keys: type, interval, deadline, lists, gate, max_age_warn, max_age_critical, ages, max_distance, "
            "distances, url, root, token_file, client_cert, client_key, ca, proxy, redirects, max_rows, max_bytes",
        ),
        (
            f'{SOURCE}interval = "1h"\nmax_age_warn = "90m"',
            "FILE: sources.iwf.max_age_warn: less than two intervals: no list could stay below it",
            LONGER,
        ),
        (
            f'{SOURCE}max_age_critical = "59m"',
            "FILE: sources.iwf.max_age_critical: less than max_age_warn",
            LONGER,
        ),
        (
            f'{SOURCE}max_age_critical = "2h"\n[sources.iwf.ages.images]\nmax_age_warn = "3h"',
            "FILE: sources.iwf.ages.images.max_age_critical: less than max_age_warn",
            LONGER,
        ),
        (
            f"{SOURCE}max_age_warn = 3600",
            "FILE: sources.iwf.max_age_warn: not a duration",
            'write a whole number and a unit, such as "90s", "10m", "2h" or "1d"',
        ),
        (
            f'{SOURCE}lists = ["images"]\n[sources.iwf.ages.image]',
            "FILE: sources.iwf.ages.image: not a list of this source",
            "did you mean images?",
        ),
        (
            f'{SOURCE}lists = ["images"]\ndistances = {{ image = 20 }}',
            "FILE: sources.iwf.distances.image: not a list of this source",
            "did you mean images?",
        ),
        (
            f"{SOURCE}max_distance = 64",
            "FILE: sources.iwf.max_distance: input should be less than or equal to 63",
            "see docs/configuration.md",
        ),
        (
            f'{SOURCE}[sources.iwf.ages."A B"]',
            "FILE: sources.iwf.ages.A B: not a list of this source",
            "write the list's name at the source",
        ),
        (
            f'{SOURCE}[sources.iwf.ages.images]\nmax_age = "2h"',
            "FILE: sources.iwf.ages.images.max_age: unknown key",
            "did you mean max_age_warn?",
        ),
        (
            '[sources.iwf]\ntype = "feed"\nurl = "https://x/"',
            "FILE: sources.iwf.root: missing",
            "set this key, which has no default; see docs/configuration.md",
        ),
        (
            SOURCE.replace('"feed"', '"pigeon"'),
            "FILE: sources.iwf.type: unknown type",
            KNOWN_TYPES,
        ),
        (
            f'{SOURCE}interval = "10"',
            "FILE: sources.iwf.interval: not a duration",
            'write a whole number and a unit, such as "90s", "10m", "2h" or "1d"',
        ),
        (
            f'{SOURCE}interval = "59s"',
            "FILE: sources.iwf.interval: shorter than a minute",
            'the shortest interval is "1m"',
        ),
        (
            f"{SOURCE}deadline = 600",
            "FILE: sources.iwf.deadline: not a duration",
            'write a whole number and a unit, such as "90s", "10m", "2h" or "1d"',
        ),
        (
            f'{SOURCE}lists = ["Images"]',
            "FILE: sources.iwf.lists.0: 'Images' is not a list name",
            "use at most 64 lower-case letters, digits, '.', '_' and '-', starting with a letter or digit",
        ),
        (
            f'{SOURCE}lists = ["{"l" * 61}"]',
            f"FILE: sources.iwf.lists: iwf.{'l' * 61} would have more than 64 characters",
            "give the source a shorter name",
        ),
        (
            SOURCE.replace("https", "http"),
            "FILE: sources.iwf.url: http:// to feed.example.org would send everything unencrypted",
            "use https://host/path/, http:// on this machine only, or file:///absolute/folder",
        ),
        (
            SOURCE.replace("/etc/syncd/iwf-root.json", "iwf-root.json"),
            "FILE: sources.iwf.root: not an absolute path",
            "write the whole path, beginning with /",
        ),
        (
            f'{SOURCE}client_key = "/k"',
            "FILE: sources.iwf.client_key: given without client_cert",
            "give both, or neither",
        ),
        (
            f"{SOURCE}max_rows = 0",
            "FILE: sources.iwf.max_rows: input should be greater than 0",
            "see docs/configuration.md",
        ),
        (
            SOURCE.replace("iwf]", '"i.w"]'),
            "FILE: sources.i.w: not a valid name for a source",
            "use at most 31 lower-case letters, digits, '-' and single '_', beginning with a letter or digit",
        ),
    ],
)
def test_a_fault_names_the_key_and_what_to_do(tmp_path: Path, text: str, message: str, hint: str) -> None:
    """File, key, what is wrong, and the next step."""
    head = "" if "state" in text else 'state_dir = "/s"\n'
    assert fault(written(tmp_path, head + text)) == (message, hint)


def test_a_file_that_is_not_toml_is_told_by_line_without_its_text(tmp_path: Path) -> None:
    """The text might be a secret pasted by mistake."""
    file = written(tmp_path, 'state_dir = "/s"\nhunter2\n')
    assert fault(file) == (
        "FILE is not TOML: a fault at line 2, column 8",
        "see https://toml.io for the syntax",
    )


def test_a_password_in_an_address_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """Secrets are in files of their own."""
    file = written(tmp_path, f'state_dir = "/s"{SOURCE}'.replace("https://", "https://me:hunter2@"))
    assert fault(file) == (
        "FILE: sources.iwf.url: the address holds a user name or password",
        "put the secret in the token file instead",
    )


def test_the_environment_overrides_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key of a source has its variable, and the environment wins."""
    file = written(tmp_path, WHOLE)
    changed = {
        "type": "feed",
        "url": "https://other.example.org/",
        "root": "/o/root.json",
        "interval": "1h",
        "lists": "images, audio",
        "token_file": "/o/token",
        "client_cert": "/o/cert",
        "client_key": "/o/key",
        "ca": "/o/ca",
        "proxy": "http://10.0.0.1:8080/",
        "redirects": "objects.example.org, 10.0.0.2:9000",
        "deadline": "30s",
        "max_rows": "7",
        "max_bytes": "8",
        "max_age_warn": "2h",
        "max_age_critical": "1d",
        "ages": '{"images": {"max_age_warn": "3h"}}',
        "max_distance": "31",
        "distances": '{"images": 20}',
    }
    assert changed.keys() == FeedSource.model_fields.keys() - {"gate"}
    monkeypatch.setenv("SYNCD_STATE_DIR", "/o/state")
    for key, value in changed.items():
        monkeypatch.setenv(f"SYNCD_SOURCES__IWF__{key.upper()}", value)
    monkeypatch.setenv("SYNCD_SOURCES__IWF__GATE__MIN_ROWS", "9")
    found = load(file)
    assert found.state_dir == Path("/o/state")
    tables = {"ages": {"images": {"max_age_warn": "3h"}}, "gate": {"min_rows": 9}, "distances": {"images": 20}}
    wanted = {**changed, "max_rows": 7, "max_bytes": 8, "max_distance": 31, **tables}
    assert found.sources["iwf"] == FeedSource.model_validate(wanted)
    assert found.sources["iwf"].lists == ("images", "audio")


@pytest.mark.parametrize(
    ("gate", "key"),
    [
        ("max_rows = 5\nmin_rows = 10", "max_rows"),
        ("max_rows = 0", "max_rows"),
        ("min_rows = 10\n[sources.iwf.gate.lists.images]\nmax_rows = 5", "lists.images.max_rows"),
        ("[sources.iwf.gate.algorithms.pdq]\nmax_rows = 5\nmin_rows = 6", "algorithms.pdq.max_rows"),
        ("[sources.iwf.gate.labels.A1]\nmax_rows = 5\nmin_rows = 6", "labels.A1.max_rows"),
    ],
)
def test_a_limit_that_no_list_can_meet_is_refused(tmp_path: Path, gate: str, key: str) -> None:
    """Before it holds every change."""
    with pytest.raises(ConfigError, match=rf"sources\.iwf\.gate\.{re.escape(key)}: . is too small") as refused:
        load(written(tmp_path, f"{WHOLE}\n[sources.iwf.gate]\n{gate}\n"))
    assert refused.value.hint == "raise it, or lower min_rows"


def test_one_variable_changes_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the source stays as the file has it; JSON is understood for lists."""
    monkeypatch.setenv("SYNCD_SOURCES__IWF__LISTS", '["videos"]')
    found = load(written(tmp_path, WHOLE)).sources["iwf"]
    assert (found.lists, found.url) == (("videos",), "https://feed.example.org/")


def test_a_misspelt_variable_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would be ignored, and nobody would know."""
    monkeypatch.setenv("SYNCD_STATEDIR", "/s")
    assert fault(written(tmp_path, WHOLE)) == ("unknown variable SYNCD_STATEDIR", "did you mean SYNCD_STATE_DIR?")


@pytest.mark.parametrize(
    ("variable", "value", "message", "hint"),
    [
        ("SYNCD_SOURCES__IWF__URLL", "x", "SYNCD_SOURCES__IWF__URLL: unknown key", "did you mean url?"),
        ("SYNCD_SOURCES__IWF__TYPE", "pigeon", "SYNCD_SOURCES__IWF__TYPE: unknown type", KNOWN_TYPES),
        ("SYNCD_SOURCES__IWF__INTERVAL", "5s", "SYNCD_SOURCES__IWF__INTERVAL: shorter than a minute", ""),
        ("SYNCD_STATE_DIR", "state", "SYNCD_STATE_DIR: not an absolute path", "write the whole path, beginning with /"),
    ],
)
def test_a_fault_in_a_variable_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str, hint: str
) -> None:
    """Not the file, which is innocent."""
    monkeypatch.setenv(variable, value)
    found = fault(written(tmp_path, WHOLE))
    assert found[0] == message
    assert not hint or found[1] == hint


def test_the_file_is_the_named_one_then_the_variables_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--config wins over SYNCD_CONFIG, and that over /etc."""
    files = [tmp_path / name for name in ("named", "variable", "default")]
    for file in files:
        file.write_text(f'state_dir = "/{file.name}"')
    assert Path("/etc/syncd/syncd.toml") == DEFAULT_FILE
    monkeypatch.setattr(config_file, "DEFAULT_FILE", files[2])
    assert load().state_dir == Path("/default")
    monkeypatch.setenv("SYNCD_CONFIG", str(files[1]))
    assert load().state_dir == Path("/variable")
    assert load(files[0]).state_dir == Path("/named")


def test_a_named_file_must_exist_and_the_default_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may say everything by environment."""
    absent = tmp_path / "absent"
    monkeypatch.setattr(config_file, "DEFAULT_FILE", absent)
    assert fault(absent) == ("FILE does not exist", "name the file with --config, or in SYNCD_CONFIG")
    assert fault(None) == (
        f"there is no configuration: {absent} does not exist",
        "create it, or name another file with --config or SYNCD_CONFIG",
    )
    monkeypatch.setenv("SYNCD_STATE_DIR", "/s")
    assert load() == Config(state_dir=Path("/s"))


def test_an_unknown_source_names_the_nearest(tmp_path: Path) -> None:
    """`syncd sync iwff` tells what was meant."""
    with pytest.raises(UsageError) as caught:
        load(written(tmp_path, WHOLE)).source("iwff")
    assert (caught.value.message, caught.value.hint) == ("no source 'iwff' is configured", "did you mean iwf?")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1s", 1.0), ("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("1d", 86400.0)]
)
def test_durations_are_a_number_and_a_unit(text: str, seconds: float) -> None:
    """In seconds, minutes, hours or days."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "m", "0m", "-1m", "1.5h", "10 m", "10min", "1h30m", "\u0661m", "9999999999s", None, 10]
)
def test_everything_else_is_no_duration(text: object) -> None:
    """Nothing is guessed."""
    with pytest.raises(UsageError, match="not a duration"):
        parse_duration(text)


SERVE = """
state_dir = "/s"
[serve]
listen = "127.0.0.1:8470"
"""


def test_what_is_served_has_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without [serve] there is none; limits are as documented; the environment overrides."""
    assert load(written(tmp_path, 'state_dir = "/s"')).serve is None
    serve = load(written(tmp_path, SERVE)).serve
    assert serve
    assert (serve.max_connections, serve.max_streams, serve.behind_proxy) == (4096, 2000, False)
    monkeypatch.setenv("SYNCD_SERVE__LISTEN", "unix:/run/syncd/http.sock")
    serve = load(written(tmp_path, SERVE)).serve
    assert serve
    assert serve.address.path == Path("/run/syncd/http.sock")


@pytest.mark.parametrize(
    ("listen", "more", "key"),
    [
        ("0.0.0.0:80", "", "listen"),
        ("[::]:80", "", "listen"),
        ("syncd.example:80", "", "listen"),
        ("nonsense", "", "listen"),
        ("127.0.0.1:99999", "", "listen"),
        ("::1:80", "", "listen"),
        ("unix:relative", "", "listen"),
        (f"unix:/{'x' * 107}", "", "listen"),
        ("127.0.0.1:1", 'tls_key = "/k"', "tls_key"),
        ("127.0.0.1:1", 'client_ca = "/k"', "client_ca"),
        ("127.0.0.1:1", "max_stream = 1", "max_stream"),
        ("127.0.0.1:1", "max_streams = 0", "max_streams"),
        ("0.0.0.0:80", 'tls_cert = "/c"', ""),
        ("0.0.0.0:80", "behind_proxy = true", ""),
        ("[::1]:80", "", ""),
        ("localhost:80", "", ""),
    ],
)
def test_what_is_served_beyond_this_machine_is_encrypted(tmp_path: Path, listen: str, more: str, key: str) -> None:
    """Or a proxy does it, which must be said; every fault names its key and what to do."""
    file = written(tmp_path, f'state_dir = "/s"\n[serve]\nlisten = "{listen}"\n{more}\n')
    if not key:
        assert load(file).serve
        return
    message, hint = fault(file)
    assert message.startswith(f"FILE: serve.{key}: ")
    assert hint


@given(st.from_regex(settings._PLAIN_ADDRESS, fullmatch=True))
def test_an_address_that_is_not_looked_at_closely_is_one(url: str) -> None:
    """Whatever is plainly an address may be fetched from, and is the same where it is used."""
    assert Endpoint(url).url == url.rstrip("/") + "/"


@pytest.mark.parametrize(
    "url",
    [
        "https://feed.example.org/",
        "https://h:64999",
        "http://127.0.0.1:8470/feed/",
        "http://[::1]:43210/",
        "file:///srv/f",
    ],
)
def test_a_usual_address_is_plain(url: str) -> None:
    """Or every command would load what fetches."""
    assert settings._PLAIN_ADDRESS.fullmatch(url)


SECRET = """
state_dir = "/s"

[sources.iwf]
type = "feed"
url = "https://feed.example.org/"
root = "/etc/syncd/iwf-root.json"
token_file = "{0}/token"
client_cert = "{0}/client.pem"
client_key = "{0}/client.key"

[serve]
listen = "127.0.0.1:8470"
tls_cert = "{0}/tls.pem"
tls_key = "{0}/tls.key"
operator_token_file = "{0}/operator"
metrics_token_file = "{0}/metrics"
"""
SECRETS = {
    "token": "sources.iwf.token_file",
    "client.key": "sources.iwf.client_key",
    "tls.key": "serve.tls_key",
    "operator": "serve.operator_token_file",
    "metrics": "serve.metrics_token_file",
}


def secrets(folder: Path) -> Path:
    """The files that `SECRET` names, of modes as they should be, and it."""
    for name in (*SECRETS, "client.pem", "tls.pem"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644 if name.endswith(".pem") else 0o600)
    return written(folder, SECRET.format(folder))


@pytest.mark.parametrize(("name", "key"), SECRETS.items())
@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644])
def test_a_secret_that_is_open_to_everybody_is_refused(tmp_path: Path, name: str, key: str, mode: int) -> None:
    """Tokens and private keys alike, whatever command reads the configuration; a certificate is no secret."""
    file = secrets(tmp_path)
    assert load(file).serve
    (tmp_path / name).chmod(mode)
    assert fault(file) == (
        f"FILE: {key}: {tmp_path / name} is open to every user of this machine (mode {mode:04o})",
        f"run `chmod o= {tmp_path / name}`, and replace the secret in it: others may have read it",
    )


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640, 0o660])
def test_a_secret_may_be_shared_with_a_group(tmp_path: Path, mode: int) -> None:
    """Credentials of systemd are 0400 or 0440, and a token may be for a service's group: of an ACL the mode shows the
    mask only (acl(5)), and who may write it could read it anyway."""
    file = secrets(tmp_path)
    for name in SECRETS:
        (tmp_path / name).chmod(mode)
    assert load(file).serve


@pytest.mark.parametrize(
    ("left_out", "key"), [("client_key", "sources.iwf.client_cert"), ("tls_key", "serve.tls_cert")]
)
def test_a_certificate_that_holds_its_key_is_a_secret(tmp_path: Path, left_out: str, key: str) -> None:
    """As it does where no other file is named for the key."""
    file = secrets(tmp_path)
    text = file.read_text()
    file.write_text("\n".join(line for line in text.splitlines() if not line.startswith(left_out)))
    message, _ = fault(file)
    assert message.startswith(f"FILE: {key}: ")
    (tmp_path / f"{'client' if left_out == 'client_key' else 'tls'}.pem").chmod(0o600)
    assert load(file).serve


def test_a_secret_that_a_variable_names_is_told_by_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that says otherwise is innocent."""
    file = secrets(tmp_path)
    (tmp_path / "other").write_text("x")
    (tmp_path / "other").chmod(0o644)
    monkeypatch.setenv("SYNCD_SERVE__OPERATOR_TOKEN_FILE", str(tmp_path / "other"))
    message, _ = fault(file)
    assert message.startswith("SYNCD_SERVE__OPERATOR_TOKEN_FILE: ")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('state_dir = "/a\\u0000"', "state_dir"),
        ('state_dir = "/s"\ncontrol_socket = "/a\\u0000"', "control_socket"),
        (f'state_dir = "/s"\n{SOURCE}token_file = "/a\\u0000"', "sources.iwf.token_file"),
    ],
)
def test_a_path_that_no_file_can_have_is_refused(tmp_path: Path, text: str, key: str) -> None:
    """Python would fail at it in the midst of the work, and the daemon at a reload."""
    assert fault(written(tmp_path, text)) == (
        f"FILE: {key}: contains a NUL character",
        "remove it: no file can have such a name",
    )


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{a=" * 20_000])
def test_a_file_that_is_nested_too_deeply_is_an_error_as_others(tmp_path: Path, text: str) -> None:
    """Not a bug, and no end of a daemon that is told to read it again."""
    message, hint = fault(written(tmp_path, text))
    assert message.startswith("FILE is not TOML: ")
    assert hint == "see https://toml.io for the syntax"


@pytest.mark.parametrize("key", ["interval", "deadline"])
def test_a_duration_has_an_end(tmp_path: Path, key: str) -> None:
    """So that every time that is computed of it is one."""
    found = load(written(tmp_path, f'state_dir = "/s"\n{SOURCE}{key} = "366d"')).sources["iwf"]
    assert getattr(found, key) == 366 * 86400.0
    message, hint = fault(written(tmp_path, f'state_dir = "/s"\n{SOURCE}{key} = "367d"'))
    assert (message, hint) == (f"FILE: sources.iwf.{key}: longer than a year", 'the longest is "366d"')
