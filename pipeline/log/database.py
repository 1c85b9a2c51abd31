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
    database.execute("SET enable_progress_bar = false")  # or it draws one on standard output
    return database
