"""A real S3 server: SeaweedFS, one for all processes of a run, and a prefix of its bucket for each place.

``python -m engines.s3 FOLDER PID`` starts it and ends it with the process PID, however that ends.
"""

import fcntl
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import obstore
from obstore.store import S3Store

from engines.ports import free_ports
from syncd.store.settings import BucketSettings

BUCKET: Final = "lists"
_PROJECT: Final = Path(__file__).parent.parent
_READY: Final = "ready.json"
_WITHIN: Final = 90.0
_KEYS: Final = {"accessKey": "tests", "secretKey": "of-the-tests"}
_ANYBODY: Final = {"name": "anonymous", "actions": [f"Read:{BUCKET}/public/*"]}
_TESTS: Final = {"name": "tests", "credentials": [_KEYS], "actions": ["Admin", "Read", "Write", "List"]}
_READER: Final = {
    "name": "reader",
    "credentials": [{"accessKey": "reader", "secretKey": "of-a-reader"}],
    "actions": ["Read", "List"],
}


def running(folder: Path, owner: int) -> str:
    """Return the address of the server of this run, whose processes share ``folder``; start it if it does not run.

    It ends with the process ``owner``.
    """
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not (folder / _READY).exists():
            with (folder / "log").open("wb") as log:
                command = [sys.executable, "-m", "engines.s3", str(folder.resolve()), str(owner)]
                subprocess.run(command, cwd=_PROJECT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
            _wait_for(folder / _READY)
    endpoint: str = json.loads((folder / _READY).read_text())
    return endpoint


def settings(folder: Path, endpoint: str, prefix: str = "", **changes: object) -> BucketSettings:
    """Return the settings of a prefix of its own, with the files of keys in ``folder``."""
    access, secret = folder / "access-key", folder / "secret-key"
    access.write_text(_KEYS["accessKey"] + "\n")
    secret.write_text(_KEYS["secretKey"] + "\n")
    secret.chmod(0o600)
    given: dict[str, object] = {
        "bucket": BUCKET,
        "prefix": prefix or f"private/{secrets.token_hex(8)}",
        "endpoint": endpoint,
        "access_key_file": access,
        "secret_key_file": secret,
        **changes,
    }
    return BucketSettings.model_validate(given)


def _wait_for(path: Path) -> None:
    end = time.monotonic() + _WITHIN
    while not path.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"the S3 server did not start: see {path.parent / 'log'}")
        time.sleep(0.1)


def _serve(folder: Path, owner: int) -> None:
    """Run the server until the owner ends."""
    ports = free_ports(8)
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [_TESTS, _READER, _ANYBODY]}))
    (folder / "data").mkdir()
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.port": ports[0],
        "master.port.grpc": ports[1],
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
        "volume.port": ports[2],
        "volume.port.grpc": ports[3],
        "volume.max": 0,
        "filer.port": ports[4],
        "filer.port.grpc": ports[5],
        "s3.port": ports[6],
        "s3.port.grpc": ports[7],
        "s3.config": config,
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.iam": "false",
        "s3.autoCreateBucket": "false",
    }
    weed = Path(sys.executable).with_name("weed")
    command = [str(weed), "server", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL) as server:
        try:
            endpoint = f"http://127.0.0.1:{ports[6]}"
            _make_bucket(endpoint, server)
            (folder / ".ready").write_text(json.dumps(endpoint))
            (folder / ".ready").replace(folder / _READY)
            while server.poll() is None and _is_alive(owner):
                time.sleep(0.3)
        finally:
            server.send_signal(signal.SIGKILL)  # it would wait ten seconds for its own parts


def _make_bucket(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        region="us-east-1",
        access_key_id=_KEYS["accessKey"],
        secret_access_key=_KEYS["secretKey"],
        client_options={"allow_http": True},
    )
    end = time.monotonic() + _WITHIN
    while server.poll() is None and time.monotonic() < end:
        try:
            if httpx.put(obstore.sign(store, "PUT", "", timedelta(minutes=5)), timeout=10.0).is_success:
                obstore.put(store, "first", b"a first volume", mode="create")  # which takes a while to be made
                return
        except (httpx.HTTPError, obstore.exceptions.BaseError):
            pass
        time.sleep(0.1)
    raise TimeoutError("the bucket could not be made")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    if os.fork() == 0:  # nobody waits for it: it ends by itself
        os.setsid()
        _serve(Path(sys.argv[1]), int(sys.argv[2]))
