"""Routes for readers of the feed: check-ins of matchers, and for mirrors the tokens in force and check-ins in batches.

A mirror's own server has the same routes: its matchers check in there, and further mirrors follow it.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final, Protocol

from fastapi import Depends, FastAPI, Header, Request, Response, Security
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from syncd.feed.offer import is_known
from syncd.model import ListName
from syncd.service.access import READERS, Access, Kind, Visitor
from syncd.service.admission import Admission
from syncd.service.web.documents import BEARER, NO_STORE, ApiError, ListText, Version, errors, visitor_of

ACCESS: Final = "/api/v1/mirror/access"
CHECK_INS: Final = "/api/v1/mirror/checkins"
_MOST_LISTS: Final = 1024
_MOST_CHECK_INS: Final = 1000
_LONGEST_VIA: Final = 520
"""Characters of the names of eight mirrors."""


class Checkin(BaseModel):
    """The version of each list that one process of a matcher has loaded. Lists left out are no longer loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    instance: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$"),
        Field(description="name of this process or host of the matcher", examples=["web-3.4711"]),
    ]
    lists: Annotated[
        dict[ListText, Version],
        Field(max_length=_MOST_LISTS, examples=[{"iwf.images": 7}], json_schema_extra={"additionalProperties": False}),
    ]

    @property
    def versions(self) -> Mapping[ListName, int]:
        """The version of each list."""
        return {ListName(name): version for name, version in self.lists.items()}


class PassedCheckin(Checkin):
    """A check-in that a mirror received and passes on."""

    matcher: Annotated[str, Field(max_length=64, description="name of the matcher that checked in")]
    via: Annotated[
        str, Field(max_length=_LONGEST_VIA, description='further mirrors in between, joined by "/", the nearest first')
    ] = ""


class PassedCheckins(BaseModel):
    """Check-ins that a mirror passes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    checkins: Annotated[tuple[PassedCheckin, ...], Field(max_length=_MOST_CHECK_INS)]


class PassedOn(BaseModel):
    """How many check-ins of a batch were recorded, and how many refused.

    Refused are those of matchers or lists that neither the mirror nor the matcher has access to, and of versions that
    were never published.
    """

    recorded: int
    refused: int


class CheckinDesk(Protocol):
    """The place that takes check-ins: `syncd.service.checkins.Checkins`, or at a mirror what passes them on."""

    def never_published(self, lists: Mapping[ListName, int]) -> tuple[ListName, ...]:
        """Return the lists whose version is known to be wrong. Raises `StoreError`."""
        ...

    def note(
        self, visitor_name: str, instance: str, lists: Mapping[ListName, int], now: datetime, via: str = ""
    ) -> None:
        """Take a check-in. Raises `StoreError`."""
        ...


class ReaderContext(Protocol):
    """The parts of a server that these routes use."""

    @property
    def admission(self) -> Admission:
        """Admits requests to every route."""
        ...

    @property
    def access(self) -> Access:
        """The tokens in force."""
        ...

    @property
    def desk(self) -> CheckinDesk:
        """Takes check-ins."""
        ...

    @property
    def clock(self) -> Callable[[], datetime]:
        """The time."""
        ...

    def checked_in(self) -> None:
        """Announce that check-ins were taken."""
        ...


def add_reader_routes(app: FastAPI, context: ReaderContext) -> None:
    """Add the routes for matchers and mirrors."""

    def reader(request: Request) -> Visitor:
        return visitor_of(context, request, *READERS)

    def mirror(request: Request) -> Visitor:
        return visitor_of(context, request, Kind.MIRROR)

    Reader = Annotated[Visitor, Depends(reader)]  # noqa: N806 - a type
    Mirror = Annotated[Visitor, Depends(mirror)]  # noqa: N806 - a type
    secured = [Security(BEARER)]

    @app.post(
        "/api/v1/checkin",
        status_code=204,
        dependencies=secured,
        responses=errors(401, 403, 409, 413, 422, 429, 503),
        tags=["matchers"],
    )
    def checkin(visitor: Reader, body: Checkin) -> Response:
        """Report the loaded version of each list: after each change, and every 5 minutes."""
        if not all(visitor.may_read(name) for name in body.versions):
            raise ApiError(403, "a list is outside this token's scope", "leave it out, or use another token")
        if context.desk.never_published(body.versions):
            raise ApiError(
                409, "a version that this feed never published", "check that the copy was pulled from this feed"
            )
        context.desk.note(visitor.name, body.instance, body.versions, context.clock())
        context.checked_in()
        return Response(status_code=204, headers=NO_STORE)

    @app.get(
        ACCESS,
        dependencies=secured,
        responses={**errors(401, 403, 422, 429, 503), 304: {"description": "nothing changed (If-None-Match)"}},
        tags=["mirrors"],
    )
    def access(visitor: Mirror, if_none_match: Annotated[str, Header()] = "") -> Response:
        """Return the lists of this mirror, and the matchers of these lists with the SHA-256 of their tokens."""
        content = access_document(visitor, context.access)
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**NO_STORE, "ETag": tag}
        if if_none_match and is_known(tag, if_none_match):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type="application/json")

    @app.post(CHECK_INS, dependencies=secured, responses=errors(401, 403, 413, 422, 429, 503), tags=["mirrors"])
    def checkins(visitor: Mirror, body: PassedCheckins, response: Response) -> PassedOn:
        """Pass on check-ins that this mirror received, each with the name of its matcher."""
        response.headers.update(NO_STORE)
        recorded = sum(_record(context, visitor, passed) for passed in body.checkins)
        if recorded:
            context.checked_in()
        return PassedOn(recorded=recorded, refused=len(body.checkins) - recorded)


def _record(context: ReaderContext, mirror: Visitor, passed: PassedCheckin) -> bool:
    """Record a check-in that a mirror passed on; return False if it is refused."""
    matcher, lists = context.access.reader(passed.matcher), passed.versions
    if matcher is None or not all(matcher.may_read(name) and mirror.may_read(name) for name in lists):
        return False
    if context.desk.never_published(lists):
        return False
    via = f"{mirror.name}/{passed.via}" if passed.via else mirror.name
    context.desk.note(matcher.name, passed.instance, lists, context.clock(), via[:_LONGEST_VIA])
    return True


def access_document(mirror: Visitor, access: Access) -> bytes:
    """Return the tokens in force for the lists of a mirror, as JSON: names, scopes and hashes, never a token."""
    document = {
        "lists": None if mirror.lists is None else sorted(mirror.lists),
        "matchers": list(_permitted(mirror, access)),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _permitted(mirror: Visitor, access: Access) -> Iterator[dict[str, Any]]:
    for reader in access.readers():
        lists = _common(mirror.lists, reader.lists)
        if reader.name != mirror.name and (lists is None or lists):
            yield {
                "name": reader.name,
                "token_sha256": reader.key.hex(),
                "lists": None if lists is None else sorted(lists),
                "mirror": reader.kind is Kind.MIRROR,
            }


def _common(some: frozenset[ListName] | None, other: frozenset[ListName] | None) -> frozenset[ListName] | None:
    """Return the lists of both scopes; None: all."""
    if some is None or other is None:
        return other if some is None else some
    return some & other
