"""``syncd known-good``."""

from pathlib import Path
from typing import Annotated

import typer

from syncd.cli.arguments import not_a_stream
from syncd.cli.operator import ConfigFile, actor, load_config, open_catalog, state_folder
from syncd.cli.output import JsonFlag, note, print_json, say, show_table, utc_now
from syncd.model import list_name
from syncd.units import count


def known_good(
    name: Annotated[
        str | None, typer.Option("--list", metavar="LIST", help="One published list; default: all.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", callback=not_a_stream, help="Write the rows as CSV to this new file, mode 0600."
        ),
    ] = None,
    config: ConfigFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Count entries that are kept out because they are known to be good.

    The partner lists them, and syncd does not publish them. Known to be good are the digests of empty input, digests
    with all bits alike, and those in `known_good_file`. Entries are never shown: `--out` writes them to a file, which
    the audit log records.

    \b
    Exit codes:
      0   shown or written
      1   storage
      2   there is no such list, or FILE exists
      6   the state folder belongs to another user

    \b
    Example:
      syncd known-good --list iwf.images --out /root/kept-out.csv
    """
    # SQLAlchemy and numpy: not needed for the help
    from syncd.operate.disclose import disclose
    from syncd.operate.known_good import kept_out_rows, write_rows

    folder, wanted = state_folder(load_config(config), daemon_could=False), list_name(name) if name else None
    with open_catalog(folder) as catalog:
        parts = list(kept_out_rows(folder, catalog, wanted))
        files = {mark.list: mark.known_good.partition(":")[2] for mark in catalog.known_good_marks()}
        if out is not None:
            what = "kept out, known to be good"
            disclose(
                folder,
                catalog,
                out,
                lambda path: write_rows(path, parts),
                name=wanted,
                what=what,
                actor=actor(),
                now=utc_now(),
            )
    counts = [(str(one), str(rows.algorithm), len(rows)) for one, rows in parts]
    if as_json:
        shown = sorted(files) if wanted is None else [wanted]
        print_json(
            {
                "lists": [
                    {
                        "list": one,
                        "file_sha256": files.get(one) or None,
                        "kept_out": {algorithm: rows for other, algorithm, rows in counts if other == one},
                    }
                    for one in shown
                ]
            }
        )
        return
    if counts:
        show_table(
            ("list", "algorithm", "kept out#"), [(one, algorithm, f"{rows:,}") for one, algorithm, rows in counts]
        )
    else:
        say("no entry is kept out")
    if out is not None:
        note(f"{count(sum(rows for *_, rows in counts), 'row')} written to {out}", kind="note")
