"""Alembic's way in: migrations run on the connection and in the transaction that they are handed."""

from __future__ import annotations

from alembic import context

from shiftproof.service.store.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,  # of SQLite too: the transaction is begun by us
)
context.run_migrations()
