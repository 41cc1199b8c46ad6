"""Alembic's entry: runs migrations on the connection it is handed."""

from alembic import context

from fieldpost.backends.relational.schema import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, transaction_per_migration=False
)
with context.begin_transaction():
    context.run_migrations()
