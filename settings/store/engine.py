"""Opening the rules database: SQLite, PostgreSQL, MySQL or MariaDB by address, and its migrations.

Every wait is bounded (SECONDS), so that a database that goes silent is found out. No error text has a password.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
import alembic.util
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from settings.sqlite import write_ahead

SECONDS = 5
MIGRATING = 25  # seconds for another instance's migration and our own; less than the store waits for its work
MIGRATIONS = Path(__file__).parent / "migrations"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "mariadb": "mysql+pymysql"}
MIGRATION_LOCK = 8485  # any number that all instances agree on


class RulesUnavailable(Exception):
    """The database cannot be opened, read or written; one line that says which and why."""


def location(address: str, data_dir: Path) -> URL:
    """The database's address, complete. Empty: SQLite in `data_dir`, where a relative SQLite file is, too.

    Raises:
        Unavailable: it is no such address; the text says what is allowed.
    """
    try:
        url = make_url(address or "sqlite:///rules.db")
    except sa.exc.ArgumentError:
        url = URL.create("unknown")
    driver = DRIVERS.get(url.drivername.partition("+")[0])
    if driver is None or (driver == "sqlite" and not url.database):
        raise RulesUnavailable(
            "database-address: allowed are sqlite:///file, postgresql://user:password@host/name and mysql://..."
        )
    if driver == "sqlite":
        return url.set(drivername=driver, database=str(data_dir / str(url.database)))
    return url.set(drivername=driver)


def engine_for(url: URL) -> sa.Engine:
    """An engine with one connection, used by one thread at a time. Opens nothing yet."""
    engine = sa.create_engine(
        url,
        connect_args=_arguments(url),
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
        hide_parameters=True,
        **({} if url.drivername == "sqlite" else {"pool_recycle": 300}),
    )
    if url.drivername == "sqlite":
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _arguments(url: URL) -> dict[str, Any]:
    if url.drivername == "sqlite":
        return {"timeout": SECONDS}
    if url.drivername == "mysql+pymysql":
        return {"connect_timeout": SECONDS, "read_timeout": SECONDS, "write_timeout": SECONDS, "charset": "utf8mb4"}
    return {
        "connect_timeout": SECONDS,
        "tcp_user_timeout": SECONDS * 1000,
        "options": f"-c statement_timeout={SECONDS * 1000} -c timezone=UTC",
        "application_name": "mailrace",
    }


def _prepare_sqlite(connection: Any, record: object) -> None:
    """Python's driver begins no transaction before DDL; with its own handling off, SQLAlchemy's "begin" does it."""
    connection.isolation_level = None
    write_ahead(connection, SECONDS)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Who only reads waits for no writer, and holds none up (sqlite.org/wal.html): a million entries take a while."""
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


def migrate(engine: sa.Engine) -> None:
    """Bring the tables up to date. Instances that start at once wait for each other.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database does not do it.
        Unavailable: the tables are of a newer Mailrace.
    """
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        _wait_for_others(connection)
        try:
            alembic.command.upgrade(config, "head")
        except alembic.util.CommandError as error:
            raise RulesUnavailable(f"the database's tables are not of this version: {error}") from None


def _wait_for_others(connection: sa.Connection) -> None:
    """Until the end of the transaction or, with MySQL, of the connection. Raises `RulesUnavailable` after MIGRATING."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {MIGRATING * 1000}")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
    elif connection.dialect.name == "mysql":
        take = f"SELECT GET_LOCK('mailrace.{MIGRATION_LOCK}', {SECONDS - 1})"  # its answer must come within SECONDS
        if not any(connection.exec_driver_sql(take).scalar() for _ in range(MIGRATING // SECONDS)):
            raise RulesUnavailable(f"another instance has been changing the tables for {MIGRATING} s")


def damaged(error: Exception) -> bool:
    """Whether SQLite says that its file is damaged, or no database."""
    code = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0)
    return code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def reason(error: sa.exc.SQLAlchemyError) -> str:
    """What a database said, on one line."""
    cause = getattr(error, "orig", None) or error
    text = str(cause.args[-1] if cause.args else cause)
    return " ".join(text.split()) or type(cause).__name__
