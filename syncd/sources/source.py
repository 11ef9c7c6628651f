"""One configured upstream, of whatever kind: what syncing it needs to know.

A kind is a frozen dataclass in a file of its own beside this one, named in `syncd.sources.kinds`, and made by its table
in `syncd.sources.tables`. How it is prepared is `syncd.pipeline.prepare`'s: the half of a sync that runs in the worker
process, to which the source travels as JSON. So its fields are values, and name the files that hold secrets.
"""

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from syncd.format.caps import Caps
from syncd.model import ListName

Memory = Mapping[str, JsonValue]
"""What a source remembers between two syncs, as JSON that its own kind reads and writes; empty before the first.

The catalog keeps it, and replaces it when a sync has verified something. It holds no secret and no digest.
"""


class Source(Protocol):
    """One configured upstream. Methods may read the files that it names."""

    @property
    def type(self) -> str:
        """The word for its kind, as in the configuration."""

    @property
    def name(self) -> str:
        """The name that its lists are published under."""

    @property
    def lists(self) -> tuple[ListName, ...]:
        """Which of its lists to follow; none named: all."""

    @property
    def deadline(self) -> float:
        """Seconds that a whole sync may take."""

    @property
    def caps(self) -> Caps:
        """How much of one segment is accepted."""

    def check(self) -> None:
        """See that every file named here can be used. Raises `ConfigError`."""

    def check_trust(self, memory: Memory) -> None:
        """See that ``memory`` is of this kind, and was made under the trust that is configured now.

        A change of trust is followed only after `retrust`. Raises `RefusedError`, `ConfigError`, and `StoreError` if
        the memory cannot be read.
        """
