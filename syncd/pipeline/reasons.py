"""Why an update is held, in words, and what to do: for every report of it, without what the gate loads."""

from collections.abc import Mapping
from typing import Final

_HELD_FOR: Final[Mapping[str, str]] = {  # each `syncd.pipeline.values.HoldReason`
    "emptied": "the update would leave the list without any entry",
    "forked": "the update does not descend from the version held",
}
_TO_DO: Final[Mapping[str, str]] = {
    "emptied": "ask the partner whether this was meant",
    "forked": "ask the partner whether they restored a backup: if not, somebody else signs",
}
_AFRESH: Final = "the next version is judged afresh"


def in_full(reason: str) -> str:
    """A sync's reason as people read it: why an update was held in words, and the kind of an error as it is."""
    return ", ".join(_HELD_FOR.get(part, part) for part in reason.split(", ")) if reason else ""


def to_do(reason: str) -> str:
    """What to do about an update that is held for ``reason``."""
    return "; ".join([*(_TO_DO[part] for part in reason.split(", ") if part in _TO_DO), _AFRESH])
