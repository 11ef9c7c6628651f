"""Writes ``docs/list-file-samples.md``: run it after changing what is read, or the words of a refusal.

The samples in ``fixtures/list_files`` are synthetic: each has the shape of a kind of file that partners have.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from syncd.errors import UsageError
from syncd.listfile import ListFiles
from syncd.listfile.profile import chosen
from syncd.units import count

FOLDER: Final = Path(__file__).parent / "fixtures" / "list_files"
PAGE: Final = Path(__file__).parent.parent / "docs" / "list-file-samples.md"
MD5: Final = {"algorithm": "md5"}
OPTIONS: Final[dict[str, dict[str, str]]] = {
    "bare-md5.txt": MD5,
    "bare-md5-header-hash.txt": MD5,
    "bsd-md5-r.txt": MD5,
    "clamav-hdb.hdb": {"columns": "digest=#1", "delimiter": ":", **MD5},
    "digest-only-column.csv": MD5,
    "extra-column.csv": {"columns": "algorithm=algorithm,digest=digest,entry=entry,label=label"},
    "hashkeeper.hke": {"columns": "digest=hash", **MD5},
    "hashmyfiles-utf16.txt": {"profile": "hashmyfiles"},
    "hashmyfiles.csv": {"profile": "hashmyfiles"},
    "hibp-colon-count.txt": {"columns": "digest=#1", "delimiter": ":", "algorithm": "sha1"},
    "icse-semicolon.csv": {"profile": "icse"},
    "icse-short.csv": {"profile": "icse"},
    "json-array-of-digests.json": MD5,
    "malwarebazaar.csv": {"columns": "sha256=sha256_hash,md5=md5_hash,sha1=sha1_hash"},
    "md5sum": MD5,
    "misp-attributes.csv": {"profile": "misp"},
    "misp-event.json": {"profile": "misp"},
    "misp-search.json": {"profile": "misp"},
    "ndjson-extra.ndjson": {"columns": "algorithm=algorithm,digest=digest"},
    "no-header.csv": {"columns": "algorithm=#1,digest=#2,entry=#3,label=#4"},
    "nsrl-2.txt": {"profile": "nsrl"},
    "nsrl-3.csv": {"profile": "nsrl"},
    "powershell-get-filehash.csv": {"columns": "algorithm=algorithm,digest=hash"},
    "projectvic-cases.json": {"profile": "vics"},
    "projectvic.json": {"profile": "vics"},
    "sha256sum": {"algorithm": "sha256"},
}
"""The options of the command that read a sample which is refused without them."""
_FLAGS: Final = {"algorithm": "--algorithm", "columns": "--map", "delimiter": "--delimiter", "profile": "--profile"}
_TOP: Final = """# Samples of list files

Written by `tests/list_samples.py`, and held by a test: what `syncd feed publish` makes of a file of each kind, first
without options, then with those that read it. [List files](list-files.md) explains the forms and options.

| file | options | result |
|---|---|---|
"""


def samples() -> list[Path]:
    """The samples, except those that are beside another one."""
    return sorted(path for path in FOLDER.iterdir() if path.suffix != ".sha256")


def result(path: Path, options: dict[str, Any]) -> str:
    """What publishing ``path`` as a whole list gives: the rows read, or the refusal."""
    left: list[int] = []
    with tempfile.TemporaryDirectory() as scratch:
        try:
            batch = ListFiles(full=path, profile=chosen(**options)).read(
                Path(scratch), left_out=lambda _, number: left.append(number)
            )
        except UsageError as error:
            return f"refused: {error.message.removeprefix(path.name).lstrip(' ,:')}"
        assert hasattr(batch, "segments")
        rows = ", ".join(f"{len(segment)} {name}" for name, segment in sorted(batch.segments.items()))
    return f"read: {rows}" + "".join(f"; {count(number, 'row')} left out" for number in left)


def table() -> Iterator[str]:
    """The rows of the table: a sample without options, and if it is refused, with those that read it."""
    for path in samples():
        for options in ({}, OPTIONS.get(path.name)):
            if options is not None:
                words = " ".join(f"{_FLAGS[name]} {value}" for name, value in options.items())
                yield (
                    "| "
                    + " | ".join(
                        cell.replace("|", "\\|")
                        for cell in (f"`{path.name}`", f"`{words}`" if words else "", result(path, options))
                    )
                    + " |\n"
                )


def page() -> str:
    """The page."""
    return _TOP + "".join(table())


if __name__ == "__main__":
    PAGE.write_text(page())
