"""What may be said on the cluster's exchange, and the reading of it: JSON of a fixed form, bounded. Pure.

`{"hello": true}` asks who is there, `{"announce": {...}}` answers, `{"goodbye": {...}}` ends, `{"reload": true}` says
that rules have changed. Nothing else is understood, and nothing of it changes a rule or runs anything. All that comes
from there is a stranger's: names have an alphabet, texts a length, lists a size, and addresses are addresses.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated

import msgspec

LARGEST = 65_536  # bytes
MOST_IPS = 256
MOST_KEYS = 100
NAME = r"^[A-Za-z0-9._-]{1,64}\Z"  # as `server-id`
_URL = re.compile(r"https?://[A-Za-z0-9._~:/\[\]%-]{1,400}\Z")

_Name = Annotated[str, msgspec.Meta(pattern=NAME)]
_Text = Annotated[str, msgspec.Meta(max_length=200)]
_Ip = Annotated[str, msgspec.Meta(max_length=45)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Figures = Annotated[
    dict[Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}\Z")], _Count], msgspec.Meta(max_length=40)
]


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance says of itself.

    Attributes:
        id: its `server-id`.
        token: made up at its start, so that two with the same id are told apart.
        url: its console's address; empty where it has none.
        version: of Mailrace.
        ips: MTA IPs that its mail leaves from.
        outbox: the queue it reads on the cluster's broker; empty where it reads none there.
        workers: its processes.
        load: of its machine, the last minute's.
        state: the verdict on its Overview, in a word, and its level.
        clock: its epoch seconds; 0 where it does not say.
        figures: of the last minute, and now.
        by_ip, by_domain: the same of MTA IPs and of the busiest domains.
    """

    id: _Name
    token: _Name
    url: _Text = ""
    version: _Text = ""
    ips: Annotated[list[_Ip], msgspec.Meta(max_length=MOST_IPS)] = []
    outbox: _Text = ""
    workers: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    load: Annotated[float, msgspec.Meta(ge=0, le=1e6)] = 0.0
    state: _Text = ""
    level: Annotated[str, msgspec.Meta(pattern=r"^(good|watch|bad|)\Z")] = ""
    clock: Annotated[float, msgspec.Meta(ge=0, le=1e11)] = 0.0
    figures: _Figures = {}
    by_ip: Annotated[dict[_Ip, _Figures], msgspec.Meta(max_length=MOST_KEYS)] = {}
    by_domain: Annotated[
        dict[Annotated[str, msgspec.Meta(max_length=255)], _Figures], msgspec.Meta(max_length=MOST_KEYS)
    ] = {}


class Goodbye(msgspec.Struct, frozen=True):
    """An instance ends; `token` is that of its announcements."""

    id: _Name
    token: _Name


class ClusterWord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One message on the exchange."""

    hello: bool = False
    reload: bool = False
    announce: Announcement | None = None
    goodbye: Goodbye | None = None


class NotUnderstood(ValueError):
    """This is no message of a cluster; says why, without anything from it."""


HELLO, RELOAD = ClusterWord(hello=True), ClusterWord(reload=True)
_decode = msgspec.json.Decoder(ClusterWord).decode
encode = msgspec.json.Encoder().encode


def read(body: bytes) -> ClusterWord:
    """What was said. Raises `NotUnderstood`."""
    if len(body) > LARGEST:
        raise NotUnderstood(f"more than {LARGEST:,} bytes")
    try:
        word = _decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError):
        raise NotUnderstood("no message of a cluster") from None
    if word == ClusterWord():
        raise NotUnderstood("nothing that is known")
    if word.announce is not None:
        _check(word.announce)
    return word


def _check(said: Announcement) -> None:
    if said.url and _URL.match(said.url) is None:
        raise NotUnderstood("an address of a console that is none")
    for ip in (*said.ips, *said.by_ip):
        try:
            ipaddress.ip_address(ip)
        except ValueError:
            raise NotUnderstood("an MTA IP that is none") from None
    if not all(text.isprintable() for text in (said.version, said.state, said.outbox, *said.by_domain)):
        raise NotUnderstood("a text with control characters")
