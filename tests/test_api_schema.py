"""The API against its own OpenAPI document."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.control import SkipTest
from schemathesis.core.result import Ok

from syncd.service import attempts
from syncd.service.web.events import PATH as EVENTS
from syncd.service.web.limits import Limits
from web_site import OPERATOR, Running, bearer, running
from world import World

DOCUMENT = Path(__file__).parent.parent / "docs" / "openapi.json"


SETTINGS = hypothesis.settings(
    max_examples=15,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def web(standing: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Where no stream goes on for ever, and wrong tokens make nobody wait: `test_admission.py` is about those."""
    monkeypatch.setattr(attempts, "FAILURES", 1_000_000)
    monkeypatch.setattr(attempts, "FAILURES_OF_ALL", 1_000_000)
    with running(standing, Limits(streams=0)) as site:
        yield site


def test_the_document_is_the_one_that_is_kept(web: Running) -> None:
    """docs/openapi.json is what is served, without a token, and no page that loads anything goes with it."""
    kept = json.loads(DOCUMENT.read_text())
    assert httpx.get(f"{web.url}/openapi.json").json() == kept
    assert [httpx.get(f"{web.url}/{page}").status_code for page in ("docs", "redoc")] == [404, 404]


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_as_the_document_says(web: Running, mode: GenerationMode) -> None:
    """Whatever is asked, well formed or not, with and without a token."""
    mine, asked = web.add("m"), list[str]()
    schema = schemathesis.openapi.from_url(f"{web.url}/openapi.json")
    schema.config.generation.update(modes=[mode])
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        token = bearer(OPERATOR) if operation.path == "/api/v1/status" else mine
        _ask(operation, mode, token, asked)
    assert len(asked) > 50
    assert web.named("internal_error") == []


def _ask(operation: Any, mode: GenerationMode, token: dict[str, str], asked: list[str]) -> None:
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @SETTINGS
    def ask(case: Any) -> None:
        asked.append(case.path)
        full = [not_a_server_error] if case.path == EVENTS else []
        case.call_and_validate(headers=token, excluded_checks=full)

    with suppress(SkipTest):  # there is nothing that could be malformed
        ask()
