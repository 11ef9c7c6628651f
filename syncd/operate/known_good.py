"""Known-good files, as operators decide on their changes and ask about them."""

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from syncd.acts import Discarded
from syncd.catalog.catalog import Catalog
from syncd.catalog.changes import Records
from syncd.catalog.decisions import HoldEnd, HoldRecord, HoldState
from syncd.catalog.folder import StateFolder
from syncd.catalog.records import AuditEntry, own_name
from syncd.config import Config
from syncd.errors import RefusedError, UsageError
from syncd.files import PRIVATE_FILE, storage
from syncd.format.rows import Rows
from syncd.listfile.values import COLUMNS
from syncd.model import Digest, ListName
from syncd.pipeline.canaries import MustHave
from syncd.pipeline.canary_check import change_known_good, kept_out
from syncd.pipeline.heads import read_state
from syncd.pipeline.known_good import KnownGood, KnownGoodFolder, read_aside
from syncd.pipeline.next_version import SettleContext
from syncd.pipeline.publisher import Publisher
from syncd.pipeline.settle.result import Settled
from syncd.pipeline.wire import encode_update
from syncd.publish.publication import Proposal


def known_good(folder: StateFolder, catalog: Catalog, digest: Digest, name: ListName | None = None) -> dict[str, str]:
    """Return why a digest is never published: by list, "built in" or "known-good file". Lists that may have it are left
    out.

    ``name``: one published list; None: all. Raises `StoreError`.
    """
    readings, why = KnownGoodFolder(folder.known_good), {}
    for mark in catalog.known_good_marks():
        if name is None or mark.list == name:
            reason = readings.named(mark.known_good).why(digest)
            if reason:
                why[str(mark.list)] = reason
    return why


def confirm_change(
    publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime, second_operator: bool = True
) -> Settled:
    """Put a changed known-good file in force that waited for a second operator.

    Raises `RefusedError` if the hold has ended, the file changed since, or belongs to ``actor``; `StoreError`.
    """
    path = publisher.limits(hold.source, own_name(hold.list)).known_good_file
    after = KnownGoodFolder(publisher.folder.known_good).last_good(path)
    if path is None or after.refs != hold.segments:
        raise RefusedError(
            f"the known-good file of {hold.list} changed after hold {hold.id} was opened",
            hint=f"run `syncd sync {hold.source}`: it judges the present file; nothing was changed",
        )
    if second_operator and _owner(path) == actor:
        raise RefusedError(
            f"{path} belongs to {actor}: another operator has to confirm its change",
            hint="ask a colleague to run this; for a team of one, set second_operator = false in [corrections]; "
            "nothing was changed",
        )
    context = SettleContext(now, encode_update, actor=actor, reason=reason)
    return change_known_good(publisher, hold.source, own_name(hold.list), after, context, confirmed=hold)


def refuse_change(publisher: Publisher, hold: HoldRecord, *, actor: str, reason: str, now: datetime) -> Settled:
    """Keep the known-good digests in force on a list; the same file is not held again. Raises as `confirm_change`."""
    end = HoldEnd(hold.id, hold.state, HoldState.DISCARDED, actor, reason)
    act = Discarded(str(hold.id), hold.list, hold.lane, hold.rows, reason)
    records = Records(ended=(end,), audit=(AuditEntry(now, actor, act),))
    settled = Settled(Proposal("discard", records=records, visible=False), released=hold.rows)
    return publisher.settle(f"ending hold {hold.id}", hold.source, own_name(hold.list), lambda _: settled, now)


def _owner(path: Path) -> str:
    with suppress(OSError, KeyError):
        return path.owner()
    return ""


def kept_out_rows(
    folder: StateFolder, catalog: Catalog, name: ListName | None = None
) -> Iterator[tuple[ListName, Rows]]:
    """Yield the partners' entries that are not published because they are known to be good, by list and algorithm.

    Raises `UsageError` if there is no such list, `StoreError`.
    """
    heads = [head for head in catalog.heads() if name is None or head.list == name]
    if name is not None and not heads:
        raise UsageError(f"there is no list {name}", hint="`syncd status` shows the lists")
    for head in heads:
        state = read_state(folder, catalog, head.source, own_name(head.list))
        for rows in kept_out(state):
            yield head.list, rows


def write_rows(path: Path, parts: Iterable[tuple[ListName, Rows]]) -> int:
    """Write rows as CSV to a new file, mode 0600, and return their number. Raises `UsageError` if ``path`` exists."""
    count = 0
    with storage(path, "write"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        except FileExistsError:
            raise UsageError(f"{path} exists already", hint="name a file that does not exist") from None
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123 - a descriptor, for its mode
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("list", *COLUMNS))
            for name, rows in parts:
                for number, (digest, entry) in enumerate(zip(rows.digests, rows.entries.to_pylist(), strict=True)):
                    label = rows.labels[rows.codes[number]]
                    writer.writerow((name, rows.algorithm, digest.ljust(rows.width, b"\0").hex(), entry, label))
                    count += 1
    return count


def check_canary_files(config: Config, *, whole: bool) -> None:
    """Check every must-have and known-good file that is configured. Raises `ConfigError`, `StoreError`.

    ``whole``: read known-good files to the end too, which takes seconds for millions of rows.
    """
    owners = _owners(config.state_dir)
    known: dict[Path, KnownGood] = {}
    for source, table in config.sources.items():
        for name in ("", *table.gate.lists):
            limits = config.limits(source, name)
            must_have = MustHave.read(limits.must_have_file, owners)
            path = limits.known_good_file
            if path is None:
                continue
            if path not in known:
                known[path] = read_aside(path, config.state_dir, owners, whole=whole)
            must_have.check(known[path], path)


def _owners(folder: Path) -> tuple[int, ...]:
    with suppress(OSError):
        return (folder.stat().st_uid,)
    return ()
