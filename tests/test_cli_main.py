import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import syncd
from syncd import __version__
from syncd.cli.commands import OF_FEED, OF_PROGRAM
from syncd.cli.main import _DAEMON_PACKAGES
from syncd.cli.output import clean
from syncd.errors import EquivocationError, MismatchError, SyncdError, TrustError, worst_error
from syncd.fetch.peer import UnreachableError
from syncd.outcomes import worst_code

ENVIRONMENT = {**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": ""}


def shell(*arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run the program itself."""
    return subprocess.run(
        [sys.executable, "-m", "syncd.cli", *arguments],
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **changes},
        timeout=60,
        check=False,
    )


def fail_with(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("syncd.cli.arguments.root", raises)


PULL = ("pull", "https://x.example/", "--root", "r", "--dir", "d")


def test_an_error_says_what_happened_what_is_served_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this shape, on standard error, with the error's own exit code."""
    fail_with(TrustError("it is forged", hint="call them", serving="images version 3"), monkeypatch)
    ran = syncd(*PULL)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == "error: it is forged\n  still served: images version 3\n  to do: call them\n"


def test_an_error_says_no_more_than_there_is_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty lines are left out."""
    fail_with(SyncdError("no answer"), monkeypatch)
    ran = syncd(*PULL)
    assert (ran.code, ran.out, ran.err) == (1, "", "error: no answer\n")


def test_with_json_an_error_is_the_document(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts read one document on standard output, whatever happens."""
    fail_with(TrustError("it is forged", hint="call them", serving="images version 3"), monkeypatch)
    ran = syncd(*PULL, "--json")
    assert (ran.code, ran.err) == (4, "")
    assert ran.json == {
        "error": {
            "kind": "TrustError",
            "message": "it is forged",
            "still_served": "images version 3",
            "to_do": "call them",
            "exit_code": 4,
        }
    }


def test_an_unexpected_exception_shows_neither_traceback_nor_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words may hold a digest."""
    fail_with(KeyError("d41d8cd98f00b204e9800998ecf8427e"), monkeypatch)
    monkeypatch.delenv("SYNCD_DEBUG", raising=False)
    ran = syncd(*PULL)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error: internal error (KeyError)\n  to do: a bug in syncd: run it again with SYNCD_DEBUG=1, remove secrets "
        "from the output, and report it\n"
    )


def test_a_developer_gets_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With SYNCD_DEBUG=1, and only then."""
    fail_with(KeyError("k"), monkeypatch)
    monkeypatch.setenv("SYNCD_DEBUG", "1")
    ran = syncd(*PULL)
    assert ran.code == 1
    assert "Traceback (most recent call last)" in ran.err
    assert ran.err.endswith("and report it\n")


def test_a_full_disk_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is met."""
    fail_with(OSError(errno.ENOSPC, "No space left on device", "/srv/x"), monkeypatch)
    ran = syncd(*PULL)
    assert ran.code == 1
    assert ran.err.startswith(
        "error: cannot use /srv/x: No space left on device\n  to do: free disk space, then run the command again"
    )


def test_help_needs_no_package_of_the_daemon() -> None:
    """The help of every command is shown on a host with the light installation."""
    commands = [*OF_PROGRAM, *(f"feed {name}" for name in OF_FEED), "audit verify", "matchers add"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({sorted(_DAEMON_PACKAGES)}))\n"
        "from syncd.cli.main import main\n"
        f"for command in {commands}: print(command, main([*command.split(), '--help']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert ran.stderr == ""
    assert [command for command in commands if f"{command} 0\n" not in ran.stdout] == []


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A matcher's host has the light installation."""
    fail_with(ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn"), monkeypatch)
    ran = syncd(*PULL)
    assert (ran.code, ran.err) == (
        2,
        "error: this command needs the package uvicorn\n  to do: install it: pip install 'syncd[daemon]'\n",
    )


def test_ctrl_c_ends_with_130_and_says_what_is_left_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As shells expect; each command in its own words."""
    fail_with(KeyboardInterrupt(), monkeypatch)
    ran = syncd(*PULL)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == (
        "interrupted: the copy stays at its versions; files that were fetched are kept, and the next pull continues "
        "from there\n"
    )
    assert syncd("verify", "d", "--root", "r").err == "interrupted: nothing was changed\n"
    sayings = {place.interrupted for places in (OF_FEED, OF_PROGRAM) for place in places.values()}
    assert len(sayings) == 10


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("pull",), "Missing argument 'URL'.", "see `syncd pull --help`"),
        (("lookup",), "Missing argument '[DIR] ALG:DIGEST...'.", "see `syncd lookup --help`"),
        (("feed", "init", "f"), "Missing option '--offline-keys'.", "see `syncd feed init --help`"),
        (("status", "--jsn"), "No such option: --jsn (Possible options: --json)", "see `syncd status --help`"),
    ],
)
def test_a_wrong_command_line_names_the_help(arguments: tuple[str, ...], message: str, hint: str) -> None:
    """Exit code 2, in the same shape as every error."""
    ran = syncd(*arguments)
    assert (ran.code, ran.out, ran.err) == (2, "", f"error: {message}\n  to do: {hint}\n")


def test_version_and_help_are_results() -> None:
    """On standard output, with success; without a command there is the help."""
    assert (syncd("--version").code, syncd("--version").out) == (0, "syncd 0.1.0\n")
    for arguments in ((), ("--help",), ("-h",)):
        ran = syncd(*arguments)
        assert (ran.code, ran.err) == (0, "")
        assert "Exit codes of every command:" in ran.out
    assert syncd("feed").out == syncd("feed", "--help").out


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [  # typer itself loads pydantic to parse the name of a command
        (["--help"], []),
        (["feed", "--help"], ["pydantic"]),
        (["statsu"], ["pydantic"]),
        (["feed", "publsh"], ["pydantic"]),
    ],
)
def test_help_loads_no_command(arguments: list[str], heavy: list[str]) -> None:
    """Nor the packages that commands need: that keeps start-up quick. An unknown command loads none either."""
    code = (
        f"import sys, syncd.cli.main as m; m.main({arguments}); heavy = {{'numpy', 'pyarrow', 'httpx', 'sqlalchemy', "
        "'tuf', 'pydantic', 'uvicorn', 'starlette', 'rich'} & set(sys.modules); "
        "ours = {name for name in sys.modules if name.startswith('syncd.cli.')}; "
        "print('loaded:', sorted(heavy), sorted(ours))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.endswith(f"loaded: {heavy} ['syncd.cli.commands', 'syncd.cli.main', 'syncd.cli.output']\n")


def test_publishing_loads_no_server_and_serving_no_publisher() -> None:
    """Commands of a group load what they need, not what the others need."""
    code = (
        "import sys; from syncd.cli.main import main; main({}); "
        "print('', *sorted({{'uvicorn', 'pyarrow', 'sqlalchemy'}} & set(sys.modules)))"
    )
    loaded = {}
    for command, rest in (
        ("publish", ["--help"]),
        ("serve", ["nowhere", "--listen", "[::1]:0"]),
        ("status", ["--help"]),
    ):
        run = [sys.executable, "-c", code.format(["feed", command, *rest])]
        ran = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
        loaded[command] = ran.stdout.splitlines()[-1].split()
    assert loaded == {"publish": ["pyarrow"], "serve": ["uvicorn"], "status": []}


def processor_seconds(*arguments: str) -> float:
    """What one run takes of the processor."""
    before = os.times()
    shell(*arguments)
    after = os.times()
    return (after.children_user + after.children_system) - (before.children_user + before.children_system)


def test_help_is_quick() -> None:
    """Under 0.3 s of processor time; the best of five runs, since others on the machine slow each one down."""
    assert min(processor_seconds("--help") for _ in range(5)) < 0.3


@pytest.mark.parametrize("arguments", [("--help",), ("version",)])
def test_a_reader_that_has_gone_ends_the_command_quietly(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """As `syncd ... | head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), err) == (1, b"")


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets none, nor does anybody with NO_COLOR."""
    assert "\x1b" not in shell("status", "--config", "/nowhere").stderr
    assert "\x1b[1;31merror\x1b[0m: /nowhere does not exist" in on_terminal("status", "--config", "/nowhere")
    assert "\x1b" not in on_terminal("status", "--config", "/nowhere", NO_COLOR="1")


def on_terminal(*arguments: str, **changes: str) -> str:
    """Run the program on a terminal and return what it showed."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "syncd.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**ENVIRONMENT, "TERM": "xterm", **changes},
    )
    os.close(theirs)
    process.wait(30)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    return shown


def test_what_a_partner_wrote_cannot_steer_the_terminal() -> None:
    """Control characters are shown, not obeyed."""
    assert clean("a\x1b[2Jb\x9b\r\ntail é") == "a\\x1b[2Jb\\x9b\\x0d\\x0atail é"


@pytest.mark.parametrize(
    ("codes", "worst"),
    [([], 0), ([0, 5], 5), ([5, 6], 6), ([6, 3], 3), ([3, 4], 4), ([4, 1], 1), ([0, 2], 0), ([2], 2)],
)
def test_of_several_exit_codes_the_worst_stands(codes: list[int], worst: int) -> None:
    """The first of 1, 4, 3, 6, 5, 0."""
    assert worst_code(codes) == worst


def test_the_worst_error_is_heard_first() -> None:
    """A feed that was signed twice before anything else, then by exit code; nothing where nothing went wrong."""
    far, bad, twice = UnreachableError("far"), MismatchError("bad"), EquivocationError("twice")
    assert worst_error([far, bad, twice]) is twice
    assert worst_error([far, bad]) is bad
    assert worst_error([]) is None


def test_versions_are_printed_for_people_and_programs() -> None:
    """Of the program, of the format of published files, and of Python."""
    assert syncd("version").out.splitlines()[:2] == [f"syncd {__version__}", "format 1"]
    assert syncd("version", "--json").json == {
        "syncd": __version__,
        "format": 1,
        "python": platform.python_version(),
    }


def test_set_up_reports_in_json(tmp_path: Path) -> None:
    """A partner's and an operator's: where everything is."""
    feed = syncd("feed", "init", tmp_path / "feed", "--offline-keys", tmp_path / "off", "--json").json
    assert feed == {
        "feed": str(tmp_path / "feed"),
        "root": str(tmp_path / "feed" / "root.json"),
        "offline_keys": [str(tmp_path / "off")],
        "on_system_disk": True,
        "online_keys": str(tmp_path / "feed.keys"),
    }
    renewed = syncd("feed", "renew", tmp_path / "feed", "--offline-keys", tmp_path / "off", "--json").json
    assert sorted(renewed["expires"]) == ["root", "targets"]
    rotated = syncd("feed", "rotate", tmp_path / "feed", "timestamp", "--offline-keys", tmp_path / "off", "--json").json
    assert (rotated["role"], rotated["keys"], rotated["threshold"]) == ("timestamp", 1, 1)
    assert [Path(path).parent for path in rotated["created"]] == [tmp_path / "feed.keys"]
    state = syncd("init", "--state-dir", tmp_path / "state", "--offline-keys", tmp_path / "off2", "--json").json
    assert state == {
        "state_dir": str(tmp_path / "state"),
        "feed": str(tmp_path / "state" / "feed"),
        "root": str(tmp_path / "state" / "feed" / "root.json"),
        "offline_keys": [str(tmp_path / "off2")],
        "on_system_disk": True,
    }
