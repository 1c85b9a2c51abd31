"""Logging in: where credentials come from, and what guessing brings."""

from __future__ import annotations

import asyncio
import base64
import ctypes
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import argon2
import pytest

from operators.deliveries.events import Fault
from pipeline.smtp.server.access.auth import AuthUnavailable, Hardcoded, Http, PasswordFile, Program, SystemUsers, parse
from tests.pipeline.intake.harness import Caller, House

MAIL = b"Subject: hello\r\n\r\nworld\r\n.\r\n"


def plain(user: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


async def secured(house: House, certificate: Path, trusted: ssl.SSLContext, **keys: object) -> Caller:
    """A client of an intake with credentials, over TLS."""
    await house.open(smtp_certificate=certificate, smtp_secure_port=0, smtp_auth="hardcoded://joe:secret,ann:x", **keys)
    return await house.call(port=1, tls=trusted)


def crypted(password: str, setting: str) -> str:
    """A hash of this machine's libcrypt."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return str(library.crypt(password.encode(), setting.encode()).decode())


@pytest.mark.parametrize("setting", ["$y$j9T$abcdefghijklmnop$", "$6$saltsalt$", "$2b$04$abcdefghijklmnopqrstuu"])
async def test_users_of_this_machine_log_in(tmp_path: Path, setting: str) -> None:
    """By shadow(5), with every hash that libcrypt knows; those that are named, and neither locked nor expired."""
    path = tmp_path / "shadow"
    known = crypted("secret", setting)
    lines = [f"{name}:{known}:19000:0:99999:7:::" for name in ("joe", "client7", "eve")]
    lines += [f"old:{known}:19000:0:99999:7::19001:", f"locked:!{known}:19000:0:99999:7:::", "daemon:*:19000::::::"]
    path.write_text("\n".join(lines) + "\n")
    source = PasswordFile(path, SystemUsers(["joe", "client*", "old", "locked", "daemon"]))
    assert await source.check("joe", "secret") and await source.check("client7", "secret")
    for user, password in (
        ("joe", "wrong"),
        ("eve", "secret"),
        ("old", "secret"),
        ("locked", "secret"),
        ("daemon", ""),
    ):
        assert not await source.check(user, password)


def test_users_are_named() -> None:
    """With commas; whether the file can be read is found out at the start."""
    with pytest.raises(ValueError, match="allowed is"):
        parse("users://")


async def test_auth_is_offered_over_tls_only(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """RFC 4954 4: never in the clear."""
    caller = await secured(house, certificate, trusted)
    assert "AUTH PLAIN LOGIN" in await caller.say("EHLO client.example")
    clear = await house.call()
    assert "AUTH" not in await clear.say("EHLO client.example")
    assert await clear.say(plain("joe", "secret")) == "538 5.7.11 AUTH needs TLS"


@pytest.mark.parametrize(
    "lines",
    [
        [plain("joe", "secret")],
        ["AUTH PLAIN", plain("joe", "secret").split()[2]],
        ["auth login", "am9l", "c2VjcmV0"],
        ["AUTH LOGIN am9l", "c2VjcmV0"],
    ],
)
async def test_plain_and_login_let_in(
    house: House, certificate: Path, trusted: ssl.SSLContext, lines: list[str]
) -> None:
    """With and without an initial response; the message tells who it was."""
    caller = await secured(house, certificate, trusted)
    replies = await caller.says(*lines)
    assert [reply[:3] for reply in replies] == ["334"] * (len(lines) - 1) + ["235"]
    assert (await caller.mail(MAIL)).startswith("250")
    (message,) = house.queued()
    assert message["connection"]["user"] == "joe"
    assert "with ESMTPSA id" in message["mime"]


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([plain("joe", "wrong")], "535 5.7.8 User or password is wrong"),
        ([plain("nobody", "secret")], "535 5.7.8 User or password is wrong"),
        ([plain("joe", "")], "535 5.7.8 User or password is wrong"),
        (["AUTH CRAM-MD5"], "504 5.5.4 AUTH takes PLAIN or LOGIN, and at most one word more"),
        (["AUTH PLAIN a b"], "504 5.5.4 AUTH takes PLAIN or LOGIN, and at most one word more"),
        (["AUTH PLAIN !"], "501 5.5.2 Can't decode base64"),
        (["AUTH PLAIN", "*"], "501 5.7.0 Auth aborted"),
        ([plain("joe\r\nx", "y")], "501 5.5.2 User and password are printable text"),
        (["AUTH PLAIN AP8A/w=="], "501 5.5.2 User and password are UTF-8"),
        (["AUTH LOGIN", "x" * 100_000], "500 5.5.6 The line is too long"),
    ],
)
async def test_who_does_not_log_in_gets_one_clear_line(
    house: House, certificate: Path, trusted: ssl.SSLContext, lines: list[str], reply: str
) -> None:
    """And may not send."""
    caller = await secured(house, certificate, trusted)
    assert (await caller.says(*lines))[-1] == reply
    assert not house.told(Fault)


async def test_a_second_login_is_refused(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """RFC 4954 4."""
    caller = await secured(house, certificate, trusted)
    replies = await caller.says(plain("joe", "secret"), plain("ann", "x"))
    assert replies[1] == "503 5.5.1 AUTH is not possible now"


# -- where credentials come from


async def openssl_hash(password: str) -> str:
    process = await asyncio.create_subprocess_exec("openssl", "passwd", "-6", password, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode().strip()


async def test_a_password_file_takes_hashes_of_openssl_and_argon2(tmp_path: Path) -> None:
    """spec: lines user:hash; a change counts at once."""
    path = tmp_path / "passwords"
    sha = await openssl_hash("secret")
    argon = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("geheim")
    path.write_text(f"# users\njoe:{sha}\n\nann:{argon}\n")
    source = PasswordFile(path)
    assert [await source.check("joe", "secret"), await source.check("ann", "geheim")] == [True, True]
    assert [await source.check("joe", "geheim"), await source.check("ann", "secret")] == [False, False]
    assert not await source.check("nobody", "secret")
    path.write_text(f"ann:{argon}\n")
    assert not await source.check("joe", "secret")
    path.unlink()
    with pytest.raises(AuthUnavailable, match="No such file"):
        await source.check("ann", "geheim")


def test_a_bad_line_of_a_password_file_is_named_without_its_content(tmp_path: Path) -> None:
    """File, line and what is allowed."""
    path = tmp_path / "passwords"
    path.write_text("joe:plaintext\n")
    with pytest.raises(ValueError, match="passwords line 1: allowed is user:hash") as raised:
        PasswordFile(path)
    assert "plaintext" not in str(raised.value)


async def test_a_program_gets_the_password_on_its_standard_input(tmp_path: Path) -> None:
    """Never as an argument, where every user of the machine could read it."""
    script = tmp_path / "check"
    script.write_text('#!/bin/sh\nread user\nread password\n[ "$#$user$password" = "0joesecret" ]\n')
    script.chmod(0o755)
    source = Program(script)
    assert await source.check("joe", "secret")
    assert not await source.check("joe", "wrong")
    with pytest.raises(AuthUnavailable, match="No such file"):
        await Program(tmp_path / "missing").check("joe", "secret")


@pytest.fixture
async def web() -> AsyncIterator[str]:
    """An HTTP server that lets joe in with `secret`, and fails for some users."""
    right = base64.b64encode(b"joe:secret").decode()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        names = {"broken": "500 Broken", "missing": "404 No such page", "moved": "302 Elsewhere"}
        odd = [status for name, status in names.items() if base64.b64encode(f"{name}:x".encode()).decode() in request]
        status = "200 OK" if right in request else odd[0] if odd else "401 No"
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/auth"
    server.close()


async def test_a_web_server_is_asked_with_basic_authentication(web: str) -> None:
    """S3: 2xx lets in, 401 and 403 do not, anything else is no answer: a wrong address is no wrong password."""
    source = Http(web)
    assert await source.check("joe", "secret")
    assert not await source.check("joe", "wrong")
    with pytest.raises(AuthUnavailable, match="answered 500"):
        await source.check("broken", "x")
    with pytest.raises(AuthUnavailable, match="ConnectError"):
        await Http("http://127.0.0.1:1/").check("joe", "secret")
    with pytest.raises(AuthUnavailable, match="answered 404"):
        await source.check("missing", "x")
    with pytest.raises(AuthUnavailable, match="answered 302"):
        await source.check("moved", "x")


async def test_where_passwords_cannot_be_checked_the_client_comes_back(
    house: House, certificate: Path, trusted: ssl.SSLContext
) -> None:
    """454 and a fault for the operator; it does not count as a failed login."""
    await house.open(smtp_certificate=certificate, smtp_secure_port=0, smtp_auth="exec:///nowhere/check")
    caller = await house.call(port=1, tls=trusted)
    replies = await caller.says(*[plain("joe", "secret")] * 12)
    assert set(replies) == {"454 4.7.0 Passwords cannot be checked now, try again later"}
    assert house.told(Fault)[0].detail == "smtp-auth: /nowhere/check: No such file or directory"


@pytest.mark.parametrize(
    ("script", "what"), [("exit 111", "111"), ("exit 75", "75"), ("kill -9 $$", "-9"), ("nowhere", "127")]
)
async def test_a_program_that_fails_has_not_answered(tmp_path: Path, script: str, what: str) -> None:
    """S3: its fault is ours, 454, and no wrong password."""
    path = tmp_path / "check"
    path.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    path.chmod(0o755)
    with pytest.raises(AuthUnavailable, match=f"ended with {what}"):
        await Program(path).check("joe", "secret")


async def test_a_program_does_not_get_our_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S4: the environment may hold passwords; nor is it started where we stand."""
    monkeypatch.setenv("MAILRACE_SMTP_PASSWORD", "secret")
    path = tmp_path / "check"
    path.write_text(f"#!/bin/sh\nenv >{tmp_path}/seen\npwd >>{tmp_path}/seen\n")
    path.chmod(0o755)
    assert await Program(path).check("joe", "x")
    seen = (tmp_path / "seen").read_text()
    assert "secret" not in seen
    assert "MAILRACE" not in seen
    assert seen.endswith("\n/\n")


async def test_a_damaged_hash_is_a_fault_of_ours(tmp_path: Path) -> None:
    """S3: 454, not 535."""
    path = tmp_path / "passwords"
    path.write_text("joe:$argon2id$broken\n")
    with pytest.raises(AuthUnavailable, match="passwords: "):
        await PasswordFile(path).check("joe", "secret")
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="is not UTF-8"):
        PasswordFile(path)


async def test_the_same_fault_is_told_once_a_minute(house: House, certificate: Path, trusted: ssl.SSLContext) -> None:
    """S3: clients can bring it about as often as they like."""
    intake = await house.open(smtp_certificate=certificate, smtp_secure_port=0, smtp_auth="exec:///nowhere/check")
    caller = await house.call(port=1, tls=trusted)
    await caller.says(*[plain("joe", "secret")] * 12)
    assert len(house.told(Fault)) == 1
    intake.shared.clock = lambda: 1_700_000_060.0
    await caller.say(plain("joe", "secret"))
    assert house.told(Fault)[1].detail.endswith(", 11 times more in the last while")


def test_the_forms_of_smtp_auth() -> None:
    """spec: intake."""
    assert parse("") is None
    assert isinstance(parse("", "joe", "secret"), Hardcoded)
    assert isinstance(parse("https://host/path"), Http)
    for bad in ("hardcoded://joe", "hardcoded://joe:", "ftp://x", "file://relative", "joe:secret"):
        with pytest.raises(ValueError, match=r"^smtp-auth: ") as raised:
            parse(bad)
        assert "secret" not in str(raised.value)


async def test_who_may_be_guessing_holds_up_nobody_else(tmp_path: Path) -> None:
    """S3: hashes of an address with wrong tries have a lane of their own; here one in it never ends."""
    (tmp_path / "users").write_text(f"joe:{argon2.PasswordHasher(1, 8, 1).hash('secret')}\n")
    source = PasswordFile(tmp_path / "users")
    await source._suspects._turn.acquire()
    guess = asyncio.ensure_future(source.check("joe", "wrong", suspect=True))
    assert await source.check("joe", "secret")
    assert not guess.done()
    assert await source.check("joe", "secret", suspect=True)  # was right before: not even hashed
    source._suspects._turn.release()
    assert not await guess
