"""OpenPGP signatures, checked by ``gpgv``: the verifier of GnuPG, which trusts exactly the keys in one file.

It is a program of the system (Debian's package gpgv), so that its fixes come with the system's.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Final

from syncd.errors import UsageError

SUFFIXES: Final = (".asc", ".sig", ".gpg")
_SECONDS: Final = 600


def check_openpgp(path: Path, signature: Path, keyring: Path) -> None:
    """Check a detached signature of a file by a key in ``keyring``, a binary keyring. Raises `UsageError`."""
    program = shutil.which("gpgv")
    if program is None:
        raise UsageError("gpgv is needed to check OpenPGP signatures", hint="install the system's package gpgv")
    command = [program, "--quiet", "--keyring", str(keyring.absolute()), "--", str(signature), str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False, env={"LC_ALL": "C"})
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"gpgv could not check {signature.name}", hint="run it by hand") from error
    if done.returncode:
        raise UsageError(
            f"{signature.name} is not a signature of {path.name} by a key in {keyring.name}",
            hint="the file was cut off, altered, or signed with another key: ask the partner; `gpg --export KEY` "
            "writes a keyring for gpgv",
        )
