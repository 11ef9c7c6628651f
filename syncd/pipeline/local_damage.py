"""Damage on the operator's own disk that a sync meets: it is repaired within the sync, and no partner is blamed."""

from dataclasses import dataclass, field
from typing import Final

from syncd.catalog.folder import StateFolder
from syncd.errors import RefusedError, SourceError, SyncdError
from syncd.files import DamagedError
from syncd.model import ListName
from syncd.pipeline.heads import ListState
from syncd.pipeline.mend import damaged_segments, mend
from syncd.pipeline.outcome import MendedList

_DAMAGED_HERE: Final = "run `syncd sync`, which fetches it again; the partner is not to blame"
_MENDED: Final = (
    "nothing: it was replaced with a sound copy, or fetched from the partner again; if this happens more than once, "
    "check the disk and the memory of this machine"
)


@dataclass
class LocalDamage:
    """The damaged lists of one source that one sync meets; a dry run repairs none."""

    folder: StateFolder
    source: str
    dry_run: bool
    mended: dict[ListName, MendedList] = field(default_factory=dict)
    """by their own names: the repaired lists, which the sync judges once more"""

    def behind(self, fault: Exception, state: ListState | None) -> SyncdError | None:
        """Return the damage on this disk that may have caused a list's fault, after its repair; None if there is none.

        Our rows and the partner's delta are counted together, so damage here looks like a wrong delta.
        """
        if state is None or state.own_name in self.mended or isinstance(fault, SourceError | RefusedError):
            return None
        try:
            damaged = damaged_segments(state)
            if damaged and not self.dry_run:
                mend(self.folder, self.source, state.name, [ref.sha256 for ref in damaged])
        except SyncdError as error:
            return error
        if not damaged:
            return None
        names = ", ".join(f"{ref.sha256}.arrow" for ref in damaged)
        message = f"{state.name} was damaged on this disk: {names}"
        if not self.dry_run:
            self.mended[state.own_name] = MendedList(state.name, DamagedError(message, hint=_MENDED))
        return DamagedError(message, hint=_DAMAGED_HERE)
