"""Messages with a priority go before those that are ready."""

from __future__ import annotations

import pytest

from pipeline.queues.embedded.urgent import urgent


@pytest.mark.parametrize(
    ("body", "goes_first"),
    [
        (b'{"recipient": "a@b.example", "priority": 10}', True),
        (b'{"recipient": "a@b.example", "priority": 0}', False),
        (b'{"recipient": "a@b.example"}', False),
        (b'{"recipient": "a@b.example", "mime": "\\"priority\\": 9"}', False),
        (b'{"priority": "high"}', False),
        (b'{"priority"', False),
    ],
)
def test_a_priority_above_zero_goes_first(body: bytes, goes_first: bool) -> None:
    """Whatever else is in the message; what cannot be read has none."""
    assert urgent(body) is goes_first
