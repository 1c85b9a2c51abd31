"""Throttles with a name and a description: the fields without a column of their own, as JSON."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the column."""
    op.add_column("throttles", sa.Column("more", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("throttles", "more")
