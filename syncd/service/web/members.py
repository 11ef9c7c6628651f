"""The members of a partner, each with a token to read the feed that `syncd feed serve` serves."""

import hashlib
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Final

from syncd.errors import StoreError, SyncdError, UsageError
from syncd.files import read_bytes, storage

_MEMBER: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
_EVERYBODY: Final = 0o007
_MAX_FILE: Final = 4096
_LONG: Final = 32
"""Characters that make a token impossible to guess, whatever the number of attempts."""
_SCHEME: Final = b"bearer "


class Members:
    """Tokens in force, held as SHA-256 hashes. Look-ups never wait for a disk.

    ``token``: one token for everybody. ``folder``: a file for each member, named like the member, with one token per
    line; two while a token is being replaced. With neither, everybody is admitted. Raises `UsageError` for a bad file.
    """

    def __init__(self, token: str | None = None, folder: Path | None = None) -> None:
        self._token, self._folder = token, folder
        self._files: Mapping[str, tuple[str, ...]] = {}
        self._names: Mapping[bytes, str] = {}
        self._faults: Mapping[str, str] = {}
        if folder is not None and not folder.is_dir():
            raise UsageError(
                f"there is no folder {folder}",
                hint=f"run `mkdir -m 700 {quote(str(folder))}`, then {_make(folder / 'member')}",
            )
        if errors := self.reload():
            raise errors[0]
        if folder is not None and not self._files:
            raise UsageError(
                f"{folder} has no token file", hint=f"make one for each member: {_make(folder / 'member')}"
            )

    @property
    def everybody(self) -> bool:
        """True if no token is needed."""
        return self._token is None and self._folder is None

    def name_of(self, authorization: bytes) -> str | None:
        """Return the holder of the token in an Authorization header (RFC 6750, section 2.1); None if nobody has it."""
        if authorization[:7].lower() != _SCHEME:
            return None
        return self._names.get(hashlib.sha256(authorization[7:].strip()).digest())

    @staticmethod
    def cannot_be_guessed(authorization: bytes) -> bool:
        """Return True if a token is too long to be guessed, so that it is checked even after many wrong ones."""
        return len(authorization[7:].strip()) >= _LONG

    def reload(self) -> tuple[SyncdError, ...]:
        """Read the folder again; return the faults that are new.

        A member whose file is bad keeps the last good tokens. A member whose file is gone is not admitted any more.
        """
        found: dict[str, tuple[str, ...]] = {}
        faults: dict[str, SyncdError] = {}
        try:
            files = self._listed()
        except SyncdError as error:
            files, faults[""], found = (), error, dict(self._files)
            error.serving = "the previous tokens of all members" if found else ""
        for path in files:
            try:
                found[path.name] = _tokens(path)
            except SyncdError as error:
                faults[path.name] = error
                if path.name in self._files:
                    found[path.name] = self._files[path.name]
                    error.serving = f"the previous tokens of {path.name}"
        before, self._faults = self._faults, {name: str(error) for name, error in faults.items()}
        self._files = found
        names = {token: name for name, tokens in found.items() for token in tokens}
        if self._token is not None:
            names[self._token] = "everybody"
        self._names = {hashlib.sha256(token.encode()).digest(): name for token, name in names.items()}
        return tuple(error for name, error in faults.items() if before.get(name) != str(error))

    def _listed(self) -> tuple[Path, ...]:
        if self._folder is None:
            return ()
        with storage(self._folder, "read"):
            return tuple(sorted(path for path in self._folder.iterdir() if not path.name.startswith(".")))


def _tokens(path: Path) -> tuple[str, ...]:
    if not _MEMBER.fullmatch(path.name):
        raise UsageError(
            f"the name of {path} is not a valid member name",
            hint="use up to 63 lower-case letters, digits, '.' and '-'; begin with a letter or a digit",
        )
    try:
        with storage(path, "read"):
            mode = stat.S_IMODE(path.stat().st_mode)
        content = read_bytes(path, _MAX_FILE)
    except StoreError as error:
        raise UsageError(error.message, hint="check that it is a file, and that this user may read it") from error
    if mode & _EVERYBODY:
        raise UsageError(
            f"{path} is open to every user of this machine (mode {mode:04o})",
            hint=f"run `chmod o= {quote(str(path))}`, and replace the token: others may have read it",
        )
    tokens = tuple(line.strip() for line in content.decode(errors="replace").splitlines() if line.strip())
    if not tokens:
        raise UsageError(f"{path} holds no token", hint=f"make one: {_make(path)}")
    return tokens


def _make(path: Path) -> str:
    return f"(umask 077; openssl rand -hex 32 > {quote(str(path))})"
