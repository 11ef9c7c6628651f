"""A preparation in another process, as lines of JSON: one request, then what came of it.

Never pickle: whoever prepares parses foreign bytes, and what it answers must not be able to run code where the keys
are. Every value is checked as it is read.
"""

import hashlib
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from syncd.errors import HttpStatusError, StoreError, SyncdError, error_named, kind_of
from syncd.format import manifest as manifests
from syncd.model import ListName, list_name
from syncd.pipeline.prepare import Prepared, Request, VerifiedSource
from syncd.pipeline.values import Signed, Staged, Stated, Update, UpToDate, Waiting
from syncd.sources.source import Memory

MAX_LINE: Final = 64 << 20
"""Bytes of one answer: a manifest (1 MiB at most) three times over, quoted, and the metadata that vouches for it."""

_REQUEST: Final = TypeAdapter(Request)
_STAGED: Final = TypeAdapter(Staged)


class ErrorMessage(BaseModel):
    """An error, by the name of its class."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    message: str
    hint: str = ""
    serving: str = ""
    status: int | None = None
    retry_after: float | None = None


class Told(BaseModel):
    """How far it is; ``stage``, how much is done, of how much (0: not known)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: str
    done: int
    total: int


class PreparedMessage(BaseModel):
    """What came of one list; neither ``staged`` nor ``fault``: it is up to date."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    staged: Staged | None = None
    fault: ErrorMessage | None = None
    waiting: bool = False


class WorkerMessage(BaseModel):
    """One line: exactly one of these. ``end`` is the last; where it never comes, the process died.

    Each says how many bytes were ``received`` from the source so far (`syncd.fetch.Meter`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    told: Told | None = None
    verified: Memory | None = None
    result: PreparedMessage | None = None
    fault: ErrorMessage | None = None
    end: bool = False
    received: int = Field(default=0, ge=0, lt=1 << 63)


def encode_request(request: Request) -> bytes:
    """One line."""
    return _REQUEST.dump_json(request) + b"\n"


def decode_request(line: bytes) -> Request:
    """Raises `ValueError` where it is none."""
    return _REQUEST.validate_json(line)


def encode_staged(update: Update) -> bytes:
    """Write what was staged of an update, for the catalog."""
    return _STAGED.dump_json(update.staged)


def decode_staged(content: bytes) -> Staged:
    """Read it back. Raises `StoreError` if it is damaged."""
    try:
        return _STAGED.validate_json(content)
    except ValidationError:
        raise StoreError("the catalog holds an update that cannot be read", hint="restore it from a backup") from None


def encode(answer: WorkerMessage) -> bytes:
    """One line."""
    return answer.model_dump_json(exclude_unset=True).encode() + b"\n"


def answer_of(step: VerifiedSource | Prepared) -> WorkerMessage:
    """A step of a preparation as a line tells it."""
    if isinstance(step, VerifiedSource):
        return WorkerMessage(verified=step.memory)
    staged = step.result if isinstance(step.result, Staged) else None
    fault = fault_of(step.result) if isinstance(step.result, SyncdError) else None
    waiting = isinstance(step.result, Waiting)
    return WorkerMessage(result=PreparedMessage(name=step.name, staged=staged, fault=fault, waiting=waiting))


def decode(line: bytes) -> WorkerMessage:
    """Raises `StoreError` on a line that no preparation writes."""
    try:
        return WorkerMessage.model_validate_json(line)
    except ValidationError:
        raise _nonsense() from None


def prepared(result: PreparedMessage) -> Prepared:
    """The step that a line told, once it is seen to be consistent. Raises `StoreError`."""
    name = _name(result.name)
    if result.fault is not None:
        return Prepared(name, error_of(result.fault))
    if result.staged is None:
        return Prepared(name, Waiting() if result.waiting else UpToDate())
    if not (_consistent(result.staged) and result.staged.candidate.manifest.list == name):
        raise _nonsense()
    return Prepared(name, result.staged)


def _consistent(staged: Staged) -> bool:
    """Whether the candidate is the one that is vouched for."""
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
        raise _nonsense() from None


def _nonsense() -> StoreError:
    return StoreError(
        "the process that fetches and stages gave an answer that makes no sense",
        hint="nothing of it was taken; if it happens again, look for what this partner sends, and report it",
    )


def fault_of(error: SyncdError) -> ErrorMessage:
    """An error as a line tells it."""
    fault = ErrorMessage(kind=kind_of(error), message=error.message, hint=error.hint, serving=error.serving)
    if isinstance(error, HttpStatusError):
        return fault.model_copy(update={"status": error.status, "retry_after": error.retry_after})
    return fault


def error_of(fault: ErrorMessage) -> SyncdError:
    """The error that was told, of the same class; a class of `syncd.errors` or none."""
    error = error_named(fault.kind, fault.message, fault.hint, fault.serving)
    if isinstance(error, HttpStatusError):
        error.status, error.retry_after = fault.status or 0, fault.retry_after
    return error
