#!/usr/bin/env python3
"""The trust client behind the command line of tuf-conformance, an independent test suite of TUF clients.

Run it from a checkout of https://github.com/theupdateframework/tuf-conformance::

    PATH=.../tests/tuf_conformance/bin:$PATH \\
        pytest -c pyproject.toml tuf_conformance --entrypoint .../tests/tuf_conformance/client.py

``refresh`` is `syncd.trust.client.refresh` but for the last step, which reads this project's own format from the
metadata. ``download`` looks a target up with the very updater that refresh opens; syncd itself fetches its manifests by
hash. ``bin/faketime`` stands in for the tool of that name: it hands the time over as an argument, which is how the
trust client takes it. ``client.py.xfails`` lists where this client means to differ, and why.
"""

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import DownloadError, RepositoryError

from syncd import files, locks
from syncd.errors import SyncdError
from syncd.fetch import Deadline, Endpoint, open_peer
from syncd.trust import client
from syncd.trust.fetcher import Fetcher

PINNED = "pinned-root"
TARGETS = "targets/"  # below the address above metadata/, in every repository of the suite
SECONDS = 30


def init(folder: Path, root: Path) -> None:
    """Pin a root."""
    files.install_bytes(folder / PINNED, root.read_bytes())
    files.install_bytes(folder / "root.json", root.read_bytes())


def refresh(folder: Path, url: str, now: datetime) -> None:
    """Refresh, and verify what is on disk again."""
    pinned = (folder / PINNED).read_bytes()
    with open_peer(Endpoint(url.removesuffix("metadata/")), Deadline(SECONDS)) as peer:
        fetcher = Fetcher(peer)
        with locks.lock(folder / ".lock", "conformance"):
            client._remove_left_overs(folder)
            root, timestamp = client._update(folder, pinned, fetcher, now)
            client._check_one_timestamp(folder, fetcher, client._verify_folder(folder, pinned, root, timestamp))
            client._make_durable(folder)


def download(folder: Path, arguments: argparse.Namespace, now: datetime) -> None:
    """Find targets by TUF's own walk through delegations, and fetch them."""
    with open_peer(Endpoint(arguments.metadata_url.removesuffix("metadata/")), Deadline(SECONDS)) as peer:
        pinned = (folder / PINNED).read_bytes()
        updater = client._open_updater(folder, pinned, Fetcher(peer), now)
        updater.target_dir = arguments.target_dir
        for name in arguments.target_name:
            found = updater.get_targetinfo(name)
            if found is None:
                raise SystemExit(f"{name} not found")
            if not updater.find_cached_target(found):
                updater.download_target(found, target_base_url=TARGETS)


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser()
    for option in ("--metadata-url", "--metadata-dir", "--target-dir", "--target-base-url"):
        parser.add_argument(option)
    parser.add_argument("--target-name", action="append")
    parser.add_argument("command", choices=["init", "refresh", "download"])
    parser.add_argument("root", nargs="?")
    arguments = parser.parse_args()
    now = datetime.fromisoformat(os.environ.get("CONFORMANCE_NOW", "") or datetime.now(UTC).isoformat())
    now = now.astimezone(UTC) if now.tzinfo else now.replace(tzinfo=UTC)
    folder = Path(arguments.metadata_dir)
    match arguments.command:
        case "init":
            init(folder, Path(arguments.root))
        case "refresh":
            refresh(folder, arguments.metadata_url, now)
        case _:
            download(folder, arguments, now)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SyncdError, RepositoryError, DownloadError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
