"""How many machines: ``python -m benchmarks.sizing [COSTS]`` prints the tables of ``docs/scale.md``.

Everything is computed from the costs that ``python -m benchmarks.fanout --costs COSTS`` measured; `COSTS` of the
repository are those that the page shows.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.fanout import Costs
from syncd.service.web.limits import Limits

COSTS: Final = Path(__file__).parent / "costs.json"
MATCHERS: Final = (1_000, 10_000, 100_000)
ROWS: Final = (1_000_000, 10_000_000, 50_000_000)
LINE: Final = 125e6
"""bytes a second of one server's line: 1 Gbit/s"""
FULL: Final = 0.9
"""share of a server's streams that a plan uses: beyond it `SyncdHttpFull` fires"""
AT_ONE: Final = int(Limits.streams * FULL)
"""most matchers of one server, by its limit of streams"""
CHECK_IN_EVERY: Final = 300.0
PUBLICATIONS: Final = 12
"""an hour, of all lists together"""


@dataclass(frozen=True)
class Plan:
    """What serves a fleet, and how long a publication takes to its last matcher."""

    matchers: int
    mirrors: int
    """0: the daemon serves them itself"""
    each: int
    """matchers at one server"""
    levels: int
    seconds: float
    """from the publication to the last matcher's answer, for a delta"""
    busy: float
    """share of one core at each server, over an hour"""
    busy_daemon: float
    memory: float
    """bytes of one mirror, or of the daemon beyond what it needs without readers"""


def plan(matchers: int, costs: Costs) -> Plan:
    """Plan as few servers as their limits allow."""
    mirrors = 0 if matchers <= AT_ONE else math.ceil(matchers / AT_ONE)
    each = math.ceil(matchers / max(1, mirrors))
    reader = costs.event + costs.pull + costs.tls
    work = each * reader / 1e3
    first = costs.published_to_answered if mirrors else costs.published_to_answered_direct
    hour = PUBLICATIONS * work + each * 3600 * costs.stream_second / 1e3
    hour += each * 3600 / CHECK_IN_EVERY * (costs.check_in_mirror if mirrors else costs.check_in_direct) / 1e3
    behind = PUBLICATIONS * mirrors * (costs.mirror_at_daemon + costs.event + costs.tls) / 1e3
    behind += matchers * 3600 / CHECK_IN_EVERY * costs.check_in_daemon / 1e3 if mirrors else 0
    own = PUBLICATIONS * costs.publication_daemon / 1e3
    return Plan(
        matchers=matchers,
        mirrors=mirrors,
        each=each,
        levels=1 if mirrors else 0,
        seconds=first + work,
        busy=(hour + (PUBLICATIONS * costs.publication_mirror / 1e3 if mirrors else own)) / 3600,
        busy_daemon=(own + behind) / 3600 if mirrors else (own + hour) / 3600,
        memory=costs.mirror_bytes + each * costs.stream_bytes,
    )


def fleets(costs: Costs) -> Iterator[str]:
    """Yield the table of fleets."""
    yield from _head(
        *("matchers", "servers", "matchers at each", "a delta, to the last matcher"),
        *("core at each mirror", "core at the daemon", "memory of a mirror"),
    )
    for one in (plan(matchers, costs) for matchers in MATCHERS):
        servers = f"the daemon and {one.mirrors} mirrors" if one.mirrors else "the daemon"
        mirror = f"{one.busy:.0%}" if one.mirrors else ""
        memory = f"{one.memory / 1e6:.0f} MB" if one.mirrors else ""
        yield (
            f"| {one.matchers:,} | {servers} | {one.each:,} | {one.seconds:.0f} s | {mirror} "
            f"| {one.busy_daemon:.0%} | {memory} |"
        )


def lists(costs: Costs) -> Iterator[str]:
    """Yield the table of lists: what grows with the rows, and not with the number of servers."""
    yield from _head(
        *("rows", "a whole list", "to a mirror, at 1 Gbit/s"),
        *(f"the first copies of {AT_ONE:,} matchers of one server", "disk of a mirror"),
    )
    for rows in ROWS:
        size = rows * costs.row_bytes
        yield (
            f"| {rows:,} | {_bytes(size)} | {size / LINE:.0f} s | {_duration(AT_ONE * size / LINE)} "
            f"| {_bytes(3 * size)} |"
        )


def _head(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"


def unit_costs(costs: Costs) -> Iterator[str]:
    """Yield the table of what was measured."""
    yield from _head("what", "cost")
    for what, value, unit in (
        ("a publication at the daemon, without readers", costs.publication_daemon, "ms"),
        ("the same at a mirror: fetch, verify, install, announce", costs.publication_mirror, "ms"),
        ("one mirror that pulls it, at the daemon", costs.mirror_at_daemon, "ms"),
        ("one matcher that pulls it, at its server", costs.pull, "ms"),
        ("one TLS handshake (ECDSA P-256), for each pull and check-in", costs.tls, "ms"),
        ("one event on one stream", costs.event, "ms"),
        ("one open stream for an hour, with beats", costs.stream_second * 3600, "ms"),
        ("one poll that finds nothing new", costs.poll, "ms"),
        ("one check-in at the daemon", costs.check_in_direct, "ms"),
        ("one check-in at a mirror; at the daemon behind it", costs.check_in_mirror, "ms"),
        ("one check-in in a batch, at the daemon", costs.check_in_daemon, "ms"),
        ("memory of a mirror without streams", costs.mirror_bytes / 1e6, "MB"),
        ("memory of one stream", costs.stream_bytes / 1e3, "kB"),
        (f"bytes to one matcher for a delta of {costs.delta_rows:,} rows", costs.delta_bytes / 1e3, "kB"),
        ("bytes of a whole list, for each row", costs.row_bytes, "B"),
    ):
        yield f"| {what} | {value:.3g} {unit} |"


def page(costs: Costs) -> str:
    """Return the computed part of ``docs/scale.md``."""
    parts = (fleets(costs), lists(costs), unit_costs(costs))
    return "\n\n".join("\n".join(lines) for lines in parts)


def read(path: Path = COSTS) -> Costs:
    """Read measured costs."""
    return Costs(**json.loads(path.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", type=Path, nargs="?", default=COSTS)
    print(page(read(parser.parse_args().costs)))


if __name__ == "__main__":
    main()
