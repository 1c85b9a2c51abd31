"""Throttles of a tag, and throttles and pauses of a pool."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the columns; of a tag there may be a throttle beside that of all mail."""
    with op.batch_alter_table("throttles", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.add_column(sa.Column("pool", sa.String(64), nullable=False, server_default=""))
        table.add_column(sa.Column("tag", sa.String(200), nullable=False, server_default=""))
        table.add_column(sa.Column("scope", sa.String(8), nullable=False, server_default=""))
        table.drop_constraint("throttles_once", type_="unique")
        table.create_unique_constraint("throttles_once", ["ip", "pool", "domain", "tag"])
    op.add_column("pauses", sa.Column("pool", sa.String(64), nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("pauses", "pool")
    with op.batch_alter_table("throttles", table_kwargs={"sqlite_autoincrement": True}) as table:
        table.drop_constraint("throttles_once", type_="unique")
        table.create_unique_constraint("throttles_once", ["ip", "domain"])
        for name in ("pool", "tag", "scope"):
            table.drop_column(name)
