"""The protocol with the worker process, as lines of JSON: one request, then the results.

Never pickle: the worker parses foreign bytes, and its answers must not be able to run code in the process that holds
the keys. Every value is checked when it is read.
"""

import hashlib
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from syncd.errors import RESTORE_CATALOG, HttpStatusError, StoreError, SyncdError, UnexpectedError, error_named, kind_of
from syncd.format import manifest as manifests
from syncd.model import ListName, list_name
from syncd.pipeline.preparation import Prepared, Request, VerifiedSource
from syncd.pipeline.values import Signed, Staged, Stated, Unchanged, Update, UpToDate, Waiting
from syncd.sources.source import Memory

MAX_LINE: Final = 64 << 20
"""Bytes of one answer: three quoted copies of a manifest (1 MiB at most), and the metadata that vouches for it."""

_REQUEST: Final = TypeAdapter(Request)
_STAGED: Final = TypeAdapter(Staged)


class ErrorMessage(BaseModel):
    """An error; ``kind`` is its name, see `syncd.errors.kind_of`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    message: str
    hint: str = ""
    serving: str = ""
    status: int | None = None
    retry_after: float | None = None
    bug: str = ""
    place: str = ""


class ProgressMessage(BaseModel):
    """Progress: the stage, the amount done, and the total (0 if not known)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    done: int
    total: int


class PreparedMessage(BaseModel):
    """The result of one list. Without ``staged``, ``fault``, ``waiting`` and ``unchanged`` it is up to date."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    staged: Staged | None = None
    fault: ErrorMessage | None = None
    waiting: bool = False
    unchanged: Unchanged | None = None


class WorkerMessage(BaseModel):
    """One line from the worker, with exactly one of the first five fields. If no ``end`` comes, the worker died.

    ``set_aside`` comes with ``verified``.
    ``received``: bytes received from the source so far (`syncd.fetch.Meter`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    progress: ProgressMessage | None = None
    verified: Memory | None = None
    result: PreparedMessage | None = None
    fault: ErrorMessage | None = None
    end: bool = False
    set_aside: dict[str, Annotated[int, Field(ge=0, lt=1 << 63)]] = {}
    received: int = Field(default=0, ge=0, lt=1 << 63)


def encode_request(request: Request) -> bytes:
    """Encode a request as one line."""
    return _REQUEST.dump_json(request) + b"\n"


def decode_request(line: bytes) -> Request:
    """Decode a request. Raises `ValueError` if the line is not a valid request."""
    return _REQUEST.validate_json(line)


def encode_update(update: Update) -> bytes:
    """Serialise the staged part of an update, for the catalog."""
    return encode_staged(update.staged)


def encode_staged(staged: Staged) -> bytes:
    """Serialise a staged update, for the catalog."""
    return _STAGED.dump_json(staged)


def decode_staged(content: bytes) -> Staged:
    """Read back a staged update from the catalog. Raises `StoreError` if it is damaged."""
    try:
        return _STAGED.validate_json(content)
    except ValidationError:
        raise StoreError("the catalog holds an unreadable update", hint=RESTORE_CATALOG) from None


def encode(answer: WorkerMessage) -> bytes:
    """Encode a message of the worker as one line."""
    return answer.model_dump_json(exclude_unset=True).encode() + b"\n"


def answer_of(step: VerifiedSource | Prepared) -> WorkerMessage:
    """Return the message for one step of a preparation."""
    if isinstance(step, VerifiedSource):
        return WorkerMessage(verified=step.memory, set_aside=dict(step.set_aside))
    staged = step.result if isinstance(step.result, Staged) else None
    fault = fault_of(step.result) if isinstance(step.result, SyncdError) else None
    unchanged = step.result if isinstance(step.result, Unchanged) else None
    waiting = isinstance(step.result, Waiting)
    message = PreparedMessage(name=step.name, staged=staged, fault=fault, waiting=waiting, unchanged=unchanged)
    return WorkerMessage(result=message)


def decode(line: bytes) -> WorkerMessage:
    """Decode a message of the worker. Raises `StoreError` if the line is not a valid message."""
    try:
        return WorkerMessage.model_validate_json(line)
    except ValidationError:
        raise _invalid_answer() from None


def prepared(result: PreparedMessage) -> Prepared:
    """Return the result that a message reports. Raises `StoreError` if it contradicts itself."""
    name = _name(result.name)
    if result.fault is not None:
        return Prepared(name, error_of(result.fault))
    if result.unchanged is not None and result.staged is None and not result.waiting:
        return Prepared(name, result.unchanged)
    if result.staged is None:
        return Prepared(name, Waiting() if result.waiting else UpToDate())
    if not (_consistent(result.staged) and result.staged.candidate.manifest.list == name):
        raise _invalid_answer()
    return Prepared(name, result.staged)


def _consistent(staged: Staged) -> bool:
    """Return True if the candidate is the one that its proof vouches for."""
    candidate = staged.candidate
    match staged.vouched:
        case Signed(signed=signed):
            return (
                hashlib.sha256(signed.content).hexdigest() == signed.sha256 == candidate.sha256
                and manifests.parse(signed.content) == signed.manifest == candidate.manifest
            )
        case Stated():
            return hashlib.sha256(staged.content).hexdigest() == candidate.sha256


def _name(text: str) -> ListName:
    try:
        return list_name(text)
    except SyncdError:
        raise _invalid_answer() from None


def _invalid_answer() -> StoreError:
    return StoreError(
        "the worker process, which fetches and stages, gave an invalid answer",
        hint="nothing of it was used; if it happens again, keep this partner's files and report it as a bug",
    )


def fault_of(error: SyncdError) -> ErrorMessage:
    """Return the message for an error."""
    fault = ErrorMessage(kind=kind_of(error), message=error.message, hint=error.hint, serving=error.serving)
    if isinstance(error, HttpStatusError):
        return fault.model_copy(update={"status": error.status, "retry_after": error.retry_after})
    if isinstance(error, UnexpectedError):
        return fault.model_copy(update={"bug": error.bug, "place": error.place})
    return fault


def error_of(fault: ErrorMessage) -> SyncdError:
    """Build the error that a message reports: of a class in `syncd.errors`, or a plain `SyncdError`."""
    error = error_named(fault.kind, fault.message, fault.hint, fault.serving)
    if isinstance(error, HttpStatusError):
        error.status, error.retry_after = fault.status or 0, fault.retry_after
    if isinstance(error, UnexpectedError):
        error.bug, error.place = fault.bug, fault.place
    return error
