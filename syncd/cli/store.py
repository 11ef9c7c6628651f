"""``syncd store``: show where the published files are, and move them."""

from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.operator import ConfigFile, actor, check_owner, leading, load_config, state_folder, state_lock
from syncd.cli.output import JsonFlag, print_json, progress, say, utc_now
from syncd.files import DamagedError
from syncd.units import count

if TYPE_CHECKING:
    from syncd.verify.tally import Proof

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def store(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show where the published files are: a folder or a bucket.

    \b
    Exit codes:
      0   shown
      2   not set up
      6   the state folder belongs to another user

    \b
    Example:
      syncd store --json
    """
    if context.invoked_subcommand is not None:
        return
    folder = state_folder(load_config(config), daemon_could=False)
    place = folder.bucket.place if folder.bucket else str(folder.feed.root)
    if as_json:
        print_json({"store": place, "shared": folder.bucket is not None})
    else:
        say(f"the published files are in {place}")


@app.command("copy")
def copy(
    to_folder: Annotated[
        bool, typer.Option("--to-folder", help="Move them back, from the bucket to the state folder.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Move the published files from the state folder to the bucket.

    It is the bucket that the configuration names; the origins and the private history move too. Stop all daemons first.
    The state is verified, everything is copied, and the names and lengths in the bucket are
    compared; the bucket must not have files of another state. The files in the folder stay, as its cache. If this is
    interrupted, run it again: until it has ended, the state is used as before.

    \b
    Exit codes:
      0   moved
      1   storage, the bucket cannot be reached, or the state is damaged
      2   the configuration names no bucket, the bucket ignores conditions, or
          the files are there already
      6   the bucket has files of another state, a daemon runs, or the state
          folder belongs to another user

    \b
    Example:
      syncd store copy --json
    """
    from syncd.catalog.folder import StateFolder  # SQLAlchemy and others: not needed for the help
    from syncd.operate.move_store import COMMAND, copy_files, finish_move, plan_move, store_led
    from syncd.pipeline.publisher import open_publisher
    from syncd.verify.state import prove_state

    settings = load_config(config)
    folder = StateFolder(settings.state_dir, settings.bucket, settings.database)
    check_owner(folder.root)
    with state_lock(folder, COMMAND), progress("moving") as report:
        move = plan_move(folder, to_folder=to_folder)
        with (
            open_publisher(move.before, online=False) as publisher,
            leading(publisher, COMMAND, store_led(move, publisher.catalog)),
        ):
            if not to_folder:
                _check_proof(prove_state(move.before, None, utc_now(), lambda *done: report("verified files", *done)))
            moved = copy_files(move, publisher.catalog, lambda *done: report("files", *done))
            if to_folder:
                _check_proof(prove_state(move.after, None, utc_now(), lambda *done: report("verified files", *done)))
            finish_move(move, publisher.catalog, utc_now(), actor())
    place = move.after.bucket.place if move.after.bucket else str(move.after.root)
    if as_json:
        print_json({"store": place, "files": moved.files, "bytes": moved.bytes})
        return
    say(f"the published files are now in {place}: {count(moved.files, 'file')}, {moved.bytes / 1e6:,.1f} MB")
    if to_folder:
        say("next: remove [store] from the configuration, run `syncd verify`, and start the daemon; then nothing uses")
        say(f"{move.before.bucket.place if move.before.bucket else ''} any more, and it can be emptied")
    else:
        say("next: run `syncd verify`, then start the daemon")


def _check_proof(proof: "Proof") -> None:
    """Raise `DamagedError` if a state has faults: nothing damaged is moved, and nothing intact is given up for it."""
    if proof.faults:
        raise DamagedError(
            f"{proof.folder} has {count(len(proof.faults), 'fault')}",
            hint="`syncd verify` names each, and what to do; then run the command again. Nothing was moved",
        )
