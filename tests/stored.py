"""Files that an earlier version of syncd wrote, unpacked for a test."""

import tarfile
from pathlib import Path

STORED = Path(__file__).parent / "fixtures"
_NOT_FOR_OTHERS = 0o755


def unpack(archive: str, into: Path) -> Path:
    """Unpack ``fixtures/<archive>.tar.gz`` below ``into``, with the modes that it was stored with; returns ``into``.

    Nothing is written outside of ``into`` (PEP 706), and modes do not depend on the umask.
    """
    with tarfile.open(STORED / f"{archive}.tar.gz") as stored:
        stored.extractall(into, filter="data")
        for member in stored:
            if member.isdir() or member.isfile():
                (into / member.name).chmod(member.mode & _NOT_FOR_OTHERS)
    return into
