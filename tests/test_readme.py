"""The guides of README.md, line by line: a partner publishes, an operator syncs, a matcher looks up."""

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from certificates import Authority
from runbook import shell_lines
from world import row

MATCHERS: Final = (Path(__file__).parents[1] / "docs" / "matchers.md").read_text()
README: Final = (Path(__file__).parents[1] / "README.md").read_text()
MADE_BY_ROOT: Final = (
    *("/etc/syncd", "/run/syncd", "/var/lib/syncd", "/var/lib/hashes"),
    *("/srv/feed", "/srv/feed.keys", "/media/stick/keys", "/media/stick/feed-keys"),
)
"""The folders of the page that a user cannot make without root."""
SERVING: Final = {"syncd feed serve": "serving", "syncd run": '"event": "daemon_ready"'}
"""The commands that stay in the foreground, and what they say once they serve."""
EXIT_CODES: Final = {"syncd match": 10}
"""All others end with 0. The upload is not on the list, and the page says so."""


def guide(title: str) -> str:
    """A section of the page."""
    return README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def blocks(language: str, title: str) -> list[str]:
    """The examples of a section in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", guide(title), re.M | re.S)


@dataclass
class Reader:
    """Somebody who does what the page says, with folders of their own in the places of the page."""

    home: Path
    places: Mapping[str, str]

    def here(self, text: str) -> str:
        """Put this reader's places into the words of the page."""
        for place, mine in self.places.items():
            text = text.replace(place, mine)
        return text

    @contextmanager
    def follow(self, title: str) -> Iterator[None]:
        """Do every line of a guide; what serves goes on until the end."""
        served = []
        try:
            for line in shell_lines(guide(title)):
                kind = " ".join(line.split()[: 3 if " feed " in line else 2])
                if kind in SERVING:
                    served.append(self.serve(self.here(line), SERVING[kind]))
                else:
                    done = self.run(self.here(line))
                    assert done.returncode == EXIT_CODES.get(kind, 0), (line, done.stdout, done.stderr)
            yield
        finally:
            for process in served:
                process.terminate()
                process.communicate()

    def run(self, line: str) -> "subprocess.CompletedProcess[str]":
        """Run a line in a shell."""
        command = ["bash", "-ec", line]
        return subprocess.run(
            command, cwd=self.home, env=self.environment, capture_output=True, text=True, check=False, timeout=100
        )

    def serve(self, line: str, ready: str) -> "subprocess.Popen[str]":
        """Start what stays in the foreground; return when it serves."""
        process = subprocess.Popen(
            ["bash", "-ec", f"exec {line}"],
            cwd=self.home,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout
        lines = []
        for printed in process.stdout:
            lines.append(printed)
            if ready in printed:
                return process
        raise AssertionError("".join(lines))

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the shell: `syncd` and a `sudo` are on the path."""
        return {
            "PATH": f"{self.home / 'bin'}:{os.environ['PATH']}",
            "USER": str(os.getuid()),
            "SYNCD_CONFIG": self.here("/etc/syncd/syncd.toml"),
            "SYNCD_CONTROL_SOCKET": self.here("/run/syncd/control.sock"),
        }


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader with the files that the page takes for granted."""
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    scripts = {
        "sudo": f'echo "$@" >>{home}/sudo.log\nexec "$@"',
        "syncd": f'exec {shlex.quote(sys.executable)} -m syncd.cli "$@"',
    }
    for name, script in scripts.items():
        (home / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (home / "bin" / name).chmod(0o755)
    partner, operator = free_port(), free_port()
    places = {name: f"{tmp_path}{name}" for name in ("/etc/syncd", "/run/syncd", "/var/lib/", "/media/stick", "/srv/")}
    places |= {"0.0.0.0:8443": f"127.0.0.1:{partner}", "https://feed.example.org": f"https://127.0.0.1:{partner}"}
    places |= {"127.0.0.1:8470": f"127.0.0.1:{operator}", "images 41": "images 1"}
    places |= {
        "https://syncd.internal/feed/": f"http://127.0.0.1:{operator}/feed/",
        '"token"': f'"{home}/uploads.token"',
    }
    return Reader(home, places)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_the_guides_work_as_they_stand(reader: Reader, tmp_path: Path) -> None:
    """From the partner's list to the answer of a matcher in Python, with nothing replaced but places and ports."""
    give_files(reader)
    with reader.follow("Five minutes for a partner"):
        (configuration,) = blocks("toml", "Five minutes for an operator")
        (tmp_path / "etc" / "syncd").mkdir(parents=True)
        for name, content in {
            "syncd.toml": reader.here(configuration).replace("token_file", f'ca = "{tmp_path}/ca.pem"\ntoken_file', 1),
            "iwf-root.json": (tmp_path / "srv" / "feed" / "root.json").read_text(),
            "iwf.token": (reader.home / "token").read_text(),
        }.items():
            (tmp_path / "etc" / "syncd" / name).write_text(content)
            (tmp_path / "etc" / "syncd" / name).chmod(0o600)
        with reader.follow("Five minutes for an operator"):
            root = tmp_path / "var" / "lib" / "syncd" / "feed" / "root.json"
            (reader.home / "operator-root.json").write_bytes(root.read_bytes())
            with reader.follow("Five minutes for a matcher engineer"):
                look_up(reader)
    made = (reader.home / "sudo.log").read_text().split()
    assert [name for name in MADE_BY_ROOT if reader.here(name) not in made] == []


def give_files(reader: Reader) -> None:
    """What the page takes for granted: lists, a certificate, a token, an upload."""
    header = "algorithm,digest,entry,label\n"
    listed = [",".join(row(number)) for number in range(30)]
    quick = "md5,9e107d9d372bb6826bd81d3542a419d6,quick,A"
    certificate, key = Authority(reader.home.parent, "ca").certificate("server")
    for name, content in {
        "images.csv": header + "\n".join([*listed, quick]) + "\n",
        "new.csv": header + ",".join(row(100)) + "\n",
        "withdrawn.csv": header + listed[3] + "\n",
        "cert.pem": certificate.read_text(),
        "key.pem": key.read_text(),
        "token": "partner-token-0123456789abcdef\n",
        "upload.jpg": "not on any list",
    }.items():
        (reader.home / name).write_text(content)
        (reader.home / name).chmod(0o600)


def look_up(reader: Reader) -> None:
    """Run the example in Python, and those of docs/matchers.md."""
    (example,) = blocks("python", "Five minutes for a matcher engineer")
    digest = bytes.fromhex(row(7)[1])
    namespace: dict[str, Any] = {
        "digest": digest,
        "digests": [bytes.fromhex("9e107d9d372bb6826bd81d3542a419d6"), bytes(16)],
    }
    exec(reader.here(example), namespace)
    assert namespace["on_a_list"].tolist() == [True, False]
    namespace["matcher"].close()
