"""``syncd catalog``: show where the catalog is, and move it."""

from typing import Annotated

import typer

from syncd.cli.operator import ConfigFile, actor, check_owner, load_config, open_catalog, state_folder, state_lock
from syncd.cli.output import JsonFlag, print_json, say, utc_now

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def catalog(context: typer.Context, config: ConfigFile = None, as_json: JsonFlag = False) -> None:
    """Show where the catalog is, and how many rows it has.

    \b
    Exit codes:
      0   shown
      1   storage, or the database cannot be reached
      2   not set up
      6   the state folder belongs to another user

    \b
    Example:
      syncd catalog --json
    """
    if context.invoked_subcommand is not None:
        return
    folder = state_folder(load_config(config), daemon_could=False)
    with open_catalog(folder) as opened:
        rows = sum(opened.row_counts().values())
    if as_json:
        print_json({"catalog": str(folder.catalog), "rows": rows})
    else:
        say(f"the catalog is in {folder.catalog}, with {rows:,} rows")


@app.command("copy")
def copy(
    to_file: Annotated[
        bool, typer.Option("--to-file", help="Move it back, from PostgreSQL to a file in the state folder.")
    ] = False,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Move the catalog from its file to the configured database.

    Stop the daemon first. The database must be empty. All rows are copied in one transaction and counted, and the audit
    log's chain is computed again, before anything is committed. The file is kept as catalog.sqlite3.moved. If this is
    interrupted, run it again.

    \b
    Exit codes:
      0   moved
      1   storage, or the database cannot be reached
      2   the configuration names no database, or there is no file to move
      6   the database is not empty, a daemon runs, or the state folder belongs
          to another user

    \b
    Example:
      syncd catalog copy --json
    """
    from syncd.catalog.folder import StateFolder  # SQLAlchemy and others: not needed for the help
    from syncd.operate.move import move_to_file, move_to_server

    settings = load_config(config)
    folder = StateFolder(settings.state_dir, settings.bucket, settings.database)
    check_owner(folder.root)
    with state_lock(folder, "syncd catalog copy"):
        moved = (move_to_file if to_file else move_to_server)(folder, utc_now(), actor())
    if as_json:
        print_json({"catalog": str(moved.place), "rows": moved.rows, "kept": str(moved.kept) if moved.kept else None})
        return
    say(f"the catalog is now in {moved.place}: {moved.rows:,} rows")
    if moved.kept is None:
        say("next: remove `catalog` from the configuration, run `syncd verify`, and start the daemon; then nothing")
        say(f"uses the database {folder.catalog} any more, and it can be dropped")
    else:
        say(f"its file was kept as {moved.kept}: remove it once there is a backup of the database")
        say("next: run `syncd verify`, then start the daemon")
