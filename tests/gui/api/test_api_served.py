"""The API of the whole program."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from gui.access.tokens import FILE, Tokens
from tests.support.api import TOKEN
from tests.support.program import Program

pytestmark = pytest.mark.system


def test_the_program_serves_its_api_beside_the_console(tmp_path: Path) -> None:
    """One port: the API with its token, the console with its login, each with its own refusal."""
    (tmp_path / "var").mkdir()
    made = Tokens(tmp_path / "var" / FILE).make("prometheus")
    with Program(tmp_path, api_token=TOKEN, www_password="secret") as program:
        url = f"http://127.0.0.1:{program.www_port}"
        key = {"Authorization": f"Bearer {TOKEN}"}
        status = httpx.get(f"{url}/api/v1/status", headers=key)
        assert status.status_code == 200
        assert status.json()["verdict"]["level"] == "idle"
        assert httpx.get(f"{url}/api/v1/status").headers["content-type"] == "application/problem+json"
        assert httpx.get(f"{url}/metrics").status_code == 401
        for token in (TOKEN, made):
            assert httpx.get(f"{url}/metrics", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        assert httpx.get(f"{url}/").headers["location"] == "/login"
        watching = httpx.Client(timeout=10)
        with watching.stream("GET", f"{url}/api/v1/events", headers=key) as stream:
            assert next(stream.iter_lines()) == "retry: 3000"
            assert program.stop() == 0  # a client that watches holds up no stop
        watching.close()
