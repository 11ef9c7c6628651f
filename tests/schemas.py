"""Writes the JSON Schemas in ``docs/`` that our documents follow: run it after changing one of their models."""

import json
from pathlib import Path

from pydantic import BaseModel

from syncd.report.status_types import StatusDocument

DOCS = Path(__file__).parent.parent / "docs"
SCHEMAS: dict[str, type[BaseModel]] = {"status.schema.json": StatusDocument}


def schema(model: type[BaseModel]) -> str:
    """The JSON Schema (2020-12) of what a model is written as."""
    made = model.model_json_schema(mode="serialization")
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **made}, indent=2) + "\n"


if __name__ == "__main__":
    for name, model in SCHEMAS.items():
        (DOCS / name).write_text(schema(model))
