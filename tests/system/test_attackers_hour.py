"""A small form of the attacker's hour: what needs no measuring. All of it: `python -m tests.system.attackers_hour`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.system import attacks
from tests.system.attacked import AttackedProgram, attacked_program

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AttackedProgram]:
    """The program with all its doors open."""
    with attacked_program(tmp_path_factory.mktemp("attacked")) as found:
        yield found


@pytest.mark.parametrize(
    "attack", [attacks.smuggling, attacks.steering, attacks.sessions], ids=lambda attack: str(attack.__name__)
)
def test_an_attack_comes_to_nothing(target: AttackedProgram, attack: attacks.Attack) -> None:
    """S3: false ends of messages, a stranger's x-mq fields, sessions and tokens that have ended."""
    assert [str(figure) for figure in attack(target) if not figure.right] == []
    assert "Traceback" not in target.program.output
