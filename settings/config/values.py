"""The kinds of values that keys have: from the text in a file, the environment or an argument to a typed value.

A kind is a parser and the words that say what it allows; the same words are in the error line and in the reference.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from settings.config.egress import ALLOWED, ExternalMta, external_mta

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_BYTES = {"": 1, "b": 1, "k": 10**3, "kb": 10**3, "m": 10**6, "mb": 10**6, "g": 10**9, "gb": 10**9,
          "kib": 2**10, "mib": 2**20, "gib": 2**30}  # fmt: skip
_SECONDS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclasses.dataclass(frozen=True)
class ValueKind:
    """What a key's text must be.

    Attributes:
        parse: from text to value; raises ValueError where it cannot be.
        allowed: completes "must be ...".
    """

    parse: Callable[[str], Any]
    allowed: str

    def check(self, text: str) -> Any:
        """The value; raises ValueError with what is allowed."""
        try:
            return self.parse(text)
        except ValueError:
            raise ValueError(f"must be {self.allowed}") from None

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)


class HostPort(NamedTuple):
    """A host's name or address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class SecretAddress(SecretStr):
    """A URL, or several with commas, of which only the passwords are secret."""

    def _display(self) -> str:
        return masked(self._secret_value)


def masked(address: str) -> str:
    """The address with its passwords replaced by stars; all of it where it is of a form that could hide one."""
    if address.startswith("hardcoded://"):
        users = (item.partition(":") for item in address.removeprefix("hardcoded://").split(","))
        return "hardcoded://" + ",".join(f"{user}:******" if colon else "******" for user, colon, _ in users)
    shown = re.sub(r"(://[^:/@,]*):.*?@(?=[^@,]*(?:,|$))", r"\1:******@", address)
    return re.sub(r"(?i)((?:password|passwd|secret|token)=)[^&,]*", r"\1******", shown)


def whole(least: int, most: int = 10**15, what: str = "a whole number") -> ValueKind:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,16}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    bounds = f", {least} or more" if most == 10**15 else f", {least} to {most}"
    return ValueKind(parse, what + bounds)


def choice(*words: str) -> ValueKind:
    """One of these words."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return ValueKind(parse, " or ".join(words) if len(words) < 3 else f"one of {', '.join(words)}")


def duration(least: float) -> ValueKind:
    """Seconds, with a unit or without."""

    def parse(text: str) -> float:
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-z]{0,2})", text)
        if not found or found[2] not in _SECONDS or (value := float(found[1]) * _SECONDS[found[2]]) < least:
            raise ValueError
        return value

    return ValueKind(
        parse, f"seconds, {'more than 0' if least else '0 or more'}, or with a unit: 500ms, 30s, 10m, 1h, 1d"
    )


def url(what: str, *schemes: str, many: bool = False, secret: bool = True) -> ValueKind:
    """An address with one of these schemes."""

    def parse(text: str) -> str | SecretAddress:
        for one in text.split(",") if many else [text]:
            parts = urlsplit(one.strip())
            if (
                parts.scheme not in schemes
                or not (parts.netloc or parts.path)
                or re.search(r"[\s\x00-\x1f]", one.strip())
            ):
                raise ValueError
        return SecretAddress(text) if secret else text

    return ValueKind(parse, f"{what}{', several with commas' if many else ''}")


def pattern(expression: str, allowed: str) -> ValueKind:
    """Text of this form."""
    wanted = re.compile(expression)

    def parse(text: str) -> str:
        if not wanted.fullmatch(text):
            raise ValueError
        return text

    return ValueKind(parse, allowed)


def _items(text: str) -> list[str]:
    found = [item.strip() for item in re.split("[,;]", text)]
    if not all(found):
        raise ValueError
    return found


def _listed(parse: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [parse(item) for item in _items(text)]


def _ports(text: str) -> list[int]:
    found: list[int] = []
    for item in _items(text):
        first, dash, last = (part.strip() for part in item.partition("-"))
        low = _port(first)
        high = _port(last) if dash else low
        if high < low:
            raise ValueError
        found += range(low, high + 1)
    return list(dict.fromkeys(found))


def _port(text: str) -> int:
    return int(whole(0, 65535).parse(text))


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))


def _network(text: str) -> Network:
    return ipaddress.ip_network(text, strict=False)


def _size(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([a-z]{0,3})", text.lower())
    if not found or found[2] not in _BYTES or (value := int(float(found[1]) * _BYTES[found[2]])) < 1:
        raise ValueError
    return value


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ValueError
    return _TRUTH[text.lower()]


def _factor(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,4}(?:\.[0-9]{1,6})?", text) or not (value := float(text)):
        raise ValueError
    return value


def _host_port(text: str, default: int | None = None) -> HostPort:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?", text)
    if not found or (found[3] is None and default is None):
        raise ValueError
    host = _address(found[1]) if found[1] else found[2]
    return HostPort(host, int(whole(1, 65535).parse(found[3])) if found[3] is not None else default or 0)


def _host(text: str) -> str:
    """A name as DNS has it, or an address; with or without brackets."""
    try:
        return _address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        name = text.rstrip(".")
        if not re.fullmatch(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", name) or ".." in name:
            raise
        return name


def _brokers(text: str) -> SecretAddress:
    """Addresses of one broker each: `host1;host2` within one stands for as many."""
    found = []
    for one in text.split(","):
        scheme, separator, rest = one.strip().partition("://")
        place, slash, vhost = rest.partition("/")
        login, at, hosts = place.rpartition("@")
        found += [f"{scheme}{separator}{login}{at}{host.strip()}{slash}{vhost}" for host in hosts.split(";")]
    return SecretAddress(url("", "amqp", "amqps", many=True).parse(",".join(found)).get_secret_value())


def _name_server(text: str) -> HostPort:
    try:
        return HostPort(_address(text), 53)
    except ValueError:
        server = _host_port(text, 53)
        return HostPort(_address(server.host), server.port)


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError
    try:
        return Path(text).expanduser().absolute()
    except (RuntimeError, FileNotFoundError):
        raise ValueError from None  # ~someone who does not exist; the folder that this was started in is gone


def _ciphers(text: str) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
    except ssl.SSLError:
        raise ValueError from None
    return text


def _log(text: str) -> str:
    if text not in ("stderr", "stdout", "syslog") and "/" not in text:
        raise ValueError
    return text


def _database(text: str) -> SecretAddress:
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("sqlite", "postgresql", "postgres", "mysql", "mariadb") or len(rest) < 2:
        raise ValueError
    if scheme == "sqlite":
        if not rest.startswith("/"):
            raise ValueError
        return SecretAddress("sqlite:////" + rest.lstrip("/"))  # SQLAlchemy wants four slashes for an absolute path
    return SecretAddress(text)


def _workers(text: str) -> int:
    if text.strip().lower() == "auto":
        return max(
            1, min(64, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
        )
    number = int(text)
    if not 1 <= number <= 64:
        raise ValueError
    return number


class Place(NamedTuple):
    """Addresses, and a port of theirs; None: any."""

    network: Network
    port: int | None = None

    def __str__(self) -> str:
        if self.port is None:
            return str(self.network)
        address, _, length = str(self.network).partition("/")
        return f"{f'[{address}]' if self.network.version == 6 else address}/{length}:{self.port}"


def _place(text: str) -> Place:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\](/[0-9]+)?|([0-9./]+))(?::([0-9]{1,5}))?", text)
    if found is None:
        return Place(_network(text))
    network = _network(found[3] or found[1] + (found[2] or ""))
    return Place(network, int(whole(1, 65535).parse(found[4])) if found[4] else None)


def _store(text: str) -> SecretAddress:
    scheme, _, rest = text.partition("://")
    if scheme in ("dir", "directory"):
        if not re.fullmatch(r"/[^?\0]*(\?(depth=[0-8]|compression=\w+|&)*)?", rest):
            raise ValueError
        return SecretAddress(text)
    if scheme in ("http", "https"):
        return SecretAddress(url("", "http", "https", secret=False).parse(text))
    return _database(text)


class GroupRole(NamedTuple):
    """What members of a group may."""

    group: str
    role: str

    def __str__(self) -> str:
        return f"{self.group}={self.role}"


def _group_roles(text: str) -> list[GroupRole]:
    """With ; between them alone: names of groups may have commas and equal signs (RFC 4514)."""
    found = []
    for item in text.split(";"):
        group, equals, role = item.strip().rpartition("=")
        if not (equals and group.strip() and role.strip() in ("read", "operate", "administer")):
            raise ValueError
        found.append(GroupRole(group.strip(), role.strip()))
    return found


LOOPBACK = [_network("127.0.0.0/8"), _network("::1/128")]


def _security(text: str) -> str:
    """A word; 0 and 1 were the values of older configurations, and `optional` is another word."""
    found = {"0": "off", "1": "opportunistic", "optional": "opportunistic"}.get(text, text)
    return str(choice("off", "opportunistic", "required", "verified").parse(found))


Security = Annotated[str, ValueKind(_security, "one of off, opportunistic, required, verified")]


def _notify(text: str) -> str:
    words = [word.strip().upper() for word in text.split(",")]
    if words != ["NEVER"] and not {*words} <= {"SUCCESS", "FAILURE", "DELAY"}:
        raise ValueError
    return ",".join(dict.fromkeys(words))


Notify = Annotated[str, ValueKind(_notify, "never, or some of success, failure, delay with commas")]
Ret = Annotated[str, ValueKind(lambda text: str(choice("FULL", "HDRS").parse(text.upper())), "full or hdrs")]
Flag = Annotated[bool, ValueKind(_truth, "true or false")]
Port = Annotated[int, whole(0, 65535, "a port")]
Ports = Annotated[list[int], ValueKind(_ports, "ports and ranges of ports, 0 to 65535: 25,2525,1024-1026")]
Count = Annotated[int, whole(0)]
Amount = Annotated[int, whole(1)]
Size = Annotated[int, ValueKind(_size, "a size in bytes, 1 or more, or with a unit: 100MB (millions), 64MiB")]
Seconds = Annotated[float, duration(0)]
Timeout = Annotated[float, duration(0.001)]
Intervals = Annotated[
    list[int], ValueKind(_listed(whole(1).parse), "whole seconds, 1 or more, with commas: 600,600,1800")
]
Factor = Annotated[float, ValueKind(_factor, "a number, more than 0")]
Address = Annotated[str, ValueKind(_address, "an IP address")]
Addresses = Annotated[list[str], ValueKind(_listed(_address), "IP addresses, with ; between them")]
Networks = Annotated[
    list[Network], ValueKind(_listed(_network), "CIDR ranges, with ; between them: 10.0.0.0/8;2001:db8::/32")
]
Sink = Annotated[HostPort, ValueKind(_host_port, "host:port")]
Host = Annotated[str, ValueKind(_host, "a host's name or IP address")]
NameServers = Annotated[
    list[HostPort], ValueKind(_listed(_name_server), "IP addresses, with :port where it is not 53, with ; between them")
]


def _token(text: str) -> SecretStr:
    """What can stand after `Bearer` (RFC 6750 2.1), and is not guessed."""
    if not re.fullmatch(r"[\x21-\x7e]{16,}", text):
        raise ValueError
    return SecretStr(text)


File = Annotated[Path, ValueKind(_path, "a path")]
LineFormat = Annotated[str, pattern(r"[^\x00-\x1f\x7f]{1,4000}", "1 to 4,000 printable characters")]
Text = Annotated[str, pattern(r"[^\x00-\x1f\x7f]{1,255}", "1 to 255 printable characters")]
Secret = Annotated[SecretStr, ValueKind(SecretStr, "text")]
Token = Annotated[SecretStr, ValueKind(_token, "16 or more letters, digits and signs: a shorter one can be guessed")]
Workers = Annotated[int, ValueKind(_workers, "a whole number from 1 to 64, or auto")]
QueueName = Annotated[str, pattern(r"[^\x00-\x1f\x7f]{1,200}", "a queue's name, 1 to 200 printable characters")]
Ciphers = Annotated[str, ValueKind(_ciphers, "an OpenSSL cipher list that selects at least one cipher")]
Logs = Annotated[
    list[str], ValueKind(_listed(_log), "stderr, stdout, syslog or a path with a / in it; several with commas")
]
Database = Annotated[
    SecretAddress,
    ValueKind(
        _database, "sqlite:///absolute/file, postgresql://user:password@host/name or mysql://user:password@host/name"
    ),
]
Store = Annotated[
    SecretAddress,
    ValueKind(
        _store,
        "directory:///path, sqlite:///file, mysql://user:password@host/name, postgresql://user:password@host/name or "
        "http(s)://host/path; there is no MongoDB, Couchbase or S3 here",
    ),
]
Places = Annotated[
    list[Place],
    ValueKind(_listed(_place), "addresses and CIDR ranges, with a port or without, with commas: 10.0.0.0/8:80"),
]
PROXIES = ("http://", "https://", "socks://", "socks5://")
SecretAddressText = Annotated[
    SecretAddress, ValueKind(SecretAddress, "http(s)://[user:password@]host:port or socks://[user:password@]host:port")
]
Broker = Annotated[SecretAddress, ValueKind(_brokers, "amqp(s)://user:password@host/vhost, several with commas")]
Management = Annotated[SecretAddress, url("http(s)://[user:password@]host:port", "http", "https")]
Link = Annotated[str, url("an http:// or https:// address", "http", "https", secret=False)]
Credentials = Annotated[
    SecretAddress,
    url(
        "hardcoded://user:password, file:///path, users://name,name*, http(s)://host/path or exec:///path",
        "hardcoded",
        "file",
        "users",
        "http",
        "https",
        "exec",
    ),
]
ExternalMtas = Annotated[list[ExternalMta], ValueKind(_listed(external_mta), ALLOWED)]
GroupRoles = Annotated[
    list[GroupRole], ValueKind(_group_roles, "group=read, group=operate or group=administer, several with ;")
]
OperatorNames = Annotated[
    list[str],
    ValueKind(
        _listed(pattern(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*@[a-z]+", "").parse), "module:function@stage, several with commas"
    ),
]


def kind_of(field: FieldInfo) -> ValueKind:
    """The kind of a key."""
    inner = [note for part in getattr(field.annotation, "__args__", ()) for note in getattr(part, "__metadata__", ())]
    return next(note for note in (*field.metadata, *inner) if isinstance(note, ValueKind))


def show(value: object) -> str:
    """A value as the configuration writes it, secrets masked."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if value < 1e6 else str(int(value))
    if isinstance(value, list):
        between = ";" if value and isinstance(value[0], GroupRole) else ","
        return between.join(show(one) for one in value)
    return str(value)
