"""``syncd status DIR``: the lists of a pulled copy, their ages and limits. Needs no daemon and no network."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from syncd.cli.output import note, print_json, say, show_error, show_table, utc_now
from syncd.cli.probe import ProbeLevel, ProbeResult, unknown
from syncd.cli.pulled import age_warning, clock_warning, lists_document, open_copy, warn_of_age
from syncd.errors import as_known
from syncd.format.freshness import AgeVerdict, limit_in_words
from syncd.matcher import ListStatus
from syncd.units import ago, clock_is_behind, count, span

_LEVELS: Final = {AgeVerdict.WARN: ProbeLevel.WARNING, AgeVerdict.STALE: ProbeLevel.CRITICAL}
_WORDS: Final = {AgeVerdict.FRESH: "fresh", AgeVerdict.WARN: "late", AgeVerdict.STALE: "stale"}
_PROVED_WITHIN: Final = timedelta(days=8)
"""If all files were last proved longer ago, that is a warning. A weekly timer with ``--check`` has a day to spare."""
_COLUMNS: Final = ("list", "version#", "rows#", "verified~", "state", "late after~", "stale after~")


def show_copy(folder: Path, *, as_json: bool) -> None:
    """Show the lists of a copy as a table or as JSON. Raises the errors of `open_copy`."""
    matcher = open_copy(folder)
    statuses = matcher.status()
    if as_json:
        print_json({"lists": lists_document(statuses), "clock": clock_warning(statuses, folder) or None})
        return
    if statuses:
        red = frozenset(number for number, one in enumerate(statuses) if one.freshness is AgeVerdict.STALE)
        show_table(_COLUMNS, [_row(one) for one in statuses], red)
        _show_proof(statuses)
    else:
        note("the copy has no list yet")
    warn_of_age(matcher, folder)


def _show_proof(statuses: Sequence[ListStatus]) -> None:
    """Say when the files were last proved again, and which of them are damaged."""
    proved_at = statuses[0].proved_at
    if proved_at and clock_is_behind(utc_now() - proved_at):
        say("it is not known when its files were last proved: the clock was ahead then")
    elif proved_at:
        say(f"its files were all proved {ago(utc_now() - proved_at)}")
    else:
        say("its files have not been proved since the pull")
    for damage in (listed.damage for listed in statuses if listed.damage):
        show_error(damage)


def _row(one: ListStatus) -> tuple[str, ...]:
    shown = one.list, str(one.version), f"{one.rows:,}"
    if one.freshness is None:
        return *shown, "", f"retired on {one.retired:%Y-%m-%d}" if one.retired else "", "", ""
    verified = "unknown" if one.age is None else ago(one.age)
    limits = limit_in_words(one.max_age.warn), limit_in_words(one.max_age.critical)
    return *shown, verified, _WORDS[one.freshness], *limits


def probe_copy(folder: Path) -> int:
    """Print one line about a copy like a monitoring plugin; return the exit code."""
    try:
        statuses = open_copy(folder).status()
        result = judge_copy(statuses, utc_now(), clock_warning(statuses, folder))
    except Exception as error:  # noqa: BLE001 - exit codes 1 and 2 have meanings of their own here, whatever happens
        result = unknown(as_known(error))
    say(result.line)
    return result.code


def judge_copy(statuses: Sequence[ListStatus], now: datetime, clock: str = "") -> ProbeResult:
    """Judge the lists of a copy by the worst fault, and name all faults, worst first. Pure.

    ``clock``: the warning about times in the future.
    """
    about_clock = [(ProbeLevel.CRITICAL, clock)] if clock else []
    faults = sorted((*about_clock, *_faults(statuses, now)), key=lambda fault: -fault[0])
    aged = [(one, one.age) for one in statuses if one.age is not None and one.freshness is not None]
    data = " ".join(
        f"'{one.list}'={int(age.total_seconds())}s;{one.max_age.warn};{one.max_age.critical}" for one, age in aged
    )
    if faults:
        return ProbeResult(faults[0][0], "; ".join(text for _, text in faults), data)
    if not statuses:
        return ProbeResult(ProbeLevel.UNKNOWN, "the copy has no list")
    if not aged:
        return ProbeResult(ProbeLevel.OK, f"{count(len(statuses), 'list')}, retired")
    oldest = max(age for _, age in aged)
    return ProbeResult(ProbeLevel.OK, f"{count(len(aged), 'list')}, the oldest verified {span(oldest)} ago", data)


def _faults(statuses: Sequence[ListStatus], now: datetime) -> Iterator[tuple[ProbeLevel, str]]:
    for one in statuses:
        if one.damage:
            yield ProbeLevel.CRITICAL, one.damage.message
    for proved_at in {one.proved_at for one in statuses if one.proved_at}:
        if now - proved_at > _PROVED_WITHIN:
            yield (
                ProbeLevel.WARNING,
                f"its files were last proved {ago(now - proved_at)}: run the same `syncd pull` with `--check`",
            )
    for one in statuses:
        if one.freshness in _LEVELS and (warning := age_warning(one)):
            yield _LEVELS[one.freshness], warning
    for role in sorted({role for one in statuses for role in one.expired}):
        yield ProbeLevel.WARNING, f"its {role} metadata expired; pull again"
