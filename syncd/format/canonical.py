"""Canonical JSON (RFC 8785), as far as format 1 needs it: one value has one form, so that its hash can name it.

Numbers are integers and keys are ASCII. Sorting keys and leaving out white space is then all that the standard asks.
"""

import json
from typing import Any, Final

_LARGEST: Final = 1 << 53
"""Integers are below it: JSON readers hold these exactly (RFC 8259, section 6)."""
_DIGITS: Final = 17
_DEEPEST: Final = 32
"""Levels of arrays and objects in a document. Parsers have limits of their own; all readers must refuse the same."""


def canonical(value: object) -> bytes:
    """Return the canonical JSON of a value. Raises `ValueError` for what JSON or UTF-8 cannot hold."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_canonical(content: bytes) -> Any:
    """Return the value of a document; raises `ValueError` with the reason if it is not in canonical form.

    The form is checked on the value itself, whatever its fields are called: a reader need not know a field to see
    that the document is canonical.
    """
    try:
        value = json.loads(
            content.decode(),
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_fraction,
        )
        _check_depth(value, _DEEPEST)
        again = canonical(value)
    except (json.JSONDecodeError, UnicodeError):
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deep") from None
    if again != content:
        raise ValueError("not canonical JSON")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("not canonical JSON: a field is there twice")
    if not all(map(str.isascii, found)):
        raise ValueError("not canonical JSON: the name of a field is not ASCII")
    return found


def _integer(text: str) -> int:
    if len(text) > _DIGITS or abs(number := int(text)) >= _LARGEST:
        raise ValueError("not canonical JSON: a number beyond 53 bits")
    return number


def _fraction(text: str) -> float:
    del text
    raise ValueError("not canonical JSON: a number that is not an integer")


def _check_depth(value: object, levels: int) -> None:
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError("nested too deep")
        for inner in value.values() if isinstance(value, dict) else value:
            _check_depth(inner, levels - 1)
