"""The routes that FastAPI does not know, for the OpenAPI document."""

from typing import Any, Final

_ARROW: Final = "application/vnd.apache.arrow.file"
_JSON: Final = "application/json"
_SECURITY: Final[list[dict[str, list[str]]]] = [{"HTTPBearer": []}]
_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
_ERROR: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}


def _path(name: str, pattern: str, description: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": pattern}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": description}


_LIST: Final = _path("list", "^[a-z0-9][a-z0-9._-]{0,63}$", "name of a list")
_HASH: Final = _path("sha256", "^[0-9a-f]{64}$", "SHA-256 of the file")


def _file(summary: str, kind: str, *parameters: dict[str, Any], immutable: bool = True) -> dict[str, Any]:
    schema = {"type": "object"} if kind == _JSON else {"type": "string", "format": "binary"}
    content = {kind: {"schema": schema}}
    answers: dict[str, Any] = {
        "200": {"description": "the file", "content": content},
        "304": {"description": "the client has this file (If-None-Match)"},
        "401": {"description": "no token, or an invalid one", "content": _TEXT},
        "403": {"description": "outside the token's scope", "content": _TEXT},
        "404": {"description": "not found", "content": _TEXT},
        "429": {"description": "too many wrong tokens from this address: see Retry-After", "content": _TEXT},
        "503": {"description": "the server is full: see Retry-After", "content": _TEXT},
    }
    if immutable:
        answers["206"] = {"description": "the requested range", "content": content}
        answers["416"] = {"description": "no such range", "content": _TEXT}
    operation = {"summary": summary, "tags": ["feed"], "security": _SECURITY, "responses": answers}
    return {"get": {**operation, "parameters": list(parameters)} if parameters else operation}


_VERSIONED: Final = _path("file", r"^[0-9]{1,16}\.[a-z][a-z0-9._-]{0,68}\.json$", "VERSION.ROLE.json")

DESCRIBED: Final[dict[str, Any]] = {
    "/feed/metadata/timestamp.json": _file("The current state of the feed", _JSON, immutable=False),
    "/feed/root.json": _file("The first root", _JSON, immutable=False),
    "/feed/metadata/{file}": _file("Signed metadata", _JSON, _VERSIONED),
    "/feed/v1/{list}/{sha256}.manifest.json": _file("A manifest", _JSON, _LIST, _HASH),
    "/feed/v1/{list}/segments/{sha256}.arrow": _file("A segment", _ARROW, _LIST, _HASH),
    "/feed/v1/{list}/evidence/{sha256}.json": _file("The upstream's signed documents", _JSON, _LIST, _HASH),
    "/api/v1/events": {
        "get": {
            "summary": "Each publication as it happens",
            "description": "Server-sent events (WHATWG HTML, 9.2).",
            "tags": ["matchers"],
            "security": _SECURITY,
            "parameters": [
                {
                    "name": "Last-Event-ID",
                    "in": "header",
                    "required": False,
                    "schema": {"type": "string"},
                    "description": "the last event received: only lists that changed since then are sent",
                }
            ],
            "responses": {
                "200": {
                    "description": "an endless stream",
                    "content": {"text/event-stream": {"schema": {"type": "string"}}},
                },
                "401": {"description": "no token, or an invalid one", "content": _ERROR},
                "403": {"description": "not a matcher's token", "content": _ERROR},
                "429": {
                    "description": "too many wrong tokens from this address, or too many open streams with this token: "
                    "see Retry-After",
                    "content": _ERROR,
                },
                "503": {"description": "the server is full: see Retry-After", "content": _ERROR},
            },
        }
    },
}
