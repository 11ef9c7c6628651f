"""The partner's guard: the gate's judgement of a version that a partner is about to publish.

A version within the limits is published. Any other needs the partner's confirmation: a code that stands for exactly
these rows after exactly this version. It is shown, compared and published in different runs of the command, so the code
alone carries the decision from one to the other. There is no way to confirm rows that nobody has seen.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from syncd.errors import FeedError, StoreError
from syncd.feed.folder import FeedFolder
from syncd.feed.kept import KeptVersion, kept_versions
from syncd.files import install_bytes
from syncd.format.canonical import canonical
from syncd.limits import DEFAULT_LIMITS, ListLimits
from syncd.model import ListName
from syncd.outcomes import Finding
from syncd.pipeline.gate import judge
from syncd.pipeline.values import Change, Pending, Period, Window
from syncd.publish import author
from syncd.publish.request import MakeBatch, Prospect, Published
from syncd.trust.keys import Signers

_CODE_DIGITS: Final = 24
"""Of the SHA-256 in a code: 96 bits, so that nobody who supplies files can make two that have the same code."""
_MAX_NUMBER: Final = 32


@dataclass(frozen=True)
class Judgement:
    """The guard's judgement of the next version of a list."""

    list: ListName
    before: int | None
    """the version in force"""
    version: int
    pending: Pending
    findings: tuple[Finding, ...]
    """the reasons to ask; empty if the version is within the limits"""
    code: str
    given: str | None = None
    """the code that was given"""

    @property
    def permitted(self) -> bool:
        """True if it may be published: within the limits, or confirmed. A code that does not fit always forbids it."""
        return not self.findings if self.given is None else self.given == self.code

    @property
    def confirmed(self) -> bool:
        """True if it may be published only because its code was given."""
        return self.permitted and bool(self.findings)


def limits_of(removed_percent: float | None = None, added_percent: float | None = None) -> ListLimits:
    """Return the default limits, with other percentages if given; in 7 days, twice as much is allowed.

    Raises `ValueError` for a percentage that is negative or not a number.
    """
    given: dict[str, float] = {}
    for kind, percent in (("removed", removed_percent), ("added", added_percent)):
        if percent is not None:
            given |= {f"max_{kind}_percent": percent, f"max_{kind}_week_percent": 2 * percent}
    return ListLimits.model_validate(given)


def code_of(prospect: Prospect) -> str:
    """Return the code of a version: its number, and a hash over the version before, all its rows and the bad rows."""
    change, current = prospect.change, prospect.current
    content = {
        "list": prospect.list,
        "version": prospect.version,
        "previous": current.sha256 if current else None,
        "delta": [ref.sha256 for ref in change.segments],
        "stack": [ref.sha256 for ref in change.stack],
        "end_state": {str(algorithm): state.checksum for algorithm, state in change.end_state.items()},
        "skipped": prospect.skipped,
    }
    return f"{prospect.version}-{hashlib.sha256(canonical(content)).hexdigest()[:_CODE_DIGITS]}"


def pending_publication(prospect: Prospect, windows: Mapping[Period, Mapping[str, Window]]) -> Pending:
    """Return the pending difference of a version that is about to be published. Pure."""
    change = prospect.change
    held = prospect.current.manifest.end_state if prospect.current else {}
    changes = {}
    for algorithm in sorted({*held, *change.end_state, *change.counts}):
        before, after = (states[algorithm].rows if algorithm in states else 0 for states in (held, change.end_state))
        counts = change.counts.get(algorithm)
        if change.whole:  # no delta was counted: the signed end state of the version in force does not fit its rows
            changes[str(algorithm)] = Change(before, max(0, after - before), max(0, before - after))
        elif counts:
            changes[str(algorithm)] = Change(before, counts.added, counts.removed, counts.relabelled)
        else:
            changes[str(algorithm)] = Change(before)
    return Pending(
        rows_before=sum(found.rows for found in changes.values()),
        rows_after=sum(state.rows for state in change.end_state.values()),
        algorithms=changes,
        windows=windows,
        first=prospect.current is None,
        read=prospect.read,
        skipped=prospect.skipped,
    )


def windows_of(
    newest_first: Iterable[KeptVersion], now: datetime, reference: int = 0
) -> dict[Period, dict[str, Window]]:
    """Return the published changes of each period, as far as kept versions reach back. Pure.

    ``reference``: the newest version that was confirmed. It and what was before it do not count as changes, nor do a
    first version and what was before a retirement.
    """
    windows: dict[Period, dict[str, Window]] = {period: {} for period in Period}
    open_periods = set(Period)
    for kept in newest_first:
        manifest = kept.manifest
        start = kept.version <= reference or manifest.retired is not None or manifest.previous is None
        for period in tuple(open_periods):
            outside = start or manifest.created < now - period.length
            _add(windows[period], kept, counted=not outside)
            if outside:
                open_periods.discard(period)
        if not open_periods:
            break
    return windows


def _add(windows: dict[str, Window], kept: KeptVersion, *, counted: bool) -> None:
    states, counts = kept.manifest.end_state, kept.counts if counted and kept.counts else {}
    for algorithm in {*states, *counts}:
        window, own = windows.get(algorithm, Window()), counts.get(algorithm)
        windows[str(algorithm)] = Window(
            largest=max(window.largest, states[algorithm].rows if algorithm in states else 0),
            added=window.added + (own.added if own else 0),
            removed=window.removed + (own.removed if own else 0),
        )


@dataclass
class PartnersGuard:
    """Publishes what is within the limits, or confirmed by its code. ``judgement`` is the last one."""

    folder: FeedFolder
    now: datetime
    limits: ListLimits = DEFAULT_LIMITS
    accept: str | None = None
    """the code of the version to publish"""
    judgement: Judgement | None = None

    def publish(
        self, name: ListName, make_batch: MakeBatch, signers: Signers, *, new: bool | None = None, dry_run: bool = False
    ) -> Published:
        """Publish as `author.publish_batch`, if the judgement permits it. Raises as that does."""
        published = author.publish_batch(
            self.folder, name, make_batch, signers, self.now, new=new, permit=self.permit, dry_run=dry_run
        )
        if published.changed and self.judgement and self.judgement.confirmed:
            number = f"{self.judgement.version}\n".encode()
            install_bytes(_confirmed(self.folder, name), number, mode=0o600, durable=False)
        return published

    def permit(self, prospect: Prospect) -> bool:
        """Judge a version, and decide whether it is published."""
        current = prospect.current
        reference = self._reference(prospect)
        history = self._history(prospect.list, current.sha256) if current else ()
        pending = pending_publication(prospect, windows_of(history, self.now, reference))
        self.judgement = Judgement(
            list=prospect.list,
            before=current.manifest.version if current else None,
            version=prospect.version,
            pending=pending,
            findings=judge(pending, self.limits).findings,
            code=code_of(prospect),
            given=self.accept,
        )
        return self.judgement.permitted

    def _history(self, name: ListName, sha256: str) -> Iterator[KeptVersion]:
        try:
            yield from kept_versions(self.folder, name, sha256)
        except (FeedError, StoreError):  # an old manifest is damaged: a shorter history must not stop publishing
            return

    def _reference(self, prospect: Prospect) -> int:
        """Return the newest confirmed version; 0 if there is none, or the feed was restored to an older one."""
        try:
            number = int(self.folder.read_private(_confirmed(self.folder, prospect.list).name, _MAX_NUMBER) or b"0")
        except (ValueError, StoreError):  # damaged: then earlier changes count, and at worst a code is asked for
            number = 0
        return number if number < prospect.version else 0


def _confirmed(folder: FeedFolder, name: ListName) -> Path:
    """Return the file that keeps the number of the newest version that was confirmed."""
    return folder.work / f"confirmed.{name}"
