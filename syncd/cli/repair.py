"""``syncd backup``, ``recover`` and ``retrust``: before and after a loss."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from syncd.cli import arguments
from syncd.cli.arguments import SignWith, not_a_stream
from syncd.cli.operator import ConfigFile, actor, changing_publisher, keyless_publisher, load_config, state_folder
from syncd.cli.output import JsonFlag, print_json, progress, say, utc_now
from syncd.publish.rotate import KeyFolders, online_signers
from syncd.settings import credentials
from syncd.units import count

_SYNC_ENDS_WITHIN: Final = 30.0
"""Seconds that a daemon on this machine, which no longer leads, gets to end a sync."""


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", callback=not_a_stream, help="The tar file to write; never overwritten.")
    ],
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Include the online private keys.")] = False,
    no_segments: Annotated[
        bool, typer.Option("--no-segments", help="Leave out the hash lists themselves, if a mirror has them.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the operator's state to one file, mode 0600.

    Contains the catalog, signed metadata, the trust root, and the manifests and segments of the current versions. Syncs
    may run meanwhile. Online private keys are included only with --with-keys, offline keys never. FILE contains the
    hash lists: protect it as you protect them. To restore it, see docs/operations.md.

    \b
    Exit codes:
      0   written
      1   storage, or the state is damaged
      2   FILE exists, or would be inside the served folder
      6   a publication is running, or the state folder belongs to another user

    \b
    Example:
      syncd backup /var/backups/syncd-2026-11-22.tar
    """
    from syncd.operate.backup import backup as write_backup  # SQLAlchemy: not needed for the help

    with (
        keyless_publisher(state_folder(load_config(config), daemon_could=False), None) as publisher,
        progress("backing up") as report,
    ):
        done = write_backup(
            publisher,
            file,
            utc_now(),
            with_keys=with_keys,
            with_segments=not no_segments,
            progress=lambda written, total: report("files", written, total),
            actor=actor(),
        )
    if as_json:
        print_json(
            {"file": str(done.file), "files": done.files, "bytes": done.bytes, "lists": done.lists, "keys": done.keys}
        )
        return
    say(f"{done.file}: {count(done.lists, 'list')}, {count(done.files, 'file')}, {done.bytes / 1e6:,.1f} MB")
    say(f"private keys: {done.keys or 'none; back up the online keys separately'}")


def recover(
    above: Annotated[
        int, typer.Option(metavar="N", min=1, max=arguments.LARGEST, help="Continue every version number above N.")
    ],
    offline_keys: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Re-sign root and targets as well; may be repeated.")
    ] = None,
    sign_with: SignWith = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Continue from a restored backup, with higher version numbers.

    Publishes every list again, with the content of the backup, under a version above N, and signs all metadata with
    numbers above N. Choose an N well above the highest number in any matcher's current.json. Matchers that hold a
    version of the lost history switch to the new one and raise an alarm. --offline-keys is required if targets was
    signed after the backup (keys rotated, roles added).

    \b
    Exit codes:
      0   done
      1   storage
      2   N is not a version
      6   N is already in use, segments or keys are missing, or a sync is running

    \b
    Example:
      syncd recover --above 5000
    """
    from syncd.operate import repair  # SQLAlchemy: not needed for the help

    folder = state_folder(load_config(config), daemon_could=False)
    offline = KeyFolders(folder.keys, tuple(offline_keys)).offline_signers() if offline_keys else None
    with changing_publisher(folder, "syncd recover") as publisher:
        signers = online_signers(folder.feed, folder.keys, sign_with or (), credentials(os.environ))
        done = repair.recover(replace(publisher, signers=signers), above, utc_now(), actor(), offline)
    if as_json:
        print_json({"lists": dict(done.lists), "metadata": dict(done.metadata)})
    else:
        for name, version in sorted(done.lists.items()):
            say(f"{name} version {version} published")
        say("metadata: " + ", ".join(f"{role} {version}" for role, version in sorted(done.metadata.items())))
        say("next: run `syncd sync`; matchers switch with their next pull")


def retrust(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A configured source.")],
    root: Annotated[Path, typer.Option(metavar="F", help="Its new trust root, obtained out of band.")],
    reason: Annotated[
        str, typer.Option(metavar="R", help="How you know that it is the partner's; kept in the audit log.")
    ],
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Accept the new trust root of a partner that rebuilt its feed.

    Install the new root at the path in the configuration, then run this with the same file: until then syncs refuse it.
    The version numbers seen so far no longer count. The published lists stay and are still served; the first update
    under the new root is compared with them, and the gate judges the difference.

    \b
    Exit codes:
      0   done; the next sync follows the new root
      1   storage
      2   F is not a trust root, another is configured, or no reason was given
      4   F is not validly signed by its own keys
      6   a sync is running

    \b
    Example:
      syncd retrust iwf --root /etc/syncd/iwf-root.json --reason "call with IWF"
    """
    from syncd.operate import repair  # SQLAlchemy: not needed for the help

    settings = load_config(config)
    folder = state_folder(settings, daemon_could=False)
    followed, content = settings.source(source), arguments.root(root)
    with changing_publisher(folder, "syncd retrust") as publisher:
        patience = 0.0 if folder.database is None else _SYNC_ENDS_WITHIN
        version = repair.retrust(publisher, followed, content, reason, utc_now(), actor(), patience=patience)
    if as_json:
        print_json({"source": source, "root": root, "root_version": version})
        return
    say(f"source {source} now follows root version {version} of {root}")
    say(f"next: syncd sync {source}")
