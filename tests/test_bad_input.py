"""Bad input, and the one line that the user gets for it: what is wrong, where, and what is allowed.

A table for each door: configuration, command line, JSON on the queue; SMTP has its own beside the intake's tests,
`test_bad_smtp.py`. Each row is a sentence of the program; a changed word fails.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import reactivex as rx

import mailrace
from operators.deliveries.delivery import Delivery, Lease
from operators.deliveries.outcome import Next
from operators.stages.compose import compose
from operators.stages.decode import decode
from operators.stages.expire import expire

# -- Configuration: (what is given, the lines that the user gets); FILE stands for the file's path. ------------------

FROM_ARGUMENTS: list[tuple[list[str], list[str]]] = [
    (["--www-port=99999"], ["www-port: '99999' (command line): must be a port, 0 to 65535"]),
    (["--www-port", "-1"], ["www-port: '-1' (command line): must be a port, 0 to 65535"]),
    (["--www-port", "８０"], ["www-port: '８０' (command line): must be a port, 0 to 65535"]),
    (["--www-ip=localhost"], ["www-ip: 'localhost' (command line): must be an IP address"]),
    (
        ["--smtp-port=25,2525-"],
        ["smtp-port: '25,2525-' (command line): must be ports and ranges of ports, 0 to 65535: 25,2525,1024-1026"],
    ),
    (
        ["--smtp-port=1026-1024"],
        ["smtp-port: '1026-1024' (command line): must be ports and ranges of ports, 0 to 65535: 25,2525,1024-1026"],
    ),
    (
        ["--smtp-range=10.0.0.0/33"],
        [
            "smtp-range: '10.0.0.0/33' (command line): must be CIDR ranges, with ; between them: "
            "10.0.0.0/8;2001:db8::/32"
        ],
    ),
    (
        ["--smtp-maxsize=100XB"],
        [
            "smtp-maxsize: '100XB' (command line): must be a size in bytes, 1 or more, "
            "or with a unit: 100MB (millions), 64MiB"
        ],
    ),
    (["--smtp-connections=0"], ["smtp-connections: '0' (command line): must be a whole number, 1 or more"]),
    (
        ["--smtp-timeout=nan"],
        ["smtp-timeout: 'nan' (command line): must be seconds, more than 0, or with a unit: 500ms, 30s, 10m, 1h, 1d"],
    ),
    (["--smtp-extract=maybe"], ["smtp-extract: 'maybe' (command line): must be true or false"]),
    (
        ["--smtp-auth=ldap://cn=admin:hunter2@host"],
        [
            "smtp-auth: '******' (command line): must be hardcoded://user:password, file:///path, "
            "users://name,name*, http(s)://host/path or exec:///path, or empty"
        ],
    ),
    (["--smtp-username=relay"], ["smtp-username: 'relay' (command line): needs smtp-password as well"]),
    (["--smtp-password=hunter2"], ["smtp-password: '******' (command line): needs smtp-username as well"]),
    (
        ["--smtp-username=u", "--smtp-password=hunter2", "--smtp-auth=hardcoded://u:hunter2"],
        ["smtp-auth: '******' (command line): cannot be used together with smtp-username"],
    ),
    (
        ["--smtp-ciphers=ROT13"],
        [
            "smtp-ciphers: 'ROT13' (command line): must be an OpenSSL cipher list that selects at least one cipher, "
            "or empty"
        ],
    ),
    (["--www-certificate=/c.pem"], ["www-certificate: '/c.pem' (command line): needs www-privatekey as well"]),
    (["--www-secure-port=443"], ["www-secure-port: '443' (command line): needs www-certificate as well"]),
    (["--smtp-secure-port=465"], ["smtp-secure-port: '465' (command line): needs smtp-certificate as well"]),
    (
        ["--smtp-secure-port=25,465", "--smtp-port=25", "--smtp-certificate=/c", "--smtp-privatekey=/k"],
        ["smtp-secure-port: '25,465' (command line): must not have ports of smtp-port: 25"],
    ),
    (["--delivery-sink=localhost"], ["delivery-sink: 'localhost' (command line): must be host:port, or empty"]),
    (
        ["--delivery-timeout-factor=0"],
        ["delivery-timeout-factor: '0' (command line): must be a number, more than 0"],
    ),
    (
        ["--connection-secure=tls"],
        ["connection-secure: 'tls' (command line): must be one of off, opportunistic, required, verified"],
    ),
    (
        ["--retry-interval=600,soon"],
        ["retry-interval: '600,soon' (command line): must be whole seconds, 1 or more, with commas: 600,600,1800"],
    ),
    (["--rabbitmq-qos=100000"], ["rabbitmq-qos: '100000' (command line): must be a whole number, 1 to 65535"]),
    (["--rabbitmq-queue-type=lazy"], ["rabbitmq-queue-type: 'lazy' (command line): must be classic or quorum"]),
    (
        ["--database-address=oracle://scott:tiger@host/db"],
        [
            "database-address: '******' (command line): must be sqlite:///absolute/file, "
            "postgresql://user:password@host/name or mysql://user:password@host/name"
        ],
    ),
    (
        ["--dns-server=dns.example.org"],
        [
            "dns-server: 'dns.example.org' (command line): must be IP addresses, with :port where it is not 53, "
            "with ; between them"
        ],
    ),
    (
        ["--application-log=sylog"],
        [
            "application-log: 'sylog' (command line): must be stderr, stdout, syslog or a path with a / in it; "
            "several with commas"
        ],
    ),
    (
        ["--server-id=one two"],
        ["server-id: 'one two' (command line): must be 1 to 64 letters, digits, dots, hyphens and underscores"],
    ),
    (["--data-dir=a\0b"], ["data-dir: 'a...' (command line): must be a path"]),
    (["--wwwport=1"], ["wwwport (command line): no such key; the nearest is www-port"]),
    (["--www-password"], ["www-password (command line): needs a value: --www-password VALUE"]),
    (
        ["--www-port", "--www-ip=::1", "--dns-attempts=0"],
        [
            "www-port (command line): needs a value: --www-port VALUE",
            "dns-attempts: '0' (command line): must be a whole number, 1 or more",
        ],
    ),
    (["now"], ["'now' (command line): must be --key value"]),
    (
        ["--www-password=", "hunter2", "hunter3"],
        ["www-password (command line): a word stands behind `--www-password=`; must be --www-password=VALUE"] * 2,
    ),
    (["--config-file=/no/such"], ["config-file: '/no/such' (command line): there is no such file"]),
    (["--config-file=/"], ["/: cannot be read: Is a directory"]),
]

FROM_FILE: list[tuple[bytes, list[str]]] = [
    (b"www-port: many\n", ["www-port: 'many' (FILE:1): must be a port, 0 to 65535"]),
    (b"# first\n\nmax-attempt: 3\n", ["max-attempt (FILE:3): no such key; the nearest is max-attempts"]),
    (b"www-password hunter2\n", ["FILE:1: 'www-password': must be `key: value`; there is no colon"]),
    (b"www-password=hunter2\n", ["FILE:1: 'www-password': must be `key: value`; there is no colon"]),
    (b"www-password=hunter2:more\n", ["www-password (FILE:1): no such key; the nearest is www-password"]),
    (b"www-password:\n  hunter2\n", ["FILE:2: must be `key: value`; there is no colon"]),
    (b"www-dir: /\xff\n", ["FILE: must be UTF-8 text; byte 11 is not"]),
    (b"#" * 1_000_001, ["FILE: cannot be read: is larger than 1000000 bytes"]),
    (b"\x1b[2J: 1\n", ["\\x1b[2J (FILE:1): no such key; the nearest is www-user-header"]),
    (
        b"max-attempts: " + b"9" * 100,
        [f"max-attempts: '{'9' * 60}...' (FILE:1): must be a whole number, 0 or more"],
    ),
    (
        b"www-port: x\nsmtp-ip: y\n",
        ["www-port: 'x' (FILE:1): must be a port, 0 to 65535", "smtp-ip: 'y' (FILE:2): must be an IP address"],
    ),
]

FROM_FILE.append(
    (
        b"wwwport: 1\n" * 1000,
        [*(f"wwwport (FILE:{n}): no such key; the nearest is www-port" for n in range(1, 51)), "and 950 more mistakes"],
    )
)

FROM_ENVIRONMENT: list[tuple[dict[str, str], list[str]]] = [
    (
        {"MAILRACE_MAX_ATTEMPTS": "-3"},
        ["max-attempts: '-3' (environment MAILRACE_MAX_ATTEMPTS): must be a whole number, 0 or more"],
    ),
    (
        {"MAILRACE_SMTP_PROT": "25"},
        ["smtp-prot (environment MAILRACE_SMTP_PROT): no such key; the nearest is smtp-port"],
    ),
]

# -- Command line: (arguments, exit code, the line that the user gets); DIR stands for data-dir. ---------------------

COMMANDS = "There are serve, demo, send, queue, logs, import, cluster, config; see mailrace --help"
COMMAND_LINE: list[tuple[list[str], int, str]] = [
    ([], 2, f"no command. {COMMANDS}"),
    (["srve"], 2, f"'srve': no such command; the nearest is serve. {COMMANDS}"),
    (["--www-password=", "hunter2"], 2, f"the word behind `=`: no such command; the nearest is serve. {COMMANDS}"),
    (["www-password=hunter2"], 2, f"'www-password': no such command; the nearest is import. {COMMANDS}"),
    (["config", "www-password=hunter2"], 2, "'www-password' (command line): must be --key value"),
    (["config", "www-port"], 2, "'www-port' (command line): must be --key value"),
    (["send"], 2, "send: needs a recipient, or --extract-recipients (-t) to take them from the header"),
    (["send", "-Z"], 2, "send: option -Z not recognized"),
    (["send", "-f"], 2, "send: option -f requires argument"),
    (["send", "-bd"], 2, "send: -bd: the server is `mailrace serve`"),
    (["send", "-bp"], 2, "send: -bp: the queue is shown by `mailrace queue`"),
    (
        ["send", "-N", "always", "a@example.org"],
        2,
        "send: -N: 'always': must be never, or some of success, failure, delay with commas",
    ),
    (["send", "a b@example.org"], 1, "send: recipient 'a b@example.org' is no address"),
    (["send", "-f", "a@b@c", "a@example.org"], 1, "send: envelope 'a@b@c' is no address"),
    (["send", "-t"], 1, "send: the header names no recipient in To, Cc or Bcc"),
    (["send", "--smtp-maxsize=10", "a@example.org"], 1, "send: the message is larger than smtp-maxsize, 10 bytes"),
    (
        ["queue", "prune"],
        2,
        "queue: argument action: invalid choice: 'prune' (choose from 'delete', 'flush', 'purge', 'recover', 'show')",
    ),
    (
        ["queue", "show"],
        1,
        "DIR/queue.db: there is no queue; start `mailrace serve`, or name its folder with --data-dir",
    ),
    (["cluster"], 1, "cluster: this instance is alone: cluster-address and rabbitmq-address are empty"),
]


# -- JSON on the queue: (the body, what becomes of it, the description in its result). --------------------------------

FROM_QUEUE: list[tuple[bytes, Next, str]] = [
    (b"", Next.REFUSE, "body: not JSON: Input data was truncated"),
    (b"hello", Next.REFUSE, "body: not JSON: JSON is malformed: invalid character (byte 0)"),
    (b'{"recipient": "a@b.example"', Next.REFUSE, "body: not JSON: Input data was truncated"),
    (b'["a@b.example"]', Next.REFUSE, "body: not a JSON object but list"),
    (b'"a@b.example"', Next.REFUSE, "body: not a JSON object but str"),
    (b"null", Next.REFUSE, "body: not a JSON object but NoneType"),
    (b"[" * 4000, Next.REFUSE, "body: not JSON: maximum recursion depth exceeded while deserializing an object"),
    (b"{" + b" " * 5000 + b"}", Next.REFUSE, "body of 5002 bytes: at most 4096 are taken"),
    (b"{}", Next.FAIL, "recipient: '' is no address"),
    (b'{"recipient": 7}', Next.FAIL, "recipient: expected `str`, got `int`"),
    (b'{"recipient": "nobody"}', Next.FAIL, "recipient: 'nobody' is no address"),
    (b'{"recipient": "a@b.example\\r\\nRCPT TO:<c@d.example>"}', Next.FAIL,
     "recipient: 'a@b.example\\r\\nRCPT TO:<c@d.example>' is no address"),
    (b'{"recipient": "a@b.example", "envelope": "x\\u0000@y.example"}', Next.FAIL,
     "envelope: 'x\\x00@y.example' is no address"),
    (b'{"recipient": "a@b.example", "mime": 7}', Next.FAIL, "mime: expected `str | object`, got `int`"),
    (b'{"recipient": "a@b.example", "retries": ["soon"]}', Next.FAIL, "retries[0]: expected `int`, got `str`"),
    (b'{"recipient": "a@b.example", "ips": [7]}', Next.FAIL, "ips[0]: expected `str`, got `int`"),
    (b'{"recipient": "a@b.example"}', Next.FAIL, "mime: is missing or empty, and an empty mail is not sent"),
    (b'{"recipient": "a@b.example", "mime": " \\r\\n"}', Next.FAIL,
     "mime: is missing or empty, and an empty mail is not sent"),
    (b'{"recipient": "a@b.example", "key": "k"}', Next.FAIL,
     "key: there is no message store to have 'k' from: storage-address"),
    (b'{"recipient": "a@b.example", "smarthost": []}', Next.FAIL, "smarthost: expected `object | null`, got `array`"),
    (b'{"recipient": "a@b.example", "smarthost": {"port": 25}}', Next.FAIL,
     "smarthost: object missing required field `hostname`"),
    (b'{"recipient": "a@b.example", "maxdelivertime": "tomorrow"}', Next.FAIL,
     "'tomorrow' is no time: YYYY-MM-DD HH:MM:SS in UTC"),
    (b'{"recipient": "a@b.example", "nextattempt": {"time": "12:00"}}', Next.FAIL,
     "'12:00' is no time: YYYY-MM-DD HH:MM:SS in UTC"),
    (b'{"recipient": "a@b.example", "mime": "\xc3\xa4", "mime-encoding": "base64"}', Next.FAIL,
     "mime: is not what mime-encoding says"),
    (b'{"recipient": "a@b.example", "mime": {"titel": "x"}}', Next.FAIL,
     "mime.titel: there is no such part: from, to, cc, bcc, reply-to, replyTo, subject, text, html, content, "
     "headers, attachments, background, font, css, blocks, data, tracking, rewrite"),
    (b'{"recipient": "a@b.example", "mime": {"text": "x", "attachments": [{"content": "&"}]}}', Next.FAIL,
     "mime.attachments[0].content: is not base64"),
    (b'{"recipient": "a@b.example", "mime": "a", "headers": {"drop": ["X"]}}', Next.FAIL,
     "headers: no change 'drop': there are remove, replace, update, prepend, append"),
    (b'{"recipient": "a@b.example", "mime": "a", "headers": {"append": {"X": "1\\r\\nBcc: z@z.example"}}}', Next.FAIL,
     "headers: the value of X has a line break or NUL in it"),
    (b'{"recipient": "a@b.example", "mime": "a", "headers": {"append": {"X Y": "1"}}}', Next.FAIL,
     "headers: 'X Y' is no header name"),
]  # fmt: skip

Run = Callable[[list[str]], tuple[int, list[str]]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The program: arguments -> exit code and the lines on standard error; with a message on standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Subject: trial\n\nbody\n")))

    def program(arguments: list[str]) -> tuple[int, list[str]]:
        code = mailrace.main(arguments)
        return code, capsys.readouterr().err.splitlines()

    return program


@pytest.mark.parametrize(("arguments", "lines"), FROM_ARGUMENTS, ids=lambda value: " ".join(value)[:40])
def test_bad_configuration_on_the_command_line(run: Run, arguments: list[str], lines: list[str]) -> None:
    """One line for each mistake, exit code 2."""
    assert run(["config", *arguments]) == (2, [f"mailrace: {line}" for line in lines])


@pytest.mark.parametrize(("content", "lines"), FROM_FILE, ids=lambda value: repr(value)[:40])
def test_bad_configuration_in_a_file(run: Run, tmp_path: Path, content: bytes, lines: list[str]) -> None:
    """The line says which line of which file."""
    file = tmp_path / "config.txt"
    file.write_bytes(content)
    expected = [f"mailrace: {line.replace('FILE', str(file))}" for line in lines]
    assert run(["config", "--config-file", str(file)]) == (2, expected)


@pytest.mark.parametrize(("environ", "lines"), FROM_ENVIRONMENT, ids=str)
def test_bad_configuration_in_the_environment(
    run: Run, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], lines: list[str]
) -> None:
    """The line says which variable."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert run(["config"]) == (2, [f"mailrace: {line}" for line in lines])


@pytest.mark.parametrize(("arguments", "code", "line"), COMMAND_LINE, ids=lambda value: str(value)[:40])
def test_bad_command_line(run: Run, tmp_path: Path, arguments: list[str], code: int, line: str) -> None:
    """Wrong usage is 2, what cannot be done is 1; one line each."""
    directory = ["--data-dir", str(tmp_path)] if arguments[:1] in (["send"], ["queue"]) else []
    assert run([*arguments, *directory]) == (code, [f"mailrace: {line.replace('DIR', str(tmp_path))}"])


@pytest.mark.parametrize(("body", "then", "description"), FROM_QUEUE, ids=lambda value: repr(value)[:40])
def test_bad_json_on_the_queue(body: bytes, then: Next, description: str) -> None:
    """What is no message is refused, what cannot be sent is given up; each says why in its result."""
    out: list[Delivery] = []
    stages = [decode(4096, lambda: 0.0), expire(3600, lambda: 1_800_000_000.0), compose()]
    rx.of(Lease(1, body)).pipe(*stages).subscribe(out.append)
    assert out[0].outcome is not None
    assert (out[0].outcome.next, out[0].outcome.description) == (then, description)
