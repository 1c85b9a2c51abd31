"""Where values come from, and which one wins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import settings
from settings.config.loading import SERVICE_DIR, default_data_dir


def test_later_places_win(tmp_path: Path) -> None:
    """Defaults, the system's file, --config-file, environment, command line: the last that has the key counts."""
    system, own = tmp_path / "system.txt", tmp_path / "own.txt"
    keys = ["max-connections", "max-attempts", "www-port", "smtp-connections"]
    system.write_text("".join(f"{key}: 1\n" for key in keys))
    own.write_text("".join(f"{key}: 2\n" for key in keys[1:]))
    environ = {"MAILRACE_WWW_PORT": "3", "MAILRACE_SMTP_CONNECTIONS": "3"}
    loaded = settings.load(["--config-file", str(own), "--smtp-connections", "4"], environ, system)
    assert [getattr(loaded, key.replace("-", "_")) for key in keys] == [1, 2, 3, 4]
    assert [loaded.origin(key) for key in [*keys, "www-ip"]] == [
        f"{system}:1",
        f"{own}:1",
        "environment MAILRACE_WWW_PORT",
        "command line",
        "default",
    ]


def test_the_environment_can_name_the_config_file(tmp_path: Path) -> None:
    """MAILRACE_CONFIG_FILE, as for every other option."""
    (tmp_path / "c.txt").write_text("www-port: 7")
    assert settings.load([], {"MAILRACE_CONFIG_FILE": str(tmp_path / "c.txt")}, None).www_port == 7


def test_another_folder_takes_along_what_lies_in_it(tmp_path: Path) -> None:
    """What was placed elsewhere stays there."""
    moved = settings.load([f"--received-log={tmp_path}/elsewhere.jsonl"]).under(tmp_path)
    assert (moved.data_dir, moved.send_log) == (tmp_path, tmp_path / "logs" / "send.jsonl")
    assert moved.received_log == tmp_path / "elsewhere.jsonl"
    assert moved.database_address.get_secret_value() == f"sqlite:///{tmp_path}/rules.db"


@pytest.mark.parametrize("token", ["0123456789abcde", "16 characters and spaces", "sixteen-ch\u00e4racters"])
def test_a_token_that_can_be_guessed_is_refused(token: str) -> None:
    """Nothing slows down who tries; the line does not show it."""
    with pytest.raises(settings.ConfigurationErrors) as refused:
        settings.load(["--api-token", token])
    assert refused.value.lines == (
        "api-token: '******' (command line): must be 16 or more letters, digits and signs: "
        "a shorter one can be guessed, or empty",
    )


def test_a_value_is_given_as_one_argument_or_two() -> None:
    """`--key value` and `--key=value`; the last one counts."""
    assert settings.load(["--www-port=1", "--www-ip", "::1", "--www-port", "2"]).www_port == 2


def test_comments_blank_lines_and_windows_line_ends_are_no_keys(tmp_path: Path) -> None:
    """`#` starts a comment line; within a value it is part of it."""
    file = tmp_path / "c.txt"
    file.write_bytes(b"\xef\xbb\xbf# comment\r\n\r\n  www-port :  80  \r\nwww-password: a#b\r\n")
    loaded = settings.load(["--config-file", str(file)])
    assert loaded.www_port == 80
    assert loaded.www_password is not None and loaded.www_password.get_secret_value() == "a#b"


def test_an_empty_text_turns_off_what_can_be_off_and_is_no_text_elsewhere() -> None:
    """`rabbitmq-results:` turns results off; `www-port:` is as good as no line."""
    loaded = settings.load([], {"MAILRACE_RABBITMQ_RESULTS": "", "MAILRACE_WWW_PORT": ""}, None)
    assert (loaded.rabbitmq_results, loaded.www_port) == (None, 8485)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_ours() -> None:
    """MAILRACE_PORT and its kin are no keys."""
    environ = {
        "MAILRACE_PORT": "tcp://10.0.0.1:25",
        "MAILRACE_PORT_25_TCP_ADDR": "10.0.0.1",
        "MAILRACE_SERVICE_HOST": "x",
    }
    assert settings.load([], environ, None).warnings == []


MAILERQ = """
# as in MailerQ's documentation
www-port:               8485
www-ip:                 0.0.0.0
www-password:           admin
www-secure-port:
www-certificate:
www-dir:                /usr/share/mailerq/www
www-host:               mta001.example.com
rabbitmq-address:       amqp://guest:guest@host1/vhost,amqp://guest:guest@host2/vhost
rabbitmq-outbox:        outbox
rabbitmq-inbox:         inbox
rabbitmq-durable:       true
rabbitmq-consumers:     1
rabbitmq-encoding:      gzip
database-address:       mysql://user:password@hostname/databasename
smtp-ip:                1.2.3.4
smtp-port:              25,2525,1024-1026
smtp-default-ips:       1.2.3.4;4.5.6.7
smtp-mappable-ips:      1.2.3.0/24;4.5.6.0/24
smtp-unmappable-ips:    1.2.3.28/32;1.2.3.5/32
smtp-certificate:       /etc/mailerq/your.domain.com.crt
smtp-key:               /etc/mailerq/your.domain.com.key
smtp-ciphers:           !aNULL:!eNULL:!LOW:!SSLv2:!EXPORT:!EXPORT56:FIPS:MEDIUM:HIGH:@STRENGTH
smtp-range:             192.168.0.0/16
smtp-auth:              file:///users.txt
smtp-maxsize:           100MB
smtp-threads:           1
spool-directory:        /var/spool/mailerq
spool-delay:            0
dns-min-ttl:            120
dns-timeout:            60.0
cluster-address:        amqp://login:passwd@host/vhost
application-log:        syslog,/var/log/mailerq/mailerq.log
send-log-format:        [{$date}] {$result.state}:{$result.result}
max-delivertime:        86400
max-attempts:           0
retry-interval:         600,600,1800,1800,3600,3600,7200
server-id:              1
license:                /path/to/license.txt
user:                   username
lock:                   /path/to/lock.txt
"""


def test_a_config_file_written_for_mailerq_loads_as_it_is(tmp_path: Path) -> None:
    """Keys of what Mailrace does not have give a warning each, and no mistake."""
    file = tmp_path / "config.txt"
    file.write_text(MAILERQ)
    loaded = settings.load([], {}, file)
    assert loaded.smtp_privatekey == Path("/etc/mailerq/your.domain.com.key")
    assert loaded.spool_directory == Path("/var/spool/mailerq")
    without_effect = ["www-host", "rabbitmq-consumers", "smtp-threads", "send-log-format", "license"]
    assert sorted(line.split(" ")[0] for line in loaded.warnings) == sorted(without_effect)


def test_a_key_without_effect_gives_one_warning_however_often_it_is_given(tmp_path: Path) -> None:
    """The warning names the key and where it was."""
    (tmp_path / "c.txt").write_text("smtp-threads: 1\nsmtp-threads: 2\n")
    loaded = settings.load([], {"MAILRACE_SMTP_THREADS": "3"}, tmp_path / "c.txt")
    assert loaded.warnings == [
        "smtp-threads (environment MAILRACE_SMTP_THREADS): is a key of MailerQ for what Mailrace does not have; "
        "it has no effect"
    ]


def test_the_data_dir_is_here_where_that_is_writable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`./var`, made absolute, so that changing the folder later changes nothing."""
    monkeypatch.chdir(tmp_path)
    assert settings.load().data_dir == tmp_path / "var"


def test_the_data_dir_of_a_service_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd sets INVOCATION_ID; so do some desktops, for users who cannot write there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("settings.config.loading.SERVICE_DIR", tmp_path / "lib" / "mailrace")
    assert default_data_dir({"INVOCATION_ID": "1"}) == tmp_path / "lib" / "mailrace"
    assert default_data_dir({}) == Path("var")


@pytest.mark.parametrize("mode", [0o777, 0o757, 0o702])
def test_a_folder_that_others_can_write_is_not_the_data_dir(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S4: root stands in somebody's folder; what is there is used only where it is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir()
    assert default_data_dir({}) == Path("var")
    (tmp_path / "var").chmod(mode)
    assert default_data_dir({}) == SERVICE_DIR


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder somebody else's")
def test_a_folder_of_somebody_else_is_not_the_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: its owner could read what is queued there, and put mail of his own into it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "var").mkdir(mode=0o700)
    os.chown(tmp_path / "var", 65534, 65534)
    assert default_data_dir({}) == SERVICE_DIR


@pytest.mark.parametrize("environ", [{}, {"INVOCATION_ID": "1"}])
def test_the_data_dir_is_the_systems_where_nothing_can_be_written(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of root's, for one, started from."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert default_data_dir(environ) == SERVICE_DIR or environ


def test_options_are_told_from_other_arguments() -> None:
    """So that `send` and `logs` can have both; after `--` nothing is an option."""
    arguments = ["-t", "--data-dir", "/x", "--www-port=1", "a@b", "--", "--data-dir", "y"]
    assert settings.split(arguments) == (["--data-dir", "/x", "--www-port=1"], ["-t", "a@b", "--", "--data-dir", "y"])


@pytest.mark.parametrize("kind", ["results", "success", "failure", "retry", "refused", "reports"])
@pytest.mark.parametrize("name", ["outbox", "in", "outbox.parked.x", "outbox.delay.250", "outbox.parked"])
def test_results_do_not_go_where_mail_is_read_from(kind: str, name: str) -> None:
    """S3: each would be sent on as mail, and have a result again; one line says so at start."""
    with pytest.raises(settings.ConfigurationErrors) as raised:
        settings.load([f"--rabbitmq-{kind}={name}", "--rabbitmq-inbox=in"], system_file=None)
    [line] = raised.value.lines
    assert line == f"rabbitmq-{kind}: '{name}' (command line): must be another queue than those that mail is read from"


def test_a_key_of_one_line_is_never_told_with_the_secret_of_the_next(tmp_path: Path) -> None:
    """K12: whatever ends the lines: CR alone in a file, a line end in a variable; and both keys are read."""
    file = tmp_path / "config.txt"
    file.write_bytes(b"www-port: x\rapi-token: hunter2-hunter2-hunter2\rsmtp-port: y\r\nsmtp-password: hunter2\n")
    environ = {"MAILRACE_SMTP_MAXSIZE": "10\nAPI_TOKEN=hunter2", "MAILRACE_RABBITMQ_QOS": "1\u2028api-token: hunter2"}
    with pytest.raises(settings.ConfigurationErrors) as caught:
        settings.load([f"--config-file={file}"], environ, None)
    lines = caught.value.lines
    assert {"www-port", "smtp-port", "smtp-maxsize"} <= {line.partition(":")[0] for line in lines}
    assert "hunter2" not in "\n".join(lines)
