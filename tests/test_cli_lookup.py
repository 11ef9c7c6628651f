import hashlib
import os
from pathlib import Path

import pytest

from command_line import Ran, syncd, use_clock
from syncd.model import ListName
from world import World, row, rows

PDQ = "ab" * 32


def of_file(content: bytes, algorithm: str, entry: str) -> tuple[str, str, str, str]:
    return (algorithm, hashlib.new(algorithm, content, usedforsecurity=False).hexdigest(), entry, "A")


@pytest.fixture
def copied(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """A pulled copy of two rows of each kind of digest, by the world's clock."""
    use_clock(world.clock, monkeypatch)
    content = b"x" * (3 << 20)
    kept = [of_file(content, "md5", "m"), of_file(content, "sha1", "s"), ("pdq", PDQ, "p", "B"), *rows(0, 2)]
    world.publish(full=kept)
    syncd("pull", world.partner.root.as_uri(), "--root", world.root, "--dir", world.copy)
    return world


def test_every_entry_of_a_digest_is_told(copied: World) -> None:
    """One line a digest and entry, in the order asked; the digest as it was typed."""
    known, unknown = f"SHA256:{row(1)[1].upper()}", f"md5:{'0' * 32}"
    assert syncd("lookup", copied.copy, unknown, known) == Ran(
        0, f"{unknown}  no match\n{known}  MATCH images version 1  label B  entry e1\n", ""
    )


def test_nothing_found_is_exit_code_10(copied: World) -> None:
    """Of what was checked."""
    ran = syncd("lookup", copied.copy, f"sha256:{'0' * 64}", "--json")
    assert ran.code == 10
    assert ran.json["digests"] == [
        {"digest": f"sha256:{'0' * 64}", "matched": False, "not_checked": False, "exact_only": False, "hits": []},
    ]


def test_a_digest_that_no_list_could_hold_was_not_checked(copied: World) -> None:
    """It is neither a match nor a clearance: exit code 2 where nothing was checked at all."""
    unheld, unknown = f"sha512:{'0' * 128}", f"sha256:{'0' * 64}"
    assert syncd("lookup", copied.copy, unheld) == Ran(
        2,
        f"{unheld}  not checked\n",
        "warning: sha512 digests were not checked, because no list of this copy holds any\n"
        "  to do: look up one of the algorithms held: md5, pdq, sha1, sha256\n",
    )
    assert syncd("lookup", copied.copy, unheld, unknown).code == 10
    assert syncd("lookup", copied.copy, unheld, f"sha256:{row(1)[1]}").code == 0
    ran = syncd("lookup", copied.copy, unheld, "--json")
    assert ran.code == 2
    assert ran.json["digests"] == [
        {"digest": unheld, "matched": False, "not_checked": True, "exact_only": False, "hits": []},
    ]


def test_a_digest_that_no_named_list_holds_was_not_checked(world: World) -> None:
    """Another list of the copy holds its algorithm, but was not searched."""
    world.publish(full=rows(0, 2))
    world.publish(full=[of_file(b"x", "md5", "m")], name=ListName("videos"))
    world.follow()
    asked = f"md5:{of_file(b'x', 'md5', 'm')[1]}"
    assert syncd("lookup", world.mirror, asked).code == 0
    ran = syncd("lookup", world.mirror, asked, "--list", "images")
    assert (ran.code, ran.out) == (2, f"{asked}  not checked\n")
    assert "md5 digests were not checked, because no list that was named holds any\n" in ran.err
    assert "one of the algorithms held: sha256\n" in ran.err


def test_no_digest_at_all_is_a_usage_error(copied: World) -> None:
    """An upstream command that failed must not read as "nothing matched"."""
    assert syncd("lookup", copied.copy, "-", stdin="\n") == Ran(
        2,
        "",
        "error: no digest was given: standard input is empty\n  to do: write one ALG:HEX per line to it\n",
    )


def test_files_are_not_cleared_by_perceptual_lists(world: World, tmp_path: Path) -> None:
    """A copy with no cryptographic list checks no file: exit code 2, not 10."""
    world.publish(full=[("pdq", PDQ, "p", "B")])
    world.follow()
    (tmp_path / "file").write_bytes(b"x")
    ran = syncd("match", world.mirror, tmp_path / "file")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(
        f"error: no list of {world.mirror} holds cryptographic digests: files were not checked\n  to do: "
    )


def test_a_file_name_makes_no_line_of_its_own(copied: World, tmp_path: Path) -> None:
    """Whoever names an upload could otherwise write "no match" for another."""
    file = tmp_path / "x\nupload.jpg  no match"
    file.write_bytes(b"y")
    assert syncd("match", copied.copy, file).out == f"{tmp_path}/x\\x0aupload.jpg  no match  no match\n"
    assert syncd("match", copied.copy, tmp_path / "a\nb").err.splitlines()[-2] == (
        f"error: cannot read {tmp_path}/a\\x0ab: No such file or directory"
    )


def test_only_regular_files_are_read(copied: World, tmp_path: Path) -> None:
    """A pipe would be waited for without end."""
    os.mkfifo(tmp_path / "fifo")
    for name in (tmp_path / "fifo", Path("/dev/zero")):
        ran = syncd("match", copied.copy, name)
        assert (ran.code, ran.out) == (2, "")
        assert f"error: cannot read {name}: not a regular file\n" in ran.err


def test_a_clock_that_was_set_back_is_told(copied: World) -> None:
    """A stale copy would otherwise look fresh for ever; a few minutes between hosts are nothing."""
    known = f"sha256:{row(1)[1]}"
    copied.clock.forward(minutes=-5)
    assert syncd("lookup", copied.copy, known) == Ran(0, f"{known}  MATCH images version 1  label B  entry e1\n", "")
    copied.clock.forward(hours=-3)
    warning = "warning: the last pull into this copy is dated 3 hours in the future: check the clock of this host"
    assert syncd("lookup", copied.copy, known).err.startswith(warning)
    assert warning in syncd("match", copied.copy, copied.root).err


def test_a_root_that_is_none_is_a_fault_of_the_command_line(copied: World, tmp_path: Path) -> None:
    """The file is here: no publisher need be told."""
    for content in (b"algorithm,digest\n", b"[]", b'{"signed": {"_type": "targets"}}', b"[" * 100_000):
        (tmp_path / "garbage.csv").write_bytes(content)
        assert syncd("lookup", copied.copy, f"md5:{'0' * 32}", "--root", tmp_path / "garbage.csv") == Ran(
            2,
            "",
            f"error: {tmp_path}/garbage.csv is not a trust root\n"
            "  to do: name the feed's root.json, as you obtained it out of band\n",
        )


def test_perceptual_look_ups_say_that_they_are_exact(copied: World) -> None:
    """A miss would otherwise read as a clearance."""
    ran = syncd("lookup", copied.copy, f"pdq:{PDQ}", "--json")
    assert (ran.code, ran.err) == (0, "note: pdq digests are compared exactly; near matches are not found\n")
    assert ran.json["digests"][0]["exact_only"] is True
    assert ran.json["digests"][0]["hits"] == [{"list": "images", "version": 1, "entry": "p", "label": "B"}]


@pytest.mark.parametrize(
    ("arguments", "stdin", "message", "hint"),
    [
        (
            ("x",),
            "",
            "digest 1: a digest must have the form ALG:HEX",
            "ALG is one of md5, sha1, sha256, sha512, pdq, photodna, vpdq, or another algorithm used in a list",
        ),
        (
            (f"md5:{'0' * 32}", "md5:123"),
            "",
            "digest 2: not a md5 digest: 3 characters after the colon",
            "md5 has 32 hexadecimal digits",
        ),
        (
            ("-",),
            f"md5:{'0' * 32}\n\nmd.6:77\n",
            "standard input, line 3: the algorithm in ALG:HEX is not valid",
            "ALG is one of md5, sha1, sha256, sha512, pdq, photodna, vpdq, or another algorithm used in a list",
        ),
    ],
)
def test_a_wrong_digest_is_named_by_place_not_by_value(
    copied: World, arguments: tuple[str, ...], stdin: str, message: str, hint: str
) -> None:
    """Errors end up in logs."""
    ran = syncd("lookup", copied.copy, *arguments, stdin=stdin)
    assert ran == Ran(2, "", f"error: {message}\n  to do: {hint}\n")


def test_an_algorithm_that_no_list_holds_is_named(copied: World) -> None:
    """A name that is not known may be one of a later feed: its digests are not checked, which is not the same as no
    match."""
    ran = syncd("lookup", copied.copy, "tlsh2:77")
    assert ran.code == 2
    assert ran.out == "tlsh2:77  not checked\n"
    assert ran.err.startswith("warning: tlsh2 digests were not checked, because no list of this copy holds any\n")


def test_files_are_read_once_and_checked_by_every_digest_held(copied: World, tmp_path: Path) -> None:
    """Larger than a block; both lists' algorithms match."""
    (tmp_path / "big").write_bytes(b"x" * (3 << 20))
    (tmp_path / "none").write_bytes(b"")
    ran = syncd("match", copied.copy, tmp_path / "big", tmp_path / "none")
    assert ran.code == 0
    assert ran.out == (
        f"{tmp_path}/big  MATCH images version 1  md5  label A  entry m\n"
        f"{tmp_path}/big  MATCH images version 1  sha1  label A  entry s\n"
        f"{tmp_path}/none  no match\n"
    )
    assert ran.err == "note: not checked: pdq of images; perceptual digests require near matching\n"


def test_a_file_that_cannot_be_read_is_not_cleared(copied: World, tmp_path: Path) -> None:
    """The others are checked, and the exit code says that not all were."""
    (tmp_path / "none").write_bytes(b"")
    ran = syncd("match", copied.copy, tmp_path / "absent", tmp_path, tmp_path / "none")
    assert (ran.code, ran.out) == (2, f"{tmp_path}/none  no match\n")
    assert (
        f"error: cannot read {tmp_path}/absent: No such file or directory\n  to do: check the path and the mode"
        in ran.err
    )
    assert f"error: cannot read {tmp_path}: Is a directory\n" in ran.err
    document = syncd("match", copied.copy, tmp_path / "absent", "--json").json
    assert document["not_checked"] == {"images": ["pdq"]}
    assert document["files"][0]["error"]["message"] == f"cannot read {tmp_path}/absent: No such file or directory"


def test_a_stale_copy_answers_and_says_how_old_it_is(copied: World) -> None:
    """Old is better than nothing, but somebody must look."""
    copied.clock.forward(days=3)
    ran = syncd("lookup", copied.copy, f"sha256:{row(1)[1]}")
    assert ran.code == 0
    assert ran.err == (
        "warning: this copy is stale: its timestamp metadata expired; pull again\n"
        "warning: images is stale: it was last verified 3 days ago (stale after 2 days)\n"
    )


def test_the_copy_is_proved_by_the_root_given(copied: World) -> None:
    """Another root does not vouch for it."""
    known = f"sha256:{row(1)[1]}"
    assert syncd("lookup", copied.copy, known, "--root", copied.root).code == 0
    assert syncd("lookup", copied.copy, known, "--root", copied.operator_root).code == 4


def test_a_folder_that_is_no_copy_is_a_usage_error(tmp_path: Path) -> None:
    """It says how to make one."""
    assert syncd("lookup", tmp_path, f"md5:{'0' * 32}") == Ran(
        2,
        "",
        f"error: {tmp_path} is not a pulled copy\n  to do: make one with `syncd pull URL --root ROOT --dir DIR`\n",
    )


def test_a_copy_that_others_may_write_is_refused(copied: World) -> None:
    """They could decide what matches."""
    copied.copy.chmod(0o777)
    ran = syncd("lookup", copied.copy, f"md5:{'0' * 32}")
    assert (ran.code, ran.err.splitlines()[0]) == (
        6,
        f"error: users other than this one and root may write {copied.copy}",
    )
