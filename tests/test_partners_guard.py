"""The partner's guard: what `feed publish` stops at, and what a code permits."""

import shutil
import stat
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from command_line import Ran, syncd, use_clock
from syncd.feed.kept import KeptVersion, kept_versions, lists_of
from syncd.feed.signed import load_repository
from syncd.format.manifest import EndState, Manifest, ManifestRef, SegmentRef
from syncd.limits import ListLimits
from syncd.listfile import ListFiles
from syncd.model import Algorithm, Counts, ListName
from syncd.outcomes import HoldReason
from syncd.pipeline.guard import PartnersGuard, windows_of
from syncd.pipeline.values import Period, Window
from syncd.publish import author
from world import IMAGES, START, Row, World, row, rows

HEADER = "algorithm,digest,entry,label"
STRICT = ListLimits(
    max_removed_percent=0, max_removed_rows=0, max_added_percent=0, max_added_rows=0, max_relabelled_rows=0
)


@pytest.fixture
def partner(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A partner with a list of 1,002 rows, and its commands by the world's clock."""
    use_clock(world.clock, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    world.publish(full=rows(0, 1002))
    return world


def csv(world: World, content: Sequence[tuple[str, ...]]) -> Path:
    path = world.base / "rows.csv"
    path.write_text("\n".join([HEADER, *(",".join(one) for one in content), ""]))
    return path


def publish(world: World, *more: object) -> Ran:
    return syncd("feed", "publish", world.partner.root, "--list", "images", *more)


def revert(world: World, *more: object) -> Ran:
    return syncd("feed", "revert", world.partner.root, "images", *more)


def code(ran: Ran) -> str:
    (line,) = (line for line in ran.out.splitlines() if line.startswith("code: "))
    return line.removeprefix("code: ")


def version(world: World) -> int:
    head = author.open_list(world.partner, load_repository(world.partner), IMAGES)
    return head.manifest.version if head else 0


def published_rows(world: World) -> set[tuple[str, str]]:
    """Entry and label of every row in force."""
    head = author.open_list(world.partner, load_repository(world.partner), IMAGES)
    assert head is not None
    parts = [part for stack in head.stacks.values() for part in stack.effective()]
    return {
        (entry, part.labels[label])
        for part in parts
        for entry, label in zip(part.entries.to_pylist(), part.codes.tolist(), strict=True)
    }


def everything(world: World) -> dict[str, bytes]:
    """All files that the feed serves."""
    feed = world.partner.root
    files = [path for path in feed.rglob("*") if path.is_file() and ".work" not in path.parts]
    return {str(path.relative_to(feed)): path.read_bytes() for path in files}


# the limits


def test_a_list_that_halves_is_not_published(partner: World) -> None:
    """The counts, the reason and a code are shown, nothing is signed, and the exit code is 3."""
    before = everything(partner)
    ran = publish(partner, "--full", csv(partner, rows(0, 500)))
    given_code = code(ran)
    assert ran == Ran(
        3,
        "images version 2 is held: nothing was published\n"
        "algorithm    now  added  removed  relabelled  after\n"
        "sha256     1,002      0      502           0    500\n"
        f"code: {given_code}\n",
        "held: more rows would be removed than the limits allow: 502 of 1,002 rows (sha256), limit 50\n"
        "  still served: images version 1\n"
        "  to do: compare the counts with what you meant to publish. If they are right, run the same command with "
        f"--accept {given_code}: it publishes exactly these rows, and nothing if anything has changed\n",
    )
    assert given_code.startswith("2-")
    assert everything(partner) == before
    assert not partner.partner.staging.exists()


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (rows(0, 1002 - 50), (), 0),
        (rows(0, 1002 - 51), (), 3),
        (rows(0, 1002 - 51), ("--max-removed", "6"), 0),
        (rows(0, 10), (), 3),
        (rows(0, 10), ("--max-removed", "100"), 0),
        (rows(0, 2002), (), 0),
        (rows(0, 2003), (), 3),
        (rows(0, 2003), ("--max-added", "100"), 0),
        ([row(number, "Z") for number in range(1002)], (), 3),
    ],
)
def test_the_limits_are_those_of_the_gate(
    partner: World, content: list[Row], options: tuple[str, ...], expected: int
) -> None:
    """A percentage of the rows, or an absolute number if that allows more; both percentages can be chosen."""
    ran = publish(partner, "--full", csv(partner, content), *options, "--json")
    assert (ran.code, ran.json["changed"], ran.err) == (expected, expected == 0, "")
    assert bool(ran.json["judged"]["findings"]) == (expected == 3)


def test_a_list_is_not_emptied_by_accident(partner: World) -> None:
    """Whatever share may be removed."""
    ran = publish(partner, "--remove", csv(partner, rows(0, 1002)), "--max-removed", "100")
    assert (ran.code, "the update would leave the list without any entry" in ran.err) == (3, True)
    assert publish(partner, "--remove", csv(partner, rows(0, 1002)), "--max-removed", "100", "--accept", code(ran)) == (
        Ran(
            0,
            "images version 2 published: 0 rows\n"
            "algorithm    now  added  removed  relabelled  after\n"
            "sha256     1,002      0    1,002           0      0\n",
            "",
        )
    )


@pytest.mark.parametrize("percent", ["-1", "nan", "inf", "1e9"])
def test_a_percentage_must_be_one(partner: World, percent: str) -> None:
    """Anything else ends before a file is read."""
    ran = publish(partner, "--full", "/nowhere.csv", "--max-removed", percent)
    assert (ran.code, ran.err.splitlines()[0]) == (2, "error: --max-removed and --max-added are percentages")


def test_the_first_version_is_judged_by_its_size_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows it has; without any it is an error."""
    use_clock(world.clock, monkeypatch)
    assert publish(world, "--full", csv(world, [])).code == 2
    assert publish(world, "--full", csv(world, rows(0, 5000))).code == 0


def test_bad_rows_that_are_left_out_count(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If 900 of 1,000 rows are bad, the other 100 do not become the list unseen, not even as the first version."""
    use_clock(world.clock, monkeypatch)
    bad = [("sha256", "00ff", f"e{number}", "A") for number in range(900)]
    file, aside = csv(world, [*rows(0, 100), *bad]), world.base / "bad.csv"
    ran = publish(world, "--full", file, "--skip-bad", aside)
    assert (ran.code, version(world)) == (3, 0)
    reason = "held: more bad rows would be left out than the limits allow: 900 of 1,000 rows, limit 50"
    assert ran.err.splitlines()[:3] == [
        f"warning: 900 bad rows left out: see {aside}",
        reason,
        "  still served: nothing of it yet",
    ]
    few = csv(world, [*rows(0, 100), *bad[:50]])
    assert publish(world, "--full", few, "--skip-bad", aside, "--accept", code(ran)).code == 3
    assert publish(world, "--full", few, "--skip-bad", aside).code == 0


def test_a_bad_row_whose_entry_is_on_the_list_counts_as_removed(partner: World) -> None:
    """It is missing from the whole list, and so would be removed."""
    spoilt = [("sha256", "00ff", *one[2:]) if number < 51 else one for number, one in enumerate(rows(0, 1002))]
    ran = publish(partner, "--full", csv(partner, spoilt), "--skip-bad", partner.base / "bad.csv", "--json")
    assert (ran.code, ran.json["skipped"]) == (3, 51)
    assert [one["reason"] for one in ran.json["judged"]["findings"]] == ["bad_rows", "shrunk"]
    assert ran.json["judged"]["algorithms"]["sha256"]["removed"] == 51


# small steps


def test_small_steps_do_not_add_up_unseen(partner: World) -> None:
    """The removals of 24 hours and of 7 days count together, as far as the feed keeps versions."""
    assert publish(partner, "--remove", csv(partner, rows(0, 40))).code == 0
    partner.clock.forward(hours=1)
    ran = publish(partner, "--remove", csv(partner, rows(40, 60)))
    assert (ran.code, "60 of 1,002 rows (sha256) in 24 hours, limit 50" in ran.err) == (3, True)
    partner.clock.forward(hours=24)
    assert publish(partner, "--remove", csv(partner, rows(40, 60))).code == 0
    partner.clock.forward(hours=25)
    ran = publish(partner, "--remove", csv(partner, rows(60, 101)))
    assert (ran.code, "101 of 1,002 rows (sha256) in 7 days, limit 100" in ran.err) == (3, True)
    partner.clock.forward(days=8)
    assert publish(partner, "--remove", csv(partner, rows(60, 101))).code == 0


def test_a_confirmed_change_is_the_new_start(partner: World) -> None:
    """What was published before it, and it itself, no longer count: the next day is an ordinary one."""
    halved = csv(partner, rows(0, 500))
    assert publish(partner, "--full", halved, "--accept", code(publish(partner, "--full", halved))).code == 0
    partner.clock.forward(hours=1)
    assert publish(partner, "--remove", csv(partner, rows(0, 10))).code == 0
    (partner.partner.work / "confirmed.images").write_text("not a number")
    ran = publish(partner, "--remove", csv(partner, rows(10, 20)))
    assert (ran.code, "522 of 1,002 rows (sha256) in 24 hours" in ran.err) == (3, True)


def kept(number: int, at: datetime, size: int, **counts: int) -> KeptVersion:
    """A version with ``size`` rows; the first if it is number 1."""
    segment = SegmentRef(sha256="a" * 64, length=1, algorithm=Algorithm.MD5, kind="base", rows=size, removals=0)
    manifest = Manifest(
        list=ListName("images"),
        version=number,
        previous=ManifestRef(version=number - 1, sha256="b" * 64) if number > 1 else None,
        created=at,
        end_state={Algorithm.MD5: EndState(rows=size, checksum="c" * 32)},
        stack=(segment,),
    )
    return KeptVersion(manifest, "d" * 64, {Algorithm.MD5: Counts(**counts)})


def test_the_windows_reach_back_to_the_version_in_force_when_they_begin() -> None:
    """Its size counts, its change does not; nor does the change of a first version."""
    versions = [
        kept(4, START, 97, removed=3),
        kept(3, START - timedelta(hours=23), 100, added=10),
        kept(2, START - timedelta(hours=25), 90, removed=110),
        kept(1, START - timedelta(days=3), 200, added=200),
    ]
    windows = windows_of(versions, START)
    assert windows[Period.DAY] == {"md5": Window(largest=100, added=10, removed=3)}
    assert windows[Period.WEEK] == {"md5": Window(largest=200, added=10, removed=113)}
    assert windows_of(versions, START, reference=3)[Period.WEEK] == {"md5": Window(largest=100, added=0, removed=3)}


# the code


def test_the_code_publishes_exactly_what_was_shown(partner: World) -> None:
    """In whatever order the file has its rows: they are the same."""
    shown = publish(partner, "--full", csv(partner, rows(0, 500)))
    ran = publish(partner, "--full", csv(partner, rows(0, 500)[::-1]), "--accept", code(shown))
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("images version 2 published: 500 rows\n")
    assert published_rows(partner) == {one[2:] for one in rows(0, 500)}
    again = publish(partner, "--full", csv(partner, rows(0, 500)), "--accept", code(shown))
    assert again == Ran(0, "images is up to date: version 2, 500 rows\n", "")


def test_other_rows_need_another_code(partner: World) -> None:
    """A row that was exchanged since is not published; the new code is for the new rows."""
    shown = publish(partner, "--full", csv(partner, rows(0, 500)))
    changed = csv(partner, [*rows(0, 499), row(5000)])
    ran = publish(partner, "--full", changed, "--accept", code(shown))
    assert (ran.code, version(partner), code(ran) != code(shown)) == (3, 1, True)
    assert ran.err.startswith("held: the given code belongs to other rows, or to another previous version;")
    assert publish(partner, "--full", changed, "--accept", code(ran)).code == 0


def test_a_code_is_for_the_version_that_was_in_force(partner: World) -> None:
    """If another version was published in the meantime, its effect is another one."""
    shown = publish(partner, "--full", csv(partner, rows(0, 500)))
    assert publish(partner, "--add", csv(partner, [row(5000)])).code == 0
    ran = publish(partner, "--full", csv(partner, rows(0, 500)), "--accept", code(shown))
    assert (ran.code, code(ran)[:2], version(partner)) == (3, "3-", 2)


@pytest.mark.parametrize("given_code", ["", "yes", "2-", "2-" + "0" * 24])
def test_a_code_that_nobody_was_shown_publishes_nothing(partner: World, given_code: str) -> None:
    """Not even a change within the limits: whoever gives a code wants exactly those rows."""
    ran = publish(partner, "--add", csv(partner, [row(5000)]), "--accept", given_code)
    assert (ran.code, version(partner)) == (3, 1)
    assert publish(partner, "--add", csv(partner, [row(5000)]), "--accept", code(ran)).code == 0


def test_nothing_says_yes_for_everybody(partner: World) -> None:
    """A timer cannot hold an option that confirms what nobody has seen."""
    assert publish(partner, "--full", csv(partner, rows(0, 500)), "--yes").code == 2


def test_a_dry_run_shows_everything_and_publishes_nothing(partner: World) -> None:
    """Counts, verdict and code; the timestamp is not signed either."""
    before = everything(partner)
    passed = publish(partner, "--add", csv(partner, [row(5000)]), "--dry-run")
    assert passed == Ran(
        0,
        "images version 2 would be published\n"
        "algorithm    now  added  removed  relabelled  after\n"
        "sha256     1,002      1        0           0  1,003\n"
        f"code: {code(passed)}\n",
        "dry run: nothing was published; the same command with --accept CODE publishes exactly this\n",
    )
    held = publish(partner, "--full", csv(partner, rows(0, 500)), "--dry-run")
    assert (held.code, held.err.startswith("held: more rows would be removed")) == (3, True)
    confirmed = publish(partner, "--full", csv(partner, rows(0, 500)), "--dry-run", "--accept", code(held))
    assert (confirmed.code, confirmed.out.splitlines()[0]) == (0, "images version 2 would be published")
    unchanged = publish(partner, "--full", csv(partner, rows(0, 1002)), "--dry-run")
    assert unchanged == Ran(0, "images is up to date: version 1, 1,002 rows\n", "")
    assert everything(partner) == before
    assert publish(partner, "--full", csv(partner, rows(0, 500)), "--accept", code(held)).code == 0


def test_a_hold_as_json(partner: World) -> None:
    """One document with everything that the table and the message say."""
    document: Any = publish(partner, "--full", csv(partner, rows(0, 500)), "--json").json
    judged = document.pop("judged")
    assert document == {
        "list": "images",
        "version": 1,
        "changed": False,
        "rows": 1002,
        "counts": {},
        "skipped": 0,
        "needless": 0,
    }
    shown = judged.pop("code")
    assert judged == {
        "version": 2,
        "rows": 500,
        "permitted": False,
        "confirmed": False,
        "algorithms": {"sha256": {"now": 1002, "added": 0, "removed": 502, "relabelled": 0, "after": 500}},
        "findings": [
            {
                "reason": "shrunk",
                "algorithm": "sha256",
                "label": "",
                "window": "",
                "rows": 502,
                "before": 0,
                "of": 1002,
                "allowed": 50,
                "message": "more rows would be removed than the limits allow: 502 of 1,002 rows (sha256), limit 50",
            }
        ],
    }
    accepted = publish(partner, "--full", csv(partner, rows(0, 500)), "--accept", shown, "--json").json
    assert (accepted["changed"], accepted["judged"]["confirmed"]) == (True, True)


lists = st.dictionaries(st.integers(0, 5), st.sampled_from("AB"), min_size=1)
"""Numbers of rows and their labels."""


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shown=lists, offered=lists, whole=st.booleans())
def test_a_code_permits_the_rows_that_were_shown_and_no_others(
    tmp_path_factory: pytest.TempPathFactory, shown: dict[int, str], offered: dict[int, str], whole: bool
) -> None:
    """For any two files: the code of the first publishes the second if and only if the result is the same."""
    world = World(tmp_path_factory.mktemp("any"))
    world.publish(full=[row(number, "A") for number in range(4)])

    def offer(content: dict[int, str], given_code: str | None) -> tuple[PartnersGuard, bool]:
        path = csv(world, [row(number, label) for number, label in content.items()])
        files = ListFiles(full=path) if whole else ListFiles(add=path)
        guard = PartnersGuard(world.partner, world.clock(), STRICT, given_code)
        return guard, guard.publish(IMAGES, files.read, world.partner_signers()).changed

    def result(content: dict[int, str]) -> dict[int, str]:
        return content if whole else dict.fromkeys(range(4), "A") | content

    unchanged = dict.fromkeys(range(4), "A")
    first, changed = offer(shown, None)
    assert not changed
    assert (first.judgement is None) == (result(shown) == unchanged)
    given_code = first.judgement.code if first.judgement else "1-" + "0" * 24
    second, changed = offer(offered, given_code)
    if changed:
        assert result(offered) == result(shown)
        assert published_rows(world) == {(f"e{number}", label) for number, label in result(offered).items()}
    else:
        assert result(offered) == unchanged or result(offered) != result(shown)
        assert version(world) == 1
        assert second.judgement is None or second.judgement.code != given_code


# snapshots, diff, revert


@pytest.fixture
def grown(partner: World) -> World:
    """Versions 1 to 3: 1,002 rows; two more, two fewer and a relabelling; a bad row of another algorithm."""
    partner.publish(add=[row(5000), row(5001), row(7, "Z")], remove=rows(0, 2))
    partner.clock.forward(hours=1)
    partner.publish(add=[row(6000, "B", "md5")])
    return partner


def test_the_versions_that_are_kept(grown: World) -> None:
    """Newest first, with their counts."""
    feed = grown.partner.root
    assert syncd("feed", "snapshots", feed) == Ran(
        0,
        "list    version  created (UTC)      rows  added  removed  relabelled\n"
        "images        3  2026-01-01 13:00  1,003      1        0           0\n"
        "images        2  2026-01-01 12:00  1,002      2        2           1\n"
        "images        1  2026-01-01 12:00  1,002  1,002        0           0\n",
        "",
    )
    (listed,) = syncd("feed", "snapshots", feed, "--list", "images", "--json").json["lists"]
    assert listed["list"] == "images"
    newest = listed["snapshots"][0]
    assert newest.pop("manifest") == lists_of(load_repository(grown.partner))[IMAGES]
    assert newest == {
        "version": 3,
        "created_at": "2026-01-01T13:00:00Z",
        "rows": 1003,
        "algorithms": {"md5": 1, "sha256": 1002},
        "counts": {"md5": {"added": 1, "relabelled": 0, "removed": 0}},
        "retired_at": None,
    }
    unknown = syncd("feed", "snapshots", feed, "--list", "imagse")
    assert (unknown.code, "to do: did you mean images?" in unknown.err) == (2, True)


def test_a_feed_without_versions(world: World) -> None:
    """It says what comes next."""
    assert syncd("feed", "snapshots", world.partner.root).out == (
        "no version yet: syncd feed publish FEED --list NAME --full FILE\n"
    )


def test_two_versions_compared(grown: World) -> None:
    """By algorithm and label; the rows go into a private file only."""
    out = grown.base / "changes.csv"
    ran = syncd("feed", "diff", grown.partner.root, "images", 1, 3, "--out", out)
    assert ran == Ran(
        0,
        "images: version 1 (1,002 rows) to 3 (1,003 rows)\n"
        "algorithm  label  added  removed  relabelled\n"
        "md5        B          1        0           0\n"
        "sha256     A          2        1           0\n"
        "sha256     B          0        1           0\n"
        "sha256     Z          0        0           1\n"
        f"6 rows written to {out}\n",
        "",
    )
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    lines = out.read_text().splitlines()
    assert lines[0] == "change,algorithm,digest,entry,label,old_label"
    assert sorted(lines[1:]) == sorted(
        [
            f"added,md5,{row(6000, 'B', 'md5')[1]},e6000,B,",
            f"added,sha256,{row(5000)[1]},e5000,A,",
            f"added,sha256,{row(5001)[1]},e5001,A,",
            f"removed,sha256,{row(0)[1]},e0,A,",
            f"removed,sha256,{row(1)[1]},e1,B,",
            f"relabelled,sha256,{row(7)[1]},e7,Z,B",
        ]
    )


def test_backwards_and_with_itself(grown: World) -> None:
    """Stacks are compared if no delta leads there."""
    back: Any = syncd("feed", "diff", grown.partner.root, "images", 3, 1, "--json").json
    assert (back["how"], back["rows_old"], back["rows_new"], back["out"]) == ("stacks", 1003, 1002, None)
    assert back["counts"]["sha256"] == {"added": 2, "relabelled": 1, "removed": 2}
    assert syncd("feed", "diff", grown.partner.root, "images", 2, 2).out.endswith("nothing differs\n")


def test_rows_are_written_to_new_private_files_only(grown: World) -> None:
    """Never over a file that exists, nor into the feed, which is public."""
    csv(grown, [row(1)])
    for out in (grown.base / "rows.csv", grown.partner.root / "changes.csv", grown.base / "no" / "folder.csv"):
        before = out.read_bytes() if out.exists() else None
        ran = syncd("feed", "diff", grown.partner.root, "images", 1, 3, "--out", out)
        assert ran.code == (1 if "folder" in out.name else 2)
        assert (out.read_bytes() if out.exists() else None) == before


def test_an_unknown_version_is_answered_with_those_there_are(grown: World) -> None:
    """By comparing and by reverting."""
    ran = syncd("feed", "diff", grown.partner.root, "images", 1, 9)
    assert ran == Ran(
        2,
        "",
        "error: images version 9 was never published\n  to do: kept versions: 1 to 3; nothing was changed\n",
    )
    assert revert(grown, 9).err == ran.err


def test_a_bad_row_is_taken_back(grown: World) -> None:
    """The content of the version before is the next version, and followers fetch the difference only."""
    assert grown.follow().changed
    assert revert(grown, 2) == Ran(
        0,
        "images version 4 published: 1,002 rows\n"
        "algorithm    now  added  removed  relabelled  after\n"
        "md5            1      0        1           0      0\n"
        "sha256     1,002      0        0           0  1,002\n",
        "",
    )
    assert grown.follow().errors == []
    difference = syncd("feed", "diff", grown.partner.root, "images", 2, 4).out
    assert difference == "images: version 2 (1,002 rows) to 4 (1,002 rows)\nnothing differs\n"
    assert syncd("verify", grown.partner.root).code == 0
    assert revert(grown, 2).out == "images is up to date: version 4, 1,002 rows\n"


def test_a_large_revert_needs_its_code_too(partner: World) -> None:
    """Back to twice the rows is a flood; the code of a dry run publishes it, labels and all."""
    halved = csv(partner, rows(0, 500))
    publish(partner, "--full", halved, "--accept", code(publish(partner, "--full", halved)))
    partner.publish(add=[row(number, "Z") for number in range(40)])
    shown = revert(partner, 1, "--dry-run", "--max-added", "10")
    assert shown.code == 0  # 502 rows are within the absolute limit
    partner.publish(full=rows(0, 1))
    shown = revert(partner, 1, "--max-added", "10")
    assert (shown.code, "1,001 of 1" in shown.err) == (3, True)
    assert revert(partner, 2, "--accept", code(shown)).code == 3
    assert revert(partner, 1, "--accept", code(shown)).code == 0
    assert published_rows(partner) == {one[2:] for one in rows(0, 1002)}


def test_a_pruned_version_names_those_that_are_left(grown: World) -> None:
    """Its files were removed: all but the newest 16 versions, after a day."""
    for number in range(20):
        grown.clock.forward(hours=12)
        grown.publish(add=[row(7000 + number)])
    head = lists_of(load_repository(grown.partner))[IMAGES]
    newest, *_, oldest = (kept.version for kept in kept_versions(grown.partner, IMAGES, head))
    ran = revert(grown, 1)
    assert ran == Ran(
        2,
        "",
        "error: images version 1 is no longer kept: its files were removed\n"
        f"  to do: kept versions: {oldest} to {newest}; nothing was changed\n",
    )
    assert oldest > 3


def test_a_version_without_all_its_files_is_not_kept(grown: World) -> None:
    """Though its manifest is still here: nothing can be compared with it or made from it."""
    assert syncd("feed", "compact", grown.partner.root, "--all").code == 0
    head = author.open_list(grown.partner, load_repository(grown.partner), IMAGES)
    assert head is not None
    needed = {ref.sha256 for ref in head.manifest.stack}
    for path in grown.partner.path("v1/images/segments").iterdir():
        if path.stem not in needed:
            path.unlink()
    shown: Any = syncd("feed", "snapshots", grown.partner.root, "--json").json
    assert [one["version"] for one in shown["lists"][0]["snapshots"]] == [4]
    assert revert(grown, 3).err.splitlines() == [
        "error: images version 3 is no longer kept: its files were removed",
        "  to do: kept versions: 4; nothing was changed",
    ]


def test_a_damaged_version_is_not_published_again(grown: World) -> None:
    """Its rows are compared with the signed end state first."""
    head = author.open_list(grown.partner, load_repository(grown.partner), IMAGES)
    assert head is not None
    base = head.stacks[Algorithm.SHA256].segments[0].path
    del head  # its map would be shared
    content = bytearray(base.read_bytes())
    digest = bytes.fromhex(row(500)[1])
    at = content.index(digest)
    content[at + 31] ^= 1
    base.chmod(0o640)
    base.unlink()
    base.write_bytes(content)
    ran = revert(grown, 2)
    assert (ran.code, "images version 2 in" in ran.err and "is damaged" in ran.err) == (1, True)
    assert version(grown) == 3


def test_an_empty_version_is_not_reverted_to(partner: World) -> None:
    """A list is ended or emptied by the commands that say so."""
    author.retire(partner.partner, IMAGES, partner.partner_signers(), partner.clock())
    assert revert(partner, 2).err.splitlines()[0] == "error: images version 2 has no rows"
    back = revert(partner, 1)
    assert (back.code, "1,002 of 0" in back.err or "1,002" in back.out) == (3, True)
    assert revert(partner, 1, "--accept", code(back)).code == 0


def test_an_operators_feed_is_rolled_back_by_the_operator(partner: World) -> None:
    """The catalog would not know that version."""
    assert partner.sync().exit_code == 0
    ran = syncd("feed", "revert", partner.state.feed.root, "iwf.images", 1)
    assert (ran.code, "`syncd rollback LIST VERSION --reason R`" in ran.err) == (6, True)


def test_a_held_reason_has_its_words() -> None:
    """The partner's own reason is one of the gate's."""
    assert HoldReason.BAD_ROWS.words == "more bad rows would be left out than the limits allow"


def test_a_restored_backup_goes_on_from_a_followers_copy(partner: World) -> None:
    """The newest published files come back from any copy; without them followers refuse the same numbers again."""
    backup = partner.base / "backup"
    shutil.copytree(partner.partner.root, backup)
    partner.follow()
    publish(partner, "--add", csv(partner, [row(5000)]))
    partner.follow()
    shutil.rmtree(partner.partner.root)
    shutil.copytree(backup, partner.partner.root)
    for part in ("metadata", "v1"):
        shutil.copytree(partner.mirror / part, partner.partner.root / part, dirs_exist_ok=True)
    metadata = partner.partner.root / "metadata"
    (metadata / "3.timestamp.json").replace(metadata / "timestamp.json")
    assert syncd("verify", partner.partner.root).code == 0
    assert publish(partner, "--add", csv(partner, [row(5001)])).out.startswith("images version 3 published: 1,004 rows")
    assert partner.follow().versions == {IMAGES: 3}
