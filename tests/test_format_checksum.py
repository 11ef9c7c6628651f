"""The end-state checksum is a sum over rows, whatever way it is computed."""

import pytest

from syncd.format.checksum import Checksum, checksum
from syncd.format.rows import Rows
from syncd.model import Algorithm

LENGTHS = (0, 1, 7, 8, 9, 13, 15, 16, 17, 40)


def rows(*lengths: int) -> Rows:
    """Rows whose entries have these lengths."""
    digests = [bytes([number]) * 32 for number in range(len(lengths))]
    entries = ["".join(chr(97 + (number + at) % 26) for at in range(length)) for number, length in enumerate(lengths)]
    return Rows.build(Algorithm.SHA256, digests, entries, ["A"] * len(lengths))


def one_by_one(whole: Rows) -> Checksum:
    """The sum of the checksums of single rows."""
    total = Checksum()
    for number in range(len(whole)):
        total += checksum(whole.slice(number, number + 1))
    return total


@pytest.mark.parametrize("length", LENGTHS)
def test_entries_of_one_length_are_summed_like_any_others(length: int) -> None:
    """The short way through entries that are all equally long gives what the general way gives."""
    whole = rows(length, length, length, length + 1)
    assert checksum(whole.slice(0, 3)) + checksum(whole.slice(3, 4)) == checksum(whole)


def test_a_checksum_is_the_sum_over_its_rows() -> None:
    """Rows of all lengths together have the sum of what each has alone."""
    whole = rows(*LENGTHS)
    assert checksum(whole) == one_by_one(whole)
