"""What Alembic runs for each migration: on the connection, and in the transaction, that the rule store hands in."""

from alembic import context

from settings.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
