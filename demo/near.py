"""The demo's altered picture: other bytes, and near a listed one."""

import hashlib
from pathlib import Path
from typing import Final

from demo import pictures
from demo.data import Known
from demo.environments import NotBuiltError
from demo.pictures import Pictures
from syncd.errors import StoreError
from syncd.matcher import Matcher

_BITS: Final = 256


class AlteredPicture:
    """Pictures that the partner lists, and what a matcher says about an altered one. Without PDQ it says only why."""

    def __init__(self, folder: Path) -> None:
        self.reason = ""
        self.drawn: Pictures | None = None
        try:
            self.drawn = pictures.draw(folder)
        except NotBuiltError as error:
            self.reason = str(error)

    @property
    def listed(self) -> list[Known]:
        """The rows of the pictures."""
        return [picture.known for picture in self.drawn.listed] if self.drawn else []

    def recognise(self, matcher: Matcher) -> list[tuple[str, str]]:
        """Return the lines of this step. Raises `StoreError` if the matcher is wrong."""
        if self.drawn is None:
            return [("not shown", f"it needs pdqhash, the public PDQ: {self.reason}")]
        altered, other = self.drawn.altered, self.drawn.other
        exact = matcher.lookup("sha256", hashlib.sha256(altered.path.read_bytes()).digest())
        exact += matcher.lookup("pdq", altered.pdq)
        near, others = matcher.near("pdq", altered.pdq), matcher.near("pdq", other.pdq)
        if exact or others or [hit.digest.hex() for hit in near] != [self.drawn.listed[0].pdq]:
            raise StoreError("the matcher was wrong about a picture", hint="a bug in syncd: please report it")
        return [
            ("on the list", f"{len(self.drawn.listed)} generated pictures, hashed with PDQ (pdqhash)"),
            ("altered", f"{self.drawn.listed[0].path.name}: cropped, scaled, saved again as JPEG"),
            ("not on it", f"{altered.path.name}, by its bytes or its exact PDQ"),
            ("near", f"{altered.path.name}: {near[0].distance} of {_BITS} bits from the listed picture"),
            ("not near", f"{other.path.name}, a picture that is on no list"),
        ]
