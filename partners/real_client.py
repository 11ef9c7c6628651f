"""The public client of these partners, in an environment of its own: its dependencies do not touch ours."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
SCRIPT = HERE / "read_as_public_client.py"


def environment() -> Path:
    """Return the client's Python, made once below our own environment, and again if the requirements change."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    home = Path(sys.prefix) / "partner-client"
    home.mkdir(exist_ok=True)
    folder = home / wanted
    python = folder / "bin" / "python"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes start at once
        if not (folder / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
            install = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", str(REQUIREMENTS)]
            subprocess.run([sys.executable, "-m", "pip", "--python", python, *install], check=True)
            (folder / "ready").touch()
    return python


def read(partner: str, **options: object) -> Any:
    """Run the public client against a fake server. Return what it read, as JSON.

    The client's process is isolated (-I): in the folder of the script, `threatexchange` is our fake.
    """
    ran = subprocess.run(
        [environment(), "-I", SCRIPT, partner, json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "UTC", "NO_PROXY": "127.0.0.1"},
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)
