"""Outcomes, reasons and errors: what each means is written once, and crosses processes by an explicit list."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import syncd
from syncd import errors
from syncd.cli.output import OutputError
from syncd.errors import RowError, SegmentError, SegmentFault, SyncdError, UsageError, error_class, error_named, kind_of
from syncd.outcomes import HoldReason, Outcome, cure, joined, reasons_in_words

KINDS = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, SyncdError)]
NAMED = [
    *((one.__name__, one) for one in KINDS if one is not SegmentError),
    *((str(fault), SegmentError) for fault in SegmentFault),
]
PACKAGE = Path(syncd.__file__).parent


@pytest.mark.parametrize(("name", "kind"), NAMED)
def test_every_error_crosses_from_one_process_to_another(name: str, kind: type[SyncdError]) -> None:
    """Each class of `errors.py`, and each fault of a segment, keeps its name, class and exit code."""
    assert error_class(name) is kind
    error = error_named(name, "it broke", "mend it", "images version 1")
    assert (type(error), kind_of(error), error.exit_code) == (kind, name, kind.exit_code)
    assert (error.message, error.hint, error.serving) == ("it broke", "mend it", "images version 1")


@pytest.mark.parametrize("kind", ["", "KeyError", "Path", "Outcome", "SegmentError", "a partner's words"])
def test_what_is_not_an_error_of_ours_is_the_plain_one(kind: str) -> None:
    """Whatever name another process gives: nothing of the module but its errors can be reached by it."""
    assert error_class(kind) is SyncdError


def test_an_error_of_one_process_is_known_elsewhere_by_the_class_above_it() -> None:
    """Others know the classes of `errors.py` alone."""
    assert kind_of(OutputError("no room")) == "StoreError"
    assert kind_of(SegmentError(Path("a.arrow"), SegmentFault.HASH, "cut")) == "SegmentHashError"
    assert kind_of(RowError("a.csv", 3, "digest", "too short")) == "RowError"


@pytest.mark.parametrize("kind", [one for one in KINDS if not issubclass(one, UsageError)])
def test_an_error_ends_in_an_outcome_with_its_exit_code(kind: type[SyncdError]) -> None:
    """Whether a sync tells of it by its error or by its outcome, the code is the same."""
    assert kind.exit_code == kind.outcome.exit_code


def test_the_exit_codes_are_those_that_operators_script() -> None:
    """Literally."""
    assert {str(one): one.exit_code for one in Outcome} == {
        "running": 0,
        "published": 0,
        "up_to_date": 0,
        "staged": 0,
        "held": 3,
        "rejected": 4,
        "unreachable": 5,
        "refused": 6,
        "failed": 1,
        "interrupted": 6,
    }


@pytest.mark.parametrize("outcome", Outcome)
def test_an_outcome_that_is_not_good_says_what_to_do(outcome: Outcome) -> None:
    """And only such a one; the source that it names is the one asked for."""
    assert bool(outcome.to_do("iwf")) == (not outcome.good and outcome is not Outcome.RUNNING)
    assert "{source}" not in outcome.to_do("iwf")
    assert Outcome(str(outcome)) is outcome


@pytest.mark.parametrize("reason", HoldReason)
def test_a_hold_names_its_cure(reason: HoldReason) -> None:
    """What to ask first, then the commands that end it."""
    assert reasons_in_words([reason]) == reason.words
    assert cure([reason]).startswith(f"{reason.to_do}; `syncd holds`")
    assert "`syncd release HOLD --reason R`" in cure([reason])
    assert "`syncd discard HOLD --reason R`" in cure([reason])


def test_a_question_is_asked_once() -> None:
    """An emptied list is shrunk as well, and both ask the same of the partner."""
    asked = cure([HoldReason.EMPTIED, HoldReason.SHRUNK], [1])
    assert asked == (
        "ask the partner whether this was intended; `syncd release 1 --reason R` publishes it, "
        "`syncd discard 1 --reason R` drops it"
    )


def test_reasons_of_errors_are_shown_as_they_are() -> None:
    """The kind of an error is its own name."""
    assert reasons_in_words(["RollbackError", "emptied"]) == f"RollbackError, {HoldReason.EMPTIED.words}"
    assert joined(["emptied", "forked"]) == "emptied, forked"


def test_reasons_are_never_taken_apart_again() -> None:
    """They travel as tuples: nothing splits a text of ours, but the migration that ended it."""
    splitting = [path for path in PACKAGE.rglob("*.py") if re.search(r'split\(", "\)', path.read_text())]
    assert [path.name for path in splitting] == ["v0005_portable.py"]


def test_what_outcomes_mean_can_be_asked_by_anything() -> None:
    """The module loads nothing that costs."""
    heavy = "{'numpy', 'sqlalchemy', 'pydantic', 'pyarrow'} & set(sys.modules)"
    script = f"import sys, syncd.outcomes; sys.exit(bool({heavy}))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
