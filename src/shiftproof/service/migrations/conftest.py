"""Alembic runs its way in by itself; it is no module to import."""

collect_ignore = ["env.py"]
