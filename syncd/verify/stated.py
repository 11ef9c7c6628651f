"""Proving the private files of partners that sign nothing: their raw answers, and indexes of their lists."""

from pathlib import Path

from syncd.catalog.catalog import Catalog
from syncd.catalog.folder import StateFolder
from syncd.errors import MismatchError
from syncd.feed import layout
from syncd.feed.folder import FeedFolder
from syncd.files import sha256_file
from syncd.format.derived import FOLDER, DerivedIndex
from syncd.format.entry_index import KIND, index_of
from syncd.verify.tally import Tally


def prove_stated(folder: StateFolder, catalog: Catalog, tally: Tally) -> None:
    """Prove the kept answers and the indexes of every source."""
    for source in catalog.source_states():
        own = folder.source(source.name)
        paths = {layout.answers_path(kept.list, kept.sha256): kept.sha256 for kept in catalog.answers(source.name)}
        for path, sha256 in sorted(paths.items()):
            with tally.attempt(f"sources/{source.name}/{path}"):
                _prove_answers(own, path, sha256, tally)
        for index in sorted(own.root.glob(f"{FOLDER}/*.{KIND}")):
            with tally.attempt(f"sources/{source.name}/{FOLDER}/{index.name}"):
                _prove_index(index, tally)


def _prove_answers(folder: FeedFolder, path: str, sha256: str, tally: Tally) -> None:
    present = folder.store.present(path)
    if sha256_file(present) != sha256:
        raise MismatchError(
            f"{path} was altered: it no longer proves what the partner stated",
            hint="restore it from a backup; nothing else depends on it",
        )
    tally.count(present.stat().st_size)


def _prove_index(path: Path, tally: Tally) -> None:
    found = DerivedIndex.open(path, index_of(path.stem))
    if found is None:
        raise MismatchError(f"{path.name} is not a whole index", hint="remove it: it is made again when it is needed")
    found.prove()
    tally.count(path.stat().st_size)
