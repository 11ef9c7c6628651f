"""The migrations of the catalog's schema. `syncd.catalog.schema` runs them; they ship with the package."""
