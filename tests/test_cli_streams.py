"""Where a shell points the standard streams, and what the user may read: real processes."""

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from command_line import settings
from syncd.model import ListName
from world import Clock, World, row

SYNCD = f"{shlex.quote(sys.executable)} -m syncd.cli"
AS_NOBODY = """
import contextlib, importlib, io, os, pkgutil, sys
import syncd
from syncd.cli.main import main
# All that may be imported, and a run that ends as the one below does, for what is loaded late: where the clone lies
# below a folder of its owner's alone, nothing can be read once this is somebody else.
for found in pkgutil.walk_packages(syncd.__path__, "syncd."):
    if not found.name.endswith("__main__") and ".migrations" not in found.name:  # those run when imported
        importlib.import_module(found.name)
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    main(["lookup", "/nowhere", "md5:" + "0" * 32])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
sys.exit(main(sys.argv[1:]))
"""


def shell(line: str, cwd: Path, stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which ``syncd`` is the program."""
    return subprocess.run(
        ["/bin/sh", "-c", line.replace("syncd ", f"{SYNCD} ")],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        timeout=60,
        check=False,
    )


@pytest.fixture
def copied(standing: World) -> World:
    """A pulled copy, seen with the real clock; and a file."""
    (standing.base / "file").write_bytes(b"x")
    return standing


FULL = (
    "error: cannot write the output: No space left on device\n"
    "  to do: the output is incomplete: run the command again\n"
)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "line",
    [
        "syncd match copy file --json",
        "syncd match copy file",
        "syncd lookup nowhere md5:00 --json",
        "syncd --help",
        "syncd feed status partner",
    ],
)
def test_a_full_disk_under_the_output_is_told(
    copied: World, line: str, unbuffered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, with exit code 1, and no traceback."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    ran = shell(f"{line} > /dev/full", copied.base)
    assert (ran.returncode, ran.stderr.removeprefix(warnings(ran.stderr))) == (1, FULL)


def warnings(text: str) -> str:
    """The warnings at the beginning: the standing copy is old."""
    return "".join(line for line in text.splitlines(keepends=True) if line.startswith("warning: "))


def test_a_closed_output_is_as_none(copied: World) -> None:
    """The exit code says all: 10, nothing matched."""
    ran = shell("syncd match copy file >&-", copied.base)
    assert (ran.returncode, ran.stderr.removeprefix(warnings(ran.stderr))) == (10, "")
    assert shell("syncd match copy file >&- 2>&-", copied.base).returncode == 10
    assert shell("syncd match copy file 2> /dev/full", copied.base).stdout == "file  no match\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1:strict"])
def test_a_terminal_that_lacks_a_character_hides_no_hit(world: World, encoding: str) -> None:
    """Labels and file names of another script are escaped; the files that come after are answered, too."""
    world.publish(full=[("md5", hashlib.md5(b"x").hexdigest(), "e1", "日本")])
    assert not world.follow().errors
    for name in ("日.jpg", "zz.jpg"):
        (world.base / name).write_bytes(b"x")
    ran = shell(f"PYTHONIOENCODING={encoding} syncd match mirror 日.jpg zz.jpg 日", world.base)
    assert ran.returncode == 2
    assert ran.stdout == "".join(
        f"{name}  MATCH images version 1  md5  label \\u65e5\\u672c  entry e1\n" for name in ("\\u65e5.jpg", "zz.jpg")
    )
    assert "cannot read \\u65e5: No such file or directory" in ran.stderr


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> World:
    """An operator of today whose list has labels of other scripts: version 1, version 2, and a list that is new."""
    world = World(tmp_path_factory.mktemp("foreign"), Clock(datetime.now(UTC)))
    world.publish(full=[row(1, "日本"), row(2, "é")])
    assert world.sync().exit_code == 0
    world.publish(add=[row(3, "日本")], remove=[row(2)])
    assert world.sync().exit_code == 0
    assert not world.pull().errors
    world.publish(full=[row(4, "日本"), row(5, "plain")], name=ListName("videos"))
    (world.base / "syncd.toml").write_text(settings(world))
    return world


HITS = [f"{row(number)[1]}  MATCH iwf.images version 2  label \\u65e5\\u672c  entry e{number}" for number in (1, 3)]


@pytest.mark.parametrize("setting", ["PYTHONIOENCODING=ascii", "LC_ALL=C PYTHONCOERCECLOCALE=0 PYTHONUTF8=0"])
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (f"lookup sha256:{row(1)[1]} sha256:{row(3)[1]}", HITS),
        (f"lookup copy sha256:{row(1)[1]} sha256:{row(3)[1]}", HITS),
        (
            "diff iwf.images 1 2",
            ["sha256     \\xe9              0        1", "sha256     \\u65e5\\u672c      1        0"],
        ),
        (
            "sync --dry-run",
            ["iwf.videos  sha256     plain             1", "iwf.videos  sha256     \\u65e5\\u672c      1"],
        ),
    ],
    ids=["lookup", "lookup in a copy", "diff", "sync --dry-run"],
)
def test_a_label_that_the_terminal_lacks_is_escaped(foreign: World, setting: str, line: str, shown: list[str]) -> None:
    """The command ends well, and the lines after it are shown."""
    ran = shell(f"export SYNCD_CONFIG=syncd.toml {setting}; syncd {line}", foreign.base)
    assert ran.returncode == 0, ran
    assert [text for text in shown if text not in ran.stdout] == []


def test_a_closed_input_holds_no_digest(copied: World) -> None:
    """As an empty one."""
    ran = shell("syncd lookup copy - <&-", copied.base)
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (2, "error: no digest was given: standard input is empty")


def test_an_input_that_is_no_text_is_told(copied: World) -> None:
    """No traceback, and nothing of it is repeated."""
    ran = shell("printf '\\377\\376' | PYTHONIOENCODING=utf-8:strict syncd lookup copy -", copied.base)
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (2, "error: standard input is not text")


def test_a_configuration_that_is_a_folder_is_a_configuration_error(tmp_path: Path) -> None:
    """Exit code 2, as of everything that is wrong with it."""
    ran = shell(f"SYNCD_CONFIG={tmp_path} syncd status", tmp_path)
    assert (ran.returncode, ran.stderr) == (
        2,
        f"error: cannot read {tmp_path}: Is a directory\n"
        "  to do: name a readable file with --config, or in SYNCD_CONFIG\n",
    )


@pytest.fixture
def private(copied: World) -> Iterator[Path]:
    """A folder that all may enter, with a copy that only its owner may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(copied.copy, folder / "copy")
        (folder / "copy").chmod(0o700 if os.geteuid() == 0 else 0)
        yield folder
        (folder / "copy").chmod(0o700)


@pytest.mark.parametrize("line", [f"lookup copy md5:{'0' * 32}", "match copy /bin/ls", "verify copy"])
def test_a_copy_that_the_user_may_not_read_is_refused(private: Path, line: str) -> None:
    """Exit code 6, and whom to run it as."""
    ran = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, *line.split()],
        capture_output=True,
        text=True,
        cwd=private,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (6, "")
    assert ran.stderr == (
        "error: cannot read copy/current.json: Permission denied\n  to do: run as a user that may read all of copy\n"
    )


@pytest.mark.parametrize("more", ["", " --json"])
def test_a_token_that_could_not_be_shown_is_told_as_lost(tmp_path: Path, more: str) -> None:
    """On a full disk, or to a reader that has gone: the matcher is added by then, and its token is kept nowhere."""
    own = f"SYNCD_STATE_DIR={tmp_path}/state"
    assert shell(f"{own} syncd init --offline-keys off", tmp_path).returncode == 0
    full = shell(f"{own} syncd matchers add web{more} >/dev/full", tmp_path)
    read, write = os.pipe()
    os.close(read)
    gone = shell(f"{own} syncd matchers add mail{more}", tmp_path, write)
    os.close(write)
    assert (full.returncode, gone.returncode) == (1, 1)
    assert full.stderr == (
        "error: cannot write the output: No space left on device; web was added\n"
        "  to do: its token is lost: `syncd matchers revoke web`, then add it again\n"
    )
    assert gone.stderr == (
        "error: nobody reads the output; mail was added\n"
        "  to do: its token is lost: `syncd matchers revoke mail`, then add it again\n"
    )
