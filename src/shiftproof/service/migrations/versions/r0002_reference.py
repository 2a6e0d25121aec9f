"""A calibration keeps what the good images looked like that it was made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; earlier calibrations have none."""
    op.add_column("calibrations", sa.Column("reference", sa.LargeBinary))
