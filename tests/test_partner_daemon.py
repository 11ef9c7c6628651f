"""`syncd run` with a partner of every type: real worker processes, and a matcher that pulls by HTTP."""

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from command_line import syncd
from partner_world import KINDS, PartnerWorld, Row, partner_world
from partners import ncmec
from scrapes import Scrape
from syncd.fetch import Endpoint
from syncd.matcher import Matcher
from syncd.matcher.pull import pull
from test_daemon_web import Serving
from web_site import METRICS, bearer

AN_HOUR = 3600
BASIC = base64.b64encode(f"{ncmec.USERNAME}:{ncmec.PASSWORD}".encode()).decode()

Rows = dict[str, set[Row]]


class Logged(Serving):
    """A daemon whose log is kept."""

    def _events(self) -> Iterator[dict[str, Any]]:
        self.log = getattr(self, "log", "")
        for event in super()._events():
            self.log += json.dumps(event)
            yield event


def configure(road: PartnerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve on a free port, and sync only when a test asks for it."""
    (road.base / "metrics").touch(0o600)
    (road.base / "metrics").write_text(METRICS)
    road.configure(f'[serve]\nlisten = "127.0.0.1:0"\nmetrics_token_file = "{road.base}/metrics"\n')
    monkeypatch.setenv("SYNCD_CONFIG", str(road.config_file))
    with road.world.publisher() as publisher:
        for name in road.sources:
            publisher.catalog.note_schedule(name, datetime.now(UTC) + timedelta(hours=2))


def test_a_daemon_follows_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First versions and withdrawals come by worker processes, as the configuration file says, and reach the matcher;
    status, metrics and log name every source, and have neither a credential nor a digest."""
    with partner_world(tmp_path, *KINDS, start=int(time.time()) - AN_HOUR, more='interval = "1d"\n') as road:
        configure(road, monkeypatch)
        first = {name: source.rows for name, source in road.sources.items()}
        with Logged(road.config_file) as running:
            token = syncd("matchers", "add", "web", "--json").json["matcher"]["token"]
            endpoint = Endpoint(f"{running.url}/feed", token=token)
            done = syncd("sync", "--json")
            assert (done.code, {one["source"] for one in done.json["syncs"]}) == (0, set(KINDS))
            assert pulled(road, endpoint, first) == first
            for source in road.sources.values():
                source.fake.model.delete(1)
                source.fake.model.put(2)
                source.fake.model.put(13)
            road.tick(60)
            second = {name: source.rows for name, source in road.sources.items()}
            ran = [syncd("sync"), syncd("status"), syncd("status", "--json"), syncd("status", "--check")]
            assert [one.code for one in ran] == [0] * 4
            assert pulled(road, endpoint, {name: first[name] | second[name] for name in KINDS}) == second
            scraped = httpx.get(f"{running.url}/metrics", headers=bearer(METRICS)).text
            running.stop()
        assert all(
            name in text for name in KINDS for text in (ran[0].out, ran[1].out, ran[2].out, scraped, running.log)
        )
        samples = Scrape(scraped)
        for name, source in road.sources.items():
            rows = [samples("syncd_list_rows", source=name, list=f"{name}.{own}") or 0 for own in source.lists]
            assert sum(rows) == len(source.rows)
            assert samples("syncd_syncs_total", source=name, outcome="published") == 2
        bad = {*road.secrets, BASIC, "access_token", *(row.digest for rows in (first, second) for row in all_of(rows))}
        shown = [done.out, *(one.out + one.err for one in ran), scraped, running.log]
        assert [text for text in shown for one in bad if one in text] == []


def all_of(rows: Rows) -> set[Row]:
    return set().union(*rows.values())


def pulled(road: PartnerWorld, endpoint: Endpoint, rows: Rows) -> Rows:
    """Pull as a matcher does, and return the rows for which it then answers."""
    copy, now = road.world.copy, datetime.now(UTC)
    assert not pull(endpoint, road.world.operator_root.read_bytes(), copy, now=now, deadline=60.0).errors
    with Matcher.open(copy) as matcher:
        return {name: road.matched(name, matcher, some) for name, some in rows.items()}
