"""Canonical JSON (RFC 8785), as far as format 1 needs it: each value has exactly one form, so its hash can name it.

Numbers are integers and keys are ASCII, so the standard only requires sorted keys and no white space.
"""

import json
from typing import Any, Final

_LARGEST: Final = 1 << 53
"""All integers are below this: JSON readers represent them exactly (RFC 8259, section 6)."""
_TOO_LARGE: Final = "not canonical JSON: a number has more than 53 bits"
_FRACTION: Final = "not canonical JSON: a number is not an integer"
_DEEPEST: Final = 32
"""Levels of nested arrays and objects. Parsers' limits differ, but all readers must refuse the same documents."""


def canonical(value: object) -> bytes:
    """Return the canonical JSON of a value. Raises `ValueError` if JSON or UTF-8 cannot represent it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_canonical(content: bytes) -> Any:
    """Return the value of a document; raises `ValueError` with the reason if it is not in canonical form.

    The form is checked on the JSON value, so a reader can check a document with fields it does not know. (Of a field
    that occurs twice, only one is left when the value is written again.)
    """
    try:
        value = json.loads(content.decode())
    except (json.JSONDecodeError, UnicodeError):
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:  # Python refuses numbers with thousands of digits
        raise ValueError(_TOO_LARGE) from None
    _check(value, _DEEPEST)
    try:
        again = canonical(value)
    except UnicodeError:  # half of a surrogate pair, which JSON can escape but UTF-8 cannot represent
        raise ValueError("not JSON") from None
    if again != content:
        json.loads(content.decode(), object_pairs_hook=_check_names)
        raise ValueError("not canonical JSON")
    return value


def _check_names(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("not canonical JSON: a field occurs twice")


def _check(value: object, levels: int) -> None:
    """Raise `ValueError` for JSON that this format does not allow. ``levels``: further nested levels allowed."""
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deeply")
        if isinstance(value, dict) and not all(map(str.isascii, value)):
            raise ValueError("not canonical JSON: a field name is not ASCII")
        for inner in value.values() if isinstance(value, dict) else value:
            if not isinstance(inner, str):
                _check(inner, levels - 1)
    elif isinstance(value, float):  # NaN and infinity are floats, too
        raise ValueError(_FRACTION)
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        raise ValueError(_TOO_LARGE)
