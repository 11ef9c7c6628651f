"""A partner that signs: it publishes, or signs again, whenever its timestamp is asked for."""

from partners.model import Model
from partners.server import Asked, FakePartner, Reply
from syncd.feed.layout import TIMESTAMP
from syncd.publish import author
from world import Row, World


class FakeFeed(FakePartner):
    """The server of the feed of a world's partner."""

    def __init__(self, model: Model, world: World) -> None:
        super().__init__(model)
        self._world = world
        self._published: set[Row] = set()

    @property
    def rows(self) -> set[Row]:
        """The list as it should be."""
        return {("sha256", one.hexadecimal("sha256"), f"e{one.number}", f"v{one.version}") for one in self.model.live}

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.strip("/")
        if path == TIMESTAMP:
            self._publish()
        file = self._world.partner.root / path
        if path.startswith(".") or not file.is_file():
            return Reply(b"", 404, kind="text/plain")
        return Reply(file.read_bytes(), kind="application/octet-stream")

    def _publish(self) -> None:
        rows = self.rows
        if rows != self._published:
            self._world.publish(add=rows - self._published, remove=self._published - rows)
            self._published = rows
        else:
            author.sign(self._world.partner, self._world.partner_signers(), self._world.clock())
