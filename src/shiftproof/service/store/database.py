"""Opening the database: which ones are known, how they keep what is committed, and bringing their tables up to date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from shiftproof.errors import ShiftproofError, UsageError

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_MIGRATING = 0x5417F7  # the key of PostgreSQL's lock: two stations that start at once do not migrate at once
_BUSY_SECONDS = 30  # that a writer to SQLite waits for another


class Database:
    """Sessions of a database whose tables are up to date.

    Args:
        url: of SQLite or PostgreSQL, as SQLAlchemy writes them.

    Raises:
        UsageError: another database, or no URL. ShiftproofError: not reachable, or written by a newer version.
    """

    def __init__(self, url: str):
        self.url = _known(url)
        self.shown = self.url.render_as_string(hide_password=True)
        self.engine = _engine(self.url)
        self._writes = self.engine.execution_options(shiftproof_writes=True)
        try:
            with self._writes.begin() as connection:
                migrate(connection)
        except (DBAPIError, CommandError) as error:
            self.engine.dispose()
            raise _cannot_open(self.shown, error) from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the database."""
        with Session(self.engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are durable when it ends, or none of them where it ends in an error."""
        with Session(self._writes, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def migrate(connection: Connection) -> None:
    """Bring the tables up to date within the connection's transaction, one program at a time."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATING})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _known(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise UsageError(
            "--db is no database URL; expected such as sqlite:////var/lib/shiftproof/station.sqlite "
            "or postgresql://user@host/name"
        ) from error
    family = parsed.get_backend_name()
    if family == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if family != "sqlite":
        raise UsageError(f"--db names {family}; expected sqlite or postgresql")
    if parsed.database in (None, "", ":memory:"):
        raise UsageError(
            "--db names SQLite in memory, which forgets; expected a file, such as sqlite:///station.sqlite"
        )
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        try:
            return create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": 10})
        except ModuleNotFoundError as error:
            raise UsageError("PostgreSQL needs the package psycopg: pip install 'shiftproof[postgres]'") from error
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing of its own; see below
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        # A writer takes its lock at once and waits for it; one that first reads would be refused without waiting.
        writes = connection.get_execution_options().get("shiftproof_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _cannot_open(shown: str, error: Exception) -> ShiftproofError:
    if isinstance(error, CommandError):
        return ShiftproofError(f"{shown} was written by a newer shiftproof ({error}): pip install -U shiftproof")
    cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    reason = " ".join(cause.split())[:200]
    return ShiftproofError(f"the database {shown} cannot be opened ({reason}): check --db, and that it runs")
