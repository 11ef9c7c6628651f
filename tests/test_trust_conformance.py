"""The driver by which the independent suite tuf-conformance runs this client (see tuf_conformance/client.py)."""

import subprocess
import sys
from pathlib import Path

from feed_simulator import DAY, NOW, MetadataPeer
from syncd import files

DRIVER = Path(__file__).parent / "tuf_conformance" / "client.py"


def test_the_driver_speaks_the_suites_command_line(tmp_path: Path) -> None:
    """Init and refresh exit 0 and leave the metadata under the names that the suite reads; a refusal exits 1."""
    peer = MetadataPeer()
    for name, content in peer.files.items():
        files.install_bytes(tmp_path / "served" / name, content)
    local = ["--metadata-dir", str(tmp_path / "local")]
    url = ["--metadata-url", f"file://{tmp_path}/served/metadata/"]

    def run(*arguments: str, now: str) -> int:
        return subprocess.run(
            [sys.executable, DRIVER, *arguments], env={"CONFORMANCE_NOW": now}, check=False
        ).returncode

    assert run(*local, "init", str(tmp_path / "served/metadata/1.root.json"), now="") == 0
    assert run(*local, *url, "refresh", now=str(NOW)) == 0
    assert sorted(path.name for path in (tmp_path / "local").glob("*.json")) == [
        "lists.json",
        "root.json",
        "snapshot.json",
        "targets.json",
        "timestamp.json",
    ]
    assert run(*local, *url, "refresh", now=str(NOW + 3 * DAY)) == 1
