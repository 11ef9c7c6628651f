"""The tables of docs/partners: what becomes of a partner's fields, as an adapter makes it of a fake's records."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partners import ncmec, stopncii, tcap, threatexchange
from partners.model import Model
from partners.polls import Mirror
from partners.server import FakePartner
from syncd.sources.ncmec import Ncmec
from syncd.sources.ncmec_page import LINKED
from syncd.sources.selection import RecordFilter
from syncd.sources.statements import Record, StatedSource
from syncd.sources.stopncii import StopNcii
from syncd.sources.tcap import Tcap
from syncd.sources.threatexchange import ThreatExchange

PAGES = Path(__file__).parents[1] / "docs" / "partners"


def table(page: str) -> dict[str, str]:
    """The rows of a page's table "in syncd"."""
    text = (PAGES / page).read_text()
    rows = re.search(r"^\|[^|\n]+\| in syncd \|\n\|---\|---\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    assert rows
    cells = [line.strip("|").split(" | ") for line in rows[1].splitlines()]
    assert all(len(one) == 2 for one in cells)
    return {first.strip(): second.strip() for first, second in cells}


def codes(words: Any, last: str = ", ") -> str:
    """Words as code, as a page enumerates them."""
    quoted = [f"`{word}`" for word in words]
    return last.join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]


@contextmanager
def polled(fake: FakePartner, source: Any, **options: Any) -> Iterator[Mirror]:
    """What a poll makes of a fake's records."""
    with fake.running():
        mirror = Mirror(source(fake, **options))
        fake.model.tick(10)
        mirror.poll(fake.model.time)
        yield mirror


def secret(folder: Path, text: str) -> Path:
    file = folder / hashlib.sha256(text.encode()).hexdigest()
    file.write_text(text)
    return file


def model(*numbers: int) -> Model:
    """Records that were never changed."""
    made = Model()
    for number in numbers:
        made.put(number)
        made.tick(1)
    return made


def algorithms(record: Record) -> list[str]:
    return [str(one.algorithm) for one in record.fingerprints]


def test_ncmec(tmp_path: Path) -> None:
    """Every kind of fingerprint in one image, entries of both kinds, a tombstone, votes."""
    fake = ncmec.FakeNcmec(model(3, 8, 4, 17))
    large = {name.lower().replace("_", "-"): f"/v2/large/{name}" for name in LINKED}
    fake.large = {path: path.encode() for path in large.values()}
    links = "".join(f'<{tag} rel="self" href="{path}"/>' for tag, path in large.items())
    fake.more[8] = f"{links}<netclean>abc</netclean><newhash>abc</newhash>"
    against = '<negativeFeedback type="Pdq"><members><member id="9">B</member></members></negativeFeedback>'
    fake.votes[17] = f"<feedback>{against}</feedback>"
    password = secret(tmp_path, ncmec.PASSWORD)

    def source(fake: FakePartner, **options: Any) -> StatedSource:
        url = f"{fake.url}/hashsharing"
        return Ncmec(name="n", url=url, username=ncmec.USERNAME, password_file=password, **options)

    every = {"fingerprints": ("MD5", "SHA1", "PDQ", "PDNA", "NETCLEAN", *LINKED), "exclude": RecordFilter(votes=1)}
    with polled(fake, source, **every) as mirror:
        first = list(mirror.records.values())
        fake.model.delete(4)
        fake.model.delete(3)
        fake.model.tick(10)
        mirror.poll(fake.model.time)
        left = mirror.records
    images, videos = ([one for one in first if one.list == name] for name in mirror.source.lists)
    named = {one.entry: one for one in images}
    record, voted = named["9/a-8"], named["7/a-17"]
    assert [one.entry for one in videos] == ["7/a-3"]
    assert named.keys() == {"9/a-4", "9/a-8", "7/a-17"}
    assert (named["9/a-4"].label, voted.label, videos[0].label) == ("", "B1", "B2")
    assert {key for _, key in left} == {"9/a-8", "7/a-17"}
    assert algorithms(voted) == ["md5", "sha1"]  # a member voted against its PDQ
    found = algorithms(record)
    digests = dict(zip(found, (one.digest for one in record.fingerprints), strict=True))
    assert digests["tmk_pdqf-sha256"] == hashlib.sha256(b"/v2/large/TMK_PDQF").digest()
    assert digests["netclean-sha256"] == hashlib.sha256(b"abc").digest()
    assert digests["photodna"].hex() == fake.model.records[8].hexadecimal("photodna")
    assert mirror.set_aside == {"unknown fingerprint newhash": 1}
    assert found[:4] == ["md5", "sha1", "pdq", "photodna"]
    assert sorted(found[4:]) == sorted(["netclean-sha256", *(f"{name.lower()}-sha256" for name in LINKED)])
    assert table("ncmec.md") == {
        "`image`, `video`": f"an entry of the list {codes([record.list, videos[0].list])}",
        "`member` and `id`": f"the entry: `{voted.entry}`",
        "`classification`": f'the label, as it is; `"{named["9/a-4"].label}"` if there is none',
        "`md5`, `sha1`, `pdq`": f"digests of {codes(found[:3])}",
        "`pdna`": f"digests of `{found[3]}`, from base64 or hexadecimal",
        "large fingerprints (links)": "the SHA-256 of their bytes, as `tmk_pdqf-sha256` and so on",
        "`netclean`": "the SHA-256 of its text, as `netclean-sha256`, because its form is not public",
        "unknown fingerprints": "counted, not carried",
        "`deletedImage`, `deletedVideo`": "the removal of that entry",
        "`feedback`": "votes, for `include` and `exclude`, as of the entry's last change",
        "`timestamp`": "not kept",
    }


def test_stopncii(tmp_path: Path) -> None:
    """Hashes of every type and status."""
    fake = stopncii.FakeStopNcii(model(1, 3, 4, 5))
    usual = {"hashStatus": "Active", "hashValue": "x"}
    fake.extra = [{**usual, "signalType": kind} for kind in ("VideoTMK", "Text", "URL", "ImageNew")]
    fake.feedback[4] = [{"source": one, "feedbackValue": "NotBlocked"} for one in "AA"]
    fake.feedback[5] = [{"source": one, "feedbackValue": "NotBlocked"} for one in "AB"]
    keys = [secret(tmp_path, text) for text in (stopncii.FUNCTION_KEY, stopncii.SUBSCRIPTION_KEY)]

    def source(fake: FakePartner, **options: Any) -> StatedSource:
        return StopNcii(
            name="s", url=f"{fake.url}/v1", function_key_file=keys[0], subscription_key_file=keys[1], **options
        )

    with polled(fake, source, exclude=RecordFilter(votes=2)) as mirror:
        first = dict(mirror.records)
        fake.model.delete(1)
        fake.model.delete(4)
        fake.model.tick(10)
        mirror.poll(fake.model.time)
        assert not {one for one in mirror.records.values() if one.entry.startswith("ImagePDQ")}
    held = {one.entry.partition("/")[0]: one for one in first.values()}
    kinds = {kind: (*algorithms(one), one.list) for kind, one in held.items()}
    value = stopncii.digest(fake.model.records[3])
    assert held["VideoMD5"].entry == f"VideoMD5/{hashlib.sha256(value.encode()).hexdigest()[:32]}"
    assert {one.label for one in first.values()} == {"Active", "NewStatus", "Received"}
    assert sum(one.entry.startswith("ImagePDQ") for one in first.values()) == 2  # 1 and 4: two members against 5
    carried = {kind: found for kind, found in kinds.items() if found[0].endswith("-sha256")}
    assert carried.keys() == {"VideoTMK", "Text", "URL", "ImageNew"}
    assert {one.digest for kind in carried for one in held[kind].fingerprints} == {hashlib.sha256(b"x").digest()}
    image, video = kinds["ImagePDQ"], kinds["VideoMD5"]
    assert table("stopncii.md") == {
        "`ImagePDQ`, `VideoMD5`": f"digests of `{image[0]}` in `{image[1]}`, of `{video[0]}` in `{video[1]}`",
        "`signalType` and `hashValue`": (
            "the entry: the type and a hash of the value, because entries are shown and digests are not"
        ),
        "`hashStatus`": "the label; `Withdrawn` and `Deleted` remove the entry, unknown ones are kept and counted",
        "`CSPFeedbacks`": "votes: `Blocked` in favour, `NotBlocked` against, by distinct `source`",
        "`VideoTMK`, `Text`, `URL`, unknown types": (
            f"counted, and carried by the SHA-256 of the value's text, as `{carried['VideoTMK'][0]}` and so on, in "
            f"`{carried['ImageNew'][1]}`, `{carried['VideoTMK'][1]}` or, if the type begins with neither `Image` nor "
            f"`Video`, `{carried['Text'][1]}`"
        ),
        "`caseNumbers`, `lastModtimestamp`": "not kept",
    }
    assert carried["Text"][1] == carried["URL"][1]


def test_tcap(tmp_path: Path) -> None:
    """Every algorithm, and a deletion."""
    fake = tcap.FakeTcap(model(1, 2, 3, 4))
    fake.extra = [{"id": 99, "algorithm": "TMK", "hash_digest": "x", "ideology": "islamist"}]
    password = secret(tmp_path, tcap.PASSWORD)

    def source(fake: FakePartner, **options: Any) -> StatedSource:
        return Tcap(name="t", url=fake.url, username=tcap.USERNAME, password_file=password, **options)

    with polled(fake, source) as mirror:
        first = dict(mirror.records)
        fake.model.delete(4)
        fake.model.tick(10)
        mirror.poll(fake.model.time)
        assert {key for _, key in first.keys() - mirror.records.keys()} == {"4"}
    (name,) = {one.list for one in first.values()}
    assert {one.label for one in first.values()} == {"islamist", "far-right", "Far-Right"}
    assert first.keys() == {(name, number) for number in "1234"}
    assert mirror.set_aside == {"unknown algorithm TMK": 1}
    found = {algorithm for one in first.values() for algorithm in algorithms(one)}
    order = [word for word in ("md5", "sha256", "sha512", "pdq") if word in found]
    assert len(order) == len(found)
    assert table("tcap.md") == {
        "`id`": f"the entry, in the list `{name}`",
        "`hash_digest`, `algorithm`": f"a digest of {codes(order, ' or ')}; other algorithms are counted",
        "`ideology`": "the label, as it is spelt",
        "`deleted`": "`true` removes the entry",
        "`file_type`, `created_on`, `updated_on`": "not kept",
    }


def test_threatexchange(tmp_path: Path) -> None:
    """Every type, tags, tombstones and opinions."""
    fake = threatexchange.FakeThreatExchange(model(0, 1, 2, 3, 5))
    opinion = {"owner": {"id": "7"}, "status": "MALICIOUS", "tags": {"data": [{"text": "b"}, {"text": "a"}]}}
    fake.extra = [
        {"id": f"x{kind}", "type": kind, "indicator": "ab" * width, "descriptors": {"data": [opinion]}}
        for kind, width in (("HASH_SHA1", 20), ("HASH_VIDEO_SHA256", 32), ("HASH_TMK", 32))
    ]
    token = secret(tmp_path, threatexchange.TOKEN)

    def source(fake: FakePartner, **options: Any) -> StatedSource:
        url = f"{fake.url}/v21.0"
        return ThreatExchange(name="t", url=url, group=threatexchange.GROUP, token_file=token, **options)

    with polled(fake, source) as mirror:
        first = dict(mirror.records)
        for number in (1, 3, 5):
            fake.model.delete(number)
        fake.model.tick(10)
        mirror.poll(fake.model.time)
        assert {key for _, key in first.keys() - mirror.records.keys()} == {"501", "503", "505"}
    types = {one.entry: algorithms(one)[0] for one in first.values()}
    of = {kind: types[str(500 + number)] for number, kind in enumerate(threatexchange.TYPES)}
    of |= {entry[1:]: algorithm for entry, algorithm in types.items() if entry.startswith("x")}
    (name,) = {one.list for one in first.values()}
    assert first[name, "xHASH_SHA1"].label == "a,b"
    assert mirror.set_aside["unknown type of indicator HASH_TMK"] == 1
    rows: Mapping[str, str] = {
        "`id`": f"the entry, in the list `{name}`",
        "`HASH_PDQ`": f"a digest of `{of['HASH_PDQ']}`",
        "`HASH_MD5`, `HASH_VIDEO_MD5`": f"a digest of {codes(sorted({of['HASH_MD5'], of['HASH_VIDEO_MD5']}))}",
        "`HASH_SHA1`, `HASH_SHA256`, `HASH_VIDEO_SHA256`": (
            f"a digest of {codes(sorted({of['HASH_SHA1'], of['HASH_SHA256'], of['HASH_VIDEO_SHA256']}))}"
        ),
        "other types": "counted, not carried",
        "tags of all descriptors that are taken": "the label: sorted, with commas",
        "`should_delete`, or no descriptor with an owner": "the removal of the entry",
        "owners, `status`, `reactions`": (
            "for the filters: `MALICIOUS` and `HELPFUL` are votes in favour, `NON_MALICIOUS` and `DISAGREE_WITH_TAGS` "
            "against"
        ),
    }
    assert table("threatexchange.md") == rows
    votes = {
        "MALICIOUS": (1, 0),
        "HELPFUL": (3, 0),
        "NON_MALICIOUS": (0, 1),
        "DISAGREE_WITH_TAGS": (1, 2),
    }
    for word, (in_favour, against) in votes.items():
        assert f"`{word}`" in rows["owners, `status`, `reactions`"]
        assert counted(tmp_path, source, word) == (in_favour, against)


def counted(tmp_path: Path, source: Any, word: str) -> tuple[int, int]:
    """The votes in favour and against that an opinion, or a reaction to one, makes: by the filters that it passes."""
    reaction = word in {"HELPFUL", "DISAGREE_WITH_TAGS"}
    opinion: dict[str, Any] = {"owner": {"id": "7"}, "status": "MALICIOUS" if reaction else word}
    if reaction:
        opinion["reactions"] = [{"key": word, "value": "8,9"}]
    fake = threatexchange.FakeThreatExchange(model())
    fake.extra = [{"id": "1", "type": "HASH_MD5", "indicator": "ab" * 16, "descriptors": {"data": [opinion]}}]

    def passes(**options: Any) -> bool:
        with polled(fake, source, **options) as mirror:
            return bool(mirror.records)

    in_favour = max(number for number in range(4) if passes(include=RecordFilter(votes=number)))
    against = max((number for number in range(1, 4) if not passes(exclude=RecordFilter(votes=number))), default=0)
    return in_favour, against
