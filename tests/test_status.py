"""What `syncd status` says of what is to come, and the document that it prints."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from command_line import configure, syncd, use_clock
from schemas import DOCS, SCHEMAS, schema
from syncd.catalog.records import Loaded
from syncd.pipeline.matchers import add
from syncd.pipeline.status import StatusDocument
from world import HEAD, World, rows


@pytest.fixture
def configured(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """An operator with one source, of which something is published."""
    use_clock(world.clock, monkeypatch)
    text = f'[sources.iwf]\ntype = "feed"\nurl = "{world.url}"\nroot = "{world.root}"\n'
    configure(tmp_path / "syncd.toml", f'state_dir = "{world.state.root}"\n{text}', monkeypatch)
    world.publish(full=rows(0, 3))
    syncd("sync")
    return world


def plan(world: World, minutes: float, **more: object) -> None:
    """What a daemon would remember of its schedule."""
    with world.publisher() as publisher:
        at = world.clock.now + timedelta(minutes=minutes)
        publisher.catalog.note_schedule("iwf", at, **more)  # type: ignore[arg-type]  # as a test gives them


def test_status_shows_when_the_next_sync_is_due(configured: World) -> None:
    """As the daemon planned it; where none ever ran, nothing is said."""
    assert "next sync" not in syncd("status").out
    plan(configured, 7)
    assert syncd("status").out.endswith("\niwf: next sync in 7 minutes\n")
    source = syncd("status", "--json").json["sources"][0]
    assert (source["next_sync_at"], source["cool_down_until"], source["failures"]) == ("2026-01-01T12:07:00Z", None, 0)


def test_status_shows_a_cool_down(configured: World) -> None:
    """A source that could not be reached is left alone for a while: until when, and after how many failures."""
    plan(configured, 5, cool_down_until=configured.clock.now + timedelta(minutes=5), failures=3)
    assert syncd("status").out.endswith("\niwf: next sync in 5 minutes: left alone, after 3 failures in a row\n")
    assert syncd("status", "--json").json["sources"][0]["cool_down_until"] == "2026-01-01T12:05:00Z"


def test_status_says_when_the_next_sync_is_overdue(configured: World) -> None:
    """A planned time that has passed minutes ago: no daemon runs."""
    plan(configured, -6)
    assert syncd("status").out.endswith("\niwf: the next sync is overdue: does the daemon run?\n")


def test_status_says_whether_a_list_is_stale(configured: World) -> None:
    """In the document, for machines."""
    assert [one["stale"] for one in syncd("status", "--json").json["lists"]] == [False]
    configured.clock.forward(hours=3)
    listed = syncd("status", "--json").json["lists"][0]
    assert (listed["list"], listed["stale"], listed["age_seconds"]) == (HEAD, True, 10800)


def test_status_names_matchers_that_do_not_follow(configured: World) -> None:
    """Who they are, and why somebody should look."""
    with configured.publisher() as publisher:
        add(publisher.catalog, "web", (), asked_by="test", now=configured.clock.now, token="secret")
        loaded = Loaded("web", "web-3", HEAD, 1, configured.clock.now, configured.clock.now)
        publisher.catalog.replace_loaded((), [loaded])
    assert syncd("status").err == ""
    configured.clock.forward(minutes=16)
    assert syncd("status").err == "warning: matcher web: web-3 was not heard of for 16 minutes\n"
    assert syncd("status", "--json").json["matchers"] == [
        {
            "matcher": "web",
            "lists": None,
            "created_at": "2026-01-01T12:00:00Z",
            "seen_at": "2026-01-01T12:00:00Z",
            "instances": 1,
            "behind": 0,
            "silent": 1,
            "laggards": [
                {
                    "instance": "web-3",
                    "seen_at": "2026-01-01T12:00:00Z",
                    "act": "was not heard of for 16 minutes",
                }
            ],
        }
    ]


def test_status_needs_nothing_of_what_reads_lists(configured: World) -> None:
    """It answers at once: loading numpy and pyarrow would take longer than all that it does."""
    code = (
        "import sys\nfrom syncd.cli.main import main\ncode = main(['status', '--json'])\n"
        "sys.exit(code or ', '.join({'numpy', 'pyarrow', 'tuf.ngclient'} & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_document_is_its_schema(configured: World) -> None:
    """What is printed is what its model, strictly read, accepts."""
    assert StatusDocument.model_validate(syncd("status", "--json").json).lists[0].list == HEAD


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_those_in_the_documentation(name: str) -> None:
    """``python tests/schemas.py`` writes them."""
    assert (DOCS / name).read_text() == schema(SCHEMAS[name])
