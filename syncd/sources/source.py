"""The protocol of a configured upstream, whatever its kind.

A kind is a frozen dataclass in a module of its own in this package, made by its table in
`syncd.sources.tables` and listed in `syncd.sources.kinds`, because the worker process receives it as JSON. So its
fields are plain values; secrets are in files that they name.
"""

from collections.abc import Mapping
from typing import Protocol

from pydantic import JsonValue

from syncd.errors import RefusedError
from syncd.format.caps import Caps
from syncd.format.freshness import SourceAges
from syncd.model import ListName

Memory = Mapping[str, JsonValue]
"""The memory of a source between two syncs, as JSON that only its own kind reads and writes; empty before the first.

The catalog stores it, and replaces it when a sync has verified something. It contains no secret and no digest.
"""


class Source(Protocol):
    """One configured upstream. Methods may read the files that it names."""

    @property
    def type(self) -> str:
        """Its kind, as in the configuration."""

    @property
    def name(self) -> str:
        """The first part of the names under which its lists are published."""

    @property
    def lists(self) -> tuple[ListName, ...]:
        """The lists to follow; empty: all of them."""

    @property
    def deadline(self) -> float:
        """Seconds that a whole sync may take."""

    @property
    def caps(self) -> Caps:
        """The largest segment accepted."""

    @property
    def ages(self) -> SourceAges | None:
        """The limits of the ages of its lists, which their manifests state; None: as they state now."""

    def check(self) -> None:
        """Check that every configured file can be used. Raises `ConfigError`."""

    def check_trust(self, memory: Memory) -> None:
        """Check that ``memory`` is of this kind, and was made under the trust root that is configured now.

        Another root is accepted only after `retrust`. Raises `RefusedError`, `ConfigError`, and `StoreError` if the
        memory cannot be read.
        """


def check_kind(source: Source, memory: Memory) -> None:
    """Refuse the memory of another kind of source under the same name. Raises `RefusedError`."""
    if memory.get("type", source.type) != source.type:
        raise RefusedError(
            f"the type of source {source.name} has changed",
            hint=f"restore its type in the configuration, or give the new source another name than {source.name}",
        )
