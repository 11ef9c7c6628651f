"""Profiles: the place of each value in a partner's file, if the file does not name its columns as syncd does.

A profile comes from options (``--map``, ``--delimiter``, ``--algorithm``), from a TOML file, or from the ready ones:

    delimiter = ";"
    algorithm = "md5"           # of every row, if no column states it
    signer = "agency.pem"       # the public key of those who sign the files, beside the profile

    [map]
    digest = "MD5"              # or a column for each algorithm: md5 = "MD5", sha1 = "SHA1"
    entry = "ID"                # a name in any case, or "#3" for the third column of a file without a header
    label = "Category"
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from syncd.errors import UsageError
from syncd.listfile.names import TITLES, find_algorithm, plain_name
from syncd.listfile.values import COLUMNS
from syncd.model import KNOWN_ALGORITHMS, Algorithm

_TARGETS: Final = (*COLUMNS, *KNOWN_ALGORITHMS)
_KEYS: Final = frozenset({"map", "delimiter", "algorithm", "signer"})
_DELIMITERS: Final = {"tab": "\t", "\\t": "\t"}
_ENOUGH: Final = 2
"""columns by which a profile is recognised"""
_MOST: Final = 64 << 10


@dataclass(frozen=True)
class Profile:
    """The place of each value in a file. An empty profile reads files whose header has syncd's own names."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """by column of syncd, or by algorithm: the name of the column in the file, or ``#N``"""
    delimiter: str | None = None
    algorithm: Algorithm | None = None
    """the algorithm of every row, if no column states it"""
    signer: Path | None = None
    """the file of the public key by which ``FILE.sig`` beside the file is checked"""
    further: frozenset[str] = frozenset()
    """in JSON: the keys of lists of further digests in each item, as pairs of ``HashName`` and ``HashValue``"""
    within: frozenset[str] = frozenset()
    """in JSON: the keys whose objects contain the list"""
    mark: str = ""
    """in JSON: a key by which an object that contains the list is recognised"""
    case: frozenset[str] = frozenset()
    """in JSON: the keys of a case, which wraps its list in personal data"""
    cases: bool = True
    """False if a file with a case is refused"""
    others: bool = False
    """True if rows of other kinds than digests, and revoked ones, are left out and counted"""
    optional: bool = False
    """True if the file may lack some of the columns, as ready profiles fit several versions of a program"""

    @property
    def digests(self) -> dict[Algorithm, str]:
        """The columns that contain the digests of one algorithm each."""
        return {algorithm: self.columns[algorithm] for algorithm in KNOWN_ALGORITHMS if algorithm in self.columns}


_NSRL: Final = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256"}
READY: Final[Mapping[str, Profile]] = {
    "vics": Profile(
        {"md5": "MD5", "sha1": "SHA1", "photodna": "PhotoDNA", "entry": "MediaID", "label": "Category"},
        further=frozenset({"hashes", "alternativehashes"}),
        within=frozenset({"value", "media"}),
        mark="caseid",
        case=frozenset({"caseid", "media"}),
        optional=True,
    ),
    "nsrl": Profile(_NSRL, optional=True),
    "icse": Profile(
        {"md5": "MD5", "sha1": "SHA1", "photodna": "PhotoDNA", "entry": "Image ID", "label": "Baseline"},
        optional=True,
    ),
    "misp": Profile(
        {"algorithm": "type", "digest": "value", "entry": "uuid", "label": "category"},
        within=frozenset({"response", "event", "object", "attribute"}),
        mark="event",
        others=True,
    ),
    "hashmyfiles": Profile(
        {"md5": "MD5", "sha1": "SHA1", "sha256": "SHA-256", "sha512": "SHA-512"},
        optional=True,
    ),
}
"""The profiles that come with syncd."""


def fitting(names: Iterable[str]) -> str:
    """Return the ready profile with most of its columns among ``names``; '' if few or several fit."""
    known = {plain_name(name) for name in names}
    if marked := [name for name, made in READY.items() if made.mark in known]:
        return marked[0]
    counts = {
        name: sum(plain_name(column) in known for column in made.columns.values()) for name, made in READY.items()
    }
    best = [name for name, number in counts.items() if number == max(counts.values())]
    return best[0] if len(best) == 1 and counts[best[0]] >= _ENOUGH else ""


def suggested(names: Iterable[str]) -> str:
    """Return the options that read the columns with these names; '' if none of them is known to have digests."""
    columns = list(map(plain_name, names))
    if ready := fitting(columns):
        return f"--profile {ready}"
    targets = {"digest" if column in TITLES else column: column for column in reversed(columns)}
    if not targets.keys() & {"digest", *KNOWN_ALGORITHMS}:
        return ""
    if targets.keys() & set(KNOWN_ALGORITHMS):
        targets = {target: column for target, column in targets.items() if target not in {"algorithm", "digest"}}
    named = ",".join(f"{target}={targets[target]}" for target in _TARGETS if target in targets)
    stated = {"algorithm", *KNOWN_ALGORITHMS} & targets.keys()
    return f"--map {named}" if stated else f"--map {named} --algorithm A"


def chosen(
    profile: str | None = None,
    columns: str | None = None,
    delimiter: str | None = None,
    algorithm: str | None = None,
    signer: Path | None = None,
) -> Profile:
    """Return the profile of the command's options; ``columns`` is ``digest=MD5,entry=ID``.

    ``profile`` names a ready one or a file; the other options replace its parts. Raises `UsageError`.
    """
    made = Profile() if profile is None else _named(profile)
    if columns is not None:
        made = replace(made, columns=_columns(_pairs(columns)), optional=False)
    if delimiter is not None:
        made = replace(made, delimiter=_delimiter(delimiter))
    if algorithm is not None:
        made = replace(made, algorithm=_algorithm(algorithm))
    return made if signer is None else replace(made, signer=signer)


def _named(name: str) -> Profile:
    ready = READY.get(name.lower())
    return ready if ready is not None and not Path(name).exists() else load_profile(Path(name))


def load_profile(path: Path) -> Profile:
    """Read a profile from a TOML file. Raises `UsageError`."""
    hint = f"name a TOML file, or one of {', '.join(READY)}"
    try:
        with path.open("rb") as stream:
            text = stream.read(_MOST + 1)
        if len(text) > _MOST:
            raise UsageError(f"profile {path}: larger than {_MOST} bytes", hint=hint)
        content = tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"cannot read profile {path}: {error.strerror or error}", hint=hint) from error
    except ValueError as error:  # TOML or UTF-8
        raise UsageError(f"profile {path}: not valid TOML", hint=hint) from error
    return _profile(path, content)


def _profile(path: Path, content: Mapping[str, Any]) -> Profile:
    hint = 'its keys are delimiter, algorithm, signer and, in the table [map], columns such as digest = "MD5"'
    table = content.get("map", {})
    values = [content.get(key, "") for key in _KEYS - {"map"}]
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in [*values, *table.values()]):
        raise UsageError(f"profile {path}: map is not a table, or a value is not a text", hint=hint)
    for key in sorted(content.keys() - _KEYS):
        raise UsageError(f"profile {path}: {key}: unknown key", hint=hint)
    return Profile(
        _columns(table),
        delimiter=_delimiter(content["delimiter"]) if "delimiter" in content else None,
        algorithm=_algorithm(content["algorithm"]) if "algorithm" in content else None,
        signer=path.parent / content["signer"] if "signer" in content else None,
    )


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in text.split(","):
        name, equals, column = pair.partition("=")
        if not equals or name.strip() in found:
            raise UsageError(
                "--map names a column twice, or one without its place" if equals else "--map is not NAME=COLUMN,...",
                hint="for example --map digest=MD5,entry=ID,label=Category",
            )
        found[name.strip()] = column.strip()
    return found


def _columns(named: Mapping[str, str]) -> dict[str, str]:
    """Check which columns are named; at least one must contain digests."""
    found: dict[str, str] = {}
    for name, column in named.items():
        target = name.lower() if name.lower() in COLUMNS else find_algorithm(name)
        if target is None or target in found or not column:
            raise UsageError(
                f"{name!r} in the map is not a column, is named twice, or has no place in the file",
                hint=f"columns are {', '.join(_TARGETS)}",
            )
        found[str(target)] = column
    digests = found.keys() & set(KNOWN_ALGORITHMS)
    if digests and found.keys() & {"digest", "algorithm"}:
        raise UsageError(
            "the map names one column for all digests, and columns for some algorithms", hint="name either of them"
        )
    return found


def _delimiter(text: str) -> str:
    value = _DELIMITERS.get(text.lower(), text)
    if len(value) != 1 or not value.isascii() or value.isalnum() or value in '"\r\n\0':
        raise UsageError(
            "the delimiter is not a single character between values", hint="for example --delimiter ';', or tab"
        )
    return value


def _algorithm(name: str) -> Algorithm:
    algorithm = find_algorithm(name)
    if algorithm is None:
        raise UsageError(f"unknown algorithm {name!r}", hint=f"known algorithms: {', '.join(KNOWN_ALGORITHMS)}")
    return algorithm
