"""The REST API of a running program."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.program import Program

TOKEN = "token-of-the-tests"


class Api:
    """As an operator's script would use it; the program needs `api_token=TOKEN`.

    Attributes:
        client: for requests that the calls here do not make.
    """

    def __init__(self, program: Program) -> None:
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{program.www_port}/api/v1",
            headers={"Authorization": f"Bearer {TOKEN}"},
            timeout=30,
        )

    def get(self, path: str) -> Any:
        """What is there."""
        return self.client.get(path).raise_for_status().json()

    def create(self, kind: str, **values: Any) -> dict[str, Any]:
        """A rule, whole."""
        answer = self.client.post(f"/{kind}", json=values)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def post(self, path: str, **values: Any) -> Any:
        """Something is to be done."""
        return self.client.post(path, json=values).raise_for_status().json()

    def delete(self, kind: str, id: int) -> None:
        """A rule is gone."""
        self.client.delete(f"/{kind}/{id}").raise_for_status()
