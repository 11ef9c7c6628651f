"""The reason for which the first line of a file is not a header, and the option that reads such a file."""

import re
from typing import Final

from syncd.listfile.header import Header
from syncd.listfile.names import TITLES
from syncd.listfile.profile import suggested
from syncd.listfile.tools import is_lone, is_sum
from syncd.listfile.values import COLUMNS

_KNOWN: Final = ", ".join(COLUMNS)
_VALUES: Final = re.compile("[^0-9A-Za-z+/=]+")
_COLONS: Final = re.compile("[0-9a-fA-F]{32,}:.*")
_ROW: Final = (
    "no header, but a row: put the names of the columns (algorithm,digest,entry,label) above it, or give their places, "
    "such as --map algorithm=#1,digest=#2,entry=#3,label=#4"
)


def no_header(header: Header, text: str, comment: str) -> str:
    """Return the reason; it never contains a value of the line."""
    if is_lone(text):
        return f"no header: one digest a line, of {len(text.strip())} characters; state its algorithm with --algorithm"
    if is_sum(text):
        return "the output of md5sum or a similar tool: state its algorithm with --algorithm"
    if _COLONS.fullmatch(text):
        return "digests with values after a colon: read them with --delimiter : --map digest=#1 --algorithm A"
    if any(map(is_lone, _VALUES.split(text))):
        return _commented(comment) or _ROW
    named = _other_names(header) or _commented(comment)
    return named or f"no header; the first line must name the columns, out of {_KNOWN}"


def _other_names(header: Header) -> str:
    """Return the option that reads the columns of a header with other names; '' if no name is known."""
    if len(header.names) == 1 and header.names[0] in TITLES:
        return "a column of digests: state their algorithm with --algorithm"
    if options := suggested(header.names):
        return f"no column has a name of syncd ({_KNOWN}); name those to read: {options}"
    return ""


def _commented(comment: str) -> str:
    if "," in comment or ";" in comment:
        return (
            "no header, but a comment that may name the columns: name those to read with --map, such as --map md5=MD5"
        )
    return ""
