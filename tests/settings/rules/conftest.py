"""Real databases for the rules: SQLite always, private PostgreSQL and MariaDB servers where they are installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from settings.store import RuleStore
from tests.support.database import put_database
from tests.support.servers import MariaDB, Postgres, Server, serve


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A running PostgreSQL."""
    yield from serve(Postgres, "initdb")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Server]:
    """A running MariaDB."""
    yield from serve(MariaDB, "mariadb-install-db")


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each of the servers."""
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sqlite", "postgres", "mariadb"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database on each of the three."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/rules.db"
    found: Server = request.getfixturevalue(request.param)
    return found.fresh()


class Reports(list[tuple[str, str]]):
    """What a store has reported."""

    def __call__(self, kind: str, text: str) -> None:
        """Keep it."""
        self.append((kind, text))

    @property
    def kinds(self) -> list[str]:
        """The kinds, in order."""
        return [kind for kind, _ in self]


@pytest.fixture
def reports() -> Reports:
    """What the store reports."""
    return Reports()


@pytest.fixture
async def store(tmp_path: Path, reports: Reports) -> AsyncIterator[RuleStore]:
    """A store on SQLite."""
    put_database(tmp_path)
    store = RuleStore("", tmp_path, report=reports)
    await store.start()
    yield store
    await store.close()
