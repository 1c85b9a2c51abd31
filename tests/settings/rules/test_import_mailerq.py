"""`mailrace import mailerq`: the rules of MailerQ's database, on a real MariaDB."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailrace import main
from settings.rules.suppression import SuppressionFilter
from settings.store import RuleStore, engine
from tests.support.servers import Server

TABLES = """
CREATE TABLE capacity (id INT PRIMARY KEY, localip VARCHAR(45), domain VARCHAR(255), domain_maxmessages INT DEFAULT -1,
 domain_maxconnections INT DEFAULT -1, connection_maxidletime INT DEFAULT -1, secure INT);
CREATE TABLE flood_responses (id INT PRIMARY KEY, pattern VARCHAR(255), type VARCHAR(16), domain_maxmessages INT);
CREATE TABLE paused (id INT PRIMARY KEY, localip VARCHAR(45), target VARCHAR(255));
CREATE TABLE errors (id INT PRIMARY KEY, localip VARCHAR(45), target VARCHAR(255), tag VARCHAR(99), code INT,
 expire VARCHAR(20), receiver VARCHAR(255));
CREATE TABLE suppressions (type VARCHAR(16), value VARCHAR(320), code INT, extended VARCHAR(16),
 description VARCHAR(255));
CREATE TABLE delegates (id INT PRIMARY KEY, localip VARCHAR(45), domain VARCHAR(255), delegate VARCHAR(45));
CREATE TABLE dkim_keys (id INT PRIMARY KEY, domain VARCHAR(255), selector VARCHAR(255), privatekey MEDIUMTEXT);
CREATE TABLE dkim_patterns (id INT PRIMARY KEY, key_id INT, type VARCHAR(16), sign VARCHAR(255));
CREATE TABLE locals (id INT PRIMARY KEY, type VARCHAR(16), pattern VARCHAR(255));
CREATE TABLE mtanames (ip VARCHAR(45), name VARCHAR(255));
CREATE TABLE dns (hostname VARCHAR(255), ip VARCHAR(45));
CREATE TABLE pools (name VARCHAR(64), description VARCHAR(255));
CREATE TABLE poolips (ip VARCHAR(45), name VARCHAR(64));
CREATE TABLE response_patterns (id INT PRIMARY KEY, name VARCHAR(99), localip VARCHAR(45), domain VARCHAR(255),
 tag VARCHAR(99), pattern VARCHAR(255), type VARCHAR(16), priority INT, `continue` INT);
CREATE TABLE response_actions (id INT PRIMARY KEY, name VARCHAR(99), type VARCHAR(32), property VARCHAR(99),
 value VARCHAR(255));
CREATE TABLE response_patterns_actions (pattern_id INT, action_id INT);
CREATE TABLE rewrite_triggers (id INT PRIMARY KEY, name VARCHAR(99), domain VARCHAR(255), conditions VARCHAR(999),
 starttime VARCHAR(20));
CREATE TABLE rewrite_actions (id INT PRIMARY KEY, trigger_id INT, ips VARCHAR(255), smarthost VARCHAR(255));
CREATE TABLE externalmtas (public_ip VARCHAR(45), local_ip VARCHAR(45), connect_ip VARCHAR(45), connect_port INT,
 protocol VARCHAR(8));
CREATE TABLE ips (ip VARCHAR(45));
INSERT INTO capacity VALUES (1, '', 'example.org', 1000, 2, 5000, 1), (2, '192.0.2.1', '', 60, -1, -1, 0);
INSERT INTO flood_responses VALUES (1, 'flood detected', 'substr', 10), (2, '^421', 'regex', NULL);
INSERT INTO paused VALUES (1, '192.0.2.1', 'example.net'), (2, '', '198.51.100.7');
INSERT INTO errors VALUES (1, '', 'example.net', 'news', 421, '2999-01-01 00:00:00', NULL),
 (2, '', '', '', 550, NULL, 'example.org');
INSERT INTO suppressions VALUES ('address', 'trap@example.net', 551, '5.1.1', 'Spamtrap'),
 ('domain', 'example.com', 550, '', NULL), ('domain', 'no domain', 550, '', NULL);
INSERT INTO delegates VALUES (1, '192.0.2.1', 'example.com', '192.0.2.2');
INSERT INTO dkim_patterns VALUES (1, 7, 'fnmatch', '*.example.com');
INSERT INTO locals VALUES (1, 'exact', 'info@example.com'), (2, 'regex', '(');
INSERT INTO mtanames VALUES ('192.0.2.1', 'mx1.example.com');
INSERT INTO dns VALUES ('own.example', '198.51.100.1'), ('own.example', '198.51.100.2');
INSERT INTO pools VALUES ('gold', 'The best');
INSERT INTO poolips VALUES ('192.0.2.1', 'gold'), ('192.0.2.2', 'gold');
INSERT INTO response_patterns VALUES
 (1, 'Full', '', 'example.net', 'news', 'mailbox full', 'substr', 3, 1), (2, 'Odd', '', '', '', 'odd', 'exact', 4, 0),
 (3, 'Any', '', '', '', '', '', 5, 0);
INSERT INTO response_actions VALUES (1, 'later', 'retry', '', '900'), (2, 'mark', 'add tag', '', 'full'),
 (3, 'note', 'set result', 'team', 'blue'), (4, 'what', 'dance', '', '');
INSERT INTO response_patterns_actions VALUES (1, 1), (1, 2), (1, 3), (2, 4), (3, 1);
INSERT INTO rewrite_triggers VALUES
 (1, 'Sale', 'example.org', '[{"type": "subject", "operator": "contains", "value": "sale"}]', NULL),
 (2, 'Night', '', NULL, '22:00:00'), (3, 'Empty', '', NULL, NULL);
INSERT INTO rewrite_actions VALUES (1, 1, '192.0.2.1,192.0.2.2', NULL), (2, 1, NULL, 'mx.example.com'),
 (3, 2, '192.0.2.1', NULL);
INSERT INTO externalmtas VALUES ('203.0.113.7', '', '192.0.2.9', 1080, 'socks');
INSERT INTO ips VALUES ('192.0.2.1')
"""


@pytest.fixture
def filled(mariadb: Server) -> str:
    """MailerQ's database, with a rule of each kind."""
    address = mariadb.fresh()
    source = sa.create_engine(engine.location(address, Path()))
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with source.begin() as connection:
        for statement in TABLES.split(";"):
            connection.exec_driver_sql(statement.replace("%", "%%"))
        connection.execute(sa.text("INSERT INTO dkim_keys VALUES (7, 'example.com', 's1', :pem)"), {"pem": pem})
    source.dispose()
    return address


async def suppressions(folder: Path) -> list[tuple[str, str, int, str | None]]:
    store = RuleStore("", folder)
    await store.start()
    found = await store.suppressions.page(SuppressionFilter())
    await store.close()
    return [(one.type, one.value, one.code, one.extended) for one in found]


async def rules(folder: Path) -> dict[str, list[dict[str, object]]]:
    store = RuleStore("", folder)
    await store.start()
    found = store.export()
    await store.close()
    return found


def test_a_dry_run_changes_nothing(filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what would come of it, and what cannot be carried over, a line each."""
    assert main(["import", "mailerq", "--database", filled, "--dry-run", "--data-dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "16 rules would be created, 0 changed" in said
    assert "not carried over: locals[1]: pattern: does not compile" in said
    for line in (
        "response_patterns Odd: action 'dance' is not known here", "response_patterns Any: has no pattern",
        "errors 2: column 'receiver' is not known here",
        "rewrite_triggers Night: column 'starttime' is not known here", "rewrite_triggers Empty: has no action",
    ):  # fmt: skip
        assert f"not carried over: {line}" in said
    assert "2 suppressions would be created, 0 replaced" in said and "not carried over: suppressions[3]" in said
    assert "ips:" not in said
    assert not (tmp_path / "rules.db").exists()


async def test_its_rules_become_ours(filled: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """-1 is not set, 0 unlimited; a target is a domain or an address; a second import changes nothing."""
    import asyncio

    command = ["import", "mailerq", "--database", filled, "--data-dir", str(tmp_path)]
    assert await asyncio.to_thread(main, command) == 0
    assert "16 rules created" in capsys.readouterr().out
    found = await rules(tmp_path)
    limits = {one["domain"]: one for one in found["throttles"]}
    assert (limits["example.org"]["domain_messages"], limits["example.org"]["connection_idle"]) == (1000, 5.0)
    assert limits["example.org"]["connection_security"] == "opportunistic"
    assert (limits[None]["ip"], limits[None]["domain_connections"]) == ("192.0.2.1", None)
    assert [(one["type"], one["domain_messages"]) for one in found["floods"]] == [("substring", 10), ("regex", None)]
    assert {(one["ip"], one["domain"], one["remote_ip"]) for one in found["pauses"]} == {
        ("192.0.2.1", "example.net", None), (None, None, "198.51.100.7"),
    }  # fmt: skip
    assert found["redirects"][0]["to_ip"] == "192.0.2.2"
    assert found["dkim-keys"][0]["patterns"] == [{"type": "wildcard", "pattern": "*.example.com"}]
    assert found["dns"][0]["addresses"] == ["198.51.100.1", "198.51.100.2"]
    assert await suppressions(tmp_path) == [
        ("address", "trap@example.net", 551, "5.1.1"), ("domain", "example.com", 550, None),
    ]  # fmt: skip
    (stopped,) = found["errors"]
    assert (stopped["domain"], stopped["tag"], stopped["code"]) == ("example.net", "news", 421)
    assert str(stopped["until"]).startswith("2999-01-01")
    (full,), (sale,) = found["responses"], found["rewrites"]
    assert (full["domain"], full["tag"], full["pattern"], full["order"]) == ("example.net", "news", "mailbox full", 3)
    assert full["go_on"] and full["retry"] == 900 and full["add_tags"] == ["full"]
    assert full["set_result"] == ['/team="blue"']
    assert sale["set_ips"] == ["192.0.2.1", "192.0.2.2"] and sale["smarthost"] == "mx.example.com"
    assert sale["when"] == 'subject contains "sale"' and sale["domain"] == "example.org"
    assert found["external-mtas"][0]["connect_port"] == 1080
    assert [one["ip"] for one in found["pools"][0]["members"]] == ["192.0.2.1", "192.0.2.2"]
    assert await asyncio.to_thread(main, command) == 0
    assert "0 rules created, 0 changed" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["mysql://joe:hidden@127.0.0.1:9/x", "nonsense", "sqlite:////no/such/file"])
def test_a_database_that_does_not_answer_is_one_line(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its password."""
    assert main(["import", "mailerq", "--database", address, "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("mailrace: import: ") and said.count("\n") == 1 and "hidden" not in said
