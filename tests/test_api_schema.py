"""The API against its own OpenAPI document."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase

from syncd.service.web.context import Limits
from web_site import OPERATOR, Running, bearer, running
from world import World

DOCUMENT = Path(__file__).parent.parent / "docs" / "openapi.json"


@pytest.fixture
def web(standing: World) -> Iterator[Running]:
    """Where no stream goes on for ever."""
    with running(standing, Limits(streams=0)) as site:
        yield site


def test_the_document_is_the_one_that_is_kept(web: Running) -> None:
    """docs/openapi.json is what is served, without a token, and no page that loads anything goes with it."""
    kept = json.loads(DOCUMENT.read_text())
    assert httpx.get(f"{web.url}/openapi.json").json() == kept
    assert [httpx.get(f"{web.url}/{page}").status_code for page in ("docs", "redoc")] == [404, 404]


def test_every_answer_is_as_the_document_says(web: Running) -> None:
    """Whatever is asked, well formed or not, with and without a token."""
    mine = web.add("m")
    schema = schemathesis.openapi.from_url(f"{web.url}/openapi.json")
    settings = hypothesis.settings(
        max_examples=15,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        token = bearer(OPERATOR) if operation.path == "/api/v1/status" else mine

        @hypothesis.given(case=operation.as_strategy(generation_mode=None))
        @settings
        def ask(case: schemathesis.Case) -> None:
            nonlocal asked
            asked += 1
            case.call_and_validate(headers=token)

        ask()
    assert asked > 100
    assert web.named("internal_error") == []
