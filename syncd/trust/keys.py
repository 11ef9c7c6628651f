"""Signing keys: created and loaded, never shown.

A folder of keys holds, for each role, ``<role>.pem`` and ``<role>-<number>.pem``: Ed25519 private keys (PKCS#8 PEM),
mode 0600. A key kept elsewhere (HSM, cloud KMS, Vault) is a pair of files: ``<role>.uri``, one line with its
securesystemslib signer URI, and ``<role>.pub``, its public key in PEM. Credentials that systemd loaded from such a
folder as ``keys`` (systemd.exec(5), LoadCredential=) are the same files with ``keys_`` before their names.
"""

import errno
import itertools
import os
import re
import struct
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from securesystemslib.signer import SIGNER_FOR_URI_SCHEME, CryptoSigner, Signer, SSlibKey

from syncd import files
from syncd.errors import RefusedError, StoreError, UsageError
from syncd.trust.values import LISTS

Signers = Mapping[str, tuple[Signer, ...]]
"""The signers at hand, by role. A role ignores signers whose keys it does not list."""

OFFLINE_ROLES: Final = ("root", "targets")
ONLINE_ROLES: Final = ("timestamp", "snapshot", LISTS)

CREDENTIAL: Final = "keys_"
"""Prefix of the names of credentials that are keys."""

_KEY_FOLDER: Final = 0o700
_KEY_LIMIT: Final = 64_000
_OTHERS: Final = 0o077
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS})
"""Errors of a file system without hard links, such as FAT."""

# Linux stores an ACL as a version, then (tag, permissions, id) for each entry (linux/posix_acl_xattr.h).
_ACL: Final = "system.posix_acl_access"
_ACL_ENTRY: Final = struct.Struct("<HHI")
_ACL_HEADER_BYTES: Final = 4
_ACL_OWNER, _ACL_USER, _ACL_MASK = 0x01, 0x02, 0x10


def generate_key(path: Path) -> Signer:
    """Create an Ed25519 key and write it to ``path``, durably, mode 0600; an existing file is never overwritten.

    Raises `RefusedError` if ``path`` exists, and `StoreError` if it cannot be written.
    """
    signer = CryptoSigner.generate_ed25519()
    files.make_folder(path.parent, _KEY_FOLDER)
    _write_new(path, signer.private_bytes)
    return signer


def _write_new(path: Path, content: bytes) -> None:
    """Write a new key. If the file system has hard links, the file appears under its name only once it is whole."""
    try:
        with files.new_file(path, files.PRIVATE_FILE) as stream:
            stream.write(content)
    except StoreError as error:
        cause = error.__cause__
        if isinstance(cause, FileExistsError):
            raise _would_overwrite(path) from None
        if not isinstance(cause, OSError) or cause.errno not in _NO_LINKS:
            raise
        _write_in_place(path, content)


def _write_in_place(path: Path, content: bytes) -> None:
    # O_EXCL protects an existing key even on USB sticks without hard links; a rename would replace it.
    with files.storage(path, "write"):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, files.PRIVATE_FILE)
        except FileExistsError:
            raise _would_overwrite(path) from None
        try:
            with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor, for its mode and O_EXCL
                stream.write(content)
            files.sync_file(path)
            files.sync_folder(path.parent)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def _would_overwrite(path: Path) -> RefusedError:
    return RefusedError(
        f"{path} exists already and is not overwritten", hint="name another folder, or move the key away"
    )


def offline_paths(folder: Path, count: int, custodians: Sequence[Path] = ()) -> list[Path]:
    """Return the files of a first set of offline keys. Raises `UsageError`."""
    return [path for paths in _offline_paths(folder, count, custodians).values() for path in paths]


def online_paths(folder: Path) -> list[Path]:
    """Return the files of a first set of online keys."""
    return [path for paths in _online_paths(folder).values() for path in paths]


def make_offline_keys(
    folder: Path, count: int, begun: Collection[Path] = (), custodians: Sequence[Path] = ()
) -> Signers:
    """Create ``root-1.pem`` to ``root-<count>.pem`` and ``targets.pem``: in ``folder``, or one root key in each folder.

    ``custodians``: the folders of all custodians except the first, who has ``folder`` with the targets key.

    Of ``begun``, the absolute paths of keys that an earlier call began to create, those that exist are loaded instead.
    Raises as `generate_key`, `UsageError`.
    """
    return _make_keys(_offline_paths(folder, count, custodians), begun)


def make_online_keys(folder: Path, begun: Collection[Path] = ()) -> Signers:
    """Create ``timestamp.pem``, ``snapshot.pem`` and ``lists.pem``; otherwise as `make_offline_keys`."""
    return _make_keys(_online_paths(folder), begun)


def refuse_existing(paths: Iterable[Path]) -> None:
    """Raise `RefusedError` if a key exists already."""
    for path in paths:
        if path.exists():
            raise _would_overwrite(path)


def _offline_paths(folder: Path, count: int, custodians: Sequence[Path]) -> dict[str, list[Path]]:
    if count < 1:
        raise UsageError(f"{count} root keys cannot sign anything", hint="make at least 1; 3 with threshold 2 is usual")
    folders = (folder, *custodians) if custodians else (folder,) * count
    if len(folders) != count:
        raise UsageError(
            f"{count} root keys cannot be divided among {len(folders)} folders",
            hint="name one folder for each root key, or a single folder for all of them",
        )
    roots = [where / f"root-{number}.pem" for number, where in enumerate(folders, 1)]
    return {"root": roots, "targets": [folder / "targets.pem"]}


def _online_paths(folder: Path) -> dict[str, list[Path]]:
    return {role: [folder / f"{role}.pem"] for role in ONLINE_ROLES}


def _make_keys(paths: Mapping[str, list[Path]], begun: Collection[Path]) -> Signers:
    # Checked before the first is created: all keys of a set are created, or none.
    refuse_existing(path for of_role in paths.values() for path in of_role if path.absolute() not in begun)
    return {
        role: tuple(load_signer(str(path)) if path.exists() else generate_key(path) for path in of_role)
        for role, of_role in paths.items()
    }


def make_role_keys(folder: Path, role: str, count: int) -> list[tuple[Path, Signer]]:
    """Create ``count`` more keys of one role beside the existing ones; raises `StoreError`."""
    files.make_folder(folder, _KEY_FOLDER)
    numbers = (number for number in itertools.count(1) if not _is_taken(folder, role, number))
    paths = [folder / f"{role}-{number}.pem" for number in itertools.islice(numbers, count)]
    return [(path, generate_key(path)) for path in paths]


def _is_taken(folder: Path, role: str, number: int) -> bool:
    return any((folder / f"{role}-{number}{suffix}").exists() for suffix in (".pem", ".uri"))


def load_signers(folder: Path, roles: Iterable[str], prefix: str = "") -> Signers:
    """Load every key of ``roles`` in ``folder``; a role without keys gets ``()``. ``prefix`` begins each file name.

    Raises `StoreError` if the folder or a key cannot be read, `RefusedError` if there is no folder or others may read
    a key, and `UsageError` if a file is not a key.
    """
    if not folder.is_dir():
        raise RefusedError(
            f"there are no keys in {folder}",
            hint="mount or restore the folder that holds them; --online-keys and --offline-keys name others",
        )
    files.check_private(folder)
    return {role: tuple(load_named(str(path)) for path in role_files(folder, prefix + role)) for role in roles}


def role_files(folder: Path, role: str) -> tuple[Path, ...]:
    """Return the files of a role's keys in ``folder``, sorted; () if there is no such folder. Raises `StoreError`."""
    with files.storage(folder, "read the keys in"):
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return tuple(folder / name for name in names if _belongs(name, role))


def roles_in(folder: Path, prefix: str) -> tuple[str, ...]:
    """Return the roles that begin with ``prefix`` and may have keys in ``folder``, sorted. Raises `StoreError`."""
    with files.storage(folder, "read the keys in"):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    matches = (re.fullmatch(rf"({re.escape(prefix)}.+?)(-[0-9]+)?\.(pem|uri)", name) for name in names)
    return tuple(sorted({match[1] for match in matches if match}))


def _belongs(name: str, role: str) -> bool:
    return re.fullmatch(rf"{re.escape(role)}(-[0-9]+)?\.(pem|uri)", name) is not None


def load_named(name: str) -> Signer:
    """Load one signer by its file (a PEM key, or ``NAME.uri`` with ``NAME.pub`` beside it) or by ``file2:PATH``."""
    path = Path(name)
    if path.suffix != ".uri":
        return load_signer(name)
    uri = files.read_bytes(path, _KEY_LIMIT).decode(errors="replace").strip()
    return load_signer(uri, path.with_suffix(".pub"))


def load_signer(uri: str, public_key: Path | None = None) -> Signer:
    """Load one signer: a path or ``file2:PATH`` to a PEM, or any other securesystemslib URI with its public key.

    Raises `StoreError`, `RefusedError` and `UsageError` as `load_signers` does. No message holds key material.
    """
    scheme, colon, rest = uri.partition(":")
    if colon and scheme == CryptoSigner.SCHEME:
        return _load_file(Path(rest))
    if not colon or scheme not in SIGNER_FOR_URI_SCHEME:
        return _load_file(Path(uri))
    if public_key is None:
        raise UsageError(f"a {scheme}: key needs its public key", hint="put it beside the URI, as a PEM file")
    public = _load_public(public_key)
    try:
        return Signer.from_priv_key_uri(uri, public)
    except Exception as error:  # each signer raises its own library's errors, as Signer's docstring warns
        raise StoreError(
            f"the {scheme}: key is not available ({type(error).__name__})",
            hint="check that its library is installed, its service is reachable, and the public key belongs to it",
        ) from error


def _load_public(path: Path) -> SSlibKey:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(files.read_bytes(path, _KEY_LIMIT)))
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{path} is not a public key in PEM", hint="name the file of a public key") from None


def _load_file(path: Path) -> Signer:
    pem = _read_private(path)
    if not pem.strip():
        raise UsageError(
            f"the key file {path} is empty: writing it was interrupted, or it was damaged",
            hint="restore it from a backup; if nothing was signed with it yet, remove it and run the command that "
            "creates it again",
        )
    try:
        return CryptoSigner(load_pem_private_key(pem, None))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise UsageError(
            f"{path} is not an unencrypted private key in PEM (PKCS#8)",
            hint="name a private key file that is not encrypted",
        ) from None


def _read_private(path: Path) -> bytes:
    if not path.exists():
        raise UsageError(f"there is no key file {path}", hint="name the file of one private key")
    with files.storage(path, "read key"), files.open_regular(path) as stream:
        if _open_to_others(stream.fileno()):
            raise RefusedError(f"other users can read the key {path}", hint=f"run `chmod 600 {quote(str(path))}`")
        return stream.read(_KEY_LIMIT)


def _open_to_others(descriptor: int) -> bool:
    """Return True if anyone except this user may use the file.

    systemd gives a service access to its credentials by an ACL for its user. The group bits of the mode are then only
    the ACL's mask (acl(5)), so the ACL's entries decide.
    """
    try:
        acl = os.getxattr(descriptor, _ACL)
    except OSError:
        return bool(os.fstat(descriptor).st_mode & _OTHERS)
    return any(
        permissions and tag not in {_ACL_OWNER, _ACL_MASK} and (tag, holder) != (_ACL_USER, os.geteuid())
        for tag, permissions, holder in _ACL_ENTRY.iter_unpack(acl[_ACL_HEADER_BYTES:])
    )
