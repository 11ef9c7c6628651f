"""StopNCII's hash exchange, as far as it is read, and its submissions.

Pages are in the order of the last change; a token stands for a run and a position after a change, so nothing is missed.
``nextSetTimestamp`` may fall from page to page.
"""

import json
from typing import Any

from partners.model import Model, Stated
from partners.server import Asked, FakePartner, Reply

FUNCTION_KEY, SUBSCRIPTION_KEY = "function-key-5f0c1d", "subscription-key-77aa"
STATUSES = ("Received", "Active", "Unknown", "NewStatus")


def kind_of(stated: Stated) -> str:
    return "VideoMD5" if stated.number % 3 == 0 else "ImagePDQ"


def digest(stated: Stated) -> str:
    """The key of a record is its hash, so an update has the same."""
    first = Stated(stated.number, 0, 0)
    return first.hexadecimal("md5" if kind_of(stated) == "VideoMD5" else "pdq")


def status_of(stated: Stated) -> str:
    if stated.deleted:
        return "Deleted" if stated.number % 2 else "Withdrawn"
    return STATUSES[(stated.number + stated.version) % len(STATUSES)]


class FakeStopNcii(FakePartner):
    """The server."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self.most = 800
        self.falls = False
        """the checkpoint of every second page is lower than the one before"""
        self.extra: list[Any] = []
        """records to add to the first page"""
        self.feedback: dict[int, list[Any]] = {}
        self.cut_above: int | None = None
        """pages with more records than this come cut off, always"""
        self.received: list[tuple[str, Any]] = []

    def restart(self, model: Model) -> None:
        super().restart(model)
        self.most, self.falls, self.cut_above = 800, False, None
        self.extra.clear()
        self.feedback.clear()
        self.received.clear()

    @property
    def state(self) -> dict[tuple[str, str], tuple[str, str]]:
        """The hashes in force: by list and digest, the status and the algorithm."""
        return {
            ("videos" if kind_of(one) == "VideoMD5" else "images", digest(one)): (
                status_of(one),
                "md5" if kind_of(one) == "VideoMD5" else "pdq",
            )
            for one in self.model.live
        }

    def answer(self, asked: Asked) -> Reply:
        keys = asked.headers.get("x-functions-key"), asked.headers.get("ocp-apim-subscription-key")
        if keys != (FUNCTION_KEY, SUBSCRIPTION_KEY):
            return Reply(b"{}", 401)
        call = asked.path.rpartition("/")[2]
        if asked.method == "POST":
            self.received.append((call, json.loads(asked.body)))
            return Reply(b"{}")
        if call != "FetchHashes":
            return Reply(b"{}", 404)
        start, size = int(asked.query["startTimestamp"]), min(int(asked.query["pageSize"]), self.most)
        changed, _, number = asked.query.get("nextPageToken", f"{start}-").partition("-")
        after = (int(changed), int(number or -1))
        waiting = sorted(
            (one for one in self.model.records.values() if (one.changed, one.number) > after),
            key=lambda one: (one.changed, one.number),
        )
        shown, more = waiting[:size], len(waiting) > size
        reached = shown[-1].changed if shown else start
        found = [self._record(one) for one in shown]
        if "nextPageToken" not in asked.query:
            found = [*self.extra, *found]
        body = {
            "count": len(found),
            "nextPageToken": f"{shown[-1].changed}-{shown[-1].number}" if shown else None,
            "nextSetTimestamp": reached - 50 * (self.falls and more and len(self.asked) % 2),
            "hasMoreRecords": more,
            "hashRecords": found,
        }
        content = json.dumps(body).encode()
        if self.cut_above is not None and len(shown) > self.cut_above:
            content = content[: len(content) * 2 // 3]
        return Reply(content)

    def _record(self, one: Stated) -> dict[str, Any]:
        record: dict[str, Any] = {
            "lastModtimestamp": one.changed,
            "signalType": kind_of(one),
            "hashValue": digest(one).upper() if one.number % 4 == 1 else digest(one),
            "hashStatus": status_of(one),
            "caseNumbers": {"6f0c": status_of(one)} if one.number % 2 else [],
        }
        if one.number in self.feedback:
            record["CSPFeedbacks"] = self.feedback[one.number]
        if one.number % 5 == 0:
            record["hashRegions"] = []
        return record
