"""Look-ups in a segment that was damaged after it was proved, its length unchanged: an answer or a typed error."""

import os
import random
import traceback
from pathlib import Path
from typing import Literal

import pytest

from straight import pulled, world
from syncd.errors import SegmentError, SyncdError
from syncd.format.manifest import SegmentRef
from syncd.format.rows import Rows, as_digests, sort_order
from syncd.format.segment import Segment
from syncd.format.stack import Stack
from syncd.format.writer import write_segment
from syncd.matcher import Matcher
from syncd.model import Algorithm
from world import World, row

__all__ = ["pulled", "world"]  # fixtures

SHA256 = Algorithm.SHA256
LISTED, REMOVED = range(200), range(0, 200, 7)
A_PROCESS = 150
"""Flips that one process tries: if the system ends it, the others are still tried."""


def made(path: Path, kind: Literal["base", "delta"], numbers: range, *, removed: bool = False) -> SegmentRef:
    """A segment of rows with entries and labels of several lengths."""
    rows = Rows.build(
        SHA256,
        [bytes.fromhex(row(number)[1]) for number in numbers],
        [f"entry {number}" * (number % 5) for number in numbers],
        ["" if removed else "ABC"[number % 3] * 9 for number in numbers],
        [removed] * len(numbers),
    )
    ref = write_segment(path, SHA256, kind, [rows.take(sort_order(rows))])
    assert ref is not None
    return ref


def ask(segments: list[tuple[Path, SegmentRef]]) -> None:
    """Ask for every digest, one by one and all together, as a matcher does."""
    stack = Stack(SHA256, [Segment.open(path, ref) for path, ref in segments])
    digests = [bytes.fromhex(row(number)[1]) for number in LISTED]
    lookup = stack.entries_of
    for digest in digests:
        lookup(digest)
    stack.contains(as_digests(digests))


def flip(content: bytes, rng: random.Random) -> bytes:
    """Flip one bit, or write a run of other bytes, as bad memory and bad sectors do."""
    damaged = bytearray(content)
    at = rng.randrange(len(damaged))
    if rng.random() < 0.7:
        damaged[at] ^= 1 << rng.randrange(8)
    else:
        length = min(rng.choice([2, 8, 64, 512]), len(damaged) - at)
        damaged[at : at + length] = rng.choice([bytes(length), b"\xff" * length, rng.randbytes(length)])
    return bytes(damaged)


def in_child(tries: list[int], damaged: int, segments: list[tuple[Path, SegmentRef]]) -> int:
    """Try damage in a process of its own; return its wait status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    code = 0
    path, _ = segments[damaged]
    sound = path.read_bytes()
    for seed in tries:
        path.write_bytes(flip(sound, random.Random(seed)))
        try:
            ask(segments)
        except SyncdError:
            pass
        except BaseException:  # noqa: BLE001 - whatever it is, the test shows it and goes on
            print(f"damage {seed}:")
            traceback.print_exc()
            code = 1
    os._exit(code)


@pytest.mark.parametrize("damaged", [0, 1], ids=["base", "delta"])
@pytest.mark.parametrize("start", range(0, 900, A_PROCESS))
def test_a_look_up_that_meets_damage_answers_or_says_so(tmp_path: Path, damaged: int, start: int) -> None:
    """No bare error of Python, numpy or Arrow, and no process that the system ends, whatever bits were flipped."""
    segments = [
        (tmp_path / "base", made(tmp_path / "base", "base", LISTED)),
        (tmp_path / "delta", made(tmp_path / "delta", "delta", REMOVED, removed=True)),
    ]
    ask(segments)
    assert in_child(list(range(start, start + A_PROCESS)), damaged, segments) == 0


def test_an_entry_that_a_damaged_offset_makes_huge_is_not_copied(tmp_path: Path) -> None:
    """One flipped bit must not make a hit as long as the file."""
    ref = made(tmp_path / "base", "base", range(40, 50))
    content = bytearray((tmp_path / "base").read_bytes())
    lengths = [len(f"entry {number}" * (number % 5)) for number in sorted(range(40, 50), key=lambda one: row(one)[1])]
    offsets = b"".join(sum(lengths[:count]).to_bytes(8, "little") for count in range(len(lengths) + 1))
    content[content.index(offsets) + 8 * 5 + 2] ^= 1  # 65,536 more
    (tmp_path / "base").write_bytes(content)
    segment = Segment.open(tmp_path / "base", ref)
    digests = segment.digests.tobytes()
    for place in (4, 5):
        with pytest.raises(SegmentError, match="a look-up found damage in it"):
            segment.entries_of(digests[place * 32 : (place + 1) * 32])


def test_a_matcher_says_which_file_is_damaged_and_what_to_do(world: World) -> None:
    """Its caller can tell "not listed" from "not known", and knows how the copy is mended."""
    (path,) = world.mirror.glob("v1/images/segments/*.arrow")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"e4", b"\xff\xff"))
    matcher = Matcher.open(world.mirror, clock=world.clock)
    with pytest.raises(SegmentError, match=f"segment {path.name}: a look-up found damage in it") as caught:
        matcher.lookup("sha256", row(4)[1])
    assert "run the same `syncd pull` with `--check`" in caught.value.hint
    assert matcher.lookup("sha256", row(5)[1])[0].entry == "e5"
