"""Alembic's entry point: runs migrations on the caller's connection, inside the caller's transaction."""

from alembic import context

from syncd.catalog.tables import metadata

# The caller's transaction is already open, so every step and the new revision number commit together or not at all.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
