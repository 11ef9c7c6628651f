"""All benchmarks in one run, as one Markdown table: ``python -m benchmarks`` (or ``make bench``).

Everything is made here, from a seed, below ``--workdir`` (some 35 GB for the full sizes), and kept for the next run.
Each line is a median where there are several runs. ``--rows`` makes a quick run with a smaller list: the targets are
those of the full one.
"""

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from benchmarks import cluster, fanout, history, load, lookup, near, partners, publish, road, suppress, years
from benchmarks.measure import Figure, Timing

ROWS: Final = 10_000_000
SMALL: Final = 100_000
LARGE: Final = 50_000_000
_FEW_YEARS: Final = (20_000, 5_000)
FEWEST: Final = 1_000_000
"""rows that look-ups are measured with, however quick the run"""
FANNED_OUT: Final = 1_000_000
"""rows that fan-out is measured with at most: every mirror and matcher has a copy"""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    workdir: Path = options.workdir
    workdir.mkdir(parents=True, exist_ok=True)
    rows: int = options.rows
    figures = [
        *_delta_figures(workdir, rows, min(SMALL, rows), LARGE if rows == ROWS else 5 * rows, options.rounds),
        *_first_sync_figures(workdir, rows),
        *_publish_figures(workdir, rows),
        *history.figures(workdir, rows),
        *years.figures(workdir, *((years.SYNCS, years.VERSIONS) if rows == ROWS else _FEW_YEARS)),
        *lookup.figures(workdir / "lookup", max(rows, FEWEST), options.threatexchange),
        *near.figures(workdir / "near", rows),
        *load.figures(workdir, rows, options.syncs),
        *suppress.figures(workdir, rows),
        *fanout.figures(workdir, min(rows, FANNED_OUT)),
        *cluster.figures(workdir, rows, options.rounds),
        *partners.figures(
            workdir / "partners", rows, min(rows, partners.RECORDS), min(200 * rows, partners.VICS_BYTES)
        ),
    ]
    print(_table(figures))
    content = {"rows": rows, "machine": _machine(), "figures": [_as_json(figure) for figure in figures]}
    output: Path = options.json or workdir / "figures.json"
    output.write_text(json.dumps(content, indent=2) + "\n")
    print(f"\nAlso in {output}.")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=lambda text: int(float(text)), default=ROWS, help="of the list (10e6)")
    parser.add_argument("--rounds", type=int, default=road.ROUNDS, help=f"deltas measured ({road.ROUNDS})")
    parser.add_argument("--syncs", type=int, default=load.SYNCS, help="of the running daemon (1,000)")
    parser.add_argument("--workdir", type=Path, default=Path(tempfile.gettempdir()) / "syncd-benchmarks")
    parser.add_argument("--json", type=Path, help="where to write the figures (WORKDIR/figures.json)")
    parser.add_argument(
        "--threatexchange",
        metavar="PYTHON",
        default=sys.executable,
        help="a Python that has the package, to compare with",
    )
    return parser.parse_args(arguments)


def _delta_figures(workdir: Path, rows: int, small: int, large: int, rounds: int) -> list[Figure]:
    sizes = sorted({small, rows, large})
    worlds = [road.World.at(workdir / f"list-{size}", size) for size in sizes]
    found = dict(zip(sizes, road.deltas(worlds, rounds=rounds), strict=True))
    middle, most = found[rows], found[large]
    less, more = road.processor_times([worlds[sizes.index(small)], worlds[sizes.index(large)]])
    quick = found[small]
    ms = 1e3
    medians = f"{more * 1e3:.0f} and {less * 1e3:.0f} ms, medians of {road.COMPARED} syncs of each"
    return [
        Figure(f"sync of a 1,000-row delta, {rows:,} rows", middle.sync.wall * ms, "ms", 200, note=_cpu(middle.sync)),
        Figure("... the slowest, which folds", middle.slowest.wall * ms, "ms", note=_cpu(middle.slowest)),
        Figure(f"... {large:,} rows", most.sync.wall * ms, "ms", note=_cpu(most.sync)),
        Figure(
            f"... more processor time at {large:,} than at {small:,} rows", (more - less) * ms, "ms", 10, note=medians
        ),
        Figure(f"publish of a 1,000-row delta, {rows:,} rows", middle.publish.wall * ms, "ms"),
        Figure(f"pull of a 1,000-row delta, {rows:,} rows", middle.pull.wall * ms, "ms", note=_cpu(middle.pull)),
        Figure(f"published to pulled, {small:,} rows", (quick.sync.wall + quick.pull.wall) * ms, "ms"),
        Figure("sync, nothing changed", middle.nothing.wall * ms, "ms", note=_cpu(middle.nothing)),
        Figure("... requests", middle.idle_requests, "", 2),
        Figure("... bytes received", middle.idle_bytes, "B", 1000, note="headers included"),
    ]


def _cpu(timing: Timing) -> str:
    return f"{timing.cpu * 1e3:.0f} ms of processor time"


def _first_sync_figures(workdir: Path, rows: int) -> list[Figure]:
    world = road.World.at(workdir / f"list-{rows}", rows)
    run, yardstick = road.first_sync(world)
    return [
        Figure(
            f"first sync of {rows:,} rows",
            run.timing.wall / yardstick,
            "x",
            3,
            note=f"{run.timing.wall:.2f} s; copy + SHA-256 + sync of the same file {yardstick:.2f} s",
        ),
        Figure("... anonymous memory", run.anonymous / 1e6, "MB", 300, note=f"{run.before / 1e6:.0f} MB before it"),
    ]


def _publish_figures(workdir: Path, rows: int) -> list[Figure]:
    run = publish.csv(workdir / "csv", rows)
    rate = publish.checksum_rate()
    return [
        Figure(f"`feed publish --full` of {rows:,} CSV rows", run.timing.wall, "s", 20),
        Figure("... memory", run.anonymous / 1e6, "MB", 1000, note="anonymous"),
        Figure(
            "end-state checksum, one core", rate / 1e6, "M rows/s", 20, at_least=True, note="13-character entry ids"
        ),
    ]


def _table(figures: Sequence[Figure]) -> str:
    lines = ["| what | measured | target | ratio | |", "|---|---|---|---|---|"]
    for one in figures:
        target = "" if one.target is None else f"{'≥' if one.at_least else '≤'} {one.target:g} {one.unit}".rstrip()
        ratio = "" if one.ratio is None else f"{one.ratio:.2f}{'' if one.met else ' **missed**'}"
        lines.append(f"| {one.what} | {_number(one.measured)} {one.unit} | {target} | {ratio} | {one.note} |")
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _as_json(figure: Figure) -> dict[str, object]:
    return {**asdict(figure), "ratio": figure.ratio, "met": figure.met}


def _machine() -> dict[str, object]:
    disk = shutil.disk_usage("/")
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg(),
        "disk_free": disk.free,
    }


if __name__ == "__main__":
    main()
