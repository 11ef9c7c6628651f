"""Building markup: only `h` and `join` make `Html`, and all other text is escaped.

A page is a tree of calls, so there is no template in which escaping could be forgotten, and the type checker tells
markup from text.
"""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

_VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})
"""Elements without an end tag (WHATWG HTML, 13.1.2)."""


@dataclass(frozen=True, slots=True)
class Html:
    """Markup. Made by `h` and `join` only."""

    text: str

    def __str__(self) -> str:
        return self.text


Child: TypeAlias = "Html | str | int | Iterable[Child] | None"


def h(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """Return an element: ``h("td", "1 < 2", class_="num", data_label="rows")``.

    Text is escaped; None adds nothing; an iterable adds each of its items. In attribute names, a final ``_`` is
    dropped and the others become ``-``. True makes an attribute without a value; False and None leave it out.
    """
    start = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    if name in _VOID:
        return Html(start)
    return Html(f"{start}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Return the children in order, without an element around them."""
    return Html("".join(map(_markup, children)))


def document(page: Html) -> bytes:
    """Return a page as the bytes to send."""
    return f"<!doctype html>\n{page}\n".encode()


def clean(text: str) -> str:
    """Escape control characters and those that change the direction of writing: messages may quote a partner's text."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _markup(child: Child) -> str:
    match child:
        case Html():
            return child.text
        case str():
            return html.escape(clean(child))
        case int():
            return f"{child:,}"
        case None:
            return ""
        case _:
            return join(*child).text


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = key.removesuffix("_").replace("_", "-")
    if name == "style" or name.startswith("on"):
        raise ValueError(f"{name}: the content security policy would drop it")  # a bug in syncd, whatever the input
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(clean(str(value)))}"'
