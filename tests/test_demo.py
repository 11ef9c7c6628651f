"""The demo is the first thing that anybody runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from demo.environments import missing_tools

PROJECT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One run of the demo, kept."""
    folder = tmp_path_factory.mktemp("demo") / "kept"
    done = demo("--keep", "--dir", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder, done.stdout


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo", *arguments]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)


def test_the_demo_tells_the_whole_road(shown: tuple[Path, str]) -> None:
    """Publish, sync, pull, recognise, change, and four attacks refused by name, on 30,000 real hashes or more.

    Lines fit a terminal, except those with paths.
    """
    _, told = shown
    found = re.search(r"published  images version 1: (.*)", told)
    assert found is not None
    counts = {name: int(number.replace(",", "")) for number, name in re.findall(r"(\d[\d,]*) (\w+)", found[1])}
    assert counts["md5"] + counts["sha256"] >= 30_000
    assert "ms from the partner's publish to the matcher's answer" in told
    refused = re.findall(r"refused  (\w+), exit code [45]", told)
    assert refused == ["MismatchError", "StaleMirrorError", "TrustError", "ExpiredError"]
    assert told.count("still served  partner.images version") == 4
    assert [line for line in told.splitlines() if len(line) > 80 and "/" not in line] == []


@pytest.mark.skipif(bool(missing_tools()), reason=f"PDQ cannot be built without {' and '.join(missing_tools())}")
def test_the_demo_recognises_an_altered_picture(shown: tuple[Path, str]) -> None:
    """Cropped, scaled and encoded again, it has other bytes and another PDQ, a few bits from the listed one."""
    folder, told = shown
    assert re.search(r"altered  picture-000.png: cropped, scaled, saved again as JPEG\n +not on it  altered.jpg", told)
    distance = re.search(r"near  altered.jpg: (\d+) of 256 bits from the listed picture", told)
    assert distance is not None
    assert 0 < int(distance[1]) <= 31
    assert (folder / "pictures" / "altered.jpg").read_bytes().startswith(b"\xff\xd8")


def test_the_demo_withdraws_a_hash_of_a_partner_that_signs_nothing(shown: tuple[Path, str]) -> None:
    """It was on the list at the matcher, and is gone after the next sync and pull."""
    folder, told = shown
    found = re.search(
        r"fetched  400 rows of made-up hashes in 3 pages, for review\n"
        r" +on the list  stopncii.images version 1, label Received: one of the images\n"
        r" +withdrawn  by the partner: the next sync removes 1 row\n"
        r" +not on it  stopncii.images version 2: the same image\n"
        r" +in all  \d+ ms",
        told,
    )
    assert found is not None, told
    assert 'type = "stopncii"' in (folder / "syncd.toml").read_text()


NOT_BUILT = """
import sys
from demo import environments
from demo.near import AlteredPicture
from pathlib import Path
def run(command, failed):
    if "--no-build-isolation" in command:
        raise environments.NotBuiltError(failed)
    return ""
environments._run = run
environments.missing_tools = lambda: ["a C++ compiler (g++)"]
sys.prefix = sys.argv[1]
print(AlteredPicture(Path(sys.argv[1], "pictures")).recognise(None), AlteredPicture(Path("none")).listed)
"""


def test_without_a_compiler_the_demo_says_that_it_shows_no_altered_picture(tmp_path: Path) -> None:
    """It goes on with the rest, and tries again the next time."""
    command = [sys.executable, "-c", NOT_BUILT, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "[('not shown', 'it needs pdqhash, the public PDQ: this machine lacks a C++ compiler (g++)')] []\n"
    )


LITTLE_SOFTWARE = """
import sys
from pathlib import Path
from demo import __main__ as demo, data
data.DPKG = Path("none")
data._python_records = tuple
data._FOLDERS = ["syncd", "tests"]
sys.exit(demo.main())
"""


def test_the_demo_works_on_a_machine_with_little_software(tmp_path: Path) -> None:
    """It then reads files itself, and lists each by both hashes: the withdrawn file is withdrawn by both."""
    command = [sys.executable, "-c", LITTLE_SOFTWARE, "--dir", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


NEAR_ONLY = "note: not checked: pdq of {}; perceptual digests require near matching\n"
NO_DAEMON = "note: no daemon is running: this process synced, and nothing syncs by itself\n"


def test_the_commands_that_the_demo_prints_work(shown: tuple[Path, str]) -> None:
    """What --keep leaves can be explored with the very commands that it prints."""
    folder, told = shown
    commands = [line.strip() for line in told.splitlines() if line.startswith("  ") and "syncd " in line]
    commands = [line for line in commands if line.startswith(("syncd ", "SYNCD_CONFIG="))]
    assert len(commands) == 7
    with_pdq = ["partner.images", "stopncii.images"] if (folder / "pictures").exists() else ["stopncii.images"]
    program = f"{shlex.quote(sys.executable)} -m syncd.cli "
    for command in commands:
        shell = re.sub(r"(^|(?<=toml ))syncd ", program, command)
        done = subprocess.run(shell, shell=True, capture_output=True, text=True, timeout=60, check=False)
        wanted = 10 if " lookup " in command else 0
        told = NO_DAEMON if command.endswith(" sync partner") else ""
        told = "".join(map(NEAR_ONLY.format, with_pdq)) if command.startswith("syncd match ") else told
        assert (command, done.returncode, done.stderr) == (command, wanted, told)
    assert folder.exists()


def test_the_demo_does_not_write_into_a_folder_that_is_there(tmp_path: Path) -> None:
    """Nothing of anybody's is overwritten."""
    done = demo("--dir", str(tmp_path))
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {tmp_path} exists")
