"""Writes the JSON Schemas and the OpenAPI document in ``docs/``: run it after changing a model or a route."""

import json
from pathlib import Path
from unittest.mock import Mock

from pydantic import BaseModel

from syncd.report.status_types import StatusDocument
from syncd.service.web.api import build

DOCS = Path(__file__).parent.parent / "docs"
SCHEMAS: dict[str, type[BaseModel]] = {"status.schema.json": StatusDocument}


def schema(model: type[BaseModel]) -> str:
    """The JSON Schema (2020-12) of what a model is written as."""
    made = model.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2) + "\n"


def openapi() -> str:
    """The OpenAPI document that the daemon serves. It does not depend on a state."""
    return json.dumps(build(Mock(), []).openapi(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        (DOCS / name).write_text(schema(model))
    (DOCS / "openapi.json").write_text(openapi())
