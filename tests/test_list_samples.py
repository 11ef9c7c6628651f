"""A file of each kind that partners have, and what the command makes of it."""

import re
from collections import Counter

import pytest

from list_samples import OPTIONS, PAGE, page, result, samples


def test_the_page_of_samples_is_up_to_date() -> None:
    """It says what the program does today: run ``python tests/list_samples.py``."""
    assert PAGE.read_text() == page()


def test_the_page_shows_no_digest() -> None:
    """Not even a synthetic one: a refusal never contains a value."""
    assert re.findall(r"(?i)\b[0-9a-f]{32,}\b", page()) == []


@pytest.mark.parametrize("name", OPTIONS)
def test_a_sample_is_read_with_its_options(name: str) -> None:
    """And only with them: otherwise they would not be needed."""
    (path,) = (path for path in samples() if path.name == name)
    assert (result(path, {})[:8], result(path, OPTIONS[name])[:5]) == ("refused:", "read:")


def test_a_refusal_fits_its_file() -> None:
    """Of the files that no option reads, two at most are answered with the same sentence."""
    results = (result(path, {}) for path in samples() if path.name not in OPTIONS)
    refusals = Counter(re.sub(r"line \d+, ", "", words) for words in results if words.startswith("refused"))
    assert [words for words, number in refusals.items() if number > 2] == []
