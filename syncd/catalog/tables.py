"""The tables and the types of their columns. Column names are the records' field names.

A change here needs a new file in ``migrations/versions`` and a new `REVISION`.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import JsonValue, TypeAdapter
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.types import TypeDecorator

from syncd.catalog.decisions import HoldState, SuppressionState, TakenOff
from syncd.catalog.history_records import HistoryKind
from syncd.catalog.records import Pin, Position, SyncFault
from syncd.errors import RESTORE_CATALOG, StoreError
from syncd.format.manifest import EndState, ManifestRef, SegmentRef, Withheld
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import Finding, HoldReason, Lane, Outcome

REVISION: Final = "0020"
"""The schema that this code reads and writes."""
USABLE_SINCE: Final = "0014"
"""The oldest code that can use it too. A migration that only adds leaves this alone, so that two releases run side by
side; one that does not sets it to its own revision, and says in the changelog that all daemons have to stop first."""


class Stored(TypeDecorator[Any]):
    """A value stored as text: ``write`` makes the text, ``read`` parses it or raises `ValueError`."""

    impl = Text
    cache_ok = True

    def __init__(self, write: Callable[[Any], str], read: Callable[[str], Any]) -> None:
        super().__init__()
        self.write, self.read = write, read

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """Convert a value for its column."""
        return None if value is None else self.write(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002 - as above
        """Convert a column to its value. Raises `StoreError` if this code cannot have written it."""
        try:
            return None if value is None else self.read(value)
        except ValueError:
            raise StoreError("the catalog contains a value that cannot be read", hint=RESTORE_CATALOG) from None


def time_text(value: datetime) -> str:
    """Return a time as its column stores it: UTC, ISO 8601, with microseconds."""
    if value.tzinfo is None:
        raise ValueError("a time in the catalog needs a time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")  # fixed width, so that it sorts as text


def canonical(value: Any) -> str:
    """Return canonical JSON: keys sorted, no white space, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _json(kind: Any) -> Stored:
    adapter = TypeAdapter[Any](kind)
    return Stored(lambda value: adapter.dump_json(value).decode(), adapter.validate_json)


LONG: Final = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits. SQLite's INTEGER has 64 too, and only a column of that exact type numbers rows (autoinc.html)."""
TIME: Final = Stored(time_text, datetime.fromisoformat)
OUTCOME: Final = Stored(str, Outcome)
MEMORY: Final = _json(Mapping[str, JsonValue])
STACK: Final = _json(tuple[SegmentRef, ...])
END_STATE: Final = _json(dict[Algorithm, EndState])
REASONS: Final = _json(tuple[str, ...])
FAULTS: Final = _json(dict[str, SyncFault])
COUNTS: Final = _json(dict[Algorithm, Counts])
FIELDS: Final = Stored(canonical, json.loads)
LISTS: Final = _json(tuple[ListName, ...])

WITHHELD: Final = _json(dict[Algorithm, Withheld])
REF: Final = _json(ManifestRef)
LABELS: Final = _json(dict[Algorithm, dict[str, int]])
TAKEN_OFF: Final = _json(tuple[TakenOff, ...])
KEPT_OUT: Final = _json(dict[Algorithm, int])
HOLD_REASONS: Final = _json(tuple[HoldReason, ...])
PIN: Final = _json(Pin)
POSITION: Final = _json(Position)
FINDINGS: Final = _json(tuple[Finding, ...])

metadata: Final = MetaData(
    naming_convention={  # so that a later migration can name the constraint it drops
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

sources: Final = Table(
    "sources",
    metadata,
    Column("name", Text, primary_key=True),
    Column("memory", MEMORY, nullable=False, server_default="{}"),
    Column("last_attempt_at", TIME),
    Column("last_verified_at", TIME),
    Column("next_run_at", TIME),
    Column("cool_down_until", TIME),
    Column("failures", LONG, nullable=False, server_default="0"),
)

syncs: Final = Table(
    "syncs",
    metadata,
    Column("number", LONG, primary_key=True),  # in the order in which they began, whatever the clock said
    Column("id", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("finished_at", TIME),
    Column("outcome", OUTCOME, nullable=False),
    Column("reasons", REASONS, nullable=False),
    Column("message", Text, nullable=False),
    Column("bytes", LONG, nullable=False),
    Column("dry_run", Boolean, nullable=False, server_default=false()),
    Column("faults", FAULTS, nullable=False, server_default="{}"),
    UniqueConstraint("id"),
    Index(None, "source", "number"),
    Index(None, "outcome"),
    Index("ix_syncs_source_dry_run", "source", "dry_run", "outcome", "number"),
    sqlite_autoincrement=True,
)

origins: Final = Table(
    "origins",
    metadata,
    Column("source", Text, primary_key=True),
    Column("list", Text, primary_key=True),
    Column("serial", LONG, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("end_state", END_STATE, nullable=False),
    Column("verified_at", TIME, nullable=False),
    Column("owed", STACK, nullable=False, server_default="[]"),
    Column("refused", STACK, nullable=False, server_default="[]"),
    Column("waiting", WITHHELD, nullable=False, server_default="{}"),
    Column("discarded", WITHHELD, nullable=False, server_default="{}"),
    Column("evidence", LargeBinary),
    Column("labels", LABELS),
    Column("pin", PIN),
    Column("fork", REF),
    Column("revision", LONG, nullable=False, server_default="1"),
    Column("position", POSITION),
    Column("answers", Text),
)

answers: Final = Table(
    "answers",  # of partners that sign nothing: the bundles of raw answers that are kept as evidence
    metadata,
    Column("id", LONG, primary_key=True),
    Column("source", Text, nullable=False),
    Column("list", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("at", TIME, nullable=False),
    Index(None, "source"),
    Index(None, "at"),
    sqlite_autoincrement=True,
)

versions: Final = Table(
    "versions",
    metadata,
    Column("list", Text, primary_key=True),
    Column("version", LONG, primary_key=True),
    Column("manifest_sha256", Text, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("sync_id", Text),  # not a foreign key: syncs may be pruned before versions
    Column("plan", Text, nullable=False),
    Column("counts", COUNTS, nullable=False),
    Column("rows", LONG, nullable=False),
    Column("labels", LABELS),
)

sizes: Final = Table(
    "sizes",  # of each version of a head, for the windows of the gate: narrow, because they are summed up at each sync
    metadata,
    Column("list", Text, primary_key=True),
    Column("version", LONG, primary_key=True),
    Column("algorithm", Text, primary_key=True),
    Column("at", TIME, nullable=False),
    Column("rows", LONG, nullable=False),
    Column("added", LONG, nullable=False),
    Column("removed", LONG, nullable=False),
    Column("reference", Boolean, nullable=False),
    Index(None, "list", "at"),
)

label_sizes: Final = Table(
    "label_sizes",  # the same of the labels that have limits of their own; net changes
    metadata,
    Column("list", Text, primary_key=True),
    Column("version", LONG, primary_key=True),
    Column("label", Text, primary_key=True),
    Column("at", TIME, nullable=False),
    Column("rows", LONG, nullable=False),
    Column("added", LONG, nullable=False),
    Column("removed", LONG, nullable=False),
    Index(None, "list", "at"),
)

kept_versions: Final = Table(
    "kept_versions",  # lists whose old versions were forgotten: all since ``first`` are kept, older ones only if needed
    metadata,
    Column("list", Text, primary_key=True),
    Column("first", LONG, nullable=False),
)

updates: Final = Table(
    "updates",
    metadata,
    Column("id", LONG, primary_key=True),
    Column("list", Text, nullable=False),
    Column("serial", LONG, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("staged", LargeBinary, nullable=False),  # JSON that only the pipeline reads
    Column("created_at", TIME, nullable=False),
    sqlite_autoincrement=True,
)

holds: Final = Table(
    "holds",
    metadata,
    Column("id", LONG, primary_key=True),
    Column("list", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("lane", Stored(str, Lane), nullable=False),
    Column("reasons", HOLD_REASONS, nullable=False),
    Column("segments", STACK, nullable=False),
    Column("rows", LONG, nullable=False),
    Column("update_id", ForeignKey("updates.id"), nullable=False),
    Column("sync_id", Text),
    Column("opened_at", TIME, nullable=False),
    Column("state", Stored(str, HoldState), nullable=False),
    Column("ended_at", TIME),
    Column("ended_by", Text, nullable=False),
    Column("ended_reason", Text, nullable=False),
    Column("findings", FINDINGS, nullable=False, server_default="[]"),
    Column("paged_at", TIME),
    Index(None, "list", "state"),
    sqlite_autoincrement=True,  # ids are never reused: people name holds by them
)

suppressions: Final = Table(
    "suppressions",  # the only table with digests
    metadata,
    Column("id", LONG, primary_key=True, autoincrement=False),
    Column("algorithm", Stored(str, Algorithm), nullable=False),
    Column("digest", Text, nullable=False),
    Column("entry", Text),
    Column("list", Text),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", TIME, nullable=False),
    Column("expires_at", TIME),
    Column("salt", Text, nullable=False),
    Column("state", Stored(str, SuppressionState), nullable=False),
    Column("rows", LONG, nullable=False),
    Column("second", Text, nullable=False),
    Column("hold_id", LONG),
    Column("ended_at", TIME),
    Column("ended_by", Text, nullable=False),
    Column("ended_reason", Text, nullable=False),
    Column("announced_at", TIME),
    Column("others_at", TIME),
    Index(None, "state"),
    Index(None, "algorithm", "digest"),
)

canaries: Final = Table(
    "canaries",  # by published list: what is never published, and what must be
    metadata,
    Column("list", Text, primary_key=True),
    Column("known_good", Text, nullable=False, server_default=""),
    Column("taken_off", TAKEN_OFF, nullable=False, server_default="[]"),
    Column("must_have", LONG, nullable=False, server_default="0"),
    Column("missing", LONG, nullable=False, server_default="0"),
    Column("kept_out", KEPT_OUT, nullable=False, server_default="{}"),
    Column("fault", Text, nullable=False, server_default=""),
)

heads: Final = Table(
    "heads",
    metadata,
    Column("list", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("version", LONG, nullable=False),
    Column("manifest_sha256", Text, nullable=False),
    Column("origin_serial", LONG),
    Column("published_at", TIME, nullable=False),
    Column("retired_at", TIME),
    ForeignKeyConstraint(["list", "version"], ["versions.list", "versions.version"]),
)

publications: Final = Table(
    "publications",
    metadata,
    Column("id", LONG, primary_key=True),
    Column("created_at", TIME, nullable=False),
    Column("kind", Text, nullable=False),
    Column("installed", Boolean, nullable=False),
    Column("installed_at", LONG),  # by the database's clock, as for several daemons below; NULL: not yet, or unknown
    sqlite_autoincrement=True,  # ids are never reused, even after pruning
)

signed_files: Final = Table(
    "signed_files",
    metadata,
    Column("publication_id", ForeignKey("publications.id", ondelete="CASCADE"), primary_key=True),
    Column("position", LONG, primary_key=True),
    Column("path", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
)

unnamed_files: Final = Table(
    "unnamed_files",
    metadata,
    Column("place", Text, primary_key=True),
    Column("record", Text, nullable=False),  # `syncd.feed.garbage`
)

audit: Final = Table(
    "audit",
    metadata,
    Column("number", LONG, primary_key=True, autoincrement=False),  # starts at 1, without gaps
    Column("at", TIME, nullable=False),
    Column("actor", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("fields", FIELDS, nullable=False),
    Column("sha256", Text, nullable=False),  # `syncd.catalog.audit.link`
)

matchers: Final = Table(
    "matchers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("token_sha256", Text, nullable=False),
    Column("lists", LISTS),
    Column("created_at", TIME, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("revoked_at", TIME),
    Column("mirror", Boolean, nullable=False, server_default=false()),
)

loaded: Final = Table(
    "loaded",
    metadata,
    Column("matcher", ForeignKey("matchers.name"), primary_key=True),
    Column("instance", Text, primary_key=True),
    Column("list", Text, primary_key=True),
    Column("version", LONG, nullable=False),
    Column("loaded_at", TIME, nullable=False),
    Column("seen_at", TIME, nullable=False),
    Column("written", LONG, nullable=False, server_default="0"),  # by the database's clock
    Column("via", Text, nullable=False, server_default=""),
    Index(None, "written"),
)

history: Final = Table(
    "history",
    metadata,
    Column("number", LONG, primary_key=True, autoincrement=False),
    Column("list", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", TIME, nullable=False),
    Column("plan", Text, nullable=False),
    Column("kind", Stored(str, HistoryKind), nullable=False),
    Column("version", LONG),
    Column("serial", LONG),
    Column("head", STACK, nullable=False),
    Column("origin", STACK, nullable=False),
    Column("over_head", Boolean, nullable=False, server_default=false()),
    Column("keys", REASONS, nullable=False),
    Column("upstream", Text, nullable=False),
    Column("sync_id", Text),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("folded", Boolean, nullable=False, server_default=false()),
    Index(None, "list", "number"),
    Index(None, "list", "at"),
    Index(None, "list", "kind"),
    Index(None, "folded", "list"),
)

history_months: Final = Table(
    "history_months",
    metadata,
    Column("list", Text, primary_key=True),
    Column("algorithm", Stored(str, Algorithm), primary_key=True),
    Column("width", LONG, primary_key=True, autoincrement=False),
    Column("month", Text, primary_key=True),
    Column("rows", LONG, nullable=False),
)

loads: Final = Table(
    "loads",
    metadata,
    Column("list", Text, primary_key=True),
    Column("matcher", Text, primary_key=True),  # not a foreign key: the history outlives the matcher
    Column("instance", Text, primary_key=True),
    Column("at", TIME, primary_key=True),
    Column("version", LONG, nullable=False),
    Index(None, "at"),
    Index(None, "matcher", "at"),
)

usable: Final = Table(
    "usable",  # the revision of the oldest code that can use these tables: it runs beside newer code during an upgrade
    metadata,
    Column("since", Text, primary_key=True),
)

# Of several daemons on one catalog. Their times are milliseconds of the database's clock, which they all share.

leader: Final = Table(
    "leader",  # one row, once a daemon has led
    metadata,
    Column("id", LONG, primary_key=True, autoincrement=False),
    Column("epoch", LONG, nullable=False),
    Column("owner", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("since", LONG, nullable=False),
    Column("until", LONG, nullable=False),
    Column("store", Text, nullable=False),
)

daemons: Final = Table(
    "daemons",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", LONG, nullable=False),
    Column("version", Text, nullable=False),
    Column("started_at", TIME, nullable=False),
    Column("seen", LONG, nullable=False),
    Column("unable", Text, nullable=False),
    Column("keys", REASONS, nullable=False),
    Column("claims", LONG, nullable=False),
    Column("serves", LONG, nullable=False),
)

next_keys: Final = Table(
    "next_keys",  # new keys of online roles, announced until every daemon holds them
    metadata,
    Column("role", Text, primary_key=True),
    Column("keys", REASONS, nullable=False),
    Column("threshold", LONG, nullable=False),
    Column("announced", LONG, nullable=False),
    Column("actor", Text, nullable=False),
)

orders: Final = Table(
    "orders",
    metadata,
    Column("id", LONG, primary_key=True),
    Column("daemon", Text, nullable=False),
    Column("user", Text, nullable=False),
    Column("body", Text, nullable=False),  # may name digests that an operator typed; emptied when the order has ended
    Column("placed", LONG, nullable=False),
    Column("epoch", LONG, nullable=False),
    Column("ended", LONG, nullable=False),
    Index(None, "ended"),
    sqlite_autoincrement=True,
)

order_answers: Final = Table(
    "order_answers",
    metadata,
    Column("order_id", ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
    Column("position", LONG, primary_key=True, autoincrement=False),
    Column("content", Text, nullable=False),
)

sessions: Final = Table(
    "sessions",  # of people who signed in to the dashboard of one daemon, for the others
    metadata,
    Column("id_sha256", Text, primary_key=True),
    Column("proof", Text, nullable=False),  # of the token, keyed with the secret id: says nothing about either
    Column("until", LONG, nullable=False),
)

attempts: Final = Table(
    "attempts",  # wrong tokens of the last minute
    metadata,
    Column("id", LONG, primary_key=True),
    Column("daemon", Text, nullable=False),
    Column("network", Text, nullable=False),
    Column("at", LONG, nullable=False),
    sqlite_autoincrement=True,
)

form_keys: Final = Table(
    "form_keys",  # one row: what proves that a form came from a page of one of the daemons
    metadata,
    Column("id", LONG, primary_key=True, autoincrement=False),
    Column("key", LargeBinary, nullable=False),
)
