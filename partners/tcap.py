"""Tech Against Terrorism's hash list, TCAP version 2: log-in, and pages by limit and offset after a position.

The public client sends ``?None&order=asc&after=`` and later ``?<the whole next URL>&order=asc&after=``: the page size
is then our default, and the offset is read wherever it stands.
"""

import json
import re
from typing import Any
from urllib.parse import parse_qs

from partners.model import Model, Stated
from partners.server import Asked, FakePartner, Reply

USERNAME, PASSWORD = "us@example.org", "correct-horse-battery"
IDEOLOGIES = ("islamist", "far-right", "Far-Right")
ALGORITHMS = {"PDQ": "pdq", "MD5": "md5", "SHA256": "sha256", "SHA512": "sha512"}

State = dict[tuple[str, str], tuple[str, frozenset[tuple[str, str]]]]


def algorithm_of(stated: Stated) -> str:
    return list(ALGORITHMS)[stated.number % 4]


def ideology_of(stated: Stated) -> str:
    return IDEOLOGIES[(stated.number + stated.version) % 3]


class FakeTcap(FakePartner):
    """The server. A token is good for ``lasts`` pages."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.page, self.lasts = 3, 1000
        self.host = "https://elsewhere.example"
        """the host in ``next``"""
        self.positions = True
        """pages state a checkpoint"""
        self.extra: list[Any] = []
        self._left: dict[str, int] = {}
        self.log_ins = 0

    def restart(self, model: Model) -> None:
        super().restart(model)
        self.page, self.lasts, self.log_ins, self.positions = 3, 1000, 0, True
        self.extra.clear()
        self._left.clear()

    @property
    def state(self) -> State:
        """The live records as the list should have them."""
        return {
            ("content", str(one.number)): (
                ideology_of(one),
                frozenset({(ALGORITHMS[algorithm_of(one)], one.hexadecimal(ALGORITHMS[algorithm_of(one)]))}),
            )
            for one in self.model.live
        }

    def answer(self, asked: Asked) -> Reply:
        if asked.path == "/token-auth/tcap/" and asked.method == "POST":
            return self._log_in(asked.body)
        if asked.path not in {"/hash-list/v2/all", "/api/hash-list/v2/all"}:
            return Reply(b"{}", 404)
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        self._left[token] = self._left.get(token, 0) - 1
        if self._left[token] < 0:
            return Reply(b'{"detail": "the token has expired"}', 403)
        return self._list(asked.target.partition("?")[2])

    def _log_in(self, body: bytes) -> Reply:
        text = body.decode()
        given = json.loads(text) if text.startswith("{") else {key: one[-1] for key, one in parse_qs(text).items()}
        if (given.get("username"), given.get("password")) != (USERNAME, PASSWORD):
            return Reply(b"{}", 400)
        self.log_ins += 1
        token = f"token-{self.log_ins:08d}"
        self._left[token] = self.lasts
        return Reply(json.dumps({"token": token, "user": {}}).encode())

    def _list(self, query: str) -> Reply:
        stated = re.findall(r"[?&]offset=([0-9]+)", f"?{query}")
        offset = int(stated[0]) if stated else 0
        asked = parse_qs(query)
        limit = int(asked.get("limit", [str(self.page)])[-1])
        limit = min(limit, self.page)
        time, _, number = asked.get("after", [""])[-1].partition(",")
        after = (float(time), int(number)) if number else (0.0, -1)
        waiting = sorted(
            (one for one in self.model.records.values() if (float(one.changed), one.number) > after),
            key=lambda one: (one.changed, one.number),
        )
        shown = waiting[offset : offset + limit]
        found = [self._record(one) for one in shown]
        following = f"{self.host}/hash-list/v2/all?limit={limit}&offset={offset + limit}&order=asc"
        body = {
            "count": len(waiting),
            "next": following if len(waiting) > offset + limit else None,
            "previous": None,
            "checkpoint": f"{float(shown[-1].changed)},{shown[-1].number}" if shown and self.positions else "",
            "results": [*found, *(self.extra if offset == 0 else [])],
        }
        return Reply(json.dumps(body).encode())

    def _record(self, one: Stated) -> dict[str, Any]:
        return {
            "id": one.number,
            "hash_digest": one.hexadecimal(ALGORITHMS[algorithm_of(one)]),
            "algorithm": algorithm_of(one),
            "ideology": ideology_of(one),
            "file_type": "png",
            "deleted": one.deleted,
            "updated_on": float(one.changed),
            "created_on": "2025-03-03T23:05:22.587000Z",
        }
