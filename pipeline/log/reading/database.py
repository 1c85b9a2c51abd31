"""DuckDB as the log uses it: in memory, bounded, silent, and with nothing fetched or spilled."""

from __future__ import annotations

import duckdb


def connect(threads: int, memory: str) -> duckdb.DuckDBPyConnection:
    """An empty database. What does not fit into `memory` (`300MB`) ends in a `duckdb.Error`."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": threads,
        "memory_limit": memory,
        "temp_directory": "",
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    database = duckdb.connect(":memory:", config=config)
    # Or it draws one on standard output. Where there is none, as in Jupyter without widgets, setting it is an error.
    if database.execute("SELECT current_setting('enable_progress_bar')").fetchone() == (True,):
        database.execute("SET enable_progress_bar = false")
    return database
