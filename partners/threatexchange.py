"""Meta's ThreatExchange: the updates of a privacy group, in the order of time, with cursors.

A deletion is stated by ``should_delete``, or only by missing descriptors, or by descriptors without an owner.
"""

import json
from typing import Any
from urllib.parse import quote

from partners.model import Model, Stated
from partners.server import Asked, FakePartner, Reply

SECRET = "abcdefghijklmnopqrstuvwxyz_0"
TOKEN = f"123456789|{SECRET}"
GROUP = "77"
TYPES = {"HASH_PDQ": "pdq", "HASH_MD5": "md5", "HASH_VIDEO_MD5": "md5", "HASH_SHA256": "sha256"}
TAGS = ("hate", "media_type_video", "abuse")

State = dict[tuple[str, str], tuple[str, frozenset[tuple[str, str]]]]


def type_of(stated: Stated) -> str:
    return list(TYPES)[stated.number % 4]


def tags_of(stated: Stated) -> list[str]:
    return [tag for number, tag in enumerate(TAGS) if (stated.number + stated.version) >> number & 1]


class FakeThreatExchange(FakePartner):
    """The server."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.page = 3
        self.empty_pages = False
        """before each page comes an empty one"""
        self.host = "https://elsewhere.example"
        self.descriptors: dict[int, Any] = {}
        """of a number, instead of the usual ones"""
        self.extra: list[Any] = []

    def restart(self, model: Model) -> None:
        super().restart(model)
        self.page, self.empty_pages = 3, False
        self.descriptors.clear()
        self.extra.clear()

    @property
    def state(self) -> State:
        """The live indicators as the list should have them."""
        return {
            ("indicators", str(500 + one.number)): (
                ",".join(sorted(tags_of(one))),
                frozenset({(TYPES[type_of(one)], one.hexadecimal(TYPES[type_of(one)]))}),
            )
            for one in self.model.live
        }

    def answer(self, asked: Asked) -> Reply:
        if asked.query.get("access_token") != TOKEN:
            return Reply(b'{"error": {"message": "bad token"}}', 400)
        path = asked.path.removeprefix("/v21.0").strip("/")
        if path == GROUP:
            group = {"id": GROUP, "name": "Example", "description": "", "members_can_see": True}
            more = {"members_can_use": True, "last_updated": "2026-01-01T00:00:00+0000", "threat_updates_enabled": True}
            return Reply(json.dumps({**group, **more, "added_on": "2026-01-01T00:00:00+0000"}).encode())
        if path != f"{GROUP}/threat_updates":
            return Reply(b'{"error": {}}', 500)
        start = int(asked.query.get("start_time") or 0)
        cursor = asked.query.get("after", "")
        empty, changed, number = (cursor or f"{int(self.empty_pages)}-{start}-").split("-")
        limit = min(int(asked.query.get("limit") or self.page), self.page)
        after = (int(changed), int(number or -1))
        waiting = sorted(
            (one for one in self.model.records.values() if (one.changed, one.number) > after),
            key=lambda one: (one.changed, one.number),
        )
        shown = [] if empty == "1" else waiting[:limit]
        found = [self._update(one) for one in shown] + (self.extra if not cursor else [])
        body: dict[str, Any] = {"data": found}
        if len(waiting) > len(shown):
            place = (shown[-1].changed, shown[-1].number) if shown else (changed, number)
            position = f"{int(self.empty_pages and empty == '0')}-{place[0]}-{place[1]}"
            # With a real host, for the public client, which follows the whole link.
            token = quote(TOKEN, safe="")
            address = f"{self.host}{asked.path}?access_token={token}&limit={limit}&after={position}"
            body["paging"] = {"cursors": {"after": position}, "next": address}
        return Reply(json.dumps(body).replace("/", "\\/").encode())

    def _update(self, one: Stated) -> dict[str, Any]:
        update: dict[str, Any] = {
            "id": str(500 + one.number),
            "indicator": one.hexadecimal(TYPES[type_of(one)]),
            "type": type_of(one),
            "last_updated": one.changed,
            "should_delete": one.deleted and one.number % 3 == 0,
        }
        usual = {"id": "9001", "owner": {"id": "77"}, "status": "MALICIOUS"}
        tags = {"data": [{"id": str(number), "text": tag} for number, tag in enumerate(tags_of(one))]}
        if not one.deleted:
            update["descriptors"] = self.descriptors.get(one.number, {"data": [{**usual, "tags": tags}]})
        elif one.number % 3 == 1:
            update["descriptors"] = {"data": [{"id": "9001", "status": "MALICIOUS"}]}
        return update
