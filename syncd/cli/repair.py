"""``syncd backup``, ``recover``, ``retrust``: before and after something was lost or reset."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli import arguments
from syncd.cli.operator import ConfigFile, load_config, sole_writer, state_folder
from syncd.cli.output import JsonFlag, print_json, progress, say, utc_now
from syncd.units import count

if TYPE_CHECKING:
    from syncd.operate.repair import Recovered


def actor() -> str:
    """Who is named in the audit log."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The tar file to write; never overwritten.")],
    with_keys: Annotated[bool, typer.Option("--with-keys", help="Put the online private keys in as well.")] = False,
    no_segments: Annotated[
        bool, typer.Option("--no-segments", help="Leave the hash lists themselves out; a mirror has them.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Write the operator's state to one file, mode 0600.

    Catalog, signed metadata, trust root, the manifests of the current versions, and their segments. Syncs may go on
    meanwhile. Without --with-keys no private key is in it; offline keys never are. FILE holds the hash lists: keep it
    as secret as they are. docs/operations.md says how to restore.

    \b
    Exit codes:
      0   written
      1   storage, or the state is damaged
      2   FILE exists, or would be served
      6   somebody publishes right now, or the state folder is another user's

    \b
    Example:
      syncd backup /var/backups/syncd-2026-11-22.tar
    """
    from syncd.operate.backup import backup as write
    from syncd.pipeline.publisher import open_publisher

    with (
        open_publisher(state_folder(load_config(config)), online=False) as publisher,
        progress("backing up") as tell,
    ):
        done = write(
            publisher,
            file,
            utc_now(),
            with_keys=with_keys,
            with_segments=not no_segments,
            progress=lambda written, total: tell("files", written, total),
        )
    if as_json:
        print_json(
            {"file": str(done.file), "files": done.files, "bytes": done.bytes, "lists": done.lists, "keys": done.keys}
        )
        return
    say(f"{done.file}: {count(done.lists, 'list')}, {count(done.files, 'file')}, {done.bytes / 1e6:,.1f} MB")
    say(f"private keys: {done.keys or 'none; keep the online keys elsewhere'}")


def recover(
    above: Annotated[
        int, typer.Option(metavar="N", min=1, max=arguments.LARGEST, help="Every version number goes on above N.")
    ],
    offline_keys: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Sign root and targets anew as well.")
    ] = None,
    sign_with: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="A key of a list with keys of its own.")
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Go on after a restored backup, above all that matchers may have seen.

    Publishes every list anew under a version above N with the content of the backup, and signs all metadata above N.
    Take for N the highest number that any matcher's current.json holds, and some more. Matchers that hold a version of
    the lost history go over to the new one and alarm. --offline-keys is needed where targets was signed after the
    backup (keys rotated, roles added). It may be given several times, as may --sign-with.

    \b
    Exit codes:
      0   done
      1   storage
      2   N is no version
      6   N is used already, segments or keys are missing, or a sync is running

    \b
    Example:
      syncd recover --above 5000
    """
    from dataclasses import replace

    from syncd.operate import repair
    from syncd.pipeline.publisher import open_publisher
    from syncd.publish.rotate import KeyFolders, online_signers
    from syncd.settings import credentials

    folder = state_folder(load_config(config))
    offline = KeyFolders(folder.keys, tuple(offline_keys)).offline_signers() if offline_keys else None
    with sole_writer(folder, "syncd recover"), open_publisher(folder, online=False) as publisher:
        signers = online_signers(folder.feed, folder.keys, sign_with or (), credentials(os.environ))
        done = repair.recover(replace(publisher, signers=signers), above, utc_now(), actor(), offline)
    if as_json:
        print_json({"lists": dict(done.lists), "metadata": dict(done.metadata)})
    else:
        _show_recovered(done)


def _show_recovered(done: "Recovered") -> None:
    for name, version in sorted(done.lists.items()):
        say(f"{name} version {version} published")
    say("metadata: " + ", ".join(f"{role} {version}" for role, version in sorted(done.metadata.items())))
    say("next: run `syncd sync`; matchers go over with their next pull")


def retrust(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A configured source.")],
    root: Annotated[Path, typer.Option(metavar="F", help="Its new trust root, obtained out of band.")],
    reason: Annotated[str, typer.Option(metavar="R", help="How you know that it is the partner's.")],
    config: ConfigFile = None,
) -> None:
    """Follow a partner that rebuilt its feed, by its new trust root.

    Put the new root where the configuration names it, then run this with the same file: until then syncs refuse it.
    Version numbers seen before no longer count. What is held stays and goes on being served; the first list under the
    new root is compared with it, and the gate judges the difference. The audit log keeps the reason.

    \b
    Exit codes:
      0   done; the next sync follows the new root
      1   storage
      2   F is no trust root, another is configured, or no reason given
      4   F does not hold by its own signatures
      6   a sync is running

    \b
    Example:
      syncd retrust iwf --root /etc/syncd/iwf-root.json --reason "call with IWF"
    """
    from syncd.operate import repair
    from syncd.pipeline.publisher import open_publisher

    settings = load_config(config)
    folder = state_folder(settings)
    followed, content = settings.source(source), arguments.root(root)
    with sole_writer(folder, "syncd retrust"), open_publisher(folder, online=False) as publisher:
        version = repair.retrust(publisher, followed, content, reason, utc_now(), actor())
    say(f"source {source} is followed by root version {version} of {root} from now on")
    say(f"next: syncd sync {source}")
