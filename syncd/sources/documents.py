"""XML and JSON from partners, read within limits. Pure.

XML: a document type (so every entity) is refused before anything is parsed, nothing is loaded, and libxml2's own limits
stay on: at most 256 levels. The bytes are read as UTF-8, whatever they declare, so that the refusal sees all of them.
"""

import json
from typing import Any, Final, NoReturn

from syncd.errors import FeedError, SourceError
from syncd.fetch.http_errors import PEER_TROUBLE
from syncd.fetch.peer import CutShortError

MOST_BYTES: Final = 32 << 20
"""Largest body of one answer."""
MOST_ELEMENTS: Final = 1_000_000
"""Most elements, or values of JSON, in one answer: they take more memory than their text."""

_CUT: Final = "it was cut off on its way, or the partner's server is at fault; the next sync tries again"
_BOM: Final = b"\xef\xbb\xbf"


def parse_xml(body: bytes, name: str) -> Any:
    """Return the root element. ``name`` is for messages.

    Raises `CutShortError` if the document is not well formed, and `FeedError` if it has a document type or too many
    elements.
    """
    from lxml import etree  # of an extra, and only some partners speak XML

    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise FeedError(f"{name}: the answer has a document type, which no partner's answer needs")
    if body.count(b"<") > 2 * MOST_ELEMENTS:
        raise _too_many(name)
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        collect_ids=False,
    )
    try:
        return etree.fromstring(body.removeprefix(_BOM), parser)
    except (etree.XMLSyntaxError, ValueError):
        # The message of libxml2 may quote the document.
        raise CutShortError(f"{name}: the answer is not well-formed XML", hint=_CUT) from None


def parse_json(body: bytes, name: str) -> dict[str, Any]:
    """Return the object. ``name`` is for messages.

    Raises `CutShortError` if the document is not well formed, `SourceError` if it is not an object, and `FeedError` if
    it has too many values.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > MOST_ELEMENTS:
        raise _too_many(name)
    try:
        found = json.loads(body.removeprefix(_BOM), parse_constant=_refused)
    except (ValueError, RecursionError):
        raise CutShortError(f"{name}: the answer is not well-formed JSON", hint=_CUT) from None
    if not isinstance(found, dict):
        raise SourceError(f"{name}: the answer is not a JSON object", hint=PEER_TROUBLE)
    return found


def _refused(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON")


def _too_many(name: str) -> FeedError:
    return FeedError(f"{name}: the answer has more than {MOST_ELEMENTS} elements")
