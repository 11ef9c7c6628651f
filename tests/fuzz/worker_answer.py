"""The worker's answers, which are made from foreign bytes, and the update in them."""

from syncd.pipeline.wire import decode, decode_staged, error_of, prepared


def one(content: bytes) -> None:
    """Read an answer as the daemon does; and an update as it lies in the catalog."""
    answer = decode(content)
    if answer.fault is not None:
        error_of(answer.fault)
    if answer.result is not None:
        prepared(answer.result)
        if answer.result.staged is not None:
            decode_staged(content)
