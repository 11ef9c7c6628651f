"""A partner that offers its whole list as one file at an address, with the checksum beside it."""

import hashlib

from partners.server import Asked, FakePartner, Reply

FILE = "/list.csv"


class FakeDrop(FakePartner):
    """The server. What is deleted is missing from the file."""

    def answer(self, asked: Asked) -> Reply:
        content = self._file()
        match asked.path.removeprefix(FILE):
            case "":
                return Reply(content, kind="text/csv")
            case ".sha256":
                return Reply(f"{hashlib.sha256(content).hexdigest()}  {FILE[1:]}\n".encode(), kind="text/plain")
        return Reply(b"", 404, kind="text/plain")

    def _file(self) -> bytes:
        lines = (f"sha256,{one.hexadecimal('sha256')},e{one.number},v{one.version}" for one in self.model.live)
        return "\n".join(["algorithm,digest,entry,label", *lines, ""]).encode()
