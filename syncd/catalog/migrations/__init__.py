"""The catalog's schema, step by step. `syncd.catalog.schema` runs these; they ship with the package."""
