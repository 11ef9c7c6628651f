"""What commands show to a person at a terminal, and to a program that reads them."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncd.cli import output
from syncd.errors import StoreError
from syncd.units import done_of

SYNCED = ("list", "outcome", "version#", "rows#", "added#", "removed#", "relabelled#", "why~")
ROWS = (
    ("good.images", "published", "2", "1,000", "1,000", "0", "0", ""),
    ("a-rather-long-source-name.images-and-videos", "held", "12", "", "", "", "", "the update would leave nothing"),
)


class Terminal(io.StringIO):
    """One that a person reads."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_each_row_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """However wide: whoever looks for a name finds it whole."""
    monkeypatch.delenv("COLUMNS", raising=False)
    output.show_table(SYNCED, ROWS)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == [
        ["good.images", "published", "2", "1,000", "1,000", "0", "0"],
        ["a-rather-long-source-name.images-and-videos", "held", "12", "the", "update", "would", "leave", "nothing"],
    ]


def test_a_width_that_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """COLUMNS holds where there is no terminal, too; words are folded, names and numbers are not."""
    monkeypatch.setenv("COLUMNS", "80")
    output.show_table(SYNCED, [("good.images", "held", "2", "1,000", "1,000", "0", "0", ROWS[1][-1])])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[:7] == ["good.images", "held", "2", "1,000", "1,000", "0", "0"]
    assert " ".join(" ".join(lines[1:]).split()[7:]) == "the update would leave nothing"


def test_gaps_give_way_before_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A name is found whole also beside millions of rows."""
    monkeypatch.setenv("COLUMNS", "80")
    output.show_table(SYNCED, [("good.images", "published", "2", "10,000,000", "10,000", "0", "0", "MismatchError")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[1].split() == ["good.images", "published", "2", "10,000,000", "10,000", "0", "0", "MismatchError"]


def test_a_name_is_folded_only_where_it_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then nothing of it is lost, and numbers stay whole."""
    monkeypatch.setenv("COLUMNS", "80")
    output.show_table(SYNCED, ROWS)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "".join(line.split(" ")[0] for line in lines[2:]) == ROWS[1][0]
    assert lines[1].split() == ["good.images", "published", "2", "1,000", "1,000", "0", "0"]


@pytest.mark.parametrize(
    ("stage", "done", "total", "said"),
    [
        ("fetch", 12_300_000, 320_000_000, "12.3 of 320 MB"),
        ("fetch", 0, 2_500, "0.0 of 2.5 kB"),
        ("fetch", 512, 999, "512 of 999 bytes"),
        ("files", 1_500_000_000, 12_000_000_000, "1.5 of 12.0 GB"),
        ("check", 1_200_000, 10_000_000, "1,200,000 of 10,000,000 rows"),
        ("stage", 1, 1, "1 of 1 row"),
        ("compare", 0, 3, "0 of 3 rows"),
        ("publish", 0, 0, ""),
    ],
)
def test_how_far_a_stage_is(stage: str, done: int, total: int, said: str) -> None:
    """In bytes, or in rows where it reads rows; nothing where nothing is known."""
    assert done_of(stage, done, total) == said


@pytest.mark.parametrize(
    ("stage", "done", "total", "said"),
    [
        ("fetch", 12_300_000, 320_000_000, "12.3 of 320 MB"),
        ("stage", 1_200_000, 10_000_000, "1,200,000 of 10,000,000 rows"),
    ],
)
def test_progress_is_one_line_of_the_terminal(
    stage: str, done: int, total: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Source, stage and amounts, within 80 columns."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    with output.progress("syncing") as tell:
        tell(stage, done, total, "good")
    assert f"syncing: good: {stage}" in terminal.getvalue()
    assert said in terminal.getvalue()
    drawn = [part for part in terminal.getvalue().replace("\r", "\n").split("\n") if said in part]
    assert all(f"syncing: good: {stage}" in part for part in drawn)


def test_progress_is_silent_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cron would mail it."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with output.progress("syncing") as tell:
        tell("fetch", 1, 2)
        tell("fetch", 1, 2, "good")
    assert stream.getvalue() == ""


def ascii_stream(monkeypatch: pytest.MonkeyPatch, name: str) -> io.BytesIO:
    """Let a standard stream be one that knows ASCII alone."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(written, "ascii", write_through=True))
    return written


def test_what_the_encoding_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """In results, in remarks, and in tables, whose columns stay where they are."""
    out, err = ascii_stream(monkeypatch, "stdout"), ascii_stream(monkeypatch, "stderr")
    monkeypatch.delenv("COLUMNS", raising=False)
    output.say("label 日本", "label é\n")
    output.note("日")
    output.show_error(StoreError("日", hint="本", serving="é"))
    output.show_table(("name", "rows#"), [("日", "1"), ("plain", "2")])
    assert out.getvalue().splitlines() == [
        b"label \\u65e5\\u672c",
        b"label \\xe9\\x0a",
        b"name    rows",
        b"\\u65e5     1",
        b"plain      2",
    ]
    assert err.getvalue().splitlines() == [
        b"warning: \\u65e5",
        b"error: \\u65e5",
        b"  still served: \\xe9",
        b"  to do: \\u672c",
    ]


def test_remarks_carry_their_priority_in_the_journal(tmp_path: Path) -> None:
    """Each line of them, so that the hint is found with its error; results have none."""
    with (tmp_path / "journal").open("w+") as journal:
        status = os.fstat(journal.fileno())
        subprocess.run(
            [sys.executable, "-m", "syncd.cli", "status", "--config", str(tmp_path / "lost")],
            stderr=journal,
            env={**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"},
            check=False,
        )
        journal.seek(0)
        assert [line[:10] for line in journal] == ["<3>error: ", "<3>  to do:"[:10]]
