"""The partner's guard on the command line: its options, and what it found as a table, in words and as JSON."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from syncd.cli.output import note, print_json, say, show_table, show_trouble
from syncd.errors import UsageError
from syncd.limits import ListLimits
from syncd.outcomes import Outcome
from syncd.pipeline.guard import Judgement, limits_of
from syncd.publish.request import Published
from syncd.units import count

MaxRemoved = Annotated[
    float | None,
    typer.Option(metavar="P", help="Hold if more than P % of the rows, and more than 50, are removed; default: 5."),
]
MaxAdded = Annotated[
    float | None,
    typer.Option(metavar="P", help="Hold if more than P % of the rows, and more than 1,000, are added; default: 50."),
]
Accept = Annotated[
    str | None, typer.Option(metavar="CODE", help="Publish exactly the version that was shown with this code.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would change, and publish nothing.")]


def chosen_limits(max_removed: float | None, max_added: float | None) -> ListLimits:
    """Return the limits for these percentages. Raises `UsageError`."""
    try:
        return limits_of(max_removed, max_added)
    except ValueError:
        raise UsageError(
            "--max-removed and --max-added are percentages",
            hint="give numbers from 0, such as 12.5; 5 and 50 are usual",
        ) from None


def show_publication(published: Published, judgement: Judgement | None, *, dry_run: bool, as_json: bool) -> int:
    """Print a publication, or its refusal, and return the exit code."""
    if as_json:
        print_json(_publication_document(published, judgement))
    else:
        _show_publication(published, judgement, dry_run=dry_run)
    return 0 if judgement is None or judgement.permitted else Outcome.HELD.exit_code


def _show_publication(published: Published, judgement: Judgement | None, *, dry_run: bool) -> None:
    name, version, rows = published.list, published.version, count(published.rows, "row")
    if judgement is None:
        say(f"{name} is up to date: version {version}, {rows}")
        return
    if published.changed:
        say(f"{name} version {version} published: {rows}")
    else:
        state = "would be published" if judgement.permitted else "is held: nothing was published"
        say(f"{name} version {judgement.version} {state}")
    _show_counts(judgement)
    if published.needless:
        say(f"{count(published.needless, 'row')} had no effect: added but already present, or removed but absent")
    if not judgement.permitted:
        _show_hold(judgement)
    elif dry_run:
        say(f"code: {judgement.code}")
        note("nothing was published; the same command with --accept CODE publishes exactly this", kind="dry run")


def _show_counts(judgement: Judgement) -> None:
    rows = [
        (
            algorithm,
            *(f"{number:,}" for number in (change.rows, change.added, change.removed, change.relabelled, change.after)),
        )
        for algorithm, change in judgement.pending.algorithms.items()
    ]
    show_table(("algorithm", "now#", "added#", "removed#", "relabelled#", "after#"), rows)


def _show_hold(judgement: Judgement) -> None:
    say(f"code: {judgement.code}")
    reasons = [finding.words for finding in judgement.findings]
    if judgement.given is not None:
        reasons.insert(0, "the given code belongs to other rows, or to another previous version")
    serving = "nothing of it yet" if judgement.before is None else f"{judgement.list} version {judgement.before}"
    show_trouble(
        "held",
        "; ".join(reasons),
        serving,
        "compare the counts with what you meant to publish. If they are right, run the same command with "
        f"--accept {judgement.code}: it publishes exactly these rows, and nothing if anything has changed",
    )


def _publication_document(published: Published, judgement: Judgement | None) -> dict[str, Any]:
    """Return a publication, or its refusal, as JSON. ``judged`` is null if nothing would change."""
    return {
        "list": published.list,
        "version": published.version,
        "changed": published.changed,
        "rows": published.rows,
        "counts": {str(algorithm): asdict(counts) for algorithm, counts in published.counts.items()},
        "skipped": published.skipped,
        "needless": published.needless,
        "judged": _judgement_document(judgement) if judgement else None,
    }


def _judgement_document(judgement: Judgement) -> dict[str, Any]:
    return {
        "version": judgement.version,
        "rows": judgement.pending.rows_after,
        "permitted": judgement.permitted,
        "confirmed": judgement.confirmed,
        "code": judgement.code,
        "algorithms": {
            algorithm: {
                "now": change.rows,
                "added": change.added,
                "removed": change.removed,
                "relabelled": change.relabelled,
                "after": change.after,
            }
            for algorithm, change in judgement.pending.algorithms.items()
        },
        "findings": [{**asdict(finding), "message": finding.words} for finding in judgement.findings],
    }
