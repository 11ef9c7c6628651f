"""Canonical JSON (RFC 8785), as far as format 1 needs it: one value has one form, so that its hash can name it.

Numbers are integers and keys are ASCII. Sorting keys and leaving out white space is then all that the standard asks.
"""

import json
from typing import Any, Final

_LARGEST: Final = 1 << 53
"""Integers are below it: JSON readers hold these exactly (RFC 8259, section 6)."""
_TOO_LARGE: Final = "not canonical JSON: a number beyond 53 bits"
_FRACTION: Final = "not canonical JSON: a number that is not an integer"
_DEEPEST: Final = 32
"""Levels of arrays and objects in a document. Parsers have limits of their own; all readers must refuse the same."""


def canonical(value: object) -> bytes:
    """Return the canonical JSON of a value. Raises `ValueError` for what JSON or UTF-8 cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_canonical(content: bytes) -> Any:
    """Return the value of a document; raises `ValueError` with the reason if it is not in canonical form.

    The form is checked on the value itself, whatever its fields are called: a reader need not know a field to see
    that the document is canonical. (A field that is there twice is lost when the value is written again.)
    """
    try:
        value = json.loads(content.decode())
    except (json.JSONDecodeError, UnicodeError):
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    except ValueError:  # Python reads no number of thousands of digits
        raise ValueError(_TOO_LARGE) from None
    _check(value, _DEEPEST)
    try:
        again = canonical(value)
    except UnicodeError:  # half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
        raise ValueError("not JSON") from None
    if again != content:
        json.loads(content.decode(), object_pairs_hook=_check_names)
        raise ValueError("not canonical JSON")
    return value


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("not canonical JSON: a field is there twice")


def _check(value: object, levels: int) -> None:
    """Raise `ValueError` for what this format leaves out of JSON. ``levels`` more of arrays and objects may follow."""
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deep")
        if isinstance(value, dict) and not all(map(str.isascii, value)):
            raise ValueError("not canonical JSON: the name of a field is not ASCII")
        for inner in value.values() if isinstance(value, dict) else value:
            if not isinstance(inner, str):
                _check(inner, levels - 1)
    elif isinstance(value, float):  # NaN and infinity are floats, too
        raise ValueError(_FRACTION)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError(_TOO_LARGE)
