"""``syncd suppress``, ``suppressions`` and ``unsuppress``, with and without a daemon, and every view of them."""

import getpass
import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from command_line import HERE, Ran, configure, operate, settings, syncd
from standing import prove_feed
from syncd.acts import SuppressionsExtended, Unsuppressed
from syncd.cli import corrections
from syncd.errors import ExpiredError, UsageError
from syncd.event import Event
from syncd.events import (
    HoldOpened,
    HoldWaits,
    SuppressedEvent,
    SuppressionExpired,
    SuppressionExpiresSoon,
    SuppressionExtended,
    SuppressionGainedEntry,
    UnsuppressedEvent,
)
from syncd.model import Digest
from syncd.operate.holds import end_hold
from syncd.operate.suppression_ends import expire
from syncd.operate.suppression_order import Correction, SuppressionOrder
from syncd.outcomes import HoldReason
from syncd.report import overview
from syncd.service.control import Order
from syncd.service.holds import Holds
from syncd.service.suppressions import Suppressions
from syncd.service.web.dashboard.overview import overview_page
from syncd.service.web.dashboard.tasks import PageData, tasks
from test_daemon import daemon, today  # noqa: F401 - a fixture
from test_judged import check, text
from test_metrics import now as scraped
from world import HEAD, World, row, rows

ME = getpass.getuser()
MANY = 11
"""rows of one list that wait for a second operator, however small the list is"""


def alg(number: int) -> str:
    """The digest of a number, as a user writes it."""
    algorithm, digest, *_ = row(number)
    return f"{algorithm}:{digest}"


def hexadecimal(number: int) -> str:
    """The digest of a number."""
    return row(number)[1]


@pytest.fixture
def listed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator of one list with 30 entries."""
    operate(world, monkeypatch)
    world.publish(full=rows(0, 30))
    assert syncd("sync").code == 0
    world.clock.forward(minutes=10)
    return world


def served(world: World) -> set[int]:
    """The numbers that a matcher answers after a pull."""
    assert not world.pull().errors
    matcher = world.matcher()
    return {number for number in range(60) if world.hits(number, matcher)}


def suppress(number: int, *more: object) -> Ran:
    """Suppress the digest of a number."""
    return syncd("suppress", alg(number), "--reason", "a holiday photo", *more)


def by_bob(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Ran:
    """Run a command as another operator."""
    with monkeypatch.context() as patched:
        patched.setattr("syncd.cli.operator.actor", lambda: "bob")
        return syncd(*arguments)


# the commands, without a daemon


def test_a_suppression_says_what_changed_until_when_and_how_to_undo_it(listed: World) -> None:
    """And matches no more; undoing it lists the entry again."""
    ran = suppress(3)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == (
        "suppression 1: 1 entry is off the lists (all lists) until 2026-01-31 12:10 UTC\n"
        "iwf.images version 2 published\n"
        "undo: syncd unsuppress 1 --reason R\n"
    )
    assert served(listed) == set(range(30)) - {3}
    undone = syncd("unsuppress", 1, "--reason", "it was right")
    assert (undone.code, undone.out) == (
        0,
        "suppression 1 ended: 1 entry is listed again\niwf.images version 3 published\n",
    )
    assert served(listed) == set(range(30))


def test_a_digest_on_standard_input_is_not_in_argv(listed: World) -> None:
    """One digest, neither none nor several."""
    assert syncd("suppress", "-", "--reason", "r", stdin=f"\n{alg(3)}\n").code == 0
    assert served(listed) == set(range(30)) - {3}
    for given, said in (("", "0 lines"), (f"{alg(4)}\n{alg(5)}\n", "2 lines")):
        ran = syncd("suppress", "-", "--reason", "r", stdin=given)
        assert (ran.code, ran.err.splitlines()[0]) == (
            2,
            f"error: standard input has {said} instead of one digest",
        )


def test_suppressions_are_a_table_without_any_digest(listed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number, algorithm, scope, rows, reason, author, expiry; those that have ended only with --all."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert syncd("suppressions").out == "nothing is suppressed\n"
    suppress(3)
    suppress(4, "--list", HEAD, "--entry", row(4)[2], "--forever")
    head, first, second = syncd("suppressions").out.splitlines()
    assert re.split(r"  +", head.strip()) == ["id", "algorithm", "scope", "rows", "reason", "author", "expires (UTC)"]
    assert re.split(r"  +", first.strip()) == [
        "1",
        "sha256",
        "all lists",
        "1",
        "a holiday photo",
        ME,
        "2026-01-31 12:10",
    ]
    assert re.split(r"  +", second.strip()) == [
        "2",
        "sha256",
        "iwf.images, one entry",
        "1",
        "a holiday photo",
        ME,
        "never",
    ]
    assert syncd("unsuppress", 1, "--reason", "r").code == 0
    assert len(syncd("suppressions").out.splitlines()) == 2
    assert f"ended by {ME} on 2026-01-01 12:10" in syncd("suppressions", "--all").out


def test_suppressions_are_a_document_without_any_digest(listed: World) -> None:
    """Nor an entry id, nor the salt."""
    suppress(3, "--expires", "2026-01-03")
    assert syncd("suppressions", "--json").json == {
        "suppressions": [
            {
                "suppression": 1,
                "algorithm": "sha256",
                "list": None,
                "one_entry": False,
                "reason": "a holiday photo",
                "author": ME,
                "created_at": "2026-01-01T12:10:00Z",
                "expires_at": "2026-01-03T00:00:00Z",
                "expires_soon": True,
                "also_listed_since": None,
                "rows": 1,
                "state": "active",
                "hold": None,
                "confirmed_by": "",
                "ended_at": None,
                "ended_by": "",
                "ended_reason": "",
            }
        ],
        "total": 1,
    }


def test_a_file_is_one_version_a_list(listed: World, tmp_path: Path) -> None:
    """One digest a line, or CSV; a digest that is named twice counts once."""
    plain, table = tmp_path / "plain", tmp_path / "table.csv"
    plain.write_text(f"{alg(1)}\n\n{alg(2)}\n{alg(1)}\n")
    ran = syncd("suppress", "--file", plain, "--reason", "r")
    assert (ran.code, ran.out.splitlines()[:2]) == (
        0,
        [
            "2 suppressions (1-2): 2 entries are off the lists (all lists) until 2026-01-31 12:10 UTC",
            "iwf.images version 2 published",
        ],
    )
    table.write_text(f'\ufeffalgorithm,digest,entry\nSHA256,{hexadecimal(3)},"{row(3)[2]}"\nsha256,{hexadecimal(4)},\n')
    done = syncd("suppress", "--file", table, "--reason", "r", "--json").json
    assert (done["numbers"], done["versions"]) == ("3-4", {"iwf.images": 3})
    assert [one["one_entry"] for one in done["suppressions"]] == [True, False]
    assert served(listed) == set(range(5, 30)) | {0}
    assert syncd("unsuppress", "1-3,4", "--reason", "r").out.startswith("4 suppressions (1-4) ended: 4 entries are")
    assert served(listed) == set(range(30))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            f"algorithm,digest,entry\nsha256,{hexadecimal(1)},\nsha256,12,\nsha256,{hexadecimal(2)}\nmd 5,aa,\n",
            "3 bad rows: line 3, column digest: not a sha256 digest: 2 characters after the colon; "
            "line 4, column -: 2 values instead of 3; line 5, column digest: the algorithm in ALG:HEX is not valid",
        ),
        (f"{alg(1)}\nsha256\n", "1 bad row: line 2, column digest: a digest must have the form ALG:HEX"),
        (
            f"algorithm,digest,entry\nsha256,{hexadecimal(1)},{'e' * 257}\n",
            "1 bad row: line 2, column entry: an entry has at most 256 bytes",
        ),
        ("sha256,aa\n", "line 1 of bad is not the header algorithm,digest[,entry]"),
        ("", "bad has no digest"),
        (b"\xff\xfe", "bad is not UTF-8 text"),
        (f"{alg(1)}\n{alg(88)}\n", "no list has this sha256 digest on line 2"),
    ],
)
def test_bad_rows_are_named_and_nothing_is_done(listed: World, tmp_path: Path, content: str | bytes, said: str) -> None:
    """By line and column, without any value."""
    path = tmp_path / "bad"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    ran = syncd("suppress", "--file", path, "--reason", "r")
    assert ran.code == 2
    assert said in ran.err.splitlines()[0]
    assert "nothing was changed" in ran.err
    assert not re.search("[0-9a-f]{32}", ran.err)
    assert served(listed) == set(range(30))


def test_many_wait_for_a_second_operator(listed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing changes until another one confirms them; the one who asked cannot."""
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "many"
    path.write_text("".join(f"{alg(number)}\n" for number in range(MANY)))
    ran = syncd("suppress", "--file", path, "--reason", "r")
    assert (ran.code, ran.out) == (3, "")
    what = f"{HoldReason.SECOND_OPERATOR.words}: 11 of 30 rows in 24 hours, limit 10"
    assert ran.err == (
        f"held: 11 suppressions (1-11) for 11 rows must be confirmed by a second operator: {what}\n"
        "  still served: every list as before: nothing has changed yet\n"
        f"  to do: {HoldReason.SECOND_OPERATOR.to_do}; `syncd release 1 --reason R` puts the "
        "suppressions in force, `syncd discard 1 --reason R` drops them\n"
    )
    assert served(listed) == set(range(30))
    assert re.search(r"1 +iwf.images +suppressions +11 ", syncd("holds").out)
    assert f"hold 1: {HoldReason.SECOND_OPERATOR.words}" in " ".join(syncd("holds").out.split())
    assert syncd("suppressions").out.splitlines()[1].rstrip().endswith("not in force: hold 1")
    mine = syncd("release", 1, "--reason", "r")
    assert (mine.code, mine.err.splitlines()[0]) == (
        6,
        f"error: {ME} asked for the suppressions of hold 1: another operator has to confirm them",
    )
    with listed.publisher() as publisher:
        end_hold(publisher, 1, release=True, actor="bob", reason="seen", now=listed.clock())
    assert served(listed) == set(range(MANY, 30))
    assert "bob" in syncd("audit").out


def test_the_end_of_their_hold_says_what_became_of_them(
    listed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Discarded, they never had an effect; released, they are in force."""
    path = tmp_path / "many"
    path.write_text("".join(f"{alg(number)}\n" for number in range(MANY)))
    assert syncd("suppress", "--file", path, "--reason", "r", "--json").json["hold"]["hold"] == 1
    assert by_bob(monkeypatch, "discard", 1, "--reason", "r").out == (
        "hold 1 was discarded: suppressions 1-11 are dropped, and no list has changed\n"
    )
    assert syncd("suppress", "--file", path, "--reason", "r").code == 3
    assert by_bob(monkeypatch, "release", 2, "--reason", "r").out == (
        "hold 2 was released: suppressions 12-22 are in force, 11 rows off the lists\niwf.images version 2 published\n"
    )
    assert syncd("holds").out == "nothing is held\n"


def test_the_end_of_a_hold_of_a_known_good_file_speaks_of_the_file(
    listed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no suppressions that it could name."""
    path = tmp_path / "good"
    path.write_text("".join(f"{alg(number)}\n" for number in range(MANY)))
    path.chmod(0o644)
    gate = f'[sources.iwf.gate]\nknown_good_file = "{path}"\n[corrections]\nsecond_operator = '
    configure(listed.base / "syncd.toml", settings(listed, gate + "true\n"), monkeypatch)
    assert syncd("sync").code == 3
    assert "syncd suppressions" not in syncd("holds").err + (shown := syncd("holds", 1)).err
    assert [line.split() for line in shown.out.splitlines()[-4:]] == [
        ["algorithm", "label", "added", "removed", "relabelled"],
        ["sha256", "A", "0", "4", "0"],
        ["sha256", "B", "0", "4", "0"],
        ["sha256", "C", "0", "3", "0"],
    ]
    assert syncd("holds", 1, "--out", tmp_path / "rows.csv").code == 0
    written = (tmp_path / "rows.csv").read_text().splitlines()
    assert len(written) == 1 + MANY
    assert {line.split(",")[0] for line in written[1:]} == {"removed"}
    assert (tmp_path / "rows.csv").stat().st_mode & 0o777 == 0o600
    assert by_bob(monkeypatch, "discard", 1, "--reason", "r").out == (
        "hold 1 was discarded: the changed known-good file of iwf.images is not used, and no list has changed\n"
    )


def test_an_extension_needs_no_digest(listed: World) -> None:
    """No list changes; the audit log knows it."""
    suppress(3, "--expires", "12h")
    assert syncd("suppress", "--extend", 1, "--reason", "still wrong", "--expires", "60d").out == (
        "suppression 1: in force until 2026-03-02 12:10 UTC\n"
    )
    assert syncd("suppress", "--extend", "1", "--reason", "still wrong", "--forever").out == (
        "suppression 1: in force until it is ended\n"
    )
    with listed.publisher() as publisher:
        first, second = (one.act for one in publisher.catalog.audit_entries()[:2])
        assert publisher.catalog.head(HEAD).version == 2  # type: ignore[union-attr]  # it is published
    assert first == SuppressionsExtended((1,), "never", "still wrong")
    assert second == SuppressionsExtended((1,), "2026-03-02T12:10:00Z", "still wrong")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("suppress", "--reason", "r"), 2, "no digest was given"),
        (("suppress", alg(3)), 2, "Missing option '--reason'"),
        (("suppress", alg(3), "--reason", " "), 2, "a reason is needed"),
        (("suppress", "sha256:12", "--reason", "r"), 2, "not a sha256 digest"),
        (("suppress", alg(3), "--reason", "r", "--expires", "soon"), 2, "--expires is neither a time nor a duration"),
        (("suppress", alg(3), "--reason", "r", "--expires", "2025-12-31"), 2, "which is in the past"),
        (("suppress", alg(3), "--reason", "r", "--expires", "9d", "--forever"), 2, "exclude each other"),
        (("suppress", alg(3), "--reason", "r", "--list", "iwf.image"), 2, "there is no list iwf.image"),
        (("suppress", alg(3), "--reason", "r", "--list", "A B"), 2, "'A B' is not a list name"),
        (("suppress", alg(3), "--reason", "r", "--entry", "x"), 2, "no list has this sha256 digest with that entry"),
        (("suppress", alg(3), "--reason", "r", "--entry", "e" * 300), 2, "an entry has at most 256 bytes"),
        (("suppress", alg(88), "--reason", "r"), 2, "no list has this sha256 digest"),
        (("suppress", f"pdq:{'0' * 64}", "--reason", "r"), 2, "give the listed digest of the hit"),
        (("suppress", alg(3), "--reason", f"not {hexadecimal(3)}"), 2, "the reason contains the digest"),
        (("suppress", alg(3), "--file", "f", "--reason", "r"), 2, "--file excludes ALG:DIGEST"),
        (("suppress", "--file", "/nowhere", "--reason", "r"), 2, "/nowhere"),
        (("suppress", alg(3), "--extend", "1", "--reason", "r"), 2, "--extend takes neither"),
        (("suppress", "--extend", "7", "--reason", "r"), 2, "there is no suppression 7"),
        (("unsuppress", "7", "--reason", "r"), 2, "there is no suppression 7"),
        (("unsuppress", "x", "--reason", "r"), 2, "a suppression is named by its number"),
        (("unsuppress", "9-2", "--reason", "r"), 2, "is not a range"),
        (("unsuppress", "1-999999999", "--reason", "r"), 2, "is not a range"),
    ],
)
def test_wrong_orders_change_nothing(listed: World, arguments: tuple[str, ...], code: int, said: str) -> None:
    """Each ends in a clear error."""
    ran = syncd(*arguments)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not re.search("[0-9a-f]{32}", ran.err)
    assert served(listed) == set(range(30))
    assert syncd("suppressions", "--all").out == "nothing was ever suppressed\n"


def test_a_digest_is_not_suppressed_twice(listed: World) -> None:
    """The error names the suppression, and how to extend it; one that has ended is not ended again."""
    assert suppress(3).code == 0
    again = suppress(3)
    assert (again.code, again.err.splitlines()[0]) == (
        6,
        "error: suppression 1 covers this sha256 digest already",
    )
    assert "`syncd suppress --extend 1 --reason R`" in again.err
    assert syncd("unsuppress", 1, "--reason", "r").code == 0
    assert syncd("unsuppress", 1, "--reason", "r").code == 6
    assert syncd("suppress", "--extend", 1, "--reason", "r").code == 6


def test_a_digest_ahead_of_the_lists_never_matches(listed: World) -> None:
    """It is suppressed before a list has it."""
    ran = suppress(40, "--ahead")
    assert ran.out.startswith("suppression 1: not listed now, and kept off all lists until 2026-01-31 12:10 UTC\n")
    listed.publish(add=[row(40), row(41)])
    assert syncd("sync").code == 0
    assert served(listed) == set(range(30)) | {41}


def test_a_sync_without_a_daemon_ends_what_is_due(listed: World) -> None:
    """And says so; a dry run does not."""
    suppress(3, "--expires", "12h")
    listed.clock.forward(hours=13)
    assert "expired" not in syncd("sync", "--dry-run").err
    assert served(listed) == set(range(30)) - {3}
    ran = syncd("sync")
    assert (ran.code, ran.err) == (0, f"note: suppressions expired (1): 1 entry listed again\n{HERE}")
    assert served(listed) == set(range(30))


def test_another_entry_of_the_digest_is_shown(listed: World) -> None:
    """When it is suppressed, and in the table; it still matches."""
    algorithm, digest, entry, label = row(3)
    listed.publish(add=[(algorithm, digest, "other", label)])
    assert syncd("sync").code == 0
    ran = suppress(3, "--entry", entry)
    said = "warning: suppression 1: the digest is also listed under another entry, which matches\n"
    assert said in ran.err
    assert said in syncd("suppressions").err
    assert 3 in served(listed)


def test_another_entry_that_joins_is_shown_without_a_daemon_too(listed: World) -> None:
    """By the sync that lists it, once, and in the table from then on."""
    algorithm, digest, entry, label = row(3)
    assert suppress(3, "--entry", entry).code == 0
    listed.publish(add=[(algorithm, digest, "other", label)])
    said = "warning: suppression 1: the digest is also listed under another entry, which matches\n"
    assert said not in syncd("sync", "--dry-run").err
    assert said in syncd("sync").err
    assert said not in syncd("sync").err
    assert said in syncd("suppressions").err
    assert 3 in served(listed)


def test_another_entry_that_is_gone_is_no_longer_shown(listed: World) -> None:
    """After the sync that removes it; if it comes back, it is shown again."""
    algorithm, digest, entry, label = row(3)
    other = (algorithm, digest, "other", label)
    said = "warning: suppression 1: the digest is also listed under another entry, which matches\n"
    listed.publish(add=[other])
    assert syncd("sync").code == 0
    assert said in suppress(3, "--entry", entry).err
    listed.publish(remove=[other])
    assert said not in syncd("sync").err
    shown = syncd("suppressions", "--json").json["suppressions"]
    assert (said in syncd("suppressions").err, [one["also_listed_since"] for one in shown]) == (False, [None])
    assert 3 not in served(listed)
    listed.publish(add=[other])
    assert said in syncd("sync").err
    assert said in syncd("suppressions").err


MANUAL = re.search(
    r"^## We matched an innocent file\n(.*?)^## ",
    (Path(__file__).parents[1] / "docs" / "situations.md").read_text(),
    re.M | re.S,
)


def test_the_steps_of_the_manual_can_be_taken(listed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command that docs/situations.md gives to who matched an innocent file, in its order."""
    monkeypatch.setenv("COLUMNS", "200")
    assert MANUAL
    named = {
        re.sub(r"\s+", " ", one)
        for one in re.findall(r"`(syncd [^`]+)`|\$ (syncd .*)", MANUAL[1])
        for one in one
        if one
    }
    tried = set[str]()

    def run(command: str, *arguments: object, stdin: str = "") -> Ran:
        tried.add(command)
        return syncd(*arguments, stdin=stdin)

    digest, many = f"{alg(3)}\n", tmp_path / "wrong.csv"
    reason = ("--reason", "case 4711: holiday photo")
    assert (
        run(
            'syncd suppress - --reason "case 4711: holiday photo" < digest', "suppress", "-", *reason, stdin=digest
        ).code
        == 0
    )
    assert run("syncd suppressions", "suppressions").out.count("holiday photo") == 1
    assert run("syncd matchers", "matchers").code == 0
    assert 3 not in served(listed)
    assert run("syncd lookup DIR -", "lookup", listed.copy, "-", stdin=digest).code == 10
    many.write_text("algorithm,digest\n" + "".join(f"sha256,{hexadecimal(number)}\n" for number in range(10, 21)))
    for end, command in (("discard", "syncd discard HOLD --reason R"), ("release", "syncd release HOLD --reason R")):
        file = ("suppress", "--file", many, "--reason", "case 4712")
        assert run('syncd suppress --file wrong.csv --reason "case 4712"', *file).code == 3
        number = run("syncd holds", "holds").out.splitlines()[1].split()[0]
        with monkeypatch.context() as patched:
            patched.setattr("syncd.cli.operator.actor", lambda: "bob")
            assert run(command, end, number, "--reason", "r").code == 0
    assert served(listed) == set(range(30)) - {3, *range(10, 21)}
    listed.clock.forward(days=28)
    listed.publish(add=[row(40)])
    assert syncd("sync").code == 0
    assert "suppression 1 (all lists: case 4711: holiday photo) expires in 2 days" in run("syncd status", "status").err
    assert run("syncd suppress --extend 3 --reason R", "suppress", "--extend", 1, "--reason", "r").code == 0
    assert "suppression 1 " not in syncd("status").err
    ended = ("unsuppress", 1, "--reason", "case 4711: it was the right file")
    assert run('syncd unsuppress 3 --reason "case 4711: it was the right file"', *ended).code == 0
    assert 3 in served(listed)
    assert "ended by" in run("syncd suppressions --all", "suppressions", "--all").out
    assert "ended suppression 1 (1 entry listed again)" in run("syncd audit", "audit").out
    assert tried == named


# one judgement, many views


def test_what_expires_within_three_days_is_shown_by_every_view(listed: World) -> None:
    """Status, probe, dashboard and metrics; none of them shows a digest."""
    assert suppress(3).code == 0
    assert suppress(4, "--list", HEAD, "--forever").code == 0
    assert syncd("status").out.endswith("2 suppressions in force: `syncd suppressions`\n")
    assert check()[0] == 0
    listed.clock.forward(days=28)
    listed.publish(add=[row(40)])
    assert syncd("sync").code == 0
    told = "suppression 1 (all lists: a holiday photo) expires in 2 days: then it matches again"
    keep = "`syncd suppress --extend 1 --reason R` keeps it in force"
    assert f"warning: {told}; {keep}\n" in syncd("status").err
    assert check() == (1, f"SYNCD WARNING - {told}; {keep}")
    found = syncd("status", "--json").json["suppressions"]
    assert (found["in_force"], found["expiring"]) == (2, 1)
    assert found["lists"] == [{"list": None, "in_force": 1}, {"list": "iwf.images", "in_force": 1}]
    assert [(one["suppression"], one["act"]) for one in found["soonest"]] == [(1, f"{told}; {keep}")]
    metrics = scraped(listed)
    assert metrics("syncd_suppressions", list="*") == 1
    assert metrics("syncd_suppressions", list="iwf.images") == 1
    assert metrics("syncd_suppressions_expiring") == 1
    with listed.publisher() as publisher:
        seen = overview.read(listed.state, publisher.catalog, {"iwf": 600.0}, listed.clock())
    data = PageData(seen, tasks(seen))
    assert [(one.urgent, one.why) for one in data.tasks] == [(False, told)]
    page = text(overview_page(data, {}))
    assert "2 suppressions in force" in page
    assert "1 all lists 1 a holiday photo" in page
    assert hexadecimal(3) not in str(overview_page(data, {}))


# by the daemon


@pytest.fixture
def desk(listed: World) -> Iterator[tuple[Suppressions, Holds, list[Event]]]:
    """The daemon's suppressions and holds, and what they emit."""
    log = list[Event]()
    with listed.publisher() as publisher:
        made = Suppressions(publisher, listed.clock, log.append, lambda: None, lambda: True)
        yield made, Holds(publisher, listed.clock, log.append, lambda: None), log


def order(*found: int, entry: str | None = None, **more: Any) -> SuppressionOrder:
    """An order to suppress the digests of these numbers."""
    wanted = tuple(Correction(Digest.parse(alg(number)), entry) for number in found)
    return SuppressionOrder(wanted, "a holiday photo", **more)


def test_each_act_is_an_event(listed: World, desk: tuple[Suppressions, Holds, list[Event]]) -> None:
    """Made, extended, ended."""
    made, _, log = desk
    ends = listed.clock() + timedelta(days=9)
    made.suppress(order(3, 4, expires_at=ends), "alice")
    made.answer(Order(do="extend", suppressions=(1,), reason="still", expires_at=ends), "bob")
    made.unsuppress((1, 2), "it was right", "bob")
    assert log == [
        SuppressedEvent("1-2", ("iwf.images",), 2, "alice", "", "a holiday photo", ends),
        SuppressionExtended("1", "bob", "still", ends),
        UnsuppressedEvent("1-2", ("iwf.images",), 2, "bob", "it was right"),
    ]


def test_what_is_due_is_done_once(listed: World, desk: tuple[Suppressions, Holds, list[Event]]) -> None:
    """Announced three days before, once; then ended, once."""
    made, _, log = desk
    ends = listed.clock() + timedelta(days=9)
    made.suppress(order(3, expires_at=ends), "alice")
    log.clear()
    listed.clock.forward(days=6)
    made.look()
    made.look()
    (soon,) = log
    assert isinstance(soon, SuppressionExpiresSoon)
    assert (soon.suppression, soon.lists, soon.rows, soon.user, soon.expires_at) == (1, (), 1, "alice", ends)
    log.clear()
    listed.clock.forward(days=3)
    made.look()
    made.look()
    assert log == [SuppressionExpired("1", ("iwf.images",), 1, "alice", "a holiday photo")]
    assert served(listed) == set(range(30))


def test_an_extended_suppression_is_announced_again(
    listed: World, desk: tuple[Suppressions, Holds, list[Event]]
) -> None:
    """Before its new end."""
    made, _, log = desk
    made.suppress(order(3, expires_at=listed.clock() + timedelta(days=2)), "alice")
    made.look()
    made.answer(Order(do="extend", suppressions=(1,), reason="still"), "bob")
    log.clear()
    made.look()
    assert log == []
    listed.clock.forward(days=28)
    made.look()
    assert [type(event) for event in log] == [SuppressionExpiresSoon]


def test_an_entry_that_joins_a_suppressed_one_is_reported_once(
    listed: World, desk: tuple[Suppressions, Holds, list[Event]]
) -> None:
    """After a publication, not before."""
    made, _, log = desk
    algorithm, digest, entry, label = row(3)
    made.suppress(order(3, entry=entry), "alice")
    made.look()
    log.clear()
    listed.publish(add=[(algorithm, digest, "other", label)])
    assert listed.sync().exit_code == 0
    made.look_for_entries()
    assert log == []
    made.note_publication()
    made.look_for_entries()
    made.note_publication()
    made.look()
    (event,) = log
    assert isinstance(event, SuppressionGainedEntry)
    assert (event.suppression, event.user) == (1, "alice")


def test_a_hold_is_reported_once_a_day_also_after_a_restart(
    listed: World, desk: tuple[Suppressions, Holds, list[Event]]
) -> None:
    """Each open hold of any lane, until it ends."""
    made, holds, log = desk
    made.suppress(order(*range(MANY)), "alice")
    assert [type(event) for event in log] == [HoldOpened]
    listed.publish(remove=rows(0, 30))
    assert syncd("sync").code == 3
    log.clear()
    listed.clock.forward(hours=23)
    made.look()
    assert log == []
    listed.clock.forward(hours=1)
    made.look()
    with listed.publisher() as publisher:  # a daemon that was started again
        Suppressions(publisher, listed.clock, log.append, lambda: None, lambda: True).look()
    assert [(event.hold, event.lane, event.seconds) for event in log if isinstance(event, HoldWaits)] == [
        (1, "suppressions", 86400),
        (2, "removals", 86400),
    ]
    assert log[0].document()["to_do"].endswith("`syncd discard 1 --reason R` drops them")
    holds.end(1, release=True, user="bob", reason="seen")
    log.clear()
    listed.clock.forward(days=1, seconds=1)
    made.look()
    assert [(event.hold, event.seconds) for event in log if isinstance(event, HoldWaits)] == [(2, 2 * 86400 + 1)]


def test_a_clock_that_ran_ahead_does_not_silence_a_hold(
    listed: World, desk: tuple[Suppressions, Holds, list[Event]]
) -> None:
    """A report of next year counts as long ago."""
    made, _, log = desk
    made.suppress(order(*range(MANY)), "alice")
    listed.clock.forward(days=365)
    made.look()
    listed.clock.forward(days=-364)
    log.clear()
    made.look()
    assert [type(event) for event in log if isinstance(event, HoldWaits)] == [HoldWaits]


def test_a_confirmation_is_an_event(listed: World, desk: tuple[Suppressions, Holds, list[Event]]) -> None:
    """With both operators."""
    made, holds, log = desk
    made.suppress(order(*range(MANY)), "alice")
    ended = holds.end(1, release=True, user="bob", reason="seen")
    assert (ended["suppressions"], ended["versions"], ended["published"]) == ("1-11", {"iwf.images": 2}, True)
    assert log[-1] == SuppressedEvent("1-11", ("iwf.images",), 11, "alice", "bob", "a holiday photo", None)


def test_entries_that_would_return_are_held(listed: World, tmp_path: Path) -> None:
    """Each list with its hold; the suppressions have ended, and the exit code says that entries wait."""
    many = tmp_path / "many"
    many.write_text("".join(f"{alg(number)}\n" for number in range(2000, 3500)))
    assert syncd("suppress", "--file", many, "--reason", "r", "--ahead").code == 0
    listed.publish(add=rows(2000, 3500))
    assert syncd("sync").code == 0
    done = syncd("unsuppress", "1-1500", "--reason", "r")
    assert done.code == 3
    assert done.out == "1,500 suppressions (1-1500) ended: no entry is listed again\n"
    assert "1,500 entries would return to iwf.images: more rows would be added than the limits allow" in done.err
    assert "`syncd release 1 --reason R`" in done.err
    assert syncd("release", 1, "--reason", "seen").code == 0
    assert syncd("status", "--json").json["lists"][0]["rows"] == 1530


def test_entries_that_return_by_expiry_are_judged(listed: World, tmp_path: Path) -> None:
    """A sync says so."""
    many = tmp_path / "many"
    many.write_text("".join(f"{alg(number)}\n" for number in range(2000, 3500)))
    assert syncd("suppress", "--file", many, "--reason", "r", "--ahead", "--expires", "12h").code == 0
    listed.publish(add=rows(2000, 3500))
    assert syncd("sync").code == 0
    listed.clock.forward(hours=13)
    assert "iwf.images: entries that would return are held: more rows would be added" in syncd("sync").err


def test_the_daemon_suppresses_and_logs_no_digest(today: World, tmp_path: Path) -> None:  # noqa: F811 - a fixture
    """Through the control socket, from all of standard input, a file and the command line."""
    many = tmp_path / "many"
    many.write_text("".join(f"{alg(number)}\n" for number in range(100, 130)))
    with daemon(today) as running:
        assert syncd("sync").code == 0
        assert syncd("suppress", "-", "--reason", "r", stdin=alg(1)).out.splitlines()[1:] == [
            "iwf.images version 2 published",
            "undo: syncd unsuppress 1 --reason R",
        ]
        assert running.until("suppressed")["suppressions"] == "1"
        assert suppress(1).code == 6
        assert suppress(77).code == 2
        assert syncd("suppress", "--file", many, "--reason", "r").code == 2
        assert syncd("suppress", "--file", many, "--reason", "r", "--ahead").code == 0
        assert running.until("suppressed")["suppressions"] == "2-31"
        assert syncd("suppress", "--extend", "2-31", "--reason", "r", "--expires", "9d").code == 0
        assert [one["suppression"] for one in syncd("suppressions", "--json").json["suppressions"]] == [*range(1, 32)]
        assert syncd("status", "--json").json["suppressions"]["in_force"] == 31
        assert not today.pull().errors
        assert today.hits(1) == []
        assert syncd("unsuppress", "1-31", "--reason", "r").out.startswith("31 suppressions (1-31) ended: 1 entry is")
        assert running.until("unsuppressed")["rows"] == 1
        assert [one["state"] for one in syncd("suppressions", "--all", "--json").json["suppressions"]] == ["ended"] * 31
        running.stop()
    with today.publisher() as publisher:
        entries = publisher.catalog.audit_entries()
    assert (ME, Unsuppressed(tuple(range(1, 32)), 1, "r")) in [(entry.actor, entry.act) for entry in entries]
    assert not re.search(rf"{hexadecimal(1)}|{hexadecimal(77)}", syncd("audit", "--json").out)


# the parsers


def test_numbers_are_read_as_they_are_printed() -> None:
    """Single ones and ranges, each once."""
    assert corrections.numbers(["3-5,9", "4", "1"]) == (3, 4, 5, 9, 1)
    for wrong in ("", "-", "3-", "-3", "3-2", "1e3", "\u0663", "0-100000"):
        with pytest.raises(UsageError):
            corrections.numbers([wrong])


@pytest.mark.parametrize("hours", [1, 9, 30])
def test_with_a_clock_set_back_corrections_work_and_are_kept(listed: World, hours: int) -> None:
    """A sync is refused; what operators do reaches matchers whose clock is right, and stays once ours is corrected."""
    listed.publish(add=rows(30, 130))
    assert syncd("sync").code == 0
    listed.publish(remove=rows(10, 130))
    assert syncd("sync").code == 3
    right = listed.clock.now
    head = listed_version(listed)
    few = set(range(10)) - {3}
    for command, left in (
        (("suppress", alg(3)), set(range(60)) - {3}),
        (("release", 1), few),
        (("rollback", HEAD, 1), few),
        (("unpin", HEAD), few),
    ):
        listed.clock.now = right - timedelta(hours=hours)
        ran = syncd(*command, "--reason", "r")
        assert ran.code == 0
        unit = "1 day" if hours == 30 else "1 hour" if hours == 1 else f"{hours} hours"
        assert ran.err.startswith("warning: the ")
        assert f" is dated {unit} in the future (" in ran.err
        assert "): if this host's clock is wrong, matchers refuse what was signed now from " in ran.err
        assert syncd("sync").code == 6
        listed.clock.now = right
        head += 1
        assert (served(listed), listed_version(listed)) == (left, head)
        prove_feed(listed)
    assert syncd("sync").code == 0
    assert (served(listed), listed_version(listed)) == (few, head)


def test_a_correction_by_a_clock_days_behind_reaches_matchers_once_it_is_right(listed: World) -> None:
    """Until then its signature has expired for them, and they go on with the version that they hold."""
    assert served(listed) == set(range(30))
    right = listed.clock.now
    listed.clock.now = right - timedelta(days=3)
    ran = syncd("suppress", alg(3), "--reason", "r")
    assert ran.code == 0
    assert f"matchers refuse what was signed now from {right - timedelta(days=1):%Y-%m-%d %H:%M} UTC on" in ran.err
    assert "to do: correct the clock: the daemon then signs again within a minute, without one `syncd sync` does" in (
        ran.err
    )
    assert "in the future" in syncd("status").err
    listed.clock.now = right
    with pytest.raises(ExpiredError):
        served(listed)
    assert listed.hits(3, listed.matcher())
    assert syncd("sync").code == 0
    assert served(listed) == set(range(30)) - {3}
    prove_feed(listed)


@pytest.mark.parametrize(
    ("commands", "key"),
    [
        ([("suppress", alg(3)), ("unsuppress", 2)], "rows"),
        ([("rollback", HEAD, 1), ("unpin", HEAD)], "left_out"),
        ([("release", 1)], "ended"),
        ([("retire", HEAD)], "retired_at"),
    ],
)
def test_json_says_by_how_much_the_clock_is_behind(
    listed: World, commands: Sequence[tuple[object, ...]], key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every command that publishes a correction; null if it did not."""
    listed.publish(add=rows(30, 130))
    assert syncd("sync").code == 0
    if key == "ended":
        listed.publish(remove=rows(10, 130))
        assert syncd("sync").code == 3
    if key == "retired_at":
        configure(listed.base / "syncd.toml", settings(listed).partition("[sources")[0], monkeypatch)
    assert syncd("suppress", alg(5), "--reason", "r", "--json").json["clock"] is None
    for command in commands:
        listed.clock.forward(days=-3)
        back = syncd(*command, "--reason", "r", "--json").json
        assert key in back
        assert back["clock"]["behind_seconds"] == 3 * 86400
        assert " is dated 3 days in the future (" in back["clock"]["message"]
        assert "correct the clock" in back["clock"]["to_do"]
        assert syncd(*command, "--reason", "r").code in {2, 6}  # done already: nothing is signed
        listed.clock.forward(days=3)


def listed_version(world: World) -> int:
    """The version in force."""
    with world.publisher() as publisher:
        return publisher.catalog.heads()[0].version


def test_a_clock_set_back_moves_no_expiry(listed: World) -> None:
    """A suppression ends at the time that was shown: not early, not late, and it does not come back afterwards."""
    start = listed.clock()
    assert syncd("suppress", alg(3), "--reason", "r", "--expires", "2d").code == 0
    listed.clock.now = start - timedelta(hours=9)
    made = syncd("suppress", alg(4), "--reason", "r", "--expires", "2d")
    assert f"until {start + timedelta(hours=39):%Y-%m-%d %H:%M} UTC" in made.out
    last = 0.0
    for hours, off in ((-9, {3, 4}), (38.9, {3, 4}), (39, {3}), (47.9, {3}), (48, set()), (40, set())):
        listed.clock.now = start + timedelta(hours=hours)
        with listed.publisher() as publisher:
            expire(publisher, listed.clock())
        last = max(hours, last)
        listed.clock.now = start + timedelta(hours=last)
        assert served(listed) == set(range(30)) - off, hours
    prove_feed(listed)
