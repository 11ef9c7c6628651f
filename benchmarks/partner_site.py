"""A fast fake partner, in a process of its own: ``python -m benchmarks.partner_site KIND FOLDER [PAUSE]``.

Records are made once, as bytes in one file with their places; a page is a slice of it, so the server costs next to
nothing. Kinds: ``ncmec``, ``stopncii``, and ``tcap``, which answers every call for the list with the file ``page``.
``PAUSE`` is in seconds, before each page. Each answer is a line on standard output: when its last byte was sent, and
what was asked for.
"""

import base64
import functools
import json
import random
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.sax.saxutils import escape

import numpy as np

NCMEC, STOPNCII, TCAP = "ncmec", "stopncii", "tcap"
PAGE: Final = 1000
"""entries of a page of NCMEC's; StopNCII's have as many as are asked for"""
BEGAN: Final = 1_450_000_000
"""time of the first record"""
STEP: Final = 300
"""seconds from one record to the next"""
_SEED: Final = 20260201
_NAMESPACE: Final = "https://hashsharing.ncmec.org/hashsharing/v2"
_RECORDS, _PLACES = "records", "places.npy"
_VIDEOS: Final = 4
"""one record of so many is a video"""


def make(kind: str, folder: Path, count: int) -> None:
    """Write the records of a partner, once."""
    if (folder / _PLACES).exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(_SEED)
    rendered = {NCMEC: _entry, STOPNCII: _hash}[kind]
    places = np.zeros(count + 1, np.int64)
    with (folder / _RECORDS).open("wb") as out:
        for number in _order(kind, count):
            text = rendered(number, rng)
            out.write(text)
            places[number + 1] = len(text)
        if kind == NCMEC:  # the videos lie behind the images: a page has a slice of both
            videos = np.arange(count) % _VIDEOS == _VIDEOS - 1
            lengths = places[1:].copy()
            starts = np.zeros(count, np.int64)
            order = np.concatenate([np.flatnonzero(~videos), np.flatnonzero(videos)])
            starts[order] = np.cumsum(lengths[order]) - lengths[order]
            np.save(folder / "lengths.npy", lengths)
            np.save(folder / _PLACES, starts)
            return
    np.save(folder / _PLACES, np.cumsum(places))


def _order(kind: str, count: int) -> Iterator[int]:
    if kind == NCMEC:
        yield from (number for number in range(count) if number % _VIDEOS != _VIDEOS - 1)
        yield from range(_VIDEOS - 1, count, _VIDEOS)
        return
    yield from range(count)


def stamp(seconds: int) -> str:
    """A time as NCMEC writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _entry(number: int, rng: random.Random) -> bytes:
    """An entry with four fingerprints, and with two votes in favour of one and one against another."""
    kind = "video" if number % _VIDEOS == _VIDEOS - 1 else "image"
    time_ = stamp(BEGAN + number * STEP)
    pdna = base64.b64encode(rng.randbytes(144)).decode()
    members = '<member id="9">Second Hotline</member>'
    return (
        f'<{kind}><member id="{7 + number % 3}">Example Hotline</member><timestamp>{time_}</timestamp>'
        f"<id>a-{number}</id><classification>{'AB'[number % 2]}{1 + number % 5 // 3}</classification>"
        f"<fingerprints><md5>{rng.randbytes(16).hex()}</md5><sha1>{rng.randbytes(20).hex()}</sha1>"
        f"<pdq>{rng.randbytes(32).hex()}</pdq><pdna>{pdna}</pdna></fingerprints>"
        f'<feedback lastUpdateTimestamp="{time_}"><affirmativeFeedback type="Md5" lastUpdateTimestamp="{time_}">'
        f'<members timestamp="{time_}">{members}<member id="11">Third Hotline</member></members></affirmativeFeedback>'
        f'<negativeFeedback type="Pdq" lastUpdateTimestamp="{time_}"><reasons><reason guid="0000" name="Not CSAM" '
        f'type="Pdq"/><members timestamp="{time_}">{members}</members></reasons></negativeFeedback></feedback></{kind}>'
    ).encode()


def _hash(number: int, rng: random.Random) -> bytes:
    """A record with two votes, and the comma that follows it."""
    video = number % _VIDEOS == _VIDEOS - 1
    record = {
        "lastModtimestamp": BEGAN + number * STEP,
        "signalType": "VideoMD5" if video else "ImagePDQ",
        "hashValue": rng.randbytes(16 if video else 32).hex(),
        "hashStatus": "Active",
        "caseNumbers": {rng.randbytes(16).hex(): "Active"},
        "CSPFeedbacks": [
            {"source": "Example", "feedbackValue": "Blocked", "tags": ["nude", "face"]},
            {"source": "Other", "feedbackValue": "NotBlocked", "tags": []},
        ],
    }
    return json.dumps(record).encode() + b","


Pieces = list[Any]
"""Parts of an answer, as bytes or views of the file."""


class NcmecSite:
    def __init__(self, folder: Path) -> None:
        self._records = np.memmap(folder / _RECORDS, np.uint8, "r").data
        self._starts, self._lengths = np.load(folder / _PLACES), np.load(folder / "lengths.npy")

    def answer(self, target: str) -> Pieces:
        query = {key: values[-1] for key, values in parse_qs(urlsplit(target).query).items()}
        low, high = (self._number(query[key]) for key in ("from", "to"))
        most, start = high - low, int(query.get("start", "1"))
        first = low + start - 1
        shown = np.arange(first, max(first, min(first + PAGE, high)))
        parts: Pieces = [f'<?xml version="1.0" encoding="UTF-8"?><queryResult xmlns="{_NAMESPACE}">'.encode()]
        for kind, numbers in (
            ("images", shown[shown % _VIDEOS != _VIDEOS - 1]),
            ("videos", shown[shown % _VIDEOS == _VIDEOS - 1]),
        ):
            parts.append(f'<{kind} count="{len(numbers)}">'.encode())
            if len(numbers):
                parts.append(self._records[self._starts[numbers[0]] : self._end(numbers[-1])])
            parts.append(f"</{kind}>".encode())
        if start + PAGE <= most:
            following = {"from": query["from"], "to": query["to"], "start": start + PAGE, "size": PAGE, "max": most}
            parts.append(f"<paging><next>{escape(f'/v2/entries?{urlencode(following)}')}</next></paging>".encode())
        return [*parts, b"</queryResult>"]

    def _end(self, number: int) -> int:
        return int(self._starts[number] + self._lengths[number])

    def _number(self, text: str) -> int:
        """The number of records up to a time, inclusive."""
        seconds = int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp())
        return max(0, min(len(self._starts), (seconds - BEGAN) // STEP + 1))


class StopNciiSite:
    def __init__(self, folder: Path) -> None:
        self._records = np.memmap(folder / _RECORDS, np.uint8, "r").data
        self._places = np.load(folder / _PLACES)

    def answer(self, target: str) -> Pieces:
        query = parse_qs(urlsplit(target).query)
        count = len(self._places) - 1
        first = min(int(query.get("nextPageToken", ["0"])[0]), count)
        last = min(first + int(query["pageSize"][0]), count)
        head = {"count": last - first, "nextPageToken": str(last), "nextSetTimestamp": BEGAN + last * STEP}
        begin = json.dumps(head | {"hasMoreRecords": last < count})[:-1] + ', "hashRecords": ['
        return [begin.encode(), self._records[self._places[first] : max(self._places[last] - 1, 0)], b"]}"]


class TcapSite:
    def __init__(self, folder: Path) -> None:
        self._page = folder / "page"

    def answer(self, target: str) -> Pieces:
        return [b'{"token": "token-0001"}' if "token-auth" in target else self._page.read_bytes()]


_KINDS: Final[dict[str, Callable[[Path], Any]]] = {NCMEC: NcmecSite, STOPNCII: StopNciiSite, TCAP: TcapSite}


class _Handler(socketserver.StreamRequestHandler):
    """One connection, kept alive: as little HTTP as the clients need."""

    disable_nagle_algorithm = True

    def __init__(self, answer: Callable[[str], Pieces], pause: float, *arguments: Any) -> None:
        self._answer, self._pause = answer, pause
        super().__init__(*arguments)

    def handle(self) -> None:
        while line := self.rfile.readline():
            length = 0
            while (header := self.rfile.readline().strip().lower()) != b"":
                if header.startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            self.rfile.read(length)
            target = line.split()[1].decode()
            pieces = self._answer(target)
            time.sleep(self._pause)
            size = sum(map(len, pieces))
            self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/x\r\nContent-Length: %d\r\n\r\n" % size)
            for piece in pieces:
                self.request.sendall(piece)
            print(time.monotonic(), target, flush=True)


def main() -> None:
    kind, folder, *pause = sys.argv[1:]
    handler = functools.partial(_Handler, _KINDS[kind](Path(folder)).answer, float(pause[0]) if pause else 0.0)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main()
