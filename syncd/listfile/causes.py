"""Causes: the reason for which a text is not a digest, in words that fit it. A reason never contains the value."""

import re
from typing import Final

from syncd.model import Algorithm

_HEX: Final = re.compile("[0-9a-fA-F]*")
_DECIMAL: Final = re.compile("[0-9]+")
_SHEET: Final = "a spreadsheet has changed it: export the list again from its source, with this column as text"
_SHAPES: Final = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
        (r"[+-]?[0-9]+([.,][0-9]+)?[eE][+-]?[0-9]+", f"a number with an exponent; {_SHEET}"),
        ("=.*", "a formula of a spreadsheet; export the column as text"),
        (
            "['\"`\u2018\u2019\u201c\u201d].*|.*['\"`\u2018\u2019\u201c\u201d]",
            "a quotation mark before or after it; export it without",
        ),
        ("0[xX].*", "0x before it; export it without"),
        ("([0-9a-fA-F]{2}[:-])+[0-9a-fA-F]{2}", "colons or dashes between the digits; export it without"),
        (
            "[0-9A-Za-z+/]+={1,2}|[0-9A-Za-z]*[+/][0-9A-Za-z+/]*",
            "base64, which is read for md5 and photodna if all rows of the algorithm have it",
        ),
    )
)
_FEW_DIGITS: Final = 15
"""digits that a spreadsheet keeps of a number; it writes zeros for the others"""
_SHORT: Final = 8
"""fewer digits are not worth a guess at the cause"""


def text_fault(text: str) -> str | None:
    """Return the reason for which a text is not hexadecimal; None if it is."""
    if _HEX.fullmatch(text):
        return None
    return _shape_fault(text) or _character_fault(text) or "not hexadecimal"


def _shape_fault(text: str) -> str | None:
    return next((f"not hexadecimal: {reason}" for pattern, reason in _SHAPES if pattern.fullmatch(text)), None)


def _character_fault(text: str) -> str | None:
    for character in text:
        if not character.isascii():
            return f"not hexadecimal: it contains the character U+{ord(character):04X}, which is not ASCII"
    return None


def width_fault(digits: str, algorithm: Algorithm) -> str:
    """Return the reason for which hexadecimal digits are not a digest of ``algorithm``, because of their number."""
    width = 2 * algorithm.width
    reason = f"{len(digits)} hexadecimal digits; {algorithm} has {width}"
    rounded = _SHORT <= len(digits) < width and not digits[_FEW_DIGITS:].strip("0")
    if rounded and _DECIMAL.fullmatch(digits) and not digits.startswith("0"):
        return f"{reason}. It looks like a number; {_SHEET}"
    return reason
