"""Generated pictures and their PDQ, by the public implementation of its authors (pdqhash).

For most machines it is released as source only, so it is built once, in an environment of its own: its dependencies do
not touch ours. That takes a quarter of a minute, a C++ compiler and the headers of Python.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from demo.data import Known
from demo.environments import Environment

_HERE: Final = Path(__file__).parent
_PDQ: Final = Environment("demo-pictures", _HERE / "build.txt", _HERE / "pdqhash.txt")


@dataclass(frozen=True)
class Picture:
    """A picture file, its PDQ as hex, and the quality of that from 0 to 100."""

    path: Path
    pdq: str
    quality: int

    @classmethod
    def read(cls, folder: Path, described: Any) -> Self:
        """Return a picture as ``draw.py`` describes it."""
        return cls(folder / described["name"], described["pdq"], described["quality"])

    @property
    def known(self) -> Known:
        """The picture as a row of a list."""
        return Known("pdq", self.pdq, self.path)


@dataclass(frozen=True)
class Pictures:
    """Pictures to list; the first of them, altered; and one that is on no list."""

    listed: tuple[Picture, ...]
    altered: Picture
    other: Picture


def draw(folder: Path) -> Pictures:
    """Draw pictures in a new folder, and hash them. Raises `NotBuiltError`."""
    _PDQ.python()
    folder.mkdir()
    drawn = json.loads(_PDQ.run(_HERE / "draw.py", str(folder)))
    altered, other = (Picture.read(folder, drawn[name]) for name in ("altered", "other"))
    return Pictures(tuple(Picture.read(folder, each) for each in drawn["listed"]), altered, other)
