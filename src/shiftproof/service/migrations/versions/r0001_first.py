"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_IDENTITY = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "calibrations",
        sa.Column("id", _IDENTITY, primary_key=True),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("created", _MOMENT, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("bound", sa.Float, nullable=False),
        sa.Column("images", sa.Integer, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
    )
    op.create_index("ix_calibrations_model_version", "calibrations", ["model", "version", "id"])
    op.create_table(
        "inspections",
        sa.Column("id", _IDENTITY, primary_key=True),
        sa.Column("time", _MOMENT, nullable=False),
        sa.Column("model", sa.String(255), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("calibration", _IDENTITY, sa.ForeignKey("calibrations.id"), nullable=False),
        sa.Column("backend", sa.String(32), nullable=False),
        sa.Column("station", sa.String(100)),
        sa.Column("file", sa.String(255)),
        sa.Column("image", sa.String(64), nullable=False),
        sa.Column("map", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Integer, nullable=False),
        sa.Column("height", sa.Integer, nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        sa.Column("p_value", sa.Float, nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("regions", sa.JSON, nullable=False),
        sa.Column("latency_ms", sa.Float, nullable=False),
        sa.Column("shift", sa.JSON),
        sa.Column("truth", sa.String(16)),
        sa.Column("key", sa.String(200)),
        sa.Column("position", sa.Integer, nullable=False),
    )
    op.create_index("ix_inspections_key_position", "inspections", ["key", "position"], unique=True)
    op.create_index("ix_inspections_model", "inspections", ["model", "id"])
    op.create_index("ix_inspections_time", "inspections", ["time"])
    op.create_index("ix_inspections_truth", "inspections", ["model", "truth", "id"])
    op.create_index("ix_inspections_image", "inspections", ["image"])
    op.create_index("ix_inspections_map", "inspections", ["map"])
    op.create_table(
        "reviews",
        sa.Column("id", _IDENTITY, primary_key=True),
        sa.Column("inspection", _IDENTITY, sa.ForeignKey("inspections.id"), nullable=False),
        sa.Column("time", _MOMENT, nullable=False),
        sa.Column("truth", sa.String(16), nullable=False),
        sa.Column("operator", sa.String(100)),
        sa.Column("note", sa.String(2000)),
    )
    op.create_index("ix_reviews_inspection", "reviews", ["inspection"])
    op.create_table(
        "files",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("stored", _MOMENT, nullable=False),
        sa.Column("kept", sa.Boolean, nullable=False),
    )
    op.create_index("ix_files_kept_stored", "files", ["kept", "stored"])


def downgrade() -> None:
    """Take them away, with all that they hold."""
    for table in ("files", "reviews", "inspections", "calibrations"):
        op.drop_table(table)
