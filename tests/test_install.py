"""The lines of docs/install.md that install the program, run in the words of the page in folders of the test."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook import section, shell_lines
from systemd_host import PROJECT

LINES = shell_lines(section("The program", "install.md").partition("###")[0])
APT = [line for line in LINES if line.startswith("apt install ")]
PLAIN = [line for line in LINES if line not in APT]
LONGEST = 800
"""Seconds for the packages of a whole installation to arrive and be unpacked."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a clone has, without what it was built into."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs git and a clone")
    for name in listed.stdout.split("\0"):
        if re.match(r"syncd/|pyproject.toml|README.md|LICENSE", name) and (PROJECT / name).exists():
            (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tmp_path / "checkout" / name)
    (tmp_path / "bin").mkdir()
    return tmp_path / "checkout"


def walk(lines: list[str], checkout: Path) -> None:
    """Run lines in the checkout; skip if the registry of packages cannot be reached from here."""
    text = (
        "\n".join(lines).replace("/opt/", f"{checkout.parent}/opt/").replace("/usr/local/bin", f"{checkout.parent}/bin")
    )
    (checkout.parent / "opt").mkdir()
    ran = subprocess.run(
        ["/bin/sh", "-ec", text],
        cwd=checkout,
        env={name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}},
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    if re.search(
        r"Failed to establish a new connection|Temporary failure in name resolution|ConnectTimeout", ran.stderr
    ):
        pytest.skip("the registry of Python packages cannot be reached from here")
    assert ran.returncode == 0, ran.stderr


def check_program(folder: Path) -> None:
    """The command that was installed is whole: it starts an operator, which needs every package of a daemon."""
    syncd = folder / "bin" / "syncd"
    environment = {"PATH": "/usr/bin:/bin", "SYNCD_STATE_DIR": str(folder / "state")}
    for command in (["version"], ["alerts"], ["init", "--offline-keys", "off"], ["run", "--check"], ["status"]):
        ran = subprocess.run(
            [syncd, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.returncode == 0, (command, ran.stderr)


@pytest.mark.parametrize("line", APT)
def test_the_packages_of_debian_exist(line: str) -> None:
    """By the names of the page; nothing is installed."""
    if not shutil.which("apt-get"):
        pytest.skip("needs apt-get")
    tried = subprocess.run(
        ["apt-get", "install", "--simulate", *line.split()[2:]],
        capture_output=True,
        text=True,
        env={**os.environ, "LC_ALL": "C"},
        timeout=100,
        check=False,
    )
    if "Unable to locate package" in tried.stderr and not list(Path("/var/lib/apt/lists").glob("*_Packages*")):
        pytest.skip("needs the lists of apt: apt-get update")
    assert tried.returncode == 0, tried.stderr


@pytest.mark.timeout(900)
def test_the_lines_of_pip_install_the_program(checkout: Path) -> None:
    """Into a virtual environment, with a link on the path."""
    assert [line.split()[0] for line in PLAIN] == ["python3", "/opt/syncd/bin/pip", "ln"]
    here = f"{sys.executable} -m venv" if sys.prefix == sys.base_prefix else f"{sys.base_prefix}/bin/python3 -m venv"
    walk([line.replace("python3 -m venv", here) for line in PLAIN], checkout)
    check_program(checkout.parent)
    check_files(checkout)


def check_files(checkout: Path) -> None:
    """Whatever the checkout has beside its modules was installed too: rules, pages, profiles, types."""
    (installed,) = checkout.parent.glob("opt/syncd/lib/python3*/site-packages/syncd")
    kept = [path.relative_to(checkout / "syncd") for path in (checkout / "syncd").rglob("*") if path.is_file()]
    assert len(kept) > 400
    assert [str(path) for path in kept if not (installed / path).is_file()] == []
