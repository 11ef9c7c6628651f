"""Private folders of this machine, each with a copy in the bucket for whichever machine leads next.

Their files are immutable. Half-written ones, locks, and files directly in the folder stay on this machine.
"""

from pathlib import Path
from typing import Final

from syncd.files import PRIVATE_FILE, TEMPORARY_PREFIX, install_file, make_folder, storage, temporary_path
from syncd.store.s3 import S3Bucket

_PRIVATE: Final = 0o700


def bring(bucket: S3Bucket, folder: Path) -> int:
    """Fetch the files that are missing here; return how many. Raises `StoreError`."""
    here, brought = _files(folder), 0
    for path, length in bucket.names("").items():
        if here.get(path) == length:
            continue
        place = folder / path
        temporary = temporary_path(make_folder(place.parent, _PRIVATE))
        try:
            if bucket.fetch(path, temporary):
                install_file(temporary, place, PRIVATE_FILE)
                brought += 1
        finally:
            temporary.unlink(missing_ok=True)
    return brought


def push(bucket: S3Bucket, folder: Path, *, whole: bool) -> None:
    """Add the files to the bucket, and remove others there if this is the ``whole`` folder.

    Raises `StoreError`; then the next call goes on.
    """
    here, there = _files(folder), bucket.names("")
    for path in sorted(here.keys() - there.keys()):
        bucket.upload(folder / path, path)
    for path in sorted(there.keys() - here.keys()) if whole else ():
        bucket.remove(path)


def _files(folder: Path) -> dict[str, int]:
    """Return the finished files in subfolders, with their lengths."""
    with storage(folder, "list"):
        found = (path for path in folder.rglob("*") if path.is_file() and path.parent != folder)
        return {
            str(path.relative_to(folder)): path.stat().st_size
            for path in found
            if not path.name.startswith(TEMPORARY_PREFIX)
        }
