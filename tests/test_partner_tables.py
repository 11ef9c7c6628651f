"""The configuration of partners that sign nothing: one table for each type."""

from pathlib import Path
from typing import Any, get_args

import pytest

from syncd.config_file import load
from syncd.errors import ConfigError
from syncd.format import manifest
from syncd.sources.ncmec import Ncmec
from syncd.sources.ncmec_page import FINGERPRINTS
from syncd.sources.partner import PartnerSource
from syncd.sources.partner_tables import FilterTable, NcmecFingerprint, PartnerTable, Purpose
from syncd.sources.selection import RecordFilter
from syncd.sources.tables import TABLES

TEXTS = {
    "ncmec": """
[sources.p]
type = "ncmec"
url = "https://report.cybertip.org/hashsharing"
username = "example-esp"
password_file = "/etc/syncd/p.password"
""",
    "stopncii": """
[sources.p]
type = "stopncii"
function_key_file = "/etc/syncd/p.function-key"
subscription_key_file = "/etc/syncd/p.subscription-key"
""",
    "tcap": """
[sources.p]
type = "tcap"
username = "us@example.org"
password_file = "/etc/syncd/p.password"
""",
    "threatexchange": """
[sources.p]
type = "threatexchange"
group = 303636684709969
token_file = "/etc/syncd/p.token"
""",
}
"""The smallest table of each type."""


def loaded(folder: Path, text: str) -> Any:
    file = folder / "syncd.toml"
    file.write_text(f'state_dir = "/s"\n{text}')
    return load(file).source("p")


def test_every_type_is_tried_here() -> None:
    """A new one comes with its table."""
    assert TEXTS.keys() == {word for word, table in TABLES.items() if issubclass(table, PartnerTable)}


@pytest.mark.parametrize("word", TEXTS)
def test_a_table_makes_a_source(tmp_path: Path, word: str) -> None:
    """With the lists, and the times, that its type has."""
    source, table = loaded(tmp_path, TEXTS[word]), TABLES[word]
    assert isinstance(source, PartnerSource)
    assert issubclass(table, PartnerTable)
    assert (source.type, source.name, source.deadline) == (word, "p", 7200.0)
    assert source.lists == tuple(source.MEDIA) == table.LISTS == tuple(source.kinds)
    assert source.ages is not None
    file = load(tmp_path / "syncd.toml").sources["p"]
    assert set(file.secrets().values()) == set(source.secrets().values())
    assert file.place.startswith("https://")


def test_every_key_of_ncmec_reaches_the_source(tmp_path: Path) -> None:
    """Filters in the partner's words; numbers of members may be numbers."""
    text = """
interval = "1h"
deadline = "6h"
lists = ["videos"]
purpose = "review"
ca = "/etc/syncd/ca.pem"
proxy = "http://proxy.example:3128"
fingerprints = ["MD5", "TMK_PDQF"]
[sources.p.include]
classifications = ["A1", "A2"]
votes = 1
[sources.p.exclude]
members = [7, "9"]
"""
    source = loaded(tmp_path, TEXTS["ncmec"] + text)
    assert source == Ncmec(
        name="p",
        url="https://report.cybertip.org/hashsharing",
        username="example-esp",
        password_file=Path("/etc/syncd/p.password"),
        lists=source.lists,
        purpose="review",
        ca=Path("/etc/syncd/ca.pem"),
        proxy="http://proxy.example:3128",
        deadline=21600.0,
        fingerprints=("MD5", "TMK_PDQF"),
        include=RecordFilter(classifications=("A1", "A2"), votes=1),
        exclude=RecordFilter(members=("7", "9")),
        ages=source.ages,
    )
    assert source.lists == ("videos",)


@pytest.mark.parametrize(
    ("word", "more", "message"),
    [
        ("ncmec", 'usernam = "x"', "sources.p.usernam: unknown key"),
        ("ncmec", 'lists = ["image"]', "sources.p.lists: image is not a list of type ncmec"),
        ("ncmec", '[sources.p.include]\nstatuses = ["x"]', "sources.p.include.statuses: not a filter of type ncmec"),
        ("ncmec", '[sources.p.include]\nlabels = ["x"]', "sources.p.include.labels: unknown key"),
        ("ncmec", "[sources.p.exclude]\nvotes = -1", "sources.p.exclude.votes: input should be greater than"),
        ("ncmec", 'fingerprints = ["SHA256"]', "sources.p.fingerprints.0: "),
        ("ncmec", 'purpose = "block"', "sources.p.purpose: "),
        (
            "stopncii",
            '[sources.p.include]\nmembers = ["x"]',
            "p.include.members: not a filter of type stopncii",
        ),
        ("stopncii", "page_size = 0", "sources.p.page_size: "),
        ("tcap", "[sources.p.include]\nvotes = 1", "sources.p.include.votes: not a filter of type tcap"),
        ("tcap", 'list_path = "../x"', "sources.p.list_path: "),
        ("threatexchange", 'page_size = "x"', "sources.p.page_size: "),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, word: str, more: str, message: str) -> None:
    """Nothing is read past."""
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, TEXTS[word] + more)
    assert message in refused.value.message


def test_what_comes_from_frightened_people_is_for_review(tmp_path: Path) -> None:
    """Unless the operator says otherwise, StopNCII's lists block nothing by themselves."""
    assert {word: loaded(tmp_path, text).purpose for word, text in TEXTS.items()} == {
        "ncmec": "live",
        "stopncii": "review",
        "tcap": "live",
        "threatexchange": "live",
    }


def test_a_partner_is_a_server(tmp_path: Path) -> None:
    """A folder does not answer."""
    text = TEXTS["ncmec"].replace("https://report.cybertip.org/hashsharing", "file:///srv/feed")
    with pytest.raises(ConfigError, match=r"sources\.p\.url: not the address of a server"):
        loaded(tmp_path, text)


def test_the_words_of_the_tables_are_those_of_the_code() -> None:
    """The tables repeat some, because the modules that have them are heavy."""
    assert get_args(Purpose) == get_args(manifest.Purpose)
    assert get_args(NcmecFingerprint) == FINGERPRINTS
    assert FilterTable.model_fields.keys() == RecordFilter.__dataclass_fields__.keys()
