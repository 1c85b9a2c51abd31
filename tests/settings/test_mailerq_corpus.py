"""The configurations of the corpus in tests/data/mailerq: each loads, or is refused with one clear line a mistake."""

from __future__ import annotations

import pathlib

import pytest

import settings

FOLDER = pathlib.Path(__file__).parent.parent / "data" / "mailerq" / "config"
# What decides where mail goes, or who may send it, and cannot be honoured; and pages with a mistake of their own.
REFUSED = {
    "management-console-44-1.txt": "www-auth",
    "management-console-44-2.txt": "www-auth",
    "smarthost-22.txt": "must be a host's name or IP address",
    "smtp-server-140-1.txt": "smtp-auth",
    "smtp-server-140-2.txt": "smtp-auth",
    "smtp-server-39.txt": "needs smtp-certificate as well",
    "spool-directory-32.txt": "there is no colon",
}
ABSENT = ("mongodb://", "couchbase://", "s3://")
STORES = [path for path in sorted(FOLDER.glob("*.txt")) if any(one in path.read_text() for one in ABSENT)]
OTHERS = [path for path in sorted(FOLDER.glob("*.txt")) if path not in STORES and path.name not in REFUSED]


@pytest.mark.parametrize("path", OTHERS, ids=lambda path: path.stem)
def test_a_configuration_of_the_corpus_loads(path: pathlib.Path) -> None:
    """K8. What has no effect is one warning each, and none of them decides where mail goes."""
    loaded = settings.load([], {}, path)
    assert not [line for line in loaded.warnings if line.startswith(("smarthost", "smtp-sink", "smtp-default"))]


@pytest.mark.parametrize(("name", "line"), REFUSED.items())
def test_a_configuration_that_cannot_be_honoured_is_refused(name: str, line: str) -> None:
    """K8. Before mail moves, with what is allowed."""
    with pytest.raises(settings.ConfigurationErrors, match=line):
        settings.load([], {}, FOLDER / name)


@pytest.mark.parametrize("path", STORES, ids=lambda path: path.stem)
def test_a_message_store_that_cannot_be_read_is_refused(path: pathlib.Path) -> None:
    """K8. Messages that lie there would all be given up."""
    with pytest.raises(settings.ConfigurationErrors, match="there is no MongoDB, Couchbase or S3 here"):
        settings.load([], {}, path)


def test_the_parts_of_a_brokers_address_are_one() -> None:
    """K8. With what is special in a URL escaped, and `host1;host2` as several brokers."""
    parts = {"HOST": "a.example;b.example", "USER": "joe", "PASSWORD": "p@ss/w", "VHOST": "/mail"}
    loaded = settings.load([], {f"MAILRACE_RABBITMQ_{name}": text for name, text in parts.items()}, None)
    assert loaded.rabbitmq_address is not None
    one = "amqp://joe:p%40ss%2Fw@{}/%2Fmail"
    assert loaded.rabbitmq_address.get_secret_value() == f"{one.format('a.example')},{one.format('b.example')}"


def test_a_configuration_of_the_newer_generation_has_no_second_results(tmp_path: pathlib.Path) -> None:
    """K8. `rabbitmq-queue` is what is read; results and retry copies are off unless they are named."""
    loaded = settings.load([], {}, FOLDER / "newer-514.txt")
    assert (loaded.rabbitmq_outbox, loaded.rabbitmq_results, loaded.rabbitmq_retry) == ("outbox", None, None)
    assert (loaded.rabbitmq_success, loaded.rabbitmq_failure) == ("results", "results")


@pytest.mark.parametrize("key", ["rabbitmq-queue", "rabbitmq-outbox"])
def test_received_mail_goes_where_mail_is_read(tmp_path: pathlib.Path, key: str) -> None:
    """K8. Also where that queue has another name: in any other it would lie for ever."""
    file = tmp_path / "config.txt"
    file.write_text(f"{key}: mail\n")
    loaded = settings.load([], {}, file)
    assert (loaded.rabbitmq_outbox, loaded.rabbitmq_inbox) == ("mail", "mail")
    assert loaded.under(tmp_path / "else").rabbitmq_inbox == "mail"


@pytest.mark.parametrize("lines", [
    "rabbitmq-queue: one\nrabbitmq-outbox: two", "smtp-sink-ip: 192.0.2.1\nsmtp-sink-address: 192.0.2.2",
    "smtp-defaultip: 192.0.2.1\nsmtp-default-ips: 192.0.2.2",
])  # fmt: skip
def test_two_names_of_a_key_say_the_same(tmp_path: pathlib.Path, lines: str) -> None:
    """K8. Or nobody knows where mail goes; which of both would win is not guessed."""
    file = tmp_path / "config.txt"
    file.write_text(lines)
    with pytest.raises(settings.ConfigurationErrors, match=r"is another name of .*, which says something else"):
        settings.load([], {}, file)
    same = lines.splitlines()[0].partition(": ")[2]
    file.write_text("\n".join(f"{line.partition(':')[0]}: {same}" for line in lines.splitlines()))
    settings.load([], {}, file)


@pytest.mark.parametrize(
    "lines", ["smtp-connections: 9\nsmtp-connections-in: 5", "smtp-connections-in: 5\nsmtp-connections: 9"]
)
def test_the_narrower_of_two_limits_holds(tmp_path: pathlib.Path, lines: str) -> None:
    """K8. In MailerQ `smtp-connections` is of both directions, and stands beside that of one."""
    file = tmp_path / "config.txt"
    file.write_text(lines)
    assert settings.load([], {}, file).smtp_connections == 5


def test_logs_of_mailerq_are_written(tmp_path: pathlib.Path) -> None:
    """K8. A folder and a name, or a file; the log of errors is the program's."""
    file = tmp_path / "config.txt"
    file.write_text(
        "send-log-directory: /logs/\nsend-log-prefix: sent.log\nreceived-log-file: /logs/in.log\n"
        "received-log-directory: /else\nerror-log: /logs/errors.log\nsend-log-format: {$date} {$result.code}\n"
    )
    loaded = settings.load([], {}, file)
    assert (str(loaded.send_log_file), str(loaded.received_log_file)) == ("/logs/sent.log", "/logs/in.log")
    assert loaded.application_log == ["stderr", "/logs/errors.log"]
    assert loaded.send_log_format == "{$date} {$result.code}" and not loaded.warnings
    loaded = settings.load(["--application-log=syslog"], {}, file)
    assert loaded.application_log == ["syslog"]
    assert [line.split(" ")[0] for line in loaded.warnings] == ["error-log"]


def test_a_log_as_text_is_no_log_of_json(tmp_path: pathlib.Path) -> None:
    """K8. Console and commands could read neither."""
    with pytest.raises(settings.ConfigurationErrors, match=r"send-log-file: .* must be another file than send-log"):
        settings.load(["--send-log=/logs/sent", "--send-log-file=/logs/sent"], {}, None)
