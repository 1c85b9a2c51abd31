"""Flood patterns with a threshold, a domain and a tag: the fields without a column of their own, as JSON."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column."""
    op.add_column("floods", sa.Column("more", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("floods", "more")
