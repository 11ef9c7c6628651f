"""A second reader of format 1, written from ``docs/format.md`` alone: it imports nothing of syncd.

    python tests/independent_reader.py DIR ALG:HEX...

reads a pulled copy, proves it from ``current.json`` down to the last row, and prints the entries that support each
digest. Signatures are not its business: whoever pulled the copy checked them.
"""

import hashlib
import itertools
import json
import mmap
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

WIDTH = {"md5": 16, "sha1": 20, "sha256": 32, "sha512": 64, "pdq": 32, "photodna": 144}
"""Of the algorithms that have a fixed one; any other has that of its segments."""
FEATURES: frozenset[str] = frozenset()
"""What ``critical`` may name: this reader knows no feature beyond format 1."""
NAME = re.compile("[a-z0-9][a-z0-9_-]{0,31}")
DEEPEST = 32
MODULUS = 1 << 64
SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
FACTORS = (0xD6E8FEB86659FD93, 0xA0761D6478BD642F)
FINAL = 0xE7037ED1A0B428DB

Table = dict[tuple[bytes, str], str]
"""(digest, entry) -> label"""


def word_of(text: str) -> int:
    """The word that stands for an algorithm or a label."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def words_of(content: bytes) -> list[int]:
    """Little-endian words of eight bytes, the last one filled up with zeros."""
    return [int.from_bytes(content[at : at + 8], "little") for at in range(0, len(content), 8)]


def row_hash(algorithm: str, digest: bytes, entry: str, label: str) -> tuple[int, int]:
    """The two lanes of one row."""
    text = entry.encode()
    words = [*words_of(digest), len(text), *words_of(text), word_of(label)]
    lanes = []
    for seed, factor in zip(SEEDS, FACTORS, strict=True):
        h = seed ^ word_of(algorithm)
        for word in words:
            h = (h ^ word) * factor % MODULUS
            h ^= h >> 32
        h = h * FINAL % MODULUS
        lanes.append(h ^ h >> 32)
    return lanes[0], lanes[1]


def end_state(algorithm: str, table: Table) -> dict[str, Any]:
    """Rows and checksum of what is in force."""
    hashes = [row_hash(algorithm, digest, entry, label) for (digest, entry), label in table.items()]
    lanes = [sum(lane) % MODULUS for lane in zip(*hashes, strict=True)] or [0, 0]
    return {"rows": len(table), "checksum": f"{lanes[0]:016x}{lanes[1]:016x}"}


def need(truth: bool, what: str) -> None:
    """Refuse what does not hold."""
    if not truth:
        raise ValueError(what)


def read_segment(path: Path, ref: dict[str, Any]) -> list[tuple[bytes, str, str | None]]:
    """The rows of one segment, (digest, entry, label), with None for the label of a row that removes."""
    with path.open("rb") as stream:
        content = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
    need(len(content) == ref["length"], "length")
    need(hashlib.sha256(content).hexdigest() == ref["sha256"], "hash of a segment")
    reader = pa.ipc.open_file(pa.py_buffer(content))
    need(reader.num_record_batches == 1, "one batch")
    batch = reader.get_batch(0)
    stated = {"format": "1", "algorithm": ref["algorithm"], "kind": ref["kind"]}
    metadata = {f"syncd.{key}".encode(): value.encode() for key, value in stated.items()}
    names = ["digest", "entry", "label"] + ["removed"] * (ref["kind"] == "delta")
    need(batch.schema.metadata == metadata and batch.schema.names == names, "schema")
    width = batch.column(0).type.byte_width
    need(batch.column(0).type == pa.binary(width) and 1 <= width <= 1024, "width")
    need(WIDTH.get(ref["algorithm"], width) == width, "width")
    columns = [column.to_pylist() for column in batch.columns]
    removed = columns[3] if ref["kind"] == "delta" else [False] * len(batch)
    need((len(batch), sum(removed)) == (ref["rows"], ref["removals"]), "rows and removals")
    keys = [(digest, entry.encode()) for digest, entry in zip(columns[0], columns[1], strict=True)]
    need(all(a < b for a, b in itertools.pairwise(keys)), "sorted by (digest, entry), each once")
    need(all(len(entry) <= 256 for _, entry in keys), "length of an entry")
    need(all(len(label.encode()) <= 4096 for label in columns[2]), "length of a label")
    rows = zip(columns[0], columns[1], columns[2], removed, strict=True)
    return [(digest, entry, None if gone else label) for digest, entry, label, gone in rows]


def apply(table: Table, rows: list[tuple[bytes, str, str | None]]) -> None:
    """Put one segment over the ones before it."""
    for digest, entry, label in rows:
        if label is None:
            table.pop((digest, entry), None)
        else:
            table[digest, entry] = label


def canonical(value: Any) -> bytes:
    """Canonical JSON of what format 1 allows."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_json(content: bytes) -> Any:
    """The value of a canonical document, whatever its fields are."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len(dict(pairs)) == len(pairs), "a field is there twice")
        need(all(name.isascii() for name, _ in pairs), "the name of a field is ASCII")
        return dict(pairs)

    def integer(text: str) -> int:
        need(len(text) < 18 and abs(int(text)) < 1 << 53, "a number beyond 53 bits")
        return int(text)

    def fraction(text: str) -> None:
        need(not text, "a number that is not an integer")

    def levels(value: Any) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        return 0 if inner is None else 1 + max(map(levels, inner), default=0)

    hooks: Any = {"object_pairs_hook": members, "parse_int": integer, "parse_float": fraction}
    value = json.loads(content.decode(), parse_constant=fraction, **hooks)
    need(levels(value) <= DEEPEST, "nested too deep")
    need(canonical(value) == content, "canonical JSON")
    return value


def read_manifest(content: bytes) -> dict[str, Any]:
    """A manifest: fields that are not known are passed over, unless it says that they must not be."""
    manifest: dict[str, Any] = read_json(content)
    need(set(manifest.get("critical", [])) <= FEATURES, "needs a newer reader")
    need(manifest.get("format", 1) == 1, "format")
    if manifest.get("retired") is not None:
        need(not (manifest["stack"] or manifest["end_state"] or manifest.get("recent")), "a retired list is empty")
    need(manifest.get("media", "any") in {"image", "video", "any"}, "media")
    need(manifest.get("purpose", "live") in {"live", "review", "test"}, "purpose")
    need(all(NAME.fullmatch(ref["algorithm"]) for ref in manifest["stack"]), "the name of an algorithm")
    return manifest


def read_list(folder: Path, sha256: str) -> dict[str, Table]:
    """The entries in force of one list, by algorithm, proved against the manifest's end state."""
    content = (folder / f"{sha256}.manifest.json").read_bytes()
    need(hashlib.sha256(content).hexdigest() == sha256, "hash of the manifest")
    manifest = read_manifest(content)
    need(manifest["list"] == folder.name, "the list's name")
    tables: dict[str, Table] = {ref["algorithm"]: {} for ref in manifest["stack"]}
    widths: dict[str, set[int]] = {algorithm: set() for algorithm in tables}
    for ref in manifest["stack"]:  # oldest first: the newest row for a (digest, entry) wins
        rows = read_segment(folder / "segments" / f"{ref['sha256']}.arrow", ref)
        widths[ref["algorithm"]].add(len(rows[0][0]))
        apply(tables[ref["algorithm"]], rows)
    need(all(len(found) == 1 for found in widths.values()), "one width for each algorithm of a list")
    found = {algorithm: end_state(algorithm, table) for algorithm, table in tables.items() if table}
    need(found == manifest["end_state"], "end state")  # which leaves out an algorithm with no entry in force
    return tables


def read_copy(folder: Path) -> dict[str, dict[str, Table]]:
    """Every list of a pulled copy; a retired one has no entries."""
    current = read_json((folder / "current.json").read_bytes())
    need(current["format"] == 1, "format")
    rest = {name: value for name, value in current.items() if name != "checksum"}
    need(current.get("checksum") == hashlib.sha256(canonical(rest)).hexdigest(), "checksum of current.json")
    return {name: read_list(folder / "v1" / name, state["manifest"]) for name, state in current["lists"].items()}


def look_up(lists: dict[str, dict[str, Table]], digest: str) -> list[tuple[str, str, str]]:
    """The (list, entry, label) triples that support ``ALG:HEX``, sorted by list, then entry."""
    algorithm, _, text = digest.lower().partition(":")
    wanted = bytes.fromhex(text)
    tables = {name: by_algorithm.get(algorithm, {}) for name, by_algorithm in lists.items()}
    widths = {len(held) for table in tables.values() for held, _ in table} | {WIDTH.get(algorithm)}
    need(len(wanted) in widths, "width of the digest asked for, or an algorithm that no list holds")
    return sorted(
        (name, entry, label) for name, table in tables.items() for (d, entry), label in table.items() if d == wanted
    )


def main(folder: str, *asked: str) -> int:
    """Print a line for each entry found; exit 0 where something was, 10 where nothing was."""
    lists = read_copy(Path(folder))
    found = [line for digest in asked for line in look_up(lists, digest)]
    for line in found:
        print("\t".join(line))
    return 0 if found else 10


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
