"""Signing keys on disk."""

import errno
import os
import re
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from feed_simulator import NOW
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.trust.keys import (
    OFFLINE_ROLES,
    ONLINE_ROLES,
    generate_key,
    load_signer,
    load_signers,
    make_offline_keys,
    make_online_keys,
)
from syncd.trust.repository import Repository, create


def test_a_made_set_signs_a_feed_when_loaded_again(tmp_path: Path) -> None:
    """Keys that were made, then loaded from their folders, sign a feed that verifies."""
    make_offline_keys(tmp_path / "offline", 3)
    make_online_keys(tmp_path / "online")
    offline = load_signers(tmp_path / "offline", OFFLINE_ROLES)
    online = load_signers(tmp_path / "online", ONLINE_ROLES)
    assert {role: len(signers) for role, signers in offline.items()} == {"root": 3, "targets": 1}
    update = create(offline, online, 2, NOW)
    assert Repository.load(dict(update.files).get).versions["root"] == 1


def test_made_keys_are_the_ones_loaded(tmp_path: Path) -> None:
    """What making returns is what loading finds, under the documented names."""
    made = make_online_keys(tmp_path / "keys")
    loaded = load_signers(tmp_path / "keys", ONLINE_ROLES)
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["lists.pem", "snapshot.pem", "timestamp.pem"]
    assert made["lists"][0].public_key == loaded["lists"][0].public_key
    assert made["lists"][0].public_key != made["snapshot"][0].public_key


def test_key_files_are_private(tmp_path: Path) -> None:
    """A key file is readable by its owner alone, in a folder of the same kind, and is unencrypted PKCS#8."""
    generate_key(tmp_path / "keys" / "root-1.pem")
    assert (tmp_path / "keys" / "root-1.pem").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    pem = (tmp_path / "keys" / "root-1.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert isinstance(load_pem_private_key(pem, None), Ed25519PrivateKey)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    """An existing file stays as it was, and a set of keys with one name taken is not begun."""
    (tmp_path / "targets.pem").write_bytes(b"precious")
    with pytest.raises(RefusedError, match=r"targets\.pem exists already and is not overwritten"):
        generate_key(tmp_path / "targets.pem")
    with pytest.raises(RefusedError, match=r"targets\.pem exists"):
        make_offline_keys(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["targets.pem"]
    assert (tmp_path / "targets.pem").read_bytes() == b"precious"


def test_a_stick_without_hard_links_takes_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FAT is: written in place, and never over a key."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    make_online_keys(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists.pem", "snapshot.pem", "timestamp.pem"]
    before = (tmp_path / "lists.pem").read_bytes()
    with pytest.raises(RefusedError, match="not overwritten"):
        generate_key(tmp_path / "lists.pem")
    assert (tmp_path / "lists.pem").read_bytes() == before


def test_no_root_key_is_no_set(tmp_path: Path) -> None:
    """A feed needs at least one root key."""
    with pytest.raises(UsageError, match="0 root keys"):
        make_offline_keys(tmp_path, 0)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o610])
def test_a_key_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """A key that group or others may use in any way is not loaded; the hint is the command that mends it."""
    path = tmp_path / "lists.pem"
    generate_key(path)
    path.chmod(mode)
    with pytest.raises(RefusedError, match=r"other users can read the key .*lists\.pem") as caught:
        load_signers(tmp_path, ["lists"])
    assert caught.value.hint == f"run `chmod 600 {path}`"


@pytest.mark.parametrize("uri", ["{}", "file2:{}"])
def test_a_path_and_a_file_uri_are_the_same(tmp_path: Path, uri: str) -> None:
    """A key file may be named by its path or by a file2: URI."""
    made = generate_key(tmp_path / "a key.pem")
    assert load_signer(uri.format(tmp_path / "a key.pem")).public_key == made.public_key


def test_only_a_roles_own_files_are_its_keys(tmp_path: Path) -> None:
    """root-1.pem and root-12.pem are root keys; list-images.pem is none of lists, and a backup is none at all."""
    for name in ["root-1.pem", "root-12.pem", "root-old.pem", "root-1.pem.bak", "lists.pem", "list-images.pem"]:
        generate_key(tmp_path / name)
    loaded = load_signers(tmp_path, ["root", "lists", "list-images", "targets"])
    assert {role: len(signers) for role, signers in loaded.items()} == {
        "root": 2,
        "lists": 1,
        "list-images": 1,
        "targets": 0,
    }


@pytest.mark.parametrize("content", [b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
def test_what_is_no_key_is_named(tmp_path: Path, content: bytes) -> None:
    """A file that is no private key is named, its content is not."""
    path = tmp_path / "lists.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=r"lists\.pem is not an unencrypted private key") as caught:
        load_signer(str(path))
    assert "AAAA" not in str(caught.value)


def test_a_folder_of_keys_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    """Any user could add a key that signs; the hint is the command that corrects it."""
    generate_key(tmp_path / "lists.pem")
    tmp_path.chmod(0o777)
    with pytest.raises(RefusedError, match=r"every user of this machine may write to .* \(mode 0777\)") as caught:
        load_signers(tmp_path, ["lists"])
    assert f"run `chmod o-w {tmp_path}`" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"\n"])
def test_an_empty_key_says_what_became_of_it(tmp_path: Path, content: bytes) -> None:
    """A write that was cut off leaves such a file: its owner did not choose the wrong one."""
    path = tmp_path / "lists.pem"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=r"the key file .*lists\.pem is empty") as caught:
        load_signers(tmp_path, ["lists"])
    assert "restore it from a backup" in caught.value.hint


@pytest.mark.timeout(10)
def test_a_pipe_in_a_keys_place_is_refused(tmp_path: Path) -> None:
    """Loading it would otherwise wait for a writer forever."""
    os.mkfifo(tmp_path / "lists.pem", 0o600)
    with pytest.raises(StoreError, match=r"cannot read key .*lists\.pem: not a regular file") as caught:
        load_signers(tmp_path, ["lists"])
    assert caught.value.hint == "put the file itself there: pipes, devices and sockets are not read"


def test_a_missing_key_or_folder_is_told(tmp_path: Path) -> None:
    """A path that is not there is named."""
    with pytest.raises(UsageError, match=r"there is no key file .*gone\.pem"):
        load_signer(str(tmp_path / "gone.pem"))
    with pytest.raises(RefusedError, match=r"there are no keys in .*gone"):
        load_signers(tmp_path / "gone", ["root"])


def write_public_key(path: Path) -> None:
    generate_key(path.with_name("made.pem"))
    key = load_pem_private_key(path.with_name("made.pem").read_bytes(), None).public_key()
    path.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def test_a_key_held_elsewhere_is_a_uri_and_a_public_key(tmp_path: Path) -> None:
    """A URI file is handed to securesystemslib with its public key; what that cannot reach is a typed error."""
    (tmp_path / "targets.uri").write_text("hv:transit/targets/1\n")
    write_public_key(tmp_path / "targets.pub")
    with pytest.raises(StoreError, match=r"the hv: key is not available \(\w+\)"):
        load_signers(tmp_path, ["targets"])


def test_a_uri_without_its_public_key_is_refused(tmp_path: Path) -> None:
    """What a URI cannot tell, its public key, has to lie beside it."""
    with pytest.raises(UsageError, match="a hsm: key needs its public key"):
        load_signer("hsm:2?label=syncd")
    (tmp_path / "k.pub").write_text("no key")
    with pytest.raises(UsageError, match=r"k\.pub is not a public key"):
        load_signer("hsm:2?label=syncd", tmp_path / "k.pub")


def acl(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NOBODY = 0xFFFFFFFF


@pytest.mark.parametrize(("user", "group", "refused"), [("me", 0, False), ("me", 4, True), ("another", 0, True)])
def test_a_credential_of_systemd_is_accepted(tmp_path: Path, user: str, group: int, refused: bool) -> None:
    """A key that an ACL opens to this user alone is private, though its mode shows group bits: systemd hands it so."""
    path = tmp_path / "timestamp.pem"
    generate_key(path)
    holder = os.geteuid() + (0 if user == "me" else 1)
    entries = [(1, 4, NOBODY), (2, 4, holder), (4, group, NOBODY), (16, 4, NOBODY), (32, 0, NOBODY)]
    try:
        os.setxattr(path, "system.posix_acl_access", acl(*entries))
    except OSError as error:
        pytest.skip(f"no ACLs on this file system: {error.strerror}")
    assert path.stat().st_mode & 0o070 == 0o040
    if refused:
        with pytest.raises(RefusedError, match="other users can read the key"):
            load_signer(str(path))
    else:
        assert re.fullmatch("[0-9a-f]{64}", load_signer(str(path)).public_key.keyid)
